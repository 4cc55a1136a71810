// Command line and settings.

using System.CommandLine;
using System.CommandLine.Invocation;
using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using k8s;
using Microsoft.Extensions.Logging.Console;

namespace OMJobs;

/// <summary>The command line. Exit codes: 0, 1 (failed), 2 (wrong usage, one line on stderr).</summary>
static class Program
{
    static readonly Option<string?>
        KubeconfigPath = Flag("--kubeconfig", "PATH", "kubeconfig file", null,
            "in-cluster, else KUBECONFIG, else ~/.kube/config"),
        Context = Flag("--context", "NAME", "kubeconfig context", null, "its current one");
    static readonly Option<string[]> Namespaces = new("--namespace", "-n")
    {
        HelpName = "NS",
        Recursive = true,
        Description = "namespace to watch, repeatable; ALL or none: every one [WATCH_NAMESPACES, a comma list]",
    };
    static readonly Option<string?> RunDefaultsFile = Flag("--run-defaults", "FILE",
        "YAML, a fragment of OMJob.spec for runs that do not say otherwise", "RUN_DEFAULTS", "none");
    static readonly Setting<LogLevel> Level = new("--log-level", "LEVEL", "LOG_LEVEL", "info",
        "trace, debug, info, warn, error or off", ParseLevel, "a log level (trace, debug, info, warn, error or off)");
    static readonly Setting<bool> JsonLogs = new("--log-format", "FORMAT", null, "text", "text or json",
        text => text switch { "json" => true, "text" => false, _ => null }, "a log format (text or json)");
    static readonly Setting<int>
        Workers = new("--workers", "N", "RECONCILIATION_THREADS", "5", "keys reconciled at the same time",
            Count(1, 1000), "a number of workers (1 to 1000)"),
        HealthPort = new("--health-port", "PORT", "HEALTH_CHECK_PORT", "8080",
            "first port of /health, /ready and /metrics; 0: off", Count(0, 65535), "a port (0 to 65535)"),
        MetricsPort = new("--metrics-port", "PORT", "METRICS_PORT", "8081", "second port of the same; 0: off",
            Count(0, 65535), "a port (0 to 65535)"),
        ExitRetries = new("--exit-handler-retries", "N", "EXIT_HANDLER_RETRIES", "3",
            "attempts after the first, with a backoff of 10s, doubling",
            Count(0, 1000), "a number of retries (0 to 1000)");
    static readonly Setting<TimeSpan>
        StartDeadline = Duration("--start-deadline", "START_DEADLINE", "1h",
            "a main pod that has not started by then is given up; 0: never"),
        ExitDeadline = Duration("--exit-handler-deadline", "EXIT_HANDLER_DEADLINE", "10m",
            "an exit handler that has not ended by then is tried again; 0: never"),
        LostPodSlack = Duration("--lost-pod-slack", "LOST_POD_SLACK", "60s",
            "a pod that outlives its deletion by this counts as lost"),
        Quiet = Duration("--quiet-for", null, "0",
            "go on until no object has had one for so long");

    /// <summary>As the help shows them; of `release` it shows the first and the last group.</summary>
    static readonly FlagGroup[] Groups =
    [
        new("Cluster, and what is watched there", [KubeconfigPath, Context, Namespaces]),
        new("Runs", [StartDeadline.Flag, ExitDeadline.Flag, ExitRetries.Flag, LostPodSlack.Flag, RunDefaultsFile]),
        new("Work and endpoints", [Workers.Flag, HealthPort.Flag, MetricsPort.Flag]),
        new("Logs", [Level.Flag, JsonLogs.Flag]),
    ];

    static Setting<TimeSpan> Duration(string flag, string? variable, string standard, string help) =>
        new(flag, "DURATION", variable, standard, help, ParseDuration, "a duration such as 90s, 10m or 1h");

    static Task<int> Main(string[] args)
    {
        var parsed = Parse(args);
        return parsed.Errors.Count > 0
            ? Task.FromResult(Fail(2, parsed.Errors[0].Message)) // the library's own handling prints the whole help
            : parsed.InvokeAsync(new() { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
    }

    internal static ParseResult Parse(params string[] args)
    {
        const string what = "Runs OMJobs: the main pod, and then, whatever happened to it, the exit handler.\n"
            + "A flag beats its variable, in brackets; durations read like 90s, 10m, 1h30m.";
        Command release = new("release",
            "Drops this operator's finalizers from all objects, before it is uninstalled.\n"
            + "The operator's other flags are taken, too, and have no effect.")
        {
            Quiet.Flag,
        };
        release.SetAction(parsed => Run(parsed, (op, settings, stop) => op.Release(
            settings.Namespaces, Quiet.Read(parsed, Environment.GetEnvironmentVariable), stop)));
        var root = new RootCommand(what) { release };
        FlagGroup ofProgram = new("Other", [.. root.Options]), ofRelease = new("Of its own", release.Options);
        foreach (var group in Groups)
            foreach (var flag in group.Flags) root.Options.Add(flag);
        ofProgram.Flags[0].Action = new GroupedHelp([.. Groups, ofProgram], [ofRelease, Groups[0], Groups[^1]]);
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
            void Stop(PosixSignalContext signal)
            {
                signal.Cancel = true;
                try { stop.Cancel(); }
                catch (ObjectDisposedException) { } // the second signal, and we have ended
            }
            using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
            using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
            log.LogInformation("API server {Server}, namespaces {Namespaces}", access.Server,
                settings.Namespaces is [""] ? "ALL" : string.Join(',', settings.Namespaces));
            if (settings.PollingAsked)
                log.LogInformation("Nothing polls: POLLING_INTERVAL_SECONDS and REQUEUE_DELAY_SECONDS have no effect");
            return await action(new(api.Send, settings.Deadlines, TimeProvider.System, log), settings, stop.Token);
        }
        catch (Exception e) when (e is UsageException or KubeconfigException or DefaultsException)
        {
            return Fail(2, e.Message);
        }
        catch (SocketException e) { return Fail(1, $"cannot listen: {e.Message}"); }
        catch (OperationCanceledException) { return Fail(1, "stopped before it was done"); }
    }

    /// <summary>Settings from flags, else variables, else defaults. Throws UsageException naming the culprit.</summary>
    internal static Settings ReadSettings(ParseResult parsed, Func<string, string?> variable)
    {
        bool Asked(string name) => variable(name) is { } text && !string.IsNullOrWhiteSpace(text)
            && (Count(1, int.MaxValue)(text.Trim()) is not null ? true
                : throw new UsageException(name, text, "a whole number above 0"));
        return new Settings
        {
            Namespaces = ReadNamespaces(parsed.GetValue(Namespaces), variable("WATCH_NAMESPACES")),
            LogLevel = Level.Read(parsed, variable),
            JsonLogs = JsonLogs.Read(parsed, variable),
            Workers = Workers.Read(parsed, variable),
            HealthPort = HealthPort.Read(parsed, variable),
            MetricsPort = MetricsPort.Read(parsed, variable),
            AllAddresses = parsed.GetValue(KubeconfigPath) is null && KubernetesClientConfiguration.IsInCluster(),
            RunDefaults = (parsed.GetValue(RunDefaultsFile) ?? variable("RUN_DEFAULTS")) is { } file
                && !string.IsNullOrWhiteSpace(file) ? new(file.Trim()) : null,
            PollingAsked = Asked("POLLING_INTERVAL_SECONDS") | Asked("REQUEUE_DELAY_SECONDS"),
            Deadlines = new(StartDeadline.Read(parsed, variable), ExitDeadline.Read(parsed, variable),
                LostPodSlack.Read(parsed, variable), ExitRetries.Read(parsed, variable)),
        };
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
            throw new UsageException(culprit, bad, "a namespace's name");
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
        "INFO" => LogLevel.Information,
        "WARN" => LogLevel.Warning,
        "OFF" => LogLevel.None,
        _ => text.All(char.IsAsciiLetter) && Enum.TryParse<LogLevel>(text, true, out var level) ? level : null,
    };

    static Func<string, int?> Count(int least, int most) => text =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var n) && n >= least && n <= most
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

    internal static Option<string?> Flag(string name, string value, string help, string? variable, string standard) =>
        new(name)
        {
            HelpName = value,
            Recursive = true,
            Description = $"{help} [{variable}{(variable is null ? "" : "; ")}default: {standard}]",
        };

    static int Fail(int code, string line)
    {
        Console.Error.WriteLine($"omjob-operator: {line.ReplaceLineEndings(" ")}");
        return code;
    }
}

/// <summary>A flag, and a variable where it has one; the default is a text as one would write it there.</summary>
sealed class Setting<T>(string flag, string value, string? variable, string standard, string help,
    Func<string, T?> parse, string wanted) where T : struct
{
    public Option<string?> Flag { get; } = Program.Flag(flag, value, help, variable, standard);

    /// <summary>From the flag, else the variable, else the default. Throws UsageException naming the culprit.</summary>
    public T Read(ParseResult parsed, Func<string, string?> variables)
    {
        if (parsed.GetValue(Flag) is { } given) return Parse(flag, given);
        var set = variable is null ? null : variables(variable);
        return string.IsNullOrWhiteSpace(set) ? Parse(flag, standard) : Parse(variable!, set);
    }

    T Parse(string culprit, string text) =>
        parse(text.Trim()) ?? throw new UsageException(culprit, text, wanted);
}

/// <summary>Flags under one heading of the help.</summary>
sealed class FlagGroup(string heading, IList<Option> flags)
{
    public string Heading => heading;
    public IList<Option> Flags => flags;
}

/// <summary>Help with the flags in groups, which the library's own does not know, and examples.</summary>
sealed class GroupedHelp(FlagGroup[] ofProgram, FlagGroup[] ofRelease) : SynchronousCommandLineAction
{
    public override bool ClearsParseErrors => true;

    public override int Invoke(ParseResult parsed)
    {
        var (command, to) = (parsed.CommandResult.Command, parsed.InvocationConfiguration.Output);
        to.WriteLine(command.Description);
        to.WriteLine(command is RootCommand ? """

            Usage:
              omjob-operator [FLAGS]
              omjob-operator release [FLAGS]
                  drops its finalizers from all objects, before it is uninstalled
            """ : """

            Usage:
              omjob-operator release [FLAGS]
            """);
        foreach (var group in command is RootCommand ? ofProgram : ofRelease)
        {
            if (group.Flags.Count > 0) to.WriteLine($"\n{group.Heading}:");
            foreach (var flag in group.Flags)
            {
                to.Write("  ");
                foreach (var alias in flag.Aliases)
                    if (alias[0] == '-') to.Write(alias + ", ");
                var words = flag.Description!;
                var more = words.IndexOf('[', StringComparison.Ordinal); // its variable, its default
                to.WriteLine($"{flag.Name} {flag.HelpName}  {(more < 0 ? "" : words[more..])}".TrimEnd());
                to.WriteLine("      " + (more < 0 ? words : words[..more]).TrimEnd());
            }
        }
        to.WriteLine(command is RootCommand ? """

            Examples:
              omjob-operator                                              in a cluster
              omjob-operator --kubeconfig ~/.kube/config -n openmetadata
              omjob-operator -n team-a -n team-b --log-format json
              omjob-operator release --kubeconfig ~/.kube/config          see release --help
            """ : """

            Examples:
              omjob-operator release --kubeconfig ~/.kube/config
              omjob-operator release --kubeconfig ~/.kube/config -n openmetadata
            """);
        return 0;
    }
}

/// <summary>Something on the command line or in a variable that whoever starts us must change.</summary>
sealed class UsageException(string culprit, string text, string wanted)
    : Exception($"{culprit}: '{text}' is not {wanted}");
