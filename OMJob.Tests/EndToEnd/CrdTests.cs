// crd.yaml by what the API server makes of it: each field says what it is, and a value of another type is refused with
// the field's name.

using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class CrdTests(TestCluster cluster) : ClusterTest(cluster)
{
    /// <summary>A field of a schema: how one writes down a value of it, and what its schema says.</summary>
    sealed record Field(string Path, JsonObject Schema, Func<JsonNode?, JsonNode> With)
    {
        public string? Type => Schema.Text("type");
    }

    static JsonObject Version(string kind) => Json.Yaml(TestCluster.Read("crd.yaml"))
        .Single(crd => crd.Text("spec", "names", "kind") == kind).Items("spec", "versions").Single();

    /// <summary>All fields under one, itself included, those of items and of values of maps too.</summary>
    static IEnumerable<Field> Under(Field field)
    {
        yield return field;
        var below = (field.Schema["properties"] as JsonObject ?? []).Select(property => new Field(
            $"{field.Path}.{property.Key}", (JsonObject)property.Value!,
            value => field.With(new JsonObject { [property.Key] = value })));
        if (field.Schema["items"] is JsonObject item)
            below = below.Append(new($"{field.Path}[]", item, value => field.With(new JsonArray(value))));
        if (field.Schema["additionalProperties"] is JsonObject valueOf)
            below = below.Append(new($"{field.Path}.*", valueOf,
                value => field.With(new JsonObject { ["some"] = value })));
        foreach (var next in below.SelectMany(Under)) yield return next;
    }

    static IEnumerable<Field> Fields(string kind, string part) =>
        Under(new(part, (JsonObject)Version(kind).At("schema", "openAPIV3Schema", "properties", part)!, value => value!));

    [Theory, InlineData("OMJob"), InlineData("CronOMJob")]
    public void Every_field_has_a_description_and_a_type(string kind)
    {
        foreach (var field in Fields(kind, "spec").Concat(Fields(kind, "status")))
        {
            Assert.True(field.Type is not null || field.Schema["x-kubernetes-int-or-string"] is not null, field.Path);
            // Items and values are what their list or map says.
            if (field.Path[^1] is ']' or '*') continue;
            var said = field.Schema.Text("description") ?? "";
            Assert.True(said.EndsWith('.'), $"{field.Path}: {said}");
            if (field.Schema["default"] is JsonValue value)
                Assert.Contains($"Defaults to {value}", said, StringComparison.Ordinal);
            if (field.Path.EndsWith("Seconds", StringComparison.Ordinal))
                Assert.Contains("econds", said, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_template_of_a_schedule_is_described_as_the_spec_of_an_OMJob()
    {
        var (spec, template) = (Fields("OMJob", "spec").First().Schema["properties"],
            Fields("CronOMJob", "spec").First().Schema["properties"]!["omJobSpec"]!["properties"]);
        Assert.Equal(spec!.ToJsonString(), template!.ToJsonString());
    }

    [Fact]
    public void What_kubectl_apply_keeps_of_it_fits_an_annotation() => Assert.All(
        Json.Yaml(TestCluster.Read("crd.yaml")), crd => Assert.InRange(crd.ToJsonString().Length, 0, 200_000));

    [Theory, InlineData("OMJob"), InlineData("CronOMJob")]
    public void Every_column_shows_a_field_that_is_there(string kind)
    {
        var fields = Fields(kind, "spec").Concat(Fields(kind, "status")).Select(field => $".{field.Path}")
            .Append(".metadata.creationTimestamp").ToHashSet();
        foreach (var column in Version(kind).Items("additionalPrinterColumns"))
            Assert.Contains(Regex.Replace(column.Text("jsonPath")!, @"\[\?.*?\)\]", "[]"), fields);
    }

    [Fact]
    public async Task Wide_columns_of_a_schedule_tell_its_last_run_and_what_happened_last()
    {
        var cron = await Ns.Api.Create(
            Paths.CronOMJobs(Ns.Name), Json.Yaml(TestCluster.Read("examples/cronomjob.yaml")).Single());
        await Ns.Api.Patch($"{Paths.CronOMJob(Ns.Name, cron.Name())}/status", Json.Object(
            """{"status": {"lastOMJobName": "om-cronomjob-hello-1795527300", "message": "Created OMJob"} }"""));
        var row = Assert.Single(await Ns.Api.Table(Paths.CronOMJobs(Ns.Name)));
        Assert.Equal(["Name", "Schedule", "Suspended", "Last Schedule", "Age", "Last OMJob", "Message"], row.Keys);
        Assert.Equal(("om-cronomjob-hello-1795527300", "Created OMJob"),
            ((string?)row["Last OMJob"], (string?)row["Message"]));
    }

    [Theory, InlineData("OMJob", "omjob.yaml"), InlineData("CronOMJob", "cronomjob.yaml")]
    public async Task A_value_of_another_type_is_refused_and_its_field_named(string kind, string example)
    {
        var collection = kind == "OMJob" ? Paths.OMJobs(Ns.Name) : Paths.CronOMJobs(Ns.Name);
        foreach (var field in Fields(kind, "spec"))
        {
            var valid = Json.Yaml(TestCluster.Read($"examples/{example}")).Single();
            JsonNode wrong = field.Type switch { "string" => 5, "integer" => "five", "boolean" => "yes", _ => true };
            Set(valid, "spec", field.With(wrong));
            var refused = await Assert.ThrowsAsync<ApiException>(() =>
                Ns.Api.Create($"{collection}?dryRun=All", valid));
            Assert.Equal(HttpStatusCode.UnprocessableEntity, refused.Code);
            var name = field.Path.Split('.').Last(step => step != "*").Replace("[]", "", StringComparison.Ordinal);
            Assert.Contains(name, refused.Message, StringComparison.Ordinal);
            Assert.Contains(field.Type ?? "integer,string", refused.Message, StringComparison.Ordinal);
        }
    }

    /// <summary>Puts this value there; what an object has besides stays.</summary>
    static void Set(JsonObject o, string field, JsonNode value)
    {
        if (value is JsonObject given && o[field] is JsonObject there)
            foreach (var (name, of) in given.ToList()) Set(there, name, of!.DeepClone());
        else
            o[field] = value.DeepClone();
    }
}
