// Times of schedules: what an expression means, in which zone, and what the changes of the clock do to it.

using System.Globalization;
using Xunit;

namespace OMJobs.Tests;

public sealed class ScheduleTests
{
    static Schedule Read(string expression, string zone = "UTC")
    {
        var (schedule, problem) = Schedule.Read(expression, zone);
        Assert.Null(problem);
        return schedule!;
    }

    static DateTimeOffset Utc(string time) => DateTimeOffset.Parse(time + "Z", CultureInfo.InvariantCulture);

    static List<string> Between(Schedule schedule, string after, string until)
    {
        var times = new List<string>();
        for (var at = schedule.Next(Utc(after)); at <= Utc(until); at = schedule.Next(at.Value))
            times.Add(at.Value.UtcDateTime.ToString("MM-dd HH:mm", CultureInfo.InvariantCulture));
        return times;
    }

    [Theory]
    [InlineData("*/20 * * * *", "01-01 00:20 01-01 00:40 01-01 01:00")]
    [InlineData("5,10 3-4 * * *", "01-01 03:05 01-01 03:10 01-01 04:05")]
    [InlineData(" 0\t12  * * * ", "01-01 12:00 01-02 12:00 01-03 12:00")]
    [InlineData("@hourly", "01-01 01:00 01-01 02:00 01-01 03:00")]
    [InlineData("@daily", "01-02 00:00 01-03 00:00 01-04 00:00")]
    [InlineData("@midnight", "01-02 00:00 01-03 00:00 01-04 00:00")]
    [InlineData("@weekly", "01-04 00:00 01-11 00:00 01-18 00:00")]
    [InlineData("@monthly", "02-01 00:00 03-01 00:00 04-01 00:00")]
    [InlineData("0 0 29 2 *", "02-29 00:00 02-29 00:00 02-29 00:00")]
    [InlineData("0 0 * * 7", "01-04 00:00 01-11 00:00 01-18 00:00")]
    [InlineData("0 0 * Feb mon", "02-02 00:00 02-09 00:00 02-16 00:00")]
    [InlineData("0 0 1 JAN-MAR *", "02-01 00:00 03-01 00:00 01-01 00:00")]
    [InlineData("0 0 * * MON-WED", "01-05 00:00 01-06 00:00 01-07 00:00")]
    // Both days given: either will do. A step is a restriction, a star is none.
    [InlineData("0 0 13 * FRI", "01-02 00:00 01-09 00:00 01-13 00:00")]
    [InlineData("0 0 */10 * SAT", "01-03 00:00 01-10 00:00 01-11 00:00")]
    [InlineData("0 0 13 * *", "01-13 00:00 02-13 00:00 03-13 00:00")]
    [InlineData("0 0 13 * */1", "01-13 00:00 02-13 00:00 03-13 00:00")]
    [InlineData("0 0 * * FRI", "01-02 00:00 01-09 00:00 01-16 00:00")]
    public void The_next_times(string expression, string expected)
    {
        var times = new List<string>();
        var at = Utc("2026-01-01T00:00:00");
        for (var schedule = Read(expression); times.Count < 3;)
        {
            at = schedule.Next(at)!.Value;
            times.Add(at.ToString("MM-dd HH:mm", CultureInfo.InvariantCulture));
        }
        Assert.Equal(expected, string.Join(' ', times));
    }

    [Theory]
    [InlineData("* * * *")]
    [InlineData("* * * * * *")]
    [InlineData("? * * * *")]
    [InlineData("0 0 ? * MON")]
    [InlineData("0 0 L * *")]
    [InlineData("0 0 l * *")]
    [InlineData("0 0 15W * *")]
    [InlineData("0 0 15w * *")]
    [InlineData("0 0 * * 5L")]
    [InlineData("0 0 * * FRIL")]
    [InlineData("0 0 * * MON#1")]
    [InlineData("0 0 * MON *")]
    [InlineData("0 0 * JANUARY *")]
    [InlineData("0 0 * * MONTUE")]
    [InlineData("@every_second")]
    [InlineData("@every_minute")]
    [InlineData("@reboot")]
    [InlineData("CRON_TZ=UTC * * * * *")]
    [InlineData("60 * * * *")]
    [InlineData("* * 0 * *")]
    [InlineData("*/0 * * * *")]
    [InlineData("1,, * * * *")]
    [InlineData("- - - - -")]
    public void What_is_no_UNIX_expression_is_refused_by_name(string expression)
    {
        var (schedule, problem) = Schedule.Read(expression, "UTC");
        Assert.Null(schedule);
        Assert.StartsWith($"Schedule '{expression}' cannot be used: ", problem, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Mars/Base")]
    [InlineData("Europe")] // a directory
    [InlineData("/etc/passwd")]
    [InlineData("../../../etc/passwd")]
    [InlineData("/dev/zero")]
    public void What_is_no_zone_is_refused_by_name(string zone) => Assert.StartsWith(
        $"Time zone '{zone}' cannot be used: ", Schedule.Read("@daily", zone).Problem, StringComparison.Ordinal);

    [Theory]
    [InlineData("", "09:00")]
    [InlineData("Etc/UTC", "09:00")]
    [InlineData("Asia/Kolkata", "03:30")]
    [InlineData("America/New_York", "14:00")]
    public void A_schedule_goes_by_the_clock_of_its_zone(string zone, string utc) => Assert.Equal(
        [$"01-05 {utc}"], Between(Read("0 9 * * *", zone), "2026-01-05T00:00:00", "2026-01-05T23:59:00"));

    [Theory] // in New York 02:00 to 03:00 is missing on 2026-03-08, and 01:00 to 02:00 comes twice on 2026-11-01
    [InlineData("30 2 * * *", "03-08", "03-08 07:00")]
    [InlineData("0 2,3 * * *", "03-08", "03-08 07:00")]
    [InlineData("0 */2 * * *", "03-08", "03-08 05:00 03-08 07:00 03-08 08:00 03-08 10:00")]
    [InlineData("*/30 * * * *", "03-08",
        "03-08 05:00 03-08 05:30 03-08 06:00 03-08 06:30 03-08 07:00 03-08 07:30 03-08 08:00 03-08 08:30 "
        + "03-08 09:00 03-08 09:30 03-08 10:00")]
    [InlineData("30 1 * * *", "11-01", "11-01 05:30")]
    [InlineData("0,30 1 * * *", "11-01", "11-01 05:00 11-01 05:30")]
    [InlineData("30 1 1 * SUN", "11-01", "11-01 05:30")]
    [InlineData("0 * * * *", "11-01",
        "11-01 05:00 11-01 06:00 11-01 07:00 11-01 08:00 11-01 09:00 11-01 10:00")]
    public void Around_a_change_of_the_clock(string expression, string day, string expected) => Assert.Equal(
        expected, string.Join(' ', Between(
            Read(expression, "America/New_York"), $"2026-{day}T04:59:59", $"2026-{day}T10:00:00")));

    [Theory]
    [InlineData("America/New_York", "2026-03-08T05:00:00")]
    [InlineData("America/New_York", "2026-11-01T04:00:00")]
    [InlineData("Europe/Berlin", "2026-03-28T23:00:00")]
    [InlineData("Europe/Berlin", "2026-10-24T22:00:00")]
    [InlineData("Australia/Lord_Howe", "2026-04-04T13:00:00")] // by half an hour
    [InlineData("Australia/Lord_Howe", "2026-10-03T13:30:00")]
    public void A_time_of_day_comes_exactly_once_on_a_day_that_the_clock_changes(string zone, string midnight)
    {
        var day = Read("0 0 * * *", zone);
        var end = day.Next(Utc(midnight))!.Value;
        for (var minute = 0; minute < 24 * 60; minute += 15)
        {
            var schedule = Read($"{minute % 60} {minute / 60} * * *", zone);
            var first = schedule.Next(Utc(midnight).AddSeconds(-1))!.Value;
            Assert.True(first < end, $"{minute / 60}:{minute % 60} does not come");
            Assert.True(schedule.Next(first) >= end, $"{minute / 60}:{minute % 60} comes twice");
        }
    }

    [Theory]
    [InlineData("0 * * * *", "2026-01-31T12:00:00", "2026-01-31T12:59:59", null)] // since itself is not after it
    [InlineData("0 * * * *", "2026-01-31T11:59:59", "2026-01-31T12:00:00", "2026-01-31T12:00:00")]
    [InlineData("0 * * * *", "2026-01-31T14:00:00", "2026-01-31T12:00:00", null)]
    [InlineData("* * * * *", "1970-01-01T00:00:00", "2026-01-31T12:00:30", "2026-01-31T12:00:00")]
    [InlineData("30 4 29 2 *", "1970-01-01T00:00:00", "2026-01-31T12:00:30", "2024-02-29T04:30:00")]
    [InlineData("59 23 31 12 *", "2020-01-01T00:00:00", "2026-01-31T12:00:30", "2025-12-31T23:59:00")]
    public void The_latest_time(string expression, string since, string now, string? expected) =>
        Assert.Equal(expected is null ? null : Utc(expected), Read(expression).Latest(Utc(since), Utc(now)));

    [Fact]
    public void The_latest_time_is_the_last_of_all_that_come_for_any_span()
    {
        string[] expressions = ["*/7 * * * *", "0 */5 * * *", "15 3 1,15 * *", "0 0 13 * FRI", "30 1 * * *"];
        var now = Utc("2026-11-02T00:00:00");
        foreach (var schedule in expressions.Select(e => Read(e, "America/New_York")))
            for (var minutes = 1; minutes < 100_000; minutes = minutes * 3 / 2 + 1)
            {
                DateTimeOffset? last = null;
                var since = now.AddMinutes(-minutes);
                for (var at = schedule.Next(since); at <= now; at = schedule.Next(at.Value)) last = at;
                Assert.Equal(last, schedule.Latest(since, now));
            }
    }
}
