// The env of a run holds credentials: no value of it may reach a log, a status or an event.

using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.Logging;
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
                if (main.Sight == Sight.Refused && given.Status.Phase != Phase.Pending) continue; // it was created
                var decision = Moment.Decide(given, main, PodView.Unknown, Moment.At(5000));
                if (decision.Status is not { } status) continue;
                var body = Encoding.UTF8.GetString(Bodies.Status(given, status, Moment.Now));
                Assert.DoesNotContain("s3cret", body + decision.Why + decision.Fact?.Message, StringComparison.Ordinal);
            }
    }

    [Fact]
    public void The_words_of_an_answer_are_the_servers_message_and_never_its_body()
    {
        Reply Answer(int code, string body) => new(code, Encoding.UTF8.GetBytes(body));
        Assert.Equal("not today", Answer(403, """{"message":"not today","metadata":{"x":"s3cret"}}""").Words);
        Assert.Equal("the API server answered 500", Answer(500, "<html>s3cret</html>").Words);
        Assert.Equal("the API server answered 502", Answer(502, """{"half":"s3cret""").Words);
        Assert.Equal("the API server answered 200", Answer(200, AnOMJob.Pending().WithMain(Main).Json).Words);
        Assert.Equal("cut", (Answer(0, "s3cret") with { Fault = "cut" }).Words);
    }

    [Fact]
    public void An_event_tells_the_facts_message_alone()
    {
        var fact = new Fact("MainPodFailed", "Main pod failed with exit code 1", true) { Name = "run.1", Count = 1 };
        using var json = JsonDocument.Parse(Bodies.Event(fact, Job));
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
        var settings = new Settings { Namespaces = [""], Clocks = Moment.Clocks };
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
