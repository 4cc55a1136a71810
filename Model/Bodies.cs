// What requests carry.

namespace OMJobs;

/// <summary>The bodies of our requests.</summary>
static class Bodies
{
    /// <summary>A patch of one metadata field, refused for another UID (422) or, if given, version (409).</summary>
    public static byte[] Metadata(string uid, string? version, KeyValuePair<string, JsonNode?> field)
    {
        var meta = new JsonObject { ["uid"] = uid };
        if (version is not null) meta["resourceVersion"] = version;
        meta.Add(field);
        return new JsonObject { ["metadata"] = meta }.Bytes();
    }

    public static byte[] Finalizers(Job job, IEnumerable<string> finalizers) =>
        Metadata(job.Uid, job.ResourceVersion,
            new("finalizers", new JsonArray([.. finalizers.Select(f => (JsonNode)f)])));

    /// <summary>F1: API servers before 1.23 add what is to be taken out of a list that is not there: so not where the pod
    /// has changed.</summary>
    public static byte[] DropFinalizer(Pod pod) => Metadata(
        pod.Uid, pod.ResourceVersion, new("$deleteFromPrimitiveList/finalizers", new JsonArray(Pod.Finalizer)));

    public static byte[] Status(Job job, JobStatus status, DateTimeOffset now) => new JsonObject
    {
        ["metadata"] = new JsonObject { ["resourceVersion"] = job.ResourceVersion },
        ["status"] = new JsonObject
        {
            ["phase"] = status.Phase.ToString(),
            ["mainPodName"] = status.MainPodName,
            ["exitHandlerPodName"] = status.ExitPodName,
            ["startTime"] = Text.Time(status.StartTime),
            ["completionTime"] = Text.Time(status.CompletionTime),
            ["message"] = status.Message,
            ["mainPodExitCode"] = status.ExitCode,
            ["observedGeneration"] = job.Generation,
            ["conditions"] = Conditions.Of(job, status, now),
        },
    }.Bytes();

    public static byte[] Delete(string uid, string? version)
    {
        var preconditions = new JsonObject { ["uid"] = uid };
        if (version is not null) preconditions["resourceVersion"] = version;
        return new JsonObject { ["propagationPolicy"] = "Background", ["preconditions"] = preconditions }.Bytes();
    }
}
