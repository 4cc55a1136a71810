// Schedules in the simulated cluster: a CronOMJob whose time comes every minute, while operators are killed, frozen and
// doubled, events are lost, the clock jumps and the API server says no.

using System.Text.Json.Nodes;
using Xunit;

namespace OMJobs.Tests.Simulation;

using OMJobs.Sandbox;

/// <summary>What a schedule must keep, judged from the API server's history: no time runs twice or early, what was
/// decided stays decided, and once nothing goes wrong each time has its OMJob or a status that tells why not.</summary>
sealed class ScheduleOracle(World world)
{
    readonly HashSet<long> ran = [];
    readonly HashSet<long> decided = []; // by status, run or skipped
    string? uid;
    long? made, last;
    string? lastName;
    DateTimeOffset latest; // the server's clock never went further

    public void See(Change change)
    {
        if (world.Now > latest) latest = world.Now;
        if (change.Type.Plural == "cronomjobs") SeeSchedule(change.Shown);
        var byCron = change.Shown.Items("metadata", "ownerReferences").Any(o => o.Text("uid") == uid);
        if (change is { Type.Plural: "omjobs", Before: null } && byCron) SeeRun(change.Shown);
    }

    void SeeSchedule(JsonObject cron)
    {
        if (uid != cron.Uid()) // another one of that name
        {
            (uid, made, last, lastName) = (cron.Uid(), null, null, null);
            ran.Clear();
            decided.Clear();
        }
        made ??= Seconds(cron.Text("metadata", "creationTimestamp"));
        lastName = cron.Text("status", "lastOMJobName");
        if (Seconds(cron.Text("status", "lastScheduleTime")) is not { } now) return;
        if (now < last) world.Violate($"{cron.Name()}: lastScheduleTime went back from {last} to {now}");
        if (now != last) decided.Add(now);
        last = now;
    }

    void SeeRun(JsonObject run)
    {
        var (name, tick) = (run.Name(), long.Parse(run.Name()[(run.Name().LastIndexOf('-') + 1)..]));
        if (tick % 60 != 0 || tick <= made) world.Violate($"{name} is at no time of the schedule");
        // A clock that is set by an answer's Date may be ahead by as long as the request took.
        if (tick > latest.ToUnixTimeSeconds() + 12) world.Violate($"{name} was created before its time");
        // Who made it died before it was recorded, and the clock was put back by more than a minute until it had gone.
        var unrecorded = !decided.Contains(tick) && world.ClockJumps > TimeSpan.FromMinutes(1);
        if (!ran.Add(tick) && !world.ServingLate && !unrecorded) world.Violate($"{name} was created twice");
        // A run of an earlier schedule of that name may have the name of the last one; it is none of this one's.
        var goesOn = world.Oracle.Jobs.Any(j => j.Name == lastName && j is { Gone: false, Finished: false }
            && j.Last.Items("metadata", "ownerReferences").Any(owner => owner.Text("uid") == uid));
        if (goesOn && !world.ServingLate) world.Violate($"{name} was created while {lastName} went on");
        var id = run.Text("metadata", "labels", LabelKeys.RunId);
        foreach (var pod in (string[])["mainPodSpec", "exitHandlerSpec"])
        {
            string? Env(string variable) =>
                run.Items("spec", pod, "env").Single(e => e.Text("name") == variable).Text("value");
            if (id is null || Env("pipelineRunId") != id || Env("jobName") != name)
                world.Violate($"{name}: {pod} has run {Env("pipelineRunId")} of {Env("jobName")}, its label is {id}");
        }
    }

    /// <summary>Each time of that span was decided.</summary>
    public void CheckAll(DateTimeOffset from, DateTimeOffset to)
    {
        for (var tick = (from.ToUnixTimeSeconds() / 60 + 1) * 60; tick <= to.ToUnixTimeSeconds(); tick += 60)
            if (!ran.Contains(tick) && !decided.Contains(tick)) world.Violate($"nothing came of the time {tick}");
    }

    static long? Seconds(string? time) => Json.ReadTime(time)?.ToUnixTimeSeconds();
}

public sealed class ScheduleTests(ITestOutputHelper output)
{
    static readonly Deed[] Deeds =
    [
        Deed.Quota, Deed.Webhook, Deed.Down, Deed.JumpForward, Deed.JumpBack, Deed.KillOperator, Deed.FreezeOperator,
        Deed.SecondOperator,
    ];

    static World Play(int seed, bool tracing = false)
    {
        var random = new Random(seed ^ 0x71c);
        JsonNode Env() => Json.Object("""
            {"env": [{"name": "pipelineRunId", "value": "{{ omjob.uid }}"},
                     {"name": "jobName", "value": "{{ omjob.name }}"}]}
            """)["env"]!.DeepClone();
        var cron = Plan.Job("cron", spec =>
            (spec["mainPodSpec"]!["env"], spec["exitHandlerSpec"]!["env"]) = (Env(), Env())).Body;
        cron["kind"] = "CronOMJob";
        cron["spec"] = new JsonObject { ["schedule"] = "* * * * *", ["omJobSpec"] = cron["spec"]!.DeepClone() };
        if (random.Next(2) == 0) cron["spec"]!["startingDeadlineSeconds"] = random.Next(90);
        var plan = Plan.Draw(seed, Deeds) with { Cron = cron, Namespaces = [""], ForbiddenFrom = null };
        var lifeOf = plan.LifeOf;
        Life Long(string pod) => lifeOf(pod) with { Run = 20 * lifeOf(pod).Run };
        if (Plan.Has(Trouble.StalledJobs, seed)) // runs of more than a minute, and somebody who does not see it
            plan = plan with { Operators = 2, LifeOf = Long };
        // The names that are taken again are those of whom something is asked at that moment. What was decided for an
        // hour ahead stays decided, so that nothing could be told of the times in between; what is undone runs again.
        PlannedAction At(PlannedAction action, double at) => action with { Commits = int.MaxValue, Seconds = at };
        PlannedAction InTime(PlannedAction action) => action.Deed switch
        {
            Deed.Recreate => At(action, 60 * random.Next(1, 4) + random.NextDouble()),
            Deed.StallJobs => At(action, 60 * random.NextDouble()),
            _ => action,
        };
        plan = plan with
        {
            Actions = [.. plan.Actions.Where(a => a.Deed is not (Deed.JumpHour or Deed.Restore)).Select(InTime)],
        };
        var world = new World(seed, plan, tracing);
        world.Run();
        return world;
    }

    [Fact]
    public void D4_G12_H4_each_time_of_a_schedule_has_one_OMJob_or_a_reason_why_not() =>
        SimulationTests.PlayAll(Play, Math.Max(25, SimulationTests.Seeds / 50), output);
}
