// What is counted of OMJobs.

namespace OMJobs;

static class JobMetrics
{
    public const string Finished = "omjob_finished_total", ExitHandlers = "omjob_exit_handlers_total",
        ExitHandlerLatency = "omjob_exit_handler_latency_seconds", Jobs = "omjob_jobs", Blocked = "omjob_blocked",
        Overdue = "omjob_overdue", DefaultsLeftOut = "omjob_run_defaults_left_out_total",
        DefaultsGood = "omjob_run_defaults_last_reload_successful", LastEvent = "omjob_watch_last_event_timestamp_seconds";

    public static readonly (string Name, string Type, string Help)[] All =
    [
        (Finished, "counter", "OMJobs that ended, by outcome and the reason of condition Finished."),
        (ExitHandlers, "counter", "Attempts of exit handlers that ended."),
        (ExitHandlerLatency, "histogram", "From the main pod's end, once seen, to the exit handler pod."),
        (Jobs, "gauge", "OMJobs by phase."),
        (Blocked, "gauge", "OMJobs whose main or exit pod the API server refuses to create for now."),
        (Overdue, "gauge", "OMJobs that are a minute past a deadline by which they should have gone on."),
        (DefaultsLeftOut, "counter", "Exit handler pods that were made without the run defaults."),
        (DefaultsGood, "gauge", "Whether the run defaults are those of their file; none: there is no file."),
        (LastEvent, "gauge", "When a watch last heard of the API server; 0: never."),
    ];

    /// <summary>What is counted at the time when it is asked for.</summary>
    public static List<(string Name, string Labels, double Value)> Gauges(
        JobCache cache, WorkQueue queue, Cluster cluster, DefaultsFile? runDefaults)
    {
        var (counts, main, exit, late, now) = (new int[(int)Phase.Failed + 1], 0, 0, 0, cluster.Now);
        cache.Visit((phase, known) =>
        {
            counts[(int)phase]++;
            if (phase.IsFinished()) return;
            if (known.Refusals > 0 && phase == Phase.ExitHandlerRunning) exit++;
            else if (known.Refusals > 0) main++;
            if (now.Reached(known.Due + TimeSpan.FromMinutes(1))) late++;
        });
        List<(string, string, double)> gauges = [(Metrics.Depth, queue.Label, queue.Depth)];
        for (var phase = Phase.Unknown; phase <= Phase.Failed; phase++)
            gauges.Add((Jobs, Metrics.Label("phase", $"{phase}"), counts[(int)phase]));
        gauges.Add((Blocked, Metrics.Label("what", "main"), main));
        gauges.Add((Blocked, Metrics.Label("what", "exit"), exit));
        gauges.Add((Overdue, "", late));
        if (runDefaults is not null) gauges.Add((DefaultsGood, "", runDefaults.IsGood ? 1 : 0));
        foreach (var reflector in cluster.Reflectors)
            gauges.Add((LastEvent, $"{Metrics.Label("resource", reflector.Resource.Plural)},"
                + Metrics.Label("watched_namespace", reflector.Namespace), reflector.LastEvent));
        return gauges;
    }
}
