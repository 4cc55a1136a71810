// Conditions: what follows from a status, and what of it lasts from one write to the next.

using System.Text.Json.Nodes;
using Xunit;
using static OMJobs.Tests.AnOMJob;

namespace OMJobs.Tests;

public sealed class ConditionTests
{
    /// <summary>Each condition of the status that is decided, as `type status reason`, with its message.</summary>
    static Dictionary<string, string> After(AnOMJob job, PodView main, PodView exit, double at = 0) =>
        Written(job, main, exit, at)["conditions"]!.AsArray().ToDictionary(
            c => (string)c!["type"]!, c => $"{c!["status"]} {c["reason"]}: {c["message"]}");

    static JsonNode Written(AnOMJob job, PodView main, PodView exit, double at = 0)
    {
        var decision = Moment.Decide(job.Job, main, exit, Moment.At(at));
        return JsonNode.Parse(Bodies.Status(job.Job, decision.Status!, Moment.At(at), true))!["status"]!;
    }

    static string Time(JsonNode status, string type) =>
        (string)status["conditions"]!.AsArray().Single(c => (string)c!["type"]! == type)!["lastTransitionTime"]!;

    static APod Main => APod.MainPod();

    static (string, PodView)[] MainEnds =>
    [
        ("Succeeded: Main pod succeeded", Main.Exited(0)),
        ("ExitCode: Main pod failed with exit code 3", Main.Exited(3)),
        ("OOMKilled: Main pod failed with exit code 137 (OOMKilled)", Main.Exited(137, "OOMKilled")),
        ("Evicted: Main pod failed with exit code 137 (ContainerStatusUnknown; Evicted: low on memory)",
            Main.Exited(137, "ContainerStatusUnknown").WithReason("Evicted", "low on memory")),
        ("DeadlineExceeded: Main pod failed with exit code 137 (DeadlineExceeded: too long)",
            Main.Exited(137).WithReason("DeadlineExceeded", "too long")),
        ("OutOfcpu: Main pod failed (OutOfcpu)", Main.InPhase("Failed").WithReason("OutOfcpu")),
        ("Failed: Main pod failed", Main.InPhase("Failed")),
        ("Deleted: Main pod was deleted before its end was seen", PodView.Absent),
        ("Stopped: Main pod was stopped (exit code 0 afterwards)", Main.Exited(0, finished: -1).Deleted(-20)),
        ("Lost: Main pod was lost: its node did not confirm its end within 1m", Main.Running().Deleted(-200)),
    ];

    [Fact]
    public void How_the_main_pod_ended_is_one_word()
    {
        foreach (var (expected, main) in MainEnds)
        {
            var all = After(AnOMJob.Running(), main, PodView.Unknown);
            Assert.Equal("True " + expected, all["MainPodFinished"]);
            Assert.Equal("False Running: Running", all["ExitHandlerFinished"]);
            Assert.StartsWith("False ExitHandlerRunning: ", all["Finished"], StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("Main pod was stopped: it did not start within 1h: ErrImagePull", "NotStarted")]
    [InlineData("Main pod was stopped: it ran past its activeDeadlineSeconds of 60", "DeadlineExceeded")]
    [InlineData("Main pod cannot be created: spec.x: Invalid value", "Refused")]
    [InlineData("Main pod failed with exit code 143 after the OMJob was deleted", "Stopped")]
    [InlineData("Main pod failed with exit code 3 (A (b))", "A")]
    [InlineData("Main pod failed with exit code 3 (-)", "ExitCode")]
    [InlineData("Main pod failed with exit code 3 (", "ExitCode")]
    [InlineData("Main pod failed with exit code 3 (cut", "Cut")]
    [InlineData("words of another operator", "Unknown")]
    public void A_failed_run_gives_the_main_pods_reason_although_its_handler_is_fine(string message, string reason)
    {
        var job = HandlerRunning(null).Saying(message);
        var all = After(job, Main.Exited(1), APod.ExitPod().Exited(0));
        Assert.Equal($"True {reason}: {message}", all["MainPodFinished"]);
        Assert.Equal("True Succeeded: succeeded", all["ExitHandlerFinished"]);
        Assert.Equal($"True {reason}: {message}; exit handler succeeded", all["Finished"]);
    }

    [Fact]
    public void A_run_whose_handler_fails_says_so()
    {
        var all = After(HandlerRunning().AtAttempt(4), Main.Exited(0), APod.ExitPod(4).Exited(7), 600);
        Assert.Equal("True Succeeded: Main pod succeeded", all["MainPodFinished"]);
        Assert.Equal("True ExitCode: failed with exit code 7; no attempt of 4 succeeded", all["ExitHandlerFinished"]);
        Assert.StartsWith("True ExitHandlerExitCode: ", all["Finished"], StringComparison.Ordinal);
    }

    [Fact]
    public void While_it_runs_nothing_is_finished()
    {
        var started = After(Pending(), Main, PodView.Unknown);
        Assert.Equal("False Running: Main pod was still running", started["MainPodFinished"]);
        Assert.Equal("False Waiting: Waiting", started["ExitHandlerFinished"]);
        Assert.Equal("False Running: Running", started["Finished"]);
        var retried = After(HandlerRunning(), Main.Exited(0), APod.ExitPod().Exited(7), 600);
        Assert.Equal("False Retrying: attempt 1 failed with exit code 7", retried["ExitHandlerFinished"]);
    }

    [Fact]
    public void What_blocks_a_pod_is_the_reason_of_what_it_holds_up()
    {
        var main = Pending().Job.Status with { Message = "Main pod is blocked: quota" };
        Assert.Equal(("Blocked", "Blocked"), (Conditions.MainReason(main), Conditions.Reason(main)));
        var exit = HandlerRunning().Job.Status with { Message = "Main pod succeeded; exit handler is blocked: quota" };
        Assert.Equal(("Succeeded", "Blocked"), (Conditions.MainReason(exit), Conditions.Reason(exit)));
        var again = exit with { Message = "Main pod succeeded; exit handler attempt 2 is blocked: quota" };
        Assert.Equal("Blocked", (string)Conditions.Of(HandlerRunning().Job, again, Moment.Now)[1]!["reason"]!);
    }

    [Fact]
    public void What_stands_in_the_status_counts_before_words_that_nobody_knows()
    {
        static string Reason(AnOMJob job, string message) => Conditions.MainReason(job.Saying(message).Job.Status);

        Assert.Equal("Succeeded", Reason(HandlerRunning(0), "words of another operator"));
        Assert.Equal("Unknown", Reason(HandlerRunning(1), "words of another operator"));
        Assert.Equal("Running", Reason(AnOMJob.Running(), "words of another operator"));
        Assert.Equal("Stopping", Reason(AnOMJob.Running(), "Main pod was stopped: it did not start within 1h"));
        var one = Conditions.Of(HandlerRunning().Job, HandlerRunning().Job.Status with { Message = "x" }, Moment.Now);
        Assert.Equal(["x", "Running", "x"], one.Select(condition => (string)condition!["message"]!));
    }

    [Fact]
    public void G18_without_an_exit_handler_all_ends_at_once()
    {
        var all = After(AnOMJob.Running().WithoutExitHandler(), Main.Exited(0), PodView.Unknown);
        Assert.Equal("True NoExitHandler: NoExitHandler", all["ExitHandlerFinished"]);
        Assert.Equal("True Succeeded: Main pod succeeded", all["Finished"]);
    }

    [Fact]
    public void Times_last_until_the_condition_changes_and_the_generation_is_that_of_the_spec()
    {
        var over = Written(AnOMJob.Running(), Main.Exited(0), PodView.Unknown, 1);
        Assert.Equal(Moment.Stamp(1), Time(over, "MainPodFinished"));
        Assert.Equal(Moment.Stamp(-7200), Time(over, "Finished"));
        Assert.Equal(1, (int?)over["observedGeneration"]);
        Assert.All(over["conditions"]!.AsArray(), c => Assert.Equal(1, (int?)c!["observedGeneration"]));
        var longAgo = HandlerRunning().With("conditions", JsonNode.Parse(
            """[{"type":"MainPodFinished","status":"True","lastTransitionTime":"1970-01-01T00:00:01Z"}]""")!);
        Assert.Equal("1970-01-01T00:00:01Z",
            Time(Written(longAgo, Main.Exited(0), APod.ExitPod().Exited(0), 20), "MainPodFinished"));
        var job = HandlerRunning().With("conditions", over["conditions"]!.DeepClone());
        var ended = Written(job, Main.Exited(0), APod.ExitPod().Exited(0), 20);
        Assert.Equal(Moment.Stamp(1), Time(ended, "MainPodFinished"));
        Assert.Equal(Moment.Stamp(20), Time(ended, "ExitHandlerFinished"));
        Assert.Equal(Moment.Stamp(20), Time(ended, "Finished"));
    }

    [Fact]
    public void What_the_CRD_prunes_or_somebody_wrote_there_decides_nothing()
    {
        foreach (var conditions in (string?[])[null, "5", "[]", "[7,{}]", """[{"type":"Finished","status":"True"}]"""])
        {
            var job = HandlerRunning().With("conditions", conditions is null ? null : JsonNode.Parse(conditions));
            Assert.Equal(new Decision(Act.Wait), Moment.Decide(
                job.Job, Main.Exited(0), APod.ExitPod().Running().CreatedAt(-5), Moment.Now) with
            { Wake = null });
        }
    }
}
