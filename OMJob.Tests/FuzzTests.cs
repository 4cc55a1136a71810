// Objects that nobody would send: valid ones with values of other types, beyond all bounds, missing, twice, nested, or
// no Unicode. None may stop the loop: it gets its error, and the others go on. OMJOB_FUZZ says how many (the suite tries
// a few seconds' worth), CsCheck_Seed repeats a failure.

using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using Xunit;
using static OMJobs.Tests.WatchTests;

namespace OMJobs.Tests;

public sealed class FuzzTests
{
    static readonly int Inputs = Tier.Of("OMJOB_FUZZ", small: 300, full: 2_000);
    static readonly string Cron = """
        {"apiVersion":"pipelines.openmetadata.org/v1","kind":"CronOMJob","metadata":{"name":"hourly","namespace":"data",
        "uid":"uid-of-hourly","resourceVersion":"100","creationTimestamp":"2026-01-31T10:00:00Z","labels":{"a":"b"}},
        "spec":{"schedule":"0 * * * *","timeZone":"America/New_York","suspend":false,"startingDeadlineSeconds":600,
        "successfulJobsHistoryLimit":1,"failedJobsHistoryLimit":1,"omJobSpec":{"mainPodSpec":{"image":"i",
        "env":[{"name":"jobName","value":"{{ omjob.name }}"}]} } },
        "status":{"lastScheduleTime":"2026-01-31T11:00:00Z","lastOMJobName":"hourly-1","message":"Created OMJob"} }
        """;
    static readonly string[] Jobs =
    [
        Rich(AnOMJob.Fresh()), Rich(AnOMJob.Pending().Deleted()), Rich(AnOMJob.Running()),
        Rich(AnOMJob.HandlerRunning()), AnOMJob.Finished().OwnedBy("uid-of-hourly").Json,
    ];
    static readonly string[] Pods =
    [
        APod.MainPod().Running().StartedAt(-500).Json, APod.MainPod().Exited(0).Deleted(-20).Json,
        APod.MainPod().Unscheduled("no node").Json, APod.MainPod().Disrupted("PreemptionByScheduler").Json,
        APod.ExitPod().Exited(1, "Error", -5).WithSidecar().Json, APod.ExitPod().InitWaiting("ErrImagePull").Json,
    ];

    static readonly Reply Ended = new(200, []);

    static string Rich(AnOMJob job) => job.WithLabel(LabelKeys.Pipeline, "p").OwnedBy("uid-of-hourly")
        .WithSpec("ttlSecondsAfterFinished", 60).WithSpec("activeDeadlineSeconds", 60)
        .WithSpec("exitHandlerBackoffLimit", 2).WithMain("""
            {"image":"i","command":["c"],"env":[{"name":"config","value":"secret"},{"name":"e","valueFrom":{} }],
            "labels":{"a":"b"},"annotations":{"a":"b"},"securityContext":{"runAsUser":1},"tolerations":[{"key":"k"}],
            "containerSecurityContext":{"privileged":false},"imagePullSecrets":[{"name":"s"}],"resources":{} }
            """).Json;

    [Fact]
    public void Whatever_an_OMJob_is_its_next_step_is_decided() => Hostile.Of(Jobs).Sample(json =>
    {
        if (Read(() => JsonSerializer.Deserialize(json, ModelJson.Default.JobObject)?.ToJob()) is not { } job) return;
        job = job with { ReadAt = Moment.Now };
        foreach (var main in (PodView[])[PodView.Unknown, PodView.Absent, APod.MainPod().Exited(1), APod.MainPod()])
        {
            var step = Protocol.Decide(job, main, PodView.Absent, Moment.Now, Moment.Clocks);
            if (step.Status is { } status) Bodies.Status(job, status, Moment.Now, true);
        }
        Try(json, () => OMJobs.PodTemplate.Build(job, PodType.Main));
        Try(json, () => OMJobs.PodTemplate.Build(job, PodType.ExitHandler));
        Try(json, () => Secrets.Redact("no", job));
    }, iter: Inputs, print: Hostile.Print);

    [Fact]
    public void Whatever_a_pod_is_its_jobs_next_step_is_decided() => Hostile.Of(Pods).Sample(json =>
    {
        if (Read(() => JsonSerializer.Deserialize(json, ModelJson.Default.PodObject)?.ToPod(Moment.Now)) is not { } pod)
            return;
        var view = new PodView(pod) { ReadAt = Moment.Now };
        AnOMJob[] all = [AnOMJob.Pending(), AnOMJob.Running(), AnOMJob.HandlerRunning(), AnOMJob.Finished()];
        foreach (var of in all)
            foreach (var job in (Job[])[of.Job, of.Killed().Job])
            {
                Protocol.Decide(job, view, PodView.Absent, Moment.Now, Moment.Clocks);
                Protocol.Decide(job, PodView.Absent, view, Moment.Now, Moment.Clocks);
                Protocol.Stray(job, pod);
            }
    }, iter: Inputs, print: Hostile.Print);

    [Fact]
    public void Whatever_a_CronOMJob_is_its_next_step_is_decided() => Hostile.Of(Cron).Sample(json =>
    {
        if (Read(() => JsonSerializer.Deserialize(json, ModelJson.Default.CronObject)?.ToCached(Moment.Now)) is not Cron cron)
            return;
        Job[] runs = [AnOMJob.Finished().Job, AnOMJob.Finished("Failed").Job];
        Scheduling.Decide(cron, true, runs, null, default, Moment.Now, Moment.Now);
        Try(json, () => Runs.Build(cron, JsonSerializer.Deserialize(json, ApiJson.Default.JsonElement), Moment.Now, "id"));
    }, iter: Inputs, print: Hostile.Print);

    /// <summary>A list and a watch full of them, a good OMJob at the end of each.</summary>
    [Theory, InlineData("omjobs"), InlineData("pods"), InlineData("cronomjobs")]
    public Task Lists_and_watches_of_hostile_objects_bring_the_good_one_after_them(string resource)
    {
        string[] objects = resource switch { "pods" => Pods, "omjobs" => Jobs, _ => [Cron] };
        var events = objects.Select(o => $$"""{"type":"ADDED","object":{{o}} }""").ToArray();
        return Gen.Select(Hostile.Of(objects).Array[20], Hostile.Of(events).Array[50]).SampleAsync(async given =>
        {
            await using var loop = new Loop
            {
                Resource = resource,
                // Whatever these have for a version, up to 5,000 characters: whoever looks if versions went back is told that they did not.
                Always = request => request.Path.EndsWith("limit=1", StringComparison.Ordinal)
                    ? new(200, Encoding.UTF8.GetBytes($$"""{"metadata":{"resourceVersion":"{{new string('9', 6000)}}"} }"""))
                    : null,
                OnList = [_ => new(200, Hostile.List(given.Item1, resource == "omjobs" ? Object("listed", 5) : null))],
                OnWatch =
                [
                    request => request.OnLine!(default) ?? given.Item2.Select(line => request.OnLine(line))
                        .FirstOrDefault(ended => ended is not null) ?? Ended,
                    request => Feed(request, Ended, resource == "omjobs" ? Event("ADDED", "watched", 6) : ""),
                ],
            };
            // A list that holds one is a list: then two watches follow, and a third that is silent.
            await loop.Until(() => loop.WatchedAt.Length >= 3
                && (resource != "omjobs" || (loop.Seen("listed") && loop.Seen("watched"))), "the good ones");
            Assert.Equal("LIST", loop.Asked[0]);
            Assert.StartsWith("WATCH", loop.Asked[1], StringComparison.Ordinal);
        }, iter: Math.Max(5, Inputs / 1000), threads: 1,
            print: given => string.Join('\n', given.Item1.Concat(given.Item2).Select(Hostile.Print)));
    }

    [Fact]
    public void A_hostile_kubeconfig_is_refused_in_one_line_or_taken()
    {
        var file = Path.GetTempFileName();
        const string valid = """
            {"apiVersion":"v1","kind":"Config","current-context":"x","clusters":[{"name":"c","cluster":{
            "server":"https://127.0.0.1:1","certificate-authority-data":"QUJD","tls-server-name":"n",
            "insecure-skip-tls-verify":false}}],"users":[{"name":"u","user":{"token":"t","username":"u","password":"p",
            "tokenFile":"f","client-certificate-data":"QUJD","client-key-data":"QUJD"}}],
            "contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}]}
            """;
        string[] valids = [valid, valid
            .Replace("\"certificate-authority-data\":\"QUJD\",", "", StringComparison.Ordinal)
            .Replace(",\n\"tokenFile\":\"f\",\"client-certificate-data\":\"QUJD\",\"client-key-data\":\"QUJD\"", "",
                StringComparison.Ordinal)];
        Hostile.Of(valids).Sample(json =>
        {
            File.WriteAllBytes(file, json);
            try { Kubeconfig.Load(file, null); }
            catch (KubeconfigException e) { Assert.DoesNotContain('\n', e.Message); }
        }, iter: Inputs / 6, threads: 1, print: Hostile.Print);
        File.Delete(file);
    }

    /// <summary>What the loop takes for unreadable, and says so.</summary>
    static T? Read<T>(Func<T?> read) where T : class
    {
        try { return read(); }
        catch (Exception e) when (e is JsonException or InvalidOperationException) { return null; }
    }

    /// <summary>A text that is no Unicode, or a field that is twice there: an error of its own reconcile.</summary>
    static void Try(byte[] json, Action step)
    {
        var unicode = json.AsSpan().IndexOf("\\ud800"u8) < 0 && !json.Contains((byte)0xff);
        try { step(); }
        catch (InvalidOperationException) when (!unicode) { }
        catch (ArgumentException e) when (e.Message.Contains("same key", StringComparison.Ordinal)) { }
    }
}

/// <summary>Valid JSON with one to three changes that make it hostile.</summary>
static class Hostile
{
    /// <summary>U+E000 stands for a byte that no UTF-8 has.</summary>
    static readonly string[] Values =
    [
        "null", "true", "{}", "[]", "\"\"", "[null]", "{\"\":null}", "[[]]", "7", "0", "-1", "1.5", "1e999", "-1e999",
        "9223372036854775807", "-9223372036854775808", "99999999999999999999", "315360001", "2147483648",
        "\"\\ud800\"", "\"a\\ud800b\"", "\"\uE000\"", "{\"\\ud800\":1}", "\"\\u0000\"", "\"../..\"", "\"a/b?c#d\"",
        "\"0000-01-01T00:00:00Z\"", "\"0001-01-01T00:00:00Z\"", "\"0001-01-01T00:00:00+14:00\"",
        "\"9999-12-31T23:59:59Z\"", "\"9999-12-31T23:59:59-14:00\"", "\"9999-12-31T23:59:59.9999999Z\"",
        "\"2499-12-31T23:59:59Z\"", "\"1970-01-01T00:00:00Z\"", "\"2026-01-31T12:00:00Z\"",
        "\"Running\"", "\"Succeeded\"", "\"Failed\"", "\"ExitHandlerRunning\"", "\"hourly\"", "\"run-main\"",
        "\"0 0 31 2 *\"", "\"* * * * *\"", "\"0 0 29 2 1\"", "\"run-exit-99999999999\"", "\"BOOKMARK\"", "\"DELETED\"",
        $"\"{new string('x', 5000)}\"", Nested(100), Nested(990), Nested(9990), "[", "}", "\"", "nul", ",",
    ];

    static string Nested(int depth) => new string('[', depth) + new string(']', depth);

    public static Gen<byte[]> Of(params string[] valid) => Gen.Select(
        Gen.Int[0, valid.Length - 1].Select(i => valid[i]),
        Gen.Select(Gen.Int[0, 999], Gen.Int[0, Values.Length - 1], Gen.Int[0, 9]).Array[1, 3], Change);

    static byte[] Change(string valid, (int Where, int What, int How)[] changes)
    {
        var root = JsonNode.Parse(valid)!;
        var holes = new List<(string Name, string Value)>();
        foreach (var (where, what, how) in changes)
        {
            var places = Places(root).ToArray();
            if (places.Length == 0) break;
            var (parent, key, index) = places[where % places.Length];
            var old = key is null ? parent[index] : parent[key];
            var name = $"@{holes.Count}@";
            var value = how switch
            {
                0 => null, // missing
                1 => $"[{Values[what]}]",
                2 when key is not null => $"{old?.ToJsonString() ?? "null"},\"{key}\":{Values[what]}", // twice
                3 => $"{{\"other\":{Values[what]}}}",
                _ => Values[what],
            };
            if (value is null && key is not null) parent.AsObject().Remove(key);
            else if (value is null) parent.AsArray().RemoveAt(index);
            else if (key is not null) parent[key] = name;
            else parent[index] = name;
            if (value is not null) holes.Add((name, value));
        }
        var text = root.ToJsonString();
        for (var i = holes.Count - 1; i >= 0; i--) text = text.Replace($"\"{holes[i].Name}\"", holes[i].Value);
        var bytes = Encoding.UTF8.GetBytes(text);
        for (int at; (at = bytes.AsSpan().IndexOf("\uE000"u8)) >= 0;) bytes[at] = 0xff;
        return bytes;
    }

    /// <summary>Every value below the root: of a field, or of an array's element.</summary>
    static IEnumerable<(JsonNode Parent, string? Key, int Index)> Places(JsonNode node) => node switch
    {
        JsonObject o => o.SelectMany(field => Below(field.Value).Prepend((o, field.Key, 0))),
        JsonArray a => a.SelectMany((item, i) => Below(item).Prepend((a, null, i))),
        _ => [],
    };

    static IEnumerable<(JsonNode, string?, int)> Below(JsonNode? node) => node is null ? [] : Places(node);

    /// <summary>Those of them that are JSON at all: no API server sends another list.</summary>
    public static byte[] List(byte[][] items, string? last)
    {
        var whole = items.Where(IsJson).Append(last is null ? "null"u8.ToArray() : Encoding.UTF8.GetBytes(last));
        return
        [
            .. "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":["u8,
            .. whole.SelectMany(i => (byte[])[.. i, (byte)',']),
            .. "null]}"u8,
        ];
    }

    static bool IsJson(byte[] item)
    {
        try
        {
            JsonDocument.Parse(item, new() { MaxDepth = 20_000 }).Dispose();
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    public static string Print(byte[] json) => Text.Truncate(Encoding.UTF8.GetString(json), 3000);
}
