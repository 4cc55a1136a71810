// A bar chart as SVG, for light and dark pages.

using System.Security;
using System.Text;

namespace OMJobs.Sandbox;

static class BarChart
{
    const int Width = 720, Left = 130, Bar = 22, Step = 30; // pixels

    /// <summary>A panel of horizontal bars for each measure; each has a scale of its own.</summary>
    public static string Draw(string title, params (string Measure, (string Name, double Value)[] Bars)[] panels)
    {
        var (body, y) = (new StringBuilder(), 24);
        Say(0, y, title, "title");
        foreach (var (measure, bars) in panels)
        {
            Say(0, y += 34, measure, "measure");
            var most = bars.Max(bar => bar.Value);
            y += 10;
            foreach (var (name, value) in bars)
            {
                var length = (Width - Left - 60) * value / most;
                Say(Left - 10, y + 16, name, "name");
                body.Append($"<rect x=\"{Left}\" y=\"{y}\" width=\"{length:0.#}\" height=\"{Bar}\" rx=\"2\"")
                    .AppendLine(name == "OMJob" ? " class=\"ours\"/>" : "/>");
                Say(Left + (int)length + 8, y + 16, $"{value:0.0}", "value");
                y += Step;
            }
        }
        return $$"""
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{Width}} {{y + 6}}" width="{{Width}}">
            <style>
            text { font: 14px system-ui, sans-serif; fill: #1f2328 }
            .title { font-weight: 600; font-size: 15px }
            .name { text-anchor: end }
            rect { fill: #8c959f }
            .ours { fill: #0969da }
            @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .ours { fill: #58a6ff } }
            </style>
            {{body.ToString().TrimEnd()}}
            </svg>

            """;

        void Say(int x, int at, string text, string kind) => body.AppendLine(
            $"<text x=\"{x}\" y=\"{at}\" class=\"{kind}\">{SecurityElement.Escape(text)}</text>");
    }
}
