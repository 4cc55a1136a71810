// Objects of any kind, as the API server sends them and as the cache keeps them.

using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace OMJobs;

/// <summary>A kind of object: what it is called, where the API server has it and how it is read.</summary>
sealed class Resource(string apiVersion, string kind, JsonTypeInfo item, JsonTypeInfo watchEvent)
{
    public string ApiVersion => apiVersion;
    public string Kind => kind;
    public string Plural { get; } = $"{kind}s".ToLowerInvariant();
    public JsonTypeInfo ItemType => item;
    public JsonTypeInfo EventType => watchEvent;

    /// <summary>Where those of a namespace are; empty: all of them.</summary>
    public string Path(string ns) => (apiVersion.Contains('/') ? "/apis/" : "/api/") + apiVersion
        + (ns.Length == 0 ? "" : $"/namespaces/{ns}") + "/" + Plural;
}

/// <summary>An object's namespace, name and kind. In a queue it may be of none.</summary>
readonly record struct Key(string Namespace, string Name, Resource? Resource = null)
{
    public string Path => $"{Resource?.Path(Namespace)}/{Name}";
    public override string ToString() => Path;
}

/// <summary>An object in the cache.</summary>
abstract record CachedObject
{
    public required Key Key { get; init; }
    public required string Uid { get; init; }
    /// <summary>Its resourceVersion.</summary>
    public required string ResourceVersion { get; init; }
    public string Namespace => Key.Namespace;
    public string Name => Key.Name;
    /// <summary>The key of what is reconciled when this changes; null: its own.</summary>
    public Key? OwnerKey { get; init; }
    /// <summary>The state itself says that it is gone, as the answer to a write that took its last finalizer.</summary>
    public virtual bool IsGone => false;
    /// <summary>A watch tells what becomes of it.</summary>
    public virtual bool IsWatched => true;
    /// <summary>This state, with what is remembered of an earlier one. ReadAt: when it was asked for; null: a watch
    /// told it.</summary>
    public virtual CachedObject Merge(CachedObject? before, DateTimeOffset? readAt) => this;
    /// <summary>Where it is: nothing of what it holds comes into a text by itself.</summary>
    public sealed override string ToString() => Key.Path;
}

/// <summary>What was seen deleted since its key was last taken.</summary>
sealed record Tombstone : CachedObject;

// The objects as the API server sends them.

interface IApiObject
{
    ObjectMeta? Metadata { get; }
    /// <summary>What is kept of it; null where it is no whole object.</summary>
    CachedObject? ToCached(DateTimeOffset now);
}

interface IWatchEvent
{
    string? Type { get; }
    IApiObject? Object { get; }
}

sealed record WatchEvent<T>(string? Type, T? Object) : IWatchEvent where T : class
{
    IApiObject? IWatchEvent.Object => Object as IApiObject;
}

sealed record ListMeta(string? ResourceVersion, string? Continue);
sealed record OwnerReference(string? ApiVersion, string? Kind, string? Name, string? Uid, bool? Controller);
sealed record StatusObject(string? Reason, string? Message, int? Code, StatusDetails? Details);
sealed record StatusDetails(string? Name, string? Kind, List<StatusCause>? Causes, int? RetryAfterSeconds);
sealed record StatusCause(string? Reason, string? Message, string? Field);

sealed record ObjectMeta(
    string? Name, string? Namespace, string? Uid, string? ResourceVersion, long? Generation,
    DateTimeOffset? CreationTimestamp, DateTimeOffset? DeletionTimestamp, long? DeletionGracePeriodSeconds,
    Dictionary<string, string>? Labels, Dictionary<string, string>? Annotations,
    List<OwnerReference>? OwnerReferences, string[]? Finalizers,
    [property: JsonConverter(typeof(HasApply))] bool? ManagedFields)
{
    /// <summary>The reference to the owner of that kind that controls it; null: there is none that could be.</summary>
    public OwnerReference? Controller(Resource resource) => OwnerReferences?.Find(o => o is { Controller: true }
        && o.ApiVersion == resource.ApiVersion && o.Kind == resource.Kind && Names.Valid(o.Name) is not null);
}

/// <summary>Of managedFields only whether somebody applies (server-side): what he owns is large, and his.</summary>
sealed class HasApply : JsonConverter<bool>
{
    public override bool Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options)
    {
        if (reader.TokenType != JsonTokenType.StartArray) { reader.Skip(); return false; }
        var (top, applies) = (reader.CurrentDepth, false);
        while (reader.Read() && reader.CurrentDepth > top)
            applies |= reader.TokenType == JsonTokenType.String && reader.CurrentDepth == top + 2
                && reader.ValueTextEquals("Apply"u8);
        return applies;
    }

    public override void Write(Utf8JsonWriter writer, bool value, JsonSerializerOptions options) =>
        throw new NotSupportedException();
}

/// <summary>One that is there and cannot be read.</summary>
sealed class UnreadableObject(string? ns, string? name) : IApiObject
{
    public ObjectMeta Metadata { get; } =
        new(name, ns, null, null, null, null, null, null, null, null, null, null, null);
    public CachedObject? ToCached(DateTimeOffset now) => null;
}

/// <summary>Source-generated JSON: no reflection at run time. API servers take JSON nested 10,000 deep.</summary>
[JsonSourceGenerationOptions(GenerationMode = JsonSourceGenerationMode.Metadata,
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, MaxDepth = JsonReading.MostDepth,
    Converters = [typeof(ApiTime)])]
[JsonSerializable(typeof(ListMeta))]
[JsonSerializable(typeof(JsonElement))]
[JsonSerializable(typeof(WatchEvent<StatusObject>))]
sealed partial class ApiJson : JsonSerializerContext;

static class Versions
{
    /// <summary>Resource versions are numbers that grow (KEP-5504).</summary>
    public static bool IsNewer(string one, string other) =>
        one.Length != other.Length ? one.Length > other.Length : string.CompareOrdinal(one, other) > 0;
}
