// An OMJob: as the API server sends it, and as much of it as is kept.

using System.Runtime.InteropServices;

namespace OMJobs;

enum Phase { Unknown, Pending, Running, ExitHandlerRunning, Succeeded, Failed }

static class Phases
{
    public static bool IsFinished(this Phase phase) => phase is Phase.Succeeded or Phase.Failed;
}

/// <summary>An OMJob, as much of it as is needed: the spec of a finished one is not kept.</summary>
sealed record Job : CachedObject
{
    public const string Finalizer = "pipelines.openmetadata.org/exit-handler";
    public const string Foreground = "foregroundDeletion", Orphan = "orphan";

    /// <summary>The CronOMJob that made it, by controller owner reference.</summary>
    public Owner? Cron { get; init; }
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
    /// <summary>When this state, or an earlier one, was asked for (server's time); null: a watch has told it.</summary>
    public DateTimeOffset? ReadAt { get; init; }
    /// <summary>Somebody owns fields of it by server-side apply.</summary>
    public bool IsApplied { get; init; }
    /// <summary>Since its deletion the namespace was found to be staying.</summary>
    public bool NamespaceAsked { get; init; }
    /// <summary>G20: it was deleted with orphan propagation, its pods are to stay.</summary>
    public bool Orphaning { get; init; }

    public bool HasFinalizer => Finalizers.Contains(Finalizer);
    /// <summary>It is over, and nothing of ours holds it.</summary>
    public bool IsLetGo => Status.Phase.IsFinished() && !HasFinalizer;
    /// <summary>What is decided on is the same.</summary>
    public bool IsLike(Job other) => Status == other.Status && Deleting == other.Deleting
        && Generation == other.Generation && Finalizers.SequenceEqual(other.Finalizers);
    /// <summary>Reads the spec anew each time.</summary>
    public JsonElement ReadSpec() =>
        Spec.Length == 0 ? default : JsonSerializer.Deserialize(Spec, ApiJson.Default.JsonElement);
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
    /// <summary>Newer than what was read is as good as read.</summary>
    public override CachedObject Merge(CachedObject? before, DateTimeOffset? readAt) =>
        this with { ReadAt = readAt ?? (before is Job job && job.Uid == Uid ? job.ReadAt : null) };
}

sealed record Owner(Key Key, string? Uid);

/// <summary>A finished OMJob that nothing of ours holds, as little of it as its TTL and its schedule need.</summary>
sealed record Retained : CachedObject
{
    public Owner? Cron { get; init; }
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
        ResourceVersion = job.ResourceVersion,
        Cron = job.Cron,
        Phase = job.Status.Phase,
        Deleting = job.Deleting,
        Ended = job.Status.CompletionTime?.ToUnixTimeSeconds() ?? 0,
        Ttl = (uint)job.Ttl.TotalSeconds,
        ExitPodName = job.Status.ExitPodName == PodTemplate.ExitName(job.Name, 1) ? null : job.Status.ExitPodName,
    };

    public Job ToJob() => new()
    {
        Key = Key,
        Uid = Uid,
        ResourceVersion = ResourceVersion,
        Cron = Cron,
        Deleting = Deleting,
        Ttl = TimeSpan.FromSeconds(Ttl),
        Status = new(Phase)
        {
            CompletionTime = Ended == 0 ? null : DateTimeOffset.FromUnixTimeSeconds(Ended),
            ExitPodName = ExitPodName ?? PodTemplate.ExitName(Name, 1),
        },
    };
}

sealed record JobObject(string? Kind, ObjectMeta? Metadata, JsonElement Spec, JsonElement Status) : IApiObject
{
    public CachedObject? ToCached(DateTimeOffset now) => ToJob();

    /// <summary>What a write was answered with. Of one that is metadata only: with the spec that was there, and the
    /// status as it was written; null: that, too, is as it was.</summary>
    public Job? After(Job before, JsonElement? written) => Kind != "PartialObjectMetadata" ? ToJob()
        : (this with { Kind = null, Status = written ?? default }).ToJob() is not { } job ? null
        : job with
        {
            Status = written is null ? before.Status : job.Status,
            Spec = job.Status.Phase.IsFinished() ? [] : before.Spec,
            IsWhole = before.IsWhole,
            HasExitSpec = before.HasExitSpec,
            Ttl = before.Ttl,
            BackoffLimit = before.BackoffLimit,
        };

    public static int? BackoffLimitOf(JsonElement spec) =>
        spec.Number("exitHandlerBackoffLimit") is { } limit ? (int)Math.Clamp(limit, 0, 1000) : null;

    /// <summary>Null if no whole object. Spec and status are read field by field: a wrong type stops nothing.</summary>
    public Job? ToJob()
    {
        if (Metadata is not { Name: { } name, Namespace: { } ns, Uid: { } uid, ResourceVersion: { } version } meta
            || Kind is not (null or "OMJob")) return null;
        var status = JobStatus.Read(Status);
        var finished = status.Phase.IsFinished();
        var end = status.CompletionTime ?? meta.CreationTimestamp;
        var cron = meta.Controller(Resources.CronOMJobs);
        var finalizers = meta.Finalizers ?? [];
        if (finished) status = status with { Message = null, StartTime = null, PhaseText = "", CompletionTime = end };
        return new()
        {
            Key = new(ns, name, Resources.OMJobs),
            Uid = uid,
            ResourceVersion = version,
            Created = meta.CreationTimestamp ?? default,
            Deleting = meta.DeletionTimestamp is not null,
            Finalizers = finalizers,
            IsApplied = meta.ManagedFields is true,
            Status = status,
            Spec = finished || Spec.ValueKind == JsonValueKind.Undefined
                ? [] : JsonMarshal.GetRawUtf8Value(Spec).ToArray(),
            HasExitSpec = Spec.Get("exitHandlerSpec").ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null),
            Ttl = Text.Seconds(Spec.Number("ttlSecondsAfterFinished") ?? 86400),
            BackoffLimit = BackoffLimitOf(Spec),
            Generation = meta.Generation ?? 0,
            Pipeline = finished ? null : meta.Labels?.GetValueOrDefault(LabelKeys.Pipeline),
            RunId = finished ? null : meta.Labels?.GetValueOrDefault(LabelKeys.RunId),
            Cron = cron is null ? null : new(new(ns, cron.Name!, Resources.CronOMJobs), Names.Uid(cron.Uid)),
        };
    }
}
