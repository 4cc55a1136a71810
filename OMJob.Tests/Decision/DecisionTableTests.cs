// The decision in every state: phase × deletion × both pods × the clocks, against the rules of docs/design.md that
// hold in all of them. Times are seconds from Moment.Now.

using Xunit;
using static OMJobs.Tests.AnOMJob;
using static OMJobs.Tests.APod;

namespace OMJobs.Tests;

public sealed class DecisionTableTests
{
    static readonly (string Name, Func<AnOMJob> Job)[] Jobs =
    [
        .. from phase in (string[])["", "Pending", "Running", "ExitHandlerRunning", "Succeeded", "Failed", "Paused"]
           from deletion in (string?[])[null, "", Job.Foreground, Job.Orphan]
           from held in (bool[])[true, false]
           from handler in (bool[])[true, false]
           from asked in (bool[])[true, false]
           from code in (int?[])[0, 1, null]
           select ($"{phase} deletion={deletion} held={held} handler={handler} asked={asked} code={code}",
               (Func<AnOMJob>)(() =>
           {
               var job = phase is "ExitHandlerRunning" ? HandlerRunning(code) : phase is "Running" ? Running()
                   : phase is "Succeeded" or "Failed" ? Finished(phase) : InPhase(phase);
               if (!held) job.WithFinalizers(deletion is null ? [] : ["x/y"]);
               if (!handler) job.WithoutExitHandler();
               var propagation = deletion is "" ? null : deletion;
               return deletion is null ? job : asked ? job.Killed(propagation) : job.Deleted(propagation);
           })),
        .. from special in Special
           from deletion in (string?[])[null, "", Job.Foreground, Job.Orphan]
           select ($"{special.Name} deletion={deletion}", (Func<AnOMJob>)(() =>
               deletion is null ? special.Job() : special.Job().Killed(deletion.Length == 0 ? null : deletion))),
    ];

    /// <summary>What status or spec may hold beside the phase.</summary>
    static (string Name, Func<AnOMJob> Job)[] Special =>
    [
        ("named by nobody", () => Running().With("mainPodName", null)),
        ("given up", () => Running().Saying("Main pod was stopped: it did not start within 1h: ErrImagePull")),
        ("last attempt", () => HandlerRunning().AtAttempt(4)),
        ("one attempt", () => HandlerRunning(1).WithSpec("exitHandlerBackoffLimit", 0)),
        ("no attempt named", () => HandlerRunning().With("exitHandlerPodName", null)),
        ("blocked", () => HandlerRunning().Saying("Main pod succeeded; exit handler is blocked: quota")),
        ("least TTL", () => Finished().WithSpec("ttlSecondsAfterFinished", 0)),
        ("least TTL, let go", () => Finished().WithFinalizers().WithSpec("ttlSecondsAfterFinished", 0)),
        ("no completionTime", () => Finished().WithFinalizers().With("completionTime", null)),
        ("no main pod", () => Finished("Failed").With("mainPodName", null)),
    ];

    static (string Name, PodView View)[] Views(Func<APod> pod) =>
    [
        ("unknown", PodView.Unknown), ("absent", PodView.Absent),
        ("blocked", PodView.Absent with { RetryAt = Moment.At(5) }),
        ("created", pod()), ("pulling", pod().Waiting("ErrImagePull")), ("unscheduled", pod().Unscheduled("full")),
        ("deadline", pod().WithDeadline(600).Running().StartedAt(-590)),
            ("deadline past", pod().WithDeadline(1).Running().StartedAt(-590)),
        ("unlabelled again", (PodView)pod().Running().WithoutLabels() with { AskAgain = Moment.At(30) }),
            ("ran while deleting", (PodView)pod().Exited(0, null, -9).Deleted(-5) with { Stopped = true }),
        ("running", pod().Running().StartedAt(-590)), ("sidecar", pod().Exited(0).WithSidecar().InPhase("Running")),
        ("0", pod().Exited(0)), ("1", pod().Exited(1)), ("evicted 0", pod().Exited(0).WithReason("Evicted")),
        ("evicted", pod().InPhase("Failed").WithReason("Evicted")),
            ("failed running", pod().Running().InPhase("Failed")),
        ("terminating", pod().Running().Deleted(-1)), ("terminating, 0 before", pod().Exited(0, null, -9).Deleted(-5)),
        ("terminating, 0 after", pod().Exited(0, null, -2).Deleted(-5)),
            ("terminating, unscheduled", pod().Unscheduled().Deleted(-1)),
        ("released", pod().Released().Exited(0)), ("adopted", pod().OfUpstream().Running()),
            ("unlabelled", pod().Running().WithoutLabels()),
        ("refused", PodView.Refused("it is wrong")), ("namespace going", PodView.NamespaceGoing),
        ("lost", pod().Running().WithReason("NodeLost").Deleted(-91)), ("0 without a time",
            new(pod().Exited(0).Pod with { FinishedAt = null })),
        ("foreign", pod().OfSomebodyElse().Running()), ("earlier", pod().OfUid("earlier").Running()),
    ];

    static readonly double[] Times = [0, 10, 60, 90.002, 600, 3000, 86_400, 400_000];

    [Fact]
    public void No_state_whatever_breaks_a_rule()
    {
        var (mains, exits, broken, count) = (Views(() => MainPod()), Views(() => ExitPod()), new List<string>(), 0);
        foreach (var (name, make) in Jobs)
        {
            var job = make().Job;
            foreach (var main in mains)
                foreach (var exit in exits)
                {
                    // A refusal is known for one decision, that after the creation was tried.
                    if (main.View.Presence == Presence.Refused && job.Status.Phase != Phase.Pending) continue;
                    foreach (var at in Times)
                    {
                        count++;
                        var fresh = job with { ReadAt = Moment.At(at) };
                        var decision = Decide(fresh, main.View, exit.View, at);
                        if (Broken(fresh, main.View, exit.View, at, decision) is { } rule)
                            broken.Add($"{rule}: {name}; main {main.Name}; exit {exit.Name}; at {at}: "
                                + decision.Say(fresh));
                    }
                }
        }
        TestContext.Current.TestOutputHelper?.WriteLine($"{count} states");
        Assert.Empty(broken.Take(20));
    }

    /// <summary>The rules that hold in every state; null where none is broken.</summary>
    static string? Broken(Job job, PodView main, PodView exit, double at, Decision decision)
    {
        var (phase, now) = (job.Status.Phase, Moment.At(at));
        var going = main.Presence == Presence.NamespaceGoing || exit.Presence == Presence.NamespaceGoing; // G10
        var ours = main.Pod is { } pod && pod.BelongsTo(job);
        switch (decision.Act)
        {
            case Act.WriteStatus:
                var to = decision.Status!;
                if (phase.IsFinished()) return "a finished job never changes";
                if (phase != Phase.Unknown && to.Phase < phase) return "phases never move backwards";
                if (phase == Phase.Running && main.Presence == Presence.Unknown && !going)
                    return "unknown only ever leads to asking";
                if (to.Phase == Phase.Succeeded && to.ExitCode != 0) return "succeeded without an exit code of 0";
                if (to.Phase == Phase.ExitHandlerRunning
                    && (!job.HasExitSpec || to.ExitPodName is null)) return "no handler is named";
                if (to.Phase.IsFinished() != (to.CompletionTime == now))
                    return "completionTime at the end, and only there";
                if (to.Phase.IsFinished() && phase == Phase.Running
                    && job.HasExitSpec && !going) return "the handler was skipped";
                if (phase >= Phase.ExitHandlerRunning
                    && to.ExitCode != job.Status.ExitCode) return "the first end recorded wins";
                return to == job.Status ? "a status write that changes nothing" : null;
            case Act.AddFinalizer:
                return job.Deleting || job.HasFinalizer || phase.IsFinished()
                    ? "the finalizer is put where it cannot or need not be" : null;
            case Act.DropFinalizer when decision.Why == Job.Finalizer:
                if (phase.IsFinished()) return ours && main.Pod!.HasFinalizer ? "the main pod's finalizer goes first"
                    : null;
                return phase == Phase.Pending && job.Deleting && !ours && main.Presence != Presence.Unknown ? null
                    : "let go too early";
            case Act.DropFinalizer:
                return phase == Phase.ExitHandlerRunning && decision.Why == Job.Foreground ? null : "not ours to drop";
            case Act.CreateMain:
                if (!job.HasFinalizer || job.Deleting || phase != Phase.Pending) return "a main pod out of turn";
                return main.Pod is null ? null : "a second main pod";
            case Act.CreateExit:
                if (phase != Phase.ExitHandlerRunning || !job.HasExitSpec
                    || exit.Pod is not null) return "a handler out of turn";
                return job.Finalizers.Contains(Job.Foreground) ? "G19: the collector would delete it" : null;
            case Act.DeletePod:
                if (!decision.Pod!.BelongsTo(job)) return "somebody else's pod is deleted";
                return decision.Pod.Deleting ? "deleted again" : null;
            case Act.ReleasePod:
                // G22: beside that only a main pod that others delete, once its handler has had its time.
                var drained = phase == Phase.ExitHandlerRunning && !job.Deleting && decision.Pod == main.Pod
                    && main.Pod!.Deleting && (now >= main.Pod.DeletionTimestamp + Moment.Clocks.LostPodSlack
                        || PodTemplate.Ran(job) > 0 || End.Of(exit, now, Moment.Clocks) is not null);
                return (phase.IsFinished() || drained) && decision.Pod!.BelongsTo(job) ? null
                    : "released before the end is recorded";
            case Act.RestoreLabels:
                return decision.Pod!.BelongsTo(job) && decision.Pod.LostLabels ? null
                    : "labels that are not ours to restore";
            case Act.DeleteJob:
                return job.HasFinalizer || job.Deleting || !phase.IsFinished() ? "deleted out of turn" : null;
            case Act.Wait when decision.Wake is { } wake:
                if (wake <= now) return "a wake that has passed";
                var before = Decide(job, main, exit, at + (wake - now).TotalSeconds / 2);
                if (before.Act != Act.Wait) return "woken too late";
                var then = Moment.Decide(job with { ReadAt = wake }, main, exit, wake);
                return then.Act == Act.Wait && then.Wake <= wake ? "woken for nothing" : null;
            case Act.Wait:
                var ever = Moment.Decide(job with { ReadAt = now.AddYears(1) }, main, exit, now.AddYears(1));
                return ever.Act == Act.Wait ? null : "a clock that nobody winds up";
            default:
                return null;
        }
    }

    static Decision Decide(Job job, PodView main, PodView exit, double at) =>
        Moment.Decide(job, main, exit, Moment.At(at));
}
