// Pods that were there before: somebody else's on our names, and those of the Java operator that this one replaces.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class ForeignPodTests(TestCluster cluster) : ClusterTest(cluster)
{
    Task<JsonObject> Foreign(string name) => Ns.CreatePod(Json.Yaml($$"""
        metadata: {name: {{name}} }
        spec: {restartPolicy: Never, containers: [{name: main, image: none, command: [sleep, '600'] }] }
        """).Single());

    [Fact]
    public async Task A_foreign_pod_on_the_main_pods_name_is_left_alone_and_waited_for()
    {
        var foreign = await Foreign("taken-main");
        await Ns.Operator();
        var job = new JobBuilder("taken");
        await Ns.Create(job);
        await Ns.Warning(job, "taken-main");
        Assert.Equal(foreign.Uid(), (await Ns.Api.Get(Paths.Pod(Ns.Name, "taken-main"))).Uid());
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "taken-main"), grace: 0);
        await Ns.Ends(job, "Succeeded");
    }

    [Fact]
    public async Task A_foreign_pod_on_the_exit_pods_name_is_left_alone_and_passed_by()
    {
        var foreign = await Foreign("taken-exit");
        await Ns.Operator();
        var job = new JobBuilder("taken");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded");
        Assert.Equal("taken-exit-2", run.Exits[0].Name());
        Assert.Equal(foreign.Uid(), (await Ns.Api.Get(Paths.Pod(Ns.Name, "taken-exit"))).Uid());
    }

    [Fact]
    public async Task A_main_pod_that_the_Java_operator_started_is_carried_on()
    {
        var job = new JobBuilder("adopted");
        await Ns.UpstreamStarts(job, "sleep 600");
        await Ns.Operator();
        await Ns.Tell("adopted-main", "exit", "0");
        var run = await Ns.Ends(job, "Succeeded", adopted: true);
        Assert.Equal(0, run.ExitCode);
        Assert.Equal("pipelineStatus=success\n", Ns.Logs("adopted-exit"));
    }

    [Fact]
    public async Task An_exit_pod_that_the_Java_operator_started_is_carried_on()
    {
        var job = new JobBuilder("adopted");
        await Ns.UpstreamStarts(job, "exit 0");
        await Ns.PodPhase("adopted-main", "Succeeded");
        await Ns.CreateUpstreamPod(job, "exit", "exit-handler", "sleep 600");
        await Ns.Api.Patch($"{Paths.OMJob(Ns.Name, "adopted")}/status", Json.Yaml("""
            status: {phase: ExitHandlerRunning, exitHandlerPodName: adopted-exit, mainPodExitCode: 0}
            """).Single());
        await Ns.PodPhase("adopted-exit", "Running");
        await Ns.Operator();
        await Ns.Tell("adopted-exit", "exit", "0");
        await Ns.Ends(job, "Succeeded", adopted: true);
    }
}
