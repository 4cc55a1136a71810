// The operator in the place of upstream's: under the rights and the environment that the OpenMetadata chart gives it,
// with a Role in each of two watched namespaces. The API server in memory does not check rights.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class ChartTests(Cluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task With_the_charts_rights_and_environment_all_ends_well_in_two_namespaces_and_nothing_is_forbidden()
    {
        await using var second = await Cluster.NewNamespace();
        await using var process = await OfTheChart(second);
        foreach (var ns in (TestNamespace[])[Ns, second])
        {
            await ns.Create(new JobBuilder("job"));
            await ns.Create(new JobBuilder("failing", "exit 3"));
            await ns.Create(new JobBuilder("scheduled"), "cron", "* * * * *");
        }
        foreach (var ns in (TestNamespace[])[Ns, second])
        {
            await Ended(ns, "job", "Succeeded");
            await Ended(ns, "failing", "Failed");
            await Ended(ns, "cron-", "Succeeded");
        }
        Assert.DoesNotContain("forbidden", process.Log, StringComparison.OrdinalIgnoreCase);
        var path = Paths.Core(second.Name, "events");
        Assert.Contains(await Ns.Api.List(path), e => e.Text("reason") == "OMJobOperator");
    }

    static Task Ended(TestNamespace ns, string name, string phase) =>
        Eventually.True($"{ns.Name}/{name} is {phase}", async () => (await ns.Api.List(Paths.OMJobs(ns.Name)))
            .Any(j => j.Name().StartsWith(name, StringComparison.Ordinal) && j.Text("status", "phase") == phase));

    /// <summary>A process with the variables that the chart sets; each namespace gives it the chart's Role.</summary>
    async Task<OperatorProcess> OfTheChart(TestNamespace second)
    {
        var account = """{"metadata": {"name": "omjob-operator"} }""";
        await Ns.Api.Create(Paths.Core(Ns.Name, "serviceaccounts"), Json.Object(account));
        foreach (var ns in (TestNamespace[])[Ns, second])
            await Ns.Api.Apply(Json.Yaml($$"""
                apiVersion: rbac.authorization.k8s.io/v1
                kind: Role
                metadata: {name: omjob-operator, namespace: {{ns.Name}}}
                rules:
                  - apiGroups: [pipelines.openmetadata.org]
                    resources: [omjobs, cronomjobs]
                    verbs: [get, list, watch, create, update, patch, delete]
                  - apiGroups: [pipelines.openmetadata.org]
                    resources: [omjobs/status, cronomjobs/status]
                    verbs: [get, update, patch]
                  - apiGroups: [""]
                    resources: [pods]
                    verbs: [get, list, watch, create, update, patch, delete]
                  - {apiGroups: [""], resources: [pods/status], verbs: [get, watch]}
                  - {apiGroups: [""], resources: [pods/log], verbs: [get]}
                  - {apiGroups: [""], resources: [events], verbs: [create, patch]}
                  - {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}
                  - {apiGroups: [""], resources: [secrets], verbs: [get, list]}
                ---
                apiVersion: rbac.authorization.k8s.io/v1
                kind: RoleBinding
                metadata: {name: omjob-operator, namespace: {{ns.Name}}}
                roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: omjob-operator}
                subjects: [{kind: ServiceAccount, name: omjob-operator, namespace: {{Ns.Name}}}]
                """));
        var token = await Cluster.Token(Ns.Name, "omjob-operator");
        var process = new OperatorProcess(Cluster.Kubeconfig(ofAnother: token), new Dictionary<string, string>
        {
            ["WATCH_NAMESPACES"] = $"{Ns.Name},{second.Name}",
            ["LOG_LEVEL"] = "INFO",
            ["OPERATOR_NAMESPACE"] = Ns.Name,
            ["RECONCILIATION_THREADS"] = "5",
            ["POLLING_INTERVAL_SECONDS"] = "10",
            ["REQUEUE_DELAY_SECONDS"] = "30",
        });
        await process.Ready();
        return process;
    }
}
