// The names of objects.

using System.Security.Cryptography;
using System.Text;

namespace OMJobs;

/// <summary>Names that must fit, and label values that must be valid.</summary>
static class Names
{
    /// <summary>A name of up to <paramref name="max"/> characters; a longer one ends in a hash of the whole.</summary>
    public static string Fit(string name, int max, string fallback)
    {
        if (name.Length == 0) name = fallback;
        if (name.Length <= max) return name;
        var hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..Math.Min(6, max)];
        var prefix = name[..Math.Max(0, max - 7)];
        while (prefix.Length > 0 && !char.IsAsciiLetterLower(prefix[^1]) && !char.IsAsciiDigit(prefix[^1]))
            prefix = prefix[..^1];
        return prefix.Length == 0 ? hash : $"{prefix}-{hash}";
    }

    /// <summary>A valid label value; empty where nothing is left.</summary>
    public static string LabelValue(string value)
    {
        var valid = string.Concat(value.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '-'))
            .Trim('-', '_', '.');
        return valid.Length == 0 ? "" : Fit(valid, 63, "");
    }

    /// <summary>The name, if an object can have it; else null: in a path it might lead elsewhere.</summary>
    public static string? Valid(string? name) =>
        name is { Length: > 0 and <= 253 } && char.IsAsciiLetterOrDigit(name[0]) && char.IsAsciiLetterOrDigit(name[^1])
        && name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '.') ? name : null;

    /// <summary>A UID, of which owner references, labels and annotations may hold anything. One that is cut is
    /// nobody's.</summary>
    public static string? Uid(string? uid) => uid is null ? null : Text.Truncate(uid, 64);
}
