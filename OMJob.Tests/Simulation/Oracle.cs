// What every history must keep, judged from the API server's own history: no line here asks the operator.

using System.Text.Json.Nodes;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

/// <summary>One OMJob, from its creation to its end.</summary>
sealed class JobRecord(JsonObject job)
{
    public string Uid { get; } = job.Uid();
    public string Name { get; } = job.Name();
    public DateTimeOffset Created { get; } = Json.ReadTime(job.Text("metadata", "creationTimestamp"))!.Value;
    public JsonObject Last { get; set; } = job;
    public bool Gone { get; set; }
    public bool HasExit { get; } = job.At("spec", "exitHandlerSpec") is not null;
    public int Mains { get; set; }
    /// <summary>World.Ticks when its main pod's end was recorded.</summary>
    public long? MainOverSince { get; set; }
    public List<PodRecord> Pods { get; } = [];
    public string Phase => Last.Text("status", "phase") ?? "Pending";
    public long? Code => Last.Long("status", "mainPodExitCode");
    public bool Finished => Phase is "Succeeded" or "Failed";
    public bool Deleting => Last.At("metadata", "deletionTimestamp") is not null;
    /// <summary>The API server has forgotten some of what was done for it: much may be done again.</summary>
    public bool Restored { get; set; }
}

sealed class PodRecord(JsonObject pod, bool main, Hosted hosted)
{
    /// <summary>What really runs, whatever is told of it.</summary>
    public Hosted Hosted => hosted;
    public string Uid { get; } = pod.Uid();
    public string Name { get; } = pod.Name();
    public bool IsMain => main;
    public bool Stray { get; init; }
    /// <summary>It came late, and under a name that status did not ask for by then.</summary>
    public bool Unasked { get; init; }
    public DateTimeOffset Created { get; } = Json.ReadTime(pod.Text("metadata", "creationTimestamp"))!.Value;
    public JsonObject Last { get; set; } = pod;
    public bool Gone { get; set; }
    /// <summary>Each end that a version of the pod told: an exit code, or none.</summary>
    public HashSet<long> Ends { get; } = [];
    public const long NoCode = long.MinValue;
    /// <summary>A version of it said that it was being deleted and that main ran.</summary>
    public bool ShownStopping { get; set; }
    /// <summary>Its OMJob had ended when the API server forgot that.</summary>
    public bool Forgotten { get; set; }
    /// <summary>World.Ticks at the first of them.</summary>
    public long? OverSince { get; set; }
    /// <summary>An exit pod whose success was not known when the next attempt began: that one counts from then on.</summary>
    public bool Overtaken { get; set; }
    /// <summary>When the phase was first over while main was said to run.</summary>
    public DateTimeOffset? PhaseOver { get; set; }
    public DateTimeOffset? LostAfter { get; set; }
    /// <summary>Its node is drained.</summary>
    public bool Drained { get; set; }
}

sealed class Oracle(World world)
{
    static readonly string[] Phases = ["Pending", "Running", "ExitHandlerRunning", "Succeeded", "Failed"];
    const string Ours = "pipelines.openmetadata.org/";

    readonly Dictionary<string, JobRecord> jobs = [];
    readonly Dictionary<string, PodRecord> pods = [];
    DateTimeOffset latest; // the server's clock never went further

    public IEnumerable<JobRecord> Jobs => jobs.Values;

    public void See(Change change)
    {
        if (world.Now > latest) latest = world.Now;
        if (change.Type.Plural == "omjobs") SeeJob(change);
        if (change.Type.Plural == "pods") SeePod(change);
    }

    /// <summary>The API server was restored: this is all that it knows now.</summary>
    public void Restore(IEnumerable<JsonObject> jobsLeft, IEnumerable<JsonObject> podsLeft)
    {
        var (left, lives) = (jobsLeft.ToDictionary(o => o.Uid()), podsLeft.ToDictionary(o => o.Uid()));
        foreach (var pod in pods.Values)
        {
            pod.Forgotten |= JobOf(pod.Last) is not { Finished: false, Gone: false };
            pod.Gone = !lives.TryGetValue(pod.Uid, out var known);
            pod.Last = known ?? pod.Last;
        }
        foreach (var job in jobs.Values)
        {
            job.Restored = true;
            job.Gone = !left.TryGetValue(job.Uid, out var known);
            job.Last = known ?? job.Last;
            job.Mains = job.Pods.Count(p => p.IsMain && lives.ContainsKey(p.Uid));
        }
    }

    void SeeJob(Change change)
    {
        var uid = change.Shown.Uid();
        if (!jobs.TryGetValue(uid, out var job)) jobs[uid] = job = new JobRecord(change.Shown);
        CheckDrained(job);
        var (was, code, finished) = (job.Phase, job.Code, job.Finished ? job.Last["status"] : null);
        job.Last = change.Shown;
        var what = $"OMJob {job.Name}";
        if (Array.IndexOf(Phases, job.Phase) < Array.IndexOf(Phases, was))
            world.Violate($"{what}: phase {was} became {job.Phase}");
        if (finished is not null && !Json.Same(finished, job.Last["status"]))
            world.Violate($"{what}: its status changed after its end");
        if (was is "Pending" or "Running" && job.Phase is not ("Pending" or "Running"))
        {
            job.MainOverSince = world.Ticks;
            CheckVerdict(job);
        }
        else if (code != job.Code) world.Violate($"{what}: the exit code changed from {code} to {job.Code}");
        if (was != job.Phase && job.Finished) CheckEnd(job);
        if (change.After is not null) return;
        job.Gone = true;
        // Once the main pod was created nothing but its end lets the OMJob go; where it was, not where a restored API server
        // has forgotten that it was held.
        var held = !job.Restored || change.Before!.Finalizers().Contains(Job.Finalizer);
        if (job.Mains > 0 && held && !job.Finished && !world.WayOut(job.Last))
            world.Violate($"{what}: it has gone in phase {job.Phase}, without its end");
    }

    void SeePod(Change change)
    {
        var (pod, uid) = (change.Shown, change.Shown.Uid());
        if (change.Before is null) Created(pod);
        if (!pods.TryGetValue(uid, out var record)) return;
        if (JobOf(pod) is { } of) CheckDrained(of);
        record.Last = pod;
        record.Gone = change.After is null;
        record.ShownStopping |= IsStopping(pod);
        if (Judge(pod) is { } end && record.Ends.Add(end)) record.OverSince ??= world.Ticks;
        var phaseOver = pod.Text("status", "phase") is "Succeeded" or "Failed"
            && StateOfMain(pod).At("running") is not null;
        if (phaseOver) record.PhaseOver ??= latest;
        record.LostAfter = Json.ReadTime(pod.Text("metadata", "deletionTimestamp")) + world.Clocks.LostPodSlack
            ?? record.LostAfter; // forgotten by a restored API server only
        // Who remembers what the API server has forgotten may let go of a main pod that this one takes for a new one.
        if (record.IsMain && record.Gone && JobOf(pod) is { Phase: "Pending", Restored: true } forgotten) forgotten.Mains--;
        if (record.IsMain && record.Gone && JobOf(pod) is { Phase: "Running", Gone: false, Restored: false } job
            && !world.WayOut(job.Last))
            world.Violate($"Pod {record.Name} has gone before its end was recorded");
    }

    static JsonNode? StateOfMain(JsonObject pod) =>
        pod.Items("status", "containerStatuses").FirstOrDefault(c => c.Text("name") == "main").At("state");

    public static bool IsStopping(JsonObject pod) =>
        pod.At("metadata", "deletionTimestamp") is not null && StateOfMain(pod).At("running") is not null;

    /// <summary>The end that a pod's state tells: an exit code or NoCode; null while it is not over.</summary>
    static long? Judge(JsonObject pod)
    {
        var (main, deleted) = (StateOfMain(pod), Json.ReadTime(pod.Text("metadata", "deletionTimestamp")));
        var requested = deleted - TimeSpan.FromSeconds(pod.Long("metadata", "deletionGracePeriodSeconds") ?? 0);
        if (main.Long("terminated", "exitCode") is { } code)
        {
            var finished = Json.ReadTime(main.Text("terminated", "finishedAt"));
            var stopped = finished is null || finished >= requested || pod.Text("status", "reason") is not null
                || pod.Items("status", "conditions").Any(c => c.Text("type") == "DisruptionTarget");
            return code == 0 && stopped ? PodRecord.NoCode : code;
        }
        if (pod.Text("status", "phase") is "Succeeded" or "Failed" && main.At("running") is null)
            return PodRecord.NoCode;
        return deleted is not null && pod.Text("spec", "nodeName") is null ? PodRecord.NoCode : null;
    }

    /// <summary>What a request may take, and by how much the operator may misjudge the server's clock.</summary>
    TimeSpan Slack => TimeSpan.FromSeconds(12) + world.ClockJumps;

    /// <summary>Over by its own word or by a clock, at any time until now.</summary>
    bool IsOver(PodRecord pod) => pod.Gone || pod.Ends.Count > 0 || MayBeLost(pod) || MayBeSilent(pod);

    /// <summary>Its kubelet may never tell how main ended. From first sight on, and the operator's clock may have been
    /// put forward since by as much as an answer was late.</summary>
    bool MayBeSilent(PodRecord pod) => latest + Slack >= pod.PhaseOver + world.Clocks.LostPodSlack
        + TimeSpan.FromSeconds(pod.Last.Long("spec", "terminationGracePeriodSeconds") ?? 30);

    /// <summary>The latest time that the operator may take it to be.</summary>
    DateTimeOffset AtMost => latest.AddSeconds(2) + world.ClockJumps;

    bool MayBeLost(PodRecord pod) => AtMost > pod.LostAfter;

    /// <summary>Whether a process may take this for the pod's end, by what its container did: never another code than
    /// its own, nor success of one that was stopped, unless its node's clock says otherwise and nothing the process saw
    /// does. None, where it ended of itself, only with a reason to doubt that.</summary>
    bool MayTell(PodRecord pod, long? code)
    {
        var (stopped, end) = (pod.Hosted.Stopped, pod.Hosted.Terminated?.Code);
        if (code is null)
            return pod.Ends.Contains(PodRecord.NoCode) || pod.Gone || MayBeLost(pod) || MayBeSilent(pod)
                || (end == 0 && (stopped || pod.ShownStopping));
        return code == end && (code != 0 || !stopped || (pod.Ends.Contains(0) && !SawStopping(pod)));
    }

    /// <summary>The process whose request is served had seen it run while it was being deleted, which it need not
    /// remember where its OMJob had ended by then.</summary>
    bool SawStopping(PodRecord pod) => !pod.Forgotten && world.Serving is { By: { } writer } request
        && writer.Stopping.GetValueOrDefault(pod.Uid, int.MaxValue) < request.Number;

    JobRecord? JobOf(JsonObject pod)
    {
        var owner = pod.Items("metadata", "ownerReferences").FirstOrDefault(o => o.IsTrue("controller")).Text("uid");
        var uid = owner ?? pod.Text("metadata", "labels", LabelKeys.Uid) ?? pod.Text("metadata", "annotations", LabelKeys.Uid);
        return uid is null ? null : jobs.GetValueOrDefault(uid);
    }

    /// <summary>Another operator's doing at that time (World.Ticks), that who creates a pod need not know: a look at
    /// the OMJob may be ten seconds old (D1).</summary>
    bool MayBeUnknown(long? since) =>
        world.Processes > 1 && since is not null && TimeSpan.FromTicks(world.Ticks - since.Value) < Slack;

    void Created(JsonObject pod)
    {
        if (JobOf(pod) is not { } job) return;
        var main = pod.Name() == $"{job.Name}-main"; // a policy may have taken the labels
        // D6: a creation that came minutes late is not decided any more. Nor, with two operators, is that of a main pod
        // whose OMJob is let go as one that had not started, or whose run was ended by another one just now.
        var late = world.ServingLate;
        var stray = late || (main && job.Deleting) || (main && MayBeUnknown(job.MainOverSince));
        var record = pods[pod.Uid()] = new PodRecord(pod, main, world.Nodes[pod.Uid()])
        {
            Stray = stray, Unasked = late && job.Last.Text("status", "exitHandlerPodName") != pod.Name(),
        };
        if (main)
        {
            if (!stray && ++job.Mains > 1 && !world.WayOut(job.Last))
                world.Violate($"OMJob {job.Name} has a second main pod");
            if (job is { Phase: not "Pending", Restored: false } && !stray)
                world.Violate($"A main pod was created in phase {job.Phase}");
        }
        else if (!stray && !job.Restored) CheckExit(job, pod);
        job.Pods.Add(record);
    }

    void CheckExit(JobRecord job, JsonObject exit)
    {
        var running = job.Pods.Find(p => p is { IsMain: true, Stray: false } && !IsOver(p));
        if (running is not null) world.Violate($"{exit.Name()} was created while {running.Name} was not over");
        var real = job.Pods.Find(p => p is { IsMain: true, Stray: false, Hosted.Running: true, PhaseOver: null }
            && !MayBeLost(p));
        if (real is not null) world.Violate($"{exit.Name()} was created while {real.Name} really ran");
        var env = exit.Items("spec", "containers").First().Items("env").Last();
        var told = (env.Text("name"), env.Text("value"));
        if (told != ("pipelineStatus", job.Code == 0 ? "success" : "failed"))
            world.Violate($"{exit.Name()} was told {told} for an exit code of {job.Code}");
        // G12: another attempt only after the one before has failed, or may have.
        foreach (var fine in job.Pods.Where(p => !p.IsMain && !p.Gone && !p.Stray && Judge(p.Last) == 0
            && p is { Hosted.Stopped: false, ShownStopping: false }
            && JobOf(p.Last) == job // one that lost owner and labels, both, is nobody's
            && latest + Slack < p.Created + world.Clocks.ExitHandlerDeadline // then it may not have been seen yet
            && !p.Overtaken))
        {
            fine.Overtaken = MayBeUnknown(fine.OverSince);
            if (!fine.Overtaken) world.Violate($"{exit.Name()} was created although {fine.Name} had succeeded");
        }
        var other = job.Pods.Find(p => !p.IsMain && !p.Gone && p.Name == exit.Name());
        if (other is not null) world.Violate($"two pods are called {exit.Name()}");
    }

    /// <summary>The recorded exit code is the main container's, or none where it did not end of itself.</summary>
    void CheckVerdict(JobRecord job)
    {
        if (world.WayOut(job.Last)) return;
        var mains = job.Pods.Where(p => p.IsMain).ToList();
        if (mains.Count == 0)
        {
            if (job.Code is not null) world.Violate($"OMJob {job.Name} has an exit code without a main pod");
            CheckRefused(job, exit: false, TimeSpan.FromMinutes(1));
            return;
        }
        if (mains.TrueForAll(p => !IsOver(p))) world.Violate($"OMJob {job.Name}: its main pod is not over");
        if (mains.Exists(p => MayTell(p, job.Code))) return;
        foreach (var (code, stopped) in mains.Select(m => (m.Hosted.Terminated?.Code, m.Hosted.Stopped)))
            world.Violate($"OMJob {job.Name}: exit code {job.Code} is recorded, its main container ended with {code}"
                + (stopped ? ", for it was stopped" : ", of itself"));
    }

    /// <summary>It ended as it must: the handler ran, or its attempts are used up, or it could never be.</summary>
    void CheckEnd(JobRecord job)
    {
        var message = job.Last.Text("status", "message") ?? "";
        if (job.Last.Text("status", "completionTime") is null) world.Violate($"OMJob {job.Name} has no end time");
        if (!job.HasExit)
        {
            if (job.Phase == "Succeeded" != (job.Code == 0))
                world.Violate($"OMJob {job.Name} {job.Phase} with exit code {job.Code}");
            return;
        }
        var handled = job.Pods.Exists(p => !p.IsMain && p.Ends.Contains(0) && MayTell(p, 0));
        if (job.Phase == "Succeeded" && !(handled && job.Code == 0))
            world.Violate($"OMJob {job.Name} succeeded with exit code {job.Code}, handled: {handled}");
        if (job.Phase == "Succeeded" || world.WayOut(job.Last)) return;
        if (message.Contains("handler cannot be created"))
        {
            var (deadline, minute) = (world.Clocks.ExitHandlerDeadline, TimeSpan.FromMinutes(1));
            CheckRefused(job, exit: true, job.Deleting && deadline > minute ? minute : deadline);
            return;
        }
        // H9: by the pods that there really were, not by the number in a name, which somebody else's pod may use up.
        var attempt = job.Pods.Where(p => p is { IsMain: false, Unasked: false }).DistinctBy(p => p.Name).Count();
        var attempts = 1 + (job.Last.Long("spec", "exitHandlerBackoffLimit")
            ?? Math.Min(world.Clocks.ExitHandlerRetries, world.LeastRetries));
        if (handled && job.Code != 0) return;
        if (!world.DefaultsWereNeeded && job.Pods.TrueForAll(p =>
            p.IsMain || p.Last.At("metadata", "labels", World.WithDefaults) is not null))
            world.Violate($"OMJob {job.Name} failed, and no exit pod was made without the run defaults");
        if (attempt >= attempts) return;
        world.Violate($"OMJob {job.Name} failed after {attempt} of {attempts} attempts: {message}");
    }

    /// <summary>G15: a pod is given up that can never be, or that was refused as invalid for so long.</summary>
    void CheckRefused(JobRecord job, bool exit, TimeSpan least)
    {
        var spec = job.Last.At("spec", exit ? "exitHandlerSpec" : "mainPodSpec");
        if (spec.Items("env").Any(e => e.Text("name") == Plan.NoName)) return;
        if (exit && world.DefaultsWereNeeded) return; // there may have been no way
        var refused = world.SpoiledFor(exit);
        if (refused + world.ClockJumps < least - TimeSpan.FromSeconds(2))
            world.Violate($"OMJob {job.Name}: its {(exit ? "exit handler" : "main pod")} is given up, "
                + $"which was refused for {refused.TotalSeconds:0} s");
    }

    /// <summary>What is still there that should not be once all is over (F1); pods without owner stay (G20).</summary>
    public IEnumerable<string> Leftovers() =>
        jobs.Values.Where(j => !j.Gone)
            .Select(j => $"OMJob {j.Name} is still there: {j.Last["status"]?.ToJsonString()}")
            .Concat(pods.Values.Where(p => !p.Gone && (Held(p.Last) || HasOwner(p.Last)) && !IsHidden(p)).Select(
                p => $"Pod {p.Name} is still there, held by [{string.Join(" ", p.Last.Finalizers())}]"));

    /// <summary>What has a finalizer of ours.</summary>
    public IEnumerable<string> Held() => jobs.Values.Where(j => !j.Gone && Held(j.Last)).Select(j => $"OMJob {j.Name}")
        .Concat(pods.Values.Where(p => !p.Gone && Held(p.Last)).Select(p => $"Pod {p.Name}"));

    /// <summary>Nothing has been wrong in that namespace for long: its OMJobs from before then have ended.</summary>
    public void CheckEnded(string ns, DateTimeOffset before)
    {
        foreach (var job in jobs.Values.Where(j => j is { Gone: false, Finished: false } && j.Created < before
            && j.Last.Text("metadata", "namespace") == ns))
            world.Violate($"OMJob {ns}/{job.Name} has not ended, and nothing is wrong in its namespace");
    }

    /// <summary>D6: one whose OMJob is not there, for it came late or that was restored away, and without labels.</summary>
    bool IsHidden(PodRecord pod) => IsUnlabelled(pod)
        && (pod.Stray || JobOf(pod.Last) is null or { Gone: true, Restored: true });

    static bool IsUnlabelled(PodRecord pod) => pod.Last.At("metadata", "labels", LabelKeys.Name) is null;

    static bool HasOwner(JsonObject pod) => pod.Items("metadata", "ownerReferences").Any();

    static bool Held(JsonObject pod) => pod.Finalizers().Exists(f => f.StartsWith(Ours, StringComparison.Ordinal));

    public PodRecord? MainOf(string job) => jobs[job].Pods.Find(p => p.IsMain && !p.Stray);

    static int Attempt(JobRecord job)
    {
        var named = job.Last.Text("status", "exitHandlerPodName") ?? "";
        return int.TryParse(named[(named.LastIndexOf('-') + 1)..], out var n) ? n : 1;
    }

    PodRecord? FirstExit(JobRecord job) => job.Pods.Find(p => p.Name == $"{job.Name}-exit" && IsOver(p));

    /// <summary>A drained node waits for the first attempt of the exit handler, and not for ever.</summary>
    void CheckDrained(JobRecord job)
    {
        if (job is not { Phase: "ExitHandlerRunning", Deleting: false, Restored: false }
            || world.QuietFrom is not { } quiet) return;
        if (job.Pods.Find(p => p.Drained && !p.Gone && Held(p.Last)) is not { } main) return;
        var waited = TimeSpan.FromTicks(world.Ticks - Math.Max(quiet, FirstExit(job)?.OverSince ?? long.MaxValue));
        // Pods whose labels do not stay are asked for every 30 s.
        var slack = Slack + TimeSpan.FromSeconds(job.Pods.Exists(p => !p.Gone && IsUnlabelled(p)) ? 30 : 0);
        if (waited > slack || (world.Ticks > quiet && latest > main.LostAfter + slack))
            world.Violate($"{main.Name} is held on its drained node in phase {job.Phase}");
    }

    /// <summary>An operator deletes a pod, or drops its finalizer: not before the OMJob has ended.</summary>
    public void SeeRemoval(string uid, bool release)
    {
        if (world.Now > latest) latest = world.Now;
        if (pods.GetValueOrDefault(uid) is not { IsMain: true, Gone: false, Stray: false, Name: var name } pod) return;
        if (JobOf(pod.Last) is not { Gone: false, Finished: false, Restored: false } job) return;
        if (world.WayOut(job.Last)) return;
        if (pod.Last.At("metadata", "deletionTimestamp") is not null && !release) return;
        // G22; that the OMJob was deleted meanwhile may not have been seen, and a process that has just started knows the
        // server's clock as well only as its first answers were quick.
        var drained = job.Phase == "ExitHandlerRunning" && pod.LostAfter is not null
            && (latest + Slack > pod.LostAfter || FirstExit(job) is not null || Attempt(job) > 1);
        if (release && !drained && job.Pods.TrueForAll(p => !p.IsMain || p == pod))
            world.Violate($"{name} is let go in phase {job.Phase}");
        if (!release && !job.Deleting && pod.OverSince < world.Ticks - TimeSpan.TicksPerSecond * 10)
            world.Violate($"{name} is deleted although it was over long ago, in phase {job.Phase}");
    }
}
