// Names that must fit, and label values that must be valid.

using CsCheck;
using Xunit;

namespace OMJobs.Tests;

public sealed class NameTests
{
    [Theory]
    [InlineData("run", 58, "run")]
    [InlineData("", 58, "omjob")]
    [InlineData("....", 4, "....")]
    [InlineData("....", 3, "dfa")]
    [InlineData("om-cronomjob-f755d344-03e8-4fef-a168-a9c8bdff52ce-1767225600", 58,
        "om-cronomjob-f755d344-03e8-4fef-a168-a9c8bdff52ce-1-cdc728")]
    public void A_name_is_fitted(string name, int most, string expected) =>
        Assert.Equal(expected, Names.Fit(name, most, "omjob"));

    [Theory]
    [InlineData(51, ".suffix", "-9e6e38")]
    [InlineData(52, "-first-scheduled-run", "-388eeb")]
    public void A_long_name_keeps_45_characters_and_a_hash_of_the_whole(int letters, string rest, string hash) =>
        Assert.Equal(new string('a', 45) + hash, Names.Fit(new string('a', letters) + rest, 52, "omjob"));

    [Fact]
    public void A_fallback_that_is_too_long_is_fitted_too() =>
        Assert.Equal(Names.Fit(new string('b', 70), 63, ""), Names.Fit("", 63, new string('b', 70)));

    static readonly Gen<string> Longer = Gen.Char["abcxyz019-."].Array[0, 120].Select(rest =>
        $"a{string.Concat(rest)}z");

    [Fact]
    public void A_fitted_name_is_short_enough_and_valid_where_the_name_was() =>
        Longer.Select(Gen.Int[1, 63]).Sample((name, most) =>
        {
            var fitted = Names.Fit(name, most, "omjob");
            return fitted.Length <= most && char.IsAsciiLetterOrDigit(fitted[0])
                && char.IsAsciiLetterOrDigit(fitted[^1])
                && (name.Length > most || fitted == name) && fitted == Names.Fit(name, most, "omjob");
        });

    [Fact]
    public void Names_that_differ_only_after_the_cut_stay_different() =>
        Gen.Select(Longer, Gen.Int[0, 999], Gen.Int[0, 999]).Sample((name, one, other) =>
        {
            var start = name.PadRight(60, 'q');
            return one == other || Names.Fit($"{start}{one}", 58, "omjob") != Names.Fit($"{start}{other}", 58, "omjob");
        });

    [Theory]
    [InlineData("run", "run")]
    [InlineData("a_b.c-D9", "a_b.c-D9")]
    [InlineData("a b/c:d", "a-b-c-d")]
    [InlineData("--_.a.-_", "a")]
    [InlineData("/a/", "a")]
    [InlineData("ä", "")]
    [InlineData("", "")]
    [InlineData("...", "")]
    public void A_label_value_is_made_valid(string value, string expected) =>
        Assert.Equal(expected, Names.LabelValue(value));

    [Fact]
    public void A_long_label_value_is_fitted_after_it_was_made_valid()
    {
        var valid = new string('a', 60) + "-" + new string('b', 20);
        Assert.Equal(Names.Fit(valid, 63, ""), Names.LabelValue($"  {valid.Replace('-', ' ')}  "));
        Assert.Equal(63, Names.LabelValue(new string('a', 64)).Length);
        Assert.Equal(new string('a', 63), Names.LabelValue(new string('a', 63)));
    }

    [Fact]
    public void Any_text_becomes_a_valid_label_value() => Gen.String.Sample(text =>
    {
        var value = Names.LabelValue(text);
        return value.Length <= 63 && value.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.')
            && (value.Length == 0 || (char.IsAsciiLetterOrDigit(value[0]) && char.IsAsciiLetterOrDigit(value[^1])))
            && value == Names.LabelValue(value);
    });

    [Theory]
    [InlineData("run", 1, "run-exit")]
    [InlineData("run", 2, "run-exit-2")]
    [InlineData("run", 12, "run-exit-12")]
    [InlineData("a-exit-2", 1, "a-exit-2-exit")]
    public void An_attempt_has_its_name(string job, int attempt, string expected) =>
        Assert.Equal(expected, PodTemplate.ExitName(job, attempt));

    [Fact]
    public void An_attempt_is_read_back_from_its_name_however_long() =>
        Gen.Select(Longer, Gen.Int[1, 1001]).Sample((name, attempt) =>
        {
            var job = AnOMJob.HandlerRunning().Named(name).AtAttempt(attempt).Job;
            return PodTemplate.ExitName(job).Length <= 63 && PodTemplate.Number(job) == attempt;
        });

    [Theory]
    [InlineData(null)]
    [InlineData("run-exit")]
    [InlineData("run-exit-1")]
    [InlineData("run-exit-02")]
    [InlineData("run-exit--2")]
    [InlineData("run-exit-99999999999")]
    [InlineData("other-exit-2")]
    [InlineData("upstream-7")]
    public void A_name_that_is_no_attempts_is_the_first(string? name) =>
        Assert.Equal(1, PodTemplate.Number(AnOMJob.HandlerRunning().With("exitHandlerPodName", name).Job));

    [Fact]
    public void Both_pods_of_the_longest_name_fit()
    {
        var job = AnOMJob.Pending().Named(new string('n', 253)).Job;
        Assert.Equal(63, PodTemplate.MainName(job).Length);
        Assert.Equal(63, PodTemplate.ExitName(job).Length);
        Assert.StartsWith(new string('n', 51) + "-", PodTemplate.MainName(job), StringComparison.Ordinal);
        Assert.EndsWith("-main", PodTemplate.MainName(job), StringComparison.Ordinal);
    }

    [Fact]
    public void Names_in_status_hold_as_they_are()
    {
        var job = AnOMJob.HandlerRunning().With("mainPodName", "x").With("exitHandlerPodName", "y").Job;
        Assert.Equal(("x", "y"), (PodTemplate.MainName(job), PodTemplate.ExitName(job)));
    }

    [Theory]
    [InlineData("run", true)]
    [InlineData("0.run-1", true)]
    [InlineData("", false)]
    [InlineData("..", false)]
    [InlineData("-run", false)]
    [InlineData("run.", false)]
    [InlineData("Run", false)]
    [InlineData("a/b", false)]
    [InlineData("../../../pods", false)]
    [InlineData("x?watch=1", false)]
    [InlineData("x%2f", false)]
    public void What_can_be_no_name_leads_nowhere(string name, bool valid)
    {
        var job = AnOMJob.HandlerRunning().With("mainPodName", name).With("exitHandlerPodName", name).Job;
        Assert.Equal(valid ? (name, name) : ("run-main", "run-exit"), (PodTemplate.MainName(job), PodTemplate.ExitName(job)));
        Assert.Equal(valid ? name : null, Names.Valid(name));
    }

    [Theory, InlineData(253, true), InlineData(254, false)]
    public void A_name_has_an_end(int length, bool valid) =>
        Assert.Equal(valid, Names.Valid(new string('a', length)) is not null);

    [Fact]
    public void A_main_pod_without_owner_and_labels_is_known_by_its_name_if_it_bears_a_UID()
    {
        static (string, string?) Of(APod pod) => (pod.Pod.JobName, pod.Pod.JobUid);
        Assert.Equal(("run", "uid-of-run"), Of(APod.MainPod().WithoutOwner().WithoutLabels().Annotated()));
        Assert.Equal(("", "uid-of-run"), Of(APod.ExitPod().WithoutOwner().WithoutLabels().Annotated()));
        Assert.Equal(("", null), Of(APod.MainPod().OfSomebodyElse()));
    }
}
