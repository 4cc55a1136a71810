// Between the operators and the API server: requests arrive, fail, or lose their answer; watches lag, break, repeat and
// skip; an API server, a quota or a webhook says no for a while.

using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

sealed partial class World
{
    long downUntil, quotaUntil, webhookUntil, overloadUntil, policyUntil, forbiddenFrom;
    TimeSpan? overloadRetry;

    readonly List<(bool Exit, long From, long Until)> spoiled = [];

    void EndWindows()
    {
        downUntil = quotaUntil = webhookUntil = overloadUntil = policyUntil = 0;
        foreach (ref var window in CollectionsMarshal.AsSpan(spoiled))
            window.Until = Math.Min(window.Until, Ticks);
    }

    /// <summary>From now on admission makes main or exit pods invalid. Whoever tries once a minute does not see shorter
    /// pauses.</summary>
    void SpoilPods(bool exit, double seconds)
    {
        var from = spoiled.Where(w => w.Exit == exit && w.Until >= Ticks - In(60)).Select(w => w.From).Append(Ticks).Min();
        spoiled.Add((exit, from, Ticks + In(seconds)));
    }

    /// <summary>How long it has done that, all in all.</summary>
    public TimeSpan SpoiledFor(bool exit) => new(spoiled.Where(w => w.Exit == exit).GroupBy(w => w.From)
        .Sum(same => Math.Min(same.Max(w => w.Until), Ticks) - same.Key));

    // ----- run defaults

    /// <summary>What the file holds; null: there is none.</summary>
    public string? Defaults { get; private set; }
    /// <summary>What it held when it was last good: no operator starts with another.</summary>
    public string GoodDefaults { get; private set; } = "";
    /// <summary>The fewest retries of an exit handler that it ever asked for.</summary>
    public long LeastRetries { get; private set; } = long.MaxValue;

    /// <summary>What exit pods have that were made with some: nothing, what is refused, what never starts.</summary>
    public const string WithDefaults = "defaults", Refused = "refused", Hanging = "hanging", Needed = "needed";
    /// <summary>For a while no exit pod was admitted without them.</summary>
    public bool DefaultsWereNeeded { get; private set; }

    void ChangeDefaults()
    {
        var retries = Random.Next(3);
        var kind = Random.Next(10) switch
        {
            0 => null,
            1 => "",
            < 4 => "fine",
            < 6 => Refused,
            < 8 => Hanging,
            _ => Needed,
        };
        DefaultsWereNeeded |= kind == Needed;
        Defaults = kind switch
        {
            null => "mainPodSpec: {labels: [}",
            "" => "",
            _ => $$"""
                activeDeadlineSeconds: {{Random.Next(5, 60)}}
                exitHandlerBackoffLimit: {{retries}}
                mainPodSpec: {labels: {team: blue} }
                exitHandlerSpec: {labels: {{{WithDefaults}}: {{kind}}} }
                """,
        };
        Note($"The run defaults are {kind ?? "bad"}, {retries} retries");
        if (kind is null) return;
        GoodDefaults = Defaults;
        if (kind.Length > 0) LeastRetries = Math.Min(LeastRetries, retries);
    }

    /// <summary>The operators that send these requests (counted from 1) die before or after their effect.</summary>
    public Queue<(int Request, bool Before)> Kills { get; } = [];
    /// <summary>All of these came to pass before all was over.</summary>
    public bool AllKilled { get; private set; }

    public void Sent(SimulatedOperator op, InFlight request)
    {
        request.Number = ++Requests;
        // A watch that told nothing at all is followed by a look at the version.
        if (!request.IsWatch && !request.Request.Path.EndsWith("limit=1", StringComparison.Ordinal)) Questions++;
        Note($"{op.Name} sends {Requests}: {request}");
        if (Kills.TryPeek(out var kill) && kill.Request == Requests)
        {
            Kills.Dequeue();
            (request.Kills, request.Fate) = (true, kill.Before ? Fate.Failed : Fate.AnswerLost);
            return;
        }
        request.Fate = Calm ? Fate.Served : Draw();
    }

    Fate Draw() => Random.NextDouble() >= plan.Faults.Rate ? Fate.Served
        : Random.Next(10) switch { < 5 => Fate.Failed, < 9 => Fate.AnswerLost, _ => Fate.Late };

    /// <summary>The request arrives at the API server.</summary>
    void Serve(InFlight request)
    {
        if (request.Kills)
        {
            if (request.Fate == Fate.AnswerLost) Handle(request);
            request.By.Requests.Remove(request);
            Kill(request.By, plan.Replaced ? 0 : null);
            return;
        }
        if (Ticks < downUntil)
        {
            request.Reply = new Reply(0, []) { Fault = "connection refused" };
            return;
        }
        if (request.Fate == Fate.Failed || Ticks < overloadUntil)
        {
            request.Reply = request.Fate == Fate.Failed ? Failure() : Busy(overloadRetry);
            return;
        }
        var reply = Handle(request);
        if (request.Fate == Fate.AnswerLost)
            (reply, request.Told) = (new Reply(0, []) { Fault = "connection reset by peer" }, []);
        if (request.IsWatch && request.Watcher is not null && request.Fate == Fate.Served) return;
        request.Watcher = null;
        request.Reply = reply;
        if (plan.Faults.Held > 0 && !Calm && !request.IsWatch && Random.NextDouble() < plan.Faults.Held)
            request.HeldUntil = Ticks + In(Random.NextDouble() * 9.5);
    }

    Reply Failure() => Random.Next(7) switch
    {
        0 => Busy(RetryAfter()),
        1 => Refusal(500, "InternalError", "etcdserver: leader changed"),
        2 => Refusal(503, "ServiceUnavailable", "apiserver is shutting down") with { RetryAfter = RetryAfter() },
        3 => Refusal(504, "Timeout", "request did not complete within requested timeout"),
        4 => Refusal(401, "Unauthorized", "Unauthorized"),
        5 => new Reply(404, "404 page not found"u8.ToArray()),
        _ => new Reply(0, []) { Fault = "connection refused" },
    };

    Reply Busy(TimeSpan? retryAfter) =>
        Refusal(429, "TooManyRequests", "too many requests, please try again later") with { RetryAfter = retryAfter };

    TimeSpan? RetryAfter() => !plan.Faults.RetryAfter ? null
        : TimeSpan.FromSeconds(Random.Next(4) switch { 0 => 0, 1 => 1, 2 => 30, _ => 86400 });

    Reply Refusal(int code, string? reason, string message, string details = "{}") =>
        new(code, Encoding.UTF8.GetBytes($$"""
            {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"{{message}}",
             "reason":"{{reason}}","details":{{details}},"code":{{code}} }
            """)) { Date = Date };

    DateTimeOffset Date => Now.AddTicks(-(Now.Ticks % TimeSpan.TicksPerSecond));

    /// <summary>RBAC's refusal: without a name where the request names none.</summary>
    Reply Forbidden(string resource, string[] names)
    {
        var of = names is [var name, ..] ? $" \\\"{name}\\\"" : "";
        return Refusal(403, "Forbidden", $"{resource}{of} is forbidden: User \\\"omjob-operator\\\" cannot do that to "
            + $"resource \\\"{resource}\\\" in the namespace \\\"{Namespace}\\\"",
            names is [var n, ..] ? $$"""{"name":"{{n}}","kind":"{{resource}}"}""" : $$"""{"kind":"{{resource}}"}""");
    }

    /// <summary>A webhook's refusal, whatever code it chose.</summary>
    Reply Denied() => Random.Next(3) switch
    {
        0 => Refusal(400, "BadRequest", "admission webhook \\\"deny.example\\\" denied the request: no"),
        1 => Refusal(422, "Invalid", "admission webhook \\\"deny.example\\\" denied the request: no",
            """{"kind":"Pod","causes":[{"reason":"x"}]}"""),
        _ => Refusal(500, "InternalError", "failed calling webhook \\\"deny.example\\\": refused"),
    };

    const string TooMuch = "spec.containers[0].resources.requests: Invalid value: \\\"2Gi\\\": "
        + "must be less than or equal to memory limit of 1Gi";

    static string NameIn(Request request) => Json.Parse(request.Body).Name();

    Reply Handle(InFlight request)
    {
        var sent = request.Request;
        if (Ticks >= forbiddenFrom && sent.Path.Split('?')[0].Split("/namespaces/") is [_, var rest]
            && rest.Split('/') is [Namespace, var resource, .. var names]) return Forbidden(resource, names);
        var (path, creates) = (sent.Path, sent.Method == HttpMethod.Post && sent.Path.Contains("/pods?"));
        if (creates && Ticks < quotaUntil)
            return Refusal(403, "Forbidden", "pods \\\"x\\\" is forbidden: exceeded quota: none, requested: pods=1",
                """{"name":"x","kind":"pods"}""");
        if (creates && spoiled.Exists(w => Ticks < w.Until && w.Exit != NameIn(sent).EndsWith("-main")))
            return Refusal(422, "Invalid", $"Pod \\\"{NameIn(sent)}\\\" is invalid: {TooMuch}",
                $$"""
                {"name":"{{NameIn(sent)}}","kind":"Pod","causes":[{"reason":"FieldValueInvalid",
                 "message":"{{TooMuch}}","field":"spec.containers[0].resources.requests"}]}
                """);
        var made = creates ? Json.Parse(sent.Body).Text("metadata", "labels", WithDefaults) : null;
        if (made == Refused || (creates && made is null && Defaults?.Contains($": {Needed}") is true
            && !NameIn(sent).EndsWith("-main")))
            return Refusal((Ticks / In(30) % 4) switch { 0 => 500, 1 => 403, _ => 422 }, null, "no", """
                {"name":"x","kind":"Pod","causes":[{"reason":"FieldValueInvalid","message":"no","field":"metadata"}]}
                """);
        creates |= sent.Method == HttpMethod.Post && sent.Path.Contains("/omjobs?");
        if (creates && Ticks < webhookUntil) return Denied();
        if (path.Contains("limit=")) path = Relist(path);
        if (request.IsWatch) path = Rewatch(path);
        Serving = request;
        var removes = sent.Method == HttpMethod.Delete || sent.MediaType == MediaTypes.StrategicMerge;
        if (removes && path.Contains("/pods/") && !ServingLate)
        {
            var body = Json.Parse(sent.Body);
            Oracle.SeeRemoval(body.Text("metadata", "uid") ?? body.Text("preconditions", "uid")!,
                sent.Method == HttpMethod.Patch);
        }
        var response = Store.Handle(ApiRequest.To(
            sent.Method.Method, path, Admit(sent), sent.MediaType, sent.Accept));
        Serving = null;
        request.Told = response.Items ?? [response.Body];
        if (response.Watch is { } watcher)
        {
            request.Watcher = watcher;
            request.Ends = Ticks + In(long.Parse(path[(path.LastIndexOf('=') + 1)..])); // timeoutSeconds comes last
            return new Reply(200, []);
        }
        return new Reply(response.Code, response.Bytes()) { Date = Date };
    }

    /// <summary>The body as a policy leaves it that takes the operator's labels from pods.</summary>
    byte[]? Admit(Request sent)
    {
        if (sent.Body is not { } body || !sent.Path.Contains("/pods") || sent.Method == HttpMethod.Delete
            || !(plan.Unlabelled || Ticks < policyUntil)) return sent.Body;
        var changed = (JsonObject)Json.Parse(body)!;
        var labels = changed.Child("metadata").Child("labels");
        foreach (var name in (string[])[LabelKeys.Job, LabelKeys.Name, LabelKeys.Type, LabelKeys.Uid])
            if (sent.Method == HttpMethod.Post) labels.Remove(name);
            else labels[name] = null;
        return changed.Bytes();
    }

    /// <summary>A list in small pages, or from the past.</summary>
    string Relist(string path)
    {
        if (Calm) return path;
        if (Random.NextDouble() < plan.Faults.Stale && !path.Contains("continue="))
            path += $"&resourceVersionMatch=Exact&resourceVersion={Past()}";
        return plan.Faults.SmallPages ? path.Replace("limit=10", "limit=1") : path;
    }

    long Past() => Math.Max(compacted, Store.Version - Random.Next(25) * Lines);

    /// <summary>A watch that begins earlier than asked: its first events are repeated.</summary>
    string Rewatch(string path)
    {
        if (Calm || Random.NextDouble() >= plan.Faults.Stale) return path;
        const string name = "resourceVersion=";
        var at = path.IndexOf(name, StringComparison.Ordinal) + name.Length;
        var end = path.IndexOf('&', at);
        var asked = long.Parse(path[at..end]);
        if (asked < compacted) return path;
        return $"{path[..at]}{Math.Max(compacted, asked - Random.Next(10) * Lines)}{path[end..]}";
    }

    void Answer(SimulatedOperator op, InFlight request)
    {
        if (request.HasArrived(Ticks))
        {
            op.Deliver(request, request.Reply!);
            return;
        }
        if (request.Watcher is not null)
        {
            // There has been a bookmark each minute; the last one says it all.
            if (request.Open && !HasNews(request)) op.Deliver(request, request.Watcher.Bookmark().Line());
            if (op.Requests.Contains(request)) op.Deliver(request, new Reply(200, []) { Date = Date });
            return;
        }
        // Given up: it may arrive all the same.
        request.Told = [];
        if (!request.IsWatch && request.Reply is null && request.Fate is Fate.Late or Fate.Served
            && Random.Next(2) == 0)
        {
            request.Fate = Fate.Served;
            After(Random.NextDouble() * 240, () => strays.Add(request));
        }
        op.Deliver(request, new Reply(0, []) { Fault = "no answer in time" });
    }

    readonly Dictionary<InFlight, ServedEvent> news = [];

    bool HasNews(InFlight watch)
    {
        if (news.ContainsKey(watch)) return true;
        if (watch.Watcher!.Next() is not { } next) return false;
        news[watch] = next;
        return true;
    }

    void Feed(SimulatedOperator op, InFlight watch)
    {
        if (!watch.Open)
        {
            watch.Open = true;
            op.Deliver(watch, (byte[])[]);
            return;
        }
        news.Remove(watch, out var next);
        op.Deliver(watch, next.Line(), next.Object);
    }

    /// <summary>Something happens to one of the watches.</summary>
    void DisturbWatch()
    {
        if (Random.NextDouble() >= plan.Faults.Rate) return;
        var op = operators[Random.Next(operators.Count)];
        if (op.Frozen || op.Requests.FindAll(r => r.Watcher is not null) is not { Count: > 0 } watches) return;
        var watch = watches[Random.Next(watches.Count)];
        switch (Random.Next(5))
        {
            case 0:
                Note($"{op.Name}: a watch is cut");
                op.Deliver(watch, new Reply(0, []) { Fault = "connection reset by peer" });
                break;
            case 1:
                Stall(watch);
                break;
            case 2:
                Note($"{op.Name}: a watch loses events and says so");
                while (HasNews(watch)) news.Remove(watch);
                op.Deliver(watch, Line("ERROR", Refusal(410, "Expired", "too old resource version")));
                break;
            case 3 when watch.Open && !HasNews(watch):
                op.Deliver(watch, watch.Watcher!.Bookmark().Line());
                break;
            default:
                Note("The API server forgets its history");
                Store.Compact();
                compacted = Store.Version;
                break;
        }
    }

    /// <summary>So many writes have never been, and thousands of others' that all watches have been told of: by the
    /// versions alone nobody could tell where fewer come back. Watches stay open and silent, or are cut.</summary>
    void Restore(long writes, bool cut)
    {
        const int others = 3333 * Lines;
        var watches = operators.SelectMany(op => op.Requests.Where(r => r is { Open: true, Watcher: not null })).ToList();
        if (operators.Exists(op => op.Frozen) || watches.Exists(HasNews)
            || watches.Count < operators.Count * 3 * plan.Namespaces.Length)
        {
            if (!Calm) After(5, () => { if (!Calm) Restore(writes, cut); });
            return;
        }
        Store.Skip(others);
        foreach (var watch in watches) watch.By.Deliver(watch, watch.Watcher!.Bookmark().Line());
        writes = writes * Lines + others;
        IEnumerable<JsonObject> All(string path) => Store.Handle(ApiRequest.To("GET", path)).Items!;
        JsonObject[] pods;
        do
        {
            Store.Rewind(Math.Max(compacted, Store.Version - writes));
            (pods, writes) = ([.. All("/api/v1/pods")], Lines);
        }
        while (Store.Version > compacted && pods.Any(HalfGone));
        Store.Skip(1);
        Note($"The database is restored at {Store.Version}");
        controllersIdle = false;
        Nodes.Restore(pods);
        foreach (var pod in Nodes.Pods.Where(p => p.Lost)) LoseNode(pod, 60); // its controllers begin anew
        Oracle.Restore(All("/apis/pipelines.openmetadata.org/v1/omjobs"), pods);
        if (!cut) return;
        foreach (var op in operators.Where(op => !op.Frozen))
            foreach (var watch in op.Requests.FindAll(r => r.Watcher is not null))
                op.Deliver(watch, new Reply(0, []) { Fault = "connection reset by peer" });

        // The two writes of a deletion at once are one in etcd.
        static bool HalfGone(JsonObject pod) =>
            pod.Long("metadata", "deletionGracePeriodSeconds") == 0 && pod.Finalizers().Count == 0;
    }

    void Stall(InFlight watch)
    {
        Note($"{watch.By.Name}: a watch is stalled");
        (watch.Watcher, watch.Fate) = (null, Fate.Late); // until its reader gives up
    }

    static byte[] Line(string type, Reply reply) =>
        Encoding.UTF8.GetBytes($"{{\"type\":\"{type}\",\"object\":{Encoding.UTF8.GetString(reply.Body)}}}"
            .ReplaceLineEndings(" "));
}
