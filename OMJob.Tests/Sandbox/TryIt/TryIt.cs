// Try it without a cluster: an API server in memory, a kubelet that runs commands as local processes, and the operator
// as a process of its own. Applies a manifest, shows what happens as it happens, then what the pods said.

using System.Collections.Concurrent;
using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Cronos;

namespace OMJobs.Sandbox;

/// <summary>The repository that this program was built in.</summary>
static class Repository
{
    static readonly string Root = FindRoot();

    public static string File(string path) => Path.Combine(Root, path);

    /// <summary>The operator that was built along: in its own output folder, because beside a program that uses ASP.NET
    /// Core the build leaves out the libraries that the two share.</summary>
    public static string Operator
    {
        get
        {
            var output = AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar).Split(Path.DirectorySeparatorChar);
            return Path.Combine([Root, "bin", .. output[^2..], "omjob-operator"]);
        }
    }

    static string FindRoot()
    {
        var at = AppContext.BaseDirectory;
        while (!System.IO.File.Exists(Path.Combine(at, "crd.yaml")))
            at = Path.GetDirectoryName(at) ?? throw new FileNotFoundException("No crd.yaml above this program");
        return at;
    }
}

/// <summary>The system's clock, set to another time.</summary>
sealed class ShiftedTime : TimeProvider
{
    long shift;

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow().AddTicks(Interlocked.Read(ref shift));

    public void Set(DateTimeOffset now) => Interlocked.Exchange(ref shift, (now - base.GetUtcNow()).Ticks);
}

/// <summary>An API server and a kubelet in this process; everything is gone when it is disposed of.</summary>
sealed class LocalCluster : IAsyncDisposable
{
    readonly DirectoryInfo directory = Directory.CreateTempSubdirectory("omjob-sandbox-");

    LocalCluster(ApiServer server)
    {
        Server = server;
        File.WriteAllText(Kubeconfig, server.Kubeconfig());
        Api = new SandboxClient(Kubeconfig);
        Kubelet = new Kubelet(Api, "sandbox");
    }

    public ApiServer Server { get; }
    public SandboxClient Api { get; }
    public Kubelet Kubelet { get; }
    /// <summary>A file with the administrator's rights.</summary>
    public string Kubeconfig => Path.Combine(directory.FullName, "kubeconfig");

    /// <param name="time">The API server's clock; the kubelet goes by the system's.</param>
    public static async Task<LocalCluster> Start(TimeProvider? time = null)
    {
        var store = new Store(time ?? TimeProvider.System, Random.Shared);
        var cluster = new LocalCluster(await ApiServer.Start(store));
        cluster.Server.Log = cluster.Kubelet.WriteLog;
        await cluster.Kubelet.StartAsync();
        return cluster;
    }

    public async ValueTask DisposeAsync()
    {
        await Kubelet.DisposeAsync();
        Api.Dispose();
        await Server.DisposeAsync();
        directory.Delete(true);
    }
}

/// <summary>SIGINT and SIGTERM cancel this, and do not end the process by themselves.</summary>
sealed class StopSignals(CancellationTokenSource stop) : IDisposable
{
    readonly PosixSignalRegistration[] registered = [.. new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM }.Select(signal =>
        PosixSignalRegistration.Create(signal, context =>
        {
            context.Cancel = true;
            stop.Cancel();
        }))];

    public void Dispose()
    {
        foreach (var registration in registered) registration.Dispose();
    }
}

/// <summary>The command `dotnet run --project OMJob.Tests/Sandbox`.</summary>
sealed class TryIt(TextWriter output)
{
    readonly Stopwatch clock = Stopwatch.StartNew();
    readonly Dictionary<string, string> shown = [];

    public static async Task<int> Main(string[] args)
    {
        var file = new Option<string>("--file", "-f")
        {
            Description = "manifest to apply [default: examples/omjob.yaml]",
            HelpName = "FILE",
            DefaultValueFactory = _ => Repository.File("examples/omjob.yaml"),
        };
        var keep = new Option<bool>("--keep") { Description = "stay up until Ctrl-C, for kubectl" };
        var binary = new Option<string>("--operator")
        {
            Description = "operator binary [default: the one built with this program]",
            HelpName = "PATH",
            DefaultValueFactory = _ => Repository.Operator,
        };
        var root = new RootCommand("Runs the OMJob operator without a cluster. All state is in memory and goes with it.")
        {
            file, keep, binary, Bench.Command(), Dashboard.Command(), OpenApiTypes.Command(),
        };
        root.SetAction(async parsed =>
        {
            using var stop = new CancellationTokenSource();
            using var signals = new StopSignals(stop);
            var (manifest, path) = (parsed.GetValue(file)!, parsed.GetValue(binary)!);
            foreach (var missing in new[] { manifest, path }.Where(p => !File.Exists(p)))
                return Complain($"{missing}: no such file");
            try { return await new TryIt(Console.Out).Run(manifest, path, parsed.GetValue(keep), stop.Token); }
            catch (OperationCanceledException) { return 130; }
            catch (ApiException e) { return Complain(e.Words, 1); }
        });
        var parsed = root.Parse(args);
        return parsed.Errors.Count > 0
            ? Complain(parsed.Errors[0].Message)
            : await parsed.InvokeAsync(new() { ProcessTerminationTimeout = null });
    }

    public static int Complain(string words, int code = 2)
    {
        Console.Error.WriteLine($"omjob-sandbox: {words}");
        return code;
    }

    /// <summary>0 once every OMJob of the manifest and one of every CronOMJob is finished; 1 if the operator ends before that.</summary>
    async Task<int> Run(string manifest, string binary, bool keep, CancellationToken stop)
    {
        var documents = Json.Yaml(await File.ReadAllTextAsync(manifest, stop));
        var time = new ShiftedTime();
        await using var cluster = await LocalCluster.Start(time);
        cluster.Kubelet.Programs["omjob-operator"] = binary; // for whoever installs one, too
        await cluster.Api.Apply(Json.Yaml(await File.ReadAllTextAsync(Repository.File("crd.yaml"), stop)));
        Show($"API server {cluster.Server.Address}, in memory");
        if (FirstTick(documents) is { } tick) time.Set(tick.AddSeconds(-5));
        using var started = Process.Start(new ProcessStartInfo(binary,
            ["--kubeconfig", cluster.Kubeconfig, "--health-port", "0", "--metrics-port", "0", "--log-level", "warn"]))!;
        try
        {
            await CreateNamespaces(cluster.Api, documents);
            await cluster.Api.Apply(documents);
            Show($"applied {Path.GetRelativePath(Environment.CurrentDirectory, manifest)}");
            var ended = started.WaitForExitAsync(stop);
            var finished = Finished(cluster, documents, stop);
            if (await Task.WhenAny(finished, ended) == ended)
                return stop.IsCancellationRequested ? 130 : Complain("the operator has ended", 1);
            await finished;
            foreach (var pod in (await cluster.Api.List("/api/v1/pods")).OrderBy(p => p.Text("status", "startTime")))
                ShowLog(cluster, pod);
            if (keep) await Keep(cluster, stop);
            return 0;
        }
        finally
        {
            if (!started.HasExited) Posix.Signal(started.Id, Posix.SigTerm);
            await started.WaitForExitAsync(CancellationToken.None);
        }
    }

    /// <summary>The next time of any schedule: the clock is set to just before it.</summary>
    static DateTimeOffset? FirstTick(List<JsonObject> documents) => documents.Select(document =>
    {
        if (!CronExpression.TryParse(document.Text("spec", "schedule") ?? "", out var schedule)) return null;
        var zone = TimeZoneInfo.FindSystemTimeZoneById(document.Text("spec", "timeZone") ?? "UTC");
        return schedule.GetNextOccurrence(DateTimeOffset.UtcNow, zone);
    }).Min();

    static async Task CreateNamespaces(SandboxClient api, List<JsonObject> documents)
    {
        foreach (var name in documents.Select(d => d.Text("metadata", "namespace")).OfType<string>().Distinct())
            if (await api.Find($"{Paths.Namespaces}/{name}") is null)
                await api.Create(Paths.Namespaces, new JsonObject { ["metadata"] = new JsonObject { ["name"] = name } });
    }

    async Task Keep(LocalCluster cluster, CancellationToken stop)
    {
        output.WriteLine($"\nThe sandbox stays up until Ctrl-C:\n\n    export KUBECONFIG={cluster.Kubeconfig}");
        output.WriteLine("    kubectl get cronomjobs,omjobs,pods\n    kubectl get events --field-selector reason=OMJobOperator\n");
        await Task.WhenAny(Task.Delay(Timeout.Infinite, stop));
    }

    /// <summary>Shows each change; ends when all OMJobs are finished.</summary>
    async Task Finished(LocalCluster cluster, List<JsonObject> documents, CancellationToken stop)
    {
        using var done = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var waiting = new ConcurrentDictionary<string, bool>(documents
            .Where(d => d.Text("kind") is "OMJob" or "CronOMJob").Select(d => KeyValuePair.Create(d.Name(), true)));
        await Task.WhenAny(Task.WhenAll(Follow("/api/v1/pods", DescribePod), Follow(OMJobs, DescribeJob),
            Follow(CronOMJobs, cron => cron.Text("status", "message") ?? $"{cron.Text("spec", "schedule")}")));
        stop.ThrowIfCancellationRequested();

        async Task Follow(string path, Func<JsonObject, string> describe)
        {
            if (waiting.IsEmpty) return;
            await foreach (var (type, o) in cluster.Api.Watch(path, done.Token))
            {
                if (type != "DELETED") Show($"{o.Text("kind"),-9}  {o.Name(),-34}  {describe(o)}", o.Uid());
                if (path != OMJobs || o.Text("status", "phase") is not ("Succeeded" or "Failed")) continue;
                foreach (var owner in o.Items("metadata", "ownerReferences")) waiting.TryRemove(owner.Text("name")!, out _);
                waiting.TryRemove(o.Name(), out _);
                if (waiting.IsEmpty) await done.CancelAsync();
            }
        }
    }

    const string OMJobs = "/apis/pipelines.openmetadata.org/v1/omjobs",
        CronOMJobs = "/apis/pipelines.openmetadata.org/v1/cronomjobs";

    static string DescribeJob(JsonObject job)
    {
        var code = job.Long("status", "mainPodExitCode");
        var message = job.Text("status", "message");
        return job.Text("status", "phase") + (code is null ? "" : $", main pod's exit code {code}")
            + (message is null ? "" : $": {message}");
    }

    static string DescribePod(JsonObject pod)
    {
        var state = pod.At("status").Items("containerStatuses").FirstOrDefault().At("state");
        var waiting = state.Text("waiting", "reason");
        var told = pod.At("spec").Items("containers").First().Items("env")
            .FirstOrDefault(e => e.Text("name") == "pipelineStatus").Text("value");
        return pod.Text("status", "phase")
            + (waiting is null ? "" : $" ({waiting})")
            + (state.Long("terminated", "exitCode") is { } code ? $", exit code {code}" : "")
            + (pod.At("metadata", "deletionTimestamp") is null ? "" : ", being deleted")
            + (told is null ? "" : $", pipelineStatus={told}");
    }

    /// <summary>A line with the seconds since the start; the same about the same object only once.</summary>
    void Show(string line, string about = "")
    {
        lock (shown)
        {
            if (about.Length > 0 && shown.TryGetValue(about, out var before) && before == line) return;
            shown[about] = line;
            output.WriteLine($"{clock.Elapsed.TotalSeconds,6:0.0}s  {line}");
        }
    }

    void ShowLog(LocalCluster cluster, JsonObject pod)
    {
        output.WriteLine($"\n--- what {pod.Name()} said");
        output.Write(cluster.Kubelet.Logs(pod.Text("metadata", "namespace")!, pod.Name()));
    }
}
