// What is counted of OMJobs.

using System.Runtime.InteropServices;

namespace OMJobs;

static class JobMetrics
{
    public const string Finished = "omjob_finished_total", Duration = "omjob_run_duration_seconds",
        ExitHandlers = "omjob_exit_handlers_total", ExitHandlerLatency = "omjob_exit_handler_latency_seconds",
        DefaultsLeftOut = "omjob_run_defaults_left_out_total";
    const string Jobs = "omjob_jobs", Blocked = "omjob_blocked", Overdue = "omjob_overdue",
        DefaultsGood = "omjob_run_defaults_last_reload_successful", BuildInfo = "omjob_build_info",
        LastEvent = "omjob_watch_last_event_timestamp_seconds",
        LastSuccess = "omjob_cronomjob_last_success_timestamp_seconds";
    const int MostSchedules = 1000; // series of one name
    /// <summary>Of a run, from seconds to days.</summary>
    public static readonly double[] DurationBounds =
        [10, 30, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800, 604_800];

    public static readonly (string Name, string Type, string Help)[] All =
    [
        (Finished, "counter", "OMJobs that ended, by outcome and the reason of condition Finished."),
        (Duration, "histogram", "From a run's main pod (where there was none, its OMJob) to its end, by outcome."),
        (LastSuccess, "gauge", "When the latest run of a CronOMJob that succeeded, as far as one is known, had ended."),
        (ExitHandlers, "counter", "Attempts of exit handlers that ended."),
        (ExitHandlerLatency, "histogram", "From the main pod's end, once seen, to the exit handler pod."),
        (Jobs, "gauge", "OMJobs by phase."),
        (Blocked, "gauge", "OMJobs whose main or exit pod the API server refuses to create for now."),
        (Overdue, "gauge", "OMJobs that are a minute past a deadline by which they should have gone on."),
        (DefaultsLeftOut, "counter", "Exit handler pods that were made without the run defaults."),
        (DefaultsGood, "gauge", "Whether the run defaults are those of their file; none: there is no file."),
        (BuildInfo, "gauge", "1, with the version of the operator, its runtime and its architecture."),
        (LastEvent, "gauge", "When a watch last heard of the API server; 0: never."),
    ];

    static readonly string Build = string.Join(',',
        Metrics.Label("version", typeof(JobMetrics).Assembly.GetName().Version!.ToString(3)),
        Metrics.Label("dotnet", $"{Environment.Version}"),
        Metrics.Label("arch", $"{RuntimeInformation.ProcessArchitecture}".ToLowerInvariant()));

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
        gauges.Add((BuildInfo, Build, 1));
        foreach (var (cron, at) in cache.LastSuccesses().Take(MostSchedules))
            gauges.Add((LastSuccess,
                $"{Metrics.Label("namespace", cron.Namespace)},{Metrics.Label("cronomjob", cron.Name)}", at));
        foreach (var reflector in cluster.Reflectors)
            gauges.Add((LastEvent, $"{Metrics.Label("resource", reflector.Resource.Plural)},"
                + Metrics.Label("watched_namespace", reflector.Namespace), reflector.LastEvent));
        return gauges;
    }
}
