// Schemas: the built-in types (types.json, which OpenApiTypes makes from Kubernetes' own OpenAPI document) and the
// structural schemas of custom resources. One class prunes, sets defaults, validates, and knows the merge keys of
// strategic merge patches.

using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

/// <summary>Where in an object something is. Text is made of it only when something is wrong there.</summary>
sealed class FieldPath(FieldPath? parent, string step)
{
    public static FieldPath Root { get; } = new(null, "");
    /// <summary>Of a status that is validated alone.</summary>
    public static FieldPath Status { get; } = new(null, "status");
    public bool IsRoot => parent is null;
    public FieldPath Field(string name) => new(this, name);
    public FieldPath Item(int index) => new(this, $"[{index}]");
    public override string ToString() => parent is null ? step : After($"{parent}");
    /// <summary>The place within what is validated.</summary>
    public string Inside => parent is null ? "" : After(parent.Inside);
    /// <summary>What is validated.</summary>
    public string Whole => parent is not null ? parent.Whole : step.Length == 0 ? "<nil>" : step;

    string After(string before) => before.Length == 0 ? step : step[0] == '[' ? $"{before}{step}" : $"{before}.{step}";
}

sealed class Schema
{
    static readonly Dictionary<string, Schema> BuiltIn = [];
    static readonly Schema Any = new();

    string? name; // of a built-in type
    string type = "";
    string? format;
    Dictionary<string, Schema>? properties;
    Schema? items, values;
    List<string> required = [];
    JsonNode? fallback;
    JsonArray? allowed;
    Regex? pattern;
    double? minimum, maximum;
    long? minLength, maxLength, minItems, maxItems;
    bool preserve, intOrString, nullable, exclusiveMinimum, exclusiveMaximum;

    /// <summary>Of a list that strategic merge patches merge: the field that tells its items apart, or "".</summary>
    public string? MergeKey { get; private set; }

    /// <summary>The whole object is replaced but for the fields that the patch names.</summary>
    public bool RetainKeys { get; private set; }

    /// <summary>The built-in types' own document, for clients that ask for OpenAPI.</summary>
    public static JsonObject Types { get; } = ReadTypes();

    // To make it anew: `dotnet run --project OMJob.Tests/Sandbox -- types --kubeconfig FILE`.
    static JsonObject ReadTypes()
    {
        using var stream = typeof(Schema).Assembly.GetManifestResourceStream("types.json")!;
        using var memory = new MemoryStream();
        stream.CopyTo(memory);
        return (JsonObject)Json.Parse(memory.ToArray())!;
    }

    /// <summary>The schema of a built-in type, read when first asked for: some refer to themselves.</summary>
    public static Schema Of(string name)
    {
        lock (BuiltIn)
        {
            if (BuiltIn.TryGetValue(name, out var known)) return known;
            var made = BuiltIn[name] = new Schema { name = name };
            made.Fill((JsonObject)Types[name]!);
            return made;
        }
    }

    public static Schema Structural(JsonObject json)
    {
        var made = new Schema();
        made.Fill(json);
        return made;
    }

    void Fill(JsonObject json)
    {
        (type, format) = (json.Text("type") ?? "", json.Text("format"));
        Schema Sub(JsonObject part)
        {
            if (part.Text("$ref") is not { } other) return Structural(part);
            var known = Of(other);
            if (part["x-kubernetes-patch-strategy"] is null) return known;
            // A reference that says how it is patched: a copy says so too.
            var copy = (Schema)known.MemberwiseClone();
            copy.RetainKeys = true;
            return copy;
        }
        if (json["properties"] is JsonObject fields)
            properties = fields.ToDictionary(f => f.Key, f => Sub((JsonObject)f.Value!));
        items = json["items"] is JsonObject item ? Sub(item) : null;
        values = json["additionalProperties"] is JsonObject value ? Sub(value)
            : json.IsTrue("additionalProperties") ? Any : null;
        required = json.Strings("required");
        (fallback, allowed) = (json["default"], json["enum"] as JsonArray);
        pattern = json.Text("pattern") is { } p ? new Regex(p, RegexOptions.CultureInvariant) : null;
        (minimum, maximum) = (Real(json["minimum"]), Real(json["maximum"]));
        (minLength, maxLength) = (json.Long("minLength"), json.Long("maxLength"));
        (minItems, maxItems) = (json.Long("minItems"), json.Long("maxItems"));
        exclusiveMinimum = json.IsTrue("exclusiveMinimum");
        exclusiveMaximum = json.IsTrue("exclusiveMaximum");
        preserve = json.IsTrue("x-kubernetes-preserve-unknown-fields");
        intOrString = json.IsTrue("x-kubernetes-int-or-string") || format == "int-or-string";
        nullable = json.IsTrue("nullable");
        var strategy = json.Text("x-kubernetes-patch-strategy") ?? "";
        if (strategy.Contains("merge")) MergeKey = json.Text("x-kubernetes-patch-merge-key") ?? "";
        RetainKeys = strategy.Contains("retainKeys");
    }

    static double? Real(JsonNode? node) => node switch
    {
        JsonValue v when v.TryGetValue(out long whole) => whole,
        JsonValue v when v.TryGetValue(out double real) => real,
        _ => null,
    };

    /// <summary>The schema of a field or of a list's items; null where nothing is known.</summary>
    public Schema? Field(string field) => properties?.GetValueOrDefault(field) ?? values;
    public Schema? Item => items;

    // ----- custom resources

    /// <summary>Drops what the schema does not list; the paths of what was dropped go into the list.</summary>
    public void Prune(JsonNode? node, FieldPath path, List<string> dropped, bool root = false)
    {
        switch (node)
        {
            case JsonObject map:
                foreach (var (field, value) in map.ToArray())
                {
                    if (root && field is "apiVersion" or "kind" or "metadata") continue;
                    if (Field(field) is { } known) known.Prune(value, path.Field(field), dropped);
                    else if (!preserve)
                    {
                        map.Remove(field);
                        dropped.Add($"{path.Field(field)}");
                    }
                }
                break;
            case JsonArray list when items is not null:
                for (var i = 0; i < list.Count; i++) items.Prune(list[i], path.Item(i), dropped);
                break;
        }
    }

    public void SetDefaults(JsonNode? node)
    {
        if (node is JsonArray list)
            foreach (var item in list) items?.SetDefaults(item);
        if (node is not JsonObject map) return;
        foreach (var (field, schema) in properties ?? [])
        {
            if (schema.fallback is { } value && map[field] is null && !(schema.nullable && map.ContainsKey(field)))
                map[field] = value.DeepClone();
            if (map[field] is { } there) schema.SetDefaults(there);
        }
        if (values is not null)
            foreach (var (field, value) in map)
                if (properties?.ContainsKey(field) is not true) values.SetDefaults(value);
    }

    public void Validate(JsonNode? node, FieldPath path, List<Cause> causes)
    {
        if (node is null && nullable) return;
        var actual = Json.TypeName(node);
        var right = intOrString ? actual is "integer" or "string"
            : type is "" || actual == type || type == "number" && actual == "integer";
        if (!right)
        {
            var (wanted, found) = intOrString ? ("integer,string", actual)
                : actual == "number" && format is not null ? (format, "float64") : (type, actual);
            causes.Add(Cause.Type(
                $"{path}", found, $"{path.Inside} in body must be of type {wanted}: {Cause.Quote(found)}"));
            if (intOrString) // every branch of anyOf is told
            {
                causes.Add(Cause.Text(path.Whole, "", $"\"{path.Inside}\" must validate at least one schema (anyOf)"));
                causes.Add(Cause.Type(
                    $"{path}", found, $"{path.Inside} in body must be of type integer: {Cause.Quote(found)}"));
            }
            if (actual != "number" || type != "integer") return;
        }
        if (allowed is not null && !allowed.Any(a => Json.Same(a, node)))
            causes.Add(Cause.NotSupported(
                $"{path}", Show(node), allowed.Select(a => a.Text() ?? a?.ToJsonString() ?? "")));
        switch (node)
        {
            case JsonObject map: ValidateObject(map, path, causes); break;
            case JsonArray list: ValidateArray(list, path, causes); break;
            case JsonValue value when value.TryGetValue(out string? text): ValidateText(text, path, causes); break;
            case JsonValue value: ValidateNumber(value, path, causes); break;
        }
    }

    void ValidateObject(JsonObject map, FieldPath path, List<Cause> causes)
    {
        foreach (var field in required)
            if (!map.ContainsKey(field)) causes.Add(Cause.Required($"{path.Field(field)}"));
        foreach (var (field, value) in map)
            if ((!path.IsRoot || field is not "metadata") && Field(field) is { } schema)
                schema.Validate(value, path.Field(field), causes);
    }

    void ValidateArray(JsonArray list, FieldPath path, List<Cause> causes)
    {
        void Add(string detail) =>
            causes.Add(Cause.Invalid($"{path}", $"{list.Count}", $"{path.Inside} in body {detail}"));
        if (list.Count < minItems) Add($"should have at least {minItems} items");
        if (list.Count > maxItems) Add($"should have at most {maxItems} items");
        for (var i = 0; i < list.Count; i++) items?.Validate(list[i], path.Item(i), causes);
    }

    void ValidateText(string text, FieldPath path, List<Cause> causes)
    {
        void Add(string detail) => causes.Add(Cause.Text($"{path}", text, $"{path.Inside} in body {detail}"));
        if (text.Length < minLength) Add($"should be at least {minLength} chars long");
        if (text.Length > maxLength) causes.Add(Cause.TooLong($"{path}", maxLength.Value));
        if (pattern?.IsMatch(text) is false) Add($"should match '{pattern}'");
        if (format == "date-time" && Json.ReadTime(text) is null)
            causes.Add(Cause.Type(
                $"{path}", text, $"{path.Inside} in body must be of type date-time: {Cause.Quote(text)}"));
    }

    void ValidateNumber(JsonValue value, FieldPath path, List<Cause> causes)
    {
        if (Real(value) is not { } n) return;
        void Add(string detail) =>
            causes.Add(Cause.Invalid($"{path}", Show(value), $"{path.Inside} in body {detail}"));
        if (type == "integer" && !(value.TryGetValue(out long whole) && (format != "int32" || whole == (int)whole)))
            causes.Add(Cause.Text(path.Whole, "", "Checked value must be of type integer " +
                $"{(format is null ? "(default format)" : $"with format {format}")} in {path.Inside}"));
        if (n < minimum || exclusiveMinimum && n == minimum)
            Add($"should be greater than {(exclusiveMinimum ? "" : "or equal to ")}{minimum}");
        if (n > maximum || exclusiveMaximum && n == maximum)
            Add($"should be less than {(exclusiveMaximum ? "" : "or equal to ")}{maximum}");
    }

    static string Show(JsonNode? node) => node.Text() is { } text ? Cause.Quote(text) : node?.ToJsonString() ?? "null";

    // ----- built-in types

    // Structs that are no pointers are always written, and so are the times in them.
    static readonly Dictionary<string, JsonObject> AlwaysThere = Json.Object("""
        {
          "core.v1.Container": {"resources": {}},
          "core.v1.ContainerStatus": {"state": {}, "lastState": {}},
          "core.v1.ContainerStateRunning": {"startedAt": null},
          "core.v1.ContainerStateTerminated": {"startedAt": null, "finishedAt": null},
          "core.v1.PodCondition": {"lastProbeTime": null, "lastTransitionTime": null},
          "core.v1.NodeCondition": {"lastHeartbeatTime": null, "lastTransitionTime": null},
          "core.v1.NodeStatus": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {}},
          "core.v1.Event": {"involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "eventTime": null, "reportingComponent": "", "reportingInstance": ""},
          "core.v1.Node": {"spec": {}, "status": {}},
          "core.v1.Pod": {"spec": {}, "status": {}},
          "core.v1.Namespace": {"spec": {}, "status": {}},
          "core.v1.ResourceQuota": {"spec": {}, "status": {}},
          "coordination.v1.Lease": {"spec": {}}
        }
        """).ToDictionary(t => "io.k8s.api." + t.Key, t => (JsonObject)t.Value!);

    // Fields of Go types that are no pointers: their zero is left out. All other numbers and booleans are pointers.
    static readonly HashSet<string> ZeroIsNothing =
    [
        "hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly", "unschedulable", "paused",
        "publishNotReadyAddresses", "count", "hostPort", "signal", "minReadySeconds", "initialDelaySeconds",
        "observedGeneration", "timeoutSeconds", "periodSeconds", "generation", "globalDefault",
        "preserveUnknownFields", "nullable", "exclusiveMinimum", "exclusiveMaximum", "uniqueItems",
    ];

    /// <summary>Brings an object into the form that decoding it into its Go type and encoding it again would give:
    /// unknown fields, nulls and empty optional values go, quantities and times become canonical. Throws
    /// FormatException.</summary>
    public JsonNode? Canonical(JsonNode? node, FieldPath path, List<string> dropped)
    {
        if (name?.EndsWith(".Quantity", StringComparison.Ordinal) is true) return CanonicalQuantity(node, path);
        if (type is "" || node is null) return node;
        var actual = Json.TypeName(node);
        var fits = actual == type || intOrString && actual is "integer" or "string"
            || type == "number" && actual is "integer";
        if (!fits) throw new FormatException($"{path}: expected {type}, found {actual}");
        switch (node)
        {
            case JsonObject map: CanonicalObject(map, path, dropped); break;
            case JsonArray list when items is not null:
                for (var i = 0; i < list.Count; i++)
                {
                    var item = items.Canonical(list[i], path.Item(i), dropped) ?? items.Zero();
                    if (!ReferenceEquals(item, list[i])) list[i] = item;
                }
                break;
            case JsonValue value when format == "date-time": return CanonicalTime(value, path);
            case JsonValue value when format == "byte": return CanonicalBytes(value, path);
        }
        return node;
    }

    void CanonicalObject(JsonObject map, FieldPath path, List<string> dropped)
    {
        var always = name is null ? null : AlwaysThere.GetValueOrDefault(name);
        foreach (var (field, value) in always ?? [])
            if (map[field] is null && value is not null) map[field] = value.DeepClone();
        if (properties is null && values is null) return; // free form
        foreach (var (field, value) in map.ToArray())
        {
            if (Field(field) is not { } known)
            {
                map.Remove(field);
                dropped.Add($"{path.Field(field)}");
                continue;
            }
            var next = known.Canonical(value, path.Field(field), dropped);
            var keep = next is not null
                && (values is not null || required.Contains(field) || !known.IsNothing(field, next));
            if (values is not null && next is null) (next, keep) = (known.Zero(), true);
            if (!keep && always?[field] is null) map.Remove(field);
            else if (!ReferenceEquals(next, value)) map[field] = next;
        }
        foreach (var field in required)
            if (!map.ContainsKey(field) && properties!.TryGetValue(field, out var known) && known.Zero() is { } zero)
                map[field] = zero;
        foreach (var (field, value) in always ?? [])
            if (value is null && !map.ContainsKey(field)) map[field] = null;
    }

    bool IsNothing(string field, JsonNode value) => value switch
    {
        JsonObject map => map.Count == 0 && values is not null,
        JsonArray list => list.Count == 0,
        JsonValue v when v.TryGetValue(out string? text) => text is "",
        JsonValue v when v.TryGetValue(out bool yes) => !yes && ZeroIsNothing.Contains(field),
        JsonValue v when v.TryGetValue(out long n) => n == 0 && ZeroIsNothing.Contains(field),
        _ => false,
    };

    JsonValue? Zero() => format == "date-time" ? null : type switch
    {
        "string" => JsonValue.Create(""),
        "integer" => JsonValue.Create(0L),
        "boolean" => JsonValue.Create(false),
        _ => null,
    };

    static JsonValue? CanonicalQuantity(JsonNode? node, FieldPath path)
    {
        if (node is null) return null;
        var text = node.Text() ?? (node is JsonValue ? node.ToJsonString() : "");
        return Quantity.Parse(text) is { } quantity ? JsonValue.Create(quantity.ToString())
            : throw new FormatException($"{path}: quantities must match the regular expression "
                + @"'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'");
    }

    JsonValue? CanonicalTime(JsonValue value, FieldPath path)
    {
        if (Json.ReadTime(value.Text()) is not { } at)
            throw new FormatException($"{path}: cannot parse {value.ToJsonString()} as a time");
        return JsonValue.Create(name!.EndsWith(".MicroTime", StringComparison.Ordinal)
            ? at.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", null) : Json.Time(at));
    }

    static JsonValue CanonicalBytes(JsonValue value, FieldPath path)
    {
        try { return JsonValue.Create(Convert.ToBase64String(Convert.FromBase64String(value.Text() ?? ""))); }
        catch (FormatException) { throw new FormatException($"{path}: illegal base64 data"); }
    }
}

/// <summary>An amount of a resource, in the one form that Kubernetes writes it. The client package's own reading takes
/// 1/2, writes what is negative wrong, and does not come back from -1e3.</summary>
sealed record Quantity(decimal Value, string[] Suffixes)
{
    static readonly string[] Binaries = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    static readonly string[] Decimals = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    static readonly string[] Exponents = ["e-9", "e-6", "e-3", "", "e3", "e6", "e9", "e12", "e15", "e18"];

    public static Quantity? Parse(string text)
    {
        var match = Regex.Match(
            text, @"^([+-]?[0-9]+\.?[0-9]*|[+-]?\.[0-9]+)([KMGTPE]i|[numkMGTPE]?|[eE][+-]?[0-9]{1,2})$");
        if (!match.Success) return null;
        var (number, suffix) = (match.Groups[1].Value, match.Groups[2].Value);
        try
        {
            if (Array.IndexOf(Binaries, suffix) is var power and > 0) return Of(1L << (10 * power), Binaries);
            return Array.IndexOf(Decimals, suffix) is var step and >= 0
                ? Of(Scale(1, 3 * (step - 3)), Decimals) : Of(Scale(1, int.Parse(suffix[1..], null)), Exponents);
        }
        catch (OverflowException) { return null; }

        // No amount is more than what 64 bits hold.
        Quantity Of(decimal unit, string[] suffixes) =>
            new(Math.Clamp(decimal.Parse(number, null) * unit, -long.MaxValue, long.MaxValue), suffixes);
    }

    static decimal Scale(decimal number, int exponent)
    {
        for (; exponent > 0; exponent--) number *= 10;
        for (; exponent < 0; exponent++) number /= 10;
        return number;
    }

    public override string ToString()
    {
        if (Value == 0) return "0";
        if (Suffixes == Binaries && Math.Abs(Value) >= 1024 && decimal.IsInteger(Value))
        {
            var (left, power) = (Value, 0);
            for (; power < 6 && left % 1024 == 0; power++) left /= 1024;
            return $"{left:0}{Binaries[power]}";
        }
        var (number, step) = (Scale(Value, 9), 0);
        for (; step < 9 && number % 1000 == 0; step++) number /= 1000;
        return $"{Math.Ceiling(number):0}{(Suffixes == Exponents ? Exponents : Decimals)[step]}";
    }
}
