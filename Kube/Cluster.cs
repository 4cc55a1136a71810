// What is known of the cluster, and how: all requests and their answers, and the loops that list and watch.

namespace OMJobs;

/// <summary>Sends requests, follows resources and keeps the cache. Each namespace is on its own: one that cannot be
/// listed holds up no other.</summary>
sealed class Cluster(Send send, TimeProvider time, ILogger log, Random random, Metrics metrics)
{
    readonly ServerClock clock = new(time);
    readonly Backoff backoff = new(random);
    readonly Lock gate = new(); // guards: no answer from before the cache was dropped comes into it; and what is below
    readonly Dictionary<string, Task> patched = []; // namespaces where no status may be replaced; done: try again
    int epoch; // how often it was dropped
    long lastAnswer = time.GetTimestamp(); // that says something, not 401 or 5xx; at first the start's
    int lastCode; // of all answers; 0: there was none

    public ObjectCache Cache { get; set; } = null!;
    /// <summary>All that a watch is to find has been listed, for the first time since the cache was dropped.</summary>
    public Action<Reflector> Synced { get; init; } = _ => { };
    /// <summary>The clock was set forward: who waits for a time of day waits for another span now.</summary>
    public Action ClockSet { get; init; } = () => { };

    public List<Reflector> Reflectors { get; } = [];
    /// <summary>The API server's time.</summary>
    public DateTimeOffset Now => clock.Now;

    /// <summary>A watch has told of the object's version, or of a later one.</summary>
    public bool HasPassed(CachedObject o) => Reflectors.Exists(reflector => reflector.IsPast(o));

    // ----- requests

    public async Task<Reply> Call(Request request, CancellationToken stop)
    {
        var sent = time.GetTimestamp();
        var begun = epoch;
        var told = request.OnLine is null ? Reflectors.Select(reflector => reflector.Newest).ToArray() : null;
        var reply = await send(request, stop);
        var took = time.GetElapsedTime(sent);
        lastCode = reply.Code;
        if (reply.Code is not (0 or 401 or >= 500)) lastAnswer = time.GetTimestamp();
        if (reply.Date is { } date && clock.Adjust(date, took)) ClockSet();
        reply = reply with
        {
            Epoch = begun,
            Told = told,
            Wrote = request.Method != HttpMethod.Get,
            SentAt = Now - took, // we may have been frozen since: an answer is no younger than that
        };
        var code = reply.Code == 0 ? "<error>" : $"{reply.Code}"; // as client-go has it
        metrics.Count(Metrics.Requests,
            $"{Metrics.Label("code", code)},{Metrics.Label("method", request.Method.Method)}");
        return reply;
    }

    /// <summary>A live GET: what is not there any more goes out of the cache; what is Found comes into it, unless it is
    /// not to be taken yet.</summary>
    public async Task<Reply> Get(Key key, CancellationToken stop, bool take = true)
    {
        var before = Cache.Get(key);
        var reply = await Call(new(HttpMethod.Get, key.Path), stop);
        // What was so before the cache was dropped need not be so any more.
        if (reply.Epoch != epoch) return Reply.Failed(SetBack);
        if (reply.Outcome == Outcome.NotFound) Remove(before, reply);
        if (!reply.Ok) return reply;
        if (Parse(reply, key.Resource!) is not { } found) // that is not to say that it is gone
            return Reply.Failed($"the {key.Resource!.Kind} cannot be read");
        return take && !await Take(found, before, reply, stop) ? Reply.Failed(SetBack)
            : reply with { Found = found };
    }

    /// <summary>Replaces a status (whole), which costs an API server less than a patch. That serves where the body is
    /// refused, for what admits it sees nothing but the status, and where RBAC grants no update: by namespace, for an
    /// hour. Patch: that is to be it. The answer is the metadata only.</summary>
    public async Task<Reply> UpdateStatus(Key key, Func<bool, byte[]> body, bool patch, CancellationToken stop)
    {
        var (path, ns) = (key.Path + "/status", key.Namespace);
        lock (gate) patch |= patched.TryGetValue(ns, out var hour) && !hour.IsCompleted;
        if (!patch)
        {
            var reply = await Call(new(HttpMethod.Put, path, body(true)) { Accept = MediaTypes.Metadata }, stop);
            if (reply.Code is < 400 or >= 500 || reply.Outcome
                is Outcome.Conflict or Outcome.NotFound or Outcome.TooMany or Outcome.Unauthorized) return reply;
            var right = $"update resource \"{key.Resource!.Plural}/status\"";
            if (reply.Code == 403 && reply.Message.Contains($"cannot {right}", StringComparison.Ordinal))
            {
                var (first, anHour) = (false, Task.Delay(TimeSpan.FromHours(1), time, stop));
                lock (gate) (first, patched[ns]) = (!patched.ContainsKey(ns), anHour);
                if (first) log.LogWarning("Namespace {Namespace}: no right to {Right}, it is patched", ns, right);
            }
        }
        var patching = new Request(HttpMethod.Patch, path, body(false), MediaTypes.Merge);
        var answer = await Call(patching with { Accept = MediaTypes.Metadata }, stop);
        if (answer.Code == 403) lock (gate) patched.Remove(ns); // it may be the other way round by now
        return answer;
    }

    public CachedObject? Parse(Reply reply, Resource resource) =>
        reply.Ok ? (reply.Read(resource.ItemType) as IApiObject)?.ToCached(Now) : null;

    /// <summary>Takes an object that the API server answered with. Before: what was cached when the request was sent.
    /// An answer that is older cannot be, nor one about what was not there that is no newer than what a watch had told
    /// by then, nor a write that is no newer, unless the versions went back: then it is not taken.</summary>
    public async Task<bool> Take(CachedObject answer, CachedObject? before, Reply reply, CancellationToken stop)
    {
        var at = Reflectors.FindIndex(r => r.Resource == answer.Key.Resource && r.Covers(answer.Namespace));
        var version = answer.ResourceVersion;
        var old = before is not null && Versions.IsNewer(before.ResourceVersion, version);
        var changes = before is null || (reply.Wrote && version != before.ResourceVersion);
        var early = changes && at >= 0 && reply.Told?[at] is { } told && !Versions.IsNewer(version, told) ? told : null;
        if ((old && await IsSetBack(before!, stop))
            || (early is not null && await IsSetBack(Reflectors[at], early, stop)))
        {
            DropCache();
            return false;
        }
        lock (gate)
        {
            if (epoch != reply.Epoch) return false;
            if (at >= 0) Reflectors[at].Advance(version);
            // It is there, and its deletion would be told later than anything so far: then it has been overlooked.
            var isThere = early is not null && answer.IsWatched
                && Reflectors[at].Version is { } now && !Versions.IsNewer(now, early);
            Cache.Upsert(answer, readAt: reply.SentAt, isThere: isThere);
            return true;
        }
    }

    /// <summary>An answer says that it is gone. One from before the cache was dropped does not.</summary>
    public void Remove(CachedObject? gone, Reply reply)
    {
        lock (gate) if (epoch == reply.Epoch && gone is not null) Cache.Remove(gone);
    }

    // ----- list and watch

    /// <summary>Follows what there is in a namespace, in the reflectors' order: each once the last is listed.</summary>
    public async Task Follow(string ns, CancellationToken stop)
    {
        var loops = new List<Task>();
        foreach (var reflector in Reflectors.Where(r => r.Namespace == ns))
        {
            var listed = new TaskCompletionSource();
            loops.Add(Follow(reflector, listed, stop));
            await Task.WhenAny(listed.Task, loops[^1]);
        }
        await await Task.WhenAny(loops); // none ends before it is stopped, but by a bug
    }

    async Task Follow(Reflector reflector, TaskCompletionSource listed, CancellationToken stop)
    {
        for (var failures = 0; !stop.IsCancellationRequested;)
        {
            reflector.LastTurn = time.GetTimestamp();
            var (listing, from) = (reflector.Version is null || !reflector.Listed, reflector.Version);
            var reply = listing ? await ListAll(reflector, stop) : await Watch(reflector, stop);
            // A stream that ends by itself is normal; one that ends at once, again and again, is not. The API server
            // also ends one whose reader is slow in a burst: what brought an event has lived.
            var lived = listing ? reply.Ok : reflector.Connected
                && (reflector.Version != from || time.GetElapsedTime(reflector.LastTurn) > TimeSpan.FromSeconds(1));
            failures = !lived ? failures + 1 : reply.Ok ? 0 : 1;
            var mute = !listing && reply.Ok && reflector.Connected && reflector.Version == from;
            // W9: bookmarks come every minute. Something in between keeps the stream from us, after its head; or there
            // is nothing to tell: Kubernetes 1.20 sends none before the first change. So the lists become rarer.
            if (!listing && reflector is { Connected: true, Told: false }
                && time.GetElapsedTime(reflector.LastTurn) > TimeSpan.FromSeconds(145)
                && (int.IsPow2(++reflector.Silent) || reflector.Silent % 16 == 0))
                (reflector.Version, reflector.Untold) = (null, from);
            if (reflector.Connected) (reflector.Connected, reflector.Disconnected) = (false, time.GetTimestamp());
            if (reply.Outcome == Outcome.Gone) reflector.Version = null; // W6: list again
            var absent = reflector.WhenAbsent is not null && reply.Code is 403 or 404;
            if (absent && !reflector.Absent) log.LogWarning("{What}: {Message}", reflector.WhenAbsent, reply.Message);
            reflector.Absent = absent;
            if (absent || reflector.Listed) listed.TrySetResult();
            if (int.IsPow2(failures) && failures > 1 && !absent)
                log.LogWarning("Watch {Path}: {Message} ({Failures} times in a row)", reflector.Path, reply.Message,
                    failures);
            // A watch from a version that is still to come opens well and stays silent.
            if (mute && reflector.Newest is { } told && await IsSetBack(reflector, told, stop)) DropCache();
            var pause = backoff.After(failures, TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(15));
            if (failures > 0) await Task.Delay(pause, time, stop).Quietly();
        }
    }

    async Task<Reply> ListAll(Reflector reflector, CancellationToken stop)
    {
        var (listed, begun, first, news) = (new HashSet<Key>(), epoch, false, false);
        var (reply, version) = await List(reflector, Upsert, stop);
        if (!reply.Ok) return reply;
        if (news)
        {
            log.LogWarning("Watch {Path}: nothing was told, not even a bookmark, and there is news", reflector.Path);
            reflector.Silent = 0;
        }
        reflector.Untold = null;
        if (reflector.Newest is { } newest && Versions.IsNewer(newest, version!)
            && await IsSetBack(reflector, newest, stop))
        {
            DropCache();
            return Reply.Failed(SetBack);
        }
        lock (gate)
        {
            if (epoch != begun) return Reply.Failed(SetBack);
            Cache.Replace(reflector, listed, version!);
            reflector.Advance(version, time.GetTimestamp(), Now);
            (first, reflector.Listed) = (!reflector.Listed, true);
        }
        // What the pages have left would stay for as long as nothing happens: an idle process collects no garbage.
        if (listed.Count > 500) GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
        if (first) Synced(reflector);
        return reply;

        void Upsert(IApiObject found)
        {
            lock (gate)
            {
                if (epoch != begun) return;
                if (Read(found, reflector) is { } o) Cache.Upsert(o);
            }
            news |= reflector.Untold is { } since && found.Metadata?.ResourceVersion is { } now
                && Versions.IsNewer(now, since);
            // Also one that cannot be read is there. The key that is cached spares its text being there twice.
            if (found.Metadata is { Name: { } name, Namespace: { } ns }
                && Cache.Get(new(ns, name, reflector.Resource)) is { Key: var key }) listed.Add(key);
        }
    }

    /// <summary>Gets a list page by page; returns the last answer and, where that is Ok, the list's version.</summary>
    public async Task<(Reply Reply, string? Version)> List(
        Reflector reflector, Action<IApiObject> take, CancellationToken stop)
    {
        reflector.PageSize = Math.Min(reflector.PageSize, Reflector.FirstPage);
        var next = "";
        for (var failures = 0; ;)
        {
            var list = new ListReader(item => { if (ReadItem(item, reflector) is { } found) take(found); });
            var page = next.Length == 0 ? "" : $"&continue={Uri.EscapeDataString(next)}";
            var reply = list.Read(await Call(new(HttpMethod.Get, $"{reflector.Path}limit={reflector.PageSize}{page}")
            {
                Timeout = TimeSpan.FromSeconds(60),
                OnPiece = list.Feed,
            }, stop));
            if (reply.Ok)
            {
                reflector.LastTurn = time.GetTimestamp();
                (failures, reflector.PageSize, next) =
                    (0, list.NextPage(reflector.PageSize), list.Meta!.Continue ?? "");
                if (next.Length == 0) return (reply, list.Meta.ResourceVersion);
                continue;
            }
            if (reply.Outcome is not (Outcome.Fault or Outcome.TooMany)) return (reply, null);
            // What is too much in one answer may not be in several.
            reflector.PageSize = Math.Max(1, reflector.PageSize / 4);
            if (next.Length == 0 || ++failures > 5) return (reply, null);
            await Task.Delay(backoff.Pause(failures, reply.RetryAfter), time, stop).Quietly();
        }
    }

    /// <summary>One of a list's items; one that cannot be read must not hide the others.</summary>
    IApiObject? ReadItem(ReadOnlySpan<byte> text, Reflector reflector)
    {
        try { return (IApiObject?)JsonSerializer.Deserialize(text, reflector.Resource.ItemType); }
        catch (JsonException e) // the path tells no value
        {
            var meta = JsonSerializer.Deserialize(text, ApiJson.Default.JsonElement).Get("metadata");
            var (ns, name) = (Named("namespace"), Named("name"));
            log.LogError("Watch {Path}: unreadable object {Namespace}/{Name} at {Where}",
                reflector.Path, ns, name, e.Path);
            return new UnreadableObject(ns, name);

            string? Named(string field)
            {
                try { return meta.Text(field); }
                catch (InvalidOperationException) { return null; } // a text that is no Unicode
            }
        }
    }

    /// <summary>Watches until the stream ends, breaks, or nothing more can come (W1 to W3, W6).</summary>
    async Task<Reply> Watch(Reflector reflector, CancellationToken stop)
    {
        var seconds = random.Next(150, 200);
        var from = $"watch=1&allowWatchBookmarks=true&resourceVersion={reflector.Version}&timeoutSeconds={seconds}";
        var stream = new CancellationTokenSource(); // not disposed of: another thread may be about to cancel it
        using var stopped = stop.UnsafeRegister(_ => stream.Cancel(), null);
        (reflector.Stream, reflector.Told) = (stream, false);
        try
        {
            return await Call(new(HttpMethod.Get, reflector.Path + from)
            {
                Timeout = TimeSpan.FromSeconds(seconds + 10),
                OnLine = line => Take(reflector, line),
            }, stream.Token);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested) { return new(410, []); }
        finally { reflector.Stream = null; }
    }

    /// <summary>Takes one line of a watch; returns what ends the stream, if this line does.</summary>
    Reply? Take(Reflector reflector, ReadOnlyMemory<byte> line)
    {
        if (!reflector.Listed) return new(410, []); // the cache was dropped
        reflector.Connected = true;
        reflector.Advance(reflector.Version, time.GetTimestamp(), Now);
        lastAnswer = reflector.LastReceived;
        if (line.IsEmpty) return null; // the stream is open
        (reflector.Told, reflector.Silent) = (true, 0);
        try
        {
            if (line.Span.StartsWith("{\"type\":\"ERROR\""u8))
            {
                var error = JsonSerializer.Deserialize(line.Span, ApiJson.Default.WatchEventStatusObject)?.Object;
                return new Reply(error?.Code ?? 500, []) { Fault = error?.Message ?? "ERROR event" };
            }
            var change = (IWatchEvent?)JsonSerializer.Deserialize(line.Span, reflector.Resource.EventType);
            lock (gate)
            {
                if (!reflector.Listed) return new(410, []);
                if (change?.Type != "BOOKMARK" && Read(change?.Object, reflector) is { } o)
                    Cache.Upsert(o, change!.Type == "DELETED");
                reflector.Advance(change?.Object?.Metadata?.ResourceVersion ?? reflector.Version,
                    time.GetTimestamp(), Now);
            }
        }
        catch (JsonException e) // the path tells no value
        {
            log.LogError("Watch {Path}: unreadable event at {Where}", reflector.Path, e.Path);
        }
        return null;
    }

    /// <summary>What is kept of an object; null, and a line in the log, where it cannot be read: others can.</summary>
    public CachedObject? Read(IApiObject? found, Reflector reflector)
    {
        try { return found?.ToCached(Now); }
        catch (InvalidOperationException) // a text that is no Unicode
        {
            log.LogError("Watch {Path}: unreadable object {Name}", reflector.Path, found?.Metadata?.Name);
            return null;
        }
    }

    // ----- versions that go back (etcd was restored from a backup): whoever compares versions would be deaf

    const string SetBack = "its versions went back";

    /// <summary>A list is of a version before one that was told.</summary>
    async Task<bool> IsSetBack(Reflector reflector, string told, CancellationToken stop)
    {
        var list = new ListReader(_ => { });
        var request = new Request(HttpMethod.Get, reflector.Path + "limit=1") { OnPiece = list.Feed };
        var reply = list.Read(await Call(request, stop));
        return reply.Ok && Versions.IsNewer(told, list.Meta!.ResourceVersion!);
    }

    /// <summary>An object is of a version before one that was told.</summary>
    async Task<bool> IsSetBack(CachedObject told, CancellationToken stop)
    {
        var reply = await Call(new(HttpMethod.Get, told.Key.Path), stop);
        return reply.Ok && reply.Read(ApiJson.Default.JsonElement) is JsonElement whole
            && whole.Get("metadata").Text("resourceVersion") is { } now && Versions.IsNewer(told.ResourceVersion, now);
    }

    /// <summary>Begins as a new process does.</summary>
    void DropCache()
    {
        log.LogWarning("The API server's versions went back: everything is listed again");
        lock (gate)
        {
            epoch++;
            foreach (var one in Reflectors) (one.Listed, one.Version, one.Newest) = (false, null, null);
            Cache.Clear();
        }
        foreach (var one in Reflectors) one.Stream?.Cancel();
    }

    // ----- health

    /// <summary>Null while the loop turns, for a watch or list lasts 210 s at most, and gets somewhere: a new process
    /// reads all configuration again. A refusal is healthy, for a new process would hear the same.</summary>
    public string? Unhealthy()
    {
        if (Reflectors.Exists(r => r.LastTurn != 0 && time.GetElapsedTime(r.LastTurn) > TimeSpan.FromMinutes(6)))
            return "a watch has stopped turning";
        return time.GetElapsedTime(lastAnswer) <= TimeSpan.FromMinutes(10) ? null
            : "for 10 minutes the API server has answered nothing but 401 or 5xx, if at all; the last answer: "
                + (lastCode == 0 ? "none" : lastCode);
    }

    /// <summary>Null while the caches are synced and the watches are fresh (W5).</summary>
    public string? Unready()
    {
        if (Reflectors.Count == 0) return "nothing is listed yet";
        if (Reflectors.Find(r => !r.Listed && !r.Absent) is { } missing) return $"{missing} are not listed yet";
        return Reflectors.Exists(r => !r.Absent && IsSilent(r)) ? "a watch is silent" : null;

        bool IsSilent(Reflector r) => time.GetElapsedTime(r.LastReceived) > TimeSpan.FromSeconds(210) || (!r.Connected
            && time.GetElapsedTime(r.Disconnected == 0 ? r.LastReceived : r.Disconnected) > TimeSpan.FromSeconds(15));
    }
}
