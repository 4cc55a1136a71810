// A simulated cluster: the sandbox's store, nodes, users, and one or more processes of the operator, all on one thread
// and a virtual clock. Whatever can happen next is a candidate; a seeded Random picks one. So every history can be
// repeated from its seed, and a history without faults is the same as one with them but for the picks.

using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

sealed partial class World
{
    public static readonly DateTimeOffset Epoch = Moment.Now;
    public const string Namespace = "data", OtherNamespace = "other";
    static readonly Store Template = NewTemplate();

    readonly Plan plan;
    readonly ServerTime time;
    readonly StringBuilder? trace;
    readonly List<SimulatedOperator> operators = [];
    readonly List<InFlight> strays = []; // nobody waits for them any more; they may still arrive
    readonly PriorityQueue<Action, (long At, int Number)> later = new();
    readonly Queue<PlannedAction> planned;
    readonly List<(int Weight, Candidate What, SimulatedOperator? Op, object? Item)> candidates = [];
    readonly ScheduleOracle schedules;
    int numbers, started, steps, commits;
    bool controllersIdle;

    public World(int seed, Plan plan, bool tracing = false)
    {
        (this.plan, Random) = (plan, new Random(seed));
        if (tracing) trace = new();
        time = new ServerTime(this);
        Store = new Store(Template, time, Random);
        compacted = Store.Version;
        (Nodes, Oracle, schedules) = (new(this), new(this), new(this));
        Store.Changed += Changed;
        planned = new(plan.Actions);
        forbiddenFrom = plan.ForbiddenFrom is { } from ? In(from) : long.MaxValue;
        if (plan.HasDefaults) ChangeDefaults();
        for (var i = 0; i < plan.Operators; i++) StartOperator();
        if (plan.Jobs.Length > 0) CreateJob(plan.Jobs[0]);
        if (plan.Cron is { } cron) Ask("POST", InNamespace("cronomjobs"), cron);
    }

    public Random Random { get; }
    public long Ticks { get; private set; }
    /// <summary>The server's clock.</summary>
    public DateTimeOffset Now => time.GetUtcNow();
    public TimeSpan ServerJump { get; private set; }
    /// <summary>The sum of all jumps of that clock.</summary>
    public TimeSpan ClockJumps { get; private set; }
    public Deadlines Clocks => plan.Clocks;
    public string[] Namespaces => plan.Namespaces;
    public bool Paced => plan.Paced;
    public Store Store { get; }
    public Nodes Nodes { get; }
    public Oracle Oracle { get; }
    /// <summary>How many of the operator there have been.</summary>
    public int Processes => started;
    public bool Tracing => trace is not null;
    /// <summary>The first rule that was broken.</summary>
    public string? Violation { get; private set; }
    /// <summary>How many requests the operators have sent, watches and events included.</summary>
    public int Requests { get; private set; }
    /// <summary>Of these, what is no watch.</summary>
    public int Questions { get; private set; }
    /// <summary>Requests until all was over: after that there are only watches to renew.</summary>
    public int RequestsUntilEnd { get; private set; }
    /// <summary>The request that is served.</summary>
    public InFlight? Serving { get; private set; }
    /// <summary>It was sent too long ago to be decided any more.</summary>
    public bool ServingLate => Ticks - Serving?.Issued > In(10);
    public HashSet<string> NamespacesGone { get; } = [];
    public string History => trace?.ToString() ?? "";
    long compacted;
    const int Lines = 3; // of history, before and after the database is restored, at most twice

    static long In(double seconds) => (long)(seconds * TimeSpan.TicksPerSecond);

    sealed class ServerTime(World world) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => Epoch.AddTicks(world.Ticks) + world.ServerJump;
    }

    static Store NewTemplate()
    {
        var store = new Store(TimeProvider.System, new Random(1));
        store.Load(File.ReadAllText(Repository.File("crd.yaml")));
        foreach (var ns in (string[])[Namespace, OtherNamespace])
            store.Load($"{{apiVersion: v1, kind: Namespace, metadata: {{name: {ns}}}}}");
        store.RunControllers();
        return store;
    }

    public void Note(string what)
    {
        if (trace is null) return;
        trace.AppendLine(CultureInfo.InvariantCulture, $"{TimeSpan.FromTicks(Ticks).TotalSeconds,9:0.000} {what}");
    }

    public void Violate(string what)
    {
        Note($"VIOLATION: {what}");
        Violation ??= what;
    }

    /// <summary>The promise does not hold here: the namespace is being deleted, or its finalizers were released.</summary>
    public bool WayOut(JsonObject job) =>
        NamespacesGone.Contains(job.Text("metadata", "namespace")!) || released.Contains(job.Uid());

    public Life LifeOf(JsonObject pod) => plan.LifeOf(pod.Name()) is var life
        && pod.Text("metadata", "labels", WithDefaults) == Hanging ? life with { LifeEnd = LifeEnd.NeverPulled } : life;

    // ----- what happens, and in which order

    enum Candidate { Continue, Serve, Answer, Watch, Kubelet, Controller, Planned, Stray, Fault, Time }

    /// <summary>Lets everything happen until all is over, then holds the end to the rules.</summary>
    public void Run()
    {
        for (var limit = 40_000; Violation is null; steps++)
        {
            if (!Calm && planned.Count == 0 && later.Count == 0) BeginCalm();
            if (!Calm && Ticks > In(900)) BeginCalm();
            if (steps > limit) { Violate("it does not end: too many steps"); break; }
            if (Ticks > In(4 * 3600))
            {
                var left = Oracle.Leftovers().DefaultIfEmpty("something goes on");
                Violate($"it does not end: {string.Join("; ", left)}");
                break;
            }
            Collect();
            if (Calm && candidates.Count == 1 && IsOver()) break; // nothing but time
            Do(Pick());
        }
        (RequestsUntilEnd, AllKilled) = (Requests, Kills.Count == 0);
        Kills.Clear();
        if (Violation is null) CheckQuiet();
    }

    public bool Calm => calmFrom is not null;
    /// <summary>Since when nothing goes wrong any more, and what did is over.</summary>
    public long? QuietFrom => calmFrom // then a stalled watch, or a backoff, and what was forbidden until late
        + In((plan.Faults.Rate > 0 ? 300 : 75) + (plan.ForbiddenFrom is null ? 0 : 900));
    long? calmFrom;

    void BeginCalm()
    {
        Note("Faults have stopped");
        calmFrom = Ticks;
        planned.Clear();
        EndWindows();
        foreach (var op in operators) op.FrozenUntil = 0;
        if (operators.Count == 0 && !uninstalled) StartOperator();
        if (plan.ForbiddenFrom is not null)
            After(900, () =>
            {
                Oracle.CheckEnded(OtherNamespace, before: Now.AddSeconds(-900) - ClockJumps);
                forbiddenFrom = long.MaxValue;
            });
        if (plan.Cron is { } cron) // once each watch that is stalled has been given up
            After(300, () => { var from = Now; After(270, () => EndSchedule(cron.Name(), from)); });
        TakeOrphansAway();
    }

    /// <summary>What nobody owns any more may have the name of a pod to come for ever.</summary>
    void TakeOrphansAway()
    {
        foreach (var pod in Nodes.Pods.Where(p => p.Pod.At("metadata", "ownerReferences") is null).ToArray())
            Ask("DELETE", pod.Path, AtOnce());
    }

    void EndSchedule(string name, DateTimeOffset from)
    {
        schedules.CheckAll(from, Now.AddSeconds(-30));
        Ask("DELETE", $"{InNamespace("cronomjobs")}/{name}");
    }

    bool IsOver() => later.Count == 0 && strays.Count == 0 && !Oracle.Leftovers().Any()
        && operators.TrueForAll(op => op.Requests.TrueForAll(r => r.IsWatch))
        && !Nodes.Pods.Any(p => Nodes.Due(p) is not null);

    /// <summary>H2: nothing is asked or written any more once nothing is to be done.</summary>
    void CheckQuiet()
    {
        Let(450); // what a stalled watch has still to tell, and what follows from it
        var before = Questions;
        Let(900);
        if (Questions > before) Violate($"{Questions - before} requests although nothing is to be done");
        if (!Nodes.Pods.Any() && operators.Find(op => op.Held.Length > 0) is { } hoarder) // W8
            Violate($"{hoarder.Name} still holds {string.Join(", ", hoarder.Held)} although there are none");

        void Let(double seconds)
        {
            for (var until = Ticks + In(seconds); Ticks < until && Violation is null && steps++ < 60_000;)
            {
                Collect();
                Do(Pick());
            }
        }
    }

    void Collect()
    {
        candidates.Clear();
        foreach (var op in operators)
        {
            if (!op.Frozen && op.Continuations.Count > 0) candidates.Add((12, Candidate.Continue, op, null));
            foreach (var request in op.Requests)
            {
                if (request is { Reply: null, Watcher: null, Fate: not Fate.Late })
                    candidates.Add((6, Candidate.Serve, op, request));
                if (op.Frozen) continue;
                if (request.HasArrived(Ticks) || Ticks >= request.Ends)
                    candidates.Add((6, Candidate.Answer, op, request));
                else if (request.Watcher is not null && (!request.Open || HasNews(request)))
                    candidates.Add((4, Candidate.Watch, op, request));
            }
        }
        foreach (var pod in Nodes.Pods)
            if (Nodes.Due(pod) <= Ticks) candidates.Add((3, Candidate.Kubelet, null, pod));
        if (!controllersIdle) candidates.Add((3, Candidate.Controller, null, null));
        if (planned.TryPeek(out var next) && (commits >= next.Commits || Ticks >= In(next.Seconds)))
            candidates.Add((2, Candidate.Planned, null, null));
        foreach (var stray in strays) candidates.Add((1, Candidate.Stray, null, stray));
        if (!Calm && plan.Faults.Rate > 0 && operators.Count > 0 && Ticks >= overloadUntil)
            candidates.Add((1, Candidate.Fault, null, null));
        // While the API server refuses all at once nothing takes time: whoever does not wait goes round and round.
        candidates.Add((plan.Ordered || Calm || Ticks < overloadUntil ? 0 : 2, Candidate.Time, null, null));
    }

    (Candidate What, SimulatedOperator? Op, object? Item) Pick()
    {
        if ((plan.Ordered && plan.Operators == 1) || candidates.Count == 1)
            return (candidates[0].What, candidates[0].Op, candidates[0].Item);
        var at = Random.Next(candidates.Sum(c => c.Weight));
        foreach (var (weight, what, op, item) in candidates)
            if ((at -= weight) < 0) return (what, op, item);
        throw new InvalidOperationException();
    }

    void Do((Candidate What, SimulatedOperator? Op, object? Item) pick)
    {
        switch (pick.What)
        {
            case Candidate.Continue: pick.Op!.Continuations.RunOne(); break;
            case Candidate.Serve: Serve((InFlight)pick.Item!); break;
            case Candidate.Answer: Answer(pick.Op!, (InFlight)pick.Item!); break;
            case Candidate.Watch: Feed(pick.Op!, (InFlight)pick.Item!); break;
            case Candidate.Kubelet: Nodes.Act((Hosted)pick.Item!); break;
            case Candidate.Controller: controllersIdle = !Store.RunController(); break;
            case Candidate.Planned: Do(planned.Dequeue()); break;
            case Candidate.Stray:
                strays.Remove((InFlight)pick.Item!);
                Serve((InFlight)pick.Item!);
                break;
            case Candidate.Fault: DisturbWatch(); break;
            case Candidate.Time: Advance(); break;
        }
    }

    /// <summary>To the next thing that is due; with faults, sometimes only a part of the way.</summary>
    void Advance()
    {
        var next = Ticks + In(3600);
        foreach (var op in operators)
        {
            var from = Math.Max(op.FrozenUntil, Ticks);
            if (op.Time.NextDue is { } due) next = Math.Min(next, Math.Max(due, from));
            foreach (var request in op.Requests)
            {
                next = Math.Min(next, Math.Max(request.Ends, from));
                if (request.Reply is not null) next = Math.Min(next, Math.Max(request.HeldUntil, from));
            }
        }
        foreach (var pod in Nodes.Pods) if (Nodes.Due(pod) is { } due && due > Ticks) next = Math.Min(next, due);
        if (later.TryPeek(out _, out var at)) next = Math.Min(next, at.At);
        if (planned.TryPeek(out var action)) next = Math.Min(next, Math.Max(Ticks, In(action.Seconds)));
        if (!Calm && !plan.Ordered) next = Math.Min(next, Ticks + In(Random.NextDouble() * 4));
        Ticks = Math.Max(Ticks, next);
        while (later.TryPeek(out var ripe, out var when) && when.At <= Ticks)
        {
            later.Dequeue();
            ripe();
        }
        foreach (var op in operators.Where(o => !o.Frozen))
            while (op.Time.NextDue <= Ticks) op.Time.Fire();
    }

    public void After(double seconds, Action action) => later.Enqueue(action, (Ticks + In(seconds), numbers++));

    void Changed(Change change)
    {
        commits++;
        controllersIdle = false;
        // No version that comes again after the database is restored has the number of an old one: so it is, by chance,
        // where there are many.
        Store.Skip(Lines - 1);
        if (Tracing) Note($"      {Show(change)}");
        Nodes.See(change);
        if (uninstalled && change.Type.Plural == "omjobs") released.Add(change.Shown.Uid());
        Oracle.See(change);
        schedules.See(change);
        if (change.Type.Plural == "omjobs" && change.Shown.Text("status", "phase") == "ExitHandlerRunning"
            && drains.Remove(change.Shown.Name(), out var after)) Drain(change.Shown.Uid(), after);
        if (Calm && change.Type.Plural == "omjobs" && change.After is null) After(1, TakeOrphansAway);
        if (change.After is null && onceGone.Remove($"{change.Type.Plural} {change.Key}", out var then)) then();
        if (change.Type.IsNamespace && change.Shown.Text("status", "phase") == "Terminating")
            NamespacesGone.Add(change.Key);
    }

    static string Show(Change change)
    {
        var (o, what) = (change.Shown, change.Before is null ? "+" : change.After is null ? "-" : "~");
        var deleted = o.Text("metadata", "deletionTimestamp") is { } at ? $" deleted {at}" : "";
        var status = change.Type.Plural is "omjobs" or "pods" ? o["status"]?.ToJsonString() : o.Text("message");
        var held = string.Join(" ", o.Finalizers());
        return $"{what} {change.Type.Plural} {o.Name()} @{change.Version} [{held}]{deleted} {status}";
    }

    // ----- users, kubelet, controllers: requests that always arrive

    public ApiResponse Ask(string method, string path, JsonObject? body = null)
    {
        var type = method == "PATCH" ? "application/merge-patch+json" : null;
        var bytes = body is null ? default : body.Bytes();
        var response = Store.Handle(ApiRequest.To(method, path, bytes, type));
        if (!response.Ok) Note($"      {method} {path}: {response.Body.Text("message")}");
        return response;
    }

    static string InNamespace(string resource, string ns = Namespace) =>
        $"/apis/pipelines.openmetadata.org/v1/namespaces/{ns}/{resource}";

    void CreateJob(JobPlan job)
    {
        var collection = InNamespace("omjobs", job.Namespace);
        Ask("POST", collection, job.Body);
        if (plan.Edited) Edit($"{collection}/{job.Name}", 1);
    }

    /// <summary>Somebody annotates it for a minute, more often than a replica waits that was late.</summary>
    void Edit(string path, int n) => After(0.6, () =>
    {
        var note = Json.Object($$"""{"metadata": {"annotations": {"note": "{{n}}"} } }""");
        if (n < 100 && Ask("PATCH", path, note).Ok) Edit(path, n + 1);
    });

    // ----- operators

    void StartOperator()
    {
        if (uninstalled) return;
        StartProcess($"operator-{++started}");
    }

    void StartProcess(string name, double? quiet = null)
    {
        var skew = plan.Ordered ? TimeSpan.Zero : TimeSpan.FromSeconds(Random.Next(-600, 600));
        Note($"{name} starts, its clock {skew.TotalSeconds:+0;-0} s");
        operators.Add(new SimulatedOperator(this, name, Clocks, skew, quiet));
    }

    public void Kill(SimulatedOperator op, double? downFor)
    {
        if (!operators.Remove(op)) return;
        Note($"{op.Name} is killed");
        if (op.Releases) After(downFor ?? 0, () => StartProcess(op.Name, Quiet)); // its Job tries again
        foreach (var request in op.Requests)
            if (request is { Reply: null, Watcher: null, IsWatch: false } && Random.Next(2) == 0) strays.Add(request);
        if (downFor == 0) StartOperator();
        else if (downFor is { } seconds) After(seconds, StartOperator);
    }

    // ----- uninstallation (F6): as the chart does it

    const double Quiet = 30;
    readonly HashSet<string> released = []; // the UIDs of OMJobs that may have lost their finalizers
    bool uninstalled;
    double installAfter;

    /// <summary>The rights go with the first deletions, which the API server notices within 10 s.</summary>
    void Uninstall(double after)
    {
        (uninstalled, installAfter) = (true, after);
        foreach (var job in Oracle.Jobs.Where(j => !j.Gone)) released.Add(job.Uid);
        foreach (var op in operators.ToArray()) After(Random.NextDouble() * 10, () => Kill(op, null));
        After(10, strays.Clear);
        StartProcess("release", Quiet);
    }

    /// <summary>Nothing of ours is held; after a while there is an operator again.</summary>
    public void Released(SimulatedOperator by, int code)
    {
        operators.Remove(by);
        if (code != 0)
        {
            After(10, () => StartProcess(by.Name, Quiet));
            return;
        }
        foreach (var held in Oracle.Held()) Violate($"{held} is held after the release");
        After(installAfter, () =>
        {
            uninstalled = false;
            StartOperator();
        });
    }
}
