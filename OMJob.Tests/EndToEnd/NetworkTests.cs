// The network between the operator and the API server, byte by byte: cut, half-open, slow, refusing. Once over HTTP/2
// with TLS, once over HTTP/1.1 without. OMJOB_TEST_SLOW=1 adds what takes minutes by the clock.

using System.Diagnostics;
using System.Net;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public abstract class NetworkTests(TestCluster cluster, bool http2) : ClusterTest(cluster), IDisposable
{
    readonly FaultProxy http = new(cluster.Api); // speaks nothing newer than HTTP/1.1
    TcpProxy? proxy;

    TcpProxy Proxy => proxy ??= new(http2 ? TestCluster.Api.Server : new Uri(http.Address));

    [Fact]
    public async Task W6_A_connection_cut_at_any_byte_of_a_run_loses_and_repeats_nothing()
    {
        await Ns.Operator(Proxy);
        var before = Proxy.Passed;
        await Succeeds("whole");
        var (up, down) = (Proxy.Passed.Up - before.Up, Proxy.Passed.Down - before.Down);
        var seed = Random.Shared.Next();
        var random = new Random(seed);
        const int runs = 6;
        for (var run = 0; run < runs; run++)
        {
            // The second one meets the connection that is made after the first, its handshake or what it first carries.
            Cut(up, down);
            Cut(1000, 3000);
            await Succeeds($"seed-{seed}-{run}");
        }
        Assert.InRange(Proxy.Cuts, runs, runs * 2);

        void Cut(long up, long down)
        {
            var direction = random.Next(2) == 0 ? Direction.Up : Direction.Down;
            Proxy.CutAfter(direction, random.NextInt64(direction == Direction.Up ? up : down), random.Next(2) == 0);
        }
    }

    async Task Succeeds(string name)
    {
        // The operator lets more and more time pass before it takes up again what is cut within a second.
        var job = new JobBuilder(name, "sleep 1.2");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
    }

    [Fact]
    public async Task G13_A_slow_connection_is_good_enough()
    {
        Proxy.BytesPerSecond = 15_000;
        await Ns.Operator(Proxy);
        await Succeeds("slow");
    }

    [Fact]
    public async Task W4_An_API_server_that_refuses_connections_is_tried_until_it_takes_one()
    {
        await Ns.Operator(Proxy);
        var job = new JobBuilder("refused", "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("refused-main", "Running");
        await Ns.Phase(job, "Running");
        Proxy.Listen(false);
        Proxy.CutAll();
        await Ns.Tell("refused-main", "exit", "0");
        await Ns.PodPhase("refused-main", "Succeeded");
        await Eventually.NextSecond();
        await Ns.Api.Delete(Paths.Pod(Ns.Name, "refused-main"));
        Proxy.Listen(true);
        await Ns.Ends(job, "Succeeded");
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task W2_A_half_open_connection_is_noticed(bool newOnesToo)
    {
        Assert.SkipWhen(Environment.GetEnvironmentVariable("OMJOB_TEST_SLOW") is null, "OMJOB_TEST_SLOW is not set");
        var process = await Ns.Operator(Proxy);
        var job = new JobBuilder("deaf", "sleep 600");
        await Ns.Create(job);
        await Ns.PodPhase("deaf-main", "Running");
        await Ns.Phase(job, "Running");
        Proxy.Stalls = newOnesToo;
        Proxy.StallAll();
        var clock = Stopwatch.StartNew();
        await Ns.Tell("deaf-main", "exit", "0");
        if (newOnesToo)
        {
            await Eventually.True("the operator says that it sees nothing", async () =>
                await process.Health("ready") == HttpStatusCode.ServiceUnavailable, seconds: 240);
            Say("unready");
        }
        Proxy.Stalls = false;
        await Eventually.True("the end is seen", () => Ns.History.Any(c =>
            c.Object.Uid() == job.Uid && c.Object.Text("status", "phase") == "ExitHandlerRunning"), seconds: 240);
        Say("the end is seen");
        await Ns.Ends(job, "Succeeded");
        await process.Ready();
        Say("ready");

        void Say(string what) => TestContext.Current.TestOutputHelper!.WriteLine($"{clock.Elapsed:mm\\:ss\\.f} {what}");
    }

    public void Dispose()
    {
        GC.SuppressFinalize(this);
        proxy?.Dispose();
        http.Dispose();
    }
}

public class Http2Tests(TestCluster cluster) : NetworkTests(cluster, http2: true);

public class Http1Tests(TestCluster cluster) : NetworkTests(cluster, http2: false);
