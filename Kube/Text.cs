// Texts, times and spans as Kubernetes has them.

using System.Globalization;

namespace OMJobs;

static class Text
{
    /// <summary>Short enough for an event, whose message should stay within 1,024 bytes.</summary>
    public static string Truncate(string text, int most = 900) =>
        text.Length <= most ? text : text[..(char.IsHighSurrogate(text[most - 1]) ? most - 1 : most)] + "…";

    public static string? Pair(string? reason, string? message) =>
        string.IsNullOrEmpty(reason) ? null
            : Truncate(reason, 500) + (string.IsNullOrEmpty(message) ? "" : $": {Truncate(message, 300)}");

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

static class Times
{
    /// <summary>The first of those that there are; null: there is none.</summary>
    public static DateTimeOffset? Earliest(params IEnumerable<DateTimeOffset?> times) => times.Min();

    /// <summary>It is that time, or later; where there is none it never is.</summary>
    public static bool Reached(this DateTimeOffset now, DateTimeOffset? time) => now >= time;
}
