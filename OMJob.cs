// The OMJob operator: it runs an OMJob's main pod, sees its end in every form, then always runs its exit handler pod.
//
// The protocol, each step safe to repeat from any crash:
//   1. Put the finalizer `exit-handler` on the OMJob: it cannot vanish before its handler ran.
//   2. Create the main pod by name, with the finalizer `outcome`: it cannot vanish before its end is recorded.
//   3. Status Running.
//   4. The main pod is over: status ExitHandlerRunning with exit code, message and the exit pod's name. From here the
//      verdict is read from status only, never from the pod again.
//   5. Create the exit pod by the name in status. It failed or is stuck: the next attempt's name goes to status first.
//   6. Status Succeeded or Failed; then the main pod's finalizer goes, then the OMJob's.
//   7. At completionTime + TTL the OMJob is deleted; garbage collection takes the pods.
// Every write to an OMJob carries the resourceVersion it was decided on: a 409 means observe again.
//
// Read on: command line, operator (watch, queue, reconcile, actions), Decide, pods, models, API server, endpoints.
// Schedules are in CronOMJob.cs.

using System.Buffers;
using System.CommandLine;
using System.Globalization;
using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using System.Threading.Channels;
using k8s;
using k8s.Authentication;
using k8s.KubeConfigModels;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;
using YamlDotNet.RepresentationModel;

namespace OMJobs;

// ---------------------------------------------------------------------------------------------------- command line

/// <summary>The command line. Exit codes: 0, 1 (failed), 2 (wrong usage, one line on stderr).</summary>
static class Program
{
    static readonly Option<string?>
        Kubeconfig = Flag("--kubeconfig", "PATH",
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
            Kubeconfig, Context, Namespaces, Level, Format, Workers, HealthPort, MetricsPort,
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
            var access = ClusterAccess.Load(parsed.GetValue(Kubeconfig), parsed.GetValue(Context));
            using var api = new ApiServer(access, TimeProvider.System, log);
            using var stop = new CancellationTokenSource();
            void Stop(PosixSignalContext signal) { signal.Cancel = true; stop.Cancel(); }
            using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
            using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
            log.LogInformation("API server {Server}, namespaces {Namespaces}", access.Server,
                settings.Namespaces is [""] ? "ALL" : string.Join(',', settings.Namespaces));
            if (settings.PollingAsked)
                log.LogInformation("Nothing polls: POLLING_INTERVAL_SECONDS and REQUEUE_DELAY_SECONDS have no effect");
            return await action(new(api.Send, settings.Clocks, TimeProvider.System, log), settings, stop.Token);
        }
        catch (UsageException e) { return Fail(2, e.Message); }
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
            AllAddresses = parsed.GetValue(Kubeconfig) is null && KubernetesClientConfiguration.IsInCluster(),
            PollingAsked = polling > 0,
            Clocks = new(
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

/// <summary>Something on the command line, in a variable or a kubeconfig that whoever starts us must change.</summary>
sealed class UsageException(string message) : Exception(message);

/// <summary>What the command line and the environment say.</summary>
sealed record Settings
{
    /// <summary>The namespaces to watch; one empty string: all of them.</summary>
    public required string[] Namespaces { get; init; }
    public LogLevel LogLevel { get; init; }
    public bool JsonLogs { get; init; }
    public int Workers { get; init; } = 5;
    public int HealthPort { get; init; }
    public int MetricsPort { get; init; }
    /// <summary>Serve the endpoints on all addresses (in a cluster), not on loopback only.</summary>
    public bool AllAddresses { get; init; }
    public bool PollingAsked { get; init; }
    public required Clocks Clocks { get; init; }
}

/// <summary>How long to wait for what; TimeSpan.Zero as a deadline means none.</summary>
sealed record Clocks(
    TimeSpan StartDeadline, TimeSpan ExitHandlerDeadline, TimeSpan LostPodSlack, int ExitHandlerRetries);

// -------------------------------------------------------------------------------------------------------- operator

/// <summary>Sends one request; its answer is a value. Throws only when cancelled. All I/O passes through it.</summary>
delegate Task<Reply> Send(Request request, CancellationToken stop);

/// <summary>
/// What a process remembers of a run or a schedule beside its state. It is lost with the process, which only makes
/// waits longer. Counts are in a row; the default is as if nothing had happened.
/// </summary>
sealed record Progress
{
    public static readonly Progress None = new();
    /// <summary>Requests that failed.</summary>
    public int Failures { get; init; }
    /// <summary>Refusals of a pod's or a run's creation.</summary>
    public int Refusals { get; init; }
    /// <summary>Exit pods that vanished (G17).</summary>
    public int Vanished { get; init; }
    /// <summary>No pod is created before then (server's time).</summary>
    public DateTimeOffset RetryAt { get; init; }
    /// <summary>The pod that admission leaves invalid: for how long (ticks), and the last answer that said so
    /// (timestamp; 0: something else came between, which does not count).</summary>
    public (string Pod, long Ticks, long Last)? Invalid { get; init; }
    /// <summary>How often labels were put back; many where they do not stay.</summary>
    public int Relabelled { get; init; }
    /// <summary>When to ask for the pods whose labels do not stay (server's time).</summary>
    public DateTimeOffset? AskAgain { get; init; }
    /// <summary>A pod's phase that is over while main is still said to run, and since when that is seen (P).</summary>
    public (string Pod, DateTimeOffset At)? OverSeen { get; init; }
    /// <summary>UIDs of the pods that we saw being deleted before main had ended (G21).</summary>
    public string Stopped { get; init; } = "";
    /// <summary>Since its deletion the OMJob's namespace was found to be staying.</summary>
    public bool NamespaceAsked { get; init; }
    /// <summary>When its deletion's turn is (timestamp); 0: none is waited for.</summary>
    public long DeleteSlot { get; init; }
    /// <summary>When an unfinished job is to go on by itself (server's time).</summary>
    public DateTimeOffset? Due { get; init; }
    /// <summary>Timestamp; 0: the main pod's end has not been seen, or its exit handler is there.</summary>
    public long MainOver { get; init; }
    public Fact? LastFact { get; init; }

    /// <summary>What stays true of pods, known by their UIDs, whatever becomes of the rest.</summary>
    public Progress OfPods => new() { Stopped = Stopped };
}

/// <summary>
/// The objects as the API server has told them, and what is remembered of each. All that it hands out are values: what
/// a worker has been given nobody changes. <paramref name="changed"/> is told of each change under the lock: the key
/// that it concerns, before and after (a Tombstone where it has gone); <paramref name="passed"/> tells if a watch has
/// come past a version.
/// </summary>
sealed class ObjectCache(Action<Key, Held?, Held> changed, Func<Held, bool> passed)
{
    const int MostHeld = 32 << 20; // bytes of OMJobs; one that is not held as a whole is asked for when that is needed

    readonly Lock gate = new(); // guards all below
    readonly Dictionary<Key, Held> objects = [];
    readonly Dictionary<Key, List<Key>> pods = []; // by the key of their OMJob, which need not be there
    readonly Dictionary<Key, Progress> progress = [];
    readonly Dictionary<Key, HashSet<Key>> runs = []; // of each CronOMJob, the OMJobs that name it as their owner
    readonly Dictionary<Key, Key> aliases = []; // of OMJobs whose names are cut in their pods' labels and names
    readonly Dictionary<string, string> namespaces = []; // one string for all objects of one
    long size; // bytes of OMJobs that are held as a whole

    public Key[] Keys { get { lock (gate) return [.. objects.Keys]; } }

    /// <summary>
    /// Takes what the API server says of an object, by watch, list or answer, unless something newer is held. Live:
    /// when the request was sent that it answers; isThere: nothing that a watch has told came after the answer.
    /// </summary>
    public void Upsert(Held seen, bool deleted = false, DateTimeOffset? live = null, bool isThere = false)
    {
        lock (gate)
        {
            var held = objects.GetValueOrDefault(seen.Key);
            // W8: what the watch has come past and is not there has gone: an answer that comes late does not revive it.
            if ((held is Tombstone || (held is null && live is not null)) && !isThere && passed(seen)) return;
            deleted |= seen.IsGone; // the answer to a write that lets an object go bears the version before it
            if (live is { } at && held is Job same && same.Version == seen.Version)
                objects[seen.Key] = held = same with { SeenLive = at, Stale = false };
            if (held is not null && !Versions.Newer(seen.Version, held.Version)
                && !(deleted && held is not Tombstone && seen.Version == held.Version)) return;
            if (!deleted) Put(held, seen.After(held, live));
            else if (held is not null) Put(held, Gone(held, seen));
            else changed(seen is Pod pod ? HomeOf(pod) : seen.Key, null, Gone(seen, seen)); // nothing to bury
        }
    }

    /// <summary>The object is gone, if it is still this one (D2) and nothing newer has come since.</summary>
    public void Remove(Held gone)
    {
        lock (gate)
            if (objects.GetValueOrDefault(gone.Key) is { } held and not Tombstone && held.Uid == gone.Uid)
                Put(held, Gone(held, held));
    }

    /// <summary>Changes what is held of a job, if it is still this one.</summary>
    public void Mark(Job job, Func<Job, Job> change)
    {
        lock (gate)
            if (objects.GetValueOrDefault(job.Key) is Job held && held.Uid == job.Uid) objects[job.Key] = change(held);
    }

    /// <summary>All objects that a list of that version should have had and had not are gone.</summary>
    public void Prune(Watch watch, HashSet<Key> listed, string version)
    {
        lock (gate)
            foreach (var held in objects.Values.Where(h => h.Key.Kind == watch.Kind && h is not Tombstone
                && watch.Covers(h.Namespace) && !listed.Contains(h.Key) && !Versions.Newer(h.Version, version)).ToArray())
                Put(held, Gone(held, held));
    }

    public void Clear()
    {
        lock (gate)
        {
            foreach (var all in (System.Collections.IDictionary[])[objects, pods, runs, aliases]) all.Clear();
            foreach (var (key, known) in progress.ToArray()) Remember(key, known.OfPods);
            size = 0;
        }
    }

    static Tombstone Gone(Held held, Held seen) =>
        new() { Key = held.Key, Uid = seen.Uid, Version = seen.Version, Home = held.Home };

    /// <summary>Puts one state in the other's place. Retained runs are most of what is there: they are kept small.</summary>
    void Put(Held? before, Held after)
    {
        after = after with { Key = before?.Key ?? after.Key with { Namespace = Shared(after.Namespace) } };
        var job = after as Job;
        if (after is Pod pod) after = pod with { Home = HomeOf(pod) };
        if (before is Job { Size: var less }) size -= less;
        if (job is not null)
        {
            after = job.IsLetGo ? Retained.Of(job)
                : size + job.Size <= MostHeld ? after : job.Short() with { Key = after.Key };
            size += after is Job { Size: var more } ? more : 0;
        }
        var home = after.Home ?? after.Key;
        if (before?.Home is { } old && old != home) Part(old, after.Key);
        objects[after.Key] = after;
        NoteAliases(after);
        if (after.Home is not null) Join(home, after.Key);
        NoteRun(before?.Cron, after.Cron, after.Key);
        // What was remembered of pods by their UIDs stays true.
        if (after.Home is null && before is not null && (after is Tombstone || before.Uid != after.Uid))
            Remember(home, ProgressOf(home).OfPods);
        if (after is Retained) progress.Remove(home);
        changed(home, before, after);
        DropSettled(home);
    }

    void Remember(Key key, Progress after)
    {
        if (after == Progress.None) progress.Remove(key);
        else progress[key] = after;
    }

    public Held? Get(Key key) { lock (gate) return Whole(objects.GetValueOrDefault(key)); }

    public Progress ProgressOf(Key key) { lock (gate) return progress.GetValueOrDefault(key, Progress.None); }

    /// <summary>
    /// What is held for a key, and of a CronOMJob its runs. Forgets tombstones: no answer to a request is due when a
    /// key is taken.
    /// </summary>
    public (Held? Owner, Pod[] Pods, Progress Progress) Observe(Key key)
    {
        lock (gate)
        {
            if (objects.GetValueOrDefault(key) is Tombstone) objects.Remove(key);
            foreach (var pod in pods.GetValueOrDefault(key)?.Where(p => objects[p] is Tombstone).ToArray() ?? [])
                Drop(key, pod);
            var (owner, there) = (Get(key), pods.GetValueOrDefault(key));
            if (owner is null && there is null) progress.Remove(key);
            return (owner, [.. there?.Select(p => (Pod)objects[p]) ?? []], ProgressOf(key));
        }
    }

    public Job[] RunsOf(Cron cron)
    {
        lock (gate)
            return [.. (runs.GetValueOrDefault(cron.Key) ?? []).Select(Get).OfType<Job>()
                .Where(job => job.Cron?.Uid == cron.Uid)];
    }

    /// <summary>Remembers something of a key, as long as that object is there. Null: of its pods, without it.</summary>
    public Progress Note(Key key, string? uid, Func<Progress, Progress> change)
    {
        lock (gate)
        {
            var after = change(ProgressOf(key));
            if (Get(key)?.Uid == uid) Remember(key, after);
            return after;
        }
    }

    /// <summary>The keys of a namespace that may have something to do or to forget; retained OMJobs have but to expire.</summary>
    public Key[] KeysOf(Func<string, bool> ofNamespace, bool retained)
    {
        lock (gate)
            return [.. objects.Values.Where(h => retained || h is not Retained).Select(h => h.Home ?? h.Key)
                .Concat(progress.Keys).Where(key => ofNamespace(key.Namespace)).Distinct()];
    }

    public void Visit(Action<Phase, Progress> visit)
    {
        lock (gate)
            foreach (var (key, held) in objects)
                if (held is Retained old) visit(old.Phase, Progress.None);
                else if (held is Job job) visit(job.Status.Phase, ProgressOf(key));
    }

    static Held? Whole(Held? held) => held is Retained old ? old.ToJob() : held is Tombstone ? null : held;

    /// <summary>The job of a pod: by owner reference, else by label or its own name, both cut for a name too long.</summary>
    Key HomeOf(Pod pod)
    {
        var named = new Key(pod.Namespace, pod.JobName);
        return !pod.HasOwner && aliases.TryGetValue(named, out var whole)
            && objects.GetValueOrDefault(whole)?.Uid == pod.JobUid ? whole : named;
    }

    /// <summary>Pods may be told before their OMJob is: those that came under its cut name are its own.</summary>
    void NoteAliases(Held job)
    {
        if (job.Key is not { Kind: Kind.OMJob, Name.Length: > Names.MostInPodName }) return;
        foreach (var cut in (string[])[Names.LabelValue(job.Name), Names.Fit(job.Name, Names.MostInPodName, "")])
        {
            var alias = new Key(job.Namespace, cut);
            if (job is Tombstone) { aliases.Remove(alias); continue; }
            if (cut != job.Name) aliases[alias] = job.Key;
            foreach (var key in pods.GetValueOrDefault(alias)?.ToArray() ?? [])
            {
                if (objects[key] is not Pod pod || HomeOf(pod) is var home && home == alias) continue;
                Part(alias, key);
                objects[key] = pod with { Home = home };
                Join(home, key);
            }
        }
    }

    /// <summary>Lets go of pods that need nothing any more: whoever wants one asks for it.</summary>
    void DropSettled(Key home)
    {
        if (objects.GetValueOrDefault(home) is Job or Cron || !pods.TryGetValue(home, out var keys)) return;
        foreach (var key in keys.Where(k => objects[k] is Pod { IsSettled: true }).ToArray()) Drop(home, key);
    }

    void Drop(Key home, Key pod)
    {
        objects.Remove(pod);
        Part(home, pod);
    }

    void Join(Key home, Key pod)
    {
        if (!pods.TryGetValue(home, out var keys)) pods[home] = keys = new(2);
        if (!keys.Contains(pod)) keys.Add(pod);
    }

    void Part(Key home, Key pod)
    {
        if (pods.TryGetValue(home, out var keys) && keys.Remove(pod) && keys.Count == 0) pods.Remove(home);
    }

    void NoteRun(Owner? before, Owner? after, Key run)
    {
        if (before is not null && before.Key != after?.Key && runs.TryGetValue(before.Key, out var fewer)
            && fewer.Remove(run) && fewer.Count == 0)
            runs.Remove(before.Key);
        if (after is not null) (runs.TryGetValue(after.Key, out var more) ? more : runs[after.Key] = []).Add(run);
    }

    string Shared(string ns) => namespaces.TryGetValue(ns, out var shared) ? shared : namespaces[ns] = ns;
}

/// <summary>Splits a list into its items while it comes in: one of them is in memory at a time.</summary>
sealed class ListReader(ListReader.Item take)
{
    public delegate void Item(ReadOnlySpan<byte> json);
    enum At { Start, Fields, Items, End }

    const int GoodPage = 4 << 20, MostItems = 1000; // bytes
    byte[] buffer = [];
    int length, items;
    long bytes;
    At at;
    JsonReaderState state = new(new() { MaxDepth = Json.MostDepth });

    public ListMeta? Meta { get; private set; }

    /// <summary>Takes the next piece of the text. Throws JsonException where it is none.</summary>
    public void Feed(ReadOnlySpan<byte> piece)
    {
        if (buffer.Length < length + piece.Length) Array.Resize(ref buffer, Math.Max(length + piece.Length, 2 * length));
        piece.CopyTo(buffer.AsSpan(length));
        length += piece.Length;
        bytes += piece.Length;
        var reader = new Utf8JsonReader(buffer.AsSpan(0, length), isFinalBlock: false, state);
        var used = 0;
        while (at != At.End && Step(ref reader)) (used, state) = ((int)reader.BytesConsumed, reader.CurrentState);
        buffer.AsSpan(used, length - used).CopyTo(buffer);
        length -= used;
    }

    /// <summary>Takes one field or item; false, and nothing is taken, where it is not there as a whole yet.</summary>
    bool Step(ref Utf8JsonReader reader)
    {
        if (!reader.Read()) return false;
        switch (at)
        {
            case At.Start: at = reader.TokenType == JsonTokenType.StartObject ? At.Fields : throw new JsonException(); break;
            case At.Fields when reader.TokenType == JsonTokenType.EndObject: at = At.End; break;
            case At.Items when reader.TokenType == JsonTokenType.EndArray: at = At.Fields; break;
            case At.Fields:
                var (isMeta, isItems) = (reader.ValueTextEquals("metadata"u8), reader.ValueTextEquals("items"u8));
                if (!reader.Read()) return false;
                if (isItems && reader.TokenType == JsonTokenType.StartArray) { at = At.Items; break; }
                if (Value(ref reader) is not { } field) return false;
                if (isMeta) Meta = JsonSerializer.Deserialize(buffer.AsSpan(field), Json.Default.ListMeta);
                break;
            default:
                if (Value(ref reader) is not { } item) return false;
                items++;
                take(buffer.AsSpan(item));
                break;
        }
        return true;
    }

    static Range? Value(ref Utf8JsonReader reader)
    {
        var start = (int)reader.TokenStartIndex;
        return reader.TrySkip() ? start..(int)reader.BytesConsumed : null;
    }

    /// <summary>The answer, as a fault where it is no whole list; what has come as a whole is taken only now.</summary>
    public Reply Read(Reply reply)
    {
        if (!reply.Ok) return reply;
        try { Feed(reply.Body); }
        catch (JsonException) { at = At.Start; }
        return at == At.End && Meta?.ResourceVersion is not null ? reply
            : new Reply(0, []) { Fault = "the list cannot be read" };
    }

    /// <summary>How many of such objects make a good page; not many times more than were seen.</summary>
    public int NextPage(int asked) => items == 0 ? asked
        : (int)Math.Clamp(GoodPage / Math.Max(1, bytes / items), 1, Math.Min(8L * asked, MostItems));
}

/// <summary>
/// The loop: watches feed a cache and a queue of keys; workers take keys: observe, Decide, act; every answer feeds the
/// cache again, which requeues the key. Each namespace is on its own: none of its keys is worked on before its pods and
/// OMJobs have been listed, and one that cannot be listed holds up no other.
/// </summary>
sealed partial class Operator
{
    readonly Send send;
    readonly Clocks clocks;
    readonly TimeProvider time;
    readonly ILogger log;
    readonly Random random;
    readonly ServerClock clock;
    readonly Metrics metrics = new();
    readonly ObjectCache cache;
    readonly WorkQueue queue, senders; // keys to reconcile; namespaces that have events to write
    readonly Lock gate = new(); // guards all below
    readonly HashSet<Key> failed = []; // keys that are worked on and met an error
    readonly Dictionary<string, Queue<Fact>> facts = []; // events to write, by namespace
    int pending; // of them, in all
    TaskCompletionSource? written; // completes when none is pending
    long nextDelete; // timestamp; TTL deletes are paced from here
    int epoch; // how often the cache was dropped: what was asked before does not belong into it

    public Operator(Send send, Clocks clocks, TimeProvider time, ILogger log, Random? seeded = null)
    {
        (this.send, this.clocks, this.time, this.log, random) = (send, clocks, time, log, seeded ?? Random.Shared);
        (clock, queue, senders, Answered) = (new(time), new(time, metrics), new(time), time.GetTimestamp());
        cache = new(Changed, held => Watches.Exists(watch => watch.HasPassed(held)));
    }

    internal List<Watch> Watches { get; } = [];
    /// <summary>The objects that are remembered.</summary>
    internal Key[] Held => cache.Keys;
    /// <summary>Timestamp of the last answer that says something, not 401 or 5xx; at first the start's.</summary>
    internal long Answered { get; private set; }
    /// <summary>The code of the last answer of all; 0: there was none.</summary>
    internal int LastCode { get; private set; }
    DateTimeOffset Now => clock.Now;

    // ----- start and stop

    /// <summary>Runs until <paramref name="stop"/>, then finishes writes under way; returns the exit code.</summary>
    public async Task<int> Run(Settings settings, CancellationToken stop)
    {
        queue.Workers = senders.Workers = settings.Workers;
        Func<string, Watch>[] kinds = [Watch.Pods, Watch.Jobs, Watch.Crons];
        Watches.AddRange(kinds.SelectMany(kind => settings.Namespaces.Select(kind)));
        using var endpoints = new Endpoints(this, settings, time, metrics, log);
        using var cut = new CancellationTokenSource();
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(stop);
        _ = Guard(Work(senders, ns => WriteEvent(ns, cut.Token), cut.Token));
        _ = Guard(endpoints.Serve());
        _ = Guard(queue.RunTimers(ending.Token));
        var working = Guard(Work(queue, key => Reconcile(key, cut.Token), ending.Token));
        foreach (var ns in settings.Namespaces) _ = Guard(RunNamespace(ns, ending.Token));
        await Task.Delay(Timeout.InfiniteTimeSpan, time, ending.Token).Quietly();
        log.LogInformation("Stopping: finishing the writes under way");
        await working.WaitAsync(TimeSpan.FromSeconds(7), time, default).Quietly();
        await EventsWritten().WaitAsync(TimeSpan.FromSeconds(2), time, default).Quietly();
        cut.Cancel();
        return stop.IsCancellationRequested ? 0 : 1;

        // A loop that ends by a bug would leave us alive and deaf: better to end, and be started again.
        async Task Guard(Task loop)
        {
            try { await loop; }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                log.LogCritical("Ending: {Type} {Trace}", e.GetType(), e.StackTrace);
                ending.Cancel();
            }
        }
    }

    /// <summary>Drops our finalizers from every OMJob and pod of the namespaces (F6); returns the exit code.</summary>
    public async Task<int> Release(string[] namespaces, CancellationToken stop)
    {
        var (released, failed) = (0, 0);
        foreach (var watch in namespaces.SelectMany(ns => (Watch[])[Watch.Pods(ns), Watch.Jobs(ns)]))
        {
            var ours = new List<Held>();
            var (listed, _) = await List(watch, found =>
            {
                var held = Read(found, watch);
                if (held is Job { HasFinalizer: true } job) ours.Add(job with { Spec = [] });
                else if (held is Pod { HasFinalizer: true }) ours.Add(held);
            }, stop);
            if (!listed.Ok) Count(listed);
            foreach (var held in ours) await ReleaseOne(held);
        }
        log.LogInformation("Released {Released} objects, {Failed} failed", released, failed);
        return failed == 0 ? 0 : 1;

        async Task ReleaseOne(Held held)
        {
            if (held is Pod pod) Count(await ReleasePod(pod, stop));
            for (var job = held as Job; job is { HasFinalizer: true };)
            {
                var reply = await PatchFinalizers(job, job.Finalizers.Where(f => f != Job.Finalizer), stop);
                job = reply.Outcome == Outcome.Conflict ? (await AskJob(job.Key, stop)).Job : null;
                if (job is null) Count(reply);
            }
        }

        void Count(Reply reply)
        {
            if (reply.Outcome is Outcome.Ok or Outcome.NotFound) released++;
            else failed++;
            if (!reply.Ok) log.LogError("{Words}", reply.Brief);
        }
    }

    // ----- list and watch

    /// <summary>Pods first, and jobs only once the pods are listed: so the job of a listed pod is listed too.</summary>
    async Task RunNamespace(string ns, CancellationToken stop)
    {
        var loops = new List<Task>();
        foreach (var watch in Watches.Where(w => w.Namespace == ns))
        {
            var listed = new TaskCompletionSource();
            loops.Add(RunWatch(watch, listed, stop));
            await Task.WhenAny(listed.Task, loops[^1]);
        }
        await await Task.WhenAny(loops); // none ends before it is stopped, but by a bug
    }

    async Task RunWatch(Watch watch, TaskCompletionSource listed, CancellationToken stop)
    {
        for (var failures = 0; !stop.IsCancellationRequested;)
        {
            watch.Turned = time.GetTimestamp();
            var (listing, from) = (watch.Version is null || !watch.Listed, watch.Version);
            var reply = listing ? await ListAll(watch, stop) : await Follow(watch, stop);
            // A stream that ends by itself is normal; one that ends at once, again and again, is not. The API server also
            // ends one whose reader is slow in a burst: what brought an event has lived.
            var lived = listing ? reply.Ok : watch.Connected
                && (watch.Version != from || time.GetElapsedTime(watch.Turned) > TimeSpan.FromSeconds(1));
            failures = !lived ? failures + 1 : reply.Ok ? 0 : 1;
            var mute = !listing && reply.Ok && watch.Connected && watch.Version == from;
            if (watch.Connected) (watch.Connected, watch.Lost) = (false, time.GetTimestamp());
            if (reply.Outcome == Outcome.Gone) watch.Version = null; // W6: list again
            // OMJobs go on without the CRD of schedules, and without the right to see them.
            var absent = watch.Kind == Kind.CronOMJob && reply.Code is 403 or 404;
            if (absent && !watch.Absent) log.LogWarning("No schedules run, until this is: {Words}", reply.Words);
            watch.Absent = absent;
            if (absent || watch.Listed) listed.TrySetResult();
            if (int.IsPow2(failures) && failures > 1 && !absent)
                log.LogWarning("Watch {Path}: {Words} ({Failures} times in a row)", watch.Path, reply.Words, failures);
            // A watch from a version that is still to come opens well and stays silent.
            if (mute && watch.Newest is { } told && await IsSetBack(watch, told, stop)) DropCache();
            var pause = Backoff(failures, TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(15));
            if (failures > 0) await Task.Delay(pause, time, stop).Quietly();
        }
    }

    async Task<Reply> ListAll(Watch watch, CancellationToken stop)
    {
        var (listed, begun, first) = (new HashSet<Key>(), epoch, false);
        var (reply, version) = await List(watch, Take, stop);
        if (!reply.Ok) return reply;
        if (watch.Newest is { } newest && Versions.Newer(newest, version!) && await IsSetBack(watch, newest, stop))
        {
            DropCache();
            return new(0, []) { Fault = "its versions went back" };
        }
        lock (gate)
        {
            if (epoch != begun) return new(0, []) { Fault = "its versions went back" };
            cache.Prune(watch, listed, version!);
            watch.Tell(version, time.GetTimestamp(), Now);
            (first, watch.Listed) = (!watch.Listed, true);
        }
        // What the pages have left would stay for as long as nothing happens: an idle process collects no garbage.
        if (listed.Count > 500) GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive);
        if (first)
            foreach (var key in cache.KeysOf(watch.Covers, retained: watch.Kind == Kind.Pod)) Requeue(key);
        return reply;

        void Take(IApiObject found)
        {
            lock (gate)
            {
                if (epoch != begun) return;
                if (Read(found, watch) is { } held) cache.Upsert(held);
            }
            // Also one that cannot be read is there. The key that is held spares its text being there twice.
            if (found.Metadata is { Name: { } name, Namespace: { } ns }
                && cache.Get(new(ns, name, watch.Kind)) is { Key: var key }) listed.Add(key);
        }
    }

    /// <summary>Gets a list page by page; returns the last answer and, where that is Ok, the list's version.</summary>
    async Task<(Reply Reply, string? Version)> List(Watch watch, Action<IApiObject> take, CancellationToken stop)
    {
        watch.PageSize = Math.Min(watch.PageSize, Watch.FirstPage);
        var next = "";
        for (var failures = 0; ;)
        {
            var list = new ListReader(item => { if (ReadItem(item, watch) is { } found) take(found); });
            var page = next.Length == 0 ? "" : $"&continue={Uri.EscapeDataString(next)}";
            var reply = list.Read(await Call(new(HttpMethod.Get, $"{watch.Path}limit={watch.PageSize}{page}")
            {
                Timeout = TimeSpan.FromSeconds(60),
                OnPiece = list.Feed,
            }, stop));
            if (reply.Ok)
            {
                watch.Turned = time.GetTimestamp();
                (failures, watch.PageSize, next) = (0, list.NextPage(watch.PageSize), list.Meta!.Continue ?? "");
                if (next.Length == 0) return (reply, list.Meta.ResourceVersion);
                continue;
            }
            if (reply.Outcome is not (Outcome.Fault or Outcome.TooMany)) return (reply, null);
            watch.PageSize = Math.Max(1, watch.PageSize / 4); // what is too much in one answer may not be in several
            if (next.Length == 0 || ++failures > 5) return (reply, null);
            await Task.Delay(Pause(failures, reply.RetryAfter), time, stop).Quietly();
        }
    }

    /// <summary>One of a list's items; one that cannot be read must not hide the others.</summary>
    IApiObject? ReadItem(ReadOnlySpan<byte> text, Watch watch)
    {
        try { return (IApiObject?)JsonSerializer.Deserialize(text, watch.ItemType); }
        catch (JsonException e) // the path tells no value
        {
            var item = JsonSerializer.Deserialize(text, Json.Default.JsonElement);
            var (ns, name) = (Named(item, "namespace"), Named(item, "name"));
            log.LogError("Watch {Path}: unreadable object {Namespace}/{Name} at {Where}", watch.Path, ns, name, e.Path);
            return new JobObject(
                new(name, ns, null, null, null, null, null, null, null, null, null, null), default, default);
        }

        static string? Named(JsonElement item, string field)
        {
            try { return item.Get("metadata").Text(field); }
            catch (InvalidOperationException) { return null; } // a text that is no Unicode
        }
    }

    /// <summary>Watches until the server closes the stream, it breaks, or nothing more can come (W1–W3, W6).</summary>
    async Task<Reply> Follow(Watch watch, CancellationToken stop)
    {
        var seconds = random.Next(150, 200);
        var from = $"watch=1&allowWatchBookmarks=true&resourceVersion={watch.Version}&timeoutSeconds={seconds}";
        var stream = new CancellationTokenSource(); // not disposed of: another thread may be about to cancel it
        using var stopped = stop.UnsafeRegister(_ => stream.Cancel(), null);
        watch.Stream = stream;
        try
        {
            return await Call(new(HttpMethod.Get, watch.Path + from)
            {
                Timeout = TimeSpan.FromSeconds(seconds + 10),
                OnLine = line => Take(watch, line),
            }, stream.Token);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested) { return new(410, []); }
        finally { watch.Stream = null; }
    }

    /// <summary>Takes one line of a watch; returns what ends the stream, if this line does.</summary>
    Reply? Take(Watch watch, ReadOnlyMemory<byte> line)
    {
        if (!watch.Listed) return new(410, []); // the cache was dropped
        watch.Connected = true;
        watch.Tell(watch.Version, time.GetTimestamp(), Now);
        Answered = watch.Heard;
        if (line.IsEmpty) return null; // the stream is open
        try
        {
            if (line.Span.StartsWith("{\"type\":\"ERROR\""u8))
            {
                var error = JsonSerializer.Deserialize(line.Span, Json.Default.WatchEventStatusObject)?.Object;
                return new Reply(error?.Code ?? 500, []) { Fault = error?.Message ?? "ERROR event" };
            }
            var change = (IWatchEvent?)JsonSerializer.Deserialize(line.Span, watch.EventType);
            lock (gate)
            {
                if (!watch.Listed) return new(410, []);
                if (change?.Type != "BOOKMARK" && Read(change?.Object, watch) is { } held)
                    cache.Upsert(held, change!.Type == "DELETED");
                watch.Tell(change?.Object?.Metadata?.ResourceVersion ?? watch.Version, time.GetTimestamp(), Now);
            }
        }
        catch (JsonException e) // the path tells no value
        {
            log.LogError("Watch {Path}: unreadable event at {Where}", watch.Path, e.Path);
        }
        return null;
    }

    /// <summary>What we hold of an object; null, and a line in the log, where it cannot be read: others can.</summary>
    Held? Read(IApiObject? found, Watch watch)
    {
        try { return found?.ToHeld(Now); }
        catch (InvalidOperationException) // a text that is no Unicode
        {
            log.LogError("Watch {Path}: unreadable object {Name}", watch.Path, found?.Metadata?.Name);
            return null;
        }
    }

    // ----- versions that go back (etcd was restored from a backup): whoever compares versions would be deaf

    /// <summary>A list is of a version before one that was told.</summary>
    async Task<bool> IsSetBack(Watch watch, string told, CancellationToken stop)
    {
        var list = new ListReader(_ => { });
        var reply = list.Read(await Call(new(HttpMethod.Get, watch.Path + "limit=1") { OnPiece = list.Feed }, stop));
        return reply.Ok && Versions.Newer(told, list.Meta!.ResourceVersion!);
    }

    /// <summary>An object is of a version before one that was told.</summary>
    async Task<bool> IsSetBack(Held told, CancellationToken stop)
    {
        var reply = await Call(new(HttpMethod.Get, Paths.Of(told.Key)), stop);
        return reply.Ok && reply.Read(Json.Default.JsonElement) is JsonElement whole
            && whole.Get("metadata").Text("resourceVersion") is { } now && Versions.Newer(told.Version, now);
    }

    /// <summary>Begins as a new process does.</summary>
    void DropCache()
    {
        log.LogWarning("The API server's versions went back: everything is listed again");
        lock (gate)
        {
            epoch++;
            foreach (var watch in Watches) (watch.Listed, watch.Version, watch.Newest) = (false, null, null);
            cache.Clear();
        }
        foreach (var watch in Watches) watch.Stream?.Cancel();
    }

    // ----- cache

    /// <summary>What follows from a change beside the next reconcile. Called under the cache's lock.</summary>
    void Changed(Key key, Held? before, Held after)
    {
        var job = cache.Get(key) as Job;
        if (after is Pod seen) NoteStopped(key, seen);
        // What stood in the way of a creation may have been this pod. G17: if it is ours, it may be created again, with
        // backoff, once the OMJob is seen to be there still: no race with what deletes it, nor the collector.
        if (after is Tombstone && job is not null)
        {
            var vanished = before is Pod pod && pod.Name == Pods.ExitName(job) && pod.BelongsTo(job);
            if (vanished) cache.Mark(job, held => held with { SeenLive = null });
            cache.Note(key, job.Uid, p => !vanished ? p with { RetryAt = default } : p with
            {
                Vanished = p.Vanished + 1,
                RetryAt = Now + Backoff(p.Vanished + 1, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30)),
            });
        }
        if (before?.Cron is { } fewer) Requeue(fewer.Key);
        if (after.Cron is { } more && more != before?.Cron) Requeue(more.Key);
        Requeue(key, first: after.Key.Kind == Kind.Pod);
    }

    /// <summary>
    /// G21: what a node's clock says of its end proves nothing from now on; nor that nobody had it stopped, where the API
    /// server has forgotten that (it was restored).
    /// </summary>
    void NoteStopped(Key key, Pod pod)
    {
        if (pod.Deleting && (pod.MainRunning || pod.FinishedAt >= pod.DeletionRequested))
            cache.Note(key, cache.Get(key)?.Uid, p => p.Stopped.Contains(pod.Uid, StringComparison.Ordinal) ? p
                : p with { Stopped = $"{p.Stopped}{pod.Uid} " });
    }

    /// <summary>Queues a key, unless its namespace has not been listed: then all of its keys will be.</summary>
    void Requeue(Key key, bool first = false)
    {
        if (!Waits(key)) queue.Add(key, first);
    }

    /// <summary>Its namespace has not been listed. An OMJob that nothing is held of can expire before.</summary>
    bool Waits(Key key) => Watches.Exists(w => !w.Listed && w.Covers(key.Namespace)
        && (w.Kind == Kind.Pod || (w.Kind == Kind.OMJob && cache.Get(key) is not Job { IsLetGo: true })));

    // ----- reconcile

    /// <summary>Hands each key that comes to the work until stopped; ends once all of it is done.</summary>
    static async Task Work(WorkQueue keys, Func<Key, Task> work, CancellationToken stop)
    {
        var working = new List<Task>();
        while (await keys.Take(stop) is { } key)
        {
            if (working.Find(task => task.IsFaulted) is { } broken) await broken;
            working.RemoveAll(task => task.IsCompleted);
            working.Add(One(key));
        }
        await Task.WhenAll(working);

        async Task One(Key key)
        {
            try { await work(key); }
            finally { keys.Done(key); }
        }
    }

    async Task Reconcile(Key key, CancellationToken cut)
    {
        if (Waits(key)) return; // the cache was dropped
        var start = time.GetTimestamp();
        try
        {
            if (key.Kind == Kind.CronOMJob) await ReconcileCron(key, cut);
            else await ReconcileJob(key, cut);
        }
        catch (OperationCanceledException) when (cut.IsCancellationRequested) { return; }
#pragma warning disable CA1031 // A bug met by one object must not stop the others; an exception never decides a phase.
        catch (Exception e)
#pragma warning restore CA1031
        {
            log.LogError("{Namespace}/{Name}: {Type} {Trace}", key.Namespace, key.Name, e.GetType(), e.StackTrace);
            TryAgain(key, TimeSpan.FromSeconds(30));
        }
        var controller = Metrics.Label("controller", key.Kind == Kind.OMJob ? "omjob" : "cronomjob");
        bool error;
        lock (gate) error = failed.Remove(key);
        metrics.Count(Metrics.Reconciles, $"{controller},{Metrics.Label("result", error ? "error" : "success")}");
        if (error) metrics.Count(Metrics.Errors, controller);
        metrics.Observe(Metrics.ReconcileTime, controller, time.GetElapsedTime(start));
    }

    async Task ReconcileJob(Key key, CancellationToken stop)
    {
        var (owner, pods, _) = cache.Observe(key);
        var job = owner as Job;
        // What names no OMJob is found by whoever asks for the pod.
        if (key.Name.Length == 0 || (job is null && pods.Length == 0)) return;
#pragma warning disable CA1727 // JSON logs show these fields with each line, under the names that objects give them.
        using var fields = log.BeginScope("{namespace}/{omjob} {uid} {phase}",
            key.Namespace, key.Name, job?.Uid, job?.Status.Phase);
#pragma warning restore CA1727
        foreach (var pod in pods)
        {
            if (Protocol.Stray(job, pod) is null) continue;
            (var reply, job) = await AskJob(key, stop);
            if (!reply.Ok && reply.Outcome != Outcome.NotFound) { Retry(key, job, reply); return; }
            if (await AskPod(key, job, pod.Name, stop) is not { } live) return;
            if (live.Pod?.Uid != pod.Uid) return; // a newer one, or none: its key comes again
            if (Protocol.Stray(job, live.Pod) is not { } stray) continue;
            log.LogWarning("{Namespace}/{Name}: {Pod} {Why}", key.Namespace, key.Name, pod.Name, stray.Why);
            if (job is not null && stray.Fact is { } fact) Tell(job, fact);
            await Do(key, job, stray, stop);
            return;
        }
        if (job is not null) await DecideAndAct(key, job, pods, stop);
    }

    async Task DecideAndAct(Key key, Job job, Pod[] pods, CancellationToken stop)
    {
        PodView View(string name) => ViewOf(key, pods.FirstOrDefault(p => p.Name == name));
        PodView? main = View(Pods.MainName(job)), exit = View(Pods.ExitName(job));
        for (var round = 0; main is not null && exit is not null; round++)
        {
            if (round == 8) { TryAgain(key, TimeSpan.FromSeconds(1)); return; }
            // G20: the collector, done with orphaning, has taken the owner reference and left no other sign.
            var orphaning = job.Finalizers.Contains(Job.Orphan) || (job.Deleting && main.Pod is { HasOwner: false });
            var known = cache.ProgressOf(key);
            job = job with { NamespaceAsked = known.NamespaceAsked, Orphaning = orphaning };
            var decision = Protocol.Decide(job, main, exit, Now, clocks);
            var needsAll = decision.Act is Act.CreateMain or Act.CreateExit or Act.AskNamespace
                or Act.AddFinalizer or Act.DropFinalizer;
            switch (needsAll && !job.IsWhole ? Act.AskJob : decision.Act)
            {
                case Act.Wait:
                    var waits = job.Status.Phase.IsFinished() || known.RetryAt > Now;
                    cache.Note(key, job.Uid, p => p with { Failures = 0, Due = waits ? null : decision.Wake });
                    // The answers set the clock, within the second that they tell: who has asked asks no sooner again.
                    var least = round > 0 ? TimeSpan.FromSeconds(1) : TimeSpan.Zero;
                    if (decision.Wake is { } wake) queue.AddAfter(key, wake - Now < least ? least : wake - Now);
                    return;
                case Act.AskJob:
                    var (reply, live) = await AskJob(key, stop);
                    if (!reply.Ok && reply.Outcome != Outcome.NotFound) Retry(key, job, reply);
                    if (live?.Uid != job.Uid) return;
                    // It may name another exit pod by now (D1).
                    if (live.Status != job.Status)
                        (main, exit) = (View(Pods.MainName(live)), View(Pods.ExitName(live)));
                    job = live;
                    break;
                case Act.AskMain: main = await AskPod(key, job, Pods.MainName(job), stop); break;
                case Act.AskExit: exit = await AskPod(key, job, Pods.ExitName(job), stop); break;
                case Act.AskNamespace: exit = await AskNamespace(key, job, exit, stop); break;
                case Act.CreateMain: main = await Create(key, job, PodType.Main, stop); break;
                case Act.CreateExit: exit = await Create(key, job, PodType.ExitHandler, stop); break;
                default: await Do(key, job, decision, stop); return;
            }
        }
    }

    /// <summary>A pod with what is remembered of it; null: not held.</summary>
    PodView ViewOf(Key key, Pod? pod)
    {
        var known = cache.ProgressOf(key);
        return new(pod)
        {
            RetryAt = known.RetryAt,
            AskAgain = pod is { LostLabels: true } ? known.AskAgain : null,
            Stopped = pod is not null && known.Stopped.Contains(pod.Uid, StringComparison.Ordinal),
        };
    }

    // ----- actions

    /// <summary>Does what was decided, one request, and takes its answer.</summary>
    async Task Do(Key key, Job? job, Decision decision, CancellationToken stop)
    {
        var pod = decision.Pod!;
        switch (decision.Act)
        {
            case Act.AddFinalizer:
                var more = job!.Finalizers.Append(Job.Finalizer);
                await TakeJob(key, job, await PatchFinalizers(job, more, stop), stop);
                break;
            case Act.DropFinalizer:
                var less = job!.Finalizers.Where(f => f != decision.Why);
                await TakeJob(key, job, await PatchFinalizers(job, less, stop), stop);
                break;
            case Act.WriteStatus: await WriteStatus(key, job!, decision, stop); break;
            case Act.Block: await Block(key, job!, PodType.Main, new(0, []) { Fault = decision.Why }, stop); break;
            case Act.DeleteJob: await DeleteJob(key, job!, job!.Version, "its TTL is over", stop); break;
            case Act.ReleasePod: await TakePod(key, job, pod, await ReleasePod(pod, stop), stop); break;
            case Act.RestoreLabels: await RestoreLabels(key, job!, pod, stop); break;
            case Act.DeletePod:
                Log(key, $"Deleting {pod.Name}: {decision.Why}");
                var delete = new Request(HttpMethod.Delete, Paths.Of(pod.Key), Bodies.Delete(pod.Uid, null));
                await TakePod(key, job, pod, await Call(delete, stop), stop);
                break;
        }
    }

    /// <summary>Creates a pod. Returns what is now known of its name, or null where the key waits.</summary>
    async Task<PodView?> Create(Key key, Job job, PodType type, CancellationToken stop)
    {
        var (main, name) = (type == PodType.Main, type == PodType.Main ? Pods.MainName(job) : Pods.ExitName(job));
        // D1: it may come to pass whatever the answer, and be over before a watch tells: the next one asks again.
        cache.Mark(job, held => held with { SeenLive = null });
        var sent = time.GetTimestamp();
        var reply = await Call(Paths.CreatePod(job.Namespace, Pods.Build(job, type)), stop);
        if (reply.Outcome != Outcome.Invalid)
            cache.Note(key, job.Uid, p => p with { Invalid = p.Invalid is { } so ? (so.Pod, so.Ticks, 0) : null });
        switch (reply.Outcome)
        {
            case Outcome.Ok:
                var (known, pod) = (cache.ProgressOf(key), reply.Read(Json.Default.PodObject)?.ToPod(Now));
                cache.Note(key, job.Uid, p => p with
                {
                    Refusals = 0,
                    Failures = 0,
                    Invalid = null,
                    MainOver = main ? p.MainOver : 0,
                });
                Log(key, $"Created {name}");
                Tell(job, main
                    ? new("MainPodCreated", $"Created main pod {name}")
                    : new("ExitHandlerCreated", $"Created exit handler pod {name}"));
                if (!main && known.MainOver != 0)
                    metrics.Observe(Metrics.ExitHandlerLatency, "", time.GetElapsedTime(known.MainOver));
                if (pod is { LostLabels: false }) await Take(pod, null, reply, stop);
                return pod is null ? null : ViewOf(key, pod);
            case Outcome.Exists or Outcome.Conflict: // D4: Decide looks whose it is
                var found = await AskPod(key, job, name, stop);
                if (found is not { Sight: Sight.Absent }) return found;
                await Block(key, job, type, reply, stop); // not there after all: a quota's conflict
                return null;
            case Outcome.Invalid when !IsInvalidForGood(key, job, name, main, sent): goto default;
            case Outcome.Impossible or Outcome.Invalid: // D4: it is refused before anybody looks whether it is there
                var there = await AskPod(key, job, name, stop);
                return there is { Sight: Sight.Absent } ? PodView.Refused(Words(reply, job)) : there;
            case Outcome.NamespaceGoing: return PodView.NamespaceGoing;
            case Outcome.Unauthorized or Outcome.Fault when reply.Code is 0 or 401:
                Retry(key, job, reply);
                return null;
            default:
                await Block(key, job, type, reply, stop);
                return null;
        }
    }

    /// <summary>
    /// G15: admission changes a pod before it is validated, so one that is invalid now may be valid later. It is given up
    /// once it has been refused so for a minute; a handler's, whose OMJob is not being deleted, for its deadline. What
    /// counts is the time from an answer to when the next try was sent (timestamp): no request's own.
    /// </summary>
    bool IsInvalidForGood(Key key, Job job, string name, bool main, long sent)
    {
        var now = time.GetTimestamp();
        var (_, ticks, _) = cache.Note(key, job.Uid, p => p with
        {
            Invalid = p.Invalid is { } invalid && invalid.Pod == name
                ? (name, invalid.Ticks + (invalid.Last == 0 ? 0 : sent - invalid.Last), now) : (name, 0, now),
        }).Invalid!.Value;
        var patience = main || job.Deleting ? TimeSpan.FromMinutes(1)
            : clocks.ExitHandlerDeadline == TimeSpan.Zero ? TimeSpan.FromMinutes(10) : clocks.ExitHandlerDeadline;
        return time.GetElapsedTime(0, ticks) >= patience;
    }

    /// <summary>G14: what creates no pod now may do so later. Waits with backoff and says what blocks it.</summary>
    async Task Block(Key key, Job job, PodType type, Reply refusal, CancellationToken stop)
    {
        var main = type == PodType.Main;
        var what = main ? "Main pod " : Pods.Number(job) == 1 ? "exit handler "
            : $"{JobStatus.AttemptWord}{Pods.Ran(job) + 1} "; // H9: the message has to tell
        var text = Text.Cut($"{what}{JobStatus.IsBlocked}{Words(refusal, job)}");
        var refusals = cache.ProgressOf(key).Refusals + 1;
        var delay = Pause(refusals, refusal.RetryAfter, TimeSpan.FromSeconds(1));
        cache.Note(key, job.Uid, p => p with // it is blocked, and counted as that
        { Refusals = refusals, RetryAt = Now + delay, Due = null });
        if (int.IsPow2(refusals)) // H2: told at the 1st, 2nd, 4th, 8th … time only
        {
            log.LogWarning("{Namespace}/{Name}: {Text} (attempt {N})", job.Namespace, job.Name, text, refusals);
            Tell(job, new(main ? "MainPodBlocked" : "ExitHandlerBlocked", text, Warning: true), refusals);
        }
        var message = main ? text : Text.Join(job.Status.MainWords, text);
        if (job.Status.Message != message)
        {
            var said = new Decision(Act.WriteStatus, text) { Status = job.Status with { Message = message } };
            await WriteStatus(key, job, said, stop);
        }
        queue.Add(key); // to wait for that, or for what is due before
    }

    /// <summary>D3, H1: gives a pod its labels back; where they do not stay it is asked for from time to time.</summary>
    async Task RestoreLabels(Key key, Job job, Pod pod, CancellationToken stop)
    {
        const int most = 3; // times; whoever takes them again and again will go on
        var body = Pods.LabelPatch(job, pod);
        var reply = await Call(new(HttpMethod.Patch, Paths.Of(pod.Key), body, MediaTypes.Merge), stop);
        var lost = reply.Ok && reply.Read(Json.Default.PodObject)?.ToPod(Now) is { LostLabels: true };
        var before = cache.ProgressOf(key).Relabelled;
        var after = cache.Note(key, job.Uid, p => p with
        {
            Relabelled = lost ? Math.Max(most, p.Relabelled + 1) : p.Relabelled + 1,
            AskAgain = lost || p.Relabelled + 1 >= most ? Now : null,
        }).Relabelled;
        if (before < most && after >= most)
        {
            var text = $"The labels of pod {pod.Name} are removed again and again: it is asked for from time to time";
            log.LogWarning("{Namespace}/{Name}: {Text}", key.Namespace, key.Name, text);
            Tell(job, new("PodLabelsRemoved", text, Warning: true));
        }
        await TakePod(key, job, pod, reply, stop);
    }

    async Task WriteStatus(Key key, Job job, Decision decision, CancellationToken stop)
    {
        var (from, to) = (job.Status.Phase, decision.Status!.Phase);
        var path = Paths.Of(job.Key) + "/status";
        var patch = new Request(HttpMethod.Patch, path, Bodies.Status(job, decision.Status, Now), MediaTypes.Merge);
        var seen = time.GetTimestamp();
        if (!await TakeJob(key, job, await Call(patch, stop), stop)) return;
        if (from < Phase.ExitHandlerRunning && to == Phase.ExitHandlerRunning)
            cache.Note(key, job.Uid, p => p with { MainOver = seen });
        if (from != to)
            log.LogInformation("{Namespace}/{Name}: {From} → {To}: {Why}",
                job.Namespace, job.Name, from, to, decision.Why);
        if (from == Phase.ExitHandlerRunning && Conditions.Attempt(job, decision.Status) is { } outcome)
            metrics.Count(Metrics.ExitHandlers, Metrics.Label("outcome", outcome));
        if (from != to && to.IsFinished())
            metrics.Count(Metrics.Finished, $"{Metrics.Label("outcome", $"{to}".ToLowerInvariant())},"
                + Metrics.Label("reason", Conditions.Reason(decision.Status)));
        if (decision.Fact is { } fact) Tell(job, fact);
    }

    /// <summary>
    /// Deletes a finished job, at most fifty a second: a backlog at the first start is no storm. The key is the one
    /// which decided it: the job's, or its CronOMJob's, whose UID goes along.
    /// </summary>
    async Task DeleteJob(Key key, Job job, string? version, string why, CancellationToken stop, string? uid = null)
    {
        var now = time.GetTimestamp();
        long slot;
        lock (gate)
        {
            slot = cache.ProgressOf(key).DeleteSlot;
            if (slot == 0) nextDelete = (slot = Math.Max(now, nextDelete)) + time.TimestampFrequency / 50;
        }
        cache.Note(key, uid ?? job.Uid, p => p with { DeleteSlot = slot > now ? slot : 0 });
        if (slot > now) { queue.AddAfter(key, time.GetElapsedTime(now, slot)); return; }
        Log(job.Key, $"Deleting the OMJob: {why}");
        var body = Bodies.Delete(job.Uid, version);
        var reply = await Call(new(HttpMethod.Delete, Paths.Of(job.Key), body), stop);
        if (await TakeJob(key, job, reply, stop) && reply.Read(Json.Default.JobObject)?.ToJob() is null)
            Remove(job, reply); // answered with a Status: it is gone, whether a watch will tell or not
    }

    Task<Reply> PatchFinalizers(Job job, IEnumerable<string> finalizers, CancellationToken stop) =>
        Call(new(HttpMethod.Patch, Paths.Of(job.Key), Bodies.Finalizers(job, finalizers), MediaTypes.Merge), stop);

    Task<Reply> ReleasePod(Pod pod, CancellationToken stop) =>
        Call(new(HttpMethod.Patch, Paths.Of(pod.Key), Bodies.DropFinalizer(pod), MediaTypes.StrategicMerge), stop);

    /// <summary>
    /// Takes an object that the API server answered with. Before: what was held when the request was sent. An answer that
    /// is older cannot be, nor one about what was not there that is no newer than what a watch had told by then, nor a
    /// write that is no newer, unless the versions went back: then it is not taken.
    /// </summary>
    async Task<bool> Take(Held answer, Held? before, Reply reply, CancellationToken stop)
    {
        var watch = Watches.FindIndex(w => w.Kind == answer.Key.Kind && w.Covers(answer.Namespace));
        var old = before is not null && Versions.Newer(before.Version, answer.Version);
        var changes = before is null || (reply.Wrote && answer.Version != before.Version);
        var early = changes && watch >= 0 && reply.Told?[watch] is { } told && !Versions.Newer(answer.Version, told)
            ? told : null;
        if ((old && await IsSetBack(before!, stop))
            || (early is not null && await IsSetBack(Watches[watch], early, stop)))
        {
            DropCache();
            return false;
        }
        lock (gate)
        {
            if (epoch != reply.Epoch) return false;
            if (watch >= 0) Watches[watch].Tell(answer.Version);
            // It is there, and its deletion would be told later than anything so far: then it has been overlooked.
            var isThere = early is not null && answer is not Pod { LostLabels: true, JobName: "" }
                && Watches[watch].Version is { } now && !Versions.Newer(now, early);
            cache.Upsert(answer, live: reply.Asked, isThere: isThere);
            return true;
        }
    }

    /// <summary>An answer says that it is gone. One from before the cache was dropped does not.</summary>
    void Remove(Held? gone, Reply reply)
    {
        lock (gate) if (epoch == reply.Epoch && gone is not null) cache.Remove(gone);
    }

    /// <summary>Takes the answer of a write to a job. True where it was done.</summary>
    async Task<bool> TakeJob(Key key, Job job, Reply reply, CancellationToken stop)
    {
        switch (reply.Outcome)
        {
            case Outcome.Ok:
                cache.Note(key, cache.Get(key)?.Uid, p => p with { Failures = 0 });
                if (reply.Read(Json.Default.JobObject)?.ToJob() is { } answer) await Take(answer, job, reply, stop);
                return true;
            case Outcome.NotFound: Remove(job, reply); break;
            case Outcome.Conflict: // observe again, never try harder
                cache.Mark(job, held => held.Version == job.Version ? held with { Stale = true } : held);
                if (job.IsLetGo) await AskJob(job.Key, stop);
                var failures = cache.ProgressOf(key).Failures;
                cache.Note(key, cache.Get(key)?.Uid, p => p with { Failures = failures + 1 });
                if (failures == 0) queue.Add(key);
                else queue.AddAfter(key, Pause(failures, null));
                break;
            default: Retry(key, job, reply); break;
        }
        return false;
    }

    /// <summary>Takes the answer of a write to a pod: the pod, or that it is gone.</summary>
    async Task TakePod(Key key, Job? job, Pod pod, Reply reply, CancellationToken stop)
    {
        var answer = reply.Ok ? reply.Read(Json.Default.PodObject)?.ToPod(Now) : null;
        if (answer?.Uid == pod.Uid) NoteStopped(key, answer);
        if (answer?.Uid == pod.Uid && !answer.LostLabels) await Take(answer, pod, reply, stop);
        else if (reply.Ok || reply.Outcome is Outcome.NotFound)
        {
            Remove(pod, reply); // W8: no watch would
            queue.Add(key);
        }
        else Retry(key, job, reply); // a Conflict is another UID by that name: the watch tells
    }

    /// <summary>A live GET of the job, with its spec; null where it is gone or could not be asked.</summary>
    async Task<(Reply Reply, Job? Job)> AskJob(Key key, CancellationToken stop)
    {
        var before = cache.Get(key);
        var reply = await Call(new(HttpMethod.Get, Paths.Of(key)), stop);
        // What was so before the cache was dropped need not be so any more.
        if (reply.Epoch != epoch) return (new(0, []) { Fault = "its versions went back" }, null);
        if (reply.Outcome == Outcome.NotFound) Remove(before, reply);
        if (!reply.Ok) return (reply, null);
        if (reply.Read(Json.Default.JobObject)?.ToJob() is not { } answer) // that is not to say that it is gone
            return (new(0, []) { Fault = "the OMJob cannot be read" }, null);
        if (!await Take(answer, before, reply, stop)) return (new(0, []) { Fault = "its versions went back" }, null);
        // Only a 404 says that it is gone; what a watch told meanwhile is looked at when the key comes again.
        return cache.Get(key) is not Job held ? (new(0, []) { Fault = "it was told to be gone meanwhile" }, null)
            : (reply, held.Version == answer.Version ? answer with { SeenLive = reply.Asked } : held);
    }

    /// <summary>A live GET of a pod (D5: absence is proved by a 404 only); null where it could not be asked.</summary>
    async Task<PodView?> AskPod(Key key, Job? job, string name, CancellationToken stop)
    {
        var of = new Key(key.Namespace, name, Kind.Pod);
        var before = cache.Get(of);
        var reply = await Call(new(HttpMethod.Get, Paths.Of(of)), stop);
        if (reply.Epoch != epoch) return null; // the cache was dropped: once all is listed again this key comes again
        if (reply.Outcome == Outcome.NotFound)
        {
            Remove(before, reply);
            // D2: one that has come since was not asked for.
            return cache.Get(of) is Pod newer ? ViewOf(key, newer) : ViewOf(key, null) with { Sight = Sight.Absent };
        }
        if (!reply.Ok || reply.Read(Json.Default.PodObject)?.ToPod(Now) is not { } pod)
        {
            Retry(key, job, reply);
            return null;
        }
        if (pod.JobName.Length == 0 && pod.JobUid == cache.Get(key)?.Uid) pod = pod with { JobName = key.Name };
        // Of one without labels the watch would never tell the end; a stray is asked for each time.
        if (!pod.LostLabels || Protocol.Stray(cache.Get(key) as Job, pod) is not null)
            await Take(pod, before, reply, stop);
        else Remove(before, reply);
        if (cache.Get(of)?.Uid != pod.Uid) pod = NoteUnheld(key, pod);
        return ViewOf(key, (Pod)pod.After(cache.Get(of), null)) with { Asked = reply.Asked };
    }

    /// <summary>
    /// What the cache would remember of a pod that it does not hold: one without labels, or one that needed nothing when
    /// it was told, before its OMJob was. Returns it with that.
    /// </summary>
    Pod NoteUnheld(Key key, Pod pod)
    {
        NoteStopped(key, pod);
        var known = cache.Note(key, cache.Get(key)?.Uid, p => p with
        {
            OverSeen = pod.OverSeen is not { } seen ? p.OverSeen
                : p.OverSeen is { } before && before.Pod == pod.Uid ? before : (pod.Uid, seen),
            Relabelled = p.AskAgain is null ? p.Relabelled : p.Relabelled + 1,
            AskAgain = p.AskAgain is null ? null
                : Now + Backoff(p.Relabelled - 2, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30)),
        });
        return pod.OverSeen is null ? pod : pod with { OverSeen = known.OverSeen?.At };
    }

    /// <summary>G10: an exit pod's dry run tells if the namespace is going; null where it could not be asked.</summary>
    async Task<PodView?> AskNamespace(Key key, Job job, PodView exit, CancellationToken stop)
    {
        var probe = Paths.CreatePod(job.Namespace, Pods.Build(job, PodType.ExitHandler), "&dryRun=All");
        var reply = await Call(probe, stop);
        var asked = reply.Outcome is not (Outcome.Fault or Outcome.Unauthorized or Outcome.TooMany);
        cache.Note(key, job.Uid, p => p with { NamespaceAsked = asked });
        if (!asked) Retry(key, job, reply);
        return !asked ? null : reply.Outcome == Outcome.NamespaceGoing ? PodView.NamespaceGoing : exit;
    }

    /// <summary>Tries again after a request that failed. Job: whose spec holds what must not be said, if it is held.</summary>
    void Retry(Key key, Job? job, Reply reply)
    {
        var owner = cache.Get(key);
        var failures = cache.Note(key, owner?.Uid, p => p with { Failures = p.Failures + 1 }).Failures;
        if (int.IsPow2(failures))
            log.LogWarning("{Namespace}/{Name}: {Words}; trying again", key.Namespace, key.Name, Words(reply, job));
        // What it is too large for it will always be: whoever made it can make it smaller.
        if (failures == 1 && reply.Outcome == Outcome.Impossible && owner is Job about)
            Tell(about, new("OMJobRefused", $"The OMJob cannot be written: {Words(reply, job)}", Warning: true));
        TryAgain(key, Pause(failures, reply.RetryAfter));
    }

    /// <summary>
    /// The API server's words without what the OMJob's env holds; where no spec is held to compare them with, none that
    /// may come from an object.
    /// </summary>
    static string Words(Reply reply, Job? job) =>
        reply.Fault is null && job is not { IsWhole: true, Spec.Length: > 0 } ? reply.Brief
            : Secrets.Redact(reply.Words, job);

    void TryAgain(Key key, TimeSpan delay)
    {
        lock (gate) failed.Add(key);
        metrics.Count(Metrics.Retries, WorkQueue.Label);
        queue.AddAfter(key, delay);
    }

    /// <summary>A backoff of up to 30 s, or what the API server asks for where that is longer: then 1 to 60 s.</summary>
    TimeSpan Pause(int failures, TimeSpan? asked, TimeSpan? first = null)
    {
        var backoff = Backoff(failures, first ?? TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(30));
        return asked is not { } wanted ? backoff : TimeSpan.FromSeconds(
            Math.Clamp(Math.Max(wanted.TotalSeconds, backoff.TotalSeconds), 1, 60));
    }

    /// <summary>Doubling from <paramref name="first"/> to <paramref name="most"/>, the last fifth at random.</summary>
    TimeSpan Backoff(int failures, TimeSpan first, TimeSpan most) =>
        TimeSpan.FromTicks(Math.Min(most.Ticks, first.Ticks << Math.Clamp(failures - 1, 0, 20)))
            * (0.8 + 0.2 * random.NextDouble());

    async Task<Reply> Call(Request request, CancellationToken stop)
    {
        var sent = time.GetTimestamp();
        var begun = epoch;
        var told = request.OnLine is null ? Watches.Select(watch => watch.Newest).ToArray() : null;
        var reply = await send(request, stop);
        var took = time.GetElapsedTime(sent);
        LastCode = reply.Code;
        if (reply.Code is not (0 or 401 or >= 500)) Answered = time.GetTimestamp();
        // Who waits for a time of day waits for another span now; so after the machine slept.
        if (reply.Date is { } date && clock.Hear(date, took)) queue.WakeAll();
        reply = reply with
        {
            Epoch = begun,
            Told = told,
            Wrote = request.Method != HttpMethod.Get,
            Asked = Now - took, // we may have been frozen since: an answer is no younger than that
        };
        var code = reply.Code == 0 ? "<error>" : $"{reply.Code}"; // as client-go has it
        metrics.Count(Metrics.Requests,
            $"{Metrics.Label("code", code)},{Metrics.Label("method", request.Method.Method)}");
        return reply;
    }

    void Log(Key key, string what) => log.LogInformation("{Namespace}/{Name}: {What}", key.Namespace, key.Name, what);

    /// <summary>What is counted at the time when it is asked for.</summary>
    internal IEnumerable<(string Name, string Labels, double Value)> Gauges()
    {
        List<(string, string, double)> gauges = [(Metrics.Depth, WorkQueue.Label, queue.Depth)];
        var counts = new int[(int)Phase.Failed + 1];
        var (main, exit, late) = (0, 0, 0);
        cache.Visit((phase, known) =>
        {
            counts[(int)phase]++;
            if (phase.IsFinished()) return;
            if (known.Refusals > 0 && phase == Phase.ExitHandlerRunning) exit++;
            else if (known.Refusals > 0) main++;
            if (Now > known.Due + TimeSpan.FromMinutes(1)) late++;
        });
        foreach (var phase in Enum.GetValues<Phase>())
            gauges.Add((Metrics.Jobs, Metrics.Label("phase", $"{phase}"), counts[(int)phase]));
        gauges.Add((Metrics.Blocked, Metrics.Label("what", "main"), main));
        gauges.Add((Metrics.Blocked, Metrics.Label("what", "exit"), exit));
        gauges.Add((Metrics.Overdue, "", late));
        foreach (var watch in Watches)
            gauges.Add((Metrics.LastEvent, $"{Metrics.Label("resource", $"{watch.Kind}s".ToLowerInvariant())},"
                + Metrics.Label("watched_namespace", watch.Namespace), watch.LastEvent));
        return gauges;
    }

    // ----- events

    /// <summary>
    /// Puts an event on its way; it never holds up the protocol. A fact told again raises its count. Each namespace has
    /// a queue of its own, as long as the room that is left: one where events are slow takes nobody else's.
    /// </summary>
    void Tell(Held about, Fact fact, int count = 1)
    {
        var now = Now;
        var name = $"{Names.Fit(about.Name, 230, "omjob")}.{now.Ticks:x}{random.Next(4096):x3}";
        if (about is Job job) about = job.Short();
        fact = cache.Note(about.Key, about.Uid, p =>
        {
            var again = p.LastFact is { } last && (last.Action, last.Message) == (fact.Action, fact.Message) ? last : null;
            var told = again ?? fact with { First = now, Name = name, About = about };
            return p with { LastFact = told with { Count = count, Last = now } };
        }).LastFact!;
        lock (gate)
        {
            if (!facts.TryGetValue(about.Namespace, out var mine)) facts[about.Namespace] = mine = [];
            var room = mine.Count < 20_000 - pending;
            if (room) { mine.Enqueue(fact); pending++; }
            else log.LogWarning("{Namespace}/{Name}: too many events, one was dropped", about.Namespace, about.Name);
        }
        senders.Add(new(about.Namespace, ""));
    }

    /// <summary>Writes the next event of a namespace.</summary>
    async Task WriteEvent(Key ns, CancellationToken stop)
    {
        Fact? fact;
        lock (gate) if (!facts.TryGetValue(ns.Namespace, out var mine) || !mine.TryPeek(out fact)) return;
        var (about, path) = (fact.About!, Paths.Events(ns.Namespace));
        var reply = fact.Last == fact.First ? null : await Call(
            new(HttpMethod.Patch, $"{path}/{fact.Name}", Bodies.EventCount(fact), MediaTypes.Merge), stop);
        if (reply is null or { Outcome: Outcome.NotFound })
            reply = await Call(new(HttpMethod.Post, path, Bodies.Event(fact, about)), stop);
        if (!reply.Ok && reply.Outcome is not (Outcome.Exists or Outcome.NamespaceGoing))
            log.LogWarning("{Namespace}/{Name}: no event {Action}: {Words}",
                about.Namespace, about.Name, fact.Action, reply.Brief);
        lock (gate)
        {
            facts[ns.Namespace].Dequeue();
            if (facts[ns.Namespace].Count == 0) facts.Remove(ns.Namespace);
            else senders.Add(ns);
            if (--pending == 0) written?.TrySetResult();
        }
    }

    Task EventsWritten()
    {
        lock (gate) return pending == 0 ? Task.CompletedTask : (written = new()).Task;
    }
}

// ---------------------------------------------------------------------------------------------------------- decision

/// <summary>What to do next: at most one request.</summary>
enum Act
{
    Wait, AskJob, AskMain, AskExit, AskNamespace, Block, AddFinalizer, DropFinalizer, CreateMain, CreateExit,
    WriteStatus, DeletePod, ReleasePod, RestoreLabels, DeleteJob,
}

/// <summary>One step of the protocol. Why: the evidence, for the log; for DropFinalizer the finalizer's name.</summary>
sealed record Decision(Act Act, string Why = "")
{
    public JobStatus? Status { get; init; }
    public Pod? Pod { get; init; }
    /// <summary>When to look again if nothing happens (server's time).</summary>
    public DateTimeOffset? Wake { get; init; }
    /// <summary>The event to write once the step is done.</summary>
    public Fact? Fact { get; init; }
}

enum Sight { Unknown, Absent, Present, Refused, NamespaceGoing }

/// <summary>What is known of a pod's name. Unknown only leads to asking; absent: a live GET answered 404.</summary>
sealed record PodView(Pod? Pod)
{
    public Sight Sight { get; init; } = Pod is null ? Sight.Unknown : Sight.Present;
    /// <summary>The API server's words, where it says that the pod can never be.</summary>
    public string Words { get; init; } = "";
    /// <summary>When it was asked for, its OMJob being as it is (server's time); null: a watch told it.</summary>
    public DateTimeOffset? Asked { get; init; }
    /// <summary>Not to be created before then.</summary>
    public DateTimeOffset RetryAt { get; init; }
    /// <summary>When to ask for it again, where its labels do not stay and so no watch tells of it.</summary>
    public DateTimeOffset? AskAgain { get; init; }
    /// <summary>G21: a version of it reached us that was being deleted before main had ended.</summary>
    public bool Stopped { get; init; }

    public static PodView Unknown { get; } = new((Pod?)null);
    public static PodView Absent { get; } = new((Pod?)null) { Sight = Sight.Absent };
    public static PodView NamespaceGoing { get; } = new((Pod?)null) { Sight = Sight.NamespaceGoing };
    public static PodView Refused(string words) => new((Pod?)null) { Sight = Sight.Refused, Words = words };
}

/// <summary>How a pod ended; no exit code where it did not end of itself. ByClock: only a clock says so.</summary>
sealed record End(int? ExitCode, string Words, bool ByClock = false);

/// <summary>The phase machine: pure functions of what was observed and the API server's clock.</summary>
static class Protocol
{
    /// <summary>
    /// A creation is decided on an OMJob, and what a clock or another's pod says of ours on a pod, asked for no longer
    /// ago than this: a watch that is late (D1, W2) must neither start a run again nor give up one that is fine.
    /// </summary>
    static readonly TimeSpan Fresh = TimeSpan.FromSeconds(10);
    static readonly TimeSpan ClockSlack = TimeSpan.FromSeconds(2);
    static readonly TimeSpan FirstBackoff = TimeSpan.FromSeconds(10);
    static readonly TimeSpan DeadlineBackstop = TimeSpan.FromSeconds(60);
    static readonly TimeSpan LeastTtl = TimeSpan.FromSeconds(15);

    /// <summary>A job's next step, given what is known of the main pod and the exit pod named in its status.</summary>
    public static Decision Decide(Job job, PodView main, PodView exit, DateTimeOffset now, Clocks clocks)
    {
        if (job.Stale) return new(Act.AskJob);
        var going = main.Sight == Sight.NamespaceGoing || exit.Sight == Sight.NamespaceGoing;
        if (going && !job.Status.Phase.IsFinished()) return WhenNamespaceGoes(job, main, now, clocks); // G10
        return job.Status.Phase switch
        {
            Phase.Pending => WhenPending(job, main, now),
            Phase.Running => WhenRunning(job, main, now, clocks),
            Phase.ExitHandlerRunning => WhenExitHandlerRunning(job, main, exit, now, clocks),
            Phase.Succeeded or Phase.Failed => WhenFinished(job, main, exit, now, clocks),
            _ => WhenUnknown(job, main, now),
        };
    }

    static Decision WhenNamespaceGoes(Job job, PodView main, DateTimeOffset now, Clocks clocks)
    {
        var end = job.Status.Phase == Phase.Running ? Ended(main, now, clocks) : null;
        var status = end is null ? job.Status : Recorded(job, main, end);
        return Finish(now, false, status, "exit handler cannot run: the namespace is being deleted");
    }

    static Decision WhenPending(Job job, PodView main, DateTimeOffset now) => main switch
    {
        _ when !job.HasFinalizer && !job.Deleting => new(Act.AddFinalizer), // even where its main pod is there
        { Pod: { } pod } when pod.BelongsTo(job) => Started(job, pod),
        { Sight: Sight.Unknown } when job.Deleting => new(Act.AskMain),
        _ when job.Deleting => Drop(job, Job.Finalizer), // F5: it never started
        { Pod: { } pod } => Foreign(pod, main, now),
        { Sight: Sight.Refused } => MainEnded(job, main, new(null, $"cannot be created: {main.Words}"), now), // G15
        _ => Create(Act.CreateMain, job, main, now),
    };

    /// <summary>A phase nobody defined, written by hand: the run goes on where there is one, else it failed.</summary>
    static Decision WhenUnknown(Job job, PodView main, DateTimeOffset now) => main switch
    {
        { Pod: { } pod } when pod.BelongsTo(job) => Started(job, pod),
        { Sight: Sight.Unknown } => new(Act.AskMain),
        _ when job.Status is { MainPodName: not null, CompletionTime: null } =>
            MainEnded(job, PodView.Absent, new(null, "was deleted before its end was seen"), now),
        _ => Finish(now, false, job.Status with
        {
            Message = $"Status.phase '{Text.Cut(job.Status.PhaseText, 40)}' is no phase of an OMJob",
        }, null),
    };

    static Decision WhenRunning(Job job, PodView main, DateTimeOffset now, Clocks clocks)
    {
        if (!job.HasFinalizer && !job.Deleting) return new(Act.AddFinalizer); // adopted from another operator
        if (main.Sight == Sight.Unknown) return new(Act.AskMain);
        if (job is { Deleting: true, HasExitSpec: true, NamespaceAsked: false }) return new(Act.AskNamespace);
        if (main.Pod is { } other && !other.BelongsTo(job)) // D2: name taken, so ours is gone; or was, before ours
        {
            if (!IsFresh(main.Asked, now)) return new(Act.AskMain);
            main = PodView.Absent;
        }
        if (Ended(main, now, clocks) is { } end)
            return end.ByClock && !IsFresh(main.Asked, now) ? new(Act.AskMain) : MainEnded(job, main, end, now);
        var pod = main.Pod!;
        if (pod.LostLabels && main.AskAgain is null) return new(Act.RestoreLabels) { Pod = pod };
        if (now >= main.AskAgain) return new(Act.AskMain);
        if (pod.Deleting) return new(Act.Wait) { Wake = Earliest(EndsBy(pod, clocks), main.AskAgain) };
        if (job.Status.GivenUp is { } said) // it may be long ago that a watch told of the pod
            return IsFresh(main.Asked, now) ? new(Act.DeletePod, said) { Pod = pod } : new(Act.AskMain);
        if (job.Deleting) return new(Act.DeletePod, "the OMJob was deleted") { Pod = pod }; // G9
        // G7: never started. G8: the kubelet stops it; this is for a kubelet that does not.
        var start = pod.Started || clocks.StartDeadline == TimeSpan.Zero
            ? (DateTimeOffset?)null : pod.Created + clocks.StartDeadline;
        var stop = pod.StartTime + pod.ActiveDeadline + pod.Grace + DeadlineBackstop;
        var why = pod.Waiting ?? "nothing is said why";
        if ((now >= start || now >= stop) && !IsFresh(main.Asked, now)) return new(Act.AskMain);
        if (now >= start)
            return GiveUp(job, $"did not start within {Text.Duration(clocks.StartDeadline)}: {why}");
        if (now >= stop)
            return GiveUp(job, $"ran past its activeDeadlineSeconds of {pod.ActiveDeadline!.Value.TotalSeconds}");
        return new(Act.Wait) { Wake = Earliest(start, stop, EndsBy(pod, clocks), main.AskAgain) };
    }

    static Decision WhenExitHandlerRunning(
        Job job, PodView main, PodView exit, DateTimeOffset now, Clocks clocks)
    {
        if (!job.HasFinalizer && !job.Deleting) return new(Act.AddFinalizer);
        if (!job.HasExitSpec) return Finish(now, true, job.Status, null);
        if (job.Status.ExitPodName is null) return NextAttempt(job, 1, null, null);
        // H1: the handler finds the main pod by its labels.
        if (main.Sight == Sight.Unknown) return new(Act.AskMain);
        if (main is { Pod: { LostLabels: true } lost, AskAgain: null } && lost.BelongsTo(job))
            return new(Act.RestoreLabels) { Pod = lost };
        // G22: a drain waits for the main pod, but not for all attempts of its handler.
        var drained = main.Pod is { HasFinalizer: true, Deleting: true } pod && pod.BelongsTo(job) && !job.Deleting
            ? pod : null;
        var letGo = drained?.DeletionTimestamp + clocks.LostPodSlack;
        var handled = Pods.Ran(job) > 0 || (exit.Pod?.BelongsTo(job) is true && Ended(exit, now, clocks) is not null);
        var next = drained is not null && (now >= letGo || handled) ? new(Act.ReleasePod) { Pod = drained }
            : job is { Deleting: true, NamespaceAsked: false } ? new(Act.AskNamespace)
            : job.Finalizers.Contains(Job.Foreground) ? Drop(job, Job.Foreground) // G19
            : WhenHandlerIsDue(job, exit, now, clocks);
        return next with { Wake = Earliest(next.Wake, letGo) };
    }

    static Decision WhenHandlerIsDue(Job job, PodView exit, DateTimeOffset now, Clocks clocks)
    {
        if (exit.Sight == Sight.Refused)
            return Finish(now, false, job.Status, $"exit handler cannot be created: {exit.Words}"); // G15
        if (exit.Sight is Sight.Unknown or Sight.Absent) return Create(Act.CreateExit, job, exit, now);
        var (pod, ran) = (exit.Pod!, Pods.Ran(job));
        if (!pod.BelongsTo(job)) // H9: it uses up no attempt of ours
        {
            // One that came just now may come again, as often as a name is chosen.
            var patience = pod.Created + TimeSpan.FromSeconds((1 << Math.Min(Pods.Number(job) - ran - 1, 5)) - 1);
            return !IsFresh(exit.Asked, now) ? new(Act.AskExit)
                : now < patience ? new(Act.Wait) { Wake = patience }
                : NextAttempt(job, Pods.Number(job) + 1, null, $"pod {pod.Name} is somebody else's");
        }
        if (Ended(exit, now, clocks) is not { } end)
        {
            if (pod.LostLabels && exit.AskAgain is null) return new(Act.RestoreLabels) { Pod = pod };
            if (now >= exit.AskAgain) return new(Act.AskExit);
            var deadline = clocks.ExitHandlerDeadline == TimeSpan.Zero
                ? (DateTimeOffset?)null : pod.Created + clocks.ExitHandlerDeadline;
            if (pod.Deleting || !(now >= deadline))
                return new(Act.Wait)
                {
                    Wake = Earliest(pod.Deleting ? null : deadline, EndsBy(pod, clocks), exit.AskAgain),
                };
            if (!IsFresh(exit.Asked, now)) return new(Act.AskExit);
            var why = pod.Waiting is null ? "" : $": {pod.Waiting}";
            return Failed(job, now, clocks, $"did not end within {Text.Duration(clocks.ExitHandlerDeadline)}{why}");
        }
        if (end.ByClock && !IsFresh(exit.Asked, now)) return new(Act.AskExit);
        if (end.ExitCode == 0) return Finish(now, true, job.Status, "exit handler succeeded");
        // A node's clock that is far ahead says nothing.
        var ended = pod.FinishedAt <= now + FirstBackoff ? pod.FinishedAt : pod.DeletionRequested ?? pod.Created;
        var again = ended + FirstBackoff * (1 << Math.Min(ran, 20));
        return now < again && ran + 1 < Attempts(job, clocks)
            ? new(Act.Wait) { Wake = again }
            : Failed(job, now, clocks, end.Words); // G16, G17
    }

    static Decision WhenFinished(Job job, PodView main, PodView exit, DateTimeOffset now, Clocks clocks)
    {
        if (main.Sight == Sight.Unknown && job.HasFinalizer && job.Status.MainPodName is not null)
            return new(Act.AskMain); // F1
        if (main.Pod is { HasFinalizer: true } pod && pod.BelongsTo(job)) return new(Act.ReleasePod) { Pod = pod };
        if (job.HasFinalizer) return Drop(job, Job.Finalizer);
        if (job.Deleting) return new(Act.Wait);
        var ttl = TimeSpan.FromTicks(Math.Max(job.Ttl.Ticks, LeastTtl.Ticks));
        var expires = Earliest(job.Status.CompletionTime, now) + ttl;
        if (now >= expires) return new(Act.DeleteJob);
        // F4: what still runs in a pod of ours (a sidecar) is not waited for; the kubelet gets time for its last words.
        var patience = job.Status.CompletionTime + clocks.LostPodSlack;
        var over = new[] { main.Pod, exit.Pod }
            .FirstOrDefault(p => p is { PhaseOver: false, Deleting: false } && p.BelongsTo(job));
        if (over is not null && now >= patience) return new(Act.DeletePod, "the job has finished") { Pod = over };
        return new(Act.Wait) { Wake = over is null ? expires : Earliest(expires, patience) };
    }

    /// <summary>
    /// What to do with a pod that should not be: another incarnation's, a late creation's, an earlier attempt's. Only
    /// to be acted on with a job (null: it is gone) and a pod that were asked for live, the job after the pod was seen.
    /// </summary>
    public static Decision? Stray(Job? job, Pod pod)
    {
        if (pod.JobUid is null) return null; // not ours to judge
        if (job?.Uid != pod.JobUid)
            return pod.IsSettled ? null : Remove("belongs to an OMJob that is gone", null);
        if (pod.Name == Pods.MainName(job))
            // Whatever the clocks say here: where they ended it, they were another process's.
            return job.Status.Phase < Phase.ExitHandlerRunning || pod.PhaseOver || pod.Deleting
                || pod.ExitCode is not null
                ? null
                : Remove("runs after the end of its run was recorded", new("StrayPodDeleted",
                    $"Deleted main pod {pod.Name}: the end of the run was already recorded", true));
        var current = job.Status.Phase >= Phase.ExitHandlerRunning && pod.Name == job.Status.ExitPodName;
        return current || pod.IsSettled ? null : Remove("is not the current attempt", null);

        Decision Remove(string why, Fact? fact) => pod.HasFinalizer
            ? new(Act.ReleasePod, why) { Pod = pod }
            : new(Act.DeletePod, why) { Pod = pod, Fact = fact };
    }

    // ----- the end of a pod

    /// <summary>How a pod ended, null while it has not (DESIGN: "over" is the first of these).</summary>
    public static End? Ended(PodView view, DateTimeOffset now, Clocks clocks)
    {
        if (view.Sight == Sight.Absent) return new(null, "was deleted before its end was seen");
        if (view.Pod is not { } pod) return null;
        if (pod.ExitCode is { } code) return Terminated(pod, code, view.Stopped);
        if (pod.PhaseOver && !pod.MainRunning) return new(null, $"failed{Details(pod)}"); // P: no container statuses
        if (now >= pod.OverSeen + pod.Grace + clocks.LostPodSlack) return new(null, $"failed{Details(pod)}", true);
        if (pod is { Deleting: true, Scheduled: false })
            return new(null, $"was deleted before it started{Details(pod)}");
        if (now > pod.DeletionTimestamp + clocks.LostPodSlack) // G6
            return new(null, "was lost: its node did not confirm its end within "
                + $"{Text.Duration(clocks.LostPodSlack)}{Details(pod)}", true);
        return null;
    }

    /// <summary>
    /// The exit code counts if main ended of itself: failure always; 0 only if it certainly ended before anybody asked
    /// to stop it (G21). Times are whole seconds, so the same second proves nothing; and where main was seen running
    /// while its pod was being deleted no node's clock proves anything.
    /// </summary>
    static End Terminated(Pod pod, int code, bool seenStopped)
    {
        if (code != 0) return new(code, $"failed with exit code {code}{Details(pod)}");
        // P: a kubelet that deletes a pod which never ran may report an exit code of 0, without a time.
        var stopped = seenStopped || pod.FinishedAt is null || pod.FinishedAt >= pod.DeletionRequested
            || pod.Reason is not null || pod.Disruption is not null;
        return stopped ? new(null, $"was stopped (exit code 0 afterwards){Details(pod)}") : new(0, "succeeded");
    }

    /// <summary>The reasons in parentheses, as far as there are any.</summary>
    static string Details(Pod pod)
    {
        string?[] all =
            [pod.ExitReason is "Error" or "Completed" ? null : pod.ExitReason, pod.Reason, pod.Disruption, pod.Waiting];
        var said = all.Where(r => !string.IsNullOrEmpty(r)).Distinct().ToArray();
        return said.Length == 0 ? "" : $" ({string.Join("; ", said)})";
    }

    /// <summary>When a clock alone can end the pod.</summary>
    static DateTimeOffset? EndsBy(Pod pod, Clocks clocks) => Earliest(
        pod.OverSeen + pod.Grace + clocks.LostPodSlack,
        pod.DeletionTimestamp + clocks.LostPodSlack + TimeSpan.FromMilliseconds(1));

    // ----- steps

    static Decision Started(Job job, Pod pod) => new(Act.WriteStatus, $"{pod.Name} was created")
    {
        Status = job.Status with
        { Phase = Phase.Running, MainPodName = pod.Name, StartTime = pod.Created, Message = null },
    };

    static Decision MainEnded(Job job, PodView main, End end, DateTimeOffset now)
    {
        var status = Recorded(job, main, end);
        if (!job.HasExitSpec) return Finish(now, true, status, null); // G18
        return new(Act.WriteStatus, status.Message!)
        {
            Status = status with { Phase = Phase.ExitHandlerRunning, ExitPodName = Pods.ExitName(job.Name, 1) },
            Fact = new(end.ExitCode == 0 ? "MainPodCompleted" : "MainPodFailed", status.Message!, end.ExitCode != 0),
        };
    }

    /// <summary>The status with the main pod's end, and its message, which leaves room for the handler's.</summary>
    static JobStatus Recorded(Job job, PodView main, End end)
    {
        var itself = main.Pod is { Deleting: false, ExitCode: not null }; // it ended before we could stop it
        var deleted = job.Deleting && end.ExitCode != 0 ? " after the OMJob was deleted" : "";
        var words = (itself || end.ExitCode == 0 ? null : job.Status.GivenUp)
            ?? Text.Cut(JobStatus.AsMainWords($"Main pod {end.Words}{deleted}"), 500);
        return job.Status with { MainPodName = Pods.MainName(job), ExitCode = end.ExitCode, Message = words };
    }

    /// <summary>The attempt whose name is in status has ended, and not well.</summary>
    static Decision Failed(Job job, DateTimeOffset now, Clocks clocks, string words)
    {
        var ran = Pods.Ran(job) + 1;
        return ran < Attempts(job, clocks)
            ? NextAttempt(job, Pods.Number(job) + 1, words, null)
            : Finish(now, false, job.Status, $"exit handler {words}"
                + (ran == 1 ? "" : $"; no attempt of {ran} succeeded"));
    }

    /// <summary>
    /// The name goes to status before the pod is created, and the message says how many attempts have run: as many as
    /// the one that failed, or less one where a pod of somebody else's only has the name. Neither: the first is named.
    /// </summary>
    static Decision NextAttempt(Job job, int number, string? failed, string? foreign)
    {
        var (next, attempt) = (Pods.ExitName(job.Name, number), Pods.Ran(job) + 1);
        var said = failed is not null ? $"{JobStatus.AttemptWord}{attempt} {failed}"
            : foreign is not null ? $"{JobStatus.AttemptWord}{attempt} {JobStatus.IsRenamed}{next}: {foreign}" : null;
        return new(Act.WriteStatus, said ?? $"no attempt is named, the first is {next}")
        {
            Status = job.Status with { ExitPodName = next, Message = Text.Join(job.Status.MainWords, said) },
            Fact = said is null ? null : new("ExitHandlerRetried",
                $"E{said[1..]}{(failed is null ? "" : $"; next attempt is {next}")}", true),
        };
    }

    /// <summary>Succeeded only if main exited 0 and the handler succeeded; words null without a handler.</summary>
    static Decision Finish(DateTimeOffset now, bool handled, JobStatus status, string? words)
    {
        var phase = handled && status.ExitCode == 0 ? Phase.Succeeded : Phase.Failed;
        var message = Text.Join(status.MainWords, words);
        return new(Act.WriteStatus, message)
        {
            Status = status with { Phase = phase, Message = message, CompletionTime = now },
            Fact = phase == Phase.Succeeded ? new("OMJobCompleted", message) : new("OMJobFailed", message, true),
        };
    }

    /// <summary>The main pod is to be stopped: the reason goes to status first, as the message of its end.</summary>
    static Decision GiveUp(Job job, string why) => new(Act.WriteStatus, why)
    {
        Status = job.Status with { Message = Text.Cut(JobStatus.AsMainWords(JobStatus.Stopped + why), 500) },
    };

    static Decision Create(Act act, Job job, PodView view, DateTimeOffset now) =>
        view.RetryAt > now ? new(Act.Wait) { Wake = view.RetryAt }
        : IsFresh(job.SeenLive, now) ? new(act)
        : new(Act.AskJob);

    /// <summary>What was asked for while the clock was ahead of what it is now is not (it moves by a second or two).</summary>
    public static bool IsFresh(DateTimeOffset? asked, DateTimeOffset now) =>
        now - asked is { } age && age <= Fresh && age >= -ClockSlack;

    static Decision Foreign(Pod pod, PodView view, DateTimeOffset now) =>
        view.RetryAt > now ? new(Act.Wait) { Wake = view.RetryAt }
        : IsFresh(view.Asked, now) ? new(Act.Block, $"a pod {pod.Name} exists that is not this OMJob's")
        : new(Act.AskMain);

    static Decision Drop(Job job, string finalizer) =>
        job.Finalizers.Contains(finalizer) ? new(Act.DropFinalizer, finalizer) : new(Act.Wait);

    static long Attempts(Job job, Clocks clocks) =>
        1 + (job.BackoffLimit ?? clocks.ExitHandlerRetries);

    public static DateTimeOffset? Earliest(params IEnumerable<DateTimeOffset?> times) => times.Min();
}

// -------------------------------------------------------------------------------------------------------------- pods

enum PodType { Main, ExitHandler }

static class Labels
{
    const string Prefix = "omjob.pipelines.openmetadata.org/";
    public const string Job = "omjob", Name = Prefix + "name", Type = Prefix + "pod-type", Uid = Prefix + "uid";
    public const string Component = "app.kubernetes.io/component", Pipeline = "app.kubernetes.io/pipeline",
        RunId = "app.kubernetes.io/run-id";
    public const string Main = "main", ExitHandler = "exit-handler";
}

/// <summary>Names that must fit, and label values that must be valid (CONTRACT section 5 and 2).</summary>
static class Names
{
    /// <summary>Characters of an OMJob's name in its main pod's name.</summary>
    public const int MostInPodName = 58;

    /// <summary>A name of up to <paramref name="max"/> characters; a longer one ends in a hash of the whole.</summary>
    public static string Fit(string name, int max, string fallback)
    {
        if (name.Length == 0) name = fallback;
        if (name.Length <= max) return name;
        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..Math.Min(6, max)];
        var prefix = name[..Math.Max(0, max - 7)];
        while (prefix.Length > 0 && !char.IsAsciiLetterLower(prefix[^1]) && !char.IsAsciiDigit(prefix[^1]))
            prefix = prefix[..^1];
        return prefix.Length == 0 ? hash : $"{prefix}-{hash}";
    }

    /// <summary>A valid label value; empty where nothing is left.</summary>
    public static string LabelValue(string value)
    {
        var valid = string.Concat(value.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '-'))
            .Trim('-', '_', '.');
        return valid.Length == 0 ? "" : Fit(valid, 63, "");
    }

    /// <summary>The name, if an object can have it; else null: in a path it might lead elsewhere.</summary>
    public static string? Valid(string? name) =>
        name is { Length: > 0 and <= 253 } && char.IsAsciiLetterOrDigit(name[0]) && char.IsAsciiLetterOrDigit(name[^1])
        && name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '.') ? name : null;

    /// <summary>
    /// A UID, of which owner references, labels and annotations may hold anything. One that is cut is nobody's.
    /// </summary>
    public static string? Uid(string? uid) => uid is null ? null : Text.Cut(uid, 64);
}

/// <summary>What the pods are called and made of.</summary>
static class Pods
{
    /// <summary>The container's fields of our pod spec; all others but labels and annotations are the pod's.</summary>
    static readonly HashSet<string> OfContainer =
    [
        "image", "imagePullPolicy", "command", "args", "workingDir", "envFrom", "resources", "volumeMounts",
        "volumeDevices", "ports", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe",
        "stdin", "stdinOnce", "tty", "resizePolicy",
        "terminationMessagePath", "terminationMessagePolicy",
    ];

    /// <summary>Fields that are set here whatever the spec says.</summary>
    static readonly HashSet<string> Own =
    [
        "labels", "annotations", "containers", "restartPolicy", "securityContext", "containerSecurityContext",
        "serviceAccountName", "imagePullSecrets", "env",
    ];

    public static string MainName(Job job) => job.Status.MainPodName ?? MainName(job.Name);

    public static string MainName(string job) => Names.Fit(job, Names.MostInPodName, "omjob") + MainSuffix;

    public const string MainSuffix = "-main";

    public static string ExitName(Job job) => job.Status.ExitPodName ?? ExitName(job.Name, 1);

    public static string ExitName(string job, int attempt)
    {
        var suffix = attempt == 1 ? "-exit" : $"-exit-{attempt}";
        return Names.Fit(job, 63 - suffix.Length, "omjob") + suffix;
    }

    /// <summary>The number in the exit pod's name in status, from 1. Pods of others' may have taken names (H9).</summary>
    public static int Number(Job job)
    {
        var name = job.Status.ExitPodName ?? "";
        var number = name[(name.LastIndexOf('-') + 1)..];
        return int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var n)
            && n > 1 && name == ExitName(job.Name, n) ? n : 1;
    }

    /// <summary>
    /// How many attempts of the exit handler have run, none of them well, before the one that is named. Told by the
    /// message, which every CRD keeps: by the pod's name it may be less, for others' pods may have had names (H9). Where
    /// the message does not tell, one less than the name says: rather an attempt more.
    /// </summary>
    public static int Ran(Job job)
    {
        var before = Number(job) - 1;
        var words = job.Status.HandlerWords.Split(' ', 3);
        if (words is not ["attempt", var number, var rest]
            || !int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var told))
            return Math.Max(0, before - 1);
        var due = rest.StartsWith(JobStatus.IsRenamed, StringComparison.Ordinal)
            || rest.StartsWith(JobStatus.IsBlocked, StringComparison.Ordinal);
        return Math.Clamp(due ? told - 1 : told, 0, before);
    }

    /// <summary>The pod as JSON. Fields that we do not read travel as they came.</summary>
    public static byte[] Build(Job job, PodType type)
    {
        var exit = type == PodType.ExitHandler;
        var given = job.ReadSpec();
        var main = given.Get("mainPodSpec");
        var own = exit ? given.Get("exitHandlerSpec") : main;
        JsonElement Inherited(string name) =>
            own.Get(name).OrNothing() is { ValueKind: not JsonValueKind.Undefined } itself
            ? itself : main.Get(name).OrNothing();
        var security = Inherited("securityContext") is { ValueKind: JsonValueKind.Object } asked
            ? asked : Json.DefaultSecurity;
        var container = new JsonObject { ["name"] = "main", ["imagePullPolicy"] = "IfNotPresent" };
        var spec = new JsonObject { ["restartPolicy"] = "Never" };
        foreach (var field in own.Fields().Where(f => !Own.Contains(f.Name)))
            (OfContainer.Contains(field.Name) ? container : spec).Give(field.Name, field.Value);
        foreach (var initial in (spec["initContainers"] as JsonArray ?? []).OfType<JsonObject>())
            initial["securityContext"] ??= ContainerSecurity(default, security); // else "restricted" refuses the pod
        container["env"] = Env(job, exit, own.Get("env"));
        container["securityContext"] = ContainerSecurity(own.Get("containerSecurityContext"), security);
        spec.Give("serviceAccountName", Inherited("serviceAccountName"));
        spec.Give("imagePullSecrets", Inherited("imagePullSecrets"));
        spec.Give("securityContext", security);
        if (!exit) spec.Give("activeDeadlineSeconds", given.Get("activeDeadlineSeconds")); // H6: main only
        spec["containers"] = new JsonArray(container);
        var meta = new JsonObject
        {
            ["name"] = exit ? ExitName(job) : MainName(job),
            ["namespace"] = job.Namespace,
            ["labels"] = LabelsOf(job, exit, own),
        };
        // A policy may take labels, an orphaning owner references: then this tells whose it is.
        var notes = own.Get("annotations").ValueKind == JsonValueKind.Object
            ? JsonObject.Create(own.Get("annotations"))! : [];
        notes[Labels.Uid] = job.Uid;
        meta["annotations"] = notes;
        // G20: the collector would take a pod that names an owner which is orphaning its pods.
        if (!job.Orphaning) meta["ownerReferences"] = new JsonArray(Owner(job));
        if (!exit) meta["finalizers"] = new JsonArray(Pod.Finalizer);
        return new JsonObject { ["apiVersion"] = "v1", ["kind"] = "Pod", ["metadata"] = meta, ["spec"] = spec }.Bytes();
    }

    /// <summary>The spec's, else ours, with the pod's users.</summary>
    static JsonObject ContainerSecurity(JsonElement given, JsonElement ofPod)
    {
        var context = new JsonObject();
        foreach (var name in (string[])["runAsNonRoot", "runAsUser", "runAsGroup"]) context.Give(name, ofPod.Get(name));
        foreach (var field in Json.DefaultContainerSecurity.Fields().Concat(given.Fields()))
            context.Give(field.Name, field.Value);
        return context;
    }

    /// <summary>The spec's env without empty valueFrom; the exit handler is told the outcome, last.</summary>
    static JsonArray Env(Job job, bool exit, JsonElement given)
    {
        var env = new JsonArray();
        foreach (var item in given.Items().Where(i => !exit || i.Text("name") != "pipelineStatus"))
        {
            var node = item.Node();
            if (node is JsonObject variable && variable["valueFrom"] is JsonObject { Count: 0 })
                variable.Remove("valueFrom");
            env.Add(node);
        }
        var outcome = job.Status.ExitCode == 0 ? "success" : "failed";
        if (exit) env.Add((JsonNode)new JsonObject { ["name"] = "pipelineStatus", ["value"] = outcome });
        return env;
    }

    /// <summary>
    /// blockOwnerDeletion stays false: true is refused without rights on omjobs/finalizers, and has foreground deletion
    /// take the exit pod.
    /// </summary>
    public static JsonObject Owner(Held owner) => new()
    {
        ["apiVersion"] = Job.ApiVersion,
        ["kind"] = owner.Key.Kind.ToString(),
        ["name"] = owner.Name,
        ["uid"] = owner.Uid,
        ["controller"] = true,
        ["blockOwnerDeletion"] = false,
    };

    /// <summary>Ours, then the spec's, then those by which pods are found, which no spec overrides.</summary>
    static JsonObject LabelsOf(Job job, bool exit, JsonElement spec)
    {
        var labels = new JsonObject();
        void Set(string key, string? value)
        {
            if (Names.LabelValue(value ?? "") is { Length: > 0 } valid) labels[key] = valid;
            else labels.Remove(key);
        }
        Set("app.kubernetes.io/name", "openmetadata");
        Set("app.kubernetes.io/managed-by", "omjob-operator");
        Set(Labels.Component, "ingestion");
        Set(Labels.Pipeline, job.Pipeline);
        Set(Labels.RunId, job.RunId);
        foreach (var label in spec.Get("labels").Fields()) Set(label.Name, label.Value.ToString());
        if (exit) Set(Labels.Component, Labels.ExitHandler);
        foreach (var (key, value) in OwnLabels(job, exit)) Set(key, value);
        return labels;
    }

    static (string, string)[] OwnLabels(Job job, bool exit) =>
        [(Labels.Job, job.Name), (Labels.Name, job.Name),
            (Labels.Type, exit ? Labels.ExitHandler : Labels.Main), (Labels.Uid, job.Uid)];

    /// <summary>D3, H1: the patch that gives a pod its labels back.</summary>
    public static byte[] LabelPatch(Job job, Pod pod)
    {
        var labels = new JsonObject();
        foreach (var (key, value) in OwnLabels(job, pod.Name != MainName(job))) labels[key] = Names.LabelValue(value);
        return Bodies.Metadata(pod.Uid, null, new("labels", labels));
    }
}

// ------------------------------------------------------------------------------------------------------------ models

enum Kind { OMJob, Pod, CronOMJob }

/// <summary>An object's namespace, name and kind; those of OMJobs and CronOMJobs are what the queue holds.</summary>
readonly record struct Key(string Namespace, string Name, Kind Kind = Kind.OMJob);

/// <summary>An object in the cache.</summary>
abstract record Held
{
    public required Key Key { get; init; }
    public required string Uid { get; init; }
    /// <summary>Its resourceVersion.</summary>
    public required string Version { get; init; }
    public string Namespace => Key.Namespace;
    public string Name => Key.Name;
    /// <summary>Of a pod the key of its OMJob; null for what has a key of its own in the queue.</summary>
    public Key? Home { get; init; }
    /// <summary>The CronOMJob that made it, by controller owner reference.</summary>
    public Owner? Cron { get; init; }
    /// <summary>The state itself says that it is gone, as the answer to a write that took its last finalizer.</summary>
    public virtual bool IsGone => false;
    /// <summary>This state, with what we remember of an earlier one and when the API server answered with it.</summary>
    public virtual Held After(Held? before, DateTimeOffset? live) => this;
}

/// <summary>What was seen deleted since its key was last taken.</summary>
sealed record Tombstone : Held;

sealed record Owner(Key Key, string? Uid);

/// <summary>A finished OMJob of which nothing is held any more, as little of it as its TTL and its schedule need.</summary>
sealed record Retained : Held
{
    public Phase Phase { get; init; }
    public bool Deleting { get; init; }
    public long Ended { get; init; } // seconds of the epoch; 0: unknown
    public uint Ttl { get; init; } // seconds
    /// <summary>Null: the first attempt's.</summary>
    public string? ExitPodName { get; init; }

    public static Retained Of(Job job) => new()
    {
        Key = job.Key,
        Uid = job.Uid,
        Version = job.Version,
        Cron = job.Cron,
        Phase = job.Status.Phase,
        Deleting = job.Deleting,
        Ended = job.Status.CompletionTime?.ToUnixTimeSeconds() ?? 0,
        Ttl = (uint)job.Ttl.TotalSeconds,
        ExitPodName = job.Status.ExitPodName == Pods.ExitName(job.Name, 1) ? null : job.Status.ExitPodName,
    };

    public Job ToJob() => new()
    {
        Key = Key,
        Uid = Uid,
        Version = Version,
        Cron = Cron,
        Deleting = Deleting,
        Ttl = TimeSpan.FromSeconds(Ttl),
        Status = new(Phase)
        {
            CompletionTime = Ended == 0 ? null : DateTimeOffset.FromUnixTimeSeconds(Ended),
            ExitPodName = ExitPodName ?? Pods.ExitName(Name, 1),
        },
    };
}

enum Phase { Unknown, Pending, Running, ExitHandlerRunning, Succeeded, Failed }

/// <summary>OMJob.status (CONTRACT section 1).</summary>
sealed record JobStatus(Phase Phase)
{
    /// <summary>The phase as it was read; it differs from Phase's name only where that is Unknown.</summary>
    public string PhaseText { get; init; } = "";
    public string? MainPodName { get; init; }
    public string? ExitPodName { get; init; }
    public DateTimeOffset? StartTime { get; init; }
    public DateTimeOffset? CompletionTime { get; init; }
    public string? Message { get; init; }
    public int? ExitCode { get; init; }
    /// <summary>When condition MainPodFinished became True, in seconds of the epoch; 0: not yet, or not known.</summary>
    public uint MainFinished { get; init; }

    /// <summary>What the message says of the main pod, without what it says of the exit handler.</summary>
    public string MainWords => Message is not { Length: > 0 } message
        ? Phase switch
        {
            Phase.Pending => "Main pod was not created",
            Phase.Running => "Main pod was still running",
            _ => "Main pod ended",
        }
        : message.IndexOf(HandlerMark, StringComparison.Ordinal) is >= 0 and var at ? message[..at] : message;
    const string HandlerMark = "; exit handler";

    /// <summary>A pod's own words must not pass for what follows them.</summary>
    public static string AsMainWords(string words) =>
        words.Replace(HandlerMark, ", exit handler", StringComparison.Ordinal);

    /// <summary>What the message says of the exit handler, without "exit handler "; empty: nothing.</summary>
    public string HandlerWords =>
        (Message ?? "")[Math.Min(MainWords.Length + 2, Message?.Length ?? 0)..] is var words
        && words.StartsWith("exit handler ", StringComparison.Ordinal) ? words["exit handler ".Length..] : "";
    public const string AttemptWord = "exit handler attempt ", IsRenamed = "is now ", IsBlocked = "is blocked: ";

    /// <summary>Why a running main pod is being stopped: the message of its end, recorded before.</summary>
    public string? GivenUp =>
        Phase == Phase.Running && Message?.StartsWith(Stopped, StringComparison.Ordinal) is true ? Message : null;
    public const string Stopped = "Main pod was stopped: it ";

    public static JobStatus Read(JsonElement status)
    {
        var text = status.Text("phase") ?? "";
        var phase = Enum.GetValues<Phase>().FirstOrDefault(p => p.ToString() == text); // else Unknown
        return new(text.Length == 0 ? Phase.Pending : phase)
        {
            PhaseText = Text.Cut(text, 100),
            MainPodName = Names.Valid(status.Text("mainPodName")),
            ExitPodName = Names.Valid(status.Text("exitHandlerPodName")),
            StartTime = status.Time("startTime"),
            CompletionTime = status.Time("completionTime"),
            Message = status.Text("message", most: 2000),
            ExitCode = status.Number("mainPodExitCode") is { } code
                ? (int)Math.Clamp(code, int.MinValue, int.MaxValue) : null,
            MainFinished = (uint)Math.Clamp(status.Get("conditions").Items()
                .FirstOrDefault(c => c.Text("type") == Conditions.Main && c.Text("status") == "True")
                .Time("lastTransitionTime")?.ToUnixTimeSeconds() ?? 0, 0, uint.MaxValue),
        };
    }
}

/// <summary>
/// status.conditions, for people and tools: all of it follows from the rest of the status, and nothing is decided by
/// it, for CRDs that do not list it prune it.
/// </summary>
static class Conditions
{
    public const string Main = "MainPodFinished", Handler = "ExitHandlerFinished", Finished = "Finished";

    public static JsonArray Of(Job job, JobStatus status, DateTimeOffset now)
    {
        var (mainOver, over) = (status.Phase >= Phase.ExitHandlerRunning, status.Phase.IsFinished());
        var began = status.MainFinished > 0 ? DateTimeOffset.FromUnixTimeSeconds(status.MainFinished) : now;
        var words = status.HandlerWords;
        return
        [
            One(Main, mainOver, began, MainReason(status), status.MainWords),
            One(Handler, over, status.CompletionTime, HandlerReason(status), words),
            One(Finished, over, status.CompletionTime, Reason(status), status.Message ?? ""),
        ];

        JsonNode One(string type, bool holds, DateTimeOffset? since, string reason, string message) => new JsonObject
        {
            ["type"] = type,
            ["status"] = holds ? "True" : "False",
            ["observedGeneration"] = job.Generation,
            ["lastTransitionTime"] = Text.Time(holds ? since : job.Created),
            ["reason"] = reason,
            ["message"] = message.Length > 0 ? message : reason, // some API servers refuse an empty text
        };
    }

    /// <summary>Why it ended as it did: of a failed run the first thing that failed. Else where it stands.</summary>
    public static string Reason(JobStatus status) => status.Phase switch
    {
        Phase.Succeeded => "Succeeded",
        Phase.ExitHandlerRunning => HandlerReason(status) == "Blocked" ? "Blocked" : $"{status.Phase}",
        Phase.Failed when status.ExitCode == 0 => $"ExitHandler{HandlerReason(status)}",
        _ => MainReason(status),
    };

    public static string MainReason(JobStatus status) => status.MainWords switch
    {
        _ when status.ExitCode == 0 => "Succeeded",
        _ when status.GivenUp is not null => "Stopping",
        var words when Starts(words, JobStatus.Stopped + "did not start") => "NotStarted",
        var words when Starts(words, JobStatus.Stopped + "ran past") => "DeadlineExceeded",
        var words when Starts(words, "Main pod ") => Ending(words["Main pod ".Length..],
            status.Phase < Phase.ExitHandlerRunning ? $"{status.Phase}" : "Unknown"),
        _ => "Unknown",
    };

    /// <summary>How an exit handler's attempt ended between these; null: none did.</summary>
    public static string? Attempt(Job before, JobStatus after) =>
        after.Phase == Phase.ExitHandlerRunning
            ? Pods.Ran(before with { Status = after }) > Pods.Ran(before) ? "failed" : null
            : HandlerReason(after) switch { "Succeeded" => "succeeded", "NoExitHandler" => null, _ => "failed" };

    static string HandlerReason(JobStatus status) => status.HandlerWords is { Length: > 0 } words
        ? words.Split(' ', 3) is ["attempt", _, var rest] && Starts(rest, JobStatus.IsBlocked) ? "Blocked"
        : Ending(words, status.Phase == Phase.ExitHandlerRunning ? "Running" : "Unknown")
        : status.Phase.IsFinished() ? "NoExitHandler"
        : status.Phase == Phase.ExitHandlerRunning ? "Running" : "Waiting";

    /// <summary>One word for how a pod ended, by how its message begins.</summary>
    static string Ending(string words, string otherwise) => words switch
    {
        _ when Starts(words, "succeeded") => "Succeeded",
        _ when Starts(words, "is blocked") => "Blocked",
        _ when Starts(words, "attempt ") => "Retrying",
        _ when Starts(words, "cannot be created") => "Refused",
        _ when Starts(words, "cannot run: the namespace") => "NamespaceTerminating",
        _ when Starts(words, "did not end") => "DeadlineExceeded",
        _ when Starts(words, "was lost") => "Lost",
        _ when Starts(words, "was deleted") => "Deleted",
        _ when Starts(words, "was not created") => "NotStarted",
        _ when Starts(words, "was stopped") || words.EndsWith("after the OMJob was deleted", StringComparison.Ordinal)
            => "Stopped",
        _ when Starts(words, "failed with exit code") => Word(words) ?? "ExitCode",
        _ when Starts(words, "failed") => Word(words) ?? "Failed",
        _ => otherwise,
    };

    /// <summary>The first reason in parentheses; the one after it where it says that nothing is known.</summary>
    static string? Word(string words)
    {
        words = words.Replace("(ContainerStatusUnknown; ", "(", StringComparison.Ordinal);
        var at = words.IndexOf('(', StringComparison.Ordinal) + 1;
        var end = at;
        while (end < words.Length && char.IsAsciiLetterOrDigit(words[end])) end++;
        return at == 0 || at == end ? null : char.ToUpperInvariant(words[at]) + words[(at + 1)..end];
    }

    static bool Starts(string words, string start) => words.StartsWith(start, StringComparison.Ordinal);
}

/// <summary>An OMJob, as much of it as is needed: the spec of a finished one is not kept.</summary>
sealed record Job : Held
{
    public const string ApiVersion = "pipelines.openmetadata.org/v1";
    public const string Finalizer = "pipelines.openmetadata.org/exit-handler";
    public const string Foreground = "foregroundDeletion", Orphan = "orphan";

    public DateTimeOffset Created { get; init; }
    public bool Deleting { get; init; }
    public string[] Finalizers { get; init; } = [];
    public JobStatus Status { get; init; } = new(Phase.Pending);
    /// <summary>The spec as JSON text; empty once it has finished.</summary>
    public byte[] Spec { get; init; } = [];
    /// <summary>Else there was no room for its spec and others' finalizers: ask for it.</summary>
    public bool IsWhole { get; init; } = true;
    public bool HasExitSpec { get; init; }
    public TimeSpan Ttl { get; init; }
    public int? BackoffLimit { get; init; }
    /// <summary>Of the spec; 0: unknown.</summary>
    public long Generation { get; init; }
    public string? Pipeline { get; init; }
    public string? RunId { get; init; }
    /// <summary>When the API server answered us with this state, or an earlier one (server's time).</summary>
    public DateTimeOffset? SeenLive { get; init; }
    /// <summary>A write of ours met a newer version than this one.</summary>
    public bool Stale { get; init; }
    /// <summary>Since its deletion the namespace was found to be staying.</summary>
    public bool NamespaceAsked { get; init; }
    /// <summary>G20: it was deleted with orphan propagation, its pods are to stay.</summary>
    public bool Orphaning { get; init; }

    public bool HasFinalizer => Finalizers.Contains(Finalizer);
    /// <summary>It is over, and nothing of ours holds it.</summary>
    public bool IsLetGo => Status.Phase.IsFinished() && !HasFinalizer;
    /// <summary>Reads the spec anew each time.</summary>
    public JsonElement ReadSpec() =>
        Spec.Length == 0 ? default : JsonSerializer.Deserialize(Spec, Json.Default.JsonElement);
    /// <summary>In bytes, what its maker can make as large as the API server takes it.</summary>
    public int Size => Spec.Length + Finalizers.Sum(f => 32 + 2 * f.Length);
    /// <summary>Without what may be large; that there are others' finalizers can still be seen.</summary>
    public Job Short() => this with
    {
        Spec = [],
        Finalizers = [.. Finalizers.Select(f => f is Finalizer or Foreground or Orphan ? f : "").Distinct()],
        IsWhole = false,
    };
    public override bool IsGone => Deleting && Finalizers.Length == 0;
    /// <summary>Newer than what was seen live is as good as live.</summary>
    public override Held After(Held? before, DateTimeOffset? live) =>
        this with { SeenLive = live ?? (before is Job job && job.Uid == Uid ? job.SeenLive : null) };
}

/// <summary>A pod, as much of it as is decided on.</summary>
sealed record Pod : Held
{
    public const string Finalizer = "pipelines.openmetadata.org/outcome";

    /// <summary>
    /// The OMJob's name by owner reference, else label, else the name of a main pod that bears its UID; empty: none.
    /// </summary>
    public string JobName { get; init; } = "";
    /// <summary>The OMJob's UID by controller owner reference, else label, else annotation; null: not ours.</summary>
    public string? JobUid { get; init; }
    public bool HasOwner { get; init; }
    public bool LostLabels { get; init; }
    public bool HasFinalizer { get; init; }
    public int FinalizerCount { get; init; }
    public DateTimeOffset Created { get; init; }
    /// <summary>When it is to be gone, its grace included.</summary>
    public DateTimeOffset? DeletionTimestamp { get; init; }
    /// <summary>The grace of its deletion, seconds; 0 once its node has confirmed the end.</summary>
    public long? GracePeriod { get; init; }
    public TimeSpan Grace { get; init; }
    /// <summary>From StartTime on; the kubelet stops it then (G8).</summary>
    public TimeSpan? ActiveDeadline { get; init; }
    public bool Scheduled { get; init; }
    public DateTimeOffset? StartTime { get; init; }
    /// <summary>The phase is Succeeded or Failed.</summary>
    public bool PhaseOver { get; init; }
    public string? Reason { get; init; }
    /// <summary>The reason of the DisruptionTarget condition.</summary>
    public string? Disruption { get; init; }
    /// <summary>Container main has started.</summary>
    public bool Started { get; init; }
    public bool MainRunning { get; init; }
    /// <summary>Why container main does not start.</summary>
    public string? Waiting { get; init; }
    public int? ExitCode { get; init; }
    public string? ExitReason { get; init; }
    public DateTimeOffset? FinishedAt { get; init; }
    /// <summary>When we first saw a phase that is over while main is still reported as running.</summary>
    public DateTimeOffset? OverSeen { get; init; }

    public bool Deleting => DeletionTimestamp is not null;
    /// <summary>It is over or going by itself, and nothing of ours holds it.</summary>
    public bool IsSettled => !HasFinalizer && (PhaseOver || Deleting);
    public DateTimeOffset? DeletionRequested => DeletionTimestamp - Text.Seconds(GracePeriod ?? 0);
    /// <summary>D3: one that lost owner reference and labels, both, is known by the main pods' finalizer.</summary>
    public bool BelongsTo(Job job) =>
        JobUid == job.Uid || (JobUid is null && HasFinalizer && Created >= job.Created);
    public override bool IsGone => Deleting && FinalizerCount == 0 && GracePeriod == 0;
    /// <summary>P: the phase may be reported seconds before the container; the clock runs from first sight.</summary>
    public override Held After(Held? before, DateTimeOffset? live) =>
        OverSeen is not null && before is Pod pod && pod.Uid == Uid
            ? this with { OverSeen = pod.OverSeen ?? OverSeen } : this;
}

/// <summary>Something worth an event; what Tell adds makes it one.</summary>
sealed record Fact(string Action, string Message, bool Warning = false)
{
    public Held? About { get; init; }
    public string Name { get; init; } = "";
    public int Count { get; init; }
    public DateTimeOffset First { get; init; }
    public DateTimeOffset Last { get; init; }
}

// The objects as the API server sends them.

interface IApiObject
{
    ObjectMeta? Metadata { get; }
    /// <summary>What we hold of it; null where it is no whole object.</summary>
    Held? ToHeld(DateTimeOffset now);
}

interface IWatchEvent
{
    string? Type { get; }
    IApiObject? Object { get; }
}

sealed record WatchEvent<T>(string? Type, T? Object) : IWatchEvent where T : class
{
    IApiObject? IWatchEvent.Object => Object as IApiObject;
}

sealed record ListMeta(string? ResourceVersion, string? Continue);
sealed record OwnerReference(string? ApiVersion, string? Kind, string? Name, string? Uid, bool? Controller);
sealed record StatusObject(string? Reason, string? Message, int? Code, StatusDetails? Details);
sealed record StatusDetails(string? Name, string? Kind, List<StatusCause>? Causes, int? RetryAfterSeconds);
sealed record StatusCause(string? Reason, string? Message, string? Field);

sealed record ObjectMeta(
    string? Name, string? Namespace, string? Uid, string? ResourceVersion, long? Generation,
    DateTimeOffset? CreationTimestamp, DateTimeOffset? DeletionTimestamp, long? DeletionGracePeriodSeconds,
    Dictionary<string, string>? Labels, Dictionary<string, string>? Annotations,
    List<OwnerReference>? OwnerReferences, string[]? Finalizers)
{
    /// <summary>The reference to the owner of that kind that controls it; null: there is none that could be.</summary>
    public OwnerReference? Controller(Kind kind) => OwnerReferences?.Find(o =>
        o is { Controller: true, ApiVersion: Job.ApiVersion } && o.Kind == $"{kind}" && Names.Valid(o.Name) is not null);
}

sealed record JobObject(ObjectMeta? Metadata, JsonElement Spec, JsonElement Status) : IApiObject
{
    public Held? ToHeld(DateTimeOffset now) => ToJob();

    /// <summary>Null if no whole object. Spec and status are read field by field: a wrong type stops nothing.</summary>
    public Job? ToJob()
    {
        if (Metadata is not { Name: { } name, Namespace: { } ns, Uid: { } uid, ResourceVersion: { } version } meta)
            return null;
        var status = JobStatus.Read(Status);
        var finished = status.Phase.IsFinished();
        var end = status.CompletionTime ?? meta.CreationTimestamp;
        var cron = meta.Controller(Kind.CronOMJob);
        var finalizers = meta.Finalizers ?? [];
        if (finished) status = status with { Message = null, StartTime = null, PhaseText = "", CompletionTime = end };
        return new()
        {
            Key = new(ns, name),
            Uid = uid,
            Version = version,
            Created = meta.CreationTimestamp ?? default,
            Deleting = meta.DeletionTimestamp is not null,
            Finalizers = finalizers,
            Status = status,
            Spec = finished || Spec.ValueKind == JsonValueKind.Undefined
                ? [] : JsonMarshal.GetRawUtf8Value(Spec).ToArray(),
            HasExitSpec = Spec.Get("exitHandlerSpec").ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null),
            Ttl = Text.Seconds(Spec.Number("ttlSecondsAfterFinished") ?? 86400),
            BackoffLimit = Spec.Number("exitHandlerBackoffLimit") is { } limit ? (int)Math.Clamp(limit, 0, 1000) : null,
            Generation = meta.Generation ?? 0,
            Pipeline = finished ? null : meta.Labels?.GetValueOrDefault(Labels.Pipeline),
            RunId = finished ? null : meta.Labels?.GetValueOrDefault(Labels.RunId),
            Cron = cron is null ? null : new(new(ns, cron.Name!, Kind.CronOMJob), Names.Uid(cron.Uid)),
        };
    }
}

sealed record PodObject(ObjectMeta? Metadata, PodSpecObject? Spec, PodStatusObject? Status) : IApiObject
{
    public Held? ToHeld(DateTimeOffset now) => ToPod(now);

    /// <param name="now">The server's time: when a failed pod whose container still runs was first seen.</param>
    public Pod? ToPod(DateTimeOffset now)
    {
        if (Metadata is not { Name: { } name, Namespace: { } ns, Uid: { } uid, ResourceVersion: { } version } meta)
            return null;
        var owner = meta.Controller(Kind.OMJob);
        var uidOf = Names.Uid(owner?.Uid
            ?? meta.Labels?.GetValueOrDefault(Labels.Uid) ?? meta.Annotations?.GetValueOrDefault(Labels.Uid));
        var main = Status?.ContainerStatuses?.Find(c => c?.Name == "main")?.State;
        var over = Status?.Phase is "Succeeded" or "Failed";
        var disruption = Status?.Conditions?.Find(c => c is { Type: "DisruptionTarget", Status: "True" });
        return new()
        {
            Key = new(ns, name, Kind.Pod),
            Uid = uid,
            Version = version,
            JobName = owner?.Name ?? Names.Valid(meta.Labels?.GetValueOrDefault(Labels.Name))
                ?? (uidOf is not null && name.EndsWith(Pods.MainSuffix, StringComparison.Ordinal)
                    ? name[..^Pods.MainSuffix.Length] : ""),
            JobUid = uidOf,
            HasOwner = owner is not null,
            LostLabels = string.IsNullOrEmpty(meta.Labels?.GetValueOrDefault(Labels.Name)),
            HasFinalizer = meta.Finalizers?.Contains(Pod.Finalizer) is true,
            FinalizerCount = meta.Finalizers?.Length ?? 0,
            Created = meta.CreationTimestamp ?? now,
            DeletionTimestamp = meta.DeletionTimestamp,
            GracePeriod = meta.DeletionGracePeriodSeconds,
            Grace = Text.Seconds(Spec?.TerminationGracePeriodSeconds ?? 30),
            ActiveDeadline = Spec?.ActiveDeadlineSeconds is { } most ? Text.Seconds(most) : null,
            Scheduled = !string.IsNullOrEmpty(Spec?.NodeName),
            StartTime = Status?.StartTime,
            PhaseOver = over,
            Reason = Text.Pair(Status?.Reason, Status?.Message),
            Disruption = disruption is null ? null : Text.Pair(disruption.Reason, null) ?? "DisruptionTarget",
            Started = main is { Running: not null } or { Terminated: not null } || over,
            MainRunning = main?.Running is not null,
            Waiting = main is { Running: not null } or { Terminated: not null } ? null : WhyWaiting(main),
            ExitCode = main?.Terminated?.ExitCode,
            ExitReason = Text.Pair(main?.Terminated?.Reason, null),
            FinishedAt = main?.Terminated?.FinishedAt,
            OverSeen = over && main?.Running is not null ? now : null,
        };
    }

    string? WhyWaiting(ContainerState? main)
    {
        var init = Status?.InitContainerStatuses?.Find(
            c => c?.State is { Waiting.Reason: not null and not "PodInitializing" })?.State;
        var waiting = init?.Waiting ?? main?.Waiting;
        if (waiting is not null) return Text.Pair(waiting.Reason, waiting.Message);
        var unscheduled = Status?.Conditions?.Find(c => c is { Type: "PodScheduled", Status: "False" });
        return Text.Pair(unscheduled?.Reason, unscheduled?.Message);
    }
}

sealed record PodSpecObject(string? NodeName, long? TerminationGracePeriodSeconds, long? ActiveDeadlineSeconds);
sealed record PodStatusObject(
    string? Phase, string? Reason, string? Message, DateTimeOffset? StartTime, List<PodCondition>? Conditions,
    List<ContainerStatus>? ContainerStatuses, List<ContainerStatus>? InitContainerStatuses);
sealed record PodCondition(string? Type, string? Status, string? Reason, string? Message);
sealed record ContainerStatus(string? Name, ContainerState? State);
sealed record ContainerState(ContainerWaiting? Waiting, ContainerRunning? Running, ContainerTerminated? Terminated);
sealed record ContainerWaiting(string? Reason, string? Message);
sealed record ContainerRunning(DateTimeOffset? StartedAt);
sealed record ContainerTerminated(int ExitCode, string? Reason, DateTimeOffset? FinishedAt);

/// <summary>Source-generated JSON: no reflection at run time. API servers take JSON that is nested 10,000 deep.</summary>
[JsonSourceGenerationOptions(GenerationMode = JsonSourceGenerationMode.Metadata,
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, MaxDepth = MostDepth, Converters = [typeof(ApiTime)])]
[JsonSerializable(typeof(ListMeta))]
[JsonSerializable(typeof(WatchEvent<JobObject>))]
[JsonSerializable(typeof(WatchEvent<PodObject>))]
[JsonSerializable(typeof(WatchEvent<CronObject>))]
[JsonSerializable(typeof(WatchEvent<StatusObject>))]
sealed partial class Json : JsonSerializerContext
{
    public const int MostDepth = 11_000;

    /// <summary>The pods' security context where the OMJob gives none; Pod Security "restricted" admits it.</summary>
    public static readonly JsonElement DefaultSecurity = Parse("""
        {"runAsNonRoot":true,"runAsUser":1000,"runAsGroup":1000,"fsGroup":1000,
         "seccompProfile":{"type":"RuntimeDefault"}}
        """);
    public static readonly JsonElement DefaultContainerSecurity =
        Parse("""{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":false,"capabilities":{"drop":["ALL"]}}""");

    static JsonElement Parse(string json)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.Clone();
    }
}

/// <summary>A time that the phase machine can reckon with.</summary>
sealed class ApiTime : JsonConverter<DateTimeOffset>
{
    public override DateTimeOffset Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
        Text.Reckonable(reader.GetDateTimeOffset());

    public override void Write(Utf8JsonWriter writer, DateTimeOffset value, JsonSerializerOptions options) =>
        writer.WriteStringValue(value);
}

/// <summary>Reading JSON that may be anything: what is not there, or of another type, is nothing.</summary>
static class Extensions
{
    public static JsonElement Get(this JsonElement json, string name) =>
        json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) ? value : default;
    public static string? Text(this JsonElement json, string name) =>
        json.Get(name) is { ValueKind: JsonValueKind.String } text ? text.GetString() : null;
    public static string? Text(this JsonElement json, string name, int most) =>
        json.Text(name) is { } text ? OMJobs.Text.Cut(text, most) : null;
    public static long? Number(this JsonElement json, string name) =>
        json.Get(name) is { ValueKind: JsonValueKind.Number } number && number.TryGetInt64(out var n) ? n : null;
    public static DateTimeOffset? Time(this JsonElement json, string name) =>
        json.Get(name) is { ValueKind: JsonValueKind.String } t && t.TryGetDateTimeOffset(out var value)
            ? OMJobs.Text.Reckonable(value) : null;
    public static IEnumerable<JsonProperty> Fields(this JsonElement json) =>
        json.ValueKind == JsonValueKind.Object ? json.EnumerateObject() : [];
    public static IEnumerable<JsonElement> Items(this JsonElement json) =>
        json.ValueKind == JsonValueKind.Array ? json.EnumerateArray() : [];

    /// <summary>Nothing where it is null or empty: the chart's own CRD prunes a security context to {}.</summary>
    public static JsonElement OrNothing(this JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.Null => default,
        JsonValueKind.Object => json.EnumerateObject().Any() ? json : default,
        JsonValueKind.Array => json.GetArrayLength() > 0 ? json : default,
        JsonValueKind.String => json.GetString() is "" ? default : json,
        _ => json,
    };

    public static JsonNode? Node(this JsonElement json) => json.ValueKind switch
    {
        JsonValueKind.Object => JsonObject.Create(json),
        JsonValueKind.Array => JsonArray.Create(json),
        _ => JsonValue.Create(json),
    };

    public static void Give(this JsonObject json, string name, JsonElement value)
    {
        if (value.ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null)) json[name] = value.Node();
    }

    public static byte[] Bytes(this JsonObject json)
    {
        var buffer = new ArrayBufferWriter<byte>(1024);
        using (var writer = new Utf8JsonWriter(buffer, new() { MaxDepth = Json.MostDepth })) json.WriteTo(writer);
        return buffer.WrittenSpan.ToArray();
    }

    public static bool IsFinished(this Phase phase) => phase is Phase.Succeeded or Phase.Failed;

    /// <summary>Awaits without throwing: for waits that end by cancellation or time.</summary>
    public static async Task Quietly(this Task task) => await Task.WhenAny(task);
}

static class Text
{
    /// <summary>Short enough for an event, whose message should stay within 1,024 bytes.</summary>
    public static string Cut(string text, int most = 900) =>
        text.Length <= most ? text : text[..(char.IsHighSurrogate(text[most - 1]) ? most - 1 : most)] + "…";

    public static string? Pair(string? reason, string? message) =>
        string.IsNullOrEmpty(reason) ? null
            : Cut(reason, 500) + (string.IsNullOrEmpty(message) ? "" : $": {Cut(message, 300)}");

    public static string Join(string main, string? handler) =>
        string.IsNullOrEmpty(handler) ? main : Cut($"{Cut(main, 500)}; {handler}");

    /// <summary>At most ten years, so that no sum of times overflows.</summary>
    public static TimeSpan Seconds(long seconds) => TimeSpan.FromSeconds(Math.Clamp(seconds, 0, 315_360_000));

    /// <summary>Years away from both ends of time, so that no sum of times overflows.</summary>
    public static DateTimeOffset Reckonable(DateTimeOffset time) => time < Earliest ? Earliest
        : time > Latest ? Latest : time;

    static readonly DateTimeOffset Earliest = new(1900, 1, 1, 0, 0, 0, default), Latest = Earliest.AddYears(7000);

    public static string Duration(TimeSpan span) =>
        span.TotalSeconds % 3600 == 0 ? $"{span.TotalHours}h"
            : span.TotalSeconds % 60 == 0 ? $"{span.TotalMinutes}m" : $"{span.TotalSeconds}s";

    /// <summary>Whole seconds, UTC, with a trailing Z.</summary>
    public static string? Time(DateTimeOffset? time) =>
        time?.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}

static class Secrets
{
    const int MostWords = 8 << 10; // characters that are looked through

    /// <summary>
    /// The API server's words without the values of the OMJob's env, which a refusal may repeat. What is a part of the
    /// run's own name, namespace, pods' names or labels is no secret.
    /// </summary>
    public static string Redact(string words, Job? job) => job is null ? Text.Cut(words)
        : Redact(words, job.ReadSpec(), job.Name, job.Namespace, job.Uid, Pods.MainName(job), Pods.ExitName(job),
            job.Pipeline, job.RunId);

    public static string Redact(string words, JsonElement omJobSpec, params IEnumerable<string?> known)
    {
        var context = words.IndexOf("error found in #", StringComparison.Ordinal); // what follows is a piece of the pod
        if (context >= 0) words = words[..context].TrimEnd(' ', ',');
        JsonElement[] specs = [omJobSpec.Get("mainPodSpec"), omJobSpec.Get("exitHandlerSpec")];
        var values = specs.SelectMany(spec => spec.Get("initContainers").Items().Prepend(spec))
            .SelectMany(container => container.Get("env").Items().Select(item => item.Text("value")))
            .OfType<string>().Where(value => value.Length >= 4).ToArray();
        // As it is, and quoted.
        values = [.. values.Concat(values.Select(v => JavaScriptEncoder.UnsafeRelaxedJsonEscaping.Encode(v))).Distinct()];
        // What is left of a value that is cut here is not shown.
        var shown = words.Length <= MostWords ? words.Length : MostWords - values.Max(v => (int?)v.Length) ?? MostWords;
        words = words[..Math.Min(words.Length, MostWords)];
        var open = new int[words.Length]; // up to where a word that begins there, or before, is known
        foreach (var word in specs.SelectMany(spec => spec.Get("labels").Fields().Select(label => label.Value.ToString()))
            .Concat(known).OfType<string>())
            foreach (var at in At(words, word)) open[at] = Math.Max(open[at], at + word.Length);
        for (var i = 1; i < open.Length; i++) open[i] = Math.Max(open[i], open[i - 1]);
        var secret = new bool[words.Length];
        foreach (var value in values)
        {
            var done = 0;
            foreach (var at in At(words, value).Where(at => at + value.Length > open[at]))
            {
                var from = Math.Max(done, at);
                secret.AsSpan(from..(done = at + value.Length)).Fill(true);
            }
        }
        var text = new StringBuilder();
        for (var i = 0; i < shown; i++)
            if (!secret[i]) text.Append(words[i]);
            else if (i == 0 || !secret[i - 1]) text.Append("***");
        return Text.Cut(shown < words.Length ? $"{text}…" : text.ToString());
    }

    /// <summary>Where a word stands in a text, also where it overlaps itself.</summary>
    static IEnumerable<int> At(string text, string word)
    {
        if (word.Length == 0) yield break;
        for (var at = -1; (at = text.IndexOf(word, at + 1, StringComparison.Ordinal)) >= 0;) yield return at;
    }
}

static class Versions
{
    /// <summary>Resource versions are numbers that grow (KEP-5504).</summary>
    public static bool Newer(string one, string other) =>
        one.Length != other.Length ? one.Length > other.Length : string.CompareOrdinal(one, other) > 0;
}

static class MediaTypes
{
    public const string Json = "application/json", Merge = "application/merge-patch+json",
        StrategicMerge = "application/strategic-merge-patch+json";
}

static class Paths
{
    const string Group = "/apis/" + Job.ApiVersion;
    static string In(string ns) => ns.Length == 0 ? "" : $"/namespaces/{ns}";
    public static string All(string ns, string resource) =>
        (resource == "pods" ? "/api/v1" : Group) + In(ns) + "/" + resource;
    public static string Of(Key key) => $"{All(key.Namespace, $"{key.Kind}s".ToLowerInvariant())}/{key.Name}";
    public static string Events(string ns) => $"/api/v1{In(ns)}/events";

    /// <summary>The timeout holds the API server too: a creation that comes late could be a second one (D6).</summary>
    public static Request CreatePod(string ns, byte[] pod, string parameters = "") =>
        new(HttpMethod.Post, $"{All(ns, "pods")}?timeout=10s{parameters}", pod);
}

/// <summary>The bodies of our requests.</summary>
static class Bodies
{
    static readonly string Host = Environment.MachineName; // asks the system each time

    /// <summary>A patch of one metadata field, refused for another UID (422) or, if given, version (409).</summary>
    public static byte[] Metadata(string uid, string? version, KeyValuePair<string, JsonNode?> field)
    {
        var meta = new JsonObject { ["uid"] = uid };
        if (version is not null) meta["resourceVersion"] = version;
        meta.Add(field);
        return new JsonObject { ["metadata"] = meta }.Bytes();
    }

    public static byte[] Finalizers(Job job, IEnumerable<string> finalizers) =>
        Metadata(job.Uid, job.Version, new("finalizers", new JsonArray([.. finalizers.Select(f => (JsonNode)f)])));

    /// <summary>Needs no resourceVersion: it takes what is ours out of the list, and the UID guards the pod.</summary>
    public static byte[] DropFinalizer(Pod pod) =>
        Metadata(pod.Uid, null, new("$deleteFromPrimitiveList/finalizers", new JsonArray(Pod.Finalizer)));

    public static byte[] Status(Job job, JobStatus status, DateTimeOffset now) => new JsonObject
    {
        ["metadata"] = new JsonObject { ["resourceVersion"] = job.Version },
        ["status"] = new JsonObject
        {
            ["phase"] = status.Phase.ToString(),
            ["mainPodName"] = status.MainPodName,
            ["exitHandlerPodName"] = status.ExitPodName,
            ["startTime"] = Text.Time(status.StartTime),
            ["completionTime"] = Text.Time(status.CompletionTime),
            ["message"] = status.Message,
            ["mainPodExitCode"] = status.ExitCode,
            ["observedGeneration"] = job.Generation,
            ["conditions"] = Conditions.Of(job, status, now),
        },
    }.Bytes();

    public static byte[] Delete(string uid, string? version)
    {
        var preconditions = new JsonObject { ["uid"] = uid };
        if (version is not null) preconditions["resourceVersion"] = version;
        return new JsonObject { ["propagationPolicy"] = "Background", ["preconditions"] = preconditions }.Bytes();
    }

    public static byte[] Event(Fact fact, Held about) => new JsonObject
    {
        ["metadata"] = new JsonObject { ["name"] = fact.Name, ["namespace"] = about.Namespace },
        ["involvedObject"] = new JsonObject
        {
            ["apiVersion"] = Job.ApiVersion,
            ["kind"] = about.Key.Kind.ToString(),
            ["namespace"] = about.Namespace,
            ["name"] = about.Name,
            ["uid"] = about.Uid,
            ["resourceVersion"] = about.Version,
        },
        ["reason"] = "OMJobOperator",
        ["action"] = fact.Action,
        ["message"] = fact.Message,
        ["type"] = fact.Warning ? "Warning" : "Normal",
        ["count"] = fact.Count,
        ["firstTimestamp"] = Text.Time(fact.First),
        ["lastTimestamp"] = Text.Time(fact.Last),
        ["source"] = new JsonObject { ["component"] = "omjob-operator" },
        ["reportingComponent"] = "omjob-operator",
        ["reportingInstance"] = Host,
    }.Bytes();

    public static byte[] EventCount(Fact fact) =>
        new JsonObject { ["count"] = fact.Count, ["lastTimestamp"] = Text.Time(fact.Last) }.Bytes();
}

// ------------------------------------------------------------------------------------------------------------- queue

/// <summary>
/// Holds a key at most once, never hands out one that is being worked on, and can wake a key at a time. A key added
/// while it is worked on comes back after Done. Namespaces take turns, and none comes before the others: it might for
/// ever. Of each the urgent ones come first: what has begun, before what is new. As many keys as there are workers are
/// worked on at once. One that takes longer than a second counts for its own namespace only: a namespace in which every
/// request takes its time holds up no other one, as long as fewer of them are slow than there are workers.
/// </summary>
sealed class WorkQueue(TimeProvider time, Metrics? metrics = null)
{
    public static readonly string Label = Metrics.Label("name", "omjob");
    static readonly TimeSpan Slow = TimeSpan.FromSeconds(1);

    /// <summary>Set before the first key is taken.</summary>
    public int Workers { get; set; } = int.MaxValue;

    sealed class Slot(Key key, long number) : IComparable<Slot>
    {
        public readonly Key Key = key;
        public bool Ready, Urgent, Working, Slow, Again;
        public long Since; // timestamp of the Add that it is worked on for
        public long Taken; // timestamp
        public long Wake = long.MaxValue; // timestamp
        public int CompareTo(Slot? other) => (Wake, number).CompareTo((other!.Wake, other.Number));
        long Number => number;
    }

    /// <summary>The keys of a namespace that wait for a worker; one that became urgent is in both.</summary>
    sealed class Lane(string ns)
    {
        public readonly string Namespace = ns;
        public readonly Queue<Slot> Urgent = [], Others = [];
        public int Working;
        public bool Waiting; // for its turn
    }

    readonly Lock gate = new();
    readonly Dictionary<Key, Slot> slots = [];
    readonly Dictionary<string, Lane> lanes = []; // by namespace
    readonly Queue<Lane> turns = []; // those that have keys
    readonly Queue<(Slot Slot, long Taken)> prompt = []; // worked on since then; those that are done are passed by
    readonly Channel<bool> news = Channel.CreateBounded<bool>(1); // there may be a key to take
    readonly SortedSet<Slot> timers = []; // those that have a Wake
    readonly Channel<bool> sooner = Channel.CreateBounded<bool>(1);
    int working, slow;
    long made;

    public int Depth { get { lock (gate) return slots.Values.Count(s => s.Ready); } }

    public void Add(Key key, bool first = false)
    {
        lock (gate)
        {
            var slot = SlotOf(key);
            if (slot.Working) slot.Again = true;
            if (slot.Working || (slot.Ready && (slot.Urgent || !first))) return;
            if (!slot.Ready)
            {
                slot.Since = time.GetTimestamp();
                metrics?.Count(Metrics.Adds, Label);
            }
            (slot.Ready, slot.Urgent) = (true, first);
            var lane = LaneOf(key);
            (first ? lane.Urgent : lane.Others).Enqueue(slot);
            if (!lane.Waiting) turns.Enqueue(lane);
            lane.Waiting = true;
            news.Writer.TryWrite(true);
        }
    }

    /// <summary>Wakes the key then, or at an earlier time that was set; not if it is taken before.</summary>
    public void AddAfter(Key key, TimeSpan delay)
    {
        if (delay <= TimeSpan.Zero) { Add(key); return; }
        lock (gate)
        {
            var ticks = Math.Min(delay.TotalSeconds * time.TimestampFrequency, long.MaxValue / 4.0);
            var at = time.GetTimestamp() + (long)ticks;
            var slot = SlotOf(key);
            if (at >= slot.Wake) return;
            Wake(slot, at);
            if (timers.Min == slot) sooner.Writer.TryWrite(true);
        }
    }

    /// <summary>The clock by which the times were meant has been set: whoever waits looks again.</summary>
    public void WakeAll()
    {
        lock (gate)
            foreach (var slot in timers.ToArray())
            {
                Wake(slot, long.MaxValue);
                Add(slot.Key);
            }
    }

    /// <summary>The next key, or null once stopped. Its time is forgotten: who takes it sets it anew.</summary>
    public async Task<Key?> Take(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            var patience = Timeout.InfiniteTimeSpan;
            lock (gate)
            {
                if (MayTake(ref patience) && Next() is { } slot)
                {
                    var now = time.GetTimestamp();
                    (slot.Ready, slot.Working, slot.Taken) = (false, true, now);
                    metrics?.Observe(Metrics.QueueTime, Label, time.GetElapsedTime(slot.Since, now));
                    Wake(slot, long.MaxValue);
                    (working, LaneOf(slot.Key).Working) = (working + 1, LaneOf(slot.Key).Working + 1);
                    prompt.Enqueue((slot, now));
                    if (turns.Count > 0) news.Writer.TryWrite(true); // for another one that waits
                    return slot.Key;
                }
            }
            using var awake = CancellationTokenSource.CreateLinkedTokenSource(stop);
            await Task.WhenAny(Told(news, awake.Token), Task.Delay(patience, time, awake.Token));
            awake.Cancel(); // and not on another thread
        }
        return null;
    }

    /// <summary>A worker is free; if not, when one will count as slow.</summary>
    bool MayTake(ref TimeSpan patience)
    {
        for (; prompt.TryPeek(out var oldest); prompt.Dequeue())
        {
            var (slot, taken) = oldest;
            if (!slot.Working || slot.Slow || slot.Taken != taken) continue;
            var age = time.GetElapsedTime(taken);
            if (age < Slow)
            {
                // A delay is cut to whole milliseconds: one that is cut to none would be no wait.
                patience = TimeSpan.FromMilliseconds(Math.Ceiling((Slow - age).TotalMilliseconds));
                break;
            }
            slot.Slow = true;
            slow++;
        }
        if (working - slow >= Workers) return false;
        patience = Timeout.InfiniteTimeSpan;
        return working < (long)Workers * Workers;
    }

    /// <summary>The first key of the namespace whose turn it is; null where none may be worked on.</summary>
    Slot? Next()
    {
        for (var i = turns.Count; i > 0; i--)
        {
            var lane = turns.Dequeue();
            Slot? next = null;
            // What was taken as an urgent one is not ready any more.
            while (lane.Working < Workers && next is null
                && (lane.Urgent.TryDequeue(out var slot) || lane.Others.TryDequeue(out slot)))
                next = slot.Ready ? slot : null;
            lane.Waiting = lane.Urgent.Count + lane.Others.Count > 0;
            if (lane.Waiting) turns.Enqueue(lane);
            if (next is not null) return next;
            if (lane is { Working: 0, Waiting: false }) lanes.Remove(lane.Namespace);
        }
        return null;
    }

    /// <summary>How long ago the key that is worked on was added: others came first.</summary>
    public TimeSpan Age(Key key) { lock (gate) return time.GetElapsedTime(slots[key].Since); }

    public void Done(Key key)
    {
        lock (gate)
        {
            var (slot, lane) = (slots[key], LaneOf(key));
            var again = slot.Again;
            (working, lane.Working) = (working - 1, lane.Working - 1);
            if (slot.Slow) slow--;
            (slot.Working, slot.Slow, slot.Again) = (false, false, false);
            metrics?.Observe(Metrics.WorkTime, Label, time.GetElapsedTime(slot.Taken));
            if (again) Add(key, first: true);
            else if (slot.Wake == long.MaxValue) slots.Remove(key);
            if (lane is { Working: 0, Waiting: false }) lanes.Remove(key.Namespace);
            news.Writer.TryWrite(true);
        }
    }

    /// <summary>Moves keys whose time has come; runs until stopped.</summary>
    public async Task RunTimers(CancellationToken stop)
    {
        for (Task? earlier = null; !stop.IsCancellationRequested;)
        {
            using var awake = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var delay = Task.Delay(MoveRipe(), time, awake.Token);
            earlier ??= Told(sooner, stop);
            await Task.WhenAny(delay, earlier);
            awake.Cancel();
            if (earlier.IsCompleted) earlier = null;
        }
    }

    /// <summary>Completes where it was awaited, not on whatever thread writes.</summary>
    static async Task Told(Channel<bool> channel, CancellationToken stop) => await channel.Reader.ReadAsync(stop);

    /// <summary>Adds the keys whose time has come; returns how long it is until the next one's.</summary>
    TimeSpan MoveRipe()
    {
        lock (gate)
        {
            var now = time.GetTimestamp();
            while (timers.Min is { } slot)
            {
                var seconds = (slot.Wake - now) / (double)time.TimestampFrequency;
                if (slot.Wake > now) return TimeSpan.FromSeconds(Math.Clamp(seconds, 0.001, 3600));
                Wake(slot, long.MaxValue);
                Add(slot.Key);
            }
            return TimeSpan.FromHours(1);
        }
    }

    void Wake(Slot slot, long at)
    {
        if (slot.Wake != long.MaxValue) timers.Remove(slot);
        slot.Wake = at;
        if (at != long.MaxValue) timers.Add(slot);
    }

    Lane LaneOf(Key key)
    {
        if (!lanes.TryGetValue(key.Namespace, out var lane)) lanes[key.Namespace] = lane = new(key.Namespace);
        return lane;
    }

    Slot SlotOf(Key key)
    {
        if (!slots.TryGetValue(key, out var slot)) slots[key] = slot = new Slot(key, made++);
        return slot;
    }
}

/// <summary>A list and watch of one resource, in one namespace or in all (empty).</summary>
sealed class Watch(
    Kind kind, string path, string ns, JsonTypeInfo itemType, JsonTypeInfo eventType)
{
    public Kind Kind { get; } = kind;
    /// <summary>With a query to which parameters can be added.</summary>
    public string Path { get; } = path;
    public JsonTypeInfo ItemType { get; } = itemType;
    public JsonTypeInfo EventType { get; } = eventType;

    public static Watch Pods(string ns) => new(Kind.Pod, $"{Paths.All(ns, "pods")}?labelSelector={Labels.Name}&", ns,
        Json.Default.PodObject, Json.Default.WatchEventPodObject);
    public static Watch Jobs(string ns) => new(Kind.OMJob, $"{Paths.All(ns, "omjobs")}?", ns,
        Json.Default.JobObject, Json.Default.WatchEventJobObject);
    public static Watch Crons(string ns) => new(Kind.CronOMJob, $"{Paths.All(ns, "cronomjobs")}?", ns,
        Json.Default.CronObject, Json.Default.WatchEventCronObject);

    public string Namespace => ns;
    public bool Covers(string name) => ns.Length == 0 || ns == name;
    public bool HasPassed(Held seen) => seen.Key.Kind == Kind && Covers(seen.Namespace)
        && Version is { } version && !Versions.Newer(seen.Version, version);
    /// <summary>All that was there has been told, since the start or since the cache was dropped.</summary>
    public bool Listed { get; set; }
    /// <summary>Objects in a page of a list: it grows and shrinks with what they have in bytes.</summary>
    public int PageSize { get; set; } = FirstPage;
    public const int FirstPage = 10;
    /// <summary>Where to go on from; null: list first.</summary>
    public string? Version { get; set; }
    /// <summary>The newest version that was told, in answers too; one that is lost in a race comes again.</summary>
    public string? Newest { get; set; }
    /// <summary>Ends the stream that is open, to list again.</summary>
    public CancellationTokenSource? Stream { get; set; }
    public bool Connected { get; set; }
    /// <summary>The API server said that it does not serve it, or not to us.</summary>
    public bool Absent { get; set; }
    /// <summary>Timestamps: the loop's last turn, the server's last word, the end of the last connection.</summary>
    public long Turned { get; set; }
    public long Heard { get; set; }
    /// <summary>The server's last word by its own clock, in seconds of the epoch; 0: never.</summary>
    public long LastEvent { get; set; }
    public long Lost { get; set; }
    public void Tell(string? version, long now, DateTimeOffset server)
    {
        (Version, Heard, LastEvent) = (version, now, server.ToUnixTimeSeconds());
        if (version is not null) Tell(version);
    }

    public void Tell(string version)
    {
        if (Newest is not { } newest || Versions.Newer(version, newest)) Newest = version;
    }

    public override string ToString() => $"{Kind}s{(ns.Length == 0 ? "" : $" of namespace {ns}")}";
}

/// <summary>The API server's clock, from Date headers and a monotonic clock: deletion times are the server's.</summary>
sealed class ServerClock(TimeProvider time)
{
    readonly Lock gate = new();
    readonly long start = time.GetTimestamp();
    DateTimeOffset atStart = time.GetUtcNow();

    public DateTimeOffset Now { get { lock (gate) return atStart + time.GetElapsedTime(start); } }

    /// <summary>
    /// Takes a Date header: cut to whole seconds, and set at any moment of the time that the request took. True where
    /// the clock was set forward by more than several API servers may differ.
    /// </summary>
    public bool Hear(DateTimeOffset date, TimeSpan took)
    {
        lock (gate)
        {
            var now = atStart + time.GetElapsedTime(start);
            var latest = date + TimeSpan.FromSeconds(1) + took;
            atStart += (now < date ? date : now > latest ? latest : now) - now;
            return date - now > TimeSpan.FromSeconds(5);
        }
    }
}

// -------------------------------------------------------------------------------------------------------- API server

/// <summary>One request.</summary>
sealed record Request(HttpMethod Method, string Path, byte[]? Body = null, string MediaType = MediaTypes.Json)
{
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);
    /// <summary>For a watch: takes each line (empty: the stream is open); what it returns ends the stream.</summary>
    public Func<ReadOnlyMemory<byte>, Reply?>? OnLine { get; init; }
    /// <summary>For a list: takes a good answer's body in pieces, as they come; the reply has none then.</summary>
    public Action<ReadOnlySpan<byte>>? OnPiece { get; init; }
}

/// <summary>
/// What an answer means. Exists and Conflict: 409. Of a creation: Impossible will never be, Invalid is not valid as
/// admission leaves it now (a default, an injector), NamespaceGoing.
/// </summary>
enum Outcome
{
    Ok, NotFound, Exists, Conflict, Invalid, Impossible, NamespaceGoing, TooMany, Gone, Unauthorized, Refused, Fault,
}

/// <summary>One answer as a value. Code is the HTTP status; 0: there was no answer, Fault says why.</summary>
sealed record Reply(int Code, byte[] Body)
{
    public string? Fault { get; init; }
    public DateTimeOffset? Date { get; init; }
    /// <summary>When the request was sent (server's time).</summary>
    public DateTimeOffset Asked { get; init; }
    /// <summary>The newest version that each watch had told when the request was sent.</summary>
    public string?[]? Told { get; init; }
    public bool Wrote { get; init; }
    /// <summary>How often the cache had been dropped by then.</summary>
    public int Epoch { get; init; }
    /// <summary>From the header, else from the body.</summary>
    public TimeSpan? RetryAfter
    {
        get => field ?? (Status?.Details?.RetryAfterSeconds is > 0 and var n ? TimeSpan.FromSeconds(n) : null);
        init;
    }

    public bool Ok => Code is >= 200 and < 300;
    StatusObject? Status => Ok || Body is not [(byte)'{', ..] ? null : Read(Json.Default.StatusObject);

    /// <summary>What the API server said, in one line.</summary>
    public string Words => Fault
        ?? (Status?.Message is { Length: > 0 } message ? message : $"the API server answered {Code}");

    /// <summary>The same without a word that may come from an object: code, reason and the paths of fields.</summary>
    public string Brief => Fault ?? string.Join(' ', (string?[])
        [$"the API server answered {Code}", Status?.Reason, .. Status?.Details?.Causes?.Select(c => c?.Field) ?? []])
        .TrimEnd();

    /// <summary>DESIGN, "Refusals of a pod POST".</summary>
    public Outcome Outcome
    {
        get
        {
            if (Ok) return Outcome.Ok;
            var status = Status;
            var message = status?.Message ?? "";
            var webhook = message.StartsWith("admission webhook \"", StringComparison.Ordinal);
            return Code switch
            {
                0 => Outcome.Fault,
                401 => Outcome.Unauthorized,
                403 when status?.Details?.Causes?.Exists(c => c?.Reason == "NamespaceTerminating") is true
                    => Outcome.NamespaceGoing,
                404 when status?.Details?.Kind == "namespaces" => Outcome.NamespaceGoing,
                // D5: only the API server's own word; not a proxy's 404, nor that of a CRD that is not served yet.
                404 when status?.Reason == "NotFound" => Outcome.NotFound,
                404 => Outcome.Fault,
                409 when !webhook && status?.Reason == "AlreadyExists" => Outcome.Exists,
                409 when webhook => Outcome.Refused,
                409 => Outcome.Conflict,
                410 => Outcome.Gone,
                // A patch that names the UID of an earlier object of that name.
                422 when status?.Details?.Causes?.Exists(c => c?.Field == "metadata.uid") is true => Outcome.Conflict,
                422 when !webhook && status?.Details is { Kind: "Pod" or "OMJob", Causes.Count: > 0 }
                    => Outcome.Invalid,
                400 when !webhook && status?.Reason == "BadRequest" => Outcome.Impossible,
                413 => Outcome.Impossible,
                500 when message.Contains("request is too large", StringComparison.Ordinal) => Outcome.Impossible,
                429 => Outcome.TooMany,
                >= 500 => Outcome.Fault,
                _ => Outcome.Refused,
            };
        }
    }

    /// <summary>The body, or null where it cannot be read.</summary>
    public object? Read(JsonTypeInfo type)
    {
        try { return JsonSerializer.Deserialize(Body, type); }
        catch (JsonException) { return null; }
    }

    public T? Read<T>(JsonTypeInfo<T> type) where T : class => (T?)Read((JsonTypeInfo)type);
}

/// <summary>Where the cluster is, who we are there. Configuration and credentials are the client package's.</summary>
sealed record ClusterAccess(string Server, ServiceClientCredentials? Credentials)
{
    const string ServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount";
    /// <summary>The cluster's own authorities; null: the system's.</summary>
    public X509Certificate2Collection? Authorities { get; init; }
    public X509Certificate2? ClientCertificate { get; init; }
    /// <summary>What follows the client certificate in its file: the authorities between it and the root.</summary>
    public X509Certificate2Collection ClientChain { get; init; } = [];
    /// <summary>Credentials that have nothing cached (W7); null: no plugin gives them.</summary>
    public Func<ServiceClientCredentials>? Renew { get; init; }
    public string? TlsServerName { get; init; }
    public bool SkipTlsVerify { get; init; }
    /// <summary>The files that it was read from, and what they held.</summary>
    public IReadOnlyDictionary<string, string> Files { get; init; } = new Dictionary<string, string>();
    /// <summary>Reads all of it anew. Throws UsageException.</summary>
    public Func<ClusterAccess>? Again { get; init; }
    /// <summary>
    /// Whether a file holds something else by now; one that is empty is being written. By content, for mounted files
    /// are links that are swapped.
    /// </summary>
    public bool HasChanged =>
        Files.Any(file => File.ReadAllText(file.Key) is { Length: > 0 } text && text != file.Value);

    /// <summary>In-cluster if no path is given and we are in one, else a kubeconfig. Throws UsageException.</summary>
    public static ClusterAccess Load(string? path, string? context)
    {
        if (path is null && KubernetesClientConfiguration.IsInCluster())
            return InCluster(KubernetesClientConfiguration.InClusterConfig().Host, ServiceAccount);
        var file = path;
        file ??= Environment.GetEnvironmentVariable("KUBECONFIG") is { Length: > 0 } variable ? variable
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".kube", "config");
        if (path is null && file.Contains(Path.PathSeparator))
            throw new UsageException("KUBECONFIG names several files: give one with --kubeconfig");
        if (path is null && !File.Exists(file))
            throw new UsageException($"no service account of a pod here and no {file}: give --kubeconfig");
        return From(file, read => FromKubeconfig(Path.GetFullPath(file), context, read));
    }

    /// <summary>With the token and the authorities of a directory, where the kubelet renews them.</summary>
    internal static ClusterAccess InCluster(string host, string directory) =>
        // The package would read the token again by the wall clock, which may be set back.
        From(directory, read => new(host.TrimEnd('/'), Token(read(Path.Combine(directory, "token"))))
        {
            Authorities = Bundle(read(Path.Combine(directory, "ca.crt"))),
        });

    /// <summary>Takes down what is read, so that a change shows, also one that comes while it is read.</summary>
    static ClusterAccess From(string file, Func<Func<string, string>, ClusterAccess> load)
    {
        var files = new Dictionary<string, string>();
        try
        {
            return load(path => files[path] = File.ReadAllText(path)) with
            {
                Files = files,
                Again = () => From(file, load),
            };
        }
#pragma warning disable CA1031 // Whatever the package, YAML or a plugin throws: whoever starts us must see which file.
        catch (Exception e) when (e is not UsageException)
#pragma warning restore CA1031
        {
            throw new UsageException($"{file}: {e.Message.Split('\n')[0].Trim()}");
        }
    }

    static ClusterAccess FromKubeconfig(string path, string? context, Func<string, string> read)
    {
        var yaml = new YamlStream();
        yaml.Load(new StringReader(read(path)));
        if (yaml.Documents is not [{ RootNode: YamlMappingNode root }, ..])
            throw new UsageException($"{path}: no kubeconfig");
        context ??= Scalar(root, "current-context")
            ?? throw new UsageException($"{path}: no current-context; give one with --context");
        var chosen = Named(root, "contexts", "context", context)
            ?? throw new UsageException($"{path}: no context '{context}'");
        var cluster = Named(root, "clusters", "cluster", Scalar(chosen, "cluster"))
            ?? throw new UsageException($"{path}: context '{context}' names no cluster of this file");
        var user = Named(root, "users", "user", Scalar(chosen, "user"));
        if (user is null && Scalar(chosen, "user") is not null)
            throw new UsageException($"{path}: context '{context}' names no user of this file");
        if (Scalar(cluster, "proxy-url") is not null)
            throw new UsageException($"{path}: proxy-url is not supported: connect to the API server directly");
        return FromKubeconfig(path, cluster, user, read);
    }

    static ClusterAccess FromKubeconfig(
        string path, YamlMappingNode cluster, YamlMappingNode? user, Func<string, string> read)
    {
        // All files are read here: the package reads one certificate of a bundle, no tokenFile, and nothing again.
        string? Beside(YamlMappingNode? node, string key) =>
            Scalar(node, key) is { } name ? read(Path.Combine(Path.GetDirectoryName(path)!, name)) : null;
        string? Pem(YamlMappingNode? node, string key) => Decode(Scalar(node, key + "-data")) ?? Beside(node, key);
        var credentials = OfUser(user);
        var config = Configuration(path, cluster, credentials);
        // A plugin's certificate comes from the package.
        var certificate = Decode(config.ClientCertificateData) ?? Pem(user, "client-certificate");
        var key = Decode(config.ClientCertificateKeyData) ?? Pem(user, "client-key");
        var token = Beside(user, "tokenFile");
        return new(config.Host.TrimEnd('/'), token is null ? Kubernetes.CreateCredentials(config) : Token(token))
        {
            Authorities = Pem(cluster, "certificate-authority") is { } authorities ? Bundle(authorities) : null,
            ClientCertificate = certificate is null ? null : X509Certificate2.CreateFromPem(certificate, key),
            ClientChain = Chain(certificate),
            Renew = token is null && config.TokenProvider is not null && credentials?.ExternalExecution is { } exec
                ? () => new TokenCredentials(new ExecTokenProvider(exec)) : null,
            TlsServerName = string.IsNullOrEmpty(config.TlsServerName) ? null : config.TlsServerName,
            SkipTlsVerify = config.SkipTlsVerify,
        };
    }

    /// <summary>
    /// What the package makes of what was chosen. It would also match names without case, and wants credentials of
    /// every user. It runs the plugin, if there is one.
    /// </summary>
    static KubernetesClientConfiguration Configuration(
        string path, YamlMappingNode cluster, UserCredentials? credentials)
    {
        var user = credentials is null ? null : "u";
        return KubernetesClientConfiguration.BuildConfigFromConfigObject(new K8SConfiguration
        {
            FileName = path,
            CurrentContext = "x",
            Contexts = [new() { Name = "x", ContextDetails = new() { Cluster = "c", User = user } }],
            Clusters = [new() { Name = "c", ClusterEndpoint = Endpoint(cluster) }],
            Users = [new() { Name = "u", UserCredentials = credentials }],
        });
    }

    static ClusterEndpoint Endpoint(YamlMappingNode cluster) => new()
    {
        Server = Scalar(cluster, "server"),
        TlsServerName = Scalar(cluster, "tls-server-name"),
        SkipTlsVerify = Scalar(cluster, "insecure-skip-tls-verify") == "true",
    };

    /// <summary>Null for a user without any that the package is asked for.</summary>
    static UserCredentials? OfUser(YamlMappingNode? user)
    {
        string[] known = ["token", "username", "exec"];
        return !known.Any(key => Child(user, key) is not null) ? null : new()
        {
            Token = Scalar(user, "token"),
            UserName = Scalar(user, "username"),
            Password = Scalar(user, "password"),
            ExternalExecution = Child(user, "exec") is not YamlMappingNode exec ? null : new()
            {
                ApiVersion = Scalar(exec, "apiVersion"),
                Command = Scalar(exec, "command"),
                Arguments = [.. Items(exec, "args").OfType<YamlScalarNode>().Select(a => Quote(a.Value ?? ""))],
                EnvironmentVariables = [.. Items(exec, "env").Select(Variable)],
            },
        };
    }

    static TokenCredentials Token(string text) => text.Trim() is { Length: > 0 } token
        ? new(token) : throw new InvalidDataException("the token file is empty");

    static X509Certificate2Collection Bundle(string pem)
    {
        var authorities = new X509Certificate2Collection();
        authorities.ImportFromPem(pem);
        return authorities is not [] ? authorities
            : throw new InvalidDataException("no certificate in the certificate authority");
    }

    static string? Decode(string? data) =>
        string.IsNullOrEmpty(data) ? null : Encoding.UTF8.GetString(Convert.FromBase64String(data));

    static X509Certificate2Collection Chain(string? pem)
    {
        var all = new X509Certificate2Collection();
        all.ImportFromPem(pem);
        return [.. all.Skip(1)];
    }

    static string? Scalar(YamlNode? node, string key) =>
        Child(node, key) is YamlScalarNode { Value: { Length: > 0 } text } ? text : null;

    static Dictionary<string, string> Variable(YamlNode node) =>
        new() { ["name"] = Scalar(node, "name") ?? "", ["value"] = Scalar(node, "value") ?? "" };

    static YamlNode? Child(YamlNode? node, string key) =>
        (node as YamlMappingNode)?.Children.TryGetValue(new YamlScalarNode(key), out var value) is true ? value : null;

    static IEnumerable<YamlNode> Items(YamlNode node, string key) => Child(node, key) as YamlSequenceNode ?? [];

    static YamlMappingNode? Named(YamlMappingNode root, string list, string kind, string? name) => Child(
        Items(root, list).FirstOrDefault(i => Scalar(i, "name") == name), kind) as YamlMappingNode;

    /// <summary>The package joins a plugin's arguments with blanks.</summary>
    static string Quote(string argument) => argument.Length > 0 && !argument.AsSpan().ContainsAny(" \t\n\"")
        ? argument : $"\"{argument.Replace("\"", "\\\"", StringComparison.Ordinal)}\"";
}

/// <summary>
/// The only place that talks HTTP. Every fault becomes a value. Where a file of the configuration has changed, and
/// every 5 to 10 minutes anyway, so that no bad API server behind a load balancer holds us, requests go to new
/// connections; those under way end where they are.
/// </summary>
sealed class ApiServer : IDisposable
{
    /// <summary>Who we are, and the connections made as such; it goes with the last request that uses it.</summary>
    // Not PooledConnectionLifetime: a connection past that is pinged no more, so that W2 would not hold for its watch.
    sealed class Session(ClusterAccess access, long begun)
    {
        public readonly ClusterAccess Access = access;
        public readonly HttpClient Http = NewClient(access);
        public readonly long Begun = begun; // timestamp
        public int Users; // requests, and 1 while it is the current one
    }

    readonly TimeProvider time;
    readonly ILogger? log;
    // Files are looked at once a minute: so it is 10 at most.
    readonly TimeSpan lifetime = TimeSpan.FromSeconds(Random.Shared.Next(300, 540));
    readonly Lock gate = new(); // guards all below, and the users of a session
    Session session;
    Task looking = Task.CompletedTask;
    long looked; // timestamp
    long? lookedInDoubt; // timestamp
    bool denied, doubted; // since the last look: a 401; that or a handshake that failed

    public ApiServer(ClusterAccess access, TimeProvider? time = null, ILogger? log = null)
    {
        (this.time, this.log) = (time ?? TimeProvider.System, log);
        session = NewSession(access);
        looked = session.Begun;
    }

    static HttpClient NewClient(ClusterAccess access)
    {
        var http = new HttpClient(new SocketsHttpHandler
        {
            SslOptions = Tls(access),
            UseCookies = false,
            UseProxy = false,
            AllowAutoRedirect = false,
            ConnectTimeout = TimeSpan.FromSeconds(10),
            EnableMultipleHttp2Connections = true,
            // W2: a half-open connection shows itself within 45 s.
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            KeepAlivePingDelay = TimeSpan.FromSeconds(30),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(15),
        })
        { Timeout = Timeout.InfiniteTimeSpan }; // W1: each request brings its own
        http.DefaultRequestHeaders.UserAgent.ParseAdd("omjob-operator");
        http.DefaultRequestHeaders.Accept.ParseAdd(MediaTypes.Json);
        if (access.TlsServerName is { } name) http.DefaultRequestHeaders.Host = name; // asked for and checked in TLS
        return http;
    }

    static SslClientAuthenticationOptions Tls(ClusterAccess access)
    {
        var tls = new SslClientAuthenticationOptions();
        if (access.Authorities is { } authorities)
        {
            // Name and signatures are checked by the policy. As in Go, an authority need not be a root: the chain may
            // end early, and the callback wants one of ours in it.
            tls.CertificateChainPolicy = new() { TrustMode = X509ChainTrustMode.CustomRootTrust };
            tls.CertificateChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
            tls.CertificateChainPolicy.CustomTrustStore.AddRange(authorities);
            tls.CertificateChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
            bool Ours(X509ChainElement link) => authorities.Any(a => a.RawData.SequenceEqual(link.Certificate.RawData));
            tls.RemoteCertificateValidationCallback = (_, _, chain, errors) =>
                errors == SslPolicyErrors.None && chain!.ChainElements.Any(Ours);
        }
        if (access.ClientCertificate is { } certificate)
            tls.ClientCertificateContext = SslStreamCertificateContext.Create(certificate, access.ClientChain, true);
#pragma warning disable CA5359 // insecure-skip-tls-verify was asked for by name.
        if (access.SkipTlsVerify) tls.RemoteCertificateValidationCallback = (_, _, _, _) => true;
#pragma warning restore CA5359
        return tls;
    }

    public async Task<Reply> Send(Request request, CancellationToken stop)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
        limit.CancelAfter(request.Timeout);
        await Look().WaitAsync(limit.Token).Quietly();
        var used = Enter();
        try { return await Send(used, request, limit.Token); }
        catch (OperationCanceledException) when (stop.IsCancellationRequested) { throw; }
        catch (OperationCanceledException) { return Fault($"no answer within {Text.Duration(request.Timeout)}"); }
#pragma warning disable CA1031 // The edge: what the network, TLS or a credential plugin throws becomes a value.
        catch (Exception e)
#pragma warning restore CA1031
        {
            if (e is HttpRequestException { HttpRequestError: HttpRequestError.SecureConnectionError })
                Doubt(used, false);
            var cause = e;
            while (cause.InnerException is { } inner) cause = inner;
            return Fault(cause == e || e.Message.Contains(cause.Message, StringComparison.Ordinal)
                ? e.Message : $"{e.Message} {cause.Message}");
        }
        finally { Leave(used); }

        Reply Fault(string why) => new(0, []) { Fault = $"{request.Method} {used.Access.Server}: {why}" };
    }

    async Task<Reply> Send(Session by, Request request, CancellationToken stop)
    {
        using var message = new HttpRequestMessage(request.Method, by.Access.Server + request.Path)
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionOrLower,
            Content = request.Body is { } body
                ? new ByteArrayContent(body) { Headers = { ContentType = new(request.MediaType) } } : null,
        };
        if (by.Access.Credentials is { } credentials) // a plugin that hangs does not hear the token
            await credentials.ProcessHttpRequestAsync(message, stop).WaitAsync(stop);
        using var response = await by.Http.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, stop);
        var heard = time.GetTimestamp();
        if (response.StatusCode == HttpStatusCode.Unauthorized) Doubt(by, true); // W7
        var (streamed, ended) = (response.IsSuccessStatusCode, (Reply?)null);
        if (streamed && request.OnLine is { } take)
            ended = await ReadLines(await response.Content.ReadAsStreamAsync(stop), take, stop);
        else if (streamed && request.OnPiece is { } piece)
            await ReadPieces(await response.Content.ReadAsStreamAsync(stop), piece, stop);
        else streamed = false;
        var content = streamed ? [] : await response.Content.ReadAsByteArrayAsync(stop);
        return (ended ?? new Reply((int)response.StatusCode, content)) with
        {
            Date = response.Headers.Date + time.GetElapsedTime(heard),
            RetryAfter = response.Headers.RetryAfter?.Delta,
        };
    }

    // ----- sessions

    Session Enter()
    {
        lock (gate)
        {
            session.Users++;
            return session;
        }
    }

    void Leave(Session used)
    {
        lock (gate)
            if (--used.Users > 0) return;
        used.Http.Dispose();
    }

    void Doubt(Session used, bool unauthorized)
    {
        lock (gate)
            if (used == session) (doubted, denied) = (true, denied || unauthorized);
    }

    /// <summary>
    /// Looks whether anything has changed, if it is time to: once a minute, and in doubt every 10 s. A plugin that
    /// hangs there holds up one request only.
    /// </summary>
    Task Look()
    {
        lock (gate)
        {
            var urgent = doubted && (lookedInDoubt is not { } at || Age(at) > TimeSpan.FromSeconds(10));
            if (!looking.IsCompleted || !urgent && Age(looked) <= TimeSpan.FromMinutes(1)) return Task.CompletedTask;
            var renew = denied;
            looked = time.GetTimestamp();
            if (doubted) lookedInDoubt = looked;
            (doubted, denied) = (false, false);
            return looking = Task.Run(() => Look(renew));
        }
    }

    void Look(bool renew)
    {
        var old = session; // nobody else replaces it
        var next = Reread(old.Access)
            ?? (renew && old.Access.Renew is { } plugin ? NewSession(old.Access with { Credentials = plugin() })
                : Age(old.Begun) > lifetime ? NewSession(old.Access) : null);
        if (next is null) return;
        lock (gate) session = next;
        Leave(old);
    }

    Session? Reread(ClusterAccess access)
    {
        try { return access is { HasChanged: true, Again: { } again } ? NewSession(again()) : null; }
#pragma warning disable CA1031 // Half written, say: what was read before stays, and we look again.
        catch (Exception e)
#pragma warning restore CA1031
        {
            log?.LogWarning("A changed configuration cannot be read yet: {Words}", e.Message);
            return null;
        }
    }

    Session NewSession(ClusterAccess access) => new(access, time.GetTimestamp()) { Users = 1 };

    TimeSpan Age(long timestamp) => time.GetElapsedTime(timestamp);

    /// <summary>Hands out whole lines; half a line at the end is dropped (W6).</summary>
    static async Task<Reply?> ReadLines(Stream stream, Func<ReadOnlyMemory<byte>, Reply?> take, CancellationToken stop)
    {
        var reader = PipeReader.Create(stream);
        try
        {
            if (take(default) is { } refused) return refused;
            while (true)
            {
                var read = await reader.ReadAsync(stop);
                var rest = read.Buffer;
                while (rest.PositionOf((byte)'\n') is { } end)
                {
                    var line = rest.Slice(0, end);
                    if (line.Length > 0 && take(line.IsSingleSegment ? line.First : line.ToArray()) is { } ended)
                        return ended;
                    rest = rest.Slice(rest.GetPosition(1, end));
                }
                reader.AdvanceTo(rest.Start, rest.End);
                if (read.IsCompleted) return null;
            }
        }
        finally { await reader.CompleteAsync(); }
    }

    static async Task ReadPieces(Stream stream, Action<ReadOnlySpan<byte>> take, CancellationToken stop)
    {
        var buffer = new byte[65536];
        while (await stream.ReadAsync(buffer, stop) is > 0 and var read) take(buffer.AsSpan(0, read));
    }

    public void Dispose() => session.Http.Dispose();
}

// --------------------------------------------------------------------------------------------------------- endpoints

/// <summary>Series for /metrics; the names that are not ours are client-go's and controller-runtime's.</summary>
sealed class Metrics
{
    public const string Finished = "omjob_finished_total", ExitHandlers = "omjob_exit_handlers_total",
        ExitHandlerLatency = "omjob_exit_handler_latency_seconds", Jobs = "omjob_jobs", Blocked = "omjob_blocked",
        Overdue = "omjob_overdue", LastEvent = "omjob_watch_last_event_timestamp_seconds",
        Reconciles = "controller_runtime_reconcile_total", Errors = "controller_runtime_reconcile_errors_total",
        ReconcileTime = "controller_runtime_reconcile_time_seconds", Depth = "workqueue_depth",
        Adds = "workqueue_adds_total", Retries = "workqueue_retries_total",
        QueueTime = "workqueue_queue_duration_seconds", WorkTime = "workqueue_work_duration_seconds",
        Requests = "rest_client_requests_total";

    static readonly (string Name, string Type, string Help)[] Families =
    [
        (Finished, "counter", "OMJobs that ended, by outcome and the reason of condition Finished."),
        (ExitHandlers, "counter", "Attempts of exit handlers that ended."),
        (ExitHandlerLatency, "histogram", "From the main pod's end, once seen, to the exit handler pod."),
        (Jobs, "gauge", "OMJobs by phase."),
        (Blocked, "gauge", "OMJobs whose main or exit pod the API server refuses to create for now."),
        (Overdue, "gauge", "OMJobs that are a minute past a deadline by which they should have gone on."),
        (LastEvent, "gauge", "When a watch last heard of the API server; 0: never."),
        (Reconciles, "counter", "Keys reconciled, by result."),
        (Errors, "counter", "Reconciles that are tried again after an error."),
        (ReconcileTime, "histogram", "How long a reconcile took, its requests included."),
        (Depth, "gauge", "Keys waiting for a worker."),
        (Adds, "counter", "Keys that were put into the queue."),
        (Retries, "counter", "Keys that were put into the queue after an error."),
        (QueueTime, "histogram", "How long a key waited for a worker."),
        (WorkTime, "histogram", "How long a worker had a key."),
        (Requests, "counter", "Requests to the API server, by method and status code."),
    ];
    static readonly double[] Bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

    readonly Lock gate = new();
    readonly SortedDictionary<(string Name, string Labels), double> values = [];
    readonly SortedDictionary<(string Name, string Labels), (long[] Counts, double Sum)> histograms = [];

    public static string Label(string name, string value) => $"{name}=\"{value}\"";

    public void Count(string name, string labels)
    {
        lock (gate) values[(name, labels)] = values.GetValueOrDefault((name, labels)) + 1;
    }

    public void Observe(string name, string labels, TimeSpan took)
    {
        lock (gate)
        {
            var (counts, sum) = histograms.TryGetValue((name, labels), out var held) ? held
                : (new long[Bounds.Length + 1], 0);
            var at = Array.FindIndex(Bounds, bound => took.TotalSeconds <= bound);
            counts[at < 0 ? Bounds.Length : at]++;
            histograms[(name, labels)] = (counts, sum + took.TotalSeconds);
        }
    }

    /// <summary>Prometheus text. The gauges are counted when they are asked for.</summary>
    public string Render(IEnumerable<(string Name, string Labels, double Value)> gauges)
    {
        var text = new StringBuilder();
        void Line(string name, string labels, double value) => text.Append(CultureInfo.InvariantCulture,
            $"{name}{(labels.Length == 0 ? "" : $"{{{labels}}}")} {value}\n");
        lock (gate)
        {
            var all = gauges.Concat(values.Select(v => (v.Key.Name, v.Key.Labels, v.Value)))
                .ToLookup(v => v.Name, v => (v.Labels, v.Value));
            foreach (var (name, type, help) in Families)
            {
                text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {type}\n");
                foreach (var (labels, value) in all[name]) Line(name, labels, value);
                foreach (var (key, (counts, sum)) in histograms.Where(h => h.Key.Name == name))
                {
                    var (labels, below) = (key.Labels.Length == 0 ? "" : key.Labels + ",", 0L);
                    for (var i = 0; i < counts.Length; i++)
                    {
                        var bound = i == Bounds.Length ? "+Inf" : Bounds[i].ToString(CultureInfo.InvariantCulture);
                        Line(name + "_bucket", labels + Label("le", bound), below += counts[i]);
                    }
                    Line(name + "_sum", key.Labels, sum);
                    Line(name + "_count", key.Labels, below);
                }
            }
        }
        return text.ToString();
    }
}

/// <summary>
/// /health, /ready and /metrics, by hand: HttpListener throws on a pool thread if a probe comes while it starts, and
/// knows no IPv6.
/// </summary>
sealed class Endpoints : IDisposable
{
    /// <summary>Connections that are open at the same time, on each port.</summary>
    const int Places = 64;

    readonly Operator op;
    readonly TimeProvider time;
    readonly Metrics metrics;
    readonly ILogger log;
    readonly TcpListener[] listeners;
    readonly CancellationTokenSource disposed = new();

    /// <summary>Listens at once: throws SocketException where a port is taken.</summary>
    public Endpoints(Operator op, Settings settings, TimeProvider time, Metrics metrics, ILogger log)
    {
        (this.op, this.time, this.metrics, this.log) = (op, time, metrics, log);
        var all = Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any;
        var address = settings.AllAddresses ? all : IPAddress.Loopback;
        int[] ports = [settings.HealthPort, settings.MetricsPort];
        listeners = [.. ports.Where(p => p != 0).Distinct().Select(port => new TcpListener(address, port))];
        foreach (var listener in listeners)
        {
            if (address.Equals(IPAddress.IPv6Any)) listener.Server.DualMode = true;
            listener.Start();
            log.LogInformation("Serving /health, /ready and /metrics on {Address}", listener.LocalEndpoint);
        }
    }

    /// <summary>Answers until disposed.</summary>
    public Task Serve() => Task.WhenAll(listeners.Select(Serve));

    /// <summary>
    /// Who comes takes the place of who came 64 callers before, done or not. In a flood of callers that say little a
    /// probe, which says all at once, so has its answer; in a queue, or turned away, it would fail and we be killed.
    /// </summary>
    async Task Serve(TcpListener listener)
    {
        var (callers, told, stop) = (new Socket?[Places], (long?)null, disposed.Token);
        for (var place = 0; ;)
        {
            try
            {
                var caller = await listener.AcceptSocketAsync(stop);
                callers[place]?.Dispose();
                callers[place] = caller;
                place = (place + 1) % Places;
                _ = Serve(caller);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or InvalidOperationException)
            {
                if (stop.IsCancellationRequested) return;
                // Out of file descriptors, say: callers wait until there is one again.
                if (told is not { } at || Age(at) > TimeSpan.FromMinutes(10))
                {
                    log.LogWarning("Endpoints: cannot accept a connection: {Words}", e.Message);
                    told = time.GetTimestamp();
                }
                await Task.Delay(TimeSpan.FromMilliseconds(100), stop).Quietly();
            }
        }
    }

    async Task Serve(Socket caller)
    {
        try
        {
            using var connection = caller;
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5));
            var (buffer, length) = (new byte[8192], 0);
            while (length < buffer.Length && buffer.AsSpan(0, length).IndexOf("\r\n\r\n"u8) < 0)
            {
                var read = await caller.ReceiveAsync(buffer.AsMemory(length), limit.Token);
                if (read == 0) return;
                length += read;
            }
            var request = Encoding.ASCII.GetString(buffer, 0, length).Split(' ', 3);
            var (code, text) = Answer(request is ["GET", var target, _] ? target.Split('?')[0] : null);
            var body = Encoding.UTF8.GetBytes(text);
            var head = $"HTTP/1.1 {code} {(HttpStatusCode)code}\r\nContent-Length: {body.Length}\r\n"
                + "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nConnection: close\r\n\r\n";
            await using var stream = new NetworkStream(caller);
            await stream.WriteAsync((byte[])[.. Encoding.ASCII.GetBytes(head), .. body], limit.Token);
        }
        // The caller is gone, slow, or has lost its place.
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException
            or ObjectDisposedException)
        { }
    }

    (int, string) Answer(string? path) => path switch
    {
        "/health" => Say(Unhealthy()),
        "/ready" => Say(Unready()),
        "/metrics" => (200, metrics.Render(op.Gauges())),
        _ => (404, "not found\n"),
    };

    static (int, string) Say(string? problem) => problem is null ? (200, "ok\n") : (503, problem + "\n");

    /// <summary>
    /// Null while the loop turns, for a watch or list lasts 210 s at most, and gets somewhere: a new process reads all
    /// configuration again. A refusal is healthy, for a new process would hear the same.
    /// </summary>
    string? Unhealthy()
    {
        if (op.Watches.Exists(w => w.Turned != 0 && Age(w.Turned) > TimeSpan.FromMinutes(6)))
            return "a watch has stopped turning";
        return Age(op.Answered) <= TimeSpan.FromMinutes(10) ? null
            : "for 10 minutes the API server has answered nothing but 401 or 5xx, if at all; the last answer: "
                + (op.LastCode == 0 ? "none" : op.LastCode);
    }

    /// <summary>Null while the caches are synced and the watches are fresh (W5).</summary>
    string? Unready()
    {
        if (op.Watches.Count == 0) return "nothing is listed yet";
        if (op.Watches.Find(w => !w.Listed && !w.Absent) is { } missing) return $"{missing} are not listed yet";
        var needed = op.Watches.Where(w => !w.Absent);
        return needed.Any(w => !w.Connected && Age(w.Lost == 0 ? w.Heard : w.Lost) > TimeSpan.FromSeconds(15)
            || Age(w.Heard) > TimeSpan.FromSeconds(210)) ? "a watch is silent" : null;
    }

    TimeSpan Age(long timestamp) => time.GetElapsedTime(timestamp);

    public void Dispose()
    {
        disposed.Cancel();
        foreach (var listener in listeners) listener.Dispose();
        disposed.Dispose();
    }
}
