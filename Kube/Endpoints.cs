// /health, /ready and /metrics.

using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging;

namespace OMJobs;

/// <summary>
/// /health, /ready and /metrics, by hand: HttpListener throws on a pool thread if a probe comes while it starts, and
/// knows no IPv6.
/// </summary>
sealed class Endpoints : IDisposable
{
    /// <summary>Connections that are open at the same time, on each port.</summary>
    const int Places = 64;

    readonly Operator op;
    readonly TimeProvider time;
    readonly Metrics metrics;
    readonly ILogger log;
    readonly TcpListener[] listeners;
    readonly CancellationTokenSource disposed = new();

    /// <summary>Listens at once: throws SocketException where a port is taken.</summary>
    public Endpoints(Operator op, Settings settings, TimeProvider time, Metrics metrics, ILogger log)
    {
        (this.op, this.time, this.metrics, this.log) = (op, time, metrics, log);
        var all = Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any;
        var address = settings.AllAddresses ? all : IPAddress.Loopback;
        int[] ports = [settings.HealthPort, settings.MetricsPort];
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

    /// <summary>
    /// Who comes takes the place of who came 64 callers before, done or not. In a flood of callers that say little a
    /// probe, which says all at once, so has its answer; in a queue, or turned away, it would fail and we be killed.
    /// </summary>
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
                if (told is not { } at || Age(at) > TimeSpan.FromMinutes(10))
                {
                    log.LogWarning("Endpoints: cannot accept a connection: {Words}", e.Message);
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
        "/health" => Say(Unhealthy()),
        "/ready" => Say(Unready()),
        "/metrics" => (200, metrics.Render(op.Gauges())),
        _ => (404, "not found\n"),
    };

    static (int, string) Say(string? problem) => problem is null ? (200, "ok\n") : (503, problem + "\n");

    /// <summary>
    /// Null while the loop turns, for a watch or list lasts 210 s at most, and gets somewhere: a new process reads all
    /// configuration again. A refusal is healthy, for a new process would hear the same.
    /// </summary>
    string? Unhealthy()
    {
        if (op.Reflectors.Exists(w => w.LastTurn != 0 && Age(w.LastTurn) > TimeSpan.FromMinutes(6)))
            return "a watch has stopped turning";
        return Age(op.Answered) <= TimeSpan.FromMinutes(10) ? null
            : "for 10 minutes the API server has answered nothing but 401 or 5xx, if at all; the last answer: "
                + (op.LastCode == 0 ? "none" : op.LastCode);
    }

    /// <summary>Null while the caches are synced and the watches are fresh (W5).</summary>
    string? Unready()
    {
        if (op.Reflectors.Count == 0) return "nothing is listed yet";
        if (op.Reflectors.Find(w => !w.Listed && !w.Absent) is { } missing) return $"{missing} are not listed yet";
        var needed = op.Reflectors.Where(w => !w.Absent);
        return needed.Any(w => !w.Connected && Age(w.Disconnected == 0 ? w.LastReceived : w.Disconnected) > TimeSpan.FromSeconds(15)
            || Age(w.LastReceived) > TimeSpan.FromSeconds(210)) ? "a watch is silent" : null;
    }

    TimeSpan Age(long timestamp) => time.GetElapsedTime(timestamp);

    public void Dispose()
    {
        disposed.Cancel();
        foreach (var listener in listeners) listener.Dispose();
        disposed.Dispose();
    }
}
