// Grafana's classic dashboard model as SVG: as much of it as examples/grafana-dashboard.json uses, in the colors of
// Grafana's light theme.

using System.Globalization;
using System.Security;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OMJobs.Sandbox;

/// <summary>One panel with what it shows.</summary>
sealed class Drawing(StringBuilder svg, JsonObject panel, List<Series> all, TimeSpan time)
{
    const int Column = 42, Row = 30, Gap = 8, Header = 44; // pixels
    const string Ink = "#24292e", Faint = "#6e7781", Rule = "#e3e5e8";
    static readonly Dictionary<string, string> Colors = new()
    {
        ["green"] = "#56a64b",
        ["red"] = "#e02f44",
        ["blue"] = "#3274d9",
        ["orange"] = "#ff780a",
        ["yellow"] = "#e0b400",
        ["purple"] = "#a352cc",
    };
    static readonly double[] Seconds = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000],
        Decades = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000];

    /// <summary>All panels where the dashboard has them.</summary>
    public static async Task<string> Draw(JsonObject model, TimeSpan time, Func<JsonObject, Task<List<Series>>> ask)
    {
        var panels = model.Items("panels").ToList();
        var height = Header + Row * panels.Max(p => p.Long("gridPos", "y") + p.Long("gridPos", "h")) + Gap / 2;
        var svg = new StringBuilder($$"""
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{24 * Column}} {{height}}" width="{{24 * Column}}">
            <style>text { font: 11px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }</style>
            <rect width="100%" height="100%" fill="#f4f5f5"/>

            """);
        var page = new Drawing(svg, model, [], time);
        page.Say(Gap, 28, model.Text("title")!, size: 18, bold: true);
        page.Say(24 * Column - Gap, 28, $"the last {time.TotalMinutes:0} minutes", Faint, "end");
        foreach (var panel in panels)
            new Drawing(svg, panel, panel.Text("type") == "row" ? [] : await ask(panel), time).Draw();
        return svg.Append("</svg>\n").ToString();
    }

    int Place(string of) => (int)panel.Long("gridPos", of)!;
    int X => Place("x") * Column + Gap / 2;
    int Y => Header + Place("y") * Row + Gap / 2;
    int Width => Place("w") * Column - Gap;
    int Height => Place("h") * Row - Gap;
    int Right => X + Width - 10;
    JsonNode? Defaults => panel.At("fieldConfig", "defaults");
    string Unit => Defaults.Text("unit") ?? panel.Text("options", "yAxis", "unit")!;

    void Draw()
    {
        if (all.Count == 0) { Say(X + 4, Y + 17, panel.Text("title")!, size: 14, bold: true); return; }
        var filled = panel.Text("options", "colorMode") == "background";
        Box(X, Y, Width, Height, filled ? Color(0) : "#fff", $" rx=\"3\" stroke=\"{(filled ? Color(0) : Rule)}\"");
        Say(X + 8, Y + 18, panel.Text("title")!, filled ? "#fff" : Ink, size: 12, bold: true);
        switch (panel.Text("type"))
        {
            case "stat": Stat(filled); break;
            case "table": Table(); break;
            case "heatmap": Heatmap(); break;
            default: Lines(); break;
        }
    }

    // ----- kinds of panels

    void Stat(bool filled)
    {
        for (var i = 0; i < all.Count; i++)
        {
            var (color, last, values) = (filled ? "#fff" : Color(i), all[i].Last, all[i].Values);
            var text = Mapping(i).Text("text") ?? Format(last);
            if (panel.Text("options", "textMode") == "value_and_name") text = $"{all[i].Name}: {text}";
            var size = all[i].Name.Length == 0 ? 30 : 18;
            Say(X + Width * (2 * i + 1) / (2 * all.Count), Y + 68, text, color, "middle", size, bold: true);
            if (panel.Text("options", "graphMode") != "area") continue;
            var most = Math.Max(1, values.Where(double.IsFinite).Max());
            var path = Path(values, n => X + n * Width / (values.Length - 1.0), v => Y + Height - 1 - 28 * v / most);
            svg.Append($"<path d=\"{path}V{Y + Height}H{X}Z\" fill=\"{color}\" opacity=\"0.3\"/>\n");
        }
    }

    void Table()
    {
        var names = (JsonObject)panel.Items("transformations").First().At("options", "renameByName")!;
        var rows = all.OrderByDescending(s => s.Last).Take((Height - 56) / 19).ToList();
        var (x, step) = (X + 8.0, (Width - 16.0) / names.Count);
        foreach (var (label, name) in names)
        {
            var number = label == "Value";
            void Cell(double y, string text, string color) =>
                Say(number ? x + step : x, y, text, color, number ? "end" : "start");
            Cell(Y + 40, name.Text()!, Faint);
            for (var i = 0; i < rows.Count; i++)
            {
                Box(x, Y + 46 + 19 * i, step, 1, Rule);
                Cell(Y + 59 + 19 * i, number ? Format(rows[i].Last) : rows[i].Labels.Text(label)!, Ink);
            }
            x += step;
        }
    }

    /// <summary>Buckets are cumulative: what is in one is what the one below it has not.</summary>
    void Heatmap()
    {
        var buckets = all.OrderBy(Bound).ToList();
        var (left, bottom, columns) = (X + 52.0, Y + Height - 44.0, buckets[0].Values.Length - 1);
        var (width, height) = ((Right - left) / columns, (bottom - Y - 32) / buckets.Count);
        double Count(int i, int j) => Zero(buckets[i].Values[j]) - (i == 0 ? 0 : Zero(buckets[i - 1].Values[j]));
        var most = buckets.Index().Max(b => Enumerable.Range(1, columns).Max(j => Count(b.Index, j)));
        for (var i = 0; i < buckets.Count; i++)
        {
            var y = bottom - (i + 1) * height;
            if (i % 2 == 1) Say(left - 6, y + 4, Format(Bound(buckets[i])), Faint, "end", 10);
            for (var j = 1; j <= columns; j++)
                if (Count(i, j) is > 0.1 and var count)
                    Box(left + (j - 1) * width, y, width - 1, height - 1, Blue(count / most));
        }
        Times(left, bottom);
        for (var i = 0; i < 10; i++) Box(left + 14 + 8 * i, Y + Height - 17, 8, 8, Blue(i / 9.0));
        Say(left + 8, Y + Height - 9, "0", Faint, "end", 10);
        Say(left + 100, Y + Height - 9, $"{most:0} in {Prometheus.RateInterval} s", Faint, size: 10);

        static double Bound(Series bucket) => Series.Number(bucket.Labels.Text("le")!);
        static string Blue(double share) => Mix("#deebf7", "#08306b", Math.Sqrt(share));
    }

    void Lines()
    {
        var custom = Defaults.At("custom");
        var (stacked, log) = (custom.At("stacking") is not null, custom.At("scaleDistribution") is not null);
        var tops = all.Select(s => s.Values).ToList();
        for (var i = 1; stacked && i < tops.Count; i++)
            tops[i] = [.. tops[i].Zip(tops[i - 1], (own, below) => Zero(own) + Zero(below))];
        var shown = tops.SelectMany(v => v).Where(double.IsFinite).DefaultIfEmpty(1).ToList();
        var ticks = log ? LogTicks(shown) : Ticks(Math.Max(shown.Max(), custom.Long("axisSoftMax") ?? 0));
        var left = X + 16 + 6.0 * ticks.Max(t => Format(t).Length);
        var (top, bottom) = (Y + 34, Legend());
        double Log(double v) => Math.Log(Math.Max(v, ticks[0]) / ticks[0]);
        double ToY(double v) => bottom - (bottom - top) * (log ? Log(v) / Log(ticks[^1]) : v / ticks[^1]);
        double ToX(int i) => left + (Right - left) * i / (tops[0].Length - 1.0);
        foreach (var tick in ticks)
        {
            Box(left, ToY(tick), Right - left, 1, Rule);
            Say(left - 6, ToY(tick) + 4, Format(tick), Faint, "end", 10);
        }
        Times(left, bottom);
        for (var i = tops.Count - 1; i >= 0; i--) // what is stacked lies behind what is below it
        {
            var path = Path(tops[i], ToX, ToY);
            var solid = Mix("#ffffff", Color(i), 0.5);
            if (stacked) svg.Append($"<path d=\"{path}V{bottom:0}H{ToX(0):0}Z\" fill=\"{solid}\"/>\n");
            Stroke(path, i);
        }
        if (custom.At("thresholdsStyle") is null) return;
        var limit = ToY(Defaults.Items("thresholds", "steps").Last().Long("value")!.Value);
        svg.Append($"<path d=\"M{left:0} {limit:0}H{Right}\" stroke=\"{Colors["red"]}\" stroke-dasharray=\"6 4\"/>\n");
    }

    /// <summary>In as many lines as it needs; returns where the axis of time is.</summary>
    double Legend()
    {
        var (x, lines) = (X + 10.0, new List<List<(double X, int Of)>> { new() });
        for (var i = 0; i < all.Count; i++)
        {
            var width = 30 + 6.2 * all[i].Name.Length;
            if (x + width > Right + 10 && lines[^1].Count > 0) { lines.Add([]); x = X + 10; }
            lines[^1].Add((x, i));
            x += width;
        }
        foreach (var (n, line) in lines.Index())
            foreach (var (at, i) in line)
            {
                var y = Y + Height - 10 - 15 * (lines.Count - 1 - n);
                Stroke($"M{at:0} {y - 4}h14", i);
                Say(at + 19, y, all[i].Name);
            }
        return Y + Height - 29.0 - 15 * lines.Count;
    }

    /// <summary>The axis, with minutes before the end.</summary>
    void Times(double left, double y)
    {
        Box(left, y, Right - left, 1, Rule);
        var every = (int)Math.Ceiling(time.TotalMinutes * 50 / (Right - left));
        for (var ago = 0; ago < time.TotalMinutes; ago += every)
            Say(Right - (Right - left) * ago / time.TotalMinutes, y + 14, ago == 0 ? "now" : $"−{ago} min", Faint,
                ago == 0 ? "end" : "middle", 10);
    }

    // ----- scales, formats, colors

    static double Zero(double value) => double.IsFinite(value) ? value : 0;

    List<double> Ticks(double most)
    {
        var scale = Unit == "bytes" ? 1 << 20 : 1;
        most = Math.Max(most, Unit == "none" ? 1 : 1e-9);
        var power = Math.Pow(10, Math.Floor(Math.Log10(most / 5 / scale))) * scale;
        double[] steps = Unit == "s" ? Seconds : [power, 2 * power, 5 * power, 10 * power];
        var step = steps.First(s => s >= most / 5 && (Unit != "none" || s >= 1));
        return [.. Enumerable.Range(0, Math.Max(1, (int)Math.Ceiling(most / step)) + 1).Select(i => i * step)];
    }

    static List<double> LogTicks(List<double> shown)
    {
        var from = Math.Max(0, Array.FindLastIndex(Decades, d => d <= shown.Min()));
        return [.. Decades[from..(Array.FindIndex(Decades, from + 1, d => d >= shown.Max()) + 1)]];
    }

    string Format(double value)
    {
        var (scaled, unit) = (Unit, value) switch
        {
            ("s", 0 or double.PositiveInfinity) => (value, ""),
            ("s", < 1) => (value * 1000, " ms"),
            ("s", < 60) => (value, " s"),
            ("s", < 3600) => (value / 60, " min"),
            ("s", _) => (value / 3600, " h"),
            ("bytes", _) => (value / (1 << 20), " MiB"),
            ("percentunit", _) => (value * 100, "%"),
            ("none", _) => (value, ""),
            _ => (value, Unit switch { "reqps" => "/s", "ops" => "/s", var own => own["suffix:".Length..] }),
        };
        return scaled == double.PositiveInfinity ? "∞"
            : scaled.ToString(scaled < 1 ? "0.##" : scaled < 10 ? "0.#" : "0", CultureInfo.InvariantCulture) + unit;
    }

    /// <summary>What the last override that fits says of a series.</summary>
    JsonNode? Property(int i, string id) => panel.Items("fieldConfig", "overrides")
        .Where(o => o.Text("matcher", "id") == "byName" ? o.Text("matcher", "options") == all[i].Name
            : Regex.IsMatch(all[i].Name, o.Text("matcher", "options")!.Trim('/')))
        .SelectMany(o => o.Items("properties")).LastOrDefault(p => p.Text("id") == id).At("value");

    JsonNode? Mapping(int i) => Defaults.Items("mappings").FirstOrDefault().At("options", $"{all[i].Last}");

    string Color(int i)
    {
        var color = Property(i, "color") ?? Defaults.At("color");
        var name = color.Text("fixedColor") ?? Mapping(i).Text("color") ?? Defaults.Items("thresholds", "steps")
            .LastOrDefault(step => (step.Long("value") ?? long.MinValue) <= all[i].Last).Text("color") ?? Faint;
        var hex = Colors.GetValueOrDefault(name, name);
        return color.Text("mode") != "shades" || i == 0 ? hex
            : Mix(hex, i % 2 == 1 ? "#ffffff" : "#000000", 0.14 * ((i + 1) / 2));
    }

    static string Mix(string one, string other, double share) => "#" + string.Concat(Enumerable.Range(0, 3).Select(i =>
    {
        int Of(string hex) => Convert.FromHexString(hex.AsSpan(1))[i];
        return $"{(int)Math.Round(Of(one) + (Of(other) - Of(one)) * Math.Min(share, 1)):x2}";
    }));

    // ----- SVG

    /// <summary>A gap where there is no value, a dot for a lone point, two points for what is level.</summary>
    static string Path(double[] values, Func<int, double> x, Func<double, double> y)
    {
        var path = new StringBuilder();
        double At(int i) => i < 0 || i >= values.Length ? double.NaN : values[i];
        for (var i = 0; i < values.Length; i++)
        {
            if (!double.IsFinite(At(i)) || (At(i) == At(i - 1) && At(i) == At(i + 1))) continue;
            var first = !double.IsFinite(At(i - 1));
            path.Append(CultureInfo.InvariantCulture, $"{(first ? 'M' : 'L')}{x(i):0} {y(At(i)):0.#}");
            if (first && !double.IsFinite(At(i + 1))) path.Append("h0");
        }
        return path.ToString();
    }

    void Stroke(string path, int i)
    {
        var dash = Property(i, "custom.lineStyle")?["dash"] is JsonArray lengths ? string.Join(' ', lengths) : "none";
        svg.Append($"<path d=\"{path}\" fill=\"none\" stroke=\"{Color(i)}\" stroke-width=\"1.5\"")
            .Append($" stroke-linecap=\"round\" stroke-dasharray=\"{dash}\"/>\n");
    }

    void Box(double x, double y, double width, double height, string fill, string more = "") => svg.Append(
        CultureInfo.InvariantCulture,
        $"<rect x=\"{x:0.#}\" y=\"{y:0.#}\" width=\"{width:0.#}\" height=\"{height:0.#}\" fill=\"{fill}\"{more}/>\n");

    void Say(double x, double y, string text, string color = Ink, string anchor = "start", int size = 11,
        bool bold = false) => svg.Append(CultureInfo.InvariantCulture,
        $"<text x=\"{x:0.#}\" y=\"{y:0.#}\" fill=\"{color}\" text-anchor=\"{anchor}\" style=\"font-size:{size}px")
        .Append(bold ? ";font-weight:600" : "").Append($"\">{SecurityElement.Escape(text)}</text>\n");
}
