// Two tiers: every class of test with small numbers, for everybody; and the whole, which OMJOB_TEST_FULL=1 asks for.

using Xunit;

namespace OMJobs.Tests;

static class Tier
{
    public static bool IsFull { get; } = Environment.GetEnvironmentVariable("OMJOB_TEST_FULL") == "1";

    /// <summary>How many: as the variable says, else as the tier has it.</summary>
    public static int Of(string variable, int small, int full) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), out var given) ? given : IsFull ? full : small;

    /// <summary>For what takes a minute and more by the clock, whatever the machine.</summary>
    public static void Full(string why) => Assert.SkipUnless(IsFull, $"{why}: OMJOB_TEST_FULL is not set to 1");
}
