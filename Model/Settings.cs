// What whoever starts the operator may choose.

namespace OMJobs;

/// <summary>What the command line and the environment say.</summary>
sealed class Settings
{
    /// <summary>The namespaces to watch; one empty string: all of them.</summary>
    public required string[] Namespaces { get; init; }
    public LogLevel LogLevel { get; init; }
    public bool JsonLogs { get; init; }
    public int Workers { get; init; } = 5;
    public int HealthPort { get; init; }
    public int MetricsPort { get; init; }
    /// <summary>Serve the endpoints on all addresses (in a cluster), not on loopback only.</summary>
    public bool AllAddresses { get; init; }
    public bool PollingAsked { get; init; }
    public required Deadlines Deadlines { get; init; }
    /// <summary>Not read yet; null: there is none.</summary>
    public DefaultsFile? RunDefaults { get; init; }
}

/// <summary>How long to wait for what; TimeSpan.Zero as a deadline means none.</summary>
sealed record Deadlines(
    TimeSpan StartDeadline, TimeSpan ExitHandlerDeadline, TimeSpan LostPodSlack, int ExitHandlerRetries);
