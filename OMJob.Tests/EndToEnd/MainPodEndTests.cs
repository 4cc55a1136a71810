// Every other way in which a main pod ends or never starts: whatever it was, the exit handler runs and hears the truth.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class MainPodEndTests(TestCluster cluster) : ClusterTest(cluster)
{
    // It exits 0 when it is stopped, and late enough for whole seconds to show which was first.
    const string Obedient = "trap 'sleep 1.1; exit 0' TERM; echo up; sleep 600 & wait";
    const string Prompt = "trap 'exit 0' TERM; echo up; sleep 600 & wait";

    async Task<JobBuilder> Running(string name, string main = Obedient, int grace = 10)
    {
        var job = new JobBuilder(name, main).With("mainPodSpec.terminationGracePeriodSeconds", $"{grace}");
        await Ns.Create(job);
        await Eventually.True("main is up", () => Ns.Logs($"{name}-main") == "up\n");
        await Ns.PodPhase($"{name}-main", "Running");
        await Ns.Phase(job, "Running");
        return job;
    }

    /// <summary>The run ends as Failed for this reason; main has no exit code of its own unless one is named.</summary>
    async Task<Run> EndsFailed(JobBuilder job, string reason, int? code = null)
    {
        var run = await Ns.Ends(job, "Failed");
        Assert.Equal(code, run.ExitCode);
        Assert.Contains(reason, run.Message);
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs($"{job.Name}-exit"));
        return run;
    }

    [Fact]
    public async Task G4_deleted_by_hand_it_has_failed()
    {
        await Ns.Operator();
        var job = await Running("deleted");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "deleted-main"));
        await EndsFailed(job, "stopped");
    }

    /// <summary>Its end and its deletion are told in whole seconds, which are mostly the same.</summary>
    [Fact]
    public async Task G21_deleted_by_hand_it_has_failed_though_it_exits_0_within_the_same_second()
    {
        await Ns.Operator();
        var jobs = await Task.WhenAll(Enumerable.Range(0, 12).Select(i => Running($"prompt-{i}", Prompt)));
        // At any part of a second.
        await Task.WhenAll(jobs.Select(async (job, i) =>
        {
            await Task.Delay(TimeSpan.FromSeconds(i / 12.0));
            await Ns.Api.Delete(Paths.Pod(Ns.Name, $"{job.Name}-main"));
        }));
        await Task.WhenAll(jobs.Select(job => EndsFailed(job, "stopped")));
    }

    [Theory]
    [InlineData(0, "Succeeded")]
    [InlineData(6, "Failed")]
    public async Task G4_ended_and_deleted_while_no_operator_looked_its_exit_code_still_counts(int code, string phase)
    {
        var first = await Ns.Operator();
        var job = await Running("unseen");
        await first.Kill();
        await Ns.Tell("unseen-main", "exit", $"{code}");
        await Ns.PodPhase("unseen-main", code == 0 ? "Succeeded" : "Failed");
        await Eventually.NextSecond();
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "unseen-main"));
        await Ns.Operator();
        var run = await Ns.Ends(job, phase);
        Assert.Equal(code, run.ExitCode);
        Assert.Equal($"pipelineStatus={(code == 0 ? "success" : "failed")}\n", Ns.Logs("unseen-exit"));
    }

    [Fact]
    public async Task G6_on_a_lost_node_it_counts_as_lost_once_its_deletion_is_overdue()
    {
        await Ns.Operator();
        var job = await Running("lost", grace: 1);
        await Ns.Tell("lost-main", "lost", "true");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "lost-main"));
        var run = await EndsFailed(job, "lost");
        var deletion = run.Last(run.Mains[0]).Time("metadata", "deletionTimestamp");
        var handler = run.Exits[0].Time("metadata", "creationTimestamp");
        Assert.True(handler >= deletion, "The handler came before the grace was over");
    }

    [Fact]
    public async Task Reported_as_failed_while_its_container_runs_it_gets_its_grace_first()
    {
        await Ns.Operator();
        var job = await Running("early", grace: 2);
        await Ns.Tell("early-main", "lost", "true");
        var reported = DateTime.UtcNow;
        await Ns.Api.Patch($"{Paths.Pod(Ns.Name, "early-main")}/status",
            Json.Yaml("status: {phase: Failed, reason: Evicted}").Single());
        var run = await EndsFailed(job, "Evicted");
        // Creation times are cut to seconds.
        Assert.True(run.Exits[0].Time("metadata", "creationTimestamp") > reported.AddSeconds(1));
    }

    [Fact]
    public async Task G5_evicted_it_has_failed_whatever_its_exit_code_says()
    {
        await Ns.Operator();
        var (running, obedient) = (await Running("running"), await Running("obedient"));
        var refused = new JobBuilder("refused").Main("fail", "Evicted The node was low on resource: memory");
        await Ns.Create(refused);
        await Ns.Tell("running-main", "fail", "Evicted The node was low on resource: memory");
        await Ns.Api.Patch(Paths.Pod(Ns.Name, "obedient-main"), Json.Yaml("""
            metadata: {annotations: {kubelet/exit: '0', kubelet/fail: Evicted The node was low on resource} }
            """).Single());
        await EndsFailed(running, "Evicted", 137);
        await EndsFailed(obedient, "Evicted");
        await EndsFailed(refused, "Evicted");
    }

    [Fact]
    public async Task G5_stopped_by_a_disruption_it_has_failed_though_it_exits_0()
    {
        await Ns.Operator();
        var job = await Running("drained", Prompt);
        await Ns.Tell("drained-main", "disruption", "EvictionByEvictionAPI");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "drained-main"));
        await EndsFailed(job, "EvictionByEvictionAPI");
    }

    /// <summary>Who drains a node waits until the pod is gone.</summary>
    [Fact]
    public async Task G5_drained_once_it_is_over_it_stays_no_longer_than_the_slack_however_long_the_handler_runs()
    {
        await Ns.Operator();
        var job = new JobBuilder("drained", exit: "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("drained-exit", "Running");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "drained-main"));
        await Ns.PodGone("drained-main", seconds: 15);
        await Ns.Tell("drained-exit", "exit", "0");
        await Ns.Ends(job, "Succeeded");
    }

    [Fact]
    public async Task G5_drained_once_it_is_over_it_stays_for_one_attempt_of_the_handler()
    {
        await Ns.Operator("--lost-pod-slack", "10m");
        var job = new JobBuilder("drained", exit: "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("drained-exit", "Running");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "drained-main"));
        await Ns.Tell("drained-exit", "exit", "1");
        await Ns.PodGone("drained-main", seconds: 15);
        await Ns.PodPhase("drained-exit-2", "Running");
        await Ns.Tell("drained-exit-2", "exit", "0");
        await Ns.Ends(job, "Succeeded", attempts: 2);
    }

    [Fact]
    public async Task G7_never_started_it_is_given_up_at_the_start_deadline()
    {
        await Ns.Operator("--start-deadline", "8s");
        var job = new JobBuilder("unpulled").Main("waiting", "ImagePullBackOff Back-off pulling image none");
        await Ns.Create(job);
        // 137 is what a kubelet reports for a container that it never had.
        await EndsFailed(job, "ImagePullBackOff", 137);
    }

    [Fact]
    public async Task Reported_without_a_start_its_exit_code_0_means_nothing()
    {
        await Ns.Operator();
        var job = new JobBuilder("unstarted").Main("waiting", "ErrImagePull manifest unknown");
        await Ns.Create(job);
        await Ns.Pod("unstarted-main", "cannot start", p => p.Items("status", "containerStatuses").Any());
        await Ns.Phase(job, "Running");
        // What kubelets up to 1.20 write when a pod is deleted whose container never ran.
        await Ns.Tell("unstarted-main", "lost", "true");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "unstarted-main"));
        await Ns.Api.Patch($"{Paths.Pod(Ns.Name, "unstarted-main")}/status", Json.Yaml("""
            status: {containerStatuses: [{name: main, image: none, imageID: '', ready: false, restartCount: 0,
              state: {terminated: {exitCode: 0} } }] }
            """).Single());
        await EndsFailed(job, "");
    }

    [Fact]
    public async Task P_a_sidecar_that_runs_on_neither_delays_the_handler_nor_survives_the_run()
    {
        await Ns.Operator();
        var job = new JobBuilder("meshed").Main("sidecar", "proxy");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded");
        Assert.Equal(0, run.ExitCode);
        await Eventually.True("the main pod is deleted", () =>
            Ns.History.Any(c => c.Type == "DELETED" && c.Object.Uid() == run.Mains[0].Uid()));
    }
}
