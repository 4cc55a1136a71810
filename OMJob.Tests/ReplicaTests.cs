// Two operators on one cluster: what one of them does where the other was first, and where it is gone; and others who
// write, too. Step by step on a virtual clock; the other operator is whoever writes between a look and a write.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;
using static OMJobs.Tests.Stage;

public sealed class ReplicaTests
{
    const string Job = "/apis/pipelines.openmetadata.org/v1/namespaces/data/omjobs/run",
        Main = "/api/v1/namespaces/data/pods/run-main";

    static void Annotate(Stage stage, int n) => Assert.True(stage.Ask("PATCH", Job,
        Json.Object($$"""{"metadata":{"annotations":{"beat":"{{n}}"} } }""")).Ok);

    static void Condition(Stage stage, string condition) => Assert.True(stage.Ask("PATCH", $"{Main}/status",
        Json.Object($$"""{"status":{"conditions":[{{condition}}]} }""")).Ok);

    /// <summary>A stage where another operator writes the first status of that phase, the very same, and dies.</summary>
    static Stage LateWith(string phase)
    {
        var (stage, once) = (new Stage(), false);
        stage.Fault = r =>
        {
            if (once || r.Method != HttpMethod.Put || Json.Parse(r.Body).Text("status", "phase") != phase) return null;
            once = true;
            stage.PatchJob((JsonObject)Json.Parse(r.Body)!["status"]!);
            return null;
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        return stage;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void G12_a_replica_that_was_late_acts_after_two_seconds_whatever_is_annotated(bool edits)
    {
        var (stage, once) = (new Stage(), false);
        stage.Fault = r =>
        {
            if (once || r.Method != HttpMethod.Patch || !r.Path.EndsWith("/run", StringComparison.Ordinal)) return null;
            once = true;
            Assert.True(stage.Ask("PATCH", Job,
                Json.Object($$"""{"metadata":{"finalizers":["{{OMJobs.Job.Finalizer}}"] } }""")).Ok);
            return null;
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        for (var i = 0; i < 6; i++)
        {
            if (edits) Annotate(stage, i);
            stage.Run(0.5);
        }
        Assert.InRange(stage.At("POST /api/v1/namespaces/data/pods")[0], 1.9, 2.6);
    }

    [Fact]
    public void G12_a_replica_that_was_late_acts_after_two_seconds_though_its_pod_is_ready_and_not_ready_by_turns()
    {
        var stage = LateWith("Running");
        stage.Run(3);
        Assert.Single(stage.At("PUT"));
        stage.Say("run-main", 3);
        var ended = stage.Seconds;
        for (var i = 0; i < 6; i++)
        {
            stage.Run(0.5);
            Condition(stage, $$"""{"type":"Ready","status":"{{i % 2 == 0}}"}""");
        }
        Assert.InRange(stage.At("PUT")[1], ended + 1.9, ended + 2.6);
    }

    [Fact]
    public void G12_a_replica_that_was_late_waits_ten_seconds_at_most_though_what_decides_goes_on_changing()
    {
        var stage = LateWith("Running");
        stage.Run(5);
        stage.DeleteJob();
        for (var i = 0; i < 12; i++)
        {
            stage.Run(1);
            var words = $"0/{i} nodes are available";
            if (stage.Pod("run-main") is not null)
                Condition(stage, $$"""
                    {"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"{{words}}"}
                    """);
        }
        Assert.NotNull(stage.Pod("run-main").Text("metadata", "deletionTimestamp") ?? (stage.Job is null ? "gone" : null));
    }

    [Fact]
    public void G12_one_operator_alone_is_late_for_nobody_though_somebody_edits_the_OMJob()
    {
        var (stage, conflicts) = (new Stage(), 0);
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Say("run-main", 3);
        // A quota is in the way, and an edit comes between a look and the write that says so.
        stage.Fault = r =>
        {
            if (IsCreation(r, "-exit") && stage.Seconds < 10) return Refusal(403, "Forbidden", "exceeded quota");
            if (conflicts == 0 && r.Method == HttpMethod.Put
                && Json.Parse(r.Body).Text("status", "message")!.Contains("blocked", StringComparison.Ordinal))
                Annotate(stage, --conflicts);
            return null;
        };
        for (var i = 0; i < 30; i++)
        {
            stage.Run(1);
            Annotate(stage, i);
        }
        Assert.Equal(-1, conflicts);
        Assert.NotNull(stage.Pod("run-exit"));
    }

    [Fact]
    public void G12_where_the_other_one_dies_after_the_end_all_finalizers_are_gone_two_seconds_later()
    {
        var stage = LateWith("Succeeded");
        stage.Say("run-main", 0);
        stage.Run(1);
        stage.Say("run-exit", 0);
        var ended = stage.Seconds;
        stage.Run(20);
        Assert.InRange(stage.At("PATCH /namespaces/data/omjobs/run").Last() - ended, 1.9, 2.6);
    }

    [Fact]
    public void G12_where_the_other_one_dies_a_deleted_OMJob_has_its_handler_two_seconds_later()
    {
        var stage = LateWith("Running");
        stage.Say("run-main", null);
        stage.Run(5);
        stage.DeleteJob();
        var deleted = stage.Seconds;
        for (var i = 0; i < 100 && stage.Pod("run-exit") is null; i++)
        {
            stage.Run(0.1);
            // The kubelet, at once.
            if (stage.Pod("run-main") is { } pod && pod.Text("metadata", "deletionTimestamp") is not null
                && pod.Text("status", "phase") == "Running") stage.Say("run-main", 143);
        }
        Assert.InRange(stage.Seconds - deleted, 1.9, 2.6);
    }
}
