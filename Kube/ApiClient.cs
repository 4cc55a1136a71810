// Requests to the API server, and its answers.

using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Serialization.Metadata;

namespace OMJobs;

/// <summary>Sends one request; its answer is a value. Throws only when cancelled. All I/O passes through it.</summary>
delegate Task<Reply> Send(Request request, CancellationToken stop);

/// <summary>One request.</summary>
sealed record Request(HttpMethod Method, string Path, byte[]? Body = null, string MediaType = MediaTypes.Json)
{
    /// <summary>What is to be answered with; of what is large and known, the metadata will do.</summary>
    public string Accept { get; init; } = MediaTypes.Json;
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);
    /// <summary>For a watch: takes each line (empty: the stream is open); what it returns ends the stream.</summary>
    public Func<ReadOnlyMemory<byte>, Reply?>? OnLine { get; init; }
    /// <summary>For a list: takes a good answer's body in pieces, as they come; the reply has none then.</summary>
    public Action<ReadOnlySpan<byte>>? OnPiece { get; init; }
}

/// <summary>What an answer means. Exists and Conflict: 409. Of a creation: Impossible will never be, Invalid is not
/// valid as admission leaves it now (a default, an injector), NamespaceGoing.</summary>
enum Outcome
{
    Ok, NotFound, Exists, Conflict, Invalid, Impossible, NamespaceGoing, TooMany, Gone, Unauthorized, Refused, Fault,
}

/// <summary>One answer as a value. Code is the HTTP status; 0: there was no answer, Fault says why.</summary>
sealed record Reply(int Code, byte[] Body)
{
    public string? Fault { get; init; }
    public static Reply Failed(string why) => new(0, []) { Fault = why };
    public DateTimeOffset? Date { get; init; }
    /// <summary>When the request was sent (server's time).</summary>
    public DateTimeOffset SentAt { get; init; }
    /// <summary>The newest version that each watch had told when the request was sent.</summary>
    public string?[]? Told { get; init; }
    public bool Wrote { get; init; }
    /// <summary>How often the cache had been dropped by then.</summary>
    public int Epoch { get; init; }
    /// <summary>The object that was asked for.</summary>
    public CachedObject? Found { get; init; }
    /// <summary>From the header, else from the body.</summary>
    public TimeSpan? RetryAfter
    {
        get => field ?? (Status?.Details?.RetryAfterSeconds is > 0 and var n ? TimeSpan.FromSeconds(n) : null);
        init;
    }

    public override string ToString() => Message;
    public bool Ok => Code is >= 200 and < 300;
    StatusObject? Status => Ok || Body is not [(byte)'{', ..] ? null : Read(ApiJson.Default.StatusObject);

    /// <summary>What the API server said, in one line.</summary>
    public string Message => Fault
        ?? (Status?.Message is { Length: > 0 } message ? message : $"the API server answered {Code}");

    /// <summary>The same without a word that may come from an object: code, reason and the paths of fields.</summary>
    public string Brief => Fault ?? string.Join(' ', (string?[])
        [$"the API server answered {Code}", Status?.Reason, .. Status?.Details?.Causes?.Select(c => c?.Field) ?? []])
        .TrimEnd();

    /// <summary>See docs/design.md, "Refusals of a pod's creation".</summary>
    public Outcome Outcome
    {
        get
        {
            if (Ok) return Outcome.Ok;
            var status = Status;
            var message = status?.Message ?? "";
            var webhook = message.StartsWith("admission webhook \"", StringComparison.Ordinal);
            return Code switch
            {
                0 => Outcome.Fault,
                401 => Outcome.Unauthorized,
                403 when status?.Details?.Causes?.Exists(c => c?.Reason == "NamespaceTerminating") is true
                    => Outcome.NamespaceGoing,
                404 when status?.Details?.Kind == "namespaces" => Outcome.NamespaceGoing,
                // D5: only the API server's own word; not a proxy's 404, nor that of a CRD that is not served yet.
                404 when status?.Reason == "NotFound" => Outcome.NotFound,
                404 => Outcome.Fault,
                409 when !webhook && status?.Reason == "AlreadyExists" => Outcome.Exists,
                409 when webhook => Outcome.Refused,
                409 => Outcome.Conflict,
                410 => Outcome.Gone,
                // A patch that names the UID of an earlier object of that name.
                422 when status?.Details?.Causes?.Exists(c => c?.Field == "metadata.uid") is true => Outcome.Conflict,
                422 when !webhook && status?.Details is { Kind: not null, Causes.Count: > 0 }
                    => Outcome.Invalid,
                400 when !webhook && status?.Reason == "BadRequest" => Outcome.Impossible,
                413 => Outcome.Impossible,
                500 when message.Contains("request is too large", StringComparison.Ordinal) => Outcome.Impossible,
                429 => Outcome.TooMany,
                >= 500 => Outcome.Fault,
                _ => Outcome.Refused,
            };
        }
    }

    /// <summary>It is an object of that kind which is not valid.</summary>
    public bool IsInvalid(Resource resource) =>
        Outcome == Outcome.Invalid && Status?.Details?.Kind == resource.Kind;

    /// <summary>The body, or null where it cannot be read.</summary>
    public object? Read(JsonTypeInfo type)
    {
        try { return JsonSerializer.Deserialize(Body, type); }
        catch (JsonException) { return null; }
    }

    public T? Read<T>(JsonTypeInfo<T> type) where T : class => (T?)Read((JsonTypeInfo)type);
}

static class MediaTypes
{
    public const string Json = "application/json", Merge = "application/merge-patch+json",
        StrategicMerge = "application/strategic-merge-patch+json",
        Metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
}

/// <summary>The only place that talks HTTP. Every fault becomes a value. Where a file of the configuration has changed,
/// and every 5 to 10 minutes anyway, so that no bad API server behind a load balancer holds us, requests go to new
/// connections; those under way end where they are.</summary>
sealed class ApiClient : IDisposable
{
    /// <summary>Who we are, and the connections made as such; it goes with the last request that uses it.</summary>
    // Not PooledConnectionLifetime: a connection past that is pinged no more, so that W2 would not hold for its watch.
    sealed class Session(Kubeconfig access, long begun)
    {
        public readonly Kubeconfig Access = access;
        public readonly HttpClient Http = NewClient(access);
        public readonly long Begun = begun; // timestamp
        public int Users; // requests, and 1 while it is the current one
    }

    readonly TimeProvider time;
    readonly ILogger? log;
    // Files are looked at once a minute: so it is 10 at most.
    readonly TimeSpan lifetime = TimeSpan.FromSeconds(Random.Shared.Next(300, 540));
    readonly Lock gate = new(); // guards all below, and the users of a session
    Session session;
    Task looking = Task.CompletedTask;
    long looked; // timestamp
    long? lookedInDoubt; // timestamp
    bool denied, doubted; // since the last look: a 401; that or a handshake that failed

    public ApiClient(Kubeconfig access, TimeProvider? time = null, ILogger? log = null)
    {
        (this.time, this.log) = (time ?? TimeProvider.System, log);
        session = NewSession(access);
        looked = session.Begun;
    }

    static HttpClient NewClient(Kubeconfig access)
    {
        var http = new HttpClient(new SocketsHttpHandler
        {
            SslOptions = Tls(access),
            UseCookies = false,
            UseProxy = false,
            AllowAutoRedirect = false,
            ConnectTimeout = Connecting,
            EnableMultipleHttp2Connections = true,
            // W2: a half-open connection shows itself within 45 s.
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            KeepAlivePingDelay = TimeSpan.FromSeconds(30),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(15),
        })
        { Timeout = Timeout.InfiniteTimeSpan }; // W1: each request brings its own
        http.DefaultRequestHeaders.UserAgent.ParseAdd(typeof(ApiClient).Assembly.GetName().Name);
        if (access.TlsServerName is { } name) http.DefaultRequestHeaders.Host = name; // asked for and checked in TLS
        return http;
    }

    static SslClientAuthenticationOptions Tls(Kubeconfig access)
    {
        var tls = new SslClientAuthenticationOptions();
        if (access.Authorities is { } authorities)
        {
            // Name and signatures are checked by the policy. As in Go, an authority need not be a root: the chain may
            // end early, and the callback wants one of ours in it.
            tls.CertificateChainPolicy = new() { TrustMode = X509ChainTrustMode.CustomRootTrust };
            tls.CertificateChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
            tls.CertificateChainPolicy.CustomTrustStore.AddRange(authorities);
            tls.CertificateChainPolicy.VerificationFlags = X509VerificationFlags.AllowUnknownCertificateAuthority;
            bool Ours(X509ChainElement link) => authorities.Any(a => a.RawData.SequenceEqual(link.Certificate.RawData));
            tls.RemoteCertificateValidationCallback = (_, _, chain, errors) =>
                errors == SslPolicyErrors.None && chain!.ChainElements.Any(Ours);
        }
        if (access.ClientCertificate is { } certificate)
            tls.ClientCertificateContext = SslStreamCertificateContext.Create(certificate, access.ClientChain, true);
#pragma warning disable CA5359 // insecure-skip-tls-verify was asked for by name.
        if (access.SkipTlsVerify) tls.RemoteCertificateValidationCallback = (_, _, _, _) => true;
#pragma warning restore CA5359
        return tls;
    }

    static readonly TimeSpan Connecting = TimeSpan.FromSeconds(10); // with TLS

    public async Task<Reply> Send(Request request, CancellationToken stop)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
        limit.CancelAfter(request.Timeout);
        await Look().WaitAsync(limit.Token).Quietly();
        var used = Enter();
        try { return await Send(used, request, limit.Token); }
        catch (OperationCanceledException) when (stop.IsCancellationRequested) { throw; }
        catch (OperationCanceledException)
        {
            return Fault(limit.IsCancellationRequested ? $"no answer within {Text.Duration(request.Timeout)}"
                : $"no connection within {Text.Duration(Connecting)}");
        }
#pragma warning disable CA1031 // The edge: what the network, TLS or a credential plugin throws becomes a value.
        catch (Exception e)
#pragma warning restore CA1031
        {
            if (e is HttpRequestException { HttpRequestError: HttpRequestError.SecureConnectionError })
                Doubt(used, false);
            var cause = e;
            while (cause.InnerException is { } inner) cause = inner;
            return Fault(cause == e || e.Message.Contains(cause.Message, StringComparison.Ordinal)
                ? e.Message : $"{e.Message} {cause.Message}");
        }
        finally { Leave(used); }

        Reply Fault(string why) => Reply.Failed($"{request.Method} {used.Access.Server}: {why}");
    }

    async Task<Reply> Send(Session by, Request request, CancellationToken stop)
    {
        using var message = new HttpRequestMessage(request.Method, by.Access.Server + request.Path)
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionOrLower,
            Content = request.Body is { } body
                ? new ByteArrayContent(body) { Headers = { ContentType = new(request.MediaType) } } : null,
        };
        message.Headers.Accept.ParseAdd(request.Accept);
        if (by.Access.Credentials is { } credentials) // a plugin that hangs does not hear the token
            await credentials.ProcessHttpRequestAsync(message, stop).WaitAsync(stop);
        using var response = await by.Http.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, stop);
        var heard = time.GetTimestamp();
        if (response.StatusCode == HttpStatusCode.Unauthorized) Doubt(by, true); // W7
        var (streamed, ended) = (response.IsSuccessStatusCode, (Reply?)null);
        if (streamed && request.OnLine is { } take)
            ended = await ReadLines(await response.Content.ReadAsStreamAsync(stop), take, stop);
        else if (streamed && request.OnPiece is { } piece)
            await ReadPieces(await response.Content.ReadAsStreamAsync(stop), piece, stop);
        else streamed = false;
        var content = streamed ? [] : await response.Content.ReadAsByteArrayAsync(stop);
        return (ended ?? new Reply((int)response.StatusCode, content)) with
        {
            Date = response.Headers.Date + time.GetElapsedTime(heard),
            RetryAfter = response.Headers.RetryAfter?.Delta,
        };
    }

    // ----- sessions

    Session Enter()
    {
        lock (gate)
        {
            session.Users++;
            return session;
        }
    }

    void Leave(Session used)
    {
        lock (gate)
            if (--used.Users > 0) return;
        used.Http.Dispose();
    }

    void Doubt(Session used, bool unauthorized)
    {
        lock (gate)
            if (used == session) (doubted, denied) = (true, denied || unauthorized);
    }

    /// <summary>Looks whether anything has changed, if it is time to: once a minute, and in doubt every 10 s. A plugin
    /// that hangs there holds up one request only.</summary>
    Task Look()
    {
        lock (gate)
        {
            var urgent = doubted && (lookedInDoubt is not { } at || time.GetElapsedTime(at) > TimeSpan.FromSeconds(10));
            var due = urgent || time.GetElapsedTime(looked) > TimeSpan.FromMinutes(1);
            if (!due || !looking.IsCompleted) return Task.CompletedTask;
            var renew = denied;
            looked = time.GetTimestamp();
            if (doubted) lookedInDoubt = looked;
            (doubted, denied) = (false, false);
            return looking = Task.Run(() => Look(renew));
        }
    }

    void Look(bool renew)
    {
        var old = session; // nobody else replaces it
        var next = Reread(old.Access)
            ?? (renew && old.Access.Renew is { } plugin ? NewSession(old.Access with { Credentials = plugin() })
                : time.GetElapsedTime(old.Begun) > lifetime ? NewSession(old.Access) : null);
        if (next is null) return;
        lock (gate) session = next;
        Leave(old);
    }

    Session? Reread(Kubeconfig access)
    {
        try { return access is { HasChanged: true, Again: { } again } ? NewSession(again()) : null; }
#pragma warning disable CA1031 // Half written, say: what was read before stays, and we look again.
        catch (Exception e)
#pragma warning restore CA1031
        {
            log?.LogWarning("A changed configuration cannot be read yet: {Reason}", e.Message);
            return null;
        }
    }

    Session NewSession(Kubeconfig access) => new(access, time.GetTimestamp()) { Users = 1 };

    /// <summary>Hands out whole lines; half a line at the end is dropped (W6).</summary>
    static async Task<Reply?> ReadLines(Stream stream, Func<ReadOnlyMemory<byte>, Reply?> take, CancellationToken stop)
    {
        var reader = PipeReader.Create(stream);
        try
        {
            if (take(default) is { } refused) return refused;
            while (true)
            {
                var read = await reader.ReadAsync(stop);
                var rest = read.Buffer;
                while (rest.PositionOf((byte)'\n') is { } end)
                {
                    var line = rest.Slice(0, end);
                    if (line.Length > 0 && take(line.IsSingleSegment ? line.First : line.ToArray()) is { } ended)
                        return ended;
                    rest = rest.Slice(rest.GetPosition(1, end));
                }
                reader.AdvanceTo(rest.Start, rest.End);
                if (read.IsCompleted) return null;
            }
        }
        finally { await reader.CompleteAsync(); }
    }

    static async Task ReadPieces(Stream stream, Action<ReadOnlySpan<byte>> take, CancellationToken stop)
    {
        var buffer = new byte[65536];
        while (await stream.ReadAsync(buffer, stop) is > 0 and var read) take(buffer.AsSpan(0, read));
    }

    public void Dispose() => session.Http.Dispose();
}
