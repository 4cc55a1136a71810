// A CronOMJob: as the API server sends it, and as much of it as decides.

namespace OMJobs;

/// <summary>CronOMJob.status.</summary>
sealed record CronStatus(DateTimeOffset? LastScheduleTime, string? LastName, string? Message);

/// <summary>A CronOMJob, as much of it as decides: its omJobSpec is asked for when a run is created.</summary>
sealed record Cron : CachedObject
{
    public bool Deleting { get; init; }
    public DateTimeOffset Created { get; init; }
    public string Expression { get; init; } = "";
    public string TimeZone { get; init; } = "";
    public bool Suspend { get; init; }
    public long? StartingDeadline { get; init; }
    public long SucceededLimit { get; init; }
    public long FailedLimit { get; init; }
    public bool HasTemplate { get; init; }
    public CronStatus Status { get; init; } = new(null, null, null);
}

sealed record CronObject(ObjectMeta? Metadata, JsonElement Spec, JsonElement Status) : IApiObject
{
    public CachedObject? ToCached(DateTimeOffset now)
    {
        if (Metadata is not { Name: { } name, Namespace: { } ns, Uid: { } uid, ResourceVersion: { } version } meta)
            return null;
        return new Cron
        {
            Key = new(ns, name, Resources.CronOMJobs),
            Uid = uid,
            ResourceVersion = version,
            Deleting = meta.DeletionTimestamp is not null,
            Created = meta.CreationTimestamp ?? now,
            Expression = Text.Truncate(Spec.Text("schedule")?.Trim() ?? "", 1000), // one that is cut is none
            TimeZone = Text.Truncate(Spec.Text("timeZone")?.Trim() ?? "", 100),
            Suspend = Spec.Get("suspend").ValueKind == JsonValueKind.True,
            StartingDeadline = Spec.Number("startingDeadlineSeconds"),
            SucceededLimit = Spec.Number("successfulJobsHistoryLimit") ?? 3,
            FailedLimit = Spec.Number("failedJobsHistoryLimit") ?? 3,
            HasTemplate = Spec.Get("omJobSpec").OrNothing().ValueKind == JsonValueKind.Object,
            Status = new(Status.Time("lastScheduleTime"), Names.Valid(Status.Text("lastOMJobName")),
                Status.Text("message", most: 2000)),
        };
    }
}
