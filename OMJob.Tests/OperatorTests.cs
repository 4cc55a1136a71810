// The operator as a whole, step by step on a virtual clock: refusals, pauses, large objects, versions that go back.

using System.Text;
using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;
using static OMJobs.Tests.Stage;

public sealed class OperatorTests
{
    const string Posts = "POST /api/v1/namespaces/data/pods", JobPath = "/namespaces/data/omjobs/run";
    const string Words = "Pod \\\"x\\\" is invalid: spec.containers[0].resources: Invalid value: must be less";

    static Reply Invalid() => Refusal(422, "Invalid", Words, """
        {"kind":"Pod","causes":[{"reason":"FieldValueInvalid","message":"no","field":"spec.containers[0].resources"}]}
        """);

    static bool IsUpdate(Request request, string path) =>
        (request.Method == HttpMethod.Patch || request.Method == HttpMethod.Put)
        && request.Path.EndsWith(path, StringComparison.Ordinal);

    /// <summary>When a status of that phase was first written, seconds from the start.</summary>
    static double? Wrote(Stage stage, string phase)
    {
        var at = stage.Sent.FindIndex(s => IsUpdate(s.Request, "/status")
            && Json.Parse(s.Request.Body).Text("status", "phase") == phase);
        return at < 0 ? null : stage.Sent[at].At;
    }

    // ----- release

    const string RunPath = "/apis/pipelines.openmetadata.org/v1/namespaces/data/omjobs/run";

    static readonly JsonObject WithFinalizer =
        Json.Object($$"""{"metadata":{"finalizers":["{{Job.Finalizer}}"]} }""");

    /// <summary>An OMJob in that phase, whose operator has been killed.</summary>
    static Stage Left(string phase)
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh().WithExit("""{"image":"ingestion:1","command":["x"]}"""));
        stage.Start();
        stage.Run(2);
        stage.Say("run-main", exited: phase == "Running" ? null : 0);
        stage.Run(2);
        if (phase == "Succeeded") stage.Say("run-exit", exited: 0);
        stage.Run(2);
        Assert.Equal(phase, stage.Phase);
        return stage;
    }

    static int Finalizers(Stage stage) => stage.Job!.Finalizers().Count + stage.Pod("run-main")!.Finalizers().Count;

    [Theory]
    [InlineData("Running", "no exit handler runs")]
    [InlineData("ExitHandlerRunning", "no further attempt of its exit handler follows")]
    [InlineData("Succeeded", null)]
    public async Task F6_release_tells_which_runs_get_no_handler(string phase, string? costs)
    {
        var stage = Left(phase);
        var before = stage.Events.Length;
        Assert.Equal(0, await stage.Release(quiet: 0));
        Assert.Equal(0, Finalizers(stage));
        var told = costs is null ? []
            : (string[])[$"Released in phase {phase}: {costs}, unless an operator is installed again"];
        Assert.Equal(told.Select(line => $"Warning OMJobReleased: {line}"), stage.Events[before..]);
        Assert.Equal(told.Select(line => $"Warning data/run: {line}"),
            stage.Logged.Where(line => line.Contains("Released in", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task F6_release_goes_on_until_no_object_has_had_a_finalizer_for_so_long()
    {
        var stage = Left("Running");
        var code = stage.Release(quiet: 30);
        var start = stage.Seconds;
        stage.Run(20);
        stage.Ask("PATCH", RunPath, WithFinalizer); // by an operator that is ending
        stage.Run(29);
        Assert.Equal((false, 0), (code.IsCompleted, Finalizers(stage)));
        stage.Run(30);
        Assert.Equal(0, await code);
        var last = stage.Sent.Last(s => s.What.Contains("limit=", StringComparison.Ordinal)).At - start;
        Assert.InRange(last, 50, 54);
    }

    [Fact]
    public async Task F6_what_is_refused_is_tried_again_as_long_as_release_goes_on()
    {
        var stage = Left("Running");
        stage.Fault = r => r.Method == HttpMethod.Patch ? Refusal(403, "Forbidden", "not you") : null;
        Assert.Equal(1, await stage.Release(quiet: 0));
        Assert.Contains(stage.Logged, line => line == $"Error {RunPath}: the API server answered 403 Forbidden");
        Assert.DoesNotContain(stage.Events, line => line.Contains("OMJobReleased", StringComparison.Ordinal));
        var code = stage.Release(quiet: 10);
        stage.Fault = _ => null;
        stage.Run(20);
        Assert.Equal((0, 0), (await code, Finalizers(stage)));
    }

    [Fact]
    public async Task F6_release_takes_the_finalizers_of_pods_without_labels_and_without_the_CRD()
    {
        var stage = Left("Running");
        stage.Ask("PATCH", "/api/v1/namespaces/data/pods/run-main", Json.Object("""{"metadata":{"labels":null} }"""));
        var nothing = new Reply(404, "404 page not found\n"u8.ToArray());
        stage.Fault = r => r.Path.Contains("/omjobs", StringComparison.Ordinal) ? nothing : null;
        Assert.Equal(0, await stage.Release(quiet: 0));
        Assert.Empty(stage.Pod("run-main")!.Finalizers());
        stage.Fault = _ => nothing; // that is no API server
        Assert.Equal(1, await stage.Release(quiet: 0));
    }

    [Fact]
    public async Task F6_release_promises_nothing_of_a_run_that_goes()
    {
        var stage = Left("Running");
        stage.DeleteJob();
        var before = stage.Events.Length;
        Assert.Equal(0, await stage.Release(quiet: 0));
        Assert.Equal(["Warning OMJobReleased: Released in phase Running: no exit handler runs"], stage.Events[before..]);
    }

    // ----- a good run

    [Theory]
    [InlineData(true)]
    [InlineData(false)] // an answer in full serves as well
    public void A_run_takes_eight_writes_three_events_and_no_read(bool brief)
    {
        var stage = new Stage();
        if (!brief)
            stage.Fault = r => r.Accept == MediaTypes.Json ? null
                : new(200, stage.Ask(r.Method.Method, r.Path, Json.Object(Encoding.UTF8.GetString(r.Body!))).Bytes());
        stage.Create(AnOMJob.Fresh().WithExit("""{"image":"ingestion:1","command":["x"]}"""));
        stage.Start();
        stage.Run(2);
        stage.Say("run-main", exited: 0);
        stage.Run(2);
        stage.Say("run-exit", exited: 0);
        stage.Run(2);
        Assert.Equal("Succeeded", stage.Phase);
        string[] expected =
        [
            "PATCH " + JobPath, "POST /pods", "PUT " + JobPath + "/status", "PUT " + JobPath + "/status", "POST /pods",
            "PUT " + JobPath + "/status", "PATCH /pods/run-main", "PATCH " + JobPath,
        ];
        var sent = stage.Sent.Where(s => !s.What.Contains("limit=", StringComparison.Ordinal)).ToArray();
        var writes = sent.Where(s => !s.What.Contains("/events", StringComparison.Ordinal)).ToArray();
        Assert.Equal(expected.Length, writes.Length);
        Assert.All(writes.Zip(expected), w =>
        {
            Assert.StartsWith(w.Second.Split(' ')[0], w.First.What, StringComparison.Ordinal);
            Assert.Contains(w.Second.Split(' ')[1], w.First.What, StringComparison.Ordinal);
        });
        Assert.Equal(3, sent.Length - writes.Length);
        Assert.Equal([2, 3, 5, 7], Enumerable.Range(0, writes.Length)
            .Where(i => writes[i].Request.Accept == MediaTypes.Metadata));
    }

    // ----- refusals of a pod

    [Fact]
    public void G15_a_main_pod_that_admission_leaves_invalid_is_tried_for_a_minute_and_then_given_up()
    {
        var stage = new Stage { Fault = r => IsCreation(r, "-main") ? Invalid() : null };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(59);
        Assert.Equal("Pending", stage.Phase);
        Assert.StartsWith("Main pod is blocked: Pod \"x\" is invalid: spec.containers[0]", stage.Message,
            StringComparison.Ordinal);
        Assert.InRange(stage.At(Posts).Length, 5, 8);
        stage.Run(31);
        Assert.InRange(Wrote(stage, "ExitHandlerRunning")!.Value, 60, 90);
        Assert.StartsWith("Main pod cannot be created: Pod \"x\" is invalid", stage.Message, StringComparison.Ordinal);
        Assert.Contains(stage.Events, e => e.StartsWith("Warning MainPodBlocked: Main pod is blocked: Pod",
            StringComparison.Ordinal));
        Assert.NotNull(stage.Pod("run-exit"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(8)]
    public void G15_what_a_refusal_takes_on_its_way_is_no_time_of_refusal(int seconds)
    {
        var (stage, first) = (new Stage(), true);
        stage.Fault = r =>
        {
            if (!IsCreation(r, "-main")) return null;
            if (first) stage.Run(seconds);
            first = false;
            return Invalid();
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(120);
        Assert.InRange(Wrote(stage, "ExitHandlerRunning")!.Value - seconds, 60, 90);
    }

    /// <summary>D4: a policy takes its labels, and its creation's answer was lost.</summary>
    [Fact]
    public void G10_a_main_pod_that_no_watch_tells_of_is_let_go_where_the_namespace_goes()
    {
        var stage = new Stage();
        var posts = 0;
        stage.Fault = r =>
        {
            if (!IsCreation(r, "-main")) return null;
            if (++posts > 1)
                return Refusal(403, "Forbidden", "no", """{"causes":[{"reason":"NamespaceTerminating","field":"x"}]}""");
            var pod = (JsonObject)Json.Parse(r.Body)!;
            ((JsonObject)pod["metadata"]!).Remove("labels");
            Assert.True(stage.Ask("POST", r.Path, pod).Ok);
            return Reply.Failed("connection reset by peer");
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(5);
        Assert.True(posts > 1);
        stage.Ask("DELETE", "/api/v1/namespaces/data/pods/run-main");
        stage.Run(120);
        Assert.Null(stage.Pod("run-main"));
    }

    [Fact]
    public void G15_a_422_that_is_about_something_else_blocks_and_is_never_for_good()
    {
        var stage = new Stage
        {
            Fault = r => !IsCreation(r, "-main") ? null : Refusal(422, "Invalid", "Lease \\\"x\\\" is invalid",
                """{"kind":"Lease","causes":[{"reason":"FieldValueInvalid","message":"no","field":"spec"}]}"""),
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(300);
        Assert.Equal(("Pending", "Main pod is blocked: Lease \"x\" is invalid"), (stage.Phase, stage.Message));
    }

    [Fact]
    public void G15_a_main_pod_that_becomes_valid_runs_and_nothing_more_is_said_of_what_blocked_it()
    {
        var stage = new Stage { Fault = r => IsCreation(r, "-main") ? Invalid() : null };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(30);
        stage.Fault = _ => null;
        stage.Run(31);
        Assert.Equal(("Running", ""), (stage.Phase, stage.Message));
    }

    [Theory]
    [InlineData(600, false, 600)]
    [InlineData(120, false, 120)]
    [InlineData(0, false, 600)] // no deadline is ten minutes here
    [InlineData(600, true, 60)] // nobody waits for the OMJob, but for it to go
    public void G15_an_exit_pod_that_admission_leaves_invalid_is_tried_for_its_deadline(
        int deadline, bool deleted, int expected)
    {
        var stage = new Stage(Moment.Clocks with { ExitHandlerDeadline = TimeSpan.FromSeconds(deadline) })
        {
            Fault = r => IsCreation(r, "-exit") ? Invalid() : null,
        };
        stage.Create(AnOMJob.HandlerRunning(1));
        if (deleted) stage.DeleteJob();
        stage.Start();
        stage.Run(expected - 1);
        Assert.Equal("ExitHandlerRunning", stage.Phase);
        Assert.StartsWith("Main pod failed with exit code 1; exit handler is blocked: Pod \"x\" is invalid",
            stage.Message, StringComparison.Ordinal);
        stage.Run(31);
        Assert.InRange(Wrote(stage, "Failed")!.Value, expected, expected + 30);
        Assert.Equal(deleted, stage.Job is null);
        const string said = "Main pod failed with exit code 1; exit handler cannot be created: Pod \"x\" is invalid";
        if (!deleted) Assert.StartsWith(said, stage.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(400, "BadRequest", "-main", "ExitHandlerRunning")]
    [InlineData(413, "RequestEntityTooLarge", "-main", "ExitHandlerRunning")]
    [InlineData(400, "BadRequest", "-exit", "Failed")]
    [InlineData(413, "RequestEntityTooLarge", "-exit", "Failed")]
    public void G15_a_pod_that_can_never_be_is_given_up_at_once(int code, string reason, string pod, string phase)
    {
        var stage = new Stage { Fault = r => IsCreation(r, pod) ? Refusal(code, reason, "it cannot be") : null };
        stage.Create(pod == "-main" ? AnOMJob.Fresh() : AnOMJob.HandlerRunning(1));
        stage.Start();
        stage.Run(0.1);
        Assert.Equal(0, Wrote(stage, phase));
        Assert.EndsWith("cannot be created: it cannot be", stage.Message, StringComparison.Ordinal);
    }

    // ----- pauses

    [Theory]
    [InlineData("creation", 0, 1, 1)]
    [InlineData("creation", 86400, 60, 60)]
    [InlineData("creation", 7, 7, 7)]
    [InlineData("creation", null, 0.8, 1)]
    [InlineData("write", 0, 1, 1)]
    [InlineData("write", 86400, 60, 60)]
    [InlineData("write", null, 0.16, 0.2)]
    public void What_the_API_server_asks_to_wait_for_is_waited_for_a_second_at_least_and_a_minute_at_most(
        string what, int? retryAfter, double least, double most)
    {
        var stage = new Stage
        {
            Fault = r => what == "creation" ? IsCreation(r) ? Busy() : null : IsUpdate(r, JobPath) ? Busy() : null,
        };
        Reply Busy() => Refusal(429, "TooManyRequests", "later") with
        {
            RetryAfter = retryAfter is { } seconds ? TimeSpan.FromSeconds(seconds) : null,
        };
        stage.Start();
        stage.Create(AnOMJob.Fresh());
        stage.Run(100);
        var at = stage.At(what == "creation" ? Posts : $"PATCH {JobPath}");
        Assert.InRange(at[1] - at[0], least - 0.001, most + 0.001);
        if (retryAfter == 0) Assert.All(at.Zip(at[1..]), pair => Assert.True(pair.Second - pair.First >= 0.999));
    }

    [Theory]
    [InlineData(413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")]
    [InlineData(500, "InternalError", "etcdserver: request is too large")]
    public void An_OMJob_that_is_too_large_to_be_written_is_told_in_an_event_and_tried_less_and_less_often(
        int code, string reason, string words)
    {
        var stage = new Stage { Fault = r => IsUpdate(r, JobPath) ? Refusal(code, reason, words) : null };
        stage.Start();
        stage.Create(AnOMJob.Fresh());
        stage.Run(600);
        Assert.Equal([$"Warning OMJobRefused: The OMJob cannot be written: {words}"], stage.Events);
        Assert.InRange(stage.At($"PATCH {JobPath}").Length, 20, 40);
        stage.Fault = _ => null; // it was made smaller
        stage.Run(31);
        Assert.Equal("Running", stage.Phase);
    }

    [Fact]
    public void A_conflict_leads_to_another_look_at_once_and_one_that_stays_to_fewer_and_fewer()
    {
        var stage = new Stage { Fault = r => IsUpdate(r, JobPath) ? Refusal(409, "Conflict", "modified") : null };
        stage.Start();
        stage.Create(AnOMJob.Fresh());
        stage.Run(600);
        var at = stage.At($"PATCH {JobPath}");
        Assert.Equal(0, at[1]);
        Assert.InRange(at.Length, 20, 40);
        Assert.All(at[^5..].Zip(at[^4..]), pair => Assert.InRange(pair.Second - pair.First, 24, 30.001));
        var first = stage.Sent.FindIndex(s => s.What == $"PATCH {JobPath}");
        Assert.Equal($"GET {JobPath}", stage.Sent[first + 1].What);
    }

    [Fact]
    public void A_409_of_a_webhook_is_no_conflict_but_a_refusal()
    {
        const string words = "admission webhook \\\"w\\\" denied the request: no";
        var stage = new Stage { Fault = r => IsUpdate(r, JobPath) ? Refusal(409, "Conflict", words) : null };
        stage.Start();
        stage.Create(AnOMJob.Fresh());
        stage.Run(10);
        var at = stage.At($"PATCH {JobPath}");
        Assert.InRange(at[1], 0.16, 0.2);
        Assert.Empty(stage.At($"GET {JobPath}"));
        Assert.Contains(stage.Logged, line => line.StartsWith("Warning data/run: admission webhook \"w\" denied",
            StringComparison.Ordinal));
    }

    // ----- what is logged of a refusal

    const string Secret = "hunter2-and-more", Denied = "denied for hunter2-and-more";

    static AnOMJob WithSecret(AnOMJob job) => job.WithMain($$"""
        {"image":"i","command":["c"],"serviceAccountName":"ingestion","env":[{"name":"config","value":"{{Secret}}"}]}
        """);

    [Fact]
    public void A_refusal_about_a_finished_OMJob_is_told_by_code_and_reason_for_its_spec_is_not_held()
    {
        var stage = new Stage { Fault = r => IsUpdate(r, JobPath) ? Refusal(403, "Forbidden", Denied) : null };
        stage.Create(WithSecret(AnOMJob.Finished()));
        stage.Start();
        Assert.Contains("Warning data/run: the API server answered 403 Forbidden; trying again", stage.Logged);
        Assert.DoesNotContain(Secret, string.Concat(stage.Logged.Concat(stage.Events)), StringComparison.Ordinal);
    }

    [Fact]
    public void A_refusal_about_a_pod_whose_OMJob_is_gone_is_told_by_code_and_reason()
    {
        var stage = new Stage();
        stage.Create(WithSecret(AnOMJob.Fresh()));
        stage.Start();
        var pod = stage.Pod("run-main")!;
        Assert.NotNull(pod);
        stage.Ask("PATCH", "/apis/pipelines.openmetadata.org/v1/namespaces/data/omjobs/run",
            Json.Object("""{"metadata":{"finalizers":null}}"""));
        stage.Fault = r => IsUpdate(r, "/pods/run-main") ? Refusal(403, "Forbidden", Denied) : null;
        stage.DeleteJob();
        stage.Run(0);
        Assert.Contains("Warning data/run: the API server answered 403 Forbidden; trying again", stage.Logged);
        Assert.DoesNotContain(Secret, string.Concat(stage.Logged.Concat(stage.Events)), StringComparison.Ordinal);
    }

    [Fact]
    public void A_refusal_about_one_that_runs_is_told_in_the_API_servers_words_without_its_env()
    {
        var stage = new Stage { Fault = r => IsUpdate(r, JobPath) ? Refusal(403, "Forbidden", Denied) : null };
        stage.Create(WithSecret(AnOMJob.Fresh()));
        stage.Start();
        Assert.Contains("Warning data/run: denied for ***; trying again", stage.Logged);
    }

    // ----- specs that there is no room for

    [Fact]
    public void A_pod_whose_spec_is_not_held_is_made_from_an_OMJob_that_is_asked_for()
    {
        var blanks = Encoding.UTF8.GetBytes("\"spec\":{" + new string(' ', 33 << 20));
        var refused = 0;
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh().WithFinalizers("example.com/other"));
        stage.Fault = request =>
        {
            if (IsCreation(request) && refused++ < 3) return Refusal(403, "Forbidden", "quota");
            // A list, and the answers to writes; blanks have no meaning, but a length.
            var large = request.Path.Contains("/omjobs?", StringComparison.Ordinal) && request.OnLine is null
                || request.Path.Contains("/omjobs/run", StringComparison.Ordinal) && request.Method != HttpMethod.Get;
            if (!large) return null;
            var response = stage.Store.Handle(ApiRequest.To(
                request.Method.Method, request.Path, request.Body, request.MediaType));
            var text = response.Bytes();
            var at = text.AsSpan().IndexOf("\"spec\":{"u8);
            return new(response.Code, at < 0 ? text : [.. text[..at], .. blanks, .. text[(at + 8)..]]);
        };
        stage.Start();
        stage.Run(30);
        var posts = stage.Sent.FindAll(s => IsCreation(s.Request));
        Assert.Equal(4, posts.Count);
        Assert.All(posts, post =>
        {
            Assert.Contains("ingestion:1", Encoding.UTF8.GetString(post.Request.Body!), StringComparison.Ordinal);
            var before = stage.Sent[..stage.Sent.IndexOf(post)].FindLast(s =>
                s.What == $"GET {JobPath}" || IsCreation(s.Request));
            Assert.Equal($"GET {JobPath}", before.What);
        });
        Assert.Equal("Running", stage.Phase);
        Assert.Equal(["example.com/other", OMJobs.Job.Finalizer], stage.Job!.Finalizers());
    }

    // ----- versions that go back (etcd was restored from a backup)

    const string SetBack = "Warning The API server's versions went back: everything is listed again";

    static int Lists(Stage stage, string resource) => stage.Sent.Count(s => s.What.Contains($"/{resource}?",
        StringComparison.Ordinal) && s.What.EndsWith("limit=10", StringComparison.Ordinal));

    static int Looks(Stage stage) => stage.Sent.Count(s => s.What.EndsWith("limit=1", StringComparison.Ordinal));

    [Fact]
    public void A_watch_that_ends_mute_is_followed_by_a_list_of_one_object()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.EndWatches(); // those of pods and OMJobs have told something, that of CronOMJobs has not
        Assert.Equal(1, Looks(stage));
        stage.Run(1);
        stage.EndWatches();
        Assert.Equal(4, Looks(stage));
        Assert.Equal((1, 1, 1), (Lists(stage, "pods"), Lists(stage, "omjobs"), Lists(stage, "cronomjobs")));
        Assert.DoesNotContain(SetBack, stage.Logged);
    }

    [Fact]
    public void Where_its_version_is_older_than_what_was_told_everything_is_listed_again()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        var backup = stage.Store.Version;
        stage.Say("run-main", exited: 1);
        stage.Run(1);
        Assert.NotNull(stage.Pod("run-exit"));
        stage.Store.Rewind(backup); // main has not ended, and there is no exit pod
        stage.EndWatches();
        stage.Run(1);
        stage.EndWatches();
        Assert.Contains(SetBack, stage.Logged);
        stage.Run(20);
        Assert.Equal((2, 2, 2), (Lists(stage, "pods"), Lists(stage, "omjobs"), Lists(stage, "cronomjobs")));
        Assert.Equal("Running", stage.Phase);
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        Assert.Equal("ExitHandlerRunning", stage.Phase);
        Assert.NotNull(stage.Pod("run-exit"));
    }

    /// <summary>So many GETs of the OMJob are answered with what it was before its last change.</summary>
    static Stage Answering(int older)
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh().WithFinalizers(OMJobs.Job.Finalizer));
        var before = stage.Job!.Bytes();
        stage.Ask("PATCH", "/apis/pipelines.openmetadata.org/v1/namespaces/data/omjobs/run",
            Json.Object("""{"metadata":{"labels":{"a":"b"} } }"""));
        stage.Fault = r => r.Method == HttpMethod.Get && r.Path.EndsWith(JobPath, StringComparison.Ordinal)
            && older-- > 0 ? new(200, before) : null;
        stage.Start();
        return stage;
    }

    [Fact]
    public void An_older_answer_that_a_second_one_does_not_confirm_is_passed_by()
    {
        var stage = Answering(older: 1);
        Assert.DoesNotContain(SetBack, stage.Logged);
        Assert.Equal("Running", stage.Phase);
        Assert.Equal((1, 3), (Lists(stage, "omjobs"), stage.At($"GET {JobPath}").Length));
    }

    [Fact]
    public void An_older_answer_that_a_second_one_confirms_has_everything_listed_again()
    {
        var stage = Answering(older: 2);
        Assert.Contains(SetBack, stage.Logged);
        stage.Run(1);
        Assert.Equal((2, 2), (Lists(stage, "pods"), Lists(stage, "omjobs")));
        Assert.Equal("Running", stage.Phase);
    }

    [Fact]
    public void A_write_that_is_no_newer_than_what_was_told_has_everything_listed_again()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        var backup = stage.Store.Version;
        for (var i = 0; i < 10; i++) stage.Create(AnOMJob.Pending().Named($"never-{i}"));
        stage.Run(1);
        stage.Store.Rewind(backup);
        stage.Run(3598);
        Assert.DoesNotContain(SetBack, stage.Logged);
        stage.Run(2); // main has not started within its deadline: that goes to status
        Assert.Contains(SetBack, stage.Logged);
        Assert.StartsWith("Main pod was stopped: it did not start within 1h", stage.Message, StringComparison.Ordinal);
        stage.Run(1);
        Assert.Equal(2, Lists(stage, "omjobs"));
    }

    [Fact]
    public void What_was_listed_before_the_versions_went_back_is_listed_again()
    {
        var stage = new Stage();
        for (var i = 0; i < 12; i++) stage.Create(AnOMJob.Finished().Named($"run-{i:00}"));
        var backup = stage.Store.Version;
        stage.Store.Skip(100);
        stage.Start();
        var all = stage.Held;
        Assert.Equal(12, all.Length);
        var (refused, pages) = (0, 0);
        stage.Fault = request =>
        {
            if (!request.Path.Contains("/omjobs?", StringComparison.Ordinal)) return null;
            if (request.OnLine is not null) return refused++ == 0 ? new(410, []) : null;
            if (!request.Path.Contains("&continue=", StringComparison.Ordinal) || pages++ > 0) return null;
            var second = stage.Store.Handle(ApiRequest.To("GET", request.Path, default, null)).Bytes();
            stage.Store.Rewind(backup);
            stage.EndWatches(); // mute: so it is noticed while the second page is on its way
            return new(200, second);
        };
        stage.EndWatches();
        stage.Run(5);
        Assert.Contains(SetBack, stage.Logged);
        Assert.Equal(all, stage.Held);
    }

    [Fact]
    public void G21_a_pod_that_was_seen_stopped_did_not_succeed_where_its_deletion_is_forgotten()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Say("run-main", exited: null);
        stage.Run(1);
        var backup = stage.Store.Version;
        var refused = 0;
        stage.Fault = request => IsUpdate(request, "/status") ? new(500, [])
            : request.OnLine is not null && request.Path.Contains("/pods?", StringComparison.Ordinal) && refused++ == 0
                ? new(410, []) : null;
        stage.Ask("DELETE", "/api/v1/namespaces/data/pods/run-main");
        stage.Say("run-main", exited: 0);
        stage.EndWatches(); // and pods are listed: that it ran while it was being deleted was never told
        stage.Run(1);
        stage.Store.Rewind(backup);
        stage.Say("run-main", exited: 0); // as its kubelet tells again
        stage.Fault = _ => null;
        stage.EndWatches();
        stage.Run(40);
        Assert.Contains(SetBack, stage.Logged);
        Assert.StartsWith("Main pod was stopped (exit code 0 afterwards)", stage.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void G21_an_answer_that_shows_a_pod_being_stopped_counts_also_where_its_labels_do_not_stay()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        stage.Fault = r =>
        {
            if (IsUpdate(r, "/run-main")) return new(200, stage.Pod("run-main")!.Bytes());
            if (r.Method != HttpMethod.Delete) return null;
            var deleted = stage.Ask("DELETE", r.Path).Bytes(); // all that shows it running while it is being deleted
            stage.Say("run-main", exited: 0, at: Moment.Now.AddSeconds(-30)); // its node's clock is behind
            return new(200, deleted);
        };
        stage.Start();
        stage.Ask("PATCH", "/api/v1/namespaces/data/pods/run-main",
            Json.Object($$"""{"metadata":{"labels":{"{{LabelKeys.Name}}":null} } }"""));
        stage.Say("run-main", exited: null);
        stage.PatchJob(Json.Object($$"""{"message":"Main pod was stopped: it did not start within 1h"}"""));
        stage.Run(60);
        Assert.Equal("ExitHandlerRunning", stage.Phase);
        Assert.Equal("failed", stage.Pod("run-exit").Items("spec", "containers").Single().Items("env")
            .Single(e => e.Text("name") == "pipelineStatus").Text("value"));
    }

    [Fact]
    public void A_deletion_that_was_answered_before_the_versions_went_back_is_done_again()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Finished().WithFinalizers().With("completionTime", Moment.Stamp(-86_395)));
        var backup = stage.Store.Version;
        stage.Store.Skip(100);
        stage.Start();
        stage.Run(1);
        stage.EndWatches();
        stage.Fault = request =>
        {
            if (request.Method != HttpMethod.Delete) return null;
            stage.Fault = _ => null;
            var deleted = stage.Store.Handle(ApiRequest.To("DELETE", request.Path, default, null)).Bytes();
            stage.Store.Rewind(backup);
            stage.EndWatches();
            stage.Run(1); // it is listed again before the answer comes
            return new(200, deleted);
        };
        stage.Run(10);
        Assert.Contains(SetBack, stage.Logged);
        Assert.Equal(2, stage.At("DELETE").Length);
        Assert.Null(stage.Job);
    }

    // ----- statuses are replaced

    [Fact]
    public void Where_update_is_not_granted_a_status_is_patched_and_replacing_it_is_tried_again_after_an_hour()
    {
        var stage = new Stage
        {
            Fault = r => r.Method != HttpMethod.Put ? null : Refusal(403, "Forbidden",
                "omjobs \\\"run\\\" is forbidden: User \\\"u\\\" cannot update resource \\\"omjobs/status\\\" in API group"),
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Say("run-main", exited: null);
        stage.Run(3700);
        Assert.Equal("Running", stage.Phase);
        Assert.Single(stage.At("PUT"));
        stage.End(0);
        Assert.Equal("Succeeded", stage.Phase);
        Assert.Equal(2, stage.At("PUT").Length);
        Assert.Single(stage.Logged, line => line.Contains("no right to update", StringComparison.Ordinal));
    }

    [Fact]
    public void A_policy_that_misses_what_a_status_alone_has_not_is_shown_a_patch_of_it_each_time()
    {
        var stage = new Stage
        {
            Fault = r => r.Method != HttpMethod.Put ? null
                : Refusal(403, "Forbidden", "policy \\\"x\\\" denied request: no such key: labels"),
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.End(0);
        Assert.Equal("Succeeded", stage.Phase);
        Assert.Equal(3, stage.At("PUT").Length);
        Assert.DoesNotContain(stage.Logged, line => line.Contains("no right", StringComparison.Ordinal));
    }

    [Fact]
    public void Where_a_role_gets_update_instead_of_patch_a_run_goes_on()
    {
        var (stage, granted) = (new Stage(), "patch");
        stage.Fault = r => !r.Path.EndsWith("run/status", StringComparison.Ordinal)
            || (r.Method == HttpMethod.Put ? "update" : "patch") is var verb && verb == granted ? null
            : Refusal(403, "Forbidden",
                $"omjobs \\\"run\\\" is forbidden: User \\\"u\\\" cannot {verb} resource \\\"omjobs/status\\\" in API group");
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Say("run-main", null);
        stage.Run(5);
        Assert.Equal("Running", stage.Phase);
        granted = "update";
        stage.Say("run-main", 3);
        stage.Run(10);
        Assert.NotNull(stage.Pod("run-exit"));
    }

    [Theory]
    [InlineData("""{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":META}""")] // as a proxy may
    [InlineData("""{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":META}""")]
    [InlineData("""{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":META}""")]
    [InlineData("""{"kind":"Status","status":"Success"}""")]
    [InlineData("{}")]
    [InlineData("")]
    public void Whatever_a_status_is_answered_with_the_run_goes_on_at_once_and_says_how_main_ended(string answer)
    {
        var stage = new Stage();
        stage.Fault = r =>
        {
            if (r.Accept != MediaTypes.Metadata) return null;
            var done = stage.Ask(r.Method.Method, r.Path, Json.Object(Encoding.UTF8.GetString(r.Body!)));
            return !done.Ok ? new(done.Code, done.Bytes()) : new(200, Encoding.UTF8.GetBytes(
                answer.Replace("META", done.Body["metadata"]!.ToJsonString(), StringComparison.Ordinal)));
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(1);
        stage.End(3);
        Assert.Equal("Failed", stage.Phase);
        Assert.Equal(3, stage.At("PUT").Length);
        Assert.Contains("Warning ExitHandlerCreated: Main pod failed with exit code 3; created exit handler pod run-exit",
            stage.Events);
    }

    [Fact]
    public void What_blocks_the_handler_is_one_event_after_that_of_the_main_pods_end()
    {
        var stage = new Stage { Fault = r => IsCreation(r, "-exit") ? Refusal(403, "Forbidden", "quota") : null };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Say("run-main", 3);
        stage.Run(20);
        Assert.Equal(["MainPodCreated", "MainPodFailed", "ExitHandlerBlocked"], stage.Sent
            .Where(s => s.What.EndsWith("/events", StringComparison.Ordinal))
            .Select(s => Json.Parse(s.Request.Body).Text("action")));
    }

    [Fact]
    public void After_a_crash_between_status_and_exit_pod_an_event_tells_how_the_main_pod_ended()
    {
        var (stage, crashed) = (new Stage(), false);
        stage.Fault = r =>
        {
            if (crashed || !IsCreation(r, "-exit")) return null;
            crashed = true;
            stage.Restart();
            return Refusal(500, "InternalError", "crash");
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(1);
        stage.Say("run-main", 3);
        stage.Run(5);
        Assert.Contains("Warning ExitHandlerCreated: Main pod failed with exit code 3; created exit handler pod run-exit",
            stage.Events);
    }

    // ----- events

    [Theory, InlineData(0, "Normal"), InlineData(3, "Warning")]
    public void A_good_run_tells_three_events_the_end_of_main_along_with_the_handlers_creation(int code, string type)
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.End(code);
        var ended = code == 0 ? "Main pod succeeded" : "Main pod failed with exit code 3";
        Assert.Equal(
        [
            "Normal MainPodCreated: Created main pod run-main",
            $"{type} ExitHandlerCreated: {ended}; created exit handler pod run-exit",
            code == 0 ? $"Normal OMJobCompleted: {ended}; exit handler succeeded"
                : $"Warning OMJobFailed: {ended}; exit handler succeeded",
        ], stage.Events);
    }

    [Fact]
    public void A_main_pods_end_is_told_at_once_where_the_handler_cannot_be_created()
    {
        var stage = new Stage { Fault = r => IsCreation(r, "-exit") ? Refusal(403, "Forbidden", "quota") : null };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Say("run-main", 0);
        stage.Run(1);
        Assert.Contains("Normal MainPodCompleted: Main pod succeeded", stage.Events);
        stage.Fault = _ => null;
        stage.Run(60);
        Assert.Contains("Normal ExitHandlerCreated: Created exit handler pod run-exit", stage.Events);
    }

    // ----- what is not held, and what may have been done

    [Fact]
    public void P_a_pod_that_needs_nothing_but_an_end_gets_it_after_a_restart_too()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Say("run-main", exited: null);
        stage.Run(1);
        stage.Fault = request => IsUpdate(request, "/status") ? new(500, []) : null;
        const string pod = "/api/v1/namespaces/data/pods/run-main"; // as the other operator makes it: without finalizer
        Assert.True(stage.Ask("PATCH", pod, Json.Object("""{"metadata":{"finalizers":null}}""")).Ok);
        Assert.True(stage.Ask("PATCH", pod + "/status", Json.Object("""{"status":{"phase":"Failed"}}""")).Ok);
        stage.Restart();
        stage.Fault = _ => null;
        stage.Run(89); // its grace of 30 s and --lost-pod-slack
        Assert.Equal("Running", stage.Phase);
        stage.Run(5);
        Assert.StartsWith("Main pod failed", stage.Message, StringComparison.Ordinal);
        Assert.NotNull(stage.Pod("run-exit"));
    }

    [Fact]
    public void A_second_main_pod_is_made_by_nobody_who_has_not_asked_for_the_OMJob_since_the_first_one()
    {
        var stage = new Stage { Fault = r => IsUpdate(r, "/status") ? new(0, []) { Fault = "connection reset by peer" } : null };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Ask("PATCH", "/api/v1/namespaces/data/pods/run-main", Json.Object("""{"metadata":{"finalizers":null}}"""));
        stage.Ask("DELETE", "/api/v1/namespaces/data/pods/run-main",
            new System.Text.Json.Nodes.JsonObject { ["gracePeriodSeconds"] = 0 }); // another operator has ended the run
        stage.Run(5);
        var posts = stage.Sent.FindAll(s => IsCreation(s.Request, "-main"));
        Assert.Equal(2, posts.Count);
        var between = stage.Sent[stage.Sent.IndexOf(posts[0])..stage.Sent.IndexOf(posts[1])];
        Assert.Contains(between, s => s.What == $"GET {JobPath}");
    }

    [Fact]
    public void F1_a_finalizer_that_somebody_has_taken_off_a_moment_before_is_not_put_back()
    {
        const string pod = "/api/v1/namespaces/data/pods/run-main";
        var stage = new Stage();
        stage.Fault = request =>
        {
            if (request.MediaType != MediaTypes.StrategicMerge) return null;
            Assert.True(stage.Ask("PATCH", pod, Json.Object("""{"metadata":{"finalizers":null}}""")).Ok);
            // API servers before 1.23 add it to a list that is not there: they have to be told of which version it is.
            Assert.NotNull(Json.Parse(request.Body).Text("metadata", "resourceVersion"));
            return null;
        };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.End(0);
        Assert.Equal("Succeeded", stage.Phase);
        Assert.Contains(stage.Sent, s => s.Request.MediaType == MediaTypes.StrategicMerge);
        Assert.Null(stage.Pod("run-main")!["metadata"]!["finalizers"]);
        Assert.Null(stage.Job!["metadata"]!["finalizers"]);
    }

    [Fact]
    public void D6_a_late_main_pod_of_a_gone_OMJob_gives_its_name_free_though_no_watch_tells_of_it()
    {
        var stage = new Stage();
        stage.Create(AnOMJob.Fresh());
        var pod = stage.Ask("POST", "/api/v1/namespaces/data/pods", Json.Object($$"""
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"run-main","finalizers":["{{OMJobs.Pod.Finalizer}}"],
             "annotations":{"{{LabelKeys.Uid}}":"of-one-that-is-gone"} },
             "spec":{"containers":[{"name":"main","image":"i"}]} }
            """));
        Assert.True(pod.Ok, pod.Body.Text("message"));
        stage.Start();
        stage.Run(60);
        Assert.Equal("Running", stage.Phase);
        Assert.NotEqual(pod.Body.Uid(), stage.Pod("run-main")!.Uid());
    }

    [Fact]
    public void A_history_whose_deletion_conflicts_is_asked_for_less_and_less_often()
    {
        var stage = new Stage { Fault = r => r.Method == HttpMethod.Delete ? Refusal(409, "Conflict", "UID") : null };
        const string group = "/apis/pipelines.openmetadata.org/v1/namespaces/data";
        var cron = stage.Ask("POST", group + "/cronomjobs", Json.Object("""
            {"apiVersion":"pipelines.openmetadata.org/v1","kind":"CronOMJob","metadata":{"name":"yearly"},
             "spec":{"schedule":"0 0 1 1 *","suspend":true,"successfulJobsHistoryLimit":0,
             "omJobSpec":{"mainPodSpec":{"image":"i","serviceAccountName":"default","command":["main"]} } } }
            """));
        Assert.True(cron.Ok, cron.Body.Text("message"));
        stage.Create(AnOMJob.Finished());
        Assert.True(stage.Ask("PATCH", group + "/omjobs/run", Json.Object($$"""
            {"metadata":{"ownerReferences":[{"apiVersion":"pipelines.openmetadata.org/v1","kind":"CronOMJob",
             "name":"yearly","uid":"{{cron.Body.Uid()}}","controller":true}]} }
            """)).Ok);
        stage.Start();
        stage.Run(60);
        Assert.InRange(stage.At("DELETE").Length, 3, 12);
    }
}
