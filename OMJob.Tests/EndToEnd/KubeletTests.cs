// The suite's kubelet, alone with the API server: what the other tests build on must be as a real kubelet does it.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class KubeletTests(TestCluster cluster) : ClusterTest(cluster)
{
    Task<JsonObject> Run(string name, string script, string more = "", string annotations = "") =>
        Ns.CreatePod(Json.Yaml($$"""
            metadata: {name: {{name}}, annotations: { {{annotations}} } }
            spec:
              restartPolicy: Never
              containers:
                - {name: main, image: none, command: [sh, -c, '{{script}}'], env: [{name: WHO, value: world}] }
              {{more}}
            """).Single());

    async Task<JsonObject> Ended(string name, string phase)
    {
        var pod = await Ns.PodPhase(name, phase);
        return pod.Items("status", "containerStatuses").First().At("state", "terminated")!.AsObject();
    }

    [Fact]
    public async Task A_pod_runs_its_command_and_reports_its_end()
    {
        await Run("good", "echo hello $WHO");
        await Run("bad", "exit 3");
        Assert.Equal(0, (await Ended("good", "Succeeded")).Long("exitCode"));
        Assert.Equal("hello world\n", Ns.Logs("good"));
        var bad = await Ended("bad", "Failed");
        Assert.Equal((3, "Error"), (bad.Long("exitCode"), bad.Text("reason")));
        Assert.True(bad.Time("finishedAt") >= bad.Time("startedAt"));
    }

    [Fact]
    public async Task A_deleted_pod_gets_SIGTERM_then_its_grace_then_SIGKILL()
    {
        await Run("polite", "trap \"exit 7\" TERM; echo up; sleep 600 & wait");
        await Run("stubborn", "trap \"\" TERM; echo up; while true; do sleep 600; done");
        foreach (var (pod, grace, code) in new[] { ("polite", 600, 7), ("stubborn", 1, 137) })
        {
            await Eventually.True($"{pod} is up", () => Ns.Logs(pod).Contains("up"));
            await Ns.Api.Delete(Paths.Pod(Ns.Name, pod), grace: grace);
            Assert.Equal(code, (await Ended(pod, "Failed")).Long("exitCode"));
            await Eventually.True($"{pod} is gone", async () => await Ns.Api.Find(Paths.Pod(Ns.Name, pod)) is null);
        }
    }

    [Fact]
    public async Task Annotations_script_what_a_process_cannot_do()
    {
        await Run("oom", "sleep 600", annotations: "kubelet/exit: 137 OOMKilled");
        await Run("evicted", "sleep 600");
        await Run("late", "sleep 600", "activeDeadlineSeconds: 1");
        await Run("unpulled", "sleep 600", annotations: "kubelet/waiting: ImagePullBackOff Back-off pulling image");
        await Run("meshed", "exit 0", annotations: "kubelet/sidecar: proxy");
        Assert.Equal("OOMKilled", (await Ended("oom", "Failed")).Text("reason"));
        await Ns.Pod("evicted", "is Running and Ready", p => p.Text("status", "phase") == "Running"
            && p.Items("status", "conditions").Any(c => c.Text("type") == "Ready" && c.Text("status") == "True"));
        await Ns.Tell("evicted", "fail", "Evicted The node was low on memory");
        await Ns.Pod("evicted", "is evicted", p => p.Text("status", "reason") == "Evicted");
        await Ns.Pod("late", "is stopped", p => p.Text("status", "reason") == "DeadlineExceeded");
        await Ns.Pod("unpulled", "waits", p => p.Items("status", "containerStatuses").Any(c =>
            c.Text("state", "waiting", "reason") == "ImagePullBackOff"));
        await Ns.Pod("meshed", "runs on", p => p.Text("status", "phase") == "Running" && p.Items("status",
            "containerStatuses").Any(c => c.Long("state", "terminated", "exitCode") == 0));
    }
}
