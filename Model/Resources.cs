// The kinds of objects that the operator deals with, and how they are read.

using System.Text.Json.Serialization;

namespace OMJobs;

static class Resources
{
    public const string ApiVersion = "pipelines.openmetadata.org/v1";

    public static readonly Resource
        Pods = new("v1", "Pod", ModelJson.Default.PodObject, ModelJson.Default.WatchEventPodObject),
        OMJobs = new(ApiVersion, "OMJob", ModelJson.Default.JobObject, ModelJson.Default.WatchEventJobObject),
        CronOMJobs = new(ApiVersion, "CronOMJob", ModelJson.Default.CronObject, ModelJson.Default.WatchEventCronObject);
}

/// <summary>Source-generated JSON of the kinds that the operator deals with.</summary>
[JsonSourceGenerationOptions(GenerationMode = JsonSourceGenerationMode.Metadata,
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, MaxDepth = JsonReading.MostDepth,
    Converters = [typeof(ApiTime)])]
[JsonSerializable(typeof(WatchEvent<JobObject>))]
[JsonSerializable(typeof(WatchEvent<PodObject>))]
[JsonSerializable(typeof(WatchEvent<CronObject>))]
sealed partial class ModelJson : JsonSerializerContext
{
    /// <summary>The pods' security context where the OMJob gives none; Pod Security "restricted" admits it.</summary>
    public static readonly JsonElement DefaultSecurity = Parse("""
        {"runAsNonRoot":true,"runAsUser":1000,"runAsGroup":1000,"fsGroup":1000,
         "seccompProfile":{"type":"RuntimeDefault"}}
        """);
    public static readonly JsonElement DefaultContainerSecurity =
        Parse("""{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":false,"capabilities":{"drop":["ALL"]}}""");

    static JsonElement Parse(string json)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.Clone();
    }
}
