// Create, update, patch and delete, in the order in which the real API server does and refuses things.

using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

sealed partial class Store
{
    // ----- bodies

    const string Accepted = "the body of the request was in an unknown format - accepted media types include: ";

    static JsonNode? ReadBody(ApiRequest request, string kind)
    {
        var body = request.Body.Span;
        if (request.ContentType == "application/vnd.kubernetes.protobuf" && Protobuf.Decode(body) is { } decoded)
            return decoded;
        if (request.ContentType is not ("application/json" or "application/yaml" or ""))
            throw Refuse.MediaType(
                Accepted + "application/json, application/yaml, application/vnd.kubernetes.protobuf");
        try
        {
            return request.ContentType == "application/yaml"
                ? Json.Yaml(Encoding.UTF8.GetString(body)).FirstOrDefault() : Json.Parse(body);
        }
        catch (JsonException e)
        {
            var why = $"couldn't get version/kind; json parse error: {GoError(e, body)}";
            throw kind == "DeleteOptions" ? Refuse.BadRequest(why) : Unrecognized(kind, why, body);
        }
    }

    static RefusedException Unrecognized(string kind, string why, ReadOnlySpan<byte> body)
    {
        var text = Encoding.UTF8.GetString(body);
        var shown = text.Length == 0 ? "<empty>" : text.Length > 30 ? text[..30] + " ..." : text;
        return Refuse.BadRequest($"the object provided is unrecognized (must be of type {kind}): {why} ({shown})");
    }

    static string GoError(JsonException error, ReadOnlySpan<byte> body)
    {
        var at = (int)(error.BytePositionInLine ?? 0);
        return error.LineNumber is 0 or null && at < body.Length && body.Length > 0
            ? $"invalid character '{(char)body[at]}' looking for beginning of value" : "unexpected end of JSON input";
    }

    /// <summary>The object of a POST or PUT in canonical form, with apiVersion, kind, namespace.</summary>
    (JsonObject Object, string? Warning) Decode(Target target, ApiRequest request)
    {
        var type = target.Type;
        if (ReadBody(request, type.Kind) is not JsonObject o)
            throw Refuse.BadRequest($"the object provided is unrecognized (must be of type {type.Kind}): couldn't " +
                "get version/kind; json parse error: json: cannot unmarshal into an object");
        CheckKind(type, o, request);
        var warning = Normalize(type, o, request.Param("fieldValidation"));
        var meta = o.Child("metadata");
        if (type.Namespaced)
        {
            meta.Default("namespace", target.Namespace);
            if (meta.Text("namespace") != target.Namespace)
                throw OtherNamespace();
        }
        else meta.Remove("namespace");
        return (o, warning);
    }

    void CheckKind(ResourceType type, JsonObject o, ApiRequest request)
    {
        var (at, kind) = (o.Text("apiVersion") ?? "", o.Text("kind") ?? "");
        if (!type.IsCustom)
        {
            (at, kind) = (at.Length == 0 ? type.ApiVersion : at, kind.Length == 0 ? type.Kind : kind);
            (o["apiVersion"], o["kind"]) = (at, kind);
        }
        if (kind.Length == 0)
            throw Unrecognized(type.Kind, "Object 'Kind' is missing in " +
                $"'{Encoding.UTF8.GetString(request.Body.Span)}'", request.Body.Span);
        if (at != type.ApiVersion && (type.IsCustom || TypeOfKind(at, kind) is not null))
            throw Refuse.BadRequest($"the API version in the data ({at}) does not match the expected API version " +
                $"({type.ApiVersion})");
        if (type.IsCustom || kind == type.Kind && at == type.ApiVersion) return;
        var handled = $"{kind} in version {Cause.Quote(at.Split('/')[^1])} cannot be handled as a {type.Kind}: ";
        throw Refuse.BadRequest(handled + (TypeOfKind(at, kind) is null
            ? $"no kind {Cause.Quote(kind)} is registered for version {Cause.Quote(at)} in scheme " +
                "\"pkg/api/legacyscheme/scheme.go:30\""
            : $"converting ({at}.{kind}) to (core.{type.Kind}): unknown conversion"));
    }

    static readonly Schema Meta = Schema.Of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");

    /// <summary>Drops what the type does not know, sets defaults. Returns a warning where that was asked for.</summary>
    static string? Normalize(ResourceType type, JsonObject o, string strictness)
    {
        var unknown = new List<string>();
        try
        {
            if (type.IsCustom)
            {
                var meta = o["metadata"] as JsonObject ?? [];
                o["metadata"] = Meta.Canonical(meta, FieldPath.Root.Field("metadata"), unknown);
                type.Schema.Prune(o, FieldPath.Root, unknown, root: true);
            }
            else type.Schema.Canonical(o, FieldPath.Root, unknown);
        }
        catch (FormatException e)
        {
            throw Refuse.BadRequest($"{type.Kind} in version {Cause.Quote(type.Version)} cannot be handled as a " +
                $"{type.Kind}: {e.Message}");
        }
        foreach (var field in (string[])["managedFields", "selfLink", "clusterName"]) o.Child("metadata").Remove(field);
        if (type.IsCustom) type.Schema.SetDefaults(o);
        else BuiltIn.SetDefaults(type, o);
        if (unknown.Count == 0 || strictness is not ("Strict" or "Warn")) return null;
        var words = string.Join(", ", unknown.Select(u => $"unknown field {Cause.Quote(u)}"));
        if (strictness == "Warn") return words;
        throw Refuse.BadRequest($"{type.Kind} in version {Cause.Quote(type.Version)} cannot be handled as a " +
            $"{type.Kind}: strict decoding error: {words}");
    }

    static bool DryRun(string value, string options) => value switch
    {
        "" => false,
        "All" => true,
        _ => throw Refuse.Invalid("meta.k8s.io", options, "",
            [Cause.NotSupported("dryRun", Json.Array([value]).ToJsonString(), ["All"])]),
    };

    // ----- create

    ApiResponse Create(Target target, ApiRequest request)
    {
        var dry = DryRun(request.Param("dryRun"), "CreateOptions");
        var (o, warning) = Decode(target, request);
        return Insert(target.Type, target.Namespace, o, dry) with { Warning = warning };
    }

    ApiResponse Insert(ResourceType type, string ns, JsonObject o, bool dry = false)
    {
        var meta = o.Child("metadata");
        if (meta.Text("resourceVersion") is { Length: > 0 })
            throw Refuse.Internal("resourceVersion should not be set on objects to be created");
        var prefix = meta.Text("generateName") ?? "";
        while (meta.Text("name") is null or "" && prefix.Length > 0)
        {
            meta["name"] = prefix[..Math.Min(prefix.Length, 58)] + Suffix();
            if (Find(type, type.Key(ns, meta.Text("name")!)) is not null) meta.Remove("name");
        }
        var name = meta.Text("name") ?? "";
        AdmitToNamespace(type, ns, name);
        if (type.IsCustom && Find(Definitions, type.Qualified) is { } definition && IsDeleting(definition))
            throw Refuse.Forbidden(type, name, "create not allowed while custom resource definition is terminating");
        if (type.IsPod)
        {
            foreach (var range in InNamespace(Core("limitranges"), ns)) Pods.SetLimits(o, range.Value);
            Pods.Admit(o, account => Find(Core("serviceaccounts"), $"{ns}/{account}"));
        }
        foreach (var field in (string[])["deletionTimestamp", "deletionGracePeriodSeconds",
            "resourceVersion"]) meta.Remove(field);
        BuiltIn.PrepareForCreate(type, o);
        (meta["uid"], meta["creationTimestamp"]) = (NewUid(), Stamp);
        if (type.HasGeneration) meta["generation"] = 1L;
        var causes = new List<Cause>();
        if (type.IsCustom && o.Text("kind") != type.Kind)
            throw Refuse.Invalid(type.Group, o.Text("kind")!, name,
                [Cause.Text("kind", o.Text("kind")!, $"must be {type.Kind}")]);
        Validation.Create(type, o, causes);
        if (type.IsCustom) type.Schema.Validate(o, FieldPath.Root, causes);
        else BuiltIn.Validate(type, o, causes);
        if (causes.Count > 0) throw Refuse.Invalid(type.Group, type.Kind, name, causes);
        if (type.IsPod) PodSecurity.Enforce(Find(Core("namespaces"), ns)!, type, o);
        CheckQuota(type, ns, name);
        var key = type.Key(ns, name);
        if (Find(type, key) is not null) throw Refuse.Exists(type, name);
        return new(201, dry ? o : Commit(type, key, null, o)!);
    }

    void AdmitToNamespace(ResourceType type, string ns, string name)
    {
        if (!type.Namespaced) return;
        if (Find(Core("namespaces"), ns) is not { } found) throw Refuse.NotFound(Core("namespaces"), ns);
        if (found.Text("status", "phase") != "Terminating") return;
        throw Refuse.Forbidden(type, name,
            $"unable to create new content in namespace {ns} because it is being terminated",
            [new JsonObject
            {
                ["reason"] = "NamespaceTerminating",
                ["message"] = $"namespace {ns} is being terminated",
                ["field"] = "metadata.namespace",
            }]);
    }

    string Suffix()
    {
        const string letters = "bcdfghjklmnpqrstvwxz2456789";
        return new(random.GetItems<char>(letters, 5));
    }

    string NewUid()
    {
        Span<byte> bytes = stackalloc byte[16];
        random.NextBytes(bytes);
        (bytes[6], bytes[8]) = ((byte)(bytes[6] & 0x0f | 0x40), (byte)(bytes[8] & 0x3f | 0x80)); // version 4
        return new Guid(bytes, bigEndian: true).ToString();
    }

    // ----- update

    ApiResponse Put(Target target, ApiRequest request)
    {
        var (type, name) = (target.Type, target.Name);
        var dry = DryRun(request.Param("dryRun"), "UpdateOptions");
        var (next, warning) = Decode(target, request);
        var given = next.Text("metadata", "name") ?? "";
        if (given.Length == 0)
            throw Refuse.BadRequest($"the name of the object ({name} based on URL) was undeterminable: name must be " +
                "provided");
        if (given != name) throw OtherName(given, name);
        if (Find(type, target.Key) is not { } current)
        {
            if (!type.CreateOnUpdate || target.Subresource.Length > 0) throw Refuse.NotFound(type, name);
            ((JsonObject)next["metadata"]!).Remove("resourceVersion");
            return Insert(type, target.Namespace, next, dry);
        }
        var uid = current.Text("metadata", "uid");
        if (next.Text("metadata", "uid") is { Length: > 0 } wanted && wanted != uid)
            throw Refuse.Conflict(type.Qualified, Refuse.Details(type, name), "StorageError: invalid object, Code: " +
                $"4, Key: {type.StorageKey(target.Key)}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed" +
                $": UID in precondition: {wanted}, UID in object meta: {uid}");
        return Replace(target, current, next, dry) with { Warning = warning };
    }

    static RefusedException OtherNamespace() => Refuse.BadRequest(
        "the namespace of the provided object does not match the namespace sent on the request");

    static RefusedException OtherName(string given, string name) => Refuse.BadRequest(
        $"the name of the object ({given}) does not match the name on the URL ({name})");

    ApiResponse PatchOne(Target target, ApiRequest request)
    {
        var (type, name) = (target.Type, target.Name);
        var dry = DryRun(request.Param("dryRun"), "PatchOptions");
        var kinds = new List<string> { "application/json-patch+json", "application/merge-patch+json" };
        if (!type.IsCustom) kinds.Add("application/strategic-merge-patch+json");
        kinds.Add("application/apply-patch+yaml");
        if (!kinds.Contains(request.ContentType))
            throw request.ContentType == "application/strategic-merge-patch+json"
                ? Refuse.MediaType(Accepted + string.Join(", ", kinds))
                : Refuse.With(415, "UnsupportedMediaType", "415: Unsupported Media Type", []);
        if (request.ContentType == "application/apply-patch+yaml") // left out on purpose
            throw Refuse.MediaType("server-side apply is not supported");
        var current = Get(type, target.Namespace, name);
        var next = ApplyPatch(type, current, request);
        if (next.Text("metadata", "name") is var given && given != name) throw OtherName(given ?? "", name);
        if (type.Namespaced && next.Text("metadata", "namespace") != target.Namespace)
            throw OtherNamespace();
        var warning = NormalizePatched(type, next, request.Param("fieldValidation"));
        return Replace(target, current, next, dry) with { Warning = warning };
    }

    /// <summary>What a patch makes of an object has to be one of the same kind.</summary>
    static string? NormalizePatched(ResourceType type, JsonObject next, string strictness)
    {
        if (type.IsCustom && next.Text("apiVersion") is var at && at != type.ApiVersion)
            throw Refuse.Invalid(type.Group, type.Kind, next.Text("metadata", "name")!,
                [Cause.Text("apiVersion", at ?? "", $"must be {type.ApiVersion}")]);
        try
        {
            if (next.Text("kind") is var kind && kind != type.Kind)
                throw Refuse.BadRequest($"unable to decode {kind} into {type.Kind}");
            return Normalize(type, next, strictness);
        }
        catch (RefusedException e) when (!e.Message.Contains("strict decoding"))
        {
            throw Refuse.Invalid("", "", "", [Cause.Text("patch", next.ToJsonString(), e.Message)]);
        }
    }

    const string Undecoded = "error decoding patch: ";

    static JsonObject ApplyPatch(ResourceType type, JsonObject current, ApiRequest request)
    {
        JsonNode? patch;
        try { patch = Json.Parse(request.Body.Span); }
        catch (JsonException e)
        {
            var strategic = request.ContentType.StartsWith("application/strategic", StringComparison.Ordinal);
            throw Refuse.BadRequest((strategic ? "" : Undecoded) + GoError(e, request.Body.Span));
        }
        var rejected = Refuse.With(422, "Invalid",
            "the server rejected our request due to an error in our request", []);
        if (request.ContentType == "application/json-patch+json")
        {
            if (patch is JsonArray operations) return Patch.Operations(current, operations) ?? throw rejected;
            throw Refuse.BadRequest($"{Undecoded}json: cannot unmarshal {Json.TypeName(patch)} into Go value of type " +
                "[]handlers.jsonPatchOp");
        }
        if (patch is not JsonObject changes) throw rejected;
        if (request.ContentType == "application/merge-patch+json") return (JsonObject)Patch.Merge(current, changes)!;
        return Patch.Strategic(current, changes, type.Schema);
    }

    /// <summary>Puts the next state in the place of the current one, as far as the rules allow it.</summary>
    ApiResponse Replace(Target target, JsonObject current, JsonObject next, bool dry)
    {
        var (type, name, key) = (target.Type, target.Name, target.Key);
        var (old, meta) = (current["metadata"]!, next.Child("metadata"));
        var sent = meta.Text("resourceVersion") ?? "";
        if (sent.Length == 0 && !type.UnconditionalUpdate)
            throw Refuse.Invalid(type.Group, type.Plural, name,
                [Cause.Invalid("metadata.resourceVersion", "0", "must be specified for an update")]);
        if (sent.Length > 0 && !sent.All(char.IsAsciiDigit)) throw Refuse.Internal(NoNumber(sent));
        if (sent.Length > 0 && sent != old.Text("resourceVersion")) throw Refuse.Modified(type, name);
        if (type.IsPod && target.Subresource == "") Pods.AddTolerations(next.Child("spec"));
        Prepare(type, target.Subresource, current, next);
        meta = next.Child("metadata");
        var causes = new List<Cause>();
        Validation.Update(type, current, next, causes);
        if (type.IsCustom && target.Subresource == "status")
        {
            if (next["status"] is { } status) type.Schema.Field("status")?.Validate(status, FieldPath.Status, causes);
        }
        else if (type.IsCustom) type.Schema.Validate(next, FieldPath.Root, causes);
        else BuiltIn.ValidateUpdate(type, current, next, target.Subresource, causes);
        if (causes.Count > 0) throw Refuse.Invalid(type.Group, type.Kind, name, causes);
        meta["resourceVersion"] = old.Text("resourceVersion");
        if (Json.Same(current, next)) return new(200, current);
        // The last finalizer goes, and so does the object: what was stored before is what a watch sees deleted.
        var done = old.At("deletionTimestamp") is not null && old.Long("deletionGracePeriodSeconds") is null or 0
            && meta.At("finalizers").IsEmpty() && !(type.IsNamespace && HasSpecFinalizers(next));
        if (dry) return new(200, next);
        if (done) Commit(type, key, current, null);
        else Commit(type, key, current, next);
        return new(200, next);
    }

    static string NoNumber(string text) => $"strconv.ParseUint: parsing {Cause.Quote(text)}: invalid syntax";

    static bool HasSpecFinalizers(JsonObject ns) => !ns.At("spec", "finalizers").IsEmpty();

    /// <summary>What of the next state is not the client's to say is taken from the current one.</summary>
    static void Prepare(ResourceType type, string subresource, JsonObject current, JsonObject next)
    {
        var old = (JsonObject)current["metadata"]!;
        if (subresource == "status")
        {
            if (type.IsCustom) next["metadata"] = old.Clone();
            else if (type.IsPod) next.Child("metadata").Put("ownerReferences", old["ownerReferences"]);
            foreach (var field in next.Select(f => f.Key).Except([.. current.Select(f => f.Key), "status"]).ToArray())
                next.Remove(field);
            foreach (var (field, value) in current)
                if (field is not ("status" or "metadata") && !Json.Same(value, next[field]))
                    next[field] = value?.DeepClone();
        }
        else if (type.HasStatus && subresource == "") next.Put("status", current["status"]);
        if (type.IsNamespace && subresource == "") next.Put("spec", current["spec"]);
        var m = next.Child("metadata");
        m.Put("generation", old["generation"]);
        m.Default("uid", old.Text("uid")!);
        m.Put("creationTimestamp", old["creationTimestamp"]);
        if (old["deletionTimestamp"] is not null) m.Put("deletionTimestamp", old["deletionTimestamp"]);
        if (m["deletionGracePeriodSeconds"] is null)
            m.Put("deletionGracePeriodSeconds", old["deletionGracePeriodSeconds"]);
        if (!type.HasGeneration || subresource == "status") return;
        var changed = type.IsCustom
            ? next.Any(f => f.Key is not ("metadata" or "status") && !Json.Same(f.Value, current[f.Key]))
                || current.Any(f => !next.ContainsKey(f.Key) && f.Key is not ("metadata" or "status"))
                || !type.HasStatus && !Json.Same(next["status"], current["status"])
            : !Json.Same(next["spec"], current["spec"]);
        if (changed) m["generation"] = old.Long("generation") + 1;
    }

    // ----- delete

    sealed record DeleteOptions
    {
        public long? Grace { get; init; }
        public string? Uid { get; init; }
        public string? Version { get; init; }
        /// <summary>Background, Foreground or Orphan; null: what the finalizers say, else Background.</summary>
        public string? Propagation { get; init; }
        public bool DryRun { get; init; }
        public bool Accepted { get; init; }
    }

    static DeleteOptions ReadDeleteOptions(ApiRequest request)
    {
        var body = request.Body.IsEmpty ? null : ReadBody(request, "DeleteOptions") as JsonObject;
        string? Value(string name) => body is null ? request.Query.GetValueOrDefault(name) : body.Text(name);
        var propagation = Value("propagationPolicy");
        var orphan = body?["orphanDependents"]?.ToString() ?? (body is null ? Value("orphanDependents") : null);
        if (propagation is not (null or "Background" or "Foreground" or "Orphan"))
            throw Refuse.Invalid("meta.k8s.io", "DeleteOptions", "", [Cause.NotSupported("propagationPolicy",
                Cause.Quote(propagation), ["Foreground", "Background", "Orphan", "nil"])]);
        if (orphan is not null && propagation is not null)
            throw Refuse.Invalid("meta.k8s.io", "DeleteOptions", "", [Cause.Text("propagationPolicy", propagation,
                "orphanDependents and deletionPropagation cannot be both set")]);
        var dry = body is null ? request.Param("dryRun") : body.Strings("dryRun").FirstOrDefault("");
        var grace = body is null
            ? long.TryParse(request.Param("gracePeriodSeconds"), out var n) ? n : null
            : body.Long("gracePeriodSeconds");
        return new()
        {
            Grace = grace,
            Propagation = propagation ?? (orphan is null ? null : orphan == "true" ? "Orphan" : "Background"),
            Accepted = orphan == "false",
            Uid = body.Text("preconditions", "uid"),
            Version = body.Text("preconditions", "resourceVersion"),
            DryRun = DryRun(dry, "DeleteOptions"),
        };
    }

    ApiResponse DeleteOne(Target target, ApiRequest request)
    {
        var options = ReadDeleteOptions(request);
        var current = Get(target.Type, target.Namespace, target.Name);
        var (result, gone) = target.Type.IsNamespace ? DeleteNamespace(target, current, options)
            : target.Type == Definitions && !IsDeleting(current) ? DeleteDefinition(target, current, options)
            : Delete(target.Type, target.Key, current, options);
        return Deleted(target, result, gone, options);
    }

    static ApiResponse Deleted(Target target, JsonObject result, bool gone, DeleteOptions options)
    {
        if (!gone) return new(options.Accepted ? 202 : 200, result);
        if (target.Type.ReturnsDeleted) return new(200, result);
        var status = Refuse.Status("Success");
        var details = Refuse.Details(target.Type, target.Name);
        details["uid"] = result.Text("metadata", "uid");
        status["details"] = details;
        return new(200, status);
    }

    ApiResponse DeleteAll(Target target, ApiRequest request)
    {
        var options = ReadDeleteOptions(request);
        var list = List(target, request);
        foreach (var item in list.Items!)
        {
            var key = target.Type.Key(item.Text("metadata", "namespace") ?? "", item.Text("metadata", "name")!);
            if (Find(target.Type, key) is { } there) Delete(target.Type, key, there, options);
        }
        return list;
    }

    static void CheckPreconditions(ResourceType type, JsonObject o, DeleteOptions options)
    {
        var (uid, at) = (o.Text("metadata", "uid"), o.Text("metadata", "resourceVersion"));
        // Unlike all others these conflicts name the kind, not the resource.
        var qualified = type.Group.Length == 0 ? type.Kind : $"{type.Kind}.{type.Group}";
        var details = Refuse.Details(type, o.Text("metadata", "name")!);
        details["kind"] = type.Kind;
        if (options.Uid is { } wanted && wanted != uid)
            throw Refuse.Conflict(qualified, details, $"the UID in the precondition ({wanted}) does not match the " +
                $"UID in record ({uid}). The object might have been deleted and then recreated");
        if (options.Version is { } version && version != at)
            throw Refuse.Conflict(qualified, details, $"the ResourceVersion in the precondition ({version}) does not " +
                $"match the ResourceVersion in record ({at}). The object might have been modified");
    }

    /// <summary>A deletion: at once, or by a grace period (pods), or when the last finalizer goes. Returns the object
    /// as it is then, and whether it is gone.</summary>
    (JsonObject Result, bool Gone) Delete(ResourceType type, string key, JsonObject current, DeleteOptions options)
    {
        CheckPreconditions(type, current, options);
        var next = current.Clone();
        var meta = (JsonObject)next["metadata"]!;
        var graceful = false;
        if (type.IsPod)
        {
            if (SetGrace(next, meta, AtLeast(options.Grace)) is not { } set) return (current, false);
            graceful = set;
        }
        var finalizers = meta.Strings("finalizers");
        if (type.Plural != "events") SetPropagation(finalizers, options.Propagation);
        meta.Put("finalizers", finalizers.Count == 0 ? null : Json.Array(finalizers));
        if (!graceful && finalizers.Count > 0) MarkDeleting(meta);
        var gone = finalizers.Count == 0 && (!graceful || meta.Long("deletionGracePeriodSeconds") <= 0);
        if (options.DryRun) return (next, gone);
        if ((graceful || finalizers.Count > 0) && !Json.Same(current, next))
            current = Commit(type, key, current, next)!;
        if (gone) Commit(type, key, current, null);
        return (current, gone);
    }

    /// <summary>Sets or shortens a pod's grace period: true. False where it is over, null where it goes on as it
    /// is.</summary>
    bool? SetGrace(JsonObject pod, JsonObject meta, long? asked)
    {
        if (meta["deletionTimestamp"] is not null)
        {
            var left = meta.Long("deletionGracePeriodSeconds") ?? 0;
            if (left == 0) return false;
            if (asked is not { } sooner || sooner >= left) return null;
            // Counted from the first request, not from this one.
            var by = Json.ReadTime(meta.Text("deletionTimestamp"))!.Value.AddSeconds(sooner - left);
            (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]) = (Json.Time(by), sooner);
            return true;
        }
        var over = pod.Text("status", "phase") is "Succeeded" or "Failed";
        var grace = over || pod.Text("spec", "nodeName") is null or "" ? 0
            : asked ?? AtLeast(pod.Long("spec", "terminationGracePeriodSeconds")) ?? 0;
        RaiseGeneration(meta);
        (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]) = (Json.Time(Now.AddSeconds(grace)), grace);
        return true;
    }

    /// <summary>A negative period stands for the shortest one.</summary>
    static long? AtLeast(long? grace) => grace < 0 ? 1 : grace;

    static void RaiseGeneration(JsonObject meta)
    {
        if (meta.Long("generation") is { } generation) meta["generation"] = generation + 1;
    }

    static void SetPropagation(List<string> finalizers, string? propagation)
    {
        if (propagation is null) return; // a finalizer that is there says it
        finalizers.RemoveAll(f => f is "orphan" or "foregroundDeletion");
        if (propagation == "Orphan") finalizers.Add("orphan");
        if (propagation == "Foreground") finalizers.Add("foregroundDeletion");
    }

    void MarkDeleting(JsonObject meta)
    {
        if (meta["deletionTimestamp"] is null) RaiseGeneration(meta);
        if (meta["deletionTimestamp"] is null || Json.ReadTime(meta.Text("deletionTimestamp")) > Now)
            meta["deletionTimestamp"] = Stamp;
        meta["deletionGracePeriodSeconds"] = 0L;
    }

    (JsonObject, bool) DeleteNamespace(Target target, JsonObject current, DeleteOptions options)
    {
        if (target.Name is "default" or "kube-system" or "kube-public")
            throw Refuse.Forbidden(target.Type, target.Name, "this namespace may not be deleted");
        var uid = current.Text("metadata", "uid");
        if (options.Uid is { } wanted && wanted != uid)
            throw Refuse.Conflict(target.Type.Qualified, Refuse.Details(target.Type, target.Name),
                $"Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
        if (current.Text("status", "phase") == "Terminating")
            return HasSpecFinalizers(current) ? (current, false) : Delete(target.Type, target.Key, current, options);
        var next = current.Clone();
        var meta = (JsonObject)next["metadata"]!;
        meta["deletionTimestamp"] = Stamp;
        next["status"] = new JsonObject { ["phase"] = "Terminating" };
        return (options.DryRun ? next : Commit(target.Type, target.Key, current, next)!, false);
    }

    /// <summary>A definition stays until a controller has deleted its objects.</summary>
    (JsonObject, bool) DeleteDefinition(Target target, JsonObject current, DeleteOptions options)
    {
        CheckPreconditions(target.Type, current, options);
        var next = current.Clone();
        var meta = (JsonObject)next["metadata"]!;
        meta["deletionTimestamp"] = Stamp;
        meta["finalizers"] = Json.Array(meta.Strings("finalizers").Append(Cleanup));
        if (next.At("status", "conditions") is JsonArray conditions)
            conditions.Add((JsonNode)new JsonObject
            {
                ["type"] = "Terminating", ["status"] = "True", ["lastTransitionTime"] = Stamp,
                ["reason"] = "InstanceDeletionPending",
                ["message"] = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            });
        return (options.DryRun ? next : Commit(target.Type, target.Key, current, next)!, false);
    }

    // ----- subresources

    ApiResponse Subresource(Target target, ApiRequest request)
    {
        var (type, sub) = (target.Type, target.Subresource);
        if (sub == "status" && type.HasStatus)
            return request.Method switch
            {
                "GET" => new(200, Get(type, target.Namespace, target.Name)),
                "PUT" => Put(target, request),
                "PATCH" => PatchOne(target, request),
                _ => throw Refuse.Method(),
            };
        return (type.Plural, sub, request.Method) switch
        {
            ("pods", "binding", "POST") => Bind(target, request),
            ("pods", "eviction", "POST") => Evict(target, request),
            ("pods", "log", "GET") => new(200, []) { LogOf = Get(type, target.Namespace, target.Name) },
            ("serviceaccounts", "token", "POST") => IssueToken(target, request),
            ("namespaces", "finalize", "PUT") => Put(target, request),
            ("pods", "exec" or "attach" or "portforward" or "proxy", _) => throw Refuse.With(501, "NotImplemented",
                $"pods/{sub} is not part of the sandbox", []),
            ("pods", "binding" or "eviction" or "log", _) or ("serviceaccounts", "token", _)
                or ("namespaces", "finalize", _) => throw Refuse.Method(),
            _ => throw (type.IsCustom ? Refuse.NotFound(type, target.Name) : Refuse.NoRoute()),
        };
    }

    static ApiResponse Created()
    {
        var status = Refuse.Status("Success");
        status["code"] = 201L;
        return new(201, status);
    }

    /// <summary>Scheduling: somebody says on which node the pod runs.</summary>
    ApiResponse Bind(Target target, ApiRequest request)
    {
        var body = ReadBody(request, "Binding");
        if (body.Text("metadata", "name") != target.Name)
            throw Refuse.BadRequest("name in URL does not match name in Binding object");
        var node = body.Text("target", "name") ?? "";
        if (node.Length == 0)
            throw Refuse.Internal("target.name: Required value");
        var details = Refuse.Details(target.Type, target.Name);
        details["kind"] = "pods/binding";
        var pod = Get(target.Type, target.Namespace, target.Name);
        if (pod.At("metadata", "deletionTimestamp") is not null)
            throw Refuse.Conflict("pods/binding", details, $"pod {target.Name} is being deleted, cannot be assigned " +
                "to a host");
        if (pod.Text("spec", "nodeName") is { Length: > 0 } other)
            throw Refuse.Conflict("pods/binding", details,
                $"pod {target.Name} is already assigned to node {Cause.Quote(other)}");
        var next = pod.Clone();
        next.Child("spec")["nodeName"] = node;
        foreach (var (key, value) in body.At("metadata", "annotations") as JsonObject ?? [])
            next.Child("metadata").Child("annotations")[key] = value?.DeepClone();
        SetCondition(next, new()
        {
            ["type"] = "PodScheduled", ["status"] = "True", ["lastProbeTime"] = null, ["lastTransitionTime"] = Stamp,
        });
        if (!DryRun(request.Param("dryRun"), "CreateOptions")) Commit(target.Type, target.Key, pod, next);
        return Created();
    }

    ApiResponse Evict(Target target, ApiRequest request)
    {
        var body = ReadBody(request, "Eviction");
        if (body.Text("metadata", "name") != target.Name)
            throw Refuse.BadRequest("name in URL does not match name in Eviction object");
        var pod = Get(target.Type, target.Namespace, target.Name);
        var options = new DeleteOptions
        {
            Grace = body.Long("deleteOptions", "gracePeriodSeconds"),
            Uid = body.Text("deleteOptions", "preconditions", "uid"),
        };
        CheckPreconditions(target.Type, pod, options);
        var evicted = pod.Clone();
        SetCondition(evicted, new()
        {
            ["type"] = "DisruptionTarget", ["status"] = "True", ["lastProbeTime"] = null,
            ["lastTransitionTime"] = Stamp, ["reason"] = "EvictionByEvictionAPI",
            ["message"] = "Eviction API: evicting",
        });
        Delete(target.Type, target.Key, Commit(target.Type, target.Key, pod, evicted)!, options);
        return Created();
    }

    static void SetCondition(JsonObject o, JsonObject condition)
    {
        var status = o.Child("status");
        if (status["conditions"] is not JsonArray conditions) status["conditions"] = conditions = [];
        foreach (var stale in conditions.Where(c => c.Text("type") == condition.Text("type")).ToArray())
            conditions.Remove(stale);
        conditions.Add((JsonNode)condition);
    }

    ApiResponse IssueToken(Target target, ApiRequest request)
    {
        var body = ReadBody(request, "TokenRequest");
        Get(target.Type, target.Namespace, target.Name);
        var seconds = body.Long("spec", "expirationSeconds") ?? 3600;
        if (seconds < 600)
            throw Refuse.Invalid("authentication.k8s.io", "TokenRequest", "", [Cause.Invalid("spec.expirationSeconds",
                $"{seconds}", "may not specify a duration less than 10 minutes")]);
        Span<byte> bytes = stackalloc byte[24];
        random.NextBytes(bytes);
        var token = "sandbox-" + Convert.ToHexStringLower(bytes);
        tokens[token] = ($"system:serviceaccount:{target.Namespace}:{target.Name}", Now.AddSeconds(seconds));
        var audiences = body.At("spec", "audiences") as JsonArray ?? ["https://kubernetes.default.svc"];
        return new(201, new()
        {
            ["kind"] = "TokenRequest",
            ["apiVersion"] = "authentication.k8s.io/v1",
            ["metadata"] = new JsonObject
            {
                ["name"] = target.Name, ["namespace"] = target.Namespace, ["uid"] = NewUid(),
                ["creationTimestamp"] = Stamp,
            },
            ["spec"] = new JsonObject
            {
                ["audiences"] = audiences.DeepClone(), ["expirationSeconds"] = seconds, ["boundObjectRef"] = null,
            },
            ["status"] = new JsonObject
            {
                ["token"] = token, ["expirationTimestamp"] = Json.Time(Now.AddSeconds(seconds)),
            },
        });
    }
}
