using System.Runtime.Loader;
using System.Text;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Diagnostics;

namespace OMJobs.Mutation;

/// <summary>The operator with all mutants of one class in it: each member stands there as it is and once more for each
/// of its mutants, and what carries the member's name picks one of them at run time. So it is compiled once, and a
/// mutant of any form is possible; one that does not compile is none.</summary>
sealed class MutantSchema
{
    /// <summary>Which mutant runs; 0: none.</summary>
    const string Switch = "namespace OMJobs; static class Mutation { public static int Active; }";

    /// <summary>What the operator refers to beside the framework.</summary>
    static readonly string[] Packages = ["KubernetesClient.Aot.dll", "YamlDotNet.dll", "System.CommandLine.dll", "Cronos.dll"];

    readonly CSharpParseOptions options = new(LanguageVersion.Latest);
    readonly CSharpCompilation original;
    readonly SyntaxTree source;

    /// <param name="root">Where the operator's sources are.</param>
    /// <param name="file">Which of them has the class that is to be changed.</param>
    /// <param name="build">Where what the build generates is: global usings and the assembly's attributes.</param>
    /// <param name="output">Where the assemblies are that it refers to.</param>
    public MutantSchema(string root, string file, string build, string output)
    {
        var path = Path.Combine(root, file);
        source = Parse(path);
        var references = ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(':')
            .Concat(Packages.Select(name => Path.Combine(output, name)));
        original = CSharpCompilation.Create("omjob-operator",
            [
                source, CSharpSyntaxTree.ParseText(Switch, options),
                .. Sources(root).Where(p => p != path).Select(Parse),
                .. Directory.GetFiles(build, "*.cs").Select(Parse),
            ],
            references.Select(f => MetadataReference.CreateFromFile(f)),
            new(OutputKind.ConsoleApplication, nullableContextOptions: NullableContextOptions.Enable));
        var packs = Path.Combine(typeof(object).Assembly.Location, "../../../../packs/Microsoft.NETCore.App.Ref");
        var generator = Directory.GetFiles(
            packs, "System.Text.Json.SourceGeneration.dll", SearchOption.AllDirectories)[^1];
        var generators = new AnalyzerFileReference(Path.GetFullPath(generator), new Loader())
            .GetGenerators(LanguageNames.CSharp);
        CSharpGeneratorDriver.Create(generators, parseOptions: options)
            .RunGeneratorsAndUpdateCompilation(original, out var generated, out _);
        original = (CSharpCompilation)generated;
    }

    /// <summary>Makes the mutants of a class and compiles what can be compiled of them.</summary>
    public (Mutant[] Mutants, byte[] Assembly) Compile(string type)
    {
        var declaration = source.GetRoot().DescendantNodes().OfType<TypeDeclarationSyntax>()
            .Single(c => c.Identifier.Text == type);
        Mutant[] mutants = [.. declaration.Members.Where(m => NameOf(m).Length > 0).SelectMany(m => Mutants.Of(m, NameOf(m)))
            .Select((m, i) => m with { Id = i + 1 })];
        for (; ; )
        {
            var (text, starts) = Weave(declaration, mutants);
            var tree = CSharpSyntaxTree.ParseText(text, options, source.FilePath, Encoding.UTF8);
            var image = new MemoryStream();
            var result = original.ReplaceSyntaxTree(source, tree).Emit(image);
            if (result.Success) return (mutants, image.ToArray());
            var errors = result.Diagnostics.Where(d => d.Severity == DiagnosticSeverity.Error).ToArray();
            var failed = errors.Select(e => e.Location.SourceTree != tree ? 0
                : starts.LastOrDefault(s => s.Start <= e.Location.SourceSpan.Start).Id).ToHashSet();
            if (failed.Contains(0)) throw new InvalidOperationException(string.Join('\n', errors.Take(5)));
            mutants = [.. mutants.Where(m => !failed.Contains(m.Id))];
        }
    }

    /// <summary>The source with all mutants in it, and where the text of each begins.</summary>
    (string Text, List<(int Start, int Id)> Starts) Weave(TypeDeclarationSyntax type, Mutant[] mutants)
    {
        var text = new StringBuilder(source.ToString()[..type.OpenBraceToken.Span.End]);
        var starts = new List<(int, int)> { (0, 0) };
        foreach (var member in type.Members)
        {
            var name = NameOf(member);
            var own = mutants.Where(m => m.Member == name).ToArray();
            if (own.Length == 0) { text.Append(member.ToFullString()); continue; }
            text.AppendLine().AppendLine(Selector(member, name, own));
            foreach (var mutant in own)
            {
                starts.Add((text.Length, mutant.Id));
                text.AppendLine(Renamed(mutant.Text, name, mutant.Id));
            }
            starts.Add((text.Length, 0));
            text.AppendLine(Renamed(member.ToString(), name, 0));
        }
        text.Append(source.ToString()[type.CloseBraceToken.SpanStart..]);
        return (text.ToString(), starts);
    }

    static string Selector(MemberDeclarationSyntax member, string name, Mutant[] mutants)
    {
        var method = member as MethodDeclarationSyntax;
        var arguments = method is null ? ""
            : $"({string.Join(", ", method.ParameterList.Parameters.Select(p => p.Identifier.Text))})";
        var head = method is null ? $"static {((FieldDeclarationSyntax)member).Declaration.Type} {name}"
            : $"{method.Modifiers} {method.ReturnType} {name}{method.ParameterList}";
        var arms = mutants.Select(m => $"{m.Id} => {name}__{m.Id}{arguments}, ");
        return $"{head} => Mutation.Active switch {{ {string.Concat(arms)} _ => {name}__0{arguments} }};";
    }

    /// <summary>The member under a name of its own: the first word that is its name is where it is declared.</summary>
    static string Renamed(string text, string name, int id)
    {
        var at = text.IndexOf($" {name}", StringComparison.Ordinal) + 1;
        return $"{text[..at]}{name}__{id}{text[(at + name.Length)..]}";
    }

    static string NameOf(MemberDeclarationSyntax member) => member switch
    {
        MethodDeclarationSyntax method => method.Identifier.Text,
        FieldDeclarationSyntax { Declaration.Variables: [var only] } => only.Identifier.Text,
        _ => "", // stays as it is
    };

    static IEnumerable<string> Sources(string root) => ((string[])["", "Model", "Kube"])
        .SelectMany(folder => Directory.GetFiles(Path.Combine(root, folder), "*.cs"));

    SyntaxTree Parse(string path) => CSharpSyntaxTree.ParseText(File.ReadAllText(path), options, path, Encoding.UTF8);

    sealed class Loader : IAnalyzerAssemblyLoader
    {
        public void AddDependencyLocation(string fullPath) { }
        public System.Reflection.Assembly LoadFromPath(string fullPath) =>
            AssemblyLoadContext.Default.LoadFromAssemblyPath(fullPath);
    }
}
