// The operator as it runs in earnest: eight workers on many threads and the machine's own clock. What one thread cannot
// show, a race for the cache or the queue, ends in an exception or in an OMJob that never ends.

using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Xunit;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

/// <summary>A store that answers from many threads, with controllers and a kubelet that never rest.</summary>
sealed class BusyCluster : IDisposable
{
    sealed class ServerTime : TimeProvider
    {
        public TimeSpan Ahead { get; set; }
        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + Ahead;
    }

    readonly ServerTime time = new();
    readonly Store store;
    readonly CancellationTokenSource stop = new();
    readonly ConcurrentDictionary<Channel<bool>, bool> listeners = []; // one for each watch, and the controllers' own
    readonly Channel<string> pods = Channel.CreateUnbounded<string>(); // paths of those that changed

    public BusyCluster(params string[] namespaces)
    {
        store = new Store(time, new Random(1));
        store.Load(File.ReadAllText(Repository.File("crd.yaml")));
        foreach (var ns in namespaces) store.Load($"{{apiVersion: v1, kind: Namespace, metadata: {{name: {ns}}}}}");
        store.Changed += change =>
        {
            foreach (var listener in listeners.Keys) listener.Writer.TryWrite(true);
            if (change is { Type.Plural: "pods", After: not null })
                pods.Writer.TryWrite($"/api/v1/namespaces/{change.Key.Replace("/", "/pods/")}");
        };
        Loops = Task.WhenAll([Control(), .. Enumerable.Range(0, 3).Select(_ => RunPods())]);
    }

    /// <summary>They end by a bug, or when all is over.</summary>
    public Task Loops { get; }

    /// <summary>The next minute comes at once.</summary>
    public void SkipMinute() => time.Ahead += TimeSpan.FromMinutes(1);

    public ApiResponse Ask(string method, string path, JsonObject? body = null) => store.Handle(ApiRequest.To(
        method, path, body is null ? default : body.Bytes(), method == "PATCH" ? MediaTypes.Merge : null));

    // ----- the API server

    public async Task<Reply> Send(Request request, CancellationToken stopped)
    {
        await Pause(2);
        stopped.ThrowIfCancellationRequested();
        var response = store.Handle(ApiRequest.To(
            request.Method.Method, request.Path, request.Body, request.MediaType, request.Accept));
        if (response.Watch is { } watcher) return await Tell(watcher, request.OnLine!, stopped);
        await Pause(2);
        return new(response.Code, response.Bytes()) { Date = store.Now };
    }

    /// <summary>Tells what comes until the connection breaks, which is soon.</summary>
    async Task<Reply> Tell(Watcher watcher, Func<ReadOnlyMemory<byte>, Reply?> take, CancellationToken stopped)
    {
        var news = Listen();
        try
        {
            if (take(default) is { } refused) return refused;
            for (var left = Random.Shared.Next(20, 400); left > 0; await news.Reader.ReadAsync(stopped))
                while (left-- > 0 && watcher.Next() is { } next)
                    if (take(next.Line().AsMemory().TrimEnd((byte)'\n')) is { } ended) return ended;
            return new(0, []) { Fault = "connection reset by peer" };
        }
        finally { listeners.Remove(news, out _); }
    }

    /// <summary>Hears that something has changed.</summary>
    Channel<bool> Listen()
    {
        var news = Channel.CreateBounded<bool>(1); // a second word would say no more than the first
        listeners[news] = true;
        return news;
    }

    /// <summary>Another thread goes on, at once or within so many milliseconds.</summary>
    static async Task Pause(int most)
    {
        if (Random.Shared.Next(most + 1) is > 0 and var some) await Task.Delay(some);
        else await Task.Yield();
    }

    // ----- controllers and kubelet

    async Task Control()
    {
        var news = Listen();
        do
            while (store.RunController()) { }
        while (await Next(news.Reader));
    }

    async Task<bool> Next<T>(ChannelReader<T> reader)
    {
        try { return await reader.WaitToReadAsync(stop.Token) && (typeof(T) != typeof(bool) || reader.TryRead(out _)); }
        catch (OperationCanceledException) { return false; }
    }

    async Task RunPods()
    {
        while (await Next(pods.Reader))
        {
            if (!pods.Reader.TryRead(out var path)) continue;
            await Pause(3);
            if (Ask("GET", path) is { Ok: true, Body: var pod }) Act(path, pod);
        }
    }

    /// <summary>The next thing in a pod's life, which ends quickly.</summary>
    void Act(string path, JsonObject pod)
    {
        var (deleting, over) = (pod.At("metadata", "deletionTimestamp") is not null, pod.Text("status", "phase"));
        if (pod.Text("spec", "nodeName") is null)
        {
            if (!deleting) Ask("POST", path + "/binding", Json.Object($$"""
                {"metadata": {"name": "{{pod.Name()}}"}, "target": {"kind": "Node", "name": "node"} }
                """));
        }
        else if (over == "Pending" && !deleting) Say(path, "Running", Json.Object("""{"running": {}}"""));
        else if (over is "Pending" or "Running")
        {
            // Few handlers fail: ten seconds pass before each is tried again.
            var code = deleting ? 143 : Random.Shared.Next(path.EndsWith("-main") ? 5 : 100) == 0 ? 1 : 0;
            Say(path, code == 0 ? "Succeeded" : "Failed", new JsonObject
            {
                ["terminated"] = new JsonObject { ["exitCode"] = code, ["finishedAt"] = Json.Time(store.Now) },
            });
        }
        else if (deleting && pod.Long("metadata", "deletionGracePeriodSeconds") > 0)
            Ask("DELETE", path, new JsonObject { ["gracePeriodSeconds"] = 0 });
    }

    void Say(string path, string phase, JsonObject main) => Ask("PATCH", path + "/status", new JsonObject
    {
        ["status"] = new JsonObject
        {
            ["phase"] = phase,
            ["containerStatuses"] = new JsonArray(new JsonObject { ["name"] = "main", ["state"] = main }),
        },
    });

    public void Dispose()
    {
        stop.Cancel();
        stop.Dispose();
    }
}

/// <summary>The operator's log: an error is a bug.</summary>
sealed class ErrorLog : ILogger
{
    public ConcurrentQueue<string> Errors { get; } = [];

    public void Log<T>(LogLevel level, EventId id, T state, Exception? e, Func<T, Exception?, string> format)
    {
        if (level >= LogLevel.Error) Errors.Enqueue(format(state, e));
    }

    public bool IsEnabled(LogLevel level) => level >= LogLevel.Error;
    public IDisposable? BeginScope<T>(T state) where T : notnull => null;
}

public sealed class StressTests
{
    const int Users = 12;
    static readonly int JobsEach = Tier.IsFull ? 30 : 6;
    static readonly string[] Namespaces = ["one", "two", "three"];

    static string In(string ns, string resource) => $"/apis/pipelines.openmetadata.org/v1/namespaces/{ns}/{resource}";

    [Fact]
    public async Task G11_D2_H9_every_OMJob_ends_whatever_threads_meet()
    {
        using var cluster = new BusyCluster(Namespaces);
        using var stop = new CancellationTokenSource();
        var log = new ErrorLog();
        var clocks = new Deadlines(TimeSpan.FromHours(1), TimeSpan.FromHours(1), TimeSpan.FromHours(1), 3);
        var op = new Operator(cluster.Send, clocks, TimeProvider.System, log);
        var settings = new Settings { Namespaces = Namespaces, Deadlines = clocks, Workers = 8 };
        var running = Task.Run(() => op.Run(settings, stop.Token), CancellationToken.None);
        foreach (var ns in Namespaces) Assert.True(cluster.Ask("POST", In(ns, "cronomjobs"), Schedule()).Ok);
        await Task.WhenAll(Enumerable.Range(0, Users).Select(user => Task.Run(() => Use(cluster, user))));
        await Until(() => Unended(cluster).Length == 0, () => $"not ended: {string.Join(", ", Unended(cluster))}");
        foreach (var resource in (string[])["cronomjobs", "omjobs"])
            foreach (var ns in Namespaces) cluster.Ask("DELETE", In(ns, resource));
        await Until(() => Left(cluster).Length == 0, () => $"still there: {string.Join(", ", Left(cluster))}");
        stop.Cancel();
        Assert.Equal(0, await running);
        Assert.True(log.Errors.IsEmpty, string.Join('\n', log.Errors));

        async Task Until(Func<bool> done, Func<string> what)
        {
            var started = TimeProvider.System.GetTimestamp();
            while (!done())
            {
                Assert.True(log.Errors.IsEmpty, string.Join('\n', log.Errors));
                Assert.False(running.IsCompleted || cluster.Loops.IsCompleted, "something has ended");
                Assert.True(TimeProvider.System.GetElapsedTime(started) < TimeSpan.FromMinutes(2), what());
                await Task.Delay(50);
            }
        }
    }

    /// <summary>Creates OMJobs; deletes some of them at any time, and takes their names again.</summary>
    static async Task Use(BusyCluster cluster, int user)
    {
        var random = new Random(user);
        for (var i = 0; i < JobsEach; i++)
        {
            var ns = Namespaces[random.Next(3)];
            var job = Plan.Job($"job-{user}-{i}", spec =>
            {
                spec["exitHandlerBackoffLimit"] = 1;
                if (random.Next(4) == 0) spec.Remove("exitHandlerSpec");
            });
            Assert.True(cluster.Ask("POST", In(ns, "omjobs"), job.Body).Ok);
            if (user == 0 && i % 5 == 0) cluster.SkipMinute();
            await Task.Delay(random.Next(20));
            if (random.Next(3) > 0) continue;
            var path = $"{In(ns, "omjobs")}/{job.Name}";
            var how = random.Next(3) switch { 0 => "Foreground", 1 => "Orphan", _ => "Background" };
            cluster.Ask("DELETE", path, new JsonObject { ["propagationPolicy"] = how });
            for (var n = 0; n < 5000 && !cluster.Ask("POST", In(ns, "omjobs"), job.Body).Ok; n++) await Task.Delay(2);
            // Who leaves a pod behind takes it away before its name is used again.
            var pod = $"/api/v1/namespaces/{ns}/pods/{job.Name}-main";
            if (how == "Orphan" && cluster.Ask("GET", pod) is { Ok: true, Body: var left }
                && left.At("metadata", "ownerReferences") is null)
                cluster.Ask("DELETE", pod);
        }
    }

    static JsonObject Schedule() => new()
    {
        ["apiVersion"] = "pipelines.openmetadata.org/v1",
        ["kind"] = "CronOMJob",
        ["metadata"] = new JsonObject { ["name"] = "cron" },
        ["spec"] = new JsonObject
        {
            ["schedule"] = "* * * * *", ["successfulJobsHistoryLimit"] = 1, ["failedJobsHistoryLimit"] = 0,
            ["omJobSpec"] = Plan.Job("cron").Body["spec"]!.DeepClone(),
        },
    };

    static string[] Unended(BusyCluster cluster) => [.. cluster.Ask("GET", "/apis/pipelines.openmetadata.org/v1/omjobs")
        .Items!.Where(job => job.Text("status", "phase") is not ("Succeeded" or "Failed"))
        .Select(job => $"{job.Name()} {job["status"]?.ToJsonString()}")];

    /// <summary>What still is held or owned; orphans stay.</summary>
    static string[] Left(BusyCluster cluster) => [.. cluster.Ask("GET", "/apis/pipelines.openmetadata.org/v1/omjobs")
        .Items!.Concat(cluster.Ask("GET", "/api/v1/pods").Items!.Where(
            pod => pod.Finalizers().Count > 0 || pod.Items("metadata", "ownerReferences").Any()))
        .Select(left => left.Name())];
}
