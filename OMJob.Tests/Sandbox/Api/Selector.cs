// Label and field selectors, parsed once and asked often.

using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

/// <summary>What a list or a watch wants to see.</summary>
sealed class Selector
{
    readonly record struct Requirement(string Key, string Operator, string[] Values);

    readonly List<Requirement> labels = [];
    readonly List<(string[] Path, bool Equal, string Value)> fields = [];

    public bool IsEmpty => labels.Count == 0 && fields.Count == 0;

    /// <summary>Throws RefusedException where the text is none.</summary>
    public static Selector Parse(string labels, string fields, ResourceType type)
    {
        var selector = new Selector();
        if (labels.Trim().Length > 0) selector.ParseLabels(labels);
        foreach (var part in fields.Split(',', StringSplitOptions.RemoveEmptyEntries))
        {
            var (at, length, equal) = part.IndexOf("!=", StringComparison.Ordinal) is var n and >= 0 ? (n, 2, false)
                : part.IndexOf("==", StringComparison.Ordinal) is var d and >= 0 ? (d, 2, true)
                : (part.IndexOf('='), 1, true);
            if (at < 0)
                throw Refuse.BadRequest($"invalid selector: '{fields}'; can't understand '{part}'");
            var field = part[..at];
            if (!type.Fields.Contains(field))
                throw Refuse.BadRequest(type.IsCustom || type.Fields.Count > 2 ? $"field label not supported: {field}"
                    : $"\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
            string[] path = field == "source" ? ["source", "component"] : field.Split('.');
            selector.fields.Add((path, equal, part[(at + length)..]));
        }
        return selector;
    }

    public bool Matches(JsonObject o)
    {
        foreach (var (path, equal, value) in fields)
            if (((o.Text(path) ?? "") == value) != equal) return false;
        if (labels.Count == 0) return true;
        var have = o.At("metadata", "labels") as JsonObject;
        foreach (var requirement in labels)
            if (!Matches(requirement, have?[requirement.Key].Text())) return false;
        return true;
    }

    static bool Matches(Requirement requirement, string? value) => requirement.Operator switch
    {
        "in" => value is not null && requirement.Values.Contains(value),
        "notin" => value is null || !requirement.Values.Contains(value),
        "exists" => value is not null,
        "!" => value is null,
        ">" => long.TryParse(value, out var n) && n > long.Parse(requirement.Values[0], null),
        _ => long.TryParse(value, out var n) && n < long.Parse(requirement.Values[0], null),
    };

    // ----- label selectors: a=b, a==b, a!=b, a, !a, a in (b,c), a notin (b), a>1, a<2

    static readonly Regex Token = new(@"\G\s*(==|!=|=|!|>|<|,|\(|\)|[^\s=!(),<>]+)", RegexOptions.CultureInvariant);

    void ParseLabels(string text)
    {
        var tokens = Token.Matches(text).Select(m => m.Groups[1].Value).ToList();
        for (var at = 0; at < tokens.Count; at++)
        {
            labels.Add(ParseOne(tokens, ref at));
            if (at < tokens.Count && tokens[at] != ",")
                throw Bad($"found '{tokens[at]}', expected: ',' or 'end of string'");
            if (at == tokens.Count - 1)
                throw Refuse.BadRequest("found '', expected: identifier after ','");
        }
    }

    static Requirement ParseOne(List<string> tokens, ref int at)
    {
        string Next(ref int at) => at < tokens.Count ? tokens[at++] : "";
        var not = tokens[at] == "!";
        if (not) at++;
        var key = Next(ref at);
        if (key == "," && !not)
            throw Refuse.BadRequest("found ',', expected: !, identifier, or 'end of string'");
        if (!IsWord(key)) throw Bad($"found '{key}', expected: {(not ? "identifier" : "!, identifier, or ','")}");
        if (Validation.QualifiedName(key).FirstOrDefault() is { } wrong)
            throw Bad($"<nil>: Invalid value: {Cause.Quote(key)}: {wrong}");
        var op = at < tokens.Count && tokens[at] != "," ? Next(ref at) : "exists";
        if (op == "exists") return new(key, not ? "!" : "exists", []);
        if (op is "in" or "notin")
        {
            var values = new List<string>();
            if (Next(ref at) is var open && open != "(") throw Bad($"found '{open}' expected: '('");
            for (var token = Next(ref at); token != ")"; token = Next(ref at))
            {
                if (token.Length == 0) throw Bad("found '', expected: ',' or ')'");
                if (token != ",") values.Add(token);
            }
            return new(key, op, [.. values.Count == 0 ? [""] : values]);
        }
        if (op is not ("=" or "==" or "!=" or ">" or "<"))
            throw Bad($"found '{op}', expected: in, notin, =, ==, !=, gt, lt");
        var value = at < tokens.Count && tokens[at] != "," ? Next(ref at) : "";
        if (value.Length > 0 && !IsWord(value)) throw Bad($"found '{value}', expected: identifier");
        if (op is ">" or "<")
            return long.TryParse(value, out _) ? new(key, op, [value])
                : throw Bad($"values[0]: Invalid value: {Cause.Quote(value)}: " +
                    "for 'Gt', 'Lt' operators, the value must be an integer");
        if (Validation.LabelValue(value).FirstOrDefault() is { } bad)
            throw Bad($"values[0][{key}]: Invalid value: {Cause.Quote(value)}: {bad}");
        return new(key, op == "!=" ? "notin" : "in", [value]);
    }

    static bool IsWord(string token) => token.Length > 0 && !"=!(),<>".Contains(token[0]);

    static RefusedException Bad(string what) => Refuse.BadRequest($"unable to parse requirement: {what}");
}
