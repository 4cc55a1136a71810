// Reading and writing JSON that may be anything.

using System.Buffers;
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
    public const int MostDepth = 11_000;

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

    public static JsonObject Copy(this JsonElement json)
    {
        var copy = new JsonObject();
        foreach (var field in json.Fields()) copy.Give(field.Name, field.Value);
        return copy;
    }

    public static JsonElement Element(this JsonObject json) =>
        JsonSerializer.Deserialize(json.Bytes(), ApiJson.Default.JsonElement);

    public static byte[] Bytes(this JsonObject json)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        using (var writer = new Utf8JsonWriter(buffer, new() { MaxDepth = MostDepth })) json.WriteTo(writer);
        return buffer.WrittenSpan.ToArray();
    }
}
