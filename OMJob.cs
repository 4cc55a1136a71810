// The OMJob operator: it runs an OMJob's main pod, sees its end in every form, then always runs its exit handler pod.
//
// The protocol, each step safe to repeat from any crash:
//   1. Put the finalizer `exit-handler` on the OMJob: it cannot vanish before its handler ran.
//   2. Create the main pod by name, with the finalizer `outcome`: it cannot vanish before its end is recorded.
//   3. Status Running.
//   4. The main pod is over: status ExitHandlerRunning with exit code, message and the exit pod's name. From here the
//      verdict is read from status only, never from the pod again.
//   5. Create the exit pod by the name in status. It failed or is stuck: the next attempt's name goes to status first.
//   6. Status Succeeded or Failed; then the main pod's finalizer goes, then the OMJob's.
//   7. At completionTime + TTL the OMJob is deleted; garbage collection takes the pods.
// Every write to an OMJob carries the resourceVersion it was decided on: a 409 means observe again.
//
// Read on here: the operator (loop, reconcile, actions), then Decide. CronOMJob.cs has the schedules, Program.cs the
// command line, Model/ what the operator knows of OMJobs and pods, Kube/ what any small controller needs.

using static OMJobs.Times;

namespace OMJobs;

/// <summary>The loop: watches feed a cache and a queue of keys; workers take keys: observe, Decide, execute; every
/// answer feeds the cache again, which requeues the key. No key of a namespace is worked on before its pods and OMJobs
/// are listed.</summary>
sealed partial class Operator
{
    /// <summary>For how long nothing may have changed before a replica that was late acts in another's place.</summary>
    static readonly TimeSpan Stillness = TimeSpan.FromSeconds(2);
    /// <summary>For how long it waits at most, where changes do not end.</summary>
    static readonly TimeSpan LongestYield = 5 * Stillness;

    readonly Cluster cluster;
    readonly JobCache cache;
    readonly WorkQueue queue;
    readonly EventRecorder events;
    readonly Metrics metrics = new(JobMetrics.All);
    readonly Deadlines deadlines;
    readonly TimeProvider time;
    readonly ILogger log;
    readonly Random random;
    readonly Backoff backoff;
    readonly Lock gate = new();
    DefaultsFile? runDefaults;
    long nextDelete; // timestamp; TTL deletes are paced from here

    public Operator(Send send, Deadlines deadlines, TimeProvider time, ILogger log, Random? seeded = null)
    {
        (this.deadlines, this.time, this.log, random) = (deadlines, time, log, seeded ?? Random.Shared);
        (backoff, queue) = (new(random), new(time, metrics, "omjob"));
        cluster = new(send, time, log, random, metrics) { Synced = RequeueAll, ClockSet = queue.WakeAll };
        cluster.Cache = cache = new(Changed, cluster.HasPassed);
        events = new("OMJobOperator", "omjob-operator", cluster.Call, time, log);
    }

    internal Key[] CachedKeys => cache.Keys;
    /// <summary>The API server's time.</summary>
    DateTimeOffset Now => cluster.Now;

    // ----- start and stop

    /// <summary>Runs until <paramref name="stop"/>, then finishes writes under way; returns the exit code. Throws
    /// DefaultsException and SocketException at its start.</summary>
    public async Task<int> Run(Settings settings, CancellationToken stop)
    {
        queue.Workers = settings.Workers;
        runDefaults = settings.RunDefaults;
        runDefaults?.Load();
        // Pods first, and jobs only once the pods are listed: so the job of a listed pod is listed too. OMJobs go on
        // without the CRD of schedules, and without the right to see them.
        Func<string, Reflector>[] resources = [Pods, Jobs, ns => new(Resources.CronOMJobs, ns)
        {
            WhenAbsent = "No schedules run, until this is",
        }];
        cluster.Reflectors.AddRange(resources.SelectMany(of => settings.Namespaces.Select(of)));
        int[] ports = [settings.HealthPort, settings.MetricsPort];
        using var endpoints = new Endpoints(ports, settings.AllAddresses, time, log)
        {
            Health = cluster.Unhealthy,
            Readiness = cluster.Unready,
            Metrics = () => metrics.Render(JobMetrics.Gauges(cache, queue, cluster, runDefaults)),
        };
        using var cut = new CancellationTokenSource();
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(stop);
        _ = Guard(events.Run(settings.Workers, cut.Token));
        _ = Guard(endpoints.Serve());
        _ = Guard(queue.RunTimers(ending.Token));
        if (runDefaults is not null) _ = Guard(FollowDefaults(runDefaults, ending.Token));
        var working = Guard(queue.Run(key => Reconcile(key, cut.Token), ending.Token));
        foreach (var ns in settings.Namespaces) _ = Guard(cluster.Follow(ns, ending.Token));
        await Task.Delay(Timeout.InfiniteTimeSpan, time, ending.Token).Quietly();
        log.LogInformation("Stopping: finishing the writes under way");
        await working.WaitAsync(TimeSpan.FromSeconds(7), time, default).Quietly();
        await events.AllWritten().WaitAsync(TimeSpan.FromSeconds(2), time, default).Quietly();
        cut.Cancel();
        return stop.IsCancellationRequested ? 0 : 1;

        // A loop that ends by a bug would leave us alive and deaf: better to end, and be started again.
        async Task Guard(Task loop)
        {
            try { await loop; }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                log.LogCritical("Ending: {Type} {Trace}", e.GetType(), e.StackTrace);
                ending.Cancel();
            }
        }
    }

    async Task FollowDefaults(DefaultsFile file, CancellationToken stop)
    {
        for (var taken = true; ; await Task.Delay(DefaultsFile.Period, time, stop))
        {
            try
            {
                if (taken) log.LogInformation("Run defaults: version {Version}", file.Current.Hash);
                taken = file.Changed(cache.DefaultsInUse, Now);
            }
            catch (DefaultsException e)
            {
                taken = false;
                log.LogWarning("{Error}; version {Version} stays", e.Message, file.Current.Hash);
            }
        }
    }

    static Reflector Pods(string ns) => new(Resources.Pods, ns, $"labelSelector={LabelKeys.Name}&");
    static Reflector Jobs(string ns) => new(Resources.OMJobs, ns);

    /// <summary>Drops our finalizers from every OMJob and pod of the namespaces, over and over until none has had one for
    /// so long (an operator that is ending puts them back), and tells whom that costs a handler (F6); returns the exit
    /// code, throws OperationCanceledException.</summary>
    public async Task<int> Release(string[] namespaces, TimeSpan quiet, CancellationToken stop)
    {
        var (released, failed, last) = (0, 0, time.GetTimestamp());
        _ = events.Run(1, stop);
        while (true)
        {
            var before = released;
            failed = 0;
            foreach (var reflector in namespaces.SelectMany(ns => (Reflector[])[new(Resources.Pods, ns), Jobs(ns)]))
            {
                var ours = new List<CachedObject>();
                var (listed, _) = await cluster.List(reflector, found =>
                {
                    var o = cluster.Read(found, reflector);
                    if (o is Job { HasFinalizer: true } job) ours.Add(job with { Spec = [] });
                    else if (o is Pod { HasFinalizer: true }) ours.Add(o);
                }, stop);
                // No CRD, no object: a 404 in plain text, as from a proxy, but one of these answers it for pods, too.
                var absent = reflector.Resource == Resources.OMJobs && listed.Code == 404;
                if (!listed.Ok && !absent) Fail(reflector.Resource.Plural, listed);
                foreach (var o in ours) await ReleaseOne(o);
            }
            if (released > before) last = time.GetTimestamp();
            if (time.GetElapsedTime(last) >= quiet) break;
            await Task.Delay(TimeSpan.FromSeconds(2), time, stop);
        }
        await events.AllWritten().WaitAsync(TimeSpan.FromSeconds(10), time, stop).Quietly();
        log.LogInformation("Released {Released} objects, {Failed} failed", released, failed);
        return failed == 0 ? 0 : 1;

        async Task ReleaseOne(CachedObject? o)
        {
            while (o is Job { HasFinalizer: true } or Pod { HasFinalizer: true })
            {
                var (run, path) = (o as Job, o.Key.Path);
                var reply = run is null ? await ReleasePod((Pod)o, stop)
                    : await PatchFinalizers(run, run.Finalizers.Where(f => f != Job.Finalizer), stop);
                var done = reply.Ok;
                if (reply.Outcome == Outcome.Conflict) reply = await cluster.Get(o.Key, stop);
                o = reply.Found;
                if (o is not null) continue;
                if (reply.Outcome is Outcome.Ok or Outcome.NotFound) released++;
                else Fail(path, reply);
                if (done && run?.Status.Phase.IsFinished() == false) Tell(run);
            }
        }

        void Tell(Job run)
        {
            var what = $"Released in phase {run.Status.Phase}: " + (run.Status.Phase == Phase.ExitHandlerRunning
                ? "no further attempt of its exit handler follows" : "no exit handler runs")
                + (run.Deleting ? "" : ", unless an operator is installed again");
            log.LogWarning("{Namespace}/{Name}: {What}", run.Namespace, run.Name, what);
            Record(run, new("OMJobReleased", what, Warning: true));
        }

        void Fail(string what, Reply reply)
        {
            failed++;
            log.LogError("{What}: {Reason}", what, reply.Brief);
        }
    }

    // ----- what comes from the cache

    /// <summary>What follows from a change beside the next reconcile. Called under the cache's lock.</summary>
    void Changed(Key key, CachedObject? before, CachedObject after)
    {
        var job = cache.Get(key) as Job;
        if (after is Pod seen) RememberStopped(key, seen);
        if (after is Pod { Defaults: { } made })
            cache.Remember(key, p => p.Defaults == made ? p : p with { Defaults = made });
        // G12: what was refused us another replica has created; nothing is blocked any more.
        if (before is null or Tombstone && after is Pod other && job is not null && other.BelongsTo(job)
            && other.Name == PodTemplate.NameOf(job, job.Status.Phase == Phase.ExitHandlerRunning ? PodType.ExitHandler
                : PodType.Main))
            cache.Remember(key, job.Uid, p => p.Refusals == 0 ? p : p with { Refusals = 0 });
        // What is not decided on is no change: that a pod is ready or not, that somebody annotates.
        var same = (before, after) switch
        {
            (Pod old, Pod now) => old with { ResourceVersion = now.ResourceVersion } == now,
            (Job old, Job now) => old.IsLike(now),
            _ => false,
        };
        if (!same && cache.ProgressOf(key).YieldsSince != 0) Yield(key, job);
        // What stood in the way of a creation may have been this pod. G17: if it is ours, it may be created again, with
        // backoff, once the OMJob is seen to be there still: no race with what deletes it, nor the collector.
        if (after is Tombstone && job is not null)
        {
            var vanished = before is Pod pod && pod.Name == PodTemplate.ExitName(job) && pod.BelongsTo(job);
            if (vanished) cache.Unread(job);
            cache.Remember(key, job.Uid, p => !vanished ? p with { RetryAt = default } : p with
            {
                Vanished = p.Vanished + 1,
                RetryAt = Now + backoff.After(p.Vanished + 1, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30)),
            });
        }
        var (fewer, more) = (JobCache.CronOf(before), JobCache.CronOf(after));
        if (fewer is not null) Requeue(fewer.Key);
        if (more is not null && more != fewer) Requeue(more.Key);
        Requeue(key, first: after.Key.Resource == Resources.Pods);
    }

    /// <summary>G21: what a node's clock says of its end proves nothing from now on; nor that nobody had it stopped,
    /// where the API server has forgotten that (it was restored).</summary>
    void RememberStopped(Key key, Pod pod)
    {
        if (pod.Deleting && (pod.MainRunning || (pod.FinishedAt is { } at && at.Reached(pod.DeletionRequested))))
            cache.Remember(key, p => p.Stopped.Contains(pod.Uid, StringComparison.Ordinal) ? p
                : p with { Stopped = $"{p.Stopped}{pod.Uid} " });
    }

    /// <summary>Queues a key, unless its namespace has not been listed: then all of its keys will be.</summary>
    void Requeue(Key key, bool first = false)
    {
        if (!Waits(key)) queue.Add(key, first);
    }

    void RequeueAll(Reflector listed)
    {
        foreach (var key in cache.KeysOf(listed.Covers, retained: listed.Resource == Resources.Pods)) Requeue(key);
    }

    /// <summary>Its namespace has not been listed. An OMJob that nothing is held of can expire before.</summary>
    bool Waits(Key key) => cluster.Reflectors.Exists(r => !r.Listed && r.Covers(key.Namespace)
        && (r.Resource == Resources.Pods
            || (r.Resource == Resources.OMJobs && cache.Get(key) is not Job { IsLetGo: true })));

    // ----- reconcile

    async Task Reconcile(Key key, CancellationToken cut)
    {
        if (Waits(key)) return; // the cache was dropped
        var (start, turn) = (time.GetTimestamp(), new Turn(key, time, cut));
        try
        {
            if (key.Resource == Resources.CronOMJobs) await ReconcileCron(turn);
            else await ReconcileJob(turn);
        }
        catch (OperationCanceledException) when (cut.IsCancellationRequested) { return; }
#pragma warning disable CA1031 // A bug met by one object must not stop the others; an exception never decides a phase.
        catch (Exception e)
#pragma warning restore CA1031
        {
            log.LogError("{Namespace}/{Name}: {Type} {Trace}", key.Namespace, key.Name, e.GetType(), e.StackTrace);
            turn.Retry(TimeSpan.FromSeconds(30));
        }
        Tell(turn);
        if (turn.Due is { } due) queue.AddAfter(key, time.GetElapsedTime(time.GetTimestamp(), due));
        var controller = Metrics.Label("controller", key.Resource!.Kind.ToLowerInvariant());
        metrics.Count(Metrics.Reconciles,
            $"{controller},{Metrics.Label("result", turn.Failed ? "error" : "success")}");
        if (turn.Failed) metrics.Count(Metrics.Errors, controller);
        if (turn.Failed) metrics.Count(Metrics.Retries, queue.Label);
        metrics.Observe(Metrics.ReconcileTime, controller, time.GetElapsedTime(start));
    }

    /// <summary>What a turn has kept back, to be told along with what would come next.</summary>
    void Tell(Turn turn)
    {
        if (turn.Untold is { About: { } about } kept) Record(about, kept);
        turn.Untold = null;
    }

    async Task ReconcileJob(Turn turn)
    {
        var key = turn.Key;
        var (owner, pods, known) = cache.Observe(key);
        var job = owner as Job;
        // What names no OMJob is found by whoever asks for the pod.
        if (key.Name.Length == 0 || (job is null && pods.Length == 0)) return;
        if (known.YieldsSince != 0 && time.GetElapsedTime(known.YieldsSince) is var still && still < Stillness
            && time.GetTimestamp() < known.YieldsUntil)
        {
            turn.Requeue(Stillness - still);
            return;
        }
#pragma warning disable CA1727 // JSON logs show these fields with each line, under the names that objects give them.
        using var fields = log.BeginScope("{namespace}/{omjob} {uid} {phase}",
            key.Namespace, key.Name, job?.Uid, job?.Status.Phase);
#pragma warning restore CA1727
        foreach (var pod in pods)
        {
            if (Protocol.Stray(job, pod) is null) continue;
            (var reply, job) = await ReadJob(key, turn.Stop);
            if (!reply.Ok && reply.Outcome != Outcome.NotFound) { Retry(turn, job, reply); return; }
            if (await ReadPod(turn, job, pod.Name) is not { } live) return;
            if (live.Pod?.Uid != pod.Uid) return; // a newer one, or none: its key comes again
            if (Protocol.Stray(job, live.Pod) is not { } stray) continue;
            log.LogWarning("{Namespace}/{Name}: {Pod} {Why}", key.Namespace, key.Name, pod.Name, stray.Why);
            if (job is not null && stray.Event is { } told) Record(job, told);
            await Execute(turn, job, stray);
            return;
        }
        if (job is not null) await DecideAndExecute(turn, job, pods);
    }

    async Task DecideAndExecute(Turn turn, Job job, Pod[] pods)
    {
        PodView View(string name) => ViewOf(turn.Key, pods.FirstOrDefault(p => p.Name == name));
        PodView? main = View(PodTemplate.MainName(job)), exit = View(PodTemplate.ExitName(job));
        for (var round = 0; main is not null && exit is not null; round++)
        {
            if (round == 8) { turn.Retry(TimeSpan.FromSeconds(1)); return; }
            // G20: the collector, done with orphaning, has taken the owner reference and left no other sign.
            var orphaning = job.Finalizers.Contains(Job.Orphan) || (job.Deleting && main.Pod is { HasOwner: false });
            var known = cache.ProgressOf(turn.Key);
            job = job with { NamespaceAsked = known.NamespaceAsked, Orphaning = orphaning };
            var decision = Protocol.Decide(job, main, exit, Now, DeadlinesOf(job));
            var needsAll = decision.Act is Act.CreateMain or Act.CreateExit or Act.AskNamespace
                or Act.AddFinalizer or Act.DropFinalizer;
            switch (needsAll && !job.IsWhole ? Act.AskJob : decision.Act)
            {
                case Act.Wait:
                    var waits = job.Status.Phase.IsFinished() || known.RetryAt > Now;
                    cache.Remember(turn.Key, job.Uid, p => p with { Failures = 0, Due = waits ? null : decision.Wake });
                    // The answers set the clock, within the second that they tell: who has asked asks no sooner again.
                    var least = round > 0 ? TimeSpan.FromSeconds(1) : TimeSpan.Zero;
                    if (decision.Wake is { } wake) turn.Requeue(wake - Now < least ? least : wake - Now);
                    return;
                case Act.AskJob:
                    var (reply, live) = await ReadJob(turn.Key, turn.Stop);
                    if (!reply.Ok && reply.Outcome != Outcome.NotFound) Retry(turn, job, reply);
                    if (live?.Uid != job.Uid) return;
                    // It may name another exit pod by now (D1).
                    if (live.Status != job.Status)
                        (main, exit) = (View(PodTemplate.MainName(live)), View(PodTemplate.ExitName(live)));
                    job = live;
                    break;
                case Act.AskMain: main = await ReadPod(turn, job, PodTemplate.MainName(job)); break;
                case Act.AskExit: exit = await ReadPod(turn, job, PodTemplate.ExitName(job)); break;
                case Act.AskNamespace: exit = await AskNamespace(turn, job, exit); break;
                case Act.CreateMain: main = await Create(turn, job, PodType.Main); break;
                case Act.CreateExit: exit = await Create(turn, job, PodType.ExitHandler); break;
                // What follows is the handler's creation as a rule: one event tells of both.
                case Act.WriteStatus when job.Status.Phase < Phase.ExitHandlerRunning
                    && decision.Status!.Phase == Phase.ExitHandlerRunning:
                    if (!await WriteStatus(turn, job, decision with { Event = null })) return;
                    turn.Untold = decision.Event! with { About = job };
                    if (cache.Get(turn.Key) is not Job over || over.Uid != job.Uid
                        || over.ResourceVersion == job.ResourceVersion) return;
                    (job, exit) = (over, View(PodTemplate.ExitName(over)));
                    break;
                default:
                    Tell(turn);
                    await Execute(turn, job, decision);
                    return;
            }
        }
    }

    /// <summary>The run defaults that hold for an OMJob: those of its main pod where they are still known, else the
    /// current ones; null: there are none.</summary>
    RunDefaults? DefaultsOf(Job job) => runDefaults?.Of(cache.ProgressOf(job.Key).Defaults);

    Deadlines DeadlinesOf(Job job) => DefaultsOf(job)?.BackoffLimit is { } limit
        ? deadlines with { ExitHandlerRetries = limit } : deadlines;

    /// <summary>A pod with what is remembered of it; null: not cached.</summary>
    PodView ViewOf(Key key, Pod? pod)
    {
        var known = cache.ProgressOf(key);
        return new(pod)
        {
            RetryAt = known.RetryAt,
            AskAgain = pod is { LostLabels: true } ? known.AskAgain : null,
            Stopped = pod is not null && known.Stopped.Contains(pod.Uid, StringComparison.Ordinal),
        };
    }

    // ----- reads

    /// <summary>A live GET of the job, with its spec; null where it is gone or could not be read.</summary>
    async Task<(Reply Reply, Job? Job)> ReadJob(Key key, CancellationToken stop)
    {
        var reply = await cluster.Get(key, stop);
        if (reply.Found is not Job answer) return (reply, null);
        // Only a 404 says that it is gone; what a watch told meanwhile is looked at when the key comes again.
        return cache.Get(key) is not Job job ? (Reply.Failed("it was told to be gone meanwhile"), null)
            : (reply, job.ResourceVersion == answer.ResourceVersion ? answer with { ReadAt = reply.SentAt } : job);
    }

    /// <summary>A live GET of a pod (D5: absence is proved by a 404 only); null where it could not be read.</summary>
    async Task<PodView?> ReadPod(Turn turn, Job? job, string name)
    {
        var (key, of) = (turn.Key, new Key(turn.Key.Namespace, name, Resources.Pods));
        var before = cache.Get(of);
        var reply = await cluster.Get(of, turn.Stop, take: false);
        if (reply.Outcome == Outcome.NotFound) // D2: one that has come since was not asked for
            return cache.Get(of) is Pod newer ? ViewOf(key, newer)
                : ViewOf(key, null) with { Presence = Presence.Absent };
        if (reply.Found is not Pod pod) { Retry(turn, job, reply); return null; }
        if (pod.JobName.Length == 0 && pod.JobUid == cache.Get(key)?.Uid) pod = pod with { JobName = key.Name };
        // Of one without labels the watch would never tell the end; a stray is asked for each time.
        if (!pod.LostLabels || Protocol.Stray(cache.Get(key) as Job, pod) is not null)
            await cluster.Take(pod, before, reply, turn.Stop);
        else cluster.Remove(before, reply);
        if (cache.Get(of)?.Uid != pod.Uid) pod = RememberUncached(key, pod);
        return ViewOf(key, (Pod)pod.Merge(cache.Get(of), null)) with { ReadAt = reply.SentAt };
    }

    /// <summary>What the cache would remember of a pod that it does not keep: one without labels, or one that needed
    /// nothing when it was told, before its OMJob was. Returns it with that.</summary>
    Pod RememberUncached(Key key, Pod pod)
    {
        RememberStopped(key, pod);
        var known = cache.Remember(key, p => p with
        {
            OverSeen = pod.OverSeen is not { } seen ? p.OverSeen
                : p.OverSeen is { } before && before.Pod == pod.Uid ? before : (pod.Uid, seen),
            Relabelled = p.AskAgain is null ? p.Relabelled : p.Relabelled + 1,
            AskAgain = p.AskAgain is null ? null
                : Now + backoff.After(p.Relabelled - 2, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30)),
        });
        return pod.OverSeen is null ? pod : pod with { OverSeen = known.OverSeen?.At };
    }

    /// <summary>G10: an exit pod's dry run tells if the namespace is going; null where it could not be asked.</summary>
    async Task<PodView?> AskNamespace(Turn turn, Job job, PodView exit)
    {
        var reply = await cluster.Call(PodTemplate.Creation(job, PodType.ExitHandler, query: "&dryRun=All"), turn.Stop);
        var asked = reply.Outcome is not (Outcome.Fault or Outcome.Unauthorized or Outcome.TooMany);
        cache.Remember(turn.Key, job.Uid, p => p with { NamespaceAsked = asked });
        if (!asked) Retry(turn, job, reply);
        return !asked ? null : reply.Outcome == Outcome.NamespaceGoing ? PodView.NamespaceGoing : exit;
    }

    // ----- actions

    /// <summary>Executes what was decided, one request, and takes its answer.</summary>
    async Task Execute(Turn turn, Job? job, Decision decision)
    {
        var (pod, stop) = (decision.Pod!, turn.Stop);
        switch (decision.Act)
        {
            case Act.AddFinalizer:
                var more = job!.Finalizers.Append(Job.Finalizer);
                await Take(turn, job, await PatchFinalizers(job, more, stop), newer => newer.HasFinalizer);
                break;
            case Act.DropFinalizer:
                var less = job!.Finalizers.Where(f => f != decision.Why);
                await Take(turn, job, await PatchFinalizers(job, less, stop),
                    newer => !newer.Finalizers.Contains(decision.Why));
                break;
            case Act.WriteStatus: await WriteStatus(turn, job!, decision); break;
            case Act.Block: await Block(turn, job!, PodType.Main, Reply.Failed(decision.Why)); break;
            case Act.DeleteJob: await DeleteJob(turn, job!, job!.ResourceVersion, "its TTL is over", job.Uid); break;
            case Act.ReleasePod: await TakePod(turn, job, pod, await ReleasePod(pod, stop)); break;
            case Act.RestoreLabels: await RestoreLabels(turn, job!, pod); break;
            case Act.DeletePod:
                Log(turn.Key, $"Deleting {pod.Name}: {decision.Why}");
                var delete = new Request(HttpMethod.Delete, pod.Key.Path, Bodies.Delete(pod.Uid, null));
                await TakePod(turn, job, pod, await cluster.Call(delete, stop));
                break;
        }
    }

    /// <summary>Creates a pod. Returns what is now known of its name, or null where the key waits.</summary>
    async Task<PodView?> Create(Turn turn, Job job, PodType type)
    {
        var (key, name) = (turn.Key, PodTemplate.NameOf(job, type));
        cache.Unread(job); // D1: it may come to pass whatever the answer, and be over before a watch tells
        var sent = time.GetTimestamp();
        var before = cache.ProgressOf(key).Otherwise is { } refused && refused.Pod == name ? refused : null;
        var (request, made) = Choose(job, type, before);
        var reply = await cluster.Call(request, turn.Stop);
        var invalid = reply.IsInvalid(Resources.Pods);
        if (!invalid)
            cache.Remember(key, job.Uid, p => p with { Invalid = p.Invalid is { } so ? (so.Pod, so.Ticks, 0) : null });
        if (made is not null && before is null && MayDoOtherwise(reply, cache.ProgressOf(key)))
        {
            var forGood = invalid || reply.Outcome == Outcome.Impossible;
            cache.Remember(key, job.Uid, p => p with { Otherwise = made with { Why = Redacted(reply, job), ForGood = forGood } });
            turn.Requeue(); // it is decided anew, for this may have taken its time (D1)
            return null;
        }
        if (before is not null && !reply.Ok) cache.Remember(key, job.Uid, p => p with { Otherwise = null });
        switch (reply.Outcome)
        {
            case Outcome.Ok: return await Created(turn, job, type, reply, made, before);
            case Outcome.Invalid or Outcome.Impossible when before is { ForGood: false }: goto default;
            case Outcome.Exists or Outcome.Conflict: // D4: Decide looks whose it is
                var told = cache.Get(new(key.Namespace, name, Resources.Pods)) as Pod;
                var found = told?.BelongsTo(job) is true ? ViewOf(key, told) : await ReadPod(turn, job, name);
                // Not twice: a pod that no watch tells of would be waited for again and again.
                if (found?.Pod?.BelongsTo(job) is true && cache.ProgressOf(key).YieldsSince == 0 && IsLost(turn, job))
                    return null;
                if (found is not { Presence: Presence.Absent }) return found;
                await Block(turn, job, type, reply); // not there after all: a quota's conflict
                return null;
            case Outcome.Invalid when !invalid || !IsInvalidForGood(key, job, type, sent): goto default;
            case Outcome.Impossible or Outcome.Invalid: // D4: it is refused before anybody looks whether it is there
                var there = await ReadPod(turn, job, name);
                return there is { Presence: Presence.Absent } ? PodView.Refused(Redacted(reply, job)) : there;
            // D4: an answer may have been lost before, and the policy that takes its labels hides the pod from watches.
            case Outcome.NamespaceGoing when type == PodType.Main:
                var still = await ReadPod(turn, job, name);
                return still is { Presence: Presence.Absent } ? PodView.NamespaceGoing : still;
            case Outcome.NamespaceGoing: return PodView.NamespaceGoing;
            case Outcome.Unauthorized or Outcome.Fault when reply.Code is 0 or 401:
                Retry(turn, job, reply);
                return null;
            default:
                await Block(turn, job, type, reply);
                return null;
        }
    }

    /// <summary>A pod with its run defaults. G23: no handler is lost to these. Where they make a difference to an exit
    /// pod (Made is not null), it has them but for the last attempt, and if that is refused, it is made the other way.
    /// Before: how it was made when it was refused just before.</summary>
    (Request Request, Otherwise? Made) Choose(Job job, PodType type, Otherwise? before)
    {
        if (type == PodType.Main) return (PodTemplate.Creation(job, type, runDefaults?.Current), null);
        var alone = PodTemplate.Creation(job, type);
        if (DefaultsOf(job) is not { } defaults) return (alone, null);
        var (with, left) = (PodTemplate.Creation(job, type, defaults), Protocol.AttemptsLeft(job, DeadlinesOf(job)));
        if (with.Body.AsSpan().SequenceEqual(alone.Body)) return (alone, null);
        var isAlone = before is null ? left <= 0 : !before.Alone;
        // Where none is admitted alone, one more follows, and no other: it does not tell that it has them.
        if (!isAlone && left < 0) with = with with { Body = PodTemplate.Build(job, type, defaults, tells: false) };
        return (isAlone ? alone : with, new(PodTemplate.NameOf(job, type), isAlone, "", false));
    }

    /// <summary>The run defaults, or that there are none, may be why: it is the API server's word on this pod; or it
    /// fails again and again, as a webhook does that looks at a label, and not all else does.</summary>
    static bool MayDoOtherwise(Reply reply, Progress known) => reply.Outcome switch
    {
        Outcome.Ok or Outcome.Exists or Outcome.Conflict or Outcome.NamespaceGoing => false,
        Outcome.Invalid or Outcome.Impossible or Outcome.Refused => true,
        _ => Math.Max(known.Refusals, known.Failures) >= 4,
    };

    async Task<PodView?> Created(
        Turn turn, Job job, PodType type, Reply reply, Otherwise? made, Otherwise? before)
    {
        var (key, name, known) = (turn.Key, PodTemplate.NameOf(job, type), cache.ProgressOf(turn.Key));
        var main = type == PodType.Main;
        cache.Remember(key, job.Uid, p => p with
        {
            Refusals = 0,
            Failures = 0,
            YieldsSince = 0,
            Invalid = null,
            Otherwise = null,
            MainOver = main ? p.MainOver : 0,
        });
        Log(key, $"Created {name}");
        Record(job, main ? new("MainPodCreated", $"Created main pod {name}")
            : job.Status.HandlerMessage.Length > 0 ? new("ExitHandlerCreated", $"Created exit handler pod {name}")
            : new("ExitHandlerCreated", $"{job.Status.MainMessage}; created exit handler pod {name}",
                job.Status.ExitCode != 0));
        turn.Untold = null;
        if (made is { Alone: true })
        {
            metrics.Count(JobMetrics.DefaultsLeftOut, "");
            var why = before is null ? "it is the last attempt" : $"with them it is refused: {before.Why}";
            var told = Text.Truncate($"Exit handler pod {name} was created without the run defaults: {why}");
            log.LogWarning("{Namespace}/{Name}: {Text}", key.Namespace, key.Name, told);
            Record(job, new("RunDefaultsLeftOut", told, Warning: true));
        }
        if (!main && known.MainOver != 0)
            metrics.Observe(JobMetrics.ExitHandlerLatency, "", time.GetElapsedTime(known.MainOver));
        var pod = cluster.Parse(reply, Resources.Pods) as Pod;
        if (pod is { LostLabels: false }) await cluster.Take(pod, null, reply, turn.Stop);
        return pod is null ? null : ViewOf(key, pod);
    }

    /// <summary>G15: admission changes a pod before it is validated, so one that is invalid now may be valid later. It
    /// is given up once it has been refused so for a minute; a handler's, whose OMJob is not being deleted, for its
    /// deadline. What counts is the time from an answer to when the next try was sent (timestamp): no request's
    /// own.</summary>
    bool IsInvalidForGood(Key key, Job job, PodType type, long sent)
    {
        var (name, now) = (PodTemplate.NameOf(job, type), time.GetTimestamp());
        var (_, ticks, _) = cache.Remember(key, job.Uid, p => p with
        {
            Invalid = p.Invalid is { } invalid && invalid.Pod == name
                ? (name, invalid.Ticks + (invalid.Last == 0 ? 0 : sent - invalid.Last), now) : (name, 0, now),
        }).Invalid!.Value;
        var patience = type == PodType.Main || job.Deleting ? TimeSpan.FromMinutes(1)
            : deadlines.ExitHandlerDeadline == TimeSpan.Zero ? TimeSpan.FromMinutes(10) : deadlines.ExitHandlerDeadline;
        return time.GetElapsedTime(0, ticks) >= patience;
    }

    /// <summary>G14: what creates no pod now may do so later. Waits with backoff and says what blocks it.</summary>
    async Task Block(Turn turn, Job job, PodType type, Reply refusal)
    {
        Tell(turn);
        var main = type == PodType.Main;
        var said = $"{Ending.Blocked.Phrase}: {Redacted(refusal, job)}";
        if (!main && PodTemplate.Number(job) > 1) said = JobStatus.OfAttempt(PodTemplate.Ran(job) + 1, said); // H9
        var text = Text.Truncate($"{(main ? JobStatus.MainPod : JobStatus.ExitHandler)}{said}");
        var refusals = cache.ProgressOf(turn.Key).Refusals + 1;
        var delay = backoff.Pause(refusals, refusal.RetryAfter, TimeSpan.FromSeconds(1));
        cache.Remember(turn.Key, job.Uid, p => p with // it is blocked, and counted as that
        { Refusals = refusals, RetryAt = Now + delay, Due = null });
        if (int.IsPow2(refusals)) // H2: told at the 1st, 2nd, 4th, 8th … time only
        {
            log.LogWarning("{Namespace}/{Name}: {Text} (attempt {N})", job.Namespace, job.Name, text, refusals);
            Record(job, new(main ? "MainPodBlocked" : "ExitHandlerBlocked", text, Warning: true), refusals);
        }
        var status = job.Status with { Message = main ? text : job.Status.WithHandler(said) };
        if (job.Status != status) await WriteStatus(turn, job, new(Act.WriteStatus, text) { Status = status });
        turn.Requeue(); // to wait for that, or for what is due before
    }

    /// <summary>D3, H1: gives a pod its labels back; where they do not stay it is asked for now and then.</summary>
    async Task RestoreLabels(Turn turn, Job job, Pod pod)
    {
        const int most = 3; // times; whoever takes them again and again will go on
        var (key, patch) = (turn.Key, PodTemplate.LabelPatch(job, pod));
        var reply = await cluster.Call(new(HttpMethod.Patch, pod.Key.Path, patch, MediaTypes.Merge), turn.Stop);
        var lost = await TakePod(turn, job, pod, reply);
        var before = cache.ProgressOf(key).Relabelled;
        var after = cache.Remember(key, job.Uid, p => p with
        {
            Relabelled = lost ? Math.Max(most, p.Relabelled + 1) : p.Relabelled + 1,
            AskAgain = lost || p.Relabelled + 1 >= most ? Now : null,
        }).Relabelled;
        if (before < most && after >= most)
        {
            var text = $"The labels of pod {pod.Name} are removed again and again: it is asked for from time to time";
            log.LogWarning("{Namespace}/{Name}: {Text}", key.Namespace, key.Name, text);
            Record(job, new("PodLabelsRemoved", text, Warning: true));
        }
    }

    /// <summary>True where it was done.</summary>
    async Task<bool> WriteStatus(Turn turn, Job job, Decision decision)
    {
        var (from, to) = (job.Status.Phase, decision.Status!.Phase);
        var seen = time.GetTimestamp();
        byte[] sent = [];
        byte[] Body(bool whole) => sent = Bodies.Status(job, decision.Status, Now, whole);
        // An API server of 1.20 takes what is not in the body for taken out by us: whoever applies would lose what is his.
        var reply = await cluster.UpdateStatus(job.Key, Body, job.IsApplied, turn.Stop);
        if (!await Take(turn, job, reply, IsDone, sent)) return false;
        if (from < Phase.ExitHandlerRunning && to == Phase.ExitHandlerRunning)
            cache.Remember(turn.Key, job.Uid, p => p with { MainOver = seen });
        if (from != to)
            log.LogInformation("{Namespace}/{Name}: {From} → {To}: {Why}",
                job.Namespace, job.Name, from, to, decision.Why);
        if (from == Phase.ExitHandlerRunning && decision.Attempt is { } outcome)
            metrics.Count(JobMetrics.ExitHandlers, Metrics.Label("outcome", outcome));
        if (from != to && to.IsFinished())
        {
            var lasted = decision.Status.CompletionTime - (job.Status.StartTime ?? job.Created);
            var how = Metrics.Label("outcome", $"{to}".ToLowerInvariant());
            metrics.Observe(JobMetrics.Duration, how, lasted!.Value, JobMetrics.DurationBounds);
            metrics.Count(JobMetrics.Finished, $"{how},{Metrics.Label("reason", Conditions.Reason(decision.Status))}");
        }
        if (decision.Event is { } told) Record(job, told);
        return true;

        bool IsDone(Job newer) => (newer.Status.Phase, newer.Status.MainPodName, newer.Status.ExitPodName)
                == (to, decision.Status.MainPodName, decision.Status.ExitPodName)
            && (to.IsFinished() || newer.Status.Message == decision.Status.Message);
    }

    /// <summary>Deletes a finished job, at most fifty a second: a backlog at the first start is no storm. The key is
    /// the one which decided it: the job's, or its CronOMJob's, whose UID goes along.</summary>
    async Task DeleteJob(Turn turn, Job job, string? version, string why, string uid)
    {
        var now = time.GetTimestamp();
        long slot;
        lock (gate)
        {
            slot = cache.ProgressOf(turn.Key).DeleteSlot;
            if (slot == 0) nextDelete = (slot = Math.Max(now, nextDelete)) + time.TimestampFrequency / 50;
        }
        cache.Remember(turn.Key, uid, p => p with { DeleteSlot = slot > now ? slot : 0 });
        if (slot > now) { turn.Requeue(time.GetElapsedTime(now, slot)); return; }
        Log(job.Key, $"Deleting the OMJob: {why}");
        var delete = new Request(HttpMethod.Delete, job.Key.Path, Bodies.Delete(job.Uid, version));
        var reply = await cluster.Call(delete, turn.Stop);
        if (await Take(turn, job, reply) && cluster.Parse(reply, Resources.OMJobs) is null)
            cluster.Remove(job, reply); // answered with a Status: it is gone, whether a watch will tell or not
    }

    /// <summary>As long as the spec goes into pods it is to be known as admission leaves it.</summary>
    Task<Reply> PatchFinalizers(Job job, IEnumerable<string> finalizers, CancellationToken stop) => cluster.Call(
        new(HttpMethod.Patch, job.Key.Path, Bodies.Finalizers(job, finalizers), MediaTypes.Merge)
        {
            Accept = job.Status.Phase.IsFinished() ? MediaTypes.Metadata : MediaTypes.Json,
        }, stop);

    Task<Reply> ReleasePod(Pod pod, CancellationToken stop) => cluster.Call(
        new(HttpMethod.Patch, pod.Key.Path, Bodies.DropFinalizer(pod), MediaTypes.StrategicMerge), stop);

    // ----- answers

    /// <summary>Takes the answer of a write to an OMJob or a CronOMJob. True where it was done. Done: whether a newer
    /// state shows that another replica has done the very same. Sent: an OMJob's status, as it was sent.</summary>
    async Task<bool> Take(
        Turn turn, CachedObject written, Reply reply, Predicate<Job>? done = null, byte[]? sent = null)
    {
        switch (reply.Outcome)
        {
            case Outcome.Ok:
                cache.Remember(turn.Key, p => p with { Failures = 0, YieldsSince = 0 });
                if (Answer() is { } answer) await cluster.Take(answer, written, reply, turn.Stop);
                else if (sent is not null) await cluster.Get(written.Key, turn.Stop); // it says nothing
                return true;
            case Outcome.NotFound: cluster.Remove(written, reply); break;
            case Outcome.Conflict: // observe again, never try harder
                if (cache.Get(written.Key)?.ResourceVersion == written.ResourceVersion) // a watch may have told by now
                    await cluster.Get(written.Key, turn.Stop);
                if (IsDone()) break;
                Again(turn);
                break;
            default: Retry(turn, written as Job, reply); break;
        }
        return false;

        CachedObject? Answer() => written is not Job job ? cluster.Parse(reply, written.Key.Resource!)
            : reply.Read(ModelJson.Default.JobObject)?.After(job,
                sent is null ? null : JsonSerializer.Deserialize(sent, ApiJson.Default.JsonElement).Get("status"));

        bool IsDone() => done is not null && cache.Get(written.Key) is Job newer && newer.Uid == written.Uid
            && newer.ResourceVersion != written.ResourceVersion && done(newer) && IsLost(turn, newer);
    }

    /// <summary>Another replica was first with a step of ours; no where an answer of ours may have been lost.</summary>
    bool IsLost(Turn turn, Job job)
    {
        if (cache.ProgressOf(turn.Key).Failures > 0) return false;
        Yield(turn.Key, job);
        var longest = time.GetTimestamp() + (long)(LongestYield.TotalSeconds * time.TimestampFrequency);
        cache.Remember(turn.Key, job.Uid, p => p with { YieldsUntil = longest });
        turn.Requeue(Stillness);
        return true;
    }

    void Yield(Key key, Job? job) =>
        cache.Remember(key, job?.Uid, p => p with { YieldsSince = time.GetTimestamp() });

    /// <summary>Takes the answer to a write of a pod: it, or that it is gone. True where it has no labels.</summary>
    async Task<bool> TakePod(Turn turn, Job? job, Pod pod, Reply reply)
    {
        var answer = cluster.Parse(reply, Resources.Pods) as Pod;
        if (reply.Ok) cache.Remember(turn.Key, p => p with { YieldsSince = 0 });
        if (answer?.Uid == pod.Uid) RememberStopped(turn.Key, answer);
        if (answer?.Uid == pod.Uid && !answer.LostLabels) await cluster.Take(answer, pod, reply, turn.Stop);
        else if (reply.Ok || reply.Outcome is Outcome.NotFound)
        {
            cluster.Remove(pod, reply); // W8: no watch would
            turn.Requeue();
        }
        else if (reply.Outcome != Outcome.Conflict) Retry(turn, job, reply);
        else if (await ReadPod(turn, job, pod.Name) is not null) Again(turn);
        return answer is { LostLabels: true };
    }

    /// <summary>After a conflict: at once the first time.</summary>
    void Again(Turn turn)
    {
        var failures = cache.Remember(turn.Key, p => p with { Failures = p.Failures + 1 }).Failures;
        turn.Requeue(failures == 1 ? default : backoff.Pause(failures - 1, null));
    }

    /// <summary>Tries again after a failure. Job: its spec, if it is kept, has what is not to be said.</summary>
    void Retry(Turn turn, Job? job, Reply reply)
    {
        var (key, owner) = (turn.Key, cache.Get(turn.Key));
        var failures = cache.Remember(
            key, owner?.Uid, p => p with { Failures = p.Failures + 1, Otherwise = null }).Failures;
        if (int.IsPow2(failures))
            log.LogWarning("{Namespace}/{Name}: {Reason}; trying again", key.Namespace, key.Name, Redacted(reply, job));
        // What it is too large for it will always be: whoever made it can make it smaller.
        if (failures == 1 && reply.Outcome == Outcome.Impossible && owner is Job about)
            Record(about, new("OMJobRefused", $"The OMJob cannot be written: {Redacted(reply, job)}", Warning: true));
        turn.Retry(backoff.Pause(failures, reply.RetryAfter));
    }

    /// <summary>The API server's words without what the OMJob's env holds; where no spec is kept to compare them with,
    /// none that may come from an object.</summary>
    string Redacted(Reply reply, Job? job) =>
        reply.Fault is null && job is not { IsWhole: true, Spec.Length: > 0 } ? reply.Brief
            : Secrets.Redact(reply.Message, job, runDefaults?.Specs ?? []);

    // ----- what is told

    void Log(Key key, string what) => log.LogInformation("{Namespace}/{Name}: {What}", key.Namespace, key.Name, what);

    /// <summary>Puts an event on its way; one that says the same as the last raises its count.</summary>
    void Record(CachedObject about, Event told, int count = 1)
    {
        var now = Now;
        var name = $"{Names.Fit(about.Name, 230, "omjob")}.{now.Ticks:x}{random.Next(4096):x3}";
        if (about is Job job) about = job.Short();
        events.Record(cache.Remember(about.Key, about.Uid, p => p with
        {
            LastEvent = told.Following(p.LastEvent, count, now, name, about),
        }).LastEvent!);
    }
}

// ---------------------------------------------------------------------------------------------------------- decision

/// <summary>What to do next: at most one request.</summary>
enum Act
{
    Wait, AskJob, AskMain, AskExit, AskNamespace, Block, AddFinalizer, DropFinalizer, CreateMain, CreateExit,
    WriteStatus, DeletePod, ReleasePod, RestoreLabels, DeleteJob,
}

/// <summary>One step of the protocol. Why: the evidence, for the log; for DropFinalizer the finalizer's name.</summary>
sealed record Decision(Act Act, string Why = "")
{
    public JobStatus? Status { get; init; }
    public Pod? Pod { get; init; }
    /// <summary>When to look again if nothing happens (server's time).</summary>
    public DateTimeOffset? Wake { get; init; }
    /// <summary>The event to write once the step is done.</summary>
    public Event? Event { get; init; }
    /// <summary>How an attempt of the exit handler ended, succeeded or failed; null: none did.</summary>
    public string? Attempt { get; init; }
}

/// <summary>The phase machine: pure functions of what was observed and the API server's clock.</summary>
static class Protocol
{
    /// <summary>A creation is decided on an OMJob, and what a clock or another's pod says of ours on a pod, asked for
    /// no longer ago than this: a watch that is late (D1, W2) must neither start a run again nor give up one that is
    /// fine.</summary>
    static readonly TimeSpan Fresh = TimeSpan.FromSeconds(10);
    static readonly TimeSpan ClockSlack = TimeSpan.FromSeconds(2);
    static readonly TimeSpan FirstBackoff = TimeSpan.FromSeconds(10);
    static readonly TimeSpan DeadlineBackstop = TimeSpan.FromSeconds(60);
    static readonly TimeSpan LeastTtl = TimeSpan.FromSeconds(15);
    /// <summary>For an exit pod with run defaults, where exit handlers have no deadline.</summary>
    static readonly TimeSpan NeverStarts = TimeSpan.FromMinutes(10);

    /// <summary>A job's next step, given what is known of the main pod and the exit pod named in its status.</summary>
    public static Decision Decide(Job job, PodView main, PodView exit, DateTimeOffset now, Deadlines deadlines)
    {
        var going = main.Presence == Presence.NamespaceGoing || exit.Presence == Presence.NamespaceGoing;
        if (going && !job.Status.Phase.IsFinished()) return WhenNamespaceGoes(job, main, now, deadlines); // G10
        return job.Status.Phase switch
        {
            Phase.Pending => WhenPending(job, main, now),
            Phase.Running => WhenRunning(job, main, now, deadlines),
            Phase.ExitHandlerRunning => WhenExitHandlerRunning(job, main, exit, now, deadlines),
            Phase.Succeeded or Phase.Failed => WhenFinished(job, main, exit, now, deadlines),
            _ => WhenUnknown(job, main, now),
        };
    }

    static Decision WhenNamespaceGoes(Job job, PodView main, DateTimeOffset now, Deadlines deadlines)
    {
        var end = job.Status.Phase == Phase.Running ? End.Of(main, now, deadlines) : null;
        var status = end is null ? job.Status : Recorded(job, main, end);
        return Finish(now, false, status, Ending.NamespaceGoing.Phrase);
    }

    static Decision WhenPending(Job job, PodView main, DateTimeOffset now) => main switch
    {
        _ when !job.HasFinalizer && !job.Deleting => new(Act.AddFinalizer), // even where its main pod is there
        { Pod: { } pod } when pod.BelongsTo(job) => Started(job, pod),
        { Presence: Presence.Unknown } when job.Deleting => new(Act.AskMain),
        _ when job.Deleting => Drop(job, Job.Finalizer), // F5: it never started
        { Pod: { } pod } => Foreign(pod, main, now),
        { Presence: Presence.Refused, Message: var said } => // G15
            MainEnded(job, main, new(null, Ending.Refused, $": {said}"), now),
        _ => Create(Act.CreateMain, job, main, now),
    };

    /// <summary>A phase nobody defined, written by hand: the run goes on where there is one, else it failed.</summary>
    static Decision WhenUnknown(Job job, PodView main, DateTimeOffset now) => main switch
    {
        { Pod: { } pod } when pod.BelongsTo(job) => Started(job, pod),
        { Presence: Presence.Unknown } => new(Act.AskMain),
        _ when job.Status is { MainPodName: not null, CompletionTime: null } =>
            MainEnded(job, PodView.Absent, End.Unseen, now),
        _ => Finish(now, false, job.Status with
        {
            Message = $"Status.phase '{Text.Truncate(job.Status.PhaseText, 40)}' is no phase of an OMJob",
        }, null),
    };

    static Decision WhenRunning(Job job, PodView main, DateTimeOffset now, Deadlines deadlines)
    {
        if (!job.HasFinalizer && !job.Deleting) return new(Act.AddFinalizer); // adopted from another operator
        if (main.Presence == Presence.Unknown) return new(Act.AskMain);
        if (job is { Deleting: true, HasExitSpec: true, NamespaceAsked: false }) return new(Act.AskNamespace);
        if (main.Pod is { } other && !other.BelongsTo(job)) // D2: name taken, so ours is gone; or was, before ours
        {
            if (!IsFresh(main.ReadAt, now)) return new(Act.AskMain);
            main = PodView.Absent;
        }
        if (End.Of(main, now, deadlines) is { } end)
            return end.ByClock && !IsFresh(main.ReadAt, now) ? new(Act.AskMain) : MainEnded(job, main, end, now);
        var pod = main.Pod!;
        if (pod.LostLabels && main.AskAgain is null) return new(Act.RestoreLabels) { Pod = pod };
        if (now.Reached(main.AskAgain)) return new(Act.AskMain);
        if (pod.Deleting) return new(Act.Wait) { Wake = Earliest(End.ByClockAt(pod, deadlines), main.AskAgain) };
        if (job.Status.GivenUp is { } said) // it may be long ago that a watch told of the pod
            return IsFresh(main.ReadAt, now) ? new(Act.DeletePod, said) { Pod = pod } : new(Act.AskMain);
        if (job.Deleting) return new(Act.DeletePod, "the OMJob was deleted") { Pod = pod }; // G9
        // G7: never started. G8: the kubelet stops it; this is for a kubelet that does not.
        var start = pod.Started || deadlines.StartDeadline == TimeSpan.Zero
            ? (DateTimeOffset?)null : pod.Created + deadlines.StartDeadline;
        var stop = pod.StartTime + pod.ActiveDeadline + pod.Grace + DeadlineBackstop;
        var why = pod.Waiting ?? "nothing is said why";
        if (now.Reached(Earliest(start, stop)) && !IsFresh(main.ReadAt, now)) return new(Act.AskMain);
        if (now.Reached(start))
            return GiveUp(job, Ending.NotStarted, $" within {Text.Duration(deadlines.StartDeadline)}: {why}");
        if (now.Reached(stop))
            return GiveUp(job, Ending.Overran, $" its activeDeadlineSeconds of {pod.ActiveDeadline?.TotalSeconds}");
        return new(Act.Wait) { Wake = Earliest(start, stop, End.ByClockAt(pod, deadlines), main.AskAgain) };
    }

    static Decision WhenExitHandlerRunning(
        Job job, PodView main, PodView exit, DateTimeOffset now, Deadlines deadlines)
    {
        if (!job.HasFinalizer && !job.Deleting) return new(Act.AddFinalizer);
        if (!job.HasExitSpec) return Finish(now, true, job.Status, null);
        if (job.Status.ExitPodName is null) return NextAttempt(job, 1, null, null);
        // H1: the handler finds the main pod by its labels.
        if (main.Presence == Presence.Unknown) return new(Act.AskMain);
        if (main is { Pod: { LostLabels: true } lost, AskAgain: null } && lost.BelongsTo(job))
            return new(Act.RestoreLabels) { Pod = lost };
        // G22: a drain waits for the main pod, but not for all attempts of its handler.
        var drained = main.Pod is { HasFinalizer: true, Deleting: true } pod && pod.BelongsTo(job) && !job.Deleting
            ? pod : null;
        var letGo = drained?.DeletionTimestamp + deadlines.LostPodSlack;
        var handled = PodTemplate.Ran(job) > 0
            || (exit.Pod?.BelongsTo(job) is true && End.Of(exit, now, deadlines) is not null);
        var next = drained is not null && (handled || now.Reached(letGo)) ? new(Act.ReleasePod) { Pod = drained }
            : job is { Deleting: true, NamespaceAsked: false } ? new(Act.AskNamespace)
            : job.Finalizers.Contains(Job.Foreground) ? Drop(job, Job.Foreground) // G19
            : WhenHandlerIsDue(job, exit, now, deadlines);
        return next with { Wake = Earliest(next.Wake, letGo) };
    }

    static Decision WhenHandlerIsDue(Job job, PodView exit, DateTimeOffset now, Deadlines deadlines)
    {
        if (exit.Presence == Presence.Refused)
            return Finish(now, false, job.Status, $"{Ending.Refused.Phrase}: {exit.Message}"); // G15
        if (exit.Presence is Presence.Unknown or Presence.Absent) return Create(Act.CreateExit, job, exit, now);
        var (pod, ran) = (exit.Pod!, PodTemplate.Ran(job));
        if (!pod.BelongsTo(job)) // H9: it uses up no attempt of ours
        {
            // One that came just now may come again, as often as a name is chosen.
            var passed = Math.Min(PodTemplate.Number(job) - ran - 1, 5);
            var patience = pod.Created + TimeSpan.FromSeconds((1 << passed) - 1);
            return !IsFresh(exit.ReadAt, now) ? new(Act.AskExit)
                : now < patience ? new(Act.Wait) { Wake = patience }
                : NextAttempt(job, PodTemplate.Number(job) + 1, null, $"pod {pod.Name} is somebody else's");
        }
        if (End.Of(exit, now, deadlines) is not { } end)
        {
            if (pod.LostLabels && exit.AskAgain is null) return new(Act.RestoreLabels) { Pod = pod };
            if (now.Reached(exit.AskAgain)) return new(Act.AskExit);
            // G23: run defaults may be why it does not start.
            var most = deadlines.ExitHandlerDeadline > TimeSpan.Zero ? deadlines.ExitHandlerDeadline
                : pod is { Started: false, Defaults: not null } ? NeverStarts : (TimeSpan?)null;
            var deadline = pod.Created + most;
            if (pod.Deleting || !now.Reached(deadline))
                return new(Act.Wait)
                {
                    Wake = Earliest(pod.Deleting ? null : deadline, End.ByClockAt(pod, deadlines), exit.AskAgain),
                };
            if (!IsFresh(exit.ReadAt, now)) return new(Act.AskExit);
            var why = pod.Waiting is null ? "" : $": {pod.Waiting}";
            return Failed(job, pod, now, deadlines, $"{Ending.NotEnded.Phrase} within {Text.Duration(most!.Value)}{why}");
        }
        if (end.ByClock && !IsFresh(exit.ReadAt, now)) return new(Act.AskExit);
        if (end.ExitCode == 0) return Finish(now, true, job.Status, end.Message);
        // A node's clock that is far ahead says nothing.
        var ended = pod.FinishedAt is { } at && at <= now + FirstBackoff ? at : pod.DeletionRequested ?? pod.Created;
        var again = ended + FirstBackoff * (1 << Math.Min(ran, 20));
        return now < again && AnotherFollows(job, pod, deadlines)
            ? new(Act.Wait) { Wake = again }
            : Failed(job, pod, now, deadlines, end.Message); // G16, G17
    }

    static Decision WhenFinished(Job job, PodView main, PodView exit, DateTimeOffset now, Deadlines deadlines)
    {
        if (main.Presence == Presence.Unknown && job.HasFinalizer && job.Status.MainPodName is not null)
            return new(Act.AskMain); // F1
        if (main.Pod is { HasFinalizer: true } pod && pod.BelongsTo(job)) return new(Act.ReleasePod) { Pod = pod };
        if (job.HasFinalizer) return Drop(job, Job.Finalizer);
        if (job.Deleting) return new(Act.Wait);
        var ttl = TimeSpan.FromTicks(Math.Max(job.Ttl.Ticks, LeastTtl.Ticks));
        var expires = Earliest(job.Status.CompletionTime, now) + ttl;
        if (now >= expires) return new(Act.DeleteJob);
        // F4: what still runs in a pod of ours (a sidecar) is not waited for; the kubelet gets time for its last words.
        var patience = job.Status.CompletionTime + deadlines.LostPodSlack;
        var over = new[] { main.Pod, exit.Pod }
            .FirstOrDefault(p => p is { PhaseOver: false, Deleting: false } && p.BelongsTo(job));
        if (over is not null && now.Reached(patience)) return new(Act.DeletePod, "the job has finished") { Pod = over };
        return new(Act.Wait) { Wake = over is null ? expires : Earliest(expires, patience) };
    }

    /// <summary>What to do with a pod that should not be: another incarnation's, a late creation's, an earlier
    /// attempt's. Only to be acted on with a job (null: it is gone) and a pod that were asked for live, the job after
    /// the pod was seen.</summary>
    public static Decision? Stray(Job? job, Pod pod)
    {
        if (pod.JobUid is null) return null; // not ours to judge
        if (job?.Uid != pod.JobUid)
            return pod.IsSettled ? null : Remove("belongs to an OMJob that is gone", null);
        if (pod.Name == PodTemplate.MainName(job))
            // Whatever the clocks say here: where they ended it, they were another process's.
            return job.Status.Phase < Phase.ExitHandlerRunning || pod.PhaseOver || pod.Deleting
                || pod.ExitCode is not null
                ? null
                : Remove("runs after the end of its run was recorded", new("StrayPodDeleted",
                    $"Deleted main pod {pod.Name}: the end of the run was already recorded", true));
        var current = job.Status.Phase >= Phase.ExitHandlerRunning && pod.Name == job.Status.ExitPodName;
        return current || pod.IsSettled ? null : Remove("is not the current attempt", null);

        Decision Remove(string why, Event? told) => pod.HasFinalizer
            ? new(Act.ReleasePod, why) { Pod = pod }
            : new(Act.DeletePod, why) { Pod = pod, Event = told };
    }

    // ----- steps

    static Decision Started(Job job, Pod pod) => new(Act.WriteStatus, $"{pod.Name} was created")
    {
        Status = job.Status with
        { Phase = Phase.Running, MainPodName = pod.Name, StartTime = pod.Created, Message = null },
    };

    static Decision MainEnded(Job job, PodView main, End end, DateTimeOffset now)
    {
        var status = Recorded(job, main, end);
        if (!job.HasExitSpec) return Finish(now, true, status, null); // G18
        return new(Act.WriteStatus, status.Message!)
        {
            Status = status with { Phase = Phase.ExitHandlerRunning, ExitPodName = PodTemplate.ExitName(job.Name, 1) },
            Event = new(end.ExitCode == 0 ? "MainPodCompleted" : "MainPodFailed", status.Message!, end.ExitCode != 0),
        };
    }

    /// <summary>The status with the main pod's end, and its message, which leaves room for the handler's.</summary>
    static JobStatus Recorded(Job job, PodView main, End end)
    {
        var itself = main.Pod is { Deleting: false, ExitCode: not null }; // it ended before we could stop it
        var deleted = job.Deleting && end.ExitCode != 0 ? Ending.AfterDeletion : "";
        var message = (itself || end.ExitCode == 0 ? null : job.Status.GivenUp)
            ?? JobStatus.OfMain(end.Message + deleted);
        return job.Status with { MainPodName = PodTemplate.MainName(job), ExitCode = end.ExitCode, Message = message };
    }

    /// <summary>The attempt whose name is in status has ended, and not well.</summary>
    static Decision Failed(Job job, Pod exit, DateTimeOffset now, Deadlines deadlines, string how)
    {
        var ran = PodTemplate.Ran(job) + 1;
        return AnotherFollows(job, exit, deadlines)
            ? NextAttempt(job, PodTemplate.Number(job) + 1, how, null)
            : Finish(now, false, job.Status, how + (ran == 1 ? "" : $"; no attempt of {ran} succeeded"));
    }

    /// <summary>The name goes to status before the pod is created, and the message says how many attempts have run: as
    /// many as the one that failed, or less one where a pod of somebody else's only has the name. Neither: the first is
    /// named.</summary>
    static Decision NextAttempt(Job job, int number, string? failed, string? foreign)
    {
        var (next, attempt) = (PodTemplate.ExitName(job.Name, number), PodTemplate.Ran(job) + 1);
        var said = failed ?? (foreign is null ? null : $"{Ending.Renamed.Phrase}{next}: {foreign}");
        if (said is not null) said = JobStatus.OfAttempt(attempt, said);
        var why = said is null ? $"no attempt is named, the first is {next}" : JobStatus.ExitHandler + said;
        return new(Act.WriteStatus, why)
        {
            Status = job.Status with { ExitPodName = next, Message = job.Status.WithHandler(said) },
            Event = said is null ? null : new("ExitHandlerRetried",
                $"Exit handler {said}{(failed is null ? "" : $"; next attempt is {next}")}", true),
            Attempt = failed is null ? null : "failed",
        };
    }

    /// <summary>Succeeded only if main exited 0 and the handler succeeded. How: of the handler; null: none.</summary>
    static Decision Finish(DateTimeOffset now, bool handled, JobStatus status, string? how)
    {
        var phase = handled && status.ExitCode == 0 ? Phase.Succeeded : Phase.Failed;
        var message = status.WithHandler(how);
        return new(Act.WriteStatus, message)
        {
            Status = status with { Phase = phase, Message = message, CompletionTime = now },
            Event = phase == Phase.Succeeded ? new("OMJobCompleted", message) : new("OMJobFailed", message, true),
            Attempt = how is null ? null : handled ? "succeeded" : "failed",
        };
    }

    /// <summary>The main pod is to be stopped: the reason goes to status first, as the message of its end.</summary>
    static Decision GiveUp(Job job, Ending how, string details) => new(Act.WriteStatus)
    {
        Status = job.Status with { Message = JobStatus.OfMain(how.Phrase + details) },
    };

    static Decision Create(Act act, Job job, PodView view, DateTimeOffset now) =>
        view.RetryAt > now ? new(Act.Wait) { Wake = view.RetryAt }
        : IsFresh(job.ReadAt, now) ? new(act)
        : new(Act.AskJob);

    /// <summary>What was asked for while the clock was ahead of now is not; but it moves by a second or two.</summary>
    public static bool IsFresh(DateTimeOffset? asked, DateTimeOffset now) =>
        now - asked is { } age && age <= Fresh && age >= -ClockSlack;

    static Decision Foreign(Pod pod, PodView view, DateTimeOffset now) =>
        view.RetryAt > now ? new(Act.Wait) { Wake = view.RetryAt }
        : IsFresh(view.ReadAt, now) ? new(Act.Block, $"a pod {pod.Name} exists that is not this OMJob's")
        : new(Act.AskMain);

    static Decision Drop(Job job, string finalizer) =>
        job.Finalizers.Contains(finalizer) ? new(Act.DropFinalizer, finalizer) : new(Act.Wait);

    /// <summary>How many may follow the one that is named in status; less than 0: it is one more already.</summary>
    public static int AttemptsLeft(Job job, Deadlines deadlines) =>
        (job.BackoffLimit ?? deadlines.ExitHandlerRetries) - PodTemplate.Ran(job);

    /// <summary>G23: an attempt that tells of run defaults is never the last, though the limit may be another by
    /// now.</summary>
    static bool AnotherFollows(Job job, Pod exit, Deadlines deadlines) =>
        AttemptsLeft(job, deadlines) > 0 || exit.Defaults is not null;
}
