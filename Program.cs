// Command line and settings.

using System.Buffers;
using System.CommandLine;
using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using k8s;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace OMJobs;

/// <summary>The command line. Exit codes: 0, 1 (failed), 2 (wrong usage, one line on stderr).</summary>
static class Program
{
    static readonly Option<string?>
        KubeconfigPath = Flag("--kubeconfig", "PATH",
            "kubeconfig file [default: in-cluster, else KUBECONFIG, else ~/.kube/config]"),
        Context = Flag("--context", "NAME", "kubeconfig context [default: its current one]"),
        Level = Flag("--log-level", "LEVEL", "trace, debug, info, warn, error or off [LOG_LEVEL; default: info]"),
        Format = Flag("--log-format", "FORMAT", "text or json [default: text]"),
        Workers = Flag("--workers", "N", "keys reconciled at the same time [RECONCILIATION_THREADS; default: 5]"),
        HealthPort = Flag("--health-port", "PORT",
            "/health, /ready, /metrics; 0: off [HEALTH_CHECK_PORT; default: 8080]"),
        MetricsPort = Flag("--metrics-port", "PORT", "/metrics; 0: off [METRICS_PORT; default: 8081]"),
        StartDeadline = Flag("--start-deadline", "DURATION",
            "a main pod that has not started by then is given up; 0: never [START_DEADLINE; default: 1h]"),
        ExitDeadline = Flag("--exit-handler-deadline", "DURATION", "an exit handler that has not ended by then "
            + "is tried again; 0: never [EXIT_HANDLER_DEADLINE; default: 10m]"),
        ExitRetries = Flag("--exit-handler-retries", "N",
            "attempts after the first, with a backoff of 10s, doubling [EXIT_HANDLER_RETRIES; default: 3]"),
        LostPodSlack = Flag("--lost-pod-slack", "DURATION",
            "a pod that outlives its deletion by this counts as lost [LOST_POD_SLACK; default: 60s]");
    static readonly Option<string[]> Namespaces = new("--namespace", "-n")
    {
        HelpName = "NS",
        Recursive = true,
        Description = "namespace to watch, repeatable; ALL or none: every one [WATCH_NAMESPACES, a comma list]",
    };

    static Task<int> Main(string[] args)
    {
        var parsed = Parse(args);
        return parsed.Errors.Count > 0
            ? Task.FromResult(Fail(2, parsed.Errors[0].Message)) // the library's own handling prints the whole help
            : parsed.InvokeAsync(new() { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
    }

    internal static ParseResult Parse(params string[] args)
    {
        const string what = "Runs OMJobs: the main pod, and then, whatever happened to it, the exit handler pod.\n"
            + "A flag beats its environment variable (in brackets); durations read like 90s, 10m, 1h30m.";
        Command release = new("release", "Drop this operator's finalizers from all objects, before uninstalling it.");
        release.SetAction(parsed => Run(parsed, (op, settings, stop) => op.Release(settings.Namespaces, stop)));
        var root = new RootCommand(what)
        {
            KubeconfigPath, Context, Namespaces, Level, Format, Workers, HealthPort, MetricsPort,
            StartDeadline, ExitDeadline, ExitRetries, LostPodSlack, release,
        };
        root.SetAction(parsed => Run(parsed, (op, settings, stop) => op.Run(settings, stop)));
        return root.Parse(args);
    }

    static async Task<int> Run(ParseResult parsed, Func<Operator, Settings, CancellationToken, Task<int>> action)
    {
        try
        {
            var settings = ReadSettings(parsed, Environment.GetEnvironmentVariable);
            using var logs = LoggerFactory.Create(logging => ConfigureLogs(logging, settings));
            var log = logs.CreateLogger("omjob");
            var access = Kubeconfig.Load(parsed.GetValue(KubeconfigPath), parsed.GetValue(Context));
            using var api = new ApiClient(access, TimeProvider.System, log);
            using var stop = new CancellationTokenSource();
            void Stop(PosixSignalContext signal) { signal.Cancel = true; stop.Cancel(); }
            using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
            using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
            log.LogInformation("API server {Server}, namespaces {Namespaces}", access.Server,
                settings.Namespaces is [""] ? "ALL" : string.Join(',', settings.Namespaces));
            if (settings.PollingAsked)
                log.LogInformation("Nothing polls: POLLING_INTERVAL_SECONDS and REQUEUE_DELAY_SECONDS have no effect");
            return await action(new(api.Send, settings.Deadlines, TimeProvider.System, log), settings, stop.Token);
        }
        catch (Exception e) when (e is UsageException or KubeconfigException) { return Fail(2, e.Message); }
        catch (SocketException e) { return Fail(1, $"cannot listen: {e.Message}"); }
    }

    /// <summary>Settings from flags, else variables, else defaults. Throws UsageException naming the culprit.</summary>
    internal static Settings ReadSettings(ParseResult parsed, Func<string, string?> variable)
    {
        const string port = "a port (0 to 65535)", count = "a whole number above 0",
            duration = "a duration such as 90s, 10m or 1h";
        var polling = Read<long>(null, "POLLING_INTERVAL_SECONDS", 0, Count(1, int.MaxValue), count)
            + Read<long>(null, "REQUEUE_DELAY_SECONDS", 0, Count(1, int.MaxValue), count);
        return new Settings
        {
            Namespaces = ReadNamespaces(parsed.GetValue(Namespaces), variable("WATCH_NAMESPACES")),
            LogLevel = Read(Level, "LOG_LEVEL", LogLevel.Information, ParseLevel,
                "a log level (trace, debug, info, warn, error or off)"),
            JsonLogs = Read<bool>(Format, null, false,
                text => text switch { "json" => true, "text" => false, _ => null }, "a log format (text or json)"),
            Workers = (int)Read(Workers, "RECONCILIATION_THREADS", 5, Count(1, 1000),
                "a number of workers (1 to 1000)"),
            HealthPort = (int)Read(HealthPort, "HEALTH_CHECK_PORT", 8080, Count(0, 65535), port),
            MetricsPort = (int)Read(MetricsPort, "METRICS_PORT", 8081, Count(0, 65535), port),
            AllAddresses = parsed.GetValue(KubeconfigPath) is null && KubernetesClientConfiguration.IsInCluster(),
            PollingAsked = polling > 0,
            Deadlines = new(
                Read(StartDeadline, "START_DEADLINE", TimeSpan.FromHours(1), ParseDuration, duration),
                Read(ExitDeadline, "EXIT_HANDLER_DEADLINE", TimeSpan.FromMinutes(10), ParseDuration, duration),
                Read(LostPodSlack, "LOST_POD_SLACK", TimeSpan.FromSeconds(60), ParseDuration, duration),
                (int)Read(ExitRetries, "EXIT_HANDLER_RETRIES", 3, Count(0, 1000), "a number of retries (0 to 1000)")),
        };

        T Read<T>(Option<string?>? flag, string? name, T fallback, Func<string, T?> parse, string wanted)
            where T : struct
        {
            var given = flag is null ? null : parsed.GetValue(flag);
            var text = given ?? (name is null ? null : variable(name));
            if (given is null && string.IsNullOrWhiteSpace(text)) return fallback;
            var culprit = given is null ? name : flag!.Name;
            return parse(text!.Trim()) ?? throw new UsageException($"{culprit}: '{text}' is not {wanted}");
        }
    }

    static string[] ReadNamespaces(string[]? flags, string? variable)
    {
        if (flags is []) flags = null;
        const StringSplitOptions trimmed = StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries;
        var names = (flags ?? variable?.Split(',', trimmed) ?? []).Distinct().ToArray();
        static bool Valid(string name) => name is { Length: > 0 and < 64 } && name[0] != '-' && name[^1] != '-'
            && name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-');
        var culprit = flags is null ? "WATCH_NAMESPACES" : Namespaces.Name;
        if (Array.Find(names, name => name != "ALL" && !Valid(name)) is { } bad)
            throw new UsageException($"{culprit}: '{bad}' is not a namespace's name");
        return names.Length == 0 || names.Contains("ALL") ? [""] : names;
    }

    /// <summary>A duration as Kubernetes writes it (90s, 1h30m, 0), at most ten years; null where it is none.</summary>
    internal static TimeSpan? ParseDuration(string text)
    {
        if (text == "0") return TimeSpan.Zero;
        var (total, at) = (0.0, 0);
        while (at < text.Length)
        {
            var number = at;
            while (at < text.Length && (char.IsAsciiDigit(text[at]) || text[at] == '.')) at++;
            var unit = at;
            while (at < text.Length && char.IsAsciiLetter(text[at])) at++;
            var seconds = text[unit..at] switch { "h" => 3600.0, "m" => 60, "s" => 1, "ms" => 0.001, _ => double.NaN };
            var style = NumberStyles.AllowDecimalPoint;
            if (!double.TryParse(text[number..unit], style, CultureInfo.InvariantCulture, out var n)) return null;
            total += n * seconds;
        }
        return text.Length > 0 && total <= 315_360_000 ? TimeSpan.FromSeconds(total) : null;
    }

    static LogLevel? ParseLevel(string text) => text.ToUpperInvariant() switch
    {
        "TRACE" => LogLevel.Trace,
        "DEBUG" => LogLevel.Debug,
        "INFO" or "INFORMATION" => LogLevel.Information,
        "WARN" or "WARNING" => LogLevel.Warning,
        "ERROR" => LogLevel.Error,
        "CRITICAL" => LogLevel.Critical,
        "OFF" or "NONE" => LogLevel.None,
        _ => null,
    };

    static Func<string, long?> Count(long least, long most) => text =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n >= least && n <= most
            ? n : null;

    static void ConfigureLogs(ILoggingBuilder logging, Settings settings)
    {
        const string utc = "yyyy-MM-ddTHH:mm:ss.fffZ";
        logging.SetMinimumLevel(settings.LogLevel);
        if (settings.JsonLogs)
            logging.AddJsonConsole(json =>
                (json.TimestampFormat, json.UseUtcTimestamp, json.IncludeScopes) = (utc, true, true));
        else
            logging.AddSimpleConsole(text =>
            {
                (text.TimestampFormat, text.UseUtcTimestamp) = (utc + " ", true);
                (text.SingleLine, text.ColorBehavior) = (true, LoggerColorBehavior.Disabled);
            });
    }

    static Option<string?> Flag(string name, string value, string help) =>
        new(name) { HelpName = value, Description = help, Recursive = true };

    static int Fail(int code, string line)
    {
        Console.Error.WriteLine($"omjob-operator: {line.ReplaceLineEndings(" ")}");
        return code;
    }
}

/// <summary>Something on the command line or in a variable that whoever starts us must change.</summary>
sealed class UsageException(string message) : Exception(message);
