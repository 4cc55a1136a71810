// The benchmark's own parts of a cluster: a kubelet without processes, which ends pods as fast as the API server takes
// it, and the operator as a process that is looked at from outside.

using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

/// <summary>Ends the pods of one namespace and notes when; or only notes, where other kubelets end them.</summary>
sealed class BenchKubelet(SandboxClient api, string ns, string node, bool ends) : IDisposable
{
    readonly SemaphoreSlim free = new(32); // requests at a time

    /// <summary>How long a main pod runs from now on; zero: it ends without having been Running.</summary>
    public Func<TimeSpan> RunTime { get; set; } = () => TimeSpan.Zero;

    /// <summary>Timestamps by pod: when the watch showed it first.</summary>
    public ConcurrentDictionary<string, long> Created { get; } = [];

    /// <summary>Timestamps by pod: the answer to its terminal status, or when the watch showed that.</summary>
    public ConcurrentDictionary<string, long> Ended { get; } = [];

    public async Task Run(CancellationToken stop)
    {
        await foreach (var (type, pod) in api.Watch(Paths.Pods(ns), stop))
        {
            if (type == "ADDED" && Created.TryAdd(pod.Name(), Stopwatch.GetTimestamp()) && ends) _ = Live(pod, stop);
            else if (!ends && pod.Text("status", "phase") is "Succeeded" or "Failed")
                Ended.TryAdd(pod.Name(), Stopwatch.GetTimestamp());
        }
    }

    async Task Live(JsonObject pod, CancellationToken stop)
    {
        await Task.Yield(); // the watch goes on
        var (path, name) = (Paths.Pod(ns, pod.Name()), pod.Items("spec", "containers").First().Text("name")!);
        await Send(() => api.Create($"{path}/binding", new JsonObject
        {
            ["metadata"] = new JsonObject { ["name"] = pod.Name() },
            ["target"] = new JsonObject { ["kind"] = "Node", ["name"] = node },
        }));
        var time = pod.Name().EndsWith("-main", StringComparison.Ordinal) ? RunTime() : TimeSpan.Zero;
        if (time > TimeSpan.Zero)
        {
            await Send(() => api.Patch($"{path}/status", Status(name, "Running", "running")));
            await Task.Delay(time, stop);
        }
        await Send(() => api.Patch($"{path}/status", Status(name, "Succeeded", "terminated")));
        Ended[pod.Name()] = Stopwatch.GetTimestamp();
    }

    /// <summary>Until the API server has it; a pod that is gone or bound already is not held against anybody.</summary>
    async Task Send(Func<Task> request)
    {
        await free.WaitAsync();
        try
        {
            await request();
        }
        catch (ApiException e) when (e.Code is HttpStatusCode.NotFound or HttpStatusCode.Conflict)
        {
        }
        finally
        {
            free.Release();
        }
    }

    public void Dispose() => free.Dispose();

    static JsonObject Status(string container, string phase, string state)
    {
        var now = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ssZ");
        var (running, times) = (state == "running", new JsonObject { ["startedAt"] = now });
        if (!running) (times["exitCode"], times["reason"], times["finishedAt"]) = (0, "Completed", now);
        return new()
        {
            ["status"] = new JsonObject
            {
                ["phase"] = phase,
                ["startTime"] = now,
                ["conditions"] = new JsonArray(Kubelet.Condition("Initialized", true),
                    Kubelet.Condition("Ready", running), Kubelet.Condition("ContainersReady", running)),
                ["containerStatuses"] = new JsonArray(new JsonObject
                {
                    ["name"] = container,
                    ["image"] = "none",
                    ["imageID"] = "none",
                    ["ready"] = running,
                    ["restartCount"] = 0,
                    ["state"] = new JsonObject { [state] = times },
                }),
            },
        };
    }
}

/// <summary>The operator's process: its memory and processor time from /proc, its own counters from /metrics.</summary>
sealed class BenchOperator : IAsyncDisposable
{
    static readonly HttpClient Http = new();
    readonly Process process;
    readonly Task sampling;

    BenchOperator(string binary, string kubeconfig, string ns, string[] more)
    {
        process = Process.Start(new ProcessStartInfo(binary,
            ["--kubeconfig", kubeconfig, "--namespace", ns, "--health-port", $"{Port}", "--metrics-port", "0", .. more])
        {
            RedirectStandardOutput = true,
            Environment = { ["DOTNET_PROCESSOR_COUNT"] = "1" }, // as in the image
        })!;
        _ = process.StandardOutput.BaseStream.CopyToAsync(Stream.Null);
        sampling = Sample();
    }

    public int Port { get; } = Sandbox.Port.Free();

    /// <summary>From the start of the process to the first 200 of /ready.</summary>
    public TimeSpan ReadyAfter { get; private set; }

    /// <summary>The highest RssAnon since the start or the last reset, in MB, looked at every 10 ms.</summary>
    public double PeakAnon { get; set; }

    public double Anon => Status("RssAnon:");
    public double Rss => Status("VmRSS:");
    /// <summary>The kernel's own peak of VmRSS since the start.</summary>
    public double PeakRss => Status("VmHWM:");

    /// <summary>Seconds of processor time so far, user and system.</summary>
    public double Cpu
    {
        get
        {
            var fields = File.ReadAllText($"/proc/{process.Id}/stat").Split(')')[^1].Split(' ');
            return (long.Parse(fields[12], CultureInfo.InvariantCulture)
                + long.Parse(fields[13], CultureInfo.InvariantCulture)) / 100.0; // USER_HZ
        }
    }

    /// <summary>Started and ready.</summary>
    public static async Task<BenchOperator> Start(string binary, string kubeconfig, string ns, params string[] more)
    {
        var start = Stopwatch.GetTimestamp();
        var started = new BenchOperator(binary, kubeconfig, ns, more);
        var ready = new Uri($"http://127.0.0.1:{started.Port}/ready");
        while (!await Answers(started.process, ready)) await Task.Delay(2);
        started.ReadyAfter = Stopwatch.GetElapsedTime(start);
        return started;
    }

    /// <summary>Whether a process that is to be ready says so.</summary>
    public static async Task<bool> Answers(Process process, Uri ready)
    {
        if (process.HasExited)
            throw new InvalidOperationException($"{process.StartInfo.FileName} ended with {process.ExitCode}");
        try
        {
            using var answer = await Http.GetAsync(ready);
            return answer.IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    /// <summary>Its count of requests, by method and code.</summary>
    public Task<Dictionary<string, long>> Requests() => Metric("rest_client_requests_total");

    /// <summary>How many OMJobs are Running.</summary>
    public async Task<long> Running() => (await Metric("omjob_jobs"))["phase=\"Running\""];

    async Task<Dictionary<string, long>> Metric(string name) =>
        (await Http.GetStringAsync($"http://127.0.0.1:{Port}/metrics")).Split('\n')
            .Where(line => line.StartsWith($"{name}{{", StringComparison.Ordinal)).Select(line => line.Split('{', '}'))
            .ToDictionary(l => l[1], l => long.Parse(l[2], CultureInfo.InvariantCulture));

    async Task Sample()
    {
        for (; !process.HasExited; await Task.Delay(10)) PeakAnon = Math.Max(PeakAnon, Anon);
    }

    double Status(string field)
    {
        try
        {
            var line = File.ReadLines($"/proc/{process.Id}/status")
                .FirstOrDefault(l => l.StartsWith(field, StringComparison.Ordinal));
            return line is null ? 0 : long.Parse(line[field.Length..^2], CultureInfo.InvariantCulture) / 1024.0;
        }
        catch (IOException)
        {
            return 0; // it has ended
        }
    }

    public async ValueTask DisposeAsync()
    {
        Posix.Signal(process.Id, Posix.SigTerm);
        await process.WaitForExitAsync();
        await sampling;
        process.Dispose();
    }
}

/// <summary>All replicas.</summary>
sealed class Operators(BenchOperator[] all) : IAsyncDisposable
{
    public BenchOperator First => all[0];

    public int Count => all.Length;

    public IEnumerable<int> Ports => all.Select(op => op.Port);

    /// <summary>Seconds of processor time of all.</summary>
    public double Cpu => all.Sum(op => op.Cpu);

    /// <summary>All requests of all, by method and code.</summary>
    public async Task<Dictionary<string, long>> Requests() =>
        (await Task.WhenAll(all.Select(op => op.Requests()))).SelectMany(counts => counts)
            .GroupBy(r => r.Key, r => r.Value).ToDictionary(r => r.Key, r => r.Sum());

    public async ValueTask DisposeAsync()
    {
        foreach (var op in all) await op.DisposeAsync();
    }
}
