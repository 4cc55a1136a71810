// Run defaults in whole runs, step by step on a virtual clock: what they reach, what becomes of a run that they are bad
// for, and of one in whose time they change.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;
using static OMJobs.Tests.Stage;

public sealed class DefaultsRunTests
{
    const string Label = "mainPodSpec: {labels: {team: blue}}\nexitHandlerSpec: {labels: {team: blue}}\n";

    static Stage Started(string defaults, Func<Request, Reply?>? fault = null, AnOMJob? job = null)
    {
        var stage = new Stage { RunDefaults = defaults, Fault = fault ?? (_ => null) };
        stage.Create(job ?? AnOMJob.Fresh());
        stage.Start();
        stage.Run(1);
        return stage;
    }

    static string? Team(JsonObject? pod) => pod.Text("metadata", "labels", "team");
    static string? Version(JsonObject? pod) => pod.Text("metadata", "annotations", LabelKeys.Defaults);
    static string[] Warnings(Stage stage) => [.. stage.Events.Where(e => e.Contains("RunDefaultsLeftOut"))];

    static bool HasTeam(Request request, string pod) =>
        IsCreation(request, pod) && Team(Json.Parse(request.Body) as JsonObject) is not null;

    static Reply Invalid() => Refusal(422, "Invalid", "Pod \\\"x\\\" is invalid: metadata.labels: Invalid value: no",
        """{"kind":"Pod","causes":[{"reason":"FieldValueInvalid","message":"no","field":"metadata.labels"}]}""");

    [Fact]
    public void They_reach_both_pods_and_what_the_OMJob_says_itself_wins()
    {
        var stage = Started(Label + "activeDeadlineSeconds: 77",
            job: AnOMJob.Fresh().WithExit("""{"image":"i","command":["x"],"labels":{"team":"own"}}"""));
        Assert.Equal("blue", Team(stage.Pod("run-main")));
        Assert.Equal(77, stage.Pod("run-main").Long("spec", "activeDeadlineSeconds"));
        stage.End(main: 0);
        Assert.Equal("own", Team(stage.Pod("run-exit")));
        Assert.Null(stage.Pod("run-exit").Long("spec", "activeDeadlineSeconds"));
        Assert.Equal("Succeeded", stage.Phase);
        Assert.Equal(RunDefaults.Parse(stage.RunDefaults!).Hash, Version(stage.Pod("run-main")));
        Assert.Null(Version(stage.Pod("run-exit"))); // it would be the same without
        Assert.Empty(Warnings(stage));
    }

    [Fact]
    public void The_operator_stops_a_run_past_the_deadline_that_only_they_give()
    {
        var stage = Started("activeDeadlineSeconds: 60");
        stage.Say("run-main", exited: null);
        Assert.True(stage.Ask("PATCH", "/api/v1/namespaces/data/pods/run-main/status",
            new() { ["status"] = new JsonObject { ["startTime"] = Json.Time(stage.Store.Now) } }).Ok);
        stage.Run(180); // deadline, grace period and a minute for the kubelet
        Assert.StartsWith("Main pod was stopped: it ran past its activeDeadlineSeconds of 60", stage.Message,
            StringComparison.Ordinal);
    }

    /// <summary>Whatever the API server says no with, as long as it looked at the pod.</summary>
    [Theory]
    [InlineData(422, "")]
    [InlineData(400, "BadRequest")]
    [InlineData(403, "Forbidden")]
    public void G23_an_exit_pod_that_is_refused_with_them_is_made_at_once_of_the_OMJob_alone(int code, string reason)
    {
        var refusal = code == 422 ? Invalid() : Refusal(code, reason, "pods \\\"run-exit\\\" is forbidden: no PriorityClass");
        var stage = Started(Label, r => HasTeam(r, "-exit") ? refusal : null);
        stage.End(main: 0);
        Assert.Equal("Succeeded", stage.Phase);
        Assert.Equal((null, null), (Team(stage.Pod("run-exit")), Version(stage.Pod("run-exit"))));
        var told = Assert.Single(Warnings(stage));
        Assert.StartsWith("Warning RunDefaultsLeftOut: Exit handler pod run-exit was created without the run defaults: with "
            + "them it is refused: ", told, StringComparison.Ordinal);
        Assert.Contains(code == 422 ? "is invalid: metadata.labels" : "no PriorityClass", told, StringComparison.Ordinal);
    }

    [Fact]
    public void An_exit_pod_that_is_refused_with_and_without_them_is_blocked_and_has_them_once_it_is_not()
    {
        var blocked = true;
        var stage = Started(Label, r => blocked && IsCreation(r, "-exit")
            ? Refusal(403, "Forbidden", "pods \\\"run-exit\\\" is forbidden: exceeded quota: none") : null);
        stage.Say("run-main", exited: 0);
        stage.Run(60);
        Assert.Contains("exit handler is blocked: pods \"run-exit\" is forbidden: exceeded quota", stage.Message,
            StringComparison.Ordinal);
        blocked = false;
        stage.Run(40);
        Assert.Equal("blue", Team(stage.Pod("run-exit")));
        Assert.Empty(Warnings(stage));
    }

    /// <summary>A webhook that is away, or says so by any code, and looks at that label.</summary>
    [Theory]
    [InlineData(500, "InternalError")]
    [InlineData(429, "TooManyRequests")]
    [InlineData(404, "NotFound")]
    [InlineData(401, "")]
    [InlineData(410, "")]
    [InlineData(504, "Timeout")]
    [InlineData(0, "")]
    public void G23_an_exit_pod_with_them_that_fails_again_and_again_is_made_of_the_OMJob_alone(int code, string reason)
    {
        var refusal = code == 0 ? Reply.Failed("no answer within 10s") : Refusal(code, reason, "failed calling webhook");
        var stage = Started(Label, r => HasTeam(r, "-exit") ? refusal : null);
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        Assert.Null(stage.Pod("run-exit"));
        stage.Run(180);
        Assert.Null(Team(stage.Pod("run-exit")));
        Assert.Contains(code == 0 ? "no answer" : "failed calling webhook", Assert.Single(Warnings(stage)),
            StringComparison.Ordinal);
    }

    [Fact]
    public void G23_an_API_server_that_is_away_takes_no_run_defaults_from_an_exit_pod()
    {
        var away = false;
        var stage = Started(Label);
        stage.Fault = r =>
        {
            away |= IsCreation(r, "-exit");
            return away ? Reply.Failed("connection refused") : null;
        };
        stage.Say("run-main", exited: 0);
        stage.Run(600);
        Assert.True(away);
        stage.Fault = _ => null;
        stage.Run(60);
        Assert.Equal("blue", Team(stage.Pod("run-exit")));
    }

    /// <summary>A quota that wants limits, a policy that wants a label: with them the pod is as it must be.</summary>
    [Theory]
    [InlineData(403, "Forbidden")]
    [InlineData(422, "Invalid")]
    public void G23_the_last_attempt_has_them_where_it_is_refused_without(int code, string reason)
    {
        var stage = Started(Label + "exitHandlerBackoffLimit: 1\n", r => !IsCreation(r, "") || HasTeam(r, "") ? null
            : code == 422 ? Invalid() : Refusal(code, reason, "failed quota: compute: must specify limits.cpu"));
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        stage.Say("run-exit", exited: 1);
        stage.Run(20);
        Assert.Equal("blue", Team(stage.Pod("run-exit-2")));
        stage.Say("run-exit-2", exited: 1);
        stage.Run(40);
        Assert.Equal("blue", Team(stage.Pod("run-exit-3"))); // one more, if it may be made alone by now
        stage.Say("run-exit-3", exited: 1);
        stage.Run(1);
        Assert.Equal("Failed", stage.Phase);
        Assert.Empty(Warnings(stage));
    }

    /// <summary>The OMJob counts on a volume of theirs, say: alone it can never be.</summary>
    [Theory, InlineData(false), InlineData(true)]
    public void G23_a_handler_that_is_blocked_with_them_and_invalid_without_is_not_given_up(bool deleted)
    {
        var blocked = true;
        var stage = Started(Label, r => !IsCreation(r, "-exit") || r.Path.Contains("dryRun", StringComparison.Ordinal)
            ? null : !HasTeam(r, "-exit") ? Invalid()
            : blocked ? Refusal(403, "Forbidden", "exceeded quota: pods") : null);
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        if (deleted) stage.DeleteJob();
        stage.Run(1500);
        blocked = false;
        stage.Run(40);
        Assert.Equal("blue", Team(stage.Pod("run-exit")));
    }

    [Fact]
    public void G23_one_that_is_invalid_either_way_is_given_up_after_its_deadline()
    {
        var stage = Started(Label, r => IsCreation(r, "-exit") ? Invalid() : null);
        stage.Say("run-main", exited: 0);
        stage.Run(590);
        Assert.Equal("ExitHandlerRunning", stage.Phase);
        stage.Run(60);
        Assert.Equal("Failed", stage.Phase);
        Assert.Contains("exit handler cannot be created: Pod \"x\" is invalid", stage.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void G23_where_exit_handlers_have_no_deadline_one_that_never_starts_with_them_has_ten_minutes()
    {
        var stage = new Stage(Moment.Clocks with { ExitHandlerDeadline = TimeSpan.Zero }) { RunDefaults = Label };
        stage.Create(AnOMJob.Fresh());
        stage.Start();
        stage.Run(1);
        stage.Say("run-main", exited: 0);
        stage.Run(620);
        Assert.NotNull(stage.Pod("run-exit-2"));
        stage.Say("run-exit-2", exited: null);
        stage.Run(7200); // it has started
        Assert.Null(stage.Pod("run-exit-3"));
    }

    /// <summary>D1: it is not decided on what the first refusal has made old.</summary>
    [Fact]
    public void G23_before_the_second_creation_the_OMJob_is_asked_for_again()
    {
        var stage = Started(Label, r => HasTeam(r, "-exit") ? Refusal(403, "Forbidden", "no") : null);
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        var sent = stage.Sent.Select(s => s.What.Split('?')[0]).ToList();
        var last = sent.FindLastIndex(s => s == "POST /api/v1/namespaces/data/pods");
        Assert.Equal("GET /namespaces/data/omjobs/run", sent[last - 1]);
    }

    [Theory]
    [InlineData("exitHandlerBackoffLimit: 1\n", null, 2)]
    [InlineData("", null, 4)] // the operator's own
    [InlineData("exitHandlerBackoffLimit: 1\n", 2, 3)]
    [InlineData("exitHandlerBackoffLimit: 0\n", null, 1)]
    public void G23_the_last_attempt_is_made_of_the_OMJob_alone(string limit, int? own, int attempts)
    {
        var job = AnOMJob.Fresh();
        if (own is not null) job.WithSpec("exitHandlerBackoffLimit", own);
        var stage = Started(Label + limit, job: job);
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        for (var attempt = 1; attempt <= attempts; attempt++)
        {
            var name = PodTemplate.ExitName("run", attempt);
            Assert.Equal(attempt == attempts ? null : "blue", Team(stage.Pod(name)));
            stage.Say(name, exited: 1);
            stage.Run(200);
        }
        Assert.Equal("Failed", stage.Phase);
        Assert.Contains("it is the last attempt", Assert.Single(Warnings(stage)), StringComparison.Ordinal);
    }

    [Fact]
    public void G23_a_run_fails_on_no_attempt_that_had_them_though_the_limit_is_another_after_a_restart()
    {
        var stage = Started(Label);
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        Assert.Equal("blue", Team(stage.Pod("run-exit")));
        stage.RunDefaults = Label + "exitHandlerBackoffLimit: 0";
        stage.Restart();
        stage.Say("run-exit", exited: 1);
        stage.Run(20);
        Assert.Null(Team(stage.Pod("run-exit-2")));
        stage.Say("run-exit-2", exited: 0);
        stage.Run(1);
        Assert.Equal("Succeeded", stage.Phase);
    }

    [Fact]
    public void A_main_pod_that_is_invalid_with_them_is_told_to_its_handler()
    {
        var stage = Started(Label, r => HasTeam(r, "-main") ? Invalid() : HasTeam(r, "-exit") ? Invalid() : null);
        stage.Run(100);
        Assert.StartsWith("Main pod cannot be created: Pod \"x\" is invalid", stage.Message, StringComparison.Ordinal);
        Assert.NotNull(stage.Pod("run-exit"));
    }

    [Fact]
    public void An_OMJob_without_an_exit_handler_ends_without_one()
    {
        var stage = Started(Label + "exitHandlerBackoffLimit: 2", job: AnOMJob.Fresh().WithoutExitHandler());
        stage.Say("run-main", exited: 0);
        stage.Run(1);
        Assert.Equal("Succeeded", stage.Phase);
        Assert.Null(stage.Pod("run-exit"));
    }

    // ----- the file changes

    static readonly string Red = Label.Replace("blue", "red", StringComparison.Ordinal);

    [Fact]
    public void A_run_has_the_version_that_its_main_pod_was_made_with()
    {
        var stage = Started(Label);
        for (var i = 0; i < 10; i++)
        {
            stage.RunDefaults = Red + $"# {i}";
            stage.Run(180); // longer than versions are kept that nobody needs
        }
        stage.End(main: 0);
        Assert.Equal("blue", Team(stage.Pod("run-exit")));
        stage.Create(AnOMJob.Fresh().Named("next"));
        stage.Run(1);
        Assert.Equal("red", Team(stage.Pod("next-main")));
    }

    [Fact]
    public void After_a_restart_the_current_version_serves()
    {
        var stage = Started(Label);
        stage.RunDefaults = Red;
        stage.Restart();
        stage.End(main: 0);
        Assert.Equal("red", Team(stage.Pod("run-exit")));
    }

    [Theory]
    [InlineData("mainPodSpec: {labels: {team: hunter2-secret, x: 5}}", "mainPodSpec.labels.x: is no string")]
    [InlineData(null, "it is gone")]
    public void A_bad_new_file_keeps_the_old_and_says_so_once(string? bad, string why)
    {
        var stage = Started(Label);
        stage.RunDefaults = bad;
        stage.Run(60);
        var logged = Assert.Single(stage.Logged, l => l.StartsWith("Warning run defaults", StringComparison.Ordinal));
        Assert.StartsWith($"Warning run defaults defaults.yaml: {why}; version ", logged, StringComparison.Ordinal);
        Assert.EndsWith(" stays", logged, StringComparison.Ordinal);
        stage.Create(AnOMJob.Fresh().Named("next"));
        stage.Run(1);
        Assert.Equal("blue", Team(stage.Pod("next-main")));
        stage.RunDefaults = Red;
        stage.Run(60);
        stage.Create(AnOMJob.Fresh().Named("last"));
        stage.Run(1);
        Assert.Equal("red", Team(stage.Pod("last-main")));
        Assert.DoesNotContain(stage.Logged, l => l.Contains("hunter2", StringComparison.Ordinal));
    }

    /// <summary>Whoever writes it in pieces: each is read once at most, or twice alike.</summary>
    [Fact]
    public void A_file_that_is_being_written_is_not_taken()
    {
        var (pieces, read) = (new Queue<string>(
            [Label, Label, Label[..20] + "}}", "", "activeDeadlineSeconds: 6", Red, Red, Red]), 0);
        var file = new DefaultsFile("f", () => { read++; return pieces.Dequeue(); });
        file.Load();
        var taken = new List<(int, string)>();
        while (pieces.Count > 0)
            if (file.Changed(() => new HashSet<string>(), Moment.Now)) taken.Add((read, file.Current.Hash));
        Assert.Equal([(7, RunDefaults.Parse(Red).Hash)], taken);
    }

    [Fact]
    public void Versions_that_nobody_needs_are_let_go_after_ten_minutes()
    {
        var text = Label;
        var file = new DefaultsFile("f", () => text);
        file.Load();
        var first = file.Current;
        var needed = new HashSet<string> { first.Hash };
        void Take(string next, double minutes)
        {
            text = next;
            file.Changed(() => needed, Moment.Now.AddMinutes(minutes));
            Assert.True(file.Changed(() => needed, Moment.Now.AddMinutes(minutes)));
        }
        Take(Red, 0);
        var second = file.Current;
        Take("", 1);
        Assert.Equal((first, second), (file.Of(first.Hash), file.Of(second.Hash)));
        Take(" ", 20);
        Assert.Equal((first, file.Current), (file.Of(first.Hash), file.Of(second.Hash)));
        needed.Clear();
        Take("", 40);
        Assert.Equal(file.Current, file.Of(first.Hash));
    }

    // ----- what is told

    [Theory, InlineData("main"), InlineData("exit")]
    public void Their_env_values_are_cut_out_of_the_API_servers_words(string pod)
    {
        const string secret = "mainPodSpec: &pod {env: [{name: key, value: hunter2-of-file}]}\nexitHandlerSpec: *pod\n";
        var stage = Started(secret, r => IsCreation(r, $"-{pod}") ? Refusal(403, "Forbidden", "no hunter2-of-file, no") : null);
        stage.RunDefaults = "";
        if (pod == "exit") stage.Say("run-main", exited: 0);
        stage.Run(30);
        Assert.Contains("no ***, no", stage.Message, StringComparison.Ordinal);
        var all = string.Join('\n', [stage.Message, .. stage.Events, .. stage.Logged]);
        Assert.DoesNotContain("hunter2", all, StringComparison.Ordinal);
    }
}
