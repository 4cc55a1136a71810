// The operator as a process: which namespaces it watches, its ports, its end, and two of it at once.

using System.Net;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class ProcessTests(Cluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task It_watches_every_namespace_that_it_is_given_and_no_other()
    {
        await using var second = await Cluster.NewNamespace();
        await using var other = await Cluster.NewNamespace();
        await Ns.Operator("--namespace", second.Name);
        TestNamespace[] all = [Ns, second, other];
        var jobs = all.Select(ns => (Namespace: ns, Job: new JobBuilder("job"))).ToList();
        foreach (var (ns, job) in jobs) await ns.Create(job);
        foreach (var (ns, job) in jobs[..2]) await ns.Ends(job, "Succeeded");
        Assert.Empty((await Ns.Api.Get(Paths.OMJob(other.Name, "job"))).Finalizers());
    }

    [Fact]
    public async Task It_answers_on_its_ports_and_ends_on_SIGTERM()
    {
        var process = await Ns.Operator();
        var job = new JobBuilder("job", "sleep 600");
        await Ns.Create(job);
        await Ns.Phase(job, "Running");
        Assert.Equal(HttpStatusCode.OK, await process.Health("health"));
        Assert.Equal(HttpStatusCode.OK, await process.Health("ready"));
        Assert.Equal(HttpStatusCode.OK, await process.Health("metrics"));
        Assert.Contains("# TYPE ", await process.Metrics());
        await process.Stop();
    }

    [Fact]
    public async Task In_JSON_each_line_about_an_OMJob_has_its_name_namespace_UID_and_phase_and_no_env_value()
    {
        var process = await Ns.Operator("--log-format", "json");
        var job = new JobBuilder("logged").With("mainPodSpec.env", """[{"name": "config", "value": "s3cret"}]""");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
        await Eventually.True("the end is logged", () => process.Log.Contains("\"To\":\"Succeeded\""));
        var lines = process.Log.Split('\n').Where(l => l.Contains($"{Ns.Name}/logged: ")).ToList();
        var phases = lines.Select(line =>
        {
            var fields = Json.Object(line).Items("Scopes").Single();
            Assert.Equal(("logged", Ns.Name), (fields.Text("omjob"), fields.Text("namespace")));
            Assert.Equal(job.Uid, fields.Text("uid"));
            return fields.Text("phase");
        });
        Assert.Equal(["Pending", "Running", "ExitHandlerRunning"], phases.Distinct());
        Assert.DoesNotContain("s3cret", process.Log);
    }

    [Fact]
    public async Task F6_uninstalled_it_lets_go_of_every_object()
    {
        var process = await Ns.Operator();
        var job = new JobBuilder("left", "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("left-main", "Running");
        await Ns.Phase(job, "Running");
        await process.Stop();
        await Ns.Release();
        Assert.Empty((await Ns.Api.Get(Paths.OMJob(Ns.Name, "left"))).Finalizers());
        Assert.Empty((await Ns.Api.Get(Paths.Pod(Ns.Name, "left-main"))).Finalizers());
    }

    [Fact]
    public async Task G12_two_at_once_still_make_one_main_pod_and_one_exit_pod()
    {
        await Task.WhenAll(Ns.Operator(), Ns.Operator());
        var good = Enumerable.Range(1, 4).Select(i => new JobBuilder($"good-{i}")).ToList();
        var bad = Enumerable.Range(1, 4).Select(i => new JobBuilder($"bad-{i}", "exit 1")).ToList();
        await Task.WhenAll(good.Concat(bad).Select(Ns.Create));
        foreach (var job in good) await Ns.Ends(job, "Succeeded");
        foreach (var job in bad) await Ns.Ends(job, "Failed");
    }
}
