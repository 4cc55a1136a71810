// The API server's words, without what is nobody's business.

using System.Text;
using System.Text.Encodings.Web;

namespace OMJobs;

static class Secrets
{
    const int MostRead = 8 << 10; // characters that are looked through

    /// <summary>The API server's words without the values of the env, the OMJob's and the run defaults', which a refusal
    /// may repeat. What is a part of the run's own name, namespace, pods' names or labels is no secret.</summary>
    public static string Redact(string message, Job? job, params IEnumerable<JsonElement> defaults) =>
        job is null ? Text.Truncate(message)
        : Redact(message, [job.ReadSpec(), .. defaults], job.Name, job.Namespace, job.Uid,
            PodTemplate.MainName(job), PodTemplate.ExitName(job), job.Pipeline, job.RunId);

    public static string Redact(string message, JsonElement[] omJobSpecs, params IEnumerable<string?> known)
    {
        var piece = message.IndexOf("error found in #", StringComparison.Ordinal); // what follows is one of the pod
        if (piece >= 0) message = message[..piece].TrimEnd(' ', ',');
        JsonElement[] specs =
            [.. omJobSpecs.SelectMany(spec => (JsonElement[])[spec.Get("mainPodSpec"), spec.Get("exitHandlerSpec")])];
        var values = specs.SelectMany(spec => spec.Get("initContainers").Items().Prepend(spec))
            .SelectMany(container => container.Get("env").Items().Select(item => item.Text("value")))
            .OfType<string>().Where(value => value.Length >= 4).ToArray();
        var quoted = values.Select(v => JavaScriptEncoder.UnsafeRelaxedJsonEscaping.Encode(v));
        values = [.. values.Concat(quoted).Distinct()];
        // What is left of a value that is cut here is not shown.
        var shown = message.Length <= MostRead ? message.Length
            : MostRead - (values.Max(v => (int?)v.Length) ?? 0);
        message = message[..Math.Min(message.Length, MostRead)];
        var open = new int[message.Length]; // up to where a word that begins there, or before, is known
        var labels = specs.SelectMany(spec => spec.Get("labels").Fields().Select(label => label.Value.ToString()));
        foreach (var word in labels.Concat(known).OfType<string>())
            foreach (var at in At(message, word)) open[at] = Math.Max(open[at], at + word.Length);
        for (var i = 1; i < open.Length; i++) open[i] = Math.Max(open[i], open[i - 1]);
        var secret = new bool[message.Length];
        foreach (var value in values)
        {
            var done = 0;
            foreach (var at in At(message, value).Where(at => at + value.Length > open[at]))
            {
                var from = Math.Max(done, at);
                secret.AsSpan(from..(done = at + value.Length)).Fill(true);
            }
        }
        var text = new StringBuilder();
        for (var i = 0; i < shown; i++)
            if (!secret[i]) text.Append(message[i]);
            else if (i == 0 || !secret[i - 1]) text.Append("***");
        return Text.Truncate(shown < message.Length ? $"{text}…" : text.ToString());
    }

    /// <summary>Where a word stands in a text, also where it overlaps itself.</summary>
    static IEnumerable<int> At(string text, string word)
    {
        if (word.Length == 0) yield break;
        for (var at = -1; (at = text.IndexOf(word, at + 1, StringComparison.Ordinal)) >= 0;) yield return at;
    }
}
