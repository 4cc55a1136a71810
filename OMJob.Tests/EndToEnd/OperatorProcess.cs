// The operator as its users run it: the binary, its flags, its log, its ports and its signals. OMJOB_TEST_BINARY names
// another binary than the one that was built with the tests (the NativeAOT one, say).

using System.Diagnostics;
using System.Net;
using System.Text;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

sealed class OperatorProcess : IAsyncDisposable
{
    public static readonly string Binary = Environment.GetEnvironmentVariable("OMJOB_TEST_BINARY")
        ?? Repository.Operator;
    static readonly HttpClient Http = new() { Timeout = TimeSpan.FromSeconds(10) };

    readonly Process process;
    readonly StringBuilder log = new();

    public OperatorProcess(string kubeconfig, params IEnumerable<string> arguments)
        : this(kubeconfig, [], arguments)
    {
    }

    public OperatorProcess(
        string kubeconfig, Dictionary<string, string> environment, params IEnumerable<string> arguments)
        : this(Binary, kubeconfig, environment, arguments)
    {
    }

    /// <summary>Without a kubeconfig it finds the cluster itself, and opens no port: it would on all addresses.</summary>
    public OperatorProcess(
        string binary, string? kubeconfig, Dictionary<string, string> environment, params IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(binary,
        [
            .. arguments,
            .. arguments.Contains("--log-level") ? (string[])[] : ["--log-level", "debug"],
            .. kubeconfig is null ? (string[])["--health-port", "0", "--metrics-port", "0"]
                : ["--kubeconfig", kubeconfig, "--health-port", $"{HealthPort}", "--metrics-port", $"{MetricsPort}"],
        ])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // It lives for seconds: methods that are compiled twice, and counted in between, are not worth it.
        (start.Environment["DOTNET_TieredPGO"], start.Environment["DOTNET_TC_CallCountThreshold"]) = ("0", "1000");
        foreach (var (name, value) in environment) start.Environment[name] = value;
        process = new Process { StartInfo = start };
        process.OutputDataReceived += Append;
        process.ErrorDataReceived += Append;
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    public int Id => process.Id;

    /// <summary>Null while it runs.</summary>
    public int? ExitCode => process.HasExited ? process.ExitCode : null;

    public int HealthPort { get; } = Port.Free();

    public int MetricsPort { get; } = Port.Free();

    public string Log
    {
        get
        {
            lock (log) return log.ToString();
        }
    }

    /// <summary>Waits until it is ready by its own word.</summary>
    public Task Ready() => Eventually.True("the operator is ready", async () =>
    {
        Assert.False(process.HasExited, $"The operator ended at its start:\n{Log}");
        return await Health("ready") == HttpStatusCode.OK;
    });

    /// <summary>What a GET on the health port answers; null where nobody does within 10 s.</summary>
    public async Task<HttpStatusCode?> Health(string path) => (await Says(path)).Code;

    /// <summary>The same with its words.</summary>
    public async Task<(HttpStatusCode? Code, string Words)> Says(string path)
    {
        try
        {
            using var answer = await Http.GetAsync($"http://127.0.0.1:{HealthPort}/{path}");
            return (answer.StatusCode, await answer.Content.ReadAsStringAsync());
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            return (null, "");
        }
    }

    public Task<string> Metrics() => Http.GetStringAsync($"http://127.0.0.1:{MetricsPort}/metrics");

    /// <summary>SIGKILL: what it did not write is lost.</summary>
    public async Task Kill()
    {
        process.Kill();
        await process.WaitForExitAsync();
    }

    /// <summary>SIGTERM: it ends by itself, in time and without complaint.</summary>
    public Task Stop()
    {
        Posix.Signal(process.Id, Posix.SigTerm);
        return Ends(seconds: 10);
    }

    public async Task Ends(int seconds)
    {
        await Eventually.True("the operator ends", () => process.HasExited, seconds);
        Assert.Equal(0, process.ExitCode);
    }

    void Append(object sender, DataReceivedEventArgs line)
    {
        if (line.Data is not null) lock (log) log.AppendLine(line.Data);
    }

    public async ValueTask DisposeAsync()
    {
        if (!process.HasExited) await Kill();
        process.Dispose();
    }
}
