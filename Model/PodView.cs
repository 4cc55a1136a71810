// What is known of a pod, and how it ended.

namespace OMJobs;

enum Presence { Unknown, Absent, Present, Refused, NamespaceGoing }

/// <summary>What is known of a pod's name. Unknown only leads to asking; absent: a live GET answered 404.</summary>
sealed record PodView(Pod? Pod)
{
    public Presence Presence { get; init; } = Pod is null ? Presence.Unknown : Presence.Present;
    /// <summary>The API server's words, where it says that the pod can never be.</summary>
    public string Message { get; init; } = "";
    /// <summary>When it was asked for, its OMJob being as it is (server's time); null: a watch told it.</summary>
    public DateTimeOffset? ReadAt { get; init; }
    /// <summary>Not to be created before then.</summary>
    public DateTimeOffset RetryAt { get; init; }
    /// <summary>When to ask for it again, where its labels do not stay and so no watch tells of it.</summary>
    public DateTimeOffset? AskAgain { get; init; }
    /// <summary>G21: a version of it reached us that was being deleted before main had ended.</summary>
    public bool Stopped { get; init; }

    public static PodView Unknown { get; } = new((Pod?)null);
    public static PodView Absent { get; } = new((Pod?)null) { Presence = Presence.Absent };
    public static PodView NamespaceGoing { get; } = new((Pod?)null) { Presence = Presence.NamespaceGoing };
    public static PodView Refused(string message) => new((Pod?)null) { Presence = Presence.Refused, Message = message };
}

/// <summary>How a pod ended; no exit code where it did not end of itself. ByClock: only a clock says so.</summary>
sealed class End(int? exitCode, Ending how, string details = "", bool byClock = false)
{
    public static End Unseen { get; } = new(null, Ending.Deleted, " before its end was seen");
    public int? ExitCode => exitCode;
    public bool ByClock => byClock;
    public string Message { get; } = how.Phrase + details;

    /// <summary>How a pod ended, null while it has not (docs/design.md, "Over").</summary>
    public static End? Of(PodView view, DateTimeOffset now, Deadlines deadlines)
    {
        if (view.Presence == Presence.Absent) return Unseen;
        if (view.Pod is not { } pod) return null;
        if (pod.ExitCode is { } code) return Terminated(pod, code, view.Stopped);
        if (pod.PhaseOver && !pod.MainRunning) return new(null, Ending.Failed, Said(pod)); // P3: no container statuses
        if (now.Reached(OverAt(pod, deadlines))) return new(null, Ending.Failed, Said(pod), true); // P7
        if (pod is { Deleting: true, Scheduled: false })
            return new(null, Ending.Deleted, $" before it started{Said(pod)}");
        if (now.Reached(LostAt(pod, deadlines))) // G6
            return new(null, Ending.Lost, ": its node did not confirm its end within "
                + $"{Text.Duration(deadlines.LostPodSlack)}{Said(pod)}", true);
        return null;
    }

    /// <summary>The exit code counts if main ended of itself: failure always; 0 only if it certainly ended before
    /// anybody asked to stop it (G21). Times are whole seconds, so the same second proves nothing; and where main was
    /// seen running while its pod was being deleted no node's clock proves anything.</summary>
    static End Terminated(Pod pod, int code, bool seenStopped)
    {
        if (code != 0) return new(code, Ending.ExitCode, $" {code}{Said(pod)}");
        // P9: a kubelet that deletes a pod which never ran may report an exit code of 0, without a time.
        var stopped = seenStopped || pod.FinishedAt is not { } at || at.Reached(pod.DeletionRequested)
            || pod.Reason is not null || pod.Disruption is not null;
        return !stopped ? new(0, Ending.Succeeded)
            : new(null, Ending.Stopped, $" (exit code 0 afterwards){Said(pod)}");
    }

    /// <summary>The reasons in parentheses, as far as there are any.</summary>
    static string Said(Pod pod)
    {
        string?[] all =
            [pod.ExitReason is "Error" or "Completed" ? null : pod.ExitReason, pod.Reason, pod.Disruption, pod.Waiting];
        var said = all.Where(r => !string.IsNullOrEmpty(r)).Distinct().ToArray();
        return said.Length == 0 ? "" : $" ({string.Join("; ", said)})";
    }

    /// <summary>When a clock alone can end the pod.</summary>
    public static DateTimeOffset? ByClockAt(Pod pod, Deadlines deadlines) =>
        Times.Earliest(OverAt(pod, deadlines), LostAt(pod, deadlines));

    static DateTimeOffset? OverAt(Pod pod, Deadlines deadlines) => pod.OverSeen + pod.Grace + deadlines.LostPodSlack;

    /// <summary>Just after its time, which is told in whole seconds.</summary>
    static DateTimeOffset? LostAt(Pod pod, Deadlines deadlines) =>
        pod.DeletionTimestamp + deadlines.LostPodSlack + TimeSpan.FromMilliseconds(1);
}
