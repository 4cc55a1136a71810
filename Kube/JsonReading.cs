// Reading and writing JSON that may be anything.

using System.Buffers;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace OMJobs;

/// <summary>A time that the phase machine can reckon with.</summary>
sealed class ApiTime : JsonConverter<DateTimeOffset>
{
    public override DateTimeOffset Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
        Text.Reckonable(reader.GetDateTimeOffset());

    public override void Write(Utf8JsonWriter writer, DateTimeOffset value, JsonSerializerOptions options) =>
        writer.WriteStringValue(value);
}

/// <summary>Reading JSON that may be anything: what is not there, or of another type, is nothing.</summary>
static class JsonReading
{
    public static JsonElement Get(this JsonElement json, string name) =>
        json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) ? value : default;
    public static string? Text(this JsonElement json, string name) =>
        json.Get(name) is { ValueKind: JsonValueKind.String } text ? text.GetString() : null;
    public static string? Text(this JsonElement json, string name, int most) =>
        json.Text(name) is { } text ? OMJobs.Text.Truncate(text, most) : null;
    public static long? Number(this JsonElement json, string name) =>
        json.Get(name) is { ValueKind: JsonValueKind.Number } number && number.TryGetInt64(out var n) ? n : null;
    public static DateTimeOffset? Time(this JsonElement json, string name) =>
        json.Get(name) is { ValueKind: JsonValueKind.String } t && t.TryGetDateTimeOffset(out var value)
            ? OMJobs.Text.Reckonable(value) : null;
    public static IEnumerable<JsonProperty> Fields(this JsonElement json) =>
        json.ValueKind == JsonValueKind.Object ? json.EnumerateObject() : [];
    public static IEnumerable<JsonElement> Items(this JsonElement json) =>
        json.ValueKind == JsonValueKind.Array ? json.EnumerateArray() : [];

    /// <summary>Nothing where it is null or empty: the chart's own CRD prunes a security context to {}.</summary>
    public static JsonElement OrNothing(this JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.Null => default,
        JsonValueKind.Object => json.EnumerateObject().Any() ? json : default,
        JsonValueKind.Array => json.GetArrayLength() > 0 ? json : default,
        JsonValueKind.String => json.GetString() is "" ? default : json,
        _ => json,
    };

    public static JsonNode? Node(this JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.Object => JsonObject.Create(json),
        JsonValueKind.Array => JsonArray.Create(json),
        _ => JsonValue.Create(json),
    };

    public static void Give(this JsonObject json, string name, JsonElement value)
    {
        if (value.ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null)) json[name] = value.Node();
    }

    public static byte[] Bytes(this JsonObject json)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        using (var writer = new Utf8JsonWriter(buffer, new() { MaxDepth = Json.MostDepth })) json.WriteTo(writer);
        return buffer.WrittenSpan.ToArray();
    }

    public static bool IsFinished(this Phase phase) => phase is Phase.Succeeded or Phase.Failed;

    /// <summary>Awaits without throwing: for waits that end by cancellation or time.</summary>
    public static async Task Quietly(this Task task) => await Task.WhenAny(task);
}

static class Text
{
    /// <summary>Short enough for an event, whose message should stay within 1,024 bytes.</summary>
    public static string Truncate(string text, int most = 900) =>
        text.Length <= most ? text : text[..(char.IsHighSurrogate(text[most - 1]) ? most - 1 : most)] + "…";

    public static string? Pair(string? reason, string? message) =>
        string.IsNullOrEmpty(reason) ? null
            : Truncate(reason, 500) + (string.IsNullOrEmpty(message) ? "" : $": {Truncate(message, 300)}");

    public static string Join(string main, string? handler) =>
        string.IsNullOrEmpty(handler) ? main : Truncate($"{Truncate(main, 500)}; {handler}");

    /// <summary>At most ten years, so that no sum of times overflows.</summary>
    public static TimeSpan Seconds(long seconds) => TimeSpan.FromSeconds(Math.Clamp(seconds, 0, 315_360_000));

    /// <summary>Years away from both ends of time, so that no sum of times overflows.</summary>
    public static DateTimeOffset Reckonable(DateTimeOffset time) => time < Earliest ? Earliest
        : time > Latest ? Latest : time;

    static readonly DateTimeOffset Earliest = new(1900, 1, 1, 0, 0, 0, default), Latest = Earliest.AddYears(7000);

    public static string Duration(TimeSpan span) =>
        span.TotalSeconds % 3600 == 0 ? $"{span.TotalHours}h"
            : span.TotalSeconds % 60 == 0 ? $"{span.TotalMinutes}m" : $"{span.TotalSeconds}s";

    /// <summary>Whole seconds, UTC, with a trailing Z.</summary>
    public static string? Time(DateTimeOffset? time) =>
        time?.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
