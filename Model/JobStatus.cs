// OMJob.status.

using System.Text.Json;

namespace OMJobs;

/// <summary>OMJob.status, as crd.yaml describes it.</summary>
sealed record JobStatus(Phase Phase)
{
    /// <summary>The phase as it was read; it differs from Phase's name only where that is Unknown.</summary>
    public string PhaseText { get; init; } = "";
    public string? MainPodName { get; init; }
    public string? ExitPodName { get; init; }
    public DateTimeOffset? StartTime { get; init; }
    public DateTimeOffset? CompletionTime { get; init; }
    public string? Message { get; init; }
    public int? ExitCode { get; init; }
    /// <summary>When condition MainPodFinished became True, in seconds of the epoch; 0: not yet, or not known.</summary>
    public uint MainFinished { get; init; }

    /// <summary>What the message says of the main pod, without what it says of the exit handler.</summary>
    public string MainMessage => Message is not { Length: > 0 } message
        ? Phase switch
        {
            Phase.Pending => "Main pod was not created",
            Phase.Running => "Main pod was still running",
            _ => "Main pod ended",
        }
        : message.IndexOf(HandlerMark, StringComparison.Ordinal) is >= 0 and var at ? message[..at] : message;
    const string HandlerMark = "; exit handler";

    /// <summary>A pod's own words must not pass for what follows them.</summary>
    public static string AsMainMessage(string words) =>
        words.Replace(HandlerMark, ", exit handler", StringComparison.Ordinal);

    public static string Join(string main, string? handler) =>
        string.IsNullOrEmpty(handler) ? main : Text.Truncate($"{Text.Truncate(main, 500)}; {handler}");

    /// <summary>What the message says of the exit handler, without "exit handler "; empty: nothing.</summary>
    public string HandlerMessage =>
        (Message ?? "")[Math.Min(MainMessage.Length + 2, Message?.Length ?? 0)..] is var words
        && words.StartsWith("exit handler ", StringComparison.Ordinal) ? words["exit handler ".Length..] : "";
    public const string AttemptWord = "exit handler attempt ", IsRenamed = "is now ", IsBlocked = "is blocked: ";

    /// <summary>Why a running main pod is being stopped: the message of its end, recorded before.</summary>
    public string? GivenUp =>
        Phase == Phase.Running && Message?.StartsWith(Stopped, StringComparison.Ordinal) is true ? Message : null;
    public const string Stopped = "Main pod was stopped: it ";

    public static JobStatus Read(JsonElement status)
    {
        var text = status.Text("phase") ?? "";
        var phase = Enum.GetValues<Phase>().FirstOrDefault(p => p.ToString() == text); // else Unknown
        return new(text.Length == 0 ? Phase.Pending : phase)
        {
            PhaseText = Text.Truncate(text, 100),
            MainPodName = Names.Valid(status.Text("mainPodName")),
            ExitPodName = Names.Valid(status.Text("exitHandlerPodName")),
            StartTime = status.Time("startTime"),
            CompletionTime = status.Time("completionTime"),
            Message = status.Text("message", most: 2000),
            ExitCode = status.Number("mainPodExitCode") is { } code
                ? (int)Math.Clamp(code, int.MinValue, int.MaxValue) : null,
            MainFinished = (uint)Math.Clamp(status.Get("conditions").Items()
                .FirstOrDefault(c => c.Text("type") == Conditions.Main && c.Text("status") == "True")
                .Time("lastTransitionTime")?.ToUnixTimeSeconds() ?? 0, 0, uint.MaxValue),
        };
    }
}
