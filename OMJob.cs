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
// Read on here: the operator (watch, reconcile, actions), then Decide. CronOMJob.cs has the schedules, Program.cs the
// command line, Model/ what the operator knows of OMJobs and pods, Kube/ what any small controller needs.

using System.Buffers;
using System.Text.Json;
using Microsoft.Extensions.Logging;

namespace OMJobs;

/// <summary>
/// The loop: watches feed a cache and a queue of keys; workers take keys: observe, Decide, act; every answer feeds the
/// cache again, which requeues the key. Each namespace is on its own: none of its keys is worked on before its pods and
/// OMJobs have been listed, and one that cannot be listed holds up no other.
/// </summary>
sealed partial class Operator
{
    readonly Send send;
    readonly Deadlines deadlines;
    readonly TimeProvider time;
    readonly ILogger log;
    readonly Random random;
    readonly ServerClock clock;
    readonly Metrics metrics = new(JobMetrics.All);
    readonly JobCache cache;
    readonly WorkQueue queue, senders; // keys to reconcile; namespaces that have events to write
    readonly Lock gate = new(); // guards all below
    readonly HashSet<Key> failed = []; // keys that are worked on and met an error
    readonly Dictionary<string, Queue<Event>> events = []; // events to write, by namespace
    int pending; // of them, in all
    TaskCompletionSource? written; // completes when none is pending
    long nextDelete; // timestamp; TTL deletes are paced from here
    int epoch; // how often the cache was dropped: what was asked before does not belong into it

    public Operator(Send send, Deadlines clocks, TimeProvider time, ILogger log, Random? seeded = null)
    {
        (this.send, this.deadlines, this.time, this.log, random) = (send, clocks, time, log, seeded ?? Random.Shared);
        (clock, queue, senders, Answered) = (new(time), new(time, metrics, "omjob"), new(time), time.GetTimestamp());
        cache = new(Changed, held => Reflectors.Exists(watch => watch.IsPast(held)));
    }

    internal List<Reflector> Reflectors { get; } = [];
    /// <summary>The objects that are remembered.</summary>
    internal Key[] CachedKeys => cache.Keys;
    /// <summary>Timestamp of the last answer that says something, not 401 or 5xx; at first the start's.</summary>
    internal long Answered { get; private set; }
    /// <summary>The code of the last answer of all; 0: there was none.</summary>
    internal int LastCode { get; private set; }
    DateTimeOffset Now => clock.Now;

    // ----- start and stop

    /// <summary>Runs until <paramref name="stop"/>, then finishes writes under way; returns the exit code.</summary>
    public async Task<int> Run(Settings settings, CancellationToken stop)
    {
        queue.Workers = senders.Workers = settings.Workers;
        Func<string, Reflector>[] kinds = [Pods, ns => new(Resources.OMJobs, ns), ns => new(Resources.CronOMJobs, ns)];
        Reflectors.AddRange(kinds.SelectMany(kind => settings.Namespaces.Select(kind)));
        using var endpoints = new Endpoints([settings.HealthPort, settings.MetricsPort], settings.AllAddresses, time, log)
        {
            Health = Unhealthy,
            Readiness = Unready,
            Metrics = () => metrics.Render(Gauges()),
        };
        using var cut = new CancellationTokenSource();
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(stop);
        _ = Guard(Work(senders, ns => WriteEvent(ns, cut.Token), cut.Token));
        _ = Guard(endpoints.Serve());
        _ = Guard(queue.RunTimers(ending.Token));
        var working = Guard(Work(queue, key => Reconcile(key, cut.Token), ending.Token));
        foreach (var ns in settings.Namespaces) _ = Guard(RunNamespace(ns, ending.Token));
        await Task.Delay(Timeout.InfiniteTimeSpan, time, ending.Token).Quietly();
        log.LogInformation("Stopping: finishing the writes under way");
        await working.WaitAsync(TimeSpan.FromSeconds(7), time, default).Quietly();
        await EventsWritten().WaitAsync(TimeSpan.FromSeconds(2), time, default).Quietly();
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

    /// <summary>Drops our finalizers from every OMJob and pod of the namespaces (F6); returns the exit code.</summary>
    public async Task<int> Release(string[] namespaces, CancellationToken stop)
    {
        var (released, failed) = (0, 0);
        foreach (var watch in namespaces.SelectMany(ns => (Reflector[])[Pods(ns), new(Resources.OMJobs, ns)]))
        {
            var ours = new List<CachedObject>();
            var (listed, _) = await List(watch, found =>
            {
                var held = Read(found, watch);
                if (held is Job { HasFinalizer: true } job) ours.Add(job with { Spec = [] });
                else if (held is Pod { HasFinalizer: true }) ours.Add(held);
            }, stop);
            if (!listed.Ok) Count(listed);
            foreach (var held in ours) await ReleaseOne(held);
        }
        log.LogInformation("Released {Released} objects, {Failed} failed", released, failed);
        return failed == 0 ? 0 : 1;

        async Task ReleaseOne(CachedObject held)
        {
            if (held is Pod pod) Count(await ReleasePod(pod, stop));
            for (var job = held as Job; job is { HasFinalizer: true };)
            {
                var reply = await PatchFinalizers(job, job.Finalizers.Where(f => f != Job.Finalizer), stop);
                job = reply.Outcome == Outcome.Conflict ? (await AskJob(job.Key, stop)).Job : null;
                if (job is null) Count(reply);
            }
        }

        void Count(Reply reply)
        {
            if (reply.Outcome is Outcome.Ok or Outcome.NotFound) released++;
            else failed++;
            if (!reply.Ok) log.LogError("{Words}", reply.Brief);
        }
    }

    static Reflector Pods(string ns) => new(Resources.Pods, ns, $"labelSelector={Labels.Name}&");

    // ----- list and watch

    /// <summary>Pods first, and jobs only once the pods are listed: so the job of a listed pod is listed too.</summary>
    async Task RunNamespace(string ns, CancellationToken stop)
    {
        var loops = new List<Task>();
        foreach (var watch in Reflectors.Where(w => w.Namespace == ns))
        {
            var listed = new TaskCompletionSource();
            loops.Add(RunReflector(watch, listed, stop));
            await Task.WhenAny(listed.Task, loops[^1]);
        }
        await await Task.WhenAny(loops); // none ends before it is stopped, but by a bug
    }

    async Task RunReflector(Reflector watch, TaskCompletionSource listed, CancellationToken stop)
    {
        for (var failures = 0; !stop.IsCancellationRequested;)
        {
            watch.LastTurn = time.GetTimestamp();
            var (listing, from) = (watch.Version is null || !watch.Listed, watch.Version);
            var reply = listing ? await ListAll(watch, stop) : await Follow(watch, stop);
            // A stream that ends by itself is normal; one that ends at once, again and again, is not. The API server also
            // ends one whose reader is slow in a burst: what brought an event has lived.
            var lived = listing ? reply.Ok : watch.Connected
                && (watch.Version != from || time.GetElapsedTime(watch.LastTurn) > TimeSpan.FromSeconds(1));
            failures = !lived ? failures + 1 : reply.Ok ? 0 : 1;
            var mute = !listing && reply.Ok && watch.Connected && watch.Version == from;
            if (watch.Connected) (watch.Connected, watch.Disconnected) = (false, time.GetTimestamp());
            if (reply.Outcome == Outcome.Gone) watch.Version = null; // W6: list again
            // OMJobs go on without the CRD of schedules, and without the right to see them.
            var absent = watch.Resource == Resources.CronOMJobs && reply.Code is 403 or 404;
            if (absent && !watch.Absent) log.LogWarning("No schedules run, until this is: {Words}", reply.Message);
            watch.Absent = absent;
            if (absent || watch.Listed) listed.TrySetResult();
            if (int.IsPow2(failures) && failures > 1 && !absent)
                log.LogWarning("Watch {Path}: {Words} ({Failures} times in a row)", watch.Path, reply.Message, failures);
            // A watch from a version that is still to come opens well and stays silent.
            if (mute && watch.Newest is { } told && await IsSetBack(watch, told, stop)) DropCache();
            var pause = Backoff(failures, TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(15));
            if (failures > 0) await Task.Delay(pause, time, stop).Quietly();
        }
    }

    async Task<Reply> ListAll(Reflector watch, CancellationToken stop)
    {
        var (listed, begun, first) = (new HashSet<Key>(), epoch, false);
        var (reply, version) = await List(watch, Take, stop);
        if (!reply.Ok) return reply;
        if (watch.Newest is { } newest && Versions.IsNewer(newest, version!) && await IsSetBack(watch, newest, stop))
        {
            DropCache();
            return new(0, []) { Fault = "its versions went back" };
        }
        lock (gate)
        {
            if (epoch != begun) return new(0, []) { Fault = "its versions went back" };
            cache.Prune(watch, listed, version!);
            watch.Advance(version, time.GetTimestamp(), Now);
            (first, watch.Listed) = (!watch.Listed, true);
        }
        // What the pages have left would stay for as long as nothing happens: an idle process collects no garbage.
        if (listed.Count > 500) GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
        if (first)
            foreach (var key in cache.KeysOf(watch.Covers, retained: watch.Resource == Resources.Pods)) Requeue(key);
        return reply;

        void Take(IApiObject found)
        {
            lock (gate)
            {
                if (epoch != begun) return;
                if (Read(found, watch) is { } held) cache.Upsert(held);
            }
            // Also one that cannot be read is there. The key that is held spares its text being there twice.
            if (found.Metadata is { Name: { } name, Namespace: { } ns }
                && cache.Get(new(ns, name, watch.Resource)) is { Key: var key }) listed.Add(key);
        }
    }

    /// <summary>Gets a list page by page; returns the last answer and, where that is Ok, the list's version.</summary>
    async Task<(Reply Reply, string? Version)> List(Reflector watch, Action<IApiObject> take, CancellationToken stop)
    {
        watch.PageSize = Math.Min(watch.PageSize, Reflector.FirstPage);
        var next = "";
        for (var failures = 0; ;)
        {
            var list = new ListReader(item => { if (ReadItem(item, watch) is { } found) take(found); });
            var page = next.Length == 0 ? "" : $"&continue={Uri.EscapeDataString(next)}";
            var reply = list.Read(await Call(new(HttpMethod.Get, $"{watch.Path}limit={watch.PageSize}{page}")
            {
                Timeout = TimeSpan.FromSeconds(60),
                OnPiece = list.Feed,
            }, stop));
            if (reply.Ok)
            {
                watch.LastTurn = time.GetTimestamp();
                (failures, watch.PageSize, next) = (0, list.NextPage(watch.PageSize), list.Meta!.Continue ?? "");
                if (next.Length == 0) return (reply, list.Meta.ResourceVersion);
                continue;
            }
            if (reply.Outcome is not (Outcome.Fault or Outcome.TooMany)) return (reply, null);
            watch.PageSize = Math.Max(1, watch.PageSize / 4); // what is too much in one answer may not be in several
            if (next.Length == 0 || ++failures > 5) return (reply, null);
            await Task.Delay(Pause(failures, reply.RetryAfter), time, stop).Quietly();
        }
    }

    /// <summary>One of a list's items; one that cannot be read must not hide the others.</summary>
    IApiObject? ReadItem(ReadOnlySpan<byte> text, Reflector watch)
    {
        try { return (IApiObject?)JsonSerializer.Deserialize(text, watch.Resource.ItemType); }
        catch (JsonException e) // the path tells no value
        {
            var item = JsonSerializer.Deserialize(text, Json.Default.JsonElement);
            var (ns, name) = (Named(item, "namespace"), Named(item, "name"));
            log.LogError("Watch {Path}: unreadable object {Namespace}/{Name} at {Where}", watch.Path, ns, name, e.Path);
            return new JobObject(
                new(name, ns, null, null, null, null, null, null, null, null, null, null), default, default);
        }

        static string? Named(JsonElement item, string field)
        {
            try { return item.Get("metadata").Text(field); }
            catch (InvalidOperationException) { return null; } // a text that is no Unicode
        }
    }

    /// <summary>Watches until the server closes the stream, it breaks, or nothing more can come (W1–W3, W6).</summary>
    async Task<Reply> Follow(Reflector watch, CancellationToken stop)
    {
        var seconds = random.Next(150, 200);
        var from = $"watch=1&allowWatchBookmarks=true&resourceVersion={watch.Version}&timeoutSeconds={seconds}";
        var stream = new CancellationTokenSource(); // not disposed of: another thread may be about to cancel it
        using var stopped = stop.UnsafeRegister(_ => stream.Cancel(), null);
        watch.Stream = stream;
        try
        {
            return await Call(new(HttpMethod.Get, watch.Path + from)
            {
                Timeout = TimeSpan.FromSeconds(seconds + 10),
                OnLine = line => Take(watch, line),
            }, stream.Token);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested) { return new(410, []); }
        finally { watch.Stream = null; }
    }

    /// <summary>Takes one line of a watch; returns what ends the stream, if this line does.</summary>
    Reply? Take(Reflector watch, ReadOnlyMemory<byte> line)
    {
        if (!watch.Listed) return new(410, []); // the cache was dropped
        watch.Connected = true;
        watch.Advance(watch.Version, time.GetTimestamp(), Now);
        Answered = watch.LastReceived;
        if (line.IsEmpty) return null; // the stream is open
        try
        {
            if (line.Span.StartsWith("{\"type\":\"ERROR\""u8))
            {
                var error = JsonSerializer.Deserialize(line.Span, Json.Default.WatchEventStatusObject)?.Object;
                return new Reply(error?.Code ?? 500, []) { Fault = error?.Message ?? "ERROR event" };
            }
            var change = (IWatchEvent?)JsonSerializer.Deserialize(line.Span, watch.Resource.EventType);
            lock (gate)
            {
                if (!watch.Listed) return new(410, []);
                if (change?.Type != "BOOKMARK" && Read(change?.Object, watch) is { } held)
                    cache.Upsert(held, change!.Type == "DELETED");
                watch.Advance(change?.Object?.Metadata?.ResourceVersion ?? watch.Version, time.GetTimestamp(), Now);
            }
        }
        catch (JsonException e) // the path tells no value
        {
            log.LogError("Watch {Path}: unreadable event at {Where}", watch.Path, e.Path);
        }
        return null;
    }

    /// <summary>What we hold of an object; null, and a line in the log, where it cannot be read: others can.</summary>
    CachedObject? Read(IApiObject? found, Reflector watch)
    {
        try { return found?.ToHeld(Now); }
        catch (InvalidOperationException) // a text that is no Unicode
        {
            log.LogError("Watch {Path}: unreadable object {Name}", watch.Path, found?.Metadata?.Name);
            return null;
        }
    }

    // ----- versions that go back (etcd was restored from a backup): whoever compares versions would be deaf

    /// <summary>A list is of a version before one that was told.</summary>
    async Task<bool> IsSetBack(Reflector watch, string told, CancellationToken stop)
    {
        var list = new ListReader(_ => { });
        var reply = list.Read(await Call(new(HttpMethod.Get, watch.Path + "limit=1") { OnPiece = list.Feed }, stop));
        return reply.Ok && Versions.IsNewer(told, list.Meta!.ResourceVersion!);
    }

    /// <summary>An object is of a version before one that was told.</summary>
    async Task<bool> IsSetBack(CachedObject told, CancellationToken stop)
    {
        var reply = await Call(new(HttpMethod.Get, told.Key.Path), stop);
        return reply.Ok && reply.Read(Json.Default.JsonElement) is JsonElement whole
            && whole.Get("metadata").Text("resourceVersion") is { } now && Versions.IsNewer(told.ResourceVersion, now);
    }

    /// <summary>Begins as a new process does.</summary>
    void DropCache()
    {
        log.LogWarning("The API server's versions went back: everything is listed again");
        lock (gate)
        {
            epoch++;
            foreach (var watch in Reflectors) (watch.Listed, watch.Version, watch.Newest) = (false, null, null);
            cache.Clear();
        }
        foreach (var watch in Reflectors) watch.Stream?.Cancel();
    }

    // ----- cache

    /// <summary>What follows from a change beside the next reconcile. Called under the cache's lock.</summary>
    void Changed(Key key, CachedObject? before, CachedObject after)
    {
        var job = cache.Get(key) as Job;
        if (after is Pod seen) RememberStopped(key, seen);
        // What stood in the way of a creation may have been this pod. G17: if it is ours, it may be created again, with
        // backoff, once the OMJob is seen to be there still: no race with what deletes it, nor the collector.
        if (after is Tombstone && job is not null)
        {
            var vanished = before is Pod pod && pod.Name == PodTemplate.ExitName(job) && pod.BelongsTo(job);
            if (vanished) cache.Mark(job, held => held with { SeenLive = null });
            cache.Remember(key, job.Uid, p => !vanished ? p with { RetryAt = default } : p with
            {
                Vanished = p.Vanished + 1,
                RetryAt = Now + Backoff(p.Vanished + 1, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30)),
            });
        }
        var (fewer, more) = (JobCache.CronOf(before), JobCache.CronOf(after));
        if (fewer is not null) Requeue(fewer.Key);
        if (more is not null && more != fewer) Requeue(more.Key);
        Requeue(key, first: after.Key.Resource == Resources.Pods);
    }

    /// <summary>
    /// G21: what a node's clock says of its end proves nothing from now on; nor that nobody had it stopped, where the API
    /// server has forgotten that (it was restored).
    /// </summary>
    void RememberStopped(Key key, Pod pod)
    {
        if (pod.Deleting && (pod.MainRunning || pod.FinishedAt >= pod.DeletionRequested))
            cache.Remember(key, cache.Get(key)?.Uid, p => p.Stopped.Contains(pod.Uid, StringComparison.Ordinal) ? p
                : p with { Stopped = $"{p.Stopped}{pod.Uid} " });
    }

    /// <summary>Queues a key, unless its namespace has not been listed: then all of its keys will be.</summary>
    void Requeue(Key key, bool first = false)
    {
        if (!Waits(key)) queue.Add(key, first);
    }

    /// <summary>Its namespace has not been listed. An OMJob that nothing is held of can expire before.</summary>
    bool Waits(Key key) => Reflectors.Exists(w => !w.Listed && w.Covers(key.Namespace)
        && (w.Resource == Resources.Pods || (w.Resource == Resources.OMJobs && cache.Get(key) is not Job { IsLetGo: true })));

    // ----- reconcile

    /// <summary>Hands each key that comes to the work until stopped; ends once all of it is done.</summary>
    static async Task Work(WorkQueue keys, Func<Key, Task> work, CancellationToken stop)
    {
        var working = new List<Task>();
        while (await keys.Take(stop) is { } key)
        {
            if (working.Find(task => task.IsFaulted) is { } broken) await broken;
            working.RemoveAll(task => task.IsCompleted);
            working.Add(One(key));
        }
        await Task.WhenAll(working);

        async Task One(Key key)
        {
            try { await work(key); }
            finally { keys.Done(key); }
        }
    }

    async Task Reconcile(Key key, CancellationToken cut)
    {
        if (Waits(key)) return; // the cache was dropped
        var start = time.GetTimestamp();
        try
        {
            if (key.Resource == Resources.CronOMJobs) await ReconcileCron(key, cut);
            else await ReconcileJob(key, cut);
        }
        catch (OperationCanceledException) when (cut.IsCancellationRequested) { return; }
#pragma warning disable CA1031 // A bug met by one object must not stop the others; an exception never decides a phase.
        catch (Exception e)
#pragma warning restore CA1031
        {
            log.LogError("{Namespace}/{Name}: {Type} {Trace}", key.Namespace, key.Name, e.GetType(), e.StackTrace);
            TryAgain(key, TimeSpan.FromSeconds(30));
        }
        var controller = Metrics.Label("controller", key.Resource == Resources.OMJobs ? "omjob" : "cronomjob");
        bool error;
        lock (gate) error = failed.Remove(key);
        metrics.Count(Metrics.Reconciles, $"{controller},{Metrics.Label("result", error ? "error" : "success")}");
        if (error) metrics.Count(Metrics.Errors, controller);
        metrics.Observe(Metrics.ReconcileTime, controller, time.GetElapsedTime(start));
    }

    async Task ReconcileJob(Key key, CancellationToken stop)
    {
        var (owner, pods, _) = cache.Observe(key);
        var job = owner as Job;
        // What names no OMJob is found by whoever asks for the pod.
        if (key.Name.Length == 0 || (job is null && pods.Length == 0)) return;
#pragma warning disable CA1727 // JSON logs show these fields with each line, under the names that objects give them.
        using var fields = log.BeginScope("{namespace}/{omjob} {uid} {phase}",
            key.Namespace, key.Name, job?.Uid, job?.Status.Phase);
#pragma warning restore CA1727
        foreach (var pod in pods)
        {
            if (Protocol.Stray(job, pod) is null) continue;
            (var reply, job) = await AskJob(key, stop);
            if (!reply.Ok && reply.Outcome != Outcome.NotFound) { Retry(key, job, reply); return; }
            if (await AskPod(key, job, pod.Name, stop) is not { } live) return;
            if (live.Pod?.Uid != pod.Uid) return; // a newer one, or none: its key comes again
            if (Protocol.Stray(job, live.Pod) is not { } stray) continue;
            log.LogWarning("{Namespace}/{Name}: {Pod} {Why}", key.Namespace, key.Name, pod.Name, stray.Why);
            if (job is not null && stray.Event is { } fact) Record(job, fact);
            await Execute(key, job, stray, stop);
            return;
        }
        if (job is not null) await DecideAndAct(key, job, pods, stop);
    }

    async Task DecideAndAct(Key key, Job job, Pod[] pods, CancellationToken stop)
    {
        PodView View(string name) => ViewOf(key, pods.FirstOrDefault(p => p.Name == name));
        PodView? main = View(PodTemplate.MainName(job)), exit = View(PodTemplate.ExitName(job));
        for (var round = 0; main is not null && exit is not null; round++)
        {
            if (round == 8) { TryAgain(key, TimeSpan.FromSeconds(1)); return; }
            // G20: the collector, done with orphaning, has taken the owner reference and left no other sign.
            var orphaning = job.Finalizers.Contains(Job.Orphan) || (job.Deleting && main.Pod is { HasOwner: false });
            var known = cache.ProgressOf(key);
            job = job with { NamespaceAsked = known.NamespaceAsked, Orphaning = orphaning };
            var decision = Protocol.Decide(job, main, exit, Now, deadlines);
            var needsAll = decision.Act is Act.CreateMain or Act.CreateExit or Act.AskNamespace
                or Act.AddFinalizer or Act.DropFinalizer;
            switch (needsAll && !job.IsWhole ? Act.AskJob : decision.Act)
            {
                case Act.Wait:
                    var waits = job.Status.Phase.IsFinished() || known.RetryAt > Now;
                    cache.Remember(key, job.Uid, p => p with { Failures = 0, Due = waits ? null : decision.Wake });
                    // The answers set the clock, within the second that they tell: who has asked asks no sooner again.
                    var least = round > 0 ? TimeSpan.FromSeconds(1) : TimeSpan.Zero;
                    if (decision.Wake is { } wake) queue.AddAfter(key, wake - Now < least ? least : wake - Now);
                    return;
                case Act.AskJob:
                    var (reply, live) = await AskJob(key, stop);
                    if (!reply.Ok && reply.Outcome != Outcome.NotFound) Retry(key, job, reply);
                    if (live?.Uid != job.Uid) return;
                    // It may name another exit pod by now (D1).
                    if (live.Status != job.Status)
                        (main, exit) = (View(PodTemplate.MainName(live)), View(PodTemplate.ExitName(live)));
                    job = live;
                    break;
                case Act.AskMain: main = await AskPod(key, job, PodTemplate.MainName(job), stop); break;
                case Act.AskExit: exit = await AskPod(key, job, PodTemplate.ExitName(job), stop); break;
                case Act.AskNamespace: exit = await AskNamespace(key, job, exit, stop); break;
                case Act.CreateMain: main = await Create(key, job, PodType.Main, stop); break;
                case Act.CreateExit: exit = await Create(key, job, PodType.ExitHandler, stop); break;
                default: await Execute(key, job, decision, stop); return;
            }
        }
    }

    /// <summary>A pod with what is remembered of it; null: not held.</summary>
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

    // ----- actions

    /// <summary>Does what was decided, one request, and takes its answer.</summary>
    async Task Execute(Key key, Job? job, Decision decision, CancellationToken stop)
    {
        var pod = decision.Pod!;
        switch (decision.Act)
        {
            case Act.AddFinalizer:
                var more = job!.Finalizers.Append(Job.Finalizer);
                await TakeJob(key, job, await PatchFinalizers(job, more, stop), stop);
                break;
            case Act.DropFinalizer:
                var less = job!.Finalizers.Where(f => f != decision.Why);
                await TakeJob(key, job, await PatchFinalizers(job, less, stop), stop);
                break;
            case Act.WriteStatus: await WriteStatus(key, job!, decision, stop); break;
            case Act.Block: await Block(key, job!, PodType.Main, new(0, []) { Fault = decision.Why }, stop); break;
            case Act.DeleteJob: await DeleteJob(key, job!, job!.ResourceVersion, "its TTL is over", stop); break;
            case Act.ReleasePod: await TakePod(key, job, pod, await ReleasePod(pod, stop), stop); break;
            case Act.RestoreLabels: await RestoreLabels(key, job!, pod, stop); break;
            case Act.DeletePod:
                Log(key, $"Deleting {pod.Name}: {decision.Why}");
                var delete = new Request(HttpMethod.Delete, pod.Key.Path, Bodies.Delete(pod.Uid, null));
                await TakePod(key, job, pod, await Call(delete, stop), stop);
                break;
        }
    }

    /// <summary>Creates a pod. Returns what is now known of its name, or null where the key waits.</summary>
    async Task<PodView?> Create(Key key, Job job, PodType type, CancellationToken stop)
    {
        var (main, name) = (type == PodType.Main, type == PodType.Main ? PodTemplate.MainName(job) : PodTemplate.ExitName(job));
        // D1: it may come to pass whatever the answer, and be over before a watch tells: the next one asks again.
        cache.Mark(job, held => held with { SeenLive = null });
        var sent = time.GetTimestamp();
        var reply = await Call(PodTemplate.Creation(job, type), stop);
        if (reply.Outcome != Outcome.Invalid)
            cache.Remember(key, job.Uid, p => p with { Invalid = p.Invalid is { } so ? (so.Pod, so.Ticks, 0) : null });
        switch (reply.Outcome)
        {
            case Outcome.Ok:
                var (known, pod) = (cache.ProgressOf(key), reply.Read(Json.Default.PodObject)?.ToPod(Now));
                cache.Remember(key, job.Uid, p => p with
                {
                    Refusals = 0,
                    Failures = 0,
                    Invalid = null,
                    MainOver = main ? p.MainOver : 0,
                });
                Log(key, $"Created {name}");
                Record(job, main
                    ? new("MainPodCreated", $"Created main pod {name}")
                    : new("ExitHandlerCreated", $"Created exit handler pod {name}"));
                if (!main && known.MainOver != 0)
                    metrics.Observe(JobMetrics.ExitHandlerLatency, "", time.GetElapsedTime(known.MainOver));
                if (pod is { LostLabels: false }) await Take(pod, null, reply, stop);
                return pod is null ? null : ViewOf(key, pod);
            case Outcome.Exists or Outcome.Conflict: // D4: Decide looks whose it is
                var found = await AskPod(key, job, name, stop);
                if (found is not { Presence: Presence.Absent }) return found;
                await Block(key, job, type, reply, stop); // not there after all: a quota's conflict
                return null;
            case Outcome.Invalid when !IsInvalidForGood(key, job, name, main, sent): goto default;
            case Outcome.Impossible or Outcome.Invalid: // D4: it is refused before anybody looks whether it is there
                var there = await AskPod(key, job, name, stop);
                return there is { Presence: Presence.Absent } ? PodView.Refused(Redacted(reply, job)) : there;
            case Outcome.NamespaceGoing: return PodView.NamespaceGoing;
            case Outcome.Unauthorized or Outcome.Fault when reply.Code is 0 or 401:
                Retry(key, job, reply);
                return null;
            default:
                await Block(key, job, type, reply, stop);
                return null;
        }
    }

    /// <summary>
    /// G15: admission changes a pod before it is validated, so one that is invalid now may be valid later. It is given up
    /// once it has been refused so for a minute; a handler's, whose OMJob is not being deleted, for its deadline. What
    /// counts is the time from an answer to when the next try was sent (timestamp): no request's own.
    /// </summary>
    bool IsInvalidForGood(Key key, Job job, string name, bool main, long sent)
    {
        var now = time.GetTimestamp();
        var (_, ticks, _) = cache.Remember(key, job.Uid, p => p with
        {
            Invalid = p.Invalid is { } invalid && invalid.Pod == name
                ? (name, invalid.Ticks + (invalid.Last == 0 ? 0 : sent - invalid.Last), now) : (name, 0, now),
        }).Invalid!.Value;
        var patience = main || job.Deleting ? TimeSpan.FromMinutes(1)
            : deadlines.ExitHandlerDeadline == TimeSpan.Zero ? TimeSpan.FromMinutes(10) : deadlines.ExitHandlerDeadline;
        return time.GetElapsedTime(0, ticks) >= patience;
    }

    /// <summary>G14: what creates no pod now may do so later. Waits with backoff and says what blocks it.</summary>
    async Task Block(Key key, Job job, PodType type, Reply refusal, CancellationToken stop)
    {
        var main = type == PodType.Main;
        var what = main ? "Main pod " : PodTemplate.Number(job) == 1 ? "exit handler "
            : $"{JobStatus.AttemptWord}{PodTemplate.Ran(job) + 1} "; // H9: the message has to tell
        var text = Text.Truncate($"{what}{JobStatus.IsBlocked}{Redacted(refusal, job)}");
        var refusals = cache.ProgressOf(key).Refusals + 1;
        var delay = Pause(refusals, refusal.RetryAfter, TimeSpan.FromSeconds(1));
        cache.Remember(key, job.Uid, p => p with // it is blocked, and counted as that
        { Refusals = refusals, RetryAt = Now + delay, Due = null });
        if (int.IsPow2(refusals)) // H2: told at the 1st, 2nd, 4th, 8th … time only
        {
            log.LogWarning("{Namespace}/{Name}: {Text} (attempt {N})", job.Namespace, job.Name, text, refusals);
            Record(job, new(main ? "MainPodBlocked" : "ExitHandlerBlocked", text, Warning: true), refusals);
        }
        var message = main ? text : JobStatus.Join(job.Status.MainMessage, text);
        if (job.Status.Message != message)
        {
            var said = new Decision(Act.WriteStatus, text) { Status = job.Status with { Message = message } };
            await WriteStatus(key, job, said, stop);
        }
        queue.Add(key); // to wait for that, or for what is due before
    }

    /// <summary>D3, H1: gives a pod its labels back; where they do not stay it is asked for from time to time.</summary>
    async Task RestoreLabels(Key key, Job job, Pod pod, CancellationToken stop)
    {
        const int most = 3; // times; whoever takes them again and again will go on
        var body = PodTemplate.LabelPatch(job, pod);
        var reply = await Call(new(HttpMethod.Patch, pod.Key.Path, body, MediaTypes.Merge), stop);
        var lost = reply.Ok && reply.Read(Json.Default.PodObject)?.ToPod(Now) is { LostLabels: true };
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
        await TakePod(key, job, pod, reply, stop);
    }

    async Task WriteStatus(Key key, Job job, Decision decision, CancellationToken stop)
    {
        var (from, to) = (job.Status.Phase, decision.Status!.Phase);
        var path = job.Key.Path + "/status";
        var patch = new Request(HttpMethod.Patch, path, Bodies.Status(job, decision.Status, Now), MediaTypes.Merge);
        var seen = time.GetTimestamp();
        if (!await TakeJob(key, job, await Call(patch, stop), stop)) return;
        if (from < Phase.ExitHandlerRunning && to == Phase.ExitHandlerRunning)
            cache.Remember(key, job.Uid, p => p with { MainOver = seen });
        if (from != to)
            log.LogInformation("{Namespace}/{Name}: {From} → {To}: {Why}",
                job.Namespace, job.Name, from, to, decision.Why);
        if (from == Phase.ExitHandlerRunning && Conditions.Attempt(job, decision.Status) is { } outcome)
            metrics.Count(JobMetrics.ExitHandlers, Metrics.Label("outcome", outcome));
        if (from != to && to.IsFinished())
            metrics.Count(JobMetrics.Finished, $"{Metrics.Label("outcome", $"{to}".ToLowerInvariant())},"
                + Metrics.Label("reason", Conditions.Reason(decision.Status)));
        if (decision.Event is { } fact) Record(job, fact);
    }

    /// <summary>
    /// Deletes a finished job, at most fifty a second: a backlog at the first start is no storm. The key is the one
    /// which decided it: the job's, or its CronOMJob's, whose UID goes along.
    /// </summary>
    async Task DeleteJob(Key key, Job job, string? version, string why, CancellationToken stop, string? uid = null)
    {
        var now = time.GetTimestamp();
        long slot;
        lock (gate)
        {
            slot = cache.ProgressOf(key).DeleteSlot;
            if (slot == 0) nextDelete = (slot = Math.Max(now, nextDelete)) + time.TimestampFrequency / 50;
        }
        cache.Remember(key, uid ?? job.Uid, p => p with { DeleteSlot = slot > now ? slot : 0 });
        if (slot > now) { queue.AddAfter(key, time.GetElapsedTime(now, slot)); return; }
        Log(job.Key, $"Deleting the OMJob: {why}");
        var body = Bodies.Delete(job.Uid, version);
        var reply = await Call(new(HttpMethod.Delete, job.Key.Path, body), stop);
        if (await TakeJob(key, job, reply, stop) && reply.Read(Json.Default.JobObject)?.ToJob() is null)
            Remove(job, reply); // answered with a Status: it is gone, whether a watch will tell or not
    }

    Task<Reply> PatchFinalizers(Job job, IEnumerable<string> finalizers, CancellationToken stop) =>
        Call(new(HttpMethod.Patch, job.Key.Path, Bodies.Finalizers(job, finalizers), MediaTypes.Merge), stop);

    Task<Reply> ReleasePod(Pod pod, CancellationToken stop) =>
        Call(new(HttpMethod.Patch, pod.Key.Path, Bodies.DropFinalizer(pod), MediaTypes.StrategicMerge), stop);

    /// <summary>
    /// Takes an object that the API server answered with. Before: what was held when the request was sent. An answer that
    /// is older cannot be, nor one about what was not there that is no newer than what a watch had told by then, nor a
    /// write that is no newer, unless the versions went back: then it is not taken.
    /// </summary>
    async Task<bool> Take(CachedObject answer, CachedObject? before, Reply reply, CancellationToken stop)
    {
        var watch = Reflectors.FindIndex(w => w.Resource == answer.Key.Resource && w.Covers(answer.Namespace));
        var old = before is not null && Versions.IsNewer(before.ResourceVersion, answer.ResourceVersion);
        var changes = before is null || (reply.Wrote && answer.ResourceVersion != before.ResourceVersion);
        var early = changes && watch >= 0 && reply.Told?[watch] is { } told && !Versions.IsNewer(answer.ResourceVersion, told)
            ? told : null;
        if ((old && await IsSetBack(before!, stop))
            || (early is not null && await IsSetBack(Reflectors[watch], early, stop)))
        {
            DropCache();
            return false;
        }
        lock (gate)
        {
            if (epoch != reply.Epoch) return false;
            if (watch >= 0) Reflectors[watch].Advance(answer.ResourceVersion);
            // It is there, and its deletion would be told later than anything so far: then it has been overlooked.
            var isThere = early is not null && answer is not Pod { LostLabels: true, JobName: "" }
                && Reflectors[watch].Version is { } now && !Versions.IsNewer(now, early);
            cache.Upsert(answer, live: reply.Asked, isThere: isThere);
            return true;
        }
    }

    /// <summary>An answer says that it is gone. One from before the cache was dropped does not.</summary>
    void Remove(CachedObject? gone, Reply reply)
    {
        lock (gate) if (epoch == reply.Epoch && gone is not null) cache.Remove(gone);
    }

    /// <summary>Takes the answer of a write to a job. True where it was done.</summary>
    async Task<bool> TakeJob(Key key, Job job, Reply reply, CancellationToken stop)
    {
        switch (reply.Outcome)
        {
            case Outcome.Ok:
                cache.Remember(key, cache.Get(key)?.Uid, p => p with { Failures = 0 });
                if (reply.Read(Json.Default.JobObject)?.ToJob() is { } answer) await Take(answer, job, reply, stop);
                return true;
            case Outcome.NotFound: Remove(job, reply); break;
            case Outcome.Conflict: // observe again, never try harder
                cache.Mark(job, held => held.ResourceVersion == job.ResourceVersion ? held with { Stale = true } : held);
                if (job.IsLetGo) await AskJob(job.Key, stop);
                var failures = cache.ProgressOf(key).Failures;
                cache.Remember(key, cache.Get(key)?.Uid, p => p with { Failures = failures + 1 });
                if (failures == 0) queue.Add(key);
                else queue.AddAfter(key, Pause(failures, null));
                break;
            default: Retry(key, job, reply); break;
        }
        return false;
    }

    /// <summary>Takes the answer of a write to a pod: the pod, or that it is gone.</summary>
    async Task TakePod(Key key, Job? job, Pod pod, Reply reply, CancellationToken stop)
    {
        var answer = reply.Ok ? reply.Read(Json.Default.PodObject)?.ToPod(Now) : null;
        if (answer?.Uid == pod.Uid) RememberStopped(key, answer);
        if (answer?.Uid == pod.Uid && !answer.LostLabels) await Take(answer, pod, reply, stop);
        else if (reply.Ok || reply.Outcome is Outcome.NotFound)
        {
            Remove(pod, reply); // W8: no watch would
            queue.Add(key);
        }
        else Retry(key, job, reply); // a Conflict is another UID by that name: the watch tells
    }

    /// <summary>A live GET of the job, with its spec; null where it is gone or could not be asked.</summary>
    async Task<(Reply Reply, Job? Job)> AskJob(Key key, CancellationToken stop)
    {
        var before = cache.Get(key);
        var reply = await Call(new(HttpMethod.Get, key.Path), stop);
        // What was so before the cache was dropped need not be so any more.
        if (reply.Epoch != epoch) return (new(0, []) { Fault = "its versions went back" }, null);
        if (reply.Outcome == Outcome.NotFound) Remove(before, reply);
        if (!reply.Ok) return (reply, null);
        if (reply.Read(Json.Default.JobObject)?.ToJob() is not { } answer) // that is not to say that it is gone
            return (new(0, []) { Fault = "the OMJob cannot be read" }, null);
        if (!await Take(answer, before, reply, stop)) return (new(0, []) { Fault = "its versions went back" }, null);
        // Only a 404 says that it is gone; what a watch told meanwhile is looked at when the key comes again.
        return cache.Get(key) is not Job held ? (new(0, []) { Fault = "it was told to be gone meanwhile" }, null)
            : (reply, held.ResourceVersion == answer.ResourceVersion ? answer with { SeenLive = reply.Asked } : held);
    }

    /// <summary>A live GET of a pod (D5: absence is proved by a 404 only); null where it could not be asked.</summary>
    async Task<PodView?> AskPod(Key key, Job? job, string name, CancellationToken stop)
    {
        var of = new Key(key.Namespace, name, Resources.Pods);
        var before = cache.Get(of);
        var reply = await Call(new(HttpMethod.Get, of.Path), stop);
        if (reply.Epoch != epoch) return null; // the cache was dropped: once all is listed again this key comes again
        if (reply.Outcome == Outcome.NotFound)
        {
            Remove(before, reply);
            // D2: one that has come since was not asked for.
            return cache.Get(of) is Pod newer ? ViewOf(key, newer) : ViewOf(key, null) with { Presence = Presence.Absent };
        }
        if (!reply.Ok || reply.Read(Json.Default.PodObject)?.ToPod(Now) is not { } pod)
        {
            Retry(key, job, reply);
            return null;
        }
        if (pod.JobName.Length == 0 && pod.JobUid == cache.Get(key)?.Uid) pod = pod with { JobName = key.Name };
        // Of one without labels the watch would never tell the end; a stray is asked for each time.
        if (!pod.LostLabels || Protocol.Stray(cache.Get(key) as Job, pod) is not null)
            await Take(pod, before, reply, stop);
        else Remove(before, reply);
        if (cache.Get(of)?.Uid != pod.Uid) pod = RememberUncached(key, pod);
        return ViewOf(key, (Pod)pod.Merge(cache.Get(of), null)) with { Asked = reply.Asked };
    }

    /// <summary>
    /// What the cache would remember of a pod that it does not hold: one without labels, or one that needed nothing when
    /// it was told, before its OMJob was. Returns it with that.
    /// </summary>
    Pod RememberUncached(Key key, Pod pod)
    {
        RememberStopped(key, pod);
        var known = cache.Remember(key, cache.Get(key)?.Uid, p => p with
        {
            OverSeen = pod.OverSeen is not { } seen ? p.OverSeen
                : p.OverSeen is { } before && before.Pod == pod.Uid ? before : (pod.Uid, seen),
            Relabelled = p.AskAgain is null ? p.Relabelled : p.Relabelled + 1,
            AskAgain = p.AskAgain is null ? null
                : Now + Backoff(p.Relabelled - 2, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30)),
        });
        return pod.OverSeen is null ? pod : pod with { OverSeen = known.OverSeen?.At };
    }

    /// <summary>G10: an exit pod's dry run tells if the namespace is going; null where it could not be asked.</summary>
    async Task<PodView?> AskNamespace(Key key, Job job, PodView exit, CancellationToken stop)
    {
        var probe = PodTemplate.Creation(job, PodType.ExitHandler, "&dryRun=All");
        var reply = await Call(probe, stop);
        var asked = reply.Outcome is not (Outcome.Fault or Outcome.Unauthorized or Outcome.TooMany);
        cache.Remember(key, job.Uid, p => p with { NamespaceAsked = asked });
        if (!asked) Retry(key, job, reply);
        return !asked ? null : reply.Outcome == Outcome.NamespaceGoing ? PodView.NamespaceGoing : exit;
    }

    /// <summary>Tries again after a request that failed. Job: whose spec holds what must not be said, if it is held.</summary>
    void Retry(Key key, Job? job, Reply reply)
    {
        var owner = cache.Get(key);
        var failures = cache.Remember(key, owner?.Uid, p => p with { Failures = p.Failures + 1 }).Failures;
        if (int.IsPow2(failures))
            log.LogWarning("{Namespace}/{Name}: {Words}; trying again", key.Namespace, key.Name, Redacted(reply, job));
        // What it is too large for it will always be: whoever made it can make it smaller.
        if (failures == 1 && reply.Outcome == Outcome.Impossible && owner is Job about)
            Record(about, new("OMJobRefused", $"The OMJob cannot be written: {Redacted(reply, job)}", Warning: true));
        TryAgain(key, Pause(failures, reply.RetryAfter));
    }

    /// <summary>
    /// The API server's words without what the OMJob's env holds; where no spec is held to compare them with, none that
    /// may come from an object.
    /// </summary>
    static string Redacted(Reply reply, Job? job) =>
        reply.Fault is null && job is not { IsWhole: true, Spec.Length: > 0 } ? reply.Brief
            : Secrets.Redact(reply.Message, job);

    void TryAgain(Key key, TimeSpan delay)
    {
        lock (gate) failed.Add(key);
        metrics.Count(Metrics.Retries, queue.Label);
        queue.AddAfter(key, delay);
    }

    /// <summary>A backoff of up to 30 s, or what the API server asks for where that is longer: then 1 to 60 s.</summary>
    TimeSpan Pause(int failures, TimeSpan? asked, TimeSpan? first = null)
    {
        var backoff = Backoff(failures, first ?? TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(30));
        return asked is not { } wanted ? backoff : TimeSpan.FromSeconds(
            Math.Clamp(Math.Max(wanted.TotalSeconds, backoff.TotalSeconds), 1, 60));
    }

    /// <summary>Doubling from <paramref name="first"/> to <paramref name="most"/>, the last fifth at random.</summary>
    TimeSpan Backoff(int failures, TimeSpan first, TimeSpan most) =>
        TimeSpan.FromTicks(Math.Min(most.Ticks, first.Ticks << Math.Clamp(failures - 1, 0, 20)))
            * (0.8 + 0.2 * random.NextDouble());

    async Task<Reply> Call(Request request, CancellationToken stop)
    {
        var sent = time.GetTimestamp();
        var begun = epoch;
        var told = request.OnLine is null ? Reflectors.Select(watch => watch.Newest).ToArray() : null;
        var reply = await send(request, stop);
        var took = time.GetElapsedTime(sent);
        LastCode = reply.Code;
        if (reply.Code is not (0 or 401 or >= 500)) Answered = time.GetTimestamp();
        // Who waits for a time of day waits for another span now; so after the machine slept.
        if (reply.Date is { } date && clock.Adjust(date, took)) queue.WakeAll();
        reply = reply with
        {
            Epoch = begun,
            Told = told,
            Wrote = request.Method != HttpMethod.Get,
            Asked = Now - took, // we may have been frozen since: an answer is no younger than that
        };
        var code = reply.Code == 0 ? "<error>" : $"{reply.Code}"; // as client-go has it
        metrics.Count(Metrics.Requests,
            $"{Metrics.Label("code", code)},{Metrics.Label("method", request.Method.Method)}");
        return reply;
    }

    void Log(Key key, string what) => log.LogInformation("{Namespace}/{Name}: {What}", key.Namespace, key.Name, what);

    /// <summary>
    /// Null while the loop turns, for a watch or list lasts 210 s at most, and gets somewhere: a new process reads all
    /// configuration again. A refusal is healthy, for a new process would hear the same.
    /// </summary>
    string? Unhealthy()
    {
        if (Reflectors.Exists(w => w.LastTurn != 0 && Age(w.LastTurn) > TimeSpan.FromMinutes(6)))
            return "a watch has stopped turning";
        return Age(Answered) <= TimeSpan.FromMinutes(10) ? null
            : "for 10 minutes the API server has answered nothing but 401 or 5xx, if at all; the last answer: "
                + (LastCode == 0 ? "none" : LastCode);
    }

    /// <summary>Null while the caches are synced and the watches are fresh (W5).</summary>
    string? Unready()
    {
        if (Reflectors.Count == 0) return "nothing is listed yet";
        if (Reflectors.Find(w => !w.Listed && !w.Absent) is { } missing) return $"{missing} are not listed yet";
        var needed = Reflectors.Where(w => !w.Absent);
        return needed.Any(w => !w.Connected
            && Age(w.Disconnected == 0 ? w.LastReceived : w.Disconnected) > TimeSpan.FromSeconds(15)
            || Age(w.LastReceived) > TimeSpan.FromSeconds(210)) ? "a watch is silent" : null;
    }

    TimeSpan Age(long timestamp) => time.GetElapsedTime(timestamp);

    /// <summary>What is counted at the time when it is asked for.</summary>
    internal IEnumerable<(string Name, string Labels, double Value)> Gauges()
    {
        List<(string, string, double)> gauges = [(Metrics.Depth, queue.Label, queue.Depth)];
        var counts = new int[(int)Phase.Failed + 1];
        var (main, exit, late) = (0, 0, 0);
        cache.Visit((phase, known) =>
        {
            counts[(int)phase]++;
            if (phase.IsFinished()) return;
            if (known.Refusals > 0 && phase == Phase.ExitHandlerRunning) exit++;
            else if (known.Refusals > 0) main++;
            if (Now > known.Due + TimeSpan.FromMinutes(1)) late++;
        });
        foreach (var phase in Enum.GetValues<Phase>())
            gauges.Add((JobMetrics.Jobs, Metrics.Label("phase", $"{phase}"), counts[(int)phase]));
        gauges.Add((JobMetrics.Blocked, Metrics.Label("what", "main"), main));
        gauges.Add((JobMetrics.Blocked, Metrics.Label("what", "exit"), exit));
        gauges.Add((JobMetrics.Overdue, "", late));
        foreach (var watch in Reflectors)
            gauges.Add((JobMetrics.LastEvent, $"{Metrics.Label("resource", watch.Resource.Plural)},"
                + Metrics.Label("watched_namespace", watch.Namespace), watch.LastEvent));
        return gauges;
    }

    // ----- events

    /// <summary>
    /// Puts an event on its way; it never holds up the protocol. A fact told again raises its count. Each namespace has
    /// a queue of its own, as long as the room that is left: one where events are slow takes nobody else's.
    /// </summary>
    void Record(CachedObject about, Event fact, int count = 1)
    {
        var now = Now;
        var name = $"{Names.Fit(about.Name, 230, "omjob")}.{now.Ticks:x}{random.Next(4096):x3}";
        if (about is Job job) about = job.Short();
        fact = cache.Remember(about.Key, about.Uid, p =>
        {
            var again = p.LastEvent is { } last && (last.Action, last.Message) == (fact.Action, fact.Message) ? last : null;
            var told = again ?? fact with { First = now, Name = name, About = about };
            return p with { LastEvent = told with { Count = count, Last = now } };
        }).LastEvent!;
        lock (gate)
        {
            if (!events.TryGetValue(about.Namespace, out var mine)) events[about.Namespace] = mine = [];
            var room = mine.Count < 20_000 - pending;
            if (room) { mine.Enqueue(fact); pending++; }
            else log.LogWarning("{Namespace}/{Name}: too many events, one was dropped", about.Namespace, about.Name);
        }
        senders.Add(new(about.Namespace, ""));
    }

    /// <summary>Writes the next event of a namespace.</summary>
    async Task WriteEvent(Key ns, CancellationToken stop)
    {
        Event? fact;
        lock (gate) if (!events.TryGetValue(ns.Namespace, out var mine) || !mine.TryPeek(out fact)) return;
        var (about, path) = (fact.About!, $"/api/v1/namespaces/{ns.Namespace}/events");
        var reply = fact.Last == fact.First ? null : await Call(
            new(HttpMethod.Patch, $"{path}/{fact.Name}", Bodies.EventCount(fact), MediaTypes.Merge), stop);
        if (reply is null or { Outcome: Outcome.NotFound })
            reply = await Call(new(HttpMethod.Post, path, Bodies.Event(fact, about)), stop);
        if (!reply.Ok && reply.Outcome is not (Outcome.Exists or Outcome.NamespaceGoing))
            log.LogWarning("{Namespace}/{Name}: no event {Action}: {Words}",
                about.Namespace, about.Name, fact.Action, reply.Brief);
        lock (gate)
        {
            events[ns.Namespace].Dequeue();
            if (events[ns.Namespace].Count == 0) events.Remove(ns.Namespace);
            else senders.Add(ns);
            if (--pending == 0) written?.TrySetResult();
        }
    }

    Task EventsWritten()
    {
        lock (gate) return pending == 0 ? Task.CompletedTask : (written = new()).Task;
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
}

enum Presence { Unknown, Absent, Present, Refused, NamespaceGoing }

/// <summary>What is known of a pod's name. Unknown only leads to asking; absent: a live GET answered 404.</summary>
sealed record PodView(Pod? Pod)
{
    public Presence Presence { get; init; } = Pod is null ? Presence.Unknown : Presence.Present;
    /// <summary>The API server's words, where it says that the pod can never be.</summary>
    public string Message { get; init; } = "";
    /// <summary>When it was asked for, its OMJob being as it is (server's time); null: a watch told it.</summary>
    public DateTimeOffset? Asked { get; init; }
    /// <summary>Not to be created before then.</summary>
    public DateTimeOffset RetryAt { get; init; }
    /// <summary>When to ask for it again, where its labels do not stay and so no watch tells of it.</summary>
    public DateTimeOffset? AskAgain { get; init; }
    /// <summary>G21: a version of it reached us that was being deleted before main had ended.</summary>
    public bool Stopped { get; init; }

    public static PodView Unknown { get; } = new((Pod?)null);
    public static PodView Absent { get; } = new((Pod?)null) { Presence = Presence.Absent };
    public static PodView NamespaceGoing { get; } = new((Pod?)null) { Presence = Presence.NamespaceGoing };
    public static PodView Refused(string words) => new((Pod?)null) { Presence = Presence.Refused, Message = words };
}

/// <summary>How a pod ended; no exit code where it did not end of itself. ByClock: only a clock says so.</summary>
sealed record End(int? ExitCode, string Message, bool ByClock = false);

/// <summary>The phase machine: pure functions of what was observed and the API server's clock.</summary>
static class Protocol
{
    /// <summary>
    /// A creation is decided on an OMJob, and what a clock or another's pod says of ours on a pod, asked for no longer
    /// ago than this: a watch that is late (D1, W2) must neither start a run again nor give up one that is fine.
    /// </summary>
    static readonly TimeSpan Fresh = TimeSpan.FromSeconds(10);
    static readonly TimeSpan ClockSlack = TimeSpan.FromSeconds(2);
    static readonly TimeSpan FirstBackoff = TimeSpan.FromSeconds(10);
    static readonly TimeSpan DeadlineBackstop = TimeSpan.FromSeconds(60);
    static readonly TimeSpan LeastTtl = TimeSpan.FromSeconds(15);

    /// <summary>A job's next step, given what is known of the main pod and the exit pod named in its status.</summary>
    public static Decision Decide(Job job, PodView main, PodView exit, DateTimeOffset now, Deadlines clocks)
    {
        if (job.Stale) return new(Act.AskJob);
        var going = main.Presence == Presence.NamespaceGoing || exit.Presence == Presence.NamespaceGoing;
        if (going && !job.Status.Phase.IsFinished()) return WhenNamespaceGoes(job, main, now, clocks); // G10
        return job.Status.Phase switch
        {
            Phase.Pending => WhenPending(job, main, now),
            Phase.Running => WhenRunning(job, main, now, clocks),
            Phase.ExitHandlerRunning => WhenExitHandlerRunning(job, main, exit, now, clocks),
            Phase.Succeeded or Phase.Failed => WhenFinished(job, main, exit, now, clocks),
            _ => WhenUnknown(job, main, now),
        };
    }

    static Decision WhenNamespaceGoes(Job job, PodView main, DateTimeOffset now, Deadlines clocks)
    {
        var end = job.Status.Phase == Phase.Running ? Ended(main, now, clocks) : null;
        var status = end is null ? job.Status : Recorded(job, main, end);
        return Finish(now, false, status, "exit handler cannot run: the namespace is being deleted");
    }

    static Decision WhenPending(Job job, PodView main, DateTimeOffset now) => main switch
    {
        _ when !job.HasFinalizer && !job.Deleting => new(Act.AddFinalizer), // even where its main pod is there
        { Pod: { } pod } when pod.BelongsTo(job) => Started(job, pod),
        { Presence: Presence.Unknown } when job.Deleting => new(Act.AskMain),
        _ when job.Deleting => Drop(job, Job.Finalizer), // F5: it never started
        { Pod: { } pod } => Foreign(pod, main, now),
        { Presence: Presence.Refused } => MainEnded(job, main, new(null, $"cannot be created: {main.Message}"), now), // G15
        _ => Create(Act.CreateMain, job, main, now),
    };

    /// <summary>A phase nobody defined, written by hand: the run goes on where there is one, else it failed.</summary>
    static Decision WhenUnknown(Job job, PodView main, DateTimeOffset now) => main switch
    {
        { Pod: { } pod } when pod.BelongsTo(job) => Started(job, pod),
        { Presence: Presence.Unknown } => new(Act.AskMain),
        _ when job.Status is { MainPodName: not null, CompletionTime: null } =>
            MainEnded(job, PodView.Absent, new(null, "was deleted before its end was seen"), now),
        _ => Finish(now, false, job.Status with
        {
            Message = $"Status.phase '{Text.Truncate(job.Status.PhaseText, 40)}' is no phase of an OMJob",
        }, null),
    };

    static Decision WhenRunning(Job job, PodView main, DateTimeOffset now, Deadlines clocks)
    {
        if (!job.HasFinalizer && !job.Deleting) return new(Act.AddFinalizer); // adopted from another operator
        if (main.Presence == Presence.Unknown) return new(Act.AskMain);
        if (job is { Deleting: true, HasExitSpec: true, NamespaceAsked: false }) return new(Act.AskNamespace);
        if (main.Pod is { } other && !other.BelongsTo(job)) // D2: name taken, so ours is gone; or was, before ours
        {
            if (!IsFresh(main.Asked, now)) return new(Act.AskMain);
            main = PodView.Absent;
        }
        if (Ended(main, now, clocks) is { } end)
            return end.ByClock && !IsFresh(main.Asked, now) ? new(Act.AskMain) : MainEnded(job, main, end, now);
        var pod = main.Pod!;
        if (pod.LostLabels && main.AskAgain is null) return new(Act.RestoreLabels) { Pod = pod };
        if (now >= main.AskAgain) return new(Act.AskMain);
        if (pod.Deleting) return new(Act.Wait) { Wake = Earliest(EndsBy(pod, clocks), main.AskAgain) };
        if (job.Status.GivenUp is { } said) // it may be long ago that a watch told of the pod
            return IsFresh(main.Asked, now) ? new(Act.DeletePod, said) { Pod = pod } : new(Act.AskMain);
        if (job.Deleting) return new(Act.DeletePod, "the OMJob was deleted") { Pod = pod }; // G9
        // G7: never started. G8: the kubelet stops it; this is for a kubelet that does not.
        var start = pod.Started || clocks.StartDeadline == TimeSpan.Zero
            ? (DateTimeOffset?)null : pod.Created + clocks.StartDeadline;
        var stop = pod.StartTime + pod.ActiveDeadline + pod.Grace + DeadlineBackstop;
        var why = pod.Waiting ?? "nothing is said why";
        if ((now >= start || now >= stop) && !IsFresh(main.Asked, now)) return new(Act.AskMain);
        if (now >= start)
            return GiveUp(job, $"did not start within {Text.Duration(clocks.StartDeadline)}: {why}");
        if (now >= stop)
            return GiveUp(job, $"ran past its activeDeadlineSeconds of {pod.ActiveDeadline!.Value.TotalSeconds}");
        return new(Act.Wait) { Wake = Earliest(start, stop, EndsBy(pod, clocks), main.AskAgain) };
    }

    static Decision WhenExitHandlerRunning(
        Job job, PodView main, PodView exit, DateTimeOffset now, Deadlines clocks)
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
        var letGo = drained?.DeletionTimestamp + clocks.LostPodSlack;
        var handled = PodTemplate.Ran(job) > 0 || (exit.Pod?.BelongsTo(job) is true && Ended(exit, now, clocks) is not null);
        var next = drained is not null && (now >= letGo || handled) ? new(Act.ReleasePod) { Pod = drained }
            : job is { Deleting: true, NamespaceAsked: false } ? new(Act.AskNamespace)
            : job.Finalizers.Contains(Job.Foreground) ? Drop(job, Job.Foreground) // G19
            : WhenHandlerIsDue(job, exit, now, clocks);
        return next with { Wake = Earliest(next.Wake, letGo) };
    }

    static Decision WhenHandlerIsDue(Job job, PodView exit, DateTimeOffset now, Deadlines clocks)
    {
        if (exit.Presence == Presence.Refused)
            return Finish(now, false, job.Status, $"exit handler cannot be created: {exit.Message}"); // G15
        if (exit.Presence is Presence.Unknown or Presence.Absent) return Create(Act.CreateExit, job, exit, now);
        var (pod, ran) = (exit.Pod!, PodTemplate.Ran(job));
        if (!pod.BelongsTo(job)) // H9: it uses up no attempt of ours
        {
            // One that came just now may come again, as often as a name is chosen.
            var patience = pod.Created + TimeSpan.FromSeconds((1 << Math.Min(PodTemplate.Number(job) - ran - 1, 5)) - 1);
            return !IsFresh(exit.Asked, now) ? new(Act.AskExit)
                : now < patience ? new(Act.Wait) { Wake = patience }
                : NextAttempt(job, PodTemplate.Number(job) + 1, null, $"pod {pod.Name} is somebody else's");
        }
        if (Ended(exit, now, clocks) is not { } end)
        {
            if (pod.LostLabels && exit.AskAgain is null) return new(Act.RestoreLabels) { Pod = pod };
            if (now >= exit.AskAgain) return new(Act.AskExit);
            var deadline = clocks.ExitHandlerDeadline == TimeSpan.Zero
                ? (DateTimeOffset?)null : pod.Created + clocks.ExitHandlerDeadline;
            if (pod.Deleting || !(now >= deadline))
                return new(Act.Wait)
                {
                    Wake = Earliest(pod.Deleting ? null : deadline, EndsBy(pod, clocks), exit.AskAgain),
                };
            if (!IsFresh(exit.Asked, now)) return new(Act.AskExit);
            var why = pod.Waiting is null ? "" : $": {pod.Waiting}";
            return Failed(job, now, clocks, $"did not end within {Text.Duration(clocks.ExitHandlerDeadline)}{why}");
        }
        if (end.ByClock && !IsFresh(exit.Asked, now)) return new(Act.AskExit);
        if (end.ExitCode == 0) return Finish(now, true, job.Status, "exit handler succeeded");
        // A node's clock that is far ahead says nothing.
        var ended = pod.FinishedAt <= now + FirstBackoff ? pod.FinishedAt : pod.DeletionRequested ?? pod.Created;
        var again = ended + FirstBackoff * (1 << Math.Min(ran, 20));
        return now < again && ran + 1 < Attempts(job, clocks)
            ? new(Act.Wait) { Wake = again }
            : Failed(job, now, clocks, end.Message); // G16, G17
    }

    static Decision WhenFinished(Job job, PodView main, PodView exit, DateTimeOffset now, Deadlines clocks)
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
        var patience = job.Status.CompletionTime + clocks.LostPodSlack;
        var over = new[] { main.Pod, exit.Pod }
            .FirstOrDefault(p => p is { PhaseOver: false, Deleting: false } && p.BelongsTo(job));
        if (over is not null && now >= patience) return new(Act.DeletePod, "the job has finished") { Pod = over };
        return new(Act.Wait) { Wake = over is null ? expires : Earliest(expires, patience) };
    }

    /// <summary>
    /// What to do with a pod that should not be: another incarnation's, a late creation's, an earlier attempt's. Only
    /// to be acted on with a job (null: it is gone) and a pod that were asked for live, the job after the pod was seen.
    /// </summary>
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

        Decision Remove(string why, Event? fact) => pod.HasFinalizer
            ? new(Act.ReleasePod, why) { Pod = pod }
            : new(Act.DeletePod, why) { Pod = pod, Event = fact };
    }

    // ----- the end of a pod

    /// <summary>How a pod ended, null while it has not (DESIGN: "over" is the first of these).</summary>
    public static End? Ended(PodView view, DateTimeOffset now, Deadlines clocks)
    {
        if (view.Presence == Presence.Absent) return new(null, "was deleted before its end was seen");
        if (view.Pod is not { } pod) return null;
        if (pod.ExitCode is { } code) return Terminated(pod, code, view.Stopped);
        if (pod.PhaseOver && !pod.MainRunning) return new(null, $"failed{Details(pod)}"); // P: no container statuses
        if (now >= pod.OverSeen + pod.Grace + clocks.LostPodSlack) return new(null, $"failed{Details(pod)}", true);
        if (pod is { Deleting: true, Scheduled: false })
            return new(null, $"was deleted before it started{Details(pod)}");
        if (now > pod.DeletionTimestamp + clocks.LostPodSlack) // G6
            return new(null, "was lost: its node did not confirm its end within "
                + $"{Text.Duration(clocks.LostPodSlack)}{Details(pod)}", true);
        return null;
    }

    /// <summary>
    /// The exit code counts if main ended of itself: failure always; 0 only if it certainly ended before anybody asked
    /// to stop it (G21). Times are whole seconds, so the same second proves nothing; and where main was seen running
    /// while its pod was being deleted no node's clock proves anything.
    /// </summary>
    static End Terminated(Pod pod, int code, bool seenStopped)
    {
        if (code != 0) return new(code, $"failed with exit code {code}{Details(pod)}");
        // P: a kubelet that deletes a pod which never ran may report an exit code of 0, without a time.
        var stopped = seenStopped || pod.FinishedAt is null || pod.FinishedAt >= pod.DeletionRequested
            || pod.Reason is not null || pod.Disruption is not null;
        return stopped ? new(null, $"was stopped (exit code 0 afterwards){Details(pod)}") : new(0, "succeeded");
    }

    /// <summary>The reasons in parentheses, as far as there are any.</summary>
    static string Details(Pod pod)
    {
        string?[] all =
            [pod.ExitReason is "Error" or "Completed" ? null : pod.ExitReason, pod.Reason, pod.Disruption, pod.Waiting];
        var said = all.Where(r => !string.IsNullOrEmpty(r)).Distinct().ToArray();
        return said.Length == 0 ? "" : $" ({string.Join("; ", said)})";
    }

    /// <summary>When a clock alone can end the pod.</summary>
    static DateTimeOffset? EndsBy(Pod pod, Deadlines clocks) => Earliest(
        pod.OverSeen + pod.Grace + clocks.LostPodSlack,
        pod.DeletionTimestamp + clocks.LostPodSlack + TimeSpan.FromMilliseconds(1));

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
        var deleted = job.Deleting && end.ExitCode != 0 ? " after the OMJob was deleted" : "";
        var words = (itself || end.ExitCode == 0 ? null : job.Status.GivenUp)
            ?? Text.Truncate(JobStatus.AsMainMessage($"Main pod {end.Message}{deleted}"), 500);
        return job.Status with { MainPodName = PodTemplate.MainName(job), ExitCode = end.ExitCode, Message = words };
    }

    /// <summary>The attempt whose name is in status has ended, and not well.</summary>
    static Decision Failed(Job job, DateTimeOffset now, Deadlines clocks, string words)
    {
        var ran = PodTemplate.Ran(job) + 1;
        return ran < Attempts(job, clocks)
            ? NextAttempt(job, PodTemplate.Number(job) + 1, words, null)
            : Finish(now, false, job.Status, $"exit handler {words}"
                + (ran == 1 ? "" : $"; no attempt of {ran} succeeded"));
    }

    /// <summary>
    /// The name goes to status before the pod is created, and the message says how many attempts have run: as many as
    /// the one that failed, or less one where a pod of somebody else's only has the name. Neither: the first is named.
    /// </summary>
    static Decision NextAttempt(Job job, int number, string? failed, string? foreign)
    {
        var (next, attempt) = (PodTemplate.ExitName(job.Name, number), PodTemplate.Ran(job) + 1);
        var said = failed is not null ? $"{JobStatus.AttemptWord}{attempt} {failed}"
            : foreign is not null ? $"{JobStatus.AttemptWord}{attempt} {JobStatus.IsRenamed}{next}: {foreign}" : null;
        return new(Act.WriteStatus, said ?? $"no attempt is named, the first is {next}")
        {
            Status = job.Status with { ExitPodName = next, Message = JobStatus.Join(job.Status.MainMessage, said) },
            Event = said is null ? null : new("ExitHandlerRetried",
                $"E{said[1..]}{(failed is null ? "" : $"; next attempt is {next}")}", true),
        };
    }

    /// <summary>Succeeded only if main exited 0 and the handler succeeded; words null without a handler.</summary>
    static Decision Finish(DateTimeOffset now, bool handled, JobStatus status, string? words)
    {
        var phase = handled && status.ExitCode == 0 ? Phase.Succeeded : Phase.Failed;
        var message = JobStatus.Join(status.MainMessage, words);
        return new(Act.WriteStatus, message)
        {
            Status = status with { Phase = phase, Message = message, CompletionTime = now },
            Event = phase == Phase.Succeeded ? new("OMJobCompleted", message) : new("OMJobFailed", message, true),
        };
    }

    /// <summary>The main pod is to be stopped: the reason goes to status first, as the message of its end.</summary>
    static Decision GiveUp(Job job, string why) => new(Act.WriteStatus, why)
    {
        Status = job.Status with { Message = Text.Truncate(JobStatus.AsMainMessage(JobStatus.Stopped + why), 500) },
    };

    static Decision Create(Act act, Job job, PodView view, DateTimeOffset now) =>
        view.RetryAt > now ? new(Act.Wait) { Wake = view.RetryAt }
        : IsFresh(job.SeenLive, now) ? new(act)
        : new(Act.AskJob);

    /// <summary>What was asked for while the clock was ahead of what it is now is not (it moves by a second or two).</summary>
    public static bool IsFresh(DateTimeOffset? asked, DateTimeOffset now) =>
        now - asked is { } age && age <= Fresh && age >= -ClockSlack;

    static Decision Foreign(Pod pod, PodView view, DateTimeOffset now) =>
        view.RetryAt > now ? new(Act.Wait) { Wake = view.RetryAt }
        : IsFresh(view.Asked, now) ? new(Act.Block, $"a pod {pod.Name} exists that is not this OMJob's")
        : new(Act.AskMain);

    static Decision Drop(Job job, string finalizer) =>
        job.Finalizers.Contains(finalizer) ? new(Act.DropFinalizer, finalizer) : new(Act.Wait);

    static long Attempts(Job job, Deadlines clocks) =>
        1 + (job.BackoffLimit ?? clocks.ExitHandlerRetries);

    public static DateTimeOffset? Earliest(params IEnumerable<DateTimeOffset?> times) => times.Min();
}
