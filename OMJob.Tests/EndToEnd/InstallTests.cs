// From nothing to a finished OMJob, as the README installs it: the commands as users give them; the operator and the
// chart's hook run as processes in the place of their pods. They run alone, for such an operator watches all namespaces.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

[CollectionDefinition(nameof(InstallTests), DisableParallelization = true)]
[Collection(nameof(InstallTests))]
public class InstallTests(TestCluster cluster) : ClusterTest(cluster)
{
    const string Home = "openmetadata", Name = "openmetadata-omjob-operator";
    // The suite has installed the CRDs.
    const string Chart = $"{Name} chart -n {Home} --create-namespace --set crds.install=false";

    public static TheoryData<string, string> Ways => new()
    {
        { "kubectl", $"""
            kubectl apply -f crd.yaml
            kubectl apply -f deploy.yaml
            """ },
        { "kustomize", "kubectl apply -k ." },
        { "chart", $"helm install {Name} chart -n {Home} --create-namespace --take-ownership" },
    };

    [Theory, MemberData(nameof(Ways))]
    public async Task From_nothing_to_a_finished_OMJob(string way, string commands)
    {
        TestContext.Current.TestOutputHelper?.WriteLine($"by {way}");
        await using var nothing = await Nothing();
        foreach (var command in commands.Split('\n')) await Do(command);
        await Do($"kubectl -n {Home} rollout status deployment/{Name} --timeout=120s");
        await Do($"kubectl -n {Ns.Name} apply -f examples/omjob.yaml");
        await Do($"kubectl -n {Ns.Name} wait --for=condition=Finished omjob --all --timeout=120s");
        Assert.Contains("Succeeded", await Do($"kubectl -n {Ns.Name} get omjobs"));
        Assert.Contains("pipelineStatus=success", Ns.Logs("om-job-hello-2b7d4c10-exit"));
    }

    [Fact]
    public async Task F6_uninstalled_while_ten_runs_go_on_it_hangs_nowhere_and_whoever_comes_next_ends_them()
    {
        Tier.Full("helm uninstall takes half a minute");
        await using var nothing = await Nothing();
        await Do($"helm install {Chart} --set watchNamespaces={{{Ns.Name}}}");
        var jobs = Enumerable.Range(1, 10).Select(i => new JobBuilder($"run-{i}", "sleep 600")).ToList();
        jobs.ForEach(job => job.Exit("script", "echo $pipelineStatus"));
        foreach (var job in jobs) await Ns.Create(job);
        foreach (var job in jobs) await Ns.Phase(job, "Running");
        await Do($"helm uninstall {Name} -n {Home}");
        foreach (var job in jobs)
        {
            Assert.Empty((await Ns.Api.Get(Paths.OMJob(Ns.Name, job.Name))).Finalizers());
            Assert.Empty((await Ns.Api.Get(Paths.Pod(Ns.Name, $"{job.Name}-main"))).Finalizers());
            await Ns.Warning(job, "Released in phase Running: no exit handler runs");
        }
        Assert.Equal("", await Left());
        foreach (var job in jobs) await Ns.Tell($"{job.Name}-main", "exit", "0");
        await Do($"helm install {Chart} --set watchNamespaces={{{Ns.Name}}}");
        foreach (var job in jobs) await Ns.Ends(job, "Succeeded", adopted: true);
    }

    [Fact]
    public async Task Run_defaults_that_change_replace_the_operator_while_a_run_goes_on()
    {
        await using var nothing = await Nothing();
        var values = $"{Chart} --set watchNamespaces={{{Ns.Name}}}";
        await Do($"helm install {values} --set runDefaults.activeDeadlineSeconds=700");
        var (before, after) = (new JobBuilder("before", "sleep 600"), new JobBuilder("after"));
        await Ns.Create(before);
        await Ns.Phase(before, "Running");
        var first = await Operators();
        await Do($"helm upgrade {values} --set runDefaults.activeDeadlineSeconds=800");
        await Do($"kubectl -n {Home} rollout status deployment/{Name} --timeout=120s");
        await Eventually.True("the first one is gone", async () => !(await Operators()).Intersect(first).Any());
        await Ns.Create(after);
        await Ns.Ends(after, "Succeeded");
        await Ns.Tell("before-main", "exit", "3");
        await Ns.Ends(before, "Failed");
        long? Deadline(string job) => Ns.History.Last(n => n.Object.Name() == $"{job}-main")
            .Object.Long("spec", "activeDeadlineSeconds");
        Assert.Equal((700, 800), (Deadline("before"), Deadline("after")));
    }

    public static TheoryData<string, string[]> ValueSets => new()
    {
        { "its own", [] },
        { "two namespaces", ["watchNamespaces=[\"default\",\"kube-system\"]", "replicas=2", "crds.install=false"] },
        { "all clocks and run defaults", [
            """clocks={"startDeadline":"2h","exitHandlerDeadline":"5m","exitHandlerRetries":7,"lostPodSlack":"90s"}""",
            """runDefaults={"activeDeadlineSeconds":21600,"mainPodSpec":{"labels":{"team":"data"}}}""",
            """log={"level":"debug","format":"json"}"""] },
        { "a place for the pods", [
            """nodeSelector={"disk":"ssd"}""", """tolerations=[{"key":"infra","operator":"Exists"}]""",
            """affinity={"podAffinity":{}}""",
            "priorityClassName=\"system-cluster-critical\"", """labels={"team":"data"}""", """annotations={"a/b":"c"}""",
            """image={"pullPolicy":"Always","pullSecrets":[{"name":"registry"}]}"""] },
        { "all that goes beside", [
            "podMonitor.enabled=true", "prometheusRule.enabled=true", "dashboard.enabled=true",
            "networkPolicy.enabled=true", """networkPolicy.apiServer.cidrs=["192.0.2.10/32"]""",
            "podDisruptionBudget.enabled=true"] },
    };

    /// <summary>What kubectl apply --dry-run=server does, with each object that the hook needs, too.</summary>
    [Theory, MemberData(nameof(ValueSets))]
    public async Task The_API_server_takes_what_the_chart_makes(string what, string[] values)
    {
        Assert.SkipUnless(TestCluster.IsReal, "the sandbox knows neither policies nor the Prometheus operator's kinds");
        var folder = Directory.CreateTempSubdirectory("omjob-chart-");
        try
        {
            await PrometheusKinds();
            var version = $"1.{await TestCluster.Minor()}.0";
            var made = await Do($"helm template {Name} chart -n {Ns.Name} --kube-version {version}",
                [.. values.SelectMany(v => (string[])["--set-json", v])]);
            var file = Path.Combine(folder.FullName, "made.yaml");
            await File.WriteAllTextAsync(file, made, TestContext.Current.CancellationToken);
            var said = (await Do($"kubectl apply --dry-run=server -f {file}")).TrimEnd().Split('\n');
            Assert.Equal(Json.Yaml(made).Count, said.Length);
            Assert.All(said, line => Assert.EndsWith("(server dry run)", line, StringComparison.Ordinal));
            TestContext.Current.TestOutputHelper?.WriteLine($"{what}: {said.Length} objects");
        }
        finally
        {
            folder.Delete(true);
        }
    }

    /// <summary>As much as has to be there for objects of these kinds to be taken.</summary>
    async Task PrometheusKinds()
    {
        foreach (var kind in (string[])["PodMonitor", "PrometheusRule"])
        {
            var plural = $"{kind.ToLowerInvariant()}s";
            await Ns.Api.Apply(Json.Yaml($$"""
                apiVersion: apiextensions.k8s.io/v1
                kind: CustomResourceDefinition
                metadata: {name: {{plural}}.monitoring.coreos.com}
                spec:
                  group: monitoring.coreos.com
                  scope: Namespaced
                  names: {plural: {{plural}}, kind: {{kind}} }
                  versions:
                    - name: v1
                      served: true
                      storage: true
                      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true} }
                """));
            await Eventually.True($"{plural} are served", async () =>
                await Ns.Api.Find($"/apis/monitoring.coreos.com/v1/namespaces/{Ns.Name}/{plural}") is not null);
        }
    }

    /// <summary>Runs a command as a user does, with an administrator's rights; it has to succeed.</summary>
    async Task<string> Do(string command, params string[] more)
    {
        string[] words = [.. command.Split(' '), .. more];
        var (code, output, errors) = await Tool.Run(words[0], words[1..],
            ("KUBECONFIG", TestCluster.AdminKubeconfig), ("HOME", TestCluster.Folder));
        var shown = command.StartsWith("helm template", StringComparison.Ordinal) ? "" : output;
        TestContext.Current.TestOutputHelper?.WriteLine($"$ {command}\n{shown}");
        Assert.True(code == 0, $"{command}: {errors}{output}");
        return output;
    }

    /// <summary>Takes away what the suite has installed; disposed of, what the test has, and puts that back.</summary>
    async Task<Emptied> Nothing()
    {
        var foreign = (await Ns.Api.List(Paths.Nodes)).Any(n => n.Name() != TestCluster.Kubelet.Node);
        // The account is made anew within seconds, and its old token's secret may still be what a pod is given.
        Assert.SkipWhen(await TestCluster.Minor() < 24, "tokens of accounts are secrets before Kubernetes 1.24");
        Assert.SkipWhen(foreign, "the cluster has nodes of its own, which would run the operator's image");
        await Do($"kubectl delete serviceaccount -n {Home} {Name} --ignore-not-found");
        await Do($"kubectl delete clusterrole,clusterrolebinding {Name} --ignore-not-found");
        return new(this);
    }

    sealed class Emptied(InstallTests test) : IAsyncDisposable
    {
        public async ValueTask DisposeAsync()
        {
            await test.Do($"helm uninstall {Name} -n {Home} --no-hooks --ignore-not-found");
            await test.Do($"kubectl -n {Home} delete deployment {Name} --ignore-not-found");
            await test.TestCluster.Install();
        }
    }

    async Task<string[]> Operators() => [.. (await Ns.Api.List(
        $"{Paths.Pods(Home)}?labelSelector=app.kubernetes.io/component=omjob-operator"))
        .Where(p => p.At("metadata", "deletionTimestamp") is null).Select(p => p.Name())];

    /// <summary>What there is of the release, by its label.</summary>
    async Task<string> Left() => await Do("kubectl get deployments,jobs,pods,configmaps,secrets,serviceaccounts,roles," +
        $"rolebindings,clusterroles,clusterrolebindings --all-namespaces -l app.kubernetes.io/instance={Name} -o name");
}
