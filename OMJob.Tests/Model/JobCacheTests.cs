// What is held of the API server's objects: the newest of each, whatever order it is told in, and of what is over as
// little as is needed.

using Xunit;

namespace OMJobs.Tests;

public sealed class JobCacheTests
{
    static readonly Key Run = KeyOf("data", "run"), Main = new("data", "run-main", Resources.Pods);

    static Key KeyOf(string ns, string name) => new(ns, name, Resources.OMJobs);

    readonly List<(Key Key, CachedObject? Before, CachedObject After)> changes = [];
    readonly JobCache cache;
    string passed = "0"; // the version that each watch has come past

    public JobCacheTests() => cache = new((key, before, after) => changes.Add((key, before, after)),
        held => !Versions.IsNewer(held.ResourceVersion, passed));

    static Job Job(int version, string uid = "uid-of-run", AnOMJob? like = null) =>
        (like ?? AnOMJob.Running()).ReadAt(null).Job with { ResourceVersion = $"{version}", Uid = uid };

    static Pod Pod(int version, string uid = "uid-of-run-main", APod? like = null) =>
        (like ?? APod.MainPod()).Pod with { ResourceVersion = $"{version}", Uid = uid };

    static Job LetGo(AnOMJob like, int version = 100) => Job(version, like: like.WithFinalizers());

    // ----- what comes late

    [Fact]
    public void An_older_version_changes_nothing()
    {
        cache.Upsert(Pod(9));
        cache.Upsert(Pod(10, like: APod.MainPod().Running())); // versions are numbers
        var held = cache.Get(Main);
        cache.Upsert(Pod(9));
        cache.Upsert(Pod(10), readAt: Moment.Now);
        cache.Upsert(Pod(9), deleted: true);
        Assert.Same(held, cache.Get(Main));
        Assert.Equal(2, changes.Count);
    }

    [Fact]
    public void A_spec_that_stays_as_it_is_is_kept_once()
    {
        cache.Upsert(Job(100));
        var spec = ((Job)cache.Get(Run)!).Spec;
        cache.Upsert(Job(101));
        Assert.Same(spec, ((Job)cache.Get(Run)!).Spec);
        cache.Upsert(Job(102, like: AnOMJob.Running().WithSpec("ttlSecondsAfterFinished", 7)));
        Assert.NotEqual(spec, ((Job)cache.Get(Run)!).Spec);
        Assert.NotEmpty(((Job)cache.Get(Run)!).Spec);
    }

    [Fact]
    public void An_answer_of_the_version_that_is_held_makes_it_read_at_that_time()
    {
        cache.Upsert(Job(100), readAt: Moment.Now);
        cache.Unread(Job(100, "another"));
        Assert.Equal(Moment.Now, ((Job)cache.Get(Run)!).ReadAt);
        cache.Unread(Job(99)); // whatever its version is by now
        Assert.Null(((Job)cache.Get(Run)!).ReadAt);
        cache.Upsert(Job(100), readAt: Moment.At(3));
        Assert.Equal(Moment.At(3), ((Job)cache.Get(Run)!).ReadAt);
        Assert.Single(changes);
    }

    [Fact]
    public void What_is_newer_than_what_was_seen_live_is_as_good_unless_it_is_another_one()
    {
        cache.Upsert(Job(100), readAt: Moment.Now);
        cache.Upsert(Job(101));
        Assert.Equal(Moment.Now, ((Job)cache.Get(Run)!).ReadAt);
        cache.Upsert(Job(102, "another"));
        Assert.Null(((Job)cache.Get(Run)!).ReadAt);
    }

    [Fact]
    public void D2_a_late_404_buries_only_the_one_that_was_asked_about()
    {
        var asked = Pod(100, "first");
        cache.Upsert(asked);
        cache.Upsert(Pod(200, "second"));
        cache.Remove(asked);
        Assert.Equal("second", cache.Get(Main)?.Uid);
        cache.Remove(Pod(150, "second")); // it was asked about when this version was held
        Assert.Null(cache.Get(Main));
        Assert.IsType<Tombstone>(changes[^1].After);
        cache.Remove(asked);
        Assert.Equal(3, changes.Count);
    }

    [Fact]
    public void D2_the_deletion_of_an_earlier_object_of_that_name_leaves_the_newer_one()
    {
        cache.Upsert(Job(100, "first"));
        cache.Upsert(Job(200, "second"), readAt: Moment.Now); // an answer came before the watch
        cache.Upsert(Job(150, "first"), deleted: true);
        Assert.Equal("second", cache.Get(Run)?.Uid);
        cache.Upsert(Job(250, "second"), deleted: true);
        Assert.Null(cache.Get(Run));
    }

    [Fact]
    public void W8_an_answer_that_comes_late_does_not_revive_what_the_watch_has_told_gone()
    {
        cache.Upsert(Pod(100));
        cache.Upsert(Pod(110), deleted: true);
        passed = "110";
        cache.Upsert(Pod(105), readAt: Moment.Now);
        Assert.Null(cache.Get(Main));
        cache.Observe(Run); // forgets that it has been
        cache.Upsert(Pod(105), readAt: Moment.Now);
        Assert.Null(cache.Get(Main));
        cache.Upsert(Pod(111, "second"), readAt: Moment.Now);
        Assert.Equal("second", cache.Get(Main)?.Uid);
    }

    [Fact]
    public void An_answer_that_lets_an_object_go_buries_it_although_it_bears_the_version_before()
    {
        cache.Upsert(Job(100, like: AnOMJob.Finished().Deleted()));
        cache.Upsert(Job(100, like: AnOMJob.Finished().Deleted().WithFinalizers()), readAt: Moment.Now);
        Assert.Null(cache.Get(Run));
    }

    [Fact]
    public void A_deletion_of_what_is_not_held_is_told_all_the_same()
    {
        cache.Upsert(Pod(100), deleted: true);
        Assert.Equal((Run, null), (changes[^1].Key, changes[^1].Before));
        Assert.IsType<Tombstone>(changes[^1].After);
        Assert.Empty(cache.Keys);
    }

    // ----- lists

    [Fact]
    public void What_a_list_should_have_had_and_had_not_is_gone()
    {
        static Job Named(string name, int version) => Job(version) with { Key = KeyOf("data", name), Uid = name };
        CachedObject[] all =
        [
            Named("listed", 100), Named("missing", 100), Named("newer", 201),
            Job(100) with { Key = KeyOf("other", "elsewhere") }, Pod(100),
        ];
        foreach (var held in all) cache.Upsert(held);
        cache.Replace(new Reflector(Resources.OMJobs, "data"), [KeyOf("data", "listed")], "200");
        Key[] left = [KeyOf("data", "listed"), KeyOf("data", "newer"), KeyOf("other", "elsewhere"), Main];
        Assert.All(left, key => Assert.NotNull(cache.Get(key)));
        Assert.Null(cache.Get(KeyOf("data", "missing")));
        cache.Replace(new Reflector(Resources.OMJobs, ""), [], "300");
        cache.Replace(new Reflector(Resources.Pods, ""), [], "99");
        Assert.Equal(Main, Assert.Single(cache.Keys, key => cache.Get(key) is not null));
    }

    [Fact]
    public void A_key_that_is_observed_leaves_nothing_behind_of_what_has_gone()
    {
        cache.Upsert(Job(100));
        cache.Upsert(Pod(100));
        cache.Remember(Run, "uid-of-run", p => p with { Failures = 1 });
        cache.Upsert(Job(101), deleted: true);
        cache.Upsert(Pod(102), deleted: true);
        Assert.Equal(2, cache.Keys.Length);
        var (owner, pods, progress) = cache.Observe(Run);
        Assert.Equal((null, 0, Progress.None), (owner, pods.Length, progress));
        Assert.Empty(cache.Keys);
    }

    // ----- what is remembered

    [Fact]
    public void D2_what_is_remembered_of_an_OMJob_is_not_anothers_of_that_name()
    {
        cache.Upsert(Job(100, "first"));
        cache.Remember(Run, "first", p => p with { Refusals = 3, RetryAt = Moment.At(30) });
        Assert.Equal(3, cache.Observe(Run).Progress.Refusals);
        cache.Upsert(Job(101, "first"));
        Assert.Equal(3, cache.ProgressOf(Run).Refusals);
        cache.Upsert(Job(102, "second"));
        Assert.Equal(Progress.None, cache.ProgressOf(Run));
        cache.Remember(Run, "first", p => p with { Refusals = 9 }); // an answer that came late
        Assert.Equal(Progress.None, cache.ProgressOf(Run));
    }

    [Fact]
    public void G21_in_which_pods_main_ran_while_they_were_deleted_stays_true()
    {
        cache.Upsert(Job(100, "first"));
        cache.Remember(Run, "first", p => p with { Stopped = "pod ", Failures = 2 });
        cache.Upsert(Job(101, "second"));
        Assert.Equal(new Progress { Stopped = "pod " }, cache.ProgressOf(Run));
        cache.Upsert(Job(102, "second"), deleted: true);
        Assert.Equal(new Progress { Stopped = "pod " }, cache.ProgressOf(Run));
        cache.Observe(Run);
        Assert.Equal(Progress.None, cache.ProgressOf(Run));
    }

    [Fact]
    public void Nothing_is_remembered_of_an_OMJob_that_was_let_go()
    {
        cache.Upsert(Job(100, like: AnOMJob.Finished()));
        cache.Remember(Run, "uid-of-run", p => p with { Failures = 2 });
        cache.Upsert(LetGo(AnOMJob.Finished(), 101));
        Assert.Equal(Progress.None, cache.ProgressOf(Run));
    }

    // ----- what is over

    [Fact]
    public void An_OMJob_that_was_let_go_is_held_as_little_of_it_as_is_needed()
    {
        cache.Upsert(LetGo(AnOMJob.Finished("Failed").CompletedAt(-5).AtAttempt(3).OwnedBy("uid-of-hourly")
            .WithSpec("ttlSecondsAfterFinished", 90).WithLabel(LabelKeys.Pipeline, "p")));
        var old = Assert.IsType<Retained>(changes[^1].After);
        Assert.Equal((Run, "uid-of-run", "100"), (old.Key, old.Uid, old.ResourceVersion));
        Assert.Equal((Phase.Failed, false, 90u, "run-exit-3"), (old.Phase, old.Deleting, old.Ttl, old.ExitPodName));
        Assert.Equal(Moment.At(-5).ToUnixTimeSeconds(), old.Ended);
        Assert.Equal(new(new("data", "hourly", Resources.CronOMJobs), "uid-of-hourly"), old.Cron);
        Assert.Null(Retained.Of(LetGo(AnOMJob.Finished())).ExitPodName); // the first attempt's follows from the name
        Assert.Equal("run", Assert.Single(cache.RunsOf(ACron.Hourly().Cron)).Name);
    }

    [Fact]
    public void Of_an_OMJob_that_was_let_go_the_same_follows_as_of_the_whole_one()
    {
        AnOMJob[] jobs =
        [
            AnOMJob.Finished(), AnOMJob.Finished("Failed").AtAttempt(2), AnOMJob.Finished().CompletedAt(-70),
            AnOMJob.Finished().WithSpec("ttlSecondsAfterFinished", 0), AnOMJob.Finished().CompletedAt(3600),
            AnOMJob.Finished().WithSpec("ttlSecondsAfterFinished", 20).OwnedBy("uid-of-hourly").AtAttempt(12),
            AnOMJob.Finished().WithSpec("ttlSecondsAfterFinished", long.MaxValue).WithoutExitHandler(),
            AnOMJob.Finished().With("completionTime", null),
            AnOMJob.Finished("Failed").With("exitHandlerPodName", null),
        ];
        PodView[] pods =
        [
            PodView.Unknown, PodView.Absent, APod.MainPod().Released().Exited(0), APod.MainPod().Exited(0),
            APod.MainPod().Released().Running(), APod.MainPod().Released().Running().Deleted(-5),
            APod.MainPod().OfUid("another").Running(), APod.ExitPod().Running(), APod.ExitPod(2).Running(),
            APod.ExitPod(12).Exited(0), APod.ExitPod(3).Waiting("ErrImagePull"), APod.ExitPod().OfSomebodyElse(),
        ];
        double[] times = [-100, 0, 14.9, 15, 20, 59, 60, 86399, 86400, 1e6];
        foreach (var whole in jobs.Concat(jobs.Select(j => j.Deleted())).Select(j => LetGo(j.WithFinalizers("x/y"))))
            foreach (var main in pods)
                foreach (var exit in pods)
                    foreach (var at in times)
                    {
                        var part = Retained.Of(whole).ToJob();
                        Assert.Equal(whole.Cron, part.Cron);
                        Assert.Equal((PodTemplate.ExitName(whole), whole.IsLetGo), (PodTemplate.ExitName(part), part.IsLetGo));
                        Assert.Equal(Moment.Decide(whole, main, exit, Moment.At(at)).Say(whole),
                            Moment.Decide(part, main, exit, Moment.At(at)).Say(part));
                    }
    }

    [Fact]
    public void Pods_that_are_settled_are_let_go_of_with_their_OMJob_and_others_stay()
    {
        cache.Upsert(Job(100, like: AnOMJob.Finished()));
        cache.Upsert(Pod(100, like: APod.MainPod().Exited(0)));
        cache.Upsert(APod.ExitPod().Exited(0).Pod);
        Assert.Equal(3, cache.Keys.Length);
        cache.Upsert(LetGo(AnOMJob.Finished(), 101));
        Assert.Equal([Run, Main], cache.Keys.OrderBy(key => key.Name, StringComparer.Ordinal));
        cache.Upsert(Pod(102, like: APod.MainPod().Released().Running())); // a sidecar goes on
        Assert.Equal(2, cache.Keys.Length);
        cache.Upsert(Pod(103, like: APod.MainPod().Released().Exited(0)));
        Assert.Equal([Run], cache.Keys);
    }

    [Fact]
    public void Of_an_OMJob_that_is_not_there_settled_pods_are_not_held()
    {
        cache.Upsert(APod.ExitPod().Exited(0).Pod);
        Assert.Empty(cache.Keys);
        Assert.Equal(Run, Assert.Single(changes).Key);
        cache.Upsert(Pod(100));
        Assert.Equal([Main], cache.Keys);
    }

    [Fact]
    public void Retained_OMJobs_have_something_to_do_only_where_that_is_asked_for()
    {
        cache.Upsert(LetGo(AnOMJob.Finished()));
        Assert.Empty(cache.KeysOf(_ => true, retained: false));
        Assert.Equal([Run], cache.KeysOf(_ => true, retained: true));
        cache.Upsert(Pod(100, like: APod.MainPod().Exited(0)));
        Assert.Equal([Run], cache.KeysOf(_ => true, retained: false)); // its pod has
        Assert.Empty(cache.KeysOf(ns => ns == "other", retained: true));
    }

    // ----- specs

    static Job Large(string name, int megabytes, int version = 100, AnOMJob? like = null) =>
        Job(version, like: like) with { Key = KeyOf("data", name), Uid = name, Spec = new byte[megabytes << 20] };

    [Fact]
    public void Specs_that_there_is_no_room_for_are_not_held_until_there_is()
    {
        var (a, b) = (KeyOf("data", "a"), KeyOf("data", "b"));
        (bool Held, int Bytes) Spec(Key key) =>
            cache.Get(key) is Job job ? (job.IsWhole, job.Spec.Length >> 20) : default;
        cache.Upsert(Large("a", 20));
        cache.Upsert(Large("b", 20));
        Assert.Equal(((true, 20), (false, 0)), (Spec(a), Spec(b)));
        Assert.True(((Job)cache.Get(b)!).HasExitSpec);
        cache.Upsert(Large("a", 20, 101)); // its own room is its own
        cache.Upsert(Large("c", 11));
        Assert.Equal(((true, 20), (true, 11)), (Spec(a), Spec(KeyOf("data", "c"))));
        cache.Upsert(Large("a", 0, 102, AnOMJob.Finished().WithFinalizers()));
        cache.Upsert(Large("b", 20, 103));
        Assert.Equal((true, 20), Spec(b));
        cache.Upsert(Large("b", 20, 104), deleted: true);
        cache.Upsert(Large("a", 20, 105));
        Assert.Equal((true, 20), Spec(a));
        cache.Clear();
        cache.Upsert(Large("d", 31));
        Assert.Equal((true, 31), Spec(KeyOf("data", "d")));
    }

    [Fact]
    public void Others_finalizers_that_there_is_no_room_for_are_not_held_but_that_they_are_there_is()
    {
        var other = new string('f', 10 << 20);
        var job = Large("a", 0, like: AnOMJob.Running().WithFinalizers(OMJobs.Job.Finalizer, OMJobs.Job.Orphan, other));
        cache.Upsert(job);
        cache.Upsert(job with { Key = KeyOf("data", "b"), Uid = "b", Deleting = true });
        Assert.Contains(other, ((Job)cache.Get(KeyOf("data", "a"))!).Finalizers);
        var b = (Job)cache.Get(KeyOf("data", "b"))!;
        Assert.Equal([OMJobs.Job.Finalizer, OMJobs.Job.Orphan, ""], b.Finalizers);
        Assert.Equal((false, false), (b.IsWhole, b.IsGone));
    }

    [Fact]
    public void Many_short_finalizers_count_as_what_they_take()
    {
        var many = Enumerable.Range(0, 500_000).Select(_ => "a/b");
        cache.Upsert(Large("a", 20));
        cache.Upsert(Large("b", 0, like: AnOMJob.Running().WithFinalizers([OMJobs.Job.Finalizer, .. many])));
        Assert.Equal([OMJobs.Job.Finalizer, ""], ((Job)cache.Get(KeyOf("data", "b"))!).Finalizers);
    }

    // ----- names that are cut

    [Theory, InlineData(true), InlineData(false)]
    public void A_pod_whose_label_is_cut_is_its_OMJobs_whichever_is_told_first(bool podFirst)
    {
        var name = new string('r', 80);
        var job = AnOMJob.Running().ReadAt(null).Named(name).Job;
        var key = new Key("data", PodTemplate.MainName(name), Resources.Pods);
        var pod = APod.MainPod().WithoutOwner().Pod with { Key = key, JobName = Names.LabelValue(name) };
        foreach (var held in podFirst ? (CachedObject[])[pod, job] : [job, pod]) cache.Upsert(held);
        Assert.Equal(key, Assert.Single(cache.Observe(job.Key).Pods).Key);
        Assert.Empty(cache.Observe(KeyOf("data", pod.JobName)).Pods);
        Assert.Equal(job.Key, cache.Get(key)!.OwnerKey);

        var other = pod with { Uid = "other", Key = key with { Name = "other" }, JobUid = "of-another" };
        cache.Upsert(other);
        Assert.Equal(KeyOf("data", pod.JobName), cache.Get(other.Key)!.OwnerKey);
    }

    // ----- the last success of a schedule

    static Job RunOf(string name, double ended, string phase = "Succeeded", string cron = "uid-of-hourly") =>
        Job(100, $"uid-of-{name}", AnOMJob.Finished(phase).Named(name).CompletedAt(ended).OwnedBy(cron)
            .WithFinalizers(ended > -200 ? [OMJobs.Job.Finalizer] : []));

    [Theory, InlineData(true), InlineData(false)]
    public void The_last_success_of_a_schedule_is_known_whichever_is_told_first_and_stays_when_its_run_goes(bool runsFirst)
    {
        if (!runsFirst) cache.Upsert(ACron.Hourly().Cron);
        Job[] runs =
        [
            RunOf("a", -300), RunOf("b", -100), RunOf("c", -50, "Failed"), RunOf("d", -10, cron: "of-an-earlier-one"),
        ];
        foreach (var run in runs) cache.Upsert(run);
        if (runsFirst) cache.Upsert(ACron.Hourly().Cron);
        foreach (var run in runs) cache.Upsert(run with { ResourceVersion = "200" }, deleted: true);
        var (cron, at) = Assert.Single(cache.LastSuccesses());
        Assert.Equal(("hourly", Moment.At(-100).ToUnixTimeSeconds()), (cron.Name, at));
        cache.Upsert(ACron.Hourly().Cron with { ResourceVersion = "300" }, deleted: true);
        Assert.Empty(cache.LastSuccesses());
    }

    [Fact]
    public void A_schedule_of_which_no_success_is_known_tells_none()
    {
        cache.Upsert(ACron.Hourly().Cron);
        cache.Upsert(RunOf("c", -50, "Failed"));
        Assert.Empty(cache.LastSuccesses());
    }
}
