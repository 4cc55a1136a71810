// Run defaults, from a file that is good, bad, or changed while runs go on: each run's handler runs.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public sealed class DefaultsTests(TestCluster cluster) : ClusterTest(cluster), IDisposable
{
    readonly DirectoryInfo directory = Directory.CreateTempSubdirectory("omjob-defaults-");

    string Path => $"{directory.FullName}/defaults.yaml";

    public void Dispose() => directory.Delete(true);

    Task<OperatorProcess> Operator(string defaults, params IEnumerable<string> flags)
    {
        File.WriteAllText(Path, defaults);
        return Ns.Operator(["--run-defaults", Path, .. flags]);
    }

    /// <summary>The end of a run whose pods are not as the OMJob alone has them.</summary>
    async Task<Run> Ended(JobBuilder job, int seconds = 120)
    {
        await Ns.Job(job, "ends", j => j.Text("status", "phase") is "Succeeded" or "Failed", seconds);
        return new(Ns.History, job.Uid);
    }

    [Fact]
    public async Task G23_a_volume_of_a_Secret_that_is_not_there_keeps_the_main_pod_from_starting_and_its_handler_runs()
    {
        await Operator("""
            mainPodSpec: &pod {volumes: [{name: none, secret: {secretName: none}}]}
            exitHandlerSpec: *pod
            """, "--start-deadline", "5s", "--exit-handler-deadline", "5s", "--exit-handler-retries", "1");
        var job = new JobBuilder("secretless");
        await Ns.Create(job);
        var run = await Ended(job);
        Assert.Contains("Main pod was stopped: it did not start", run.Message);
        Assert.EndsWith("exit handler succeeded", run.Message);
        Assert.Equal(2, run.Exits.Count);
        Assert.Equal([true, false], run.Exits.Select(e => e.Items("spec", "volumes").Any(v => v.Text("name") == "none")));
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs("secretless-exit-2"));
        await Ns.Warning(job, "Exit handler pod secretless-exit-2 was created without the run defaults: it is the last attempt");
    }

    [Fact]
    public async Task G23_defaults_that_make_every_pod_invalid_cost_no_handler()
    {
        await Operator("""
            mainPodSpec: &pod {labels: {'not a key': x}}
            exitHandlerSpec: *pod
            """);
        var job = new JobBuilder("invalid");
        await Ns.Create(job);
        var run = await Ended(job, seconds: 240);
        Assert.StartsWith("Main pod cannot be created: Pod \"invalid-main\" is invalid", run.Message);
        Assert.EndsWith("exit handler succeeded", run.Message);
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs("invalid-exit"));
        await Ns.Warning(job, "Exit handler pod invalid-exit was created without the run defaults: with them it is refused: ");
    }

    [Fact]
    public async Task Each_pod_of_many_runs_has_one_whole_version_of_a_file_that_changes_all_the_time()
    {
        static string Version(int n) => $$"""
            activeDeadlineSeconds: {{1000 + n}}
            mainPodSpec: &pod
              labels: {version: v{{n}}}
              env: [{name: VERSION, value: v{{n}}}, {name: LONG, value: '{{new string('x', 20_000)}}'}]
              tolerations: [{key: v{{n}}, operator: Exists}]
            exitHandlerSpec: *pod
            """;
        var process = await Operator(Version(0));
        var jobs = new List<JobBuilder>();
        for (var n = 1; n <= 10; n++)
        {
            for (var i = 0; i < 10; i++) jobs.Add(new($"early-{n}-{i}"));
            for (var i = 0; i < 10; i++) jobs.Add(new($"late-{n}-{i}"));
            await Task.WhenAll(jobs[^20..^10].Select(Ns.Create));
            // As an editor writes it, and as a kubelet does.
            if (n % 2 == 0) File.WriteAllText(Path, Version(n));
            else
            {
                File.WriteAllText(Path + ".new", Version(n));
                File.Move(Path + ".new", Path, true);
            }
            await Task.WhenAll(jobs[^10..].Select(Ns.Create));
            await Eventually.True("the operator has the new version", () =>
                process.Log.Split("Run defaults: version").Length == n + 2);
        }
        var seen = new HashSet<string>();
        foreach (var job in jobs)
        {
            var run = await Ended(job);
            Assert.Equal("Succeeded", run.Job.Text("status", "phase"));
            var (main, exit) = (Assert.Single(run.Mains), Assert.Single(run.Exits));
            var version = main.Text("metadata", "labels", "version")!;
            seen.Add(version);
            Assert.Equal(1000 + int.Parse(version[1..], null), main.Long("spec", "activeDeadlineSeconds"));
            foreach (var pod in (JsonObject[])[main, exit])
            {
                Assert.Equal(version, pod.Text("metadata", "labels", "version"));
                Assert.Equal(version, pod.Items("spec", "containers").Single().Items("env")
                    .Single(e => e.Text("name") == "VERSION").Text("value"));
                Assert.Contains(pod.Items("spec", "tolerations"), t => t.Text("key") == version);
            }
        }
        Assert.InRange(seen.Count, 8, 11);
        Assert.Contains("omjob_run_defaults_last_reload_successful 1", await process.Metrics());
    }

    [Fact]
    public async Task A_bad_file_is_refused_at_the_start_in_one_line()
    {
        File.WriteAllText(Path, "mainPodSpec:\n  volums: []\n");
        await using var process = new OperatorProcess(TestCluster.Kubeconfig(), "--run-defaults", Path);
        await Eventually.True("the operator ends", () => process.ExitCode is not null);
        Assert.Equal(2, process.ExitCode);
        Assert.Equal($"omjob-operator: run defaults {Path}: mainPodSpec.volums: there is no such field",
            process.Log.Trim().Split('\n')[^1]);
    }
}
