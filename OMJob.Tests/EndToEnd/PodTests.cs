// How pods are built from what people write into an OMJob; the rest of it is checked at the end of every run.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class PodTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task An_application_brings_no_env_and_its_exit_handler_still_hears_the_outcome()
    {
        await Ns.Operator();
        var job = new JobBuilder("om-app-insights");
        job.Spec["mainPodSpec"]!.AsObject().Remove("env");
        job.Spec["exitHandlerSpec"]!.AsObject().Remove("env");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
        Assert.Equal("pipelineStatus=success\n", Ns.Logs("om-app-insights-exit"));
    }

    [Fact]
    public async Task Long_names_and_illegal_label_values_are_made_to_fit()
    {
        await Ns.Operator();
        var labels = $$"""
            {
              "team": "data & ai!", "note": "{{new string('x', 80)}}", "dots": "...",
              "app.kubernetes.io/managed-by": "openmetadata", "app.kubernetes.io/component": "ingestion",
              "omjob": "forged", "omjob.pipelines.openmetadata.org/name": "forged",
              "omjob.pipelines.openmetadata.org/uid": "forged", "omjob.pipelines.openmetadata.org/pod-type": "forged"
            }
            """;
        var job = new JobBuilder($"om-job-{new string('n', 53)}.a-long.name");
        Assert.True(job.Name.Length > 70);
        job.With("mainPodSpec.labels", labels).With("exitHandlerSpec.labels", labels);
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded");
        Assert.All(run.Mains.Concat(run.Exits), pod => Assert.InRange(pod.Name().Length, 58, 63));
    }

    [Fact]
    public async Task An_empty_valueFrom_is_dropped_and_every_other_source_arrives()
    {
        await Ns.Api.Apply(Json.Yaml($$"""
            {apiVersion: v1, kind: ConfigMap, metadata: {name: texts, namespace: {{Ns.Name}} }, data: {greeting: hi} }
            ---
            {apiVersion: v1, kind: Secret, metadata: {name: words, namespace: {{Ns.Name}} }, stringData: {x: sesame} }
            """));
        await Ns.Operator();
        var job = new JobBuilder("sources", main: "echo \"$GREETING $WORD $ME [$PRUNED] [$MISSING]\"");
        job.With("mainPodSpec.env", """
            [
              {"name": "PRUNED", "valueFrom": {}},
              {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "texts", "key": "greeting"}}},
              {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "words", "key": "x"}}},
              {"name": "MISSING", "valueFrom": {"secretKeyRef": {"name": "no", "key": "no", "optional": true}}},
              {"name": "ME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}
            ]
            """);
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
        Assert.Equal("hi sesame sources-main [] []\n", Ns.Logs("sources-main"));
    }

    [Fact]
    public async Task An_exit_handler_takes_over_the_main_pods_account_pull_secrets_and_security_context()
    {
        await Ns.Operator();
        var job = new JobBuilder("inherits")
            .With("mainPodSpec.imagePullSecrets", """[{"name": "registry"}]""")
            .With("mainPodSpec.securityContext", """{"runAsNonRoot": true, "runAsUser": 4711, "fsGroup": 4712}""");
        job.Spec["exitHandlerSpec"]!.AsObject().Remove("serviceAccountName");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
    }
}
