// What the tests of the decision would not notice: every change of one condition, pattern, comparison, number or step
// in the classes that decide must fail a test.
//
//   dotnet run --project OMJob.Tests/Mutation [METHOD]
//
// Prints each mutant that lives and ends with 1 if there is one. A mutant that changes nothing that can be observed is
// code that does nothing: there is no list of exceptions.

using System.Diagnostics;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.Loader;
using OMJobs.Mutation;
using Xunit;
using Xunit.Sdk;

const string Target = "net10.0";
var clock = Stopwatch.StartNew();
var here = Path.GetDirectoryName(Here())!;
var root = Path.GetFullPath(Path.Combine(here, "../.."));
var mode = AppContext.BaseDirectory.Contains("/Release/", StringComparison.Ordinal) ? "Release" : "Debug";
var output = Path.Combine(root, "OMJob.Tests/bin", mode, Target);
FieldInfo active = null!;
List<(string Name, Func<Task> Run)> cases = [];

// The fastest tests first.
string[] deciding = ["DecideTests", "EdgeCaseTests", "DecisionTableTests"];
var living = await Check("OMJob.cs", "Protocol", deciding) + await Check("Model/PodView.cs", "End", deciding)
    + await Check("Model/Ending.cs", "Ending", "ConditionTests")
    + await Check("Model/Conditions.cs", "Conditions", "ConditionTests")
    + await Check("CronOMJob.cs", "Scheduling", "CronDecideTests");
return living == 0 ? 0 : 1;

// How many mutants of a class these tests let live.
async Task<int> Check(string file, string type, params string[] classes)
{
    var schema = new MutantSchema(root, file, Path.Combine(root, "obj", mode, Target), output);
    var (mutants, assembly) = schema.Compile(type);
    var context = new AssemblyLoadContext(type);
    var mutated = context.LoadFromStream(new MemoryStream(assembly));
    context.Resolving += (_, name) => File.Exists(Path.Combine(output, $"{name.Name}.dll"))
        ? context.LoadFromAssemblyPath(Path.Combine(output, $"{name.Name}.dll")) : null;
    var tests = context.LoadFromAssemblyPath(Path.Combine(output, "OMJob.Tests.dll"));
    (active, cases) = (mutated.GetType("OMJobs.Mutation")!.GetField("Active")!, []);
    foreach (var name in classes) await AddCases(tests.GetType($"OMJobs.Tests.{name}", true)!);
    Console.WriteLine($"{type}: {mutants.Length} mutants, {cases.Count} tests, {clock.Elapsed.TotalSeconds:0} s");
    if (await FirstFailure(0) is { } broken) throw new InvalidOperationException($"Not even it itself passes {broken}");
    var (killed, living) = (0, 0);
    foreach (var mutant in mutants.Where(m => args.Length == 0 || args.Contains(m.Member)))
    {
        if (await FirstFailure(mutant.Id) is not null) { killed++; continue; }
        living++;
        Console.WriteLine($"{file}:{mutant.Line}: {mutant.Name}");
    }
    Console.WriteLine($"{type}: {killed} killed, {living} living, {clock.Elapsed.TotalSeconds:0} s");
    return living;
}

async Task<string?> FirstFailure(int id)
{
    active.SetValue(null, id);
    foreach (var (name, run) in cases)
    {
        try { await run(); }
#pragma warning disable CA1031 // whatever a test throws is its failure
        catch (Exception e)
#pragma warning restore CA1031
        {
            return id == 0 ? $"{name}: {(e as TargetInvocationException)?.InnerException ?? e}" : name;
        }
    }
    return null;
}

// Each row of a theory is a case; theories come before facts.
async Task AddCases(Type type)
{
    var methods = type.GetMethods(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly)
        .Where(m => m.GetCustomAttribute<FactAttribute>() is not null)
        .OrderBy(m => m.GetCustomAttribute<TheoryAttribute>() is null);
    foreach (var method in methods)
    {
        var rows = new List<object?[]>();
        if (method.GetCustomAttribute<MemberDataAttribute>() is { } member)
            rows.AddRange(((IEnumerable<ITheoryDataRow>)type.GetProperty(member.MemberName)!.GetValue(null)!)
                .Select(r => r.GetData()));
        foreach (var data in method.GetCustomAttributes<InlineDataAttribute>())
            rows.AddRange((await data.GetData(method, new DisposalTracker())).Select(r => r.GetData()));
        if (method.GetCustomAttribute<TheoryAttribute>() is null) rows.Add([]);
        var instance = Activator.CreateInstance(type);
        foreach (var row in rows)
            cases.Add(($"{type.Name}.{method.Name}", () => method.Invoke(instance, row) as Task ?? Task.CompletedTask));
    }
}

static string Here([CallerFilePath] string path = "") => path;
