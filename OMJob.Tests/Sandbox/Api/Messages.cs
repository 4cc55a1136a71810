// What goes into the store and what comes out: requests and answers as values, and the API server's own words for what
// it refuses.

using System.Text.Json;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

/// <summary>One request. Query values are decoded; a body is JSON.</summary>
sealed record ApiRequest(string Method, string Path)
{
    public IReadOnlyDictionary<string, string> Query { get; init; } = new Dictionary<string, string>();
    public ReadOnlyMemory<byte> Body { get; init; }
    public string ContentType { get; init; } = "application/json";
    public string Accept { get; init; } = "application/json";
    public string User { get; init; } = "admin";

    /// <summary>A request for a path that may carry a query.</summary>
    public static ApiRequest To(string method, string target, ReadOnlyMemory<byte> body = default, string? type = null,
        string accept = "application/json")
    {
        var (path, query) = target.IndexOf('?', StringComparison.Ordinal) is var at and >= 0
            ? (target[..at], target[(at + 1)..]) : (target, "");
        return new(method, Uri.UnescapeDataString(path))
        {
            Query = ParseQuery(query),
            Body = body,
            ContentType = type ?? "application/json",
            Accept = accept,
        };
    }

    public static Dictionary<string, string> ParseQuery(string query)
    {
        var values = new Dictionary<string, string>();
        foreach (var pair in query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var halves = pair.Split('=', 2);
            static string Decode(string text) => Uri.UnescapeDataString(text.Replace('+', ' '));
            values.TryAdd(Decode(halves[0]), halves.Length > 1 ? Decode(halves[1]) : "");
        }
        return values;
    }

    public string Param(string name) => Query.GetValueOrDefault(name, "");
    public bool Flag(string name) => Param(name) is not ("" or "0" or "false");
}

/// <summary>One answer. Its objects are those of the store: they are to be read only.</summary>
sealed record ApiResponse(int Code, JsonObject Body)
{
    /// <summary>Of a list: what goes into `items`; then Body holds all but them.</summary>
    public IReadOnlyList<JsonObject>? Items { get; init; }
    /// <summary>The items of a list of a built-in kind do not say what they are.</summary>
    public bool BareItems { get; init; }
    /// <summary>Set where the answer is a watch.</summary>
    public Watcher? Watch { get; init; }
    /// <summary>Set where the answer is no JSON.</summary>
    public string? PlainText { get; init; }
    /// <summary>Set where the answer is a pod's log, which the store does not have.</summary>
    public JsonObject? LogOf { get; init; }
    public string? Warning { get; init; }

    public bool Ok => Code < 300;

    public byte[] Bytes()
    {
        if (PlainText is not null) return System.Text.Encoding.UTF8.GetBytes(PlainText);
        if (Items is null) return Body.Bytes();
        var buffer = new System.Buffers.ArrayBufferWriter<byte>(4096);
        using (var writer = new Utf8JsonWriter(buffer, Json.Writing))
        {
            writer.WriteStartObject();
            foreach (var (name, value) in Body) Write(writer, name, value);
            writer.WriteStartArray("items");
            foreach (var item in Items)
            {
                writer.WriteStartObject();
                foreach (var (name, value) in item)
                    if (!BareItems || name is not ("kind" or "apiVersion")) Write(writer, name, value);
                writer.WriteEndObject();
            }
            writer.WriteEndArray();
            writer.WriteEndObject();
        }
        return buffer.WrittenSpan.ToArray();
    }

    static void Write(Utf8JsonWriter writer, string name, JsonNode? value)
    {
        writer.WritePropertyName(name);
        if (value is null) writer.WriteNullValue();
        else value.WriteTo(writer);
    }

    public JsonObject ToJson() => Items is null ? Body.Clone() : (JsonObject)Json.Parse(Bytes())!;
}

/// <summary>A refusal, thrown by a rule and caught where the request came in.</summary>
sealed class RefusedException(ApiResponse response) : Exception(response.Body.Text("message"))
{
    public ApiResponse Response => response;
}

/// <summary>One thing wrong with an object.</summary>
readonly record struct Cause(string Reason, string Field, string Message)
{
    public static Cause Required(string field, string detail = "") =>
        new("FieldValueRequired", field, Join("Required value", detail));
    public static Cause Invalid(string field, string value, string detail) =>
        new("FieldValueInvalid", field, Join($"Invalid value: {value}", detail));
    public static Cause Text(string field, string value, string detail) => Invalid(field, Quote(value), detail);
    public static Cause Type(string field, string actual, string detail) =>
        new("FieldValueTypeInvalid", field, $"Invalid value: {Quote(actual)}: {detail}");
    public static Cause TooLong(string field, long most) =>
        new("FieldValueTooLong", field, $"Too long: may not be more than {most} bytes");
    public static Cause NotSupported(string field, string value, IEnumerable<string> supported) =>
        new("FieldValueNotSupported", field,
            $"Unsupported value: {value}: supported values: {string.Join(", ", supported.Select(Quote))}");
    public static Cause Duplicate(string field, string value) =>
        new("FieldValueDuplicate", field, $"Duplicate value: {Quote(value)}");
    public static Cause NotFound(string field, string value) =>
        new("FieldValueNotFound", field, $"Not found: {Quote(value)}");
    public static Cause Forbidden(string field, string detail) =>
        new("FieldValueForbidden", field, Join("Forbidden", detail));

    static string Join(string what, string detail) => detail.Length == 0 ? what : $"{what}: {detail}";

    /// <summary>As Go's %q.</summary>
    public static string Quote(string text) =>
        $"\"{text.Replace("\\", "\\\\").Replace("\"", "\\\"").Replace("\n", "\\n").Replace("\t", "\\t")}\"";
}

/// <summary>The API server's refusals.</summary>
static class Refuse
{
    public static RefusedException NotFound(ResourceType type, string name) =>
        With(404, "NotFound", $"{type.Qualified} \"{name}\" not found", Details(type, name));

    public static RefusedException Exists(ResourceType type, string name) =>
        With(409, "AlreadyExists", $"{type.Qualified} \"{name}\" already exists", Details(type, name));

    public static RefusedException Conflict(string qualified, JsonObject details, string why) => With(409, "Conflict",
        $"Operation cannot be fulfilled on {qualified} \"{details.Text("name")}\": {why}", details);

    public static RefusedException Modified(ResourceType type, string name) => Conflict(type.Qualified,
        Details(type, name),
        "the object has been modified; please apply your changes to the latest version and try again");

    public static RefusedException Forbidden(ResourceType type, string name, string why, JsonArray? causes = null)
    {
        var details = Details(type, name);
        details.Put("causes", causes);
        var what = name.Length == 0 ? type.Qualified : $"{type.Qualified} \"{name}\"";
        return With(403, "Forbidden", $"{what} is forbidden: {why}", details);
    }

    public static RefusedException Invalid(string group, string kind, string name, IReadOnlyList<Cause> causes)
    {
        var words = causes.Select(c => $"{c.Field}: {c.Message}").Distinct().ToList();
        var said = words.Count == 1 ? words[0] : $"[{string.Join(", ", words)}]";
        var details = Details(group, kind, name);
        details["causes"] = new JsonArray([.. causes.Select(c => new JsonObject
        {
            ["reason"] = c.Reason, ["message"] = c.Message, ["field"] = c.Field,
        })]);
        var qualified = group.Length == 0 ? kind : $"{kind}.{group}";
        return With(422, "Invalid", $"{qualified} \"{name}\" is invalid: {said}", details);
    }

    public static RefusedException BadRequest(string message) => With(400, "BadRequest", message, null);

    public static RefusedException MediaType(string message) => With(415, "UnsupportedMediaType", message, null);

    public static RefusedException NoRoute() =>
        With(404, "NotFound", "the server could not find the requested resource", []);

    public static RefusedException Method() => With(405, "MethodNotAllowed",
        "the server does not allow this method on the requested resource", []);

    public static RefusedException Expired(string message) => With(410, "Expired", message, null);

    /// <summary>Answers that carry no reason.</summary>
    public static RefusedException Internal(string message) => With(500, null, message, null);

    public static RefusedException With(int code, string? reason, string message, JsonObject? details)
    {
        var body = Status("Failure");
        body["message"] = message;
        if (reason is not null) body["reason"] = reason;
        if (details is not null) body["details"] = details;
        body["code"] = (long)code;
        return new(new(code, body));
    }

    public static JsonObject Status(string status) => new()
    {
        ["kind"] = "Status", ["apiVersion"] = "v1", ["metadata"] = new JsonObject(), ["status"] = status,
    };

    public static JsonObject Details(ResourceType type, string name) => Details(type.Group, type.Plural, name);

    static JsonObject Details(string group, string kind, string name)
    {
        var details = new JsonObject();
        if (name.Length > 0) details["name"] = name;
        if (group.Length > 0) details["group"] = group;
        if (kind.Length > 0) details["kind"] = kind;
        return details;
    }
}
