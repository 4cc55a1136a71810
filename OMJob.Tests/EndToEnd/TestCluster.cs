// The cluster that OMJOB_TEST_KUBECONFIG names, else the sandbox, with the repository's own CRDs, service account and
// roles in it: every operator runs with the rights that deploy.yaml gives, no more. A cluster without nodes will do:
// the suite brings its own. CRDs, roles and service account are left there.

using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
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
        OperatorToken = await Install();
    }

    /// <summary>It is Kubernetes 1.N.</summary>
    internal async Task<int> Minor() =>
        int.Parse((await Api.Get("/version")).Text("minor")!.TrimEnd('+'), CultureInfo.InvariantCulture);

    internal Task<TestNamespace> NewNamespace() => TestNamespace.Create(this, NewName());

    /// <summary>A kubeconfig of the operator's service account or of who has that token, for the API server itself or a
    /// proxy.</summary>
    internal string Kubeconfig(string? server = null, string? ofAnother = null)
    {
        var cluster = new JsonObject { ["server"] = server ?? Api.Server.ToString() };
        if (server?.StartsWith("http:") != true)
        {
            cluster["certificate-authority-data"] = Convert.ToBase64String(Encoding.UTF8.GetBytes(Api.Authorities));
            cluster["tls-server-name"] = Api.Server.Host;
        }
        var config = new JsonObject
        {
            ["apiVersion"] = "v1",
            ["kind"] = "Config",
            ["clusters"] = new JsonArray(new JsonObject { ["name"] = "c", ["cluster"] = cluster }),
            ["users"] = new JsonArray(new JsonObject
            {
                ["name"] = "u",
                ["user"] = new JsonObject { ["token"] = ofAnother ?? OperatorToken },
            }),
            ["contexts"] = new JsonArray(
                new JsonObject { ["name"] = "x", ["context"] = new JsonObject { ["cluster"] = "c", ["user"] = "u" } }),
            ["current-context"] = "x",
        };
        var file = Path.Combine(directory.FullName, NewName());
        File.WriteAllText(file, config.ToJsonString());
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

    /// <summary>Installs all but the Deployment; the answer is a token of the service account.</summary>
    async Task<string> Install()
    {
        var deploy = Json.Yaml(Read("deploy.yaml"));
        await Api.Apply(Json.Yaml(Read("crd.yaml")));
        await Api.Apply(deploy.Where(d => d.Text("kind") != "Deployment"));
        await Eventually.True("OMJobs are served", async () => await Api.Find(Paths.OMJobs("default")) is not null);
        var account = deploy.Single(d => d.Text("kind") == "ServiceAccount");
        return await Token(account.Text("metadata", "namespace")!, account.Name());
    }

    /// <summary>A token of a service account.</summary>
    internal async Task<string> Token(string ns, string account)
    {
        var path = $"{Paths.Core(ns, "serviceaccounts")}/{account}/token";
        var request = new JsonObject
        {
            ["apiVersion"] = "authentication.k8s.io/v1",
            ["kind"] = "TokenRequest",
            ["spec"] = new JsonObject { ["expirationSeconds"] = 3600 },
        };
        return (await Api.Create(path, request)).Text("status", "token")!;
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
