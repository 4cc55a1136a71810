// The cluster that OMJOB_TEST_KUBECONFIG names, else the sandbox, with the repository's own CRDs, service account and
// roles in it: every operator runs with the rights that deploy.yaml gives, no more. A cluster without nodes will do:
// the suite brings its own. CRDs, roles and service account are left there.

using System.Diagnostics;
using System.Globalization;
using Xunit;
using Xunit.v3;

// The tests wait more than they work: more of them than cores may run at once.
[assembly: Parallelization(MaxThreads = 16)]
[assembly: AssemblyFixture(typeof(OMJobs.Tests.EndToEnd.TestCluster))]

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

/// <summary>For all tests: a client with an administrator's rights, a kubelet, kubeconfigs for operators.</summary>
public class TestCluster : IAsyncLifetime
{
    static readonly string? Given = Environment.GetEnvironmentVariable("OMJOB_TEST_KUBECONFIG");
    static readonly string? StopCommand = Environment.GetEnvironmentVariable("OMJOB_TEST_APISERVER_STOP");
    static readonly string? StartCommand = Environment.GetEnvironmentVariable("OMJOB_TEST_APISERVER_START");
    readonly DirectoryInfo directory = Directory.CreateTempSubdirectory("omjob-e2e-");
    LocalCluster? sandbox;

    internal SandboxClient Api { get; private set; } = null!;

    internal Kubelet Kubelet { get; private set; } = null!;

    /// <summary>It is none of our making.</summary>
    internal static bool IsReal => Given is not null;

    /// <summary>With an administrator's rights.</summary>
    internal string AdminKubeconfig => Given ?? sandbox!.Kubeconfig;

    /// <summary>Deleted at the end.</summary>
    internal string Folder => directory.FullName;

    /// <summary>That of the operator's service account.</summary>
    internal string OperatorToken { get; private set; } = "";

    /// <summary>A file of the repository.</summary>
    internal static string Read(string file) => File.ReadAllText(Repository.File(file));

    public async ValueTask InitializeAsync()
    {
        if (Given is null)
        {
            sandbox = await LocalCluster.Start();
            (Api, Kubelet) = (sandbox.Api, sandbox.Kubelet);
        }
        else
        {
            Api = new SandboxClient(Given);
            var node = NewName();
            Kubelet = new Kubelet(Api, node, $"kubelet={node}");
            await Kubelet.StartAsync();
        }
        Kubelet.Programs["omjob-operator"] = OperatorProcess.Binary;
        await Install();
    }

    /// <summary>It is Kubernetes 1.N.</summary>
    internal async Task<int> Minor() =>
        int.Parse((await Api.Get("/version")).Text("minor")!.TrimEnd('+'), CultureInfo.InvariantCulture);

    internal Task<TestNamespace> NewNamespace() => TestNamespace.Create(this, NewName());

    /// <summary>A kubeconfig of the operator's service account or of who has that token, for the API server itself or a
    /// proxy.</summary>
    internal string Kubeconfig(string? server = null, string? ofAnother = null)
    {
        var file = Path.Combine(directory.FullName, NewName());
        File.WriteAllText(file, Api.Kubeconfig(ofAnother ?? OperatorToken, server).ToJsonString());
        return file;
    }

    /// <summary>Whether the API server can be stopped and started: the sandbox's, or one for which there are shell
    /// commands in OMJOB_TEST_APISERVER_STOP and OMJOB_TEST_APISERVER_START.</summary>
    internal bool CanStop => sandbox is not null || (StopCommand is not null && StartCommand is not null);

    internal Task StopApiServer() => sandbox?.Server.Stop() ?? Shell(StopCommand!);

    /// <summary>Returns once it answers.</summary>
    internal async Task StartApiServer()
    {
        await (sandbox?.Server.Restart() ?? Shell(StartCommand!));
        await Eventually.True("the API server answers", async () =>
        {
            try
            {
                return await Api.Find(Paths.OMJobs("default")) is not null;
            }
            catch (Exception e) when (ApiException.Passes(e))
            {
                return false;
            }
        });
    }

    static async Task Shell(string command)
    {
        using var process = Process.Start("sh", ["-c", command]);
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, $"{command}: exit code {process.ExitCode}");
    }

    /// <summary>Installs all but the Deployment, in a namespace that the kubelet serves.</summary>
    internal async Task Install()
    {
        var deploy = Json.Yaml(Read("deploy.yaml"));
        var home = deploy.Single(d => d.Text("kind") == "Namespace");
        home.Child("metadata").Child("labels")["kubelet"] = Kubelet.Node;
        await Api.Apply(Json.Yaml(Read("crd.yaml")));
        await Api.Apply(deploy.Where(d => d.Text("kind") != "Deployment"));
        await Eventually.True("OMJobs are served", async () => await Api.Find(Paths.OMJobs("default")) is not null);
        var account = deploy.Single(d => d.Text("kind") == "ServiceAccount");
        OperatorToken = await Api.Token(home.Name(), account.Name());
    }

    static string NewName() => $"e2e-{Guid.NewGuid().ToString("n")[..8]}";

    public async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        directory.Delete(true);
        if (sandbox is not null)
        {
            await sandbox.DisposeAsync();
            return;
        }
        await Kubelet.DisposeAsync();
        Api.Dispose();
    }
}

/// <summary>A test in a namespace of its own. On failure it shows what happened there.</summary>
public abstract class ClusterTest(TestCluster cluster) : IAsyncLifetime
{
    private protected TestCluster TestCluster { get; } = cluster;

    private protected TestNamespace Ns { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Ns = await TestCluster.NewNamespace();

    public async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        if (Ns is null) return;
        if (TestContext.Current.TestState?.Result is not TestResult.Passed)
            TestContext.Current.TestOutputHelper?.WriteLine(Ns.Story());
        await Ns.DisposeAsync();
    }
}
