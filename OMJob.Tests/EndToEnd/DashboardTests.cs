// The dashboard's expressions, as Prometheus evaluates them on what an operator tells that has run something: promtool
// is in Debian's package `prometheus`.

using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class DashboardTests(TestCluster cluster) : ClusterTest(cluster)
{
    /// <summary>A panel that is empty, or that counts a state twice with two replicas, would look like a healthy
    /// one.</summary>
    [Fact]
    public async Task Each_expression_finds_its_series_and_is_right_with_two_replicas()
    {
        var metrics = await Metrics();
        var types = Regex.Matches(metrics, @"^# TYPE (\w+) (\w+)$", RegexOptions.Multiline)
            .ToDictionary(line => line.Groups[1].Value, line => line.Groups[2].Value);
        var (checks, model) = (new JsonArray(), Json.Object(TestCluster.Read("examples/grafana-dashboard.json")));
        Assert.All(model.Items("templating", "list").Skip(1), variable => Assert.Contains(
            Regex.Match(variable.Text("query", "query")!, @"^label_values\((\w+)").Groups[1].Value, types));
        foreach (var panel in model.Items("panels"))
            foreach (var target in panel.Items("targets"))
            {
                var expression = target.Text("expr")!;
                foreach (Match matcher in Regex.Matches(expression, @"(\w+)=~?""([\w|]+)"""))
                    Assert.All(matcher.Groups[2].Value.Split('|'), value =>
                        Assert.Contains($"{matcher.Groups[1].Value}=\"{value}\"", metrics));
                var used = Regex.Matches(expression, @"(\w+?)(?:_bucket)?\{").Select(name => name.Groups[1].Value);
                Assert.All(used, name => Assert.Contains(name, types));
                // Both replicas have the same state, and each has counted as many acts of its own.
                var (all, one, each) = (Of(".*"), Of("one"), target.Text("legendFormat") == "{{instance}}");
                var summed = types[used.First()] != "gauge" || panel.Text("title") == "Replicas";
                var factor = summed && !each && !expression.Contains("quantile") ? 2 : 1;
                Expect($"group({all})", "{}");
                Expect($"count({all} / {one} != {factor})");
                if (!each) Expect($"count({all} unless {one})");
                foreach (var label in Shown(panel, target))
                    Expect($"group by (found) (label_replace({all}, 'found', 'yes', '{label}', '.+'))",
                        "{found=\"yes\"}");

                string Of(string instance) =>
                    $"({expression.Replace("$instance", instance).Replace("$__rate_interval", "1m")})";
            }
        // The other as a PodMonitor has it, whose own labels come before those of the metrics.
        await Promtool.Test("15s", [.. Series(metrics, "instance=\"one\""),
            .. Series(metrics, "instance=\"other\",namespace=\"x\"", "exported_namespace=")], checks);

        void Expect(string expression, params string[] labels) => checks.Add((JsonNode)new JsonObject
        {
            ["expr"] = expression,
            ["eval_time"] = "2m",
            ["exp_samples"] = new JsonArray(
                [.. labels.Select(found => new JsonObject { ["labels"] = found, ["value"] = 1 })]),
        });
    }

    /// <summary>Of an operator with run defaults, after a good run of a schedule, a bad one and a bad exit
    /// handler.</summary>
    async Task<string> Metrics()
    {
        var defaults = Repository.File("examples/run-defaults.yaml");
        var process = await Ns.Operator("--exit-handler-retries", "0", "--run-defaults", defaults);
        JobBuilder good = new("good"), bad = new("bad", "exit 3"), unhandled = new("unhandled", exit: "exit 7");
        await Ns.Create(good, "schedule", "0 0 1 1 *");
        var cron = await Ns.Api.Get(Paths.CronOMJob(Ns.Name, "schedule"));
        good.Job["metadata"]!["ownerReferences"] = new JsonArray(new JsonObject
        {
            ["apiVersion"] = cron.Text("apiVersion"),
            ["kind"] = "CronOMJob",
            ["name"] = cron.Name(),
            ["uid"] = cron.Uid(),
            ["controller"] = true,
        });
        foreach (var job in (JobBuilder[])[good, bad, unhandled]) await Ns.Create(job);
        var metrics = "";
        await Eventually.True("all that ended is counted", async () =>
        {
            metrics = await process.Metrics();
            return ((string[])["\nomjob_cronomjob_last_success_timestamp_seconds{", "reason=\"Succeeded\"",
                "reason=\"ExitCode\"", "reason=\"ExitHandlerExitCode\""]).All(metrics.Contains);
        });
        return metrics;
    }

    /// <summary>Of one replica, with the labels of a scrape; what the values are does not matter, but that they grow.
    /// </summary>
    static IEnumerable<JsonNode> Series(string metrics, string scrape, string? own = null) =>
        from line in metrics.Split('\n')
        where line.Length > 0 && line[0] != '#'
        let series = Regex.Replace(line[..line.LastIndexOf(' ')].TrimEnd('}'), @"\bnamespace=", own ?? "namespace=")
        select new JsonObject
        {
            ["series"] = $"{series}{(series.Contains('{') ? "," : "{")}{scrape}}}",
            ["values"] = "1+1x8",
        };

    /// <summary>The labels that the legend or the table's columns name.</summary>
    static IEnumerable<string> Shown(JsonObject panel, JsonObject target) =>
        Regex.Matches(target.Text("legendFormat") ?? "", @"\{\{(\w+)\}\}").Select(label => label.Groups[1].Value)
            .Concat(panel.Items("transformations").SelectMany(t => (JsonObject)t.At("options", "renameByName")!)
                .Select(column => column.Key).Where(column => column != "Value"));
}
