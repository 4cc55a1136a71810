// What the API server does to a pod: defaults, the parts of admission that matter here, validation.

using System.Globalization;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

static class Pods
{
    public static IEnumerable<JsonObject> Containers(JsonNode? spec) =>
        spec.Items("initContainers").Concat(spec.Items("containers"));

    // ----- defaults

    /// <summary>What decoding a pod fills in.</summary>
    public static void SetDefaults(JsonObject pod)
    {
        var spec = pod.Child("spec");
        spec.Default("restartPolicy", "Always");
        spec.Default("dnsPolicy", "ClusterFirst");
        spec.Default("terminationGracePeriodSeconds", 30L);
        spec.Default("securityContext", new JsonObject());
        spec.Default("schedulerName", "default-scheduler");
        spec.Default("enableServiceLinks", true);
        if (spec.Text("serviceAccountName") is { } account) spec["serviceAccount"] = account;
        else if (spec.Text("serviceAccount") is { } old) spec["serviceAccountName"] = old;
        if (spec.IsTrue("hostNetwork"))
            foreach (var port in Containers(spec).SelectMany(c => c.Items("ports")))
                if (port.Long("containerPort") is { } number) port.Default("hostPort", number);
        foreach (var container in Containers(spec)) SetContainerDefaults(container);
        foreach (var volume in spec.Items("volumes")) SetVolumeDefaults(volume);
        var status = pod.Child("status");
        status.Default("phase", "Pending");
        if (status.Text("podIP") is { Length: > 0 } ip)
            status.Default("podIPs", new JsonArray(new JsonObject { ["ip"] = ip }));
    }

    static void SetContainerDefaults(JsonObject container)
    {
        container.Default("terminationMessagePath", "/dev/termination-log");
        container.Default("terminationMessagePolicy", "File");
        container.Default("imagePullPolicy", IsLatest(container.Text("image") ?? "") ? "Always" : "IfNotPresent");
        foreach (var variable in container.Items("env"))
        {
            if (variable.At("valueFrom", "fieldRef") is JsonObject field) field.Default("apiVersion", "v1");
            if (variable.At("valueFrom", "resourceFieldRef") is JsonObject resource) resource.Default("divisor", "0");
        }
        foreach (var port in container.Items("ports")) port.Default("protocol", "TCP");
        foreach (var name in (string[])["livenessProbe", "readinessProbe", "startupProbe"])
        {
            if (container[name] is not JsonObject probe) continue;
            probe.Default("timeoutSeconds", 1L);
            probe.Default("periodSeconds", 10L);
            probe.Default("successThreshold", 1L);
            probe.Default("failureThreshold", 3L);
            if (probe["httpGet"] is not JsonObject http) continue;
            http.Default("path", "/");
            http.Default("scheme", "HTTP");
        }
        var resources = container.Child("resources");
        if (resources["limits"] is JsonObject limits)
            foreach (var (name, amount) in limits) resources.Child("requests").Default(name, amount!.DeepClone());
    }

    static bool IsLatest(string image)
    {
        if (image.Contains('@')) return false;
        var (colon, slash) = (image.LastIndexOf(':'), image.LastIndexOf('/'));
        return colon <= slash || image[(colon + 1)..] == "latest";
    }

    static void SetVolumeDefaults(JsonObject volume)
    {
        const long mode = 420;
        foreach (var name in (string[])["secret", "configMap", "downwardAPI", "projected"])
            if (volume[name] is JsonObject source) source.Default("defaultMode", mode);
        if (volume["hostPath"] is JsonObject host) host.Default("type", "");
        foreach (var source in volume.At("projected").Items("sources"))
            if (source["serviceAccountToken"] is JsonObject token) token.Default("expirationSeconds", 3600L);
        foreach (var item in volume.At("downwardAPI").Items("items"))
            if (item["fieldRef"] is JsonObject field) field.Default("apiVersion", "v1");
        if (volume.Count == 1) volume["emptyDir"] = new JsonObject();
    }

    // ----- admission

    /// <summary>Service account, priority and the tolerations that every pod gets.</summary>
    public static void Admit(JsonObject pod, Func<string, JsonObject?> serviceAccount)
    {
        var (name, ns, spec) = (pod.Text("metadata", "name"), pod.Text("metadata", "namespace"), pod.Child("spec"));
        spec.Default("serviceAccountName", "default");
        var account = spec.Text("serviceAccountName")!;
        spec["serviceAccount"] = account;
        if (serviceAccount(account) is not { } found)
            throw Refuse.With(403, "Forbidden", $"pods \"{name}\" is forbidden: error looking up service account " +
                $"{ns}/{account}: serviceaccount \"{account}\" not found",
                new() { ["name"] = name, ["kind"] = "pods" });
        if (spec["imagePullSecrets"] is null) spec.Put("imagePullSecrets", found["imagePullSecrets"]);
        spec.Default("priority", 0L);
        spec.Default("preemptionPolicy", "PreemptLowerPriority");
        AddTolerations(spec);
        pod["status"] = new JsonObject { ["phase"] = "Pending", ["qosClass"] = QosClass(spec) };
    }

    /// <summary>Gives the containers what a LimitRange says for those that say nothing; it enforces nothing.</summary>
    public static void SetLimits(JsonObject pod, JsonObject range)
    {
        var set = new List<string>();
        foreach (var item in range.At("spec").Items("limits").Where(i => i.Text("type") == "Container"))
            foreach (var list in (string[])["containers", "initContainers"])
                foreach (var container in pod["spec"].Items(list))
                {
                    var name = $"{(list == "containers" ? "" : "init ")}container {container.Text("name")}";
                    Set(container, "requests", item["defaultRequest"], name);
                    Set(container, "limits", item["default"], name);
                }
        if (set.Count == 0) return;
        pod.Child("metadata").Child("annotations")["kubernetes.io/limit-ranger"] =
            $"LimitRanger plugin set: {string.Join("; ", set)}";

        void Set(JsonObject container, string what, JsonNode? values, string name)
        {
            var missing = (values as JsonObject ?? [])
                .Where(v => container.At("resources", what).At(v.Key) is null).OrderBy(v => v.Key).ToList();
            foreach (var (resource, amount) in missing)
                container.Child("resources").Child(what)[resource] = amount!.DeepClone();
            if (missing.Count > 0) set.Add($"{string.Join(", ", missing.Select(v => v.Key))} {what[..^1]} for {name}");
        }
    }

    /// <summary>Every pod stays for five minutes on a node that is lost.</summary>
    public static void AddTolerations(JsonObject spec)
    {
        foreach (var taint in (string[])["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"])
        {
            if (spec.Items("tolerations").Any(t => (t.Text("key") ?? taint) == taint
                && t.Text("effect") is null or "NoExecute")) continue;
            if (spec["tolerations"] is not JsonArray list) spec["tolerations"] = list = [];
            list.Add((JsonNode)new JsonObject
            {
                ["key"] = taint, ["operator"] = "Exists", ["effect"] = "NoExecute", ["tolerationSeconds"] = 300L,
            });
        }
    }

    static string QosClass(JsonNode spec)
    {
        static bool Has(JsonObject container, string kind, string resource) =>
            container.At("resources", kind).At(resource) is { } amount && amount.Text() != "0";
        var all = Containers(spec).ToList();
        string[] counted = ["cpu", "memory"];
        if (!all.Exists(c => counted.Any(r => Has(c, "limits", r) || Has(c, "requests", r)))) return "BestEffort";
        return all.TrueForAll(c => counted.All(r => Has(c, "limits", r)
            && Json.Same(c.At("resources", "limits").At(r), c.At("resources", "requests").At(r))))
            ? "Guaranteed" : "Burstable";
    }

    // ----- validation

    public static void Validate(JsonObject pod, List<Cause> causes)
    {
        var spec = pod["spec"];
        var volumes = ValidateVolumes(spec, causes);
        var names = new HashSet<string>();
        foreach (var list in (string[])["containers", "initContainers"])
        {
            var containers = spec.Items(list).ToList();
            if (containers.Count == 0 && list == "containers") causes.Add(Cause.Required("spec.containers"));
            for (var i = 0; i < containers.Count; i++)
                ValidateContainer(containers[i], $"spec.{list}[{i}]", names, volumes, causes);
        }
        OneOf(spec, "spec", "restartPolicy", causes, "Always", "OnFailure", "Never");
        OneOf(spec, "spec", "dnsPolicy", causes, "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None");
        Validation.Labels(spec.At("nodeSelector") as JsonObject, "spec.nodeSelector", causes);
        ValidateUsers(spec.At("securityContext"), "spec.securityContext", causes);
        foreach (var field in (string[])["serviceAccountName", "nodeName", "priorityClassName"])
            if (spec.Text(field) is { Length: > 0 } name)
                foreach (var wrong in Validation.DnsSubdomain(name))
                    causes.Add(Cause.Text($"spec.{field}", name, wrong));
        Between(spec, "spec", "activeDeadlineSeconds", 1, causes);
        foreach (var field in (string[])["hostname", "subdomain"])
            if (spec.Text(field) is { Length: > 0 } name)
                foreach (var wrong in Validation.DnsLabel(name)) causes.Add(Cause.Text($"spec.{field}", name, wrong));
        ValidateTolerations(spec, causes);
    }

    static void Between(JsonNode? node, string path, string field, long least, List<Cause> causes)
    {
        if (node.Long(field) is { } n && (n < least || n > int.MaxValue))
            causes.Add(Cause.Invalid($"{path}.{field}", n.ToString(CultureInfo.InvariantCulture),
                $"must be between {least} and {int.MaxValue}, inclusive"));
    }

    static void OneOf(JsonNode? node, string path, string field, List<Cause> causes, params string[] supported)
    {
        if (node.Text(field) is { } value && !supported.Contains(value))
            causes.Add(Cause.NotSupported($"{path}.{field}", Cause.Quote(value), supported));
    }

    static void ValidateUsers(JsonNode? context, string path, List<Cause> causes)
    {
        foreach (var field in (string[])["fsGroup", "runAsUser", "runAsGroup"])
            Between(context, path, field, 0, causes);
    }

    static HashSet<string> ValidateVolumes(JsonNode? spec, List<Cause> causes)
    {
        var names = new HashSet<string>();
        var i = 0;
        foreach (var volume in spec.Items("volumes"))
        {
            var (path, before) = ($"spec.volumes[{i++}]", causes.Count);
            var name = volume.Text("name") ?? "";
            var sources = volume.Count(v => v.Key != "name");
            if (sources > 1)
                causes.Add(Cause.Forbidden($"{path}.{volume.Last(v => v.Key != "name").Key}",
                    "may not specify more than 1 volume type"));
            if (volume["secret"] is { } secret && secret.Text("secretName") is null or "")
                causes.Add(Cause.Required($"{path}.secret.secretName"));
            if (volume["configMap"] is { } map && map.Text("name") is null or "")
                causes.Add(Cause.Required($"{path}.configMap.name"));
            if (name.Length == 0) causes.Add(Cause.Required($"{path}.name"));
            else foreach (var wrong in Validation.DnsLabel(name)) causes.Add(Cause.Text($"{path}.name", name, wrong));
            if (names.Contains(name)) causes.Add(Cause.Duplicate($"{path}.name", name));
            if (causes.Count == before) names.Add(name);
        }
        return names;
    }

    static void ValidateContainer(
        JsonObject container, string path, HashSet<string> names, HashSet<string> volumes, List<Cause> causes)
    {
        var name = container.Text("name") ?? "";
        if (name.Length == 0) causes.Add(Cause.Required($"{path}.name"));
        else foreach (var wrong in Validation.DnsLabel(name)) causes.Add(Cause.Text($"{path}.name", name, wrong));
        if (!names.Add(name)) causes.Add(Cause.Duplicate($"{path}.name", name));
        if (container.Text("image") is null or "") causes.Add(Cause.Required($"{path}.image"));
        OneOf(container, path, "terminationMessagePolicy", causes, "File", "FallbackToLogsOnError");
        ValidatePorts(container, path, causes);
        ValidateEnv(container, path, causes);
        ValidateEnvFrom(container, path, causes);
        ValidateMounts(container, path, volumes, causes);
        OneOf(container, path, "imagePullPolicy", causes, "Always", "IfNotPresent", "Never");
        ValidateResources(container["resources"], $"{path}.resources", causes);
        ValidateUsers(container["securityContext"], $"{path}.securityContext", causes);
    }

    static void ValidatePorts(JsonObject container, string path, List<Cause> causes)
    {
        var i = 0;
        foreach (var port in container.Items("ports"))
        {
            var at = $"{path}.ports[{i++}]";
            foreach (var field in (string[])["containerPort", "hostPort"])
            {
                var number = port.Long(field) ?? 0;
                if (number == 0 && field == "containerPort") causes.Add(Cause.Required($"{at}.{field}"));
                else if (number is < 0 or > 65535)
                    causes.Add(Cause.Invalid($"{at}.{field}", $"{number}", "must be between 1 and 65535, inclusive"));
            }
            OneOf(port, at, "protocol", causes, "SCTP", "TCP", "UDP");
        }
    }

    static void ValidateEnv(JsonObject container, string path, List<Cause> causes)
    {
        string[] known = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
        var i = 0;
        foreach (var variable in container.Items("env"))
        {
            var at = $"{path}.env[{i++}]";
            var name = variable.Text("name") ?? "";
            if (name.Length == 0) causes.Add(Cause.Required($"{at}.name"));
            else foreach (var wrong in Validation.Env(name)) causes.Add(Cause.Text($"{at}.name", name, wrong));
            if (variable["valueFrom"] is not JsonObject from) continue;
            var source = $"{at}.valueFrom";
            if (from["fieldRef"] is { } field) ValidateFieldRef(field, $"{source}.fieldRef", causes);
            if (from["resourceFieldRef"] is { } resource && resource.Text("resource") is null or "")
                causes.Add(Cause.Required($"{source}.resourceFieldRef.resource"));
            foreach (var kind in (string[])["configMapKeyRef", "secretKeyRef"])
                if (from[kind] is { } reference) ValidateKeyRef(reference, $"{source}.{kind}", causes);
            var sources = known.Count(from.ContainsKey);
            if (sources == 0)
                causes.Add(Cause.Text(source, "",
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, " +
                    "`secretKeyRef` or `fileKeyRef`"));
            else if (variable.Text("value") is { Length: > 0 })
                causes.Add(Cause.Text(source, "", "may not be specified when `value` is not empty"));
            else if (sources > 1)
                causes.Add(Cause.Text(source, "", "may not have more than one field specified at a time"));
        }
    }

    static void ValidateFieldRef(JsonNode field, string path, List<Cause> causes)
    {
        var name = field.Text("fieldPath") ?? "";
        string[] supported = ["metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
            "spec.serviceAccountName", "status.hostIP", "status.podIP", "status.podIPs"];
        if (name.Length == 0) causes.Add(Cause.Required($"{path}.fieldPath"));
        else if (!supported.Contains(name) && !name.StartsWith("metadata.labels[", StringComparison.Ordinal)
            && !name.StartsWith("metadata.annotations[", StringComparison.Ordinal))
            causes.Add(Cause.Text($"{path}.fieldPath", name,
                $"error converting fieldPath: field label not supported: {name}"));
    }

    static void ValidateKeyRef(JsonNode reference, string path, List<Cause> causes)
    {
        var (name, key) = (reference.Text("name") ?? "", reference.Text("key") ?? "");
        foreach (var wrong in Validation.DnsSubdomain(name)) causes.Add(Cause.Text($"{path}.name", name, wrong));
        if (key.Length == 0) causes.Add(Cause.Required($"{path}.key"));
    }

    static void ValidateEnvFrom(JsonObject container, string path, List<Cause> causes)
    {
        foreach (var from in container.Items("envFrom"))
        {
            var sources = (from.ContainsKey("configMapRef") ? 1 : 0) + (from.ContainsKey("secretRef") ? 1 : 0);
            if (sources != 1)
                causes.Add(Cause.Text($"{path}.envFrom", "", sources == 0
                    ? "must specify one of: `configMapRef` or `secretRef`"
                    : "may not have more than one field specified at a time"));
        }
    }

    static void ValidateMounts(JsonObject container, string path, HashSet<string> volumes, List<Cause> causes)
    {
        var (i, paths) = (0, new HashSet<string>());
        foreach (var mount in container.Items("volumeMounts"))
        {
            var at = $"{path}.volumeMounts[{i++}]";
            var (name, target) = (mount.Text("name") ?? "", mount.Text("mountPath") ?? "");
            if (name.Length == 0) causes.Add(Cause.Required($"{at}.name"));
            if (!volumes.Contains(name)) causes.Add(Cause.NotFound($"{at}.name", name));
            if (target.Length == 0) causes.Add(Cause.Required($"{at}.mountPath"));
            if (!paths.Add(target)) causes.Add(Cause.Text($"{at}.mountPath", target, "must be unique"));
        }
    }

    static void ValidateResources(JsonNode? resources, string path, List<Cause> causes)
    {
        foreach (var list in (string[])["limits", "requests"])
            foreach (var (name, node) in resources.At(list) as JsonObject ?? [])
            {
                var at = $"{path}.{list}[{name}]";
                if (!name.Contains('/') && name is not ("cpu" or "memory" or "ephemeral-storage")
                    && !name.StartsWith("hugepages-", StringComparison.Ordinal))
                    foreach (var wrong in (string[])["must be a standard resource type or fully qualified",
                        "must be a standard resource for containers"])
                        causes.Add(Cause.Text(at, name, wrong));
                if (Quantity.Parse(node.Text()!) is not { } amount) continue;
                if (amount.Value < 0)
                    causes.Add(Cause.Text(at, amount.ToString(), "must be greater than or equal to 0"));
                if (list == "requests" && resources.At("limits", name).Text() is { } most
                    && amount.Value > Quantity.Parse(most)!.Value)
                    causes.Add(Cause.Text($"{path}.requests", amount.ToString(),
                        $"must be less than or equal to {name} limit of {most}"));
            }
    }

    static void ValidateTolerations(JsonNode? spec, List<Cause> causes)
    {
        var i = 0;
        foreach (var toleration in spec.Items("tolerations"))
        {
            var at = $"spec.tolerations[{i++}]";
            var (key, op) = (toleration.Text("key") ?? "", toleration.Text("operator") ?? "");
            if (key.Length > 0)
                foreach (var wrong in Validation.QualifiedName(key)) causes.Add(Cause.Text($"{at}.key", key, wrong));
            else if (op != "Exists")
                causes.Add(Cause.Text($"{at}.operator", op, "operator must be Exists when `key` is empty, which " +
                    "means \"match all values and all keys\""));
            if (toleration["tolerationSeconds"] is not null && toleration.Text("effect") != "NoExecute")
                causes.Add(Cause.Text($"{at}.effect", toleration.Text("effect") ?? "",
                    "effect must be 'NoExecute' when `tolerationSeconds` is set"));
            OneOf(toleration, at, "operator", causes, "Equal", "Exists");
            OneOf(toleration, at, "effect", causes, "NoSchedule", "PreferNoSchedule", "NoExecute");
        }
    }

    /// <summary>Of a pod that is there hardly anything may change.</summary>
    public static void ValidateUpdate(JsonObject before, JsonObject after, List<Cause> causes)
    {
        var (old, next) = (before["spec"], (JsonObject)after["spec"]!);
        foreach (var list in (string[])["containers", "initContainers"])
            if (old.Items(list).Count() != next.Items(list).Count())
            {
                causes.Add(Cause.Forbidden($"spec.{list}", "pod updates may not add or remove containers"));
                return;
            }
        var (deadline, sooner) = (old.Long("activeDeadlineSeconds"), next.Long("activeDeadlineSeconds"));
        if (sooner > deadline)
        {
            causes.Add(Cause.Invalid("spec.activeDeadlineSeconds", $"{sooner}",
                "must be less than or equal to previous value"));
            return;
        }
        if (deadline is not null && sooner is null)
            causes.Add(Cause.Invalid("spec.activeDeadlineSeconds", "null",
                "must not update from a positive integer to nil value"));
        static string Without(JsonNode toleration) =>
            new JsonObject(toleration.AsObject().Where(f => f.Key != "tolerationSeconds").OrderBy(f => f.Key)
                .Select(f => KeyValuePair.Create(f.Key, f.Value?.DeepClone()))).ToJsonString();
        var kept = next.Items("tolerations").Select(Without).ToHashSet();
        if (!old.Items("tolerations").All(t => kept.Contains(Without(t))))
            causes.Add(Cause.Forbidden("spec.tolerations",
                "existing toleration can not be modified except its tolerationSeconds"));
        var munged = next.Clone();
        munged.Put("activeDeadlineSeconds", old.At("activeDeadlineSeconds"));
        munged.Put("tolerations", old.At("tolerations"));
        foreach (var list in (string[])["containers", "initContainers"])
            foreach (var (mine, theirs) in munged.Items(list).Zip(old.Items(list))) mine.Put("image", theirs["image"]);
        if (!Json.Same(munged, old))
            causes.Add(Cause.Forbidden("spec", "pod updates may not change fields other than " +
                "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
                "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` " +
                "(allow it to be set to 1 if it was previously negative)\n"));
    }
}
