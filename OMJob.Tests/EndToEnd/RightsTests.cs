// The operator without rights for all namespaces: the rules of deploy.yaml as a Role in each, as it says there.

using System.Net;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class RightsTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task A_namespace_without_rights_holds_up_no_other_and_is_named_until_it_gives_them()
    {
        await using var second = await TestCluster.NewNamespace();
        var (here, there) = (new JobBuilder("here"), new JobBuilder("there"));
        var account = Json.Object("""{"metadata": {"name": "limited"} }""");
        await Ns.Api.Create(Paths.Core(Ns.Name, "serviceaccounts"), account);
        await Allow(Ns);
        var kubeconfig = TestCluster.Kubeconfig(ofAnother: await TestCluster.Api.Token(Ns.Name, "limited"));
        var process = Ns.Started(new OperatorProcess(kubeconfig, "-n", Ns.Name, "-n", second.Name));
        await second.Create(there);
        await Ns.Create(here);
        await Ns.Ends(here, "Succeeded");
        var (code, words) = await process.Says("ready");
        Assert.Equal(HttpStatusCode.ServiceUnavailable, code);
        Assert.Contains(second.Name, words);
        Assert.DoesNotContain(Ns.Name, words);
        Assert.Equal(HttpStatusCode.OK, await process.Health("health"));
        await Allow(second);
        await second.Ends(there, "Succeeded");
        await process.Ready();
    }

    [Fact]
    public async Task Where_a_status_may_be_patched_only_it_is_patched()
    {
        await Ns.Api.Create(Paths.Core(Ns.Name, "serviceaccounts"), Json.Object("""{"metadata": {"name": "limited"} }"""));
        await Allow(Ns, "update");
        var kubeconfig = TestCluster.Kubeconfig(ofAnother: await TestCluster.Api.Token(Ns.Name, "limited"));
        var process = Ns.Started(new OperatorProcess(kubeconfig, "-n", Ns.Name));
        var jobs = new[] { new JobBuilder("one"), new JobBuilder("two", "exit 3") };
        foreach (var job in jobs) await Ns.Create(job);
        await Ns.Ends(jobs[0], "Succeeded");
        await Ns.Ends(jobs[1], "Failed");
        var refused = (await process.Metrics()).Split('\n').Where(l => l.Contains("code=\"403\",method=\"PUT\""));
        Assert.InRange(int.Parse(Assert.Single(refused).Split(' ')[1], null), 1, 2); // both may have been on their way
        Assert.Single(process.Log.Split('\n'), line => line.Contains("no right to update", StringComparison.Ordinal));
    }

    /// <summary>The account `limited` of this test's namespace gets the operator's rights in that one, but for a verb.
    /// </summary>
    Task Allow(TestNamespace ns, string? without = null)
    {
        var rules = Json.Yaml(TestCluster.Read("deploy.yaml")).Single(d => d.Text("kind") == "ClusterRole")["rules"]!;
        var role = Json.Yaml($$"""
            apiVersion: rbac.authorization.k8s.io/v1
            kind: Role
            metadata: {name: limited, namespace: {{ns.Name}}}
            ---
            apiVersion: rbac.authorization.k8s.io/v1
            kind: RoleBinding
            metadata: {name: limited, namespace: {{ns.Name}}}
            roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: limited}
            subjects: [{kind: ServiceAccount, name: limited, namespace: {{Ns.Name}}}]
            """).ToList();
        role[0]["rules"] = rules.DeepClone();
        foreach (var verbs in role[0]["rules"]!.AsArray().Select(rule => rule!["verbs"]!.AsArray()))
            if (verbs.FirstOrDefault(verb => (string?)verb == without) is { } verb) verbs.Remove(verb);
        return Ns.Api.Apply(role);
    }
}
