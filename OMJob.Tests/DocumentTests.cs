// The documents: a case that is cited can be looked up, the tests that a case names are there, links lead somewhere, and
// the README's flags are the program's. What releases rely on: one version everywhere, actions that nobody can change.

using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests;

using OMJobs.Sandbox;

public sealed partial class DocumentTests
{
    /// <summary>What a source says beside its code: comments, texts, and identifiers that begin with a case.</summary>
    [GeneratedRegex(""""
        (?<comment>//.*)|"{3}[\s\S]*?"{3}|@"(?:[^"]|"")*"|"(?<text>(?:\\.|[^"\\\n])*)"|'(?:\\.|[^'\\])'
        |(?<name>\b(?:[A-Z][0-9]{0,2}_)+\w*)
        """", RegexOptions.IgnorePatternWhitespace)]
    private static partial Regex Said { get; }

    [GeneratedRegex("""(?<![\w.'"-])(?:[A-Z][0-9]{1,2}|P(?=[:,)]))(?!\w)""")]
    private static partial Regex Cited { get; }

    /// <summary>How the name of a row in a test's table begins, such as "G5 (b), P: " or "G11 ".</summary>
    [GeneratedRegex(@"^(?:(?:[A-Z][0-9]{1,2}|P)(?: \([a-f]\))?(?:, |:? ))+")]
    private static partial Regex OfRow { get; }

    [GeneratedRegex("""^\| <a id="(?<anchor>\w+)"></a>(?<id>\w+) \|.*\| (?<tests>[^|]+) \|$""", RegexOptions.Multiline)]
    private static partial Regex Case { get; }

    /// <summary>A file's tests in the row of a case: "[OutcomeTests] rows, `G1_its_name`, `G1: a row`".</summary>
    [GeneratedRegex("^\\[(?<file>\\w+)\\] (?:(?:`(?<named>[^`]+)`|(?<rows>rows))(?:, (?!$)|$))+$")]
    private static partial Regex Tests { get; }

    [GeneratedRegex(@"^```[\s\S]*?^```|`[^`\n]+`", RegexOptions.Multiline)]
    private static partial Regex Verbatim { get; }

    [GeneratedRegex(@"\]\((?<to>[^)\s]+)\)|^\[(?<name>[^\]]+)\]: (?<to>\S+)$", RegexOptions.Multiline)]
    private static partial Regex Link { get; }

    [GeneratedRegex(@"^#+ (?<heading>.+)$|<a id=""(?<anchor>\w+)""></a>", RegexOptions.Multiline)]
    private static partial Regex Anchor { get; }

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NoSlug { get; }

    [GeneratedRegex("""(?<document>README|docs/\w+\.md)(?:'s)?, "(?<words>[^"]+)"|(?<document>docs/\w+\.md)""")]
    private static partial Regex Reference { get; }

    [GeneratedRegex(@"^\| `(?<flags>-[^|]+)` \|(?<variable>[^|]*)\|(?<default>[^|]*)\|", RegexOptions.Multiline)]
    private static partial Regex FlagRow { get; }

    static readonly string Root = Repository.File("");

    static string Read(string path) => File.ReadAllText(Repository.File(path));

    static IEnumerable<string> Files(string folder, string pattern) =>
        from path in Directory.EnumerateFiles(Repository.File(folder), pattern, SearchOption.AllDirectories)
        let name = Path.GetRelativePath(Root, path)
        where !name.Split(Path.DirectorySeparatorChar).Intersect(["bin", "obj"]).Any()
        select name;

    static string[] Product => [.. Directory.GetFiles(Root, "*.cs").Select(path => Path.GetFileName(path)),
        .. Files("Model", "*.cs"), .. Files("Kube", "*.cs")];

    static string[] Documents =>
        [.. Directory.GetFiles(Root, "*.md").Select(path => Path.GetFileName(path)), .. Files("docs", "*.md")];

    public static TheoryData<string> EachDocument => [.. Documents];

    static readonly Match[] Rows = [.. Case.Matches(Read("docs/cases.md")).Cast<Match>()];

    static readonly HashSet<string> Ids = [.. Rows.Select(row => row.Groups["id"].Value)];

    static IEnumerable<string> IdsIn(string text) => Cited.Matches(text).Select(cited => cited.Value);

    /// <summary>The ids that a source cites in comments, names of tests and of rows.</summary>
    static IEnumerable<string> CitedBy(string source) => Said.Matches(Read(source)).SelectMany(said =>
        said.Groups["comment"] is { Success: true, Value: var comment } ? IdsIn(comment)
        : said.Groups["text"] is { Success: true, Value: var text } ? IdsIn(OfRow.Match(text).Value.Replace(' ', ','))
        : IdsIn(said.Groups["name"].Value.Replace('_', ',')));

    [Fact]
    public void Every_case_that_is_cited_is_a_row()
    {
        Assert.Equal(["D", "F", "G", "H", "P", "W"], Ids.Select(id => id[..1]).Distinct().Order());
        foreach (var source in Product.Concat(Files("OMJob.Tests", "*.cs")))
            Assert.Empty(CitedBy(source).Except(Ids).Select(id => $"{source} cites {id}"));
        foreach (var document in Documents)
            Assert.Empty(IdsIn(Read(document)).Except(Ids).Select(id => $"{document} cites {id}"));
    }

    [Fact]
    public void Comments_names_and_rows_are_what_is_searched_for_cases()
    {
        Assert.Empty(((string[])["G10", "D4", "W7", "P7", "H4", "F6"]).Except(Product.SelectMany(CitedBy)));
        Assert.Empty(((string[])["G22", "H12", "P"]).Except(CitedBy("OMJob.Tests/Decision/DecideTests.cs")));
        Assert.Empty(((string[])["F3", "D7"]).Except(CitedBy("OMJob.Tests/Simulation/SimulationTests.cs")));
        Assert.Empty(((string[])["G19", "D3"]).Except(CitedBy("OMJob.Tests/Simulation/CrashTests.cs")));
    }

    [Fact]
    public void Every_row_is_there_once_under_its_anchor()
    {
        Assert.Equal(Ids.Count, Rows.Length);
        Assert.All(Rows, row => Assert.Equal(row.Groups["id"].Value.ToLowerInvariant(), row.Groups["anchor"].Value));
        Assert.Equal(Rows.Length, Read("docs/cases.md").Split("<a id=").Length - 1);
    }

    [Fact]
    public void The_tests_that_a_row_names_are_there()
    {
        var files = Link.Matches(Read("docs/cases.md")).Where(link => link.Groups["name"].Success)
            .ToDictionary(link => link.Groups["name"].Value, link => Read(Path.Combine("docs", link.Groups["to"].Value)));
        foreach (var row in Rows)
        {
            var id = row.Groups["id"].Value;
            foreach (var item in row.Groups["tests"].Value.Split("; "))
            {
                var tests = Tests.Match(item);
                Assert.True(tests.Success, $"{id}: {item}");
                Assert.True(files.TryGetValue(tests.Groups["file"].Value, out var file), $"{id}: {item} is no link");
                foreach (Capture named in tests.Groups["named"].Captures)
                    Assert.True(Regex.IsMatch(file, $"^    public .*(void|Task) {Regex.Escape(named.Value)}\\(",
                        RegexOptions.Multiline) || file.Contains($"[\"{named.Value}\"] =", StringComparison.Ordinal),
                        $"{id}: {named.Value} is neither a test nor a row");
                if (tests.Groups["rows"].Success)
                    Assert.True(Regex.IsMatch(file, $"\\[\"(?:[^\":]*\\W)?{id}\\b[^\"]*\"\\] ="),
                        $"{id}: {item}: none bears it");
            }
        }
    }

    static HashSet<string> Anchors(string document)
    {
        var anchors = new HashSet<string>();
        var text = Regex.Replace(Read(document), @"^```[\s\S]*?^```", "", RegexOptions.Multiline);
        foreach (Match match in Anchor.Matches(text))
        {
            // GitHub's: no punctuation, a hyphen for each space, and a number where there is one already.
            var slug = match.Groups["anchor"] is { Success: true, Value: var anchor } ? anchor
                : NoSlug.Replace(match.Groups["heading"].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-');
            for (var n = 0; !anchors.Add(n == 0 ? slug : $"{slug}-{n}"); n++) { }
        }
        return anchors;
    }

    [Theory, MemberData(nameof(EachDocument))]
    public void A_link_to_a_file_or_a_heading_leads_there(string document)
    {
        foreach (Match link in Link.Matches(Verbatim.Replace(Read(document), "")))
        {
            var to = link.Groups["to"].Value;
            if (Uri.TryCreate(to, UriKind.Absolute, out _)) continue;
            var parts = to.Split('#', 2);
            var file = parts[0].Length == 0 ? document
                : Path.GetRelativePath(Root, Path.Combine(Root, Path.GetDirectoryName(document)!, parts[0]));
            Assert.True(!file.StartsWith("..", StringComparison.Ordinal) && Path.Exists(Repository.File(file)),
                $"{document}: {to} is not there");
            if (parts.Length == 2) Assert.True(Anchors(file).Contains(parts[1]), $"{document}: {to} has no such heading");
        }
    }

    [Fact]
    public void A_document_that_a_source_refers_to_says_that()
    {
        string[] sources = [.. Product, .. Files("OMJob.Tests", "*.cs"), .. Files("examples", "*.yaml"), "deploy.yaml",
            "crd.yaml", "Dockerfile.distroless", .. Files(".ci", "*"), .. Files(".github", "*.yml"),
            "README.md", "CONTRIBUTING.md", "SECURITY.md"];
        foreach (var source in sources.Except(["OMJob.Tests/DocumentTests.cs"]))
            foreach (Match said in Reference.Matches(Read(source)))
            {
                var name = said.Groups["document"].Value;
                var document = name == "README" ? "README.md" : name;
                Assert.True(File.Exists(Repository.File(document)), $"{source}: {said.Value} is not there");
                Assert.Contains(said.Groups["words"].Value, Read(document), StringComparison.Ordinal);
            }
    }

    [Fact]
    public void An_example_to_run_says_how_it_runs_without_a_cluster()
    {
        var examples = Files("examples", "*omjob.yaml").Except(["examples/openmetadata-omjob.yaml"]).ToArray();
        Assert.Equal(5, examples.Length);
        Assert.All(examples, example => Assert.Contains(
            $"dotnet run --project OMJob.Tests/Sandbox -- -f {example}\n", Read(example), StringComparison.Ordinal));
    }

    /// <summary>The words in the first cells of a section's tables with so many columns; no cell is empty.</summary>
    static string[] FirstCells(string section, int columns)
    {
        var text = Read("docs/operations.md").Split($"\n## {section}\n")[1].Split("\n## ")[0];
        var rows = text.Split('\n').Where(line => line.StartsWith("| `", StringComparison.Ordinal))
            .Select(line => line.Trim('|', ' ').Split(" | ")).Where(cells => cells.Length == columns).ToArray();
        Assert.All(rows, cells => Assert.All(cells, cell => Assert.False(string.IsNullOrWhiteSpace(cell))));
        return [.. rows.SelectMany(cells => Regex.Matches(cells[0], "`(\\w+)`")).Select(word => word.Groups[1].Value)];
    }

    /// <summary>The texts of sources that are a name in CamelCase.</summary>
    static IEnumerable<string> Names(string pattern, params string[] sources) => sources
        .SelectMany(source => Regex.Matches(Read(source), $"\"(?<name>{pattern})\"")).Select(name => name.Groups["name"].Value);

    [Fact]
    public void Every_event_is_in_the_table_with_what_to_do_and_no_other() => Assert.Equal(
        Names(@"(?:OMJob|[A-Z][a-z]+)[A-Z]\w+", "OMJob.cs", "CronOMJob.cs").Except(["OMJobOperator"]).Distinct().Order(),
        FirstCells("Events", columns: 4).Order());

    [Fact]
    public void Every_condition_and_reason_is_in_the_tables_and_no_other()
    {
        string[] conditions = [Conditions.Main, Conditions.Handler, Conditions.Finished];
        Assert.Equal(conditions, FirstCells("Conditions", columns: 2));
        var endings = typeof(Ending).GetFields().Select(field => field.GetValue(null)).OfType<Ending>();
        var reasons = endings.Select(ending => ending.Reason)
            .Concat(Enum.GetValues<Phase>().Select(phase => Conditions.Reason(new(phase) { Message = "?" })))
            .Concat(Names("[A-Z][a-z]+[A-Za-z]*", "Model/Conditions.cs").Except([.. conditions, "True", "False"]));
        Assert.Equal(reasons.Distinct().Order(), FirstCells("Conditions", columns: 3).Order());
    }

    [Fact]
    public void What_a_runbook_looks_for_is_what_the_operator_says()
    {
        var runbooks = Read("docs/operations.md").Split("\n## Runbooks\n")[1].Split("\n## ")[0];
        var sources = string.Concat(Product.Select(Read));
        foreach (var said in (string[])["is blocked", "; trying again", "no answer within", "no connection within", "nothing was told",
            "there is no such field", "this is no YAML", "each CRD gives it to every OMJob", "Run defaults: version"])
        {
            Assert.Contains(said, runbooks, StringComparison.Ordinal);
            Assert.Contains(said, sources, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_flags_of_the_README_are_the_programs_with_their_variables_and_defaults()
    {
        var options = Program.Parse().RootCommandResult.Command.Options
            .Where(option => option.Name is not ("--help" or "--version")).ToArray();
        var rows = FlagRow.Matches(Read("README.md")).ToDictionary(row => row.Groups["flags"].Value);
        Assert.Equal(options.Select(o => string.Join("`, `", o.Aliases.Append(o.Name)) + $" {o.HelpName}").Order(),
            rows.Keys.Order());
        foreach (var option in options)
        {
            var row = rows.Single(row => row.Key.Contains($"{option.Name} ", StringComparison.Ordinal)).Value;
            var variable = Regex.Match(row.Groups["variable"].Value, "`(\\w+)`").Groups[1].Value;
            Assert.Contains(variable, option.Description, StringComparison.Ordinal);
            Assert.Equal(variable, Regex.Match(option.Description!, "[A-Z]{2,}_?[A-Z_]{4,}").Value);
            var fallback = row.Groups["default"].Value.Trim(' ', '`');
            if (Regex.IsMatch(fallback, @"^(\d+[hms]?|info|text)$"))
                Assert.Contains($"default: {fallback}]", option.Description, StringComparison.Ordinal);
            else Assert.DoesNotMatch(@"default: (\d|info|text)", option.Description);
        }
    }

    static string Version => Regex.Match(Read("OMJob.csproj"), "<Version>(.+)</Version>").Groups[1].Value;

    /// <summary>What .ci/check-version says of the repository at this path.</summary>
    static async Task<(int Code, string Said)> CheckVersion(string root)
    {
        var (code, said, _) = await Tool.Run(Path.Combine(root, ".ci/check-version"), [$"v{Version}"]);
        return (code, said);
    }

    [Fact]
    public async Task The_version_is_the_same_wherever_one_stands() =>
        Assert.Equal((0, ""), await CheckVersion(Root));

    [Theory]
    [InlineData("OMJob.csproj", "<Version>")]
    [InlineData("deploy.yaml", "omjob-operator:")]
    [InlineData("chart/Chart.yaml", "^version: ")]
    [InlineData("chart/Chart.yaml", "^appVersion: \"?")]
    [InlineData("README.md", "omjob-operator:|tag: |--version ")]
    [InlineData("docs/operations.md", "version=")]
    [InlineData("docs/operations.md", "omjob-operator-")]
    [InlineData("deploy.yaml", "app.kubernetes.io/version: ")]
    [InlineData("kustomization.yaml", "newTag: ")]
    [InlineData("Dockerfile.distroless", "omjob-operator:")]
    [InlineData("CHANGELOG.md", @"^## \[")]
    public async Task A_version_that_differs_in_one_place_is_noticed(string file, string before)
    {
        var copy = Directory.CreateTempSubdirectory("omjob-version-");
        try
        {
            foreach (var name in (string[])[".ci/check-version", "OMJob.csproj", "deploy.yaml", "chart/Chart.yaml",
                "README.md", "docs/operations.md", "kustomization.yaml", "Dockerfile.distroless", "CHANGELOG.md"])
            {
                var to = Path.Combine(copy.FullName, name);
                Directory.CreateDirectory(Path.GetDirectoryName(to)!);
                File.Copy(Repository.File(name), to);
            }
            var changed = new Regex($"({before}){Regex.Escape(Version)}", RegexOptions.Multiline)
                .Replace(Read(file), "${1}9.9.9", count: 1);
            await File.WriteAllTextAsync(Path.Combine(copy.FullName, file), changed,
                TestContext.Current.CancellationToken);
            var (exitCode, said) = await CheckVersion(copy.FullName);
            Assert.Equal(1, exitCode);
            Assert.Matches($@"^{Regex.Escape(file)}.*\b9\.9\.9\b.*\n$", said);
        }
        finally
        {
            copy.Delete(recursive: true);
        }
    }

    [Fact]
    public void Every_action_that_a_workflow_uses_is_pinned_by_its_commit()
    {
        var uses = Files(".github/workflows", "*.yml").SelectMany(file => File.ReadLines(Repository.File(file)))
            .Where(line => Regex.IsMatch(line, @"\buses:")).ToArray();
        Assert.NotEmpty(uses);
        Assert.All(uses, line =>
            Assert.Matches(@"^ *(- )?uses: (\./\.github/workflows/|[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$)", line));
    }
}
