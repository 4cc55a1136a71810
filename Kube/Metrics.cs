// Metrics.

using System.Globalization;
using System.Text;

namespace OMJobs;

/// <summary>Series for /metrics: a controller's own, then those that client-go and controller-runtime have.</summary>
sealed class Metrics(params (string Name, string Type, string Help)[] own)
{
    public const string Reconciles = "controller_runtime_reconcile_total",
        Errors = "controller_runtime_reconcile_errors_total",
        ReconcileTime = "controller_runtime_reconcile_time_seconds", Depth = "workqueue_depth",
        Adds = "workqueue_adds_total", Retries = "workqueue_retries_total",
        QueueTime = "workqueue_queue_duration_seconds", WorkTime = "workqueue_work_duration_seconds",
        Requests = "rest_client_requests_total";

    /// <summary>Those that every controller has.</summary>
    static readonly (string Name, string Type, string Help)[] Common =
    [
        (Reconciles, "counter", "Keys reconciled, by result."),
        (Errors, "counter", "Reconciles that are tried again after an error."),
        (ReconcileTime, "histogram", "How long a reconcile took, its requests included."),
        (Depth, "gauge", "Keys waiting for a worker."),
        (Adds, "counter", "Keys that were put into the queue."),
        (Retries, "counter", "Keys that were put into the queue after an error."),
        (QueueTime, "histogram", "How long a key waited for a worker."),
        (WorkTime, "histogram", "How long a worker had a key."),
        (Requests, "counter", "Requests to the API server, by method and status code."),
    ];
    static readonly double[] Bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

    readonly (string Name, string Type, string Help)[] families = [.. own, .. Common, .. ProcessMetrics.All];
    readonly Lock gate = new();
    readonly SortedDictionary<(string Name, string Labels), double> values = [];
    readonly SortedDictionary<(string Name, string Labels), (double[] Bounds, long[] Counts, double Sum)> histograms =
        [];

    public static string Label(string name, string value) => $"{name}=\"{value}\"";

    public void Count(string name, string labels)
    {
        lock (gate) values[(name, labels)] = values.GetValueOrDefault((name, labels)) + 1;
    }

    /// <summary>Bounds: in seconds; null: those of requests.</summary>
    public void Observe(string name, string labels, TimeSpan took, double[]? bounds = null)
    {
        bounds ??= Bounds;
        lock (gate)
        {
            var (_, counts, sum) = histograms.TryGetValue((name, labels), out var known) ? known
                : (bounds, new long[bounds.Length + 1], 0);
            var at = Array.FindIndex(bounds, bound => took.TotalSeconds <= bound);
            counts[at < 0 ? bounds.Length : at]++;
            histograms[(name, labels)] = (bounds, counts, sum + Math.Max(0, took.TotalSeconds));
        }
    }

    /// <summary>Prometheus text. The gauges are counted when they are asked for.</summary>
    public string Render(IEnumerable<(string Name, string Labels, double Value)> gauges)
    {
        var text = new StringBuilder();
        void Line(string name, string labels, double value) => text.Append(CultureInfo.InvariantCulture,
            $"{name}{(labels.Length == 0 ? "" : $"{{{labels}}}")} {value}\n");
        lock (gate)
        {
            var all = gauges.Concat(ProcessMetrics.Now())
                .Concat(values.Select(v => (v.Key.Name, v.Key.Labels, v.Value)))
                .ToLookup(v => v.Name, v => (v.Labels, v.Value));
            foreach (var (name, type, help) in families)
            {
                text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {type}\n");
                foreach (var (labels, value) in all[name]) Line(name, labels, value);
                foreach (var (key, (bounds, counts, sum)) in histograms.Where(h => h.Key.Name == name))
                {
                    var (labels, below) = (key.Labels.Length == 0 ? "" : key.Labels + ",", 0L);
                    for (var i = 0; i < counts.Length; i++)
                    {
                        var bound = i == bounds.Length ? "+Inf" : bounds[i].ToString(CultureInfo.InvariantCulture);
                        Line(name + "_bucket", labels + Label("le", bound), below += counts[i]);
                    }
                    Line(name + "_sum", key.Labels, sum);
                    Line(name + "_count", key.Labels, below);
                }
            }
        }
        return text.ToString();
    }
}
