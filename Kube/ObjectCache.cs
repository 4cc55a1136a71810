// The objects that are known.

using System.Buffers;

namespace OMJobs;

/// <summary>
/// The objects as the API server has told them, and what is remembered of each. All that it hands out are values: what
/// a worker has been given nobody changes. <paramref name="changed"/> is told of each change under the lock: the key
/// that it concerns, before and after (a Tombstone where it has gone); <paramref name="passed"/> tells if a watch has
/// come past a version.
/// </summary>
sealed class ObjectCache(Action<Key, CachedObject?, CachedObject> changed, Func<CachedObject, bool> passed)
{
    const int MostHeld = 32 << 20; // bytes of OMJobs; one that is not held as a whole is asked for when that is needed

    readonly Lock gate = new(); // guards all below
    readonly Dictionary<Key, CachedObject> objects = [];
    readonly Dictionary<Key, List<Key>> pods = []; // by the key of their OMJob, which need not be there
    readonly Dictionary<Key, Progress> progress = [];
    readonly Dictionary<Key, HashSet<Key>> runs = []; // of each CronOMJob, the OMJobs that name it as their owner
    readonly Dictionary<Key, Key> aliases = []; // of OMJobs whose names are cut in their pods' labels and names
    readonly Dictionary<string, string> namespaces = []; // one string for all objects of one
    long size; // bytes of OMJobs that are held as a whole

    public Key[] Keys { get { lock (gate) return [.. objects.Keys]; } }

    /// <summary>
    /// Takes what the API server says of an object, by watch, list or answer, unless something newer is held. Live:
    /// when the request was sent that it answers; isThere: nothing that a watch has told came after the answer.
    /// </summary>
    public void Upsert(CachedObject seen, bool deleted = false, DateTimeOffset? live = null, bool isThere = false)
    {
        lock (gate)
        {
            var held = objects.GetValueOrDefault(seen.Key);
            // W8: what the watch has come past and is not there has gone: an answer that comes late does not revive it.
            if ((held is Tombstone || (held is null && live is not null)) && !isThere && passed(seen)) return;
            deleted |= seen.IsGone; // the answer to a write that lets an object go bears the version before it
            if (live is { } at && held is Job same && same.ResourceVersion == seen.ResourceVersion)
                objects[seen.Key] = held = same with { SeenLive = at, Stale = false };
            if (held is not null && !Versions.IsNewer(seen.ResourceVersion, held.ResourceVersion)
                && !(deleted && held is not Tombstone && seen.ResourceVersion == held.ResourceVersion)) return;
            if (!deleted) Put(held, seen.Merge(held, live));
            else if (held is not null) Put(held, TombstoneOf(held, seen));
            else changed(seen is Pod pod ? OwnerKeyOf(pod) : seen.Key, null, TombstoneOf(seen, seen)); // nothing to bury
        }
    }

    /// <summary>The object is gone, if it is still this one (D2) and nothing newer has come since.</summary>
    public void Remove(CachedObject gone)
    {
        lock (gate)
            if (objects.GetValueOrDefault(gone.Key) is { } held and not Tombstone && held.Uid == gone.Uid)
                Put(held, TombstoneOf(held, held));
    }

    /// <summary>Changes what is held of a job, if it is still this one.</summary>
    public void Mark(Job job, Func<Job, Job> change)
    {
        lock (gate)
            if (objects.GetValueOrDefault(job.Key) is Job held && held.Uid == job.Uid) objects[job.Key] = change(held);
    }

    /// <summary>All objects that a list of that version should have had and had not are gone.</summary>
    public void Prune(Reflector watch, HashSet<Key> listed, string version)
    {
        lock (gate)
            foreach (var held in objects.Values.Where(h => h.Key.Resource == watch.Resource && h is not Tombstone
                && watch.Covers(h.Namespace) && !listed.Contains(h.Key) && !Versions.IsNewer(h.ResourceVersion, version)).ToArray())
                Put(held, TombstoneOf(held, held));
    }

    public void Clear()
    {
        lock (gate)
        {
            foreach (var all in (System.Collections.IDictionary[])[objects, pods, runs, aliases]) all.Clear();
            foreach (var (key, known) in progress.ToArray()) SetProgress(key, known.OfPods);
            size = 0;
        }
    }

    static Tombstone TombstoneOf(CachedObject held, CachedObject seen) =>
        new() { Key = held.Key, Uid = seen.Uid, ResourceVersion = seen.ResourceVersion, OwnerKey = held.OwnerKey };

    /// <summary>Puts one state in the other's place. Retained runs are most of what is there: they are kept small.</summary>
    void Put(CachedObject? before, CachedObject after)
    {
        after = after with { Key = before?.Key ?? after.Key with { Namespace = Shared(after.Namespace) } };
        var job = after as Job;
        if (after is Pod pod) after = pod with { OwnerKey = OwnerKeyOf(pod) };
        if (before is Job { Size: var less }) size -= less;
        if (job is not null)
        {
            after = job.IsLetGo ? Retained.Of(job)
                : size + job.Size <= MostHeld ? after : job.Short() with { Key = after.Key };
            size += after is Job { Size: var more } ? more : 0;
        }
        var home = after.OwnerKey ?? after.Key;
        if (before?.OwnerKey is { } old && old != home) RemovePod(old, after.Key);
        objects[after.Key] = after;
        AddAliases(after);
        if (after.OwnerKey is not null) AddPod(home, after.Key);
        MoveRun(before?.Cron, after.Cron, after.Key);
        // What was remembered of pods by their UIDs stays true.
        if (after.OwnerKey is null && before is not null && (after is Tombstone || before.Uid != after.Uid))
            SetProgress(home, ProgressOf(home).OfPods);
        if (after is Retained) progress.Remove(home);
        changed(home, before, after);
        EvictSettled(home);
    }

    void SetProgress(Key key, Progress after)
    {
        if (after == Progress.None) progress.Remove(key);
        else progress[key] = after;
    }

    public CachedObject? Get(Key key) { lock (gate) return Whole(objects.GetValueOrDefault(key)); }

    public Progress ProgressOf(Key key) { lock (gate) return progress.GetValueOrDefault(key, Progress.None); }

    /// <summary>
    /// What is held for a key, and of a CronOMJob its runs. Forgets tombstones: no answer to a request is due when a
    /// key is taken.
    /// </summary>
    public (CachedObject? Owner, Pod[] Pods, Progress Progress) Observe(Key key)
    {
        lock (gate)
        {
            if (objects.GetValueOrDefault(key) is Tombstone) objects.Remove(key);
            foreach (var pod in pods.GetValueOrDefault(key)?.Where(p => objects[p] is Tombstone).ToArray() ?? [])
                Evict(key, pod);
            var (owner, there) = (Get(key), pods.GetValueOrDefault(key));
            if (owner is null && there is null) progress.Remove(key);
            return (owner, [.. there?.Select(p => (Pod)objects[p]) ?? []], ProgressOf(key));
        }
    }

    public Job[] RunsOf(Cron cron)
    {
        lock (gate)
            return [.. (runs.GetValueOrDefault(cron.Key) ?? []).Select(Get).OfType<Job>()
                .Where(job => job.Cron?.Uid == cron.Uid)];
    }

    /// <summary>Remembers something of a key, as long as that object is there. Null: of its pods, without it.</summary>
    public Progress Remember(Key key, string? uid, Func<Progress, Progress> change)
    {
        lock (gate)
        {
            var after = change(ProgressOf(key));
            if (Get(key)?.Uid == uid) SetProgress(key, after);
            return after;
        }
    }

    /// <summary>The keys of a namespace that may have something to do or to forget; retained OMJobs have but to expire.</summary>
    public Key[] KeysOf(Func<string, bool> ofNamespace, bool retained)
    {
        lock (gate)
            return [.. objects.Values.Where(h => retained || h is not Retained).Select(h => h.OwnerKey ?? h.Key)
                .Concat(progress.Keys).Where(key => ofNamespace(key.Namespace)).Distinct()];
    }

    public void Visit(Action<Phase, Progress> visit)
    {
        lock (gate)
            foreach (var (key, held) in objects)
                if (held is Retained old) visit(old.Phase, Progress.None);
                else if (held is Job job) visit(job.Status.Phase, ProgressOf(key));
    }

    static CachedObject? Whole(CachedObject? held) => held is Retained old ? old.ToJob() : held is Tombstone ? null : held;

    /// <summary>The job of a pod: by owner reference, else by label or its own name, both cut for a name too long.</summary>
    Key OwnerKeyOf(Pod pod)
    {
        var named = new Key(pod.Namespace, pod.JobName, Resources.OMJobs);
        return !pod.HasOwner && aliases.TryGetValue(named, out var whole)
            && objects.GetValueOrDefault(whole)?.Uid == pod.JobUid ? whole : named;
    }

    /// <summary>Pods may be told before their OMJob is: those that came under its cut name are its own.</summary>
    void AddAliases(CachedObject job)
    {
        if (job.Key.Resource != Resources.OMJobs || job.Name.Length <= PodTemplate.MostInPodName) return;
        foreach (var cut in (string[])[Names.LabelValue(job.Name), Names.Fit(job.Name, PodTemplate.MostInPodName, "")])
        {
            var alias = new Key(job.Namespace, cut, Resources.OMJobs);
            if (job is Tombstone) { aliases.Remove(alias); continue; }
            if (cut != job.Name) aliases[alias] = job.Key;
            foreach (var key in pods.GetValueOrDefault(alias)?.ToArray() ?? [])
            {
                if (objects[key] is not Pod pod || OwnerKeyOf(pod) is var home && home == alias) continue;
                RemovePod(alias, key);
                objects[key] = pod with { OwnerKey = home };
                AddPod(home, key);
            }
        }
    }

    /// <summary>Lets go of pods that need nothing any more: whoever wants one asks for it.</summary>
    void EvictSettled(Key home)
    {
        if (objects.GetValueOrDefault(home) is Job or Cron || !pods.TryGetValue(home, out var keys)) return;
        foreach (var key in keys.Where(k => objects[k] is Pod { IsSettled: true }).ToArray()) Evict(home, key);
    }

    void Evict(Key home, Key pod)
    {
        objects.Remove(pod);
        RemovePod(home, pod);
    }

    void AddPod(Key home, Key pod)
    {
        if (!pods.TryGetValue(home, out var keys)) pods[home] = keys = new(2);
        if (!keys.Contains(pod)) keys.Add(pod);
    }

    void RemovePod(Key home, Key pod)
    {
        if (pods.TryGetValue(home, out var keys) && keys.Remove(pod) && keys.Count == 0) pods.Remove(home);
    }

    void MoveRun(Owner? before, Owner? after, Key run)
    {
        if (before is not null && before.Key != after?.Key && runs.TryGetValue(before.Key, out var fewer)
            && fewer.Remove(run) && fewer.Count == 0)
            runs.Remove(before.Key);
        if (after is not null) (runs.TryGetValue(after.Key, out var more) ? more : runs[after.Key] = []).Add(run);
    }

    string Shared(string ns) => namespaces.TryGetValue(ns, out var shared) ? shared : namespaces[ns] = ns;
}
