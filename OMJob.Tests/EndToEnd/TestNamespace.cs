// A namespace of one test: its operators, everything that happened to its OMJobs and pods, and the wait for more.

using System.Net;
using System.Text;
using System.Text.Json.Nodes;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

sealed class TestNamespace : IAsyncDisposable
{
    /// <summary>The operators' own, unless a test says another, longer one.</summary>
    public static readonly TimeSpan LostPodSlack = TimeSpan.FromSeconds(2);

    readonly TestCluster cluster;
    readonly CancellationTokenSource stop = new();
    readonly List<OperatorProcess> operators = [];
    readonly List<Notice> history = [];
    readonly Task watching;

    TestNamespace(TestCluster cluster, string name)
    {
        (this.cluster, Name) = (cluster, name);
        watching = Task.WhenAll(Record(Paths.OMJobs(name)), Record(Paths.Pods(name)));
    }

    public string Name { get; }

    public SandboxClient Api => cluster.Api;

    public static async Task<TestNamespace> Create(TestCluster cluster, string name)
    {
        await cluster.Api.Create(Paths.Namespaces, new JsonObject
        {
            ["metadata"] = new JsonObject
            {
                ["name"] = name,
                ["labels"] = new JsonObject
                {
                    ["kubelet"] = cluster.Kubelet.Node, // what the kubelet looks for
                    ["pod-security.kubernetes.io/enforce"] = "restricted",
                },
            },
        });
        var created = new TestNamespace(cluster, name);
        await created.Admits("default");
        return created;
    }

    /// <summary>Waits until the API server admits pods of a service account: it has to be set up first.</summary>
    public Task Admits(string account) =>
        Eventually.True($"pods of {account} are admitted", () => IsAdmitted(account));

    async Task<bool> IsAdmitted(string account)
    {
        try
        {
            await Probe(account);
            return true;
        }
        catch (ApiException)
        {
            return false;
        }
    }

    /// <summary>What would come of a pod that asks for nothing.</summary>
    Task<JsonObject> Probe(string account = "default") =>
        Api.Create($"{Paths.Pods(Name)}?dryRun=All", Restricted(Json.Yaml($$"""
            metadata: {name: probe}
            spec: {serviceAccountName: {{account}}, containers: [{name: main, image: none}] }
            """).Single()));

    /// <summary>A pod of the test's own, with what the namespace demands of every pod.</summary>
    static JsonObject Restricted(JsonObject pod)
    {
        pod["spec"]!["securityContext"] = Json.Object(
            """{"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}""");
        foreach (var container in pod["spec"].Items("containers"))
            container["securityContext"] = Json.Object(
                """{"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}""");
        return pod;
    }

    async Task Record(string collection)
    {
        try
        {
            await foreach (var change in Api.Watch(collection, stop.Token))
                lock (history) history.Add(change);
        }
        catch (OperationCanceledException)
        {
        }
    }

    /// <summary>Every change to an OMJob or a pod so far, those of one kind in the API server's order.</summary>
    public List<Notice> History
    {
        get
        {
            lock (history) return [.. history];
        }
    }

    /// <summary>An operator for this namespace, with short clocks and these flags.</summary>
    public Task<OperatorProcess> Operator(params IEnumerable<string> flags) => Start(null, flags);

    public Task<OperatorProcess> Operator(FaultProxy proxy, params IEnumerable<string> flags) =>
        Start(proxy.Address, flags);

    public Task<OperatorProcess> Operator(TcpProxy proxy, params IEnumerable<string> flags) =>
        Start(proxy.Address, flags);

    async Task<OperatorProcess> Start(string? server, IEnumerable<string> flags)
    {
        if (!flags.Contains("--lost-pod-slack"))
            flags = ["--lost-pod-slack", $"{LostPodSlack.TotalSeconds}s", .. flags];
        var process = Started(new OperatorProcess(cluster.Kubeconfig(server), ["--namespace", Name, .. flags]));
        await process.Ready();
        return process;
    }

    /// <summary>An operator that was started elsewhere: it ends with the namespace, and its log is in the story.</summary>
    public OperatorProcess Started(OperatorProcess process)
    {
        operators.Add(process);
        return process;
    }

    /// <summary>What somebody runs here who uninstalls the operator.</summary>
    public async Task Release()
    {
        var process = Started(new OperatorProcess(cluster.Kubeconfig(), "release", "--namespace", Name));
        await process.Ends(seconds: 60);
    }

    public async Task Create(JobBuilder builder)
    {
        KeepPodsHere(builder.Spec);
        builder.Uid = (await Api.Create(Paths.OMJobs(Name), builder.Job)).Uid();
    }

    /// <summary>The fixture has installed crd.yaml; the controllers hear of a new kind within half a minute. Until then
    /// the garbage collector orphans nothing, and takes it later for left behind. For a namespace without
    /// operator.</summary>
    public async Task CollectorKnowsOMJobs()
    {
        var job = new JobBuilder("young");
        await Create(job);
        await Delete(job, "Foreground");
        await Gone(job);
    }

    /// <summary>A CronOMJob of that name whose runs are like this OMJob.</summary>
    public Task Create(JobBuilder builder, string name, string schedule)
    {
        var spec = new JsonObject { ["schedule"] = schedule, ["omJobSpec"] = builder.Spec.DeepClone() };
        return Create(new JsonObject
        {
            ["apiVersion"] = builder.Job["apiVersion"]!.DeepClone(),
            ["kind"] = "CronOMJob",
            ["metadata"] = new JsonObject { ["name"] = name },
            ["spec"] = spec,
        });
    }

    /// <summary>This CronOMJob.</summary>
    public Task Create(JsonObject cron)
    {
        KeepPodsHere(cron["spec"]!["omJobSpec"]!);
        return Api.Create(Paths.CronOMJobs(Name), cron);
    }

    /// <summary>The scheduler of a cluster with nodes must leave the pods to this one.</summary>
    void KeepPodsHere(JsonNode spec)
    {
        foreach (var name in new[] { "mainPodSpec", "exitHandlerSpec" })
            if (spec[name] is JsonObject pod)
                pod["nodeSelector"] = new JsonObject { ["kubernetes.io/hostname"] = cluster.Kubelet.Node };
    }

    /// <summary>A pod that the test makes, for this kubelet.</summary>
    public Task<JsonObject> CreatePod(JsonObject pod)
    {
        pod["spec"]!["nodeSelector"] = new JsonObject { ["kubernetes.io/hostname"] = cluster.Kubelet.Node };
        return Api.Create(Paths.Pods(Name), Restricted(pod));
    }

    /// <summary>A pod as the Java operator makes it: no finalizer, no UID label.</summary>
    public Task<JsonObject> CreateUpstreamPod(JobBuilder job, string suffix, string type, string command) =>
        CreatePod(Json.Yaml($$"""
            metadata:
              name: {{job.Name}}-{{suffix}}
              labels:
                app.kubernetes.io/name: openmetadata
                app.kubernetes.io/component: ingestion
                app.kubernetes.io/managed-by: omjob-operator
                omjob.pipelines.openmetadata.org/name: {{job.Name}}
                omjob.pipelines.openmetadata.org/pod-type: {{type}}
              ownerReferences:
                - {apiVersion: pipelines.openmetadata.org/v1, kind: OMJob, name: {{job.Name}}, uid: {{job.Uid}},
                   controller: true, blockOwnerDeletion: true}
            spec: {restartPolicy: Never, containers: [{name: main, image: none, command: [sh, -c, '{{command}}'] }] }
            """).Single());

    /// <summary>An OMJob whose main pod the Java operator started; returns once the kubelet has it running.</summary>
    public async Task UpstreamStarts(JobBuilder job, string main)
    {
        await Create(job);
        await CreateUpstreamPod(job, "main", "main", main);
        await Api.Patch($"{Paths.OMJob(Name, job.Name)}/status", Json.Yaml($$"""
            status: {phase: Running, mainPodName: {{job.Name}}-main, startTime: '2026-01-01T00:00:00Z'}
            """).Single());
        await Pod($"{job.Name}-main", "has started", p => p.Text("status", "phase") != "Pending"); // it may be over, too
    }

    public Task<bool> Delete(JobBuilder builder, string? propagation = null) =>
        Api.Delete(Paths.OMJob(Name, builder.Name), propagation);

    /// <summary>Tells the kubelet something about a pod that is there.</summary>
    public Task Tell(string pod, string annotation, string value) => Api.Patch(Paths.Pod(Name, pod),
        Json.Yaml($"metadata: {{annotations: {{kubelet/{annotation}: '{value}'}}}}").Single());

    /// <summary>From now on no pod is admitted.</summary>
    public async Task ForbidPods()
    {
        var quotas = Paths.Core(Name, "resourcequotas");
        await Api.Create(quotas, Json.Yaml("{metadata: {name: none}, spec: {hard: {pods: 0} } }").Single());
        await Eventually.True("the quota is in force", async () => !await IsAdmitted("default"));
    }

    public Task AllowPods() => Api.Delete($"{Paths.Core(Name, "resourcequotas")}/none");

    /// <summary>From now on a container that names no limit may have no more than that.</summary>
    public async Task LimitMemory(string most)
    {
        await Api.Create(Paths.Core(Name, "limitranges"), Json.Yaml($$"""
            metadata: {name: most}
            spec: {limits: [{type: Container, default: {memory: {{most}}} }] }
            """).Single());
        await Eventually.True("the limit is in force", async () =>
            (await Probe()).At("spec").Items("containers").All(c => c.Text("resources", "limits", "memory") == most));
    }

    public Task UnlimitMemory() => Api.Delete($"{Paths.Core(Name, "limitranges")}/most");

    public string Logs(string pod) => cluster.Kubelet.Logs(Name, pod);

    /// <summary>The first version of an OMJob that was like this, past or to come.</summary>
    public Task<JsonObject> Job(JobBuilder builder, string what, Func<JsonObject, bool> like, int seconds = 60) =>
        Seen($"OMJob {builder.Name} {what}", o => o.Uid() == builder.Uid && like(o), seconds);

    public Task<JsonObject> Phase(JobBuilder builder, string phase) =>
        Job(builder, $"has phase {phase}", j => j.Text("status", "phase") == phase);

    /// <summary>The first version of a pod that was like this, past or to come.</summary>
    public Task<JsonObject> Pod(string name, string what, Func<JsonObject, bool> like, int seconds = 60) =>
        Seen($"pod {name} {what}", o => o.Text("kind") == "Pod" && o.Name() == name && like(o), seconds);

    public Task<JsonObject> PodPhase(string name, string phase) =>
        Pod(name, $"has phase {phase}", p => p.Text("status", "phase") == phase);

    /// <summary>The first version of an OMJob or pod that was like this, past or to come.</summary>
    public Task<JsonObject> Seen(string what, Func<JsonObject, bool> like, int seconds = 60) => Eventually.Get(
        what, () => History.FirstOrDefault(c => c.Type != "DELETED" && like(c.Object))?.Object, seconds);

    /// <summary>Waits until the OMJob is deleted.</summary>
    public Task Gone(JobBuilder builder, int seconds = 60) =>
        Eventually.True($"OMJob {builder.Name} is gone", () =>
            History.Any(c => c.Type == "DELETED" && c.Object.Uid() == builder.Uid), seconds);

    /// <summary>Waits until a pod of that name is gone.</summary>
    public Task PodGone(string name, int seconds = 60) => Eventually.True($"pod {name} is gone", () =>
        History.Any(c => c.Type == "DELETED" && c.Object.Text("kind") == "Pod" && c.Object.Name() == name), seconds);

    /// <summary>The events about an OMJob, by the field selector that the documentation names.</summary>
    public Task<List<JsonObject>> Events(JobBuilder builder) => Api.List($"{Paths.Core(Name, "events")}" +
        $"?fieldSelector=reason=OMJobOperator,involvedObject.kind=OMJob,involvedObject.name={builder.Name}");

    /// <summary>Waits for an event that is like this.</summary>
    public Task Event(JobBuilder builder, string what, Func<JsonObject, bool> like) =>
        Eventually.True($"an event {what}", async () => (await Events(builder)).Any(like));

    /// <summary>Waits for a Warning that says these words.</summary>
    public Task Warning(JobBuilder builder, string words) => Event(builder, $"warns of {words}", e =>
        e.Text("type") == "Warning" && e.Text("message")!.Contains(words));

    /// <summary>Waits until the OMJob's message says these words.</summary>
    public Task Message(JobBuilder builder, string words) =>
        Job(builder, $"says {words}", j => j.Text("status", "message")?.Contains(words) == true);

    /// <summary>Waits for the end of an OMJob and holds the run to everything that every run must keep. An OMJob that
    /// is deleted has ended when it is gone.</summary>
    public async Task<Run> Ends(JobBuilder builder, string phase, int mains = 1, int attempts = 1, bool adopted = false,
        int seconds = 60)
    {
        await Job(builder, "ends", j => j.Text("status", "phase") is "Succeeded" or "Failed", seconds);
        await Eventually.True("no finalizer of ours is left, and the watch has told it", async () =>
        {
            var job = await Api.Find(Paths.OMJob(Name, builder.Name));
            var version = job.Text("metadata", "resourceVersion");
            return (await Api.List(Paths.Pods(Name))).Where(p => Run.IsOf(builder.Uid, p)).Append(job)
                    .All(o => !o.Finalizers().Any(f => f.StartsWith("pipelines.openmetadata.org/")))
                && (job is null || History.Any(n => n.Object.Text("metadata", "resourceVersion") == version));
        });
        var run = new Run(History, builder.Uid);
        run.Check(phase, mains, attempts, adopted);
        return run;
    }

    /// <summary>For the reader of a failure.</summary>
    public string Story()
    {
        var story = new StringBuilder();
        lock (history)
            foreach (var notice in history)
            {
                var (type, o) = notice;
                story.AppendLine($"{notice.At:HH:mm:ss.fff} {type} {o.Text("kind")} {o.Name()} finalizers [" +
                    $"{string.Join(' ', o.Finalizers())}] deleted {o.Text("metadata", "deletionTimestamp")} " +
                    $"{o["status"]?.ToJsonString()}");
            }
        foreach (var process in operators) story.AppendLine($"--- operator\n{process.Log}");
        return story.ToString();
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var process in operators) await process.DisposeAsync();
        await stop.CancelAsync();
        await watching;
        foreach (var job in await Api.List(Paths.OMJobs(Name))) await Remove(Paths.OMJob(Name, job.Name()));
        foreach (var pod in await Api.List(Paths.Pods(Name))) await Remove(Paths.Pod(Name, pod.Name()));
        await Api.Delete($"{Paths.Namespaces}/{Name}");
        stop.Dispose();
    }

    /// <summary>Deletes an object, whoever holds it.</summary>
    public async Task Remove(string path)
    {
        try
        {
            await Api.Patch(path, Json.Yaml("metadata: {finalizers: null}").Single());
            await Api.Delete(path, grace: 0);
        }
        catch (ApiException e) when (e.Code == HttpStatusCode.NotFound)
        {
            // The garbage collector was faster.
        }
    }
}
