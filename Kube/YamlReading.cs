// Reading YAML into JSON.

using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace OMJobs;

/// <summary>YAML as kubectl reads it, which follows YAML 1.1: yes, on and y are true, 010 is 8, a date is a text
/// (sigs.k8s.io/yaml).</summary>
static class YamlReading
{
    const int MostDepth = 100, MostNodes = 100_000;
    const string Core = "tag:yaml.org,2002:";

    /// <summary>Every document. Throws YamlException, also for what JSON cannot hold.</summary>
    public static List<JsonNode?> Documents(string text)
    {
        try { return Read(text); }
#pragma warning disable CA1031 // The package throws others, too, for what is no YAML: InvalidOperationException is one.
        catch (Exception e) when (e is not YamlException) { throw new YamlException("no YAML", e); }
#pragma warning restore CA1031
    }

    static List<JsonNode?> Read(string text)
    {
        CheckEvents(new Parser(new StringReader(text)));
        var (stream, left) = (new YamlStream(), MostNodes);
        stream.Load(new StringReader(text));
        return [.. stream.Documents.Select(d => Convert(d.RootNode, MostDepth, ref left))];
    }

    /// <summary>Nodes are made, compared and hashed by recursion, which may end the process or never end: so none is
    /// too deep or contains itself, and all keys are scalars.</summary>
    static void CheckEvents(Parser events)
    {
        var open = new Stack<(string? Anchor, bool IsMap, bool AtKey)>();
        while (events.MoveNext())
        {
            var now = events.Current!;
            if (now is SequenceEnd or MappingEnd) open.Pop();
            if (now is not (Scalar or AnchorAlias or SequenceStart or MappingStart)) continue;
            if (open.TryPop(out var outer))
            {
                if (outer is { IsMap: true, AtKey: true } && now is not Scalar) throw Wrong(now.Start, "a key is no text");
                open.Push(outer with { AtKey = !outer.AtKey });
            }
            if (now is AnchorAlias alias && open.Any(o => o.Anchor == alias.Value.Value))
                throw Wrong(now.Start, "an alias is within its anchor");
            if (now is SequenceStart or MappingStart)
                open.Push((((NodeEvent)now).Anchor is { IsEmpty: false } anchor ? anchor.Value : null,
                    now is MappingStart, true));
            if (open.Count > MostDepth) throw Wrong(now.Start, "too deep");
        }
    }

    static YamlException Wrong(Mark at, string why) => new(at, at, why);

    /// <summary>Aliases may repeat each other many times.</summary>
    static JsonNode? Convert(YamlNode node, int depth, ref int left)
    {
        if (depth == 0 || --left < 0) throw Wrong(node.Start, "too deep or too large");
        switch (node)
        {
            case YamlMappingNode map:
                var (fields, merged) = (new JsonObject(), new List<JsonObject>());
                foreach (var (key, value) in map.Children)
                {
                    var field = Convert(value, depth - 1, ref left);
                    if (key is YamlScalarNode { Style: ScalarStyle.Plain, Value: "<<" })
                        merged.AddRange((field is JsonArray several ? [.. several] : (JsonNode?[])[field])
                            .Select(one => one as JsonObject ?? throw Wrong(key.Start, "no map")));
                    else
                        fields[Convert(key, depth - 1, ref left) switch
                        {
                            null => throw Wrong(key.Start, "a key is null"),
                            var name when name.GetValueKind() == JsonValueKind.String => (string)name!,
                            var name => name.ToJsonString(), // true for yes, as kubectl has it
                        }] = field;
                }
                foreach (var (name, field) in merged.SelectMany(one => one))
                    if (!fields.ContainsKey(name)) fields[name] = field?.DeepClone();
                return fields;
            case YamlSequenceNode list:
                var items = new JsonArray();
                foreach (var item in list) items.Add(Convert(item, depth - 1, ref left));
                return items;
            case YamlScalarNode { Value: { } text } scalar when scalar.Tag.IsEmpty
                ? scalar.Style == ScalarStyle.Plain
                : scalar.Tag.Value is Core + "int" or Core + "float" or Core + "bool" or Core + "null":
                return Plain(text, scalar);
            default: return JsonValue.Create(((YamlScalarNode)node).Value);
        }
    }

    static JsonValue? Plain(string text, YamlScalarNode at)
    {
        switch (text)
        {
            case "" or "~" or "null" or "Null" or "NULL": return null;
            case "y" or "Y" or "yes" or "Yes" or "YES" or "on" or "On" or "ON" or "true" or "True" or "TRUE":
                return JsonValue.Create(true);
            case "n" or "N" or "no" or "No" or "NO" or "off" or "Off" or "OFF" or "false" or "False" or "FALSE":
                return JsonValue.Create(false);
        }
        if (!char.IsAsciiDigit(text[0]) && text[0] is not ('+' or '-' or '.')) return JsonValue.Create(text);
        var digits = text.Replace("_", "", StringComparison.Ordinal);
        if (Whole(digits) is { } whole) return JsonValue.Create(whole);
        if (text.TrimStart('+', '-').ToUpperInvariant() is ".INF" or ".NAN")
            throw Wrong(at.Start, "JSON has no such number");
        const NumberStyles real = NumberStyles.Float & ~(NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite);
        return double.TryParse(digits, real, CultureInfo.InvariantCulture, out var n) && double.IsFinite(n)
            ? JsonValue.Create(n) : JsonValue.Create(text);
    }

    /// <summary>Decimal, or after 0x, 0b, 0o or 0; null: it is none that fits.</summary>
    static long? Whole(string text)
    {
        var (negative, digits) = (text[0] == '-', text.TrimStart('+', '-'));
        if (digits.Length < text.Length - 1 || digits.Length == 0) return null;
        var (radix, from) = digits is not ['0', var second, ..] ? (10, 0) : char.ToLowerInvariant(second) switch
        {
            'x' => (16, 2),
            'b' => (2, 2),
            'o' => (8, 2),
            _ => (8, 1),
        };
        var n = 0L;
        if (digits.Length == from) return null;
        foreach (var c in digits[from..])
        {
            var digit = char.IsAsciiDigit(c) ? c - '0' : char.IsAsciiHexDigit(c) ? (c | ' ') - 'a' + 10 : radix;
            if (digit >= radix || n > (long.MaxValue - digit) / radix) return null;
            n = n * radix + digit;
        }
        return negative ? -n : n;
    }
}
