// The sandbox against the API server that OMJOB_TEST_KUBECONFIG names: the same requests, and what differs. Where the
// two differ, the sandbox is wrong.

using OMJobs.Tests.EndToEnd;
using Xunit;

namespace OMJobs.Tests.Conformance;

public sealed class ConformanceTests(TestCluster cluster)
{
    [Fact]
    public async Task The_sandbox_answers_as_the_API_server_does()
    {
        var given = Environment.GetEnvironmentVariable("OMJOB_TEST_KUBECONFIG");
        Assert.SkipWhen(given is null, "OMJOB_TEST_KUBECONFIG names no API server to compare with");
        await using (var ns = await cluster.NewNamespace()) await ns.CollectorKnowsOMJobs();
        var stop = TestContext.Current.CancellationToken;
        var store = new Sandbox.Store(TimeProvider.System, Random.Shared);
        store.Load(await File.ReadAllTextAsync(Sandbox.Repository.File("crd.yaml"), stop));
        await using var sandbox = await Sandbox.ApiServer.Start(store);
        var requests = await File.ReadAllTextAsync(
            Sandbox.Repository.File("OMJob.Tests/Sandbox/Api/Conformance.txt"), stop);
        var expected = Sandbox.Conformance.Run(await File.ReadAllTextAsync(given, stop), requests);
        var actual = Sandbox.Conformance.Run(sandbox.Kubeconfig(), requests);
        var (minor, differences) = Sandbox.Conformance.Compare(await expected, await actual);
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{(await expected).Count - 1} answers of Kubernetes 1.{minor}");
        Assert.True(differences.Count == 0, string.Join("\n\n", differences));
    }
}
