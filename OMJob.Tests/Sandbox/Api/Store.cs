// The API server's store and rules, in memory: one component without I/O. Time comes from a TimeProvider, UIDs and
// generated names from a Random, so that a history can be repeated from its seed. Requests go in and answers come out
// as values; a watch is a Watcher that is asked for the next event. Objects are never changed once they are stored: a
// write puts a new one in their place, so answers and events may share them.
//
// This file: objects, versions, history, reading. Writes.cs: create, update, patch, delete. Controllers.cs: what the
// controller manager does. Rights.cs: RBAC. Nothing schedules or runs a pod.

using System.Text;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

/// <summary>One write. Before is null for a creation, After for a deletion.</summary>
sealed record Change(long Version, ResourceType Type, string Key, JsonObject? Before, JsonObject? After)
{
    /// <summary>The object as a watch shows it; a deleted one carries the version of its deletion.</summary>
    public JsonObject Shown { get; } = After ?? Store.WithVersion(Before!, Version);
}

sealed partial class Store
{
    readonly TimeProvider time;
    readonly Random random;
    readonly int historyLimit;
    readonly Lock gate = new(); // guards all state; held for one request
    readonly Dictionary<(string Group, string Plural), List<ResourceType>> types = [];
    readonly Dictionary<string, SortedDictionary<string, JsonObject>> objects = []; // by Qualified, then by Key
    readonly List<Change> history = [];
    long dropped; // how many changes are no longer in history
    long version = 1; // resourceVersion of the last write
    long compacted = 1; // the oldest version from which a watch can start

    /// <summary>An empty cluster; of more than twice historyLimit changes the older half is forgotten.</summary>
    public Store(TimeProvider time, Random random, int historyLimit = 10_000)
    {
        (this.time, this.random, this.historyLimit) = (time, random, historyLimit);
        foreach (var type in ResourceType.BuiltIn()) AddType(type);
        foreach (var ns in (string[])["default", "kube-system", "kube-public", "kube-node-lease"])
            Handle(ApiRequest.To("POST", "/api/v1/namespaces",
                new JsonObject { ["metadata"] = new JsonObject { ["name"] = ns } }.Bytes()));
        RunControllers();
        Compact();
    }

    /// <summary>A store that begins with what another one holds, but for its history: making a template once and
    /// copying it is much faster than filling a store each time. Objects are shared, for they never change.</summary>
    public Store(Store template, TimeProvider time, Random random, int historyLimit = 10_000)
    {
        (this.time, this.random, this.historyLimit) = (time, random, historyLimit);
        lock (template.gate)
        {
            foreach (var (name, versions) in template.types) types[name] = [.. versions];
            foreach (var (name, all) in template.objects) objects[name] = new(all, StringComparer.Ordinal);
            foreach (var (uid, at) in template.byUid) byUid[uid] = at;
            foreach (var (uid, all) in template.dependents) dependents[uid] = [.. all];
            version = compacted = template.version;
        }
    }

    /// <summary>Called after each write, under the store's lock: whoever watches may look again.</summary>
    public event Action<Change>? Changed;

    readonly Dictionary<string, (string User, DateTimeOffset Expires)> tokens = []; // those of TokenRequests

    /// <summary>Whose token this is; null where it is nobody's any more.</summary>
    public string? UserOf(string token)
    {
        lock (gate) return tokens.TryGetValue(token, out var found) && found.Expires > Now ? found.User : null;
    }

    public long Version { get { lock (gate) return version; } }

    /// <summary>The API server's clock.</summary>
    public DateTimeOffset Now => time.GetUtcNow();
    JsonValue Stamp => JsonValue.Create(Json.Time(Now))!;

    /// <summary>Answers one request. Never throws for what a client can do wrong.</summary>
    public ApiResponse Handle(ApiRequest request)
    {
        lock (gate)
        {
            try { return Route(request); }
            catch (RefusedException e) { return e.Response; }
        }
    }

    /// <summary>Creates what a YAML text holds, CustomResourceDefinitions say. Throws where one is refused.</summary>
    public void Load(string yaml)
    {
        foreach (var document in Json.Yaml(yaml))
        {
            var at = document.Text("apiVersion")!;
            var type = TypeOfKind(at, document.Text("kind")!)!;
            var ns = document.Text("metadata", "namespace") ?? "default";
            var answer = Handle(new("POST", PathOf(type, ns)) { Body = document.Bytes() });
            if (!answer.Ok) throw new InvalidOperationException(answer.Body.Text("message"));
        }
    }

    /// <summary>Forgets the history: watches and pages from before now get 410.</summary>
    public void Compact()
    {
        lock (gate)
        {
            (dropped, compacted) = (dropped + history.Count, version);
            history.Clear();
        }
    }

    /// <summary>etcd is restored from a backup made at that version, which history must still reach: what came later
    /// has never been. No watch is told; each is silent until the versions have come past the last one that it has
    /// seen.</summary>
    public void Rewind(long to)
    {
        lock (gate)
        {
            while (history.Count > 0 && history[^1].Version > to)
            {
                var last = history[^1];
                history.RemoveAt(history.Count - 1);
                if (last.Before is null) objects[last.Type.Qualified].Remove(last.Key);
                else objects[last.Type.Qualified][last.Key] = last.Before;
                Note(new(last.Version, last.Type, last.Key, last.After, last.Before));
            }
            version = to;
        }
    }

    /// <summary>Somebody else writes so often.</summary>
    public void Skip(long writes) { lock (gate) version += writes; }

    static string PathOf(ResourceType type, string ns) =>
        (type.Group.Length == 0 ? "/api/" : "/apis/") + type.ApiVersion
            + (type.Namespaced ? $"/namespaces/{ns}" : "") + $"/{type.Plural}";

    // ----- types and objects

    internal IEnumerable<ResourceType> Types => types.Values.SelectMany(t => t);

    void AddType(ResourceType type)
    {
        if (!types.TryGetValue((type.Group, type.Plural), out var versions))
            types[(type.Group, type.Plural)] = versions = [];
        versions.RemoveAll(v => v.Version == type.Version);
        versions.Add(type);
        objects.TryAdd(type.Qualified, new(StringComparer.Ordinal));
    }

    ResourceType? TypeOf(string group, string version, string plural) =>
        types.GetValueOrDefault((group, plural))?.Find(t => t.Version == version);

    ResourceType? TypeOfKind(string apiVersion, string kind) =>
        Types.FirstOrDefault(t => t.ApiVersion == apiVersion && t.Kind == kind);

    ResourceType Definitions => TypeOf("apiextensions.k8s.io", "v1", ResourceType.CrdPlural)!;

    ResourceType Core(string plural) => TypeOf("", "v1", plural)!;

    JsonObject? Find(ResourceType type, string key) => objects[type.Qualified].GetValueOrDefault(key);

    JsonObject Get(ResourceType type, string ns, string name) =>
        Find(type, type.Key(ns, name)) ?? throw Refuse.NotFound(type, name);

    IEnumerable<KeyValuePair<string, JsonObject>> InNamespace(ResourceType type, string ns) => ns.Length == 0
        ? objects[type.Qualified]
        : objects[type.Qualified].Where(o => o.Key.Length > ns.Length && o.Key[ns.Length] == '/'
            && o.Key.StartsWith(ns, StringComparison.Ordinal));

    internal static JsonObject WithVersion(JsonObject o, long version)
    {
        var copy = o.Clone();
        ((JsonObject)copy["metadata"]!)["resourceVersion"] = $"{version}";
        return copy;
    }

    /// <summary>Makes a write happen: a new version, a place in history, a word to whoever listens.</summary>
    JsonObject? Commit(ResourceType type, string key, JsonObject? before, JsonObject? after)
    {
        version++;
        if (after is not null) ((JsonObject)after["metadata"]!)["resourceVersion"] = $"{version}";
        if (after is null) objects[type.Qualified].Remove(key);
        else objects[type.Qualified][key] = after;
        var change = new Change(version, type, key, before, after);
        history.Add(change);
        if (history.Count >= 2 * historyLimit)
        {
            compacted = history[historyLimit - 1].Version;
            history.RemoveRange(0, historyLimit);
            dropped += historyLimit;
        }
        if (type.Plural == ResourceType.CrdPlural) Define(before, after);
        Note(change);
        Changed?.Invoke(change);
        return after;
    }

    // ----- reading

    const int MostBytes = 3 * 1024 * 1024, MostStored = 3 * 512 * 1024;

    sealed record Target(ResourceType Type, string Namespace, string Name, string Subresource)
    {
        public string Key => Type.Key(Namespace, Name);
    }

    ApiResponse Route(ApiRequest request)
    {
        if (Discovery.Answer(this, request) is { } answer) return answer;
        if (request.Body.Length > MostBytes)
            throw Refuse.With(413, "RequestEntityTooLarge", $"Request entity too large: limit is {MostBytes}", null);
        if (request.Body.Length > MostStored) throw Refuse.Internal("etcdserver: request is too large");
        if (Parse(request.Path) is not { } target)
            return request.Path.Split('/') is ["", "apis", var group, ..]
                && !Types.Any(t => t.Group == group && !t.IsCustom)
                ? new(404, []) { PlainText = "404 page not found" } : throw Refuse.NoRoute();
        var (type, name, sub) = (target.Type, target.Name, target.Subresource);
        if (type.Namespaced && target.Namespace.Length == 0 && name.Length > 0) throw Refuse.NoRoute();
        Authorize(request, target);
        if (sub.Length > 0) return Subresource(target, request);
        var everywhere = type.Namespaced && target.Namespace.Length == 0;
        return (request.Method, name.Length > 0) switch
        {
            ("GET", true) when request.Flag("watch") => Watch(target, request),
            ("GET", true) => Shown(request, type, new(200, Get(type, target.Namespace, name))),
            ("GET", false) when request.Flag("watch") => Watch(target, request),
            ("GET", false) => List(target, request),
            ("POST", false) when !everywhere => Shown(request, type, Create(target, request)),
            ("PUT", true) => Shown(request, type, Put(target, request)),
            ("PATCH", true) => Shown(request, type, PatchOne(target, request)),
            ("DELETE", true) => Shown(request, type, DeleteOne(target, request)),
            ("DELETE", false) when type.DeleteCollection && !everywhere => DeleteAll(target, request),
            _ => throw Refuse.Method(),
        };
    }

    Target? Parse(string path)
    {
        var steps = path.Trim('/').Split('/');
        var (group, rest) = steps switch
        {
            ["api", "v1", ..] => ("", steps[2..]),
            ["apis", var g, _, ..] => (g, steps[3..]),
            _ => ("", []),
        };
        var at = steps.Length > 2 ? steps[group.Length == 0 ? 1 : 2] : "";
        var ns = "";
        // A namespace's own subresources look like a collection in it.
        if (rest is ["namespaces", _, _, ..] && !(group == "" && rest is [_, _, "status" or "finalize"]))
            (ns, rest) = (rest[1], rest[2..]);
        if (rest.Length is 0 or > 3 || TypeOf(group, at, rest[0]) is not { } type) return null;
        if (ns.Length > 0 && !type.Namespaced) return null;
        return new(type, ns, rest.ElementAtOrDefault(1) ?? "", rest.ElementAtOrDefault(2) ?? "");
    }

    /// <summary>The answer in the form that was asked for: as it is, as a Table, or metadata only.</summary>
    ApiResponse Shown(ApiRequest request, ResourceType type, ApiResponse response) =>
        !response.Ok || response.Body.Text("kind") == "Status" ? response : Tables.Show(request, type, response, Now);

    ApiResponse List(Target target, ApiRequest request)
    {
        var type = target.Type;
        var selector = Selector.Parse(request.Param("labelSelector"), request.Param("fieldSelector"), type);
        var (limit, at, after) = Page(request);
        IEnumerable<KeyValuePair<string, JsonObject>> all =
            at == 0 ? InNamespace(type, target.Namespace) : Past(type, target.Namespace, at);
        IEnumerable<KeyValuePair<string, JsonObject>> Beyond(string key) =>
            all.Where(o => string.CompareOrdinal(o.Key, key) > 0);
        var found = Beyond(after).Where(o => selector.Matches(o.Value));
        var items = (limit > 0 ? found.Take(limit) : found).ToList();
        var meta = new JsonObject { ["resourceVersion"] = $"{(at == 0 ? version : at)}" };
        if (type.IsCustom) meta["continue"] = "";
        // That what is left does not match is only seen when it is asked for.
        if (limit > 0 && items.Count == limit && Beyond(items[^1].Key).Count() is var left and > 0)
        {
            meta["continue"] = Token(at == 0 ? version : at, items[^1].Key);
            if (selector.IsEmpty) meta["remainingItemCount"] = (long)left;
        }
        var body = new JsonObject
        {
            ["kind"] = type.ListKind, ["apiVersion"] = type.ApiVersion, ["metadata"] = meta,
        };
        return Shown(request, type,
            new(200, body) { Items = [.. items.Select(i => i.Value)], BareItems = !type.IsCustom });
    }

    /// <summary>How many to list, at which version (0: now), after which key.</summary>
    (int Limit, long At, string After) Page(ApiRequest request)
    {
        var limit = 0;
        if (request.Param("limit") is { Length: > 0 } text && !int.TryParse(text, out limit))
            throw Refuse.BadRequest($"strconv.ParseInt: parsing {Cause.Quote(text)}: invalid syntax");
        var from = request.Param("resourceVersion");
        if (request.Param("continue") is { Length: > 0 } token)
        {
            if (from is not ("" or "0"))
                throw Refuse.BadRequest("specifying resource version is not allowed when using continue");
            var (at, after) = ReadToken(token);
            if (at < compacted)
                throw Refuse.Expired("The provided continue parameter is too old to display a consistent list " +
                    "result. You can start a new list without the continue parameter.");
            return (limit, at, after);
        }
        if (from.Length == 0) return (limit, 0, "");
        var asked = ReadVersion(from, why => Refuse.BadRequest($"invalid resource version: {why}"));
        if (asked > version)
            throw Refuse.With(504, "Timeout", $"Timeout: Too large resource version: {asked}, current: {version}",
                Json.Object("""
                    {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                     "retryAfterSeconds": 1}
                    """));
        if (request.Param("resourceVersionMatch") != "Exact") return (limit, 0, "");
        if (asked < compacted)
            throw Refuse.Expired("The resourceVersion for the provided list is too old.");
        return (limit, asked, "");
    }

    static long ReadVersion(string text, Func<string, RefusedException> refuse) => long.TryParse(text, out var at) ? at
        : throw refuse($"resourceVersion: Invalid value: {Cause.Quote(text)}: {NoNumber(text)}");

    static string Token(long at, string key) => Convert.ToBase64String(new JsonObject
    {
        ["v"] = "meta.k8s.io/v1", ["rv"] = at, ["start"] = key + "\0",
    }.Bytes()).TrimEnd('=').Replace('+', '-').Replace('/', '_');

    static (long At, string After) ReadToken(string token)
    {
        try
        {
            var base64 = token.Replace('-', '+').Replace('_', '/').PadRight((token.Length + 3) / 4 * 4, '=');
            var json = Json.Parse(Convert.FromBase64String(base64));
            if (json.Long("rv") is { } at && json.Text("start") is { } start) return (at, start.TrimEnd('\0'));
        }
        catch (Exception e) when (e is FormatException or System.Text.Json.JsonException) { }
        throw Refuse.BadRequest("invalid continue token: continue key is not valid: " +
            "it was not made here");
    }

    /// <summary>The objects as they were at a version: what came later is undone.</summary>
    SortedDictionary<string, JsonObject> Past(ResourceType type, string ns, long at)
    {
        var past = new SortedDictionary<string, JsonObject>(
            new Dictionary<string, JsonObject>(InNamespace(type, ns)), StringComparer.Ordinal);
        for (var i = history.Count - 1; i >= 0 && history[i].Version > at; i--)
        {
            var change = history[i];
            if (change.Type.Qualified != type.Qualified) continue;
            if (ns.Length > 0 && !change.Key.StartsWith(ns + "/", StringComparison.Ordinal)) continue;
            if (change.Before is null) past.Remove(change.Key);
            else past[change.Key] = change.Before;
        }
        return past;
    }

    // ----- watching

    ApiResponse Watch(Target target, ApiRequest request)
    {
        var (type, fields) = (target.Type, request.Param("fieldSelector"));
        if (target.Name.Length > 0) fields = $"metadata.name={target.Name}";
        var selector = Selector.Parse(request.Param("labelSelector"), fields, type);
        var from = request.Param("resourceVersion");
        var at = from.Length == 0 ? 0 : ReadVersion(from, Refuse.Internal);
        // Without a version it begins with what there is.
        var first = at == 0 ? InNamespace(type, target.Namespace).Select(o => o.Value).Where(selector.Matches) : [];
        var watcher = new Watcher(this, type, target.Namespace, selector, first, at == 0 ? version : at)
        {
            Bookmarks = request.Flag("allowWatchBookmarks"),
            Show = o => Tables.Show(request, type, new(200, o), Now).Body,
        };
        return new(200, []) { Watch = watcher };
    }

    /// <summary>The change at a place in all of history; null at its end, Expired where it is forgotten.</summary>
    internal (Change? Change, bool Expired) ChangeAt(ref long place, long after)
    {
        lock (gate)
        {
            if (place < 0) // not placed yet
            {
                if (after < compacted) return (null, true);
                var at = history.Count;
                while (at > 0 && history[at - 1].Version > after) at--;
                place = dropped + at + Math.Max(0, after - version); // of the future: nothing until then
            }
            if (place < dropped) return (null, true);
            return place - dropped < history.Count ? (history[(int)(place - dropped)], false) : (null, false);
        }
    }
}

/// <summary>One event of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.</summary>
readonly record struct ServedEvent(string Type, JsonObject Object)
{
    /// <summary>The line that goes over the wire.</summary>
    public byte[] Line() => Encoding.UTF8.GetBytes(
        $"{{\"type\":\"{Type}\",\"object\":{Encoding.UTF8.GetString(Object.Bytes())}}}\n");
}

/// <summary>A watch: a place in history that moves on with each event that is taken, by one taker.</summary>
sealed class Watcher(
    Store store, ResourceType type, string ns, Selector selector, IEnumerable<JsonObject> first, long from)
{
    readonly Queue<JsonObject> initial = new(first);
    long place = -1;
    long seen = from;

    public bool Bookmarks { get; init; }
    /// <summary>The form in which objects were asked for.</summary>
    public Func<JsonObject, JsonObject> Show { get; init; } = o => o;
    /// <summary>No event comes any more: the last one was an error.</summary>
    public bool Ended { get; private set; }

    /// <summary>The next event; null where there is none yet.</summary>
    public ServedEvent? Next()
    {
        if (initial.TryDequeue(out var there)) return Event("ADDED", there);
        while (!Ended)
        {
            var (change, expired) = store.ChangeAt(ref place, seen);
            if (expired)
            {
                Ended = true;
                return new("ERROR",
                    Refuse.Expired($"too old resource version: {seen} ({store.Version})").Response.Body);
            }
            if (change is null) return null;
            place++;
            seen = change.Version;
            if (See(change) is { } shown) return shown;
        }
        return null;
    }

    ServedEvent? See(Change change)
    {
        if (change.Type.Qualified != type.Qualified) return null;
        if (ns.Length > 0 && !change.Key.StartsWith(ns + "/", StringComparison.Ordinal)) return null;
        var before = change.Before is not null && selector.Matches(change.Before);
        var after = change.After is not null && selector.Matches(change.After);
        return (before, after) switch
        {
            (false, true) => Event("ADDED", change.Shown),
            (true, true) => Event("MODIFIED", change.Shown),
            // It may still be there and only be selected no more: then the last selected state is shown.
            (true, false) => Event("DELETED",
                change.After is null ? change.Shown : Store.WithVersion(change.Before!, change.Version)),
            _ => null,
        };
    }

    /// <summary>Tells how far the watch has come, for a client that would go on from there.</summary>
    public ServedEvent Bookmark()
    {
        if (!Ended && store.ChangeAt(ref place, seen) is (null, false)) seen = Math.Max(seen, store.Version);
        return Event("BOOKMARK", new JsonObject
        {
            ["kind"] = type.Kind,
            ["apiVersion"] = type.ApiVersion,
            ["metadata"] = new JsonObject { ["resourceVersion"] = $"{seen}" },
        });
    }

    ServedEvent Event(string what, JsonObject o) => new(what, Show(o));
}
