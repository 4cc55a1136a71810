// The subcommand `bench`: measures the operator on the sandbox or on a real API server, and writes Markdown. Figures
// depend on the machine and on what else it does: compare those of one run only. It makes a namespace of its own, and
// deletes it.

using System.Collections.Concurrent;
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

/// <summary>What to measure, where and how often.</summary>
sealed record BenchSettings(string Binary, string? Kubeconfig, string? Audit, bool OwnKubelet, int Jobs, int Rounds,
    int Config, int Replicas, int Idle, int Retained, int Running, string? Versus, string? Chart, int TtlChurn,
    string? OperatorKubeconfig);

sealed partial class Bench : IDisposable
{
    readonly BenchSettings settings;
    readonly SandboxClient api;
    readonly string kubeconfig, ns = $"bench-{DateTime.UtcNow:HHmmss}";
    readonly string bare; // the namespace that no operator watches
    readonly RequestCount requests;
    readonly BenchKubelet kubelet, bareKubelet;
    readonly ConcurrentDictionary<string, TaskCompletionSource> unfinished = []; // by the path of collection and name
    readonly ConcurrentDictionary<string, bool> held = []; // OMJobs with a finalizer
    readonly SemaphoreSlim free = new(32); // creations at a time
    readonly CancellationTokenSource stop = new();
    int named, deleted;

    Bench(BenchSettings settings, SandboxClient api, string kubeconfig, RequestCount requests)
    {
        (this.settings, this.api, this.kubeconfig, this.requests) = (settings, api, kubeconfig, requests);
        bare = $"{ns}-bare";
        kubelet = new BenchKubelet(api, ns, node: ns, settings.OwnKubelet);
        bareKubelet = new BenchKubelet(api, bare, node: ns, settings.OwnKubelet);
    }

    public static Command Command()
    {
        Option<string> Text(string name, string value, string help) =>
            new(name) { HelpName = value, Description = help };
        Option<int> Count(string name, int fallback, string help) =>
            new(name) { HelpName = "N", Description = help, DefaultValueFactory = _ => fallback };
        var binary = Text("--operator", "PATH", "operator binary [default: the one built with this program]");
        var kubeconfig = Text("--kubeconfig", "FILE", "a throw-away cluster [default: an API server in memory]");
        var operatorKubeconfig = Text("--operator-kubeconfig", "FILE",
            "what the operator is given [default: the same]; as one who may not create events it is measured without");
        var audit = Text("--audit", "FILE", "audit log of that API server: counts requests by resource");
        var fakelet = new Option<bool>("--fakelet") { Description = "a kubelet of the cluster ends the pods" };
        var jobs = Count("--jobs", 1000, "OMJobs at once");
        var rounds = Count("--rounds", 3, "of --jobs");
        var config = Count("--config", 6000, "bytes of the config in the environment of both pods");
        var replicas = Count("--replicas", 1, "operators");
        var idle = Count("--idle", 60, "seconds to look at the idle operator");
        var retained = Count("--retained", 0, "instead: start and idle with this many finished OMJobs and their pods");
        var running = Count("--running", 0, "instead: memory with this many OMJobs whose main pods run");
        var versus = Text("--versus", "jobs", "instead, in turn: OMJobs, the same pods as batch/v1 Jobs, two in a "
            + "row, and the pods alone, with no more than an OMJob's creation; not on the sandbox");
        versus.AcceptOnlyFromAmong("jobs");
        var chart = Text("--chart", "FILE", "draw what --versus measures, as SVG");
        var churn = Count("--ttl-churn", 0, "instead: this many OMJobs with a TTL of 15 s through one process");
        var command = new Command("bench", "Measures the operator; writes Markdown.")
        {
            binary, kubeconfig, operatorKubeconfig, audit, fakelet, jobs, rounds, config, replicas, idle, retained,
            running, versus, chart, churn,
        };
        command.SetAction(parsed => Run(new(parsed.GetValue(binary) ?? Repository.Operator, parsed.GetValue(kubeconfig),
            parsed.GetValue(audit), !parsed.GetValue(fakelet), parsed.GetValue(jobs), parsed.GetValue(rounds),
            parsed.GetValue(config), parsed.GetValue(replicas), parsed.GetValue(idle), parsed.GetValue(retained),
            parsed.GetValue(running), parsed.GetValue(versus), parsed.GetValue(chart), parsed.GetValue(churn),
            parsed.GetValue(operatorKubeconfig))));
        return command;
    }

    static async Task<int> Run(BenchSettings settings)
    {
        await using var server = settings.Kubeconfig is null
            ? await ApiServer.Start(new Store(TimeProvider.System, Random.Shared)) : null;
        var directory = Directory.CreateTempSubdirectory("omjob-bench-");
        try
        {
            var kubeconfig = settings.Kubeconfig ?? Path.Combine(directory.FullName, "kubeconfig");
            if (server is not null) await server.WriteKubeconfig(kubeconfig);
            using var api = new SandboxClient(kubeconfig);
            using var bench = new Bench(settings, api, kubeconfig, new RequestCount(server, settings.Audit));
            using var signals = new StopSignals(bench.stop);
            await bench.Measure();
            return 0;
        }
        catch (OperationCanceledException)
        {
            return 130;
        }
        finally
        {
            directory.Delete(true);
        }
    }

    async Task Measure()
    {
        await Describe();
        await api.Apply(Json.Yaml(await File.ReadAllTextAsync(Repository.File("crd.yaml"))));
        foreach (var name in Namespaces)
            await api.Create(Paths.Namespaces, new JsonObject { ["metadata"] = new JsonObject { ["name"] = name } });
        var node = new Node(api, ns);
        try
        {
            foreach (var name in Namespaces)
                while (!await Serves(name)) await Task.Delay(100, stop.Token);
            await node.Register();
            await Measure(node);
        }
        finally
        {
            await node.Remove();
            await Remove();
        }
    }

    async Task Measure(Node node)
    {
        List<Task> all =
            [node.RenewLease(stop.Token), kubelet.Run(stop.Token), Follow(Paths.OMJobs(ns), IsFinished)];
        if (settings.Versus is not null)
            all.AddRange([bareKubelet.Run(stop.Token), Follow(Paths.Pods(bare), IsOver), Follow(BatchJobs, IsComplete)]);
        var loops = Task.WhenAll(all);
        var measured = settings switch
        {
            { Retained: > 0 } => Retained(),
            { Running: > 0 } => Running(),
            { TtlChurn: > 0 } => TtlChurn(),
            { Versus: not null } => Versus(),
            _ => Everything(),
        };
        var ended = await Task.WhenAny(measured, loops); // the loops end by a fault only, or when all is to stop
        await stop.CancelAsync();
        await Task.WhenAny(measured); // the operator ends with it
        await ended;
    }

    /// <summary>Returns once it is gone: what is still being deleted would slow down the next measurement.</summary>
    async Task Remove()
    {
        if (settings.Kubeconfig is null) return; // the API server goes with this process
        foreach (var held in await api.List(Paths.OMJobs(ns))) await Release(Paths.OMJob(ns, held.Name()), held);
        foreach (var held in await api.List(Paths.Pods(ns))) await Release(Paths.Pod(ns, held.Name()), held);
        foreach (var name in Namespaces) await api.Delete($"{Paths.Namespaces}/{name}");
        foreach (var name in Namespaces)
            for (var i = 0; i < 600 && await api.Find($"{Paths.Namespaces}/{name}") is not null; i++)
                await Task.Delay(500);

        async Task Release(string path, JsonObject o)
        {
            if (o.Finalizers().Count == 0) return;
            await api.Patch(path, Json.Object("""{"metadata": {"finalizers": null} }"""));
        }
    }

    string[] Namespaces => settings.Versus is null ? [ns] : [ns, bare];

    /// <summary>The pods of a new namespace are refused until its service account is there.</summary>
    async Task<bool> Serves(string name)
    {
        var pod = $$"""{"metadata": {"name": "x"}, "spec": {"containers": [{"name": "main", "image": "none"}]} }""";
        try
        {
            await api.Create($"{Paths.Pods(name)}?dryRun=All", Json.Object(pod));
            return await api.Find(Paths.OMJobs(name)) is not null; // the CRD, too, takes a moment
        }
        catch (ApiException)
        {
            return false;
        }
    }

    // ----- report

    async Task Describe()
    {
        string Field(string file, string name) => File.ReadLines(file)
            .FirstOrDefault(l => l.StartsWith(name, StringComparison.Ordinal))?.Split(':')[1].Trim() ?? "unknown";
        var server = settings.Kubeconfig is null ? "the sandbox, in memory, in the benchmark's process"
            : await Version();
        var memory = long.Parse(Field("/proc/meminfo", "MemTotal").Split(' ')[0], CultureInfo.InvariantCulture) >> 20;
        Say($"{DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC, {Environment.ProcessorCount} cores of "
            + $"{Field("/proc/cpuinfo", "model name")}, {memory} GB of memory; API server: {server}; pods ended by "
            + $"{(settings.OwnKubelet ? "the benchmark" : "the cluster's kubelet")}\n");
        Say($"`bench {string.Join(' ', Environment.GetCommandLineArgs().Skip(2))}`\n");
        Say($"Binary: {new FileInfo(settings.Binary).Length / 1e6:0.00} MB. \"Load\": the machine's, 1 minute.");
    }

    async Task<string> Version() => $"Kubernetes {(await api.Get("/version")).Text("gitVersion")}";

    static void Say(string line) => Console.Out.WriteLine(line);

    static void Table(params ReadOnlySpan<string> columns) =>
        Say($"\n| {string.Join(" | ", columns)} |\n|{string.Concat(Enumerable.Repeat(" --- |", columns.Length))}");

    static void Row(params ReadOnlySpan<string> cells) => Say($"| {string.Join(" | ", cells)} |");

    static string Load => File.ReadAllText("/proc/loadavg").Split(' ')[0];

    static void MemoryRow(string when, BenchOperator op) => Row(when, $"{op.Rss:0.0}", $"{op.Anon:0.0}",
        $"{op.PeakRss:0.0}", $"{op.PeakAnon:0.0}", Load);

    static void MemoryTable() => Table("Memory, MB", "VmRSS", "RssAnon", "peak VmRSS", "peak RssAnon", "Load");

    // ----- what is measured

    async Task Everything()
    {
        List<double> starts = [];
        for (var i = 0; i < 5; i++)
        {
            await using var started = await Start();
            starts.Add(started.ReadyAfter.TotalMilliseconds);
        }
        starts.Sort();
        Table("Process start to ready, ms", "min", "median", "max", "Load");
        Row("5 starts", $"{starts[0]:0}", $"{starts[2]:0}", $"{starts[4]:0}", Load);
        await using var ops = await StartAll();
        await Idle(ops.First, "empty");
        await Throughput(ops);
        await Scheduled(ops);
        var title = settings.OwnKubelet ? "answer to the main pod's terminal status" : "main pod seen to have ended";
        Table($"From the {title} to the exit pod, ms", "OMJobs", "p50", "p99", "max", "Load");
        await Latency("one at a time", 100, 1, () => TimeSpan.FromSeconds(0.3));
        await Latency("100 running, 5 to 15 s each", 500, 100,
            () => TimeSpan.FromSeconds(5 + 10 * Random.Shared.NextDouble()));
        await Latency("100 running, 2 to 6 s each", 500, 100,
            () => TimeSpan.FromSeconds(2 + 4 * Random.Shared.NextDouble()));
        MemoryTable();
        MemoryRow("at the end", ops.First);
    }

    async Task Throughput(Operators ops)
    {
        Table($"{settings.Jobs} OMJobs at once", "seconds", "OMJobs/s", "operator CPU, ms per OMJob", "Load");
        requests.Reset(await ops.Requests());
        ops.First.PeakAnon = 0;
        for (var round = 1; round <= settings.Rounds; round++)
        {
            var (cpu, took) = (ops.Cpu, await RunAll(settings.Jobs, settings.Jobs, RunOMJob));
            await Finalized();
            Row($"round {round}", $"{took:0.0}", $"{settings.Jobs / took:0.0}",
                $"{(ops.Cpu - cpu) / settings.Jobs * 1000:0.00}", Load);
        }
        await RequestTable("per OMJob", settings.Rounds * settings.Jobs, ops);
        MemoryTable();
        MemoryRow($"after {settings.Rounds * settings.Jobs} OMJobs", ops.First);
    }

    async Task RequestTable(string per, int count, Operators ops)
    {
        await Task.Delay(TimeSpan.FromSeconds(5)); // the last events
        Table(ops.Count == 1 ? "Requests of the operator" : $"Requests of {ops.Count} operators", per);
        foreach (var (what, n) in await requests.Read(ops)) Row(what, $"{n / (double)count:0.00}");
    }

    /// <summary>So many schedules whose time comes at once, a single time.</summary>
    async Task Scheduled(Operators ops)
    {
        const int schedules = 100;
        var tick = DateTimeOffset.FromUnixTimeSeconds((DateTimeOffset.UtcNow.ToUnixTimeSeconds() / 60 + 2) * 60);
        requests.Reset(await ops.Requests());
        await Task.WhenAll(Enumerable.Range(0, schedules).Select(async i =>
        {
            var (name, run) = ($"{ns}-cron-{i}", Shape($"{ns}-cron-{i}", 86400));
            await Finished(Paths.CronOMJobs(ns), new JsonObject
            {
                ["apiVersion"] = "pipelines.openmetadata.org/v1",
                ["kind"] = "CronOMJob",
                ["metadata"] = new JsonObject { ["name"] = name },
                ["spec"] = new JsonObject
                {
                    ["schedule"] = tick.ToString("m H d M *", CultureInfo.InvariantCulture),
                    ["omJobSpec"] = run["spec"]!.DeepClone(),
                },
            }, $"{Paths.OMJobs(ns)}/{name}-{tick.ToUnixTimeSeconds()}");
        }));
        await Finalized();
        await RequestTable("per scheduled OMJob", schedules, ops);
    }

    /// <summary>What the operator holds of OMJobs whose main pods run, and what a new process needs that finds them.
    /// </summary>
    async Task Running()
    {
        kubelet.RunTime = () => TimeSpan.FromDays(1);
        MemoryTable();
        await using (var op = await Start())
        {
            MemoryRow("ready", op);
            _ = RunAll(settings.Running, settings.Running, RunOMJob);
            await Holds(op);
        }
        await using var restarted = await Start();
        await Holds(restarted);

        async Task Holds(BenchOperator op)
        {
            while (await op.Running() < settings.Running) await Task.Delay(1000, stop.Token);
            MemoryRow($"{settings.Running} running", op);
            await Task.Delay(TimeSpan.FromSeconds(settings.Idle), stop.Token);
            MemoryRow($"{settings.Running} running, after {settings.Idle} s", op);
        }
    }

    /// <summary>Until the last step is done for every OMJob.</summary>
    async Task Finalized() { while (!held.IsEmpty) await Task.Delay(50, stop.Token); }

    async Task Latency(string what, int count, int open, Func<TimeSpan> time)
    {
        kubelet.RunTime = time;
        kubelet.Created.Clear();
        kubelet.Ended.Clear();
        await RunAll(count, open, RunOMJob);
        var took = kubelet.Created.Where(c => c.Key.EndsWith("-exit", StringComparison.Ordinal))
            .Select(c => (From: kubelet.Ended[c.Key[..^"exit".Length] + "main"], To: c.Value))
            .Select(t => Stopwatch.GetElapsedTime(t.From, t.To).TotalMilliseconds).Order().ToList();
        Row(what, $"{took.Count}", $"{took[took.Count / 2]:0.0}", $"{took[took.Count * 99 / 100]:0.0}",
            $"{took[^1]:0.0}", Load);
        kubelet.RunTime = () => TimeSpan.Zero;
    }

    async Task Idle(BenchOperator op, string what)
    {
        MemoryTable();
        MemoryRow($"{what}, ready", op);
        var (cpu, sent) = (op.Cpu, await op.Requests());
        await Task.Delay(TimeSpan.FromSeconds(settings.Idle), stop.Token);
        cpu = op.Cpu - cpu;
        var more = (await op.Requests()).Sum(r => r.Value) - sent.Sum(r => r.Value);
        MemoryRow($"{what}, idle for {settings.Idle} s", op);
        Table($"Idle for {settings.Idle} s, {what}", "requests/min", "CPU s", "% of a core", "Load");
        Row("operator", $"{more * 60.0 / settings.Idle:0.0}", $"{cpu:0.00}", $"{100 * cpu / settings.Idle:0.000}",
            Load);
    }

    /// <summary>Finished OMJobs and pods as one run has left them, many times.</summary>
    async Task Retained()
    {
        var name = $"{ns}-template";
        await using (await Start()) await RunOMJob(name);
        var (job, main, exit) = (await api.Get(Paths.OMJob(ns, name)), await api.Get(Paths.Pod(ns, name + "-main")),
            await api.Get(Paths.Pod(ns, name + "-exit")));
        var many = new ParallelOptions { MaxDegreeOfParallelism = 32 };
        await Parallel.ForAsync(0, settings.Retained, many, async (i, _) =>
        {
            string uid = job.Uid(), to = $"{ns}-kept-{i}";
            uid = await Copy(Paths.OMJobs(ns), job, "completionTime");
            await Copy(Paths.Pods(ns), main);
            await Copy(Paths.Pods(ns), exit);

            async Task<string> Copy(string collection, JsonObject from, string? renewed = null)
            {
                var copy = Json.Object(from.ToJsonString().Replace(name, to).Replace(job.Uid(), uid));
                string[] given = ["uid", "resourceVersion", "creationTimestamp", "managedFields", "finalizers"];
                foreach (var field in given) copy.Child("metadata").Remove(field);
                if (renewed is not null) copy.Child("status")[renewed] = Json.Time(DateTimeOffset.UtcNow);
                kubelet.Created.TryAdd(copy.Name(), 0); // it has ended
                var made = await api.Create(collection, copy);
                var status = new JsonObject { ["status"] = copy["status"]!.DeepClone() };
                await api.Patch($"{collection}/{copy.Name()}/status", status);
                return made.Uid();
            }
        });
        await using var op = await Start();
        Say($"\nReady {op.ReadyAfter.TotalMilliseconds:0} ms after the start of the process (load {Load}).");
        await Idle(op, $"{settings.Retained} finished OMJobs");
    }

    /// <summary>At most forty a second: the operator deletes fifty.</summary>
    async Task TtlChurn()
    {
        await using var op = await Start();
        List<double> samples = [];
        var start = Stopwatch.GetTimestamp();
        var running = RunAll(settings.TtlChurn, 200, async name =>
        {
            var due = TimeSpan.FromSeconds((named - 1) / 40.0) - Stopwatch.GetElapsedTime(start);
            if (due > TimeSpan.Zero) await Task.Delay(due, stop.Token);
            await RunOMJob(name, ttl: 15);
        });
        for (; !running.IsCompleted; await Task.Delay(1000, stop.Token))
            if (deleted > 0) samples.Add(op.Anon); // from the first deletion on, it is as it will be
        var took = await running;
        while (deleted < settings.TtlChurn) await Task.Delay(1000, stop.Token);
        if (samples.Count == 0) samples.Add(op.Anon); // all of it ran within one TTL
        var quarter = Math.Max(1, samples.Count / 4);
        Table($"RssAnon, MB, {settings.TtlChurn} OMJobs with a TTL of 15 s", "OMJobs/s", "first quarter",
            "last quarter", "peak", "all deleted", "Load");
        Row($"{samples.Count} samples", $"{settings.TtlChurn / took:0.0}", $"{samples.Take(quarter).Average():0.00}",
            $"{samples.TakeLast(quarter).Average():0.00}", $"{op.PeakAnon:0.00}", $"{op.Anon:0.00}", Load);
    }

    // ----- running

    Task<BenchOperator> Start() =>
        BenchOperator.Start(settings.Binary, settings.OperatorKubeconfig ?? kubeconfig, ns);

    async Task<Operators> StartAll() =>
        new(await Task.WhenAll(Enumerable.Range(0, settings.Replicas).Select(_ => Start())));

    /// <summary>Runs so many under names of their own, so many open at a time; returns the seconds it took.</summary>
    async Task<double> RunAll(int count, int open, Func<string, Task> run)
    {
        var (start, started) = (Stopwatch.GetTimestamp(), 0);
        await Task.WhenAll(Enumerable.Range(0, open).Select(async _ =>
        {
            while (Interlocked.Increment(ref started) <= count) await run($"{ns}-{Interlocked.Increment(ref named)}");
        }));
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    Task RunOMJob(string name) => RunOMJob(name, 86400);

    Task RunOMJob(string name, int ttl) => Finished(Paths.OMJobs(ns), Shape(name, ttl));

    /// <summary>The repository's example of what the OpenMetadata server creates, with a config of that size.</summary>
    JsonObject Shape(string name, int ttl)
    {
        var job = Example.Clone();
        job["metadata"]!["name"] = name;
        job["metadata"]!.AsObject().Remove("namespace");
        foreach (var pod in (string[])["mainPodSpec", "exitHandlerSpec"])
        {
            job["spec"]![pod]!["serviceAccountName"] = "default";
            var config = job.Items("spec", pod, "env").Single(e => e.Text("name") == "config");
            var text = config.Text("value")!;
            while (text.Length < settings.Config) text += text;
            config["value"] = text[..settings.Config];
        }
        job["spec"]!["ttlSecondsAfterFinished"] = ttl;
        return job;
    }

    static readonly JsonObject Example =
        Json.Yaml(File.ReadAllText(Repository.File("examples/openmetadata-omjob.yaml"))).Single();

    /// <summary>Creates it and waits until it is finished, or what is of that path.</summary>
    async Task Finished(string collection, JsonObject o, string? path = null)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        unfinished[path ?? $"{collection}/{o.Name()}"] = done;
        await free.WaitAsync();
        try { await api.Create(collection, o); }
        finally { free.Release(); }
        await done.Task.WaitAsync(stop.Token);
    }

    bool IsFinished(JsonObject job)
    {
        if (job.Finalizers().Count > 0) held[job.Name()] = true;
        else held.TryRemove(job.Name(), out _);
        return job.Text("status", "phase") is "Succeeded" or "Failed";
    }

    async Task Follow(string collection, Func<JsonObject, bool> finished)
    {
        await foreach (var (type, o) in api.Watch(collection, stop.Token))
        {
            if (type == "DELETED") deleted++;
            else if (finished(o) && unfinished.TryRemove($"{collection}/{o.Name()}", out var done)) done.SetResult();
        }
    }

    public void Dispose()
    {
        stop.Dispose();
        free.Dispose();
        kubelet.Dispose();
        bareKubelet.Dispose();
    }
}

/// <summary>The operator's requests by verb and resource: seen by the sandbox, or from an audit log; else by method and
/// code, from its own metrics.</summary>
sealed class RequestCount
{
    const string Agent = "omjob-operator";
    readonly ConcurrentDictionary<string, long> seen = [];
    readonly (ApiServer? Server, string? Audit) source;
    Dictionary<string, long> before = [];
    DateTime since;

    public RequestCount(ApiServer? server, string? audit)
    {
        source = (server, audit);
        server?.Seen = request =>
        {
            if (request.Headers.UserAgent != Agent) return;
            var what = Describe(request.Method, request.Path.Value!, request.QueryString.Value!);
            seen.AddOrUpdate(what, 1, (_, n) => n + 1);
        };
    }

    public void Reset(Dictionary<string, long> metrics)
    {
        (before, since) = (metrics, DateTime.UtcNow);
        seen.Clear();
    }

    public async Task<SortedDictionary<string, long>> Read(Operators ops)
    {
        if (source.Server is not null) return new(seen, StringComparer.Ordinal);
        if (source.Audit is null)
            return new((await ops.Requests()).ToDictionary(r => r.Key, r => r.Value - before.GetValueOrDefault(r.Key)));
        var until = DateTime.UtcNow;
        await Task.Delay(TimeSpan.FromSeconds(31)); // it is written with a delay
        return new(File.ReadLines(source.Audit).Where(line => line.Contains(Agent, StringComparison.Ordinal))
            .Select(line => Json.Object(line))
            .Where(e => e.Text("stage") == "ResponseComplete" && e.Text("userAgent") == Agent
                && e.Time("requestReceivedTimestamp") is { } at && at >= since && at <= until)
            .CountBy(e => $"{e.Text("verb")} {e.Text("objectRef", "resource")}"
                + (e.Text("objectRef", "subresource") is { } sub ? $"/{sub}" : ""))
            .ToDictionary(c => c.Key, c => (long)c.Value), StringComparer.Ordinal);
    }

    /// <summary>"patch omjobs/status", as an audit log would say it.</summary>
    static string Describe(string method, string path, string query)
    {
        var at = path.Split('/')[(path.StartsWith("/apis/", StringComparison.Ordinal) ? 4 : 3)..];
        if (at is ["namespaces", _, .. { Length: > 0 } inside]) at = inside;
        var verb = method switch
        {
            "GET" when query.Contains("watch=1", StringComparison.Ordinal) => "watch",
            "GET" => at.Length == 1 ? "list" : "get",
            "POST" => "create",
            _ => method.ToLowerInvariant(),
        };
        return $"{verb} {at[0]}" + (at.Length > 2 ? $"/{at[2]}" : "");
    }
}
