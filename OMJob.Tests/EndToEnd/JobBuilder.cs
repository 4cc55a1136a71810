// OMJobs for the tests. Main and exit handler are shell scripts, which the suite's kubelet runs as processes.

using System.Text.Json.Nodes;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

sealed class JobBuilder
{
    /// <summary>Unless told otherwise main succeeds and the exit handler says what it was told.</summary>
    public JobBuilder(string name, string main = "echo working", string exit = "echo pipelineStatus=$pipelineStatus")
    {
        Job = new JsonObject
        {
            ["apiVersion"] = "pipelines.openmetadata.org/v1",
            ["kind"] = "OMJob",
            ["metadata"] = new JsonObject { ["name"] = name },
            ["spec"] = new JsonObject { ["mainPodSpec"] = Pod(main), ["exitHandlerSpec"] = Pod(exit) },
        };
        // A variable of that name is the operator's, whatever the OMJob says.
        With("mainPodSpec.env", """[{"name": "config", "value": "{}"}]""");
        With("exitHandlerSpec.env",
            """[{"name": "pipelineStatus", "value": "stale"}, {"name": "jobName", "value": "the job"}]""");
    }

    JobBuilder(JsonObject job) => Job = job;

    public JsonObject Job { get; }

    public string Name => Job.Name();

    /// <summary>That of the OMJob once it is created.</summary>
    public string Uid { get; set; } = "";

    public JsonObject Spec => Job["spec"]!.AsObject();

    /// <summary>One of the repository's examples, as its users apply it.</summary>
    public static JobBuilder Example(string file)
    {
        var job = Json.Yaml(TestCluster.Read($"examples/{file}")).Single();
        job["metadata"]!.AsObject().Remove("namespace");
        return new JobBuilder(job);
    }

    /// <summary>Sets a field of the spec, `mainPodSpec.env` say, to this JSON.</summary>
    public JobBuilder With(string field, string json)
    {
        var path = field.Split('.');
        var at = Spec;
        foreach (var step in path[..^1]) at = at[step]!.AsObject();
        at[path[^1]] = JsonNode.Parse(json);
        return this;
    }

    public JobBuilder Without(string field)
    {
        Spec.Remove(field);
        return this;
    }

    /// <summary>Tells the kubelet something about the main pod.</summary>
    public JobBuilder Main(string annotation, string value) =>
        With("mainPodSpec.annotations", new JsonObject { [$"kubelet/{annotation}"] = value }.ToJsonString());

    /// <summary>Tells the kubelet something about the exit pods.</summary>
    public JobBuilder Exit(string annotation, string value) =>
        With("exitHandlerSpec.annotations", new JsonObject { [$"kubelet/{annotation}"] = value }.ToJsonString());

    static JsonObject Pod(string script) => new()
    {
        ["image"] = "none",
        ["serviceAccountName"] = "default",
        ["command"] = new JsonArray("sh", "-c", script),
    };
}
