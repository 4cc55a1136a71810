// The operator as a process: which namespaces it watches, its ports, its end, and two of it at once.

using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class ProcessTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task It_watches_every_namespace_that_it_is_given_and_no_other()
    {
        await using var second = await TestCluster.NewNamespace();
        await using var other = await TestCluster.NewNamespace();
        await Ns.Operator("--namespace", second.Name);
        TestNamespace[] all = [Ns, second, other];
        var jobs = all.Select(ns => (Namespace: ns, Job: new JobBuilder("job"))).ToList();
        foreach (var (ns, job) in jobs) await ns.Create(job);
        foreach (var (ns, job) in jobs[..2]) await ns.Ends(job, "Succeeded");
        Assert.Empty((await Ns.Api.Get(Paths.OMJob(other.Name, "job"))).Finalizers());
    }

    [Fact]
    public async Task It_answers_on_its_ports_and_ends_on_SIGTERM()
    {
        var process = await Ns.Operator();
        var job = new JobBuilder("job", "sleep 600");
        await Ns.Create(job);
        await Ns.Phase(job, "Running");
        Assert.Equal(HttpStatusCode.OK, await process.Health("health"));
        Assert.Equal(HttpStatusCode.OK, await process.Health("ready"));
        Assert.Equal(HttpStatusCode.OK, await process.Health("metrics"));
        await process.Stop();
    }

    /// <summary>The first ones take all file descriptors that it may have.</summary>
    [Fact]
    public async Task W5_after_more_connections_than_it_can_take_it_still_answers()
    {
        string[] few = ["-c", "ulimit -n 256; exec \"$0\" \"$@\"", OperatorProcess.Binary, "--namespace", Ns.Name];
        var process = Ns.Started(new OperatorProcess("sh", TestCluster.Kubeconfig(), [], few));
        await process.Ready();
        var connections = Enumerable.Range(0, 300).Select(_ => new TcpClient()).ToList();
        await Task.WhenAll(connections.Select(Connect));
        // They are nobody's as long as it has not taken them.
        await Task.Delay(TimeSpan.FromSeconds(1), TestContext.Current.CancellationToken);
        connections.ForEach(c => c.Dispose());
        foreach (var path in (string[])["health", "ready"])
            await Eventually.True($"/{path} answers", async () =>
                await process.Health(path) == HttpStatusCode.OK, seconds: 60);
        var job = new JobBuilder("job");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");

        async Task Connect(TcpClient client)
        {
            try { await client.ConnectAsync(IPAddress.Loopback, process.HealthPort); }
            catch (SocketException) { } // it was let go of already
        }
    }

    [Fact]
    public async Task Its_metrics_tell_what_became_of_each_OMJob_and_promtool_finds_no_fault_in_them()
    {
        var process = await Ns.Operator("--exit-handler-retries", "0");
        JobBuilder good = new("good"), bad = new("bad", "exit 3"), unhandled = new("unhandled", exit: "exit 7"),
            running = new("running", "sleep 600");
        foreach (var job in (JobBuilder[])[good, bad, unhandled, running]) await Ns.Create(job);
        await Ns.Ends(good, "Succeeded");
        await Ns.Ends(bad, "Failed");
        await Ns.Ends(unhandled, "Failed");
        await Ns.Phase(running, "Running");
        await Eventually.True("the last reconcile is counted", async () =>
            (await process.Metrics()).Contains("omjob_jobs{phase=\"Running\"} 1\n"));
        var lines = (await process.Metrics()).Split('\n');
        Assert.Superset(new HashSet<string>
        {
            "omjob_finished_total{outcome=\"succeeded\",reason=\"Succeeded\"} 1",
            "omjob_finished_total{outcome=\"failed\",reason=\"ExitCode\"} 1",
            "omjob_finished_total{outcome=\"failed\",reason=\"ExitHandlerExitCode\"} 1",
            "omjob_exit_handlers_total{outcome=\"succeeded\"} 2",
            "omjob_exit_handlers_total{outcome=\"failed\"} 1",
            "omjob_exit_handler_latency_seconds_count 3",
            "omjob_run_duration_seconds_count{outcome=\"succeeded\"} 1",
            "omjob_run_duration_seconds_bucket{outcome=\"failed\",le=\"604800\"} 2",
            "omjob_jobs{phase=\"Succeeded\"} 1",
            "omjob_jobs{phase=\"Failed\"} 2",
            "omjob_blocked{what=\"exit\"} 0",
            "omjob_overdue 0",
        }, lines.ToHashSet());
        foreach (var resource in (string[])["pods", "omjobs", "cronomjobs"])
        {
            var series = $"omjob_watch_last_event_timestamp_seconds{{resource=\"{resource}\",";
            var heard = lines.Single(l => l.StartsWith(series));
            var age = DateTimeOffset.UtcNow.ToUnixTimeSeconds() - double.Parse(heard.Split(' ')[1]);
            Assert.InRange(age, -5, 120);
        }
        foreach (var name in (string[])["controller_runtime_reconcile_total{controller=\"omjob\",result=\"success\"}",
            "controller_runtime_reconcile_time_seconds_bucket{controller=\"omjob\",le=\"+Inf\"}",
            "workqueue_adds_total{name=\"omjob\"}", "workqueue_queue_duration_seconds_count{name=\"omjob\"}",
            "workqueue_work_duration_seconds_count{name=\"omjob\"}", "workqueue_depth{name=\"omjob\"}",
            "rest_client_requests_total{code=\"201\",method=\"POST\"}", "process_cpu_seconds_total",
            "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds", "process_max_fds"])
            Assert.Contains(lines, l => l.StartsWith(name + " "));
        Assert.Contains(lines, l => Regex.IsMatch(l,
            @"^omjob_build_info\{version=""[\d.]+"",dotnet=""[\d.]+"",arch=""\w+""\} 1$"));
        var started = double.Parse(lines.Single(l => l.StartsWith("process_start_time_seconds ")).Split(' ')[1]);
        Assert.InRange((DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).TotalSeconds - started, -1, 300);
        await Promtool.Run(string.Join('\n', lines), "check", "metrics");
    }

    [Fact]
    public async Task A_blocked_exit_handler_is_a_metric_until_it_is_created()
    {
        var process = await Ns.Operator();
        var job = new JobBuilder("blocked", "sleep 2");
        await Ns.Create(job);
        await Ns.Phase(job, "Running");
        var quotas = Paths.Core(Ns.Name, "resourcequotas");
        await Ns.Api.Create(quotas, Json.Object("""{"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}"""));
        await Eventually.True("it is counted", async () =>
            (await process.Metrics()).Contains("omjob_blocked{what=\"exit\"} 1\n"));
        await Ns.Api.Delete($"{quotas}/none");
        await Ns.Ends(job, "Succeeded");
        Assert.Contains("omjob_blocked{what=\"exit\"} 0\n", await process.Metrics());
    }

    [Fact]
    public async Task In_JSON_each_line_about_an_OMJob_has_its_name_namespace_UID_and_phase_and_no_env_value()
    {
        var process = await Ns.Operator("--log-format", "json");
        var job = new JobBuilder("logged").With("mainPodSpec.env", """[{"name": "config", "value": "s3cret"}]""");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
        await Eventually.True("the end is logged", () => process.Log.Contains("\"To\":\"Succeeded\""));
        var lines = process.Log.Split('\n').Where(l => l.Contains($"{Ns.Name}/logged: ")).ToList();
        var phases = lines.Select(line =>
        {
            var fields = Json.Object(line).Items("Scopes").Single();
            Assert.Equal(("logged", Ns.Name), (fields.Text("omjob"), fields.Text("namespace")));
            Assert.Equal(job.Uid, fields.Text("uid"));
            return fields.Text("phase");
        });
        Assert.Equal(["Pending", "Running", "ExitHandlerRunning"], phases.Distinct());
        Assert.DoesNotContain("s3cret", process.Log);
    }

    [Fact]
    public async Task G12_once_one_has_created_a_blocked_pod_none_says_that_it_is_blocked()
    {
        OperatorProcess[] both = [await Ns.Operator(), await Ns.Operator()];
        const string blocked = "omjob_blocked{what=\"main\"} ";
        async Task All(string count) => await Eventually.True($"both say {count}", async () =>
            (await Task.WhenAll(both.Select(o => o.Metrics()))).All(m => m.Contains($"{blocked}{count}\n")));
        await Ns.ForbidPods();
        await Ns.Create(new JobBuilder("blocked", "sleep 600"));
        await All("1");
        await Ns.AllowPods();
        await Ns.PodPhase("blocked-main", "Running");
        await All("0");
    }

    [Fact]
    public async Task F6_uninstalled_it_lets_go_of_every_object()
    {
        var process = await Ns.Operator();
        var job = new JobBuilder("left", "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("left-main", "Running");
        await Ns.Phase(job, "Running");
        await process.Stop();
        await Ns.Release();
        Assert.Empty((await Ns.Api.Get(Paths.OMJob(Ns.Name, "left"))).Finalizers());
        Assert.Empty((await Ns.Api.Get(Paths.Pod(Ns.Name, "left-main"))).Finalizers());
        await Ns.Warning(job, "Released in phase Running: no exit handler runs");
    }

    [Fact]
    public async Task F6_release_that_is_stopped_before_its_time_has_failed()
    {
        var process = Ns.Started(new OperatorProcess(
            TestCluster.Kubeconfig(), "release", "--namespace", Ns.Name, "--quiet-for", "1h"));
        await Eventually.True("it has begun", () => process.Log.Contains("namespaces", StringComparison.Ordinal));
        Posix.Signal(process.Id, Posix.SigTerm);
        await Eventually.True("it ends", () => process.ExitCode is not null, 30);
        Assert.Equal(1, process.ExitCode);
        Assert.EndsWith("omjob-operator: stopped before it was done\n", process.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task G12_two_at_once_still_make_one_main_pod_and_one_exit_pod()
    {
        await Task.WhenAll(Ns.Operator(), Ns.Operator());
        var good = Enumerable.Range(1, 4).Select(i => new JobBuilder($"good-{i}")).ToList();
        var bad = Enumerable.Range(1, 4).Select(i => new JobBuilder($"bad-{i}", "exit 1")).ToList();
        await Task.WhenAll(good.Concat(bad).Select(Ns.Create));
        foreach (var job in good) await Ns.Ends(job, "Succeeded");
        foreach (var job in bad) await Ns.Ends(job, "Failed");
    }
}
