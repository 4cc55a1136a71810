// Kubeconfigs, and the files and plugins that they name.

using System.Text;

namespace OMJobs.Tests;

/// <summary>A kubeconfig in a directory of its own.</summary>
sealed class TestKubeconfig : IDisposable
{
    readonly DirectoryInfo home = Directory.CreateTempSubdirectory("omjob-kubeconfig-");

    public string Path => At("config");
    public string At(string name) => System.IO.Path.Combine(home.FullName, name);

    public string File(string name, string text)
    {
        System.IO.File.WriteAllText(At(name), text);
        return At(name);
    }

    /// <summary>One context; cluster and user are lines of YAML.</summary>
    public TestKubeconfig With(string cluster, string user = "token: t")
    {
        File("config", $"""
            apiVersion: v1
            kind: Config
            current-context: here
            contexts:
            - name: here
              context:
                cluster: one
                user: me
            clusters:
            - name: one
              cluster:
            {Indent(cluster)}
            users:
            - name: me
              user:
            {Indent(user)}
            """);
        return this;
    }

    /// <summary>A script for sh: adds a line to `runs` and prints what is given; $n is the number of runs.</summary>
    public string Plugin(string credential)
    {
        var path = File("plugin.sh", $"""
            echo "$@" >> '{At("runs")}'
            n=$(wc -l < '{At("runs")}')
            cat <<END
            {credential}
            END
            """);
        return path;
    }

    public string[] Runs => System.IO.File.Exists(At("runs")) ? System.IO.File.ReadAllLines(At("runs")) : [];

    public static string Base64(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));

    static string Indent(string lines) => string.Join('\n', lines.Split('\n').Select(line => "    " + line));

    public void Dispose() => home.Delete(recursive: true);
}
