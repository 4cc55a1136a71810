// What became of one OMJob, read from everything that was seen of it and its pods, and what every run must keep.

using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

sealed class Run
{
    const string Prefix = "omjob.pipelines.openmetadata.org/";
    static readonly string[] Order = ["Pending", "Running", "ExitHandlerRunning", "Succeeded", "Failed"];

    readonly List<Notice> history;
    readonly bool orphaned;

    public Run(List<Notice> history, string uid)
    {
        this.history = history;
        var objects = history.Select(c => c.Object).ToList();
        var jobs = objects.Where(o => o.Uid() == uid).ToList();
        Job = jobs[^1];
        orphaned = jobs.Any(j => j.Finalizers().Contains("orphan"));
        Phases = [.. jobs.Select(j => j.Text("status", "phase") ?? "Pending")];
        for (var i = Phases.Count - 1; i > 0; i--)
            if (Phases[i] == Phases[i - 1]) Phases.RemoveAt(i);
        var pods = objects.Where(o => o.Text("kind") == "Pod" && IsOf(uid, o)).DistinctBy(o => o.Uid()).ToList();
        Mains = [.. pods.Where(p => Type(p) == "main")];
        Exits = [.. pods.Where(p => Type(p) != "main")];
    }

    /// <summary>The OMJob as it was last.</summary>
    public JsonObject Job { get; }

    /// <summary>Its phases, one after another.</summary>
    public List<string> Phases { get; }

    /// <summary>Its pods as they were created.</summary>
    public List<JsonObject> Mains { get; }

    public List<JsonObject> Exits { get; }

    public string? Message => Job.Text("status", "message");

    public long? ExitCode => Job.Long("status", "mainPodExitCode");

    /// <summary>A pod as it was last.</summary>
    public JsonObject Last(JsonObject pod) => history.Last(c => c.Object.Uid() == pod.Uid()).Object;

    public bool IsDeleted(JsonObject pod) => history.Any(c => c.Type == "DELETED" && c.Object.Uid() == pod.Uid());

    /// <summary>Whether a pod belongs to the OMJob of this UID: by its label, or by its owner.</summary>
    public static bool IsOf(string uid, JsonObject pod) => pod.Text("metadata", "labels", Prefix + "uid") == uid
        || pod.Items("metadata", "ownerReferences").Any(o => o.Text("uid") == uid);

    static string? Type(JsonObject pod) => pod.Text("metadata", "labels", Prefix + "pod-type");

    public void Check(string phase, int mains, int attempts, bool adopted)
    {
        Assert.Equal(phase, Phases[^1]);
        Assert.Equal(Phases.OrderBy(p => Array.IndexOf(Order, p)), Phases);
        Assert.Single(Phases, p => p is "Succeeded" or "Failed");
        Assert.Equal(mains, Mains.Count);
        Assert.Equal(attempts, Exits.Count);
        if (!history.Any(c => c.Late && c.Object.Uid() == Job.Uid()))
        {
            Assert.Equal(mains > 0, Phases.Contains("Running"));
            Assert.Equal(Job.At("spec", "exitHandlerSpec") is not null, Phases.Contains("ExitHandlerRunning"));
        }
        IsTime(Job.Text("status", "completionTime"));
        Assert.All(Job.Items("status", "conditions"), c => Assert.Equal("True", c.Text("status")));
        Assert.Equal(["MainPodFinished", "ExitHandlerFinished", "Finished"],
            Job.Items("status", "conditions").Select(c => c.Text("type")));
        if (mains > 0) IsTime(Job.Text("status", "startTime"));
        foreach (var exit in Exits) CheckMainWasOver(exit);
        if (adopted) return;
        CheckMainStayed();
        foreach (var pod in Mains.Concat(Exits)) CheckPod(pod);
    }

    static void IsTime(string? time) => Assert.Matches(@"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", time);

    /// <summary>When the exit pod was created the main pod was over, gone, or on a node that is lost.</summary>
    void CheckMainWasOver(JsonObject exit)
    {
        var before = history.TakeWhile(c => c.Object != exit);
        if (before.LastOrDefault(c => Mains.Any(m => m.Uid() == c.Object.Uid())) is not var (type, main)) return;
        var container = main.Items("status", "containerStatuses").SingleOrDefault(c => c.Text("name") == "main");
        Assert.True(type == "DELETED" || main.Text("status", "phase") is "Succeeded" or "Failed"
            || container.At("state", "terminated") is not null
            || main.Text("metadata", "annotations", "kubelet/lost") is not null
            || (main.Text("metadata", "deletionTimestamp") is not null && main.Text("spec", "nodeName") is null),
            $"The exit pod was created while the main pod was {main["status"]!.ToJsonString()}");
    }

    /// <summary>The main pod's object was there as long as an exit handler could want to read it. Who deletes it waits
    /// for one attempt, and not even for that once the deletion is overdue.</summary>
    void CheckMainStayed()
    {
        if (Exits.Count == 0 || Mains.Count == 0) return;
        var gone = history.FindIndex(c => c.Type == "DELETED" && c.Object.Uid() == Mains[0].Uid());
        if (gone < 0) return;
        var deletion = history.Take(gone).Where(c => c.Object.Uid() == Mains[0].Uid())
            .Select(c => c.Object.Time("metadata", "deletionTimestamp")).LastOrDefault();
        var awaited = deletion is null ? Exits[^1] : Exits[0];
        var ended = history.FindIndex(c => c.Object.Uid() == awaited.Uid()
            && (c.Type == "DELETED" || c.Object.Text("status", "phase") is "Succeeded" or "Failed"));
        Assert.True(gone > ended || history[gone].At > deletion + TestNamespace.LostPodSlack,
            "The main pod went before its exit handler had ended");
    }

    /// <summary>The pod is built as documented: name, labels, owner, container, variables, security contexts.</summary>
    void CheckPod(JsonObject pod)
    {
        var isMain = Type(pod) == "main";
        var main = Job.At("spec", "mainPodSpec")!;
        var spec = isMain ? main : Job.At("spec", "exitHandlerSpec")!;
        var suffix = isMain ? "-main" : Regex.Match(pod.Name(), @"-exit(-\d+)?$").Value;
        Assert.Equal(Fit(Job.Name(), 63 - suffix.Length) + suffix, pod.Name());
        if (isMain) Assert.Equal(pod.Name(), Job.Text("status", "mainPodName"));
        else if (pod == Exits[^1]) Assert.Equal(pod.Name(), Job.Text("status", "exitHandlerPodName"));

        Assert.Equal(Labels(spec, isMain), Strings(pod.At("metadata", "labels")));
        // A pod that is to outlive its OMJob must not name it as its owner.
        if (!orphaned || isMain) CheckOwner(Assert.Single(pod.Items("metadata", "ownerReferences")));
        if (isMain) Assert.Contains("pipelines.openmetadata.org/outcome", pod.Finalizers());

        Assert.Equal("Never", pod.Text("spec", "restartPolicy"));
        var container = Assert.Single(pod.Items("spec", "containers"));
        Assert.Equal("main", container.Text("name"));
        AssertJson(spec["command"], container["command"]);
        AssertJson(spec["resources"] ?? new JsonObject(), container["resources"]);
        AssertJson(spec["nodeSelector"], pod.At("spec", "nodeSelector"));
        AssertJson(spec["imagePullSecrets"] ?? main["imagePullSecrets"], pod.At("spec", "imagePullSecrets"));
        AssertJson(spec["serviceAccountName"] ?? main["serviceAccountName"], pod.At("spec", "serviceAccountName"));
        AssertJson(new JsonArray([.. Variables(spec, isMain)]), container["env"] ?? new JsonArray());

        var security = spec["securityContext"] ?? main["securityContext"]
            ?? JsonNode.Parse("""
                {
                  "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
                  "seccompProfile": {"type": "RuntimeDefault"}
                }
                """)!;
        AssertJson(security, pod.At("spec", "securityContext"));
        var own = JsonNode.Parse("""
            {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": false, "capabilities": {"drop": ["ALL"]}}
            """)!;
        foreach (var field in new[] { "runAsNonRoot", "runAsUser", "runAsGroup" })
            if (security[field] is { } value) own[field] = value.DeepClone();
        if (security["seccompProfile"] is null) own["seccompProfile"] = Json.Object("""{"type": "RuntimeDefault"}""");
        AssertJson(own, container["securityContext"]);
    }

    void CheckOwner(JsonObject owner)
    {
        Assert.Equal(("pipelines.openmetadata.org/v1", "OMJob"), (owner.Text("apiVersion"), owner.Text("kind")));
        Assert.Equal((Job.Name(), Job.Uid()), (owner.Text("name"), owner.Text("uid")));
        Assert.True((bool?)owner["controller"]);
        Assert.NotEqual(true, (bool?)owner["blockOwnerDeletion"]);
    }

    IEnumerable<JsonNode> Variables(JsonNode spec, bool isMain)
    {
        foreach (var variable in spec.Items("env").Where(v => isMain || v.Text("name") != "pipelineStatus"))
        {
            var clone = variable.DeepClone().AsObject();
            if (clone["valueFrom"] is JsonObject { Count: 0 }) clone.Remove("valueFrom");
            yield return clone;
        }
        var outcome = ExitCode == 0 ? "success" : "failed";
        if (!isMain) yield return new JsonObject { ["name"] = "pipelineStatus", ["value"] = outcome };
    }

    SortedDictionary<string, string> Labels(JsonNode spec, bool isMain)
    {
        var labels = new SortedDictionary<string, string>
        {
            ["app.kubernetes.io/name"] = "openmetadata",
            ["app.kubernetes.io/managed-by"] = "omjob-operator",
            ["app.kubernetes.io/component"] = isMain ? "ingestion" : "exit-handler",
        };
        foreach (var copied in new[] { "app.kubernetes.io/pipeline", "app.kubernetes.io/run-id" })
            if (Job.Text("metadata", "labels", copied) is { } value) labels[copied] = value;
        foreach (var (name, value) in Strings(spec["labels"]))
            if (Valid(value) is { Length: > 0 } valid && (isMain || name != "app.kubernetes.io/component"))
                labels[name] = valid;
        labels["omjob"] = labels[Prefix + "name"] = Valid(Job.Name());
        labels[Prefix + "uid"] = Job.Uid();
        labels[Prefix + "pod-type"] = isMain ? "main" : "exit-handler";
        return labels;
    }

    static SortedDictionary<string, string> Strings(JsonNode? map) =>
        new((map as JsonObject ?? []).ToDictionary(e => e.Key, e => e.Value!.ToString()));

    static string Valid(string value) =>
        Fit(Regex.Replace(Regex.Replace(value, "[^A-Za-z0-9-_.]", "-"), "^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", ""), 63);

    static string Fit(string name, int max)
    {
        if (name.Length <= max) return name;
        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..6];
        return $"{Regex.Replace(name[..(max - 7)], "[^a-z0-9]+$", "")}-{hash}";
    }

    static void AssertJson(JsonNode? wanted, JsonNode? actual) =>
        Assert.True(JsonNode.DeepEquals(wanted, actual), $"{actual?.ToJsonString()} is not {wanted?.ToJsonString()}");
}
