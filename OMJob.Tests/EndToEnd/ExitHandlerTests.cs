// The exit handler is what tells OpenMetadata how a run ended: whatever happens to its pod, another attempt follows
// until the attempts are used up. The operator waits 10 seconds before the second.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class ExitHandlerTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task G16_a_failed_exit_handler_is_tried_again_until_it_succeeds_or_its_attempts_are_used_up()
    {
        await Ns.Operator("--exit-handler-retries", "1");
        var recovers = new JobBuilder("recovers", exit: "case $HOSTNAME in *-exit) exit 1; esac");
        var hopeless = new JobBuilder("hopeless", exit: "exit 7");
        var impatient = new JobBuilder("impatient", exit: "exit 7").With("exitHandlerBackoffLimit", "0");
        foreach (var job in new[] { recovers, hopeless, impatient }) await Ns.Create(job);
        await Ns.Ends(impatient, "Failed");
        var run = await Ns.Ends(recovers, "Succeeded", attempts: 2);
        Assert.Equal(["recovers-exit", "recovers-exit-2"], run.Exits.Select(e => e.Name()));
        run = await Ns.Ends(hopeless, "Failed", attempts: 2);
        Assert.Equal(0, run.ExitCode);
        Assert.Contains("xit handler", run.Message);
    }

    const string StuckAtFirst = "case $HOSTNAME in *-exit) sleep 600; esac";

    /// <summary>The deadline is long enough for an attempt on a busy machine.</summary>
    [Fact]
    public async Task G17_an_exit_handler_that_is_stuck_is_followed_by_another()
    {
        await Ns.Operator("--exit-handler-deadline", "15s");
        var job = new JobBuilder("stuck", exit: StuckAtFirst);
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded", attempts: 2);
        Assert.Equal("stuck-exit-2", run.Exits[1].Name());
    }

    [Fact]
    public async Task G17_an_exit_handler_that_is_evicted_is_followed_by_another()
    {
        await Ns.Operator();
        var job = new JobBuilder("evicted", exit: StuckAtFirst);
        await Ns.Create(job);
        await Ns.PodPhase("evicted-exit", "Running");
        await Ns.Tell("evicted-exit", "fail", "Evicted The node was low on resource: memory");
        var run = await Ns.Ends(job, "Succeeded", attempts: 2);
        Assert.Equal("evicted-exit-2", run.Exits[1].Name());
    }

    [Fact]
    public async Task G17_an_exit_handler_that_is_deleted_runs_again()
    {
        await Ns.Operator();
        var job = new JobBuilder("deleted", exit: "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("deleted-exit", "Running");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "deleted-exit"));
        // Under the same name where it had vanished before its end was seen, else under the next.
        var exits = () => new Run(Ns.History, job.Uid).Exits;
        await Eventually.True("another exit pod runs", () => exits().Count == 2);
        await Ns.Tell(exits()[1].Name(), "exit", "0");
        await Ns.Ends(job, "Succeeded", attempts: 2);
    }
}
