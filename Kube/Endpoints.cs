// /health, /ready and /metrics.

using System.Net;
using System.Net.Sockets;
using System.Text;

namespace OMJobs;

/// <summary>/health, /ready and /metrics, by hand: HttpListener throws on a pool thread if a probe comes while it
/// starts, and knows no IPv6.</summary>
sealed class Endpoints : IDisposable
{
    /// <summary>Connections that are open at the same time, on each port.</summary>
    const int Places = 64;

    readonly TimeProvider time;
    readonly ILogger log;
    readonly TcpListener[] listeners;
    readonly CancellationTokenSource disposed = new();

    public required Func<string?> Health { get; init; }
    public required Func<string?> Readiness { get; init; }
    public required Func<string> Metrics { get; init; }

    /// <summary>Listens at once, on all addresses or on loopback only: throws SocketException where a port is taken. Of
    /// health and readiness null is good; else it is what is wrong.</summary>
    public Endpoints(int[] ports, bool allAddresses, TimeProvider time, ILogger log)
    {
        (this.time, this.log) = (time, log);
        var all = Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any;
        var address = allAddresses ? all : IPAddress.Loopback;
        listeners = [.. ports.Where(p => p != 0).Distinct().Select(port => new TcpListener(address, port))];
        foreach (var listener in listeners)
        {
            if (address.Equals(IPAddress.IPv6Any)) listener.Server.DualMode = true;
            listener.Start();
            log.LogInformation("Serving /health, /ready and /metrics on {Address}", listener.LocalEndpoint);
        }
    }

    /// <summary>Answers until disposed.</summary>
    public Task Serve() => Task.WhenAll(listeners.Select(Serve));

    /// <summary>Who comes takes the place of who came 64 callers before, done or not. In a flood of callers that say
    /// little a probe, which says all at once, so has its answer; in a queue, or turned away, it would fail and we be
    /// killed.</summary>
    async Task Serve(TcpListener listener)
    {
        var (callers, told, stop) = (new Socket?[Places], (long?)null, disposed.Token);
        for (var place = 0; ;)
        {
            try
            {
                var caller = await listener.AcceptSocketAsync(stop);
                callers[place]?.Dispose();
                callers[place] = caller;
                place = (place + 1) % Places;
                _ = Serve(caller);
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or InvalidOperationException)
            {
                if (stop.IsCancellationRequested) return;
                // Out of file descriptors, say: callers wait until there is one again.
                if (told is not { } at || time.GetElapsedTime(at) > TimeSpan.FromMinutes(10))
                {
                    log.LogWarning("Endpoints: cannot accept a connection: {Reason}", e.Message);
                    told = time.GetTimestamp();
                }
                await Task.Delay(TimeSpan.FromMilliseconds(100), stop).Quietly();
            }
        }
    }

    async Task Serve(Socket caller)
    {
        try
        {
            using var connection = caller;
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5));
            var (buffer, length) = (new byte[8192], 0);
            while (length < buffer.Length && buffer.AsSpan(0, length).IndexOf("\r\n\r\n"u8) < 0)
            {
                var read = await caller.ReceiveAsync(buffer.AsMemory(length), limit.Token);
                if (read == 0) return;
                length += read;
            }
            var request = Encoding.ASCII.GetString(buffer, 0, length).Split(' ', 3);
            var (code, text) = Answer(request is ["GET", var target, _] ? target.Split('?')[0] : null);
            var body = Encoding.UTF8.GetBytes(text);
            var head = $"HTTP/1.1 {code} {(HttpStatusCode)code}\r\nContent-Length: {body.Length}\r\n"
                + "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nConnection: close\r\n\r\n";
            await using var stream = new NetworkStream(caller);
            await stream.WriteAsync((byte[])[.. Encoding.ASCII.GetBytes(head), .. body], limit.Token);
        }
        // The caller is gone, slow, or has lost its place.
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException
            or ObjectDisposedException)
        { }
    }

    (int, string) Answer(string? path) => path switch
    {
        "/health" => Say(Health()),
        "/ready" => Say(Readiness()),
        "/metrics" => (200, Metrics()),
        _ => (404, "not found\n"),
    };

    static (int, string) Say(string? problem) => problem is null ? (200, "ok\n") : (503, problem + "\n");

    public void Dispose()
    {
        disposed.Cancel();
        foreach (var listener in listeners) listener.Dispose();
        disposed.Dispose();
    }
}
