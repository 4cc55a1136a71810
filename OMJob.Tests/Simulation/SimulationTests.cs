// Thousands of histories, each from its seed. OMJOB_SIM_SEEDS=N runs N of them, from OMJOB_SIM_FIRST=F on;
// OMJOB_SIM_SEED=S runs and prints one;
// OMJOB_SIM_TROUBLE=A,B has each of these kinds of trouble, and no other, in every second history.

using System.Collections.Concurrent;
using Xunit;

namespace OMJobs.Tests.Simulation;

public sealed class SimulationTests(ITestOutputHelper output)
{
    static int Number(string variable, int fallback) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), out var n) ? n : fallback;

    static World Play(int seed, bool tracing = false)
    {
        var world = new World(seed, Plan.Draw(seed), tracing);
        world.Run();
        return world;
    }

    public static int Seeds => Tier.Of("OMJOB_SIM_SEEDS", small: 250, full: 20_000);
    static int First => Number("OMJOB_SIM_FIRST", 0);

    [Fact]
    public void D1_D5_D6_D7_F2_F3_H2_W8_every_history_keeps_the_promise() => PlayAll(Play, Seeds, output);

    /// <summary>Plays all of these seeds; fails with the story of the first that breaks a rule.</summary>
    internal static void PlayAll(Func<int, bool, World> play, int seeds, ITestOutputHelper output)
    {
        if (Number("OMJOB_SIM_SEED", -1) is >= 0 and var one)
        {
            var world = play(one, true);
            output.WriteLine(world.History);
            Assert.Null(world.Violation);
            return;
        }
        var broken = new ConcurrentBag<(int Seed, string What)>();
        var options = new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount };
        Parallel.For(First, First + seeds, options, seed =>
        {
            if (broken.Count < 20 && play(seed, false).Violation is { } what) broken.Add((seed, what));
        });
        if (broken.IsEmpty) return;
        var (first, _) = broken.Min();
        var story = play(first, true);
        Assert.Fail($"Broken: {string.Join("; ", broken.Order().Select(b => $"{b.Seed}: {b.What}"))}"
            + $"\nSeed {first} again: {story.Violation}\n{story.History}");
    }
}
