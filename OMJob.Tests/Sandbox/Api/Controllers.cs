// What the controller manager does, a step at a time: garbage collection by owner references in all three modes, the
// end of namespaces, default service accounts, the status of quotas and of CustomResourceDefinitions, and workloads.
// Each write notes which objects have to be looked at; RunController looks at one. A simulation may put other things in
// between.

using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

sealed partial class Store
{
    /// <summary>An object to look at; the same one waits only once.</summary>
    readonly record struct Work(ResourceType Type, string Key);

    readonly Queue<Work> work = [];
    readonly HashSet<Work> waiting = [];
    readonly Dictionary<string, (ResourceType Type, string Key)> byUid = [];
    readonly Dictionary<string, HashSet<string>> dependents = []; // UIDs by the UID of their owner

    /// <summary>Lets the controllers do all there is to do.</summary>
    public void RunControllers()
    {
        while (RunController()) { }
    }

    /// <summary>Lets the controllers do the next thing; false where there is none.</summary>
    public bool RunController()
    {
        lock (gate)
        {
            if (!work.TryDequeue(out var item)) return false;
            waiting.Remove(item);
            // A write that is refused is not repeated: the write that changes its ground notes the object again.
            try { Look(item.Type, item.Key); }
            catch (RefusedException) { }
            return true;
        }
    }

    void Enqueue(ResourceType type, string key)
    {
        if (waiting.Add(new(type, key))) work.Enqueue(new(type, key));
    }

    void EnqueueUid(string uid)
    {
        if (byUid.TryGetValue(uid, out var at)) Enqueue(at.Type, at.Key);
    }

    static IEnumerable<JsonObject> Owners(JsonObject? o) => o.At("metadata").Items("ownerReferences");

    /// <summary>Keeps the indexes, and notes what a write gives the controllers to do.</summary>
    void Note(Change change)
    {
        var (type, key) = (change.Type, change.Key);
        var uid = change.Shown.Text("metadata", "uid")!;
        foreach (var owner in Owners(change.Before))
            dependents.GetValueOrDefault(owner.Text("uid") ?? "")?.Remove(uid);
        if (change.After is { } after)
        {
            byUid[uid] = (type, key);
            foreach (var owner in Owners(after).Select(o => o.Text("uid") ?? ""))
            {
                if (!dependents.TryGetValue(owner, out var mine)) dependents[owner] = mine = [];
                mine.Add(uid);
            }
        }
        else byUid.Remove(uid);
        var relevant = type.IsNamespace || type.IsWorkload || type.Plural is "resourcequotas" or ResourceType.CrdPlural
            || change.Shown.At("metadata", "deletionTimestamp") is not null || Owners(change.Shown).Any();
        if (relevant && change.After is not null) Enqueue(type, key);
        // Owners wait for their dependents, and dependents are to follow their owners.
        foreach (var owner in Owners(change.Before)) EnqueueUid(owner.Text("uid") ?? "");
        if (change.After is null || change.Shown.At("metadata", "deletionTimestamp") is not null)
            foreach (var dependent in dependents.GetValueOrDefault(uid) ?? []) EnqueueUid(dependent);
        if (change.After is null && dependents.GetValueOrDefault(uid) is { Count: 0 }) dependents.Remove(uid);
        if (type.IsCustom && change.After is null) Enqueue(Definitions, type.Qualified);
        if (!type.Namespaced) return;
        var ns = key[..key.IndexOf('/')];
        foreach (var quota in InNamespace(Core("resourcequotas"), ns))
            if (quota.Key != key || type.Plural != "resourcequotas") Enqueue(Core("resourcequotas"), quota.Key);
        if (change.After is null) Enqueue(Core("namespaces"), ns);
    }

    void Look(ResourceType type, string key)
    {
        if (Find(type, key) is not { } o) return;
        if (type.IsNamespace) LookAtNamespace(key, o);
        else if (type.Plural == "resourcequotas") WriteQuotaStatus(key, o);
        else if (type.Qualified == "deployments.apps") RunDeployment(key, o);
        else if (type.Qualified == "jobs.batch") RunJob(key, o);
        else if (type.Plural == ResourceType.CrdPlural && IsDeleting(o)) CleanUp(type, key, o);
        if (Find(type, key) is { } still) Collect(type, key, still);
    }

    // ----- garbage collection

    static bool HasFinalizer(JsonObject o, string finalizer) =>
        o["metadata"].Strings("finalizers").Contains(finalizer);

    static bool IsDeleting(JsonObject o) => o.At("metadata", "deletionTimestamp") is not null;

    static bool WaitsForDependents(JsonObject o) => IsDeleting(o) && HasFinalizer(o, "foregroundDeletion");

    IEnumerable<(ResourceType Type, string Key, JsonObject Object)> DependentsOf(JsonObject owner)
    {
        foreach (var uid in (dependents.GetValueOrDefault(owner.Text("metadata", "uid")!) ?? []).ToArray())
            if (byUid.TryGetValue(uid, out var at) && Find(at.Type, at.Key) is { } o) yield return (at.Type, at.Key, o);
    }

    void Collect(ResourceType type, string key, JsonObject o)
    {
        if (IsDeleting(o) && HasFinalizer(o, "orphan"))
        {
            Orphan(type, key, o);
            return;
        }
        if (WaitsForDependents(o))
        {
            var uid = o.Text("metadata", "uid");
            var blocking = DependentsOf(o).Where(d =>
                Owners(d.Object).Any(r => r.Text("uid") == uid && r.IsTrue("blockOwnerDeletion")));
            if (!blocking.Any()) RemoveFinalizer(type, key, o, "foregroundDeletion");
            return;
        }
        if (!IsDeleting(o)) FollowOwners(type, key, o);
    }

    /// <summary>Deletes what has owners, none of which stays.</summary>
    void FollowOwners(ResourceType type, string key, JsonObject o)
    {
        var (owners, ns) = (Owners(o).ToList(), o.Text("metadata", "namespace") ?? "");
        if (owners.Count == 0) return;
        var gone = new List<string?>();
        var (stays, waits) = (0, 0);
        foreach (var reference in owners)
        {
            // A kind that nobody knows is not known to be gone.
            if (TypeOfKind(reference.Text("apiVersion") ?? "", reference.Text("kind") ?? "") is not { } kind) return;
            var owner = Find(kind, kind.Key(ns, reference.Text("name") ?? ""));
            var uid = reference.Text("uid");
            if (owner is null || owner.Text("metadata", "uid") != uid) gone.Add(uid);
            else if (WaitsForDependents(owner)) waits++;
            else stays++;
        }
        if (stays > 0)
        {
            if (gone.Count > 0) Amend(type, key, o, m => RemoveOwners(m, r => gone.Contains(r.Text("uid"))));
            return;
        }
        var foreground = waits > 0 && DependentsOf(o).Any() || HasFinalizer(o, "foregroundDeletion");
        var policy = HasFinalizer(o, "orphan") ? "Orphan" : foreground ? "Foreground" : "Background";
        Delete(type, key, o, new() { Propagation = policy });
    }

    void Orphan(ResourceType type, string key, JsonObject o)
    {
        var uid = o.Text("metadata", "uid");
        foreach (var dependent in DependentsOf(o).ToArray())
            Amend(dependent.Type, dependent.Key, dependent.Object,
                m => RemoveOwners(m, r => r.Text("uid") == uid));
        RemoveFinalizer(type, key, o, "orphan");
    }

    static void RemoveOwners(JsonObject meta, Func<JsonObject, bool> which)
    {
        var kept = meta.Items("ownerReferences").Where(r => !which(r)).Select(r => r.DeepClone()).ToArray();
        meta.Put("ownerReferences", kept.Length == 0 ? null : new JsonArray(kept));
    }

    void RemoveFinalizer(ResourceType type, string key, JsonObject o, string finalizer)
    {
        var left = o["metadata"].Strings("finalizers");
        left.Remove(finalizer);
        if (left.Count == 0) Commit(type, key, o, null);
        else Amend(type, key, o, m => m["finalizers"] = Json.Array(left));
    }

    void Amend(ResourceType type, string key, JsonObject o, Action<JsonObject> change)
    {
        var next = o.Clone();
        change((JsonObject)next["metadata"]!);
        if (!Json.Same(o, next)) Commit(type, key, o, next);
    }

    // ----- namespaces

    void LookAtNamespace(string name, JsonObject ns)
    {
        var accounts = Core("serviceaccounts");
        if (ns.Text("status", "phase") != "Terminating")
        {
            if (Find(accounts, $"{name}/default") is null)
                Insert(accounts, name, Json.Object($$"""
                    {"kind": "ServiceAccount", "apiVersion": "v1",
                     "metadata": {"name": "default", "namespace": "{{name}}"} }
                    """));
            return;
        }
        // All else stays until the last pod has gone.
        var pods = Empty(name, [Core("pods")]).Count > 0;
        var left = pods ? [] : Empty(name, Types.Where(t => t.Namespaced).DistinctBy(t => t.Qualified));
        ns = TellWhatRemains(name, ns, left);
        if (pods || left.Count > 0) return;
        if (ns.At("metadata", "finalizers").IsEmpty()) Commit(Core("namespaces"), name, ns, null);
        else if (HasSpecFinalizers(ns))
        {
            var next = ns.Clone();
            next.Child("spec").Remove("finalizers");
            Commit(Core("namespaces"), name, ns, next);
        }
    }

    /// <summary>Deletes what there is of these types; returns what stays all the same.</summary>
    List<(ResourceType Type, JsonObject Object)> Empty(string ns, IEnumerable<ResourceType> types)
    {
        var left = new List<(ResourceType, JsonObject)>();
        foreach (var type in types.ToArray())
        {
            foreach (var (key, o) in InNamespace(type, ns).ToArray())
                if (Find(type, key) is { } there) Delete(type, key, there, new() { Propagation = "Background" });
            left.AddRange(InNamespace(type, ns).Select(o => (type, o.Value)));
        }
        return left;
    }

    /// <summary>The conditions of a namespace that is going.</summary>
    JsonObject TellWhatRemains(string name, JsonObject ns, List<(ResourceType Type, JsonObject Object)> left)
    {
        string Each(IEnumerable<string> names, string words) => string.Join(", ", names.GroupBy(n => n)
            .Select(g => $"{g.Key} {words} {g.Count()} resource instances").Order(StringComparer.Ordinal));
        var content = Each(left.Select(l => $"{l.Type.Plural}.{l.Type.Group}"), "has");
        var holders = Each(left.SelectMany(l => l.Object.Finalizers()), "in");
        var next = ns.Clone();
        next.Child("status")["conditions"] = new JsonArray(
        [
            Said("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered",
                "All resources successfully discovered"),
            Said("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions",
                "All legacy kube types successfully parsed"),
            Said("NamespaceDeletionContentFailure", "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization"),
            Said("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed",
                "SomeResourcesRemain", "Some resources are remaining: ", content),
            Said("NamespaceFinalizersRemaining", "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
                "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: ", holders),
        ]);
        return Json.Same(ns, next) ? ns : Commit(Core("namespaces"), name, ns, next)!;

        JsonObject Said(string type, string reason, string message,
            string otherwise = "", string remaining = "", string what = "") => what.Length > 0
            ? Condition(ns, type, true, otherwise, remaining + what) : Condition(ns, type, false, reason, message);
    }

    /// <summary>A condition, with the time since which it is so.</summary>
    JsonObject Condition(JsonObject o, string type, bool value, string reason, string? message = null)
    {
        var before = o.At("status").Items("conditions").FirstOrDefault(c => c.Text("type") == type);
        var status = value ? "True" : "False";
        var condition = new JsonObject
        {
            ["type"] = type, ["status"] = status,
            ["lastTransitionTime"] = before.Text("status") == status ? before!["lastTransitionTime"]!.DeepClone() : Stamp,
            ["reason"] = reason,
        };
        if (message is not null) condition["message"] = message;
        return condition;
    }

    void WriteStatus(ResourceType type, string key, JsonObject o, JsonObject status)
    {
        var next = o.Clone();
        next["status"] = status;
        if (!Json.Same(o, next)) Commit(type, key, o, next);
    }

    // ----- quotas: counts of objects only

    internal static bool IsOver(JsonObject pod) => pod.Text("status", "phase") is "Succeeded" or "Failed";

    /// <summary>How many there are of what a quota's line limits; null where it limits no objects.</summary>
    long? Used(string line, string ns)
    {
        if (line == "pods") return InNamespace(Core("pods"), ns).Count(p => !IsOver(p.Value));
        return Counted(line) is { } type ? InNamespace(type, ns).Count() : null;
    }

    ResourceType? Counted(string line)
    {
        var name = line.StartsWith("count/", StringComparison.Ordinal) ? line["count/".Length..] : line;
        return Types.FirstOrDefault(t => t.Namespaced && t.Qualified == name
            && (line != name || name is "configmaps" or "secrets" or "services" or "resourcequotas"));
    }

    static long Amount(JsonNode? quantity) => (long)(Quantity.Parse(quantity.Text() ?? "0")?.Value ?? 0);

    void CheckQuota(ResourceType type, string ns, string name)
    {
        if (!type.Namespaced) return;
        foreach (var (_, quota) in InNamespace(Core("resourcequotas"), ns))
        {
            var over = (quota.At("status", "hard") as JsonObject ?? [])
                .Where(l => l.Key == "pods" ? type.IsPod : Counted(l.Key)?.Qualified == type.Qualified)
                .Where(l => Used(l.Key, ns) + 1 > Amount(l.Value)).OrderBy(l => l.Key).ToList();
            if (over.Count == 0) continue;
            string Each(Func<KeyValuePair<string, JsonNode?>, object?> what) =>
                string.Join(",", over.Select(l => $"{l.Key}={what(l)}"));
            throw Refuse.Forbidden(type, name, $"exceeded quota: {quota.Text("metadata", "name")}, " +
                $"requested: {Each(_ => 1)}, used: {Each(l => Used(l.Key, ns))}, limited: {Each(l => l.Value.Text())}");
        }
    }

    void WriteQuotaStatus(string key, JsonObject quota)
    {
        var status = new JsonObject();
        if (quota.At("spec", "hard") is JsonObject hard)
        {
            status["hard"] = hard.DeepClone();
            var used = hard.Select(l => (l.Key, Used: Used(l.Key, key[..key.IndexOf('/')])))
                .Where(l => l.Used is not null)
                .Select(l => KeyValuePair.Create(l.Key, (JsonNode?)$"{l.Used}"));
            status["used"] = new JsonObject(used);
        }
        WriteStatus(Core("resourcequotas"), key, quota, status);
    }

    // ----- CustomResourceDefinitions

    const string Cleanup = "customresourcecleanup.apiextensions.k8s.io";

    /// <summary>A definition goes once the last of its objects has gone.</summary>
    void CleanUp(ResourceType type, string key, JsonObject crd)
    {
        foreach (var defined in ResourceType.Defined(crd).Take(1))
        {
            foreach (var (instance, o) in objects[defined.Qualified].ToArray())
                Delete(defined, instance, o, new() { Propagation = "Background" });
            if (objects[defined.Qualified].Count > 0) return;
        }
        if (HasFinalizer(crd, Cleanup)) RemoveFinalizer(type, key, crd, Cleanup);
    }

    /// <summary>Serves what a definition defines, from the write that makes it on, and says so in its status.</summary>
    void Define(JsonObject? before, JsonObject? after)
    {
        if (before is not null)
        {
            types.Remove((before.Text("spec", "group")!, before.Text("spec", "names", "plural")!));
        }
        if (after is null) return;
        foreach (var type in ResourceType.Defined(after)) AddType(type);
        if (after.At("status", "conditions") is not null) return;
        var conditions = new JsonArray();
        foreach (var (type, reason, message) in ((string, string, string)[])[
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted")])
            conditions.Add((JsonNode)new JsonObject
            {
                ["type"] = type, ["status"] = "True", ["lastTransitionTime"] = Stamp, ["reason"] = reason,
                ["message"] = message,
            });
        after.Child("status")["conditions"] = conditions;
    }
}
