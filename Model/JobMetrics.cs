// What is counted of OMJobs.

namespace OMJobs;

static class JobMetrics
{
    public const string Finished = "omjob_finished_total", ExitHandlers = "omjob_exit_handlers_total",
        ExitHandlerLatency = "omjob_exit_handler_latency_seconds", Jobs = "omjob_jobs", Blocked = "omjob_blocked",
        Overdue = "omjob_overdue", LastEvent = "omjob_watch_last_event_timestamp_seconds";

    public static readonly (string Name, string Type, string Help)[] All =
    [
        (Finished, "counter", "OMJobs that ended, by outcome and the reason of condition Finished."),
        (ExitHandlers, "counter", "Attempts of exit handlers that ended."),
        (ExitHandlerLatency, "histogram", "From the main pod's end, once seen, to the exit handler pod."),
        (Jobs, "gauge", "OMJobs by phase."),
        (Blocked, "gauge", "OMJobs whose main or exit pod the API server refuses to create for now."),
        (Overdue, "gauge", "OMJobs that are a minute past a deadline by which they should have gone on."),
        (LastEvent, "gauge", "When a watch last heard of the API server; 0: never."),
    ];
}
