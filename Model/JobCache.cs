// What is known of OMJobs, their pods and their schedules, by what belongs together; and what is remembered of each.

namespace OMJobs;

/// <param name="changed">
/// Told of each change under the lock: the key that it concerns, before and after (a Tombstone where it has gone).
/// </param>
/// <param name="passed">Tells if a watch has come past an object's version.</param>
sealed class JobCache(Action<Key, CachedObject?, CachedObject> changed, Func<CachedObject, bool> passed)
    : ObjectCache(passed)
{
    /// <summary>Bytes of OMJobs; one that is not kept as a whole is asked for when that is needed.</summary>
    const int Capacity = 32 << 20;

    readonly Dictionary<Key, List<Key>> pods = []; // by the key of their OMJob, which need not be there
    readonly Dictionary<Key, Progress> progress = [];
    readonly Dictionary<Key, HashSet<Key>> runs = []; // of each CronOMJob, the OMJobs that name it as their owner
    readonly Dictionary<Key, Key> aliases = []; // of OMJobs whose names are cut in their pods' labels and names
    readonly Dictionary<string, string> namespaces = []; // one string for all objects of one
    long size; // bytes of OMJobs that are kept as a whole

    public override CachedObject? Get(Key key) =>
        base.Get(key) is var cached && cached is Retained old ? old.ToJob() : cached;

    public override void Clear()
    {
        lock (Gate)
        {
            base.Clear();
            foreach (var all in (System.Collections.IDictionary[])[pods, runs, aliases]) all.Clear();
            foreach (var (key, known) in progress.ToArray()) SetProgress(key, known.OfPods);
            size = 0;
        }
    }

    /// <summary>What is known of a job is not to be acted on before it has been read again.</summary>
    public void Unread(Job job)
    {
        lock (Gate)
            if (Objects.GetValueOrDefault(job.Key) is Job cached && cached.Uid == job.Uid)
                Objects[job.Key] = cached with { ReadAt = null };
    }

    /// <summary>The job of a pod: by owner reference, else by label or its own name, which cut a long name.</summary>
    protected override Key? OwnerOf(CachedObject o)
    {
        if (o is not Pod pod) return null;
        var named = new Key(pod.Namespace, pod.JobName, Resources.OMJobs);
        return !pod.HasOwner && aliases.TryGetValue(named, out var whole)
            && Objects.GetValueOrDefault(whole)?.Uid == pod.JobUid ? whole : named;
    }

    /// <summary>Retained runs are most of what is there: they are kept small.</summary>
    protected override CachedObject Keep(CachedObject? before, CachedObject after)
    {
        if (before is null) after = after with { Key = after.Key with { Namespace = Shared(after.Namespace) } };
        // A spec seldom changes: so the new copy of it dies young, and the old one does not become old garbage.
        if (before is Job old && after is Job same && same.Spec.AsSpan().SequenceEqual(old.Spec))
            after = same with { Spec = old.Spec };
        if (before is Job { Size: var less }) size -= less;
        if (after is Job job)
            after = job.IsLetGo ? Retained.Of(job) : size + job.Size <= Capacity ? job : job.Short();
        if (after is Job { Size: var more }) size += more;
        return after;
    }

    protected override void Changed(CachedObject? before, CachedObject after)
    {
        var owner = after.OwnerKey ?? after.Key;
        if (before?.OwnerKey is { } old && old != owner) RemovePod(old, after.Key);
        if (Objects.ContainsKey(after.Key))
        {
            AddAliases(after);
            if (after.OwnerKey is not null) AddPod(owner, after.Key);
        }
        MoveRun(CronOf(before), CronOf(after), after.Key);
        if (Get(after.Key) is Job run) RememberSuccess(run);
        else if (before is null && after is Cron schedule) // its runs may be told before it is
            foreach (var earlier in RunsOf(schedule)) RememberSuccess(earlier);
        // What was remembered of pods by their UIDs stays true.
        if (after.OwnerKey is null && before is not null && (after is Tombstone || before.Uid != after.Uid))
            SetProgress(owner, ProgressOf(owner).OfPods);
        if (after is Retained) progress.Remove(owner);
        changed(owner, before, after);
        EvictSettled(owner);
    }

    void SetProgress(Key key, Progress after)
    {
        if (after == Progress.None) progress.Remove(key);
        else progress[key] = after;
    }

    public Progress ProgressOf(Key key) { lock (Gate) return progress.GetValueOrDefault(key, Progress.None); }

    /// <summary>What is held for a key, and of a CronOMJob its runs. Tombstones go: no answer to a request is due when
    /// a key is taken.</summary>
    public (CachedObject? Owner, Pod[] Pods, Progress Progress) Observe(Key key)
    {
        lock (Gate)
        {
            if (Objects.GetValueOrDefault(key) is Tombstone) Objects.Remove(key);
            foreach (var pod in pods.GetValueOrDefault(key)?.Where(p => Objects[p] is Tombstone).ToArray() ?? [])
                Evict(key, pod);
            var (owner, there) = (Get(key), pods.GetValueOrDefault(key));
            if (owner is null && there is null) progress.Remove(key);
            return (owner, [.. there?.Select(p => (Pod)Objects[p]) ?? []], ProgressOf(key));
        }
    }

    public Job[] RunsOf(Cron cron)
    {
        lock (Gate)
            return [.. (runs.GetValueOrDefault(cron.Key) ?? []).Select(Get).OfType<Job>()
                .Where(job => job.Cron?.Uid == cron.Uid)];
    }

    /// <summary>Remembers something of a key, as long as that object is there. Null: of its pods, without it.</summary>
    public Progress Remember(Key key, string? uid, Func<Progress, Progress> change)
    {
        lock (Gate)
        {
            var after = change(ProgressOf(key));
            if (Get(key)?.Uid == uid) SetProgress(key, after);
            return after;
        }
    }

    /// <summary>Remembers something of whatever there is of that key.</summary>
    public Progress Remember(Key key, Func<Progress, Progress> change)
    {
        lock (Gate) return Remember(key, Get(key)?.Uid, change);
    }

    /// <summary>A namespace's keys that may have something to do or to evict; retained OMJobs only expire.</summary>
    public Key[] KeysOf(Func<string, bool> ofNamespace, bool retained)
    {
        lock (Gate)
            return [.. Objects.Values.Where(h => retained || h is not Retained).Select(h => h.OwnerKey ?? h.Key)
                .Concat(progress.Keys).Where(key => ofNamespace(key.Namespace)).Distinct()];
    }

    /// <summary>When the latest run of each CronOMJob that succeeded had ended (seconds of the epoch), in the order of
    /// their names; where none is known, nothing.</summary>
    public List<(Key Cron, long At)> LastSuccesses()
    {
        lock (Gate)
            return [.. Objects.Values.OfType<Cron>().OrderBy(c => $"{c.Namespace}/{c.Name}", StringComparer.Ordinal)
                .Select(c => (c.Key, ProgressOf(c.Key).LastSuccess)).Where(c => c.LastSuccess > 0)];
    }

    /// <summary>Remembers when it succeeded: the run may be gone long before the next one.</summary>
    void RememberSuccess(Job run)
    {
        if (run is not { Cron: { } cron, Status: { Phase: Phase.Succeeded, CompletionTime: { } end } }) return;
        var at = end.ToUnixTimeSeconds();
        Remember(cron.Key, cron.Uid, p => at <= p.LastSuccess ? p : p with { LastSuccess = at });
    }

    /// <summary>The versions of the run defaults that pods of runs were made with.</summary>
    public ISet<string> DefaultsInUse()
    {
        lock (Gate) return progress.Values.Select(p => p.Defaults).OfType<string>().ToHashSet();
    }

    public void Visit(Action<Phase, Progress> visit)
    {
        lock (Gate)
            foreach (var (key, cached) in Objects)
                if (cached is Retained old) visit(old.Phase, Progress.None);
                else if (cached is Job job) visit(job.Status.Phase, ProgressOf(key));
    }

    /// <summary>Pods may be told before their OMJob is: those that came under its cut name are its own.</summary>
    void AddAliases(CachedObject job)
    {
        if (job.Key.Resource != Resources.OMJobs || job.Name.Length <= PodTemplate.MostInPodName) return;
        string[] cuts = [Names.LabelValue(job.Name), Names.Fit(job.Name, PodTemplate.MostInPodName, "")];
        foreach (var cut in cuts)
        {
            var alias = new Key(job.Namespace, cut, Resources.OMJobs);
            if (job is Tombstone) { aliases.Remove(alias); continue; }
            if (cut != job.Name) aliases[alias] = job.Key;
            foreach (var key in pods.GetValueOrDefault(alias)?.ToArray() ?? [])
            {
                if (Objects[key] is not Pod pod || OwnerOf(pod) is not { } owner || owner == alias) continue;
                RemovePod(alias, key);
                Objects[key] = pod with { OwnerKey = owner };
                AddPod(owner, key);
            }
        }
    }

    /// <summary>Lets go of pods that need nothing any more: whoever wants one asks for it.</summary>
    void EvictSettled(Key owner)
    {
        if (Objects.GetValueOrDefault(owner) is Job or Cron || !pods.TryGetValue(owner, out var keys)) return;
        foreach (var key in keys.Where(k => Objects[k] is Pod { IsSettled: true }).ToArray()) Evict(owner, key);
    }

    void Evict(Key owner, Key pod)
    {
        Objects.Remove(pod);
        RemovePod(owner, pod);
    }

    void AddPod(Key owner, Key pod)
    {
        if (!pods.TryGetValue(owner, out var keys)) pods[owner] = keys = new(2);
        if (!keys.Contains(pod)) keys.Add(pod);
    }

    void RemovePod(Key owner, Key pod)
    {
        if (pods.TryGetValue(owner, out var keys) && keys.Remove(pod) && keys.Count == 0) pods.Remove(owner);
    }

    public static Owner? CronOf(CachedObject? o) => (o as Job)?.Cron ?? (o as Retained)?.Cron;

    void MoveRun(Owner? before, Owner? after, Key run)
    {
        if (before is not null && before.Key != after?.Key && runs.TryGetValue(before.Key, out var fewer)
            && fewer.Remove(run) && fewer.Count == 0)
            runs.Remove(before.Key);
        if (after is not null) (runs.TryGetValue(after.Key, out var more) ? more : runs[after.Key] = []).Add(run);
    }

    string Shared(string ns) => namespaces.TryGetValue(ns, out var shared) ? shared : namespaces[ns] = ns;
}
