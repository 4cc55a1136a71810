// The OMJob that a schedule creates, as JSON.

using System.Text.Json;
using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests;

public sealed class CronRunTests
{
    const string RunId = "2b7d4c10-6c0e-4f57-9d35-0a1c8e5b7f42";

    static JsonObject Build(ACron cron) =>
        JsonNode.Parse(Runs.Build(cron.Cron, cron.Live, Moment.Now, RunId))!.AsObject();

    static void AssertJson(string wanted, JsonNode? actual) =>
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(wanted), actual), $"{actual?.ToJsonString()} is not {wanted}");

    [Theory]
    [InlineData("hourly", "hourly-1769860800")]
    [InlineData("om-cronomjob-f755d344-03e8-4fef-a168-a9c8bdff52ce",
        "om-cronomjob-f755d344-03e8-4fef-a168-a9c8bdff52ce-1769860800")]
    [InlineData("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-first-scheduled-run",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-388eeb-1769860800")]
    public void It_is_named_after_the_CronOMJob_and_its_tick(string cron, string expected)
    {
        Assert.Equal(expected, Runs.Name(cron, Moment.Now));
        Assert.Equal(expected, (string?)Build(ACron.Hourly().Named(cron))["metadata"]!["name"]);
        Assert.InRange(expected.Length, 1, 63);
    }

    [Fact]
    public void A_tick_has_the_same_name_in_every_zone() => Assert.Equal(
        Runs.Name("hourly", Moment.Now), Runs.Name("hourly", Moment.Now.ToOffset(TimeSpan.FromHours(-5))));

    [Fact]
    public void It_belongs_to_the_CronOMJob_and_blocks_nothing() => AssertJson("""
        [{"apiVersion": "pipelines.openmetadata.org/v1", "kind": "CronOMJob", "name": "hourly", "uid": "uid-of-hourly",
          "controller": true, "blockOwnerDeletion": false}]
        """, Build(ACron.Hourly())["metadata"]!["ownerReferences"]);

    [Fact]
    public void It_is_born_with_the_finalizer_that_its_exit_handler_needs() =>
        AssertJson($"""["{Job.Finalizer}"]""", Build(ACron.Hourly())["metadata"]!["finalizers"]);

    [Fact]
    public void It_carries_labels_and_annotations_but_not_kubectls()
    {
        var meta = Build(ACron.Hourly()
            .WithMetadata("labels", """{"app.kubernetes.io/pipeline": "hello", "app.kubernetes.io/run-id": "old"}""")
            .WithMetadata("annotations",
                """{"team": "data", "kubectl.kubernetes.io/last-applied-configuration": "{}"}"""))["metadata"]!;
        AssertJson($$"""{"app.kubernetes.io/pipeline": "hello", "app.kubernetes.io/run-id": "{{RunId}}"}""",
            meta["labels"]);
        AssertJson("""{"team": "data"}""", meta["annotations"]);
    }

    [Fact]
    public void Placeholders_are_replaced_in_both_pods_by_exact_match_only()
    {
        const string env = """
            [{"name": "pipelineRunId", "value": "{{ omjob.uid }}"}, {"name": "jobName", "value": "{{ omjob.name }}"},
             {"name": "pipelineRunId", "value": "{{omjob.uid}}"}, {"name": "jobName", "value": "x {{ omjob.name }}"},
             {"name": "pipelineRunId", "value": "{{ omjob.name }}"}, {"name": "jobName", "value": "{{ omjob.uid }}"},
             {"name": "other", "value": "{{ omjob.uid }}"}, {"name": "jobName"},
             {"name": "pipelineRunId", "value": null},
             {"name": "jobName", "valueFrom": {"fieldRef": {"fieldPath": "{{ omjob.name }}"}}}, 5, null]
            """;
        const string runId = "\"pipelineRunId\", \"value\": ", name = "\"jobName\", \"value\": ";
        var replaced = env.Replace(runId + "\"{{ omjob.uid }}\"", $"{runId}\"{RunId}\"", StringComparison.Ordinal)
            .Replace(name + "\"{{ omjob.name }}\"", name + "\"hourly-1769860800\"", StringComparison.Ordinal);
        var template = $$"""{"mainPodSpec": {"env": {{env}} }, "exitHandlerSpec": {"env": {{env}} } }""";
        AssertJson($$"""{"mainPodSpec": {"env": {{replaced}} }, "exitHandlerSpec": {"env": {{replaced}} } }""",
            Build(ACron.Hourly().WithSpec("omJobSpec", JsonNode.Parse(template)))["spec"]);
    }

    [Theory] // H4
    [InlineData("""{"mainPodSpec": {"tolerations": [{"key": "x", "new": [1.50, null, {"deep": {}}]}]}, "new": {"a": 1}}""")]
    [InlineData("""{"mainPodSpec": "text", "exitHandlerSpec": null, "ttlSecondsAfterFinished": 60}""")]
    [InlineData("""{"mainPodSpec": {"env": {"name": "jobName", "value": "{{ omjob.name }}"}}, "new": []}""")]
    public void H4_everything_else_is_copied_whole(string template) => Assert.Equal(
        JsonSerializer.Serialize(JsonNode.Parse(template)),
        Build(ACron.Hourly().WithSpec("omJobSpec", JsonNode.Parse(template)))["spec"]!.ToJsonString());
}
