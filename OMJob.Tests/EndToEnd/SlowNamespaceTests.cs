// Two namespaces of one operator: what the API server needs long for in the first holds up nothing in the second.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class SlowNamespaceTests(TestCluster cluster) : ClusterTest(cluster)
{
    /// <summary>As with an admission webhook that does not answer.</summary>
    [Theory, InlineData("pods"), InlineData("events")]
    public async Task A_namespace_whose_writes_take_10_seconds_delays_no_run_and_no_event_of_another(string resource)
    {
        await using var slow = await TestCluster.NewNamespace();
        var held = 0;
        using var proxy = new FaultProxy(TestCluster.Api);
        proxy.Fault = async (request, forward) =>
        {
            if (request.Method != HttpMethod.Post
                || request.RequestUri!.AbsolutePath != Paths.Core(slow.Name, resource)) return await forward();
            Interlocked.Increment(ref held);
            await Task.Delay(TimeSpan.FromSeconds(10));
            return FaultProxy.Refusal(500, "InternalError");
        };
        await Ns.Operator(proxy, "--namespace", slow.Name);
        await Task.WhenAll(Enumerable.Range(0, 24).Select(i => slow.Create(new JobBuilder($"slow-{i}"))));
        await Eventually.True("a request is held up", () => Volatile.Read(ref held) > 0);
        for (var i = 0; i < 3; i++) await RunsAtOnce(new JobBuilder($"quick-{i}"));
    }

    /// <summary>What the kubelet takes is not counted; what the operator takes is a few hundredths of a second.</summary>
    async Task RunsAtOnce(JobBuilder job)
    {
        const int seconds = 5;
        await Ns.Create(job);
        await Ns.Pod($"{job.Name}-main", "is created", _ => true, seconds);
        await Ns.PodPhase($"{job.Name}-main", "Succeeded");
        await Ns.Pod($"{job.Name}-exit", "is created", _ => true, seconds);
        await Ns.Ends(job, "Succeeded");
        await Eventually.True($"the end of {job.Name} is an event", async () =>
            (await Ns.Events(job)).Any(e => e.Text("action") == "OMJobCompleted"), seconds);
    }
}
