// Credentials that change, certificates below an intermediate authority, and answers that are not the API server's.

using System.Diagnostics;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Xunit;

namespace OMJobs.Tests;


public sealed class TransportEdgeTests : KubeconfigTest
{
    // ----- credentials

    [Fact]
    public async Task A_token_file_is_read()
    {
        config.File("token", "from-file\n");
        config.With(Trusting(Authority), "tokenFile: token");
        Assert.Equal("Bearer from-file", (await Call()).Authorization);
    }

    [Fact]
    public async Task A_token_file_beats_a_token()
    {
        config.File("token", "from-file\n");
        config.With(Trusting(Authority), "token: stale\ntokenFile: token");
        Assert.Equal("Bearer from-file", (await Call()).Authorization);
    }

    [Fact]
    public async Task A_user_without_credentials_is_anonymous()
    {
        config.With(Trusting(Authority), "{}");
        Assert.Null((await Call()).Authorization);
    }

    [Fact]
    public async Task W7_after_a_401_the_plugin_is_run_again()
    {
        using var strict = new ScriptedServer(Loopback, e =>
            e.Authorization == "Bearer t3" ? e.Answer(200, "{}") : e.Answer(401, "{}"));
        var plugin = config.Plugin(Credential("\"token\":\"t$n\"")); // no expirationTimestamp
        config.With(Trusting(Authority, strict.Address), Exec(plugin));
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        var reply = new Reply(0, []);
        for (var i = 0; i < 4 && !reply.Ok; i++) reply = await api.Send(new(HttpMethod.Get, "/"), Stop);
        Assert.True(reply.Ok, string.Join(", ", strict.Requests.Select(r => r.Authorization)));
    }

    [Fact]
    public async Task W7_after_a_401_a_rotated_token_file_is_read_again()
    {
        using var strict = new ScriptedServer(Loopback, e =>
            e.Authorization == "Bearer new" ? e.Answer(200, "{}") : e.Answer(401, "{}"));
        config.File("token", "old");
        config.With(Trusting(Authority, strict.Address), "token: x\ntokenFile: token");
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        Assert.Equal(Outcome.Unauthorized, (await api.Send(new(HttpMethod.Get, "/"), Stop)).Outcome);
        config.File("token", "new");
        Assert.True((await api.Send(new(HttpMethod.Get, "/"), Stop)).Ok);
    }

    [Fact]
    public async Task A_plugin_that_hangs_does_not_hold_up_a_request_beyond_its_deadline()
    {
        var plugin = config.Plugin(Credential("\"token\":\"t$n\",\"expirationTimestamp\":\"2001-01-01T00:00:00Z\""));
        File.AppendAllText(plugin, "\n[ $n -lt 2 ] || exec sleep 3\n");
        config.With(Trusting(Authority), Exec(plugin));
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        var clock = Stopwatch.StartNew();
        var reply = await api.Send(new(HttpMethod.Get, "/") { Timeout = TimeSpan.FromMilliseconds(300) }, Stop);
        Assert.False(reply.Ok);
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(2), $"{clock.Elapsed}");
        // On a busy machine it has yet to start, and would look for its script in a directory that is gone.
        await Eventually.True("the plugin hangs", () => config.Runs.Length == 2);
    }

    [Fact]
    public async Task A_plugins_argument_may_hold_a_blank()
    {
        var plugin = config.Plugin(Credential("\"token\":\"$2\""));
        config.With(Trusting(Authority), Exec($"{plugin}, --name, \"my cluster\""));
        Assert.Equal("Bearer my cluster", (await Call()).Authorization);
    }

    [Theory, InlineData("no json"), InlineData("""{"apiVersion":"client.authentication.k8s.io/v1"}"""), InlineData("")]
    public void A_plugin_that_fails_is_said_in_one_short_line(string output)
    {
        config.With(Trusting(Authority), Exec(config.Plugin(output)));
        var said = Assert.Throws<KubeconfigException>(() => Kubeconfig.Load(config.Path, null)).Message;
        Assert.DoesNotContain('\n', said);
        Assert.DoesNotContain("   at ", said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Contexts_clusters_and_users_are_told_apart_by_case()
    {
        File.WriteAllText(config.Path, $$"""
            {"current-context": "prod",
             "contexts": [{"name": "PROD", "context": {"cluster": "C", "user": "U"} },
                          {"name": "prod", "context": {"cluster": "c", "user": "u"} }],
             "clusters": [{"name": "C", "cluster": {"server": "https://127.0.0.1:1"} },
                          {"name": "c", "cluster": {"server": "{{server.Address}}",
                            "certificate-authority-data": "{{TestKubeconfig.Base64(Authority.Pem)}}"} }],
             "users": [{"name": "U", "user": {"token": "wrong"} }, {"name": "u", "user": {"token": "right"} }]}
            """);
        Assert.Equal("Bearer right", (await Call()).Authorization);
    }

    [Fact]
    public async Task Anchors_and_aliases_in_a_kubeconfig()
    {
        config.With($"&c\n{Trusting(Authority)}", "&u\ntoken: t");
        File.AppendAllText(config.Path, "\n- name: again\n  user: *u\n");
        Assert.Equal("Bearer t", (await Call()).Authorization);
    }

    // ----- TLS

    [Fact]
    public async Task An_intermediate_authority_alone_in_the_kubeconfig_is_trusted()
    {
        var intermediate = Authority.Intermediate("intermediate");
        using var below = new ScriptedServer(intermediate.Issue("server", "127.0.0.1"), e => e.Answer(200, "{}"));
        using var api = new ApiClient(new(below.Address, null) { Authorities = [intermediate.Certificate] });
        var reply = await api.Send(new(HttpMethod.Get, "/"), Stop);
        Assert.True(reply.Ok, reply.Message);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task A_client_certificate_from_an_intermediate_authority_is_sent_with_it(bool serverNamesItsRoot)
    {
        var intermediate = Other.Intermediate("intermediate");
        using var asking = new ScriptedServer(Loopback, e => e.Answer(200, "{}"))
        {
            ClientAuthorities = serverNamesItsRoot ? [Other.Certificate] : [],
        };
        var client = intermediate.Issue("operator");
        config.With(Trusting(Authority, asking.Address),
            "client-certificate-data: "
            + TestKubeconfig.Base64(client.ExportCertificatePem() + "\n" + intermediate.Pem) + "\nclient-key-data: "
            + TestKubeconfig.Base64(client.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem()));
        using var api = new ApiClient(Kubeconfig.Load(config.Path, null));
        Assert.True((await api.Send(new(HttpMethod.Get, "/"), Stop)).Ok);
        var seen = Assert.Single(asking.Requests);
        Assert.Equal(client.Thumbprint, seen.ClientCertificate?.Thumbprint);
        Assert.Contains("CN=intermediate", seen.ClientSentAlong);
    }


    [Fact]
    public async Task An_intermediate_authority_does_not_stand_for_its_siblings_or_its_root()
    {
        var (one, two) = (Authority.Intermediate("one"), Authority.Intermediate("two"));
        using var sibling = new ScriptedServer(two.Issue("server", "127.0.0.1"), e => e.Answer(200, "{}"))
        {
            Intermediates = [two.Certificate],
        };
        using var api = new ApiClient(new(sibling.Address, null) { Authorities = [one.Certificate] });
        Assert.Equal(Outcome.Fault, (await api.Send(new(HttpMethod.Get, "/"), Stop)).Outcome);
    }

    [Fact]
    public async Task An_authority_of_the_same_name_with_another_key_is_refused()
    {
        var impostor = new TestAuthority("right authority");
        using var forged = new ScriptedServer(impostor.Issue("server", "127.0.0.1"), e => e.Answer(200, "{}"))
        {
            Intermediates = [Authority.Certificate],
        };
        using var api = new ApiClient(new(forged.Address, null) { Authorities = [Authority.Certificate] });
        Assert.Equal(Outcome.Fault, (await api.Send(new(HttpMethod.Get, "/"), Stop)).Outcome);
    }

    // ----- answers

    [Fact]
    public async Task Retry_after_is_taken_from_the_body_too()
    {
        using var busy = new ScriptedServer(null, e => e.Answer(429, StatusTexts.TooMany));
        using var api = new ApiClient(new(busy.Address, null));
        Assert.Equal(TimeSpan.FromSeconds(7), (await api.Send(new(HttpMethod.Get, "/"), Stop)).RetryAfter);
    }

    // D5: an API server whose CRD is not served (yet), and every proxy on the way, have a 404 of their own.
    [Theory, InlineData("404 page not found\n"), InlineData("<html>Not Found</html>"), InlineData(""), InlineData("{}")]
    public void A_404_that_is_not_the_api_servers_word_on_the_object_proves_nothing(string body) =>
        Assert.NotEqual(Outcome.NotFound, new Reply(404, Encoding.UTF8.GetBytes(body)).Outcome);

    [Fact]
    public void A_cause_may_be_null() =>
        Assert.Equal(Outcome.Refused, new Reply(403, """{"details":{"causes":[null]}}"""u8.ToArray()).Outcome);
}

public sealed partial class WatchTests
{
    public static TheoryData<string, string> Untakable => new()
    {
        { "a bookmark without metadata", """{"type":"BOOKMARK","object":{}}""" },
        { "an object without metadata", """{"type":"ADDED","object":{}}""" },
        { "an object with null for metadata", """{"type":"ADDED","object":{"metadata":null}}""" },
        { "half a surrogate", Event("ADDED", "x", 11).Replace("Succeeded", "\\ud800", StringComparison.Ordinal) },
    };

    [Theory, MemberData(nameof(Untakable))]
    public Task An_event_that_cannot_be_taken_does_not_hide_those_after_it(string what, string line) =>
        DoesNotHideTheNext(what, line);

    [Fact]
    public async Task An_object_of_a_list_that_cannot_be_read_does_not_hide_the_others()
    {
        var broken = Object("a", 7).Replace("Succeeded", "\\ud800", StringComparison.Ordinal);
        await using var loop = new Loop { OnList = [_ => List(10, broken, Object("b", 8))] };
        await loop.Until(() => loop.Seen("b"), "the one that can be read");
    }
}
