// The operator's sources are layers: Program, OMJob and CronOMJob, Model, Kube. Each names only what is beside or below.

using System.Text.RegularExpressions;
using OMJobs.Sandbox;
using Xunit;

namespace OMJobs.Tests;

public sealed partial class LayerTests
{
    static readonly string[][] Layers = [["Program.cs"], ["OMJob.cs", "CronOMJob.cs"], ["Model"], ["Kube"]];

    [GeneratedRegex(@"///.*|//.*|""""""(.|\n)*?""""""|\$?""(\\.|[^""\\])*""|'(\\.|[^'\\])'")]
    private static partial Regex NoCode { get; }

    [GeneratedRegex(@"^(?:\w+ )*(?:class|record|struct|interface|enum|delegate [\w<>]+) (\w+)", RegexOptions.Multiline)]
    private static partial Regex Declaration { get; }

    static IEnumerable<string> Sources(string of)
    {
        var path = Repository.File(of);
        return Directory.Exists(path) ? Directory.GetFiles(path, "*.cs") : [path];
    }

    static string Code(string path) => NoCode.Replace(File.ReadAllText(path), "");

    [Theory, InlineData(1), InlineData(2), InlineData(3)]
    public void A_layer_names_nothing_of_those_above(int layer)
    {
        var above = Layers[..layer].SelectMany(l => l).SelectMany(Sources)
            .SelectMany(path => Declaration.Matches(Code(path))).Select(declared => declared.Groups[1].Value).ToHashSet();
        Assert.Contains("Program", above);
        foreach (var path in Layers[layer].SelectMany(Sources))
            Assert.Empty(Regex.Matches(Code(path), @"(?<![.\w])[A-Z]\w*").Select(word => word.Value).Where(above.Contains)
                .Select(name => $"{Path.GetFileName(path)} names {name}"));
    }

    /// <summary>Mutation, which links to none of these, is left out.</summary>
    [Fact]
    public void A_name_means_one_type_in_operator_sandbox_and_tests()
    {
        var names = new[] { typeof(Protocol), typeof(Store), typeof(LayerTests) }.SelectMany(one =>
            one.Assembly.GetTypes().Where(t => t.Namespace?.StartsWith("OMJobs", StringComparison.Ordinal) is true)
                .Select(t => t.Name.Split('`')[0]).Where(name => !name.Contains('<')).Distinct()).ToList();
        Assert.Contains("Watcher", names);
        Assert.DoesNotContain(names.CountBy(name => name), name => name.Value > 1);
    }
}
