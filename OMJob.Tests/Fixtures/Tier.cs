// Two tiers: every class of test with small numbers, for everybody; and the whole, which OMJOB_TEST_FULL=1 asks for.

using Xunit;
using Xunit.Sdk;
using Xunit.v3;

[assembly: TestCollectionOrderer(typeof(OMJobs.Tests.WaitersFirst))]

namespace OMJobs.Tests;

/// <summary>End to end first, by name: they wait for clocks, and what computes fills the cores meanwhile.</summary>
public sealed class WaitersFirst : ITestCollectionOrderer
{
    public IReadOnlyCollection<T> OrderTestCollections<T>(IReadOnlyCollection<T> testCollections)
        where T : ITestCollection =>
        [.. testCollections.OrderByDescending(c => c.TestCollectionDisplayName.Contains(".EndToEnd."))
            .ThenBy(c => c.TestCollectionDisplayName, StringComparer.Ordinal)];
}

static class Tier
{
    public static bool IsFull { get; } = Environment.GetEnvironmentVariable("OMJOB_TEST_FULL") == "1";

    /// <summary>How many: as the variable says, else as the tier has it.</summary>
    public static int Of(string variable, int small, int full) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), out var given) ? given : IsFull ? full : small;

    /// <summary>For what takes a minute and more by the clock, whatever the machine.</summary>
    public static void Full(string why) => Assert.SkipUnless(IsFull, $"{why}: OMJOB_TEST_FULL is not set to 1");
}
