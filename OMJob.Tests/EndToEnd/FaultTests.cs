// The operator between a cluster and its faults: killed at any write, an API server that answers badly or not at all.

using System.Collections.Concurrent;
using System.Net;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

/// <summary>One run for each write that the operator makes: there it is killed and started again.</summary>
public abstract class KillTests(TestCluster cluster) : ClusterTest(cluster)
{
    private protected abstract bool Before { get; }

    [Fact]
    public Task A_run_loses_and_repeats_nothing() => KillAtEveryWrite(async job =>
    {
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
    });

    [Fact]
    public Task A_run_that_is_deleted_loses_and_repeats_nothing() => KillAtEveryWrite(async job =>
    {
        job.With("mainPodSpec.command", """["sleep", "600"]""");
        await Ns.Create(job);
        await Ns.PodPhase($"{job.Name}-main", "Running");
        await Ns.Phase(job, "Running");
        await Ns.Delete(job);
        await Ns.Ends(job, "Failed");
        await Ns.Gone(job);
    });

    async Task KillAtEveryWrite(Func<JobBuilder, Task> scenario)
    {
        var (name, writes, last) = ("", 0, 0);
        using var proxy = new FaultProxy(TestCluster.Api);
        var running = Ns.Operator(proxy);
        await running;
        proxy.Fault = async (request, forward) =>
        {
            if (!await IsWriteFor(name, request) || Interlocked.Increment(ref writes) != last) return await forward();
            if (!Before) (await forward()).Dispose();
            running = Restart(await running);
            return null;
        };
        async Task<OperatorProcess> Restart(OperatorProcess killed)
        {
            await killed.Kill();
            return await Ns.Operator(proxy);
        }
        do
        {
            last += Tier.IsFull || last == 0 ? 1 : 9;
            (name, writes) = ($"job-{last:00}", 0);
            await scenario(new JobBuilder(name));
            await running;
        }
        while (writes >= last);
        // Finalizers, two pods, the phases and their events: fewer would mean that the proxy did not see them.
        Assert.InRange(last, 10, 40);
    }

    static async Task<bool> IsWriteFor(string name, HttpRequestMessage request) => FaultProxy.IsWrite(request)
        && (request.RequestUri!.AbsolutePath.Contains(name)
            || (request.Content is { } body && (await body.ReadAsStringAsync()).Contains(name)));
}

public class KilledBeforeAWriteTests(TestCluster cluster) : KillTests(cluster)
{
    private protected override bool Before => true;
}

public class KilledAfterAWriteTests(TestCluster cluster) : KillTests(cluster)
{
    private protected override bool Before => false;
}

public class FaultTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Theory]
    [InlineData(401, "Unauthorized")]
    [InlineData(403, "Forbidden")]
    [InlineData(409, "Conflict")]
    [InlineData(429, "TooManyRequests")]
    [InlineData(500, "InternalError")]
    [InlineData(200, "done, but the answer is lost")]
    public async Task Each_write_is_repeated_where_it_is_first_answered(int code, string reason)
    {
        var seen = new ConcurrentDictionary<string, bool>();
        using var proxy = new FaultProxy(TestCluster.Api);
        proxy.Fault = async (request, forward) =>
        {
            if (!FaultProxy.IsWrite(request) || !seen.TryAdd($"{request.Method} {request.RequestUri}", true))
                return await forward();
            if (code != 200) return FaultProxy.Refusal(code, reason);
            (await forward()).Dispose();
            return null;
        };
        await Ns.Operator(proxy);
        var job = new JobBuilder("unlucky");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
    }

    /// <summary>It waits for a minute at most, and sends no storm of requests.</summary>
    [Theory]
    [InlineData("0", true), InlineData("86400", true), InlineData("0", false), InlineData("86400", false)]
    public async Task G13_told_to_wait_for_no_time_or_a_day_it_does_neither(string retryAfter, bool writes)
    {
        if (retryAfter == "86400") Tier.Full("it waits for a minute");
        var (refuses, refused) = (true, 0);
        using var proxy = new FaultProxy(TestCluster.Api);
        proxy.Fault = async (request, forward) =>
        {
            if (!Volatile.Read(ref refuses) || FaultProxy.IsWrite(request) != writes) return await forward();
            Interlocked.Increment(ref refused);
            return FaultProxy.Refusal(429, "TooManyRequests", retryAfter);
        };
        var job = new JobBuilder("throttled");
        await Ns.Create(job);
        Ns.Started(new OperatorProcess(TestCluster.Kubeconfig(proxy.Address), "--namespace", Ns.Name));
        await Eventually.True("it is refused", () => Volatile.Read(ref refused) > 0);
        await Task.Delay(TimeSpan.FromSeconds(6), TestContext.Current.CancellationToken);
        Volatile.Write(ref refuses, false);
        Assert.InRange(refused, 1, 60);
        await Ns.Pod("throttled-main", "is created", _ => true, seconds: 70);
        await Ns.Ends(job, "Succeeded");
    }

    [Fact]
    public async Task G13_what_happens_while_the_API_server_is_out_of_reach_is_seen_afterwards()
    {
        using var proxy = new FaultProxy(TestCluster.Api);
        var (near, away) = (proxy.Fault, (Fault)((_, _) => Task.FromResult<HttpResponseMessage?>(null)));
        var process = await Ns.Operator(proxy);
        var (ends, vanishes) = (new JobBuilder("ends", "sleep 600"), new JobBuilder("vanishes", "sleep 600"));
        foreach (var job in new[] { ends, vanishes })
        {
            await Ns.Create(job);
            await Ns.PodPhase($"{job.Name}-main", "Running");
            await Ns.Phase(job, "Running");
        }
        proxy.Fault = away;
        proxy.Cut();
        await Ns.Tell("ends-main", "exit", "0");
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "vanishes-main"));
        await Ns.PodPhase("ends-main", "Succeeded");
        await Ns.PodPhase("vanishes-main", "Failed");
        await Eventually.True("the operator says that it sees nothing", async () =>
            await process.Health("ready") == HttpStatusCode.ServiceUnavailable);
        proxy.Fault = near;
        await Ns.Ends(ends, "Succeeded");
        await Ns.Ends(vanishes, "Failed");
    }
}
