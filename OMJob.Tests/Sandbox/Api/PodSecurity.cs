// The Pod Security Standards as the API server enforces them by a namespace's label, in its own words and order. Which
// version of them a namespace wants is not looked at: it gets the latest. Nor are the annotations looked at that once
// were AppArmor profiles.

using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

static class PodSecurity
{
    const string Label = "pod-security.kubernetes.io/enforce";

    /// <summary>Refuses a pod that is not as its namespace demands.</summary>
    public static void Enforce(JsonObject ns, ResourceType type, JsonObject pod)
    {
        if (ns.Text("metadata", "labels", Label) is not { } level) return;
        var violations = Checks.Where(c => c.Levels.Split(' ').Contains(level))
            .Select(c => c.Violation(pod)).OfType<string>();
        if (string.Join(", ", violations) is { Length: > 0 } all)
            throw Refuse.Forbidden(type, pod.Text("metadata", "name") is { Length: > 0 } name ? name
                : pod.Text("metadata", "generateName") ?? "", $"violates PodSecurity \"{level}:latest\": {all}");
    }

    const string Both = "baseline restricted", Baseline = "baseline", Restricted = "restricted";

    static readonly string[]
        Capabilities = ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
            "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"],
        Sysctls = ["kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"],
        Profiles = ["RuntimeDefault", "Localhost"],
        SELinuxTypes = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"],
        VolumeTypes = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
            "projected", "secret"];

    /// <summary>Each tells what is wrong with a pod, if anything is.</summary>
    static readonly (string Levels, Func<JsonObject, string?> Violation)[] Checks =
    [
        (Both, AppArmor),
        (Baseline, pod => Set(pod, c => c.At("capabilities").Strings("add").Except(Capabilities), ofPod: false)
            is { } set ? $"non-default capabilities ({set.By} must not include {Quoted(set.Values)} in " +
                "securityContext.capabilities.add)" : null),
        (Both, pod => Listed("host namespaces", ((string[])["hostNetwork", "hostPID", "hostIPC"])
            .Where(pod["spec"].IsTrue).Select(f => f + "=true"))),
        (Baseline, pod => Volumes(pod, v => v.ContainsKey("hostPath")) is { Count: > 0 } volumes
            ? $"hostPath volumes ({Named("volume", volumes)})" : null),
        (Both, HostPorts),
        (Both, HostsOfProbes),
        (Both, pod => Set(pod, c => c.IsTrue("privileged") ? [""] : [], ofPod: false) is { } set
            ? $"privileged ({set.By} must not set securityContext.privileged=true)" : null),
        (Baseline, pod => HasOwnUsers(pod) ? null : ProcMount(pod)),
        (Both, SELinux),
        (Baseline, SetSeccomp),
        (Both, pod => Listed("forbidden sysctls",
            pod.At("spec", "securityContext").Items("sysctls").Select(s => s.Text("name")!).Except(Sysctls))),
        (Both, pod => Set(pod, c => c.At("windowsOptions").IsTrue("hostProcess") ? [""] : []) is { } set
            ? $"hostProcess ({set.By} must not set securityContext.windowsOptions.hostProcess=true)" : null),
        (Restricted, pod => !IsOfWindows(pod) && Without(pod, c => c.Has("allowPrivilegeEscalation", false)) is { } by
            ? $"allowPrivilegeEscalation != false ({by} must set securityContext.allowPrivilegeEscalation=false)"
            : null),
        (Restricted, pod => IsOfWindows(pod) ? null : UnrestrictedCapabilities(pod)),
        (Restricted, ProcMount),
        (Restricted, RestrictedVolumes),
        (Restricted, pod => HasOwnUsers(pod) ? null : RunAsNonRoot(pod)),
        (Restricted, pod => !HasOwnUsers(pod) && Set(pod, c => c.Long("runAsUser") == 0 ? [""] : []) is { } set
            ? $"runAsUser=0 ({set.By} must not set runAsUser=0)" : null),
        (Restricted, pod => IsOfWindows(pod) ? null : SetSeccomp(pod) ?? NoSeccomp(pod)),
    ];

    static bool IsOfWindows(JsonObject pod) => pod.Text("spec", "os", "name") == "windows";

    static bool HasOwnUsers(JsonObject pod) => pod["spec"].Has("hostUsers", false);

    static bool Has(this JsonNode? node, string field, bool value) => Json.Same(node.At(field), value);

    // ----- who does it

    /// <summary>The pod and the containers whose securityContext has bad values, and these; null where none
    /// has.</summary>
    static (string By, List<string> Values)? Set(
        JsonObject pod, Func<JsonNode?, IEnumerable<string>> bad, bool ofPod = true)
    {
        var containers = Containers(pod).Where(c => bad(c["securityContext"]).Any()).ToList();
        var own = ofPod ? bad(pod.At("spec", "securityContext")).ToList() : [];
        var values = Sorted(own.Concat(containers.SelectMany(c => bad(c["securityContext"]))));
        if (values.Count == 0) return null;
        List<string> by = own.Count > 0 ? ["pod"] : [];
        if (containers.Count > 0) by.Add(Named("container", containers.ConvertAll(NameOf)));
        return (string.Join(" and ", by), values);
    }

    /// <summary>The containers whose securityContext is not good; null where every one is.</summary>
    static string? Without(JsonObject pod, Func<JsonNode?, bool> good) =>
        Containers(pod).Where(c => !good(c["securityContext"])).Select(NameOf).ToList() is { Count: > 0 } names
            ? Named("container", names) : null;

    static IEnumerable<JsonObject> Containers(JsonObject pod) => Pods.Containers(pod["spec"]);

    static List<string> Volumes(JsonObject pod, Func<JsonObject, bool> which) =>
        [.. pod["spec"].Items("volumes").Where(which).Select(NameOf)];

    static string NameOf(JsonObject item) => item.Text("name")!;

    static List<string> Sorted(IEnumerable<string> items) => [.. items.Distinct().Order(StringComparer.Ordinal)];

    static string Quoted(IEnumerable<string> items) => string.Join(", ", items.Select(i => $"\"{i}\""));

    static string Plural(string noun, int count) => count == 1 ? noun : noun + "s";

    static string Named(string noun, List<string> names) => $"{Plural(noun, names.Count)} {Quoted(names)}";

    /// <summary>Who uses what, such as: container "a" uses hostPorts 80, 81.</summary>
    static string Uses(string noun, List<string> names, string what, List<string> used, string shown) =>
        $"{Named(noun, names)} {(names.Count == 1 ? "uses" : "use")} {Plural(what, used.Count)} {shown}";

    static string? Listed(string reason, IEnumerable<string> items) =>
        string.Join(", ", items) is { Length: > 0 } all ? $"{reason} ({all})" : null;

    // ----- what takes more words

    static string? AppArmor(JsonObject pod) =>
        Set(pod, c => c.Text("appArmorProfile", "type") is { } type ? new[] { type }.Except(Profiles) : []) is { } set
            ? $"{Plural("forbidden AppArmor profile", set.Values.Count)} " +
                $"({set.By} must not set AppArmor profile type to {Quoted(set.Values)})" : null;

    static string? HostPorts(JsonObject pod)
    {
        var ports = Containers(pod)
            .SelectMany(c => c.Items("ports"), (c, p) => (Name: NameOf(c), Port: p.Long("hostPort")))
            .Where(p => p.Port is not (null or 0)).ToList();
        var used = Sorted(ports.Select(p => $"{p.Port}"));
        return used.Count == 0 ? null : $"hostPort ({Uses("container", [.. ports.Select(p => p.Name).Distinct()],
            "hostPort", used, string.Join(", ", used))})";
    }

    static string? HostsOfProbes(JsonObject pod)
    {
        string[][] handlers = [["livenessProbe"], ["readinessProbe"], ["startupProbe"], ["lifecycle", "postStart"],
            ["lifecycle", "preStop"]];
        var hosts = Containers(pod).SelectMany(c => handlers.SelectMany(h =>
                new[] { c.At(h).Text("httpGet", "host"), c.At(h).Text("tcpSocket", "host") }),
            (c, host) => (Name: NameOf(c), Host: host)).Where(h => h.Host is { Length: > 0 }).ToList();
        var used = Sorted(hosts.Select(h => h.Host!));
        return used.Count == 0 ? null : $"probe or lifecycle host ({Uses("container",
            Sorted(hosts.Select(h => h.Name)), "probe or lifecycle host", used, Quoted(used))})";
    }

    static string? ProcMount(JsonObject pod) =>
        Set(pod, c => c.Text("procMount") is { } mount and not "Default" ? [mount] : [], ofPod: false) is { } set
            ? $"procMount ({set.By} must not set securityContext.procMount to {Quoted(set.Values)})" : null;

    static string? SELinux(JsonObject pod)
    {
        // A type begins with a colon, so that it is neither of the two others.
        if (Set(pod, c => c.At("seLinuxOptions") is not JsonObject options ? []
            : new[] { options.Text("type") ?? "" }.Except(SELinuxTypes).Select(t => $":{t}")
                .Concat(((string[])["user", "role"]).Where(f => options.Text(f) is { Length: > 0 }))) is not { } set)
            return null;
        var types = set.Values.Where(v => v[0] == ':').Select(v => v[1..]).ToList();
        List<string> data = types.Count > 0 ? [Named("type", types)] : [];
        data.AddRange(((string[])["user", "role"]).Where(set.Values.Contains).Select(f => $"{f} may not be set"));
        return $"seLinuxOptions ({set.By} set forbidden securityContext.seLinuxOptions: {string.Join("; ", data)})";
    }

    static IEnumerable<string> Seccomp(JsonNode? context) =>
        context.Text("seccompProfile", "type") is { } type ? [type] : [];

    static string? SetSeccomp(JsonObject pod) => Set(pod, c => Seccomp(c).Except(Profiles)) is { } set
        ? $"seccompProfile ({set.By} must not set securityContext.seccompProfile.type to {Quoted(set.Values)})" : null;

    static string? NoSeccomp(JsonObject pod) => !Seccomp(pod.At("spec", "securityContext")).Any()
        && Without(pod, c => Seccomp(c).Any()) is { } by ? $"seccompProfile (pod or {by} must set " +
            "securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")" : null;

    static string? UnrestrictedCapabilities(JsonObject pod)
    {
        var details = new List<string>();
        if (Without(pod, c => c.At("capabilities").Strings("drop").Contains("ALL")) is { } by)
            details.Add($"{by} must set securityContext.capabilities.drop=[\"ALL\"]");
        if (Set(pod, c => c.At("capabilities").Strings("add").Except(["NET_BIND_SERVICE"]), ofPod: false) is { } set)
            details.Add($"{set.By} must not include {Quoted(set.Values)} in securityContext.capabilities.add");
        return details.Count == 0 ? null : $"unrestricted capabilities ({string.Join("; ", details)})";
    }

    static string? RestrictedVolumes(JsonObject pod)
    {
        static IEnumerable<string> Types(JsonObject volume) => volume.Select(f => f.Key).Where(f => f != "name");
        var volumes = Volumes(pod, v => !Types(v).Intersect(VolumeTypes).Any());
        var types = Sorted(pod["spec"].Items("volumes").SelectMany(Types).Except(VolumeTypes));
        return volumes.Count == 0 ? null : $"restricted volume types ({Uses("volume", volumes,
            "restricted volume type", types, Quoted(types))})";
    }

    static string? RunAsNonRoot(JsonObject pod)
    {
        if (Set(pod, c => c.Has("runAsNonRoot", false) ? [""] : []) is { } set)
            return $"runAsNonRoot != true ({set.By} must not set securityContext.runAsNonRoot=false)";
        return !pod.At("spec", "securityContext").IsTrue("runAsNonRoot")
            && Without(pod, c => c.IsTrue("runAsNonRoot")) is { } by
                ? $"runAsNonRoot != true (pod or {by} must set securityContext.runAsNonRoot=true)" : null;
    }
}
