// How the objects are read.

using System.Text.Json;
using System.Text.Json.Serialization;

namespace OMJobs;

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
