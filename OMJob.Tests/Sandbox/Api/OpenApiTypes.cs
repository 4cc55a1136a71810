// Makes types.json: the built-in kinds of ResourceType's table and all that they refer to, from the OpenAPI document of
// a real API server, without what nobody here reads: descriptions, enums, and of the extensions all but how lists are
// patched.

using System.CommandLine;
using System.Text.Json.Nodes;

namespace OMJobs.Sandbox;

/// <summary>The command `dotnet run --project OMJob.Tests/Sandbox -- types`.</summary>
static class OpenApiTypes
{
    const string Reference = "#/definitions/", Extension = "x-kubernetes-", Patching = "x-kubernetes-patch-";

    public static Command Command()
    {
        var kubeconfig = new Option<string>("--kubeconfig")
        {
            Description = "a real API server",
            HelpName = "FILE",
            Required = true,
        };
        var command = new Command("types", "Writes types.json anew, from an API server's OpenAPI document.") { kubeconfig };
        command.SetAction(async parsed =>
        {
            using var api = new SandboxClient(parsed.GetValue(kubeconfig)!);
            var types = Collect((JsonObject)(await api.Get("/openapi/v2"))["definitions"]!);
            var lines = types.Select(t => $" {JsonValue.Create(t.Key).ToJsonString()}: {t.Value.ToJsonString()}");
            await File.WriteAllTextAsync(Repository.File("OMJob.Tests/Sandbox/Api/types.json"),
                $"{{\n{string.Join(",\n", lines)}\n}}\n");
        });
        return command;
    }

    static SortedDictionary<string, JsonObject> Collect(JsonObject definitions)
    {
        var types = new SortedDictionary<string, JsonObject>(StringComparer.Ordinal);
        foreach (var kind in ResourceType.BuiltIn()) Include(kind.Definition!);
        return types;

        void Include(string name)
        {
            if (types.ContainsKey(name)) return;
            types[name] = [];
            types[name] = Lean((JsonObject)definitions[name]!);
        }

        JsonObject Lean(JsonObject schema) => new(schema
            .Where(f => f.Key is not ("description" or "enum"))
            .Where(f => !f.Key.StartsWith(Extension) || f.Key.StartsWith(Patching))
            .Select(f => KeyValuePair.Create(f.Key, f.Value switch
            {
                JsonObject fields when f.Key == "properties" => new JsonObject(fields.Select(
                    field => KeyValuePair.Create<string, JsonNode?>(field.Key, Lean((JsonObject)field.Value!)))),
                JsonObject part => Lean(part),
                JsonValue target when f.Key == "$ref" => Follow((string)target!),
                var value => value?.DeepClone(),
            })));

        JsonNode Follow(string reference)
        {
            var name = reference[Reference.Length..];
            Include(name);
            return name;
        }
    }
}
