// Deleting an OMJob, which is how the OpenMetadata server stops a run: a run that has started still gets its exit
// handler, and nothing that has not started or has ended holds the deletion up.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class DeletionTests(TestCluster cluster) : ClusterTest(cluster)
{
    // It ends well only because it is stopped. Times are whole seconds: within the same one nobody could tell.
    const string Obedient = "trap 'sleep 1.1; exit 0' TERM; echo up; sleep 600 & wait";

    // So slow that it would be seen if the garbage collector took it early.
    const string SlowHandler = "sleep 2; echo pipelineStatus=$pipelineStatus";

    [Theory]
    [InlineData("Background")]
    [InlineData("Foreground")]
    [InlineData("Orphan")]
    public async Task G9_H5_deleted_while_running_main_is_stopped_and_the_exit_handler_runs_to_its_end(string propagation)
    {
        await Ns.Operator();
        var job = new JobBuilder("killed", Obedient, SlowHandler);
        await Ns.Create(job);
        await Eventually.True("main is up", () => Ns.Logs("killed-main") == "up\n");
        await Ns.Phase(job, "Running");
        Assert.True(await Ns.Delete(job, propagation));
        var run = await Ns.Ends(job, "Failed");
        Assert.Null(run.ExitCode);
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs("killed-exit"));
        await Ns.Pod("killed-exit", "ended before anybody deleted it", p =>
            p.Text("status", "phase") == "Succeeded" && p.At("metadata", "deletionTimestamp") is null);
        await Ns.Gone(job);
        // The main pod was stopped by deleting it; what it leaves to the propagation policy is the exit pod.
        var pods = $"{Paths.Pods(Ns.Name)}?labelSelector=omjob=killed";
        if (propagation == "Orphan")
            Assert.Equal("killed-exit", Assert.Single(await Ns.Api.List(pods)).Name());
        else
            await Eventually.True("the pods are gone", async () => (await Ns.Api.List(pods)).Count == 0);
    }

    [Fact]
    public async Task G19_deleted_in_the_foreground_it_does_not_wait_with_an_exit_handler_for_the_garbage_collector()
    {
        await Ns.Operator();
        var job = new JobBuilder("held", Obedient, SlowHandler);
        await Ns.Create(job);
        // As long as this is there the collector's finalizer stays, and with it its right to the OMJob's pods.
        await Ns.Api.Create(Paths.Core(Ns.Name, "configmaps"), Json.Yaml($$"""
            metadata:
              name: holds
              finalizers: [test/holds]
              ownerReferences:
                - {apiVersion: pipelines.openmetadata.org/v1, kind: OMJob, name: held, uid: {{job.Uid}},
                   blockOwnerDeletion: true}
            """).Single());
        await Eventually.True("main is up", () => Ns.Logs("held-main") == "up\n");
        await Ns.Phase(job, "Running");
        await Ns.Delete(job, "Foreground");
        await Ns.Ends(job, "Failed");
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs("held-exit"));
        await Ns.Gone(job);
        await Ns.Remove($"{Paths.Core(Ns.Name, "configmaps")}/holds");
    }

    [Fact]
    public async Task Deleted_after_main_succeeded_it_remains_a_success()
    {
        await Ns.Operator();
        var job = new JobBuilder("done", exit: SlowHandler);
        await Ns.Create(job);
        await Ns.PodPhase("done-exit", "Running");
        await Ns.Delete(job);
        var run = await Ns.Ends(job, "Succeeded");
        Assert.Equal(0, run.ExitCode);
        Assert.Equal("pipelineStatus=success\n", Ns.Logs("done-exit"));
        await Ns.Gone(job);
    }

    [Fact]
    public async Task F5_deleted_before_its_start_it_goes_at_once_and_nothing_runs()
    {
        await Ns.ForbidPods();
        await Ns.Operator();
        var job = new JobBuilder("never");
        await Ns.Create(job);
        await Ns.Event(job, "says what blocks it", e => e.Text("type") == "Warning");
        await Ns.Delete(job);
        await Ns.Gone(job, seconds: 10);
        Assert.DoesNotContain(Ns.History, c => c.Object.Text("kind") == "Pod");
    }

    [Fact]
    public async Task H9_deleted_after_its_end_it_goes_at_once_and_its_name_can_be_used_again()
    {
        await Ns.Operator();
        var first = new JobBuilder("again");
        await Ns.Create(first);
        await Ns.Ends(first, "Succeeded");
        await Ns.Delete(first);
        await Ns.Gone(first, seconds: 10);
        // The pods of the first are still there, or are just going.
        var second = new JobBuilder("again", main: "exit 5");
        await Ns.Create(second);
        var run = await Ns.Ends(second, "Failed");
        Assert.Equal(5, run.ExitCode);
    }
}
