// The three kinds of patches. Each makes a new tree from the current one and the patch; the current one stays as it is.

using System.Globalization;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

static class Patch
{
    // ----- JSON merge patch (RFC 7396)

    public static JsonNode? Merge(JsonNode? target, JsonNode? patch)
    {
        if (patch is not JsonObject changes) return patch?.DeepClone();
        var result = target is JsonObject map ? map.Clone() : [];
        foreach (var (field, value) in changes)
        {
            if (value is null) result.Remove(field);
            else result[field] = Merge(result[field], value);
        }
        return result;
    }

    // ----- JSON patch (RFC 6902)

    /// <summary>Null where an operation cannot be done.</summary>
    public static JsonObject? Operations(JsonObject target, JsonArray patch)
    {
        var root = new JsonObject { [""] = target.Clone() }; // so that the whole document has a place as well
        foreach (var item in patch)
        {
            if (item is not JsonObject op || op.Text("path") is not { } path || !Apply(root, op, path)) return null;
        }
        return root[""] as JsonObject;
    }

    static bool Apply(JsonObject root, JsonObject op, string path)
    {
        switch (op.Text("op"))
        {
            case "add": return op.ContainsKey("value") && Add(root, path, op["value"]?.DeepClone());
            case "remove": return Find(root, path, out _) && Remove(root, path);
            case "replace":
                // In a map it is taken for add.
                return op.ContainsKey("value") && Parent(root, path, out var parent, out _)
                    && (parent is JsonObject || Find(root, path, out _) && Remove(root, path))
                    && Add(root, path, op["value"]?.DeepClone());
            case "test":
                var there = Find(root, path, out var found);
                return (there || op["value"] is null) && Json.Same(found, op["value"]);
            case "copy": return Find(root, op.Text("from"), out var copied) && Add(root, path, copied?.DeepClone());
            case "move":
                return Find(root, op.Text("from"), out var moved) && moved?.DeepClone() is var value
                    && Remove(root, op.Text("from")!) && Add(root, path, value);
            default: return false;
        }
    }

    static string[] Steps(string path) =>
        [.. path.Split('/').Select(s => s.Replace("~1", "/").Replace("~0", "~"))];

    static bool Find(JsonObject root, string? path, out JsonNode? found)
    {
        found = root;
        foreach (var step in Steps(path ?? "/"))
        {
            if (found is JsonObject map && map.ContainsKey(step)) found = map[step];
            else if (found is JsonArray list && Index(step, list.Count) is { } at) found = list[at];
            else return false;
        }
        return true;
    }

    static bool Parent(JsonObject root, string path, out JsonNode? parent, out string last)
    {
        var steps = Steps(path);
        (parent, last) = (root, steps[^1]);
        return steps.Length == 1
            || Find(root, path[..path.LastIndexOf('/')], out parent) && parent is JsonObject or JsonArray;
    }

    static bool Add(JsonObject root, string path, JsonNode? value)
    {
        if (!Parent(root, path, out var parent, out var last)) return false;
        if (parent is JsonObject map) map[last] = value;
        else if (last == "-") ((JsonArray)parent!).Add(value);
        else if (Index(last, ((JsonArray)parent!).Count + 1) is { } at) ((JsonArray)parent).Insert(at, value);
        else return false;
        return true;
    }

    static bool Remove(JsonObject root, string path)
    {
        if (!Parent(root, path, out var parent, out var last)) return false;
        if (parent is JsonObject map) return map.Remove(last);
        if (Index(last, ((JsonArray)parent!).Count) is not { } at) return false;
        ((JsonArray)parent).RemoveAt(at);
        return true;
    }

    static int? Index(string step, int count) =>
        int.TryParse(step, NumberStyles.None, CultureInfo.InvariantCulture, out var at) && at < count ? at : null;

    // ----- strategic merge patch: lists merge by the keys that the schema names

    const string Directive = "$patch", Retain = "$retainKeys", Order = "$setElementOrder/",
        Delete = "$deleteFromPrimitiveList/";

    public static JsonObject Strategic(JsonObject current, JsonObject patch, Schema? schema)
    {
        var result = current.Clone();
        switch (patch.Text(Directive))
        {
            case "replace": return Plain(patch);
            case "delete": return [];
        }
        if (patch[Retain] is JsonArray)
        {
            var kept = patch.Strings(Retain);
            foreach (var field in result.Select(f => f.Key).Except(kept).ToArray()) result.Remove(field);
        }
        foreach (var (field, value) in patch)
        {
            if (field.StartsWith(Delete, StringComparison.Ordinal))
            {
                if (result[field[Delete.Length..]] is not JsonArray from) continue;
                foreach (var gone in (JsonArray)value!)
                    foreach (var item in from.Where(i => Json.Same(i, gone)).ToArray()) from.Remove(item);
            }
            else if (field.StartsWith(Order, StringComparison.Ordinal))
            {
                var name = field[Order.Length..];
                // Where the list itself is in the patch, it takes the order over.
                if (!patch.ContainsKey(name) && result[name] is JsonArray list)
                    result[name] = MergeList(list, [], (JsonArray)value!, schema?.Field(name));
            }
            else if (field is not (Directive or Retain)) Set(result, field, value, patch, schema?.Field(field));
        }
        return result;
    }

    static void Set(JsonObject result, string field, JsonNode? value, JsonObject patch, Schema? schema)
    {
        if (value is null) result.Remove(field);
        else if (value is JsonObject map)
            result[field] = Strategic(result[field] as JsonObject ?? [], map, schema);
        else if (value is JsonArray list && schema?.MergeKey is not null)
        {
            var order = patch[Order + field] as JsonArray;
            result[field] = MergeList(result[field] as JsonArray ?? [], list, order, schema);
        }
        else result[field] = value.DeepClone();
    }

    static JsonArray MergeList(JsonArray current, JsonArray patch, JsonArray? order, Schema? schema)
    {
        var key = schema?.MergeKey ?? "";
        JsonNode? Id(JsonNode? item) => key.Length > 0 && item is JsonObject map ? map[key] : item;
        if (patch.Any(p => p.Text(Directive) == "replace"))
            return [.. patch.Where(p => p.Text(Directive) is null).Select(p => p?.DeepClone())];
        var gone = patch.Where(p => p.Text(Directive) == "delete").Select(Id).ToList();
        var wanted = patch.Where(p => p.Text(Directive) != "delete").ToList();
        var merged = current.Where(c => !gone.Exists(g => Json.Same(g, Id(c)))).Select(c =>
            wanted.Find(w => Json.Same(Id(w), Id(c))) is JsonObject change && c is JsonObject map
                ? Strategic(map, change, schema?.Item) : c?.DeepClone()).ToList();
        foreach (var item in wanted)
            if (!merged.Exists(m => Json.Same(Id(m), Id(item))))
                merged.Add(item is JsonObject o ? Plain(o) : item?.DeepClone());
        var places = (order ?? new JsonArray([.. wanted.Select(w => w?.DeepClone())])).Select(Id).ToList();
        int Place(JsonNode? item) => places.FindIndex(p => Json.Same(p, Id(item)));
        var own = merged.Where(m => Place(m) >= 0).OrderBy(Place).ToList();
        var others = merged.Where(m => Place(m) < 0).ToList();
        var before = current.Select(Id).ToList();
        return Interleave(others, own, item => before.FindIndex(b => Json.Same(b, Id(item))));
    }

    /// <summary>Both keep their order; towards each other they stand as they did before, if both were there.</summary>
    static JsonArray Interleave(List<JsonNode?> others, List<JsonNode?> own, Func<JsonNode?, int> before)
    {
        var result = new JsonArray();
        for (int i = 0, j = 0; i < others.Count || j < own.Count;)
        {
            var takeOwn = i == others.Count || j < own.Count
                && !(before(own[j]) >= 0 && before(others[i]) >= 0 && before(others[i]) < before(own[j]));
            result.Add(takeOwn ? own[j++] : others[i++]);
        }
        return result;
    }

    /// <summary>Without directives and nulls.</summary>
    static JsonObject Plain(JsonObject patch)
    {
        var result = new JsonObject();
        foreach (var (field, value) in patch)
            if (value is not null && !field.StartsWith('$'))
                result[field] = value is JsonObject map ? Plain(map) : value.DeepClone();
        return result;
    }
}
