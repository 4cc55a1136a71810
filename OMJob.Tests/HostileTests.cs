// What a hostile reader found: each test fails where the fault is there.

using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Tests.EndToEnd;

public sealed class HostileTests
{
    static CancellationToken Stop => TestContext.Current.CancellationToken;
    static Reply Json(string text) => new(200, Encoding.UTF8.GetBytes(text));
    static Reply Page(string next, params string[] items) => Json(
        $$"""{"metadata":{"resourceVersion":"100","continue":"{{next}}"},"items":[{{string.Join(',', items)}}]}""");

    /// <summary>1. Versions go back while the OMJobs are being listed: the pages before are lost, for good.</summary>
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

    /// <summary>1b. And the running main pod of an OMJob that was lost so is let go and deleted, though its OMJob is there.</summary>
    [Fact]
    public async Task A_main_pod_is_no_stray_while_its_OMJob_is_answered_live()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
        var (podLists, jobLists, pages) = (0, 0, 0);
        var job = AnOMJob.Running().Json.Replace("\"resourceVersion\":\"100\"", "\"resourceVersion\":\"8\"", StringComparison.Ordinal);
        var pod = APod.MainPod().Running().With("resourceVersion", "9").Json;
        var writes = new List<string>();
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
            if (request.Method != HttpMethod.Get && path.Contains("/pods", StringComparison.Ordinal))
                lock (writes) writes.Add($"{request.Method} {path} {Encoding.UTF8.GetString(request.Body ?? [])}");
            if (request.Method == HttpMethod.Get && path.EndsWith("/pods/run-main", StringComparison.Ordinal)) return Json(pod);
            if (request.Method == HttpMethod.Get && path.EndsWith("/omjobs/run", StringComparison.Ordinal)) return Json(job);
            if (request.Method == HttpMethod.Patch && path.EndsWith("/pods/run-main", StringComparison.Ordinal))
                return Json(APod.MainPod().Running().Released().With("resourceVersion", "101").Json);
            if (pods && path.EndsWith("limit=1", StringComparison.Ordinal)) return WatchTests.List(100);
            if (pods)
            {
                if (++podLists == 3) dropped.TrySetResult();
                return WatchTests.List(podLists == 1 ? 5000 : 100, pod);
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
            if (jobs) return ++jobLists == 1 ? WatchTests.List(5000) : Page("more", job);
            if (path.Contains("cronomjobs?", StringComparison.Ordinal)) return WatchTests.List(10);
            return new(500, []); // writes fail: nothing changes what is held
        }
        var clocks = new Clocks(TimeSpan.Zero, TimeSpan.Zero, TimeSpan.FromMinutes(1), 3);
        var op = new Operator(Send, clocks, TimeProvider.System, NullLogger.Instance, new Random(1));
        var running = op.Run(new() { Namespaces = [""], Clocks = clocks, Workers = 2 }, stop.Token);
        await dropped.Task.WaitAsync(TimeSpan.FromSeconds(10), Stop);
        await Task.Delay(3000, Stop);
        await stop.CancelAsync();
        await running;
        Assert.True(writes.Count == 0, string.Join("\n", writes.Distinct()));
    }

    /// <summary>2. One list of many pages: health fails though page after page comes.</summary>
    [Fact]
    public async Task A_list_that_comes_page_by_page_for_long_is_healthy()
    {
        string? unhealthy = null;
        WatchTests.Loop? loop = null;
        Reply Next(int page)
        {
            loop!.Time.Advance(TimeSpan.FromSeconds(50));
            var (code, said) = loop.Ask("health");
            if (code != 200) unhealthy ??= $"page {page}: {said}";
            return page < 12 ? Page($"p{page}", WatchTests.Object($"j{page}", page)) : WatchTests.List(100);
        }
        loop = new()
        {
            HealthPort = Port.Free(),
            OnList = [.. Enumerable.Range(1, 12).Select<int, Func<Request, Reply>>(page => _ => Next(page))],
        };
        loop.Time.Advance(TimeSpan.FromSeconds(1)); // 0 means never
        await using (loop) await loop.Until(() => loop.Asked.Any(a => a[0] == 'W'), "a watch");
        Assert.Null(unhealthy);
    }

    /// <summary>3. The node's clock is an hour ahead: the next attempt of the handler comes an hour late.</summary>
    [Theory, InlineData(3600), InlineData(86400 * 365)]
    public void The_clock_of_a_node_does_not_put_off_the_next_attempt(double ahead)
    {
        var job = AnOMJob.HandlerRunning().Job;
        var exit = APod.ExitPod().Exited(1, finished: ahead - 60).Json; // it ended a minute ago
        var pod = System.Text.Json.JsonSerializer.Deserialize(exit, OMJobs.Json.Default.PodObject)!.ToPod(Moment.Now)!;
        var step = Moment.Decide(job, PodView.Absent, new(pod) { Asked = Moment.Now }, Moment.Now);
        Assert.True(step.Act != Act.Wait || step.Wake <= Moment.Now.AddMinutes(10), $"{step.Act} until {step.Wake:u}");
    }

    /// <summary>4. Urgent keys of one namespace come before the others' plain ones, for ever.</summary>
    [Fact]
    public async Task A_namespace_that_is_always_urgent_holds_up_no_other_one()
    {
        var queue = new WorkQueue(new VirtualTime()) { Workers = 2 };
        queue.Add(new("good", "run"));
        for (var i = 0; i < 3; i++) queue.Add(new("evil", $"x{i}"), first: true);
        for (var i = 0; i < 1000; i++)
        {
            var key = (await queue.Take(Stop))!.Value;
            if (key.Namespace == "good") return;
            queue.Done(key);
            queue.Add(key, first: true); // the pod has changed again
        }
        Assert.Fail("1,000 keys of evil were taken, none of good");
    }

    /// <summary>5. A pod known by label only, its OMJob's name cut there, after a restart: pods are listed first.</summary>
    [Fact]
    public async Task A_pod_whose_label_is_cut_is_no_stray_after_a_restart()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
        var name = new string('r', 80);
        var job = AnOMJob.Running().Named(name).With("mainPodName", Pods.MainName(name)).Json;
        var pod = APod.MainPod().WithoutOwner().With("name", Pods.MainName(name)).Running().Json
            .Replace($"\"{Labels.Name}\":\"run\"", $"\"{Labels.Name}\":\"{Names.LabelValue(name)}\"", StringComparison.Ordinal);
        var writes = new List<string>();
        async Task<Reply> Send(Request request, CancellationToken stopped)
        {
            await Task.Yield();
            var path = request.Path;
            if (request.OnLine is { } take)
            {
                take(default);
                await Task.Delay(Timeout.InfiniteTimeSpan, stopped);
            }
            if (request.Method != HttpMethod.Get)
            {
                if (!path.Contains("events", StringComparison.Ordinal)) lock (writes) writes.Add($"{request.Method} {path} {Encoding.UTF8.GetString(request.Body ?? [])}");
                return new(500, []);
            }
            if (path.Contains("/pods?", StringComparison.Ordinal)) return WatchTests.List(300, pod);
            if (path.Contains("/omjobs?", StringComparison.Ordinal)) return WatchTests.List(300, job);
            if (path.Contains("/cronomjobs?", StringComparison.Ordinal)) return WatchTests.List(300);
            if (path.EndsWith($"/pods/{Pods.MainName(name)}", StringComparison.Ordinal)) return Json(pod);
            if (path.EndsWith($"/omjobs/{name}", StringComparison.Ordinal)) return Json(job);
            return new(404, Encoding.UTF8.GetBytes(StatusTexts.NotFound));
        }
        var clocks = new Clocks(TimeSpan.Zero, TimeSpan.Zero, TimeSpan.FromMinutes(1), 3);
        var op = new Operator(Send, clocks, TimeProvider.System, NullLogger.Instance, new Random(1));
        var running = op.Run(new() { Namespaces = [""], Clocks = clocks, Workers = 2 }, stop.Token);
        await Task.Delay(1500, Stop);
        await stop.CancelAsync();
        await running;
        Assert.True(writes.Count == 0, string.Join("\n", writes.Distinct()));
    }

    /// <summary>6. A refusal that repeats a long text: matches of values that overlap are millions.</summary>
    [Fact]
    public void Words_are_redacted_in_little_memory()
    {
        var env = string.Join(',', Enumerable.Range(4, 60).Select(i => $$"""{"name":"V","value":"{{new string('a', i)}}"}"""));
        var job = AnOMJob.Pending().WithMain($$"""{"image":"i","serviceAccountName":"s","command":["x"],"env":[{{env}}]}""").Job;
        var words = $"Pod \"run-main\" is invalid: spec.containers[0].env[0].name: Invalid value: \"{new string('a', 100_000)}=\"";
        var before = GC.GetAllocatedBytesForCurrentThread();
        Secrets.Redact(words, job);
        var used = (GC.GetAllocatedBytesForCurrentThread() - before) >> 20;
        Assert.True(used < 20, $"{used} MiB");
    }

    /// <summary>7. A name in status or in an owner reference leads to another path.</summary>
    [Theory, InlineData("../../../pods"), InlineData(""), InlineData("x?watch=1"), InlineData("../../kube-system/pods/x")]
    public void A_name_in_status_leads_nowhere_else(string name)
    {
        var job = AnOMJob.Running().With("mainPodName", name).Job;
        var at = new Uri("https://s" + Paths.Of(new(job.Namespace, Pods.MainName(job), Kind.Pod)));
        Assert.Matches("^/api/v1/namespaces/data/pods/[a-z0-9.-]+$", at.PathAndQuery);
    }

    /// <summary>8. A history's deletion that conflicts (the watch has not told yet) is not asked for again and again.</summary>
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
