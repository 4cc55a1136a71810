// Every state that a job and its pods can get into, from their creation on, whatever happens to them meanwhile: found
// by search, with the real decision in the middle. What is not the decision's is small here: an API server that keeps
// an OMJob and four pods, a cache that may lag behind, a kubelet, and faults, of which a run meets at most a given
// number. A clock has passed or has not: an object is new or old.

using Xunit;
using static OMJobs.Tests.AnOMJob;
using static OMJobs.Tests.APod;

namespace OMJobs.Tests;

public sealed class ReachabilityTests
{
    static readonly TimeSpan Long = TimeSpan.FromDays(30); // past every clock
    static readonly Deadlines Clocks = Moment.Clocks;
    static DateTimeOffset Now => Moment.Now;

    /// <summary>An OMJob as far as the decision reads it and anything changes it.</summary>
    sealed record JobState(JobStatus Status, string Finalizers = "", bool Deleting = false)
    {
        public JobState With(string finalizer) => this with { Finalizers = $"{Finalizers}{finalizer} " };
        public JobState Without(string finalizer) =>
            this with { Finalizers = Finalizers.Replace($"{finalizer} ", "", StringComparison.Ordinal) };
        public bool Has(string finalizer) => Finalizers.Contains(finalizer, StringComparison.Ordinal);
    }

    /// <summary>Where a pod of one name is: what the API server has there, and what the operator's cache has.</summary>
    sealed record Place(Pod? Pod = null, Pod? Known = null)
    {
        /// <summary>What the watch will have told: a pod that lost its labels is gone for it.</summary>
        public Place Told => this with { Known = Pod is { LostLabels: false } ? Pod : null };
    }

    sealed record State(
        Job Spec, JobState? Job, JobState? Known, Place Main, Place First, Place Second, Place Third)
    {
        // What the operator remembers: within a round what it asked, else its questions and refusals.
        public PodView? MainView { get; init; }
        public PodView? ExitView { get; init; }
        public bool IsRead { get; init; }
        public bool NamespaceAsked { get; init; }
        public bool Blocked { get; init; }
        // The world.
        public bool NamespaceGoing { get; init; }
        public int Faults { get; init; }
        public bool MainWas { get; init; }
        public bool HandlerWas { get; init; }

        public bool Asking => MainView is not null || ExitView is not null;
        public Place Exit => Places.ElementAt(Attempt);
        public int Attempt =>
            (Job ?? Known)?.Status.ExitPodName switch { "run-exit-2" => 2, "run-exit-3" => 3, _ => 1 };
        public IEnumerable<Place> Places => [Main, First, Second, Third];
        public State WithExit(Place place) => With(Attempt, place);
        public State With(int place, Place value) => place switch
        {
            0 => this with { Main = value },
            1 => this with { First = value },
            2 => this with { Second = value },
            _ => this with { Third = value },
        };
        public State Told => this with
        {
            Known = Job,
            Main = Main.Told,
            First = First.Told,
            Second = Second.Told,
            Third = Third.Told,
        };
        /// <summary>The round ends: the next one begins with what the cache has.</summary>
        public State Round => this with { MainView = null, ExitView = null };
        /// <summary>The job is gone, and of its pods nothing is left to do (F1).</summary>
        public bool Ended => Job is null && Known is null
            && Places.All(s => s.Pod is null || s.Pod.JobUid != Spec.Uid
                || (!s.Pod.HasFinalizer && Protocol.Stray(null, s.Pod) is null));
        public override string ToString() =>
            $"{(Job is null ? "no job" : $"{Job.Status.Phase}{(Job.Deleting ? " deleting" : "")} [{Job.Finalizers}]")}"
            + $"{(Job == Known ? "" : " unseen")}; main {Say(Main)}; exit {Say(First)}, {Say(Second)}, {Say(Third)}"
            + (NamespaceGoing ? "; namespace going" : "") + (Blocked ? "; blocked" : "");

        static string Say(Place place) => (place.Pod is { } pod ? Say(pod) : "absent")
            + (place == place.Told ? "" : " unseen");

        static string Say(Pod pod) => (pod.JobUid == "uid-of-run" ? "" : "foreign ")
            + (pod.ExitCode is { } code ? $"exited {code}" : pod.MainRunning ? "running" : pod.PhaseOver ? "failed"
                : pod.Scheduled ? "waiting" : "unscheduled")
            + (pod.Deleting ? " terminating" : "") + (pod.HasFinalizer ? " held" : "")
            + (pod.LostLabels ? " unlabelled" : "");
    }

    // ----- the operator: one round of its loop is one transition, up to its one request

    /// <summary>Rounds with every way that a creation in them may be answered.</summary>
    static IEnumerable<(string What, State Next, Presence Sight)> Refusals(State s)
    {
        var before = s.Round;
        for (var i = 0; i < 8 && (i == 0 || before.Asking); i++)
        {
            if (Decision(before) is { Act: Act.CreateMain or Act.CreateExit } create)
            {
                var invalid = PodView.Refused("it is wrong");
                yield return ($"{create.Act} is blocked", Block(before), Presence.Absent);
                yield return ($"{create.Act} is refused for good", Rest(create.Act == Act.CreateMain
                    ? before with { MainView = invalid } : before with { ExitView = invalid }).Next, Presence.Refused);
            }
            before = Step(before).Next;
        }
    }

    static (string What, State Next, State Before) Round(State s) => Rest(s.Round);

    static (string What, State Next, State Before) Rest(State s)
    {
        var (before, step) = (s, Step(s));
        for (var i = 1; i < 8 && step.Next.Asking; i++)
            (before, step) = (step.Next, Step(step.Next));
        return (step.What, step.Next.Round, before);
    }

    static (string What, State Next) Step(State s)
    {
        var job = s.Known is null ? null : Live(s, s.Known);
        foreach (var place in s.Places.Where(x => x.Known is not null && !s.Asking))
        {
            if (Protocol.Stray(job, place.Known!) is null) continue;
            s = s with { Known = s.Job, IsRead = s.Job is not null }; // asked for, and so is the pod
            job = s.Job is null ? null : Live(s, s.Job);
            if (place.Pod?.JobUid != place.Known!.JobUid)
                return ("a stray is gone", s.With(Array.IndexOf([.. s.Places], place), place.Told).Round);
            if (Protocol.Stray(job, place.Pod!) is { } stray) return ($"stray {stray.Act}", Do(s, stray));
        }
        if (job is null) return ("nothing to do", s.Round);
        var decision = Decision(s)!;
        var what = decision.Say(job);
        return decision.Act switch
        {
            Act.Wait => (what, s.Round),
            Act.AskJob => (what, s with { Known = s.Job, IsRead = s.Job is not null }),
            Act.AskMain => (what, s with { MainView = Asked(s.Main), Main = s.Main.Told }),
            Act.AskExit => (what, s.WithExit(s.Exit.Told) with { ExitView = Asked(s.Exit) }),
            Act.AskNamespace => (what, s with
            { NamespaceAsked = true, ExitView = s.NamespaceGoing ? PodView.NamespaceGoing : s.ExitView }),
            Act.CreateMain => (what, Create(s, s.Main, New[0])),
            Act.CreateExit => (what, Create(s, s.Exit, New[s.Attempt])),
            Act.Block => (what, Block(s)),
            _ => (what, Do(s, decision)),
        };
    }

    static Decision? Decision(State s) => s.Known is null ? null
        : Protocol.Decide(Live(s, s.Known), s.MainView ?? View(s, s.Main), s.ExitView ?? View(s, s.Exit), Now, Clocks);

    static PodView View(State s, Place place) => new(place.Known) { RetryAt = s.Blocked ? Moment.At(5) : default };

    static Job Live(State s, JobState job) => s.Spec with
    {
        Status = job.Status,
        Finalizers = job.Finalizers.Split(' ', StringSplitOptions.RemoveEmptyEntries),
        Deleting = job.Deleting,
        ReadAt = s.IsRead ? Now : null,
        NamespaceAsked = s.NamespaceAsked,
    };

    static PodView Asked(Place place) => place.Pod is null ? PodView.Absent : new(place.Pod) { ReadAt = Now };

    static State Create(State s, Place place, Pod pod)
    {
        var main = pod.Name == "run-main";
        if (s.NamespaceGoing) return View(PodView.NamespaceGoing);
        if (place.Pod is not null) return View(Asked(place)); // 409, then asked for
        place = new(pod, pod);
        return main ? s with { Main = place, MainWas = true, MainView = new(pod) }
            : s.WithExit(place) with { HandlerWas = true, ExitView = new(pod) };

        State View(PodView view) => main ? s with { MainView = view } : s with { ExitView = view };
    }

    static State Block(State s)
    {
        var said = s.Known!.Status with { Message = "Main pod is blocked: it is so" };
        return s.Known.Status.Phase == Phase.Pending
            ? Write(s, s.Known with { Status = said }).Round with { Blocked = true } : s.Round with { Blocked = true };
    }

    static State Do(State s, Decision decision)
    {
        s = s.Round;
        switch (decision.Act)
        {
            case Act.AddFinalizer: return Write(s, s.Known!.With(Job.Finalizer));
            case Act.DropFinalizer: return Write(s, s.Known!.Without(decision.Why));
            case Act.DeleteJob: return Write(s, s.Known! with { Deleting = true });
            case Act.WriteStatus:
                var status = decision.Status! with { StartTime = null }; // nothing is decided by it
                if (status.Phase.IsFinished()) status = status with { Message = null }; // as it is read
                return Write(s, s.Known! with { Status = status });
        }
        var place = Array.FindIndex([.. s.Places], x => x.Pod?.Name == decision.Pod!.Name);
        if (place < 0) return s.Told; // 404
        var pod = s.Places.ElementAt(place).Pod!;
        if (pod.JobUid != decision.Pod!.JobUid) return s.Told; // another UID
        var after = decision.Act switch
        {
            Act.ReleasePod => pod with { HasFinalizer = false, FinalizerCount = 0 },
            Act.RestoreLabels => pod with { LostLabels = false },
            _ => Deleted(pod),
        };
        return s.With(place, new Place(Gone(after) ? null : after).Told);
    }

    /// <summary>A write with the resourceVersion it was decided on.</summary>
    static State Write(State s, JobState job)
    {
        if (s.Job is null) return s with { Known = null };
        if (s.Job != s.Known) return s with { Known = s.Job, IsRead = true };
        if (job is { Deleting: true, Finalizers.Length: 0 }) return s with { Job = null, Known = null };
        return s with { Job = job, Known = job, IsRead = true };
    }

    static Pod Deleted(Pod pod) => pod.Deleting ? pod
        : pod with { DeletionTimestamp = Now.AddSeconds(Grace(pod)), GracePeriod = Grace(pod) };

    static int Grace(Pod pod) => pod.Scheduled && !pod.PhaseOver ? 30 : 0;
    static bool Gone(Pod pod) => pod is { Deleting: true, HasFinalizer: false, GracePeriod: 0 };

    // ----- the world

    static Pod Exited(Pod pod, int code) => pod with
    {
        PhaseOver = true,
        MainRunning = false,
        Started = true,
        ExitCode = code,
        FinishedAt = Now,
        GracePeriod = pod.Deleting ? 0 : null,
    };

    /// <summary>What a kubelet and the controllers do with a pod, where they do their work.</summary>
    static IEnumerable<(string, Pod?)> Kubelet(Pod pod, bool orphanedOrGone)
    {
        var over = pod.PhaseOver || pod is { Deleting: true, Scheduled: false };
        if (pod.Deleting && over && !pod.HasFinalizer) yield return ("is removed", null);
        else if (pod.Deleting && (over || pod.Reason == "NodeLost")) yield break;
        else if (pod.Reason == "NodeLost") yield return ("is deleted by the taint manager", Deleted(pod));
        else if (pod.Deleting) yield return ("is stopped", Exited(pod, 143));
        else if (orphanedOrGone) yield return ("is collected", Deleted(pod));
        else if (over && pod.MainRunning) yield return ("is killed", Exited(pod, 137));
        else if (over || pod.Waiting is not null) yield break;
        else if (!pod.Scheduled) yield return ("is scheduled", pod with { Scheduled = true });
        else if (!pod.Started) yield return ("starts", pod with { Started = true, MainRunning = true });
        else yield return ("exits 0", Exited(pod, 0));
    }

    static IEnumerable<(string, Pod?)> PodFaults(Pod pod, bool main, JobStatus? job)
    {
        if (!pod.Deleting) yield return ("is deleted", Deleted(pod));
        // A late pod (D6) that loses them as well is beyond any watch.
        if (!pod.LostLabels && job?.Phase.IsFinished() is false)
            yield return ("loses its labels", pod with { LostLabels = true });
        if (pod.PhaseOver) yield break;
        if (pod.MainRunning) yield return ("exits 1", Exited(pod, 1));
        if (pod.MainRunning && pod.Deleting)
            yield return ("exits 0 when stopped", Exited(pod, 0) with { FinishedAt = Now.AddSeconds(5) });
        if (pod.MainRunning) yield return ("is failed, still running", pod with { PhaseOver = true, OverSeen = Now });
        yield return ("is evicted", pod with { PhaseOver = true, MainRunning = false, Reason = "Evicted" });
        if (pod.Scheduled && pod.Reason is null)
            yield return ("is lost with its node", pod with { Reason = "NodeLost" });
        if (!pod.Started && pod.Waiting is null) yield return ("cannot start", pod with { Waiting = "ErrImagePull" });
        // Before status names the pod this is a way out: nothing tells then that there was one.
        if (main && job is not { MainPodName: null } && pod.HasFinalizer)
            yield return ("is stripped and forced away", null);
    }

    static Pod Aged(Pod pod) => pod with
    {
        Created = Old(pod.Created)!.Value,
        DeletionTimestamp = Old(pod.DeletionTimestamp),
        FinishedAt = Old(pod.FinishedAt),
        OverSeen = Old(pod.OverSeen),
    };

    static DateTimeOffset? Old(DateTimeOffset? time) => time > Now - TimeSpan.FromDays(1) ? time - Long : time;

    static JobState Aged(JobState job) => job with
    { Status = job.Status with { CompletionTime = Old(job.Status.CompletionTime) } };

    static Place Aged(Place place) =>
        new(place.Pod is { } pod ? Aged(pod) : null, place.Known is { } known ? Aged(known) : null);

    /// <summary>All that the world may do next, short of faults.</summary>
    static IEnumerable<(string What, State Next)> World(State s)
    {
        for (var i = 0; i < 4; i++)
        {
            var (at, place) = (i, s.Places.ElementAt(i));
            if (place != place.Told) yield return ($"the watch tells of {Name(i)}", s.With(i, place.Told));
            if (place.Pod is not { } pod) continue;
            var ours = pod.JobUid == s.Spec.Uid;
            var dangling = ours && (s.NamespaceGoing || (s.Job is null ? pod.HasOwner : s.Job.Has(Job.Foreground)));
            foreach (var (what, after) in ours ? Kubelet(pod, dangling) : [("is taken away by its owner", null)])
                yield return ($"{Name(i)} {what}", s.With(at, place with { Pod = after }));
            if (s.Job?.Has(Job.Orphan) is true && pod.HasOwner)
                yield return ($"{Name(i)} is orphaned", s.With(at, place with { Pod = pod with { HasOwner = false } }));
        }
        if (s.Job != s.Known) yield return ("the watch tells of the job", s with { Known = s.Job });
        if (s.Job is { } job && job.Has(Job.Foreground))
            yield return ("the collector is done", Server(s, job.Without(Job.Foreground)));
        if (s.Job is { } orphan && orphan.Has(Job.Orphan) && s.Places.All(x => x.Pod is not { HasOwner: true }))
            yield return ("the collector has orphaned", Server(s, orphan.Without(Job.Orphan)));
    }

    static State Server(State s, JobState job) =>
        s with { Job = job is { Deleting: true, Finalizers.Length: 0 } ? null : job };

    /// <summary>So much later that every clock has passed that runs now.</summary>
    static State Aged(State s) => s with
    {
        Main = Aged(s.Main),
        First = Aged(s.First),
        Second = Aged(s.Second),
        Third = Aged(s.Third),
        Job = s.Job is { } job ? Aged(job) : null,
        Known = s.Known is { } known ? Aged(known) : null,
        IsRead = false,
        Blocked = false,
    };

    static IEnumerable<(string What, State Next)> Faults(State s)
    {
        for (var i = 0; i < 3; i++)
        {
            var (at, place) = (i, s.Places.ElementAt(i));
            if (place.Pod is { } pod && pod.JobUid == s.Spec.Uid)
                foreach (var (what, after) in PodFaults(pod, i == 0, s.Job?.Status))
                    yield return ($"{Name(i)} {what}", s.With(at, place with { Pod = after }));
            if (place.Pod is null && s.Job is not null)
                yield return ($"somebody else makes {Name(i)}", s.With(at, place with
                { Pod = Foreign[i] }));
        }
        // D6: the request of a frozen process arrives.
        if (s is
            { MainWas: true, Main.Pod: null, Job.Status.Phase: >= Phase.ExitHandlerRunning, NamespaceGoing: false })
            yield return ("a late main pod is created", s with { Main = s.Main with { Pod = Late } });
        if (s.Job is { Deleting: false } job)
            foreach (var policy in (string[])["", Job.Foreground, Job.Orphan])
                yield return ($"the job is deleted {policy}",
                    Server(s, (policy.Length == 0 ? job : job.With(policy)) with { Deleting = true }));
        if (!s.NamespaceGoing)
            yield return ("the namespace is deleted", s with
            { NamespaceGoing = true, Job = s.Job is null ? null : Server(s, s.Job with { Deleting = true }).Job });
        yield return ("the operator starts anew", s.Told.Round with
        { IsRead = false, NamespaceAsked = false, Blocked = false });
    }

    static string Name(int place) => place == 0 ? "run-main" : PodTemplate.ExitName("run", place);

    static readonly Pod Late = MainPod().Running().Pod;
    static bool IsLate(Pod pod) => pod.Created == Late.Created || pod.Created == Late.Created - Long;
    static readonly Pod[] New = [.. All().Select(p => p.Unscheduled().Pod with { Created = Now })];
    static readonly Pod[] Foreign = [.. All().Select(p => p.OfUid("earlier").Released().Running().Pod)];
    static APod[] All() => [MainPod(), ExitPod(1), ExitPod(2), ExitPod(3)];

    // ----- the rules

    /// <summary>What a transition broke, null if nothing.</summary>
    static string? Broken(State s, State next, Presence answer)
    {
        if (next.MainWas && s.MainWas && next.Main.Pod is { } main && s.Main.Pod is null && main.JobUid == s.Spec.Uid)
            return "a main pod after the first one";
        if (s.Job is { } job && next.Job is { } after)
        {
            if (after.Status.Phase < job.Status.Phase) return "phases never go backwards";
            if (job.Status.Phase.IsFinished() && Aged(after).Status != Aged(job).Status)
                return "a finished job changed";
            if (after.Status.Phase.IsFinished() && !job.Status.Phase.IsFinished() && s.Spec.HasExitSpec && s.MainWas
                && !next.HandlerWas && !s.NamespaceGoing && answer != Presence.Refused)
                return "the handler was skipped";
        }
        if (s.Job is { Status: var last } && next.Job is null && s.MainWas && !last.Phase.IsFinished())
            return "the job went before its end was recorded";
        if (s.Exit.Pod is not null || next.Exit.Pod?.JobUid != s.Spec.Uid) return null;
        if (s.Known?.Has(Job.Foreground) is true) return "G19: the collector would delete the handler";
        // Lost by G6 it may run, and a late one (D6) is older than its job.
        if (s.Main.Pod is { MainRunning: true } pod && pod == s.Main.Known && pod.JobUid == s.Spec.Uid
            && !IsLate(pod) && !(pod.DeletionTimestamp < Now - Clocks.LostPodSlack)
            && !(pod.OverSeen < Now - Clocks.LostPodSlack))
            return "H10: the handler was created while main could still run";
        return null;
    }

    /// <summary>The next step where nothing goes wrong any more; null where nothing at all will happen.</summary>
    static (string What, State Next)? Calm(State s)
    {
        if (s != s.Told) return ("all is told", s.Told);
        var (what, next, before) = Round(s);
        if (next != s) return (what, next);
        if (World(s).FirstOrDefault() is { Next: not null } world) return world;
        var wakes = s.Blocked || Decision(before)?.Wake is not null;
        var aged = Aged(s);
        return wakes && aged != s ? ("time passes", aged) : null;
    }

    static State Start(AnOMJob job)
    {
        var spec = job.Job;
        var first = new JobState(spec.Status);
        return new(spec with { Status = new(Phase.Pending), Finalizers = [] }, first, first, new(), new(), new(), new());
    }

    [Theory]
    [InlineData(true, 0, true, 1)] // the cache lags behind
    [InlineData(true, 1, false, 1)] // there is a second attempt
    [InlineData(false, 0, true, 1)]
    public void Whatever_happens_no_rule_is_broken_and_the_job_comes_to_its_end(
        bool handler, int retries, bool lag, int faults)
    {
        if (handler && !Tier.IsFull) faults = 0; // 600,000 states otherwise
        var start = Start((handler ? Fresh() : Fresh().WithoutExitHandler())
            .WithSpec("exitHandlerBackoffLimit", retries));
        var from = new Dictionary<State, (State? Before, string What)> { [start] = (null, "created") };
        var queue = new Queue<State>([start]);
        var (distance, transitions, longest) = (new Dictionary<State, int>(), 0L, 0);
        while (queue.TryDequeue(out var s))
        {
            Assert.True(from.Count < 2_000_000, "more states than are meant to be");
            var operators = Refusals(s).Where(_ => s.Faults < faults)
                .Select(r => (r.What, r.Next with { Faults = s.Faults + 1 }, r.Sight)).ToList();
            operators.Add(Round(s) is var (did, then, _) ? (did, then, Presence.Unknown) : default);
            foreach (var (what, next, answer) in operators)
                if (Broken(s, next, answer) is { } rule) Assert.Fail($"{rule}\n{Path(s)}\n{what}: {next}");
            var moves = World(s).Append(("time passes", Aged(s))).Concat(s.Faults == faults ? []
                : Faults(s).Select(f => (f.What, f.Next with { Faults = s.Faults + 1 })))
                .Concat(operators.Select(o => (o.What, o.Item2)));
            foreach (var (what, after) in moves)
            {
                var next = lag ? after : after.Told;
                transitions++;
                if (from.TryAdd(next, (s, what))) queue.Enqueue(next);
            }
            longest = Math.Max(longest, Distance(s));
        }
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{from.Count} states, {transitions} transitions, {longest} steps");
        Assert.InRange(longest, 1, 40);

        // How many steps of the calm are left, from any state; all states on the way get theirs.
        int Distance(State s)
        {
            var way = new List<(State State, string What)>();
            var on = new HashSet<State>();
            var at = s with { Faults = 0 };
            while (!distance.ContainsKey(at) && !at.Ended)
            {
                if (!on.Add(at)) Assert.Fail($"it goes in circles\n{Path(s)}\n{Calmly(way)}");
                var next = Calm(at);
                Assert.True(next is not null, $"nothing ends it\n{Path(s)}\n{Calmly(way)}");
                way.Add((at, next.Value.What));
                at = next.Value.Next;
            }
            var rest = distance.GetValueOrDefault(at);
            for (var i = way.Count - 1; i >= 0; i--) distance[way[i].State] = ++rest;
            return rest;
        }

        string Path(State s)
        {
            var lines = new List<string>();
            for (State? at = s; at is not null; at = from[at].Before) lines.Add($"{from[at].What}: {at}");
            lines.Reverse();
            return string.Join('\n', lines);
        }

        static string Calmly(List<(State State, string What)> way) =>
            string.Join('\n', way.Take(40).Select(w => $"  {w.State}\n    then {w.What}"));
    }
}
