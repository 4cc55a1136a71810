// Schedules: at each time of a CronOMJob the operator creates an OMJob, which then runs as any other.
//
// All state is in the CronOMJob's status, and each step is safe to repeat:
//   1. A tick is due: get the CronOMJob, for it may have been suspended or edited, and decide again on that.
//   2. Create the OMJob, whose name is made of the tick: that it exists already is success.
//   3. Status lastScheduleTime: the tick is decided, whether it ran or was skipped. It never moves backwards.
//   4. Delete the oldest finished OMJobs beyond the history limits.
// Nothing is written while nothing is due: the server flips `suspend` and does not retry on a conflict.

using System.Globalization;
using System.Security;
using Cronos;
using static OMJobs.Times;

namespace OMJobs;

// -------------------------------------------------------------------------------------------------------- operator

sealed partial class Operator
{
    async Task ReconcileCron(Turn turn)
    {
        var (key, live) = (turn.Key, default(JsonElement));
        string? gone = null; // the last run, where it was asked for and is not there
        for (var round = 0; ; round++)
        {
            if (round == 8) { turn.Retry(TimeSpan.FromSeconds(1)); return; }
            var (owner, _, known) = cache.Observe(key);
            if (owner is not Cron cron) return;
            var fresh = live.Get("metadata").Text("resourceVersion") == cron.ResourceVersion;
            var jobs = cache.RunsOf(cron);
            var step = Scheduling.Decide(cron, fresh, jobs, gone, known.RetryAt, Now - queue.Age(key), Now);
            if (step.Wake is { } wake) turn.Requeue(wake - Now); // whatever becomes of the step
            switch (step.Act)
            {
                case CronAct.Wait: cache.Remember(key, cron.Uid, p => p with { Failures = 0 }); return;
                case CronAct.Ask: live = await ReadCron(turn); break;
                case CronAct.AskRun:
                    var (reply, run) = await ReadJob(new(key.Namespace, step.Run!, Resources.OMJobs), turn.Stop);
                    if (!reply.Ok && reply.Outcome != Outcome.NotFound) { Retry(turn, null, reply); return; }
                    // One that names another schedule, or an earlier one of that name, is none of ours.
                    if (run?.Cron?.Uid != cron.Uid) gone = step.Run;
                    break;
                case CronAct.Create: await CreateRun(turn, cron, live, step); return;
                case CronAct.WriteStatus: await WriteCron(turn, cron, step.Status!, step.Event); return;
                case CronAct.DeleteRun:
                    var old = jobs.First(job => job.Name == step.Run);
                    await DeleteJob(turn, old, null, "history limit", cron.Uid);
                    return;
            }
            if (step.Act == CronAct.Ask && live.ValueKind == JsonValueKind.Undefined) return;
        }
    }

    /// <summary>A live GET of the whole object, of which only what decides is kept; undefined: there is none.</summary>
    async Task<JsonElement> ReadCron(Turn turn)
    {
        var reply = await cluster.Get(turn.Key, turn.Stop);
        if (reply.Outcome is not (Outcome.Ok or Outcome.NotFound)) Retry(turn, null, reply);
        return reply.Ok && reply.Read(ApiJson.Default.JsonElement) is JsonElement whole ? whole : default;
    }

    async Task CreateRun(Turn turn, Cron cron, JsonElement live, CronStep step)
    {
        var (key, name) = (turn.Key, Runs.Name(cron.Name, step.Tick));
        var body = Runs.Build(cron, live, step.Tick, $"{Guid.NewGuid()}");
        var reply = await cluster.Call(
            new(HttpMethod.Post, $"{Resources.OMJobs.Path(cron.Namespace)}?timeout=10s", body), turn.Stop);
        if (cluster.Parse(reply, Resources.OMJobs) is { } run) await cluster.Take(run, null, reply, turn.Stop);
        var message = Secrets.Redact(reply.Message, [live.Get("spec").Get("omJobSpec")], cron.Name, cron.Namespace, name);
        var there = reply.Ok || (reply.Outcome == Outcome.Exists // not by a webhook's word alone
            && (await ReadJob(new(cron.Namespace, name, Resources.OMJobs), turn.Stop)).Job is not null);
        switch (reply.Outcome)
        {
            case var _ when there:
                cache.Remember(key, cron.Uid, p => p with { Refusals = 0, RetryAt = default });
                var said = reply.Ok ? Scheduling.Created : Scheduling.Exists;
                var done = new CronStatus(step.Tick, name, said);
                await WriteCron(turn, cron, done, new("OMJobCreated", $"{said}: {name}"));
                break;
            case Outcome.Invalid when !reply.IsInvalid(Resources.OMJobs): goto default;
            case Outcome.Invalid or Outcome.Impossible: // as the template is it can never be: the next tick tries again
                var why = Text.Truncate($"OMJob cannot be created: {message}");
                var refused = cron.Status with { LastScheduleTime = step.Tick, Message = why };
                await WriteCron(turn, cron, refused, new("OMJobRefused", why, true));
                break;
            case Outcome.NamespaceGoing: Log(key, "No OMJob is created: the namespace is being deleted"); break;
            case Outcome.Unauthorized or Outcome.Fault when reply.Code is 0 or 401: Retry(turn, null, reply); break;
            default:
                await BlockRun(turn, cron, reply.RetryAfter, Text.Truncate($"OMJob is blocked: {message}"), step);
                break;
        }
    }

    /// <summary>G14: what creates no OMJob now may do so later: until the deadline or the next tick.</summary>
    async Task BlockRun(Turn turn, Cron cron, TimeSpan? retryAfter, string text, CronStep step)
    {
        var refusals = cache.ProgressOf(turn.Key).Refusals + 1;
        var again = Now + backoff.Pause(refusals, retryAfter, TimeSpan.FromSeconds(1));
        if (step.Wake < again) again = step.Wake.Value;
        cache.Remember(turn.Key, cron.Uid, p => p with { Refusals = refusals, RetryAt = again });
        turn.Requeue(again - Now);
        if (int.IsPow2(refusals)) Record(cron, new("OMJobBlocked", text, Warning: true), refusals); // H2
        if (cron.Status.Message != text) await WriteCron(turn, cron, cron.Status with { Message = text }, null);
    }

    async Task WriteCron(Turn turn, Cron cron, CronStatus status, Event? told)
    {
        var body = new JsonObject
        {
            ["metadata"] = new JsonObject { ["resourceVersion"] = cron.ResourceVersion },
            ["status"] = new JsonObject
            {
                ["lastScheduleTime"] = Text.Time(status.LastScheduleTime),
                ["lastOMJobName"] = status.LastName,
                ["message"] = status.Message,
            },
        };
        var patch = new Request(HttpMethod.Patch, cron.Key.Path + "/status", body.Bytes(), MediaTypes.Merge);
        if (!await Take(turn, cron, await cluster.Call(patch, turn.Stop))) return;
        Log(cron.Key, told?.Message ?? status.Message ?? "Waiting for the next time");
        if (told is not null) Record(cron, told);
    }
}

// -------------------------------------------------------------------------------------------------------- decision

enum CronAct { Wait, Ask, AskRun, Create, WriteStatus, DeleteRun }

/// <summary>One step. Wake: when to look again if nothing happens (server's time).</summary>
sealed record CronStep(CronAct Act)
{
    public DateTimeOffset Tick { get; init; }
    /// <summary>The OMJob's name.</summary>
    public string? Run { get; init; }
    public CronStatus? Status { get; init; }
    public Event? Event { get; init; }
    public DateTimeOffset? Wake { get; init; }
}

/// <summary>The next step of a schedule: a function of the CronOMJob, its OMJobs and the API server's clock.</summary>
static class Scheduling
{
    public const string MissingSchedule = "Missing schedule", MissingTemplate = "Missing OMJob template",
        Suspended = "Suspended", Missed = "Missed schedule", Created = "Created OMJob", Exists = "OMJob already exists";

    /// <summary>Live: asked for just now, so that it may create, but nothing before retryAt. Gone: a run that was asked
    /// for and is not there. Queued: when we began to wait for a worker; of thousands that are due at once, those which
    /// come last have not missed their deadline.</summary>
    public static CronStep Decide(Cron cron, bool live, IReadOnlyList<Job> runs, string? gone, DateTimeOffset retryAt,
        DateTimeOffset queued, DateTimeOffset now)
    {
        if (cron.Deleting) return new(CronAct.Wait);
        var since = Latest(cron.Status.LastScheduleTime ?? cron.Created, cron.Created);
        var (schedule, problem) = cron switch
        {
            { Expression: "" } => (null, MissingSchedule),
            { HasTemplate: false } => (null, MissingTemplate),
            { Suspend: true } => (null, Suspended),
            _ => Schedule.Read(cron.Expression, cron.TimeZone),
        };
        var next = schedule?.Next(Latest(since, now));
        if (schedule is not null && next is null) problem = Schedule.Problem(cron.Expression, "no such time will come");
        var step = problem is null ? AtTick(cron, schedule!, since, live, runs, gone, retryAt, queued, now)
            : Say(cron, problem, problem == Suspended ? null : new("ScheduleInvalid", problem, true));
        step ??= BeyondLimit(cron, runs) ?? new(CronAct.Wait);
        return step with { Wake = Earliest(step.Wake, next) };
    }

    /// <summary>What follows from the latest tick that is not decided yet; null where there is nothing to do.</summary>
    static CronStep? AtTick(Cron cron, Schedule schedule, DateTimeOffset since, bool live, IReadOnlyList<Job> runs,
        string? gone, DateTimeOffset retryAt, DateTimeOffset queued, DateTimeOffset now)
    {
        if (schedule.Latest(since, now) is not { } tick) // what kept it from running is over
            return Schedule.IsProblem(cron.Status.Message) ? Say(cron, null, null) : null;
        if (Math.Floor((queued - tick).TotalSeconds) > cron.StartingDeadline)
            return Say(cron, Missed, new("ScheduleMissed", $"{Missed}: {Text.Time(tick)}", true));
        var name = Runs.Name(cron.Name, tick);
        if (runs.Any(run => run.Name == name)) // created before the status could be written
            return Write(new(tick, name, Exists), new("OMJobCreated", $"{Exists}: {name}"));
        if (runs.FirstOrDefault(run => !run.Status.Phase.IsFinished()) is { } running)
        {
            if (!Protocol.IsFresh(running.ReadAt, now)) return new(CronAct.AskRun) { Run = running.Name };
            var skipped = $"Skipped: OMJob {running.Name} is still running";
            return Write(cron.Status with { LastScheduleTime = tick, Message = skipped },
                new("OMJobSkipped", skipped, true));
        }
        if (retryAt > now) return new(CronAct.Wait) { Wake = retryAt };
        if (!live) return new(CronAct.Ask);
        // The watch of OMJobs may lag behind: the last run is asked for where it has not been seen to end.
        return cron.Status.LastName is { } last && last != gone && runs.All(run => run.Name != last)
            ? new(CronAct.AskRun) { Run = last } : new(CronAct.Create) { Tick = tick };
    }

    static DateTimeOffset Latest(params IEnumerable<DateTimeOffset> times) => times.Max();

    /// <summary>The oldest finished OMJob beyond the limits.</summary>
    static CronStep? BeyondLimit(Cron cron, IReadOnlyList<Job> runs)
    {
        foreach (var (phase, limit) in ((Phase, long)[])
            [(Phase.Succeeded, cron.SucceededLimit), (Phase.Failed, cron.FailedLimit)])
        {
            var finished = runs.Where(run => run.Status.Phase == phase && !run.Deleting).ToArray();
            if (finished.Length <= limit) continue;
            return new(CronAct.DeleteRun)
            {
                Run = finished.OrderBy(run => run.Status.CompletionTime).ThenBy(run => run.Name).First().Name,
            };
        }
        return null;
    }

    static CronStep? Say(Cron cron, string? message, Event? told) =>
        cron.Status.Message == message ? null : Write(cron.Status with { Message = message }, told);

    static CronStep Write(CronStatus status, Event? told) => new(CronAct.WriteStatus) { Status = status, Event = told };
}

/// <summary>The times of a UNIX cron expression in a time zone. A day matches if either day field does, where both are
/// given. A time that daylight saving skips comes at the end of the gap; one that it repeats comes once, unless its
/// hour or minute is a range, a step or *: those go on in real time.</summary>
sealed class Schedule
{
    static readonly string[] Macros =
        ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"];
    static readonly string[] Months =
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    static readonly string[] Days = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    static readonly string[][] NamesOfField = [[], [], [], Months, Days];

    readonly CronExpression[] either;
    readonly TimeZoneInfo zone;

    Schedule(CronExpression[] either, TimeZoneInfo zone) => (this.either, this.zone) = (either, zone);

    public static string Problem(string expression, string why) =>
        $"Schedule '{Text.Truncate(expression, 100)}' cannot be used: {why}";

    /// <summary>A message of a schedule that could not run, which is wrong as soon as it can.</summary>
    public static bool IsProblem(string? message) => message is Scheduling.Suspended or Scheduling.MissingSchedule
        or Scheduling.MissingTemplate || message?.StartsWith("Schedule '", StringComparison.Ordinal) is true
        || message?.StartsWith("Time zone '", StringComparison.Ordinal) is true;

    /// <summary>Either the schedule or why it cannot be.</summary>
    public static (Schedule? Schedule, string? Problem) Read(string expression, string zone)
    {
        if (Zone(zone) is not { } found)
            return (null, $"Time zone '{Text.Truncate(zone, 100)}' cannot be used: it is not an IANA name, "
                + "or the operator finds no time zone data");
        var fields = expression.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
        var macro = fields is [var one] && Macros.Contains(one);
        if (!macro && (fields.Length != 5 || fields.Where((field, i) => !IsUnix(field, NamesOfField[i])).Any()))
            return (null, Problem(expression, "it is not a UNIX cron expression with five fields"));
        var bothDays = !macro && IsGiven(fields[2]) && IsGiven(fields[4]);
        string[] texts = !bothDays ? [string.Join(' ', fields)]
            : [string.Join(' ', [.. fields[..4], "*"]), string.Join(' ', [.. fields[..2], "*", .. fields[3..]])];
        try { return (new([.. texts.Select(text => CronExpression.Parse(text))], found), null); }
        catch (CronFormatException e) { return (null, Problem(expression, e.Message)); }
    }

    /// <summary>What batch/v1 takes for a restriction: a step is one.</summary>
    static bool IsGiven(string days) => days is not ("*" or "*/1");

    /// <summary>Nothing but numbers, names, * , - and /: what else the parser knows (? L W #) is not UNIX.</summary>
    static bool IsUnix(string field, string[] names)
    {
        foreach (var name in names) field = field.Replace(name, "0", StringComparison.OrdinalIgnoreCase);
        return field.All(c => char.IsAsciiDigit(c) || c is '*' or ',' or '-' or '/');
    }

    static TimeZoneInfo? Zone(string id)
    {
        if (id is "" or "UTC" or "Etc/UTC") return TimeZoneInfo.Utc; // needs no data
        var named = id[0] != '/' && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '/' or '_' or '-' or '+');
        try { return named ? TimeZoneInfo.FindSystemTimeZoneById(id) : null; } // a name, and no way to another file
        catch (Exception e) when (e is TimeZoneNotFoundException or InvalidTimeZoneException or SecurityException)
        {
            return null;
        }
    }

    /// <summary>The first time after that.</summary>
    public DateTimeOffset? Next(DateTimeOffset after) => either.Min(one => one.GetNextOccurrence(after, zone));

    /// <summary>The latest time after since and not after now, looked for in ever longer spans before now.</summary>
    public DateTimeOffset? Latest(DateTimeOffset since, DateTimeOffset now)
    {
        for (var span = TimeSpan.FromMinutes(1); ; span *= 2)
        {
            var from = now - since <= span ? since : now - span;
            DateTimeOffset? latest = null;
            for (var at = Next(from); at <= now; at = Next(at.Value)) latest = at;
            if (latest is not null || from == since) return latest;
        }
    }
}

/// <summary>The OMJobs of a schedule.</summary>
static class Runs
{
    public static string Name(string cron, DateTimeOffset tick) =>
        Names.Fit(cron, 52, "omjob") + "-" + tick.ToUnixTimeSeconds().ToString(CultureInfo.InvariantCulture);

    /// <summary>The OMJob of a tick as JSON. Fields that we do not read travel as they came (H4).</summary>
    public static byte[] Build(Cron cron, JsonElement live, DateTimeOffset tick, string runId)
    {
        var name = Name(cron.Name, tick);
        var (labels, annotations, spec) = (new JsonObject(), new JsonObject(), new JsonObject());
        foreach (var label in live.Get("metadata").Get("labels").Fields()) labels.Give(label.Name, label.Value);
        foreach (var note in live.Get("metadata").Get("annotations").Fields()) annotations.Give(note.Name, note.Value);
        annotations.Remove("kubectl.kubernetes.io/last-applied-configuration"); // it is not that of an OMJob
        foreach (var field in live.Get("spec").Get("omJobSpec").Fields()) spec[field.Name] = field.Value.Node();
        labels[LabelKeys.RunId] = runId;
        foreach (var pod in (string[])["mainPodSpec", "exitHandlerSpec"])
            foreach (var item in ((spec[pod] as JsonObject)?["env"] as JsonArray ?? []).OfType<JsonObject>())
                if (Placeholder(Word(item["name"]), Word(item["value"]), runId, name) is { } value)
                    item["value"] = value;
        var meta = new JsonObject
        {
            ["name"] = name,
            ["namespace"] = cron.Namespace,
            ["labels"] = labels,
            ["annotations"] = annotations,
            ["ownerReferences"] = new JsonArray(PodTemplate.Owner(cron)),
            ["finalizers"] = new JsonArray(Job.Finalizer), // the first step of the protocol
        };
        return new JsonObject
        {
            ["apiVersion"] = Resources.ApiVersion,
            ["kind"] = "OMJob",
            ["metadata"] = meta,
            ["spec"] = spec,
        }.Bytes();
    }

    static string? Word(JsonNode? node) =>
        node is JsonValue some && some.TryGetValue<string>(out var word) ? word : null;

    static string? Placeholder(string? variable, string? value, string runId, string name) => (variable, value) switch
    {
        ("pipelineRunId", "{{ omjob.uid }}") => runId,
        ("jobName", "{{ omjob.name }}") => name,
        _ => null,
    };
}
