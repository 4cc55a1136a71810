// The watch (W1–W6): whatever cuts it, wherever, no event is lost or taken twice, and nothing is asked in a hurry.

using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;


public sealed partial class WatchTests
{
    static CancellationToken Stop => TestContext.Current.CancellationToken;

    // ----- lines (ApiServer)

    /// <summary>Sends one watch to a server with this script; returns its end and the lines handed out.</summary>
    static async Task<(Reply Reply, List<string> Lines, int Opened)> Lines(
        Func<Exchange, Task> script, TimeSpan? timeout = null, Func<string, Reply?>? take = null, Task? after = null)
    {
        using var server = new ScriptedServer(null, script);
        using var api = new ApiClient(new(server.Address, null));
        var (lines, opened) = (new List<string>(), 0);
        var reply = await api.Send(new(HttpMethod.Get, "/watch")
        {
            Timeout = timeout ?? TimeSpan.FromSeconds(10),
            OnLine = line =>
            {
                if (line.IsEmpty) { opened++; return null; }
                lines.Add(Encoding.UTF8.GetString(line.Span));
                return take?.Invoke(lines[^1]);
            },
        }, Stop);
        if (after is not null) await after.WaitAsync(TimeSpan.FromSeconds(5), Stop);
        return (reply, lines, opened);
    }

    [Fact]
    public async Task Lines_are_whole_however_they_are_split_into_chunks_and_segments()
    {
        const string text = "{\"a\":\"ä€\"}\n{}\n\n{\"b\":1}\n";
        var bytes = Encoding.UTF8.GetBytes(text);
        for (var split = 1; split < bytes.Length; split++)
        {
            var (reply, lines, opened) = await Lines(async e =>
            {
                await e.Open();
                foreach (var part in (byte[][])[bytes[..split], bytes[split..]])
                {
                    await e.Write($"{part.Length:x}\r\n");
                    await e.Write(part);
                    await e.Write("\r\n");
                }
                await e.Write("0\r\n\r\n");
            });
            Assert.True(reply.Ok, reply.Message);
            Assert.Equal(1, opened);
            Assert.Equal(["{\"a\":\"ä€\"}", "{}", "{\"b\":1}"], lines);
        }
    }

    [Fact]
    public async Task Lines_are_whole_when_every_byte_comes_alone()
    {
        var (reply, lines, _) = await Lines(async e =>
        {
            foreach (var b in Exchange.Bytes(200, "{\"a\":1}\n{\"b\":2}\n")) await e.Write(new[] { b });
        });
        Assert.True(reply.Ok, reply.Message);
        Assert.Equal(["{\"a\":1}", "{\"b\":2}"], lines);
    }

    [Fact]
    public async Task A_line_of_a_megabyte_is_one_line()
    {
        var line = $"{{\"a\":\"{new string('x', 1 << 20)}\"}}";
        var (reply, lines, _) = await Lines(async e =>
        {
            await e.Open();
            await e.Chunk(line + "\n{}\n");
            await e.Write("0\r\n\r\n");
        });
        Assert.True(reply.Ok, reply.Message);
        Assert.Equal([line, "{}"], lines);
    }

    [Theory]
    [InlineData("ended", true)]
    [InlineData("cut", false)]
    [InlineData("reset", false)]
    public async Task Half_a_line_at_the_end_is_dropped(string how, bool ok)
    {
        var taken = new TaskCompletionSource();
        var (reply, lines, _) = await Lines(async e =>
        {
            await e.Open();
            await e.Chunk("{\"a\":1}\n{\"b\"");
            await taken.Task.WaitAsync(Stop);
            if (how == "ended") await e.Write("0\r\n\r\n");
            if (how == "reset") e.Reset();
        }, take: _ => { taken.TrySetResult(); return null; });
        Assert.Equal(ok, reply.Ok);
        Assert.Equal(["{\"a\":1}"], lines);
    }

    [Fact]
    public async Task A_watch_that_falls_silent_is_given_up_at_its_deadline()
    {
        var clock = Stopwatch.StartNew();
        var gone = new TaskCompletionSource();
        var (reply, lines, _) = await Lines(async e =>
        {
            await e.Open();
            await e.Chunk("{}\n");
            await e.Hold();
            gone.SetResult();
        }, TimeSpan.FromSeconds(1), after: gone.Task); // the connection is not kept
        Assert.Equal(Outcome.Fault, reply.Outcome);
        Assert.Equal(["{}"], lines);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(30));
    }

    [Fact]
    public async Task What_a_line_says_can_end_the_stream()
    {
        var gone = new TaskCompletionSource();
        var (reply, lines, _) = await Lines(async e =>
        {
            await e.Open();
            await e.Chunk("{\"a\":1}\n{\"b\":2}\n");
            await e.Hold();
            gone.SetResult();
        }, take: _ => new Reply(410, []), after: gone.Task);
        Assert.Equal(Outcome.Gone, reply.Outcome);
        Assert.Single(lines);
    }

    [Fact]
    public async Task A_refused_watch_hands_out_no_line()
    {
        var (reply, lines, opened) = await Lines(e => e.Answer(410, StatusTexts.Expired));
        Assert.Equal((Outcome.Gone, 0, 0), (reply.Outcome, lines.Count, opened));
        Assert.Equal("too old resource version: 10 (5000)", reply.Message);
    }

    // ----- the loop over sockets

    /// <summary>Two events, cut after every byte of the answer, head and chunk sizes included.</summary>
    [Fact]
    public async Task A_watch_cut_after_any_byte_loses_no_event_and_takes_none_twice()
    {
        var (a, b) = (Event("ADDED", "a", 11), Event("ADDED", "b", 12));
        var head = Exchange.Bytes(200, "", "Transfer-Encoding: chunked");
        byte[] answer = [.. head, .. Exchange.Chunked(a), .. Exchange.Chunked(b), .. "0\r\n\r\n"u8];
        var firstEnds = head.Length + Exchange.Chunked(a).Length - 2; // after its line feed
        var secondEnds = answer.Length - 7;
        var four = new ParallelOptions { MaxDegreeOfParallelism = 4, CancellationToken = Stop };
        await Parallel.ForAsync(0, answer.Length + 1, four, async (cut, _) =>
            {
                var known = cut >= secondEnds ? 12 : cut >= firstEnds ? 11 : 10;
                await using var loop = new Loop(sockets: true)
                {
                    OverSocket =
                    [
                        e => e.Write(answer.AsMemory(0, cut)),
                        async e => // the API server goes on from the version it is asked for
                        {
                            await e.Open();
                            if (known < 11) await e.Chunk(a);
                            if (known < 12) await e.Chunk(b);
                            await e.Hold();
                        },
                    ],
                };
                await loop.Until(() => loop.Seen("a") && loop.Seen("b") && loop.Asked.Length >= 3, $"cut after {cut}");
                Assert.Equal(["LIST", "WATCH 10", $"WATCH {known}"], loop.Asked);
                Assert.Equal(["a", "b"], loop.Patched.Order());
            });
    }

    [Fact]
    public async Task A_silent_watch_is_taken_up_again_from_its_version()
    {
        await using var loop = new Loop(sockets: true)
        {
            WatchTimeout = TimeSpan.FromMilliseconds(200), // on a busy machine it may pass before the event does
            OverSocket = [.. Enumerable.Repeat<Func<Exchange, Task>>(
                async e => { await e.Open(); await e.Chunk(Event("ADDED", "a", 11)); await e.Hold(); }, 50)],
        };
        await loop.Until(() => loop.Asked.Contains("WATCH 11"), "a watch from the event's version");
        Assert.Equal(["LIST", "WATCH 10", "WATCH 11"], loop.Asked.Distinct());
    }

    // ----- the loop over values

    static readonly Reply End = new(200, []), Lost = new(0, []) { Fault = "connection reset" };

    public static TheoryData<string, string, string[], string> Resumptions => new()
    {
        { "ended by the server", "", [Event("ADDED", "a", 11), Event("MODIFIED", "a", 12)], "WATCH 12" },
        { "ended by the server, nothing said", "", [], "LIST" }, // of one object, to see its version
        { "lost", "lost", [Event("ADDED", "a", 11)], "WATCH 11" },
        { "a deletion counts", "lost", [Event("ADDED", "a", 11), Event("DELETED", "a", 15)], "WATCH 15" },
        { "a bookmark counts", "lost", [Event("ADDED", "a", 11), Bookmark(40)], "WATCH 40" },
        { "a bookmark alone", "", [Bookmark(40)], "WATCH 40" },
        { "an event after a bookmark", "", [Bookmark(40), Event("ADDED", "a", 41)], "WATCH 41" },
        { "versions are not text", "", [Event("ADDED", "a", 99), Event("ADDED", "b", 100)], "WATCH 100" },
        { "410 in the stream", "", [Event("ADDED", "a", 11), Error(410)], "LIST" },
        { "410 in the stream at once", "", [Error(410)], "LIST" },
        { "410 as the status", "410", [], "LIST" },
        { "500 in the stream", "", [Event("ADDED", "a", 11), Error(500)], "WATCH 11" },
        { "403 in the stream", "", [Event("ADDED", "a", 11), Error(403)], "WATCH 11" },
        { "an ERROR without a code", "", [Event("ADDED", "a", 11), """{"type":"ERROR","object":{}}"""], "WATCH 11" },
        { "nothing counts after an ERROR", "", [Error(500), Event("ADDED", "a", 11)], "WATCH 10" },
        { "429 as the status", "429", [], "WATCH 10" },
        { "500 as the status", "500", [], "WATCH 10" },
        { "401 as the status", "401", [], "WATCH 10" },
        { "an unreadable line", "", ["{not json", Event("ADDED", "a", 11)], "WATCH 11" },
        { "an unreadable line at the end", "", [Event("ADDED", "a", 11), "{not json"], "WATCH 11" },
        { "no event", "", ["[]", "null", "7", "{}", """{"type":null}""", Event("ADDED", "a", 11)], "WATCH 11" },
        { "no object", "", ["""{"type":"ADDED"}""", """{"type":"ADDED","object":null}"""], "LIST" },
        { "wrong types", "", ["""{"type":"ADDED","object":{"metadata":7}}""", Event("ADDED", "a", 11)], "WATCH 11" },
        { "unknown type", "", [Event("SOMETHING", "a", 11)], "WATCH 11" },
    };

    [Theory, MemberData(nameof(Resumptions))]
    public Task The_watch_of_jobs_goes_on_after(string what, string end, string[] lines, string next) =>
        GoesOnWith("omjobs", what, end, lines, next);

    [Theory, MemberData(nameof(Resumptions))]
    public Task The_watch_of_pods_goes_on_after(string what, string end, string[] lines, string next) =>
        GoesOnWith("pods", what, end, lines, next);

    static async Task GoesOnWith(string resource, string what, string end, string[] lines, string next)
    {
        var last = end switch { "" => End, "lost" => Lost, _ => new Reply(int.Parse(end, null), []) };
        await using var loop = new Loop { Resource = resource, OnWatch = [r => Feed(r, last, lines)] };
        await loop.Until(() => loop.Asked.Length >= 3, what);
        Assert.Equal(["LIST", "WATCH 10", next], loop.Asked[..3]);
    }

    [Theory]
    [InlineData(true, "LIST")] // ended by the API server, or given up: what it told is kept from us
    [InlineData(false, "LIST")]
    [InlineData(true, "WATCH 40", 40)]
    [InlineData(false, "WATCH 10", 10)] // a bookmark counts, though of no newer version
    public async Task W9_what_has_told_nothing_although_bookmarks_were_due_is_listed_again(
        bool ends, string next, params int[] bookmarks)
    {
        await using var loop = new Loop();
        loop.OnWatch = [Lasting(loop, ends ? End : Lost, [.. bookmarks.Select(Bookmark)])];
        await loop.Until(() => loop.Asked.Length >= 3, "the next request");
        Assert.Equal(["LIST", "WATCH 10", next], loop.Asked[..3]);
    }

    [Fact]
    public async Task W9_lists_that_find_nothing_new_become_rarer()
    {
        await using var loop = new Loop();
        loop.OnWatch = [.. Enumerable.Repeat(Lasting(loop, Lost), 33)];
        await loop.Until(() => loop.Asked.Count(a => a.StartsWith("WATCH", StringComparison.Ordinal)) > 33, "33");
        var asked = string.Join("", loop.Asked.Select(a => a == "LIST" ? "L" : "w"));
        Assert.Equal("L" + "wL" + "wL" + "wwL" + "wwwwL" + "wwwwwwwwL" + new string('w', 16) + "Lww", asked);
    }

    /// <summary>Kubernetes 1.20 sends no bookmark before something has changed.</summary>
    [Theory]
    [InlineData(10, false)]
    [InlineData(6900, true)]
    public async Task W9_what_was_silent_for_want_of_news_is_no_warning(int version, bool warned)
    {
        var log = new SecretsTests.Words();
        await using var loop = new Loop
        {
            OnList = [_ => List(10, Object("a", 10)), _ => List(7000, Object("a", version))],
            Log = log,
        };
        loop.OnWatch = [Lasting(loop, Lost)];
        await loop.Until(() => loop.Asked.Length >= 4, "the next watch");
        Assert.Equal(["LIST", "WATCH 10", "LIST", "WATCH 7000"], loop.Asked[..4]);
        Assert.Equal(warned, log.All.Any(line => line.Contains("nothing was told", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_new_list_after_410_brings_what_was_missed()
    {
        await using var loop = new Loop
        {
            OnList = [_ => List(10), _ => List(5000, Object("missed", 4000))],
            OnWatch = [r => Feed(r, End, Error(410))],
        };
        await loop.Until(() => loop.Asked.Length >= 4 && loop.Seen("missed"), "the missed job");
        Assert.Equal(["LIST", "WATCH 10", "LIST", "WATCH 5000"], loop.Asked[..4]);
    }

    [Fact]
    public async Task An_unreadable_event_does_not_stop_the_others()
    {
        await using var loop = new Loop
        {
            OnWatch = [r => Feed(r, Lost, Event("ADDED", "a", 11), "{\"type\":\"ADDED\",", Event("ADDED", "b", 13))],
        };
        await loop.Until(() => loop.Seen("a") && loop.Seen("b"), "both jobs");
        Assert.Equal(["a", "b"], loop.Patched.Order());
    }

    public static TheoryData<string, string> Unreadable => new()
    {
        { "of another type", """{"metadata":{"name":"bad","namespace":"n","uid":7} }""" },
        { "a name that is no Unicode", """{"metadata":{"name":"\ud800","namespace":"n","uid":7} }""" },
        { "a time that is none", """{"metadata":{"name":"bad","creationTimestamp":"soon"} }""" },
        { "nested as an API server allows", "{\"spec\":" + new string('[', 9990) + new string(']', 9990) + "}" },
        { "no object", "7" },
    };

    [Theory, MemberData(nameof(Unreadable))]
    public async Task An_unreadable_object_in_a_list_does_not_hide_the_others(string what, string bad)
    {
        await using var loop = new Loop
        {
            OnList = [_ => List(10, Object("a", 7), bad, Object("b", 8))],
        };
        await loop.Until(() => loop.Seen("a") && loop.Seen("b") && loop.Asked.Length >= 2, what);
        Assert.Equal(["LIST", "WATCH 10"], loop.Asked);
    }

    [Fact]
    public async Task A_pod_is_kept_while_its_OMJob_cannot_be_read()
    {
        var pod = APod.MainPod().Running().Json;
        var (asked, job, let) = (0, """{"metadata":7}""", false);
        await using var loop = new Loop
        {
            Resource = "pods",
            OnList = [_ => List(10, pod)],
            OnObject = request =>
            {
                var isPod = request.Path.Contains("/pods/", StringComparison.Ordinal);
                if (isPod) let |= request.Method == HttpMethod.Patch;
                else if (job is not null) asked++;
                return isPod ? Json(pod) : job is null ? null : Json(job);
            },
        };
        await loop.Until(() => asked >= 5, "asked again");
        Assert.False(let);
        job = null;
        await loop.Until(() => let, "let go, for its OMJob is not there");
    }

    [Fact]
    public Task A_bookmark_of_nothing_does_not_hide_what_comes_after_it() =>
        DoesNotHideTheNext("a bookmark of nothing", """{"type":"BOOKMARK"}""");

    static async Task DoesNotHideTheNext(string what, string line)
    {
        await using var loop = new Loop(sockets: true)
        {
            OverSocket = [.. Enumerable.Repeat<Func<Exchange, Task>>(async e =>
            {
                await e.Open();
                await e.Chunk(line.TrimEnd('\n') + "\n" + Event("ADDED", "b", 12));
                await e.Hold();
            }, 5)],
        };
        await loop.Until(() => loop.Seen("b") || loop.Asked.Length >= 5, what);
        Assert.True(loop.Seen("b"), $"{what}: {string.Join(", ", loop.Asked)}");
    }

    [Fact]
    public async Task An_event_that_comes_again_is_taken_once()
    {
        await using var loop = new Loop
        {
            OnWatch =
            [
                r => Feed(r, End, Event("ADDED", "a", 11)),
                r => Feed(r, End, Event("ADDED", "a", 11), Event("ADDED", "b", 12)),
            ],
        };
        await loop.Until(() => loop.Seen("a") && loop.Seen("b") && loop.Asked.Length >= 4, "both jobs");
        Assert.Equal(["a", "b"], loop.Patched.Order());
    }

    [Fact]
    public async Task A_list_comes_in_pages()
    {
        await using var loop = new Loop
        {
            OnList = [_ => Page("next&page", Object("a", 7)), _ => List(10, Object("b", 8))],
        };
        await loop.Until(() => loop.Seen("a") && loop.Seen("b") && loop.Asked.Length >= 3, "both jobs and a watch");
        Assert.Equal(["LIST", "LIST next%26page", "WATCH 10"], loop.Asked[..3]);
    }

    /// <summary>The limit of each page, where these are the answers; null: a page that cannot be had.</summary>
    static async Task<string[]> Limits(params string?[] pages)
    {
        var limits = new List<string>();
        Func<Request, Reply> Answer(string? next) => request =>
        {
            limits.Add(Parameter(request.Path, "limit")!);
            return next is null ? new Reply(504, [])
                : next.Length == 0 ? List(10, Object("b", 8)) : Page(next, Object("a", 7));
        };
        await using var loop = new Loop { OnList = [.. pages.Select(Answer)] };
        await loop.Until(() => loop.Asked.Contains("WATCH 10"), "a watch");
        return [.. limits];
    }

    [Fact]
    public async Task The_first_page_is_a_small_one_and_the_next_ones_grow_eightfold_at_most()
    {
        Assert.Equal(["10"], await Limits(""));
        Assert.Equal(["10", "80", "640", "1000", "1000"], await Limits("a", "b", "c", "d", ""));
    }

    [Fact]
    public async Task A_page_that_cannot_be_had_is_asked_for_again_with_fewer_objects()
    {
        Assert.Equal(["10", "80", "20", "5", "40"], await Limits("a", null, null, "b", ""));
        Assert.Equal(["10", "2", "1", "1", "8"], await Limits(null, null, null, "a", "")); // the first one
        // After six failures in a row the list begins anew, and no page of it is larger than the last one was to be.
        Assert.Equal(["10", "80", "20", "5", "1", "1", "1", "1", "8"],
            await Limits("a", null, null, null, null, null, null, "a", ""));
    }

    [Theory, InlineData(410, "LIST"), InlineData(403, "LIST"), InlineData(500, "LIST more"), InlineData(0, "LIST more"),
        InlineData(429, "LIST more")]
    public async Task A_list_that_fails_between_two_pages_goes_on_from_there_if_it_can(int code, string next)
    {
        await using var loop = new Loop
        {
            OnList = [_ => Page("more", Object("a", 7)), _ => new Reply(code, []), _ => List(20, Object("b", 8))],
        };
        await loop.Until(() => loop.Asked.Length >= 4, "a watch");
        Assert.Equal(["LIST", "LIST more", next, "WATCH 20"], loop.Asked[..4]);
    }

    [Theory, InlineData(0), InlineData(403), InlineData(404), InlineData(429), InlineData(503), InlineData(200)]
    public async Task The_first_list_is_tried_until_it_is_answered(int code) // W4
    {
        var failure = new Reply(code, "garbage"u8.ToArray());
        await using var loop = new Loop { OnList = [.. Enumerable.Repeat<Func<Request, Reply>>(_ => failure, 6)] };
        await loop.Until(() => loop.Asked.Contains("WATCH 10"), "a watch");
        Assert.Equal([.. Enumerable.Repeat("LIST", 7), "WATCH 10"], loop.Asked[..8]);
        AssertBacksOff(loop.AskedAt[..7]);
    }

    public static TheoryData<string> Failures =>
        ["closes at once", "resets at once", "says ERROR 500", "answers 500", "says 410"];

    [Theory, MemberData(nameof(Failures))]
    public async Task A_server_that_ends_every_watch_at_once_is_not_hammered(string how)
    {
        Func<Request, Reply> end = how switch
        {
            "closes at once" => r => Feed(r, End),
            "resets at once" => _ => Lost,
            "says ERROR 500" => r => Feed(r, End, Error(500)),
            "says 410" => r => Feed(r, End, Error(410)),
            _ => _ => new Reply(500, []),
        };
        await using var loop = new Loop { OnWatch = [.. Enumerable.Repeat(end, 40)] };
        await loop.Until(() => loop.WatchedAt.Length >= 12, "twelve watches");
        if (how != "says 410") AssertBacksOff(loop.WatchedAt[..12]);
        else Assert.True(loop.WatchedAt[11] - loop.WatchedAt[0] > TimeSpan.FromSeconds(1), $"{loop.WatchedAt[11]}");
    }

    /// <summary>The first pause is short, the next ones double up to 15 s.</summary>
    static void AssertBacksOff(TimeSpan[] times)
    {
        for (var i = 1; i < times.Length; i++)
        {
            var most = Math.Min(15, 0.2 * Math.Pow(2, i - 1));
            Assert.InRange((times[i] - times[i - 1]).TotalSeconds, 0.8 * most - 0.001, most + 0.001);
        }
    }

    [Fact]
    public async Task A_watch_that_ends_after_its_time_goes_on_at_once()
    {
        await using var loop = new Loop();
        Reply Last(Request request)
        {
            loop.Time.Advance(180);
            return Feed(request, End);
        }
        loop.OnWatch = [.. Enumerable.Repeat<Func<Request, Reply>>(Last, 10)];
        await loop.Until(() => loop.WatchedAt.Length >= 10, "ten watches");
        Assert.All(loop.WatchedAt[..10].Index(), w => Assert.Equal(TimeSpan.FromSeconds(180 * w.Index), w.Item));
    }

    [Fact]
    public async Task W6_A_watch_that_is_cut_after_a_while_is_taken_up_again_soon_however_often_that_happens()
    {
        await using var loop = new Loop();
        Reply Cut(Request request)
        {
            var reply = Feed(request, Lost);
            loop.Time.Advance(60);
            return reply;
        }
        loop.OnWatch = [.. Enumerable.Repeat<Func<Request, Reply>>(Cut, 10)];
        await loop.Until(() => loop.WatchedAt.Length >= 10, "ten watches");
        Assert.All(loop.WatchedAt[..10].Zip(loop.WatchedAt[1..10]), pair =>
            Assert.InRange((pair.Second - pair.First).TotalSeconds, 60.1, 60.3));
    }

    [Fact]
    public async Task W6_A_watch_that_brought_events_is_taken_up_again_at_once_however_soon_the_server_ended_it()
    {
        await using var loop = new Loop();
        Func<Request, Reply> Burst(int n) => r => Feed(r, End, Event("ADDED", $"j{n}", 11 + n));
        loop.OnWatch = [.. Enumerable.Range(0, 10).Select(Burst)];
        await loop.Until(() => loop.WatchedAt.Length >= 10, "ten watches", still: true);
        Assert.All(loop.WatchedAt[..10], at => Assert.Equal(TimeSpan.Zero, at));
    }

    [Fact]
    public async Task W5_A_watch_that_cannot_be_taken_up_again_is_not_ready_after_15_s_until_it_is()
    {
        await using var loop = new Loop { HealthPort = Port.Free() };
        var (lost, seen) = (default(TimeSpan?), new List<(double Deaf, int Ready)>());
        Reply Refuse(Request request)
        {
            if (lost is null) request.OnLine!(default);
            lost ??= loop.Time.Elapsed;
            seen.Add(((loop.Time.Elapsed - lost.Value).TotalSeconds, loop.Ready()));
            return Lost;
        }
        loop.OnWatch = [.. Enumerable.Repeat<Func<Request, Reply>>(Refuse, 9)];
        await loop.Until(() => loop.WatchedAt.Length > 9 && loop.Ready() == 200, "ready again");
        Assert.All(seen, s => Assert.Equal(s.Deaf > 15 ? 503 : 200, s.Ready));
        Assert.InRange(seen.Count(s => s.Ready == 503), 1, 3);
    }

    [Fact]
    public async Task W2_A_watch_is_not_ready_once_it_is_silent_for_longer_than_it_can_last()
    {
        await using var loop = new Loop { HealthPort = Port.Free() };
        await loop.Until(() => loop.Asked.Contains("WATCH 10") && loop.Ready() == 200, "ready");
        loop.Time.Advance(180);
        Assert.Equal(200, loop.Ready());
        loop.Time.Advance(31);
        Assert.Equal(503, loop.Ready());
    }

    [Fact]
    public async Task W1_W3_a_watch_asks_for_less_than_a_load_balancer_allows_and_has_a_deadline_of_its_own()
    {
        await using var loop = new Loop
        {
            OnWatch = [.. Enumerable.Repeat<Func<Request, Reply>>(r => Feed(r, End), 20)],
        };
        await loop.Until(() => loop.Watches.Count >= 20, "twenty watches");
        Assert.All(loop.Watches, request =>
        {
            var asked = int.Parse(Parameter(request.Path, "timeoutSeconds")!, null);
            Assert.InRange(asked, 1, 200);
            Assert.InRange(request.Timeout.TotalSeconds, asked + 1, 240);
            Assert.Equal("true", Parameter(request.Path, "allowWatchBookmarks"));
        });
    }

    // ----- helpers

    /// <summary>A finished job that still has our finalizer: seen once, it is patched once.</summary>
    internal static string Object(string name, int version) =>
        "{\"metadata\":{\"name\":\"" + name + "\",\"namespace\":\"n\",\"uid\":\"u-" + name + "\","
        + $"\"resourceVersion\":\"{version}\",\"finalizers\":[\"{Job.Finalizer}\"]"
        + "},\"status\":{\"phase\":\"Succeeded\",\"completionTime\":\"2026-01-31T12:00:00Z\"}}";

    internal static string Event(string type, string name, int version) =>
        $$"""{"type":"{{type}}","object":{{Object(name, version)}} }""" + "\n";

    static string Bookmark(int version) =>
        $$"""{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"{{version}}","creationTimestamp":null} } }""";

    static string Error(int code) =>
        $$"""{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"no","code":{{code}} } }""";

    static Reply Json(string text) => new(200, Encoding.UTF8.GetBytes(text));

    internal static Reply List(int version, params string[] items) => Json(
        $$"""{"metadata":{"resourceVersion":"{{version}}"},"items":[{{string.Join(',', items)}}]}""");

    static Reply Page(string next, params string[] items) => Json(
        $$"""{"metadata":{"resourceVersion":"10","continue":"{{next}}"},"items":[{{string.Join(',', items)}}]}""");

    /// <summary>A watch's lines, as ApiServer hands them out.</summary>
    internal static Reply Feed(Request request, Reply end, params string[] lines)
    {
        if (request.OnLine!(default) is { } refused) return refused;
        foreach (var line in lines)
            if (request.OnLine(Encoding.UTF8.GetBytes(line.TrimEnd('\n'))) is { } ended) return ended;
        return end;
    }

    /// <summary>The same, of a stream that takes 150 s.</summary>
    static Func<Request, Reply> Lasting(Loop loop, Reply end, params string[] lines) => request =>
    {
        loop.Time.Advance(150);
        return Feed(request, end, lines);
    };

    static string? Parameter(string path, string name) =>
        Regex.Match(path, $"[?&]{name}=([^&]*)") is { Success: true } match ? match.Groups[1].Value : null;
}
