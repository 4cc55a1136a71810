// What objects that no server sends, and words that no writer expects, must not do.

using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Xunit;
using static OMJobs.Tests.AnOMJob;
using static OMJobs.Tests.APod;

namespace OMJobs.Tests;

public sealed class EdgeCaseTests
{
    static Decision Decide(AnOMJob job, PodView main, PodView? exit = null, double at = 0) =>
        Moment.Decide(job.Job, main, exit ?? PodView.Unknown, Moment.At(at));

    [Theory] // a duration of more than an int32 holds is long, not the default
    [InlineData(9_999_999_999)]
    [InlineData(long.MaxValue)]
    public void A_TTL_of_more_than_anybody_lives_is_not_a_day(long seconds) => Assert.Equal(
        Act.Wait,
        Decide(Finished().WithFinalizers().WithSpec("ttlSecondsAfterFinished", seconds), PodView.Unknown, null, 86_400)
            .Act);

    [Theory, InlineData("9999-12-31T23:59:59Z"), InlineData("0001-01-01T00:00:00Z")]
    public void A_time_at_the_end_of_time_is_one_that_can_be_reckoned_with(string time)
    {
        Assert.NotNull(Decide(Finished().WithFinalizers().With("completionTime", time), MainPod().Exited(0).Released()));
        Assert.NotNull(Decide(Running().WithSpec("activeDeadlineSeconds", 60),
            MainPod().Exited(0).Deleted(-5).With("deletionTimestamp", time).With("creationTimestamp", time)));
    }

    [Fact] // the reason was written, then the pod started after all and ran on for hours
    public void G7_a_pod_that_started_after_all_and_failed_later_is_not_said_to_have_never_started() =>
        Assert.Equal(
            "Main pod failed with exit code 3",
            Decide(Running().Saying("Main pod was stopped: it did not start within 1h: ErrImagePull"),
                MainPod().Exited(3)).Status?.Message);

    [Fact]
    public void H1_the_main_pods_labels_come_back_while_the_handler_that_finds_it_by_them_runs() => Assert.Equal(
        Act.RestoreLabels,
        Decide(HandlerRunning(), MainPod().Exited(1).WithoutLabels(), ExitPod().Running().CreatedAt(0)).Act);

    [Fact]
    public void The_promise_holds_for_a_job_with_a_main_pod_whose_phase_somebody_overwrote() => Assert.Equal(
        Phase.ExitHandlerRunning,
        Decide(InPhase("Paused").With("mainPodName", "run-main"), PodView.Absent).Status?.Phase);

    [Theory]
    [InlineData("stdin", "true")]
    [InlineData("tty", "true")]
    [InlineData("resizePolicy", "[]")]
    public void H4_the_containers_other_fields_go_to_the_container(string field, string value) =>
        Assert.NotNull(JsonNode.Parse(
        PodTemplate.Build(Pending().WithMain($$"""{"{{field}}":{{value}} }""").Job,
            PodType.Main))!["spec"]!["containers"]![0]![field]);

    [Fact]
    public void A_long_end_of_main_leaves_room_for_the_handlers() => Assert.EndsWith(
        "; exit handler failed with exit code 1; no attempt of 4 succeeded",
        Decide(HandlerRunning().AtAttempt(4).Saying($"Main pod cannot be created: {new string('x', 870)}"
                + "; exit handler attempt 3 failed with exit code 1"),
            PodView.Absent,
            ExitPod(4).Exited(1)).Status!.Message, StringComparison.Ordinal);

    [Fact]
    public void A_handler_after_a_message_that_was_lost_is_still_told_apart_from_main()
    {
        var job = HandlerRunning().With("message", null);
        var next = Decide(job, PodView.Absent, ExitPod().Exited(1, null, -60)).Status!;
        Assert.DoesNotContain("attempt 1",
            Decide(job.AtAttempt(2).Saying(next.Message!), PodView.Absent, ExitPod(2).Exited(0))
            .Status!.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("trace,debug")]
    public void A_level_is_one_of_its_words(string level) => Assert.Throws<UsageException>(
        () => Program.ReadSettings(Program.Parse("--log-level", level), _ => null));

    static Job WithSecrets(params string[] values) => Pending().WithSpec("mainPodSpec", new JsonObject
    {
        ["env"] = new JsonArray([.. values.Select((v, i) =>
            (JsonNode)new JsonObject { ["name"] = $"e{i}", ["value"] = v })]),
    }).Job;

    [Fact]
    public void A_value_that_begins_with_another_is_hidden_whole() =>
        Assert.Equal("no ***", Secrets.Redact("no hunter2-and-more", WithSecrets("hunter2", "hunter2-and-more")));

    static readonly JsonSerializerOptions Relaxed = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    [Theory] // the API server and webhooks quote values
    [InlineData("{\"password\":\"hunter2\"}")]
    [InlineData("user: a\npassword: hunter2\n")]
    public void A_value_that_is_quoted_is_hidden_too(string value) => Assert.DoesNotContain(
        "hunter2", Secrets.Redact($"Invalid value: {JsonSerializer.Serialize(value, Relaxed)}: no",
            WithSecrets(value)), StringComparison.Ordinal);
}
