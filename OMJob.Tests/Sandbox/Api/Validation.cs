// What the API server demands of metadata, in its own words.

using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

static class Validation
{
    const string Alphanumeric = "alphanumeric characters, '-', '_' or '.', and must start and end with an " +
        "alphanumeric character";

    /// <summary>A format, what it is called, and how its violation is explained.</summary>
    sealed class Format(string pattern, int most, string what)
    {
        readonly Regex regex = new($"^(?:{pattern})$(?!\n)", RegexOptions.CultureInvariant | RegexOptions.Compiled);

        public IEnumerable<string> Check(string value)
        {
            if (value.Length > most) yield return $"must be no more than {most} bytes";
            if (!regex.IsMatch(value)) yield return $"{what}, regex used for validation is '{pattern}')";
        }
    }

    static readonly Format Subdomain = new(@"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", 253,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must " +
        "start and end with an alphanumeric character (e.g. 'example.com'");
    static readonly Format Label = new("[a-z0-9]([-a-z0-9]*[a-z0-9])?", 63,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and " +
        "end with an alphanumeric character (e.g. 'my-name',  or '123-abc'");
    static readonly Format NamePart = new("([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", 63,
        $"name part must consist of {Alphanumeric} (e.g. 'MyName',  or 'my.name',  or '123-abc'");
    static readonly Format Value = new("(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", 63,
        $"a valid label must be an empty string or consist of {Alphanumeric} (e.g. 'MyValue',  or 'my_value',  or " +
        "'12345'");

    public static IEnumerable<string> DnsSubdomain(string value) => Subdomain.Check(value);
    public static IEnumerable<string> DnsLabel(string value) => Label.Check(value).Select(wrong =>
        !wrong.StartsWith("must", StringComparison.Ordinal) && !Subdomain.Check(value).Any()
            ? "must not contain dots" : wrong);
    public static IEnumerable<string> LabelValue(string value) => Value.Check(value);

    public static IEnumerable<string> Env(string value) => value.All(c => c is >= ' ' and <= '~' and not '=') ? []
        : ["a valid environment variable name must consist only of printable ASCII characters other than '='"];

    public static IEnumerable<string> QualifiedName(string value, string what = "a qualified name")
    {
        var parts = value.Split('/');
        if (parts.Length > 2)
            return [$"{what} must consist of {Alphanumeric} (e.g. 'MyName',  or 'my.name',  or '123-abc', " +
                "regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS " +
                "subdomain prefix and '/' (e.g. 'example.com/MyName')"];
        IEnumerable<string> prefix = parts.Length == 1 ? []
            : parts[0].Length == 0 ? ["prefix part must be non-empty"]
            : DnsSubdomain(parts[0]).Select(e => "prefix part " + e);
        IEnumerable<string> name = parts[^1].Length == 0 ? ["name part must be non-empty"] : [];
        return prefix.Concat(name).Concat(NamePart.Check(parts[^1]).Select(e =>
            e.StartsWith("must", StringComparison.Ordinal) ? "name part " + e : e));
    }

    static IEnumerable<string> PathSegment(string value)
    {
        if (value is "." or "..") yield return $"may not be '{value}'";
        foreach (var c in (string[])["/", "%"])
            if (value.Contains(c)) yield return $"may not contain '{c}'";
    }

    static IEnumerable<string> Name(ResourceType type, string name) => type switch
    {
        { Group: "rbac.authorization.k8s.io" } => PathSegment(name),
        { IsNamespace: true } or { Plural: "services" } => DnsLabel(name),
        _ => DnsSubdomain(name),
    };

    // ----- metadata

    public static void Create(ResourceType type, JsonObject o, List<Cause> causes)
    {
        var (meta, name) = (o["metadata"], o.Text("metadata", "name") ?? "");
        if (meta.Text("generateName") is { Length: > 0 } prefix)
            // A trailing dash is completed by what is generated.
            foreach (var wrong in Name(type, prefix.EndsWith('-') ? prefix[..^1] + "a" : prefix))
                causes.Add(Cause.Text("metadata.generateName", prefix, wrong));
        if (name.Length == 0) causes.Add(Cause.Required("metadata.name", "name or generateName is required"));
        else foreach (var wrong in Name(type, name)) causes.Add(Cause.Text("metadata.name", name, wrong));
        Labels(meta.At("labels") as JsonObject, "metadata.labels", causes);
        Annotations(meta, causes);
        Owners(meta, causes);
        var finalizers = meta.Strings("finalizers");
        foreach (var finalizer in finalizers) Finalizer(finalizer, causes);
        if (!type.IsCustom) CoreFinalizers(finalizers, causes);
        if (finalizers.Contains("orphan") && finalizers.Contains("foregroundDeletion"))
            causes.Add(Cause.Invalid("metadata.finalizers", Json.Array(finalizers).ToJsonString(),
                "finalizer orphan and foregroundDeletion cannot be both set"));
    }

    public static void Update(ResourceType type, JsonObject before, JsonObject after, List<Cause> causes)
    {
        var (old, meta) = (before["metadata"], after["metadata"]);
        var added = meta.Strings("finalizers").Except(old.Strings("finalizers")).Order(StringComparer.Ordinal).ToList();
        if (added.Count > 0 && old.At("deletionTimestamp") is not null)
            causes.Add(Cause.Forbidden("metadata.finalizers", "no new finalizers can be added if the object is being " +
                $"deleted, found new finalizers {Go(added)}"));
        foreach (var field in (string[])["name", "namespace", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"])
            if (!Json.Same(old.At(field), meta.At(field)))
                causes.Add(Cause.Invalid($"metadata.{field}", meta.At(field)?.ToJsonString() ?? "\"null\"",
                    "field is immutable"));
        Labels(meta.At("labels") as JsonObject, "metadata.labels", causes);
        Annotations(meta, causes);
        Owners(meta, causes);
        if (type.IsCustom) return;
        foreach (var finalizer in meta.Strings("finalizers")) Finalizer(finalizer, causes);
        CoreFinalizers(meta.Strings("finalizers"), causes);
    }

    /// <summary>A list of strings as Go's %#v.</summary>
    public static string Go(IEnumerable<string> items) =>
        $"[]string{{{string.Join(", ", items.Select(Cause.Quote))}}}";

    public static void Labels(JsonObject? labels, string path, List<Cause> causes)
    {
        foreach (var (key, node) in labels ?? [])
        {
            var value = node.Text() ?? "";
            foreach (var wrong in QualifiedName(key, "a valid label key")) causes.Add(Cause.Text(path, key, wrong));
            foreach (var wrong in LabelValue(value)) causes.Add(Cause.Text(path, value, wrong));
        }
    }

    static void Annotations(JsonNode? meta, List<Cause> causes)
    {
        const int most = 256 * 1024;
        long size = 0;
        foreach (var (key, node) in meta.At("annotations") as JsonObject ?? [])
        {
            foreach (var wrong in QualifiedName(key.ToLowerInvariant()))
                causes.Add(Cause.Text("metadata.annotations", key, wrong));
            size += key.Length + (node.Text() ?? "").Length;
        }
        if (size > most)
            causes.Add(Cause.TooLong("metadata.annotations", most));
    }

    static void Owners(JsonNode? meta, List<Cause> causes)
    {
        string? controller = null;
        foreach (var owner in meta.Items("ownerReferences"))
        {
            const string path = "metadata.ownerReferences";
            foreach (var field in (string[])["apiVersion", "kind", "name", "uid"])
                if (string.IsNullOrEmpty(owner.Text(field)))
                    causes.Add(Cause.Text($"{path}.{field}", "",
                        field == "apiVersion" ? "version must not be empty" : "must not be empty"));
            if (!owner.IsTrue("controller")) continue;
            var name = owner.Text("name") ?? "";
            if (controller is not null)
                causes.Add(Cause.Invalid(path, "[]v1.OwnerReference{…}", "Only one reference can have Controller " +
                    $"set to true. Found \"true\" in references for {controller} and {name}"));
            controller ??= name;
        }
    }

    static void Finalizer(string finalizer, List<Cause> causes)
    {
        foreach (var wrong in QualifiedName(finalizer))
            causes.Add(Cause.Text("metadata.finalizers", finalizer, wrong));
    }

    static void CoreFinalizers(List<string> finalizers, List<Cause> causes)
    {
        foreach (var (i, finalizer) in finalizers.Index())
            if (!finalizer.Contains('/') && finalizer is not ("orphan" or "foregroundDeletion" or "kubernetes"))
                causes.Add(Cause.Text($"metadata.finalizers[{i}]", finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified"));
    }
}
