// An OMJob as it is read, and as it is after a write that is answered with its metadata.

using System.Text.Json;
using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests;

public sealed class JobTests
{
    static readonly (AnOMJob Job, APod Main, APod Exit)[] Steps =
    [
        (AnOMJob.Pending(), APod.MainPod(), APod.ExitPod()),
        (AnOMJob.Running(), APod.MainPod().Exited(3), APod.ExitPod()),
        (AnOMJob.Running().WithoutExitHandler(), APod.MainPod().Exited(0), APod.ExitPod()),
        (AnOMJob.Running().WithSpec("ttlSecondsAfterFinished", 7), APod.MainPod().Exited(0), APod.ExitPod()),
        (AnOMJob.HandlerRunning(), APod.MainPod().Exited(0), APod.ExitPod().Exited(0)),
        (AnOMJob.HandlerRunning(1).WithSpec("exitHandlerBackoffLimit", 2), APod.MainPod().Exited(1),
            APod.ExitPod().Exited(1, finished: -600)),
        (AnOMJob.HandlerRunning().Killed(), APod.MainPod().Exited(0), APod.ExitPod().Exited(0)),
        (AnOMJob.HandlerRunning().OwnedBy("uid-of-cron").WithLabel(LabelKeys.Pipeline, "p"), APod.MainPod().Exited(0), APod.ExitPod().Exited(0)),
    ];

    public static TheoryData<int> AllSteps => [.. Enumerable.Range(0, Steps.Length)];

    [Theory]
    [MemberData(nameof(AllSteps))]
    public void After_a_status_that_is_answered_with_metadata_an_OMJob_is_what_it_would_be_read_as(int step)
    {
        var (like, main, exit) = Steps[step];
        var decision = Moment.Decide(like.Job, main, exit, Moment.At(5));
        Assert.Equal(Act.WriteStatus, decision.Act);
        var sent = Bodies.Status(like.Job, decision.Status!, Moment.At(5), true);
        var stored = JsonNode.Parse(like.Json)!.AsObject();
        stored["metadata"]!["resourceVersion"] = "101";
        stored["status"] = JsonNode.Parse(sent)!["status"]!.DeepClone();
        var metadata = Metadata(stored);
        var read = Read(stored).ToJob()!;
        var after = Read(metadata).After(like.Job, JsonDocument.Parse(sent).RootElement.GetProperty("status"))!;
        Assert.Equal(read.Spec, after.Spec);
        Assert.Equal(read.Finalizers, after.Finalizers);
        Assert.Equal(read with { Spec = [], Finalizers = [] }, after with { Spec = [], Finalizers = [] });
    }

    [Theory]
    [InlineData("Succeeded")]
    [InlineData("Failed")]
    public void After_its_last_finalizer_that_is_answered_with_metadata_an_OMJob_is_what_it_would_be_read_as(string phase)
    {
        var like = AnOMJob.Finished(phase).AtAttempt(2).WithSpec("ttlSecondsAfterFinished", 7).OwnedBy("uid-of-cron");
        var before = like.Job;
        var stored = JsonNode.Parse(like.WithFinalizers().Json)!.AsObject();
        stored["metadata"]!["resourceVersion"] = "101";
        var metadata = Metadata(stored);
        Assert.Equal(Retained.Of(Read(stored).ToJob()!), Retained.Of(Read(metadata).After(before, null)!));
    }

    [Theory]
    [InlineData("Update", true)]
    [InlineData("Apply", false)]
    public void With_its_first_finalizer_the_owners_of_fields_are_forgotten_unless_somebody_applies(
        string operation, bool forgotten)
    {
        var job = AnOMJob.Pending().WithFinalizers("example.com/others").Managed(operation).Job;
        var patch = JsonNode.Parse(Bodies.Finalizers(job, job.Finalizers.Append(Job.Finalizer)))!["metadata"]!;
        Assert.Equal(2, patch["finalizers"]!.AsArray().Count);
        Assert.Equal(forgotten ? "[{}]" : null, patch["managedFields"]?.ToJsonString());
    }

    [Fact]
    public void With_its_last_finalizer_the_owners_of_fields_stay()
    {
        var job = AnOMJob.Finished().Managed("Update").Job;
        Assert.Null(JsonNode.Parse(Bodies.Finalizers(job, []))!["metadata"]!["managedFields"]);
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("7")]
    [InlineData("""["Apply"]""")]
    [InlineData("""[{"operation":null},{"operation":{"operation":"Apply"}},7]""")]
    public void Owners_of_fields_of_any_form_do_not_keep_an_OMJob_from_being_read(string owners)
    {
        var whole = JsonNode.Parse(AnOMJob.Running().Json)!.AsObject();
        whole["metadata"]!["managedFields"] = JsonNode.Parse(owners);
        var job = Read(whole).ToJob()!;
        Assert.Equal((false, Phase.Running), (job.IsApplied, job.Status.Phase));
    }

    static JsonObject Metadata(JsonObject job) => new()
    {
        ["kind"] = "PartialObjectMetadata",
        ["metadata"] = job["metadata"]!.DeepClone(),
    };

    static JobObject Read(JsonObject job) => job.Deserialize(ModelJson.Default.JobObject)!;
}
