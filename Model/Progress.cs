// What a process remembers beside the objects.

namespace OMJobs;

/// <summary>How an exit pod was made, of the OMJob alone or with run defaults, and why it was refused: for good is what
/// is invalid.</summary>
sealed record Otherwise(string Pod, bool Alone, string Why, bool ForGood);

/// <summary>What a process remembers of a run or a schedule beside its state. It is lost with the process, which only
/// makes waits longer. Counts are in a row; the default is as if nothing had happened.</summary>
sealed record Progress
{
    public static readonly Progress None = new();
    public override string ToString() => ""; // a record's own would be a kilobyte that nobody calls
    /// <summary>Requests that failed.</summary>
    public int Failures { get; init; }
    /// <summary>Refusals of a pod's or a run's creation.</summary>
    public int Refusals { get; init; }
    /// <summary>Exit pods that vanished (G17).</summary>
    public int Vanished { get; init; }
    /// <summary>No pod is created before then (server's time).</summary>
    public DateTimeOffset RetryAt { get; init; }
    /// <summary>The pod that admission leaves invalid: for how long (ticks), and the last answer that said so
    /// (timestamp; 0: something else came between, which does not count).</summary>
    public (string Pod, long Ticks, long Last)? Invalid { get; init; }
    /// <summary>How often labels were put back; many where they do not stay.</summary>
    public int Relabelled { get; init; }
    /// <summary>When to ask for the pods whose labels do not stay (server's time).</summary>
    public DateTimeOffset? AskAgain { get; init; }
    /// <summary>A pod's phase that is over while main is still said to run, and since when that is seen (P7).</summary>
    public (string Pod, DateTimeOffset At)? OverSeen { get; init; }
    /// <summary>An exit pod that was refused just now: it is to be made the other way, with run defaults or
    /// without.</summary>
    public Otherwise? Otherwise { get; init; }
    /// <summary>The version of the run defaults that its latest pod was made with.</summary>
    public string? Defaults { get; init; }
    /// <summary>UIDs of the pods that we saw being deleted before main had ended (G21).</summary>
    public string Stopped { get; init; } = "";
    /// <summary>Another replica was first with a step of ours (timestamp of the last change since; 0: none was): this
    /// one acts only where nothing has changed for a while, until a write of its own is done.</summary>
    public long YieldsSince { get; init; }
    /// <summary>But not for longer than to here, whatever changes (timestamp).</summary>
    public long YieldsUntil { get; init; }
    /// <summary>Since its deletion the OMJob's namespace was found to be staying.</summary>
    public bool NamespaceAsked { get; init; }
    /// <summary>When its deletion's turn is (timestamp); 0: none is waited for.</summary>
    public long DeleteSlot { get; init; }
    /// <summary>When an unfinished job is to go on by itself (server's time).</summary>
    public DateTimeOffset? Due { get; init; }
    /// <summary>Timestamp; 0: the main pod's end has not been seen, or its exit handler is there.</summary>
    public long MainOver { get; init; }
    public Event? LastEvent { get; init; }
    /// <summary>When the latest of a schedule's runs that succeeded had ended (seconds of the epoch); 0: none is known.
    /// The run itself may be gone.</summary>
    public long LastSuccess { get; init; }

    /// <summary>What stays true of pods, known by their UIDs, whatever becomes of the rest.</summary>
    public Progress OfPods => new() { Stopped = Stopped };
}
