// Events: what kubectl describe shows of an object.

namespace OMJobs;

/// <summary>Something worth telling of an object; Warning: somebody may have to act.</summary>
sealed record Event(string Action, string Message, bool Warning = false)
{
    public CachedObject? About { get; init; }
    public string Name { get; init; } = "";
    public int Count { get; init; }
    public DateTimeOffset First { get; init; }
    public DateTimeOffset Last { get; init; }

    /// <summary>This event as it is written; where the one before said the same, that one with another count.</summary>
    public Event Following(Event? before, int count, DateTimeOffset now, string name, CachedObject about) =>
        (before is not null && (before.Action, before.Message) == (Action, Message) ? before
            : this with { First = now, Name = name, About = about }) with
        { Count = count, Last = now };
}

/// <summary>Writes events, and never holds up whoever records them. Each namespace has a queue of its own, as long as
/// the room that is left: one where events are slow takes nobody else's.</summary>
sealed class EventRecorder(
    string reason, string component, Func<Request, CancellationToken, Task<Reply>> call, TimeProvider time, ILogger log)
{
    const int Most = 20_000; // events that wait, in all

    static readonly string Host = Environment.MachineName; // asks the system each time
    readonly WorkQueue namespaces = new(time);
    readonly Lock gate = new(); // guards all below
    readonly Dictionary<string, Queue<Event>> waiting = []; // by namespace
    int count; // of them, in all
    TaskCompletionSource? written; // completes when none waits

    public void Record(Event @event)
    {
        var about = @event.About!;
        lock (gate)
        {
            if (!waiting.TryGetValue(about.Namespace, out var mine)) waiting[about.Namespace] = mine = [];
            var room = mine.Count < Most - count;
            if (room) { mine.Enqueue(@event); count++; }
            else log.LogWarning("{Namespace}/{Name}: too many events, one was dropped", about.Namespace, about.Name);
        }
        namespaces.Add(new(about.Namespace, ""));
    }

    /// <summary>Writes until stopped, for so many namespaces at a time.</summary>
    public Task Run(int workers, CancellationToken stop)
    {
        namespaces.Workers = workers;
        return namespaces.Run(ns => WriteNext(ns, stop), stop);
    }

    async Task WriteNext(Key ns, CancellationToken stop)
    {
        Event? next;
        lock (gate) if (!waiting.TryGetValue(ns.Namespace, out var mine) || !mine.TryPeek(out next)) return;
        var (about, path) = (next.About!, $"/api/v1/namespaces/{ns.Namespace}/events");
        var again = new JsonObject { ["count"] = next.Count, ["lastTimestamp"] = Text.Time(next.Last) };
        var reply = next.Last == next.First ? null
            : await call(new(HttpMethod.Patch, $"{path}/{next.Name}", again.Bytes(), MediaTypes.Merge), stop);
        if (reply is null or { Outcome: Outcome.NotFound })
            reply = await call(new(HttpMethod.Post, path, Body(next, about)), stop);
        if (!reply.Ok && reply.Outcome is not (Outcome.Exists or Outcome.NamespaceGoing))
            log.LogWarning("{Namespace}/{Name}: no event {Action}: {Message}",
                about.Namespace, about.Name, next.Action, reply.Brief);
        lock (gate)
        {
            waiting[ns.Namespace].Dequeue();
            if (waiting[ns.Namespace].Count == 0) waiting.Remove(ns.Namespace);
            else namespaces.Add(ns);
            if (--count == 0) written?.TrySetResult();
        }
    }

    /// <summary>Completes when none waits.</summary>
    public Task AllWritten()
    {
        lock (gate) return count == 0 ? Task.CompletedTask : (written = new()).Task;
    }

    internal byte[] Body(Event e, CachedObject about) => new JsonObject
    {
        ["metadata"] = new JsonObject { ["name"] = e.Name, ["namespace"] = about.Namespace },
        ["involvedObject"] = new JsonObject
        {
            ["apiVersion"] = about.Key.Resource!.ApiVersion,
            ["kind"] = about.Key.Resource!.Kind,
            ["namespace"] = about.Namespace,
            ["name"] = about.Name,
            ["uid"] = about.Uid,
            ["resourceVersion"] = about.ResourceVersion,
        },
        ["reason"] = reason,
        ["action"] = e.Action,
        ["message"] = e.Message,
        ["type"] = e.Warning ? "Warning" : "Normal",
        ["count"] = e.Count,
        ["firstTimestamp"] = Text.Time(e.First),
        ["lastTimestamp"] = Text.Time(e.Last),
        ["source"] = new JsonObject { ["component"] = component },
        ["reportingComponent"] = component,
        ["reportingInstance"] = Host,
    }.Bytes();
}
