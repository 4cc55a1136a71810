// OMJob.status.conditions.

using System.Text.Json.Nodes;

namespace OMJobs;

/// <summary>
/// status.conditions, for people and tools: all of it follows from the rest of the status, and nothing is decided by
/// it, for CRDs that do not list it prune it.
/// </summary>
static class Conditions
{
    public const string Main = "MainPodFinished", Handler = "ExitHandlerFinished", Finished = "Finished";

    public static JsonArray Of(Job job, JobStatus status, DateTimeOffset now)
    {
        var (mainOver, over) = (status.Phase >= Phase.ExitHandlerRunning, status.Phase.IsFinished());
        var began = status.MainFinished > 0 ? DateTimeOffset.FromUnixTimeSeconds(status.MainFinished) : now;
        var words = status.HandlerMessage;
        return
        [
            One(Main, mainOver, began, MainReason(status), status.MainMessage),
            One(Handler, over, status.CompletionTime, HandlerReason(status), words),
            One(Finished, over, status.CompletionTime, Reason(status), status.Message ?? ""),
        ];

        JsonNode One(string type, bool holds, DateTimeOffset? since, string reason, string message) => new JsonObject
        {
            ["type"] = type,
            ["status"] = holds ? "True" : "False",
            ["observedGeneration"] = job.Generation,
            ["lastTransitionTime"] = Text.Time(holds ? since : job.Created),
            ["reason"] = reason,
            ["message"] = message.Length > 0 ? message : reason, // some API servers refuse an empty text
        };
    }

    /// <summary>Why it ended as it did: of a failed run the first thing that failed. Else where it stands.</summary>
    public static string Reason(JobStatus status) => status.Phase switch
    {
        Phase.Succeeded => "Succeeded",
        Phase.ExitHandlerRunning => HandlerReason(status) == "Blocked" ? "Blocked" : $"{status.Phase}",
        Phase.Failed when status.ExitCode == 0 => $"ExitHandler{HandlerReason(status)}",
        _ => MainReason(status),
    };

    public static string MainReason(JobStatus status) => status.MainMessage switch
    {
        _ when status.ExitCode == 0 => "Succeeded",
        _ when status.GivenUp is not null => "Stopping",
        var words when Starts(words, JobStatus.Stopped + "did not start") => "NotStarted",
        var words when Starts(words, JobStatus.Stopped + "ran past") => "DeadlineExceeded",
        var words when Starts(words, "Main pod ") => Ending(words["Main pod ".Length..],
            status.Phase < Phase.ExitHandlerRunning ? $"{status.Phase}" : "Unknown"),
        _ => "Unknown",
    };

    /// <summary>How an exit handler's attempt ended between these; null: none did.</summary>
    public static string? Attempt(Job before, JobStatus after) =>
        after.Phase == Phase.ExitHandlerRunning
            ? PodTemplate.Ran(before with { Status = after }) > PodTemplate.Ran(before) ? "failed" : null
            : HandlerReason(after) switch { "Succeeded" => "succeeded", "NoExitHandler" => null, _ => "failed" };

    static string HandlerReason(JobStatus status) => status.HandlerMessage is { Length: > 0 } words
        ? words.Split(' ', 3) is ["attempt", _, var rest] && Starts(rest, JobStatus.IsBlocked) ? "Blocked"
        : Ending(words, status.Phase == Phase.ExitHandlerRunning ? "Running" : "Unknown")
        : status.Phase.IsFinished() ? "NoExitHandler"
        : status.Phase == Phase.ExitHandlerRunning ? "Running" : "Waiting";

    /// <summary>One word for how a pod ended, by how its message begins.</summary>
    static string Ending(string words, string otherwise) => words switch
    {
        _ when Starts(words, "succeeded") => "Succeeded",
        _ when Starts(words, "is blocked") => "Blocked",
        _ when Starts(words, "attempt ") => "Retrying",
        _ when Starts(words, "cannot be created") => "Refused",
        _ when Starts(words, "cannot run: the namespace") => "NamespaceTerminating",
        _ when Starts(words, "did not end") => "DeadlineExceeded",
        _ when Starts(words, "was lost") => "Lost",
        _ when Starts(words, "was deleted") => "Deleted",
        _ when Starts(words, "was not created") => "NotStarted",
        _ when Starts(words, "was stopped") || words.EndsWith("after the OMJob was deleted", StringComparison.Ordinal)
            => "Stopped",
        _ when Starts(words, "failed with exit code") => Word(words) ?? "ExitCode",
        _ when Starts(words, "failed") => Word(words) ?? "Failed",
        _ => otherwise,
    };

    /// <summary>The first reason in parentheses; the one after it where it says that nothing is known.</summary>
    static string? Word(string words)
    {
        words = words.Replace("(ContainerStatusUnknown; ", "(", StringComparison.Ordinal);
        var at = words.IndexOf('(', StringComparison.Ordinal) + 1;
        var end = at;
        while (end < words.Length && char.IsAsciiLetterOrDigit(words[end])) end++;
        return at == 0 || at == end ? null : char.ToUpperInvariant(words[at]) + words[(at + 1)..end];
    }

    static bool Starts(string words, string start) => words.StartsWith(start, StringComparison.Ordinal);
}
