// The pods, field by field.

using System.Text.Json;
using System.Text.Json.Nodes;
using Xunit;
using static OMJobs.Tests.AnOMJob;

namespace OMJobs.Tests;

public sealed class PodTests
{
    const string Name = "omjob.pipelines.openmetadata.org/name", Type = "omjob.pipelines.openmetadata.org/pod-type",
        Uid = "omjob.pipelines.openmetadata.org/uid";
    const string DefaultSecurity = """
        {"runAsNonRoot":true,"runAsUser":1000,"runAsGroup":1000,"fsGroup":1000,
         "seccompProfile":{"type":"RuntimeDefault"}}
        """;
    const string ContainerDefaults =
        "\"allowPrivilegeEscalation\":false,\"readOnlyRootFilesystem\":false,\"capabilities\":{\"drop\":[\"ALL\"]}";

    static JsonNode MainOf(AnOMJob job) => Parse(PodTemplate.Build(job.Job, PodType.Main));
    static JsonNode ExitOf(AnOMJob job) => Parse(PodTemplate.Build(job.Job, PodType.ExitHandler));
    static JsonNode Container(JsonNode pod) => Assert.Single(pod["spec"]!["containers"]!.AsArray())!;
    static string? Label(JsonNode pod, string name) => (string?)pod["metadata"]!["labels"]![name];

    /// <summary>Also proves that no field is there twice, which the API server refuses or reads as it likes.</summary>
    static JsonNode Parse(byte[] body) =>
        JsonNode.Parse(body, documentOptions: new() { AllowDuplicateProperties = false })!;

    static void Same(string expected, JsonNode? actual) =>
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(expected), actual),
            $"{actual?.ToJsonString()} is not {expected}");

    [Fact]
    public void The_whole_main_pod() => Same($$"""
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "name": "run-main",
            "namespace": "data",
            "labels": {
              "omjob": "run", "{{Name}}": "run", "{{Type}}": "main", "{{Uid}}": "uid-of-run",
              "app.kubernetes.io/name": "openmetadata", "app.kubernetes.io/managed-by": "omjob-operator",
              "app.kubernetes.io/component": "ingestion"
            },
            "annotations": {"{{Uid}}": "uid-of-run"},
            "ownerReferences": [{
              "apiVersion": "pipelines.openmetadata.org/v1", "kind": "OMJob", "name": "run", "uid": "uid-of-run",
              "controller": true, "blockOwnerDeletion": false
            }],
            "finalizers": ["pipelines.openmetadata.org/outcome"]
          },
          "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "ingestion",
            "securityContext": {{DefaultSecurity}},
            "containers": [{
              "name": "main", "image": "ingestion:1", "imagePullPolicy": "IfNotPresent",
              "command": ["python", "main.py"],
              "env": [],
              "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, {{ContainerDefaults}}}
            }]
          }
        }
        """, MainOf(Pending()));

    [Fact]
    public void The_whole_exit_pod() => Same($$"""
        {
          "apiVersion": "v1",
          "kind": "Pod",
          "metadata": {
            "name": "run-exit",
            "namespace": "data",
            "labels": {
              "omjob": "run", "{{Name}}": "run", "{{Type}}": "exit-handler", "{{Uid}}": "uid-of-run",
              "app.kubernetes.io/name": "openmetadata", "app.kubernetes.io/managed-by": "omjob-operator",
              "app.kubernetes.io/component": "exit-handler"
            },
            "annotations": {"{{Uid}}": "uid-of-run"},
            "ownerReferences": [{
              "apiVersion": "pipelines.openmetadata.org/v1", "kind": "OMJob", "name": "run", "uid": "uid-of-run",
              "controller": true, "blockOwnerDeletion": false
            }]
          },
          "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": "ingestion",
            "securityContext": {{DefaultSecurity}},
            "containers": [{
              "name": "main", "image": "ingestion:1", "imagePullPolicy": "IfNotPresent",
              "command": ["python", "exit_handler.py"],
              "env": [{"name": "pipelineStatus", "value": "success"}],
              "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, {{ContainerDefaults}}}
            }]
          }
        }
        """, ExitOf(HandlerRunning()));

    [Fact]
    public void The_pods_are_called_what_status_says()
    {
        Assert.Equal("run-exit-3", (string?)ExitOf(HandlerRunning().AtAttempt(3))["metadata"]!["name"]);
        Assert.Equal("older-main", (string?)MainOf(Pending().With("mainPodName", "older-main"))["metadata"]!["name"]);
    }

    [Fact]
    public void G20_a_pod_made_while_its_owner_orphans_its_pods_names_no_owner()
    {
        var pod = ExitOf(HandlerRunning().Killed(Job.Orphan).Orphaning());
        Assert.Null(pod["metadata"]!["ownerReferences"]);
        Assert.Equal("uid-of-run", Label(pod, Uid));
    }

    // ----- labels

    [Fact]
    public void Pipeline_and_run_id_are_the_OMJobs_unless_the_pod_spec_has_its_own()
    {
        var job = HandlerRunning().WithLabel("app.kubernetes.io/pipeline", "sales")
            .WithLabel("app.kubernetes.io/run-id", "1-2")
            .WithLabel("team", "data").WithExit("""{"image":"i","labels":{"app.kubernetes.io/run-id":"3-4"}}""");
        Assert.Equal(("sales", "1-2"),
            (Label(MainOf(job), "app.kubernetes.io/pipeline"), Label(MainOf(job), "app.kubernetes.io/run-id")));
        Assert.Equal(("sales", "3-4"),
            (Label(ExitOf(job), "app.kubernetes.io/pipeline"), Label(ExitOf(job), "app.kubernetes.io/run-id")));
        Assert.Null(Label(MainOf(job), "team"));
    }

    [Fact]
    public void A_specs_labels_go_on_top_but_never_over_those_by_which_pods_are_found()
    {
        const string labels = $$"""
            {"image":"i","labels":{
              "omjob":"x","{{Name}}":"x","{{Type}}":"x","{{Uid}}":"x","team":"data",
              "app.kubernetes.io/managed-by":"openmetadata","app.kubernetes.io/component":"ingestion",
              "app.kubernetes.io/name":"mine"} }
            """;
        var job = HandlerRunning().WithMain(labels.Replace("\"ingestion\"", "\"own\"", StringComparison.Ordinal))
            .WithExit(labels);
        foreach (var (pod, type, component) in new[] { (MainOf(job), "main", "own"),
            (ExitOf(job), "exit-handler", "exit-handler") })
        {
            Assert.Equal(("run", "run"), (Label(pod, "omjob"), Label(pod, Name)));
            Assert.Equal((type, "uid-of-run"), (Label(pod, Type), Label(pod, Uid)));
            Assert.Equal(("data", "mine"), (Label(pod, "team"), Label(pod, "app.kubernetes.io/name")));
            Assert.Equal("openmetadata", Label(pod, "app.kubernetes.io/managed-by"));
            Assert.Equal(component, Label(pod, "app.kubernetes.io/component"));
        }
    }

    [Fact]
    public void Label_values_are_made_valid_and_an_empty_one_is_left_out()
    {
        var name = new string('n', 70) + ".run";
        var job = Pending().Named(name).WithLabel("app.kubernetes.io/pipeline", "my pipeline!")
            .WithLabel("app.kubernetes.io/run-id", "--")
            .WithMain("""{"image":"i","labels":{"a":"x y","b":"!","c":5}}""");
        var pod = MainOf(job);
        Assert.Equal(Names.Fit(name, 63, ""), Label(pod, Name));
        Assert.Equal(Label(pod, Name), Label(pod, "omjob"));
        Assert.Equal(("my-pipeline", "x-y", "5"),
            (Label(pod, "app.kubernetes.io/pipeline"), Label(pod, "a"), Label(pod, "c")));
        Assert.False(pod["metadata"]!["labels"]!.AsObject().ContainsKey("b"));
        Assert.False(pod["metadata"]!["labels"]!.AsObject().ContainsKey("app.kubernetes.io/run-id"));
    }

    [Fact]
    public void D3_the_label_patch_restores_what_pods_are_found_by_on_that_very_pod()
    {
        Same($$"""
            {"metadata":{"uid":"uid-of-run-main","labels":{
              "omjob":"run","{{Name}}":"run","{{Type}}":"main","{{Uid}}":"uid-of-run"} } }
            """, Parse(PodTemplate.LabelPatch(Running().Job, APod.MainPod().Pod)));
        Same($$"""
            {"metadata":{"uid":"uid-of-run-exit-2","labels":{
              "omjob":"run","{{Name}}":"run","{{Type}}":"exit-handler","{{Uid}}":"uid-of-run"} } }
            """, Parse(PodTemplate.LabelPatch(HandlerRunning().AtAttempt(2).Job, APod.ExitPod(2).Pod)));
    }

    // ----- security, service account, pull secrets

    public static TheoryData<string?, string?, string, string> SecurityContexts => new()
    {
        { null, null, DefaultSecurity, DefaultSecurity },
        { "{}", "{}", DefaultSecurity, DefaultSecurity },
        { "null", "null", DefaultSecurity, DefaultSecurity },
        { "5", null, DefaultSecurity, DefaultSecurity },
        { """{"runAsUser":7,"x":{"y":1}}""", null, """{"runAsUser":7,"x":{"y":1}}""",
            """{"runAsUser":7,"x":{"y":1}}""" },
        { """{"runAsUser":7}""", "{}", """{"runAsUser":7}""", """{"runAsUser":7}""" },
        { """{"runAsUser":7}""", """{"runAsUser":8}""", """{"runAsUser":7}""", """{"runAsUser":8}""" },
        { null, """{"runAsUser":8}""", DefaultSecurity, """{"runAsUser":8}""" },
    };

    [Theory]
    [MemberData(nameof(SecurityContexts))]
    public void The_security_context_is_the_specs_else_mains_else_the_default(string? main, string? exit,
        string ofMain, string ofExit)
    {
        string Spec(string? context) => context is null ? """{"image":"i"}"""
            : $$"""{"image":"i","securityContext":{{context}} }""";
        var job = HandlerRunning().WithMain(Spec(main)).WithExit(Spec(exit));
        Same(ofMain, MainOf(job)["spec"]!["securityContext"]);
        Same(ofExit, ExitOf(job)["spec"]!["securityContext"]);
    }

    [Fact]
    public void The_container_runs_as_the_pod_does_and_what_the_pod_does_not_say_is_not_said()
    {
        var job = Pending().WithMain(
            """{"securityContext":{"runAsUser":7,"runAsGroup":8,"fsGroup":9,"seccompProfile":{"type":"None"}}}""");
        Same($$"""{"runAsUser":7,"runAsGroup":8,{{ContainerDefaults}} }""", Container(MainOf(job))["securityContext"]);
    }

    [Fact]
    public void A_container_security_context_goes_over_the_defaults()
    {
        var job = Pending().WithMain(
            """{"containerSecurityContext":{"runAsUser":7,"readOnlyRootFilesystem":true,"privileged":false}}""");
        Same("""
            {"runAsNonRoot":true,"runAsGroup":1000,"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},
             "runAsUser":7,"readOnlyRootFilesystem":true,"privileged":false}
            """, Container(MainOf(job))["securityContext"]);
        Assert.Null(MainOf(job)["spec"]!["containerSecurityContext"]);
    }

    /// <summary>What the OpenMetadata server always gives, which says no seccomp profile.</summary>
    const string OfTheServer = """
        {"image":"i","securityContext":{"runAsNonRoot":true,"runAsUser":1000,"runAsGroup":1000,"fsGroup":1000},
         "initContainers":[{"name":"a","image":"i"},{"name":"b","image":"i","securityContext":
          {"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]},"seccompProfile":{}}}]}
        """;

    [Fact]
    public void Where_neither_pod_nor_container_says_a_seccomp_profile_the_container_gets_the_runtimes()
    {
        const string profile = """{"type":"RuntimeDefault"}""";
        var pod = MainOf(Pending().WithMain(OfTheServer));
        Assert.Null(pod["spec"]!["securityContext"]!["seccompProfile"]);
        Same(profile, Container(pod)["securityContext"]!["seccompProfile"]);
        foreach (var container in pod["spec"]!["initContainers"]!.AsArray())
            Same(profile, container!["securityContext"]!["seccompProfile"]);
        pod = MainOf(Pending().WithMain(
            """{"securityContext":{"runAsUser":1},"containerSecurityContext":{"seccompProfile":{"type":"Localhost"}}}"""));
        Same("""{"type":"Localhost"}""", Container(pod)["securityContext"]!["seccompProfile"]);
        pod = MainOf(Pending().WithMain("""
            {"securityContext":{"seccompProfile":{"type":"Unconfined"}},
             "initContainers":[{"name":"a","securityContext":{"runAsUser":1}}]}
            """));
        Assert.Null(Container(pod)["securityContext"]!["seccompProfile"]);
        Same("""{"runAsUser":1}""", pod["spec"]!["initContainers"]![0]!["securityContext"]);
        pod = MainOf(Pending().WithMain("""
            {"annotations":{"container.seccomp.security.alpha.kubernetes.io/main":"unconfined"},"securityContext":{"runAsUser":1}}
            """));
        Assert.Null(Container(pod)["securityContext"]!["seccompProfile"]); // an annotation says one
    }

    /// <summary>The rules of the profile, by hand: the API servers that the tests run on do not enforce them.</summary>
    [Theory]
    [InlineData("""{"image":"i"}""")]
    [InlineData("""{"image":"i","securityContext":{}}""")]
    [InlineData("""
        {"image":"i","volumes":[{"name":"v","emptyDir":{}},{"name":"s","secret":{"secretName":"s"}}],
         "containerSecurityContext":{"readOnlyRootFilesystem":true}}
        """)]
    [InlineData("""
        {"image":"i","initContainers":[{"name":"a","image":"i"},{"name":"n","securityContext":null},
         {"name":"b","image":"i","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]}
        """)]
    [InlineData(OfTheServer)]
    public void Pods_without_a_security_context_pass_the_restricted_profile_and_so_do_the_servers(string spec)
    {
        var job = HandlerRunning().WithMain(spec).WithExit(spec);
        Assert.Empty(AgainstRestricted(MainOf(job)));
        Assert.Empty(AgainstRestricted(ExitOf(job)));
    }

    [Theory]
    [InlineData("""{"securityContext":{"runAsUser":1000}}""", "runAsNonRoot")]
    [InlineData("""{"containerSecurityContext":{"seccompProfile":{"type":"Unconfined"}}}""", "seccompProfile")]
    [InlineData("""{"securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"Unconfined"}}}""",
        "seccompProfile")]
    [InlineData("""{"securityContext":{"runAsNonRoot":true,"runAsUser":0,"seccompProfile":{"type":"Localhost"}}}""",
        "runAsUser")]
    [InlineData("""{"containerSecurityContext":{"privileged":true,"allowPrivilegeEscalation":true}}""",
        "privileged, allowPrivilegeEscalation")]
    [InlineData("""{"initContainers":[{"name":"a","securityContext":{"runAsUser":0}}]}""",
        "allowPrivilegeEscalation, runAsUser, capabilities")]
    [InlineData("""{"containerSecurityContext":{"capabilities":{"drop":["ALL"],"add":["SYS_ADMIN"]}}}""",
        "capabilities")]
    [InlineData("""{"containerSecurityContext":{"capabilities":{}}}""", "capabilities")]
    [InlineData("""{"hostNetwork":true,"volumes":[{"name":"v","hostPath":{"path":"/"}}]}""", "hostNetwork, volumes")]
    public void What_the_OMJob_asks_for_itself_is_the_clusters_to_refuse(string spec, string refused) =>
        Assert.Equal(refused, string.Join(", ", AgainstRestricted(MainOf(Pending().WithMain(spec)))));

    /// <summary>The fields by which the restricted profile refuses a pod (Pod Security Standards).</summary>
    static IEnumerable<string> AgainstRestricted(JsonNode pod)
    {
        var spec = pod["spec"]!;
        bool Is(JsonNode? node, bool value) => node?.GetValue<bool>() == value;
        foreach (var field in (string[])["hostNetwork", "hostPID", "hostIPC"])
            if (Is(spec[field], true)) yield return field;
        foreach (var container in (spec["initContainers"] as JsonArray ?? []).Append(Container(pod)))
            foreach (var field in OfContainer(container!["securityContext"]))
                yield return field;
        IEnumerable<string> OfContainer(JsonNode? own)
        {
            JsonNode? Effective(string field) => own?[field] ?? spec["securityContext"]![field];
            if (Is(own?["privileged"], true)) yield return "privileged";
            if (!Is(own?["allowPrivilegeEscalation"], false)) yield return "allowPrivilegeEscalation";
            if (!Is(Effective("runAsNonRoot"), true)) yield return "runAsNonRoot";
            if ((long?)Effective("runAsUser") == 0) yield return "runAsUser";
            if ((string?)Effective("seccompProfile")?["type"] is not ("RuntimeDefault" or "Localhost"))
                yield return "seccompProfile";
            var capabilities = own?["capabilities"];
            if (capabilities?["drop"] is not JsonArray drop || !drop.Any(d => (string?)d == "ALL")
                || (capabilities["add"] as JsonArray ?? []).Any(a => (string?)a != "NET_BIND_SERVICE"))
                yield return "capabilities";
        }
        string[] volumes =
        [
            "name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
            "secret",
        ];
        if ((spec["volumes"] as JsonArray ?? []).Any(v => v!.AsObject().Any(f => !volumes.Contains(f.Key))))
            yield return "volumes";
    }

    [Theory]
    [InlineData("", "main-account", "pull")]
    [InlineData(""","serviceAccountName":"","imagePullSecrets":[]""", "main-account", "pull")]
    [InlineData(""","serviceAccountName":null,"imagePullSecrets":null""", "main-account", "pull")]
    [InlineData(""","serviceAccountName":"own","imagePullSecrets":[{"name":"own"}]""", "own", "own")]
    public void The_exit_pod_takes_what_it_is_not_given_from_the_main_spec(string given, string account, string secret)
    {
        var job = HandlerRunning()
            .WithMain("""{"image":"i","serviceAccountName":"main-account","imagePullSecrets":[{"name":"pull"}]}""")
            .WithExit($$"""{"image":"i"{{given}}}""");
        var spec = ExitOf(job)["spec"]!;
        Assert.Equal(account, (string?)spec["serviceAccountName"]);
        Same($$"""[{"name":"{{secret}}"}]""", spec["imagePullSecrets"]);
    }

    [Fact]
    public void The_main_pod_takes_nothing_from_the_exit_spec()
    {
        var spec = MainOf(Pending().WithMain("""{"image":"i"}""")
            .WithExit("""{"image":"i","serviceAccountName":"x","imagePullSecrets":[{"name":"x"}]}"""))["spec"]!;
        Assert.Null(spec["serviceAccountName"]);
        Assert.Null(spec["imagePullSecrets"]);
    }

    // ----- env

    [Theory]
    [InlineData(0, "success")]
    [InlineData(1, "failed")]
    [InlineData(137, "failed")]
    [InlineData(null, "failed")]
    public void The_pipeline_status_is_success_exactly_when_the_recorded_code_is_0(int? code, string expected) =>
        Same($$"""[{"name":"pipelineStatus","value":"{{expected}}"}]""",
            Container(ExitOf(HandlerRunning(code)))["env"]);

    [Fact]
    public void The_pipeline_status_is_the_last_and_only_one()
    {
        var job = HandlerRunning(3).WithExit("""
            {"image":"i","env":[{"name":"pipelineStatus","value":"success"},{"name":"a","value":"1"},
             {"name":"pipelineStatus","valueFrom":{"fieldRef":{"fieldPath":"x"}}},
             {"name":"pipelinestatus","value":"mine"}]}
            """);
        Same("""
            [{"name":"a","value":"1"},{"name":"pipelinestatus","value":"mine"},
             {"name":"pipelineStatus","value":"failed"}]
            """, Container(ExitOf(job))["env"]);
    }

    [Fact]
    public void The_main_pod_is_told_no_status_and_keeps_its_own()
    {
        var env = """[{"name":"pipelineStatus","value":"mine"},{"name":"b"}]""";
        Same(env, Container(MainOf(Pending().WithMain($$"""{"image":"i","env":{{env}} }""")))["env"]);
    }

    [Fact]
    public void An_empty_valueFrom_is_dropped_and_every_other_travels()
    {
        var job = Pending().WithMain("""
            {"image":"i","env":[
              {"name":"a","value":"1","valueFrom":{}},
              {"name":"b","valueFrom":{"secretKeyRef":{"name":"s","key":"k","optional":true}}},
              {"name":"c","valueFrom":{"fileKeyRef":{"path":"p"}},"later":1}]}
            """);
        Same("""
            [{"name":"a","value":"1"},
             {"name":"b","valueFrom":{"secretKeyRef":{"name":"s","key":"k","optional":true}}},
             {"name":"c","valueFrom":{"fileKeyRef":{"path":"p"}},"later":1}]
            """, Container(MainOf(job))["env"]);
    }

    [Theory]
    [InlineData("""{"image":"i","command":["sh"]}""")]
    [InlineData("""{"image":"i","command":["sh"],"env":null}""")]
    [InlineData("""{"image":"i","command":["sh"],"env":"a=b"}""")]
    public void An_env_that_is_missing_is_none(string spec)
    {
        Same("[]", Container(MainOf(Pending().WithMain(spec)))["env"]);
        Same("""[{"name":"pipelineStatus","value":"success"}]""",
            Container(ExitOf(HandlerRunning().WithExit(spec)))["env"]);
    }

    // ----- everything else travels as it came

    public static TheoryData<string, string> ContainerFields => new()
    {
        { "image", "\"x@sha256:0\"" }, { "imagePullPolicy", "\"Always\"" }, { "command", "[\"sh\",\"-c\",\"exit 0\"]" },
        { "args", "[\"a\"]" }, { "workingDir", "\"/x\"" }, { "envFrom", """[{"secretRef":{"name":"s"}}]""" },
        { "resources", """{"limits":{"cpu":"500m","new":"1"}}""" },
            { "volumeMounts", """[{"name":"v","mountPath":"/v"}]""" },
        { "livenessProbe", """{"exec":{"command":["x"]}}""" },
    };

    [Theory]
    [MemberData(nameof(ContainerFields))]
    public void A_containers_field_goes_to_the_container(string field, string value)
    {
        var pod = MainOf(Pending().WithMain($$"""{"{{field}}":{{value}} }"""));
        Same(value, Container(pod)[field]);
        Assert.Null(pod["spec"]![field]);
    }

    public static TheoryData<string, string> PodFields => new()
    {
        { "nodeSelector", """{"disk":"ssd"}""" },
            { "tolerations", """[{"key":"a","tolerationSeconds":5,"later":true}]""" },
        { "volumes", """[{"name":"v","ephemeral":{"x":[1.50,null]}}]""" }, { "priorityClassName", "\"high\"" },
        { "affinity", """{"nodeAffinity":{}}""" }, { "schedulingGates", """[{"name":"g"}]""" },
        { "initContainers", """[{"name":"i","env":[],"securityContext":{"runAsUser":0}},7]""" },
        { "topologySpreadConstraints", """[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]""" },
        { "runtimeClassName", "\"gvisor\"" }, { "hostAliases", """[{"ip":"10.0.0.1","hostnames":["om"]}]""" },
        { "dnsPolicy", "\"None\"" }, { "dnsConfig", """{"nameservers":["10.0.0.2"],"options":[{"name":"ndots"}]}""" },
        { "terminationGracePeriodSeconds", "5" }, { "nobodyKnowsThis", """{"a":[{}]}""" },
    };

    [Theory]
    [MemberData(nameof(PodFields))]
    public void H4_every_other_field_goes_to_the_pod_whole(string field, string value)
    {
        var job = HandlerRunning().WithMain($$"""{"image":"i","{{field}}":{{value}} }""")
            .WithExit($$"""{"image":"i","{{field}}":{{value}} }""");
        foreach (var pod in (JsonNode[])[MainOf(job), ExitOf(job)])
        {
            Same(value, pod["spec"]![field]);
            Assert.Null(Container(pod)[field]);
        }
    }

    [Fact]
    public void What_is_set_by_the_operator_cannot_be_set_by_the_spec()
    {
        var pod = MainOf(Pending().WithMain(
            """{"image":"i","restartPolicy":"Always","containers":[{"name":"x"}],"labels":{},"annotations":{}}"""));
        Assert.Equal("Never", (string?)pod["spec"]!["restartPolicy"]);
        Assert.Equal("main", (string?)Container(pod)["name"]);
        Assert.Null(pod["spec"]!["labels"]);
    }

    [Fact]
    public void Annotations_are_the_specs_and_the_OMJobs_uid_which_no_spec_overrides()
    {
        var job = HandlerRunning().WithMain($$"""{"annotations":{"a":"1","{{Uid}}":"another"} }""")
            .WithExit("""{"annotations":{"b":"2"}}""");
        Same($$"""{"a":"1","{{Uid}}":"uid-of-run"} """, MainOf(job)["metadata"]!["annotations"]);
        Same($$"""{"b":"2","{{Uid}}":"uid-of-run"} """, ExitOf(job)["metadata"]!["annotations"]);
    }

    [Fact]
    public void G8_H6_the_active_deadline_is_the_main_pods_alone()
    {
        var job = HandlerRunning().WithSpec("activeDeadlineSeconds", 300);
        Assert.Equal(300, (int?)MainOf(job)["spec"]!["activeDeadlineSeconds"]);
        Assert.Null(ExitOf(job)["spec"]!["activeDeadlineSeconds"]);
    }

    [Fact]
    public void G8_the_OMJobs_deadline_beats_the_main_specs()
    {
        var main = """{"image":"i","activeDeadlineSeconds":7}""";
        Assert.Equal(7, (int?)MainOf(Pending().WithMain(main))["spec"]!["activeDeadlineSeconds"]);
        Assert.Equal(300, (int?)MainOf(
            Pending().WithMain(main).WithSpec("activeDeadlineSeconds", 300))["spec"]!["activeDeadlineSeconds"]);
    }

    [Fact]
    public void G8_the_handlers_own_active_deadline_travels_beside_the_OMJobs()
    {
        var exit = """{"image":"i","activeDeadlineSeconds":7}""";
        var pod = ExitOf(HandlerRunning().WithSpec("activeDeadlineSeconds", 300).WithExit(exit));
        Assert.Equal(7, (int?)pod["spec"]!["activeDeadlineSeconds"]);
    }

    [Fact]
    public void A_pull_policy_of_the_wrong_type_travels_once() =>
        Same("5", Container(MainOf(Pending().WithMain("""{"imagePullPolicy":5}""")))["imagePullPolicy"]);

    [Theory]
    [InlineData("null")]
    [InlineData("5")]
    [InlineData("[]")]
    [InlineData("\"x\"")]
    [InlineData("{}")]
    [InlineData("""{"labels":5,"annotations":[],"env":{},"securityContext":[],"imagePullSecrets":"x"}""")]
    [InlineData("""{"containerSecurityContext":1,"imagePullPolicy":[],"image":null,"serviceAccountName":7}""")]
    [InlineData("""{"env":[1,null,{"name":5},{"valueFrom":5},{"valueFrom":null}]}""")]
    public void A_spec_of_the_wrong_shape_is_the_API_servers_to_refuse(string spec)
    {
        var job = HandlerRunning().WithMain(spec).WithExit(spec);
        Assert.Equal("Never", (string?)MainOf(job)["spec"]!["restartPolicy"]);
        Assert.Equal("pipelineStatus", (string?)Container(ExitOf(job))["env"]!.AsArray()[^1]!["name"]);
    }

    [Fact]
    public void Specs_that_are_missing_make_a_pod_that_the_API_server_refuses()
    {
        var job = Pending().WithoutSpec("mainPodSpec").WithoutExitHandler();
        Assert.Equal("run-main", (string?)MainOf(job)["metadata"]!["name"]);
        Assert.Equal("run-exit", (string?)ExitOf(job)["metadata"]!["name"]);
        Assert.False(job.Job.HasExitSpec);
    }

    [Fact]
    public void The_pod_that_comes_back_is_read_as_ours()
    {
        var job = Pending().Job;
        var json = JsonNode.Parse(PodTemplate.Build(job, PodType.Main))!;
        (json["metadata"]!["uid"], json["metadata"]!["resourceVersion"]) = ("u", "1");
        var pod = JsonSerializer.Deserialize(json.ToJsonString(), ModelJson.Default.PodObject)!.ToPod(Moment.Now)!;
        Assert.True(pod is { HasOwner: true, HasFinalizer: true, LostLabels: false, JobName: "run" }
            && pod.BelongsTo(job));
    }

    [Fact]
    public void An_object_without_its_identity_is_no_object()
    {
        Assert.Null(JsonSerializer.Deserialize("""{"metadata":{"name":"x","namespace":"y"}}""",
            ModelJson.Default.PodObject)!.ToPod(Moment.Now));
        Assert.Null(JsonSerializer.Deserialize("""{"metadata":{"name":"x","namespace":"y"}}""",
            ModelJson.Default.JobObject)!.ToJob());
    }
}
