// How pods end: one word for tools, and how the message for people begins.

namespace OMJobs;

/// <summary>How a pod, or what is done about it, ended or stands: the reason, for conditions and metrics, and the words
/// with which its message begins. One table for both ways: of a status that is read every CRD keeps the message, but
/// not the conditions.</summary>
sealed class Ending(string reason, string phrase)
{
    public string Reason => reason;
    public string Phrase => phrase;

    public static readonly Ending
        Succeeded = new("Succeeded", "succeeded"),
        Blocked = new("Blocked", "is blocked"),
        Renamed = new("Retrying", "is now "),
        Refused = new("Refused", "cannot be created"),
        NamespaceGoing = new("NamespaceTerminating", "cannot run: the namespace is being deleted"),
        NotEnded = new("DeadlineExceeded", "did not end"),
        Lost = new("Lost", "was lost"),
        Deleted = new("Deleted", "was deleted"),
        NotCreated = new("NotStarted", "was not created"),
        NotStarted = new("NotStarted", "was stopped: it did not start"),
        Overran = new("DeadlineExceeded", "was stopped: it ran past"),
        Stopped = new("Stopped", "was stopped"),
        ExitCode = new("ExitCode", "failed with exit code"),
        Failed = new("Failed", "failed");
    /// <summary>Said of a failure that may come of it: then it was stopped.</summary>
    public const string AfterDeletion = " after the OMJob was deleted";

    /// <summary>Of two that begin alike the longer comes first.</summary>
    static readonly Ending[] All =
    [
        Succeeded, Blocked, Renamed, Refused, NamespaceGoing, NotEnded, Lost, Deleted, NotCreated, NotStarted, Overran,
        Stopped, ExitCode, Failed,
    ];

    /// <summary>What such a message is of; null: of none of them.</summary>
    public static Ending? Of(string message) =>
        Array.Find(All, ending => message.StartsWith(ending.Phrase, StringComparison.Ordinal));

    /// <summary>Of a failure the pod's own reason, where it gives one.</summary>
    public string ReasonIn(string message) => this != ExitCode && this != Failed ? reason
        : message.EndsWith(AfterDeletion, StringComparison.Ordinal) ? Stopped.Reason : First(message) ?? reason;

    /// <summary>The first reason in parentheses; the one after it where it says that nothing is known.</summary>
    static string? First(string message)
    {
        message = message.Replace("(ContainerStatusUnknown; ", "(", StringComparison.Ordinal);
        if (message.Split('(') is not [_, var word, ..]) return null;
        var end = 0;
        for (; end < word.Length && char.IsAsciiLetterOrDigit(word[end]); end++) { }
        return end == 0 ? null : char.ToUpperInvariant(word[0]) + word[1..end];
    }
}
