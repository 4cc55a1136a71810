// What a cluster changes under a running operator: tokens, certificates, authorities, addresses, load balancers.

using System.Collections.Concurrent;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace OMJobs.Tests;


public sealed class RotationTests : KubeconfigTest
{
    // The clock moves only here: what goes by the machine's own time would not notice.
    readonly VirtualTime time = new();

    ApiClient Api() => new(Kubeconfig.Load(config.Path, null), time, NullLogger.Instance);

    static Task<Reply> Get(ApiClient api) => api.Send(new(HttpMethod.Get, "/version"), Stop);

    /// <summary>Sends a request that must be answered; returns the token that the server got.</summary>
    async Task<string?> Token(ApiClient api)
    {
        var reply = await Get(api);
        Assert.True(reply.Ok, reply.Message);
        return server.Requests.Last().Authorization;
    }

    void AMinute() => time.Advance(61);

    // ----- in a cluster

    /// <summary>A volume as the kubelet mounts it: its files are links into a directory that is swapped.</summary>
    void Mount(string version, string token, TestAuthority authority)
    {
        var directory = Directory.CreateDirectory(config.At($"..{version}")).FullName;
        File.WriteAllText(Path.Combine(directory, "token"), token);
        File.WriteAllText(Path.Combine(directory, "ca.crt"), authority.Pem);
        if (Directory.Exists(config.At("..data"))) Directory.Delete(config.At("..data"));
        Directory.CreateSymbolicLink(config.At("..data"), $"..{version}");
        foreach (var name in (string[])["token", "ca.crt"])
            if (!File.Exists(config.At(name))) File.CreateSymbolicLink(config.At(name), $"..data/{name}");
    }

    ApiClient InCluster(TestAuthority authority)
    {
        Mount("1", "one", authority);
        return new(Kubeconfig.InCluster(server.Address + "/", config.At("")), time, NullLogger.Instance);
    }

    [Fact]
    public async Task A_new_in_cluster_token_is_sent_within_a_minute_whatever_the_wall_clock_says()
    {
        using var api = InCluster(Authority);
        Assert.Equal("Bearer one", await Token(api));
        Mount("2", "two", Authority);
        time.Advance(30);
        Assert.Equal("Bearer one", await Token(api));
        time.Advance(31);
        Assert.Equal("Bearer two", await Token(api));
    }

    [Fact]
    public async Task After_a_handshake_that_failed_a_new_in_cluster_authority_is_trusted_at_once()
    {
        using var api = InCluster(Other);
        Assert.Equal(Outcome.Fault, (await Get(api)).Outcome);
        Mount("2", "two", Authority);
        Assert.Equal("Bearer two", await Token(api));
    }

    [Fact]
    public async Task An_authority_that_is_trusted_no_more_is_refused()
    {
        using var api = InCluster(Authority);
        Assert.Equal("Bearer one", await Token(api));
        Mount("2", "two", Other);
        AMinute();
        Assert.Equal(Outcome.Fault, (await Get(api)).Outcome);
        Assert.Single(server.Requests);
    }

    [Theory, InlineData(""), InlineData("\n")]
    public async Task An_in_cluster_token_that_is_still_empty_does_not_replace_the_old_one(string token)
    {
        using var api = InCluster(Authority);
        Mount("2", token, Authority);
        AMinute();
        Assert.Equal("Bearer one", await Token(api));
        Mount("3", "three", Authority);
        AMinute();
        Assert.Equal("Bearer three", await Token(api));
    }

    // ----- kubeconfig

    [Fact]
    public async Task A_token_file_is_read_again_without_a_401_too()
    {
        config.File("token", "one");
        config.With(Trusting(Authority), "tokenFile: token");
        using var api = Api();
        Assert.Equal("Bearer one", await Token(api));
        config.File("token", "two");
        AMinute();
        Assert.Equal("Bearer two", await Token(api));
    }

    [Fact]
    public async Task W7_after_401s_files_are_looked_at_every_10_s()
    {
        using var strict = new ScriptedServer(Loopback, e =>
            e.Authorization == "Bearer new" ? e.Answer(200, "{}") : e.Answer(401, "{}"));
        config.File("token", "old");
        config.With(Trusting(Authority, strict.Address), "tokenFile: token");
        using var api = Api();
        Assert.Equal(401, (await Get(api)).Code);
        Assert.Equal(401, (await Get(api)).Code); // has looked
        config.File("token", "new");
        Assert.Equal(401, (await Get(api)).Code);
        time.Advance(10.1);
        Assert.Equal(200, (await Get(api)).Code);
    }

    [Fact]
    public async Task An_authority_beside_the_file_is_read_again_after_a_handshake_that_failed()
    {
        config.File("ca.crt", Other.Pem);
        config.With($"server: {server.Address}\ncertificate-authority: ca.crt");
        using var api = Api();
        Assert.Equal(Outcome.Fault, (await Get(api)).Outcome);
        config.File("ca.crt", Authority.Pem);
        Assert.Equal("Bearer t", await Token(api));
    }

    [Fact]
    public async Task A_client_certificate_is_replaced_with_its_key_or_not_at_all()
    {
        var (old, next) = (Other.Issue("operator"), Other.Issue("operator"));
        static string Key(X509Certificate2 of) => of.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem();
        config.File("c.crt", old.ExportCertificatePem());
        config.File("c.key", Key(old));
        config.With(Trusting(Authority), "client-certificate: c.crt\nclient-key: c.key");
        using var api = Api();
        async Task<string?> Sent()
        {
            await Token(api);
            return server.Requests.Last().ClientCertificate?.Thumbprint;
        }
        Assert.Equal(old.Thumbprint, await Sent());
        config.File("c.crt", next.ExportCertificatePem());
        AMinute();
        Assert.Equal(old.Thumbprint, await Sent());
        config.File("c.key", Key(next));
        AMinute();
        Assert.Equal(next.Thumbprint, await Sent());
    }

    [Fact]
    public async Task A_kubeconfig_that_was_changed_is_read_again_once_it_is_whole()
    {
        using var moved = new ScriptedServer(Loopback, e => e.Answer(200, "{}"));
        config.With(Trusting(Authority), "token: s3cret-one");
        var words = new SecretsTests.Words();
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null), time, words);
        Assert.Equal("Bearer s3cret-one", await Token(api));
        var whole = File.ReadAllText(config.With(Trusting(Authority, moved.Address), "token: \"s3cret-two\"").Path);
        config.File("config", whole[..^3]);
        AMinute();
        Assert.Equal("Bearer s3cret-one", await Token(api));
        File.Delete(config.Path);
        AMinute();
        Assert.Equal("Bearer s3cret-one", await Token(api));
        config.File("config", whole);
        AMinute();
        Assert.True((await Get(api)).Ok);
        Assert.Equal("Bearer s3cret-two", Assert.Single(moved.Requests).Authorization);
        Assert.Equal(2, words.All.Count(w => w.Contains(config.Path, StringComparison.Ordinal)));
        Assert.DoesNotContain(words.All, w => w.Contains("s3cret", StringComparison.Ordinal) || w.Contains('\n'));
    }

    // ----- connections

    [Fact]
    public async Task A_stream_under_way_goes_on_while_new_requests_have_the_new_token()
    {
        TaskCompletionSource opened = new(), swapped = new();
        using var both = new ScriptedServer(Loopback, async e =>
        {
            if (e.Target == "/version") { await e.Answer(200, "{}"); return; }
            await e.Open();
            await swapped.Task.WaitAsync(Stop);
            await e.Chunk("{}\n");
            await e.Write("0\r\n\r\n");
        });
        config.File("token", "one");
        config.With(Trusting(Authority, both.Address), "tokenFile: token");
        using var api = Api();
        var lines = 0;
        var watch = api.Send(new(HttpMethod.Get, "/watch")
        {
            OnLine = line =>
            {
                if (line.IsEmpty) opened.SetResult();
                else lines++;
                return null;
            },
        }, Stop);
        await opened.Task.WaitAsync(TimeSpan.FromSeconds(60), Stop);
        config.File("token", "two");
        AMinute();
        Assert.True((await Get(api)).Ok);
        Assert.Equal("Bearer two", both.Requests.Last().Authorization);
        swapped.SetResult();
        Assert.True((await watch).Ok);
        Assert.Equal(1, lines);
    }

    [Fact]
    public async Task A_connection_takes_requests_for_5_to_10_minutes_and_a_stream_on_it_goes_on()
    {
        await using var cluster = await Sandbox.ApiServer.Start(new Sandbox.Store(time, new Random(1)));
        var (used, closed) = (new ConcurrentQueue<string>(), new ConcurrentDictionary<string, bool>());
        cluster.Seen = request =>
        {
            var connection = $"{request.Protocol} {request.HttpContext.Connection.Id}";
            used.Enqueue(connection);
            request.HttpContext.Features.Get<IConnectionLifetimeFeature>()!
                .ConnectionClosed.Register(() => closed[connection] = true);
        };
        await cluster.WriteKubeconfig(config.Path);
        using var api = Api();
        var opened = new TaskCompletionSource();
        var watch = api.Send(new(HttpMethod.Get, "/api/v1/namespaces?watch=1")
        {
            Timeout = TimeSpan.FromMinutes(2),
            OnLine = line =>
            {
                opened.TrySetResult();
                return line.Span.IndexOf("late"u8) >= 0 ? new(200, []) : null;
            },
        }, Stop);
        await opened.Task.WaitAsync(TimeSpan.FromSeconds(60), Stop);
        time.Advance(60 * 4.9);
        Assert.True((await Get(api)).Ok);
        var first = Assert.Single(used.Distinct());
        Assert.StartsWith("HTTP/2", first, StringComparison.Ordinal);
        time.Advance(60 * 5.1);
        var late = """{"metadata":{"name":"late"} }"""u8.ToArray();
        var made = await api.Send(new(HttpMethod.Post, "/api/v1/namespaces", late), Stop);
        Assert.True(made.Ok, made.Message);
        Assert.NotEqual(first, used.Last());
        Assert.True((await watch).Ok);
        await Eventually.True("the first connection is closed", () => closed.ContainsKey(first), 60);
    }
}
