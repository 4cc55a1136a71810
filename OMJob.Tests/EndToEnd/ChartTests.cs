// The operator in the place of upstream's: with the CRDs, the rights and the environment that the OpenMetadata chart
// gives it, a Role in each of two watched namespaces, and OMJobs that upstream had running. It runs alone, for CRDs are
// the whole cluster's.

using System.Globalization;
using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

[CollectionDefinition(nameof(ChartTests), DisableParallelization = true)]
[Collection(nameof(ChartTests))]
public class ChartTests(TestCluster cluster) : ClusterTest(cluster)
{
    /// <summary>Fields that the chart's CRDs do not know are lost: the main pod runs without its deadline, say.</summary>
    [Fact]
    public async Task With_the_charts_CRDs_rights_and_environment_all_ends_well_in_two_namespaces()
    {
        await using var second = await TestCluster.NewNamespace();
        TestNamespace[] both = [Ns, second];
        try
        {
            await Install("OMJob.Tests/EndToEnd/chart-crds.yaml", keepsNewFields: false);
            foreach (var ns in both) await ns.UpstreamStarts(new JobBuilder("upstreams"), "sleep 600");
            var process = await OfTheChart(second);
            foreach (var ns in both)
            {
                await ns.Create(JobBuilder.Example("omjob.yaml"));
                await ns.Create(new JobBuilder("failing", "exit 3").With("activeDeadlineSeconds", "600"));
                var cron = Json.Yaml(TestCluster.Read("examples/cronomjob.yaml")).Single();
                cron["spec"]!["schedule"] = "* * * * *";
                await ns.Create(cron);
            }
            foreach (var ns in both)
            {
                await ns.Tell("upstreams-main", "exit", "0");
                await Ended(ns, "upstreams", "Succeeded");
                await Ended(ns, "om-job-hello-2b7d4c10", "Succeeded");
                await Ended(ns, "failing", "Failed");
                var run = await Ended(ns, "om-cronomjob-hello-", "Succeeded");
                Assert.Equal($"{run} ended, pipelineStatus=success\n", ns.Logs($"{run}-exit"));
                var events = await ns.Api.List(Paths.Core(ns.Name, "events"));
                Assert.Contains(events, e => e.Text("reason") == "OMJobOperator");
            }
            Assert.DoesNotContain("forbidden", process.Log, StringComparison.OrdinalIgnoreCase);
            // A status field that the CRDs drop must not be written again and again: six writes are an OMJob's share.
            var writes = (await process.Metrics()).Split('\n').Where(l =>
                l.Contains("code=\"200\",method=\"PATCH\"") || l.Contains("code=\"200\",method=\"PUT\""));
            Assert.InRange(writes.Sum(l => int.Parse(l.Split(' ')[1], CultureInfo.InvariantCulture)), 8 * 5, 100);
        }
        finally
        {
            await Install("crd.yaml", keepsNewFields: true);
        }
    }

    /// <summary>As the OpenMetadata server sends it, which can ask for none of that.</summary>
    [Fact]
    public async Task Run_defaults_reach_the_pods_of_the_server_which_its_CRDs_would_drop()
    {
        await using var second = await TestCluster.NewNamespace();
        var file = Path.GetTempFileName();
        try
        {
            await Install("OMJob.Tests/EndToEnd/chart-crds.yaml", keepsNewFields: false);
            File.Copy(Repository.File("examples/run-defaults.yaml"), file, true);
            await OfTheChart(second, ("RUN_DEFAULTS", file));
            var job = JobBuilder.Example("openmetadata-omjob.yaml").With("exitHandlerSpec.labels.team", "\"own\"");
            job.Main("script", "exit 4").Exit("script", "echo $pipelineStatus");
            foreach (var name in (string[])["mainPodSpec", "exitHandlerSpec"])
                job.With($"{name}.serviceAccountName", "\"default\"");
            await Ns.Create(job);
            await Ended(Ns, job.Name, "Failed");
            var run = new Run(Ns.History, job.Uid);
            var (main, exit) = (Assert.Single(run.Mains), Assert.Single(run.Exits));
            Assert.Equal(21600, main.Long("spec", "activeDeadlineSeconds"));
            Assert.Null(exit.Long("spec", "activeDeadlineSeconds"));
            foreach (var (pod, team) in ((JsonObject, string)[])[(main, "data-platform"), (exit, "own")])
            {
                Assert.Equal((team, "analytics"),
                    (pod.Text("metadata", "labels", "team"), pod.Text("metadata", "labels", "cost-center")));
                Assert.Contains(pod.Items("spec", "volumes"), v => v.Text("secret", "secretName") == "source-certificates");
                Assert.Contains(pod.Items("spec", "containers").Single().Items("volumeMounts"),
                    v => v.Text("mountPath") == "/etc/source-certificates");
            }
            Assert.Equal("failed\n", Ns.Logs(exit.Name()));
        }
        finally
        {
            await Install("crd.yaml", keepsNewFields: true);
            File.Delete(file);
        }
    }

    /// <summary>Returns once the API server goes by the CRDs of that file.</summary>
    async Task Install(string file, bool keepsNewFields)
    {
        await Ns.Api.Apply(Json.Yaml(TestCluster.Read(file)));
        var probe = Json.Yaml(TestCluster.Read("examples/cronomjob.yaml")).Single();
        probe["metadata"]!["name"] = "probe";
        probe["spec"]!["omJobSpec"]!["activeDeadlineSeconds"] = 600;
        await Eventually.True($"{file} is in force", async () =>
        {
            try
            {
                var taken = await Ns.Api.Create($"{Paths.CronOMJobs(Ns.Name)}?dryRun=All", probe);
                return taken.At("spec", "omJobSpec", "activeDeadlineSeconds") is not null == keepsNewFields;
            }
            catch (ApiException e) when (ApiException.Passes(e))
            {
                return false;
            }
        });
    }

    /// <summary>Waits until an OMJob whose name begins so has ended and is let go; returns the name.</summary>
    static async Task<string> Ended(TestNamespace ns, string name, string phase)
    {
        var job = await ns.Seen($"{name} is {phase}", o => o.Text("kind") == "OMJob"
            && o.Name().StartsWith(name, StringComparison.Ordinal) && o.Text("status", "phase") == phase
            && o.Finalizers().Count == 0, seconds: 120);
        Assert.Null(job.At("status", "conditions"));
        return job.Name();
    }

    /// <summary>A process with the variables that the chart sets; each namespace gives it the chart's Role.</summary>
    async Task<OperatorProcess> OfTheChart(TestNamespace second, params (string Name, string Value)[] more)
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
        var token = await TestCluster.Api.Token(Ns.Name, "omjob-operator");
        var variables = new Dictionary<string, string>
        {
            ["WATCH_NAMESPACES"] = $"{Ns.Name},{second.Name}",
            ["LOG_LEVEL"] = "INFO",
            ["OPERATOR_NAMESPACE"] = Ns.Name,
            ["RECONCILIATION_THREADS"] = "5",
            ["POLLING_INTERVAL_SECONDS"] = "10",
            ["REQUEUE_DELAY_SECONDS"] = "30",
        };
        foreach (var (name, value) in more) variables[name] = value;
        var process = Ns.Started(new OperatorProcess(TestCluster.Kubeconfig(ofAnother: token), variables));
        await process.Ready();
        return process;
    }
}
