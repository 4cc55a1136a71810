// `bench --versus jobs`: the same pods run in three ways, in turn, each in a cluster without what the others have left.

using System.Globalization;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

sealed partial class Bench
{
    /// <summary>A way to run a main pod and then an exit pod: by a name.</summary>
    sealed record Peer(string Name, Func<string, Task> Run)
    {
        public List<Cost> Costs { get; } = []; // by round
    }

    /// <summary>Rate: runs a second. Server, Operator: milliseconds of processor time a run.</summary>
    sealed record Cost(double Rate, double Server, double Operator);

    async Task Versus()
    {
        await using var ops = await StartAll();
        var name = $"{ns}-template";
        await RunOMJob(name);
        var main = Plain(await api.Get(Paths.Pod(ns, $"{name}-main")));
        var exit = Plain(await api.Get(Paths.Pod(ns, $"{name}-exit")));
        var floor = new Peer("the pods alone", async job =>
        {
            await api.Create(Paths.OMJobs(bare), Shape(job, 86400));
            await Finished(Paths.Pods(bare), Named($"{job}-main", main));
            await Finished(Paths.Pods(bare), Named($"{job}-exit", exit));
        });
        var ours = new Peer("OMJob", RunOMJob);
        var theirs = new Peer("two Jobs", async job =>
        {
            await Finished(BatchJobs, BatchJob($"{job}-main", main));
            await Finished(BatchJobs, BatchJob($"{job}-exit", exit));
        });
        Peer[] peers = [floor, ours, theirs];
        foreach (var peer in peers) await RunAll(20, 20, peer.Run); // compiled, connected, allocated
        Table($"{settings.Jobs} at once", "runs/s", "API server, ms of CPU a run",
            $"operator{(ops.Count == 1 ? "" : "s")}, ms of CPU a run", "Load");
        for (var round = 0; round < settings.Rounds; round++)
            for (var i = 0; i < peers.Length; i++)
            {
                var peer = peers[(i + round) % peers.Length];
                var cost = await Measure(peer, ops);
                peer.Costs.Add(cost);
                Row($"{round + 1}: {peer.Name}", $"{cost.Rate:0.0}", $"{cost.Server:0.0}",
                    Own(peer, _ => cost.Operator), Load);
            }
        Table("median, and of the ratios in each round", "runs/s", "API server", "operator", "runs/s, of Jobs'",
            "API server, of Jobs'", "of the pods'");
        foreach (var peer in peers)
            Row(peer.Name, $"{Median(peer, c => c.Rate):0.0}", $"{Median(peer, c => c.Server):0.0}",
                Own(peer, c => c.Operator), $"{Ratio(peer, theirs, c => c.Rate):0.00}",
                $"{Ratio(peer, theirs, c => c.Server):0.00}", $"{Ratio(peer, floor, c => c.Server):0.00}");
        if (settings.Chart is { } chart)
            await File.WriteAllTextAsync(chart, BarChart.Draw(
                $"{await Version()}, {settings.Jobs} runs at once, median of {settings.Rounds} rounds",
                ("API server, ms of CPU a run", [.. peers.Select(p => (p.Name, Median(p, c => c.Server)))]),
                ("runs a second", [.. peers.Select(p => (p.Name, Median(p, c => c.Rate)))])));

        // What others use beside the API server is not measured: the Jobs' controller, say.
        string Own(Peer peer, Func<Cost, double> of) => peer == ours ? $"{Median(peer, of):0.00}" : "";
    }

    async Task<Cost> Measure(Peer peer, Operators ops)
    {
        await Clear();
        var (server, cpu) = (await ServerCpu(), ops.Cpu);
        var took = await RunAll(settings.Jobs, settings.Jobs, peer.Run);
        await Finalized();
        await Task.Delay(TimeSpan.FromSeconds(2), stop.Token); // the last events and finalizers
        return new(settings.Jobs / took, 1000 * (await ServerCpu() - server) / settings.Jobs,
            1000 * (ops.Cpu - cpu) / settings.Jobs);
    }

    /// <summary>What others have left would be carried by whoever comes next: also the work of its collection.</summary>
    async Task Clear()
    {
        string[] collections = [Paths.OMJobs(ns), Paths.OMJobs(bare), BatchJobs, Paths.Pods(ns), Paths.Pods(bare)];
        foreach (var collection in collections)
            while ((await api.List($"{collection}?limit=1")).Count > 0)
                await api.Delete(collection, "Background");
        for (double before = 0, now = await ServerCpu(); now - before > 0.2; (before, now) = (now, await ServerCpu()))
            await Task.Delay(TimeSpan.FromSeconds(1), stop.Token);
    }

    static double Median(Peer peer, Func<Cost, double> of) => Median(peer.Costs.Select(of));

    static double Ratio(Peer peer, Peer to, Func<Cost, double> of) =>
        Median(peer.Costs.Zip(to.Costs, (one, other) => of(one) / of(other)));

    static double Median(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return (sorted[(sorted.Length - 1) / 2] + sorted[sorted.Length / 2]) / 2;
    }

    /// <summary>Seconds, of the one API server that answers.</summary>
    async Task<double> ServerCpu()
    {
        const string name = "process_cpu_seconds_total ";
        var line = (await api.GetText("/metrics")).Split('\n').Single(l => l.StartsWith(name, StringComparison.Ordinal));
        return double.Parse(line[name.Length..], CultureInfo.InvariantCulture);
    }

    string BatchJobs => $"/apis/batch/v1/namespaces/{ns}/jobs";

    static bool IsComplete(JsonObject job) => job.Items("status", "conditions").Any(c => c.Text("type") == "Complete");

    static bool IsOver(JsonObject pod) => pod.Text("status", "phase") is "Succeeded" or "Failed";

    /// <summary>A pod as it was asked for: without what the API server has added, and what makes the operator look at it.</summary>
    static JsonObject Plain(JsonObject pod)
    {
        var spec = pod.Child("spec").Clone();
        foreach (var added in (string[])["nodeName", "tolerations", "volumes"]) spec.Remove(added);
        foreach (var container in spec.Items("containers")) container.Remove("volumeMounts");
        var labels = pod.Child("metadata").Child("labels").Clone();
        foreach (var own in labels.Select(l => l.Key).Where(IsOperators).ToArray()) labels.Remove(own);
        return new() { ["metadata"] = new JsonObject { ["labels"] = labels }, ["spec"] = spec };

        static bool IsOperators(string label) => label.StartsWith("omjob.pipelines", StringComparison.Ordinal);
    }

    static JsonObject Named(string name, JsonObject pod)
    {
        var named = pod.Clone();
        named["metadata"]!["name"] = name;
        return named;
    }

    static JsonObject BatchJob(string name, JsonObject pod) => new()
    {
        ["metadata"] = new JsonObject { ["name"] = name },
        ["spec"] = new JsonObject { ["backoffLimit"] = 0, ["template"] = pod.Clone() },
    };
}
