// Reading YAML into JSON.

using System.Globalization;
using YamlDotNet.Core;
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
        var (stream, left, depth) = (new YamlStream(), MostNodes, 0);
        // What is read by recursion, as nodes are, may end the process.
        for (var events = new Parser(new StringReader(text)); events.MoveNext();)
            if ((depth += events.Current!.NestingIncrease) > MostDepth)
                throw new YamlException(events.Current.Start, events.Current.End, "too deep");
        stream.Load(new StringReader(text));
        return [.. stream.Documents.Select(d => Convert(d.RootNode, MostDepth, ref left))];
    }

    /// <summary>Aliases may repeat each other many times, or contain themselves.</summary>
    static JsonNode? Convert(YamlNode node, int depth, ref int left)
    {
        if (depth == 0 || --left < 0) throw new YamlException(node.Start, node.End, "too deep or too large"); // by aliases
        switch (node)
        {
            case YamlMappingNode map:
                var fields = new JsonObject();
                foreach (var (key, value) in map.Children)
                {
                    if (key is not YamlScalarNode { Value: { } name })
                        throw new YamlException(key.Start, key.End, "a key is no text");
                    fields[name] = Convert(value, depth - 1, ref left);
                }
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
            throw new YamlException(at.Start, at.End, "JSON has no such number");
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
