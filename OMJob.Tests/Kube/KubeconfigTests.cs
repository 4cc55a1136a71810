// What a kubeconfig gives us: where the cluster is, whom to trust, who we are; and what a wrong one says.

using System.Diagnostics;
using System.Security.Cryptography.X509Certificates;
using Xunit;

namespace OMJobs.Tests;

/// <summary>A kubeconfig and a server on loopback whose certificate it can trust.</summary>
public abstract class KubeconfigTest : IDisposable
{
    private protected static readonly TestAuthority Authority = new("right authority"), Other = new("other authority");
    private protected static readonly X509Certificate2 Loopback = Authority.Issue("server", "127.0.0.1");

    private protected readonly TestKubeconfig config = new();
    private protected readonly ScriptedServer server = new(Loopback, e => e.Answer(200, "{}")) { ClientAuthorities = [] };

    private protected static CancellationToken Stop => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        GC.SuppressFinalize(this);
        config.Dispose();
        server.Dispose();
    }

    private protected string Trusting(TestAuthority authority, string? address = null) =>
        $"server: {address ?? server.Address}\ncertificate-authority-data: {TestKubeconfig.Base64(authority.Pem)}";

    /// <summary>Loads the file and sends one request; returns it as the server saw it.</summary>
    private protected async Task<Exchange> Call(string? context = null)
    {
        using var api = new ApiClient(Kubeconfig.Load(config.Path, context));
        var reply = await api.Send(new(HttpMethod.Get, "/version"), Stop);
        Assert.True(reply.Ok, reply.Message);
        return server.Requests.Last();
    }

    private protected const string V1 = "client.authentication.k8s.io/v1";

    private protected static string Exec(string plugin, string arguments = "", string more = "") =>
        $"exec:\n  apiVersion: {V1}\n  command: sh\n  args: [{plugin}{arguments}]\n{more}".TrimEnd();

    private protected static string Credential(string status) =>
        $$"""{"apiVersion":"{{V1}}","kind":"ExecCredential","status":{ {{status}} } }""";
}

public sealed class KubeconfigTests : KubeconfigTest
{
    [Fact]
    public async Task A_token_and_an_authority_in_the_file()
    {
        config.With(Trusting(Authority), "token: tok-en");
        Assert.Equal("Bearer tok-en", (await Call()).Authorization);
    }

    [Fact]
    public async Task A_user_with_a_password()
    {
        config.With(Trusting(Authority), "username: u\npassword: p:w");
        Assert.Equal("Basic " + TestKubeconfig.Base64("u:p:w"), (await Call()).Authorization);
    }

    [Fact]
    public async Task A_token_that_looks_like_a_number_stays_as_it_is()
    {
        config.With(Trusting(Authority), "token: \"0123\"");
        Assert.Equal("Bearer 0123", (await Call()).Authorization);
    }

    [Fact]
    public async Task The_right_authority_need_not_be_the_first_of_the_bundle()
    {
        config.With($"server: {server.Address}\ncertificate-authority-data: "
            + TestKubeconfig.Base64(Other.Pem + "\n" + Authority.Pem));
        await Call();
        config.File("ca.crt", "# authorities\n" + Other.Pem + "\n" + Authority.Pem);
        config.With($"server: {server.Address}\ncertificate-authority: ca.crt");
        await Call();
    }

    [Fact]
    public async Task Another_authority_is_refused()
    {
        config.With(Trusting(Other));
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        Assert.Equal(Outcome.Fault, (await api.Send(new(HttpMethod.Get, "/"), Stop)).Outcome);
        Assert.Empty(server.Requests);
    }

    [Fact]
    public async Task Insecure_skip_tls_verify()
    {
        config.With($"server: {server.Address}\ninsecure-skip-tls-verify: true");
        await Call();
    }

    [Fact]
    public async Task Tls_server_name_is_asked_for_and_checked()
    {
        using var named = new ScriptedServer(Authority.Issue("server", "api.example"), e => e.Answer(200, "{}"));
        config.With(Trusting(Authority).Replace(server.Address, named.Address, StringComparison.Ordinal)
            + "\ntls-server-name: api.example");
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        var reply = await api.Send(new(HttpMethod.Get, "/"), Stop);
        Assert.True(reply.Ok, reply.Message);
        Assert.Equal(["api.example"], named.NamesAsked.Distinct());
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task A_client_certificate_in_the_file_or_beside_it(bool inTheFile)
    {
        var client = Other.Issue("operator");
        var certificate = client.ExportCertificatePem();
        var key = client.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem();
        if (inTheFile)
            config.With(Trusting(Authority), $"client-certificate-data: {TestKubeconfig.Base64(certificate)}\n"
                + $"client-key-data: {TestKubeconfig.Base64(key)}");
        else
        {
            config.File("c.crt", certificate);
            config.File("c.key", key);
            config.With(Trusting(Authority), "client-certificate: c.crt\nclient-key: c.key");
        }
        var seen = await Call();
        Assert.Equal((client.Thumbprint, null), (seen.ClientCertificate?.Thumbprint, seen.Authorization));
    }

    [Fact]
    public async Task A_path_in_the_servers_address_stays()
    {
        var address = server.Address + "/k8s/c-1/";
        config.With(Trusting(Authority).Replace(server.Address, address, StringComparison.Ordinal));
        Assert.Equal("/k8s/c-1/version", (await Call()).Target);
    }

    [Fact]
    public async Task The_context_asked_for_beats_the_files_own()
    {
        File.WriteAllText(config.Path, $$"""
            {"current-context": "a",
             "contexts": [{"name": "a", "context": {"cluster": "gone", "user": "a"} },
                          {"name": "b", "context": {"cluster": "c", "user": "b", "namespace": "n"} }],
             "clusters": [{"name": "c", "cluster":
                {"insecure-skip-tls-verify": true, "server": "{{server.Address}}"} }],
             "users": [{"name": "a", "user": {"token": "ta"} }, {"name": "b", "user": {"token": "tb"} }]}
            """);
        Assert.Equal("Bearer tb", (await Call("b")).Authorization);
    }

    [Fact]
    public async Task Fields_that_we_do_not_know_break_nothing()
    {
        var plugin = config.Plugin(
            """{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t$n"}}""");
        File.WriteAllText(config.Path, $"""
            apiVersion: v1
            kind: Config
            preferences: {"{colors: true}"}
            extensions:
            - name: x
              extension: {"{deep: [1, {er: null}]}"}
            current-context: here
            unknown-at-the-top: 1
            contexts:
            - name: here
              context:
                cluster: one
                user: me
                extensions:
                - name: context_info
                  extension:
                    provider: minikube.sigs.k8s.io
            clusters:
            - name: one
              cluster:
                server: {server.Address}
                certificate-authority-data: {TestKubeconfig.Base64(Authority.Pem)}
                disable-compression: true
                unknown-in-the-cluster: [1, 2]
                extensions:
                - name: client.authentication.k8s.io/exec
                  extension:
                    audience: me
            users:
            - name: me
              user:
                as: someone
                unknown-in-the-user: x
                exec:
                  apiVersion: client.authentication.k8s.io/v1
                  command: sh
                  args: [{plugin}]
                  interactiveMode: IfAvailable
                  installHint: install it
                  provideClusterInfo: true
                  unknown-in-exec: x
            """);
        Assert.StartsWith("Bearer t", (await Call()).Authorization, StringComparison.Ordinal);
    }

    // ----- exec plugins

    [Fact]
    public async Task An_exec_plugin_gets_its_arguments_and_variables_and_gives_the_token()
    {
        var plugin = config.Plugin(Credential("\"token\":\"$SAID\""));
        var user = Exec(plugin, ", get-token, --cluster=c", "  env: [{name: SAID, value: hello}]");
        config.With(Trusting(Authority), user);
        Assert.Equal("Bearer hello", (await Call()).Authorization);
        Assert.All(config.Runs, run => Assert.Equal("get-token --cluster=c", run));
    }

    [Fact]
    public async Task A_plugins_token_is_kept_while_it_lasts()
    {
        var plugin = config.Plugin(Credential("\"token\":\"t$n\",\"expirationTimestamp\":\"2100-01-01T00:00:00Z\""));
        config.With(Trusting(Authority), Exec(plugin));
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        for (var i = 0; i < 3; i++) Assert.True((await api.Send(new(HttpMethod.Get, "/"), Stop)).Ok);
        Assert.Single(server.Requests.Select(r => r.Authorization).Distinct());
        Assert.InRange(config.Runs.Length, 1, 2); // once to load, once for the first request
    }

    [Fact]
    public async Task A_plugin_is_run_again_when_its_token_expires()
    {
        // The package renews 30 s before the end.
        var soon = Text.Time(DateTimeOffset.UtcNow.AddSeconds(20));
        var plugin = config.Plugin(Credential($"\"token\":\"t$n\",\"expirationTimestamp\":\"{soon}\""));
        config.With(Trusting(Authority), Exec(plugin));
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        for (var i = 0; i < 3; i++) Assert.True((await api.Send(new(HttpMethod.Get, "/"), Stop)).Ok);
        Assert.Equal(3, server.Requests.Select(r => r.Authorization).Distinct().Count());
    }

    [Fact]
    public async Task A_plugin_that_gives_a_client_certificate()
    {
        var client = Other.Issue("operator");
        static string Line(string pem) => pem.ReplaceLineEndings("\\\\n"); // the shell takes one of the two
        var plugin = config.Plugin(Credential($"\"clientCertificateData\":\"{Line(client.ExportCertificatePem())}\","
            + $"\"clientKeyData\":\"{Line(client.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem())}\""));
        config.With(Trusting(Authority), Exec(plugin));
        Assert.Equal(client.Thumbprint, (await Call()).ClientCertificate?.Thumbprint);
    }

    [Fact]
    public async Task A_plugin_that_fails_later_is_a_fault_and_not_an_exception()
    {
        var plugin = config.Plugin(Credential("\"token\":\"t$n\",\"expirationTimestamp\":\"2001-01-01T00:00:00Z\""));
        config.With(Trusting(Authority), Exec(plugin));
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        File.WriteAllText(plugin, "exit 1"); // without a word: what a plugin says goes to our own stderr
        var reply = await api.Send(new(HttpMethod.Get, "/"), Stop);
        Assert.Equal((0, Outcome.Fault), (reply.Code, reply.Outcome));
        Assert.Empty(server.Requests);
    }

    // ----- what a wrong one says

    /// <summary>What the person who starts us reads: one line that names the file, and no secret.</summary>
    string Complaint(string? context = null)
    {
        var said = Assert.Throws<KubeconfigException>(() => Kubeconfig.Load(config.Path, context)).Message;
        Assert.StartsWith(config.Path, said, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', said);
        Assert.DoesNotContain("s3cret", said, StringComparison.Ordinal);
        return said;
    }

    [Fact]
    public void A_missing_file_is_named() =>
        Assert.Contains("Could not find file", Complaint(), StringComparison.Ordinal);

    [Theory]
    [InlineData("")]
    [InlineData("just text with s3cret")]
    [InlineData("- a\n- list")]
    [InlineData("users:\n- user: {token: s3cret\nclusters: ]")]
    [InlineData("users: [{user: {token: \"s3cret}}]")]
    [InlineData("\ttoken: s3cret")]
    [InlineData("current-context: here\ncontexts: s3cret\nusers: {token: s3cret}")]
    [InlineData("current-context: here\ncontexts: [{name: here, context: s3cret}]\nusers: [s3cret]")]
    public void A_malformed_file_is_named_without_its_text(string text)
    {
        config.File("config", text);
        Complaint();
    }

    [Fact]
    public void A_context_that_is_not_there_is_named()
    {
        config.With("server: https://127.0.0.1:1", "token: s3cret");
        Assert.Contains("'elsewhere'", Complaint("elsewhere"), StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_without_a_current_context_asks_for_one()
    {
        config.File("config", "clusters: []\nusers: [{name: me, user: {token: s3cret}}]");
        Assert.Contains("--context", Complaint(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("server: https://127.0.0.1:1\nproxy-url: http://proxy.example:3128", "token: s3cret", "proxy-url")]
    [InlineData("insecure-skip-tls-verify: true", "token: s3cret", "erver")]
    [InlineData("server: \"127.0.0.1:1\"", "token: s3cret", "127.0.0.1:1")]
    [InlineData("server: https://127.0.0.1:1\ncertificate-authority: gone.crt", "token: s3cret", "gone.crt")]
    [InlineData("server: https://127.0.0.1:1\ncertificate-authority-data: s3cret!", "token: t", "")]
    [InlineData("server: https://127.0.0.1:1\ncertificate-authority-data: czNjcmV0", "token: s3cret", "")]
    [InlineData("server: https://127.0.0.1:1", "client-certificate: gone.crt\nclient-key: gone.key", "gone.crt")]
    [InlineData("server: https://127.0.0.1:1", "client-certificate-data: czNjcmV0\nclient-key-data: czNjcmV0", "")]
    [InlineData("server: https://127.0.0.1:1", "exec: {command: /gone/plugin, apiVersion: v1}", "plugin")]
    [InlineData("server: https://127.0.0.1:1", "exec: {command: x}", "ApiVersion")]
    public void What_cannot_work_is_said_in_one_line(string cluster, string user, string naming)
    {
        config.With(cluster, user);
        Assert.Contains(naming, Complaint(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_context_whose_cluster_is_missing_is_said()
    {
        config.With("server: https://127.0.0.1:1", "token: s3cret");
        var text = File.ReadAllText(config.Path);
        config.File("config", text.Replace("cluster: one", "cluster: two", StringComparison.Ordinal));
        Assert.Contains("cluster", Complaint(), StringComparison.Ordinal);
        config.File("config", text.Replace("user: me", "user: you", StringComparison.Ordinal));
        Assert.Contains("no user", Complaint(), StringComparison.Ordinal);
    }

    // ----- the whole program: the environment is a process's own

    async Task<(int Code, string Said)> Program(params (string Name, string Value)[] variables)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardError = true, RedirectStandardOutput = true };
        start.ArgumentList.Add(Sandbox.Repository.Operator + ".dll");
        foreach (var name in (string[])["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBECONFIG"])
            start.Environment.Remove(name);
        start.Environment["HOME"] = Path.GetDirectoryName(config.Path);
        foreach (var (name, value) in variables) start.Environment[name] = value;
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync(Stop);
        var said = await process.StandardError.ReadToEndAsync(Stop);
        await process.WaitForExitAsync(Stop);
        Assert.Equal("", await output);
        return (process.ExitCode, said);
    }

    [Fact]
    public async Task Several_files_in_KUBECONFIG_are_one_clear_error()
    {
        var (code, said) = await Program(("KUBECONFIG", $"{config.Path}:{config.At("second")}"));
        Assert.Equal(2, code);
        Assert.Equal("omjob-operator: KUBECONFIG names several files: give one with --kubeconfig\n", said);
    }

    [Fact]
    public async Task Without_KUBECONFIG_the_home_directorys_is_read()
    {
        Directory.CreateDirectory(config.At(".kube"));
        config.File(".kube/config", "{}");
        var (code, said) = await Program();
        Assert.Equal(2, code);
        Assert.StartsWith($"omjob-operator: {config.At(".kube/config")}: ", said, StringComparison.Ordinal);
        Assert.Equal(1, said.Count(c => c == '\n'));
    }

    [Fact]
    public async Task Without_any_configuration_it_says_where_it_looked()
    {
        var (code, said) = await Program();
        Assert.Equal(2, code);
        Assert.Equal(
            $"omjob-operator: no service account of a pod here and no {config.At(".kube/config")}: give --kubeconfig\n",
            said);
    }

    [Fact]
    public async Task A_file_in_KUBECONFIG_is_read()
    {
        var (code, said) = await Program(("KUBECONFIG", config.File("config", "{}")));
        Assert.Equal(2, code);
        Assert.StartsWith($"omjob-operator: {config.Path}: ", said, StringComparison.Ordinal);
    }
}
