// One reconcile: what it ends with, and how long it waits after failures.

namespace OMJobs;

/// <summary>One reconcile of a key: it ends with whether and when the key is to come again by itself.</summary>
sealed class Turn(Key key, TimeProvider time, CancellationToken stop)
{
    public Key Key => key;
    public CancellationToken Stop => stop;
    /// <summary>Timestamp; null: it waits for a change.</summary>
    public long? Due { get; private set; }
    public bool Failed { get; private set; }
    /// <summary>An event that is to be told along with the next one, or by itself once the reconcile ends.</summary>
    public Event? Untold { get; set; }

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

sealed class Backoff(Random random)
{
    /// <summary>Doubling from <paramref name="first"/> to <paramref name="most"/>, the last fifth at random.</summary>
    public TimeSpan After(int failures, TimeSpan first, TimeSpan most) =>
        TimeSpan.FromTicks(Math.Min(most.Ticks, first.Ticks << Math.Clamp(failures - 1, 0, 20)))
            * (0.8 + 0.2 * random.NextDouble());

    /// <summary>A backoff of up to 30 s, or what the API server asks for if that is longer: then 1 to 60 s.</summary>
    public TimeSpan Pause(int failures, TimeSpan? asked, TimeSpan? first = null)
    {
        var backoff = After(failures, first ?? TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(30));
        return asked is not { } wanted ? backoff : TimeSpan.FromSeconds(
            Math.Clamp(Math.Max(wanted.TotalSeconds, backoff.TotalSeconds), 1, 60));
    }
}
