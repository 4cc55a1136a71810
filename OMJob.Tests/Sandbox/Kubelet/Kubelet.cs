// A kubelet that works only through the API. It registers a node of its own, binds to it the pods of the namespaces
// that it serves, runs their containers as local processes and writes the status that a real kubelet would: Pending,
// Running, terminated with exit code, reason and times, Succeeded or Failed. It obeys deletion (SIGTERM, grace period,
// SIGKILL, status, then the object) and activeDeadlineSeconds. restartPolicy is taken for Never; images, volumes and
// probes are not looked at; ready means running.
//
// Annotations of the pod say what a process cannot do. All but the first may also come while the pod runs:
//
//   kubelet/script      a shell script to run instead of main's command, which needs an image that is not there
//   kubelet/exit        "137 OOMKilled": main ends at once with this exit code and reason; a process of it is killed
//   kubelet/fail        "Evicted some words": the pod is Failed with this reason and message. Before the start it is
//                       refused by the kubelet and has no container statuses; later its containers are killed
//   kubelet/disruption  the reason of a DisruptionTarget condition
//   kubelet/waiting     "ImagePullBackOff some words": stays Pending with this waiting reason
//   kubelet/sidecar     the name of one more container, which runs until the pod is stopped
//   kubelet/lost        the node is lost: nothing is written, stopped or finished any more

using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

/// <summary>Signals, which .NET does not send.</summary>
static class Posix
{
    public const int SigKill = 9, SigTerm = 15;

    /// <summary>To a process, or to the process group of a negative id; one that is gone does not mind.</summary>
    public static void Signal(int pid, int signal) => _ = kill(pid, signal);

    [DllImport("libc")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    static extern int kill(int pid, int signal);
}

/// <summary>A node of the cluster: an object, and a lease that says that it is alive.</summary>
sealed class Node(SandboxClient api, string name)
{
    const string Leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

    public async Task Register()
    {
        await api.Create(Paths.Nodes, new JsonObject
        {
            ["metadata"] = new JsonObject
            {
                ["name"] = name,
                ["labels"] = new JsonObject { ["kubernetes.io/hostname"] = name },
            },
            // A scheduler must not send other pods here.
            ["spec"] = Json.Object("""{"taints": [{"key": "kubelet/processes", "effect": "NoSchedule"}]}"""),
            ["status"] = new JsonObject
            {
                ["conditions"] = new JsonArray(Kubelet.Condition("Ready", true, "KubeletReady")),
                ["capacity"] = Json.Object("""{"cpu": "64", "memory": "256Gi", "pods": "1000"}"""),
                ["allocatable"] = Json.Object("""{"cpu": "64", "memory": "256Gi", "pods": "1000"}"""),
            },
        });
        await api.Create(Leases, new JsonObject
        {
            ["metadata"] = new JsonObject { ["name"] = name },
            ["spec"] = new JsonObject { ["holderIdentity"] = name, ["leaseDurationSeconds"] = 40 },
        });
    }

    /// <summary>A node that does not renew its lease is declared dead and loses its pods.</summary>
    public async Task RenewLease(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(10));
        do
        {
            var now = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss.ffffffZ");
            try
            {
                await api.Patch($"{Leases}/{name}", Json.Object($$"""{"spec": {"renewTime": "{{now}}"} }"""));
            }
            catch (Exception e) when (ApiException.Passes(e))
            {
                // Four may fail in a row.
            }
        }
        while (await timer.WaitForNextTickAsync(stop));
    }

    public async Task Remove()
    {
        await api.Delete($"{Leases}/{name}");
        await api.Delete($"{Paths.Nodes}/{name}");
    }
}

/// <param name="api">A client with a cluster administrator's rights.</param>
/// <param name="node">The node's name, unique in the cluster.</param>
/// <param name="namespaceSelector">Serve only namespaces with these labels; null = all.</param>
sealed class Kubelet(SandboxClient api, string node, string? namespaceSelector = null) : IAsyncDisposable
{
    readonly SandboxClient api = api;
    readonly Node self = new(api, node);
    readonly CancellationTokenSource stop = new();
    readonly ConcurrentDictionary<string, PodWorker> workers = new();
    readonly ConcurrentDictionary<string, bool> binding = new(); // the UIDs of pods
    readonly SemaphoreSlim binders = new(8);
    readonly ConcurrentDictionary<string, bool> served = new(); // by the namespace's name
    // Kept when the pod goes: there is no other place that remembers what it said.
    readonly ConcurrentDictionary<string, StringBuilder> logs = new();
    readonly DirectoryInfo files = Directory.CreateTempSubdirectory("omjob-kubelet-");
    Task running = Task.CompletedTask;

    public string Node => node;

    /// <summary>Programs that stand for the entry points of images, by the last part of an image's name. Processes share
    /// one file system, so they find the API server, as their pod's service account, by KUBECONFIG, and a ConfigMap that
    /// is mounted where their arguments are made to point; they listen on free ports of loopback.</summary>
    public Dictionary<string, string> Programs { get; } = [];

    /// <summary>What the pod's containers wrote to standard output and error, also after the pod has gone.</summary>
    public string Logs(string ns, string pod)
    {
        var log = Log(ns, pod);
        lock (log) return log.ToString();
    }

    /// <summary>The log of a pod for the API server; followed until the pod is over.</summary>
    public async Task WriteLog(
        JsonObject pod, IReadOnlyDictionary<string, string> query, Stream output, CancellationToken stop)
    {
        var written = 0;
        for (var follow = query.GetValueOrDefault("follow") == "true"; ; await Task.Delay(200, stop))
        {
            var going = workers.ContainsKey(pod.Uid());
            var text = Logs(pod.Text("metadata", "namespace")!, pod.Name());
            if (written == 0 && int.TryParse(query.GetValueOrDefault("tailLines"), out var tail))
                written = text.Length - text.Split('\n').SkipLast(1).TakeLast(tail).Sum(line => line.Length + 1);
            await output.WriteAsync(Encoding.UTF8.GetBytes(text[written..]), stop);
            await output.FlushAsync(stop);
            written = text.Length;
            if (!follow || !going) return;
        }
    }

    string? ProgramOf(JsonObject container) => container.At("command") is null
        ? Programs.GetValueOrDefault(container.Text("image")!.Split('/')[^1].Split(':', '@')[0]) : null;

    StringBuilder Log(string ns, string pod) => logs.GetOrAdd($"{ns}/{pod}", _ => new());

    /// <summary>Registers the node and returns; pods are served until the kubelet is disposed of.</summary>
    public async Task StartAsync()
    {
        await self.Register();
        running = Task.WhenAll(WatchPods(), BindLeftOver(), self.RenewLease(stop.Token));
    }

    async Task WatchPods()
    {
        await foreach (var (type, pod) in api.Watch("/api/v1/pods", stop.Token))
        {
            if (workers.TryGetValue(pod.Uid(), out var worker)) worker.Tell(type == "DELETED" ? null : pod);
            else if (type == "DELETED" || pod.Text("status", "phase") is "Succeeded" or "Failed") continue;
            else if (pod.Text("spec", "nodeName") is { } bound)
            {
                if (bound == node) workers[pod.Uid()] = new PodWorker(this, pod);
            }
            else if (pod.At("metadata", "deletionTimestamp") is null && binding.TryAdd(pod.Uid(), true)) _ = Bind(pod);
        }
    }

    /// <summary>Does not hold up the watch: after an API server's absence there may be hundreds to bind.</summary>
    async Task Bind(JsonObject pod)
    {
        await binders.WaitAsync(stop.Token);
        try
        {
            while (!await TryBind(pod)) await Task.Delay(TimeSpan.FromMilliseconds(100), stop.Token);
        }
        finally
        {
            binders.Release();
            binding.TryRemove(pod.Uid(), out _);
        }
    }

    /// <summary>False if the API server is away, or just starting: it may not show us this pod again.</summary>
    async Task<bool> TryBind(JsonObject pod)
    {
        var ns = pod.Text("metadata", "namespace")!;
        var found = $"{Paths.Namespaces}?labelSelector={namespaceSelector}&fieldSelector=metadata.name={ns}";
        try
        {
            if (!served.TryGetValue(ns, out var ours)) served[ns] = ours = (await api.List(found)).Count > 0;
            if (!ours) return true;
            await api.Create($"{Paths.Pod(ns, pod.Name())}/binding", new JsonObject
            {
                ["metadata"] = new JsonObject { ["name"] = pod.Name(), ["uid"] = pod.Uid() },
                ["target"] = new JsonObject { ["kind"] = "Node", ["name"] = node },
            });
        }
        catch (ApiException e) when ((int)e.Code < 500)
        {
            // Gone, being deleted or bound by somebody else: the watch says so.
        }
        catch (Exception e) when (ApiException.Passes(e))
        {
            return false;
        }
        return true;
    }

    /// <summary>A pod whose binding was refused once may never be shown by the watch again.</summary>
    async Task BindLeftOver()
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(5));
        while (await timer.WaitForNextTickAsync(stop.Token))
        {
            try
            {
                foreach (var pod in await api.List("/api/v1/pods?fieldSelector=spec.nodeName="))
                    if (pod.At("metadata", "deletionTimestamp") is null && binding.TryAdd(pod.Uid(), true))
                        _ = Bind(pod);
            }
            catch (Exception e) when (ApiException.Passes(e) && !stop.IsCancellationRequested)
            {
                // The API server is away: the next time.
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        try
        {
            await running;
        }
        catch (OperationCanceledException)
        {
        }
        foreach (var worker in workers.Values) worker.Tell(null);
        await Task.WhenAll(workers.Values.Select(w => w.Ended));
        await self.Remove();
        files.Delete(true);
        stop.Dispose();
    }

    static JsonNode? Stamp(DateTime? time) => time?.ToString("yyyy-MM-ddTHH:mm:ssZ");

    public static JsonObject Condition(string type, bool value, string? reason = null) => new()
    {
        ["type"] = type,
        ["status"] = value ? "True" : "False",
        ["reason"] = reason,
        ["lastTransitionTime"] = Stamp(DateTime.UtcNow),
    };

    /// <summary>One pod, from its binding until its object is gone. Any change leads to a look at everything.</summary>
    sealed class PodWorker
    {
        readonly Kubelet kubelet;
        readonly DateTime started = DateTime.UtcNow;
        readonly List<Container> containers;
        readonly Dictionary<string, JsonObject> conditions = [];
        // Written by the watch, read once per round; null = the object is gone.
        volatile JsonObject? latest;
        // Renewed before each look at the pod, so that no change falls between two looks.
        volatile TaskCompletionSource changed = new();
        JsonObject pod;
        (string Reason, string Message)? failure;
        DateTime? stoppedAt, killAt, retryAt;
        string written = "";

        public PodWorker(Kubelet kubelet, JsonObject pod)
        {
            this.kubelet = kubelet;
            this.pod = latest = pod;
            containers = [.. pod.Items("spec", "containers").Select(spec => new Container(spec, Wake))];
            Ended = Task.Run(Run);
        }

        public Task Ended { get; }

        public void Tell(JsonObject? newer)
        {
            latest = newer;
            Wake();
        }

        void Wake() => changed.TrySetResult();

        bool Deleting => pod.At("metadata", "deletionTimestamp") is not null;

        bool Stopping => Deleting || failure is not null;

        string Namespace => pod.Text("metadata", "namespace")!;

        string Path => Paths.Pod(Namespace, pod.Name());

        bool Over => containers.All(c => c.ExitCode is not null);

        DateTime? Deadline => !Over && !Stopping && pod.Long("spec", "activeDeadlineSeconds") is { } seconds
            ? started.AddSeconds(seconds) : null;

        string? Annotation(string name) => pod.Text("metadata", "annotations", $"kubelet/{name}");

        /// <summary>An annotation's first word and the rest.</summary>
        (string Reason, string Message)? Words(string name) =>
            Annotation(name)?.Split(' ', 2) is { } words ? (words[0], words.ElementAtOrDefault(1) ?? "") : null;

        async Task Run()
        {
            while (true)
            {
                changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
                if (latest is not { } now) break;
                pod = now;
                retryAt = null;
                try
                {
                    if (Annotation("lost") is null) await Round();
                }
                catch (Exception e) when (ApiException.Passes(e))
                {
                    // Also where the pod has gone, or another has its name: the watch will say so.
                    retryAt = DateTime.UtcNow.AddSeconds(1);
                }
                var next = new[] { killAt, retryAt, Deadline }.Min();
                await Task.WhenAny(changed.Task, next is { } at ? Until(at) : Task.Delay(Timeout.Infinite));
            }
            foreach (var container in containers) container.Signal(Posix.SigKill);
            await Task.WhenAll(containers.Select(c => c.Ended));
            kubelet.workers.TryRemove(pod.Uid(), out _);
        }

        static Task Until(DateTime at) =>
            Task.Delay(at > DateTime.UtcNow ? at - DateTime.UtcNow + TimeSpan.FromMilliseconds(1) : TimeSpan.Zero);

        async Task Round()
        {
            if (!Over) failure ??= Words("fail");
            if (DateTime.UtcNow >= Deadline)
                failure ??= ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");
            if (Words("exit") is { } exit)
                containers[0].Terminate(int.TryParse(exit.Reason, out var code) ? code : 1, exit.Message);
            if (Stopping) Stop();
            else await Start();
            var ended = await WriteStatus();
            // Grace 0 means that the object waits for nothing but its finalizers.
            if (Deleting && ended && pod.Long("metadata", "deletionGracePeriodSeconds") > 0)
                await kubelet.api.Delete(Path, grace: 0, uid: pod.Uid());
        }

        async Task Start()
        {
            if (Annotation("sidecar") is { } sidecar && !containers.Any(c => c.Name == sidecar))
                containers.Add(new Container(new JsonObject
                {
                    ["name"] = sidecar,
                    ["command"] = new JsonArray("sleep", "infinity"),
                }, Wake));
            var waiting = Words("waiting");
            var unstarted = containers.Where(c => c.Waiting).ToList();
            foreach (var container in unstarted) container.Wait(waiting ?? ("ContainerCreating", ""));
            if (unstarted.Count == 0) return;
            await WriteStatus();
            if (waiting is not null) return;
            if (!await HasVolumes())
            {
                retryAt = DateTime.UtcNow.AddSeconds(1);
                return;
            }
            foreach (var container in unstarted)
            {
                try
                {
                    var script = container == containers[0] ? Annotation("script") : null;
                    var (command, variables) = (container.Command, await Variables(container));
                    if (kubelet.ProgramOf(container.Spec) is { } program)
                        command = await Local([program, .. command], container.Spec, variables);
                    container.Start(script is not null ? ["/bin/sh", "-c", script]
                        : [.. command.Select(word => Expand(word, variables))], variables, kubelet.Log(Namespace, pod.Name()));
                }
                catch (KeyNotFoundException e)
                {
                    container.Wait(("CreateContainerConfigError", e.Message));
                    retryAt = DateTime.UtcNow.AddSeconds(1);
                }
            }
        }

        void Stop()
        {
            var grace = Deleting ? pod.Long("metadata", "deletionGracePeriodSeconds") ?? 0
                : failure?.Reason == "DeadlineExceeded" ? pod.Long("spec", "terminationGracePeriodSeconds") ?? 30 : 0;
            if (stoppedAt is null && grace > 0)
                foreach (var container in containers) container.Signal(Posix.SigTerm);
            stoppedAt ??= DateTime.UtcNow;
            killAt = stoppedAt.Value.AddSeconds(grace);
            if (DateTime.UtcNow >= killAt)
            {
                killAt = null;
                foreach (var container in containers) container.Signal(Posix.SigKill);
            }
            if (failure is not null) return;
            foreach (var container in containers.Where(c => c.Waiting))
                container.Terminate(137, "ContainerStatusUnknown");
        }

        /// <summary>Returns whether it is written that all has ended; what ends meanwhile is written by the next round.</summary>
        async Task<bool> WriteStatus()
        {
            var ended = !containers.Any(c => c.Running);
            var statuses = containers.Where(c => failure is null || !c.Waiting).ToList();
            var phase = !ended ? "Running"
                : failure is not null ? "Failed"
                : containers.All(c => c.Waiting) ? "Pending"
                : containers.Any(c => c.Waiting) ? "Running"
                : containers.All(c => c.ExitCode == 0) ? "Succeeded" : "Failed";
            var ready = containers.All(c => c.Running);
            var unready = ready ? null : phase == "Succeeded" ? "PodCompleted" : "ContainersNotReady";
            Conclude("Initialized", true);
            Conclude("Ready", ready, unready);
            Conclude("ContainersReady", ready, unready);
            Conclude("PodScheduled", true);
            if (Annotation("disruption") is { } cause) Conclude("DisruptionTarget", true, cause);
            // A merge patch replaces the whole list: what others wrote there goes into it again.
            var others = pod.Items("status", "conditions").Where(c => !conditions.ContainsKey(c.Text("type")!));
            var status = new JsonObject
            {
                ["phase"] = phase,
                ["reason"] = ended ? failure?.Reason : null,
                ["message"] = ended ? failure?.Message : null,
                ["hostIP"] = "127.0.0.1",
                ["startTime"] = Stamp(started),
                ["conditions"] = new JsonArray([.. others.Concat(conditions.Values).Select(c => c.DeepClone())]),
                ["containerStatuses"] = new JsonArray([.. statuses.Select(c => c.Status())]),
            };
            var text = status.ToJsonString();
            if (text == written) return ended;
            var patch = new JsonObject { ["metadata"] = new JsonObject { ["uid"] = pod.Uid() }, ["status"] = status };
            await kubelet.api.Patch($"{Path}/status", patch);
            written = text;
            return ended;
        }

        void Conclude(string type, bool value, string? reason = null)
        {
            if (conditions.GetValueOrDefault(type).Text("status") != (value ? "True" : "False"))
                conditions[type] = Condition(type, value, reason);
        }

        /// <summary>The Secrets and ConfigMaps that the pod mounts are there, or need not be.</summary>
        async Task<bool> HasVolumes()
        {
            foreach (var volume in pod.Items("spec", "volumes"))
            {
                var (kind, source, name) = volume.At("secret") is { } secret
                    ? ("secrets", secret, secret.Text("secretName"))
                    : ("configmaps", volume.At("configMap"), volume.Text("configMap", "name"));
                if (name is not null && (bool?)source!["optional"] != true
                    && await kubelet.api.Find($"{Paths.Core(Namespace, kind)}/{name}") is null) return false;
            }
            return true;
        }

        /// <summary>What a program gets that stands for an image; returns its command.</summary>
        async Task<List<string>> Local(List<string> command, JsonObject spec, Dictionary<string, string> variables)
        {
            var home = kubelet.files.CreateSubdirectory(pod.Uid());
            var token = await kubelet.api.Token(Namespace, pod.Text("spec", "serviceAccountName")!);
            variables["KUBECONFIG"] = System.IO.Path.Combine(home.FullName, "kubeconfig");
            await File.WriteAllTextAsync(variables["KUBECONFIG"], kubelet.api.Kubeconfig(token).ToJsonString());
            (variables["HEALTH_CHECK_PORT"], variables["METRICS_PORT"]) = ($"{Port.Free()}", $"{Port.Free()}");
            foreach (var mount in spec.Items("volumeMounts"))
            {
                var volume = pod.Items("spec", "volumes").Single(v => v.Text("name") == mount.Text("name"));
                if (volume.Text("configMap", "name") is not { } name) continue;
                var folder = home.CreateSubdirectory(mount.Text("name")!);
                var map = await kubelet.api.Get($"{Paths.Core(Namespace, "configmaps")}/{name}");
                foreach (var (file, text) in map["data"] as JsonObject ?? [])
                    await File.WriteAllTextAsync(System.IO.Path.Combine(folder.FullName, file), text.Text());
                command = [.. command.Select(word => word.Replace(mount.Text("mountPath")!, folder.FullName))];
            }
            return command;
        }

        /// <summary>The container's variables; one that cannot be had is a KeyNotFoundException.</summary>
        async Task<Dictionary<string, string>> Variables(Container container)
        {
            var values = new Dictionary<string, string> { ["HOSTNAME"] = pod.Name() };
            foreach (var variable in container.Spec.Items("env"))
                values[variable.Text("name")!] = variable.At("valueFrom") is { } source
                    ? await Value(source) : Expand(variable.Text("value") ?? "", values);
            return values;
        }

        async Task<string> Value(JsonNode source)
        {
            if (source.Text("fieldRef", "fieldPath") is { } field)
            {
                var key = Regex.Match(field, @"^metadata\.(labels|annotations)\['(.+)'\]$");
                return (key.Success ? pod.Text("metadata", key.Groups[1].Value, key.Groups[2].Value)
                    : pod.Text(field.Split('.'))) ?? "";
            }
            var secret = source.At("secretKeyRef");
            if ((secret ?? source.At("configMapKeyRef")) is not { } reference) return "";
            var kind = secret is null ? "configmaps" : "secrets";
            var (owner, item) = (reference.Text("name")!, reference.Text("key")!);
            var text = (await kubelet.api.Find($"{Paths.Core(Namespace, kind)}/{owner}")).Text("data", item);
            if (text is null && (bool?)reference.At("optional") != true)
                throw new KeyNotFoundException($"couldn't find key {item} in {kind} {Namespace}/{owner}");
            return secret is null ? text ?? "" : Encoding.UTF8.GetString(Convert.FromBase64String(text ?? ""));
        }
    }

    /// <summary>$(NAME) is the variable's value where there is one; $$ is a dollar.</summary>
    static string Expand(string text, Dictionary<string, string> values) =>
        Regex.Replace(text, @"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)", m =>
            m.Value == "$$" ? "$" : values.GetValueOrDefault(m.Groups[1].Value, m.Value));

    /// <summary>A container: a process in a session of its own, so that all it started ends with it.</summary>
    sealed class Container(JsonObject spec, Action changed)
    {
        readonly Lock guard = new();
        volatile JsonObject state = Json.Object("""{"waiting": {}}""");
        int pid;

        public JsonObject Spec => spec;

        public string Name => spec.Text("name")!;

        public Task Ended { get; private set; } = Task.CompletedTask;

        public bool Waiting => state.ContainsKey("waiting");

        public bool Running => state.ContainsKey("running");

        string? Id => pid == 0 ? null : $"process://{pid}";

        public int? ExitCode => (int?)state.Long("terminated", "exitCode");

        public void Wait((string Reason, string Message) why) => state = new JsonObject
        {
            ["waiting"] = new JsonObject { ["reason"] = why.Reason, ["message"] = why.Message },
        };

        public List<string> Command => [.. spec.Strings("command"), .. spec.Strings("args")];

        public void Start(List<string> command, Dictionary<string, string> environment, StringBuilder log)
        {
            if (command.Count == 0 || !Executable(command[0]))
            {
                Terminate(128, "StartError", $"\"{command.FirstOrDefault()}\": executable file not found in $PATH");
                return;
            }
            // macOS has no setsid, but a perl that does the same.
            var start = OperatingSystem.IsMacOS()
                ? new ProcessStartInfo("perl", ["-MPOSIX", "-e", "POSIX::setsid(); exec @ARGV", .. command])
                : new ProcessStartInfo("setsid", command);
            start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
            // Nothing of what the tests were started with.
            start.Environment.Clear();
            start.Environment["PATH"] = Environment.GetEnvironmentVariable("PATH");
            start.Environment["HOME"] = "/";
            foreach (var (name, value) in environment) start.Environment[name] = value;
            var process = new Process { StartInfo = start, EnableRaisingEvents = true };
            void Append(object _, DataReceivedEventArgs line)
            {
                if (line.Data is not null) lock (log) log.AppendLine(line.Data);
            }
            process.OutputDataReceived += Append;
            process.ErrorDataReceived += Append;
            var exited = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            process.Exited += (_, _) => exited.SetResult();
            process.Start();
            pid = process.Id;
            state = new JsonObject { ["running"] = new JsonObject { ["startedAt"] = Stamp(DateTime.UtcNow) } };
            process.StandardInput.Close();
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            Ended = Reap(process, exited.Task);
        }

        /// <summary>The first process ends the container: what it left behind would hold its output open.</summary>
        async Task Reap(Process process, Task exited)
        {
            using var _ = process;
            await exited;
            Posix.Signal(-pid, Posix.SigKill);
            await process.WaitForExitAsync();
            Terminate(process.ExitCode, "");
        }

        static bool Executable(string name) => name.Contains('/') ? File.Exists(name)
            : Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(d => File.Exists(Path.Combine(d, name)));

        public void Signal(int signal)
        {
            if (!Running) return;
            Posix.Signal(pid, signal);
            if (signal == Posix.SigKill) Posix.Signal(-pid, signal);
        }

        /// <summary>The first end counts: a process that is killed because of it has nothing to add.</summary>
        public void Terminate(int exitCode, string reason, string? message = null)
        {
            lock (guard)
            {
                if (ExitCode is not null) return;
                Signal(Posix.SigKill);
                var now = Stamp(DateTime.UtcNow);
                state = new JsonObject
                {
                    ["terminated"] = new JsonObject
                    {
                        ["exitCode"] = exitCode,
                        ["reason"] = reason is not "" ? reason : exitCode == 0 ? "Completed" : "Error",
                        ["message"] = message,
                        ["startedAt"] = state.Text("running", "startedAt") ?? now!.DeepClone(),
                        ["finishedAt"] = now,
                        ["containerID"] = Id,
                    },
                };
            }
            changed();
        }

        public JsonObject Status() => new()
        {
            ["name"] = Name,
            ["state"] = state.DeepClone(),
            ["ready"] = Running,
            ["started"] = Running,
            ["restartCount"] = 0,
            ["image"] = spec.Text("image") ?? "",
            ["imageID"] = "",
            ["containerID"] = Id,
        };
    }
}
