// What a history is made of: OMJobs, the lives of their pods, what users and machines do to them and when, how often
// requests fail. Drawn from a seed, or written down.

using System.Text.Json.Nodes;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

/// <summary>What somebody does to the cluster.</summary>
enum Deed
{
    CreateJob, DeleteJob, DeletePod, KillPod, StripLabels, StripOwner, LoseNode, Disrupt, ForeignPod, DeleteNamespace,
    Quota, Webhook, Down, JumpForward, JumpBack, KillOperator, FreezeOperator, SecondOperator,
    // From here on only where a kind of Trouble asks for it.
    SpoilPods, ForeignExits, Recreate, Overload, LabelPolicy, Drain, StallJobs, JumpHour, Restore, ChangeDefaults,
    Uninstall,
}

/// <summary>What a whole history has or has not, whatever else is done in it.</summary>
enum Trouble
{
    /// <summary>Containers stop within the second, nodes' clocks are off, kubelets report late.</summary>
    NodeClocks,
    /// <summary>Admission makes pods what they may not be, for a while: a LimitRange, an injector.</summary>
    SpoiledPods,
    /// <summary>Somebody else's pods have the names of exit pods for long.</summary>
    ForeignExits,
    /// <summary>Of two namespaces watched by name one is forbidden, until long after all else is over.</summary>
    Forbidden,
    /// <summary>Answers come seconds after what they tell, and names are taken again at once.</summary>
    LateAnswers,
    /// <summary>Refusals that say when to come again: at once, or tomorrow.</summary>
    RetryAfter,
    /// <summary>A policy takes the operator's labels from pods.</summary>
    LabelPolicy,
    /// <summary>The main pod's node is drained while the exit handler runs.</summary>
    Drain,
    /// <summary>The watch of OMJobs, and it alone, falls behind.</summary>
    StalledJobs,
    /// <summary>The server's clock goes an hour ahead for a while: what was observed then is from the future.</summary>
    ClockHour,
    /// <summary>The API server's database is restored from a backup: resource versions go back.</summary>
    Restore,
    /// <summary>There are run defaults, and they change: with some no exit pod can be, or starts.</summary>
    RunDefaults,
    /// <summary>The operator is uninstalled while runs go on, and later installed again.</summary>
    Uninstall,
    /// <summary>No trouble: somebody counts how often requests are repeated.</summary>
    Pace,
}

/// <summary>A deed, done after so many writes or so many seconds, whichever comes first.</summary>
sealed record PlannedAction(Deed Deed, int Commits, double Seconds)
{
    /// <summary>Which of the jobs, and of its pods main (false) or the exit pod.</summary>
    public int Job { get; init; }
    public bool Exit { get; init; }
    public int Attempt { get; init; } = 1;
    public string? Propagation { get; init; }
    public double Length { get; init; }
}

sealed record JobPlan(string Name, JsonObject Body)
{
    public string Namespace { get; init; } = World.Namespace;
}

/// <summary>How likely a request fails, and a list or watch comes from the past.</summary>
sealed record Faults(double Rate, double Stale, bool SmallPages)
{
    /// <summary>How likely an answer is held back on its way.</summary>
    public double Held { get; init; }
    /// <summary>The API server says when to try again.</summary>
    public bool RetryAfter { get; init; }
}

sealed record Plan
{
    public required JobPlan[] Jobs { get; init; }
    /// <summary>A CronOMJob that is there from the beginning.</summary>
    public JsonObject? Cron { get; init; }
    public PlannedAction[] Actions { get; init; } = [];
    public Faults Faults { get; init; } = new(0, 0, false);
    public int Operators { get; init; } = 1;
    /// <summary>Another process takes the place of one that dies with a request.</summary>
    public bool Replaced { get; init; } = true;
    /// <summary>Somebody edits the OMJobs all the time.</summary>
    public bool Edited { get; init; }
    /// <summary>No request may be repeated all the time.</summary>
    public bool Paced { get; init; }
    public bool HasDefaults { get; init; }
    /// <summary>A policy takes the operator's labels from pods, and never stops to.</summary>
    public bool Unlabelled { get; init; }
    /// <summary>Those that the operators watch; an empty one: all.</summary>
    public string[] Namespaces { get; init; } = [""];
    /// <summary>From when on (seconds) RBAC forbids all in World.Namespace.</summary>
    public double? ForbiddenFrom { get; init; }
    /// <summary>What can happen happens in a fixed order, time passes last.</summary>
    public bool Ordered { get; init; }
    public required Func<string, Life> LifeOf { get; init; }
    public Deadlines Clocks { get; init; } =
        new(TimeSpan.FromSeconds(60), TimeSpan.FromSeconds(45), TimeSpan.FromSeconds(15), 2);

    public static JobPlan Job(string name, Action<JsonObject>? change = null)
    {
        var spec = Json.Object("""
            {"ttlSecondsAfterFinished": 20,
             "mainPodSpec": {"image": "i", "serviceAccountName": "default", "command": ["main"],
                             "env": [{"name": "pipelineStatus", "value": "main's own"}]},
             "exitHandlerSpec": {"image": "i", "command": ["exit"],
                                 "env": [{"name": "pipelineStatus", "value": "overwritten"}]}}
            """);
        change?.Invoke(spec);
        return new(name, new JsonObject
        {
            ["apiVersion"] = "pipelines.openmetadata.org/v1",
            ["kind"] = "OMJob",
            ["metadata"] = new JsonObject { ["name"] = name },
            ["spec"] = spec,
        });
    }

    /// <summary>Trouble that the operator does not withstand yet.</summary>
    static readonly Trouble[] Off = [];

    /// <summary>OMJOB_SIM_TROUBLE: only these, comma-separated, each in every other history.</summary>
    static readonly Trouble[]? Only = Environment.GetEnvironmentVariable("OMJOB_SIM_TROUBLE") is { Length: > 0 } named
        ? [.. named.Split(',').Select(Enum.Parse<Trouble>)] : null;

    /// <summary>Whether a history has that trouble; which of the others it has makes no difference to it.</summary>
    public static bool Has(Trouble trouble, int seed) => new Random(seed ^ Hash($"{trouble}")) is var random
        && (Only is null ? !Off.Contains(trouble) && random.Next(8) == 0
            : Only.Contains(trouble) && random.Next(2) == 0);

    /// <summary>A history's plan. Each seed has its own few kinds of trouble, or they would hide one another.</summary>
    /// <param name="seed">All follows from it.</param>
    /// <param name="among">What may be done; all, if nothing is named.</param>
    public static Plan Draw(int seed, params Deed[] among)
    {
        if (among.Length == 0)
            among = [.. Enum.GetValues<Deed>().Where(d => d is > Deed.CreateJob and < Deed.SpoilPods)];
        var random = new Random(seed ^ 0x5eed);
        double Often(int oneIn, double most) => random.Next(oneIn) == 0 ? random.NextDouble() * most : 0;
        var jobs = Enumerable.Range(0, random.Next(4) == 0 ? 2 : 1).Select(i => Job($"job-{i}", s => Vary(s, random)));
        var plan = new Plan
        {
            Jobs = [.. jobs],
            Faults = new(Often(2, 0.3), Often(2, 0.5), random.Next(3) == 0),
            Operators = random.Next(4) == 0 ? 2 : 1,
            // A pod's life depends on its name, not on when it is created: so a history can be compared with another.
            LifeOf = name =>
            {
                var random = new Random(seed ^ Hash(name));
                return Has(Trouble.NodeClocks, seed) ? Life.Random(random).Rough(random) : Life.Random(random);
            },
        };
        if (Has(Trouble.Forbidden, seed)) plan = plan.Forbid(new Random(seed ^ Hash("other")));
        if (Has(Trouble.LateAnswers, seed)) plan = plan with { Faults = plan.Faults with { Held = 0.5 } };
        if (Has(Trouble.RetryAfter, seed)) plan = plan with { Faults = plan.Faults with { RetryAfter = true } };
        var policy = Has(Trouble.LabelPolicy, seed);
        plan = plan with
        {
            HasDefaults = Has(Trouble.RunDefaults, seed),
            Unlabelled = policy && new Random(seed ^ Hash("policy")).Next(2) == 0,
            Paced = policy || Has(Trouble.RetryAfter, seed) || Has(Trouble.Pace, seed),
        };
        var deeds = among.OrderBy(_ => random.Next()).Take(random.Next(5)).ToArray();
        if (random.Next(8) > 0) deeds = [.. deeds.Where(d => d != Deed.DeleteNamespace)];
        // What no watch tells of is to be let go, too.
        if (policy && among.Contains(Deed.DeleteNamespace) && new Random(seed ^ Hash("gone")).Next(4) == 0)
            deeds = [.. deeds.Take(1), Deed.DeleteNamespace];
        var actions = plan.Jobs.Skip(1).Select((_, i) => new PlannedAction(Deed.CreateJob, 20, 3) { Job = i + 1 })
            .Concat(Enumerable.Range(0, deeds.Length == 0 ? 0 : random.Next(1, 7))
                .Select(_ => Action(deeds[random.Next(deeds.Length)], plan.Jobs.Length, random)))
            .Concat(Extras(seed, plan.Jobs.Length))
            .OrderBy(a => a.Commits);
        return plan with { Actions = [.. actions] };
    }

    Plan Forbid(Random random) => this with
    {
        Jobs = [Jobs[0], Job("job-1", s => Vary(s, random)) with { Namespace = World.OtherNamespace }],
        Namespaces = [World.Namespace, World.OtherNamespace],
        ForbiddenFrom = random.Next(2) * random.NextDouble() * 60,
    };

    /// <summary>The deeds that some kinds of trouble are made of.</summary>
    static IEnumerable<PlannedAction> Extras(int seed, int jobs)
    {
        IEnumerable<PlannedAction> Some(
            Trouble trouble, Deed deed, int commits, double least, double most, bool? exit = null)
        {
            if (!Has(trouble, seed)) yield break;
            var random = new Random(seed ^ Hash($"{deed}"));
            for (var left = random.Next(1, 3); left > 0; left--)
                yield return Action(deed, jobs, random) with
                {
                    Commits = random.Next(commits),
                    Length = least + random.NextDouble() * (most - least),
                    Exit = exit ?? random.Next(2) == 0,
                    Attempt = random.Next(1, 4),
                };
        }
        return
        [
            .. Some(Trouble.SpoiledPods, Deed.SpoilPods, 15, 0, 150),
            .. Some(Trouble.ForeignExits, Deed.ForeignExits, 20, 20, 320),
            .. Some(Trouble.LateAnswers, Deed.Recreate, 6, 0, 3, exit: false),
            .. Some(Trouble.LateAnswers, Deed.Recreate, 40, 0, 3),
            .. Some(Trouble.RetryAfter, Deed.Overload, 45, 0, 60),
            .. Some(Trouble.LabelPolicy, Deed.LabelPolicy, 45, 0, 300),
            .. Some(Trouble.StalledJobs, Deed.StallJobs, 45, 0, 0),
            .. Some(Trouble.ClockHour, Deed.JumpHour, 20, 0, 20),
            .. Some(Trouble.Restore, Deed.Restore, 60, 3, 30),
            .. Some(Trouble.Drain, Deed.Drain, 10, 0, 10),
            .. Some(Trouble.RunDefaults, Deed.ChangeDefaults, 30, 0, 0),
            // Where one of its namespaces is forbidden, release goes on until it is not.
            .. Has(Trouble.Forbidden, seed) ? [] : Some(Trouble.Uninstall, Deed.Uninstall, 45, 0, 60),
        ];
    }

    static PlannedAction Action(Deed deed, int jobs, Random random) => new(deed, random.Next(45), random.Next(1, 200))
    {
        Job = random.Next(jobs),
        Exit = random.Next(3) == 0,
        Propagation = random.Next(4) switch { 0 => "Foreground", 1 => "Orphan", 2 => "Background", _ => null },
        Length = random.NextDouble() * random.Next(3) switch { 0 => 3, 1 => 30, _ => 400 },
    };

    static void Vary(JsonObject spec, Random random)
    {
        if (random.Next(6) == 0) spec.Remove("exitHandlerSpec");
        if (random.Next(4) == 0) spec["activeDeadlineSeconds"] = random.Next(1, 20);
        if (random.Next(4) == 0) spec["exitHandlerBackoffLimit"] = random.Next(3);
        if (random.Next(12) == 0) Spoil(spec["mainPodSpec"]);
        if (random.Next(12) == 0) Spoil(spec["exitHandlerSpec"]);
        if (random.Next(4) == 0) spec["ttlSecondsAfterFinished"] = random.Next(60);
    }

    /// <summary>G15: a pod that can never be.</summary>
    public static void Spoil(JsonNode? podSpec) =>
        podSpec?["env"]!.AsArray().Add(Json.Object($$"""{"name": "{{NoName}}", "value": "v"}"""));

    public const string NoName = "no name";

    /// <summary>The same in every process, unlike string.GetHashCode.</summary>
    static int Hash(string text) => text.Aggregate(17, (hash, c) => unchecked(hash * 31 + c));
}
