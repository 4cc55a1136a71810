// OMJob.status.conditions.

namespace OMJobs;

/// <summary>status.conditions, for people and tools: all of it follows from the rest of the status, and nothing is
/// decided by it, for CRDs that do not list it prune it.</summary>
static class Conditions
{
    public const string Main = "MainPodFinished", Handler = "ExitHandlerFinished", Finished = "Finished";

    public static JsonArray Of(Job job, JobStatus status, DateTimeOffset now)
    {
        var (mainOver, over) = (status.Phase >= Phase.ExitHandlerRunning, status.Phase.IsFinished());
        var began = status.MainFinished > 0 ? DateTimeOffset.FromUnixTimeSeconds(status.MainFinished) : now;
        return
        [
            One(Main, mainOver, began, MainReason(status), status.MainMessage),
            One(Handler, over, status.CompletionTime, HandlerReason(status), status.HandlerMessage),
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
        Phase.ExitHandlerRunning when Ending.Of(status.Attempt.Message) == Ending.Blocked => Ending.Blocked.Reason,
        Phase.ExitHandlerRunning => $"{status.Phase}",
        Phase.Failed when status.ExitCode == 0 => $"ExitHandler{HandlerReason(status)}",
        _ => MainReason(status),
    };

    public static string MainReason(JobStatus status) => status switch
    {
        { ExitCode: 0 } => Ending.Succeeded.Reason,
        { GivenUp: not null } => "Stopping",
        { MainEnding: { } ending } => ending.ReasonIn(status.MainMessage),
        _ => status.Phase < Phase.ExitHandlerRunning ? $"{status.Phase}" : "Unknown",
    };

    static string HandlerReason(JobStatus status)
    {
        var (attempt, text) = status.Attempt;
        var ending = Ending.Of(text);
        return attempt > 0 && ending != Ending.Blocked ? Ending.Renamed.Reason
            : ending?.ReasonIn(text) ?? (status.Phase == Phase.ExitHandlerRunning ? "Running"
                : status.Phase.IsFinished() ? "NoExitHandler" : "Waiting");
    }
}
