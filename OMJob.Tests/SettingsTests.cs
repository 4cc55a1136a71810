// The command line and the environment: flag beats variable beats default; a bad value is named.

using System.CommandLine;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;
using Xunit;

namespace OMJobs.Tests;

public sealed class SettingsTests
{
    static Settings Read(string[] flags, params (string Name, string Value)[] variables) =>
        Program.ReadSettings(Program.Parse(flags), variables.ToDictionary(v => v.Name, v => v.Value).GetValueOrDefault);

    static string Refusal(string[] flags, params (string Name, string Value)[] variables) =>
        Assert.Throws<UsageException>(() => Read(flags, variables)).Message;

    [Fact]
    public void Defaults_are_the_charts_and_the_designs()
    {
        var settings = Read([]);
        Assert.Equal([""], settings.Namespaces);
        Assert.Equal(LogLevel.Information, settings.LogLevel);
        Assert.False(settings.JsonLogs);
        Assert.Equal((5, 8080, 8081), (settings.Workers, settings.HealthPort, settings.MetricsPort));
        Assert.False(settings.PollingAsked);
        Assert.Equal(Moment.Clocks, settings.Deadlines);
    }

    static string Show(Settings s, string flag) => flag switch
    {
        "--namespace" => string.Join(',', s.Namespaces),
        "--log-level" => s.LogLevel.ToString(),
        "--log-format" => s.JsonLogs ? "json" : "text",
        "--workers" => $"{s.Workers}",
        "--health-port" => $"{s.HealthPort}",
        "--metrics-port" => $"{s.MetricsPort}",
        "--start-deadline" => $"{s.Deadlines.StartDeadline.TotalSeconds}",
        "--exit-handler-deadline" => $"{s.Deadlines.ExitHandlerDeadline.TotalSeconds}",
        "--exit-handler-retries" => $"{s.Deadlines.ExitHandlerRetries}",
        "--lost-pod-slack" => $"{s.Deadlines.LostPodSlack.TotalSeconds}",
        _ => throw new ArgumentException(flag),
    };

    /// <summary>Flag, variable, one good value and another as they are shown, a bad one.</summary>
    public static TheoryData<string, string, string, string, string, string, string> All => new()
    {
        { "--namespace", "WATCH_NAMESPACES", "one", "one", "two", "two", "Two" },
        { "--log-level", "LOG_LEVEL", "debug", "Debug", "ERROR", "Error", "loud" },
        { "--workers", "RECONCILIATION_THREADS", "1", "1", "1000", "1000", "0" },
        { "--health-port", "HEALTH_CHECK_PORT", "0", "0", "65535", "65535", "65536" },
        { "--metrics-port", "METRICS_PORT", "9000", "9000", "0", "0", "-1" },
        { "--start-deadline", "START_DEADLINE", "90s", "90", "0", "0", "1d" },
        { "--exit-handler-deadline", "EXIT_HANDLER_DEADLINE", "1h30m", "5400", "10m", "600", "soon" },
        { "--exit-handler-retries", "EXIT_HANDLER_RETRIES", "0", "0", "7", "7", "-1" },
        { "--lost-pod-slack", "LOST_POD_SLACK", "1.5m", "90", "0s", "0", "60" },
    };

    [Theory]
    [MemberData(nameof(All))]
    public void A_flag_beats_its_variable_and_a_bad_value_names_its_place(
        string flag, string name, string one, string oneShown, string two, string twoShown, string bad)
    {
        Assert.Equal(oneShown, Show(Read([flag, one]), flag));
        Assert.Equal(oneShown, Show(Read([$"{flag}={one}"]), flag));
        Assert.Equal(twoShown, Show(Read([], (name, two)), flag));
        Assert.Equal(twoShown, Show(Read([], (name, $" {two} ")), flag));
        Assert.Equal(oneShown, Show(Read([flag, one], (name, two)), flag));
        Assert.Equal(oneShown, Show(Read([flag, one], (name, bad)), flag));
        Assert.Equal(Show(Read([]), flag), Show(Read([], (name, "")), flag));
        Assert.StartsWith($"{flag}: '{bad}' is not ", Refusal([$"{flag}={bad}"]), StringComparison.Ordinal);
        Assert.StartsWith($"{name}: '{bad}' is not ", Refusal([], (name, bad)), StringComparison.Ordinal);
        Assert.Contains(flag, Assert.Single(Program.Parse($"{flag}=").Errors).Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', Refusal([], (name, bad)));
    }

    [Theory]
    [InlineData("json", true)]
    [InlineData("text", false)]
    public void The_log_format_is_a_flag_alone(string format, bool json) =>
        Assert.Equal(json, Read(["--log-format", format]).JsonLogs);

    [Fact]
    public void A_log_format_that_is_none_is_named() =>
        Assert.Equal("--log-format: 'xml' is not a log format (text or json)", Refusal(["--log-format", "xml"]));

    [Theory]
    [InlineData("trace", LogLevel.Trace)]
    [InlineData("DEBUG", LogLevel.Debug)]
    [InlineData("info", LogLevel.Information)]
    [InlineData("INFO", LogLevel.Information)]
    [InlineData("Information", LogLevel.Information)]
    [InlineData("warn", LogLevel.Warning)]
    [InlineData("WARNING", LogLevel.Warning)]
    [InlineData("Error", LogLevel.Error)]
    [InlineData("critical", LogLevel.Critical)]
    [InlineData("OFF", LogLevel.None)]
    [InlineData("none", LogLevel.None)]
    public void A_level_has_our_name_or_dotnets_in_any_case(string text, LogLevel level) =>
        Assert.Equal(level, Read([], ("LOG_LEVEL", text)).LogLevel);

    [Theory]
    [InlineData("2")]
    [InlineData("verbose")]
    [InlineData("inf")]
    [InlineData("-1")]
    [InlineData("+2")]
    public void Anything_else_is_no_level(string text) => Assert.Equal(
        $"LOG_LEVEL: '{text}' is not a log level (trace, debug, info, warn, error or off)",
            Refusal([], ("LOG_LEVEL", text)));

    [Theory]
    [InlineData("", "")]
    [InlineData(" , ", "")]
    [InlineData("ALL", "")]
    [InlineData("one,ALL", "")]
    [InlineData("one", "one")]
    [InlineData(" one , two ,one,", "one,two")]
    public void The_namespaces_of_the_variable_are_a_comma_list(string text, string expected) =>
        Assert.Equal(expected, string.Join(',', Read([], ("WATCH_NAMESPACES", text)).Namespaces));

    [Theory]
    [InlineData("--namespace one --namespace two", "one,two")]
    [InlineData("-n one", "one")]
    [InlineData("--namespace ALL", "")]
    [InlineData("--namespace one --namespace ALL", "")]
    public void The_flag_can_be_given_more_than_once(string flags, string expected) =>
        Assert.Equal(expected, string.Join(',', Read(flags.Split(' '), ("WATCH_NAMESPACES", "three")).Namespaces));

    [Theory]
    [InlineData("-one")]
    [InlineData("one-")]
    [InlineData("o_e")]
    [InlineData("kube system")]
    [InlineData("a/b")]
    [InlineData("0123456789012345678901234567890123456789012345678901234567890123")]
    public void A_name_that_no_namespace_has_is_refused(string name)
    {
        Assert.Equal($"WATCH_NAMESPACES: '{name}' is not a namespace's name",
            Refusal([], ("WATCH_NAMESPACES", $"one,{name}")));
        Assert.Equal($"--namespace: '{name}' is not a namespace's name", Refusal([$"--namespace={name}"]));
    }

    [Theory]
    [InlineData("POLLING_INTERVAL_SECONDS")]
    [InlineData("REQUEUE_DELAY_SECONDS")]
    public void Polling_is_accepted_and_checked(string name)
    {
        Assert.True(Read([], (name, "10")).PollingAsked);
        Assert.True(Read([], (name, "2147483647")).PollingAsked);
        Assert.False(Read([], (name, "")).PollingAsked);
        foreach (var bad in (string[])["0", "-1", "10s", "ten", "2147483648"])
            Assert.Equal($"{name}: '{bad}' is not a whole number above 0", Refusal([], (name, bad)));
    }

    [Fact]
    public void Both_polling_variables_at_their_most_do_not_overflow() => Assert.True(
        Read([], ("POLLING_INTERVAL_SECONDS", "2147483647"), ("REQUEUE_DELAY_SECONDS", "2147483647")).PollingAsked);

    [Theory]
    [InlineData("90s", 90d)]
    [InlineData("10m", 600d)]
    [InlineData("1h", 3600d)]
    [InlineData("1h30m", 5400d)]
    [InlineData("1h1m1s", 3661d)]
    [InlineData("1500ms", 1.5d)]
    [InlineData("0.5h", 1800d)]
    [InlineData("0", 0d)]
    [InlineData("0s", 0d)]
    [InlineData("87600h", 315_360_000d)]
    [InlineData("87600h1s", null)]
    [InlineData("", null)]
    [InlineData("60", null)]
    [InlineData("s", null)]
    [InlineData("-5s", null)]
    [InlineData("+5s", null)]
    [InlineData("1h 30m", null)]
    [InlineData("1d", null)]
    [InlineData("1H", null)]
    [InlineData("1.2.3s", null)]
    [InlineData("1e9s", null)]
    [InlineData("٣s", null)]
    [InlineData("99999999999999999999999999h", null)]
    public void A_duration_reads_like_kubernetes(string text, double? seconds) =>
        Assert.Equal(seconds, Program.ParseDuration(text)?.TotalSeconds);

    [Theory]
    [InlineData("--nope")]
    [InlineData("--workers")]
    [InlineData("--workers 1 --workers 2")]
    [InlineData("one")]
    [InlineData("--namespace one two")]
    public void What_is_no_flag_is_an_error_in_one_line(string flags) =>
        Assert.DoesNotContain('\n', Assert.Single(Program.Parse(flags.Split(' ')).Errors.Take(1)).Message);

    /// <summary>The lines of a help by the headings above them.</summary>
    static ILookup<string, string> HelpOf(params string[] command)
    {
        var output = new StringWriter();
        Assert.Equal(0, Program.Parse([.. command, "--help"]).Invoke(new() { Output = output }));
        var heading = "";
        return output.ToString().ReplaceLineEndings("\n").Split('\n')
            .Select(line => (Heading: heading = line.Length > 0 && line[^1] == ':' ? line[..^1] : heading, Line: line))
            .ToLookup(line => line.Heading, line => line.Line);
    }

    [Theory]
    [InlineData]
    [InlineData("release")]
    public void The_help_fits_a_terminal_and_its_examples_are_right(params string[] command)
    {
        var help = HelpOf(command);
        Assert.All(help.SelectMany(lines => lines), line => Assert.InRange(line.Length, 0, 80));
        var examples = help["Examples"].Where(line => line.StartsWith("  omjob-operator", StringComparison.Ordinal))
            .Select(line => Program.Parse(line.Trim().Split("   ")[0].Split(' ')[1..])).ToArray();
        Assert.InRange(examples.Length, 2, 4);
        Assert.All(examples, example =>
        {
            Assert.Empty(example.Errors);
            Program.ReadSettings(example, _ => null);
        });
    }

    [Fact]
    public void The_help_has_each_flag_under_one_heading_and_that_of_release_what_matters_there()
    {
        var (root, help, ofRelease) = (Program.Parse().RootCommandResult.Command, HelpOf(), HelpOf("release"));
        foreach (var option in root.Options) Assert.Single(Shown(help), IsOf(option));
        Assert.Contains("  omjob-operator release [FLAGS]", help["Usage"]);
        foreach (var option in root.Subcommands.Single().Options) Assert.Single(Shown(ofRelease), IsOf(option));
        foreach (var name in (string[])["--kubeconfig", "--context", "--namespace", "--log-level"])
            Assert.Single(Shown(ofRelease), IsOf(root.Options.Single(option => option.Name == name)));

        static IEnumerable<string> Shown(ILookup<string, string> help) =>
            help.Where(lines => lines.Key is not ("" or "Usage" or "Examples")).SelectMany(lines => lines);
        static Predicate<string> IsOf(Option option) => line => Regex.IsMatch(line, $"^  (-\\S+, )*{option.Name}( |$)");
    }
}
