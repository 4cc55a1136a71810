// How long to wait after failures.

namespace OMJobs;

sealed class Backoff(Random random)
{
    /// <summary>Doubling from <paramref name="first"/> to <paramref name="most"/>, the last fifth at random.</summary>
    public TimeSpan After(int failures, TimeSpan first, TimeSpan most) =>
        TimeSpan.FromTicks(Math.Min(most.Ticks, first.Ticks << Math.Clamp(failures - 1, 0, 20)))
            * (0.8 + 0.2 * random.NextDouble());

    /// <summary>A backoff of up to 30 s, or what the API server asks for where that is longer: then 1 to 60 s.</summary>
    public TimeSpan Pause(int failures, TimeSpan? asked, TimeSpan? first = null)
    {
        var backoff = After(failures, first ?? TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(30));
        return asked is not { } wanted ? backoff : TimeSpan.FromSeconds(
            Math.Clamp(Math.Max(wanted.TotalSeconds, backoff.TotalSeconds), 1, 60));
    }
}
