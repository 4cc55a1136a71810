// A pod: as the API server sends it, and as much of it as is decided on.

namespace OMJobs;

/// <summary>A pod, as much of it as is decided on.</summary>
sealed record Pod : CachedObject
{
    public const string Finalizer = "pipelines.openmetadata.org/outcome";

    /// <summary>The OMJob's name by owner reference, else label, else the name of a main pod that bears its UID; empty:
    /// none.</summary>
    public string JobName { get; init; } = "";
    /// <summary>The OMJob's UID by controller owner reference, else label, else annotation; null: not ours.</summary>
    public string? JobUid { get; init; }
    public bool HasOwner { get; init; }
    /// <summary>The version of the run defaults that it was made with; null: of the OMJob alone.</summary>
    public string? Defaults { get; init; }
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
    public override bool IsWatched => !LostLabels || JobName.Length > 0;
    public override bool IsGone => Deleting && FinalizerCount == 0 && GracePeriod == 0;
    /// <summary>P7: the phase may be reported seconds before the container; the clock runs from first sight.</summary>
    public override CachedObject Merge(CachedObject? before, DateTimeOffset? readAt) =>
        OverSeen is not null && before is Pod pod && pod.Uid == Uid
            ? this with { OverSeen = pod.OverSeen ?? OverSeen } : this;
}

sealed record PodObject(ObjectMeta? Metadata, PodSpecObject? Spec, PodStatusObject? Status) : IApiObject
{
    public CachedObject? ToCached(DateTimeOffset now) => ToPod(now);

    /// <param name="now">The server's time: when a failed pod whose container still runs was first seen.</param>
    public Pod? ToPod(DateTimeOffset now)
    {
        if (Metadata is not { Name: { } name, Namespace: { } ns, Uid: { } uid, ResourceVersion: { } version } meta)
            return null;
        var owner = meta.Controller(Resources.OMJobs);
        var uidOf = Names.Uid(owner?.Uid
            ?? meta.Labels?.GetValueOrDefault(LabelKeys.Uid) ?? meta.Annotations?.GetValueOrDefault(LabelKeys.Uid));
        var main = Status?.ContainerStatuses?.Find(c => c?.Name == "main")?.State;
        var over = Status?.Phase is "Succeeded" or "Failed";
        var disruption = Status?.Conditions?.Find(c => c is { Type: "DisruptionTarget", Status: "True" });
        return new()
        {
            Key = new(ns, name, Resources.Pods),
            Uid = uid,
            ResourceVersion = version,
            JobName = owner?.Name ?? Names.Valid(meta.Labels?.GetValueOrDefault(LabelKeys.Name))
                ?? (uidOf is not null && name.EndsWith(PodTemplate.MainSuffix, StringComparison.Ordinal)
                    ? name[..^PodTemplate.MainSuffix.Length] : ""),
            JobUid = uidOf,
            HasOwner = owner is not null,
            Defaults = meta.Annotations?.GetValueOrDefault(LabelKeys.Defaults) is { } hash
                ? Text.Truncate(hash, 20) : null,
            LostLabels = string.IsNullOrEmpty(meta.Labels?.GetValueOrDefault(LabelKeys.Name)),
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
