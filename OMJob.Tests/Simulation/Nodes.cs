// The nodes of the simulated cluster, and their kubelet: each pod lives as its Life says. What it does next, and when,
// follows from the pod as it is and the container as it really is.

using System.Text.Json.Nodes;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

/// <summary>How a pod's life ends if nobody interferes.</summary>
enum LifeEnd
{
    Exit, Evicted, RefusedByKubelet, NeverScheduled, NeverPulled, PhaseFirst, PhaseOnly, Sidecar, NodeShutdown,
}

/// <summary>What becomes of a pod; times in seconds, each from the one before.</summary>
sealed record Life
{
    public LifeEnd LifeEnd { get; init; }
    public double Schedule { get; init; }
    public double Start { get; init; } = 1;
    public double Run { get; init; } = 2;
    public int Code { get; init; }
    public string? Reason { get; init; }
    /// <summary>From SIGTERM to the end, unless the grace period is shorter (137).</summary>
    public double Stop { get; init; } = 1;
    public int StopCode { get; init; } = 143;
    public double Sidecar { get; init; } = 5;
    /// <summary>How far its node's clock is ahead of the server's.</summary>
    public double Clock { get; init; }
    /// <summary>From a change to the kubelet's report of it; what changes in between is never reported.</summary>
    public double Report { get; init; }

    public static Life Random(Random random) => new()
    {
        LifeEnd = random.Next(3) > 0 ? LifeEnd.Exit : (LifeEnd)random.Next(9),
        Schedule = random.Next(3) * random.NextDouble() * 5,
        Start = random.NextDouble() * 3,
        Run = random.NextDouble() * (random.Next(4) == 0 ? 40 : 4),
        Code = random.Next(3) switch { 0 => 1 + random.Next(255), _ => 0 },
        Reason = random.Next(4) == 0 ? "OOMKilled" : null,
        Stop = 1 + random.NextDouble() * 4,
        StopCode = random.Next(2) * 143,
        Sidecar = random.NextDouble() * 30,
    };

    /// <summary>G21: it stops within the second, its node's clock is off, its kubelet takes its time.</summary>
    public Life Rough(Random random)
    {
        var quick = random.Next(3) == 0;
        return this with
        {
            Stop = quick ? random.NextDouble() : Stop,
            StopCode = quick && random.Next(3) > 0 ? 0 : StopCode,
            Clock = random.Next(6) switch
            {
                0 or 1 => random.NextDouble() * 2 - 1,
                2 => random.NextDouble() * 120 - 60,
                _ => 0,
            },
            Report = random.Next(4) == 0 ? random.NextDouble() * 2 : 0,
        };
    }
}

/// <summary>A pod and its container; the container is as it is, whatever the API server knows of it.</summary>
sealed class Hosted(JsonObject pod, Life life, long since)
{
    public JsonObject Pod { get; set; } = pod;
    public Life Life => life;
    /// <summary>When what comes next began.</summary>
    public long Since { get; set; } = since;
    public bool Running { get; set; }
    public DateTimeOffset? Started { get; set; }
    public (int Code, string Reason, DateTimeOffset? Finished)? Terminated { get; set; }
    public bool Waiting => !Running && Terminated is null;
    /// <summary>Somebody stopped it; it did not end of itself.</summary>
    public bool Stopped { get; set; }
    /// <summary>When the kubelet reports what has changed; null: nothing has.</summary>
    public long? Report { get; set; }
    public bool SidecarRuns { get; set; }
    public bool PhaseSaid { get; set; }
    public (string Reason, string Message)? Failure { get; set; }
    public long? Signalled { get; set; }
    /// <summary>Its node is lost: nothing is written, stopped or finished any more.</summary>
    public bool Lost { get; set; }

    public bool Deleting => Pod.At("metadata", "deletionTimestamp") is not null;
    public bool Scheduled => Pod.Text("spec", "nodeName") is not null;
    public string Path => $"/api/v1/namespaces/{Pod.Text("metadata", "namespace")}/pods/{Pod.Name()}";
    public long Grace => Pod.Long("metadata", "deletionGracePeriodSeconds") ?? 0;
    /// <summary>A kubelet leaves no container less than two seconds from SIGTERM to SIGKILL.</summary>
    public long Patience => Math.Max(Grace, 2);
}

sealed class Nodes(World world)
{
    readonly Dictionary<string, Hosted> pods = [];

    public IEnumerable<Hosted> Pods => pods.Values;
    public Hosted this[string uid] => pods[uid];

    public void See(Change change)
    {
        if (change.Type.Plural != "pods") return;
        var uid = change.Shown.Uid();
        if (change.After is not { } pod) Bury(uid);
        else if (pods.TryGetValue(uid, out var hosted)) hosted.Pod = pod;
        else pods[uid] = new Hosted(pod, world.LifeOf(pod), world.Ticks);
    }

    readonly Dictionary<string, Hosted> buried = []; // whose pods have gone

    void Bury(string uid)
    {
        if (!pods.Remove(uid, out var gone)) return;
        buried[uid] = gone;
        if (gone.Running) (gone.Running, gone.Stopped) = (false, true);
        gone.SidecarRuns = false;
    }

    /// <summary>The API server has forgotten what came after its backup. A pod that it does not know is stopped; of
    /// those that it knows the kubelets report again how they are.</summary>
    public void Restore(IEnumerable<JsonObject> known)
    {
        var there = known.ToDictionary(pod => pod.Uid());
        foreach (var uid in pods.Keys.Where(uid => !there.ContainsKey(uid)).ToArray()) Bury(uid);
        foreach (var (uid, pod) in there)
        {
            if (buried.Remove(uid, out var back))
            {
                if (back is { Started: not null, Terminated: null }) back.Terminated = (137, "Error", Clock(back));
                pods[uid] = back;
            }
            var hosted = pods[uid];
            (hosted.Pod, hosted.Signalled, hosted.Report) = (pod, null, world.Ticks);
        }
    }

    static long In(double seconds) => (long)(seconds * TimeSpan.TicksPerSecond);

    /// <summary>When the kubelet has something to do for the pod; null: nothing.</summary>
    public static long? Due(Hosted pod)
    {
        var life = pod.Life;
        if (pod.Lost) return null;
        if (!pod.Scheduled)
            return pod.Deleting || life.LifeEnd == LifeEnd.NeverScheduled ? null : pod.Since + In(life.Schedule);
        var next = Next(pod);
        return next is null || pod.Report < next ? pod.Report : next;
    }

    /// <summary>When something happens to the pod's containers, or the kubelet lets the pod go.</summary>
    static long? Next(Hosted pod)
    {
        var life = pod.Life;
        if (pod.Deleting)
            return !pod.Running && !pod.SidecarRuns ? pod.Grace > 0 && pod.Report is null ? pod.Since : null
                : pod.Signalled is { } at ? at + In(Math.Min(life.Stop, pod.Patience)) : pod.Since;
        if (pod.Waiting)
            return pod.Failure is not null || life.LifeEnd == LifeEnd.NeverPulled ? null : pod.Since + In(life.Start);
        if (pod.Running)
        {
            var end = pod.Since + In(life.Run);
            return pod.Pod.Long("spec", "activeDeadlineSeconds") is { } most
                ? Math.Min(end, pod.Since + In(most)) : end;
        }
        return pod.SidecarRuns ? pod.Since + In(life.Sidecar) : null;
    }

    public void Act(Hosted pod)
    {
        var life = pod.Life;
        if (!pod.Scheduled) Bind(pod);
        else if (pod.Report <= world.Ticks) Say(pod);
        else if (pod.Deleting) Stop(pod);
        else if (pod.Waiting) Start(pod);
        else if (pod.Running)
        {
            var overdue = pod.Pod.Long("spec", "activeDeadlineSeconds") is { } most && most < life.Run;
            if (overdue) pod.Failure = ("DeadlineExceeded", "Pod was active on the node longer than the deadline");
            if (overdue) Terminate(pod, life.StopCode, "Error", stopped: true);
            else Finish(pod);
        }
        else
        {
            pod.SidecarRuns = false;
            Tell(pod);
        }
    }

    void Bind(Hosted pod)
    {
        (pod.Since, pod.Report) = (world.Ticks, world.Ticks);
        world.Ask("POST", pod.Path + "/binding", new JsonObject
        {
            ["metadata"] = new JsonObject { ["name"] = pod.Pod.Name() },
            ["target"] = new JsonObject { ["kind"] = "Node", ["name"] = "node" },
        });
    }

    void Start(Hosted pod)
    {
        pod.Since = world.Ticks;
        if (pod.Life.LifeEnd == LifeEnd.RefusedByKubelet) pod.Failure = ("OutOfcpu", "Node didn't have enough resource");
        else
        {
            (pod.Running, pod.Started) = (true, Clock(pod));
            pod.SidecarRuns = pod.Life.LifeEnd == LifeEnd.Sidecar;
        }
        Tell(pod);
    }

    void Finish(Hosted pod)
    {
        var (life, early) = (pod.Life, pod.Life.LifeEnd is LifeEnd.PhaseFirst or LifeEnd.PhaseOnly);
        if (early && !pod.PhaseSaid)
        {
            // Old kubelets: the phase says that the pod has failed, the container runs for a few seconds more.
            (pod.PhaseSaid, pod.Failure, pod.Since) = (true, ("Evicted", "The node was low on memory"), world.Ticks);
            Say(pod);
            pod.Lost = life.LifeEnd == LifeEnd.PhaseOnly;
            return;
        }
        if (early) Terminate(pod, 137, "Error", stopped: true);
        else if (life.LifeEnd == LifeEnd.Evicted)
        {
            pod.Failure = ("Evicted", "The node was low on resource: memory");
            Terminate(pod, life.StopCode, "Error", stopped: true);
        }
        else if (life.LifeEnd == LifeEnd.NodeShutdown)
        {
            pod.Failure = ("Terminated", "Pod was terminated in response to imminent node shutdown.");
            Terminate(pod, life.StopCode, life.StopCode == 0 ? "Completed" : "Error", stopped: true);
        }
        else Terminate(pod, life.Code, life.Code == 0 ? "Completed" : life.Reason ?? "Error", stopped: false);
    }

    void Stop(Hosted pod)
    {
        if (!pod.Running && !pod.SidecarRuns)
            world.Ask("DELETE", pod.Path, new JsonObject
            {
                ["gracePeriodSeconds"] = 0, ["preconditions"] = new JsonObject { ["uid"] = pod.Pod.Uid() },
            });
        else if (pod.Signalled is null) pod.Signalled = world.Ticks;
        else
        {
            pod.SidecarRuns = false;
            var code = pod.Life.Stop < pod.Patience ? pod.Life.StopCode : 137;
            if (pod.Running) Terminate(pod, code, code == 0 ? "Completed" : "Error", stopped: true);
            else Tell(pod);
        }
    }

    void Terminate(Hosted pod, int code, string reason, bool stopped)
    {
        (pod.Running, pod.Terminated, pod.Since) = (false, (code, reason, Clock(pod)), world.Ticks);
        pod.Stopped = stopped;
        Tell(pod);
    }

    /// <summary>The time by the pod's node.</summary>
    DateTimeOffset Clock(Hosted pod) => world.Now.AddSeconds(pod.Life.Clock);

    /// <summary>The node is gone and with it all that ran there; the API server does not learn of it.</summary>
    public static void Lose(Hosted pod) => pod.Lost = true;

    /// <summary>Something has changed: the status will say so, at once or in a while.</summary>
    void Tell(Hosted pod)
    {
        pod.Report ??= world.Ticks + In(pod.Life.Report);
        if (pod.Report <= world.Ticks) Say(pod);
    }

    /// <summary>Writes the status as it is now.</summary>
    void Say(Hosted pod)
    {
        pod.Report = null;
        var main = new JsonObject();
        if (pod.Running) main["running"] = new JsonObject { ["startedAt"] = Json.Time(pod.Started!.Value) };
        else if (pod.Terminated is { } end)
        {
            main["terminated"] = new JsonObject
            {
                ["exitCode"] = end.Code, ["reason"] = end.Reason, ["finishedAt"] = Json.Time(end.Finished!.Value),
            };
        }
        else main["waiting"] = new JsonObject
        {
            ["reason"] = pod.Life.LifeEnd == LifeEnd.NeverPulled ? "ImagePullBackOff" : "ContainerCreating",
        };
        var containers = new JsonArray(new JsonObject { ["name"] = "main", ["state"] = main });
        if (pod.Life.LifeEnd == LifeEnd.Sidecar && !pod.Waiting)
            containers.Insert(0, new JsonObject
            {
                ["name"] = "sidecar",
                ["state"] = pod.SidecarRuns ? new JsonObject { ["running"] = new JsonObject() }
                    : Json.Object("""{"terminated": {"exitCode": 0, "reason": "Completed"}}"""),
            });
        var refused = pod.Failure is not null && pod.Started is null;
        var phase = pod.PhaseSaid || refused ? "Failed"
            : pod.Running || pod.SidecarRuns ? "Running"
            : pod.Terminated is not { } ended ? "Pending"
            : ended.Code == 0 && pod.Failure?.Reason is null or "Terminated" ? "Succeeded" : "Failed";
        var status = new JsonObject
        {
            ["phase"] = phase, ["reason"] = pod.Failure?.Reason, ["message"] = pod.Failure?.Message,
            ["startTime"] = pod.Started is { } at ? Json.Time(at) : null,
            ["containerStatuses"] = refused ? null : containers,
        };
        world.Ask("PATCH", pod.Path + "/status", new JsonObject
        {
            ["metadata"] = new JsonObject { ["uid"] = pod.Pod.Uid() }, ["status"] = status,
        });
    }
}
