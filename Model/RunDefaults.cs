// What holds for every run that does not say otherwise.

using System.Security.Cryptography;
using System.Text;
using YamlDotNet.Core;

namespace OMJobs;

/// <summary>One version of the run defaults: a fragment of OMJob.spec. It never passes through the API server, so that
/// it holds under every CRD.</summary>
sealed class RunDefaults
{
    /// <summary>Lists of what has names: an item is another's default if it has the same. None: only equal items
    /// are.</summary>
    static readonly Dictionary<string, string[]> Lists = new()
    {
        ["env"] = ["name"],
        ["volumes"] = ["name"],
        ["initContainers"] = ["name"],
        ["imagePullSecrets"] = ["name"],
        ["volumeMounts"] = ["mountPath"],
        ["ports"] = ["containerPort", "protocol"],
        ["hostAliases"] = ["ip"],
        ["topologySpreadConstraints"] = ["topologyKey", "whenUnsatisfiable"],
        ["tolerations"] = [],
        ["envFrom"] = [],
    };

    /// <summary>Objects that are merged field by field, so many levels deep; others are taken whole.</summary>
    static readonly Dictionary<string, int> Depths = new()
    {
        ["labels"] = 1,
        ["annotations"] = 1,
        ["nodeSelector"] = 1,
        ["securityContext"] = 1,
        ["containerSecurityContext"] = 1,
        ["resources"] = 2,
    };

    public const string BySchema = "each CRD gives it to every OMJob, so that no default would apply";
    /// <summary>What every CRD fills in before the operator sees the OMJob.</summary>
    static readonly string[] Filled =
        ["ttlSecondsAfterFinished", "mainPodSpec.imagePullPolicy", "exitHandlerSpec.imagePullPolicy"];

    static readonly Lazy<JsonNode> Schema = new(() =>
    {
        using var file = new StreamReader(typeof(RunDefaults).Assembly.GetManifestResourceStream("omjob.yaml")!);
        return YamlReading.Documents(file.ReadToEnd())[0]!["spec"]!["versions"]![0]!["schema"]!["openAPIV3Schema"]!
            ["properties"]!["spec"]!;
    });

    RunDefaults(string text, JsonObject fragment)
    {
        Spec = fragment.Element();
        Hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)))[..12];
        BackoffLimit = JobObject.BackoffLimitOf(Spec);
    }

    /// <summary>Tells the versions of the file apart.</summary>
    public string Hash { get; }
    public JsonElement Spec { get; }
    public int? BackoffLimit { get; }

    /// <summary>Throws DefaultsException, which says where it is wrong, and nothing that stands there.</summary>
    public static RunDefaults Parse(string text)
    {
        List<JsonNode?> documents;
        try { documents = YamlReading.Documents(text); }
        catch (AnchorNotFoundException) { throw new DefaultsException("an alias, *name, has no anchor, &name"); }
        catch (YamlException e)
        {
            throw new DefaultsException($"{(e.InnerException is null ? $"line {e.Start.Line}: " : "")}this is no YAML");
        }
        if (documents.Count > 1) throw new DefaultsException("there is more than one document");
        var fragment = documents is [{ } only] ? only : new JsonObject();
        if (fragment is not JsonObject fields) throw new DefaultsException("this is no fragment of an OMJob's spec");
        foreach (var path in Filled)
            if (path.Split('.').Aggregate((JsonNode?)fields, (at, step) => (at as JsonObject)?[step]) is not null)
                throw new DefaultsException($"{path}: {BySchema}");
        return StructuralSchema.Fault(fields, Schema.Value, "", fragments: 2) is { } fault
            ? throw new DefaultsException(fault) : new(text, fields);
    }

    /// <summary>The spec of an OMJob with all that it does not say itself; over that again nothing changes.</summary>
    public JsonElement Over(JsonElement own)
    {
        var merged = own.Copy();
        foreach (var field in Spec.Fields().Where(f => f.Name is not ("mainPodSpec" or "exitHandlerSpec")))
            merged[field.Name] = Merged(own.Get(field.Name), field.Value, 0);
        var (main, exit) = (own.Get("mainPodSpec"), own.Get("exitHandlerSpec"));
        var standard = Spec.Get("mainPodSpec");
        merged["mainPodSpec"] = PodSpec(main, standard);
        if (exit.ValueKind == JsonValueKind.Object) // an OMJob that has no exit handler gets none
            merged["exitHandlerSpec"] = PodSpec(WithInherited(exit, main),
                WithInherited(Spec.Get("exitHandlerSpec"), standard));
        return merged.Element();
    }

    /// <summary>An exit handler's spec with what it takes from the main pod's.</summary>
    static JsonElement WithInherited(JsonElement exit, JsonElement main)
    {
        var whole = exit.Copy();
        foreach (var name in PodTemplate.Inheritable)
        {
            whole.Remove(name);
            whole.Give(name, PodTemplate.Inherited(exit, main, name));
        }
        return whole.Element();
    }

    static JsonObject PodSpec(JsonElement own, JsonElement standard)
    {
        var merged = own.Copy();
        var runs = !IsAbsent(own.Get("command")) || !IsAbsent(own.Get("args")); // whoever gives either gives both
        foreach (var (name, value) in standard.Fields().Select(f => (f.Name, f.Value)))
            if (!runs || name is not ("command" or "args"))
                merged[name] = Lists.TryGetValue(name, out var keys) ? List(own.Get(name), value, keys)
                    : Merged(own.Get(name), value, Depths.GetValueOrDefault(name));
        return merged;
    }

    static JsonNode? Merged(JsonElement own, JsonElement standard, int depth)
    {
        if (IsAbsent(own)) return standard.Node();
        if (depth == 0 || own.ValueKind != JsonValueKind.Object) return own.Node();
        var merged = own.Copy();
        foreach (var field in standard.Fields())
            merged[field.Name] = Merged(own.Get(field.Name), field.Value, depth - 1);
        return merged;
    }

    /// <summary>Own items first, then those that are not there.</summary>
    static JsonNode? List(JsonElement own, JsonElement standard, string[] keys)
    {
        if (!IsAbsent(own) && own.ValueKind != JsonValueKind.Array) return own.Node();
        return new JsonArray([.. own.Items().Concat(standard.Items().Where(item => !own.Items().Any(Same(item))))
            .Select(item => item.Node())]);

        Func<JsonElement, bool> Same(JsonElement item) => keys.Length == 0
            ? other => JsonElement.DeepEquals(item, other)
            : other => Array.TrueForAll(keys, key => Key(item, key) == Key(other, key));
    }

    static string Key(JsonElement item, string name) =>
        item.Get(name).ToString() is { Length: > 0 } key ? key : name == "protocol" ? "TCP" : "";

    /// <summary>CRDs leave an empty object where they drop all of its fields.</summary>
    static bool IsAbsent(JsonElement given) => given.ValueKind is JsonValueKind.Undefined or JsonValueKind.Null
        || (given.ValueKind == JsonValueKind.Object && !given.Fields().Any());
}

/// <summary>The file of the run defaults, read again and again: the current version, and those that runs still
/// need.</summary>
sealed class DefaultsFile(string name, Func<string> read)
{
    const int MostLength = 1 << 20; // bytes, as much as a ConfigMap holds
    /// <summary>For how long a version is kept that nobody is known to need: pods may be made of it just now.</summary>
    static readonly TimeSpan Kept = TimeSpan.FromMinutes(10);
    /// <summary>How often it is read.</summary>
    public static readonly TimeSpan Period = TimeSpan.FromSeconds(2);

    sealed record Old(RunDefaults Version, DateTimeOffset Replaced);

    Old[] replaced = []; // never changed, but exchanged for another: workers read it
    (string Text, string? Fault) last, taken;

    public DefaultsFile(string path) : this(path, () => Read(path)) { }

    public RunDefaults Current { get; private set; } = null!;
    /// <summary>What it holds now is what is current.</summary>
    public bool IsGood { get; private set; }

    /// <summary>Of all versions that are known.</summary>
    public IEnumerable<JsonElement> Specs => replaced.Select(old => old.Version.Spec).Append(Current.Spec);

    /// <summary>The version of that hash where it is still known, else the current one.</summary>
    public RunDefaults Of(string? hash) =>
        Current is var current && hash == current.Hash ? current
            : Array.Find(replaced, old => old.Version.Hash == hash)?.Version ?? current;

    /// <summary>Reads it for the first time. Throws DefaultsException.</summary>
    public void Load() => Current = Parse(last = taken = Look());

    /// <summary>Takes what it holds, once two reads in a row agree: others than a kubelet may be writing it. Needed:
    /// the hashes of versions that runs need. Returns true where there is something new; throws DefaultsException where
    /// that is bad.</summary>
    public bool Changed(Func<ISet<string>> needed, DateTimeOffset now)
    {
        var (previous, found) = (last, last = Look());
        if (found != previous || found == taken) return false;
        var (next, wanted) = (Parse(taken = found), needed());
        replaced = [.. replaced.Append(new(Current, now)).Where(old => old.Version.Hash != next.Hash
            && (wanted.Contains(old.Version.Hash) || now - old.Replaced <= Kept))];
        Current = next; // only now: who asks for the old one by its hash finds it all the time
        return true;
    }

    RunDefaults Parse((string Text, string? Fault) found)
    {
        IsGood = false;
        try
        {
            var parsed = found.Fault is null ? RunDefaults.Parse(found.Text) : throw new DefaultsException(found.Fault);
            IsGood = true;
            return parsed;
        }
        catch (DefaultsException e) { throw new DefaultsException($"run defaults {name}: {e.Message}"); }
    }

    (string Text, string? Fault) Look()
    {
        try { return (read(), null); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return ("", e.Message); }
    }

    static string Read(string path)
    {
        using var file = File.OpenRead(path);
        if (!file.CanSeek || file.Length > MostLength) throw new IOException($"it is larger than {MostLength} bytes");
        var bytes = new byte[file.Length + 1];
        var length = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        if (length == bytes.Length) throw new IOException("it grows");
        using var text = new StreamReader(new MemoryStream(bytes, 0, length));
        return text.ReadToEnd();
    }
}

/// <summary>Run defaults that whoever wrote them must change.</summary>
sealed class DefaultsException(string message) : Exception(message);
