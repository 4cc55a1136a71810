// Objects as meta.k8s.io/v1 Tables, with the columns that `kubectl get` shows, and as PartialObjectMetadata.

using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

static class Tables
{
    /// <summary>A column: its name (one that begins with + is for `-o wide`) and what it shows of an object.</summary>
    sealed record Column(string Name, Func<JsonObject, DateTimeOffset, JsonNode?> Value)
    {
        public string Type { get; init; } = "string";
        public string Format { get; init; } = "";
        public string Description { get; init; } = "";
    }

    public static ApiResponse Show(ApiRequest request, ResourceType type, ApiResponse response, DateTimeOffset now)
    {
        var accept = request.Accept.Split(',')[0];
        if (accept.Contains("as=Table")) return Table(request, type, response, now);
        if (!accept.Contains("as=PartialObjectMetadata")) return response;
        if (response.Items is null) return response with { Body = Metadata(response.Body) };
        var list = response.Body.Clone();
        (list["kind"], list["apiVersion"]) = ("PartialObjectMetadataList", "meta.k8s.io/v1");
        return response with { Body = list, Items = [.. response.Items.Select(Metadata)], BareItems = false };
    }

    static JsonObject Metadata(JsonObject o) => new()
    {
        ["kind"] = "PartialObjectMetadata",
        ["apiVersion"] = "meta.k8s.io/v1",
        ["metadata"] = o["metadata"]!.DeepClone(),
    };

    static ApiResponse Table(ApiRequest request, ResourceType type, ApiResponse response, DateTimeOffset now)
    {
        var columns = Columns(type);
        var objects = response.Items ?? [response.Body];
        var bookmark = response.Items is null && response.Body.At("metadata", "uid") is null;
        var include = request.Param("includeObject");
        var rows = objects.Where(_ => !bookmark).Select(o => new JsonObject
        {
            ["cells"] = new JsonArray([.. columns.Select(c => c.Value(o, now))]),
            ["object"] = include switch
            {
                "None" => null,
                "Object" => o.Clone(),
                _ => Metadata(o),
            },
        }).ToArray();
        foreach (var (row, o) in rows.Zip(objects)) AddConditions(type, row, o);
        var meta = response.Items is null
            ? new JsonObject { ["resourceVersion"] = response.Body.Text("metadata", "resourceVersion") }
            : new JsonObject(response.Body["metadata"]!.AsObject().Where(f => !f.Value.IsEmpty())
                .Select(f => KeyValuePair.Create(f.Key, f.Value?.DeepClone())));
        return new(response.Code, new()
        {
            ["kind"] = "Table",
            ["apiVersion"] = "meta.k8s.io/v1",
            ["metadata"] = meta,
            ["columnDefinitions"] = new JsonArray([.. columns.Select(c => new JsonObject
            {
                ["name"] = c.Name.TrimStart('+'),
                ["type"] = c.Type,
                ["format"] = c.Format,
                ["description"] = c.Description,
                ["priority"] = c.Name[0] == '+' ? 1L : 0L,
            })]),
            ["rows"] = new JsonArray(rows),
        });
    }

    /// <summary>Tells kubectl that a pod is over.</summary>
    static void AddConditions(ResourceType type, JsonObject row, JsonObject o)
    {
        if (!type.IsPod || o.Text("status", "phase") is not ("Succeeded" or "Failed")) return;
        var phase = o.Text("status", "phase")!;
        row["conditions"] = new JsonArray(new JsonObject
        {
            ["type"] = "Completed", ["status"] = "True", ["reason"] = phase,
            ["message"] = phase == "Failed" ? "The pod failed." : "The pod has completed successfully.",
        });
    }

    static Column[] Columns(ResourceType type) => type.IsCustom ? Custom(type) : type.Plural switch
    {
        "pods" => Pods,
        "events" => Events,
        "namespaces" => [Name, Text("Status", "status", "phase"), Age],
        "nodes" => Nodes,
        "configmaps" => [Name, Count("Data", "data", "binaryData"), Age],
        "secrets" => [Name, Text("Type", "type"), Count("Data", "data"), Age],
        "serviceaccounts" => [Name, Age],
        "resourcequotas" => [Name, Age, new("Request", (o, _) => Used(o)), new("Limit", (_, _) => "")],
        "leases" => [Name, Text("Holder", "spec", "holderIdentity"), Age],
        "deployments" => Deployments,
        "jobs" => Jobs,
        "rolebindings" or "clusterrolebindings" =>
            [Name, new("Role", (o, _) => $"{o.Text("roleRef", "kind")}/{o.Text("roleRef", "name")}"), Age],
        _ => [Name, new("Created At", (o, _) => o.Text("metadata", "creationTimestamp")) { Type = "date" }],
    };

    static readonly Column Name = new("Name", (o, _) => o.Text("metadata", "name")) { Format = "name" };
    static readonly Column Age = new("Age", (o, now) => Since(o.Text("metadata", "creationTimestamp"), now));

    static Column Text(string name, params string[] path) => new(name, (o, _) => o.Text(path) ?? "");

    static Column Or(string name, params string[] path) =>
        new(name, (o, _) => o.Text(path) is { Length: > 0 } text ? text : "<none>");

    static Column Count(string name, params string[] fields) => new(name, (o, _) =>
        fields.Sum(f => o[f] switch { JsonObject map => (long)map.Count, JsonArray list => list.Count, _ => 0 }));

    static JsonNode Since(string? time, DateTimeOffset now) =>
        Json.ReadTime(time) is { } at ? Duration(now - at) : "<unknown>";

    /// <summary>As kubectl shows ages: 12s, 3m5s, 25m, 3h12m, 2d4h, 9d, 2y3d.</summary>
    public static string Duration(TimeSpan span)
    {
        var s = (long)span.TotalSeconds;
        if (s < -1) return "<invalid>";
        if (s < 0) return "0s";
        if (s < 120) return $"{s}s";
        static string Two(long whole, string unit, long rest, string small) =>
            rest == 0 ? $"{whole}{unit}" : $"{whole}{unit}{rest}{small}";
        var (m, h, d) = (s / 60, s / 3600, s / 86400);
        if (m < 10) return Two(m, "m", s % 60, "s");
        if (m < 180) return $"{m}m";
        if (h < 8) return Two(h, "h", m % 60, "m");
        if (h < 48) return $"{h}h";
        if (h < 192) return Two(d, "d", h % 24, "h");
        if (d < 730) return $"{d}d";
        return d < 2920 ? Two(d / 365, "y", d % 365, "d") : $"{d / 365}y";
    }

    // ----- pods

    static readonly Column[] Pods =
    [
        Name,
        new("Ready", (o, _) => $"{Statuses(o).Count(s => s.IsTrue("ready") && s.At("state", "running") is not null)}" +
            $"/{o["spec"].Items("containers").Count()}"),
        new("Status", (o, _) => Reason(o)),
        new("Restarts", (o, now) => Restarts(o, now)),
        Age,
        Or("+IP", "status", "podIP"),
        Or("+Node", "spec", "nodeName"),
        Or("+Nominated Node", "status", "nominatedNodeName"),
        new("+Readiness Gates", (_, _) => "<none>"),
    ];

    static IEnumerable<JsonObject> Statuses(JsonObject pod) => pod["status"].Items("containerStatuses");

    static string Restarts(JsonObject pod, DateTimeOffset now)
    {
        var restarts = Statuses(pod).Sum(s => s.Long("restartCount") ?? 0);
        var last = Statuses(pod).Max(s => s.Text("lastState", "terminated", "finishedAt"));
        return restarts == 0 || last is null ? $"{restarts}" : $"{restarts} ({Since(last, now)} ago)";
    }

    static string Reason(JsonObject pod)
    {
        var status = pod["status"];
        var reason = status.Text("reason") is { Length: > 0 } said ? said : status.Text("phase") ?? "";
        var (initializing, number) = (false, 0);
        foreach (var container in status.Items("initContainerStatuses"))
        {
            var state = container["state"];
            number++;
            if (state.At("terminated") is { } ended && ended.Long("exitCode") == 0) continue;
            var total = pod["spec"].Items("initContainers").Count();
            reason = state.At("terminated") is { } failed ? "Init:" + Ended(failed)
                : state.Text("waiting", "reason") is { Length: > 0 } why and not "PodInitializing" ? "Init:" + why
                : $"Init:{number - 1}/{total}";
            initializing = true;
            break;
        }
        if (!initializing)
        {
            var running = false;
            foreach (var container in Statuses(pod).Reverse())
            {
                var state = container["state"];
                if (state.Text("waiting", "reason") is { Length: > 0 } why) reason = why;
                else if (state.At("terminated") is { } ended) reason = Ended(ended);
                else if (container.IsTrue("ready") && state.At("running") is not null) running = true;
            }
            if (reason == "Completed" && running)
                reason = status.Items("conditions").Any(c => c.Text("type") == "Ready" && c.Text("status") == "True")
                    ? "Running" : "NotReady";
        }
        if (pod.At("metadata", "deletionTimestamp") is null || Store.IsOver(pod)) return reason;
        return status.Text("reason") == "NodeLost" ? "Unknown" : "Terminating";
    }

    static string Ended(JsonNode ended) => ended.Text("reason") is { Length: > 0 } reason ? reason
        : ended.Long("signal") is { } signal and not 0 ? $"Signal:{signal}" : $"ExitCode:{ended.Long("exitCode")}";

    // ----- events, nodes, workloads, quotas

    static readonly Column[] Events =
    [
        new("Last Seen", (o, now) => Since(First(o, "lastTimestamp", "eventTime"), now)),
        Text("Type", "type"),
        Text("Reason", "reason"),
        new("Object", (o, _) =>
            $"{o.Text("involvedObject", "kind")?.ToLowerInvariant()}/{o.Text("involvedObject", "name")}"),
        Text("+Subobject", "involvedObject", "fieldPath"),
        new("+Source", (o, _) => string.Join(", ", new[] { o.Text("source", "component") is { Length: > 0 } source
            ? source : o.Text("reportingComponent"), o.Text("source", "host") }.Where(s => !string.IsNullOrEmpty(s)))),
        new("Message", (o, _) => (o.Text("message") ?? "").Trim()),
        new("+First Seen", (o, now) => Since(First(o, "firstTimestamp", "eventTime"), now)),
        new("+Count", (o, _) => o.Long("count") is { } n and > 0 ? n : 1L),
        new("+Name", (o, _) => o.Text("metadata", "name")) { Format = "name" },
    ];

    static string? First(JsonObject o, string one, string other) => o.Text(one) ?? o.Text(other);

    static readonly Column[] Nodes =
    [
        Name,
        new("Status", (o, _) => (o["status"].Items("conditions").FirstOrDefault(c => c.Text("type") == "Ready")
            .Text("status") switch { "True" => "Ready", null => "Unknown", _ => "NotReady" })
            + (o["spec"].IsTrue("unschedulable") ? ",SchedulingDisabled" : "")),
        new("Roles", (o, _) => string.Join(",", (o.At("metadata", "labels") as JsonObject ?? [])
            .Where(l => l.Key.StartsWith("node-role.kubernetes.io/", StringComparison.Ordinal))
            .Select(l => l.Key.Split('/')[1]).DefaultIfEmpty("<none>"))),
        Age,
        Text("Version", "status", "nodeInfo", "kubeletVersion"),
    ];

    static readonly Column[] Deployments =
    [
        Name,
        new("Ready", (o, _) => $"{o.Long("status", "readyReplicas") ?? 0}/{o.Long("spec", "replicas") ?? 1}"),
        new("Up-to-date", (o, _) => o.Long("status", "updatedReplicas") ?? 0L),
        new("Available", (o, _) => o.Long("status", "availableReplicas") ?? 0L),
        Age,
    ];

    static readonly Column[] Jobs =
    [
        Name,
        new("Status", (o, _) => o.At("status").Items("conditions").Select(c => c.Text("type"))
            .FirstOrDefault(t => t is "Complete" or "Failed") ?? "Running"),
        new("Completions", (o, _) => $"{o.Long("status", "succeeded") ?? 0}/{o.Long("spec", "completions") ?? 1}"),
        Age,
    ];

    static string Used(JsonObject quota) => string.Join(", ", (quota.At("status", "hard") as JsonObject ?? [])
        .OrderBy(h => h.Key, StringComparer.Ordinal)
        .Select(h => $"{h.Key}: {quota.At("status", "used").Text(h.Key) ?? "0"}/{h.Value.Text()}"));

    // ----- custom resources: their own columns, by the simple paths that they give

    static Column[] Custom(ResourceType type) =>
    [
        Name,
        .. type.Columns!.OfType<JsonObject>().Select(c => new Column(
            ((c.Long("priority") ?? 0) > 0 ? "+" : "") + c.Text("name"),
            (o, now) => Cell(o, c.Text("jsonPath")!, c.Text("type")!, now))
        {
            Type = c.Text("type")!,
            Format = c.Text("format") ?? "",
            Description = c.Text("description")
                ?? "Custom resource definition column (in JSONPath format): " + c.Text("jsonPath"),
        }),
    ];

    static JsonNode? Cell(JsonObject o, string path, string type, DateTimeOffset now)
    {
        JsonNode? node = o;
        foreach (Match step in Regex.Matches(path,
            """\.([^.\[]+)|\['([^']+)'\]|\[(\d+)\]|\[\?\(@\.(\w+)=="([^"]*)"\)\]"""))
            node = step.Groups[4].Success
                ? (node as JsonArray)?.FirstOrDefault(i => i.Text(step.Groups[4].Value) == step.Groups[5].Value)
                : step.Groups[3].Success
                ? (node as JsonArray)?.ElementAtOrDefault(int.Parse(step.Groups[3].Value, CultureInfo.InvariantCulture))
                : node.At(step.Groups[1].Success ? step.Groups[1].Value : step.Groups[2].Value);
        if (node is null) return null;
        return type == "date" ? Since(node.Text(), now) : type == "string" && node.Text() is null
            ? JsonValue.Create(node.ToJsonString()) : node.DeepClone();
    }
}
