// What the API server knows of its own kinds beyond their schema: defaults, what is reset at creation, validation.
// Pods have a file of their own.

using System.Text;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

static class BuiltIn
{
    public static void SetDefaults(ResourceType type, JsonObject o)
    {
        switch (type.Plural)
        {
            case "pods": Pods.SetDefaults(o); break;
            case "secrets": SetSecretDefaults(o); break;
            case "namespaces":
                o.Child("status").Default("phase", "Active");
                if (o.Text("metadata", "name") is { } name)
                    o.Child("metadata").Child("labels")["kubernetes.io/metadata.name"] = name;
                break;
            case "nodes": SetNodeDefaults(o); break;
            case "services":
                o.Child("spec").Default("type", "ClusterIP");
                o.Child("spec").Default("sessionAffinity", "None");
                break;
            case "rolebindings" or "clusterrolebindings":
                o.Child("roleRef").Default("apiGroup", "rbac.authorization.k8s.io");
                foreach (var subject in o.Items("subjects"))
                    if (subject.Text("kind") is "User" or "Group")
                        subject.Default("apiGroup", "rbac.authorization.k8s.io");
                break;
            case "limitranges": SetLimitDefaults(o); break;
            case ResourceType.CrdPlural: SetCrdDefaults(o); break;
        }
    }

    /// <summary>What a container gets that says nothing: as much as it may have at most.</summary>
    static void SetLimitDefaults(JsonObject range)
    {
        foreach (var item in range.At("spec").Items("limits").Where(i => i.Text("type") == "Container"))
            foreach (var (to, from) in ((string, string)[])
                [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")])
                foreach (var (resource, amount) in item[from] as JsonObject ?? [])
                    item.Child(to).Default(resource, amount!.DeepClone());
    }

    static void SetSecretDefaults(JsonObject secret)
    {
        secret.Default("type", "Opaque");
        foreach (var (key, value) in secret["stringData"] as JsonObject ?? [])
            secret.Child("data")[key] = Convert.ToBase64String(Encoding.UTF8.GetBytes(value.Text() ?? ""));
        secret.Remove("stringData");
    }

    static void SetNodeDefaults(JsonObject node)
    {
        var status = node.Child("status");
        if (status["allocatable"] is null) status.Put("allocatable", status["capacity"]);
    }

    static void SetCrdDefaults(JsonObject crd)
    {
        if (crd["spec"] is not JsonObject spec || spec["names"] is not JsonObject names) return;
        var kind = names.Text("kind") ?? "";
        names.Default("singular", kind.ToLowerInvariant());
        names.Default("listKind", kind + "List");
        spec.Default("conversion", Json.Object("""{"strategy": "None"}"""));
        if (spec.Items("versions").FirstOrDefault(v => v.IsTrue("storage")).Text("name") is not { } stored) return;
        var status = crd.Child("status");
        status.Default("acceptedNames", names.DeepClone());
        status.Default("storedVersions", Json.Array([stored]));
    }

    public static void PrepareForCreate(ResourceType type, JsonObject o)
    {
        if (type.HasStatus && (type.IsCustom || type.IsWorkload || type.Plural is "resourcequotas" or "services"))
            o.Remove("status");
        if (type.IsCustom) type.Schema.SetDefaults(o);
        else if (type.IsWorkload || type.Plural == "resourcequotas") o["status"] = new JsonObject();
        if (!type.IsNamespace) return;
        o["status"] = new JsonObject { ["phase"] = "Active" };
        var finalizers = o["spec"].Strings("finalizers");
        if (!finalizers.Contains("kubernetes")) finalizers.Add("kubernetes");
        o.Child("spec")["finalizers"] = Json.Array(finalizers);
    }

    public static void Validate(ResourceType type, JsonObject o, List<Cause> causes)
    {
        switch (type.Plural)
        {
            case "pods": Pods.Validate(o, causes); break;
            case "events": ValidateEvent(o, causes); break;
            case "configmaps" or "secrets": ValidateKeys(o, causes); break;
            case "rolebindings" or "clusterrolebindings":
                if (o.Text("roleRef", "name") is null or "") causes.Add(Cause.Required("roleRef.name"));
                break;
            case ResourceType.CrdPlural: ValidateCrd(o, causes); break;
        }
    }

    public static void ValidateUpdate(
        ResourceType type, JsonObject before, JsonObject after, string subresource, List<Cause> causes)
    {
        if (subresource == "status") return;
        Validate(type, after, causes);
        if (type.IsPod) Pods.ValidateUpdate(before, after, causes);
        if (type.Plural == "secrets" && before.Text("type") != after.Text("type"))
            causes.Add(Cause.Text("type", after.Text("type") ?? "", "field is immutable"));
        if (before.IsTrue("immutable") && !Json.Same(before["data"], after["data"]))
            causes.Add(Cause.Forbidden("data", "field is immutable when `immutable` is set"));
        if (type.Group == "rbac.authorization.k8s.io" && !Json.Same(before["roleRef"], after["roleRef"]))
            causes.Add(Cause.Invalid("roleRef", "rbac.RoleRef{…}", "cannot change roleRef"));
    }

    static void ValidateEvent(JsonObject o, List<Cause> causes)
    {
        var ns = o.Text("metadata", "namespace");
        var involved = o.Text("involvedObject", "namespace") ?? "";
        if (o["eventTime"] is null && (involved.Length == 0 ? ns != "default" : involved != ns)
            || o["eventTime"] is not null && involved.Length == 0 && ns != "kube-system")
            causes.Add(Cause.Text("involvedObject.namespace", involved, "does not match event.namespace"));
        if (o["eventTime"] is null) return;
        foreach (var (field, shown) in ((string, string)[])[("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"), ("action", "action"), ("reason", "reason")])
            if (o.Text(field) is null or "") causes.Add(Cause.Required(shown));
        if ((o.Text("message") ?? "").Length > 1024)
            causes.Add(Cause.Text("message", "", "can have at most 1024 characters"));
    }

    static void ValidateKeys(JsonObject o, List<Cause> causes)
    {
        foreach (var field in (string[])["data", "binaryData"])
            foreach (var (key, _) in o[field] as JsonObject ?? [])
                if (key.Length == 0 || !key.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.'))
                    causes.Add(Cause.Text($"{field}[{key}]", key, "a valid config key must consist of alphanumeric " +
                        "characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used " +
                        "for validation is '[-._a-zA-Z0-9]+')"));
    }

    static void ValidateCrd(JsonObject o, List<Cause> causes)
    {
        var (spec, name) = (o["spec"], o.Text("metadata", "name") ?? "");
        var wanted = $"{spec.Text("names", "plural")}.{spec.Text("group")}";
        if (name != wanted)
            causes.Add(Cause.Text("metadata.name", name,
                "must be spec.names.plural+\".\"+spec.group"));
        foreach (var (version, i) in spec.Items("versions").Select((v, i) => (v, i)))
            if (version.At("schema", "openAPIV3Schema") is null)
                causes.Add(Cause.Required($"spec.versions[{i}].schema.openAPIV3Schema"));
    }
}
