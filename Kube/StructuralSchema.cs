// What a CRD says of its objects.

using System.Text.RegularExpressions;

namespace OMJobs;

/// <summary>Checks values by a structural schema, as an API server does with strict field validation.</summary>
static class StructuralSchema
{
    /// <summary>The first thing that is wrong: its path and what it should be, nothing of a value; null: nothing is.
    /// So many levels of objects are fragments, which need not have what is required.</summary>
    public static string? Fault(JsonNode? value, JsonNode? schema, string path, int fragments)
    {
        // What is no name may be a value that a typing error has made a field.
        string At(string field) => (path.Length == 0 ? "" : path + ".")
            + (field.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '/' or '-' or '_') ? field : "?");
        bool Says(string name) => schema?[name]?.GetValueKind() == JsonValueKind.True;
        if (schema is null) return null;
        switch ((string?)schema["type"] ?? (Says("x-kubernetes-int-or-string") ? "integer or string" : ""))
        {
            case "object" when value is JsonObject fields:
                var missing = fragments > 0 ? null : schema["required"]?.AsArray()
                    .Select(name => (string)name!).FirstOrDefault(name => fields[name] is null);
                if (missing is not null) return $"{At(missing)}: is missing";
                foreach (var (name, field) in fields)
                {
                    var known = schema["properties"]?[name] ?? schema["additionalProperties"];
                    if (known is null && !Says("x-kubernetes-preserve-unknown-fields")) // in an item it may be a value
                        return path.EndsWith(']') ? $"{path}: has an unknown field" : $"{At(name)}: there is no such field";
                    if (field is not null && Fault(field, known, At(name), fragments - 1) is { } fault) return fault;
                }
                return null;
            case "array" when value is JsonArray items:
                return items.Select((item, i) => Fault(item, schema["items"], $"{path}[{i}]", 0))
                    .FirstOrDefault(fault => fault is not null);
            case "integer" when Number(value) is { } n && double.IsInteger(n):
                return n < Number(schema["minimum"]) ? $"{path}: is less than {schema["minimum"]}"
                    : Math.Abs(n) > ((string?)schema["format"] == "int32" ? int.MaxValue : MostInteger)
                        ? $"{path}: is too large" : null;
            case "boolean" when value?.GetValueKind() is JsonValueKind.True or JsonValueKind.False: return null;
            case "integer or string" when Number(value) is { } n && double.IsInteger(n):
                return Math.Abs(n) > MostInteger ? $"{path}: is too large" : null;
            case "string" or "integer or string" when value?.GetValueKind() == JsonValueKind.String:
                var text = (string)value!;
                if (schema["enum"] is JsonArray all && !all.Any(one => (string?)one == text))
                    return $"{path}: is none of {string.Join(", ", all.Select(one => (string?)one))}";
                return schema["pattern"] is { } pattern && new Regex((string)pattern!).Match(text) is var match
                    && (!match.Success || text.EndsWith('\n')) // before which $ matches here, and not there
                    ? $"{path}: is not written as it should be" : null;
            case "": return null;
            case var type: return $"{path}: is no {type}";
        }
    }

    const double MostInteger = 9_223_372_036_854_774_784; // the last that is no more than 64 bits hold

    static double? Number(JsonNode? value) =>
        value?.GetValueKind() != JsonValueKind.Number ? null
            : value.Deserialize(ApiJson.Default.JsonElement).GetDouble();
}
