using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Text;

namespace OMJobs.Mutation;

/// <summary>One change to one member; Id is its number at run time.</summary>
sealed record Mutant(int Id, string Member, int Line, string Before, string After, string Text)
{
    public string Name => $"{Member}: {Before} → {After}";
}

/// <summary>The changes that are made to a member: each a span of the source and what stands there instead.</summary>
static class Mutants
{
    /// <summary>Every mutant of a member, each with the member's whole text.</summary>
    public static IEnumerable<Mutant> Of(MemberDeclarationSyntax member, string name)
    {
        var (source, from) = (member.ToString(), member.SpanStart);
        var seen = new HashSet<string> { source };
        foreach (var node in member.DescendantNodes())
            foreach (var (span, text) in Edits(node))
            {
                var changed = source[..(span.Start - from)] + text + source[(span.End - from)..];
                if (!seen.Add(changed)) continue;
                var around = node is SubpatternSyntax or ArgumentSyntax ? node.Parent!.Parent! : node;
                var line = node.SyntaxTree.GetLineSpan(span).StartLinePosition.Line + 1;
                yield return new(0, name, line, OneLine(around.ToString()),
                    OneLine(source[(around.SpanStart - from)..(span.Start - from)] + text
                        + source[(span.End - from)..Math.Max(span.End - from, around.Span.End - from)]), changed);
            }
    }

    static IEnumerable<(TextSpan Span, string Text)> Edits(SyntaxNode node) => node switch
    {
        IfStatementSyntax s => Condition(s.Condition),
        WhenClauseSyntax s => Condition(s.Condition),
        ConditionalExpressionSyntax e => Condition(e.Condition),
        SwitchExpressionArmSyntax arm => [(WithComma(arm), "")],
        ExpressionStatementSyntax s => [(s.Span, ";")],
        InitializerExpressionSyntax e => e.Expressions.Select(x => (WithComma(x), "")),
        SubpatternSyntax { NameColon: not null } p =>
            [(WithComma(p), ""), (p.Pattern.Span, $"not ({p.Pattern})")],
        BinaryPatternSyntax p => [(p.Span, $"{p.Left}"), (p.Span, $"{p.Right}")],
        UnaryPatternSyntax p => [(p.Span, $"{p.Pattern}")],
        PrefixUnaryExpressionSyntax e when e.IsKind(SyntaxKind.LogicalNotExpression) => [(e.Span, $"{e.Operand}")],
        BinaryExpressionSyntax e => Binary(e),
        LiteralExpressionSyntax e => Literal(e),
        InvocationExpressionSyntax { Expression: IdentifierNameSyntax { Identifier.Text: "Earliest" } } e =>
            e.ArgumentList.Arguments.Select(a => (WithComma(a), "")),
        _ => [],
    };

    /// <summary>Written so that the variables of a pattern stay declared.</summary>
    static (TextSpan, string)[] Condition(ExpressionSyntax e) =>
        [(e.Span, $"!({e})"), (e.Span, $"(true || ({e}))"), (e.Span, $"(false && ({e}))")];

    static IEnumerable<(TextSpan, string)> Binary(BinaryExpressionSyntax e)
    {
        string[] operators = e.OperatorToken.Text switch
        {
            "&&" => ["||"],
            "||" => ["&&"],
            "==" => ["!="],
            "!=" => ["=="],
            "<" => ["<=", ">="],
            "<=" => ["<", ">"],
            ">" => [">=", "<="],
            ">=" => [">", "<"],
            "+" => ["-"],
            "-" => ["+"],
            "*" => ["/"],
            _ => [],
        };
        foreach (var other in operators) yield return (e.OperatorToken.Span, other);
        if (e.OperatorToken.Text is not ("&&" or "||" or "??" or "+" or "-")) yield break;
        yield return (e.Span, $"{e.Left}");
        yield return (e.Span, $"{e.Right}");
    }

    static (TextSpan, string)[] Literal(LiteralExpressionSyntax e) => e.Kind() switch
    {
        SyntaxKind.TrueLiteralExpression => [(e.Span, "false")],
        SyntaxKind.FalseLiteralExpression => [(e.Span, "true")],
        SyntaxKind.NumericLiteralExpression => [(e.Span, $"({e} + 1)")],
        _ => [],
    };

    /// <summary>An item of a list with the comma after it, or before it where it is the last.</summary>
    static TextSpan WithComma(SyntaxNode item)
    {
        if (item.GetLastToken().GetNextToken() is var next && next.IsKind(SyntaxKind.CommaToken))
            return TextSpan.FromBounds(item.SpanStart, next.Span.End);
        return item.GetFirstToken().GetPreviousToken() is var before && before.IsKind(SyntaxKind.CommaToken)
            ? TextSpan.FromBounds(before.SpanStart, item.Span.End) : item.Span;
    }

    static string OneLine(string text) => string.Join(' ', text.Split((char[]?)null,
        StringSplitOptions.RemoveEmptyEntries));
}
