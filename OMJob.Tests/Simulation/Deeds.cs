// What users, machines and their operators do to the cluster: the deeds of a plan, done.

using System.Text.Json.Nodes;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

sealed partial class World
{
    void Do(PlannedAction action)
    {
        var job = plan.Jobs[action.Job];
        var path = $"{InNamespace("omjobs", job.Namespace)}/{job.Name}";
        var pod = Nodes.Pods.FirstOrDefault(p => p.Pod.Text("metadata", "labels", "foreign") is null
            && p.Pod.Name().StartsWith($"{job.Name}-{(action.Exit ? "exit" : "main")}", StringComparison.Ordinal));
        Note($"{action.Deed} {job.Name} {(action.Exit ? "exit" : "main")} {action.Length:0.0} s {action.Propagation}");
        switch (action.Deed)
        {
            case Deed.CreateJob: CreateJob(job); break;
            case Deed.DeleteJob:
                Ask("DELETE", path, action.Propagation is null ? null
                    : new JsonObject { ["propagationPolicy"] = action.Propagation });
                // H9: the same name again; not where an orphan without labels may have the pod's name for ever.
                if (action is { Length: > 100, Propagation: not "Orphan" }) After(5, () => CreateJob(job));
                break;
            case Deed.Recreate when action.Exit && pod is not null:
                Ask("DELETE", pod.Path, AtOnce());
                Occupy(job, "exit", action.Length);
                break;
            case Deed.Recreate when plan.Cron is { } cron:
                Recreate("cronomjobs", Namespace, cron, action.Length);
                break;
            case Deed.Recreate: Recreate("omjobs", job.Namespace, job.Body, action.Length); break;
            case Deed.DeletePod when pod is not null: Ask("DELETE", pod.Path); break;
            case Deed.KillPod when pod is not null: Ask("DELETE", pod.Path, AtOnce()); break;
            case Deed.StripLabels when pod is not null: Change(pod, "labels"); break;
            case Deed.StripOwner when pod is not null: Change(pod, "ownerReferences"); break;
            case Deed.LoseNode when pod is { Scheduled: true }: LoseNode(pod, action.Length); break;
            case Deed.Disrupt when pod is { Scheduled: true }:
                Ask("PATCH", pod.Path + "/status", Json.Object("""
                    {"status": {"conditions":
                        [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}}
                    """));
                Ask("DELETE", pod.Path);
                break;
            case Deed.ForeignPod: Occupy(job, "main", action.Length); break;
            case Deed.ForeignExits:
                for (var n = action.Attempt; n > 0; n--)
                    Occupy(job, n == 1 ? "exit" : $"exit-{n}", action.Length);
                break;
            case Deed.DeleteNamespace: Ask("DELETE", $"/api/v1/namespaces/{job.Namespace}"); break;
            case Deed.Drain: drains[job.Name] = action.Length; break;
            default: DoToServer(action); break;
        }
    }

    /// <summary>What is done to the API server, its clock, and those who ask it.</summary>
    void DoToServer(PlannedAction action)
    {
        switch (action.Deed)
        {
            case Deed.Quota: quotaUntil = Ticks + In(action.Length); break;
            case Deed.Webhook: webhookUntil = Ticks + In(action.Length); break;
            case Deed.SpoilPods: SpoilPods(action.Exit, action.Length); break;
            case Deed.ChangeDefaults: // and sometimes nobody remembers the version before
                ChangeDefaults();
                if (action.Exit && operators.Count > 0) Kill(operators[Random.Next(operators.Count)], 0);
                break;
            case Deed.Overload: (overloadUntil, overloadRetry) = (Ticks + In(action.Length), RetryAfter()); break;
            case Deed.LabelPolicy: policyUntil = Ticks + In(action.Length); break;
            case Deed.StallJobs when operators.Count > 0:
                var jobs = operators[Random.Next(operators.Count)].Requests
                    .Find(r => r.Watcher is not null && r.Request.Path.Contains("/omjobs?"));
                if (jobs is not null) Stall(jobs);
                break;
            case Deed.Down: downUntil = Ticks + In(action.Length); break;
            case Deed.JumpForward: Jump(action.Length); break;
            case Deed.JumpBack: Jump(-Math.Min(30, action.Length)); break;
            case Deed.Restore: Restore((long)action.Length, cut: action.Exit); break;
            case Deed.JumpHour:
                Jump(3600);
                After(action.Length, () => Jump(-3600));
                break;
            case Deed.KillOperator when operators.Count > 0:
                Kill(operators[Random.Next(operators.Count)], Random.Next(2) * action.Length);
                break;
            case Deed.FreezeOperator when operators.Count > 0:
                operators[Random.Next(operators.Count)].FrozenUntil = Ticks + In(action.Length);
                break;
            case Deed.SecondOperator when operators.Count < 3: StartOperator(); break;
            case Deed.Uninstall when !uninstalled: Uninstall(action.Length); break;
        }
    }

    readonly Dictionary<string, double> drains = []; // by the OMJob's name, how long after its main pod's end

    void Drain(string uid, double after) => After(after, () =>
    {
        if (Oracle.MainOf(uid) is not { Gone: false } main) return;
        main.Drained = true;
        Ask("DELETE", main.Hosted.Path);
    });

    readonly Dictionary<string, Action> onceGone = []; // by plural and key

    /// <summary>H9: deleted, and created again as soon as it has gone.</summary>
    void Recreate(string plural, string ns, JsonObject body, double after)
    {
        var key = $"{plural} {ns}/{body.Name()}";
        onceGone[key] = () => After(after, () => Ask("POST", InNamespace(plural, ns), body));
        if (!Ask("DELETE", $"{InNamespace(plural, ns)}/{body.Name()}").Ok) onceGone.Remove(key);
    }

    static JsonObject AtOnce() => new() { ["gracePeriodSeconds"] = 0 };

    void Jump(double seconds)
    {
        ServerJump += TimeSpan.FromSeconds(seconds);
        ClockJumps += TimeSpan.FromSeconds(Math.Abs(seconds));
    }

    void Change(Hosted pod, string field) =>
        Ask("PATCH", pod.Path, new JsonObject { ["metadata"] = new JsonObject { [field] = null } });

    /// <summary>G6: its controllers delete the pod, which its node never confirms; PodGC takes it in the end.</summary>
    void LoseNode(Hosted pod, double after)
    {
        Nodes.Lose(pod);
        var (path, uid) = (pod.Path, pod.Pod.Uid());
        JsonObject Options() => new() { ["preconditions"] = new JsonObject { ["uid"] = uid } };
        After(after / 10, () => Ask("DELETE", path, Options()));
        After(after / 10 + 30 + after, () =>
        {
            var now = Options();
            now["gracePeriodSeconds"] = 0;
            Ask("DELETE", path, now);
        });
    }

    /// <summary>D2: somebody else's pod has the name for a while.</summary>
    void Occupy(JobPlan job, string suffix, double seconds)
    {
        var (path, name) = ($"/api/v1/namespaces/{job.Namespace}/pods", $"{job.Name}-{suffix}");
        var made = Ask("POST", path, Json.Object($$"""
            {"metadata": {"name": "{{name}}", "labels": {"foreign": "yes"} },
             "spec": {"containers": [{"name": "c", "image": "i"}]} }
            """));
        if (made.Ok) After(seconds, () => Ask("DELETE", $"{path}/{name}", AtOnce()));
    }
}
