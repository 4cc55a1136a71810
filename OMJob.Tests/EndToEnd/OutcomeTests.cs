// A run from its creation to its end: what the main pod did is what the exit handler hears and what the OMJob says.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class OutcomeTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task The_first_example_runs_as_it_is()
    {
        await Ns.Operator();
        var job = JobBuilder.Example("omjob.yaml");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded");
        Assert.Equal(["Pending", "Running", "ExitHandlerRunning", "Succeeded"], run.Phases);
        Assert.Equal("metadata of sample.hello, run 2b7d4c10-6c0e-4f57-9d35-0a1c8e5b7f42\ndone\n",
            Ns.Logs(run.Mains[0].Name()));
        Assert.EndsWith("pipelineStatus=success\n", Ns.Logs(run.Exits[0].Name()));
        Assert.Equal(3600, run.Job.Long("spec", "ttlSecondsAfterFinished"));
    }

    [Theory]
    [InlineData("failing-omjob.yaml", 3, "exit code 3")]
    [InlineData("long-omjob.yaml", 143, "exit code 143 (DeadlineExceeded: ")]
    [InlineData("killed-omjob.yaml", 137, "exit code 137")]
    public async Task An_example_that_fails_does_so_as_it_says(string file, int code, string said)
    {
        await Ns.Operator();
        var job = JobBuilder.Example(file);
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Failed");
        Assert.Equal(code, run.Job.Long("status", "mainPodExitCode"));
        Assert.StartsWith($"Main pod failed with {said}", run.Job.Text("status", "message"), StringComparison.Ordinal);
        Assert.EndsWith("pipelineStatus=failed\n", Ns.Logs(run.Exits[0].Name()));
    }

    [Fact]
    public async Task A_status_is_replaced_as_a_whole_and_all_else_of_the_OMJob_stays()
    {
        await Ns.Operator();
        var owner = await Ns.Api.Create(Paths.Core(Ns.Name, "configmaps"), Json.Object("""
            {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"owner"} }
            """));
        var job = new JobBuilder("kept").With("mainPodSpec.nodeSelector", """{"kubernetes.io/os": "linux"}""");
        var meta = job.Job["metadata"]!.AsObject();
        meta["labels"] = Json.Object("""{"team":"data"}""");
        meta["annotations"] = Json.Object("""{"note":"a"}""");
        meta["finalizers"] = new JsonArray("example.com/others");
        meta["ownerReferences"] = new JsonArray(Json.Object($$"""
            {"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"{{owner.Uid()}}"}
            """));
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded");
        foreach (var field in (string[])["labels", "annotations", "finalizers", "ownerReferences"])
            Assert.Equal(meta[field]!.ToJsonString(), run.Job.At("metadata", field)!.ToJsonString());
        Assert.Equal(1, run.Job.Long("metadata", "generation"));
        Assert.Empty(run.Job.Items("metadata", "managedFields")); // who owns which field, for nobody applies
        Assert.Equal(job.Spec["mainPodSpec"]!["command"]!.ToJsonString(),
            run.Job.At("spec", "mainPodSpec", "command")!.ToJsonString());
        await Ns.Api.Patch(Paths.OMJob(Ns.Name, "kept"), Json.Object("""{"metadata":{"finalizers":null}}"""));
    }

    [Fact]
    public async Task What_the_OpenMetadata_server_creates_runs_and_its_events_tell_each_step()
    {
        await Ns.Api.Apply(Json.Yaml($$"""
            {apiVersion: v1, kind: ServiceAccount, metadata: {name: openmetadata-ingestion, namespace: {{Ns.Name}} } }
            """));
        await Ns.Admits("openmetadata-ingestion");
        await Ns.Operator();
        var job = JobBuilder.Example("openmetadata-omjob.yaml").Main("script", "echo $config")
            .Exit("script", "echo $jobName $pipelineStatus");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded");
        Assert.Contains("jwtToken: change-me", Ns.Logs(run.Mains[0].Name()));
        Assert.Equal("om-job-mysql-metadata-5f0c9b2e success\n", Ns.Logs(run.Exits[0].Name()));
        await Eventually.True("an event of the end", async () =>
            (await Ns.Events(job)).Exists(e => e.Text("action") == "OMJobCompleted"));
        Assert.Equal(["ExitHandlerCreated", "MainPodCreated", "OMJobCompleted"],
            (await Ns.Events(job)).Select(e => e.Text("action")).Order());
        Assert.All(await Ns.Events(job), e =>
        {
            Assert.Equal(("Normal", "omjob-operator", "omjob-operator"),
                (e.Text("type"), e.Text("reportingComponent"), e.Text("source", "component")));
            Assert.Equal(job.Uid, e.Text("involvedObject", "uid"));
        });
    }

    [Fact]
    public async Task G2_a_failed_main_pod_fails_the_OMJob_and_its_exit_code_is_kept()
    {
        await Ns.Operator();
        var job = new JobBuilder("fails", main: "exit 3");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Failed");
        Assert.Equal(3, run.ExitCode);
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs("fails-exit"));
        await Ns.Warning(job, "3");
    }

    [Fact]
    public async Task G3_a_main_pod_killed_for_its_memory_is_called_that()
    {
        await Ns.Operator();
        var job = new JobBuilder("oom", main: "sleep 600").Main("exit", "137 OOMKilled");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Failed");
        Assert.Equal(137, run.ExitCode);
        Assert.Contains("OOMKilled", run.Message);
        Assert.Contains("137", run.Message);
    }

    [Fact]
    public async Task G8_H11_a_main_pod_past_its_active_deadline_is_stopped_and_the_exit_handler_runs()
    {
        await Ns.Operator();
        var job = new JobBuilder("late", main: "sleep 600").With("activeDeadlineSeconds", "1");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Failed");
        Assert.Contains("DeadlineExceeded", run.Message);
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs("late-exit"));
        // Its log is what somebody will want to read now.
        Assert.False(run.IsDeleted(run.Mains[0]));
        Assert.Null(run.Exits[0].Long("spec", "activeDeadlineSeconds"));
    }

    [Theory]
    [InlineData("exit 0", "Succeeded", 0)]
    [InlineData("exit 4", "Failed", 4)]
    public async Task G18_without_an_exit_handler_the_main_pod_decides(string main, string phase, int code)
    {
        await Ns.Operator();
        var job = new JobBuilder("alone", main).Without("exitHandlerSpec");
        await Ns.Create(job);
        var run = await Ns.Ends(job, phase, attempts: 0);
        Assert.Equal(code, run.ExitCode);
    }
}
