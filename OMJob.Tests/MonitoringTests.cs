// The alerts of examples/monitoring.yaml, as Prometheus evaluates them: promtool is in Debian's package `prometheus`.
// The dashboard, as far as Grafana minds; its expressions are tested in EndToEnd/DashboardTests.cs.

using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;

public sealed class MonitoringTests
{
    const string Blocked = "OMJobExitHandlerBlocked", Silent = "OMJobWatchSilent", Late = "OMJobPastDeadline",
        BadDefaults = "OMJobRunDefaultsBad";

    /// <summary>Each alert with a series of half an hour, a value a minute, and the minute it fires from.</summary>
    public static TheoryData<string, string, string, int?> Series => new()
    {
        { Blocked, "omjob_blocked{what=\"exit\"}", "0x4 2x26", 10 },
        { Blocked, "omjob_blocked{what=\"exit\"}", "0x4 1x3 0x4 1x3 0x15", null }, // each time it was over soon
        { Blocked, "omjob_blocked{what=\"main\"}", "3x30", null }, // nobody waits for a report yet
        { Silent, "omjob_watch_last_event_timestamp_seconds{resource=\"pods\"}", "0+60x4 240x26", 12 },
        { Silent, "omjob_watch_last_event_timestamp_seconds{resource=\"pods\"}", "0+60x30", null },
        { Silent, "omjob_watch_last_event_timestamp_seconds{resource=\"pods\"}", "60x4 240x4 480x4 720+60x17", null },
        { Silent, "omjob_watch_last_event_timestamp_seconds{resource=\"cronomjobs\"}", "0x30", null }, // no such CRD
        { Late, "omjob_overdue", "0x4 1x26", 10 },
        { Late, "omjob_overdue", "0x4 1x3 0x23", null },
        { BadDefaults, "omjob_run_defaults_last_reload_successful", "1x4 0x26", 10 },
        { BadDefaults, "omjob_run_defaults_last_reload_successful", "1x30", null },
        { BadDefaults, "omjob_overdue", "0x30", null }, // there are none
    };

    [Theory, MemberData(nameof(Series))]
    public async Task The_alert_fires_when_it_must_and_not_before(
        string alert, string series, string values, int? minute)
    {
        var checks = new JsonArray();
        foreach (var (at, fires) in (IEnumerable<(int, bool)>)[(29, minute is not null),
            .. minute is { } first ? [(first - 1, false), (first, true)] : ((int, bool)[])[]])
            checks.Add((JsonNode)new JsonObject
            {
                ["expr"] = $"count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})",
                ["eval_time"] = $"{at}m",
                ["exp_samples"] = fires ? new JsonArray(new JsonObject { ["labels"] = "{}", ["value"] = 1 }) : [],
            });
        var input = new JsonObject { ["series"] = series, ["values"] = values };
        await Promtool.Test("1m", [input], checks, Rules());
    }

    [Fact]
    public void Each_alert_leads_to_its_runbook()
    {
        const string document = "docs/operations.md",
            address = $"https://github.com/omjob-operator/omjob-operator/blob/main/{document}#";
        var alerts = Rules().Items("groups").SelectMany(group => group.Items("rules")).ToArray();
        foreach (var alert in alerts)
        {
            var name = alert.Text("alert")!;
            Assert.Equal(address + name.ToLowerInvariant(), alert.Text("annotations", "runbook_url"));
            Assert.Contains($"\n### {name}\n", File.ReadAllText(Repository.File(document)), StringComparison.Ordinal);
        }
        Assert.Equal([Blocked, Silent, Late, BadDefaults], alerts.Select(alert => alert.Text("alert")));
    }

    /// <summary>What Grafana demands, and what it would take in silence and then not show.</summary>
    [Fact]
    public void The_dashboard_is_one_that_Grafana_can_import()
    {
        var text = File.ReadAllText(Repository.File("examples/grafana-dashboard.json"));
        var model = Sandbox.Json.Object(text);
        Assert.Equal("omjob-operator", model.Text("uid"));
        Assert.False(model.ContainsKey("id"), "the id is that of one installation");
        Assert.True(model.Long("schemaVersion") >= 39);
        var panels = model.Items("panels").ToList();
        Assert.Distinct(panels.Select(p => p.Long("id")!.Value));
        Assert.Distinct(panels.Select(p => p.Text("title")!));
        Assert.Distinct(panels.SelectMany(p => Cells(p["gridPos"]!)));
        var shown = panels.Where(p => p.Text("type") != "row").ToList();
        var variables = model.Items("templating", "list").ToList();
        foreach (var panel in shown)
        {
            Assert.Contains(panel.Text("type"), (string[])["stat", "timeseries", "heatmap", "table"]);
            Assert.NotEmpty(panel.Text("description")!);
            Assert.NotNull(panel.Text("fieldConfig", "defaults", "unit") ?? panel.Text("options", "yAxis", "unit"));
            Assert.NotEmpty(panel.Items("targets"));
            Assert.Distinct(panel.Items("targets").Select(t => t.Text("refId")!));
        }
        Assert.All(shown.Concat(shown.SelectMany(p => p.Items("targets"))).Concat(variables.Skip(1)), asked =>
            Assert.Equal(("prometheus", "${datasource}"),
                (asked.Text("datasource", "type"), asked.Text("datasource", "uid"))));
        Assert.Equal(variables.Select(v => v.Text("name")).Order(),
            Regex.Matches(text, @"\$\{?(?!__|\d)(\w+)").Select(v => v.Groups[1].Value).Distinct().Order());

        static IEnumerable<(long, long)> Cells(JsonNode at)
        {
            var (x, y, w, h) = (at.Long("x")!.Value, at.Long("y")!.Value, at.Long("w")!.Value, at.Long("h")!.Value);
            Assert.True(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= 24, $"{at}");
            for (var i = x; i < x + w; i++)
                for (var j = y; j < y + h; j++) yield return (i, j);
        }
    }

    /// <summary>docs/dashboard.svg is drawn by hand only: this is where a panel shows that it cannot draw.</summary>
    [Fact]
    public async Task Each_panel_of_the_dashboard_can_be_drawn()
    {
        var model = Sandbox.Json.Object(File.ReadAllText(Repository.File("examples/grafana-dashboard.json")));
        var labels = Sandbox.Json.Object(
            """{"le": "0.5", "namespace": "data", "cronomjob": "a & b", "outcome": "failed", "reason": "Lost"}""");
        double[] values = [double.NaN, 0.001, 7, double.NaN, 1];
        var drawn = await Drawing.Draw(model, TimeSpan.FromMinutes(1), panel => Task.FromResult<List<Series>>(
            [.. panel.Items("targets").Select(t => new Series(t.Text("legendFormat") ?? "", labels, values))]));
        var said = XDocument.Parse(drawn).Descendants().Select(element => element.Value).ToHashSet();
        Assert.ProperSuperset(model.Items("panels").Select(panel => panel.Text("title")!).ToHashSet(), said);
        Assert.Contains("a & b", said);
    }

    /// <summary>What the PrometheusRule gives to Prometheus.</summary>
    static JsonNode Rules() => Sandbox.Json.Yaml(File.ReadAllText(Repository.File("examples/monitoring.yaml")))
        .Single(d => (string?)d["kind"] == "PrometheusRule")["spec"]!;
}

/// <summary>Prometheus' own judge of metrics and rules; the test is skipped where it is not installed.</summary>
static class Promtool
{
    public static async Task Run(string input, params string[] arguments)
    {
        var (code, said, complained) = await Tool.Run("promtool", arguments, input);
        Assert.True(code == 0, said + complained);
    }

    /// <summary>Evaluates checks on series that have a value each interval, with rules where there are any.</summary>
    public static async Task Test(string interval, JsonArray series, JsonArray checks, JsonNode? rules = null)
    {
        var folder = Directory.CreateTempSubdirectory("omjob-promtool-");
        async Task<string> Write(string name, JsonNode json)
        {
            var file = Path.Combine(folder.FullName, name);
            await File.WriteAllTextAsync(file, json.ToJsonString(), TestContext.Current.CancellationToken);
            return file;
        }
        try
        {
            var test = new JsonObject
            {
                ["evaluation_interval"] = "1m",
                ["tests"] = new JsonArray(new JsonObject
                {
                    ["interval"] = interval, ["input_series"] = series, ["promql_expr_test"] = checks,
                }),
            };
            if (rules is not null)
            {
                var file = await Write("rules.json", rules);
                await Run("", "check", "rules", file);
                test["rule_files"] = new JsonArray(file);
            }
            await Run("", "test", "rules", await Write("test.json", test));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}
