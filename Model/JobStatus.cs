// OMJob.status.

using System.Globalization;

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
    /// <summary>When condition MainPodFinished became True, seconds of the epoch; 0: unknown, or not yet.</summary>
    public uint MainFinished { get; init; }

    public const string MainPod = "Main pod ", ExitHandler = "exit handler ";
    const string HandlerMark = $"; {ExitHandler}";
    int Mark => Message?.IndexOf(HandlerMark, StringComparison.Ordinal) ?? -1;

    /// <summary>What the message says of the main pod, without what it says of the exit handler.</summary>
    public string MainMessage => Message is { Length: > 0 } message ? Mark < 0 ? message : message[..Mark]
        : MainPod + (Phase == Phase.Pending ? Ending.NotCreated.Phrase
            : Phase == Phase.Running ? "was still running" : "ended");

    /// <summary>What the message says of the exit handler; empty: nothing.</summary>
    public string HandlerMessage => Mark < 0 ? "" : Message![(Mark + HandlerMark.Length)..];

    /// <summary>How the main pod ended, or what is in its way, as far as the message tells.</summary>
    public Ending? MainEnding => MainMessage.StartsWith(MainPod, StringComparison.Ordinal)
        ? Ending.Of(MainMessage[MainPod.Length..]) : null;

    /// <summary>The exit handler's attempt that the message is about (0: none), and what it says of it.</summary>
    public (int Number, string Message) Attempt =>
        HandlerMessage.Split(' ', 3) is [AttemptWord, var number, var rest]
        && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var n)
            ? (n, rest) : (0, HandlerMessage);

    public static string OfAttempt(int number, string text) => $"{AttemptWord} {number} {text}";
    const string AttemptWord = "attempt";

    /// <summary>Why a running main pod is being stopped: the message of its end, recorded before.</summary>
    public string? GivenUp => Phase == Phase.Running
        && (MainEnding == Ending.NotStarted || MainEnding == Ending.Overran) ? Message : null;

    /// <summary>A message of the main pod, which leaves room for the handler's.</summary>
    public static string OfMain(string text) => // a pod's own words must not pass for what follows them
        Text.Truncate(MainPod + text.Replace(HandlerMark, $", {ExitHandler}", StringComparison.Ordinal), 500);

    /// <summary>The message, with that of the exit handler; null: nothing.</summary>
    public string WithHandler(string? text) => text is null ? MainMessage
        : Text.Truncate($"{Text.Truncate(MainMessage, 500)}{HandlerMark}{text}");

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
