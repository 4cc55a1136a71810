// What the pods of an OMJob are called and made of.

using System.Globalization;

namespace OMJobs;

enum PodType { Main, ExitHandler }

static class LabelKeys
{
    const string Prefix = "omjob.pipelines.openmetadata.org/";
    public const string Job = "omjob", Name = Prefix + "name", Type = Prefix + "pod-type", Uid = Prefix + "uid";
    /// <summary>An annotation, as the UID is one too.</summary>
    public const string Defaults = Prefix + "run-defaults";
    public const string Component = "app.kubernetes.io/component", Pipeline = "app.kubernetes.io/pipeline",
        RunId = "app.kubernetes.io/run-id";
    public const string Main = "main", ExitHandler = "exit-handler";
}

/// <summary>What the pods are called and made of.</summary>
static class PodTemplate
{
    /// <summary>The container's fields of our pod spec; all others but labels and annotations are the pod's.</summary>
    static readonly HashSet<string> OfContainer =
    [
        "image", "imagePullPolicy", "command", "args", "workingDir", "envFrom", "resources", "volumeMounts",
        "volumeDevices", "ports", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe",
        "stdin", "stdinOnce", "tty", "resizePolicy",
        "terminationMessagePath", "terminationMessagePolicy",
    ];

    /// <summary>Fields that are set here whatever the spec says.</summary>
    static readonly HashSet<string> Own =
    [
        "labels", "annotations", "containers", "restartPolicy", "securityContext", "containerSecurityContext",
        "serviceAccountName", "imagePullSecrets", "env",
    ];

    /// <summary>Characters of an OMJob's name in its main pod's name.</summary>
    public const int MostInPodName = 58;

    public static string NameOf(Job job, PodType type) => type == PodType.Main ? MainName(job) : ExitName(job);

    public static string MainName(Job job) => job.Status.MainPodName ?? MainName(job.Name);

    public static string MainName(string job) => Names.Fit(job, MostInPodName, "omjob") + MainSuffix;

    public const string MainSuffix = "-main";

    public static string ExitName(Job job) => job.Status.ExitPodName ?? ExitName(job.Name, 1);

    public static string ExitName(string job, int attempt)
    {
        var suffix = attempt == 1 ? "-exit" : $"-exit-{attempt}";
        return Names.Fit(job, 63 - suffix.Length, "omjob") + suffix;
    }

    /// <summary>The number in the exit pod's name in status, from 1. Others' pods may have taken names (H9).</summary>
    public static int Number(Job job)
    {
        var name = job.Status.ExitPodName ?? "";
        var number = name[(name.LastIndexOf('-') + 1)..];
        return int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var n)
            && n > 1 && name == ExitName(job.Name, n) ? n : 1;
    }

    /// <summary>How many attempts of the exit handler have run, none of them well, before the one that is named. Told
    /// by the message, which every CRD keeps: by the pod's name it may be less, for others' pods may have had names
    /// (H9). Where the message does not tell, one less than the name says: rather an attempt more.</summary>
    public static int Ran(Job job)
    {
        var before = Number(job) - 1;
        var (told, text) = job.Status.Attempt;
        var ending = Ending.Of(text);
        if (told == 0) return Math.Max(0, before - 1);
        return Math.Clamp(ending == Ending.Renamed || ending == Ending.Blocked ? told - 1 : told, 0, before);
    }

    /// <summary>The timeout holds the API server too: a creation that comes late could be a second one (D6). The query
    /// asks for more.</summary>
    public static Request Creation(Job job, PodType type, RunDefaults? defaults = null, string query = "") =>
        new(HttpMethod.Post, $"{Resources.Pods.Path(job.Namespace)}?timeout=10s{query}", Build(job, type, defaults));

    /// <summary>The pod as JSON. Fields that we do not read travel as they came. It tells which run defaults it was
    /// made with, if it tells: the main pod always, an exit pod where they make a difference.</summary>
    public static byte[] Build(Job job, PodType type, RunDefaults? defaults = null, bool tells = true)
    {
        var own = job.ReadSpec();
        if (defaults is null) return Build(job, type, own).Bytes();
        var merged = Build(job, type, defaults.Over(own));
        if (type == PodType.ExitHandler && Build(job, type, own) is var alone && JsonNode.DeepEquals(alone, merged))
            return alone.Bytes();
        if (tells) merged["metadata"]!["annotations"]![LabelKeys.Defaults] = defaults.Hash;
        return merged.Bytes();
    }

    /// <summary>What an exit handler's spec takes from the main pod's where it does not say it.</summary>
    public static readonly string[] Inheritable = ["securityContext", "serviceAccountName", "imagePullSecrets"];

    public static JsonElement Inherited(JsonElement own, JsonElement main, string name) =>
        own.Get(name).OrNothing() is { ValueKind: not JsonValueKind.Undefined } itself
        ? itself : main.Get(name).OrNothing();

    static JsonObject Build(Job job, PodType type, JsonElement given)
    {
        var exit = type == PodType.ExitHandler;
        var main = given.Get("mainPodSpec");
        var own = exit ? given.Get("exitHandlerSpec") : main;
        // How profiles were said before Kubernetes 1.19; such an annotation and a field may contradict each other.
        var profile = !own.Get("annotations").Fields().Any(a => a.Name.Contains("seccomp.security.alpha.kubernetes.io"));
        var security = Inherited(own, main, "securityContext") is { ValueKind: JsonValueKind.Object } asked
            ? asked : ModelJson.DefaultSecurity;
        var container = new JsonObject { ["name"] = "main", ["imagePullPolicy"] = "IfNotPresent" };
        var spec = new JsonObject { ["restartPolicy"] = "Never" };
        foreach (var field in own.Fields().Where(f => !Own.Contains(f.Name)))
            (OfContainer.Contains(field.Name) ? container : spec).Give(field.Name, field.Value);
        // Else "restricted" refuses the pod. One of its own is left as it is, but for a profile.
        foreach (var initial in (spec["initContainers"] as JsonArray ?? []).OfType<JsonObject>())
            initial["securityContext"] ??= ContainerSecurity(default, security);
        container["env"] = Env(job, type, own.Get("env"));
        container["securityContext"] = ContainerSecurity(own.Get("containerSecurityContext"), security);
        if (profile && security.Get("seccompProfile").OrNothing().ValueKind == JsonValueKind.Undefined)
            foreach (var one in (spec["initContainers"] as JsonArray ?? []).Append(container))
                AddProfile(one?["securityContext"]);
        spec.Give("serviceAccountName", Inherited(own, main, "serviceAccountName"));
        spec.Give("imagePullSecrets", Inherited(own, main, "imagePullSecrets"));
        spec.Give("securityContext", security);
        if (!exit) spec.Give("activeDeadlineSeconds", given.Get("activeDeadlineSeconds")); // H6: main only
        spec["containers"] = new JsonArray(container);
        var meta = new JsonObject
        {
            ["name"] = NameOf(job, type),
            ["namespace"] = job.Namespace,
            ["labels"] = LabelsOf(job, type, own),
        };
        // A policy may take labels, an orphaning owner references: then this tells whose it is.
        var notes = own.Get("annotations").ValueKind == JsonValueKind.Object
            ? JsonObject.Create(own.Get("annotations"))! : [];
        notes[LabelKeys.Uid] = job.Uid;
        notes.Remove(LabelKeys.Defaults);
        meta["annotations"] = notes;
        // G20: the collector would take a pod that names an owner which is orphaning its pods.
        if (!job.Orphaning) meta["ownerReferences"] = new JsonArray(Owner(job));
        if (!exit) meta["finalizers"] = new JsonArray(Pod.Finalizer);
        return new() { ["apiVersion"] = "v1", ["kind"] = "Pod", ["metadata"] = meta, ["spec"] = spec };
    }

    /// <summary>The spec's, else ours, with the pod's users.</summary>
    static JsonObject ContainerSecurity(JsonElement given, JsonElement ofPod)
    {
        var context = new JsonObject();
        foreach (var name in (string[])["runAsNonRoot", "runAsUser", "runAsGroup"]) context.Give(name, ofPod.Get(name));
        foreach (var field in ModelJson.DefaultContainerSecurity.Fields().Concat(given.Fields()))
            context.Give(field.Name, field.Value);
        return context;
    }

    /// <summary>Where neither pod nor container says one: "restricted" wants it, and the server sends none.</summary>
    static void AddProfile(JsonNode? context)
    {
        if (context is JsonObject itself && itself["seccompProfile"] is null or JsonObject { Count: 0 })
            itself["seccompProfile"] = new JsonObject { ["type"] = "RuntimeDefault" };
    }

    /// <summary>The spec's env without empty valueFrom; the exit handler is told the outcome, last.</summary>
    static JsonArray Env(Job job, PodType type, JsonElement given)
    {
        var (env, exit) = (new JsonArray(), type == PodType.ExitHandler);
        foreach (var item in given.Items().Where(i => !exit || i.Text("name") != "pipelineStatus"))
        {
            var node = item.Node();
            if (node is JsonObject variable && variable["valueFrom"] is JsonObject { Count: 0 })
                variable.Remove("valueFrom");
            env.Add(node);
        }
        var outcome = job.Status.ExitCode == 0 ? "success" : "failed";
        if (exit) env.Add((JsonNode)new JsonObject { ["name"] = "pipelineStatus", ["value"] = outcome });
        return env;
    }

    /// <summary>blockOwnerDeletion stays false: true is refused without rights on omjobs/finalizers, and has foreground
    /// deletion take the exit pod.</summary>
    public static JsonObject Owner(CachedObject owner) => new()
    {
        ["apiVersion"] = owner.Key.Resource!.ApiVersion,
        ["kind"] = owner.Key.Resource!.Kind,
        ["name"] = owner.Name,
        ["uid"] = owner.Uid,
        ["controller"] = true,
        ["blockOwnerDeletion"] = false,
    };

    /// <summary>Ours, then the spec's, then those by which pods are found, which no spec overrides.</summary>
    static JsonObject LabelsOf(Job job, PodType type, JsonElement spec)
    {
        var labels = new JsonObject();
        void Set(string key, string? value)
        {
            if (Names.LabelValue(value ?? "") is { Length: > 0 } valid) labels[key] = valid;
            else labels.Remove(key);
        }
        Set("app.kubernetes.io/name", "openmetadata");
        Set("app.kubernetes.io/managed-by", "omjob-operator");
        Set(LabelKeys.Component, "ingestion");
        Set(LabelKeys.Pipeline, job.Pipeline);
        Set(LabelKeys.RunId, job.RunId);
        foreach (var label in spec.Get("labels").Fields()) Set(label.Name, label.Value.ToString());
        if (type == PodType.ExitHandler) Set(LabelKeys.Component, LabelKeys.ExitHandler);
        foreach (var (key, value) in OwnLabels(job, type)) Set(key, value);
        return labels;
    }

    static (string, string)[] OwnLabels(Job job, PodType type) =>
        [(LabelKeys.Job, job.Name), (LabelKeys.Name, job.Name),
            (LabelKeys.Type, type == PodType.Main ? LabelKeys.Main : LabelKeys.ExitHandler), (LabelKeys.Uid, job.Uid)];

    /// <summary>D3, H1: the patch that gives a pod its labels back.</summary>
    public static byte[] LabelPatch(Job job, Pod pod)
    {
        var labels = new JsonObject();
        var type = pod.Name == MainName(job) ? PodType.Main : PodType.ExitHandler;
        foreach (var (key, value) in OwnLabels(job, type)) labels[key] = Names.LabelValue(value);
        return Bodies.Metadata(pod.Uid, null, [new("labels", labels)]);
    }
}
