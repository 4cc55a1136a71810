// JSON as the store handles it: trees that are read eagerly, so that a stored object may be read by many at once, with
// integers as long and all other numbers as double, as Kubernetes itself decodes them.

using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

static class Json
{
    /// <summary>Parses one value. Throws JsonException.</summary>
    public static JsonNode? Parse(ReadOnlySpan<byte> utf8)
    {
        var reader = new Utf8JsonReader(utf8, new JsonReaderOptions { MaxDepth = 1000 });
        reader.Read();
        var node = Read(ref reader);
        if (reader.Read()) throw new JsonException("invalid character after top-level value");
        return node;
    }

    public static JsonObject Object(string text) => (JsonObject)Parse(System.Text.Encoding.UTF8.GetBytes(text))!;

    static JsonNode? Read(ref Utf8JsonReader reader)
    {
        switch (reader.TokenType)
        {
            case JsonTokenType.StartObject:
                var map = new JsonObject();
                while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
                {
                    var name = reader.GetString()!;
                    reader.Read();
                    map[name] = Read(ref reader);
                }
                return map;
            case JsonTokenType.StartArray:
                var list = new JsonArray();
                while (reader.Read() && reader.TokenType != JsonTokenType.EndArray) list.Add(Read(ref reader));
                return list;
            case JsonTokenType.String: return JsonValue.Create(reader.GetString());
            case JsonTokenType.Number: return Number(reader.TryGetInt64(out var n) ? n : null, reader.GetDouble());
            case JsonTokenType.True or JsonTokenType.False: return JsonValue.Create(reader.GetBoolean());
            default: return null;
        }
    }

    static JsonValue Number(long? whole, double real) => whole is { } n ? JsonValue.Create(n) : JsonValue.Create(real);

    public static byte[] Bytes(this JsonNode node)
    {
        var buffer = new System.Buffers.ArrayBufferWriter<byte>(1024);
        using (var writer = new Utf8JsonWriter(buffer, Writing)) node.WriteTo(writer);
        return buffer.WrittenSpan.ToArray();
    }

    public static readonly JsonWriterOptions Writing = new()
    {
        MaxDepth = 1000,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    // ----- reading: a step that is not there gives null

    public static JsonNode? At(this JsonNode? node, params ReadOnlySpan<string> path)
    {
        foreach (var step in path) node = (node as JsonObject)?[step];
        return node;
    }

    public static string? Text(this JsonNode? node, params ReadOnlySpan<string> path) =>
        node.At(path) is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    public static long? Long(this JsonNode? node, params ReadOnlySpan<string> path) =>
        node.At(path) is not JsonValue value ? null
        : value.TryGetValue(out long n) ? n : value.TryGetValue(out int small) ? small : null;

    public static DateTime? Time(this JsonNode? node, params ReadOnlySpan<string> path) =>
        node.Text(path) is { } text ? DateTime.Parse(text, null).ToUniversalTime() : null;

    public static string Name(this JsonNode? node) => node.Text("metadata", "name")!;

    public static string Uid(this JsonNode? node) => node.Text("metadata", "uid")!;

    public static List<string> Finalizers(this JsonNode? node) => node.At("metadata").Strings("finalizers");

    public static bool IsTrue(this JsonNode? node, string name) =>
        node.At(name) is JsonValue value && value.TryGetValue(out bool yes) && yes;

    public static IEnumerable<JsonObject> Items(this JsonNode? node, params ReadOnlySpan<string> path) =>
        (node.At(path) as JsonArray ?? []).OfType<JsonObject>();

    public static List<string> Strings(this JsonNode? node, string name) =>
        [.. (node.At(name) as JsonArray ?? []).Select(n => n.Text() ?? "")];

    /// <summary>The object by that name, made where it is not there.</summary>
    public static JsonObject Child(this JsonObject node, string name)
    {
        if (node[name] is JsonObject there) return there;
        var made = new JsonObject();
        node[name] = made;
        return made;
    }

    /// <summary>Sets where nothing is set.</summary>
    public static void Default(this JsonObject node, string name, JsonNode value)
    {
        if (node[name] is null) node[name] = value;
    }

    /// <summary>Sets, or removes where the value is null.</summary>
    public static void Put(this JsonObject node, string name, JsonNode? value)
    {
        if (value is null) node.Remove(name);
        else node[name] = value.Parent is null ? value : value.DeepClone();
    }

    public static JsonArray Array(IEnumerable<string> items) => [.. items.Select(i => JsonValue.Create(i))];

    public static JsonObject Clone(this JsonObject node) => (JsonObject)node.DeepClone();

    public static bool Same(JsonNode? one, JsonNode? other) => JsonNode.DeepEquals(one, other);

    /// <summary>"" (empty), {} and [] count as nothing.</summary>
    public static bool IsEmpty(this JsonNode? node) => node switch
    {
        null => true,
        JsonObject map => map.Count == 0,
        JsonArray list => list.Count == 0,
        JsonValue value => value.TryGetValue(out string? text) && text is "",
        _ => false,
    };

    /// <summary>A JSON type's name, as error messages say it.</summary>
    public static string TypeName(JsonNode? node) => node switch
    {
        null => "null",
        JsonObject => "object",
        JsonArray => "array",
        JsonValue v when v.TryGetValue<bool>(out _) => "boolean",
        JsonValue v when v.TryGetValue<long>(out _) => "integer",
        JsonValue v when v.TryGetValue<double>(out _) => "number",
        _ => "string",
    };

    public static string Time(DateTimeOffset at) =>
        at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);

    public static DateTimeOffset? ReadTime(string? text) => DateTimeOffset.TryParse(
        text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var at) ? at : null;

    // ----- YAML

    /// <summary>Every document of a YAML text, as kubectl reads it.</summary>
    public static List<JsonObject> Yaml(string text) => [.. YamlReading.Documents(text).OfType<JsonObject>()];
}
