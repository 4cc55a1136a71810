// The health port under callers that mean no good, and what /health says of an operator that gets nowhere.

using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;


public sealed class EndpointsTests
{
    const int Places = 64;

    static CancellationToken Stop => TestContext.Current.CancellationToken;

    // ----- callers

    /// <summary>Endpoints of something that is healthy, not ready.</summary>
    sealed class Served : IDisposable
    {
        readonly Endpoints endpoints;

        public Served()
        {
            endpoints = new([Port], allAddresses: false, TimeProvider.System, NullLogger.Instance)
            {
                Health = () => null,
                Readiness = () => "not ready",
                Metrics = () => "",
            };
            Serving = endpoints.Serve();
        }

        public int Port { get; } = Sandbox.Port.Free();
        public Task Serving { get; }
        public void Dispose() => endpoints.Dispose();
    }

    static async Task<Socket> Connect(int port)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, port, Stop);
        return socket;
    }

    /// <summary>The status line's code; 0 where the connection is closed without an answer.</summary>
    static async Task<int> Answer(Socket socket)
    {
        var buffer = new byte[1024];
        try
        {
            var length = await socket.ReceiveAsync(buffer, Stop);
            return length == 0 ? 0 : int.Parse(buffer.AsSpan(9, 3));
        }
        catch (SocketException) { return 0; }
    }

    static async Task<int> Probe(Socket socket)
    {
        try { await socket.SendAsync("GET /health HTTP/1.1\r\nHost: me\r\n\r\n"u8.ToArray(), Stop); }
        catch (SocketException) { return 0; }
        return await Answer(socket);
    }

    [Fact]
    public async Task In_a_flood_of_connections_the_oldest_give_way_and_who_speaks_is_answered()
    {
        using var served = new Served();
        var callers = new List<Socket>();
        try
        {
            for (var i = 0; i < Places + 6; i++) callers.Add(await Connect(served.Port));
            foreach (var caller in callers[..6]) Assert.Equal(0, await Answer(caller));
            foreach (var caller in callers[6..]) Assert.Equal(200, await Probe(caller));
            using var probe = await Connect(served.Port);
            Assert.Equal(200, await Probe(probe));
        }
        finally { callers.ForEach(caller => caller.Dispose()); }
    }

    [Fact]
    public async Task A_caller_that_does_not_say_all_is_let_go()
    {
        using var served = new Served();
        using var caller = await Connect(served.Port);
        await caller.SendAsync("GET /health HT"u8.ToArray(), Stop);
        Assert.Equal(0, await Answer(caller));
    }

    [Fact]
    public async Task Serving_ends_when_it_is_disposed_of()
    {
        var served = new Served();
        served.Dispose();
        await served.Serving.WaitAsync(TimeSpan.FromSeconds(60), Stop);
    }

    // ----- /health

    [Fact]
    public async Task A_list_that_comes_page_by_page_for_long_is_healthy()
    {
        string? unhealthy = null;
        WatchTests.Loop? loop = null;
        Reply Next(int page)
        {
            loop!.Time.Advance(50);
            var (code, said) = loop.Ask("health");
            if (code != 200) unhealthy ??= $"page {page}: {said}";
            return new(200, Encoding.UTF8.GetBytes(
                $$"""{"metadata":{"resourceVersion":"100","continue":"{{(page < 12 ? $"p{page}" : "")}}"},"items":[]}"""));
        }
        loop = new()
        {
            Resource = "pods",
            HealthPort = Port.Free(),
            OnList = [.. Enumerable.Range(1, 12).Select<int, Func<Request, Reply>>(page => _ => Next(page))],
        };
        loop.Time.Advance(1); // 0 means never
        await using (loop) await loop.Until(() => loop.Asked.Any(a => a[0] == 'W'), "a watch");
        Assert.Null(unhealthy);
    }

    static WatchTests.Loop Always(Func<Request, Reply?> answer) => new() { HealthPort = Port.Free(), Always = answer };

    static Task Until(WatchTests.Loop loop, double minutes) =>
        loop.Until(() => loop.Time.Elapsed.TotalMinutes >= minutes, $"{minutes} minutes");

    [Theory, InlineData(0, "none"), InlineData(401, "401"), InlineData(500, "500"), InlineData(503, "503")]
    public async Task Ten_minutes_without_an_answer_that_says_anything_are_unhealthy(int code, string named)
    {
        await using var loop = Always(_ => new Reply(code, []) { Fault = code == 0 ? "refused" : null });
        await Until(loop, 9.5);
        Assert.Equal((200, "ok\n"), loop.Ask("health"));
        await Until(loop, 10.1);
        var (health, said) = loop.Ask("health");
        Assert.Equal(503, health);
        Assert.Equal(1, said.Count(c => c == '\n'));
        Assert.Contains("for 10 minutes", said, StringComparison.Ordinal);
        Assert.Contains(named, said, StringComparison.Ordinal);
    }

    [Theory, InlineData(403), InlineData(404), InlineData(410), InlineData(429)]
    public async Task A_refusal_that_no_new_process_would_heal_is_healthy(int code)
    {
        await using var loop = Always(_ => new Reply(code, []));
        await Until(loop, 15);
        Assert.Equal(200, loop.Ask("health").Code);
    }

    [Fact]
    public async Task One_answer_is_enough_to_be_healthy_again()
    {
        var down = true;
        await using var loop = Always(_ => down ? new Reply(401, []) : null);
        await Until(loop, 12);
        Assert.Equal(503, loop.Ask("health").Code);
        down = false;
        await loop.Until(() => loop.Ask("health").Code == 200, "healthy");
    }

    [Fact]
    public async Task A_watch_that_brings_lines_is_an_answer_however_it_ends()
    {
        await using var loop = Always(request =>
        {
            request.OnLine?.Invoke(default);
            return request.OnLine is null ? null : new Reply(0, []) { Fault = "reset" };
        });
        await Until(loop, 15);
        Assert.Equal(200, loop.Ask("health").Code);
    }

    [Fact]
    public async Task A_watch_that_is_open_for_longer_than_it_can_last_is_unhealthy()
    {
        await using var loop = Always(_ => null);
        loop.Time.Advance(1); // a timestamp of 0 is none
        await loop.Until(() => loop.Asked.Contains("WATCH 10"), "a watch");
        loop.Time.Advance(60 * 6.1);
        Assert.Equal((503, "a watch has stopped turning\n"), loop.Ask("health"));
    }
}
