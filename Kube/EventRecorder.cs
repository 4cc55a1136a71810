// Events.

namespace OMJobs;

/// <summary>Something worth an event; what Tell adds makes it one.</summary>
sealed record Event(string Action, string Message, bool Warning = false)
{
    public CachedObject? About { get; init; }
    public string Name { get; init; } = "";
    public int Count { get; init; }
    public DateTimeOffset First { get; init; }
    public DateTimeOffset Last { get; init; }
}
