// A plain HTTP proxy in front of the API server, through which an operator can be made to see every fault: a hook gets
// each request and decides what becomes of it. Watches stream, and a connection that is cut is cut, without an answer.

using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

/// <summary>Called for each request before it is forwarded. What it returns is the answer: that of `forward` (called,
/// changed or ignored), one of its own, or null to cut the connection without one.</summary>
delegate Task<HttpResponseMessage?> Fault(HttpRequestMessage request, Func<Task<HttpResponseMessage>> forward);

sealed class FaultProxy : IDisposable
{
    readonly TcpListener listener = new(IPAddress.Loopback, 0);
    readonly ConcurrentDictionary<TcpClient, bool> connections = [];
    readonly HttpMessageInvoker upstream;
    readonly Uri server;

    /// <summary>Listens at once; `Address` is the operator's API server.</summary>
    public FaultProxy(SandboxClient api)
    {
        (server, upstream) = (api.Server, new HttpMessageInvoker(api.Handler()));
        listener.Start();
        Address = $"http://{listener.LocalEndpoint}/";
        _ = Accept();
    }

    public string Address { get; }

    /// <summary>None at first.</summary>
    public Fault Fault { get; set; } = (_, forward) => forward()!;

    /// <summary>An answer in the form of the API server's own refusals.</summary>
    public static HttpResponseMessage Refusal(int code, string reason, string? retryAfter = null)
    {
        var answer = new HttpResponseMessage((HttpStatusCode)code)
        {
            Content = new StringContent($$"""
                {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": {{code}}, "reason": "{{reason}}",
                 "message": "{{reason}} by the test", "metadata": {} }
                """, Encoding.UTF8, "application/json"),
        };
        if (retryAfter is not null) answer.Headers.Add("Retry-After", retryAfter);
        return answer;
    }

    public static bool IsWrite(HttpRequestMessage request) => request.Method != HttpMethod.Get;

    /// <summary>Breaks all connections, the watches' among them.</summary>
    public void Cut()
    {
        foreach (var connection in connections.Keys) connection.Dispose();
    }

    async Task Accept()
    {
        try
        {
            while (true) _ = Serve(await listener.AcceptTcpClientAsync());
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Disposed of.
        }
    }

    async Task Serve(TcpClient connection)
    {
        connections[connection] = true;
        // Closed without a farewell.
        connection.LingerState = new LingerOption(true, 0);
        try
        {
            await using var stream = new BufferedStream(connection.GetStream(), 64 * 1024);
            while (await Read(stream) is { } request)
            {
                using var answer = await Fault(request, () => upstream.SendAsync(request, default));
                if (answer is null) break;
                await Write(answer, stream);
            }
        }
        catch (Exception e) when (e is IOException or HttpRequestException or ObjectDisposedException)
        {
            // One of the two sides has gone.
        }
        finally
        {
            connections.TryRemove(connection, out _);
            connection.Dispose();
        }
    }

    async Task<HttpRequestMessage?> Read(Stream stream)
    {
        if (await ReadLine(stream) is not { Length: > 0 } first) return null;
        var words = first.Split(' ');
        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        while (await ReadLine(stream) is { Length: > 0 } line)
            headers[line[..line.IndexOf(':')]] = line[(line.IndexOf(':') + 1)..].Trim();
        var request = new HttpRequestMessage(new HttpMethod(words[0]), new Uri(server, words[1]));
        if (headers.ContainsKey("Transfer-Encoding")) throw new IOException("Only bodies of known length are read");
        if (headers.TryGetValue("Content-Length", out var length))
        {
            var body = new byte[int.Parse(length)];
            await stream.ReadExactlyAsync(body);
            request.Content = new ByteArrayContent(body);
            request.Content.Headers.Add("Content-Type", headers["Content-Type"]);
        }
        foreach (var name in new[] { "Authorization", "Accept", "User-Agent" })
            if (headers.TryGetValue(name, out var value)) request.Headers.TryAddWithoutValidation(name, value);
        return request;
    }

    static async Task<string?> ReadLine(Stream stream)
    {
        var line = new List<byte>();
        var one = new byte[1];
        while (await stream.ReadAsync(one) == 1)
        {
            if (one[0] == '\n') return Encoding.ASCII.GetString([.. line]).TrimEnd('\r');
            line.Add(one[0]);
        }
        return null;
    }

    static async Task Write(HttpResponseMessage answer, Stream stream)
    {
        var head = new StringBuilder($"HTTP/1.1 {(int)answer.StatusCode} {answer.StatusCode}\r\n");
        foreach (var (name, values) in answer.Headers.Concat(answer.Content.Headers))
            if (name is not ("Transfer-Encoding" or "Content-Length" or "Connection"))
                head.Append(CultureInfo.InvariantCulture, $"{name}: {string.Join(", ", values)}\r\n");
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"{head}Transfer-Encoding: chunked\r\n\r\n"));
        await using var body = await answer.Content.ReadAsStreamAsync();
        var buffer = new byte[64 * 1024];
        int length;
        do
        {
            // Each piece at once: a watch has no end. The empty piece is the end of all others.
            await stream.FlushAsync();
            length = await body.ReadAsync(buffer);
            await stream.WriteAsync(Encoding.ASCII.GetBytes($"{length:x}\r\n"));
            await stream.WriteAsync(buffer.AsMemory(0, length));
            await stream.WriteAsync("\r\n"u8.ToArray());
        }
        while (length > 0);
        await stream.FlushAsync();
    }

    public void Dispose()
    {
        listener.Dispose();
        Cut();
        upstream.Dispose();
    }
}
