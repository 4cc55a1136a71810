// The same requests to two API servers, and what their answers differ in. Conformance.txt lists the requests; where a
// real API server and the sandbox differ, the sandbox is wrong, unless the line says on purpose why. The sandbox is as
// Kubernetes 1.36; of an older server the table Olders and lines with `before 1.N: ` say what differs.
//
// A section begins with `## title` and has a namespace of its own, @ns. A ` -- ` there is for all its lines. A line is
//   [name =] METHOD[:type] path [body [+ body]...] [ -- [before 1.N: ]why it differs on purpose]
// type: merge, json, strategic, apply, table, or a media type. A path that begins with ~ is in the section's namespace:
// ~pods/p, ~omjobs/j. A body is YAML, or 'text' as it is; + merges another into it. `def POD(x) body` makes a body that
// is used as POD(name). @name.uid and @name.rv are those of an earlier answer. Further lines:
//   WATCH path        collects events until the section ends, from now on unless the path names a version
//   UNTIL code path [text]  asks again until the answer has this code and text
//   PAUSE             waits until the watches are silent

using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

/// <summary>One line and what came of it, without what differs between any two runs.</summary>
sealed record AnsweredLine(string Section, string Line, string? Omission, string Answer);

/// <summary>What API servers from a version on answer otherwise to some lines: both words are made alike.</summary>
sealed record Older(int From, string Lines, string Words, string Instead, string Why);

sealed partial class Conformance : IDisposable
{
    readonly HttpClient http;
    readonly string run = Convert.ToHexStringLower(Guid.NewGuid().ToByteArray()[..3]);
    readonly Dictionary<string, string> definitions = [];
    readonly Dictionary<string, JsonObject> answers = [];
    readonly List<(string Line, Task<List<string>> Events, CancellationTokenSource Stop)> watches = [];
    DateTime heard = DateTime.UtcNow; // the last event of any watch
    string section = "", ns = "";
    string? omission; // that of the section
    int sections;

    Conformance(string kubeconfig)
    {
        var config = Json.Yaml(kubeconfig)[0];
        var cluster = config.Items("clusters").First()["cluster"];
        var tls = new SslClientAuthenticationOptions
        {
            CertificateChainPolicy = new()
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            },
        };
        tls.CertificateChainPolicy.CustomTrustStore.ImportFromPem(Encoding.ASCII.GetString(
            Convert.FromBase64String(cluster.Text("certificate-authority-data")!)));
        http = new(new SocketsHttpHandler { SslOptions = tls }) { BaseAddress = new(cluster.Text("server")!) };
        http.DefaultRequestHeaders.Authorization =
            new("Bearer", config.Items("users").First()["user"].Text("token"));
    }

    public void Dispose() => http.Dispose();

    /// <summary>Sends all requests of the list. The CRDs of crd.yaml must be there.</summary>
    public static async Task<List<AnsweredLine>> Run(string kubeconfig, string requests)
    {
        using var conformance = new Conformance(kubeconfig);
        var transcript = new List<AnsweredLine>();
        transcript.Add(new("", "", null, await conformance.Send("", "GET", "/version")));
        await conformance.Send("", "POST", "/api/v1/nodes {metadata: {name: n1}}"); // pods on no node are collected
        foreach (var line in requests.Split('\n').Select(l => l.Trim()).Where(l => l.Length > 0 && !l.StartsWith("# ")))
            transcript.AddRange(await conformance.Do(line));
        transcript.AddRange(await conformance.EndSection());
        await conformance.Send("", "DELETE", "/api/v1/nodes/n1");
        return transcript;
    }

    /// <summary>Which Kubernetes 1.N the expected answers are of, and what differs, a text for each line; lines that
    /// differ on purpose are left out.</summary>
    public static (int Minor, List<string> Differences) Compare(
        List<AnsweredLine> expected, List<AnsweredLine> actual)
    {
        var minor = int.Parse(Minor().Match(expected[0].Answer).Groups[1].Value, null);
        var older = Olders.Where(o => minor < o.From).ToList();
        string Words(AnsweredLine line) => older.Where(o => Regex.IsMatch(line.Line, o.Lines))
            .Aggregate(line.Answer, (answer, o) => Regex.Replace(answer, o.Words, o.Instead));
        bool OnPurpose(string? omission) => omission is not null
            && (!Scope().IsMatch(omission) || minor < int.Parse(Scope().Match(omission).Groups[1].Value, null));
        return (minor, [.. expected.Zip(actual).Skip(1)
            .Where(p => Words(p.First) != Words(p.Second) && !OnPurpose(p.First.Omission))
            .Select(p => $"{p.First.Section}: {p.First.Line}\n  expected {Words(p.First)}\n  actual   " +
                Words(p.Second))]);
    }

    [GeneratedRegex(@"""minor"":""(\d+)")]
    private static partial Regex Minor();
    [GeneratedRegex(@"^before 1\.(\d+): ")]
    private static partial Regex Scope();

    static readonly Older[] Olders =
    [
        new(21, "/namespaces", @"""labels"":\{""kubernetes.io/metadata.name"":""<ns>""\},|" +
            @",""kubernetes.io/metadata.name"":""<ns>""", "", "a namespace has its name for a label"),
        new(22, "table ~pods", @"(?<=""Restarts"",""priority"":0,""type"":"")string", "integer",
            "restarts are text, which may say when the last one was"),
        new(22, "table ~pods", @"(?<=""cells"":\[""\w"",""\d/\d"",""[\w:]+"",)""(\d)""", "$1", "the same"),
        new(24, "~(cron)?omjobs", "FieldValueTypeInvalid", "FieldValueInvalid", "a wrong type is a reason of its own"),
        new(24, "~configmaps.*namespace: ",
            @"of the object \(\w+\) does not match the namespace on the request \(<ns>\)",
            "of the provided object does not match the namespace sent on the request", "POST and PUT say the same"),
        new(25, "~omjobs", @"(?<=mainPodSpec\.(command|env|tolerations))\[0\]", "", "the place in a list is told"),
        new(27, "memory: 2Gi", "(?<=memory limit) of 1Gi", "", "the limit is told"),
        new(34, "[~/]pods", @"""generation"":\d+,", "", "pods count the changes of their spec"),
        new(34, "dryRun.*Some", @"(?<=Unsupported value: )\[(\\""Some\\"")\]", "[]string{$1}",
            "values are told as JSON"),
        new(34, "omjobs|leases", "(?<=Invalid value: )0(?=: must be specified)", "0x0", "the same"),
        new(34, "deletionTimestamp: \"2001", @"(?<=Invalid value: )\\""<time>\\""", "2001-01-01 00:00:00 +0000 UTC",
            "the same"),
    ];

    async Task<IEnumerable<AnsweredLine>> Do(string line)
    {
        if (line.StartsWith("## ", StringComparison.Ordinal))
        {
            var ended = await EndSection();
            await BeginSection(line[3..]);
            return ended;
        }
        if (line.StartsWith("def ", StringComparison.Ordinal))
        {
            var name = line[4..line.IndexOf('(')];
            definitions[name] = line[(line.IndexOf(')') + 1)..].Trim();
            return [];
        }
        var halves = line.Split(" -- ");
        var words = Words().Match(halves[0]);
        var (save, method, rest) = (words.Groups[1].Value, words.Groups[2].Value, words.Groups[3].Value);
        var answer = method switch
        {
            "WATCH" => StartWatch(line, rest),
            "UNTIL" => await Until(rest),
            "PAUSE" => await Silence(),
            _ => await Send(save, method, rest),
        };
        return answer is null ? [] : [new(section, line, halves.ElementAtOrDefault(1) ?? omission, answer)];
    }

    [GeneratedRegex(@"^(?:(\w+) = )?([A-Z]+(?::\S+)?)\s*(.*)$")]
    private static partial Regex Words();

    async Task BeginSection(string title)
    {
        (section, omission) = title.Split(" -- ") is [var name, var why] ? (name, why) : (title, null);
        ns = $"c{run}-{++sections}";
        await Send("", "POST", $"/api/v1/namespaces {{metadata: {{name: {ns}}}}}");
        await Until($"200 ~serviceaccounts/default");
        for (var i = 0; i < 100; i++) // until pods are admitted
        {
            var probe = "{metadata: {name: probe}, spec: {containers: [{name: a, image: a}]}}";
            if ((await Send("", "POST", $"~pods?dryRun=All {probe}")).StartsWith("201")) break;
            await Task.Delay(50);
        }
    }

    async Task<List<AnsweredLine>> EndSection()
    {
        var seen = new List<AnsweredLine>();
        if (ns.Length == 0) return seen;
        if (watches.Count > 0) await Silence();
        foreach (var (line, events, stop) in watches)
        {
            await stop.CancelAsync();
            seen.Add(new(section, line, omission, string.Join("\n           ", await events)));
            stop.Dispose();
        }
        watches.Clear();
        foreach (var path in (string[])["~pods", "~omjobs", "~configmaps"])
            foreach (var item in ((await Ask("GET", Path(path))).Body as JsonObject).Items("items"))
                if (item.At("metadata", "finalizers") is not null)
                    await Send("", "PATCH:merge",
                        $"{path}/{item.Text("metadata", "name")} {{metadata: {{finalizers: null}}}}");
        await Ask("DELETE", $"/api/v1/namespaces/{ns}");
        answers.Clear();
        return seen;
    }

    // ----- requests

    string Path(string path)
    {
        if (!path.StartsWith('~')) return path;
        var custom = path.StartsWith("~omjobs") || path.StartsWith("~cronomjobs");
        return $"{(custom ? "/apis/pipelines.openmetadata.org/v1" : "/api/v1")}/namespaces/{ns}/{path[1..]}";
    }

    async Task<string> Send(string save, string method, string rest)
    {
        var (path, body) = rest.IndexOf(' ') is var at and > 0 ? (rest[..at], rest[(at + 1)..].Trim()) : (rest, "");
        var (verb, type) = method.Split(':', 2) is [var v, var t] ? (v, t) : (method, "");
        var answer = await Ask(verb, Path(Fill(path)), Body(body), type switch
        {
            "merge" or "json" => $"application/{type}-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            "apply" => "application/apply-patch+yaml",
            "table" or "" => "application/json",
            _ => type,
        }, type == "table" ? "application/json;as=Table;v=v1;g=meta.k8s.io" : "application/json");
        if (save.Length > 0 && answer.Body is JsonObject o) answers[save] = o;
        return $"{answer.Code} {Normal(answer.Body)}";
    }

    async Task<(int Code, JsonNode? Body)> Ask(string method, string path,
        byte[]? body = null, string type = "application/json", string accept = "application/json")
    {
        using var request = new HttpRequestMessage(new(method), path);
        request.Headers.Accept.ParseAdd(accept);
        if (body is not null)
        {
            request.Content = new ByteArrayContent(body);
            request.Content.Headers.ContentType = new MediaTypeHeaderValue(type);
        }
        HttpResponseMessage response;
        try { response = await http.SendAsync(request); }
        catch (HttpRequestException e) { return (0, JsonValue.Create(e.Message)); }
        using var _ = response;
        var bytes = await response.Content.ReadAsByteArrayAsync();
        try { return ((int)response.StatusCode, bytes.Length == 0 ? null : Json.Parse(bytes)); }
        catch (JsonException)
        {
            return ((int)response.StatusCode, JsonValue.Create(Encoding.UTF8.GetString(bytes).Trim()));
        }
    }

    string Fill(string text) => Reference().Replace(text.Replace("@ns", ns), m =>
        answers.GetValueOrDefault(m.Groups[1].Value).Text("metadata",
            m.Groups[2].Value == "rv" ? "resourceVersion" : m.Groups[2].Value) ?? "");

    [GeneratedRegex(@"@(\w+)\.(uid|rv|name|continue)")]
    private static partial Regex Reference();

    byte[]? Body(string text)
    {
        if (text.Length == 0) return null;
        if (text.StartsWith('\'')) return Encoding.UTF8.GetBytes(text.Trim('\''));
        JsonNode? body = null;
        foreach (var part in text.Split(" + "))
        {
            var use = Use().Match(part);
            var yaml = use.Success && definitions.TryGetValue(use.Groups[1].Value, out var definition)
                ? definition.Replace("%", use.Groups[2].Value) : part;
            // Wrapped, because a JSON patch is a list.
            var parsed = Json.Yaml($"body: {Fill(yaml)}")[0]["body"]!.DeepClone();
            body = body is null ? parsed : Patch.Merge(body, parsed);
        }
        return body!.Bytes();
    }

    [GeneratedRegex(@"^([A-Z]+)\(([^)]*)\)$")]
    private static partial Regex Use();

    async Task<string?> Until(string rest)
    {
        var words = Fill(rest).Split(' ', 3);
        for (var i = 0; i < 600; i++)
        {
            var (code, body) = await Ask("GET", Path(words[1]));
            if ($"{code}" == words[0] && (words.Length < 3 || body!.ToJsonString().Contains(words[2]))) return "reached";
            await Task.Delay(50);
        }
        return "never";
    }

    // ----- watches

    string? StartWatch(string line, string rest)
    {
        var stop = new CancellationTokenSource();
        var opened = new TaskCompletionSource();
        watches.Add((line, Collect(Path(Fill(rest)), opened, stop.Token), stop));
        opened.Task.Wait();
        heard = DateTime.UtcNow;
        return null;
    }

    async Task<List<string>> Collect(string path, TaskCompletionSource opened, CancellationToken stop)
    {
        var events = new List<string>();
        try
        {
            if (!path.Contains("resourceVersion"))
            {
                var list = await Ask("GET", path);
                path += (path.Contains('?') ? '&' : '?') + "resourceVersion=" +
                    list.Body.Text("metadata", "resourceVersion");
            }
            path += "&watch=1&timeoutSeconds=60";
            using var response = await http.GetAsync(path, HttpCompletionOption.ResponseHeadersRead, stop);
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(stop));
            opened.TrySetResult();
            while (await reader.ReadLineAsync(stop) is { } text)
            {
                var change = Json.Parse(Encoding.UTF8.GetBytes(text));
                events.Add($"{change.Text("type")} {Normal(change.At("object"))}");
                heard = DateTime.UtcNow;
            }
            events.Add("end");
        }
        catch (OperationCanceledException) { }
        finally { opened.TrySetResult(); }
        return events;
    }

    async Task<string?> Silence()
    {
        var quiet = TimeSpan.FromMilliseconds(400);
        for (var begun = DateTime.UtcNow; DateTime.UtcNow - begun < quiet || DateTime.UtcNow - heard < quiet;)
            await Task.Delay(50);
        return null;
    }

    // ----- what any two runs differ in

    static readonly HashSet<string> Private = // of the real one's own making
        ["managedFields", "selfLink", "storageVersionHash", "description", "remainingItemCount"];

    string Normal(JsonNode? node)
    {
        return Tidy(node, "")?.ToJsonString(new JsonSerializerOptions
        { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }) ?? "";
    }

    JsonNode? Tidy(JsonNode? node, string field)
    {
        switch (node)
        {
            case JsonObject map:
                var kind = map.Text("kind");
                return new JsonObject(map.Where(f => !Private.Contains(f.Key))
                    .Where(f => f.Key != "secrets" || kind is not (null or "ServiceAccount"))
                    .OrderBy(f => f.Key, StringComparer.Ordinal)
                    .Select(f => KeyValuePair.Create(f.Key, Tidy(f.Value, f.Key)))
                    .Where(f => !(f.Key is "volumes" or "volumeMounts" && f.Value is JsonArray { Count: 0 })));
            case JsonArray list when field is "verbs" or "resources" or "causes": // in any order
                return new JsonArray([.. list.Select(i => Tidy(i, ""))
                    .DistinctBy(i => i!.ToJsonString())
                    .OrderBy(i => i!.ToJsonString(), StringComparer.Ordinal)]);
            case JsonArray list:
                return new JsonArray([.. list.Where(i => !IsToken(i)).Select(i => Tidy(i, ""))]);
            case JsonValue value when value.TryGetValue(out string? text): return JsonValue.Create(Tidy(text, field));
            default: return node?.DeepClone();
        }
    }

    /// <summary>The volume of a service account's token, and the ConfigMaps of CAs, OpenShift's too: nobody here needs
    /// them.</summary>
    static bool IsToken(JsonNode? item) =>
        item.Text("name") is { } name && Token().IsMatch(name)
        || item.Text("metadata", "name") is "kube-root-ca.crt" or "openshift-service-ca.crt";

    string Tidy(string text, string field)
    {
        if (field is "resourceVersion") return "<version>";
        if (field is "continue" or "token" && text.Length > 0) return $"<{field}>";
        if (ns.Length > 0) text = text.Replace(ns, "<ns>");
        text = Uid().Replace(text, "<uid>");
        text = Time().Replace(text, "<time>");
        text = Generated().Replace(text, "gen-<suffix>");
        text = text.Replace("deps/github.com/openshift/kubernetes/", ""); // where a build has its source
        text = Decoding().Replace(text, "$1…");
        if (field is "message" && text.Contains("is invalid: [")) text = Sorted(text);
        return text;
    }

    static string Sorted(string message)
    {
        var at = message.IndexOf("is invalid: [", StringComparison.Ordinal) + "is invalid: [".Length;
        return message[..at] + string.Join(" | ", Next().Split(message[at..^1]).Order(StringComparer.Ordinal));
    }

    [GeneratedRegex("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")]
    private static partial Regex Uid();
    [GeneratedRegex(@"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|^\d+[smh]$")]
    private static partial Regex Time();
    [GeneratedRegex(@"[Gg]en[-_][bcdfghjklmnpqrstvwxz2456789]{5}(?![a-z0-9])")]
    private static partial Regex Generated();
    [GeneratedRegex("^(default-token|kube-api-access)-[bcdfghjklmnpqrstvwxz2456789]{5}$")]
    private static partial Regex Token();
    // What a Go decoder says of a wrong type, or a Go differ of two pods, is its own.
    [GeneratedRegex(@"(cannot be handled as a \w+: (?!no kind)|(existing tolerations|previously negative)\)(?=\n)|" +
        @"json parse error: |continue key is not valid: |in record \(|current: |resource version: 1 \(|" +
        @"patch: Invalid value: |Invalid value: (?=""({\\""api|map\[))).*", RegexOptions.Singleline)]
    private static partial Regex Decoding();
    [GeneratedRegex(@", (?=metadata|spec|status|kind|type|data|involved|report|action)")]
    private static partial Regex Next();
}
