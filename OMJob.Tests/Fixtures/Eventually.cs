// Waiting for what is to come: asked again until it is there; when time is up the failure says what was missing.

using System.Diagnostics;
using Xunit;

namespace OMJobs.Tests;

static class Eventually
{
    public static async Task True(string what, Func<Task<bool>> condition, int seconds = 180)
    {
        var clock = Stopwatch.StartNew();
        while (!await condition())
        {
            Assert.True(clock.Elapsed < TimeSpan.FromSeconds(seconds), $"Not within {seconds} s: {what}");
            await Task.Delay(25, TestContext.Current.CancellationToken);
        }
    }

    public static Task True(string what, Func<bool> condition, int seconds = 180) =>
        True(what, () => Task.FromResult(condition()), seconds);

    /// <summary>G21: what is asked for after it is not within the second of what was seen to end before.</summary>
    public static Task NextSecond()
    {
        var seen = DateTimeOffset.UtcNow;
        return True("a second passes", () => DateTimeOffset.UtcNow - seen > TimeSpan.FromSeconds(1.1));
    }

    /// <summary>The first answer that is not null.</summary>
    public static async Task<T> Get<T>(string what, Func<T?> find, int seconds = 180) where T : class
    {
        T? found = null;
        await True(what, () => (found = find()) is not null, seconds);
        return found!;
    }
}
