// Deployments and Jobs, as much of them as an installation shows: pods are made, replaced when the template changes, and
// counted in the status. A Deployment's pods are its own, without ReplicaSets; a Job has one pod at a time and no pause
// between two.

using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

sealed partial class Store
{
    const string TemplateHash = "pod-template-hash";

    /// <summary>New pods first; those of another template go once the new ones are ready.</summary>
    void RunDeployment(string key, JsonObject deployment)
    {
        if (IsDeleting(deployment)) return;
        var (type, template) = (TypeOf("apps", "v1", "deployments")!, (JsonObject)deployment["spec"]!["template"]!);
        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(template.ToJsonString())))[..10];
        var pods = PodsOf(deployment).Where(p => !IsDeleting(p.Object)).ToList();
        bool IsCurrent(JsonObject pod) => pod.Text("metadata", "labels", TemplateHash) == hash;
        var wanted = (int)(deployment.Long("spec", "replicas") ?? 1);
        var current = pods.Where(p => IsCurrent(p.Object)).ToList();
        for (var i = current.Count; i < wanted; i++)
            NewPod(deployment, "apps/v1", "Deployment", template, $"{hash}-", (TemplateHash, hash));
        var surplus = current.Skip(wanted);
        if (current.Count(p => IsReady(p.Object)) >= wanted) surplus = surplus.Concat(pods.Except(current));
        foreach (var pod in surplus.ToList()) Delete(Core("pods"), pod.Key, pod.Object, new());

        var left = PodsOf(deployment).Select(p => p.Object).Where(p => !IsDeleting(p)).ToList();
        var (ready, enough) = (left.Count(IsReady), left.Count(IsReady) >= wanted);
        var status = Counts(("replicas", left.Count), ("updatedReplicas", left.Count(IsCurrent)),
            ("readyReplicas", ready), ("availableReplicas", ready), ("unavailableReplicas", wanted - ready));
        status["observedGeneration"] = deployment.Long("metadata", "generation");
        status["conditions"] = new JsonArray(Condition(deployment, "Available", enough,
            enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable"));
        WriteStatus(type, key, deployment, status);
    }

    void RunJob(string key, JsonObject job)
    {
        if (IsDeleting(job) || job.At("status").Items("conditions").Any(c => c.Text("type") is "Complete" or "Failed"))
            return;
        var pods = PodsOf(job);
        int In(string phase) => pods.Count(p => p.Object.Text("status", "phase") == phase);
        var (done, failed) = (In("Succeeded"), In("Failed"));
        var active = pods.Length - done - failed;
        var lost = done == 0 && failed > (job.Long("spec", "backoffLimit") ?? 6);
        if (active == 0 && done == 0 && !lost)
        {
            NewPod(job, "batch/v1", "Job", (JsonObject)job["spec"]!["template"]!, "", ("job-name", job.Name()));
            active = 1;
        }
        var status = Counts(("active", active), ("succeeded", done), ("failed", failed));
        status["startTime"] = job.At("status", "startTime")?.DeepClone() ?? Stamp;
        if (done > 0) status["completionTime"] = Stamp;
        if (done > 0 || lost)
            status["conditions"] = new JsonArray(done > 0
                ? Condition(job, "Complete", true, "CompletionsReached") : Condition(job, "Failed", true, "BackoffLimitExceeded"));
        WriteStatus(TypeOf("batch", "v1", "jobs")!, key, job, status);
    }

    (ResourceType Type, string Key, JsonObject Object)[] PodsOf(JsonObject owner) =>
        [.. DependentsOf(owner).Where(d => d.Type.IsPod).OrderBy(d => d.Key, StringComparer.Ordinal)];

    static bool IsReady(JsonObject pod) =>
        pod.At("status").Items("conditions").Any(c => c.Text("type") == "Ready" && c.Text("status") == "True");

    void NewPod(JsonObject owner, string version, string kind, JsonObject template, string infix,
        (string Name, string Value) label)
    {
        var pod = template.Clone();
        var (meta, ns) = (pod.Child("metadata"), owner.Text("metadata", "namespace")!);
        meta["generateName"] = $"{owner.Name()}-{infix}";
        meta["namespace"] = ns;
        meta.Child("labels")[label.Name] = label.Value;
        meta["ownerReferences"] = new JsonArray(new JsonObject
        {
            ["apiVersion"] = version, ["kind"] = kind, ["name"] = owner.Name(), ["uid"] = owner.Uid(),
            ["controller"] = true, ["blockOwnerDeletion"] = true,
        });
        (pod["apiVersion"], pod["kind"]) = ("v1", "Pod");
        BuiltIn.SetDefaults(Core("pods"), pod);
        Insert(Core("pods"), ns, pod);
    }

    /// <summary>None of what there is none of.</summary>
    static JsonObject Counts(params (string Name, long Count)[] counts) => new(counts.Where(c => c.Count > 0)
        .Select(c => KeyValuePair.Create(c.Name, (JsonNode?)c.Count)));
}
