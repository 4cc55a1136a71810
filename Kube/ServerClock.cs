// The API server's clock.

namespace OMJobs;

/// <summary>The API server's clock, from Date headers and a monotonic clock: deletion times are the server's.</summary>
sealed class ServerClock(TimeProvider time)
{
    readonly Lock gate = new();
    readonly long start = time.GetTimestamp();
    DateTimeOffset atStart = time.GetUtcNow();

    public DateTimeOffset Now { get { lock (gate) return atStart + time.GetElapsedTime(start); } }

    /// <summary>Takes a Date header: cut to whole seconds, and set at any moment of the time that the request took.
    /// True where the clock was set forward by more than several API servers may differ.</summary>
    public bool Adjust(DateTimeOffset date, TimeSpan took)
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
