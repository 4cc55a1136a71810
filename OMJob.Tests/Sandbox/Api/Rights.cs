// Who may do what, by RBAC as it is stored: Roles and ClusterRoles that are bound to a service account by its name.
// Everybody else here is the administrator, who may do everything.

using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

sealed partial class Store
{
    /// <summary>Refuses what a service account has no right to.</summary>
    void Authorize(ApiRequest request, Target target)
    {
        if (request.User.Split(':') is not ["system", "serviceaccount", var home, var account]) return;
        var (type, ns, name) = (target.Type, target.Namespace, target.Name);
        var verb = request.Method switch
        {
            "GET" when request.Flag("watch") => "watch",
            "GET" => name.Length > 0 ? "get" : "list",
            "POST" => "create",
            "PUT" => "update",
            "DELETE" when name.Length == 0 => "deletecollection",
            var method => method.ToLowerInvariant(),
        };
        var resource = target.Subresource.Length == 0 ? type.Plural : $"{type.Plural}/{target.Subresource}";
        bool Allows(JsonObject rule) => Has(rule, "verbs", verb) && Has(rule, "apiGroups", type.Group)
            && Has(rule, "resources", resource)
            && (rule["resourceNames"].IsEmpty() || rule.Strings("resourceNames").Contains(name));
        if (RulesOf(home, account, ns).Any(Allows)) return;
        throw Refuse.Forbidden(type, name, $"User \"{request.User}\" cannot {verb} resource \"{resource}\" in API " +
            $"group \"{type.Group}\" {(ns.Length == 0 ? "at the cluster scope" : $"in the namespace \"{ns}\"")}");
    }

    static bool Has(JsonObject rule, string list, string what) =>
        rule.Strings(list) is var all && (all.Contains(what) || all.Contains("*"));

    /// <summary>The rules of all roles that a service account has in a namespace; "": in the whole cluster.</summary>
    IEnumerable<JsonObject> RulesOf(string home, string account, string ns)
    {
        ResourceType OfRbac(string plural) => TypeOf("rbac.authorization.k8s.io", "v1", plural)!;
        var here = ns.Length == 0 ? [] : InNamespace(OfRbac("rolebindings"), ns);
        return from binding in here.Concat(InNamespace(OfRbac("clusterrolebindings"), ""))
               where binding.Value.Items("subjects").Any(s => s.Text("kind") == "ServiceAccount"
                   && (s.Text("namespace"), s.Text("name")) == (home, account))
               let role = binding.Value["roleRef"]
               let kind = OfRbac(role.Text("kind") == "Role" ? "roles" : "clusterroles")
               from rule in Find(kind, kind.Key(ns, role.Text("name")!)).Items("rules")
               select rule;
    }
}
