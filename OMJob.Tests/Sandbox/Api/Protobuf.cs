// The few objects that `kubectl create namespace|configmap|secret|serviceaccount|token` and Helm send as Protobuf, read
// into JSON. All else that they send is JSON.

using System.Text;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

static class Protobuf
{
    // message: number name type. Types: s string, b bytes, i integer, t true or false, another message;
    // * in front: a list, % in front: a map from strings
    static readonly Dictionary<string, Dictionary<int, (string Name, string Type)>> Messages = """
        Unknown: 1 typeMeta TypeMeta, 2 raw b
        TypeMeta: 1 apiVersion s, 2 kind s
        Namespace: 1 metadata ObjectMeta
        ConfigMap: 1 metadata ObjectMeta, 2 data %s, 3 binaryData %b, 4 immutable t
        Secret: 1 metadata ObjectMeta, 2 data %b, 3 type s, 4 stringData %s, 5 immutable t
        ServiceAccount: 1 metadata ObjectMeta, 3 imagePullSecrets *Named, 4 automountServiceAccountToken t
        TokenRequest: 1 metadata ObjectMeta, 2 spec TokenRequestSpec
        TokenRequestSpec: 1 audiences *s, 4 expirationSeconds i
        ObjectMeta: 1 name s, 2 generateName s, 3 namespace s, 11 labels %s, 12 annotations %s, 14 finalizers *s
        Named: 1 name s
        DeleteOptions: 1 gracePeriodSeconds i, 2 preconditions Preconditions, 4 propagationPolicy s, 5 dryRun *s
        Preconditions: 1 uid s, 2 resourceVersion s
        """.Split('\n').Select(l => l.Split(": ")).ToDictionary(m => m[0], m => m[1].Split(", ")
            .Select(f => f.Split(' ')).ToDictionary(f => int.Parse(f[0], null), f => (f[1], f[2])));

    static ReadOnlySpan<byte> Magic => "k8s\0"u8;

    /// <summary>The object, with apiVersion and kind; null where it is none of these.</summary>
    public static JsonObject? Decode(ReadOnlySpan<byte> body)
    {
        if (!body.StartsWith(Magic)) return null;
        var envelope = Message("Unknown", body[Magic.Length..]);
        var (at, kind) = (envelope.Text("typeMeta", "apiVersion"), envelope.Text("typeMeta", "kind") ?? "");
        if (!Messages.ContainsKey(kind)) return null;
        var o = Message(kind, Convert.FromBase64String(envelope.Text("raw") ?? ""));
        (o["apiVersion"], o["kind"]) = (at, kind);
        return o;
    }

    static JsonObject Message(string name, ReadOnlySpan<byte> body)
    {
        var o = new JsonObject();
        while (body.Length > 0)
        {
            var tag = Varint(ref body);
            if ((tag & 7) is not (0 or 2)) throw new FormatException($"wire type {tag & 7} in {name}");
            var number = Varint(ref body);
            var bytes = (tag & 7) == 2 ? body[..(int)number] : default;
            body = body[bytes.Length..];
            if (!Messages[name].TryGetValue((int)(tag >> 3), out var field)) continue;
            var type = field.Type.TrimStart('*', '%');
            if (field.Type[0] == '*') Add(o, field.Name, Value(type, number, bytes));
            else if (field.Type[0] == '%') Entry(o.Child(field.Name), type, bytes);
            else o[field.Name] = Value(type, number, bytes);
        }
        return o;
    }

    static void Add(JsonObject o, string name, JsonNode? value)
    {
        if (o[name] is not JsonArray list) o[name] = list = [];
        list.Add(value);
    }

    /// <summary>A map's entry is a message of its own: 1 key, 2 value.</summary>
    static void Entry(JsonObject map, string type, ReadOnlySpan<byte> entry)
    {
        var (key, value) = ("", Value(type, 0, default));
        while (entry.Length > 0)
        {
            var number = Varint(ref entry) >> 3;
            var length = (int)Varint(ref entry);
            if (number == 1) key = Encoding.UTF8.GetString(entry[..length]);
            else value = Value(type, 0, entry[..length]);
            entry = entry[length..];
        }
        map[key] = value;
    }

    static JsonNode? Value(string type, ulong number, ReadOnlySpan<byte> bytes) => type switch
    {
        "s" => Encoding.UTF8.GetString(bytes),
        "b" => Convert.ToBase64String(bytes),
        "i" => (long)number,
        "t" => number != 0,
        _ => Message(type, bytes),
    };

    static ulong Varint(ref ReadOnlySpan<byte> from)
    {
        var (value, shift) = (0UL, 0);
        while (true)
        {
            var next = from[0];
            from = from[1..];
            value |= (ulong)(next & 0x7f) << shift;
            if (next < 0x80) return value;
            shift += 7;
        }
    }
}
