// The image without a registry: the published binary in the root file system that Dockerfile.distroless gives it, which
// is read-only there and nobody's home, run by the users that deploy.yaml and OpenShift know.

using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

/// <summary>The image's root file system with the binary of OMJOB_TEST_BINARY; else why there is none.</summary>
public sealed class Image : IAsyncLifetime
{
    /// <summary>Nothing can be written there, and /proc and /dev are as a container runtime gives them.</summary>
    const string Start = """
        #!/bin/sh
        # ROOT, CONFIG or ACCOUNT, USERS (an ID) and AT (home) are variables; the operator's flags are arguments.
        exec unshare --mount sh -euc '
          mount --bind "$ROOT" "$ROOT"
          mount --rbind /proc "$ROOT/proc"
          mount --rbind /dev "$ROOT/dev"
          [ -z "${CONFIG-}" ] || mount --bind "$CONFIG" "$ROOT/kubeconfig"
          [ -z "${ACCOUNT-}" ] || mount --bind "$ACCOUNT" "$ROOT/var/run/secrets/kubernetes.io/serviceaccount"
          mount -o remount,bind,ro "$ROOT"
          cd "$ROOT"
          exec setpriv --no-new-privs env -i ${AT:+HOME=$AT} \
            ${ACCOUNT:+KUBERNETES_SERVICE_HOST=$HOST KUBERNETES_SERVICE_PORT=$PORT} \
            "$(command -v chroot)" --userspec="$USERS:$USERS" --groups= "$ROOT" /omjob-operator "$@"' operator "$@"
        """;

    static readonly string? Published = Environment.GetEnvironmentVariable("OMJOB_TEST_BINARY");
    readonly DirectoryInfo directory = Directory.CreateTempSubdirectory("omjob-image-");

    public string? Missing { get; private set; }

    string Root => Path.Combine(directory.FullName, "root");

    string Script => Path.Combine(directory.FullName, "start");

    public async ValueTask InitializeAsync()
    {
        Missing = Published is null ? "OMJOB_TEST_BINARY names no published binary"
            : !OperatingSystem.IsLinux() || Environment.UserName != "root" ? "only root can change the root directory"
            : null;
        if (Missing is not null) return;
        Directory.CreateDirectory(Root);
        var said = await Shell(Repository.File("OMJob.Tests/EndToEnd/rootfs.sh"), Root);
        if (said is not null) { Missing = $"The packages cannot be had: {said}"; return; }
        if (OperatingSystem.IsWindows()) return;
        File.Copy(Published!, Path.Combine(Root, "omjob-operator"));
        File.WriteAllText(Path.Combine(Root, "kubeconfig"), "");
        File.WriteAllText(Script, Start);
        const UnixFileMode all = UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.OtherExecute;
        File.SetUnixFileMode(Script, all);
        File.SetUnixFileMode(Path.Combine(Root, "omjob-operator"), all | UnixFileMode.OtherRead);
        foreach (var path in (string[])[directory.FullName, Root])
            File.SetUnixFileMode(path, all | UnixFileMode.UserWrite);
        Missing = await Shell("unshare", "--mount", "true") is { } refused ? $"no mounts here: {refused}" : null;
    }

    /// <summary>The operator in the image as this user, who has that home directory or none.</summary>
    internal OperatorProcess Run(string kubeconfig, int user, string? home)
    {
        var variables = new Dictionary<string, string>
        {
            ["ROOT"] = Root,
            ["CONFIG"] = kubeconfig,
            ["USERS"] = $"{user}",
            ["AT"] = home ?? "",
        };
        return new(Script, "/kubeconfig", variables);
    }

    /// <summary>The operator in the image as that user in a pod: all that it knows of the cluster is what the kubelet
    /// mounts for its service account, and the address in two variables.</summary>
    internal OperatorProcess RunInPod(Uri server, string authorities, string token, int user, string ns)
    {
        var account = directory.CreateSubdirectory($"account-of-{user}");
        File.WriteAllText(Path.Combine(account.FullName, "ca.crt"), authorities);
        File.WriteAllText(Path.Combine(account.FullName, "token"), token);
        File.WriteAllText(Path.Combine(account.FullName, "namespace"), ns);
        return new(Script, null, new Dictionary<string, string>
        {
            ["ROOT"] = Root,
            ["ACCOUNT"] = account.FullName,
            ["HOST"] = server.Host,
            ["PORT"] = $"{server.Port}",
            ["USERS"] = $"{user}",
            ["AT"] = "/",
        }, "--namespace", ns);
    }

    /// <summary>What it said where it failed.</summary>
    static async Task<string?> Shell(string command, params string[] arguments)
    {
        try
        {
            var start = new ProcessStartInfo(command, arguments) { RedirectStandardError = true };
            using var process = Process.Start(start)!;
            var said = await process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            return process.ExitCode == 0 ? null : said.ReplaceLineEndings(" ");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return e.Message;
        }
    }

    public ValueTask DisposeAsync()
    {
        directory.Delete(recursive: true);
        return ValueTask.CompletedTask;
    }
}

public class ImageTests(TestCluster cluster, Image image) : ClusterTest(cluster), IClassFixture<Image>
{
    const int NonRoot = 65532, OfOpenShift = 1000650000;

    [Theory, InlineData(NonRoot), InlineData(OfOpenShift)]
    public async Task In_the_image_a_schedule_in_a_time_zone_runs_on_a_read_only_root(int user)
    {
        Assert.SkipUnless(image.Missing is null, image.Missing ?? "");
        await using var cron = await CronCluster.Start("2026-01-31T16:59:00");
        var process = await cron.Operator(image.Run(cron.Kubeconfig, user, "/"));
        await cron.Create("noon", "0 12 * * *", "timeZone: America/New_York");
        await cron.SetTime(CronCluster.Utc("2026-01-31T17:00:00"));
        await cron.Job("noon-1769878800", "Succeeded");
        Assert.Equal("Created OMJob", (await cron.Status("noon")).Message);
        await process.Stop();
    }

    [Theory, InlineData(NonRoot), InlineData(OfOpenShift)]
    public async Task In_a_pod_it_is_the_service_account_and_finds_the_cluster_by_itself(int user)
    {
        Assert.SkipUnless(image.Missing is null, image.Missing ?? "");
        var process = Ns.Started(image.RunInPod(
            TestCluster.Api.Server, TestCluster.Api.Authorities, TestCluster.OperatorToken, user, Ns.Name));
        var job = new JobBuilder("in-a-pod");
        await Ns.Create(job);
        await Ns.Ends(job, "Succeeded");
        await process.Stop();
    }

    /// <summary>Why Dockerfile.distroless and deploy.yaml set HOME.</summary>
    [Fact]
    public async Task Without_a_home_directory_a_user_whom_the_image_does_not_know_gets_no_TLS()
    {
        Assert.SkipUnless(image.Missing is null, image.Missing ?? "");
        await using var process = image.Run(TestCluster.Kubeconfig(), OfOpenShift, home: null);
        await Eventually.True("no TLS", () => process.Log.Contains("home directory"), seconds: 20);
    }

    [Fact]
    public void The_binary_asks_for_no_newer_glibc_than_the_images()
    {
        var binary = Environment.GetEnvironmentVariable("OMJOB_TEST_BINARY");
        Assert.SkipWhen(binary is null, "OMJOB_TEST_BINARY names no published binary");
        var newest = Regex.Matches(Encoding.Latin1.GetString(File.ReadAllBytes(binary!)), @"\0GLIBC_(2\.\d+)")
            .Max(match => Version.Parse(match.Groups[1].Value));
        TestContext.Current.TestOutputHelper!.WriteLine($"The binary needs glibc {newest}");
        Assert.InRange(newest!, new Version(2, 17), new Version(2, 41)); // 2.17: the first of all on x64 and arm64
    }
}
