// Schedules, end to end. Most tests have a sandbox of their own, because they set the API server's clock: the operator
// goes by that. One runs on the cluster that all share, and waits for the minute.

using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class CronTests
{
    [Fact]
    public async Task A_tick_makes_an_OMJob_that_runs_to_its_end()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        await cluster.Operator();
        await cluster.Api.Create(CronCluster.Crons, Json.Yaml(TestCluster.Read("examples/cronomjob.yaml")).Single());
        await cluster.SetTime(CronCluster.Utc("2026-01-31T12:00:00"));
        var job = await cluster.Job("om-cronomjob-hello-1769860800", "Succeeded");
        var runId = job.Text("metadata", "labels", "app.kubernetes.io/run-id")!;
        Assert.True(Guid.TryParse(runId, out _));
        Assert.Equal("hello", job.Text("metadata", "labels", "app.kubernetes.io/pipeline"));
        Assert.Equal($"metadata of sample.hello, run {runId}\nconfig: \n", cluster.Logs($"{job.Name()}-main"));
        Assert.Equal($"{job.Name()} ended, pipelineStatus=success\n", cluster.Logs($"{job.Name()}-exit"));
        Assert.Equal(("2026-01-31T12:00:00Z", job.Name(), "Created OMJob"), await cluster.Status("om-cronomjob-hello"));
        await cluster.Event("om-cronomjob-hello", "OMJobCreated", $"Created OMJob: {job.Name()}");
        Assert.Equal(job.Uid(), Assert.Single(await cluster.Jobs()).Uid());
    }

    [Fact]
    public async Task Across_both_changes_of_the_clock_no_time_comes_twice_and_none_is_skipped()
    {
        await using var cluster = await CronCluster.Start("2026-03-08T04:45:00");
        await cluster.Operator();
        const string more = "timeZone: America/New_York, startingDeadlineSeconds: 600, successfulJobsHistoryLimit: 100";
        await cluster.Create("gap", "30 2 * * *", more);
        await cluster.Create("twice", "30 1 * * *", more);
        await cluster.Create("on", "*/30 * * * *", more);
        // Every half hour from midnight to 4 o'clock, by the clock on the wall.
        foreach (var (day, first, steps) in new[] { ("2026-03-08", 10, 7), ("2026-11-01", 8, 11) })
            for (var step = first; step < first + steps; step++)
                await cluster.Tick(CronCluster.Utc(day).AddMinutes(30 * step), "on");
        Assert.Equal(["2026-03-08T07:00:00Z", "2026-11-01T07:30:00Z"], await cluster.Ticks("gap"));
        Assert.Equal(["2026-03-08T06:30:00Z", "2026-11-01T05:30:00Z"], await cluster.Ticks("twice"));
        Assert.Equal(18, (await cluster.Ticks("on")).Count);
    }

    [Fact]
    public async Task Without_time_zone_data_the_object_says_so_and_other_schedules_go_on()
    {
        var empty = Directory.CreateTempSubdirectory("omjob-no-zones-");
        try
        {
            await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
            await cluster.Operator(environment: new() { ["TZDIR"] = empty.FullName });
            await cluster.Create("zoned", "* * * * *", "timeZone: America/New_York");
            await cluster.Create("plain", "* * * * *");
            await cluster.SetTime(CronCluster.Utc("2026-01-31T12:00:00"));
            await cluster.Job("plain-1769860800", "Succeeded");
            await cluster.Says("zoned", "Time zone 'America/New_York' cannot be used: it is not an IANA name, or the "
                + "operator finds no time zone data");
            Assert.Equal(["plain-1769860800"], (await cluster.Jobs()).Select(j => j.Name()));
        }
        finally
        {
            empty.Delete();
        }
    }

    [Fact]
    public async Task A_suspended_schedule_is_not_written_to_and_runs_again_when_it_is_resumed()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        await cluster.Operator();
        await cluster.Create("paused", "* * * * *", "suspend: true, startingDeadlineSeconds: 60");
        await cluster.Create("on", "* * * * *");
        await cluster.Says("paused", "Suspended");
        var before = await cluster.Cron("paused");
        await cluster.Tick(CronCluster.Utc("2026-01-31T12:00:00"), "on");
        await cluster.Tick(CronCluster.Utc("2026-01-31T12:01:00"), "on");
        // What the server does: GET, flip, PUT with the resource version.
        before["spec"]!["suspend"] = false;
        await cluster.Api.Replace($"{CronCluster.Crons}/paused", before);
        await cluster.Job("paused-1769860860", "Succeeded");
        Assert.Equal(["2026-01-31T12:01:00Z"], await cluster.Ticks("paused"));
    }

    [Fact]
    public async Task A_tick_is_skipped_while_the_run_before_it_goes_on()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        await cluster.Operator();
        await cluster.Create("slow", "* * * * *", main: "sleep 600");
        await cluster.Tick(CronCluster.Utc("2026-01-31T12:00:00"), "slow", "Running");
        await cluster.SetTime(CronCluster.Utc("2026-01-31T12:01:00"));
        await cluster.Says("slow", "Skipped: OMJob slow-1769860800 is still running");
        Assert.Equal("2026-01-31T12:01:00Z", (await cluster.Status("slow")).Last);
        await cluster.Event("slow", "OMJobSkipped", "Skipped: OMJob slow-1769860800 is still running");
        await cluster.Api.Patch(Paths.Pod("default", "slow-1769860800-main"),
            Json.Yaml("metadata: {annotations: {kubelet/exit: '0'}}").Single());
        await cluster.Job("slow-1769860800", "Succeeded");
        await cluster.Tick(CronCluster.Utc("2026-01-31T12:02:00"), "slow", "Running");
        Assert.Equal(["2026-01-31T12:00:00Z", "2026-01-31T12:02:00Z"], await cluster.Ticks("slow"));
    }

    [Fact]
    public async Task History_is_kept_as_long_as_the_limits_say()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        await cluster.Operator();
        await cluster.Create("good", "* * * * *", "successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0");
        await cluster.Create("bad", "* * * * *", "failedJobsHistoryLimit: 2", main: "exit 1");
        for (var minute = 0; minute < 4; minute++)
        {
            await cluster.Tick(CronCluster.Utc("2026-01-31T12:00:00").AddMinutes(minute), "good");
            await cluster.Tick(CronCluster.Utc("2026-01-31T12:00:00").AddMinutes(minute), "bad", "Failed");
        }
        await Eventually.True("the latest are left", async () =>
            (await cluster.Jobs()).Select(j => j.Name()).Order().SequenceEqual(
                ["bad-1769860920", "bad-1769860980", "good-1769860980"]));
    }

    [Fact]
    public async Task G12_two_operators_run_each_tick_once()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        await cluster.Operator();
        await cluster.Operator();
        foreach (var name in new[] { "a", "b", "c", "d" })
            await cluster.Create(name, "* * * * *", "successfulJobsHistoryLimit: 100");
        for (var minute = 0; minute < 3; minute++)
            foreach (var name in new[] { "a", "b", "c", "d" })
                await cluster.Tick(CronCluster.Utc("2026-01-31T12:00:00").AddMinutes(minute), name);
        Assert.Equal(12, (await cluster.Jobs()).Count);
        Assert.Equal(24, (await cluster.Api.List(Paths.Pods("default"))).Count);
    }

    [Fact]
    public async Task OMJobs_run_without_the_CRD_of_schedules_which_may_come_later()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00", schedules: false);
        using var proxy = new FaultProxy(cluster.Api);
        var asked = 0;
        proxy.Fault = (request, forward) =>
        {
            if (request.RequestUri!.AbsolutePath.EndsWith("/cronomjobs")) asked++;
            return forward()!;
        };
        var op = await cluster.Operator(proxy);
        await cluster.Api.Create(Paths.OMJobs("default"), new JobBuilder("alone").Job);
        await cluster.Job("alone", "Succeeded");
        await Eventually.True("the CRD is asked for again", () => asked > 3);
        Assert.Equal(HttpStatusCode.OK, await op.Health("ready"));
        Assert.Single(op.Log.Split('\n'), line => line.Contains("No schedules run"));
        Assert.DoesNotContain("times in a row", op.Log);
        await cluster.Install(schedules: true);
        await cluster.Create("late", "* * * * *");
        await cluster.Tick(CronCluster.Utc("2026-01-31T12:00:00"), "late");
    }

    [Fact]
    public async Task G14_what_refuses_the_OMJob_for_now_is_told_and_waited_for()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        using var proxy = new FaultProxy(cluster.Api);
        var refusing = true;
        proxy.Fault = async (request, forward) => refusing && IsCreation(request)
            ? Refusal(HttpStatusCode.Forbidden, "Forbidden", "omjobs is forbidden: exceeded quota, secret1")
            : await forward();
        await cluster.Operator(proxy);
        await cluster.Create("patient", "* * * * *", "startingDeadlineSeconds: 30", secret: "secret1");
        await cluster.SetTime(CronCluster.Utc("2026-01-31T12:00:00"));
        const string words = "OMJob is blocked: omjobs is forbidden: exceeded quota, ***";
        await cluster.Says("patient", words);
        await cluster.Event("patient", "OMJobBlocked", words);
        Assert.Null((await cluster.Status("patient")).Last);
        refusing = false;
        await cluster.Job("patient-1769860800", "Succeeded");
        await cluster.Says("patient", "Created OMJob");
    }

    [Fact]
    public async Task G15_what_can_never_be_an_OMJob_is_told_and_tried_again_at_the_next_tick()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        using var proxy = new FaultProxy(cluster.Api);
        var tries = 0;
        proxy.Fault = async (request, forward) => IsCreation(request) && ++tries == 1
            ? Refusal(HttpStatusCode.UnprocessableEntity, "Invalid", "OMJob is invalid: spec.x",
                """{"kind": "OMJob", "causes": [{"field": "spec.x", "message": "no"}]}""") : await forward();
        await cluster.Operator(proxy);
        await cluster.Create("bad", "* * * * *");
        await cluster.SetTime(CronCluster.Utc("2026-01-31T12:00:00"));
        await cluster.Says("bad", "OMJob cannot be created: OMJob is invalid: spec.x");
        Assert.Equal("2026-01-31T12:00:00Z", (await cluster.Status("bad")).Last);
        Assert.Null((await cluster.Status("bad")).Name);
        await cluster.Tick(CronCluster.Utc("2026-01-31T12:01:00"), "bad");
        Assert.Equal((2, 1), (tries, (await cluster.Jobs()).Count));
    }

    [Fact]
    public async Task D4_an_OMJob_whose_creation_was_not_answered_is_not_created_twice()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        using var proxy = new FaultProxy(cluster.Api);
        var cut = 0;
        proxy.Fault = async (request, forward) =>
        {
            if (!IsCreation(request) || ++cut > 1) return await forward();
            using var _ = await forward();
            return null;
        };
        await cluster.Operator(proxy);
        await cluster.Create("once", "* * * * *");
        await cluster.SetTime(CronCluster.Utc("2026-01-31T12:00:00"));
        await cluster.Job("once-1769860800", "Succeeded");
        await cluster.Says("once", "OMJob already exists");
        Assert.Equal(["2026-01-31T12:00:00Z"], await cluster.Ticks("once"));
    }

    [Fact]
    public async Task A_schedule_that_is_edited_between_its_tick_and_its_status_is_not_written_over()
    {
        await using var cluster = await CronCluster.Start("2026-01-31T11:59:00");
        using var proxy = new FaultProxy(cluster.Api);
        var edited = false;
        proxy.Fault = async (request, forward) =>
        {
            if (!edited && request.Method == HttpMethod.Patch
                && request.RequestUri!.AbsolutePath.EndsWith("/cronomjobs/edited/status", StringComparison.Ordinal))
            {
                edited = true;
                await cluster.Api.Patch($"{CronCluster.Crons}/edited", Json.Yaml("spec: {suspend: true}").Single());
            }
            return await forward();
        };
        await cluster.Operator(proxy);
        await cluster.Create("edited", "* * * * *");
        await cluster.SetTime(CronCluster.Utc("2026-01-31T12:00:00"));
        await cluster.Says("edited", "Suspended");
        await cluster.Job("edited-1769860800", "Succeeded");
        Assert.Single(await cluster.Jobs());
    }

    static bool IsCreation(HttpRequestMessage request) =>
        request.Method == HttpMethod.Post && request.RequestUri!.AbsolutePath.EndsWith("/omjobs");

    static HttpResponseMessage Refusal(HttpStatusCode code, string reason, string words, string details = "{}")
    {
        var status = $$"""
            {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "{{reason}}", "code": {{(int)code}},
             "message": "{{words}}", "details": {{details}} }
            """;
        return new(code) { Content = new StringContent(status, Encoding.UTF8, "application/json") };
    }
}

/// <summary>On whatever cluster there is: the real clock, and the real garbage collector.</summary>
public class CronClusterTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task G19_a_CronOMJob_that_is_deleted_takes_its_runs_along_but_the_handler_runs_first()
    {
        await Ns.CollectorKnowsOMJobs();
        await Ns.Operator();
        string?[] policies = ["Background", "Foreground", "Orphan"];
        foreach (var policy in policies)
        {
            var job = new JobBuilder("template", "sleep 600")
                .With("mainPodSpec.terminationGracePeriodSeconds", "1");
            await Ns.Create(job, $"{policy}".ToLowerInvariant(), "* * * * *");
        }
        var names = new Dictionary<string, JobBuilder>();
        foreach (var policy in policies.OfType<string>())
        {
            var name = policy.ToLowerInvariant();
            var made = await Ns.Seen($"a run of {name}",
                o => o.Text("kind") == "OMJob" && o.Name().StartsWith(name, StringComparison.Ordinal), seconds: 90);
            names[policy] = new JobBuilder(made.Name()) { Uid = made.Uid() };
            await Ns.PodPhase($"{made.Name()}-main", "Running");
            await Ns.Api.Delete(Paths.CronOMJob(Ns.Name, name), policy);
        }
        foreach (var policy in new[] { "Background", "Foreground" })
        {
            await Ns.Gone(names[policy]);
            Assert.Single(new Run(Ns.History, names[policy].Uid).Exits);
        }
        // Orphaned: it goes on as any other.
        await Ns.Tell($"{names["Orphan"].Name}-main", "exit", "0");
        await Ns.Ends(names["Orphan"], "Succeeded");
    }
}

/// <summary>A sandbox whose clock is set, with an operator that goes by it.</summary>
sealed class CronCluster : IAsyncDisposable
{
    public const string Crons = "/apis/pipelines.openmetadata.org/v1/namespaces/default/cronomjobs";

    readonly LocalCluster cluster;
    readonly ShiftedTime time;
    readonly List<OperatorProcess> operators = [];
    int nudges;

    CronCluster(LocalCluster cluster, ShiftedTime time) => (this.cluster, this.time) = (cluster, time);

    public SandboxClient Api => cluster.Api;

    public static DateTimeOffset Utc(string time) =>
        DateTimeOffset.Parse(time, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal);

    public static async Task<CronCluster> Start(string now, bool schedules = true)
    {
        var time = new ShiftedTime();
        time.Set(Utc(now));
        var started = new CronCluster(await LocalCluster.Start(time), time);
        await started.Install(schedules);
        return started;
    }

    public Task Install(bool schedules) => Api.Apply(Json.Yaml(TestCluster.Read("crd.yaml"))
        .Where(crd => schedules || crd.Name() != "cronomjobs.pipelines.openmetadata.org"));

    public async Task<OperatorProcess> Operator(
        FaultProxy? proxy = null, Dictionary<string, string>? environment = null)
    {
        var kubeconfig = cluster.Kubeconfig;
        if (proxy is not null)
        {
            var config = cluster.Server.Kubeconfig().Replace($"{cluster.Server.Address}".TrimEnd('/'), proxy.Address);
            await File.WriteAllTextAsync(kubeconfig += "-proxy", config);
        }
        return await Operator(new OperatorProcess(kubeconfig, environment ?? []));
    }

    /// <summary>One that was started elsewhere.</summary>
    public async Task<OperatorProcess> Operator(OperatorProcess process)
    {
        operators.Add(process);
        await process.Ready();
        return process;
    }

    /// <summary>A file with the administrator's rights.</summary>
    public string Kubeconfig => cluster.Kubeconfig;

    public Task Create(string name, string schedule, string more = "", string main = "true", string secret = "none") =>
        Api.Create(Crons, Json.Yaml($$"""
            apiVersion: pipelines.openmetadata.org/v1
            kind: CronOMJob
            metadata: {name: "{{name}}" }
            spec:
              { schedule: '{{schedule}}',
                {{(more.Length == 0 ? "" : more.Trim() + ",")}}
                omJobSpec: { ttlSecondsAfterFinished: 1000000000, # the clock goes on by months
                  mainPodSpec: { image: none, serviceAccountName: default, command: [sh, -c, '{{main}}'],
                    env: [{ name: config, value: {{secret}} }] },
                  exitHandlerSpec: { image: none, command: ['true'] } } }
            """).Single());

    /// <summary>Sets the clock, and gives the operator something to do: it learns the time from answers.</summary>
    public Task SetTime(DateTimeOffset now)
    {
        time.Set(now);
        return Api.Create(Crons, Json.Yaml($$"""
            apiVersion: pipelines.openmetadata.org/v1
            kind: CronOMJob
            metadata: {name: nudge-{{nudges++}} }
            """).Single());
    }

    /// <summary>Sets the clock to a tick, unless it is there, and waits until its run is that far.</summary>
    public async Task Tick(DateTimeOffset tick, string cron, string phase = "Succeeded")
    {
        if (time.GetUtcNow() < tick) await SetTime(tick);
        await Job($"{cron}-{tick.ToUnixTimeSeconds()}", phase);
    }

    public async Task<JsonObject> Job(string name, string phase)
    {
        JsonObject? found = null;
        await Eventually.True($"OMJob {name} is {phase}", async () =>
            (found = await Api.Find(Paths.OMJob("default", name))).Text("status", "phase") == phase);
        return found!;
    }

    public Task<List<JsonObject>> Jobs() => Api.List(Paths.OMJobs("default"));

    public Task<JsonObject> Cron(string name) => Api.Get($"{Crons}/{name}");

    public async Task<(string? Last, string? Name, string? Message)> Status(string cron) =>
        await Cron(cron) is var found ? (found.Text("status", "lastScheduleTime"),
            found.Text("status", "lastOMJobName"), found.Text("status", "message")) : default;

    public Task Says(string cron, string message) => Eventually.True($"{cron} says {message}", async () =>
        (await Status(cron)).Message == message);

    public Task Event(string cron, string action, string message) => Eventually.True($"an event {action}", async () =>
        (await Api.List("/api/v1/namespaces/default/events")).Any(e => e.Text("action") == action
            && (e.Text("involvedObject", "kind"), e.Text("involvedObject", "name")) == ("CronOMJob", cron)
            && e.Text("reason") == "OMJobOperator" && e.Text("message") == message));

    /// <summary>The times whose OMJobs are there.</summary>
    public async Task<List<string>> Ticks(string cron) => [.. (await Jobs()).Select(j => j.Name().Split('-'))
        .Where(name => name[0] == cron).Select(name => Json.Time(
            DateTimeOffset.FromUnixTimeSeconds(long.Parse(name[1], CultureInfo.InvariantCulture)))).Order()];

    public string Logs(string pod) => cluster.Kubelet.Logs("default", pod);

    public async ValueTask DisposeAsync()
    {
        if (TestContext.Current.TestState?.Result is not TestResult.Passed)
            foreach (var process in operators) TestContext.Current.TestOutputHelper?.WriteLine(process.Log);
        foreach (var process in operators) await process.DisposeAsync();
        await cluster.DisposeAsync();
    }
}
