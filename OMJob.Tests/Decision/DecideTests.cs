// The decision by table: what is known of a job and its pods, and the one step that follows. A row's name begins with
// the id of the case it stands for. Times are seconds from Moment.Now; see Saying for how a decision reads.

using Xunit;
using static OMJobs.Tests.AnOMJob;
using static OMJobs.Tests.APod;

namespace OMJobs.Tests;

public sealed class DecideTests
{
    static readonly PodView Unknown = PodView.Unknown, Absent = PodView.Absent, Going = PodView.NamespaceGoing;
    static readonly PodView Invalid = PodView.Refused(
        "Pod \"run\" is invalid: spec.containers[0].image: Required value");

    sealed record Scenario(AnOMJob Job, PodView? Main, PodView? Exit, string Expected, double At = 0)
    {
        public Deadlines Clocks { get; init; } = Moment.Clocks;
    }

    static readonly Deadlines NoDeadlines = Moment.Clocks with
    {
        StartDeadline = TimeSpan.Zero,
        ExitHandlerDeadline = TimeSpan.Zero
    };
    static readonly Deadlines OneAttempt = Moment.Clocks with { ExitHandlerRetries = 0 };

    const string GoneByNamespace = "exit handler cannot run: the namespace is being deleted";

    static readonly Dictionary<string, Scenario> Table = new()
    {
        // ----- Pending
        ["no phase is Pending, and the finalizer comes first"] = new(Fresh(), null, null, "AddFinalizer"),
        ["an empty phase is Pending"] = new(InPhase(""), null, null, "CreateMain"),
        ["the finalizer comes before the pod, live or not"] = new(Fresh().ReadAt(null), Absent, null, "AddFinalizer"),
        ["the finalizer is kept beside others'"] = new(Pending().WithFinalizers("x/y"), null, null, "AddFinalizer"),
        ["D1: a pod is created on a fresh observation"] = new(Pending(), null, null, "CreateMain"),
        ["D1: ten seconds old is fresh"] = new(Pending().ReadAt(-10), null, null, "CreateMain"),
        ["D1: older is not"] = new(Pending().ReadAt(-10.001), null, null, "AskJob"),
        ["D1: nor what was seen live when the clock was ahead of what it is now"] = new(
            Pending().ReadAt(2.001), null, null, "AskJob"),
        ["D1: a clock moves by a second or two"] = new(Pending().ReadAt(2), null, null, "CreateMain"),
        ["D1: never seen live is not"] = new(Pending().ReadAt(null), null, null, "AskJob"),
        ["absent by a live GET: created"] = new(Pending(), Absent, null, "CreateMain"),
        ["G14: blocked until the backoff is over"] = new(
            Pending(), Unknown with { RetryAt = Moment.At(7) }, null, "wait until +7"),
        ["G14: then tried again"] = new(Pending(), Unknown with { RetryAt = Moment.At(7) }, null, "CreateMain", 7),
        ["D4: the pod is there and ours"] = new(Pending(), MainPod(), null, "→ Running, main run-main, started -600"),
        ["G14: what blocked the pod is no longer said once it is there"] = new(
            Pending().Saying("Main pod is blocked: quota"), MainPod(), null,
            "→ Running, main run-main, started -600, saying nothing"),
        ["adopted: upstream's pod has neither finalizer nor uid label"] = new(
            Pending(), MainPod().OfUpstream(), null, "→ Running, main run-main, started -600"),
        ["nor has its OMJob: it is held first"] = new(Fresh(), MainPod().OfUpstream(), null, "AddFinalizer"),
        ["ours by the uid label alone, after orphan deletion"] = new(
            Pending(), MainPod().WithoutOwner(), null, "→ Running, main run-main, started -600"),
        ["ours by the owner reference alone"] = new(
            Pending(), MainPod().WithoutLabels(), null, "→ Running, main run-main, started -600"),
        ["a reference that is no controller's does not count"] = new(
            Pending(), MainPod().OfUpstream().OwnedBy("OMJob", false), null,
            "Block: a pod run-main exists that is not this OMJob's"),
        ["a controller of another kind does not count, the label does"] = new(
            Pending(), MainPod().OwnedBy("Job", true), null, "→ Running, main run-main, started -600"),
        ["D4: somebody else's pod has our name"] = new(
            Pending(), MainPod().OfSomebodyElse(), null, "Block: a pod run-main exists that is not this OMJob's"),
        ["D2, H9: the pod of an earlier OMJob of that name"] = new(
            Pending(), MainPod().OfUid("earlier").Exited(0), null,
            "Block: a pod run-main exists that is not this OMJob's"),
        ["D4: a foreign pod is looked at again after the backoff"] = new(
            Pending(), new(MainPod().OfSomebodyElse().Pod) { RetryAt = Moment.At(1) }, null, "wait until +1"),
        ["D4: and not a moment longer"] = new(
            Pending(), (PodView)MainPod().OfSomebodyElse() with { RetryAt = Moment.At(1) }, null,
            "Block: a pod run-main exists that is not this OMJob's", 1),
        ["D4: a foreign pod waits for the finalizer too"] = new(
            Fresh(), MainPod().OfSomebodyElse(), null, "AddFinalizer"),
        ["G15: a main pod that can never be: the handler still runs"] = new(Pending(), Invalid, null,
            "→ ExitHandlerRunning, main run-main, exit run-exit, saying Main pod cannot be created: "
            + "Pod \"run\" is invalid: spec.containers[0].image: Required value [Warning MainPodFailed]"),
        ["G15, G18: a main pod that can never be, no handler"] = new(Pending().WithoutExitHandler(), Invalid, null,
            "→ Failed, main run-main, completed +0, saying Main pod cannot be created: "
            + "Pod \"run\" is invalid: spec.containers[0].image: Required value [Warning OMJobFailed]"),
        ["G10: the namespace goes before the start"] = new(Pending(), Going, null,
            $"→ Failed, completed +0, saying Main pod was not created; {GoneByNamespace} [Warning OMJobFailed]"),
        ["G10: blocked first, then the namespace goes"] = new(
            Pending().Saying("Main pod is blocked: quota"), Going, null,
            $"→ Failed, completed +0, saying Main pod is blocked: quota; {GoneByNamespace} [Warning OMJobFailed]"),

        // ----- Pending, and deleted
        ["G9: deleted, and nobody knows whether it started"] = new(Pending().Deleted(), Unknown, null, "AskMain"),
        ["G9, F5: deleted before it started"] = new(Pending().Deleted(), Absent, null, $"drop {Job.Finalizer}"),
        ["G9: deleted while a foreign pod stood in the way"] = new(
            Pending().Deleted(), MainPod().OfSomebodyElse(), null, $"drop {Job.Finalizer}"),
        ["G9: deleted while its pod can never be"] = new(Pending().Deleted(), Invalid, null, $"drop {Job.Finalizer}"),
        ["G9: deleted before it had our finalizer"] = new(Fresh().Deleted("x/y"), Absent, null, "wait"),
        ["G9: deleted after its pod was created"] = new(
            Pending().Deleted(), MainPod(), null, "→ Running, main run-main, started -600"),
        ["G19: deleted in the foreground before it started"] = new(
            Pending().Deleted(Job.Foreground), Absent, null, $"drop {Job.Finalizer}"),

        // ----- Running, and nothing has happened
        ["adopted: a running job gets the finalizer"] = new(Running().WithFinalizers(), null, null, "AddFinalizer"),
        ["adopted: the finalizer comes before the end"] = new(
            Running().WithFinalizers(), MainPod().Exited(0), null, "AddFinalizer"),
        ["D5: a pod that is not in the cache is asked for"] = new(Running(), Unknown, null, "AskMain"),
        ["D5: also when the job was deleted"] = new(Running().Killed(), Unknown, null, "AskMain"),
        ["running: nothing to do"] = new(Running(), MainPod().Running(), null, "wait"),
        ["running, and adopted from upstream"] = new(Running(), MainPod().OfUpstream().Running(), null, "wait"),
        ["D3, H1: labels that somebody took away come back"] = new(
            Running(), MainPod().Running().WithoutLabels(), null, "RestoreLabels run-main"),
        ["D3: also before the pod is deleted"] = new(
            Running().Killed(), MainPod().Running().WithoutLabels(), null, "RestoreLabels run-main"),

        // ----- Running → ExitHandlerRunning: each form of "over"
        ["G1 (a): exits 0"] = new(Running(), MainPod().Exited(0), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["G2 (a): exits 3"] = new(Running(), MainPod().Exited(3), null,
            "→ ExitHandlerRunning, exit run-exit, code 3, saying Main pod failed with exit code 3 [Warning "
            + "MainPodFailed]"),
        ["G3 (a): is OOM-killed"] = new(Running(), MainPod().Exited(137, "OOMKilled"), null,
            "→ ExitHandlerRunning, exit run-exit, code 137, "
            + "saying Main pod failed with exit code 137 (OOMKilled) [Warning MainPodFailed]"),
        ["P (a): exits 0 while a sidecar goes on"] = new(
            Running(), MainPod().Exited(0).WithSidecar().InPhase("Running"), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["P: a sidecar's exit code is nobody's"] = new(
            Running(), MainPod().Running().WithSidecar("terminated"), null, "wait"),
        ["P: a sidecar fails after main succeeded"] = new(
            Running(), MainPod().Exited(0).WithSidecar("terminated").InPhase("Failed"), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["G1: adopted pods end like ours"] = new(Running(), MainPod().OfUpstream().Exited(0), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["G18: exits 0, no handler"] = new(Running().WithoutExitHandler(), MainPod().Exited(0), null,
            "→ Succeeded, code 0, completed +0, saying Main pod succeeded [OMJobCompleted]"),
        ["G18: exits 3, no handler"] = new(Running().WithoutExitHandler(), MainPod().Exited(3), null,
            "→ Failed, code 3, completed +0, saying Main pod failed with exit code 3 [Warning OMJobFailed]"),
        ["G18: exitHandlerSpec null is none"] = new(
            Running().WithSpec("exitHandlerSpec", null), MainPod().Exited(0), null,
            "→ Succeeded, code 0, completed +0, saying Main pod succeeded [OMJobCompleted]"),
        ["G18: deleted, no handler"] = new(Running().WithoutExitHandler(), Absent, null,
            "→ Failed, completed +0, saying Main pod was deleted before its end was seen [Warning OMJobFailed]"),
        ["G4 (f): absent by a live GET"] = new(Running(), Absent, null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was deleted before its end was seen [Warning "
            + "MainPodFailed]"),
        ["G4, D2 (f): the name is somebody else's now"] = new(Running(), MainPod().OfSomebodyElse().Running(), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was deleted before its end was seen [Warning "
            + "MainPodFailed]"),
        ["G4 (a): deleted, with an exit code"] = new(Running(), MainPod().Deleted(-20).Exited(143, "Error"), null,
            "→ ExitHandlerRunning, exit run-exit, code 143, saying Main pod failed with exit code 143 [Warning "
            + "MainPodFailed]"),
        ["G4 (d): deleted and never scheduled"] = new(Running(), MainPod().Unscheduled("0/3 nodes").Deleted(-1), null,
            "→ ExitHandlerRunning, exit run-exit, "
            + "saying Main pod was deleted before it started (Unschedulable: 0/3 nodes) [Warning MainPodFailed]"),
        ["G4 (d): scheduled and deleted waits for its node"] = new(
            Running(), MainPod().Waiting("ContainerCreating").Deleted(-1), null, "wait until +89.001"),
        ["G4: never scheduled and not deleted is not over"] = new(
            Running(), MainPod().Unscheduled(), null, "wait until +3000"),
        ["G5 (b), P: evicted by admission, no container statuses"] = new(
            Running(), MainPod().InPhase("Failed").WithReason("Evicted", "The node was low on memory"), null,
            "→ ExitHandlerRunning, exit run-exit, "
            + "saying Main pod failed (Evicted: The node was low on memory) [Warning MainPodFailed]"),
        ["G5 (b), P: refused by the kubelet"] = new(Running(), MainPod().InPhase("Failed").WithReason("OutOfcpu"), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod failed (OutOfcpu) [Warning MainPodFailed]"),
        ["G5 (b), P: failed while main still waits"] = new(
            Running(), MainPod().Waiting("ContainerCreating").InPhase("Failed").WithReason("Evicted"), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod failed (Evicted; ContainerCreating) [Warning "
            + "MainPodFailed]"),
        ["G5 (a), P: node pressure kills main"] = new(
            Running(), MainPod().Exited(137, "ContainerStatusUnknown").WithReason("Evicted"), null,
            "→ ExitHandlerRunning, exit run-exit, code 137, "
            + "saying Main pod failed with exit code 137 (ContainerStatusUnknown; Evicted) [Warning MainPodFailed]"),
        ["G5 (a), P: preempted"] = new(
            Running(), MainPod().Exited(137).Disrupted("PreemptionByScheduler").Deleted(-31), null,
            "→ ExitHandlerRunning, exit run-exit, code 137, "
            + "saying Main pod failed with exit code 137 (PreemptionByScheduler) [Warning MainPodFailed]"),
        ["P (c): phase Failed, main still said to run: not yet"] = new(
            Running(), MainPod().Running().InPhase("Failed"), null, "wait until +90"),
        ["P (c): not yet at one moment before grace and slack"] = new(
            Running(), MainPod().Running().InPhase("Failed"), null, "wait until +90", 89.999),
        ["P (c): over after grace and slack"] = new(
            Running(), MainPod().Running().InPhase("Failed").WithReason("Terminated"), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod failed (Terminated) [Warning MainPodFailed]", 90),
        ["P (c): the grace is the pod's own"] = new(
            Running(), MainPod().Running().InPhase("Failed").WithGrace(600), null, "wait until +660", 90),
        ["P (c): from the first sighting"] = new(
            Running(), MainPod().Running().InPhase("Failed").FirstSeenAt(-89), null, "wait until +1"),
        ["G6 (e), P: Terminating, the node says nothing"] = new(
            Running(), MainPod().Running().Deleted(0), null, "wait until +90.001"),
        ["G6 (e): not over at deletionTimestamp + slack"] = new(
            Running(), MainPod().Running().Deleted(0), null, "wait until +90.001", 90),
        ["G6 (e): over after it"] = new(Running(), MainPod().Running().Deleted(0), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was lost: its node did not confirm its end within 1m "
            + "[Warning MainPodFailed]", 90.001),
        ["G6 (e): deletionTimestamp has moved back"] = new(
            Running(), MainPod().Running().Deleted(0, 0), null, "wait until +60.001"),
        ["G6 (e): grace 0 alone proves nothing"] = new(
            Running(), MainPod().Running().Deleted(-59, 0), null, "wait until +1.001"),
        ["G6 (e), P: node lost"] = new(
            Running(), MainPod().Running().WithReason("NodeLost").Disrupted("DeletionByTaintManager").Deleted(-91),
            null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was lost: its node did not confirm its end within 1m "
            + "(NodeLost; DeletionByTaintManager) [Warning MainPodFailed]"),
        ["G6, P: phase Unknown without a deletion is not over"] = new(
            Running(), MainPod().Running().InPhase("Unknown").WithReason("NodeLost"), null, "wait"),
        ["G6, P: PodGC sets Failed on a lost node"] = new(
            Running(), MainPod().Running().InPhase("Failed").Disrupted("DeletionByPodGC").Deleted(-100), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was lost: its node did not confirm its end within 1m "
            + "(DeletionByPodGC) [Warning MainPodFailed]"),
        ["G6: a deleted pod is not deleted again"] = new(
            Running().Killed(), MainPod().Running().Deleted(-1), null, "wait until +89.001"),

        // ----- is an exit code of 0 to be trusted?
        ["G21: exits 0 after its deletion was requested"] = new(
            Running(), MainPod().Exited(0, null, -9).Deleted(-10), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was stopped (exit code 0 afterwards) [Warning "
            + "MainPodFailed]"),
        ["G21: exits 0 in the second of the request, which may be after it"] = new(
            Running(), MainPod().Exited(0, null, -10).Deleted(-10), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was stopped (exit code 0 afterwards) [Warning "
            + "MainPodFailed]"),
        ["G21: seen running while it was being deleted, whatever its node's clock says"] = new(
            Running(), (PodView)MainPod().Exited(0, null, -60).Deleted(-10) with { Stopped = true }, null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was stopped (exit code 0 afterwards) [Warning "
            + "MainPodFailed]"),
        ["G21, G2: an exit code that is not 0 counts all the same"] = new(
            Running(), (PodView)MainPod().Exited(3, null, -9).Deleted(-10) with { Stopped = true }, null,
            "→ ExitHandlerRunning, exit run-exit, code 3, saying Main pod failed with exit code 3 [Warning "
            + "MainPodFailed]"),
        ["G21: exits 0 before the request"] = new(Running(), MainPod().Exited(0, null, -11).Deleted(-10), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["G21: exits 0 after the request, the grace is 0 by now"] = new(
            Running(), MainPod().Exited(0, null, -9).Deleted(-10, 0), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was stopped (exit code 0 afterwards) [Warning "
            + "MainPodFailed]"),
        ["G21: exits 0 after Kill"] = new(Running().Killed(), MainPod().Exited(0).Deleted(-4), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was stopped (exit code 0 afterwards) after the "
            + "OMJob was "
            + "deleted [Warning MainPodFailed]"),
        ["G21: exits 0 before Kill"] = new(Running().Killed(), MainPod().Exited(0, null, -60).Deleted(-4), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["P, G21: an exit code of 0 without a time"] = new(
            Running(), new PodView(MainPod().Exited(0).Pod with { FinishedAt = null }), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was stopped (exit code 0 afterwards) [Warning "
            + "MainPodFailed]"),
        ["G21, P: graceful node shutdown, main catches SIGTERM"] = new(
            Running(), MainPod().Exited(0).WithReason("Terminated"), null,
            "→ ExitHandlerRunning, exit run-exit, "
            + "saying Main pod was stopped (exit code 0 afterwards) (Terminated) [Warning MainPodFailed]"),
        ["G21, P: Evicted beats 0"] = new(Running(), MainPod().Exited(0).WithReason("Evicted"), null,
            "→ ExitHandlerRunning, exit run-exit, "
            + "saying Main pod was stopped (exit code 0 afterwards) (Evicted) [Warning MainPodFailed]"),
        ["G8, G21: DeadlineExceeded beats 0"] = new(Running(), MainPod().Exited(0).WithReason("DeadlineExceeded"), null,
            "→ ExitHandlerRunning, exit run-exit, "
            + "saying Main pod was stopped (exit code 0 afterwards) (DeadlineExceeded) [Warning MainPodFailed]"),
        ["G21: a disruption beats 0"] = new(Running(), MainPod().Exited(0).Disrupted("EvictionByEvictionAPI"), null,
            "→ ExitHandlerRunning, exit run-exit, "
            + "saying Main pod was stopped (exit code 0 afterwards) (EvictionByEvictionAPI) [Warning MainPodFailed]"),
        ["G21: a disruption that was called off does not"] = new(
            Running(), MainPod().Exited(0).Disrupted("PreemptionByScheduler", "False"), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["G21: a code that is not 0 is always kept"] = new(
            Running(), MainPod().Exited(2, null,
            -1).WithReason("Evicted").Disrupted("PreemptionByScheduler").Deleted(-10), null,
            "→ ExitHandlerRunning, exit run-exit, code 2, "
            + "saying Main pod failed with exit code 2 (Evicted; PreemptionByScheduler) [Warning MainPodFailed]"),

        // ----- the main pod's clocks
        ["G7: waits for the image until the start deadline"] = new(
            Running(), MainPod().Waiting("ImagePullBackOff"), null, "wait until +3000"),
        ["G7: one moment before"] = new(
            Running(), MainPod().Waiting("ImagePullBackOff"), null, "wait until +3000", 2999.999),
        ["G7: says why it never started, first"] = new(
            Running(), MainPod().Waiting("ImagePullBackOff", "Back-off pulling image \"nope\""), null,
            "→ Running, saying Main pod was stopped: it did not start within 1h: ImagePullBackOff: Back-off pulling "
            + "image "
            + "\"nope\"", 3000),
        ["G7: then the pod is deleted"] = new(
            Running().Saying("Main pod was stopped: it did not start within 1h: "
            + "ErrImagePull"), MainPod().Waiting("ImagePullBackOff"), null,
            "DeletePod run-main: Main pod was stopped: it did not start within 1h: ErrImagePull", 3000),
        ["G7: then the handler runs, and the reason stays"] = new(
            Running().Saying("Main pod was stopped: it did not start within 1h: ErrImagePull"), Absent, null,
            "→ ExitHandlerRunning, exit run-exit [Warning MainPodFailed]", 3001),
        ["G7: cannot be scheduled"] = new(Running(), MainPod().Unscheduled("0/3 nodes are available"), null,
            "→ Running, saying Main pod was stopped: it did not start within 1h: Unschedulable: 0/3 nodes are "
            + "available", 3000),
        ["G7: an init container holds it up"] = new(
            Running(), MainPod().InitWaiting("CreateContainerConfigError"), null,
            "→ Running, saying Main pod was stopped: it did not start within 1h: CreateContainerConfigError", 3000),
        ["G7: nobody says why"] = new(
            Running(), MainPod(), null,
            "→ Running, saying Main pod was stopped: it did not start within 1h: nothing is said why", 3000),
        ["G7: started in time has no deadline"] = new(Running(), MainPod().Running(), null, "wait", 100_000),
        // ----- what a clock says of a pod that may have moved on since it was seen (W2: a watch that is late)
        ["W2: a pod that may have started by now is asked for before it is given up"] = new(
            Running(), MainPod().Waiting("ErrImagePull").ReadAt(2989), null, "AskMain", 3000),
        ["W2: seen ten seconds ago is soon enough"] = new(
            Running(), MainPod().Waiting("ErrImagePull").ReadAt(2990), null,
            "→ Running, saying Main pod was stopped: it did not start within 1h: ErrImagePull", 3000),
        ["W2: and before its activeDeadlineSeconds end it"] = new(
            Running(), MainPod().WithDeadline(300).Running().StartedAt(0).ReadAt(null), null,
            "AskMain", 390),
        ["W2: a pod that may have ended by now is asked for before it is lost"] = new(
            Running(), MainPod().Running().Deleted(-100).ReadAt(-90), null, "AskMain", 20),
        ["W2: and before its phase alone ends it"] = new(
            Running(), MainPod().Running().InPhase("Failed").FirstSeenAt(-100).ReadAt(-90), null, "AskMain", 20),
        ["W2: nothing is asked before a clock says something"] = new(
            Running(), MainPod().Waiting("ErrImagePull").ReadAt(null), null, "wait until +3000"),
        ["W2: nor of a handler whose end the watch has told"] = new(
            HandlerRunning(), null, ExitPod().Exited(0).ReadAt(null),
            "→ Succeeded, completed +0, saying Main pod succeeded; exit handler succeeded [OMJobCompleted]"),
        ["D2: a pod of another that had the name may have gone since, and ours come"] = new(
            Running(), MainPod().OfSomebodyElse().Running().ReadAt(-11), null, "AskMain"),
        ["D2: a pod that stood in the way may have gone"] = new(
            Pending(), MainPod().OfSomebodyElse().Running().ReadAt(-11), null, "AskMain"),
        ["D3: without owner and labels it is known by its finalizer"] = new(
            Running(), MainPod().Running().WithoutOwner().WithoutLabels(), null, "RestoreLabels run-main"),
        ["D3: but not one that is older than the job"] = new(
            Running(), MainPod().Running().WithoutOwner().WithoutLabels().CreatedAt(-7201), null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was deleted before its end was seen [Warning "
            + "MainPodFailed]"),
        ["W2: a handler that may have ended by now is asked for at its deadline"] = new(
            HandlerRunning(), null, ExitPod().Running().CreatedAt(-600).ReadAt(-11), "AskExit"),
        ["W2: and before it is lost"] = new(
            HandlerRunning(), null, ExitPod().Running().CreatedAt(-300).Deleted(-200).ReadAt(-11), "AskExit"),
        ["W2: a foreign pod may have gone, and ours come"] = new(
            HandlerRunning(), null, ExitPod().OfSomebodyElse().Running().ReadAt(-11), "AskExit"),
        ["G7: a start deadline of 0 is none"] = new(
            Running(), MainPod().Waiting("ImagePullBackOff"), null, "wait", 100_000)
        { Clocks = NoDeadlines },
        ["G7: the clock is the pod's creation"] = new(
            Running(), MainPod().Waiting("ImagePullBackOff").CreatedAt(-1), null, "wait until +3599"),
        ["G7, H12: a deleted pod is not deleted again by the deadline"] = new(
            Running(), MainPod().Waiting("ImagePullBackOff").Deleted(2990), null, "wait until +3080.001", 3000),
        ["G8: activeDeadlineSeconds is the kubelet's, plus the grace period and 60 s"] = new(
            Running(), MainPod().WithDeadline(300).Running().StartedAt(0), null,
            "wait until +390"),
        ["G8: a long grace period is the pod's to use"] = new(
            Running(), MainPod().WithDeadline(300).WithGrace(600).Running().StartedAt(0), null, "wait until +960"),
        ["G8: the deadline that counts is the pod's own"] = new(
            Running().WithSpec("activeDeadlineSeconds", 5), MainPod().WithDeadline(300).Running().StartedAt(0), null,
            "wait until +390"),
        ["G8: a pod without a deadline has none"] = new(
            Running().WithSpec("activeDeadlineSeconds", 5), MainPod().Running().StartedAt(0), null, "wait", 100_000),
        ["G8: one moment before"] = new(
            Running(), MainPod().WithDeadline(300).Running().StartedAt(0), null,
            "wait until +390", 389.999),
        ["G8: a kubelet that does not stop it"] = new(
            Running(), MainPod().WithDeadline(300).Running().StartedAt(0), null,
            "→ Running, saying Main pod was stopped: it ran past its activeDeadlineSeconds of 300", 390),
        ["G8: then the pod is deleted"] = new(
            Running().Saying("Main pod was stopped: it ran past its activeDeadlineSeconds of 300"),
            MainPod().WithDeadline(300).Running().StartedAt(0), null,
            "DeletePod run-main: Main pod was stopped: it ran past its activeDeadlineSeconds of 300", 390),
        ["W2: a pod that is given up may have ended since: it is asked for before it is deleted"] = new(
            Running().Saying("Main pod was stopped: it ran past its activeDeadlineSeconds of 300"),
            MainPod().Running().StartedAt(0).ReadAt(null), null, "AskMain", 390),
        ["G8: and the reason stays with the exit code"] = new(
            Running().Saying("Main pod was stopped: it ran past its activeDeadlineSeconds of "
            + "300"), MainPod().Exited(143).Deleted(-5), null,
            "→ ExitHandlerRunning, exit run-exit, code 143 [Warning MainPodFailed]"),
        ["G8: the kubelet stops it"] = new(
            Running(), MainPod().WithDeadline(300).Exited(143).WithReason("DeadlineExceeded"),
            null,
            "→ ExitHandlerRunning, exit run-exit, code 143, "
            + "saying Main pod failed with exit code 143 (DeadlineExceeded) [Warning MainPodFailed]"),
        ["G8: not started by its node has no active deadline"] = new(
            Running(), MainPod().WithDeadline(1).Unscheduled(), null, "wait until +3000"),
        ["G8: the earlier of the two deadlines"] = new(
            Running(), MainPod().WithDeadline(300).Waiting("ImagePullBackOff").StartedAt(0), null,
            "wait until +390"),

        ["G7, G2: upstream's words do not hide why it never started"] = new(
            Running().Saying("Main pod found"), MainPod().Waiting("ErrImagePull"), null,
            "→ Running, saying Main pod was stopped: it did not start within 1h: ErrImagePull", 3000),
        ["G2: upstream's words are not taken for the end"] = new(
            Running().Saying("Main pod found"), MainPod().Exited(3), null,
            "→ ExitHandlerRunning, exit run-exit, code 3, "
            + "saying Main pod failed with exit code 3 [Warning MainPodFailed]"),
        ["G7: started in the last moment after all, and succeeded"] = new(
            Running().Saying("Main pod was stopped: it did not start within 1h: ErrImagePull"),
            MainPod().Exited(0), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),

        ["G7, G21: succeeded before the deletion that the deadline asked for"] = new(
            Running().Saying("Main pod was stopped: it did not start within 1h: ErrImagePull"),
            MainPod().Exited(0, null, -11).Deleted(-10), null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["G7, G5: evicted before it could be deleted, it still never started"] = new(
            Running().Saying("Main pod was stopped: it did not start within 1h: ErrImagePull"),
            MainPod().InPhase("Failed").WithReason("Evicted"), null,
            "→ ExitHandlerRunning, exit run-exit [Warning MainPodFailed]"),

        // ----- Running, and deleted
        ["G9: whether the namespace stays is asked first"] = new(
            Running().Deleted(), MainPod().Running(), null, "AskNamespace"),
        ["G9: even where main is over"] = new(Running().Deleted(), MainPod().Exited(0), null, "AskNamespace"),
        ["G9: it is asked once, then main is stopped"] = new(
            Running().Killed(), MainPod().Running(), null, "DeletePod run-main: the OMJob was deleted"),
        ["G9, G18: no handler, nothing to ask"] = new(
            Running().Deleted().WithoutExitHandler(), MainPod().Running(), null,
            "DeletePod run-main: the OMJob was deleted"),
        ["G9: upstream's job, deleted, has no finalizer of ours"] = new(
            Running().WithFinalizers().Killed("x/y"), MainPod().OfUpstream().Running(), null,
            "DeletePod run-main: the OMJob was deleted"),
        ["G9: main stopped"] = new(Running().Killed(), MainPod().Exited(143).Deleted(-4), null,
            "→ ExitHandlerRunning, exit run-exit, code 143, "
            + "saying Main pod failed with exit code 143 after the OMJob was deleted [Warning MainPodFailed]"),
        ["G9: main gone"] = new(Running().Killed(), Absent, null,
            "→ ExitHandlerRunning, exit run-exit, saying Main pod was deleted before its end was seen after the OMJob "
            + "was "
            + "deleted [Warning MainPodFailed]"),
        ["G9, H8: Kill during an image pull"] = new(
            Running().Killed(), MainPod().Waiting("ErrImagePull"), null, "DeletePod run-main: the OMJob was deleted"),
        ["G19: Kill with foreground propagation stops main too"] = new(
            Running().Killed(Job.Foreground), MainPod().Running(), null, "DeletePod run-main: the OMJob was deleted"),
        ["G20: Kill with orphan propagation stops main too"] = new(
            Running().Killed(Job.Orphan).Orphaning(), MainPod().Running(), null,
            "DeletePod run-main: the OMJob was deleted"),
        ["G10: the namespace goes while main runs"] = new(Running().Deleted(), MainPod().Running(), Going,
            $"→ Failed, completed +0, saying Main pod was still running; {GoneByNamespace} [Warning OMJobFailed]"),
        ["G10: the namespace goes, main is over: its exit code is kept"] = new(
            Running().Deleted(), MainPod().Exited(0), Going,
            $"→ Failed, code 0, completed +0, saying Main pod succeeded; {GoneByNamespace} [Warning OMJobFailed]"),

        // ----- ExitHandlerRunning
        ["adopted: the finalizer, in this phase too"] = new(
            HandlerRunning().WithFinalizers(), null, null, "AddFinalizer"),
        ["the handler is created on a fresh observation"] = new(
            HandlerRunning(), MainPod().Exited(0), null, "CreateExit"),
        ["G17: named but absent is created again"] = new(HandlerRunning(), null, Absent, "CreateExit"),
        ["G17: a later attempt, named but absent"] = new(HandlerRunning().AtAttempt(3), null, Absent, "CreateExit"),
        ["H1: the handler looks for the main pod, so it is asked for"] = new(
            HandlerRunning(), Unknown, Absent, "AskMain"),
        ["H1: its labels come back before the handler is created"] = new(
            HandlerRunning(), MainPod().Exited(1).WithoutLabels(), Absent, "RestoreLabels run-main"),
        ["H1: somebody else's pod is not labelled"] = new(
            HandlerRunning(), MainPod().OfSomebodyElse(), Absent, "CreateExit"),
        ["D1: not on an old one"] = new(HandlerRunning().ReadAt(-10.001), null, Absent, "AskJob"),
        ["G14: the handler is blocked until the backoff is over"] = new(
            HandlerRunning(), null, Absent with { RetryAt = Moment.At(30) }, "wait until +30"),
        ["G14: and is then tried again"] = new(
            HandlerRunning().ReadAt(29), null, Absent with { RetryAt = Moment.At(30) }, "CreateExit", 30),
        ["G11: an end of main seen later changes no verdict"] = new(
            HandlerRunning(0), MainPod().Exited(9).WithReason("Evicted"), ExitPod().Running().CreatedAt(0),
            "wait until +600"),
        ["G1: both fine"] = new(HandlerRunning(), null, ExitPod().Exited(0),
            "→ Succeeded, completed +0, saying Main pod succeeded; exit handler succeeded [OMJobCompleted]"),
        ["G2: handler fine, main not"] = new(HandlerRunning(3), null, ExitPod().Exited(0),
            "→ Failed, completed +0, saying Main pod failed with exit code 3; exit handler succeeded [Warning "
            + "OMJobFailed]"),
        ["G3: the whole message"] = new(
            HandlerRunning(137).Saying("Main pod failed with exit code 137 (OOMKilled)"), null, ExitPod().Exited(0),
            "→ Failed, completed +0, saying Main pod failed with exit code 137 (OOMKilled); exit handler succeeded "
            + "[Warning OMJobFailed]"),
        ["G4: main has no exit code: not succeeded"] = new(HandlerRunning(null), null, ExitPod().Exited(0),
            "→ Failed, completed +0, saying Main pod was lost; exit handler succeeded [Warning OMJobFailed]"),
        ["G1: what was said of earlier attempts is not said at the end"] = new(
            HandlerRunning().AtAttempt(2).Saying("Main pod succeeded; exit handler attempt 1 failed with exit code "
            + "1"), null,
            ExitPod(2).Exited(0),
            "→ Succeeded, completed +0, saying Main pod succeeded; exit handler succeeded [OMJobCompleted]"),
        ["the handler runs: wait for its deadline"] = new(
            HandlerRunning(), null, ExitPod().Running().CreatedAt(0), "wait until +600"),
        ["G17: one moment before the deadline"] = new(
            HandlerRunning(), null, ExitPod().Running().CreatedAt(0), "wait until +600", 599.999),
        ["G17: stuck, the next attempt"] = new(HandlerRunning(), null, ExitPod().Running().CreatedAt(0),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 did not end "
            + "within 10m "
            + "[Warning ExitHandlerRetried]", 600),
        ["G17: stuck, and the kubelet says why"] = new(
            HandlerRunning(), null, ExitPod().Waiting("ErrImagePull", "no such image").CreatedAt(0),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 did not end "
            + "within 10m: "
            + "ErrImagePull: no such image [Warning ExitHandlerRetried]", 600),
        ["G17: stuck in the last attempt"] = new(HandlerRunning().AtAttempt(4), null, ExitPod(4).Running().CreatedAt(0),
            "→ Failed, completed +600, saying Main pod succeeded; exit handler did not end within 10m; no attempt of "
            + "4 succeeded "
            + "[Warning OMJobFailed]", 600),
        ["G17: a handler deadline of 0 is none"] = new(
            HandlerRunning(), null, ExitPod().Running().CreatedAt(0), "wait", 100_000)
        { Clocks = NoDeadlines },
        ["G23: but with run defaults it has ten minutes to start"] = new(
            HandlerRunning(), null, ExitPod().Waiting("ErrImagePull").WithDefaults().CreatedAt(0), "wait until +600")
        { Clocks = NoDeadlines },
        ["G23: which may be why it does not"] = new(
            HandlerRunning(), null, ExitPod().Waiting("ErrImagePull").WithDefaults().CreatedAt(0),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 did not end "
            + "within 10m: ErrImagePull [Warning ExitHandlerRetried]", 600)
        { Clocks = NoDeadlines },
        ["G23: not to end"] = new(
            HandlerRunning(), null, ExitPod().Running().WithDefaults().CreatedAt(0), "wait", 100_000)
        { Clocks = NoDeadlines },
        ["G23: nor without them"] = new(
            HandlerRunning(), null, ExitPod().Waiting("ErrImagePull").CreatedAt(0), "wait", 100_000)
        { Clocks = NoDeadlines },
        ["G23: an attempt that has them is not the last, and its backoff is kept"] = new(HandlerRunning().AtAttempt(4),
            null, ExitPod(4).Exited(1, null, 0).WithDefaults(), "wait until +80"),
        ["G23: so another follows"] = new(HandlerRunning().AtAttempt(4),
            null, ExitPod(4).Exited(1, null, 0).WithDefaults(),
            "→ ExitHandlerRunning, exit run-exit-5, saying Main pod succeeded; exit handler attempt 4 failed with exit "
            + "code 1 [Warning ExitHandlerRetried]", 80),
        ["G17: deleted, its node is waited for"] = new(
            HandlerRunning(), null, ExitPod().Running().CreatedAt(0).Deleted(590), "wait until +680.001", 600),
        ["G17: lost with its node"] = new(HandlerRunning(), null, ExitPod().Running().Deleted(-91),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 was lost: its "
            + "node did not "
            + "confirm its end within 1m [Warning ExitHandlerRetried]"),
        ["G17: deleted before it was scheduled, backoff from the request"] = new(
            HandlerRunning(), null, ExitPod().Unscheduled().Deleted(-3), "wait until +7"),
        ["G17: the node still says running after Failed"] = new(
            HandlerRunning(), null, ExitPod().Running().InPhase("Failed").CreatedAt(0), "wait until +90"),
        ["G16: failed, backoff of 10 s"] = new(
            HandlerRunning(), null, ExitPod().Exited(1, null, 0), "wait until +10", 0),
        ["G16: a node's clock that is ten seconds ahead is believed"] = new(
            HandlerRunning(), null, ExitPod().Exited(1, null, 10), "wait until +20", 0),
        ["G16: a node's clock that is far ahead puts nothing off"] = new(
            HandlerRunning(), null, ExitPod().CreatedAt(-5).Exited(1, null, 3600), "wait until +5", 0),
        ["G16: nor where the pod was deleted"] = new(
            HandlerRunning(), null, ExitPod().Exited(1, null, 3600).Deleted(-3), "wait until +7", 0),
        ["G16: one moment before it is over"] = new(
            HandlerRunning(), null, ExitPod().Exited(1, null, 0), "wait until +10", 9.999),
        ["G16: failed, next attempt"] = new(HandlerRunning(), null, ExitPod().Exited(1, null, 0),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 failed with "
            + "exit code 1 "
            + "[Warning ExitHandlerRetried]", 10),
        ["G16: the second backoff is 20 s"] = new(
            HandlerRunning().AtAttempt(2), null, ExitPod(2).Exited(1, null, 0), "wait until +20", 19.999),
        ["G16: the third backoff is 40 s"] = new(
            HandlerRunning().AtAttempt(3), null, ExitPod(3).Exited(1, null, 0), "wait until +40", 39.999),
        ["G16: the third fails, the fourth is named"] = new(
            HandlerRunning().AtAttempt(3).Saying("Main pod succeeded; exit handler attempt 2 failed with exit code "
            + "1"), null,
            ExitPod(3).Exited(2, null, 0),
            "→ ExitHandlerRunning, exit run-exit-4, saying Main pod succeeded; exit handler attempt 3 failed with "
            + "exit code 2 "
            + "[Warning ExitHandlerRetried]", 40),
        ["G16: the attempts are used up, at once"] = new(
            HandlerRunning().AtAttempt(4), null, ExitPod(4).Exited(1, null, 0),
            "→ Failed, completed +0, saying Main pod succeeded; exit handler failed with exit code 1; no attempt of 4 "
            + "succeeded "
            + "[Warning OMJobFailed]", 0),
        ["G16: no retries by the flag"] = new(HandlerRunning(), null, ExitPod().Exited(1, null, 0),
            "→ Failed, completed +0, saying Main pod succeeded; exit handler failed with exit code 1 [Warning "
            + "OMJobFailed]")
        { Clocks = OneAttempt },
        ["G16: the OMJob's own limit beats the flag"] = new(
            HandlerRunning().WithSpec("exitHandlerBackoffLimit", 0), null, ExitPod().Exited(1, null, 0),
            "→ Failed, completed +0, saying Main pod succeeded; exit handler failed with exit code 1 [Warning "
            + "OMJobFailed]"),
        ["G16: the OMJob's own limit, where it is more"] = new(
            HandlerRunning().WithSpec("exitHandlerBackoffLimit", 1), null, ExitPod().Exited(1, null, 0),
            "wait until +10")
        { Clocks = OneAttempt },
        ["G16: the shift of the backoff does not overflow"] = new(
            HandlerRunning().AtAttempt(60).WithSpec("exitHandlerBackoffLimit", 99), null, ExitPod(60).Exited(1, null,
            0),
            "wait until +10485760"),
        ["G16: no more than a thousand retries"] = new(
            HandlerRunning().AtAttempt(1001).WithSpec("exitHandlerBackoffLimit", int.MaxValue), null,
            ExitPod(1001).Exited(1, null, 0),
            "→ Failed, completed +0, saying Main pod succeeded; exit handler failed with exit code 1; "
            + "no attempt of 1001 succeeded [Warning OMJobFailed]"),
        ["G17: Evicted beats the handler's 0"] = new(
            HandlerRunning(), null, ExitPod().Exited(0, null, -10).WithReason("Evicted"),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 was stopped "
            + "(exit code 0 "
            + "afterwards) (Evicted) [Warning ExitHandlerRetried]"),
        ["G17: no container statuses, backoff from its creation"] = new(
            HandlerRunning(), null, ExitPod().InPhase("Failed").WithReason("Evicted").CreatedAt(-4), "wait until +6"),
        ["P: the handler's sidecar goes on"] = new(
            HandlerRunning(), null, ExitPod().Exited(0).WithSidecar().InPhase("Running"),
            "→ Succeeded, completed +0, saying Main pod succeeded; exit handler succeeded [OMJobCompleted]"),
        ["G15: a handler that can never be"] = new(HandlerRunning(), null, Invalid,
            "→ Failed, completed +0, saying Main pod succeeded; exit handler cannot be created: "
            + "Pod \"run\" is invalid: spec.containers[0].image: Required value [Warning OMJobFailed]"),
        ["somebody else's pod: the next name, at once"] = new(HandlerRunning(), null, ExitPod().OfSomebodyElse(),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 is now "
            + "run-exit-2: pod run-exit is somebody else's [Warning ExitHandlerRetried]"),
        ["H9: somebody else's pod under the last name uses up no attempt"] = new(
            HandlerRunning().AtAttempt(4), null, ExitPod(4).OfSomebodyElse(),
            "→ ExitHandlerRunning, exit run-exit-5, saying Main pod succeeded; exit handler attempt 4 is now "
            + "run-exit-5: pod run-exit-4 is somebody else's [Warning ExitHandlerRetried]"),
        ["H9: nor did it, once an attempt has failed under another name"] = new(
            HandlerRunning().AtAttempt(5).Saying("Main pod succeeded; exit handler attempt 3 is now run-exit-5: pod "
                + "run-exit-4 is somebody else's"),
            null, ExitPod(5).Exited(1, null, -60),
            "→ ExitHandlerRunning, exit run-exit-6, saying Main pod succeeded; exit handler attempt 3 failed with "
            + "exit code 1 [Warning ExitHandlerRetried]"),
        ["H9: the attempts that ran are used up, whatever their names"] = new(
            HandlerRunning().AtAttempt(9).Saying("Main pod succeeded; exit handler attempt 4 is now run-exit-9: pod "
                + "run-exit-8 is somebody else's"),
            null, ExitPod(9).Exited(1, null, 0),
            "→ Failed, completed +0, saying Main pod succeeded; exit handler failed with exit code 1; no attempt of 4 "
            + "succeeded [Warning OMJobFailed]"),
        ["H9, G14: an attempt that is blocked has not run"] = new(
            HandlerRunning().AtAttempt(4).Saying("Main pod succeeded; exit handler attempt 3 is blocked: quota"),
            null, ExitPod(4).Exited(1, null, -60),
            "→ ExitHandlerRunning, exit run-exit-5, saying Main pod succeeded; exit handler attempt 3 failed with "
            + "exit code 1 [Warning ExitHandlerRetried]"),
        ["H9: where the message does not tell how many ran, rather one more"] = new(
            HandlerRunning().AtAttempt(4).Saying("Main pod succeeded"), null, ExitPod(4).Exited(1, null, -60),
            "→ ExitHandlerRunning, exit run-exit-5, saying Main pod succeeded; exit handler attempt 3 failed with "
            + "exit code 1 [Warning ExitHandlerRetried]"),
        ["H9: a message cannot tell of more than there are names"] = new(
            HandlerRunning().AtAttempt(2).Saying("Main pod succeeded; exit handler attempt 99 failed"),
            null, ExitPod(2).Exited(1, null, -60),
            "→ ExitHandlerRunning, exit run-exit-3, saying Main pod succeeded; exit handler attempt 2 failed with "
            + "exit code 1 [Warning ExitHandlerRetried]"),

        ["H9: one that is only just made may be made again: it is waited for"] = new(
            HandlerRunning().AtAttempt(3).Saying("Main pod succeeded; exit handler attempt 2 is now run-exit-3: x"),
            null, ExitPod(3).OfSomebodyElse().CreatedAt(0), "wait until +1"),
        ["H9: and no longer"] = new(
            HandlerRunning().AtAttempt(3).Saying("Main pod succeeded; exit handler attempt 2 is now run-exit-3: x"),
            null, ExitPod(3).OfSomebodyElse().CreatedAt(0),
            "→ ExitHandlerRunning, exit run-exit-4, saying Main pod succeeded; exit handler attempt 2 is now "
            + "run-exit-4: pod run-exit-3 is somebody else's [Warning ExitHandlerRetried]", 1),
        ["H9: the first is passed by at once"] = new(HandlerRunning(), null, ExitPod().OfSomebodyElse().CreatedAt(0),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 is now "
            + "run-exit-2: pod run-exit is somebody else's [Warning ExitHandlerRetried]"),
        ["H9: half a minute at most"] = new(
            HandlerRunning().AtAttempt(9).Saying("Main pod succeeded; exit handler attempt 1 is now run-exit-9: x"),
            null, ExitPod(9).OfSomebodyElse().CreatedAt(0), "wait until +31"),
        ["H1: the handler's pod without labels is asked for before its deadline"] = new(
            HandlerRunning(), null,
            (PodView)ExitPod().Running().WithoutLabels().CreatedAt(0) with { AskAgain = Moment.At(5) },
            "wait until +5"),

        // ----- a drained node
        ["G22: the main pod stays while its first handler runs"] = new(
            HandlerRunning(), MainPod().Exited(0).Deleted(0), ExitPod().Running().CreatedAt(0), "wait until +90", 10),
        ["G22: it is let go of when the slack is over"] = new(
            HandlerRunning(), MainPod().Exited(0).Deleted(0), ExitPod().Running().CreatedAt(0),
            "ReleasePod run-main", 90),
        ["G22: or when the first handler has ended, before the backoff"] = new(
            HandlerRunning(), MainPod().Exited(0).Deleted(0), ExitPod().Exited(1, null, 5), "ReleasePod run-main", 6),
        ["G22: or in any later attempt"] = new(
            HandlerRunning().AtAttempt(2), MainPod().Exited(0).Deleted(0), Absent, "ReleasePod run-main", 6),
        ["G22: a foreign pod's end is no handler's"] = new(
            HandlerRunning(), MainPod().Exited(0).Deleted(0), ExitPod().OfSomebodyElse().Exited(0),
            "→ ExitHandlerRunning, exit run-exit-2, saying Main pod succeeded; exit handler attempt 1 is now "
            + "run-exit-2: pod run-exit is somebody else's [Warning ExitHandlerRetried]", 6),
        ["G22: blocked, it is let go of in time"] = new(
            HandlerRunning(), MainPod().Exited(0).Deleted(0), Absent with { RetryAt = Moment.At(120) },
            "wait until +90", 10),
        ["G22: one of a deleted OMJob waits for all attempts"] = new(
            HandlerRunning().AtAttempt(2).Killed(), MainPod().Exited(0).Deleted(0), ExitPod(2).Running().CreatedAt(0),
            "wait until +600", 100),
        ["G22: one that is let go of already is left alone"] = new(
            HandlerRunning().AtAttempt(2), MainPod().Released().Exited(0).Deleted(0), Absent, "CreateExit", 6),
        ["G22: nor is somebody else's"] = new(
            HandlerRunning().AtAttempt(2), MainPod().OfUid("earlier").Exited(0).Deleted(0), Absent, "CreateExit", 6),

        // ----- labels that do not stay
        ["H1: labels that are taken again are not put back for ever: it is asked for again"] = new(
            Running(), (PodView)MainPod().Running().WithoutLabels() with { AskAgain = Moment.At(5) }, null,
            "wait until +5"),
        ["H1: it is asked for then"] = new(
            Running(), (PodView)MainPod().Running().WithoutLabels() with { AskAgain = Moment.At(5) }, null,
            "AskMain", 5),
        ["H1, G9: it is stopped all the same"] = new(
            Running().Killed(), (PodView)MainPod().Running().WithoutLabels() with { AskAgain = Moment.At(5) }, null,
            "DeletePod run-main: the OMJob was deleted"),
        ["H1: and asked for while it terminates"] = new(
            Running(), (PodView)MainPod().Running().WithoutLabels().Deleted(0) with { AskAgain = Moment.At(5) }, null,
            "wait until +5"),
        ["H1: its end counts without labels"] = new(
            Running(), (PodView)MainPod().Exited(0).WithoutLabels() with { AskAgain = Moment.At(5) }, null,
            "→ ExitHandlerRunning, exit run-exit, code 0, saying Main pod succeeded [MainPodCompleted]"),
        ["H1: the handler does not wait for the main pod's labels for ever"] = new(
            HandlerRunning(), (PodView)MainPod().Exited(0).WithoutLabels() with { AskAgain = Moment.At(5) }, Absent,
            "CreateExit"),
        ["H1: the handler's pod is asked for, too"] = new(
            HandlerRunning(), null, (PodView)ExitPod().Running().WithoutLabels() with { AskAgain = Moment.At(5) },
            "wait until +0", -5),
        ["H1: the handler's pod is asked for then"] = new(
            HandlerRunning(), null, (PodView)ExitPod().Running().WithoutLabels() with { AskAgain = Moment.At(5) },
            "AskExit", 5),
        ["adopted: upstream's exit pod counts"] = new(HandlerRunning(), null, ExitPod().OfUpstream().Exited(0),
            "→ Succeeded, completed +0, saying Main pod succeeded; exit handler succeeded [OMJobCompleted]"),
        ["D3, H1: the handler's labels come back"] = new(
            HandlerRunning(), null, ExitPod().Running().WithoutLabels(), "RestoreLabels run-exit"),
        ["H1: over is over, labels or not"] = new(HandlerRunning(), null, ExitPod().Exited(0).WithoutLabels(),
            "→ Succeeded, completed +0, saying Main pod succeeded; exit handler succeeded [OMJobCompleted]"),
        ["G18: the handler was edited away"] = new(HandlerRunning().WithoutExitHandler(), null, null,
            "→ Succeeded, completed +0 [OMJobCompleted]"),
        ["G18: the handler was edited away, main had failed"] = new(HandlerRunning(3).WithoutExitHandler(), null, null,
            "→ Failed, completed +0 [Warning OMJobFailed]"),

        // ----- ExitHandlerRunning, and deleted
        ["G9: deleted while the handler is due: is the namespace staying?"] = new(
            HandlerRunning().Deleted(), null, Absent, "AskNamespace"),
        ["G9: it stays: the handler runs"] = new(HandlerRunning().Killed(), null, Absent, "CreateExit"),
        ["G9: the handler's end ends it"] = new(HandlerRunning().Killed(), null, ExitPod().Exited(0),
            "→ Succeeded, completed +0, saying Main pod succeeded; exit handler succeeded [OMJobCompleted]"),
        ["G19: foregroundDeletion goes before the handler is created"] = new(
            HandlerRunning().Killed(Job.Foreground), null, Absent, $"drop {Job.Foreground}"),
        ["G19: but not before the namespace is known to stay"] = new(
            HandlerRunning().Deleted(Job.Foreground), null, Absent, "AskNamespace"),
        ["G20: orphan propagation does not hold the handler up"] = new(
            HandlerRunning().Killed(Job.Orphan).Orphaning(), null, Absent, "CreateExit"),
        ["G9: without our finalizer, held by another's"] = new(
            HandlerRunning().WithFinalizers().Killed("x/y"), null, Absent, "CreateExit"),
        ["G10: the namespace goes while the handler is due"] = new(HandlerRunning(3), null, Going,
            $"→ Failed, completed +0, saying Main pod failed with exit code 3; {GoneByNamespace} [Warning "
            + $"OMJobFailed]"),
        ["G10: even if main succeeded"] = new(HandlerRunning(), null, Going,
            $"→ Failed, completed +0, saying Main pod succeeded; {GoneByNamespace} [Warning OMJobFailed]"),

        // ----- Finished: let go, in order
        ["F1: the main pod's finalizer goes first"] = new(Finished(), MainPod().Exited(0), null, "ReleasePod run-main"),
        ["F1: of a pod that is not over too"] = new(Finished(), MainPod().Running(), null, "ReleasePod run-main"),
        ["F1: a pod that is not in the cache is asked for"] = new(Finished(), Unknown, null, "AskMain"),
        ["F1: then the OMJob's"] = new(Finished(), MainPod().Exited(0).Released(), null, $"drop {Job.Finalizer}"),
        ["F1: then the OMJob's, the pod is gone"] = new(Finished("Failed"), Absent, null, $"drop {Job.Finalizer}"),
        ["F1: the OMJob never had a pod"] = new(
            Finished("Failed").With("mainPodName", null), Unknown, null, $"drop {Job.Finalizer}"),
        ["F1: somebody else's pod keeps its finalizer"] = new(
            Finished(), MainPod().OfUid("later"), null, $"drop {Job.Finalizer}"),
        ["F1: another's finalizer on the pod is not ours"] = new(
            Finished(), MainPod().Exited(0).HeldBy("x/y"), null, $"drop {Job.Finalizer}"),
        ["F1: the pod lets go although the OMJob has"] = new(
            Finished().WithFinalizers(), MainPod().Exited(0), null, "ReleasePod run-main"),
        ["G9, F5: deleted when finished"] = new(
            Finished().Deleted(), MainPod().Exited(0).Released(), null, $"drop {Job.Finalizer}"),
        ["G9: deleted and let go: somebody else holds it"] = new(
            Finished().WithFinalizers().Deleted("x/y"), Absent, null, "wait"),
        ["G10: a finished job in a namespace that goes"] = new(Finished(), Absent, Going, $"drop {Job.Finalizer}"),
        ["F2: a finished job never changes"] = new(
            Finished().WithFinalizers(), MainPod().Released().Exited(9), ExitPod().Exited(1), "wait until +86400"),

        // ----- Finished: TTL and what still runs
        ["TTL: 86400 s by default"] = new(Finished().WithFinalizers(), Unknown, null, "wait until +86400"),
        ["TTL: nobody asks for a pod that the OMJob has let go"] = new(
            Finished().With("mainPodName", "a-name-of-its-own").WithFinalizers(), Unknown, null, "wait until +86400"),
        ["TTL: one moment before"] = new(Finished().WithFinalizers(), Unknown, null, "wait until +86400", 86399.999),
        ["TTL: over"] = new(Finished().WithFinalizers(), Unknown, null, "DeleteJob", 86400),
        ["TTL: the OMJob's own"] = new(
            Finished("Failed").WithFinalizers().WithSpec("ttlSecondsAfterFinished", 60), Unknown, null,
            "wait until +60"),
        ["TTL: at least 15 s"] = new(
            Finished().WithFinalizers().WithSpec("ttlSecondsAfterFinished", 0), Unknown, null,
            "wait until +15", 14.999),
        ["TTL: 15 s are over"] = new(
            Finished().WithFinalizers().WithSpec("ttlSecondsAfterFinished", 0), Unknown, null, "DeleteJob", 15),
        ["TTL: negative is the least"] = new(
            Finished().WithFinalizers().WithSpec("ttlSecondsAfterFinished", -1), Unknown, null, "wait until +15"),
        ["TTL: never before the finalizers are gone"] = new(
            Finished(), MainPod().Exited(0), null, "ReleasePod run-main", 100_000),
        ["TTL: no completionTime: from the creation"] = new(
            Finished().WithFinalizers().With("completionTime", null), Unknown, null, "wait until +79200"),
        ["TTL: a completionTime to come is now"] = new(
            Finished().WithFinalizers().CompletedAt(100), Unknown, null, "wait until +86400"),
        ["TTL: ten years at most"] = new(
            Finished().WithFinalizers().WithSpec("ttlSecondsAfterFinished", int.MaxValue), Unknown, null,
            "wait until +315360000"),
        ["F4: a main sidecar gets the slack"] = new(Finished().WithFinalizers(),
            MainPod().Released().Exited(0).WithSidecar().InPhase("Running"), ExitPod().Exited(0), "wait until +60"),
        ["F4: a main sidecar is then deleted"] = new(Finished().WithFinalizers(),
            MainPod().Released().Exited(0).WithSidecar().InPhase("Running"), ExitPod().Exited(0),
            "DeletePod run-main: the job has finished", 60),
        ["F4: an exit sidecar is deleted"] = new(Finished().WithFinalizers(),
            MainPod().Released().Exited(0), ExitPod().Exited(0).WithSidecar().InPhase("Running"),
            "DeletePod run-exit: the job has finished", 60),
        ["F4: a stuck last attempt is deleted"] = new(
            Finished("Failed").WithFinalizers(), Absent, ExitPod().Running(),
            "DeletePod run-exit: the job has finished", 60),
        ["F4: once"] = new(
            Finished().WithFinalizers(), Absent, ExitPod().Running().Deleted(60), "wait until +86400", 61),
        ["F4: somebody else's pod is not"] = new(
            Finished().WithFinalizers(), Absent, ExitPod().OfSomebodyElse().Running(), "wait until +86400", 60),
        ["F4: a TTL shorter than the slack ends both"] = new(
            Finished().WithFinalizers().WithSpec("ttlSecondsAfterFinished", 15), Absent, ExitPod().Running(),
            "wait until +15"),

        // ----- a phase that nobody defined
        ["unknown phase: the pod is asked for"] = new(InPhase("Paused"), Unknown, null, "AskMain"),
        ["unknown phase: the run goes on"] = new(
            InPhase("Paused"), MainPod().Running(), null, "→ Running, main run-main, started -600"),
        ["unknown phase: no run"] = new(InPhase("Paused"), Absent, null,
            "→ Failed, completed +0, saying Status.phase 'Paused' is no phase of an OMJob [Warning OMJobFailed]"),
        ["unknown phase: somebody else's pod is no run"] = new(InPhase("pending"), MainPod().OfSomebodyElse(), null,
            "→ Failed, completed +0, saying Status.phase 'pending' is no phase of an OMJob [Warning OMJobFailed]"),
        ["unknown phase: it has started, so the handler runs"] = new(
            InPhase("Paused").With("mainPodName", "run-main"), Absent, null,
            "→ ExitHandlerRunning, exit run-exit, "
            + "saying Main pod was deleted before its end was seen [Warning MainPodFailed]"),
        ["unknown phase: it has ended, whatever its code"] = new(
            InPhase("Paused").With("mainPodName", "run-main").CompletedAt(-60).With("mainPodExitCode", 0), Absent, null,
            "→ Failed, completed +0, saying Status.phase 'Paused' is no phase of an OMJob [Warning OMJobFailed]"),
        ["unknown phase: a long one is cut"] = new(InPhase(new string('x', 41)), Absent, null,
            $"→ Failed, completed +0, saying Status.phase '{new string('x', 40)}…' is no phase of an OMJob "
            + "[Warning OMJobFailed]"),
        ["unknown phase: a number is none"] = new(InPhase("3"), Absent, null,
            "→ Failed, completed +0, saying Status.phase '3' is no phase of an OMJob [Warning OMJobFailed]"),
    };

    public static TheoryData<string> Rows => [.. Table.Keys];

    [Theory]
    [MemberData(nameof(Rows))]
    public void The_next_step_is(string row)
    {
        var (given, main, exit, expected, at) = Table[row];
        var job = given.Job;
        // Once its end is recorded nothing is decided by the main pod: a row that does not name it does not have it.
        main ??= job.Status.Phase == Phase.ExitHandlerRunning ? Absent : Unknown;
        var decision = Moment.Decide(job, main, exit ?? Unknown, Moment.At(at), Table[row].Clocks);
        Assert.Equal(expected, decision.Say(job));
        if (decision.Event is { Action: not "ExitHandlerRetried" } fact) Assert.Equal(decision.Status!.Message,
            fact.Message);
    }

    [Fact]
    public void A_retried_handlers_event_begins_with_what_happened_and_names_the_next_attempt()
    {
        var decision = Decide(HandlerRunning().Job, Absent, ExitPod().Exited(1, null, -10));
        Assert.Equal("Exit handler attempt 1 failed with exit code 1; next attempt is run-exit-2",
            decision.Event!.Message);
        Assert.Equal("exit handler attempt 1 failed with exit code 1", decision.Why);
        var passed = Decide(HandlerRunning().Job, Absent, ExitPod().OfSomebodyElse());
        Assert.Equal("Exit handler attempt 1 is now run-exit-2: pod run-exit is somebody else's", passed.Event!.Message);
    }

    [Fact]
    public void An_attempt_of_the_handler_has_ended_only_where_one_has()
    {
        static string? Attempt(AnOMJob job, PodView exit, double at = 0) =>
            Moment.Decide(job.Job, Absent, exit, Moment.At(at)).Attempt;

        Assert.Equal("succeeded", Attempt(HandlerRunning(), ExitPod().Exited(0)));
        Assert.Equal("failed", Attempt(HandlerRunning(), ExitPod().Exited(1, null, -10)));
        Assert.Equal("failed", Attempt(HandlerRunning().AtAttempt(4), ExitPod(4).Exited(1, null, -10), 600));
        Assert.Equal("failed", Attempt(HandlerRunning(), PodView.Refused("too large")));
        Assert.Null(Attempt(HandlerRunning(), ExitPod().OfSomebodyElse()));
        Assert.Null(Attempt(HandlerRunning().WithoutExitHandler(), Unknown));
    }

    [Fact]
    public void A_message_is_never_longer_than_an_event_holds()
    {
        var decision = Decide(Pending().Job, PodView.Refused(new string('x', 5000)), Unknown);
        Assert.InRange(decision.Status!.Message!.Length, 400, 501);
        Assert.Equal(decision.Status.Message, decision.Event!.Message);
    }

    [Fact]
    public void G7_nor_is_the_reason_why_a_pod_never_started_whatever_the_kubelet_calls_it()
    {
        var pod = MainPod().Waiting(new string('x', 5000));
        Assert.InRange(Decide(Running().Job, pod, Unknown, 3000).Status!.Message!.Length, 400, 501);
    }

    [Fact]
    public void A_message_survives_the_status_and_back_so_that_the_end_can_be_added()
    {
        const string both = "Main pod failed with exit code 1 (a; b); exit handler x; y";
        var status = new JobStatus(Phase.ExitHandlerRunning) { Message = both };
        Assert.Equal("Main pod failed with exit code 1 (a; b)", status.MainMessage);
        Assert.Equal("Main pod succeeded", (status with { Message = "Main pod succeeded" }).MainMessage);
        Assert.Equal("Main pod ended", (status with { Message = null }).MainMessage);
    }

    // ----- values of any size

    [Theory]
    [InlineData("Pending,Running")]
    [InlineData(" Running")]
    [InlineData("+3")]
    public void A_phase_is_one_of_the_five_words(string text) =>
        Assert.Equal(Phase.Unknown, InPhase(text).Job.Status.Phase);

    [Fact]
    public void G16_the_most_retries_that_fit_an_int32_are_retries() => Assert.Equal(
        "run-exit-2",
        Decide(HandlerRunning().WithSpec("exitHandlerBackoffLimit", int.MaxValue).Job, Absent,
            ExitPod().Exited(1, null, -60))
            .Status?.ExitPodName);

    [Theory]
    [InlineData(4294967296)]
    [InlineData(-4294967296)]
    public void An_exit_code_that_is_no_int32_is_not_0(long code) =>
        Assert.NotEqual(0, HandlerRunning().With("mainPodExitCode", code).Job.Status.ExitCode);

    [Theory] // the API server takes any number that is not negative
    [InlineData(1_000_000_000_000)]
    [InlineData(260_000_000_000)]
    [InlineData(long.MaxValue)]
    public void W5_a_pod_with_an_endless_grace_does_not_end_the_watch(long seconds) => Assert.Null(
        Record.Exception(() => Decide(Running().Job,
            MainPod().Running().InPhase("Failed").WithGrace(seconds), Unknown)));

    [Fact]
    public void An_active_deadline_of_more_than_anybody_lives_does_not_stop_the_run() => Assert.Null(Record.Exception(
        () => Decide(Running().Job, MainPod().WithDeadline(long.MaxValue).Running().StartedAt(0), Unknown)));

    [Fact]
    public void A_job_that_names_no_attempt_gets_the_first_without_a_word_of_an_attempt_0()
    {
        var job = InPhase("ExitHandlerRunning").With("mainPodName", "run-main").Saying("Main pod succeeded");
        var decision = Decide(job.Job, Unknown, Unknown);
        Assert.Equal("→ ExitHandlerRunning, exit run-exit", decision.Say(job.Job));
        Assert.Equal("no attempt is named, the first is run-exit", decision.Why);
    }

    // ----- strays

    sealed record StrayScenario(AnOMJob? Job, APod Pod, string? Expected, double At = 0);

    static readonly Dictionary<string, StrayScenario> StrayTable = new()
    {
        ["not ours to judge"] = new(null, MainPod().OfSomebodyElse().Running(), null),
        ["D2: the OMJob is gone, its pod runs: released first"] = new(
            null, MainPod().Running(), "ReleasePod run-main: belongs to an OMJob that is gone"),
        ["D2: the OMJob is gone, its pod runs: then deleted"] = new(
            null, MainPod().Running().Released(), "DeletePod run-main: belongs to an OMJob that is gone"),
        ["D2, H9: another incarnation's pod, created again"] = new(
            Pending(), MainPod().Running().OfUid("earlier").Released(),
            "DeletePod run-main: belongs to an OMJob that is gone"),
        ["D2, F1: another incarnation's pod, held"] = new(
            Running(), MainPod().Exited(0).OfUid("earlier"), "ReleasePod run-main: belongs to an OMJob that is gone"),
        ["F1: the OMJob is gone, its pod is over and held"] = new(
            null, MainPod().Exited(0), "ReleasePod run-main: belongs to an OMJob that is gone"),
        ["F1: the OMJob is gone, its pod terminates and is held"] = new(
            null, MainPod().Running().Deleted(-1), "ReleasePod run-main: belongs to an OMJob that is gone"),
        ["G20: the OMJob is gone, its pods stay"] = new(null, MainPod().Exited(0).Released().WithoutOwner(), null),
        ["G20: its exit pod too"] = new(null, ExitPod().Exited(0).WithoutOwner(), null),
        ["D2: what goes already is left alone"] = new(null, ExitPod().Running().Deleted(-1), null),
        ["D6: an exit belongs to an OMJob that is gone"] = new(
            null, ExitPod(), "DeletePod run-exit: belongs to an OMJob that is gone"),
        ["the main pod before the end"] = new(Running(), MainPod().Running(), null),
        ["the main pod of a job that does not know it yet"] = new(Pending(), MainPod().Running(), null),
        ["the main pod of a job in no known phase"] = new(InPhase("Paused"), MainPod().Running(), null),
        ["the main pod that is over, in the handler's time"] = new(HandlerRunning(), MainPod().Exited(0), null),
        ["P: the main pod with a sidecar, in the handler's time"] = new(
            HandlerRunning(), MainPod().Exited(0).WithSidecar().InPhase("Running"), null),
        ["D6: a main pod that runs after the record: released first"] = new(
            HandlerRunning(), MainPod().Running(),
            "ReleasePod run-main: runs after the end of its run was recorded"),
        ["D6: a main pod that runs after the record: then deleted"] = new(
            HandlerRunning(), MainPod().Running().Released(),
            "DeletePod run-main: runs after the end of its run was recorded [Warning StrayPodDeleted]"),
        ["D6: a main pod created late, after the end"] = new(Finished(), MainPod().Released(),
            "DeletePod run-main: runs after the end of its run was recorded [Warning StrayPodDeleted]"),
        ["P: a main pod whose phase alone is over is no stray"] = new(
            HandlerRunning(), MainPod().InPhase("Failed").WithReason("Evicted"), null),
        ["D6: a stray main that terminates is let go with its OMJob"] = new(
            HandlerRunning(), MainPod().Running().Deleted(-1), null),
        ["D6: a stray main that terminates"] = new(HandlerRunning(), MainPod().Running().Released().Deleted(-1), null),
        ["G6: the lost main pod is no stray: it is over"] = new(
            HandlerRunning(null), MainPod().Running().Deleted(-91), null),
        ["G6: its node comes back, the pod is Terminating and released"] = new(
            HandlerRunning(null), MainPod().Running().Released().Deleted(-91), null),
        ["adopted: upstream's main pod runs after the record"] = new(HandlerRunning(), MainPod().OfUpstream().Running(),
            "DeletePod run-main: runs after the end of its run was recorded [Warning StrayPodDeleted]"),
        ["H10: an exit pod before main is over"] = new(
            Running(), ExitPod().Running(), "DeletePod run-exit: is not the current attempt"),
        ["H10: also where somebody has named it before"] = new(
            Running().With("exitHandlerPodName", "run-exit"), ExitPod().Running(),
            "DeletePod run-exit: is not the current attempt"),
        ["the current attempt"] = new(HandlerRunning(), ExitPod().Running(), null),
        ["the current attempt, after the end"] = new(Finished(), ExitPod().Running(), null),
        ["G17: an earlier attempt that still runs"] = new(
            HandlerRunning().AtAttempt(2), ExitPod().Running(), "DeletePod run-exit: is not the current attempt"),
        ["G17: an earlier attempt that never started"] = new(
            HandlerRunning().AtAttempt(2), ExitPod().Waiting("ErrImagePull"),
            "DeletePod run-exit: is not the current attempt"),
        ["G16: an earlier attempt that is over stays"] = new(HandlerRunning().AtAttempt(2), ExitPod().Exited(1), null),
        ["G17: an earlier attempt that terminates"] = new(
            HandlerRunning().AtAttempt(2), ExitPod().Running().Deleted(-1), null),
        ["D6: a late attempt, after the end"] = new(
            Finished(), ExitPod(2), "DeletePod run-exit-2: is not the current attempt"),
    };

    public static TheoryData<string> StrayRows => [.. StrayTable.Keys];

    [Theory]
    [MemberData(nameof(StrayRows))]
    public void A_pod_that_should_not_be_is_removed_and_no_other(string row)
    {
        var (given, pod, expected, at) = StrayTable[row];
        Assert.Equal(expected, Protocol.Stray(given?.Job, pod.Pod)?.Say(given?.Job));
    }

    static Decision Decide(Job job, PodView main, PodView exit, double at = 0) =>
        Moment.Decide(job, main, exit, Moment.At(at));
}
