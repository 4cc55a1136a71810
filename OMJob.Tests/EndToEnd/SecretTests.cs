// The env of a run holds credentials, `config` above all: the pods get them, and nobody else does, whatever happens.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class SecretTests(TestCluster cluster) : ClusterTest(cluster)
{
    const string Mark = "s3cret-0f-th1s-run";
    const string Env = $$"""[{"name": "config", "value": "{\"password\": \"{{Mark}}\"}"}]""";

    [Theory]
    [InlineData("trace", "text")]
    [InlineData("debug", "json")]
    public async Task No_log_line_event_status_or_metric_holds_a_value_of_the_env(string level, string format)
    {
        if (format == "json") Tier.Full("it waits for a minute");
        var process = await Ns.Operator("--log-level", level, "--log-format", format);
        JobBuilder good = Marked("good"), bad = Marked("bad", "exit 3"), killed = Marked("killed", "sleep 600"),
            refused = Marked("refused"), unreadable = Marked("unreadable");
        refused.With("mainPodSpec.env",
            Env.Replace("]", $$""", {"name": "no=name", "value": "{{Mark}}"}]""", StringComparison.Ordinal));
        unreadable.With("exitHandlerSpec.securityContext", """{"runAsUser": "not a number"}""");
        foreach (var job in (JobBuilder[])[good, bad, killed, refused, unreadable]) await Ns.Create(job);
        await Ns.PodPhase("killed-main", "Running");
        await Ns.Phase(killed, "Running");
        await Ns.Delete(killed);
        await Ns.Ends(good, "Succeeded");
        await Ns.Ends(bad, "Failed");
        if (Tier.IsFull) await Ns.Ends(refused, "Failed", mains: 0, seconds: 240); // after a minute
        else await Ns.Message(refused, "blocked");
        await Ns.Ends(unreadable, "Failed", attempts: 0);
        await Ns.Gone(killed);
        await Ns.Event(bad, "of the end", e => e.Text("action") == "OMJobFailed");
        await Ns.Event(unreadable, "of the end", e => e.Text("action") == "OMJobFailed");
        var metrics = await process.Metrics();
        await process.Stop();

        var pods = Ns.History.Where(c => c.Object.Text("kind") == "Pod").ToList();
        foreach (var name in (string[])["good-main", "good-exit", "bad-exit", "killed-exit",
            .. Tier.IsFull ? (string[])["refused-exit"] : []])
            Assert.Contains(Mark, pods.First(c => c.Object.Name() == name).Object["spec"]!.ToJsonString());
        var statuses = Ns.History.Where(c => c.Object.Text("kind") == "OMJob").Select(c => c.Object["status"]);
        var events = await Ns.Api.List(Paths.Core(Ns.Name, "events"));
        Assert.Contains("unreadable", process.Log);
        foreach (var (what, text) in (IEnumerable<(string, string)>)[("the log", process.Log), ("metrics", metrics),
            .. statuses.Select(s => ("a status", s?.ToJsonString() ?? "")),
            .. events.Select(e => ("an event", e.ToJsonString()))])
            Assert.False(text.Contains(Mark, StringComparison.Ordinal), $"{what}: {text}");
    }

    static JobBuilder Marked(string name, string main = "true") =>
        new JobBuilder(name, main, "true").With("mainPodSpec.env", Env).With("exitHandlerSpec.env", Env)
            .With("mainPodSpec.terminationGracePeriodSeconds", "1");
}
