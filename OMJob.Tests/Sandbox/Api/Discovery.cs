// What a client asks before it asks for objects: versions, groups, resources, OpenAPI, health.

using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

static class Discovery
{
    /// <summary>Null where the path is none of these.</summary>
    public static ApiResponse? Answer(Store store, ApiRequest request)
    {
        var path = request.Path.TrimEnd('/');
        if (path is "/healthz" or "/readyz" or "/livez") return new(200, []) { PlainText = "ok" };
        JsonObject? body = path switch
        {
            "/version" => Json.Object("""
                {"major": "1", "minor": "36", "gitVersion": "v1.36.0-omjob-sandbox", "gitCommit": "",
                 "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "",
                 "platform": ""}
                """),
            "/api" => Json.Object("""{"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}"""),
            "/apis" => Groups(store),
            "/openapi/v3" => OpenApiPaths(store),
            _ => path.Split('/') switch
            {
                ["", "api", "v1"] => Resources(store, "v1"),
                ["", "apis", var group] => Group(store, group),
                ["", "apis", var group, var version] => Resources(store, $"{group}/{version}"),
                ["", "openapi", "v3", "api", "v1"] => OpenApi(store, "v1"),
                ["", "openapi", "v3", "apis", var group, var version] => OpenApi(store, $"{group}/{version}"),
                _ => null,
            },
        };
        if (body is null) return null;
        return request.Method == "GET" ? new(200, body) : throw Refuse.Method();
    }

    static JsonArray Array(IEnumerable<JsonNode?> nodes) => new([.. nodes]);

    static JsonObject Groups(Store store) => new()
    {
        ["kind"] = "APIGroupList",
        ["apiVersion"] = "v1",
        ["groups"] = Array(store.Types.Select(t => t.Group).Where(g => g.Length > 0).Distinct()
            .Select(g => GroupOf(store, g))),
    };

    static JsonObject GroupOf(Store store, string group)
    {
        var versions = store.Types.Where(t => t.Group == group).Select(t => t.Version).Distinct()
            .Select(v => new JsonObject { ["groupVersion"] = $"{group}/{v}", ["version"] = v }).ToList();
        return new() { ["name"] = group, ["versions"] = Array(versions), ["preferredVersion"] = versions[0].Clone() };
    }

    static JsonObject? Group(Store store, string group)
    {
        if (!store.Types.Any(t => t.Group == group)) return null;
        var body = GroupOf(store, group);
        (body["kind"], body["apiVersion"]) = ("APIGroup", "v1");
        return body;
    }

    static JsonObject? Resources(Store store, string version)
    {
        var types = store.Types.Where(t => t.ApiVersion == version).OrderBy(t => t.Plural).ToList();
        if (types.Count == 0) return null;
        var body = new JsonObject { ["kind"] = "APIResourceList" };
        if (version != "v1") body["apiVersion"] = "v1";
        body["groupVersion"] = version;
        body["resources"] = Array(types.SelectMany(ResourcesOf));
        return body;
    }

    static IEnumerable<JsonObject> ResourcesOf(ResourceType type)
    {
        JsonObject Resource(string sub, string kind, params string[] verbs) => new()
        {
            ["name"] = type.Plural + sub,
            ["singularName"] = sub.Length == 0 ? type.Singular : "",
            ["namespaced"] = type.Namespaced,
            ["kind"] = kind,
            ["verbs"] = Json.Array(verbs),
        };
        string[] verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        var main = Resource("", type.Kind, [.. verbs.Where(v => type.DeleteCollection || v != "deletecollection")]);
        if (type.ShortNames.Length > 0) main["shortNames"] = Json.Array(type.ShortNames);
        if (type.Categories.Length > 0) main["categories"] = Json.Array(type.Categories);
        yield return main;
        if (type.HasStatus) yield return Resource("/status", type.Kind, "get", "patch", "update");
        if (type.IsNamespace) yield return Resource("/finalize", type.Kind, "update");
        if (type.IsPod)
        {
            yield return Resource("/binding", "Binding", "create");
            yield return Foreign(Resource("/eviction", "Eviction", "create"), "policy", "v1beta1");
            yield return Resource("/log", type.Kind, "get");
        }
        if (type is { Group: "", Plural: "serviceaccounts" })
            yield return Foreign(Resource("/token", "TokenRequest", "create"), "authentication.k8s.io", "v1");
    }

    static JsonObject Foreign(JsonObject resource, string group, string version)
    {
        (resource["group"], resource["version"]) = (group, version);
        return resource;
    }

    // ----- OpenAPI, as far as kubectl apply and explain read it

    static JsonObject OpenApiPaths(Store store) => new()
    {
        ["paths"] = new JsonObject(store.Types.Select(t => t.ApiVersion).Distinct().Select(v =>
            v == "v1" ? "api/v1" : $"apis/{v}").Select(p => KeyValuePair.Create<string, JsonNode?>(p,
            new JsonObject { ["serverRelativeURL"] = $"/openapi/v3/{p}" }))),
    };

    const string Definitions = "#/components/schemas/";

    static JsonObject? OpenApi(Store store, string version)
    {
        var types = store.Types.Where(t => t.ApiVersion == version).ToList();
        if (types.Count == 0) return null;
        var (paths, schemas) = (new JsonObject(), new JsonObject());
        foreach (var type in types)
        {
            JsonObject kind = new() { ["group"] = type.Group, ["version"] = type.Version, ["kind"] = type.Kind };
            var name = $"{type.Kind}.{type.Version}.{type.Group}";
            if (type.Definition is { } definition)
            {
                Include(definition, schemas);
                name = definition;
            }
            else schemas[name] = type.Structure!.Clone();
            schemas[name]!["x-kubernetes-group-version-kind"] = new JsonArray(kind.Clone());
            var path = (type.Group.Length == 0 ? "/api/" : "/apis/") + version
                + (type.Namespaced ? "/namespaces/{namespace}/" : "/") + type.Plural + "/{name}";
            // That PATCH knows fieldValidation tells kubectl to leave validation to the server.
            paths[path] = new JsonObject
            {
                ["get"] = new JsonObject
                {
                    ["x-kubernetes-group-version-kind"] = kind.Clone(), ["x-kubernetes-action"] = "get",
                },
                ["patch"] = new JsonObject
                {
                    ["x-kubernetes-group-version-kind"] = kind,
                    ["x-kubernetes-action"] = "patch",
                    ["parameters"] = Array([new JsonObject { ["name"] = "fieldValidation", ["in"] = "query" },
                        new JsonObject { ["name"] = "dryRun", ["in"] = "query" }]),
                },
            };
        }
        return new()
        {
            ["openapi"] = "3.0.0",
            ["info"] = Json.Object("""{"title": "Kubernetes", "version": "v1.36.0-omjob-sandbox"}"""),
            ["paths"] = paths,
            ["components"] = new JsonObject { ["schemas"] = schemas },
        };
    }

    /// <summary>A built-in definition and all that it refers to.</summary>
    static void Include(string name, JsonObject schemas)
    {
        if (schemas.ContainsKey(name)) return;
        var copy = ((JsonObject)Schema.Types[name]!).Clone();
        schemas[name] = copy;
        Rewrite(copy, schemas);
    }

    static void Rewrite(JsonNode? node, JsonObject schemas)
    {
        if (node is JsonArray list)
            foreach (var item in list) Rewrite(item, schemas);
        if (node is not JsonObject map) return;
        if (map.Text("$ref") is { } other)
        {
            map["$ref"] = Definitions + other;
            Include(other, schemas);
        }
        foreach (var (_, value) in map.ToArray()) Rewrite(value, schemas);
    }
}
