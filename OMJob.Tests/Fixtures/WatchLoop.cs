// An operator whose API server is scripted, list by list and watch by watch, by values or over sockets.

using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace OMJobs.Tests;

public sealed partial class WatchTests
{
    /// <summary>Runs an operator from the first wait on. The scripts are for one resource; the other one is empty and
    /// silent. What comes after a script's end is the empty list of version 10 and a watch that says nothing.</summary>
    internal sealed class Loop(bool sockets = false) : IAsyncDisposable
    {
        readonly CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(WatchTests.Stop);
        readonly ConcurrentQueue<(string What, TimeSpan At)> asked = [];
        ScriptedServer? server;
        ApiClient? api;
        Task? running;
        int lists, watches, writes;

        public string Resource { get; init; } = "omjobs";
        public Func<Request, Reply>[] OnList { get; init; } = [];
        public Func<Request, Reply>[] OnWatch { get; set; } = [];
        public Func<Exchange, Task>[] OverSocket { get; init; } = [];
        /// <summary>The answer to a request about a single object; null: as if there were no script.</summary>
        public Func<Request, Reply?> OnObject { get; init; } = _ => null;
        /// <summary>The answer to whatever is asked, before any script; null: as the scripts have it.</summary>
        public Func<Request, Reply?> Always { get; init; } = _ => null;
        public TimeSpan? WatchTimeout { get; init; }
        public int HealthPort { get; init; }
        public ILogger Log { get; init; } = NullLogger.Instance;
        public VirtualTime Time { get; } = new();

        /// <summary>Lists and watches of the resource: LIST, LIST token, WATCH version.</summary>
        public string[] Asked => [.. asked.Select(a => a.What)];
        public TimeSpan[] AskedAt => [.. asked.Select(a => a.At)];
        public TimeSpan[] WatchedAt
        {
            get
            {
                TimeSpan[] at = [.. asked.Where(a => a.What[0] == 'W').Select(a => a.At)];
                return [.. at.Select(time => time - at[0])];
            }
        }
        public ConcurrentQueue<Request> Watches { get; } = [];
        /// <summary>The jobs whose finalizer was taken off: once each, or an event was lost or taken twice.</summary>
        public ConcurrentQueue<string> Patched { get; } = [];
        public bool Seen(string job) => Patched.Contains(job);

        public int Ready() => Ask("ready").Code;

        /// <summary>What the operator answers now. Blocks: a script may ask, too.</summary>
        public (int Code, string Said) Ask(string path)
        {
            using var http = new HttpClient();
            using var answer = http.Send(new(HttpMethod.Get, $"http://127.0.0.1:{HealthPort}/{path}"), WatchTests.Stop);
            using var said = new StreamReader(answer.Content.ReadAsStream(WatchTests.Stop));
            return ((int)answer.StatusCode, said.ReadToEnd());
        }

        /// <summary>Lets the operator's clock run from timer to timer, or stand still, until the condition holds.</summary>
        public async Task Until(Func<bool> condition, string what, bool still = false)
        {
            if (running is null) Start();
            var clock = Stopwatch.StartNew();
            while (!condition())
            {
                if (clock.Elapsed > TimeSpan.FromSeconds(60))
                    Assert.Fail($"{what}; asked: {string.Join(", ", Asked.Take(50))}");
                if (!still) Time.ToNextTimer(seconds: 60);
                await Task.Delay(1, WatchTests.Stop);
            }
        }

        void Start()
        {
            if (sockets)
            {
                server = new ScriptedServer(null, Serve);
                api = new ApiClient(new(server.Address, null));
            }
            var clocks = new Deadlines(TimeSpan.Zero, TimeSpan.Zero, TimeSpan.FromMinutes(1), 3);
            var op = new Operator(sockets ? Wire : Answer, clocks, Time, Log, new Random(1));
            var settings = new Settings
            {
                Namespaces = [""],
                Deadlines = clocks,
                Workers = 2,
                HealthPort = HealthPort,
            };
            running = Task.Run(() => op.Run(settings, stop.Token));
        }

        Task<Reply> Wire(Request request, CancellationToken stopped)
        {
            var shorter = request.OnLine is not null && WatchTimeout is not null;
            return api!.Send(shorter ? request with { Timeout = WatchTimeout!.Value } : request, stopped);
        }

        async Task Serve(Exchange exchange)
        {
            var path = exchange.Target;
            if (Parameter(path, "watch") is not null)
            {
                var script = Watched(path) is { } index && index < OverSocket.Length ? OverSocket[index] : null;
                if (script is not null) { await script(exchange); return; }
                await exchange.Open();
                await exchange.Hold();
                return;
            }
            var reply = Plain(new(new HttpMethod(exchange.Method), path));
            await exchange.Answer(reply.Code, Encoding.UTF8.GetString(reply.Body));
        }

        async Task<Reply> Answer(Request request, CancellationToken stopped)
        {
            await Task.Yield();
            if (Always(request) is { } answer) return answer;
            if (request.OnLine is null) return Plain(request);
            if (Watched(request.Path) is { } index)
            {
                Watches.Enqueue(request);
                if (index < OnWatch.Length) return OnWatch[index](request);
            }
            request.OnLine(default);
            await Task.Delay(Timeout.InfiniteTimeSpan, stopped);
            return End;
        }

        /// <summary>The number of the watch, if it is one of the scripted resource.</summary>
        int? Watched(string path)
        {
            if (!path.Contains($"/{Resource}?", StringComparison.Ordinal)) return null;
            asked.Enqueue(($"WATCH {Parameter(path, "resourceVersion")}", Time.Elapsed));
            return watches++;
        }

        Reply Plain(Request request)
        {
            var path = request.Path;
            if (request.Method == HttpMethod.Get && path.Contains("limit=", StringComparison.Ordinal))
            {
                if (!path.Contains($"/{Resource}?", StringComparison.Ordinal)) return List(10);
                asked.Enqueue((Parameter(path, "continue") is { } token ? $"LIST {token}" : "LIST", Time.Elapsed));
                return lists++ < OnList.Length ? OnList[lists - 1](request) : List(10);
            }
            if (OnObject(request) is { } scripted) return scripted;
            if (request.Method == HttpMethod.Patch && path.Contains("/omjobs/", StringComparison.Ordinal))
            {
                var name = path[(path.LastIndexOf('/') + 1)..];
                Patched.Enqueue(name);
                var version = 6000 + Interlocked.Increment(ref writes); // one that does not grow went back
                return Json(Object(name, version).Replace($"\"{Job.Finalizer}\"", "", StringComparison.Ordinal));
            }
            return new Reply(404, Encoding.UTF8.GetBytes(StatusTexts.NotFound));
        }

        public async ValueTask DisposeAsync()
        {
            await stop.CancelAsync();
            if (running is not null) await running;
            api?.Dispose();
            server?.Dispose();
            stop.Dispose();
        }
    }
}
