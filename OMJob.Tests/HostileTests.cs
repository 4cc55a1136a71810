// What a hostile reader found: each test fails where the fault is there.

using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace OMJobs.Tests;

public sealed class HostileTests
{
    static CancellationToken Stop => TestContext.Current.CancellationToken;
    static Reply Json(string text) => new(200, Encoding.UTF8.GetBytes(text));
    static Reply Page(string next, params string[] items) => Json(
        $$"""{"metadata":{"resourceVersion":"100","continue":"{{next}}"},"items":[{{string.Join(',', items)}}]}""");

    /// <summary>Versions go back while the OMJobs are being listed: the pages before are lost, for good.</summary>
    [Fact]
    public async Task What_was_listed_before_the_cache_was_dropped_is_listed_again()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
        var (podLists, jobLists, pages) = (0, 0, 0);
        var secondPage = new TaskCompletionSource();
        var dropped = new TaskCompletionSource();
        async Task<Reply> Send(Request request, CancellationToken stopped)
        {
            await Task.Yield();
            var path = request.Path;
            var (pods, jobs) = (path.Contains("/pods?", StringComparison.Ordinal), path.Contains("/omjobs?", StringComparison.Ordinal));
            if (request.OnLine is { } take)
            {
                take(default);
                if (jobs && jobLists == 1) return new(410, []) { Fault = "too old" };
                if (pods && podLists == 1)
                {
                    await secondPage.Task.WaitAsync(stopped);
                    return new(410, []) { Fault = "too old" };
                }
                await Task.Delay(Timeout.InfiniteTimeSpan, stopped);
            }
            if (pods && path.EndsWith("limit=1", StringComparison.Ordinal)) return WatchTests.List(100);
            if (pods)
            {
                if (++podLists == 3) dropped.TrySetResult();
                return WatchTests.List(podLists == 1 ? 5000 : 100);
            }
            if (jobs && path.EndsWith("limit=1", StringComparison.Ordinal)) return WatchTests.List(100);
            if (jobs && path.Contains("continue=", StringComparison.Ordinal))
            {
                if (pages++ == 0)
                {
                    secondPage.TrySetResult();
                    await dropped.Task.WaitAsync(stopped);
                }
                return WatchTests.List(100, WatchTests.Object("b", 8));
            }
            if (jobs) return ++jobLists == 1 ? WatchTests.List(5000) : Page("more", WatchTests.Object("a", 7));
            if (path.Contains("cronomjobs?", StringComparison.Ordinal)) return WatchTests.List(10);
            return new(500, []); // writes fail: nothing changes what is held
        }
        var clocks = new Clocks(TimeSpan.Zero, TimeSpan.Zero, TimeSpan.FromMinutes(1), 3);
        var op = new Operator(Send, clocks, TimeProvider.System, NullLogger.Instance, new Random(1));
        var running = op.Run(new() { Namespaces = [""], Clocks = clocks, Workers = 2 }, stop.Token);
        await dropped.Task.WaitAsync(TimeSpan.FromSeconds(10), Stop);
        await Task.Delay(3000, Stop);
        var held = op.Held.Select(key => key.Name).Order().ToArray();
        await stop.CancelAsync();
        await running;
        Assert.Equal(["a", "b"], held);
    }

    /// <summary>A history's deletion that conflicts (the watch has not told yet) is not asked for again and again.</summary>
    [Fact]
    public async Task A_history_deletion_that_conflicts_backs_off()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
        const string cron = """
            {"metadata":{"name":"hourly","namespace":"n","uid":"u-cron","resourceVersion":"5","creationTimestamp":"2026-01-01T00:00:00Z"},
             "spec":{"schedule":"0 0 1 1 *","suspend":true,"successfulJobsHistoryLimit":0,"omJobSpec":{"a":1}},"status":{"message":"Suspended"}}
            """;
        var run = """
            {"metadata":{"name":"hourly-1","namespace":"n","uid":"u-old","resourceVersion":"7","creationTimestamp":"2026-01-01T00:00:00Z",
             "ownerReferences":[{"apiVersion":"pipelines.openmetadata.org/v1","kind":"CronOMJob","name":"hourly","uid":"u-cron","controller":true}]},
             "spec":{"ttlSecondsAfterFinished":300000000},"status":{"phase":"Succeeded","completionTime":"2026-11-01T00:00:00Z"}}
            """;
        var deletes = 0;
        async Task<Reply> Send(Request request, CancellationToken stopped)
        {
            await Task.Yield();
            var path = request.Path;
            if (request.OnLine is { } take)
            {
                take(default);
                await Task.Delay(Timeout.InfiniteTimeSpan, stopped);
            }
            if (request.Method == HttpMethod.Delete)
            {
                Interlocked.Increment(ref deletes);
                return new(409, """{"kind":"Status","reason":"Conflict","message":"Precondition failed: UID in precondition","code":409}"""u8.ToArray());
            }
            if (path.Contains("/omjobs?", StringComparison.Ordinal)) return WatchTests.List(300, run);
            if (path.Contains("/cronomjobs?", StringComparison.Ordinal)) return WatchTests.List(300, cron);
            if (path.Contains("/pods?", StringComparison.Ordinal)) return WatchTests.List(300);
            return new(404, Encoding.UTF8.GetBytes(StatusTexts.NotFound));
        }
        var clocks = new Clocks(TimeSpan.Zero, TimeSpan.Zero, TimeSpan.FromMinutes(1), 3);
        var op = new Operator(Send, clocks, TimeProvider.System, NullLogger.Instance, new Random(1));
        var running = op.Run(new() { Namespaces = [""], Clocks = clocks, Workers = 2 }, stop.Token);
        await Task.Delay(4000, Stop);
        await stop.CancelAsync();
        await running;
        Assert.InRange(deletes, 1, 10);
    }

    /// <summary>
    /// 9. Two operators: our status write is lost, the other one ends the run within seconds, the watch of OMJobs lags. Having
    /// made the main pod once, and seen it go, we make another without asking for the OMJob again.
    /// </summary>
    [Fact]
    public async Task A_second_main_pod_is_made_by_nobody_who_has_not_asked_since_the_first_one()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
        var requests = new List<string>();
        var tell = new TaskCompletionSource();
        var job = AnOMJob.Pending().Json;
        var pod = APod.MainPod().Unscheduled().With("resourceVersion", "301").Json;
        var gone = APod.MainPod().Unscheduled().Released().Deleted(0, 0).With("resourceVersion", "305").Json;
        async Task<Reply> Send(Request request, CancellationToken stopped)
        {
            await Task.Yield();
            var path = request.Path;
            if (request.OnLine is { } take)
            {
                take(default);
                if (path.Contains("/pods?", StringComparison.Ordinal))
                {
                    await tell.Task.WaitAsync(stopped);
                    take(Encoding.UTF8.GetBytes($$"""{"type":"DELETED","object":{{gone}} }"""));
                }
                await Task.Delay(Timeout.InfiniteTimeSpan, stopped);
            }
            if (path.Contains("limit=", StringComparison.Ordinal))
                return WatchTests.List(300, path.Contains("/omjobs?", StringComparison.Ordinal) ? [job] : []);
            if (path.Contains("/events", StringComparison.Ordinal)) return new(500, []);
            lock (requests) requests.Add($"{request.Method} {path.Split('/')[^1].Split('?')[0]}");
            if (request.Method == HttpMethod.Post)
                return requests.Count(r => r == "POST pods") > 1 ? new(500, []) : Json(pod) with { };
            if (path.EndsWith("/status", StringComparison.Ordinal))
            {
                tell.TrySetResult(); // the other operator has ended the run meanwhile
                return new(0, []) { Fault = "connection reset by peer" };
            }
            if (path.EndsWith("/omjobs/run", StringComparison.Ordinal)) return Json(job);
            return new(404, Encoding.UTF8.GetBytes(StatusTexts.NotFound));
        }
        var clocks = new Clocks(TimeSpan.Zero, TimeSpan.Zero, TimeSpan.FromMinutes(1), 3);
        var op = new Operator(Send, clocks, TimeProvider.System, NullLogger.Instance, new Random(1));
        var running = op.Run(new() { Namespaces = [""], Clocks = clocks, Workers = 2 }, stop.Token);
        await Task.Delay(1500, Stop);
        await stop.CancelAsync();
        await running;
        var all = string.Join(", ", requests);
        Assert.DoesNotMatch("POST pods, PATCH status, POST pods", all);
    }
}
