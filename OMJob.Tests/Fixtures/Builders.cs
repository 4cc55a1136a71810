// OMJobs and pods as the API server sends them: the builders write JSON, and the operator's own models read it back, so
// that every test of the decision is a test of the parsing too. All times are seconds from Moment.Now.

using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OMJobs.Tests;

/// <summary>The server's clock in these tests.</summary>
static class Moment
{
    public static readonly DateTimeOffset Now = new(2026, 1, 31, 12, 0, 0, TimeSpan.Zero);
    /// <summary>The defaults: 1 h to start, 10 m for a handler, 60 s of slack, 3 retries.</summary>
    public static readonly Deadlines Clocks = new(TimeSpan.FromHours(1), TimeSpan.FromMinutes(10),
        TimeSpan.FromSeconds(60), 3);

    public static DateTimeOffset At(double seconds) => Now.AddSeconds(seconds);

    /// <summary>The decision at that time, for which a pod is asked for just now unless it says otherwise.</summary>
    public static Decision Decide(Job job, PodView main, PodView exit, DateTimeOffset now, Deadlines? clocks = null)
    {
        PodView Asked(PodView view) => view.ReadAt == DateTimeOffset.MaxValue ? view with { ReadAt = now } : view;
        return Protocol.Decide(job, Asked(main), Asked(exit), now, clocks ?? Clocks);
    }

    public static string Stamp(double seconds) =>
        At(seconds).ToString("yyyy-MM-dd'T'HH:mm:ss.FFF'Z'", CultureInfo.InvariantCulture);

    /// <summary>-60, +0 or +60.001: seconds from Now.</summary>
    public static string Relative(DateTimeOffset? time) => time is not { } at ? "nothing"
        : (at - Now).TotalSeconds.ToString("+0.###;-0.###;+0", CultureInfo.InvariantCulture);
}

/// <summary>An OMJob `run` in namespace `data`, with an exit handler, seen live just now unless it says
/// otherwise.</summary>
sealed class AnOMJob
{
    readonly JsonObject metadata = new()
    {
        ["name"] = "run",
        ["namespace"] = "data",
        ["uid"] = "uid-of-run",
        ["resourceVersion"] = "100",
        ["generation"] = 1,
        ["creationTimestamp"] = Moment.Stamp(-7200),
        ["finalizers"] = new JsonArray(OMJobs.Job.Finalizer),
        ["managedFields"] = new JsonArray(new JsonObject { ["manager"] = "Jersey", ["operation"] = "Update" }),
    };
    readonly JsonObject spec = new()
    {
        ["mainPodSpec"] = JsonNode.Parse(
            """{"image":"ingestion:1","serviceAccountName":"ingestion","command":["python","main.py"],"env":[]}"""),
        ["exitHandlerSpec"] = JsonNode.Parse(
            """{"image":"ingestion:1","command":["python","exit_handler.py"],"env":[]}"""),
    };
    readonly JsonObject status = [];
    double? seen = 0;
    bool asked, orphaning;

    AnOMJob(string? phase) { if (phase is not null) status["phase"] = phase; }

    /// <summary>As the server creates it: no status, no finalizer.</summary>
    public static AnOMJob Fresh() => new AnOMJob(null).WithFinalizers();
    public static AnOMJob Pending() => new("Pending");
    public static AnOMJob Running() =>
        InPhase("Running").With("mainPodName", "run-main").With("startTime", Moment.Stamp(-600));
    public static AnOMJob InPhase(string phase) => new(phase);

    /// <summary>The main pod is over; the first attempt is named.</summary>
    public static AnOMJob HandlerRunning(int? code = 0) => InPhase("ExitHandlerRunning").With("mainPodName", "run-main")
        .With("startTime", Moment.Stamp(-600)).With("exitHandlerPodName", "run-exit").With("mainPodExitCode", code)
        .Saying(code == 0 ? "Main pod succeeded" : code is null ? "Main pod was lost"
            : $"Main pod failed with exit code {code}");

    /// <summary>Ended just now.</summary>
    public static AnOMJob Finished(string phase = "Succeeded") => InPhase(phase).With("mainPodName", "run-main")
        .With("exitHandlerPodName", "run-exit").With("completionTime", Moment.Stamp(0)).With("mainPodExitCode", 0);

    public AnOMJob With(string statusField, JsonNode? value) => Do(() => status[statusField] = value);
    public AnOMJob WithSpec(string field, JsonNode? value) => Do(() => spec[field] = value);
    public AnOMJob WithMain(string json) => WithSpec("mainPodSpec", JsonNode.Parse(json));
    public AnOMJob WithExit(string json) => WithSpec("exitHandlerSpec", JsonNode.Parse(json));
    public AnOMJob WithoutSpec(string field) => Do(() => spec.Remove(field));
    public AnOMJob WithoutExitHandler() => WithoutSpec("exitHandlerSpec");
    public AnOMJob WithFinalizers(params string[] names) =>
        Do(() => metadata["finalizers"] = new JsonArray([.. names.Select(n => (JsonNode)n)]));
    public AnOMJob WithLabel(string key, string value) =>
        Do(() => ((JsonObject)(metadata["labels"] ??= new JsonObject()))[key] = value);
    public AnOMJob Managed(string operation) => Do(() => metadata["managedFields"]![0] = new JsonObject
    {
        ["manager"] = "somebody",
        ["operation"] = operation,
        ["fieldsV1"] = JsonNode.Parse("""{"f:spec":{"f:operation":{},"v:\"Apply\"":{}}}"""),
    });
    public AnOMJob Named(string name) => Do(() => metadata["name"] = name);
    public AnOMJob OwnedBy(string cronUid, bool controller = true) =>
        Do(() => metadata["ownerReferences"] = new JsonArray(new JsonObject
        {
            ["apiVersion"] = Resources.ApiVersion,
            ["kind"] = "CronOMJob",
            ["name"] = "hourly",
            ["uid"] = cronUid,
            ["controller"] = controller,
        }));
    public AnOMJob Saying(string message) => With("message", message);
    /// <summary>The attempts before have failed, as the message says.</summary>
    public AnOMJob AtAttempt(int number) =>
        With("exitHandlerPodName", PodTemplate.ExitName((string)metadata["name"]!, number)).Do(() =>
        {
            if (number > 1)
                Saying($"{status["message"]}; exit handler attempt {number - 1} failed with exit code 1");
        });
    public AnOMJob CompletedAt(double seconds) => With("completionTime", Moment.Stamp(seconds));
    public AnOMJob ReadAt(double? at) => Do(() => seen = at);
    public AnOMJob Orphaning() => Do(() => orphaning = true);

    /// <summary>Somebody deleted it; with the finalizer that the propagation policy adds, if any.</summary>
    public AnOMJob Deleted(string? propagation = null)
    {
        metadata["deletionTimestamp"] = Moment.Stamp(-5);
        metadata["deletionGracePeriodSeconds"] = 0;
        if (propagation is not null) metadata["finalizers"]!.AsArray().Add((JsonNode)propagation);
        return this;
    }

    /// <summary>Deleted, and the namespace was found to be staying.</summary>
    public AnOMJob Killed(string? propagation = null) { asked = true; return Deleted(propagation); }

    public string Json => new JsonObject
    {
        ["apiVersion"] = Resources.ApiVersion,
        ["kind"] = "OMJob",
        ["metadata"] = metadata.DeepClone(),
        ["spec"] = spec.DeepClone(),
        ["status"] = status.DeepClone(),
    }.ToJsonString();

    public Job Job => JsonSerializer.Deserialize(Json, OMJobs.ModelJson.Default.JobObject)!.ToJob()! with
    {
        ReadAt = seen is { } at ? Moment.At(at) : null,
        NamespaceAsked = asked,
        Orphaning = orphaning,
    };

    AnOMJob Do(Action change) { change(); return this; }
}

/// <summary>A pod of OMJob `run`, scheduled, its container created but not started, unless it says otherwise.</summary>
sealed class APod
{
    readonly JsonObject metadata = new()
    {
        ["namespace"] = "data",
        ["resourceVersion"] = "200",
        ["creationTimestamp"] = Moment.Stamp(-600),
    };
    readonly JsonObject spec = new() { ["nodeName"] = "node-1", ["terminationGracePeriodSeconds"] = 30 };
    readonly JsonObject status = new() { ["phase"] = "Pending" };
    double seen;
    DateTimeOffset? asked = DateTimeOffset.MaxValue;

    APod(string name, string type)
    {
        metadata["name"] = name;
        metadata["uid"] = $"uid-of-{name}";
        metadata["labels"] = new JsonObject
        {
            ["omjob"] = "run",
            [LabelKeys.Name] = "run",
            [LabelKeys.Type] = type,
            [LabelKeys.Uid] = "uid-of-run",
        };
        metadata["ownerReferences"] = new JsonArray(new JsonObject
        {
            ["apiVersion"] = Resources.ApiVersion,
            ["kind"] = "OMJob",
            ["name"] = "run",
            ["uid"] = "uid-of-run",
            ["controller"] = true,
            ["blockOwnerDeletion"] = false,
        });
        if (type == LabelKeys.Main) metadata["finalizers"] = new JsonArray(OMJobs.Pod.Finalizer);
    }

    public static APod MainPod(string name = "run-main") => new(name, LabelKeys.Main);
    public static APod ExitPod(int attempt = 1) => new(PodTemplate.ExitName("run", attempt), LabelKeys.ExitHandler);

    // ----- whose it is

    /// <summary>As upstream's operator makes them: no finalizer, no uid label.</summary>
    public APod OfUpstream() => Released().Do(() => metadata["labels"]!.AsObject().Remove(LabelKeys.Uid));
    public APod Released() => Do(() => metadata.Remove("finalizers"));
    public APod HeldBy(string finalizer) => Do(() => metadata["finalizers"] = new JsonArray(finalizer));
    public APod WithoutOwner() => Do(() => metadata.Remove("ownerReferences"));
    public APod Annotated() => Do(() => metadata["annotations"] = new JsonObject { [LabelKeys.Uid] = "uid-of-run" });
    public APod WithDefaults() => Do(() => metadata["annotations"] = new JsonObject { [LabelKeys.Defaults] = "version" });
    public APod WithoutLabels() => Do(() => metadata.Remove("labels"));
    public APod OfUid(string uid) => Do(() =>
    {
        if (metadata["ownerReferences"] is { } owners) owners[0]!["uid"] = uid;
        metadata["labels"]![LabelKeys.Uid] = uid;
    });
    public APod OwnedBy(string kind, bool controller) => Do(() =>
    {
        metadata["ownerReferences"]![0]!["kind"] = kind;
        metadata["ownerReferences"]![0]!["controller"] = controller;
    });
    /// <summary>A pod that has nothing to do with OMJobs.</summary>
    public APod OfSomebodyElse() => Released().WithoutOwner().WithoutLabels();

    public APod With(string field, string value) => Do(() => metadata[field] = value);

    // ----- where it is in its life

    public APod CreatedAt(double seconds) => Do(() => metadata["creationTimestamp"] = Moment.Stamp(seconds));
    public APod StartedAt(double seconds) => Do(() => status["startTime"] = Moment.Stamp(seconds));
    public APod FirstSeenAt(double seconds) => Do(() => seen = seconds);
    /// <summary>Asked for by then, null: known by a watch; without it, just now whenever it is decided on.</summary>
    public APod ReadAt(double? at) => Do(() => asked = at is { } seconds ? Moment.At(seconds) : null);
    public APod WithDeadline(JsonNode seconds) => Do(() => spec["activeDeadlineSeconds"] = seconds);
    public APod WithGrace(JsonNode seconds) => Do(() => spec["terminationGracePeriodSeconds"] = seconds);
    public APod InPhase(string phase) => Do(() => status["phase"] = phase);

    public APod Unscheduled(string? message = null)
    {
        spec.Remove("nodeName");
        return message is null ? this
            : Condition(new()
            {
                ["type"] = "PodScheduled",
                ["status"] = "False",
                ["reason"] = "Unschedulable",
                ["message"] = message
            });
    }

    public APod Waiting(string reason, string? message = null) => Container("main", new()
    {
        ["waiting"] = new JsonObject { ["reason"] = reason, ["message"] = message },
    });

    public APod InitWaiting(string reason)
    {
        status["initContainerStatuses"] = new JsonArray(new JsonObject
        {
            ["name"] = "prepare",
            ["state"] = new JsonObject { ["waiting"] = new JsonObject { ["reason"] = reason } },
        });
        return Waiting("PodInitializing");
    }

    public APod Running() => InPhase("Running").Container("main", new()
    {
        ["running"] = new JsonObject { ["startedAt"] = Moment.Stamp(-590) },
    });

    public APod Exited(int code, string? reason = null, double finished = -1) =>
        InPhase(code == 0 ? "Succeeded" : "Failed").Container("main", new()
        {
            ["terminated"] = new JsonObject
            {
                ["exitCode"] = code,
                ["reason"] = reason ?? (code == 0 ? "Completed" : "Error"),
                ["finishedAt"] = Moment.Stamp(finished),
            },
        });

    public APod WithSidecar(string state = "running") => Container("sidecar", new()
    {
        [state] = state == "running" ? [] : new JsonObject { ["exitCode"] = 7, ["reason"] = "Error" },
    });

    public APod WithoutContainerStatuses() => Do(() => status.Remove("containerStatuses"));
    public APod WithReason(string reason, string? message = null) =>
        Do(() => (status["reason"], status["message"]) = (reason, message));
    public APod Disrupted(string reason, string of = "True") =>
        Condition(new() { ["type"] = "DisruptionTarget", ["status"] = of, ["reason"] = reason });

    /// <summary>Asked to go at <paramref name="requested"/>, to be gone <paramref name="grace"/> seconds
    /// later.</summary>
    public APod Deleted(double requested, int grace = 30)
    {
        metadata["deletionTimestamp"] = Moment.Stamp(requested + grace);
        metadata["deletionGracePeriodSeconds"] = grace;
        return this;
    }

    public string Json => new JsonObject
    {
        ["apiVersion"] = "v1",
        ["kind"] = "Pod",
        ["metadata"] = metadata.DeepClone(),
        ["spec"] = spec.DeepClone(),
        ["status"] = status.DeepClone(),
    }.ToJsonString();

    public Pod Pod => JsonSerializer.Deserialize(Json, OMJobs.ModelJson.Default.PodObject)!.ToPod(Moment.At(seen))!;

    public static implicit operator PodView(APod pod) => new(pod.Pod) { ReadAt = pod.asked };

    APod Container(string name, JsonObject state)
    {
        var all = (JsonArray)(status["containerStatuses"] ??= new JsonArray());
        if (all.FirstOrDefault(c => (string?)c!["name"] == name) is { } old) all.Remove(old);
        var item = new JsonObject { ["name"] = name, ["restartCount"] = 0, ["state"] = state };
        if (name == "main") all.Add((JsonNode)item);
        else all.Insert(0, item); // before main: nobody may take the first container for it
        return this;
    }

    APod Condition(JsonObject condition) => Do(() =>
        ((JsonArray)(status["conditions"] ??= new JsonArray(
            new JsonObject { ["type"] = "Ready", ["status"] = "False" })))
            .Add((JsonNode)condition));

    APod Do(Action change) { change(); return this; }
}

/// <summary>A CronOMJob `hourly` in namespace `data`, a day old, that has run at every time but Moment.Now's.</summary>
sealed class ACron
{
    readonly JsonObject metadata = new()
    {
        ["name"] = "hourly",
        ["namespace"] = "data",
        ["uid"] = "uid-of-hourly",
        ["resourceVersion"] = "300",
        ["creationTimestamp"] = Moment.Stamp(-86400),
    };
    readonly JsonObject spec = new()
    {
        ["schedule"] = "0 * * * *",
        ["timeZone"] = "UTC",
        ["suspend"] = false,
        ["startingDeadlineSeconds"] = 60,
        ["successfulJobsHistoryLimit"] = 3,
        ["failedJobsHistoryLimit"] = 3,
        ["omJobSpec"] = JsonNode.Parse(
            """{"mainPodSpec":{"image":"ingestion:1","serviceAccountName":"ingestion","command":["main.py"]}}"""),
    };
    readonly JsonObject status = new()
    {
        ["lastScheduleTime"] = Moment.Stamp(-3600),
        ["lastOMJobName"] = "hourly-1769857200",
        ["message"] = "Created OMJob",
    };

    public static ACron Hourly() => new();
    /// <summary>Nothing has been written to its status.</summary>
    public static ACron Fresh() => new ACron().With("lastScheduleTime", null).With("lastOMJobName", null).Saying(null);

    public ACron With(string statusField, JsonNode? value) => Do(() => status[statusField] = value);
    public ACron Saying(string? message) => With("message", message);
    public ACron LastAt(double seconds) => With("lastScheduleTime", Moment.Stamp(seconds));
    public ACron WithSpec(string field, JsonNode? value) => Do(() => spec[field] = value);
    public ACron WithoutSpec(string field) => Do(() => spec.Remove(field));
    public ACron On(string schedule) => WithSpec("schedule", schedule);
    public ACron Suspended() => WithSpec("suspend", true);
    public ACron Deadline(JsonNode? seconds) => WithSpec("startingDeadlineSeconds", seconds);
    public ACron Limits(int succeeded, int failed) =>
        WithSpec("successfulJobsHistoryLimit", succeeded).WithSpec("failedJobsHistoryLimit", failed);
    public ACron Named(string name) => Do(() => metadata["name"] = name);
    public ACron CreatedAt(double seconds) => Do(() => metadata["creationTimestamp"] = Moment.Stamp(seconds));
    public ACron Deleted() => Do(() => metadata["deletionTimestamp"] = Moment.Stamp(-5));
    public ACron WithMetadata(string field, string json) => Do(() => metadata[field] = JsonNode.Parse(json));

    public JsonElement Live => JsonSerializer.SerializeToElement(new JsonObject
    {
        ["apiVersion"] = Resources.ApiVersion,
        ["kind"] = "CronOMJob",
        ["metadata"] = metadata.DeepClone(),
        ["spec"] = spec.DeepClone(),
        ["status"] = status.DeepClone(),
    });

    public Cron Cron => (Cron)Live.Deserialize(ModelJson.Default.CronObject)!.ToCached(Moment.Now)!;

    ACron Do(Action change) { change(); return this; }
}

/// <summary>A decision as one line: the act, its pod and reason, what it changes in status, its event, its
/// wake.</summary>
static class Saying
{
    public static string Say(this Decision decision, Job? job)
    {
        var what = decision.Act switch
        {
            Act.Wait => decision.Wake is null ? "wait" : $"wait until {Moment.Relative(decision.Wake)}",
            Act.WriteStatus => Changes(job!.Status, decision.Status!),
            Act.DropFinalizer => $"drop {decision.Why}",
            _ => decision.Act + (decision.Pod is { } pod ? $" {pod.Name}" : "") + (decision.Why.Length > 0
                ? $": {decision.Why}" : ""),
        };
        return decision.Event is { } fact ? $"{what} [{(fact.Warning ? "Warning " : "")}{fact.Action}]" : what;
    }

    public static string Say(this CronStep step, Cron cron)
    {
        var what = step.Act switch
        {
            CronAct.Create => $"Create {Moment.Relative(step.Tick)}",
            CronAct.AskRun or CronAct.DeleteRun => $"{step.Act} {step.Run}",
            CronAct.WriteStatus => Changes(cron.Status, step.Status!),
            _ => $"{step.Act}",
        };
        var fact = step.Event is { } told ? $" [{(told.Warning ? "Warning " : "")}{told.Action}]" : "";
        return $"{what}{fact}{(step.Wake is null ? "" : $", next {Moment.Relative(step.Wake)}")}";
    }

    static string Changes(CronStatus before, CronStatus after)
    {
        var at = before.LastScheduleTime == after.LastScheduleTime
            ? "" : $"last {Moment.Relative(after.LastScheduleTime)}, ";
        var name = before.LastName == after.LastName ? "" : $"name {after.LastName}, ";
        return $"→ {at}{name}saying {after.Message ?? "nothing"}";
    }

    /// <summary>The phase, and every other field that is not as it was.</summary>
    static string Changes(JobStatus before, JobStatus after)
    {
        (string Field, string Before, string After)[] fields =
        [
            ("main", before.MainPodName ?? "nothing", after.MainPodName ?? "nothing"),
            ("exit", before.ExitPodName ?? "nothing", after.ExitPodName ?? "nothing"),
            ("code", $"{before.ExitCode}", after.ExitCode is { } code ? $"{code}" : "nothing"),
            ("started", Moment.Relative(before.StartTime), Moment.Relative(after.StartTime)),
            ("completed", Moment.Relative(before.CompletionTime), Moment.Relative(after.CompletionTime)),
            ("saying", before.Message ?? "nothing", after.Message ?? "nothing"),
        ];
        var changed = fields.Where(f => f.Before != f.After && (f.Before.Length > 0 || f.After != "nothing"));
        return string.Join(", ", changed.Select(f => $"{f.Field} {f.After}").Prepend($"→ {after.Phase}"));
    }
}
