// The kinds of objects that the store knows: the built-in ones of the table, and those of CustomResourceDefinitions.

using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

sealed class ResourceType
{
    public required string Group { get; init; }
    public required string Version { get; init; }
    public required string Plural { get; init; }
    public required string Kind { get; init; }
    public bool Namespaced { get; init; }
    public string[] ShortNames { get; init; } = [];
    public string[] Categories { get; init; } = [];
    public string Singular { get; init; } = "";
    public string ListKind { get; init; } = "";
    public bool HasStatus { get; init; }
    /// <summary>A new spec raises metadata.generation.</summary>
    public bool HasGeneration { get; init; }
    public bool UnconditionalUpdate { get; init; } = true;
    public bool CreateOnUpdate { get; init; }
    public bool DeleteCollection { get; init; } = true;
    /// <summary>The answer to a DELETE is the object, not a Status.</summary>
    public bool ReturnsDeleted { get; init; }
    /// <summary>Made when first asked for: types.json is made by what this says of the built-in kinds.</summary>
    public Schema Schema => field ??= Structure is { } own ? Schema.Structural(own) : Schema.Of(Definition!);
    /// <summary>The name of a built-in kind's schema.</summary>
    public string? Definition { get; init; }
    /// <summary>The schema of a custom resource, as it was given.</summary>
    public JsonObject? Structure { get; init; }
    /// <summary>additionalPrinterColumns of a custom resource; null: a built-in kind.</summary>
    public JsonArray? Columns { get; init; }
    /// <summary>The field selectors that are understood.</summary>
    public HashSet<string> Fields { get; init; } = [.. EveryField];

    static readonly string[] EveryField = ["metadata.name", "metadata.namespace"];

    public bool IsCustom => Columns is not null;
    public bool IsPod => Plural == "pods" && Group == "";
    public bool IsWorkload => Qualified is "deployments.apps" or "jobs.batch";
    public bool IsNamespace => Plural == "namespaces" && Group == "";
    public string Qualified => Group.Length == 0 ? Plural : $"{Plural}.{Group}";
    public string ApiVersion => Group.Length == 0 ? Version : $"{Group}/{Version}";
    public string Key(string ns, string name) => Namespaced ? $"{ns}/{name}" : name;

    /// <summary>The key in etcd, which some refusals name.</summary>
    public string StorageKey(string key) => $"/registry/{(IsCustom ? $"{Group}/" : "")}{Plural switch
    {
        "nodes" => "minions",
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        var plural => plural,
    }}/{key}";

    // group/version, plural, kind, package of the Go type, short names, and:
    // n namespaced, s status, g generation, r returns what it deletes, c create on update, x no deletecollection,
    // v a version is needed to update, a category "all"
    const string Table = """
        v1 configmaps ConfigMap core.v1 cm n
        v1 events Event core.v1 ev nc
        v1 limitranges LimitRange core.v1 limits nc
        v1 namespaces Namespace core.v1 ns srx
        v1 nodes Node core.v1 no s
        v1 pods Pod core.v1 po nsgra
        v1 resourcequotas ResourceQuota core.v1 quota nsr
        v1 secrets Secret core.v1 - n
        v1 serviceaccounts ServiceAccount core.v1 sa nr
        v1 services Service core.v1 svc nsrcxa
        apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition - crd,crds sgv
        apps/v1 deployments Deployment apps.v1 deploy nsga
        batch/v1 jobs Job batch.v1 - nsga
        coordination.k8s.io/v1 leases Lease coordination.v1 - ncv
        rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding rbac.v1 - c
        rbac.authorization.k8s.io/v1 clusterroles ClusterRole rbac.v1 - c
        rbac.authorization.k8s.io/v1 rolebindings RoleBinding rbac.v1 - nc
        rbac.authorization.k8s.io/v1 roles Role rbac.v1 - nc
        scheduling.k8s.io/v1 priorityclasses PriorityClass scheduling.v1 pc -
        """;

    static readonly Dictionary<string, string> MoreFields = new()
    {
        ["pods"] = "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName status.phase " +
            "status.podIP status.nominatedNodeName",
        ["events"] = "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid " +
            "involvedObject.apiVersion involvedObject.resourceVersion involvedObject.fieldPath reason " +
            "reportingComponent source type",
        ["secrets"] = "type",
        ["namespaces"] = "status.phase",
        ["nodes"] = "spec.unschedulable",
    };

    public const string CrdPlural = "customresourcedefinitions";
    const string CrdPackage = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";

    public static IEnumerable<ResourceType> BuiltIn()
    {
        foreach (var line in Table.Split('\n'))
        {
            if (line.Split(' ') is not [var at, var plural, var kind, var package, var names, var flags])
                throw new FormatException(line);
            var (group, version) = at.Split('/') is [var g, var v] ? (g, v) : ("", at);
            yield return new()
            {
                Group = group,
                Version = version,
                Plural = plural,
                Kind = kind,
                Singular = kind.ToLowerInvariant(),
                ListKind = kind + "List",
                ShortNames = names == "-" ? [] : names.Split(','),
                Categories = flags.Contains('a') ? ["all"] : plural == CrdPlural ? ["api-extensions"] : [],
                Namespaced = flags.Contains('n'),
                HasStatus = flags.Contains('s'),
                HasGeneration = flags.Contains('g'),
                ReturnsDeleted = flags.Contains('r'),
                CreateOnUpdate = flags.Contains('c'),
                DeleteCollection = !flags.Contains('x'),
                UnconditionalUpdate = !flags.Contains('v'),
                Definition = package == "-" ? CrdPackage + kind : $"io.k8s.api.{package}.{kind}",
                Fields = [.. EveryField, .. MoreFields.GetValueOrDefault(plural, "").Split(
                    ' ', StringSplitOptions.RemoveEmptyEntries)],
            };
        }
    }

    /// <summary>What a CustomResourceDefinition defines: a type for each version that is served.</summary>
    public static IEnumerable<ResourceType> Defined(JsonObject crd)
    {
        var (spec, names) = (crd["spec"], crd.At("spec", "names"));
        foreach (var version in spec.Items("versions").Where(v => v.IsTrue("served")))
        {
            yield return new()
            {
                Group = spec.Text("group")!,
                Version = version.Text("name")!,
                Plural = names.Text("plural")!,
                Kind = names.Text("kind")!,
                Singular = names.Text("singular") ?? names.Text("kind")!.ToLowerInvariant(),
                ListKind = names.Text("listKind") ?? names.Text("kind") + "List",
                ShortNames = [.. names.Strings("shortNames")],
                Categories = [.. names.Strings("categories")],
                Namespaced = spec.Text("scope") == "Namespaced",
                HasStatus = version.At("subresources", "status") is not null,
                HasGeneration = true,
                UnconditionalUpdate = false,
                Columns = version["additionalPrinterColumns"] as JsonArray ?? AgeColumn,
                Structure = version.At("schema", "openAPIV3Schema") as JsonObject ?? [],
            };
        }
    }

    static JsonArray AgeColumn =>
        [Json.Object("""{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}""")];
}
