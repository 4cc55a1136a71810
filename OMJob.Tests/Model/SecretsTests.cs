// The env of a run holds credentials: no value of it may reach a log, a status or an event.

using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace OMJobs.Tests;

public sealed class SecretsTests
{
    const string Main =
        """{"image":"i","env":[{"name":"config","value":"s3cret-main"},{"name":"mode","value":"on"}]}""";
    const string Exit = """{"image":"i","env":[{"name":"config","value":"s3cret-exit"}]}""";
    static readonly Job Job = AnOMJob.Pending().WithMain(Main).WithExit(Exit).Job;

    [Theory]
    [InlineData("nothing to hide", "nothing to hide")]
    [InlineData("Invalid value: \"s3cret-main\": no", "Invalid value: \"***\": no")]
    [InlineData("s3cret-exit and s3cret-main, s3cret-main", "*** and ***, ***")]
    [InlineData("S3CRET-MAIN is another word", "S3CRET-MAIN is another word")]
    [InlineData("on the node", "on the node")]
    public void Values_of_either_env_are_replaced(string words, string expected) =>
        Assert.Equal(expected, Secrets.Redact(words, Job));

    [Theory, InlineData("main"), InlineData("exit")]
    public void Values_of_an_init_containers_env_are_replaced(string pod)
    {
        const string spec = """
            {"image":"i","initContainers":[{"name":"a","env":[{"name":"x","value":"s3cret-one"}]},7,{"name":"none"},
             {"name":"b","env":[{"name":"y","valueFrom":{}},{"name":"z","value":"s3cret-two"}]}]}
            """;
        var job = AnOMJob.Pending().WithMain(pod == "main" ? spec : Main).WithExit(pod == "exit" ? spec : Exit).Job;
        Assert.Equal("*** and ***", Secrets.Redact("s3cret-one and s3cret-two", job));
    }

    /// <summary>As OpenMetadata makes them: the env repeats what everybody may know of a run.</summary>
    static Job Known(params (string Name, string Value)[] more)
    {
        (string Name, string Value)[] env =
        [
            ("jobName", "om-job-x"), ("namespace", "data"), ("uid", "uid-of-run"), ("pipelineRunId", "2b7d4c10-run"),
            ("pipeline", "sample.hello"), ("mainPod", "om-job-x-main"), ("exitPod", "om-job-x-exit-2"),
            ("team", "blue-team"), .. more,
        ];
        return AnOMJob.HandlerRunning().Named("om-job-x").With("mainPodName", "om-job-x-main").AtAttempt(2)
            .WithLabel(LabelKeys.RunId, "2b7d4c10-run").WithLabel(LabelKeys.Pipeline, "sample.hello")
            .WithMain(Spec(env, new() { ["team"] = "blue-team" }))
            .WithExit(Spec(env, new() { ["level"] = "gold" })).Job;

        static string Spec(IEnumerable<(string Name, string Value)> env, JsonObject labels) => new JsonObject
        {
            ["image"] = "i",
            ["labels"] = labels,
            ["env"] = new JsonArray([.. env.Select(e => new JsonObject { ["name"] = e.Name, ["value"] = e.Value })]),
        }.ToJsonString();
    }

    [Theory]
    [InlineData("pods \"om-job-x-main\" is forbidden: User \"system:serviceaccount:data:omjob\" cannot")]
    [InlineData("pods \"om-job-x-exit-2\" is forbidden: exceeded quota: data-quota in the namespace \"data\"")]
    [InlineData("OMJob uid-of-run, run 2b7d4c10-run of sample.hello")]
    [InlineData("no node matches team in (blue-team)")]
    public void What_names_the_run_is_no_secret_though_its_env_repeats_it(string words) =>
        Assert.Equal(words, Secrets.Redact(words, Known()));

    [Theory]
    [InlineData("om-job-x-hunter2", "as om-job-x-hunter2 om-job-x", "as *** om-job-x")]
    [InlineData("user:data@om-job-x:5432", "no \"user:data@om-job-x:5432\" in data", "no \"***\" in data")]
    [InlineData("gold-and-silver", "level gold, key gold-and-silver", "level gold, key ***")]
    [InlineData("x-main is the key", "om-job-x-main is the key", "om-job-***")] // it begins in a name and leaves it
    public void A_secret_that_contains_a_known_word_is_replaced_whole(string secret, string words, string expected) =>
        Assert.Equal(expected, Secrets.Redact(words, Known(("key", secret))));

    [Theory]
    [InlineData("a part of a name is open", "job-x", "om-job-x and job-x-9", "om-job-x and ***-9")]
    [InlineData("one in the other", "hunter2,correct-hunter2-horse", "correct-hunter2-horse, hunter2", "***, ***")]
    [InlineData("each begins in the other", "abcdef,defghi,hijklm", "<abcdefghijklm>", "<***>")]
    [InlineData("one after the other", "abcdef,ghijkl", "<abcdefghijkl>", "<***>")]
    [InlineData("in itself", "ababab", "<abababab>", "<***>")]
    [InlineData("of four characters", "abcd,efg", "abcd efg", "*** efg")]
    public void Values_may_overlap(string what, string values, string words, string expected)
    {
        var env = values.Split(',').Select((value, i) => ($"key{i}", value));
        var said = Secrets.Redact(words, Known([.. env]));
        Assert.True(expected == said, $"{what}: {said}");
    }

    /// <summary>As the API server quotes what it refuses.</summary>
    [Theory]
    [InlineData("a\"quoted\" one", """a\"quoted\" one""")]
    [InlineData("two\nlines\tand\\slashes", """two\nlines\tand\\slashes""")]
    [InlineData("pässwörd€", "pässwörd€")]
    public void A_value_that_is_quoted_is_recognized(string value, string quoted)
    {
        Assert.Equal("\"***\": no", Secrets.Redact($"\"{quoted}\": no", Known(("key", value))));
        Assert.Equal("\"***\": no", Secrets.Redact($"\"{value}\": no", Known(("key", value))));
    }

    [Fact]
    public void No_value_survives_whatever_stands_around_it()
    {
        var job = Known();
        string[] known = ["om-job-x", "data", "om-job-x-main", "om-job-x-exit-2", "blue-team", "gold"];
        var piece = Gen.OneOf(Gen.Int[0, 5].Select(i => known[i]), Gen.String["ab\"-"]);
        var value = Gen.Select(piece, piece, piece, (a, b, c) => a + b + c);
        Gen.Select(value.Array[1, 4], piece.Array[0, 20], Gen.Int[0, 3].Array[0, 8]).Sample((values, words, at) =>
        {
            var text = string.Concat(words.Concat(at.Select(i => values[i % values.Length])));
            var env = new JsonArray([.. values.Select(v => new JsonObject { ["name"] = "k", ["value"] = v })]);
            var spec = new JsonObject { ["mainPodSpec"] = new JsonObject { ["env"] = env } };
            var said = Secrets.Redact(text, [JsonSerializer.SerializeToElement(spec)], known);
            var secrets = values.Where(v => v.Length >= 4 && !known.Any(k => k.Contains(v, StringComparison.Ordinal)));
            foreach (var secret in secrets) Assert.DoesNotContain(secret, said, StringComparison.Ordinal);
        });
    }

    [Fact]
    public void A_brief_answer_names_code_reason_and_fields_and_no_word_of_an_object()
    {
        static string Brief(int code, string body) => new Reply(code, Encoding.UTF8.GetBytes(body)).Brief;
        Assert.Equal("the API server answered 422 Invalid spec.containers[0].env[0].value metadata.name", Brief(422, """
            {"message":"Pod \"x\" is invalid: s3cret","reason":"Invalid","details":{"name":"s3cret","kind":"Pod",
             "causes":[{"reason":"s3cret","message":"s3cret","field":"spec.containers[0].env[0].value"},
             {"message":"Invalid value: \"s3cret\"","field":"metadata.name"}]},"code":422}
            """));
        Assert.Equal("the API server answered 403 Forbidden",
            Brief(403, """{"message":"s3cret","reason":"Forbidden"}"""));
        Assert.Equal("the API server answered 500", Brief(500, """{"message":"s3cret"}"""));
        Assert.Equal("the API server answered 502", Brief(502, "<html>s3cret</html>"));
        Assert.Equal("the API server answered 200", Brief(200, """{"reason":"s3cret"}"""));
        Assert.Equal("cut", (new Reply(0, "s3cret"u8.ToArray()) { Fault = "cut" }).Brief);
    }

    [Fact]
    public void The_piece_of_the_pod_that_a_parse_error_quotes_is_cut_off() => Assert.Equal(
        "json: cannot unmarshal number into Go struct field EnvVar.value of type string",
        Secrets.Redact("json: cannot unmarshal number into Go struct field EnvVar.value of type string, error found in "
            + "#10 byte of ...|\"value\":\"s3cret|..., bigger context ...|cret-main\"}|...", Job));

    [Fact]
    public void Redacted_words_are_cut_after_and_not_before()
    {
        var words = new string('x', 895) + "s3cret-main";
        Assert.DoesNotContain("s3cr", Secrets.Redact(words, Job), StringComparison.Ordinal);
        Assert.InRange(Secrets.Redact(new string('x', 5000), Job).Length, 800, 901);
    }

    [Fact]
    public void Long_words_are_redacted_in_little_memory()
    {
        var job = Known([.. Enumerable.Range(4, 60).Select(i => ("V", new string('a', i)))]);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Equal("***…", Secrets.Redact(new string('a', 1_000_000), job));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 5 << 20);
    }

    [Fact]
    public void Of_long_words_nothing_is_shown_that_may_be_a_value_cut_in_two()
    {
        var secret = string.Concat(Enumerable.Range(0, 3000).Select(i => $"{i % 10}"));
        var words = string.Concat(Enumerable.Repeat("hunter2 ", 900)) + secret; // 7,200 characters; then 3,000
        Assert.DoesNotContain("123", Secrets.Redact(words, Known(("a", "hunter2 "), ("b", secret))), StringComparison.Ordinal);
        Assert.Equal("…", Secrets.Redact(words, Known(("a", new string('x', 9000)))));
    }

    [Theory]
    [InlineData("""{"env":"s3cret-main"}""")]
    [InlineData("""{"env":[null,5,"x",{"name":"a"},{"name":"b","value":5},{"name":"c","valueFrom":{}}]}""")]
    [InlineData("""[]""")]
    public void A_spec_of_another_shape_is_read_without_a_fault(string spec) =>
        Assert.Equal("words", Secrets.Redact("words", AnOMJob.Pending().WithMain(spec).WithoutExitHandler().Job));

    [Fact]
    public void No_status_that_is_written_on_the_way_carries_a_value()
    {
        var job = AnOMJob.Running().WithMain(Main).WithExit(Exit);
        PodView[] mains =
        [
            PodView.Absent, PodView.NamespaceGoing, APod.MainPod().Exited(1),
                APod.MainPod().Waiting("ImagePullBackOff"),
            PodView.Refused(Secrets.Redact("spec.containers[0].env[0]: \"s3cret-main\"", job.Job)),
        ];
        foreach (var given in (Job[])[job.Job, AnOMJob.Pending().WithMain(Main).WithExit(Exit).Job])
            foreach (var main in mains)
            {
                if (main.Presence == Presence.Refused && given.Status.Phase != Phase.Pending) continue; // it was created
                var decision = Moment.Decide(given, main, PodView.Unknown, Moment.At(5000));
                if (decision.Status is not { } status) continue;
                var body = Encoding.UTF8.GetString(Bodies.Status(given, status, Moment.Now, true));
                Assert.DoesNotContain("s3cret", body + decision.Why + decision.Event?.Message, StringComparison.Ordinal);
            }
    }

    [Fact]
    public void The_words_of_an_answer_are_the_servers_message_and_never_its_body()
    {
        Reply Answer(int code, string body) => new(code, Encoding.UTF8.GetBytes(body));
        Assert.Equal("not today", Answer(403, """{"message":"not today","metadata":{"x":"s3cret"}}""").Message);
        Assert.Equal("the API server answered 500", Answer(500, "<html>s3cret</html>").Message);
        Assert.Equal("the API server answered 502", Answer(502, """{"half":"s3cret""").Message);
        Assert.Equal("the API server answered 200", Answer(200, AnOMJob.Pending().WithMain(Main).Json).Message);
        Assert.Equal("cut", (Answer(0, "s3cret") with { Fault = "cut" }).Message);
    }

    [Fact]
    public void An_event_tells_the_facts_message_alone()
    {
        var told = new Event("MainPodFailed", "Main pod failed with exit code 1", true) { Name = "run.1", Count = 1 };
        var recorder = new EventRecorder("OMJobOperator", "omjob-operator", (_, _) => throw new NotSupportedException(),
            TimeProvider.System, NullLogger.Instance);
        using var json = JsonDocument.Parse(recorder.Body(told, Job));
        Assert.DoesNotContain("s3cret", json.RootElement.GetRawText(), StringComparison.Ordinal);
        Assert.Equal("Main pod failed with exit code 1", json.RootElement.GetProperty("message").GetString());
        Assert.Equal("OMJobOperator", json.RootElement.GetProperty("reason").GetString());
        Assert.Equal("MainPodFailed", json.RootElement.GetProperty("action").GetString());
        Assert.Equal("Warning", json.RootElement.GetProperty("type").GetString());
    }

    /// <summary>An API server with one OMJob whose main pod a webhook refuses with 409, repeating the env.</summary>
    [Fact]
    public async Task The_words_of_a_webhook_that_refuses_with_409_are_redacted_too()
    {
        using var stop = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        var (log, done) = (new Words(),
            new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously));
        var job = AnOMJob.Pending().WithMain("""{"image":"i","env":[{"name":"config","value":"hunter2-and-more"}]}""");
        async Task<Reply> Send(Request request, CancellationToken cancel)
        {
            await Task.Yield();
            if (request.OnLine is not null) await Task.Delay(Timeout.InfiniteTimeSpan, cancel);
            if (request.Method == HttpMethod.Patch) done.TrySetResult(Encoding.UTF8.GetString(request.Body!));
            var (code, text) = (request.Method.Method, request.Path) switch
            {
                ("POST", _) => (409,
                    """{"reason":"AlreadyExists","message":"admission webhook \"w\" denied hunter2-and-more"}"""),
                ("GET", var path) when path.Contains("/pods/", StringComparison.Ordinal) =>
                    (404, """{"reason":"NotFound"}"""),
                ("GET", var path) when path.Contains("/pods?", StringComparison.Ordinal) =>
                    (200, """{"metadata":{"resourceVersion":"1"},"items":[]}"""),
                ("GET", var path) when path.Contains("/omjobs?", StringComparison.Ordinal) =>
                    (200, $$"""{"metadata":{"resourceVersion":"100"},"items":[{{job.Json}}]}"""),
                _ => (200, job.Json),
            };
            return new Reply(code, Encoding.UTF8.GetBytes(text));
        }
        var settings = new Settings { Namespaces = [""], Deadlines = Moment.Clocks };
        var run = new Operator(Send, Moment.Clocks, TimeProvider.System, log).Run(settings, stop.Token);
        var written = await done.Task.WaitAsync(TestContext.Current.CancellationToken);
        await stop.CancelAsync();
        await run;
        Assert.DoesNotContain("hunter2", written + string.Concat(log.All), StringComparison.Ordinal);
    }

    internal sealed class Words : ILogger
    {
        public ConcurrentQueue<string> All { get; } = [];
        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;
        public bool IsEnabled(LogLevel logLevel) => true;
        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter) => All.Enqueue(formatter(state, exception));
    }
}
