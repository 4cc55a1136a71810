// Everything at once: runs of every kind, while operators are killed and overlap and the API server goes and comes.
// OMJOB_CHAOS_JOBS: how many OMJobs; an operator is killed for every fifth. OMJOB_CHAOS_STOPS: how often the API server
// is stopped at most, 3 in the full tier. OMJOB_CHAOS_SEED: that of a failure.
// An API server that others use, too, should not be stopped: there run this class alone.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

/// <summary>A sandbox of its own, which can be stopped without spoiling other tests.</summary>
public sealed class OwnCluster : TestCluster;

public class ChaosTests(OwnCluster cluster) : ClusterTest(cluster), IClassFixture<OwnCluster>
{
    const string Endless = "sleep 600";
    static readonly int Jobs = Tier.Of("OMJOB_CHAOS_JOBS", small: 11, full: 20);
    static readonly int Stops = Tier.Of("OMJOB_CHAOS_STOPS", small: 1, full: 3);
    static readonly int Seed = Tier.Of("OMJOB_CHAOS_SEED", Random.Shared.Next(), Random.Shared.Next());
    readonly SemaphoreSlim calm = new(1); // taken for each request of the test, and while there is no API server

    /// <summary>A kind of run: what main does, what is done to it, how it must end.</summary>
    sealed record Fate(string Name, string Main, string Phase, Func<JobBuilder, Task>? Meanwhile = null)
    {
        public string Exit { get; init; } = "sleep 0.3";
        public int Attempts { get; init; } = 1;
        public bool Deleted { get; init; }
    }

    Fate[] Fates =>
    [
        new("succeeds", "sleep 0.5", "Succeeded"),
        new("fails", "exit 3", "Failed"),
        new("unhandled", "sleep 0.5", "Succeeded") { Attempts = 0 },
        new("deleted", Endless, "Failed", job => Delete(job, null)) { Deleted = true },
        new("foreground", Endless, "Failed", job => Delete(job, "Foreground")) { Deleted = true },
        new("podless", Endless, "Failed", job => DeletePod($"{job.Name}-main", "Running")),
        new("forgotten", "sleep 0.5", "Succeeded", job => DeletePod($"{job.Name}-main", "Succeeded")),
        new("evicted", Endless, "Failed", job => Tell($"{job.Name}-main", "fail", "Evicted low on resource: memory")),
        new("killed", Endless, "Failed", job => Tell($"{job.Name}-main", "exit", "137 OOMKilled")),
        new("retried", "sleep 0.5", "Succeeded") { Exit = "case $HOSTNAME in *-exit) exit 1; esac", Attempts = 2 },
        new("repeated", "sleep 0.5", "Succeeded", Repeat) { Exit = Endless, Attempts = 2 },
    ];

    [Fact]
    public async Task G11_G12_G13_Every_run_ends_as_it_must_whatever_is_killed_doubled_or_away()
    {
        TestContext.Current.TestOutputHelper!.WriteLine($"OMJOB_CHAOS_SEED={Seed}");
        var (random, fates, kills) = (new Random(Seed), Fates, Math.Max(5, Jobs / 5));
        var runs = Enumerable.Range(0, Jobs).Select(i => (Fate: fates[i % fates.Length], Job: NewJob(i))).ToList();
        var lives = runs.Select(r => Live(r.Job, r.Fate, random.Next(kills * 1000))).ToList();
        await Kill(kills, random);
        await Task.WhenAll(lives);
        foreach (var (fate, job) in runs)
        {
            var run = await Ns.Ends(job, fate.Phase, attempts: fate.Attempts);
            if (run.Exits.Count > 0) Assert.Equal("Succeeded", run.Last(run.Exits[^1]).Text("status", "phase"));
            await Ns.Api.Patch(Paths.OMJob(Ns.Name, job.Name), Json.Yaml("metadata: {finalizers: null}").Single());
            if (fate.Deleted) await Ns.Gone(job);
        }
        var left = (await Ns.Api.List(Paths.OMJobs(Ns.Name))).Concat(await Ns.Api.List(Paths.Pods(Ns.Name)));
        Assert.Empty(left.SelectMany(o => o.Finalizers()));

        JobBuilder NewJob(int i)
        {
            var fate = fates[i % fates.Length];
            var job = new JobBuilder($"{fate.Name}-{i}", fate.Main, fate.Exit);
            // One that goes just after an outage of the API server would be gone before its end was seen.
            job.Job["metadata"]!["finalizers"] = new JsonArray("omjob.test/seen");
            return fate.Attempts == 0 ? job.Without("exitHandlerSpec") : job;
        }
    }

    /// <summary>One operator after another, each killed; the next is there before, or nobody is for a while.</summary>
    async Task Kill(int kills, Random random)
    {
        var current = await NewOperator();
        for (var kill = 1; kill <= kills; kill++)
        {
            await Task.Delay(random.Next(700));
            var overlap = random.Next(2) == 0;
            if (!overlap) await current.Kill();
            var starting = NewOperator();
            if (kill % Math.Max(5, kills / Stops) == 0 && TestCluster.CanStop) await Calmly(() => Outage(random.Next(2000)));
            var next = await starting;
            await Task.Delay(random.Next(300));
            if (overlap) await current.Kill();
            current = next;
        }
    }

    /// <summary>One that does not take a pod for lost while the kubelet waits for the API server, too.</summary>
    Task<OperatorProcess> NewOperator() => Ns.Operator("--lost-pod-slack", "60s");

    async Task Outage(int milliseconds)
    {
        await TestCluster.StopApiServer();
        await Task.Delay(milliseconds);
        await TestCluster.StartApiServer();
    }

    async Task Live(JobBuilder job, Fate fate, int after)
    {
        await Task.Delay(after);
        await Calmly(() => Ns.Create(job));
        if (fate.Meanwhile is { } meanwhile) await meanwhile(job);
    }

    async Task Calmly(Func<Task> what)
    {
        await calm.WaitAsync();
        try
        {
            await what();
        }
        finally
        {
            calm.Release();
        }
    }

    /// <summary>There may be no API server for most of the time.</summary>
    Task<JsonObject> Reaches(string pod, string phase) =>
        Ns.Pod(pod, $"has phase {phase}", p => p.Text("status", "phase") == phase, seconds: 300);

    async Task Delete(JobBuilder job, string? propagation)
    {
        await Reaches($"{job.Name}-main", "Running");
        await Calmly(() => Ns.Delete(job, propagation));
    }

    async Task DeletePod(string pod, string phase)
    {
        await Reaches(pod, phase);
        if (phase == "Succeeded") await Eventually.NextSecond();
        await Calmly(() => Ns.Api.Delete(Paths.Pod(Ns.Name, pod)));
    }

    async Task Tell(string pod, string annotation, string value)
    {
        await Reaches(pod, "Running");
        await Calmly(() => Ns.Tell(pod, annotation, value));
    }

    /// <summary>The exit handler's pod is deleted: another runs, of the same name if its end was not seen.</summary>
    async Task Repeat(JobBuilder job)
    {
        await DeletePod($"{job.Name}-exit", "Running");
        var exits = () => new Run(Ns.History, job.Uid).Exits;
        await Eventually.True($"another exit pod of {job.Name}", () => exits().Count == 2);
        await Calmly(() => Ns.Tell(exits()[1].Name(), "exit", "0"));
    }
}
