// The only place that talks HTTP, against a server that does what it likes: TLS, credentials, faults as values, and
// what the API server's refusals mean.

using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Xunit;

namespace OMJobs.Tests;

public sealed class TransportTests
{
    static readonly TestAuthority Authority = new("right authority"), Other = new("other authority");
    static readonly X509Certificate2 Loopback = Authority.Issue("server", "127.0.0.1", "localhost");

    static CancellationToken Stop => TestContext.Current.CancellationToken;

    static Kubeconfig Access(string address, params TestAuthority[] authorities) => new(address, null)
    {
        Authorities = authorities.Length == 0 ? null : [.. authorities.Select(a => a.Certificate)],
    };

    static async Task<Reply> Get(Kubeconfig access, TimeSpan? timeout = null)
    {
        using var api = new ApiClient(access);
        return await api.Send(new(HttpMethod.Get, "/version") { Timeout = timeout ?? TimeSpan.FromSeconds(10) }, Stop);
    }

    static Task Greet(Exchange exchange) => exchange.Answer(200, "{}");

    // ----- TLS

    [Fact]
    public async Task The_clusters_own_authority_is_trusted()
    {
        using var server = new ScriptedServer(Loopback, Greet);
        var reply = await Get(Access(server.Address, Authority));
        Assert.True(reply.Ok, reply.Message);
        Assert.Equal("{}", Encoding.UTF8.GetString(reply.Body));
    }

    [Fact]
    public async Task The_right_authority_need_not_be_the_first_of_the_bundle()
    {
        using var server = new ScriptedServer(Loopback, Greet);
        Assert.True((await Get(Access(server.Address, Other, Authority))).Ok);
    }

    [Fact]
    public async Task A_server_that_sends_its_intermediate_is_trusted_by_the_root()
    {
        var intermediate = Authority.Intermediate("intermediate");
        using var server = new ScriptedServer(intermediate.Issue("server", "127.0.0.1"), Greet)
        {
            Intermediates = [intermediate.Certificate],
        };
        var reply = await Get(Access(server.Address, Authority));
        Assert.True(reply.Ok, reply.Message);
    }

    public static TheoryData<string> Refused =>
        ["another host", "another authority", "the system's authorities", "having expired"];

    [Theory, MemberData(nameof(Refused))]
    public async Task A_certificate_is_refused_for(string what)
    {
        var certificate = what switch
        {
            "another host" => Authority.Issue("server", "other.example", "127.0.0.2"),
            "having expired" => Authority.Expired("server", "127.0.0.1"),
            _ => Loopback,
        };
        TestAuthority[] trusted = what switch
        {
            "another authority" => [Other],
            "the system's authorities" => [],
            _ => [Authority],
        };
        using var server = new ScriptedServer(certificate, Greet);
        var reply = await Get(Access(server.Address, trusted));
        Assert.Equal(Outcome.Fault, reply.Outcome);
        Assert.Contains("certificate", reply.Message, StringComparison.OrdinalIgnoreCase);
        Assert.Empty(server.Requests); // no token has left
    }

    [Fact]
    public async Task Tls_server_name_is_asked_for_and_checked()
    {
        using var server = new ScriptedServer(Authority.Issue("server", "api.example"), Greet);
        var access = Access(server.Address, Authority);
        Assert.False((await Get(access)).Ok);
        var reply = await Get(access with { TlsServerName = "api.example" });
        Assert.True(reply.Ok, reply.Message);
        Assert.Equal(["", "api.example"], server.NamesAsked.Distinct());
    }

    [Fact]
    public async Task A_certificate_for_another_name_than_tls_server_name_is_refused()
    {
        using var server = new ScriptedServer(Loopback, Greet);
        var reply = await Get(Access(server.Address, Authority) with { TlsServerName = "api.example" });
        Assert.Equal(Outcome.Fault, reply.Outcome);
        Assert.Equal(["api.example"], server.NamesAsked.Distinct());
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task Insecure_skip_tls_verify_accepts_any_certificate(bool withAuthority)
    {
        using var server = new ScriptedServer(Other.Issue("server", "other.example"), Greet);
        var access = Access(server.Address, withAuthority ? [Authority] : []) with { SkipTlsVerify = true };
        Assert.True((await Get(access)).Ok);
    }

    [Theory, InlineData(true), InlineData(false)]
    public async Task The_client_certificate_is_sent(bool serverNamesItsAuthorities)
    {
        using var server = new ScriptedServer(Loopback, Greet)
        {
            ClientAuthorities = serverNamesItsAuthorities ? [Other.Certificate] : [],
        };
        var client = Other.Issue("operator");
        Assert.True((await Get(Access(server.Address, Authority) with { ClientCertificate = client })).Ok);
        Assert.Equal(client.Thumbprint, Assert.Single(server.Requests).ClientCertificate?.Thumbprint);
    }

    // ----- requests

    [Fact]
    public async Task A_request_carries_its_method_path_body_and_media_type()
    {
        using var server = new ScriptedServer(Loopback, Greet);
        using var api = new ApiClient(Access(server.Address + "/k8s/clusters/c-1", Authority));
        await api.Send(new(HttpMethod.Patch, "/api/v1/pods?limit=1", "{\"ä\":1}"u8.ToArray(), MediaTypes.Merge), Stop);
        var seen = Assert.Single(server.Requests);
        Assert.Equal(("PATCH", "/k8s/clusters/c-1/api/v1/pods?limit=1"), (seen.Method, seen.Target));
        Assert.Equal("{\"ä\":1}", seen.Body);
        Assert.Equal("application/merge-patch+json", seen.Headers["Content-Type"]);
        Assert.Equal("application/json", seen.Headers["Accept"]);
        await api.Send(new(HttpMethod.Get, "/api/v1/pods") { Accept = MediaTypes.Metadata }, Stop);
        Assert.Equal("application/json; as=PartialObjectMetadata; g=meta.k8s.io; v=v1, application/json",
            server.Requests.Last().Headers["Accept"]);
        Assert.Equal("omjob-operator", seen.Headers["User-Agent"]);
        Assert.Null(seen.Authorization);
    }

    [Fact]
    public async Task A_redirect_is_not_followed()
    {
        using var server = new ScriptedServer(Loopback, e => e.Answer(302, "", "Location: /elsewhere"));
        var reply = await Get(Access(server.Address, Authority));
        Assert.Equal((302, Outcome.Refused), (reply.Code, reply.Outcome));
        Assert.Single(server.Requests);
    }

    [Fact]
    public async Task The_date_of_the_answer_is_taken()
    {
        using var server = new ScriptedServer(Loopback, e =>
            e.Answer(200, "{}", "Date: Wed, 02 Jan 2030 03:04:05 GMT"));
        var date = (await Get(Access(server.Address, Authority))).Date;
        Assert.NotNull(date);
        Assert.InRange(date.Value - new DateTimeOffset(2030, 1, 2, 3, 4, 5, default),
            TimeSpan.Zero, TimeSpan.FromSeconds(9));
    }

    [Fact]
    public async Task Retry_after_is_taken_from_the_header()
    {
        using var server = new ScriptedServer(Loopback, e => e.Answer(429, StatusTexts.TooMany, "Retry-After: 7"));
        var reply = await Get(Access(server.Address, Authority));
        Assert.Equal((Outcome.TooMany, TimeSpan.FromSeconds(7)), (reply.Outcome, reply.RetryAfter));
    }

    // ----- faults become values

    static readonly byte[] Whole = Exchange.Bytes(200, "{\"kind\":\"Pod\"}", "Content-Length: 14");

    [Fact]
    public async Task An_answer_cut_after_any_byte_is_a_fault_and_never_half_an_answer()
    {
        using var server = new ScriptedServer(null, e => e.Write(Whole.AsMemory(0, int.Parse(e.Target[1..], null))));
        using var api = new ApiClient(Access(server.Address));
        for (var cut = 0; cut < Whole.Length; cut++)
        {
            var reply = await api.Send(new(HttpMethod.Get, $"/{cut}"), Stop);
            Assert.True(reply is { Code: 0, Fault: not null, Body: [] }, $"cut at {cut}: {reply.Message}");
        }
        Assert.True((await api.Send(new(HttpMethod.Get, $"/{Whole.Length}"), Stop)).Ok);
    }

    [Theory]
    [InlineData("at once", 0)]
    [InlineData("in the headers", 20)]
    [InlineData("in the body", -5)]
    public async Task A_reset_is_a_fault(string when, int bytes)
    {
        _ = when;
        using var server = new ScriptedServer(Loopback, async e =>
        {
            await e.Write(Whole.AsMemory(0, bytes >= 0 ? bytes : Whole.Length + bytes));
            e.Reset();
        });
        AssertFault(await Get(Access(server.Address, Authority)), server.Address);
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")]
    [InlineData("HTTP/9.9 banana\r\n\r\n")]
    [InlineData("SSH-2.0-OpenSSH_9.2\r\n")]
    [InlineData("\0\0\0\u0001")]
    [InlineData("")]
    public async Task Garbage_in_place_of_http_is_a_fault(string garbage)
    {
        using var server = new ScriptedServer(Loopback, e => e.Write(garbage));
        AssertFault(await Get(Access(server.Address, Authority)), server.Address);
    }

    [Fact]
    public async Task A_server_without_tls_is_a_fault()
    {
        using var server = new ScriptedServer(null, Greet);
        var address = server.Address.Replace("http:", "https:", StringComparison.Ordinal);
        AssertFault(await Get(Access(address, Authority), TimeSpan.FromMilliseconds(500)), address);
    }

    [Fact]
    public async Task A_refused_connection_is_a_fault()
    {
        // Bound, so that nobody else gets the port, but not listening.
        using var silent = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        silent.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var address = $"https://{silent.LocalEndPoint}";
        AssertFault(await Get(Access(address, Authority)), address);
    }

    [Fact]
    public async Task A_name_that_cannot_be_resolved_is_a_fault() =>
        AssertFault(await Get(Access("https://nowhere.invalid:6443", Authority)), "https://nowhere.invalid:6443");

    [Fact]
    public async Task A_connection_that_is_taken_and_stays_mute_is_given_up_after_ten_seconds_and_told_so()
    {
        using var mute = new TcpListener(IPAddress.Loopback, 0);
        mute.Start();
        var address = $"https://{mute.LocalEndpoint}";
        var reply = await Get(Access(address, Authority), TimeSpan.FromMinutes(2));
        AssertFault(reply, address);
        Assert.Contains("no connection within 10s", reply.Message, StringComparison.Ordinal);
    }

    [Theory, InlineData(0), InlineData(20), InlineData(-5)]
    public async Task Silence_ends_at_the_requests_own_deadline(int bytes)
    {
        using var server = new ScriptedServer(Loopback, async e =>
        {
            await e.Write(Whole.AsMemory(0, bytes >= 0 ? bytes : Whole.Length + bytes));
            await e.Hold();
        });
        var reply = await Get(Access(server.Address, Authority), TimeSpan.FromMilliseconds(300));
        AssertFault(reply, server.Address);
        Assert.Contains("no answer within 0.3s", reply.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_handshake_that_stalls_ends_at_the_requests_own_deadline()
    {
        using var silent = new TcpListener(IPAddress.Loopback, 0);
        silent.Start(); // the system accepts the connection, nobody speaks
        var access = Access($"https://{silent.LocalEndpoint}", Authority);
        AssertFault(await Get(access, TimeSpan.FromMilliseconds(300)), access.Server);
    }

    [Fact]
    public async Task Only_cancellation_throws()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Stop);
        using var server = new ScriptedServer(Loopback, e => { stop.Cancel(); return e.Hold(); });
        using var api = new ApiClient(Access(server.Address, Authority));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => api.Send(new(HttpMethod.Get, "/"), stop.Token));
    }

    [Fact]
    public async Task After_a_fault_the_next_request_goes_through()
    {
        using var server = new ScriptedServer(Loopback, e =>
        {
            if (e.Target == "/ok") return Greet(e);
            e.Reset();
            return Task.CompletedTask;
        });
        using var api = new ApiClient(Access(server.Address, Authority));
        for (var i = 0; i < 3; i++)
        {
            AssertFault(await api.Send(new(HttpMethod.Get, "/reset"), Stop), server.Address);
            Assert.True((await api.Send(new(HttpMethod.Get, "/ok"), Stop)).Ok);
        }
    }

    static void AssertFault(Reply reply, string names)
    {
        Assert.Equal((0, Outcome.Fault), (reply.Code, reply.Outcome));
        Assert.Contains(names, reply.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', reply.Message);
    }

    // ----- what the answers mean

    [Theory, MemberData(nameof(StatusTexts.Outcomes), MemberType = typeof(StatusTexts))]
    public void An_answer_means(string what, int code, string body, string outcome) =>
        Assert.True(outcome == new Reply(code, Encoding.UTF8.GetBytes(body)).Outcome.ToString(),
            $"{what}: {new Reply(code, Encoding.UTF8.GetBytes(body)).Outcome}");

    [Fact]
    public void The_words_of_an_answer_are_the_api_servers()
    {
        static string Words(int code, string body) => new Reply(code, Encoding.UTF8.GetBytes(body)).Message;
        Assert.Equal("""omjobs.pipelines.openmetadata.org "a" not found""", Words(404, StatusTexts.JobNotFound));
        Assert.Equal("the API server answered 502", Words(502, "<html>Bad Gateway</html>"));
        Assert.Equal("the API server answered 500", Words(500, "{\"kind\":\"Sta"));
        Assert.Equal("the API server answered 503", Words(503, ""));
    }
}

/// <summary>Refusals as the API server writes them.</summary>
static class StatusTexts
{
    static string Status(int code, string reason, string message, string details = "") =>
        $$"""{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":{{Quote(message)}}"""
        + (reason.Length > 0 ? $",\"reason\":\"{reason}\"" : "") + (details.Length > 0 ? $",\"details\":{details}" : "")
        + $",\"code\":{code}}}\n";

    static string Quote(string text) => System.Text.Json.JsonSerializer.Serialize(text);

    const string Pod = """{"name":"a-main","kind":"pods"}""";

    public static readonly string NotFound = Status(404, "NotFound", "not found", """{"name":"a"}""");

    public static readonly string JobNotFound = Status(404, "NotFound",
        """omjobs.pipelines.openmetadata.org "a" not found""",
        """{"name":"a","group":"pipelines.openmetadata.org","kind":"omjobs"}""");

    public static readonly string TooMany = Status(429, "TooManyRequests",
        "Too many requests, please try again later.", """{"retryAfterSeconds":7}""");

    public static readonly string Expired = Status(410, "Expired", "too old resource version: 10 (5000)");

    static readonly string Denied = "admission webhook \"policy.example.com\" denied the request: no";

    const string Forbids = "pods \"a-main\" is forbidden: ";

    public static TheoryData<string, int, string, string> Outcomes => new()
    {
        { "created", 201, """{"kind":"Pod"}""", "Ok" },
        {
            "quota", 403, Status(403, "Forbidden",
                Forbids + "exceeded quota: q, requested: pods=1, used: pods=4, limited: pods=4", Pod),
            "Refused"
        },
        {
            "quota without limits", 403, Status(403, "Forbidden",
                Forbids + "failed quota: q: must specify limits.cpu,limits.memory", Pod),
            "Refused"
        },
        {
            "quota's own conflict", 409, Status(409, "Conflict",
                "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply "
                + "your changes to the latest version and try again", """{"name":"q","kind":"resourcequotas"}"""),
            "Conflict"
        },
        {
            "LimitRange", 403, Status(403, "Forbidden",
                Forbids + "maximum cpu usage per Container is 1, but limit is 2", Pod),
            "Refused"
        },
        {
            "service account", 403, Status(403, "Forbidden",
                Forbids + "error looking up service account n/x: serviceaccount \"x\" not found", Pod),
            "Refused"
        },
        {
            "pod security", 403, Status(403, "Forbidden",
                Forbids + "violates PodSecurity \"restricted:latest\": runAsNonRoot != true", Pod),
            "Refused"
        },
        {
            "RBAC", 403, Status(403, "Forbidden",
                "pods is forbidden: User \"system:serviceaccount:n:o\" cannot create resource \"pods\" in API group "
                + "\"\" in the namespace \"n\"", """{"kind":"pods"}"""),
            "Refused"
        },
        {
            "namespace terminating", 403, Status(403, "Forbidden",
                Forbids + "unable to create new content in namespace n because it is being terminated",
                """
                {"name":"a-main","kind":"pods","causes":[{"reason":"NamespaceTerminating",
                "message":"namespace n is being terminated","field":"metadata.namespace"}]}
                """),
            "NamespaceGoing"
        },
        {
            "namespace gone", 404,
            Status(404, "NotFound", "namespaces \"n\" not found", """{"name":"n","kind":"namespaces"}"""),
            "NamespaceGoing"
        },
        { "webhook 400", 400, Status(400, "BadRequest", Denied), "Refused" },
        { "webhook 400 without a reason", 400, Status(400, "", Denied), "Refused" },
        { "webhook 403", 403, Status(403, "Forbidden", Denied), "Refused" },
        { "webhook 409", 409, Status(409, "Conflict", Denied), "Refused" },
        { "webhook 409 AlreadyExists", 409, Status(409, "AlreadyExists", Denied), "Refused" },
        {
            "webhook 422", 422, Status(422, "Invalid", Denied,
                """{"kind":"Pod","causes":[{"reason":"FieldValueInvalid","message":"no","field":"spec"}]}"""),
            "Refused"
        },
        {
            "webhook cannot be called", 500, Status(500, "InternalError",
                "Internal error occurred: failed calling webhook \"policy.example.com\": Post "
                + "\"https://policy.x.svc:443/?timeout=10s\": context deadline exceeded",
                """{"causes":[{"message":"failed calling webhook \"policy.example.com\": deadline exceeded"}]}"""),
            "Fault"
        },
        {
            "invalid pod", 422, Status(422, "Invalid",
                "Pod \"a-main\" is invalid: spec.containers[0].image: Required value",
                """
                {"name":"a-main","kind":"Pod","causes":[{"reason":"FieldValueRequired",
                "message":"Required value","field":"spec.containers[0].image"}]}
                """),
            "Invalid"
        },
        {
            "a patch for another UID", 422, Status(422, "Invalid", "Pod \"a-main\" is invalid: metadata.uid",
                """{"kind":"Pod","causes":[{"reason":"FieldValueInvalid","field":"metadata.uid"}]}"""),
            "Conflict"
        },
        {
            "422 without causes", 422,
            Status(422, "Invalid", "Pod \"a-main\" is invalid", """{"kind":"Pod"}"""),
            "Refused"
        },
        {
            "422 of another kind", 422, Status(422, "Invalid", "Lease \"x\" is invalid",
                """{"kind":"Lease","causes":[{"reason":"FieldValueInvalid","message":"x","field":"spec"}]}"""),
            "Invalid"
        },
        {
            "unreadable pod", 400, Status(400, "BadRequest",
                "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field "
                + "ResourceRequirements.spec.containers.resources.limits of type int64"),
            "Impossible"
        },
        {
            "too large for the API server", 413, Status(413, "RequestEntityTooLarge",
                "Request entity too large: limit is 3145728"),
            "Impossible"
        },
        { "too large for a proxy", 413, "<html><h1>413 Request Entity Too Large</h1></html>", "Impossible" },
        { "too large for etcd", 500, Status(500, "", "etcdserver: request is too large"), "Impossible" },
        {
            "too large for etcd, as its client says", 500, Status(500, "",
                "rpc error: code = InvalidArgument desc = etcdserver: request is too large"),
            "Impossible"
        },
        { "too many requests", 429, TooMany, "TooMany" },
        { "too many requests, of a proxy", 429, "slow down", "TooMany" },
        { "etcd is away", 500, Status(500, "", "etcdserver: leader changed"), "Fault" },
        { "apiserver starts", 503, Status(503, "ServiceUnavailable", "apiserver not ready"), "Fault" },
        {
            "timed out in the API server", 504, Status(504, "Timeout",
                "Timeout: request did not complete within requested timeout - context deadline exceeded"),
            "Fault"
        },
        { "a proxy's 502", 502, "<html>Bad Gateway</html>", "Fault" },
        { "a gateway's 400", 400, "<html>400 The plain HTTP request was sent to HTTPS port</html>", "Refused" },
        { "unauthorized", 401, Status(401, "Unauthorized", "Unauthorized"), "Unauthorized" },
        { "exists", 409, Status(409, "AlreadyExists", "pods \"a-main\" already exists", Pod), "Exists" },
        {
            "exists, being deleted", 409, Status(409, "AlreadyExists",
                "object is being deleted: pods \"a-main\" already exists", Pod),
            "Exists"
        },
        {
            "changed meanwhile", 409, Status(409, "Conflict",
                "Operation cannot be fulfilled on omjobs.pipelines.openmetadata.org \"a\": the object has been "
                + "modified; please apply your changes to the latest version and try again",
                """{"name":"a","group":"pipelines.openmetadata.org","kind":"omjobs"}"""),
            "Conflict"
        },
        { "not found", 404, JobNotFound, "NotFound" },
        { "expired", 410, Expired, "Gone" },
        { "expired, without a body", 410, "", "Gone" },
        { "half a status", 403, """{"kind":"Status","message":"pods""", "Refused" },
        { "a status of wrong types", 403, """{"kind":"Status","message":7,"details":[]}""", "Refused" },
        { "null fields", 403, """{"message":null,"reason":null,"details":{"causes":null}}""", "Refused" },
    };
}
