// What requests carry.

namespace OMJobs;

/// <summary>The bodies of our requests.</summary>
static class Bodies
{
    /// <summary>A patch of metadata fields, refused for another UID (422) or, if given, version (409).</summary>
    public static byte[] Metadata(string uid, string? version, KeyValuePair<string, JsonNode?>[] fields)
    {
        var meta = new JsonObject { ["uid"] = uid };
        if (version is not null) meta["resourceVersion"] = version;
        foreach (var field in fields) meta.Add(field);
        return new JsonObject { ["metadata"] = meta }.Bytes();
    }

    /// <summary>Who owns which field is forgotten with the first finalizer, where nobody applies: an API server keeps
    /// accounts of it at each later write, which cost more the larger the spec is.</summary>
    public static byte[] Finalizers(Job job, IEnumerable<string> finalizers) => Metadata(job.Uid, job.ResourceVersion,
        [
            new("finalizers", new JsonArray([.. finalizers.Select(f => (JsonNode)f)])),
            .. job is { HasFinalizer: false, IsApplied: false } ? ForgetManagers : [],
        ]);

    static KeyValuePair<string, JsonNode?>[] ForgetManagers =>
        [new("managedFields", new JsonArray(new JsonObject()))]; // as the API's conventions have it

    /// <summary>F1: API servers before 1.23 add what is to be taken out of a list that is not there: so not where the
    /// pod has changed.</summary>
    public static byte[] DropFinalizer(Pod pod) => Metadata(
        pod.Uid, pod.ResourceVersion, [new("$deleteFromPrimitiveList/finalizers", new JsonArray(Pod.Finalizer))]);

    /// <summary>An OMJob that has nothing but this status: the API server takes all else from what it has stored.
    /// Whole: to replace the status; else to patch it, so that what it has no more is named.</summary>
    public static byte[] Status(Job job, JobStatus status, DateTimeOffset now, bool whole)
    {
        var fields = new JsonObject
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
        };
        string[] optional =
            ["mainPodName", "exitHandlerPodName", "startTime", "completionTime", "message", "mainPodExitCode"];
        foreach (var name in optional)
            if (whole && fields[name] is null) fields.Remove(name);
        var metadata = new JsonObject { ["uid"] = job.Uid, ["resourceVersion"] = job.ResourceVersion };
        if (!whole) return new JsonObject { ["metadata"] = metadata, ["status"] = fields }.Bytes();
        (metadata["namespace"], metadata["name"]) = (job.Namespace, job.Name);
        return new JsonObject
        {
            ["apiVersion"] = Resources.ApiVersion,
            ["kind"] = Resources.OMJobs.Kind,
            ["metadata"] = metadata,
            ["status"] = fields,
        }.Bytes();
    }

    public static byte[] Delete(string uid, string? version)
    {
        var preconditions = new JsonObject { ["uid"] = uid };
        if (version is not null) preconditions["resourceVersion"] = version;
        return new JsonObject { ["propagationPolicy"] = "Background", ["preconditions"] = preconditions }.Bytes();
    }
}
