// Run defaults: how they are merged into an OMJob's spec, and what a file of them may say. YAML has JSON in it, so that
// most files here are JSON.

using System.Text.Json;
using System.Text.Json.Nodes;
using CsCheck;
using Xunit;

namespace OMJobs.Tests;

public sealed class RunDefaultsTests
{
    static string Over(string own, string file) =>
        RunDefaults.Parse(file).Over(JsonSerializer.Deserialize<JsonElement>(own)).GetRawText();

    static void Merges(string own, string file, string expected)
    {
        var merged = Over(own, file);
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(expected), JsonNode.Parse(merged)), $"{merged} is not {expected}");
    }

    static string Refusal(string file) => Assert.Throws<DefaultsException>(() => RunDefaults.Parse(file)).Message;

    // ----- merging

    /// <summary>Of the main pod's spec: its own, the file's, and what comes of them.</summary>
    [Theory]
    // scalars
    [InlineData("""{"priorityClassName":"own"}""", """{"priorityClassName":"file"}""", """{"priorityClassName":"own"}""")]
    [InlineData("""{"priorityClassName":""}""", """{"priorityClassName":"file"}""", """{"priorityClassName":""}""")]
    [InlineData("""{"priorityClassName":null}""", """{"priorityClassName":"file"}""", """{"priorityClassName":"file"}""")]
    [InlineData("{}", """{"terminationGracePeriodSeconds":5}""", """{"terminationGracePeriodSeconds":5}""")]
    [InlineData("""{"terminationGracePeriodSeconds":0}""", """{"terminationGracePeriodSeconds":5}""",
        """{"terminationGracePeriodSeconds":0}""")]
    // objects, by key
    [InlineData("""{"labels":{"a":"own","b":""}}""", """{"labels":{"a":"file","b":"file","c":"file"}}""",
        """{"labels":{"a":"own","b":"","c":"file"}}""")]
    [InlineData("""{"annotations":{"a":"own"}}""", """{"annotations":{"b":"file"}}""",
        """{"annotations":{"a":"own","b":"file"}}""")]
    [InlineData("""{"nodeSelector":{}}""", """{"nodeSelector":{"disk":"ssd"}}""", """{"nodeSelector":{"disk":"ssd"}}""")]
    [InlineData("""{"nodeSelector":{"zone":"a"}}""", """{"nodeSelector":{"disk":"ssd"}}""",
        """{"nodeSelector":{"zone":"a","disk":"ssd"}}""")]
    [InlineData("""{"securityContext":{"runAsUser":7,"seccompProfile":{"type":"Localhost"}}}""",
        """{"securityContext":{"runAsUser":8,"fsGroup":9,"seccompProfile":{"type":"X","localhostProfile":"p"}}}""",
        """{"securityContext":{"runAsUser":7,"fsGroup":9,"seccompProfile":{"type":"Localhost"}}}""")]
    [InlineData("""{"securityContext":{"seccompProfile":{}}}""", """{"securityContext":{"seccompProfile":{"type":"X"}}}""",
        """{"securityContext":{"seccompProfile":{"type":"X"}}}""")]
    [InlineData("""{"containerSecurityContext":{"capabilities":{"add":["A"]}}}""",
        """{"containerSecurityContext":{"capabilities":{"drop":["ALL"]},"readOnlyRootFilesystem":true}}""",
        """{"containerSecurityContext":{"capabilities":{"add":["A"]},"readOnlyRootFilesystem":true}}""")]
    // resources, two deep
    [InlineData("""{"resources":{"limits":{"memory":"4Gi"},"requests":{}}}""",
        """{"resources":{"limits":{"memory":"1Gi","cpu":2},"requests":{"cpu":"100m"}}}""",
        """{"resources":{"limits":{"memory":"4Gi","cpu":2},"requests":{"cpu":"100m"}}}""")]
    // what is taken whole
    [InlineData("""{"affinity":{"nodeAffinity":{"a":1}}}""", """{"affinity":{"podAffinity":{"b":1}}}""",
        """{"affinity":{"nodeAffinity":{"a":1}}}""")]
    [InlineData("""{"affinity":{}}""", """{"affinity":{"podAffinity":{"b":1}}}""", """{"affinity":{"podAffinity":{"b":1}}}""")]
    [InlineData("""{"livenessProbe":{"exec":{}}}""", """{"livenessProbe":{"periodSeconds":3}}""",
        """{"livenessProbe":{"exec":{}}}""")]
    [InlineData("""{"lifecycle":{"preStop":{}}}""", """{"lifecycle":{"postStart":{}}}""",
        """{"lifecycle":{"preStop":{}}}""")]
    [InlineData("""{"dnsConfig":{"nameservers":["1.1.1.1"]}}""", """{"dnsConfig":{"searches":["x"]}}""",
        """{"dnsConfig":{"nameservers":["1.1.1.1"]}}""")]
    // lists of what has names
    [InlineData("""{"env":[{"name":"b","value":"own"},{"name":"a","valueFrom":{}}]}""",
        """{"env":[{"name":"a","value":"file"},{"name":"c","value":"file"},{"name":"b","value":"file"}]}""",
        """{"env":[{"name":"b","value":"own"},{"name":"a","valueFrom":{}},{"name":"c","value":"file"}]}""")]
    [InlineData("""{"volumes":[{"name":"v","emptyDir":{}}]}""",
        """{"volumes":[{"name":"v","secret":{"secretName":"s"}},{"name":"w","secret":{"secretName":"s"}}]}""",
        """{"volumes":[{"name":"v","emptyDir":{}},{"name":"w","secret":{"secretName":"s"}}]}""")]
    [InlineData("""{"initContainers":[{"name":"i","image":"own"}]}""",
        """{"initContainers":[{"name":"i","command":["x"]},{"name":"j","image":"file"}]}""",
        """{"initContainers":[{"name":"i","image":"own"},{"name":"j","image":"file"}]}""")]
    [InlineData("""{"imagePullSecrets":[{"name":"own"}]}""", """{"imagePullSecrets":[{"name":"file"},{"name":"own"}]}""",
        """{"imagePullSecrets":[{"name":"own"},{"name":"file"}]}""")]
    [InlineData("""{"volumeMounts":[{"name":"v","mountPath":"/a"}]}""",
        """{"volumeMounts":[{"name":"w","mountPath":"/a"},{"name":"v","mountPath":"/b"}]}""",
        """{"volumeMounts":[{"name":"v","mountPath":"/a"},{"name":"v","mountPath":"/b"}]}""")]
    [InlineData("""{"ports":[{"containerPort":80},{"containerPort":53,"protocol":"UDP"}]}""",
        """
        {"ports":[{"containerPort":80,"protocol":"TCP","name":"x"},{"containerPort":53},
        {"containerPort":80,"protocol":"UDP"}]}
        """,
        """
        {"ports":[{"containerPort":80},{"containerPort":53,"protocol":"UDP"},{"containerPort":53},
        {"containerPort":80,"protocol":"UDP"}]}
        """)]
    [InlineData("""{"hostAliases":[{"ip":"10.0.0.1","hostnames":["a"]}]}""",
        """{"hostAliases":[{"ip":"10.0.0.1","hostnames":["b"]},{"ip":"10.0.0.2","hostnames":["b"]}]}""",
        """{"hostAliases":[{"ip":"10.0.0.1","hostnames":["a"]},{"ip":"10.0.0.2","hostnames":["b"]}]}""")]
    [InlineData("""{"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"}]}""",
        """
        {"topologySpreadConstraints":[{"maxSkew":2,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"},
        {"maxSkew":2,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway"}]}
        """,
        """
        {"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"},
        {"maxSkew":2,"topologyKey":"z","whenUnsatisfiable":"ScheduleAnyway"}]}
        """)]
    // lists of what has none
    [InlineData("""{"tolerations":[{"key":"a","operator":"Exists"}]}""",
        """{"tolerations":[{"operator":"Exists","key":"a"},{"key":"a"}]}""",
        """{"tolerations":[{"key":"a","operator":"Exists"},{"key":"a"}]}""")]
    [InlineData("""{"envFrom":[{"configMapRef":{"name":"a"}}]}""",
        """{"envFrom":[{"configMapRef":{"name":"a"}},{"secretRef":{"name":"a"}}]}""",
        """{"envFrom":[{"configMapRef":{"name":"a"}},{"secretRef":{"name":"a"}}]}""")]
    [InlineData("""{"tolerations":[]}""", """{"tolerations":[{"key":"a"}]}""", """{"tolerations":[{"key":"a"}]}""")]
    // command and args are one
    [InlineData("""{"command":["own"]}""", """{"args":["file"]}""", """{"command":["own"]}""")]
    [InlineData("""{"args":["own"]}""", """{"command":["file"],"args":["file"]}""", """{"args":["own"]}""")]
    [InlineData("{}", """{"command":["file"],"args":["file"]}""", """{"command":["file"],"args":["file"]}""")]
    // another type than the CRD wants goes to the API server as it is
    [InlineData("""{"env":"x","labels":"y"}""", """{"env":[{"name":"a"}],"labels":{"a":"b"}}""",
        """{"env":"x","labels":"y"}""")]
    public void A_pod_spec_says_what_it_says_and_the_file_the_rest(string own, string file, string expected)
    {
        static string Main(string pod) => $$"""{"mainPodSpec":{{pod}} }""";
        Merges(Main(own), Main(file), Main(expected));
        static string Exit(string pod) => $$"""{"mainPodSpec":{"a":1},"exitHandlerSpec":{{pod}} }""";
        Merges(Exit(own), $$"""{"exitHandlerSpec":{{file}} }""", Exit(expected));
    }

    [Theory]
    [InlineData("""{"mainPodSpec":{}}""", """{"mainPodSpec":{},"activeDeadlineSeconds":60,"exitHandlerBackoffLimit":1}""")]
    [InlineData("""{"mainPodSpec":{},"activeDeadlineSeconds":5,"exitHandlerBackoffLimit":0}""",
        """{"mainPodSpec":{},"activeDeadlineSeconds":5,"exitHandlerBackoffLimit":0}""")]
    public void The_deadline_and_the_limit_of_attempts_are_the_OMJobs_else_the_files(string own, string expected) =>
        Merges(own, "{activeDeadlineSeconds: 60, exitHandlerBackoffLimit: 1}", expected);

    [Theory]
    [InlineData("""{"mainPodSpec":{}}""")]
    [InlineData("""{"mainPodSpec":{},"exitHandlerSpec":null}""")]
    public void An_OMJob_without_an_exit_handler_gets_none(string own) =>
        Merges(own, "exitHandlerSpec: {image: x, command: [x]}", """{"mainPodSpec":{}}""");

    [Theory]
    [InlineData("", "", """{"runAsUser":1}""", "", """{"runAsUser":1}""")]
    [InlineData("", "", """{"runAsUser":1}""", """{"runAsUser":2}""", """{"runAsUser":2}""")]
    [InlineData("""{"fsGroup":5}""", "", """{"runAsUser":1}""", """{"runAsUser":2}""", """{"fsGroup":5,"runAsUser":2}""")]
    [InlineData("""{"runAsUser":5}""", "", """{"runAsUser":1}""", """{"runAsUser":2}""", """{"runAsUser":5}""")]
    [InlineData("""{"runAsUser":5}""", """{"runAsUser":6}""", """{"fsGroup":1}""", "", """{"runAsUser":6,"fsGroup":1}""")]
    public void The_exit_pod_has_its_own_else_mains_own_else_the_defaults(
        string main, string exit, string fileMain, string fileExit, string expected)
    {
        static string Pod(string context) => context.Length == 0 ? "{}" : $$"""{"securityContext":{{context}} }""";
        static string Both(string main, string exit) => $$"""{"mainPodSpec":{{Pod(main)}},"exitHandlerSpec":{{Pod(exit)}} }""";
        var merged = JsonNode.Parse(Over(Both(main, exit), Both(fileMain, fileExit)))!["exitHandlerSpec"]!["securityContext"];
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(expected), merged), $"{merged}");
    }

    // ----- properties

    /// <summary>Makes specs of choices, which CsCheck makes fewer and smaller where one breaks a rule.</summary>
    sealed class Choices(int[] made)
    {
        int next;

        public int Of(int count) => next < made.Length ? made[next++] % count : 0;

        string Word => ((string[])["a", "b", "c", ""])[Of(4)];

        JsonNode Leaf => Of(3) switch { 0 => Word, 1 => Of(3), _ => new JsonObject() };

        JsonObject Map(Func<JsonNode> value, params string[] names) =>
            new(names.Where(_ => Of(2) == 1).Select(name => KeyValuePair.Create(name, (JsonNode?)value())).ToArray());

        JsonArray Items(string[] keys, params string[] others) => new([.. Enumerable.Range(0, Of(4)).Select(_ =>
        {
            var item = Map(() => new JsonObject(), others);
            foreach (var key in keys) item[key] = Word;
            return item;
        })]);

        JsonArray Words => new([.. Enumerable.Range(0, Of(3)).Select(_ => (JsonNode)Word)]);

        JsonObject Strings => Map(() => Word, "a", "b", "c");

        /// <summary>What crd.yaml takes for a pod's spec.</summary>
        JsonNode Field(string name) => name switch
        {
            "priorityClassName" or "serviceAccountName" => Word,
            "command" or "args" => Words,
            "labels" or "annotations" or "nodeSelector" => Strings,
            "securityContext" => Map(() => Leaf, "runAsUser", "fsGroup", "seccompProfile"),
            "containerSecurityContext" => Map(() => Leaf, "runAsUser", "capabilities"),
            "resources" => Map(() => Map(() => 1 + Of(3), "cpu", "memory"), "limits", "requests"),
            "env" => Items(["name"], "valueFrom"),
            "volumes" => Items(["name"], "emptyDir", "secret"),
            "volumeMounts" => Items(["name", "mountPath"]),
            "imagePullSecrets" => Items(["name"]),
            "tolerations" => Items(["key"], "x"),
            "envFrom" => Items([], "configMapRef", "secretRef"),
            _ => Map(() => Leaf, "a", "b"),
        };

        JsonObject PodSpec => new(((string[])[
            "priorityClassName", "serviceAccountName", "command", "args", "labels", "annotations", "nodeSelector",
            "securityContext", "containerSecurityContext", "resources", "env", "volumes", "volumeMounts",
            "imagePullSecrets", "tolerations", "envFrom", "affinity", "dnsConfig",
        ]).Where(_ => Of(3) == 1).Select(name => KeyValuePair.Create(name, (JsonNode?)Field(name))).ToArray());

        public JsonObject Spec
        {
            get
            {
                var spec = new JsonObject { ["mainPodSpec"] = PodSpec };
                if (Of(4) > 0) spec["exitHandlerSpec"] = PodSpec;
                if (Of(2) > 0) spec["activeDeadlineSeconds"] = 1 + Of(5);
                return spec;
            }
        }
    }

    static readonly Gen<JsonObject> Spec = Gen.Int[0, 1000].Array[0, 150].Select(made => new Choices(made).Spec);
    static readonly int Samples = Tier.Of("OMJOB_FUZZ", small: 2_000, full: 30_000);

    [Fact]
    public void Merging_twice_is_merging_once() => Gen.Select(Spec, Spec).Sample((own, file) =>
    {
        var once = Over(own.ToJsonString(), file.ToJsonString());
        Merges(once, file.ToJsonString(), once);
    }, iter: Samples, print: p => $"{p.Item1.ToJsonString()} over {p.Item2.ToJsonString()}");

    [Theory, InlineData(""), InlineData("{}"), InlineData("# nothing\n"), InlineData("mainPodSpec:\nexitHandlerSpec:\n")]
    public void An_empty_file_changes_nothing_in_a_pod(string file) => Spec.Sample(own =>
    {
        var job = AnOMJob.HandlerRunning().WithMain(own["mainPodSpec"]!.ToJsonString()).WithExit("{}");
        if (own["exitHandlerSpec"] is { } exit) job.WithExit(exit.ToJsonString());
        var defaults = RunDefaults.Parse(file);
        Assert.Equal(PodTemplate.Build(job.Job, PodType.ExitHandler),
            PodTemplate.Build(job.Job, PodType.ExitHandler, defaults));
        var main = JsonNode.Parse(PodTemplate.Build(job.Job, PodType.Main, defaults))!;
        Assert.True(main["metadata"]!["annotations"]!.AsObject().Remove(LabelKeys.Defaults));
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(PodTemplate.Build(job.Job, PodType.Main)), main));
    }, iter: Samples / 10, print: own => own.ToJsonString());

    [Fact]
    public void What_an_OMJob_says_itself_stays() => Gen.Select(Spec, Spec).Sample((own, file) =>
    {
        var merged = JsonNode.Parse(Over(own.ToJsonString(), file.ToJsonString()))!;
        foreach (var (name, value) in own.Where(f => f.Value is not JsonObject))
            Assert.True(JsonNode.DeepEquals(value, merged[name]));
        foreach (var pod in (string[])["mainPodSpec", "exitHandlerSpec"])
            if (own[pod] is JsonObject spec)
                Assert.True(Contains(merged[pod]!, new JsonObject(spec.Where(f => !IsInherited(f.Value, f.Key))
                    .Select(f => KeyValuePair.Create(f.Key, f.Value?.DeepClone())))),
                    $"{merged[pod]!.ToJsonString()} has not all of its own");
        Assert.Equal(own.ContainsKey("exitHandlerSpec"), merged.AsObject().ContainsKey("exitHandlerSpec"));

        static bool IsInherited(JsonNode? value, string name) =>
            name is "securityContext" or "serviceAccountName" or "imagePullSecrets"
            && value?.ToJsonString() is "{}" or "[]" or "\"\"";

        // Every field, and of a list every item, first and in their order; an empty object may have been filled.
        static bool Contains(JsonNode? all, JsonNode? own) => (all, own) switch
        {
            (_, null) => true,
            (JsonObject filled, JsonObject said) => said.All(f => Contains(filled[f.Key], f.Value)),
            (JsonArray list, JsonArray said) => said.Count <= list.Count
                && said.Zip(list).All(i => JsonNode.DeepEquals(i.First, i.Second)),
            (_, JsonObject { Count: 0 }) => true,
            _ => JsonNode.DeepEquals(all, own),
        };
    }, iter: Samples, print: p => $"{p.Item1.ToJsonString()} over {p.Item2.ToJsonString()}");

    // ----- the pods

    [Fact]
    public void What_the_operator_itself_sets_no_file_overrides()
    {
        var defaults = RunDefaults.Parse("""
            mainPodSpec: &pod
              labels:
                omjob: x
                omjob.pipelines.openmetadata.org/name: x
                omjob.pipelines.openmetadata.org/pod-type: x
                omjob.pipelines.openmetadata.org/uid: x
                app.kubernetes.io/component: x
                team: blue
              annotations: {omjob.pipelines.openmetadata.org/uid: x, omjob.pipelines.openmetadata.org/run-defaults: x}
              env: [{name: pipelineStatus, value: x}, {name: more, value: "1"}]
            exitHandlerSpec: *pod
            """);
        var job = AnOMJob.HandlerRunning(3).Job;
        var pods = ((PodType[])[PodType.Main, PodType.ExitHandler])
            .Select(type => JsonNode.Parse(PodTemplate.Build(job, type, defaults))!).ToArray();
        foreach (var (pod, type) in pods.Zip((string[])["main", "exit-handler"]))
        {
            var labels = pod["metadata"]!["labels"]!;
            Assert.Equal(("run", "run", type, "uid-of-run", "blue"), ((string?)labels["omjob"],
                (string?)labels[LabelKeys.Name], (string?)labels[LabelKeys.Type], (string?)labels[LabelKeys.Uid],
                (string?)labels["team"]));
            Assert.Equal(("uid-of-run", defaults.Hash), ((string?)pod["metadata"]!["annotations"]![LabelKeys.Uid],
                (string?)pod["metadata"]!["annotations"]![LabelKeys.Defaults]));
        }
        Assert.Equal("exit-handler", (string?)pods[1]["metadata"]!["labels"]![LabelKeys.Component]);
        Assert.Equal("""[{"name":"more","value":"1"},{"name":"pipelineStatus","value":"failed"}]""",
            pods[1]["spec"]!["containers"]![0]!["env"]!.ToJsonString());
    }

    [Fact]
    public void No_OMJob_can_pretend_that_its_pods_were_made_with_run_defaults()
    {
        var pod = JsonNode.Parse(PodTemplate.Build(AnOMJob.Pending().WithMain(
            """{"annotations":{"omjob.pipelines.openmetadata.org/run-defaults":"x"}}""").Job, PodType.Main))!;
        Assert.False(pod["metadata"]!["annotations"]!.AsObject().ContainsKey(LabelKeys.Defaults));
    }

    // ----- the file

    [Theory]
    [InlineData("ttlSecondsAfterFinished: 60", "ttlSecondsAfterFinished: " + RunDefaults.BySchema)]
    [InlineData("mainPodSpec: {imagePullPolicy: Always}", "mainPodSpec.imagePullPolicy: " + RunDefaults.BySchema)]
    [InlineData("exitHandlerSpec: {imagePullPolicy: Always}",
        "exitHandlerSpec.imagePullPolicy: " + RunDefaults.BySchema)]
    [InlineData("mainPodspec: {}", "mainPodspec: there is no such field")]
    [InlineData("mainPodSpec: {hostNetwork: true}", "mainPodSpec.hostNetwork: there is no such field")]
    [InlineData("exitHandlerSpec: {restartPolicy: Never}", "exitHandlerSpec.restartPolicy: there is no such field")]
    [InlineData("mainPodSpec: {env: [{nam: a}]}", "mainPodSpec.env[0].name: is missing")]
    [InlineData("mainPodSpec: {env: [{name: a, vlaue: b}]}", "mainPodSpec.env[0]: has an unknown field")]
    [InlineData("mainPodSpec: {env: [{name: a, value: hunter2,swordfish}]}", "mainPodSpec.env[0]: has an unknown field")]
    [InlineData("mainPodSpec: {env: [{name: a, value: 5}]}", "mainPodSpec.env[0].value: is no string")]
    [InlineData("mainPodSpec: {env: [{name: a, value: yes}]}", "mainPodSpec.env[0].value: is no string")]
    [InlineData("mainPodSpec: {env: [{name: a, valueFrom: {secretKeyRef: {name: a}}}]}",
        "mainPodSpec.env[0].valueFrom.secretKeyRef.key: is missing")]
    [InlineData("mainPodSpec: {volumes: {name: a}}", "mainPodSpec.volumes: is no array")]
    [InlineData("mainPodSpec: {volumes: [a]}", "mainPodSpec.volumes[0]: is no object")]
    [InlineData("mainPodSpec: {labels: {team: 5}}", "mainPodSpec.labels.team: is no string")]
    [InlineData("mainPodSpec: [a]", "mainPodSpec: is no object")]
    [InlineData("activeDeadlineSeconds: 6h", "activeDeadlineSeconds: is no integer")]
    [InlineData("activeDeadlineSeconds: 9223372036854775808", "activeDeadlineSeconds: is too large")]
    [InlineData("activeDeadlineSeconds: 1e20", "activeDeadlineSeconds: is too large")]
    [InlineData("exitHandlerBackoffLimit: 2147483648", "exitHandlerBackoffLimit: is too large")]
    [InlineData("mainPodSpec: {resources: {limits: {cpu: 9223372036854775808}}}",
        "mainPodSpec.resources.limits.cpu: is too large")]
    [InlineData("mainPodSpec: {resources: {limits: {cpu: \"1\\n\"}}}",
        "mainPodSpec.resources.limits.cpu: is not written as it should be")]
    [InlineData("mainPodSpec: {labels: {team: [data}}", "line 1: this is no YAML")]
    [InlineData("mainPodSpec: {labels: {team: data", "line 2: this is no YAML")]
    [InlineData("? &a [*a]\n: x", "line 1: this is no YAML")]
    [InlineData("{&a [*a]: x, &b [*b]: y}", "line 1: this is no YAML")]
    [InlineData("activeDeadlineSeconds: 0", "activeDeadlineSeconds: is less than 1")]
    [InlineData("activeDeadlineSeconds: 1.5", "activeDeadlineSeconds: is no integer")]
    [InlineData("mainPodSpec: {dnsPolicy: Any}",
        "mainPodSpec.dnsPolicy: is none of ClusterFirst, ClusterFirstWithHostNet, Default, None")]
    [InlineData("mainPodSpec: {resources: {limits: {cpu: many}}}",
        "mainPodSpec.resources.limits.cpu: is not written as it should be")]
    [InlineData("mainPodSpec: {resources: {limits: {cpu: true}}}", "mainPodSpec.resources.limits.cpu: is no integer or string")]
    [InlineData("mainPodSpec: {resources: {limits: {cpu: 1.5}}}", "mainPodSpec.resources.limits.cpu: is no integer or string")]
    [InlineData("[a]", "this is no fragment of an OMJob's spec")]
    [InlineData("5", "this is no fragment of an OMJob's spec")]
    [InlineData("{}\n---\n{}", "there is more than one document")]
    [InlineData("a: b: c", "line 1: this is no YAML")]
    [InlineData("\nmainPodSpec: {env: [{name: key, value: *hunter2}]}", "an alias, *name, has no anchor, &name")]
    [InlineData("mainPodSpec: &a {x: *a}", "line 1: this is no YAML")]
    public void A_file_that_says_what_cannot_be_is_refused_in_one_line(string file, string line) =>
        Assert.Equal(line, Refusal(file));

    /// <summary>Characters that mean something in YAML, anywhere in a file, instead of what is there.</summary>
    [Fact]
    public void Whatever_a_file_is_it_is_taken_or_refused_in_a_line_that_repeats_no_value() =>
        Gen.Select(Gen.Int[0, 10_000], Gen.Int[0, 3], Gen.String[Gen.Char["-:{}[]&*!|>'\"%@`#,? \n\tax0\0\uFEFF"], 0, 4])
            .Array[1, 4].Sample(edits =>
        {
            const string secret = "hunter2/is+secret";
            var text = $"activeDeadlineSeconds: 5\nmainPodSpec: &pod\n  env:\n  - name: key\n    value: {secret}\n"
                + $"  - {{name: other, value: '{secret}'}}\n  labels: {{team: {secret}}}\nexitHandlerSpec: *pod\n";
            foreach (var (at, cut, put) in edits)
            {
                var from = at % text.Length;
                text = text.Remove(from, Math.Min(cut, text.Length - from)).Insert(from, put);
            }
            try { RunDefaults.Parse(text); }
            catch (DefaultsException e)
            {
                Assert.DoesNotContain('\n', e.Message);
                Assert.DoesNotContain("is+secret", e.Message, StringComparison.Ordinal);
            }
        }, iter: Samples);

    [Theory, InlineData("["), InlineData("{a: "), InlineData("- ")]
    public void A_file_as_deep_as_it_is_long_is_refused(string opens) =>
        Assert.Equal("line 1: this is no YAML", Refusal(string.Concat(Enumerable.Repeat(opens, 300_000))));

    [Fact]
    public void Aliases_that_grow_beyond_all_bounds_are_refused()
    {
        var levels = Enumerable.Range(1, 20)
            .Select(i => $"l{i}: &l{i} [{string.Join(", ", Enumerable.Repeat($"*l{i - 1}", 10))}]");
        Assert.EndsWith("this is no YAML", Refusal($"l0: &l0 [x]\n{string.Join('\n', levels)}"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("y", "true"), InlineData("Yes", "true"), InlineData("on", "true"), InlineData("TRUE", "true")]
    [InlineData("n", "false"), InlineData("No", "false"), InlineData("off", "false"), InlineData("yEs", "\"yEs\"")]
    [InlineData("~", "null"), InlineData("NULL", "null"), InlineData("", "null"), InlineData("nULL", "\"nULL\"")]
    [InlineData("+1", "1"), InlineData("010", "8"), InlineData("0o10", "8"), InlineData("0x1F", "31")]
    [InlineData("0b11", "3"), InlineData("1_000", "1000"), InlineData("08", "8"), InlineData("-010", "-8")]
    [InlineData("1e3", "1000"), InlineData(".5", "0.5"), InlineData("1.", "1"), InlineData("-.5", "-0.5")]
    [InlineData(".", "\".\""), InlineData("+", "\"+\""), InlineData("1.5.2", "\"1.5.2\""), InlineData("0x", "\"0x\"")]
    [InlineData("2001-01-01", "\"2001-01-01\""), InlineData("12:30", "\"12:30\""), InlineData("1e400", "\"1e400\"")]
    [InlineData("9223372036854775807", "9223372036854775807"), InlineData("_1", "\"_1\""), InlineData("0b12", "\"0b12\"")]
    [InlineData("'5'", "\"5\""), InlineData("!!str 5", "\"5\""), InlineData("!!int \"5\"", "5"), InlineData("!foo 5", "\"5\"")]
    [InlineData("100Mi", "\"100Mi\""), InlineData("--1", "\"--1\""), InlineData("<<", "\"<<\"")]
    public void YAML_is_typed_as_kubectl_does_it(string yaml, string json) =>
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(json), YamlReading.Documents($"a: {yaml}")[0]!["a"]));

    [Theory]
    [InlineData("{a: &p {x: 1, y: 2}, b: {<<: *p, y: 3}}", """{"a":{"x":1,"true":2},"b":{"x":1,"true":3}}""")]
    [InlineData("{a: &p {x: 1}, b: &q {x: 2, z: 3}, c: {z: 4, <<: [*p, *q]}}",
        """{"a":{"x":1},"b":{"x":2,"z":3},"c":{"z":4,"x":1}}""")]
    [InlineData("{010: a, 1.0: b, 'y': c, '<<': d}", """{"8":"a","1":"b","y":"c","<<":"d"}""")]
    public void Keys_are_merged_and_typed_as_kubectl_does_it(string yaml, string json) =>
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(json), YamlReading.Documents(yaml)[0]),
            YamlReading.Documents(yaml)[0]!.ToJsonString());

    [Fact]
    public void A_file_larger_than_a_ConfigMap_is_refused_through_a_link_too()
    {
        var folder = Directory.CreateTempSubdirectory("omjob-defaults-");
        try
        {
            var (file, link) = (Path.Combine(folder.FullName, "file"), Path.Combine(folder.FullName, "link"));
            File.WriteAllText(file, new string('#', 1 << 20));
            File.CreateSymbolicLink(link, file);
            new DefaultsFile(link).Load();
            File.AppendAllText(file, "#");
            Assert.EndsWith("it is larger than 1048576 bytes",
                Assert.Throws<DefaultsException>(new DefaultsFile(link).Load).Message, StringComparison.Ordinal);
        }
        finally { folder.Delete(true); }
    }

    [Fact]
    public void The_example_is_a_good_file()
    {
        var defaults = RunDefaults.Parse(File.ReadAllText(Sandbox.Repository.File("examples/run-defaults.yaml")));
        Assert.Equal(6 * 3600, defaults.Spec.Number("activeDeadlineSeconds"));
    }
}
