// One operator on the test's own thread, with the sandbox's store as its API server: whatever it asks is answered at
// once, whatever it waits for comes when its clock is moved. Nothing happens at the same time as anything else.

using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;
using OMJobs.Tests.Simulation;

sealed class Stage : ILogger
{
    const string Group = "/apis/pipelines.openmetadata.org/v1";
    static readonly Store Template = NewTemplate();

    readonly Continuations continuations = new();
    readonly VirtualTime time = new();
    readonly Store store;
    readonly List<(Request Request, TaskCompletionSource<Reply> Ended, Watcher Watcher, bool Open)> watches = [];
    readonly Deadlines clocks;
    Operator? op;

    public Stage(Deadlines? clocks = null)
    {
        this.clocks = clocks ?? Moment.Clocks;
        store = new(Template, time, new Random(1));
    }

    static Store NewTemplate()
    {
        var store = new Store(TimeProvider.System, new Random(1));
        store.Load(File.ReadAllText(Repository.File("crd.yaml")));
        store.Load("{apiVersion: v1, kind: Namespace, metadata: {name: data}}");
        store.Load("{apiVersion: v1, kind: ServiceAccount, metadata: {name: ingestion, namespace: data}}");
        store.RunControllers();
        return store;
    }

    /// <summary>The answer to a request, before the store's; null: the store's.</summary>
    public Func<Request, Reply?> Fault { get; set; } = _ => null;
    /// <summary>What it has sent, and when (seconds), but watches.</summary>
    public List<(string What, double At, Request Request)> Sent { get; } = [];
    public List<string> Logged { get; } = [];
    /// <summary>What the file of the run defaults holds; null before the start: there is none; later: it is gone.</summary>
    public string? RunDefaults { get; set; }
    public Store Store => store;
    public double Seconds => (time.GetUtcNow() - Moment.Now).TotalSeconds;

    /// <summary>An operator, which takes the place of the one before.</summary>
    Operator NewOperator()
    {
        Operator? me = null;
        return op = me = new Operator((request, stopped) =>
            op == me ? Send(request, stopped) : new TaskCompletionSource<Reply>().Task, clocks, time, this, new Random(1));
    }

    /// <summary>Kills the operator, and runs `release`; returns its exit code, once there is one.</summary>
    public Task<int> Release(double quiet)
    {
        watches.Clear();
        Task<int>? code = null;
        continuations.Enter(() => code = NewOperator().Release([""], TimeSpan.FromSeconds(quiet), CancellationToken.None));
        Run(0);
        return code!;
    }

    public void Start()
    {
        NewOperator();
        var settings = new Settings
        {
            Namespaces = [""],
            Deadlines = clocks,
            Workers = 2,
            RunDefaults = RunDefaults is null ? null
                : new("defaults.yaml", () => RunDefaults ?? throw new FileNotFoundException("it is gone")),
        };
        continuations.Enter(() => _ = op!.Run(settings, CancellationToken.None));
        Run(0);
    }

    /// <summary>Kills the process: whatever it asks is never answered. Another one starts.</summary>
    public void Restart()
    {
        watches.Clear();
        Start();
    }

    /// <summary>The names of the objects that the operator holds.</summary>
    public string[] Held => [.. op!.CachedKeys.Select(key => key.Name).Order(StringComparer.Ordinal)];

    /// <summary>When requests like that were sent, seconds from the start.</summary>
    public double[] At(string what) => [.. Sent.Where(s => s.What.StartsWith(what, StringComparison.Ordinal))
        .Select(s => Math.Round(s.At, 3))];

    /// <summary>Lets all happen that happens within so many seconds.</summary>
    public void Run(double seconds)
    {
        for (var until = Seconds + seconds; ;)
        {
            Settle();
            if (time.UntilNext is not { } next || Seconds + next > until)
            {
                time.Advance(until - Seconds);
                Settle();
                return;
            }
            time.Advance(next);
        }
    }

    void Settle()
    {
        do
        {
            for (var turns = 0; continuations.Count > 0; turns++)
            {
                if (turns > 100_000) Assert.Fail($"it does not come to rest: {string.Join(", ", Logged.TakeLast(5))}");
                continuations.RunOne();
            }
            store.RunControllers();
        }
        while (Tell());
    }

    // ----- the API server

    Task<Reply> Send(Request request, CancellationToken stop)
    {
        var what = $"{request.Method} {request.Path}".Replace(Group, "", StringComparison.Ordinal);
        var ended = new TaskCompletionSource<Reply>();
        if (request.OnLine is null) Sent.Add((what, Seconds, request));
        // The answer comes once whoever asks is done with asking.
        continuations.Post(_ => Answer(request, ended), null);
        if (request.OnLine is not null)
            stop.Register(() => continuations.Post(_ =>
            {
                watches.RemoveAll(w => w.Ended == ended);
                ended.TrySetCanceled(stop);
            }, null));
        return ended.Task;
    }

    void Answer(Request request, TaskCompletionSource<Reply> ended)
    {
        if (Fault(request) is { } fault) { ended.TrySetResult(fault); return; }
        var response = store.Handle(ApiRequest.To(
            request.Method.Method, request.Path, request.Body, request.MediaType, request.Accept));
        if (response.Watch is { } watcher) watches.Add((request, ended, watcher, false));
        else ended.TrySetResult(new(response.Code, response.Bytes()) { Date = store.Now });
    }

    /// <summary>Tells the watches what is new; true where there was anything.</summary>
    bool Tell()
    {
        foreach (var watch in watches.ToArray())
        {
            byte[]? line = !watch.Open ? [] : watch.Watcher.Next()?.Line();
            if (line is null) continue;
            watches[watches.FindIndex(w => w.Ended == watch.Ended)] = watch with { Open = true };
            Reply? over = null;
            continuations.Enter(() => over = watch.Request.OnLine!(line.AsMemory().TrimEnd((byte)'\n')));
            if (over is not null) End(watch.Ended, over);
            return true;
        }
        return false;
    }

    void End(TaskCompletionSource<Reply> ended, Reply reply)
    {
        watches.RemoveAll(w => w.Ended == ended);
        continuations.Enter(() => ended.TrySetResult(reply));
    }

    /// <summary>All streams end, as they do after some minutes.</summary>
    public void EndWatches()
    {
        foreach (var watch in watches.ToArray()) End(watch.Ended, new(200, []));
        Run(0);
    }

    // ----- users and kubelet

    public ApiResponse Ask(string method, string path, JsonObject? body = null) => store.Handle(ApiRequest.To(
        method, path, body is null ? default : body.Bytes(), method == "PATCH" ? MediaTypes.Merge : null));

    public void Create(AnOMJob job)
    {
        var body = Json.Object(job.Json);
        foreach (var field in (string[])["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"])
            ((JsonObject)body["metadata"]!).Remove(field);
        var created = Ask("POST", Group + "/namespaces/data/omjobs", body);
        Assert.True(created.Ok, created.Body.Text("message"));
        if (body["status"] is JsonObject { Count: > 0 } status) PatchJob(status, body.Name());
    }

    public void PatchJob(JsonObject status, string name = "run") => Assert.True(Ask("PATCH",
        $"{Group}/namespaces/data/omjobs/{name}/status", new JsonObject { ["status"] = status.DeepClone() }).Ok);

    public void DeleteJob() => Assert.True(Ask("DELETE", Group + "/namespaces/data/omjobs/run").Ok);

    /// <summary>The OMJob `run`; null: it is gone.</summary>
    public JsonObject? Job =>
        Ask("GET", Group + "/namespaces/data/omjobs/run") is { Ok: true, Body: var job } ? job : null;
    public string Message => Job.Text("status", "message") ?? "";
    public string Phase => Job.Text("status", "phase") ?? "";

    public JsonObject? Pod(string name) =>
        Ask("GET", "/api/v1/namespaces/data/pods/" + name) is { Ok: true, Body: var pod } ? pod : null;

    public string[] Events => [.. Ask("GET", "/api/v1/namespaces/data/events").Items!
        .Select(e => $"{e.Text("type")} {e.Text("action")}: {e.Text("message")}")];

    /// <summary>The pod's container main runs, or has exited.</summary>
    public void Say(string pod, int? exited, DateTimeOffset? at = null)
    {
        var path = "/api/v1/namespaces/data/pods/" + pod;
        Ask("POST", path + "/binding", Json.Object($$"""
            {"metadata":{"name":"{{pod}}"},"target":{"kind":"Node","name":"node"} }
            """));
        var state = exited is { } code
            ? $$"""{"terminated":{"exitCode":{{code}},"finishedAt":"{{Json.Time(at ?? store.Now)}}"} }"""
            : """{"running":{}}""";
        Assert.True(Ask("PATCH", path + "/status", Json.Object($$"""
            {"status":{"phase":"{{(exited is null ? "Running" : exited == 0 ? "Succeeded" : "Failed")}}",
             "containerStatuses":[{"name":"main","state":{{state}} }]} }
            """)).Ok);
    }

    /// <summary>The main pod ends with that code, then its handler well; two seconds.</summary>
    public void End(int main)
    {
        Say("run-main", main);
        Run(1);
        Say("run-exit", 0);
        Run(1);
    }

    public static Reply Refusal(int code, string reason, string message, string details = "{}") =>
        new(code, Encoding.UTF8.GetBytes($$"""
            {"kind":"Status","status":"Failure","message":"{{message}}","reason":"{{reason}}","details":{{details}} }
            """));

    public static bool IsCreation(Request request, string pod = "") =>
        request.Method == HttpMethod.Post && request.Path.Contains("/pods?", StringComparison.Ordinal)
        && Json.Parse(request.Body).Name().EndsWith(pod, StringComparison.Ordinal);

    public void Log<T>(LogLevel level, EventId id, T state, Exception? e, Func<T, Exception?, string> format) =>
        Logged.Add($"{level} {format(state, e)}");

    public bool IsEnabled(LogLevel level) => true;
    public IDisposable? BeginScope<T>(T state) where T : notnull => null;
}
