// One reconcile, and what it ends with.

namespace OMJobs;

/// <summary>One reconcile of a key: it ends with whether and when the key is to come again by itself.</summary>
sealed class Turn(Key key, TimeProvider time, CancellationToken stop)
{
    public Key Key => key;
    public CancellationToken Stop => stop;
    /// <summary>Timestamp; null: it waits for a change.</summary>
    public long? Due { get; private set; }
    public bool Failed { get; private set; }

    public void Requeue(TimeSpan after = default)
    {
        var seconds = Math.Clamp(after.TotalSeconds, 0, 315_360_000);
        var at = time.GetTimestamp() + (long)(seconds * time.TimestampFrequency);
        Due = Due is { } due ? Math.Min(due, at) : at;
    }

    public void Retry(TimeSpan after)
    {
        Failed = true;
        Requeue(after);
    }
}
