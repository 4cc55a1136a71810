// The chart: what it refuses, and that deploy.yaml and the examples are what it makes. Skipped without helm.

using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;

public sealed class HelmChartTests
{
    const string Name = "openmetadata-omjob-operator";

    static async Task<string> Helm(params string[] arguments)
    {
        var (code, output, errors) = await Tool.Run("helm", arguments);
        Assert.True(code == 0, errors + output);
        return output;
    }

    /// <summary>What it makes of its own values and these, in the namespace openmetadata, but the hook.</summary>
    internal static async Task<List<JsonObject>> Render(params string[] values) => Json.Yaml(await Helm(
        ["template", Name, "chart", "-n", "openmetadata", "--no-hooks", .. values.SelectMany(v => (string[])["--set-json", v])]));

    static List<JsonObject> Manifests(string file) => Json.Yaml(File.ReadAllText(Repository.File(file)));

    [Fact]
    public Task Helm_finds_nothing_to_complain_of() => Helm("lint", "--strict", "chart");

    [Theory]
    [InlineData("replicas", "\"two\"")]
    [InlineData("image.repository", "\"\"")]
    [InlineData("image.pullPolicy", "\"Sometimes\"")]
    [InlineData("image.tga", "\"1\"")]
    [InlineData("image.tag", "\"sha256:1\"")]
    [InlineData("enabled", "false")]
    [InlineData("watchNamespaces", "[\"Data\"]")]
    [InlineData("watchNamespaces", "\"data\"")]
    [InlineData("log.level", "\"loud\"")]
    [InlineData("log.format", "\"xml\"")]
    [InlineData("clocks.startDeadline", "\"soon\"")]
    [InlineData("clocks.startDeadline", "\"1.2.3h\"")]
    [InlineData("clocks.startDeadLine", "\"1h\"")]
    [InlineData("clocks.exitHandlerRetries", "-1")]
    [InlineData("runDefaults.mainPodspec", "{}")]
    [InlineData("resource", "{}")]
    [InlineData("nodeSelector.disk", "1")]
    [InlineData("tolerations", "{}")]
    [InlineData("labels.team", "1")]
    [InlineData("labels", """{"app.kubernetes.io/name":"other"}""")]
    [InlineData("podMonitor.interval", "\"often\"")]
    [InlineData("networkPolicy.apiServer.cidrs", "[\"kubernetes.default\"]")]
    [InlineData("podDisruptionBudget.minAvailable", "1")]
    [InlineData("crds.install", "\"maybe\"")]
    public async Task A_wrong_value_is_refused_by_its_name(string value, string json)
    {
        var (code, _, errors) = await Tool.Run("helm", ["template", Name, "chart", "--set-json", $"{value}={json}"]);
        Assert.NotEqual(0, code);
        foreach (var part in value.Split('.')) Assert.Contains(part, errors, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_network_policy_wants_the_API_servers_address()
    {
        var (code, _, errors) = await Tool.Run("helm", ["template", Name, "chart", "--set", "networkPolicy.enabled=true"]);
        Assert.NotEqual(0, code);
        Assert.Contains("networkPolicy.apiServer.cidrs", errors, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_image_is_named_by_tag_or_digest()
    {
        async Task<string?[]> Images(string tag) =>
            [.. Json.Yaml(await Helm("template", Name, "chart", "--set", $"image.tag={tag}"))
            .Where(o => o.Text("kind") is "Deployment" or "Job")
            .Select(o => o.At("spec", "template", "spec").Items("containers").Single().Text("image"))];
        var (image, digest) = ("ghcr.io/omjob-operator/omjob-operator", $"sha256:{new string('a', 64)}");
        Assert.Equal([$"{image}:1.20", $"{image}:1.20"], await Images("1.20"));
        Assert.Equal([$"{image}@{digest}", $"{image}@{digest}"], await Images(digest));
    }

    /// <summary>Policies ask for them, and one may say that no sidecar is wanted: with it the hook never ends.</summary>
    [Fact]
    public async Task The_hooks_pod_has_the_labels_and_annotations_that_are_given()
    {
        var made = Json.Yaml(await Helm("template", Name, "chart", "--set", "labels.team=data,annotations.inject=no"));
        var pods = made.Where(o => o.Text("kind") is "Deployment" or "Job")
            .Select(o => o.At("spec", "template")).ToList();
        Assert.Equal(2, pods.Count);
        Assert.All(pods, pod => Assert.Equal(("data", "no"),
            (pod.Text("metadata", "labels", "team"), pod.Text("metadata", "annotations", "inject"))));
    }

    /// <summary>The hook's Job takes finalizers off: applied, it would do so while the operator runs.</summary>
    [Fact]
    public void Whoever_is_told_to_render_the_chart_is_told_to_leave_the_hook_out() => Assert.All(
        from file in (string[])["README.md", "docs/operations.md", "deploy.yaml"]
        from Match command in Regex.Matches(File.ReadAllText(Repository.File(file)), "`helm template [^`]*`")
        select command.Value,
        command => Assert.Contains("--no-hooks", command, StringComparison.Ordinal));

    [Fact]
    public async Task The_manifests_for_kubectl_are_what_the_chart_makes()
    {
        var made = await Render("crds.install=false");
        Assert.Equal(Sorted(Manifests("deploy.yaml").Where(o => o.Text("kind") != "Namespace")), Sorted(made));
        Assert.Equal(Sorted(Manifests("crd.yaml").Concat(made)), Sorted(await Render()));
    }

    /// <summary>The examples select the operator of the OpenMetadata chart, too, and have no labels.</summary>
    [Fact]
    public async Task The_examples_for_production_are_what_the_chart_makes()
    {
        string[] kinds = ["PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "PrometheusRule"];
        var made = (await Render("podDisruptionBudget.enabled=true", "networkPolicy.enabled=true",
                """networkPolicy.apiServer.cidrs=["192.0.2.10/32"]""", "podMonitor.enabled=true",
                "prometheusRule.enabled=true"))
            .Where(o => kinds.Contains(o.Text("kind"))).ToList();
        foreach (var o in made)
        {
            ((JsonObject)o["metadata"]!).Remove("labels");
            var selector = o.At("spec", o.Text("kind") == "NetworkPolicy" ? "podSelector" : "selector", "matchLabels");
            foreach (var label in (string[])["name", "instance"])
                (selector as JsonObject)?.Remove($"app.kubernetes.io/{label}");
        }
        Assert.Equal(Sorted(Manifests("examples/production.yaml").Concat(Manifests("examples/monitoring.yaml"))),
            Sorted(made));
    }

    [Fact]
    public async Task The_operator_takes_every_flag_and_the_run_defaults_that_the_chart_gives_it()
    {
        var made = await Render("""watchNamespaces=["data","ml"]""", """log={"level":"debug","format":"json"}""",
            """clocks={"startDeadline":"2h","exitHandlerDeadline":"5m","exitHandlerRetries":7,"lostPodSlack":"90s"}""",
            """runDefaults={"activeDeadlineSeconds":21600,"mainPodSpec":{"labels":{"team":"data"}}}""");
        var pod = made.Single(o => o.Text("kind") == "Deployment")["spec"]!["template"]!;
        var container = pod["spec"].Items("containers").Single();
        var parsed = Program.Parse([.. container.Strings("args")]);
        Assert.Empty(parsed.Errors);
        var settings = Program.ReadSettings(parsed, _ => null);
        Assert.Equal(["data", "ml"], settings.Namespaces);
        Assert.Equal((LogLevel.Debug, true), (settings.LogLevel, settings.JsonLogs));
        Assert.Equal(new(TimeSpan.FromHours(2), TimeSpan.FromMinutes(5), TimeSpan.FromSeconds(90), 7), settings.Deadlines);
        var (mounted, map) = (container.Items("volumeMounts").Single(), made.Single(o => o.Text("kind") == "ConfigMap"));
        Assert.Contains($"--run-defaults={mounted.Text("mountPath")}/run-defaults.yaml", container.Strings("args"));
        Assert.Equal(map.Name(), pod["spec"].Items("volumes").Single().Text("configMap", "name"));
        var defaults = new DefaultsFile("run-defaults.yaml", () => map.Text("data", "run-defaults.yaml")!);
        defaults.Load();
        var roles = made.Where(o => o.Text("kind") == "Role").Select(o => o.Text("metadata", "namespace"));
        Assert.Equal(["data", "ml"], roles);
        Assert.DoesNotContain(made, o => o.Text("kind") is "ClusterRole" or "ClusterRoleBinding");
    }

    [Fact]
    public async Task Pods_roll_when_the_run_defaults_change_and_only_then()
    {
        async Task<string> Template(params string[] values) =>
            (await Render(values)).Single(o => o.Text("kind") == "Deployment")["spec"]!["template"]!.ToJsonString();
        var one = await Template("runDefaults.activeDeadlineSeconds=60");
        Assert.NotEqual(one, await Template("runDefaults.activeDeadlineSeconds=61"));
        Assert.Equal(one, await Template("runDefaults.activeDeadlineSeconds=60", "podMonitor.enabled=true"));
    }

    [Fact]
    public async Task On_OpenShift_the_cluster_chooses_the_user()
    {
        async Task<JsonNode?[]> Users(params string[] more) => [.. Json.Yaml(await Helm(["template", Name, "chart", .. more]))
            .Where(o => o.Text("kind") is "Deployment" or "Job")
            .Select(o => o.At("spec", "template", "spec", "securityContext", "runAsUser"))];
        Assert.All(await Users(), Assert.NotNull);
        Assert.Equal([null, null], await Users("--api-versions", "security.openshift.io/v1"));
    }

    /// <summary>So that both can be uninstalled at once.</summary>
    [Fact]
    public async Task Two_releases_of_a_name_share_no_object_but_the_CRDs()
    {
        async Task<List<JsonObject>> Made(string ns) => [.. Json.Yaml(await Helm(
            ["template", Name, "chart", "-n", ns, "--set", $"watchNamespaces={{{ns}}}"]))
            .Where(o => o.Text("kind") != "CustomResourceDefinition")];
        static IEnumerable<string> Paths(List<JsonObject> made) =>
            made.Select(o => $"{o.Text("metadata", "namespace")}/{o.Text("kind")}/{o.Name()}");
        var (one, other) = (await Made("one"), await Made("other"));
        Assert.Empty(Paths(one).Intersect(Paths(other)));
        var binding = one.Single(o => o.Text("kind") == "ClusterRoleBinding"); // the hook's
        Assert.Equal(one.Single(o => o.Text("kind") == "ClusterRole").Name(), binding.Text("roleRef", "name"));
        Assert.Equal(one.Single(o => o.Text("kind") == "Job").Text("spec", "template", "spec", "serviceAccountName"),
            binding.Items("subjects").Single().Text("name"));
    }

    /// <summary>In any order, without what Helm says of itself.</summary>
    static string[] Sorted(IEnumerable<JsonObject> objects) => [.. objects.Select(o => Json.Object(Plain(o)!.ToJsonString()))
        .Select(o => $"{o.Text("kind")}/{o.Name()} {o.ToJsonString()}").Order(StringComparer.Ordinal)];

    static JsonNode? Plain(JsonNode? node) => node switch
    {
        JsonObject o => new JsonObject(o
            .Where(f => f.Key is not ("helm.sh/chart" or "app.kubernetes.io/managed-by"))
            .OrderBy(f => f.Key, StringComparer.Ordinal)
            .Select(f => KeyValuePair.Create(f.Key, Plain(f.Value)))),
        JsonArray items => new JsonArray([.. items.Select(Plain)]),
        _ => node?.DeepClone(),
    };
}
