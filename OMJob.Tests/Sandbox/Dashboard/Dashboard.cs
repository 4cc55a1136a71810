// The subcommand `dashboard`: runs a mix of OMJobs on the sandbox, lets Prometheus scrape the operator, and draws
// examples/grafana-dashboard.json with what Prometheus answers to each panel's expressions.

using System.CommandLine;
using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

static class Dashboard
{
    const string Ns = "default";

    public static Command Command()
    {
        Option<string> Text(string name, string value, string help, string fallback) =>
            new(name) { HelpName = value, Description = help, DefaultValueFactory = _ => fallback };
        Option<int> Count(string name, int fallback, string help) =>
            new(name) { HelpName = "N", Description = help, DefaultValueFactory = _ => fallback };
        var binary = Text("--operator", "PATH", "operator binary", Repository.Operator);
        var prometheus = Text("--prometheus", "PATH", "Prometheus' server; Debian's package prometheus", "prometheus");
        var output = Text("--output", "FILE", "the picture", Repository.File("docs/dashboard.svg"));
        var minutes = Count("--minutes", 6, "how long the runs go on that it shows");
        var replicas = Count("--replicas", 1, "operators");
        var command = new Command("dashboard", "Draws the Grafana dashboard with what an operator tells, as SVG.")
        {
            binary, prometheus, output, minutes, replicas,
        };
        command.SetAction(async parsed =>
        {
            using var stop = new CancellationTokenSource();
            using var signals = new StopSignals(stop);
            try
            {
                return await Run(parsed.GetValue(binary)!, parsed.GetValue(prometheus)!, parsed.GetValue(output)!,
                    TimeSpan.FromMinutes(parsed.GetValue(minutes)), parsed.GetValue(replicas), stop.Token);
            }
            catch (FileNotFoundException e) { return TryIt.Complain(e.Message); }
            catch (OperationCanceledException) { return 130; }
        });
        return command;
    }

    static async Task<int> Run(
        string binary, string prometheus, string output, TimeSpan time, int replicas, CancellationToken stop)
    {
        if (!File.Exists(binary)) throw new FileNotFoundException($"{binary}: no such file");
        var model = Json.Object(await File.ReadAllTextAsync(Repository.File("examples/grafana-dashboard.json"), stop));
        await using var cluster = await LocalCluster.Start();
        await cluster.Api.Apply(Json.Yaml(await File.ReadAllTextAsync(Repository.File("crd.yaml"), stop)));
        string[] defaults = ["--run-defaults", Repository.File("examples/run-defaults.yaml")];
        await using var operators = new Operators(await Task.WhenAll(
            Enumerable.Range(0, replicas).Select(_ => BenchOperator.Start(binary, cluster.Kubeconfig, Ns, defaults))));
        await using var server = await Prometheus.Start(prometheus, operators.Ports, stop);
        await Load(cluster.Api, time, stop);
        var (now, empty) = (DateTimeOffset.UtcNow.ToUnixTimeSeconds(), new List<string>());
        var drawing = await Drawing.Draw(model, time, async panel =>
        {
            var all = await server.Ask(panel, now - (long)time.TotalSeconds, now);
            if (!all.Any(one => one.Values.Any(double.IsFinite))) empty.Add(panel.Text("title")!);
            return all;
        });
        if (empty.Count > 0) return TryIt.Complain($"no data: {string.Join(", ", empty)}", 1);
        await File.WriteAllTextAsync(output, drawing, stop);
        return 0;
    }

    /// <summary>Most runs are good, each way to fail is there, and for a while no pod is admitted. What is shown begins
    /// when they are under way.</summary>
    static async Task Load(SandboxClient api, TimeSpan time, CancellationToken stop)
    {
        var (clock, random, quotas) = (Stopwatch.StartNew(), new Random(1), Paths.Core(Ns, "resourcequotas"));
        for (var minutes = 1; minutes <= 3; minutes++)
            await api.Apply(Job("CronOMJob", $"every-{minutes}-min", $$"""
                {schedule: '*/{{minutes}} * * * *', omJobSpec: {{Spec("sleep 8")}} }
                """));
        var none = Json.Yaml("{metadata: {name: none}, spec: {hard: {pods: 0} } }").Single();
        for (var (n, blocked) = (0, false); clock.Elapsed < time + TimeSpan.FromSeconds(40); n++)
        {
            await api.Apply(Job("OMJob", $"run-{n}", Any(random)));
            var block = clock.Elapsed / time is > 0.6 and < 0.67;
            if (block && !blocked) await api.Create(quotas, none);
            if (!block && blocked) await api.Delete($"{quotas}/none");
            blocked = block;
            await Task.Delay(random.Next(500, 2000), stop);
        }
    }

    static string Any(Random random) => random.Next(40) switch
    {
        < 5 => Spec($"sleep {random.Next(2, 20)}; exit 3"),
        < 8 => Spec("sleep 60", annotations: "{kubelet/exit: 137 OOMKilled}"),
        < 9 => Spec("sleep 60", annotations: "{kubelet/fail: Evicted the node was low on memory}"),
        < 10 => Spec("sleep 60", more: "activeDeadlineSeconds: 20,"),
        < 12 => Spec("sleep 5", exit: "exit 7", more: "exitHandlerBackoffLimit: 1,"),
        < 15 => Spec($"sleep {random.Next(60, 120)}"),
        _ => Spec($"sleep {random.Next(2, 30)}"),
    };

    static string Spec(string main, string exit = "sleep 1", string annotations = "{}", string more = "") => $$"""
        {{{more}} mainPodSpec:
          {image: none, serviceAccountName: default, command: [sh, -c, {{main}}], annotations: {{annotations}} },
         exitHandlerSpec: {image: none, serviceAccountName: default, command: [sh, -c, {{exit}}] } }
        """;

    static List<JsonObject> Job(string kind, string name, string spec) => Json.Yaml($$"""
        {apiVersion: pipelines.openmetadata.org/v1, kind: {{kind}}, metadata: {name: {{name}} }, spec: {{spec}} }
        """);
}

/// <summary>What Prometheus answers to one expression: a value for each time, NaN where there is none.</summary>
sealed record Series(string Name, JsonObject Labels, double[] Values)
{
    public double Last => Values.LastOrDefault(double.IsFinite);

    public static double Number(string text) =>
        text is "+Inf" ? double.PositiveInfinity : double.Parse(text, CultureInfo.InvariantCulture);
}

/// <summary>Prometheus' server on loopback, with its data in a temporary folder.</summary>
sealed class Prometheus : IAsyncDisposable
{
    /// <summary>Seconds; what Grafana would make of $__rate_interval, and the step of a heatmap.</summary>
    public const int RateInterval = 20;
    readonly DirectoryInfo folder = Directory.CreateTempSubdirectory("omjob-prometheus-");
    readonly Uri address = new($"http://127.0.0.1:{Port.Free()}");
    readonly HttpClient http = new();
    readonly Process process;

    Prometheus(string program, IEnumerable<int> targets)
    {
        var config = Path.Combine(folder.FullName, "prometheus.yml");
        File.WriteAllText(config, $$"""
            global: {scrape_interval: 1s}
            scrape_configs:
              - job_name: omjob-operator
                static_configs: [{{string.Join(", ", targets.Select((target, n) =>
                    $$"""{targets: ['127.0.0.1:{{target}}'], labels: {instance: operator-{{n}}} }"""))}}]
            """);
        try
        {
            process = Process.Start(new ProcessStartInfo(program, [$"--config.file={config}", "--log.level=error",
                $"--storage.tsdb.path={folder.FullName}", $"--web.listen-address={address.Authority}"]))!;
        }
        catch (Win32Exception)
        {
            folder.Delete(true);
            throw new FileNotFoundException($"{program}: no such program; Debian's package prometheus has it");
        }
    }

    /// <summary>Returns once it answers.</summary>
    public static async Task<Prometheus> Start(string program, IEnumerable<int> targets, CancellationToken stop)
    {
        var started = new Prometheus(program, targets);
        while (!await BenchOperator.Answers(started.process, new(started.address, "/-/ready")))
            await Task.Delay(100, stop);
        return started;
    }

    /// <summary>What a panel shows, with Grafana's variables replaced.</summary>
    public async Task<List<Series>> Ask(JsonObject panel, long start, long end)
    {
        var all = new List<Series>();
        var step = panel.Text("type") == "heatmap" ? RateInterval : Math.Max(1, (end - start) / 150);
        foreach (var target in panel.Items("targets"))
        {
            var first = target.IsTrue("instant") ? end : start;
            var expression = target.Text("expr")!.Replace("$instance", ".*", StringComparison.Ordinal)
                .Replace("$__rate_interval", $"{RateInterval}s", StringComparison.Ordinal);
            using var form = new FormUrlEncodedContent(new Dictionary<string, string>
            { ["query"] = expression, ["start"] = $"{first}", ["end"] = $"{end}", ["step"] = $"{step}" });
            using var reply = await http.PostAsync(new Uri(address, "/api/v1/query_range"), form);
            var answer = Json.Object(await reply.Content.ReadAsStringAsync());
            if (!reply.IsSuccessStatusCode) throw new InvalidOperationException($"{expression}: {answer}");
            foreach (var result in answer.Items("data", "result"))
            {
                var (labels, values) = ((JsonObject)result["metric"]!, new double[(end - first) / step + 1]);
                Array.Fill(values, double.NaN);
                foreach (var value in (JsonArray)result["values"]!)
                    values[((long)value![0]! - first) / step] = Series.Number(value[1].Text()!);
                var name = Regex.Replace(target.Text("legendFormat") ?? "", @"\{\{(\w+)\}\}",
                    label => labels.Text(label.Groups[1].Value) ?? "");
                all.Add(new(name, labels, values));
            }
        }
        return all;
    }

    public async ValueTask DisposeAsync()
    {
        Posix.Signal(process.Id, Posix.SigTerm);
        await process.WaitForExitAsync();
        process.Dispose();
        http.Dispose();
        folder.Delete(true);
    }
}
