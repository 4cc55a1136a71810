// Every way a run has ended in the field has a test of its name: G, what becomes of the exit handler; H, where it was
// skipped elsewhere; F, finalizers; D, duplicates and stale reads; W, an operator that is alive and deaf.

using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests;

public sealed partial class CaseTests
{
    [GeneratedRegex("(?<![A-Za-z0-9])[GHFDW][0-9]{1,2}(?![0-9])")]
    private static partial Regex Id();

    /// <summary>What tests are called: their methods, and the rows of their tables.</summary>
    static IEnumerable<string> Names() =>
        from type in typeof(CaseTests).Assembly.GetTypes()
        from method in type.GetMethods()
        where method.GetCustomAttribute<FactAttribute>() is not null
        from name in Rows(method).Append(method.Name)
        select name;

    static IEnumerable<string> Rows(MethodInfo method)
    {
        var table = method.GetCustomAttribute<MemberDataAttribute>() is { } data
            ? method.DeclaringType!.GetProperty(data.MemberName)?.GetValue(null) : null;
        return (table as IEnumerable<ITheoryDataRow> ?? []).SelectMany(row => row.GetData().OfType<string>());
    }

    [Fact]
    public void Every_case_has_a_test_of_its_name()
    {
        string[] cases =
        [
            .. from kind in ((string Letter, int Count)[])[("G", 21), ("H", 14), ("F", 6), ("D", 7), ("W", 8)]
               from number in Enumerable.Range(1, kind.Count)
               select $"{kind.Letter}{number}",
        ];
        Assert.Empty(cases.Except(Names().SelectMany(name => Id().Matches(name)).Select(id => id.Value)));
    }
}
