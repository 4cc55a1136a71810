// An HTTP/1.1 server on loopback whose answers are written byte by byte by the test: it can stop anywhere, stall, reset
// the connection or send nonsense. With a certificate it speaks TLS. Each connection serves one request.

using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace OMJobs.Tests;

sealed class ScriptedServer : IDisposable
{
    readonly TcpListener listener = new(IPAddress.Loopback, 0);
    readonly CancellationTokenSource stop = new();
    readonly ConcurrentDictionary<Socket, bool> open = [];
    readonly Func<Exchange, Task> script;
    readonly X509Certificate2? certificate;

    /// <summary>Listens at once. Without a certificate it speaks plain HTTP.</summary>
    public ScriptedServer(X509Certificate2? certificate, Func<Exchange, Task> script)
    {
        (this.certificate, this.script) = (certificate, script);
        listener.Start();
        _ = Accept();
    }

    int Port => ((IPEndPoint)listener.LocalEndpoint).Port;
    public string Address => Named("127.0.0.1");
    public string Named(string host) =>
        string.Create(CultureInfo.InvariantCulture, $"{(certificate is null ? "http" : "https")}://{host}:{Port}");

    /// <summary>Certificates sent along with the server's own.</summary>
    public X509Certificate2Collection Intermediates { get; init; } = [];
    /// <summary>Ask for a client certificate; the names of these authorities go along (none: of any).</summary>
    public X509Certificate2Collection? ClientAuthorities { get; init; }
    /// <summary>Every request that arrived whole, in order.</summary>
    public ConcurrentQueue<Exchange> Requests { get; } = [];
    /// <summary>The name that each TLS handshake asked for, finished or not.</summary>
    public ConcurrentQueue<string> NamesAsked { get; } = [];

    async Task Accept()
    {
        try
        {
            while (true) _ = Serve(await listener.AcceptSocketAsync(stop.Token));
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // Disposed of.
        }
    }

    async Task Serve(Socket socket)
    {
        open[socket] = true;
        try
        {
            socket.NoDelay = true;
            await using Stream raw = new NetworkStream(socket, ownsSocket: false);
            await using var stream = certificate is null ? raw : new SslStream(raw);
            var exchange = new Exchange(stream, socket, stop.Token);
            if (stream is SslStream tls) await Handshake(tls, exchange);
            if (!await exchange.Read()) return;
            Requests.Enqueue(exchange);
            await script(exchange);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or SocketException
            or ObjectDisposedException or System.Security.Authentication.AuthenticationException)
        {
            // The client has gone, or would not have us.
        }
        finally
        {
            open.TryRemove(socket, out _);
            socket.Dispose();
        }
    }

    Task Handshake(SslStream tls, Exchange exchange)
    {
        var trust = ClientAuthorities is { Count: > 0 } names
            ? SslCertificateTrust.CreateForX509Collection(names, sendTrustInHandshake: true)
            : null;
        return tls.AuthenticateAsServerAsync((_, hello, _, _) =>
        {
            NamesAsked.Enqueue(exchange.NameAsked = hello.ServerName);
            return ValueTask.FromResult(new SslServerAuthenticationOptions
            {
                ServerCertificateContext = SslStreamCertificateContext.Create(certificate!, Intermediates, true, trust),
                ApplicationProtocols = [SslApplicationProtocol.Http11],
                ClientCertificateRequired = ClientAuthorities is not null,
                RemoteCertificateValidationCallback = (_, client, chain, _) =>
                {
                    exchange.ClientCertificate = client is null ? null : new X509Certificate2(client);
                    exchange.ClientSentAlong = [.. chain?.ChainPolicy.ExtraStore.Select(c => c.Subject) ?? []];
                    return true;
                },
            });
        }, null, stop.Token);
    }

    public void Dispose()
    {
        stop.Cancel();
        listener.Stop();
        foreach (var socket in open.Keys) socket.Dispose();
        stop.Dispose();
    }
}

/// <summary>One request and the bytes of its answer. The connection ends with the script.</summary>
sealed class Exchange(Stream stream, Socket socket, CancellationToken stop)
{
    public string Method { get; private set; } = "";
    public string Target { get; private set; } = "";
    public Dictionary<string, string> Headers { get; } = new(StringComparer.OrdinalIgnoreCase);
    public string Body { get; private set; } = "";
    public string NameAsked { get; set; } = "";
    public X509Certificate2? ClientCertificate { get; set; }
    public string[] ClientSentAlong { get; set; } = [];
    public string? Authorization => Headers.GetValueOrDefault("Authorization");

    /// <summary>Reads the request; false where the client went away before its end.</summary>
    public async Task<bool> Read()
    {
        var (buffer, length, head) = (new byte[256 * 1024], 0, -1);
        async Task<bool> More()
        {
            var count = await stream.ReadAsync(buffer.AsMemory(length), stop);
            length += count;
            return count > 0;
        }
        while ((head = buffer.AsSpan(0, length).IndexOf("\r\n\r\n"u8)) < 0)
            if (!await More()) return false;
        var lines = Encoding.ASCII.GetString(buffer, 0, head).Split("\r\n");
        var first = lines[0].Split(' ');
        (Method, Target) = (first[0], first[1]);
        foreach (var line in lines.Skip(1)) Headers[line[..line.IndexOf(':')]] = line[(line.IndexOf(':') + 1)..].Trim();
        var body = int.Parse(Headers.GetValueOrDefault("Content-Length", "0"), CultureInfo.InvariantCulture);
        var wanted = head + 4 + body;
        while (length < wanted)
            if (!await More()) return false;
        Body = Encoding.UTF8.GetString(buffer, head + 4, body);
        return true;
    }

    public async Task Write(ReadOnlyMemory<byte> bytes)
    {
        await stream.WriteAsync(bytes, stop);
        await stream.FlushAsync(stop);
    }

    public Task Write(string text) => Write(Encoding.UTF8.GetBytes(text));

    /// <summary>A whole answer.</summary>
    public Task Answer(int code, string body, params string[] headers) =>
        Write(Bytes(code, body, [.. headers, $"Content-Length: {Encoding.UTF8.GetByteCount(body)}"]));

    /// <summary>The head of a chunked answer.</summary>
    public Task Open() => Write(Bytes(200, "", "Transfer-Encoding: chunked"));

    public Task Chunk(string text) => Write(Chunked(text));

    /// <summary>Says nothing more until the client goes away.</summary>
    public async Task Hold()
    {
        while (await stream.ReadAsync(new byte[256], stop) > 0) { }
    }

    /// <summary>Ends the connection with a reset.</summary>
    public void Reset()
    {
        socket.LingerState = new LingerOption(true, 0);
        socket.Close();
    }

    public static byte[] Bytes(int code, string body, params string[] headers) => Encoding.UTF8.GetBytes(
        $"HTTP/1.1 {code} Scripted\r\n"
        + string.Concat(headers.Append("Connection: close").Select(h => h + "\r\n")) + "\r\n" + body);

    public static byte[] Chunked(string text) =>
        Encoding.UTF8.GetBytes($"{Encoding.UTF8.GetByteCount(text):x}\r\n{text}\r\n");
}

/// <summary>Certificates made in memory.</summary>
sealed class TestAuthority
{
    // Whole days: no certificate outlives its authority by a fraction of a second.
    static readonly DateTimeOffset From = DateTime.UtcNow.Date.AddDays(-1), Until = DateTime.UtcNow.Date.AddDays(2);
    readonly X509Certificate2 own;

    TestAuthority(X509Certificate2 own) => this.own = own;

    public TestAuthority(string name) : this(Request(name, true, out _, out _).CreateSelfSigned(From, Until)) { }

    public X509Certificate2 Certificate => own;
    public string Pem => own.ExportCertificatePem();

    /// <summary>An authority that this one has signed.</summary>
    public TestAuthority Intermediate(string name) => new(Sign(Request(name, true, out _, out var key), key));

    /// <summary>A server's or client's certificate; hosts are names or addresses.</summary>
    public X509Certificate2 Issue(string name, params string[] hosts)
    {
        var request = Request(name, false, out var names, out var key);
        foreach (var host in hosts)
        {
            if (IPAddress.TryParse(host, out var address)) names.AddIpAddress(address);
            else names.AddDnsName(host);
        }
        if (hosts.Length > 0) request.CertificateExtensions.Add(names.Build());
        return Sign(request, key);
    }

    public X509Certificate2 Expired(string name, string host)
    {
        var request = Request(name, false, out var names, out var key);
        names.AddIpAddress(IPAddress.Parse(host));
        request.CertificateExtensions.Add(names.Build());
        return Sign(request, key, From.AddHours(1));
    }

    X509Certificate2 Sign(CertificateRequest request, ECDsa key, DateTimeOffset? until = null)
    {
        var serial = RandomNumberGenerator.GetBytes(16);
        using var signed = request.Create(own, From, until ?? Until, serial);
        return signed.CopyWithPrivateKey(key);
    }

    static CertificateRequest Request(
        string name, bool authority, out SubjectAlternativeNameBuilder names, out ECDsa key)
    {
        names = new();
        key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(authority, false, 0, true));
        return request;
    }
}
