// G11: the operator is killed at every request of a run, before and after its effect, and at every pair of them. Each
// run has to keep the promise, and to end as the one in which nobody was killed.

using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

public sealed class CrashTests(ITestOutputHelper output)
{
    static readonly Life Fine = new();

    /// <summary>Runs in which each step of the protocol comes to pass, by what they are called.</summary>
    static readonly Dictionary<string, Plan> Runs = new()
    {
        ["G1 main exits 0"] = Run(),
        ["G2 main exits 3"] = Run(main: new Life { Code = 3 }),
        ["G4 main pod deleted"] = Run(deeds: Does(Deed.DeletePod)),
        ["G5 main pod evicted"] = Run(main: new Life { LifeEnd = LifeEnd.Evicted, StopCode = 0 }),
        ["G6 node lost"] = Run(main: new Life { Run = 500 }, deeds: Does(Deed.LoseNode) with { Length = 600 }),
        ["G7 never pulled"] = Run(main: new Life { LifeEnd = LifeEnd.NeverPulled }),
        ["G8 past its deadline"] = Run(main: new Life { Run = 500 }, change: s => s["activeDeadlineSeconds"] = 5),
        ["G9 deleted while running"] = Run(deeds: Does(Deed.DeleteJob) with { Propagation = "Background" }),
        ["G15 main can never be"] = Run(change: s => Plan.Spoil(s["mainPodSpec"])),
        ["G15 handler can never be"] = Run(change: s => Plan.Spoil(s["exitHandlerSpec"])),
        ["G16 handler fails once"] = Run(exit: new Life { Code = 1 }),
        ["G17 handler evicted"] = Run(exit: new Life { LifeEnd = LifeEnd.Evicted }),
        ["G18 no handler"] = Run(change: s => s.Remove("exitHandlerSpec")),
        ["G19 deleted in the foreground"] = Run(deeds: Does(Deed.DeleteJob) with { Propagation = "Foreground" }),
        ["G20 deleted with orphans"] = Run(deeds: Does(Deed.DeleteJob) with { Propagation = "Orphan" }),
        ["P sidecar goes on"] = Run(main: new Life { LifeEnd = LifeEnd.Sidecar, Sidecar = 100 }),
        ["P phase before the container"] = Run(main: new Life { LifeEnd = LifeEnd.PhaseFirst }),
        ["D3 labels removed"] = Run(deeds: Does(Deed.StripLabels)),
    };

    public static TheoryData<string> Names => [.. Runs.Keys];

    /// <summary>Once the main pod has been running for two seconds.</summary>
    static PlannedAction Does(Deed deed) => new(deed, int.MaxValue, 3);

    static Plan Run(
        Life? main = null, Life? exit = null, PlannedAction? deeds = null, Action<JsonObject>? change = null) => new()
        {
            Jobs = [Plan.Job("run", change)],
            Actions = deeds is null ? [] : [deeds],
            Ordered = true,
            LifeOf = name => name switch
            {
                "run-main" => main ?? (deeds is null ? Fine : new Life { Run = 10 }),
                "run-exit" => exit ?? Fine,
                _ => Fine,
            },
        };

    static World Play(string name, params (int Request, bool Before)[] kills) => Play(1, Runs[name], kills);

    static World Play(int seed, Plan plan, params (int Request, bool Before)[] kills)
    {
        var world = new World(seed, plan);
        foreach (var kill in kills) world.Kills.Enqueue(kill);
        world.Run();
        return world;
    }

    /// <summary>How it ended, without the times.</summary>
    static string End(World world)
    {
        var job = world.Oracle.Jobs.Single();
        var status = job.Last["status"]!.DeepClone().AsObject();
        status.Remove("startTime");
        status.Remove("completionTime");
        foreach (var condition in status["conditions"]!.AsArray()) condition!.AsObject().Remove("lastTransitionTime");
        return status.ToJsonString();
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void G11_a_run_ends_as_ever_wherever_the_operator_is_killed(string name)
    {
        var unharmed = Play(name);
        Assert.Null(unharmed.Violation);
        var wanted = End(unharmed);
        var (points, pairs) = (0, 0);
        var broken = new ConcurrentBag<string>();

        // Returns whether all of the kills came to pass.
        bool Try(params (int, bool)[] kills)
        {
            var world = Play(name, kills);
            if (world.Violation is { } what) broken.Add($"{string.Join(", ", kills)}: {what}");
            else if (End(world) != wanted) broken.Add($"{string.Join(", ", kills)}: {End(world)}");
            return world.AllKilled;
        }

        for (var k = 1; k <= unharmed.RequestsUntilEnd; k++)
        {
            foreach (var before in (bool[])[true, false])
            {
                Try((k, before));
                points++;
            }
            var step = Tier.IsFull ? 1 : 23;
            for (var l = k + 1; l <= k + unharmed.RequestsUntilEnd && Try((k, false), (l, false)); l += step) pairs++;
        }
        output.WriteLine($"{name}: {points} single kills, {pairs} pairs");
        Assert.True(broken.IsEmpty, $"not {wanted}:\n{string.Join('\n', broken.Order().Take(10))}");
    }

    [Theory]
    [InlineData("G1 main exits 0", false)]
    [InlineData("G1 main exits 0", true)]
    [InlineData("G2 main exits 3", false)]
    [InlineData("G9 deleted while running", false)]
    [InlineData("G9 deleted while running", true)]
    public void G12_where_one_of_two_replicas_dies_at_any_moment_a_run_waits_for_two_seconds_at_most(
        string name, bool edited)
    {
        var plan = Runs[name] with { Operators = 2, Replaced = false, Edited = edited };
        var alone = Seconds(Play(name));
        var (broken, points, longest) = (new List<string>(), 0, 0.0);
        for (var seed = 1; seed <= (Tier.IsFull ? 20 : 3); seed++)
        {
            var both = Play(seed, plan);
            Assert.Null(both.Violation);
            for (var k = 1; k <= both.RequestsUntilEnd; k++)
                foreach (var before in (bool[])[true, false])
                {
                    var world = Play(seed, plan, (k, before));
                    var took = Seconds(world);
                    (points, longest) = (points + 1, Math.Max(longest, took));
                    // Times are whole seconds.
                    if (world.Violation is not null || took > alone + 2 + 1)
                        broken.Add($"seed {seed}, {k}, {before}: {world.Violation ?? $"{took} s instead of {alone}"}");
                }
        }
        output.WriteLine($"{name}: {points} deaths, {alone} s alone, {longest} s at most");
        Assert.True(broken.Count == 0, string.Join('\n', broken.Take(10)));

        static double Seconds(World world)
        {
            var job = world.Oracle.Jobs.Single().Last;
            return (DateTimeOffset.Parse(job.Text("status", "completionTime") ?? "9999-01-01", null)
                - DateTimeOffset.Parse(job.Text("metadata", "creationTimestamp")!, null)).TotalSeconds;
        }
    }
}
