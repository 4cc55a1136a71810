// Pods that the API server will not have: for now, which is waited for, or ever, which ends the run in its words.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class RefusalTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task G14_H14_a_quota_is_waited_for_and_said_to_be_in_the_way()
    {
        await Ns.ForbidPods();
        await Ns.Operator();
        var job = new JobBuilder("patient");
        await Ns.Create(job);
        await Ns.Warning(job, "quota");
        await Ns.Message(job, "quota");
        await Ns.AllowPods();
        await Ns.Ends(job, "Succeeded");
    }

    [Fact]
    public async Task G14_H14_a_quota_in_the_way_of_the_exit_handler_is_waited_for_too()
    {
        await Ns.Operator();
        var job = new JobBuilder("patient", "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("patient-main", "Running");
        await Ns.ForbidPods();
        await Ns.Tell("patient-main", "exit", "0");
        await Ns.Message(job, "quota");
        await Ns.AllowPods();
        await Ns.Ends(job, "Succeeded");
    }

    /// <summary>The pod is called invalid then, as it is where it can never be a pod.</summary>
    [Fact]
    public async Task G14_a_limit_range_in_the_way_of_the_exit_handler_is_waited_for_too()
    {
        await Ns.Operator();
        var job = new JobBuilder("patient", "sleep 600")
            .With("exitHandlerSpec.resources", """{"requests": {"memory": "128Mi"} }""");
        await Ns.Create(job);
        await Ns.PodPhase("patient-main", "Running");
        await Ns.LimitMemory("64Mi");
        await Ns.Tell("patient-main", "exit", "0");
        const string words = "exit handler is blocked: Pod \"patient-exit\" is invalid: spec.containers[0].resources" +
            ".requests: Invalid value: \"128Mi\": must be less than or equal to memory limit";
        await Ns.Message(job, $"Main pod succeeded; {words}");
        await Ns.Warning(job, words);
        await Ns.UnlimitMemory();
        await Ns.Ends(job, "Succeeded");
    }

    [Fact]
    public async Task A_service_account_that_comes_late_is_waited_for()
    {
        await Ns.Operator();
        var job = new JobBuilder("early").With("mainPodSpec.serviceAccountName", "\"late\"");
        await Ns.Create(job);
        await Ns.Message(job, "late");
        await Ns.Api.Apply(Json.Yaml($$"""
            {apiVersion: v1, kind: ServiceAccount, metadata: {name: late, namespace: {{Ns.Name}} } }
            """));
        await Ns.Ends(job, "Succeeded");
    }

    /// <summary>Its namespace enforces the restricted standard, as that of every test does.</summary>
    [Fact]
    public async Task What_the_OpenMetadata_server_asks_for_is_admitted_under_Pod_Security_and_root_is_refused()
    {
        await Ns.Api.Apply(Json.Yaml($$"""
            {apiVersion: v1, kind: ServiceAccount, metadata: {name: openmetadata-ingestion, namespace: {{Ns.Name}} } }
            """));
        await Ns.Admits("openmetadata-ingestion");
        await Ns.Operator();
        var servers = JobBuilder.Example("openmetadata-omjob.yaml").Main("script", "exit 0").Exit("script", "exit 0");
        Assert.Null(servers.Spec.At("mainPodSpec", "securityContext", "seccompProfile"));
        await Ns.Create(servers);
        await Ns.Ends(servers, "Succeeded");
        Assert.SkipUnless(await TestCluster.Minor() >= 25, "nothing enforces Pod Security before Kubernetes 1.25");
        var root = new JobBuilder("root").With("mainPodSpec.securityContext", """{"runAsUser": 0}""");
        await Ns.Create(root);
        const string words = "violates PodSecurity \"restricted:latest\": runAsNonRoot != true (pod or container " +
            "\"main\" must set securityContext.runAsNonRoot=true), runAsUser=0 (pod and container \"main\" must not " +
            "set runAsUser=0)";
        await Ns.Message(root, words);
        await Ns.Warning(root, words);
        await Ns.Api.Patch($"{Paths.Namespaces}/{Ns.Name}",
            Json.Yaml("metadata: {labels: {pod-security.kubernetes.io/enforce: privileged} }").Single());
        await Ns.Ends(root, "Succeeded");
    }

    [Fact]
    public async Task G15_a_main_pod_that_stays_invalid_for_a_minute_fails_in_the_API_servers_words_and_holds_up_no_other()
    {
        Tier.Full("it waits for a minute");
        await Ns.Operator();
        var invalid = new JobBuilder("invalid").With("mainPodSpec.env", """[{"name": "no=name", "value": "x"}]""");
        var good = new JobBuilder("good");
        await Ns.Create(invalid);
        await Ns.Create(good);
        var run = await Ns.Ends(invalid, "Failed", mains: 0, seconds: 240);
        Assert.Contains("no=name", run.Message);
        Assert.Equal("pipelineStatus=failed\n", Ns.Logs("invalid-exit"));
        await Ns.Ends(good, "Succeeded");
    }

    [Fact]
    public async Task G15_H7_an_exit_handler_that_stays_invalid_for_its_deadline_fails_in_the_API_servers_words()
    {
        await Ns.Operator("--exit-handler-deadline", "5s");
        var job = new JobBuilder("invalid").With("exitHandlerSpec.env", """[{"name": "no=name", "value": "x"}]""");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Failed", attempts: 0);
        Assert.Equal(0, run.ExitCode);
        Assert.Contains("no=name", run.Message);
    }
}
