// Schedules by table: what is known of a CronOMJob and its OMJobs, and the one step that follows, with the time to look
// again. Times are seconds from Moment.Now, which is noon of Saturday 2026-01-31, UTC; see Saying for how a step reads.

using Xunit;
using static OMJobs.Tests.ACron;

namespace OMJobs.Tests;

public sealed class CronDecideTests
{
    sealed record Scenario(ACron Cron, string Expected, double At = 0, bool Live = true)
    {
        public AnOMJob[] Runs { get; init; } = [];
        /// <summary>The last run was asked for and is not there.</summary>
        public bool LastIsGone { get; init; } = true;
        public double RetryAt { get; init; } = -1;
        /// <summary>How long it waited for a worker.</summary>
        public double Waited { get; init; }
    }

    const string Unreadable = "Schedule '* * * *' cannot be used: it is not a UNIX cron expression with five fields";

    static AnOMJob Run(string name) => AnOMJob.Running().Named(name).OwnedBy("uid-of-hourly");
    static AnOMJob Ended(string phase, double at) =>
        AnOMJob.Finished(phase).CompletedAt(at).Named($"{phase[..1]}{at}").OwnedBy("uid-of-hourly");

    static readonly Dictionary<string, Scenario> Table = new()
    {
        // ----- ticks
        ["nothing is due: nothing is written"] = new(Hourly(), "Wait, next +0", -1),
        ["a tick is due: the CronOMJob is asked for first"] = new(Hourly(), "Ask, next +3600", Live: false),
        ["a tick is due"] = new(Hourly(), "Create +0, next +3600"),
        ["a tick that is decided is not due again"] = new(Hourly().LastAt(0), "Wait, next +3600", 1),
        ["a tick runs late within its deadline"] = new(Hourly(), "Create +0, next +3600", 60.999),
        ["a tick later than its deadline is missed"] = new(Hourly(),
            "→ saying Missed schedule [Warning ScheduleMissed], next +3600", 61),
        ["a tick that waited for a worker is no later for that"] = new(Hourly(), "Create +0, next +3600", 300)
        { Waited = 240 },
        ["a tick that was late before it waited for a worker is missed"] = new(Hourly(),
            "→ saying Missed schedule [Warning ScheduleMissed], next +3600", 300)
        { Waited = 239 },
        ["that a tick was missed is said once"] = new(Hourly().Saying("Missed schedule"), "Wait, next +3600", 61),
        ["a deadline of 0 catches up with nothing"] = new(Hourly().Deadline(0),
            "→ saying Missed schedule [Warning ScheduleMissed], next +3600", 1),
        ["a deadline of 0 runs on time, in whole seconds"] = new(Hourly().Deadline(0), "Create +0, next +3600", 0.999),
        ["no deadline runs the latest, however late"] = new(Hourly().Deadline(null), "Create +0, next +3600", 3599),
        ["a deadline beyond all time"] = new(Hourly().Deadline(long.MaxValue), "Create +0, next +3600", 3599),
        ["only the latest missed tick runs"] = new(Hourly().Deadline(null).LastAt(-36000), "Create +0, next +3600", 5),
        ["a new one runs no tick from before its creation"] = new(Fresh().CreatedAt(5), "Wait, next +3600", 10),
        ["a new one runs no tick of the second it was created in"] = new(Fresh().CreatedAt(0), "Wait, next +3600", 10),
        ["a new one's first tick"] = new(Fresh().CreatedAt(-1), "Create +0, next +3600", 1),
        ["the clock was set back: no tick comes twice"] = new(Hourly().LastAt(0), "Wait, next +3600", -1800),
        ["a last time in the future is waited for"] = new(Hourly().LastAt(7200), "Wait, next +10800"),
        ["a last time beyond all schedules stops nothing else"] = new(
            Hourly().With("lastScheduleTime", "9999-12-31T23:59:59Z"), "Wait, next +216919861200"),
        ["one that is being deleted runs nothing"] = new(Hourly().Deleted(), "Wait"),

        // ----- after the creation
        ["D4: its OMJob is there, the status was not written"] = new(Hourly(),
            "→ last +0, name hourly-1769860800, saying OMJob already exists [OMJobCreated], next +3600", 2)
        { Runs = [Run("hourly-1769860800")] },
        ["D4: its OMJob is there and has ended"] = new(Hourly(),
            "→ last +0, name hourly-1769860800, saying OMJob already exists [OMJobCreated], next +3600", 2)
        { Runs = [Ended("Succeeded", 1).Named("hourly-1769860800")] },
        ["G14: what blocks it is waited for"] = new(Hourly(), "Wait, next +7") { RetryAt = 7 },
        ["G14: then tried again"] = new(Hourly(), "Ask, next +3600", 7, false) { RetryAt = 7 },
        ["G14: a deadline beats what blocks it"] = new(Hourly().Deadline(5),
            "→ saying Missed schedule [Warning ScheduleMissed], next +3600", 6)
        { RetryAt = 7 },

        // ----- overlap
        ["no overlap: the tick is skipped and decided"] = new(Hourly(),
            "→ last +0, saying Skipped: OMJob before is still running [Warning OMJobSkipped], next +3600")
        { Runs = [Ended("Failed", -60), Run("before")] },
        ["no overlap with one that has not begun"] = new(Hourly(),
            "→ last +0, saying Skipped: OMJob before is still running [Warning OMJobSkipped], next +3600")
        { Runs = [AnOMJob.Fresh().Named("before").OwnedBy("uid-of-hourly")] },
        ["D5: that one still runs is asked for first"] = new(Hourly(), "AskRun before, next +3600")
        { Runs = [Run("before").ReadAt(-10.001)] },
        ["D5: never asked for"] = new(Hourly(), "AskRun before, next +3600") { Runs = [Run("before").ReadAt(null)] },
        ["one that runs is no matter while nothing is due"] = new(Hourly(), "Wait, next +0", -1)
        { Runs = [Run("before")] },
        ["a missed tick is missed, whether another runs or not"] = new(Hourly(),
            "→ saying Missed schedule [Warning ScheduleMissed], next +3600", 61)
        { Runs = [Run("before")] },

        ["a watch that lags may not know the last run: it is asked for"] = new(Hourly(),
            "AskRun hourly-1769857200, next +3600")
        { LastIsGone = false },
        ["the last run is asked for once the CronOMJob is"] = new(Hourly(), "Ask, next +3600", Live: false)
        { LastIsGone = false },
        ["the last run that was seen to end is not asked for"] = new(Hourly(), "Create +0, next +3600")
        { LastIsGone = false, Runs = [Ended("Failed", -60).Named("hourly-1769857200")] },
        ["without a last run none is asked for"] = new(Fresh().CreatedAt(-1), "Create +0, next +3600", 1)
        { LastIsGone = false },

        // ----- suspended
        ["suspended is said once"] = new(Hourly().Suspended(), "→ saying Suspended"),
        ["suspended: nothing is written any more"] = new(Hourly().Suspended().Saying("Suspended"), "Wait"),
        ["resumed with nothing due"] = new(Hourly().Saying("Suspended"), "→ saying nothing, next +0", -1),
        ["resumed within the deadline: the latest runs"] = new(Hourly().Saying("Suspended"),
            "Ask, next +3600", 30, false),
        ["resumed after the deadline"] = new(Hourly().Saying("Suspended"),
            "→ saying Missed schedule [Warning ScheduleMissed], next +3600", 1800),

        // ----- what cannot be scheduled
        ["no schedule"] = new(Hourly().WithoutSpec("schedule"), "→ saying Missing schedule [Warning ScheduleInvalid]"),
        ["a blank schedule"] = new(Hourly().On(" "), "→ saying Missing schedule [Warning ScheduleInvalid]"),
        ["no template"] = new(Hourly().WithoutSpec("omJobSpec"),
            "→ saying Missing OMJob template [Warning ScheduleInvalid]"),
        ["an empty template"] = new(Hourly().WithSpec("omJobSpec", new System.Text.Json.Nodes.JsonObject()),
            "→ saying Missing OMJob template [Warning ScheduleInvalid]"),
        ["a schedule that cannot be read"] = new(Hourly().On("* * * *"),
            $"→ saying {Unreadable} [Warning ScheduleInvalid]"),
        ["a schedule that cannot be read is said once"] = new(Hourly().On("* * * *").Saying(Unreadable), "Wait"),
        ["a schedule that can be read again"] = new(Hourly().Saying(Unreadable), "→ saying nothing, next +0", -1),
        ["a day that never comes"] = new(Hourly().On("0 0 30 2 *"),
            "→ saying Schedule '0 0 30 2 *' cannot be used: no such time will come [Warning ScheduleInvalid]"),
        ["an unknown time zone"] = new(Hourly().WithSpec("timeZone", "Mars/Base"), "→ saying Time zone 'Mars/Base' "
            + "cannot be used: it is not an IANA name, or the operator finds no time zone data "
            + "[Warning ScheduleInvalid]"),
        ["no zone is UTC"] = new(Hourly().WithoutSpec("timeZone"), "Wait, next +0", -1),
        ["fields of other types are as if absent"] = new(Hourly().WithSpec("suspend", "yes").Deadline("soon"),
            "Create +0, next +3600", 3599),

        // ----- history
        ["as many as the limit stay"] = new(Hourly(), "Wait, next +0", -1)
        {
            Runs = [.. new[] { -3, -2, -1 }.SelectMany(at => (AnOMJob[])[Ended("Succeeded", at), Ended("Failed", at)])],
        },
        ["the oldest succeeded one goes"] = new(Hourly().Limits(2, 0), "DeleteRun S-30, next +0", -1)
        { Runs = [Ended("Succeeded", -20), Ended("Succeeded", -30), Ended("Succeeded", -10)] },
        ["the oldest failed one goes"] = new(Hourly().Limits(0, 1), "DeleteRun F-20, next +0", -1)
        { Runs = [Ended("Failed", -10), Ended("Failed", -20)] },
        ["a limit of 0 keeps none"] = new(Hourly().Limits(0, 0), "DeleteRun S-10, next +0", -1)
        { Runs = [Ended("Succeeded", -10)] },
        ["no limit is 3"] = new(Hourly().WithoutSpec("successfulJobsHistoryLimit"), "DeleteRun S-40, next +0", -1)
        { Runs = [.. new[] { -10, -20, -30, -40 }.Select(at => Ended("Succeeded", at))] },
        ["a running one counts for no limit"] = new(Hourly().Limits(0, 0), "Wait, next +0", -1) { Runs = [Run("on")] },
        ["one that goes already counts no more"] = new(Hourly().Limits(1, 1), "Wait, next +0", -1)
        { Runs = [Ended("Failed", -10), Ended("Failed", -20).Deleted()] },
        ["the limits hold while suspended"] = new(
            Hourly().Limits(0, 0).Suspended().Saying("Suspended"), "DeleteRun S-10")
        { Runs = [Ended("Succeeded", -10)] },
        ["a due tick comes before the history"] = new(Hourly().Limits(0, 0), "Create +0, next +3600")
        { Runs = [Ended("Succeeded", -10)] },
    };

    public static TheoryData<string> Rows => [.. Table.Keys];

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_step(string row)
    {
        var (cron, expected, at, live) = Table[row];
        var runs = Table[row].Runs.Select(run => run.Job).ToArray();
        var gone = Table[row].LastIsGone ? cron.Cron.Status.LastName : null;
        var step = Scheduling.Decide(cron.Cron, live, runs, gone, Moment.At(Table[row].RetryAt),
            Moment.At(at - Table[row].Waited), Moment.At(at));
        Assert.Equal(expected, step.Say(cron.Cron));
    }

    [Fact]
    public void A_run_is_its_CronOMJobs_by_controller_reference_only()
    {
        var key = new Key("data", "hourly", Resources.CronOMJobs);
        Assert.Equal(new Owner(key, "uid-of-hourly"), Run("r").Job.Cron);
        Assert.Equal(new Owner(key, "uid-of-hourly"), Ended("Failed", 0).Job.Cron);
        Assert.Null(AnOMJob.Running().OwnedBy("uid-of-hourly", controller: false).Job.Cron);
        Assert.Null(AnOMJob.Running().Job.Cron);
    }
}
