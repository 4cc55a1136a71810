// A proxy of bytes between an operator and its API server: TLS passes through unread, so that HTTP/2 is in play. It
// does what networks do: cut a connection after any byte, swallow everything without a word, be slow, refuse.

using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

/// <summary>Up: from the operator to the API server.</summary>
enum Direction { Up, Down }

sealed class TcpProxy : IDisposable
{
    readonly Uri server;
    readonly TcpListener listener = new(IPAddress.Loopback, Port.Free());
    readonly ConcurrentDictionary<Connection, bool> connections = [];
    readonly Lock gate = new(); // guards the cuts and what counts towards it
    readonly LinkedList<(Direction Direction, long Bytes, bool Reset)> cuts = [];

    /// <summary>Listens at once; `Address` is the operator's API server.</summary>
    public TcpProxy(Uri server)
    {
        this.server = server;
        Address = $"{server.Scheme}://{listener.LocalEndpoint}/";
        Listen(true);
    }

    public string Address { get; }

    /// <summary>All that passed, in both directions.</summary>
    public (long Up, long Down) Passed { get; private set; }

    /// <summary>How often a connection was cut.</summary>
    public int Cuts { get; private set; }

    /// <summary>For each connection and direction; 0: as fast as it goes.</summary>
    public int BytesPerSecond { get; set; }

    /// <summary>New connections are half-open from their start: accepted, and never answered.</summary>
    public bool Stalls { get; set; }

    /// <summary>So many bytes in this direction after the cut that was asked for before, or from now on, the connection
    /// that carries them ends, by RST or FIN.</summary>
    public void CutAfter(Direction direction, long bytes, bool reset)
    {
        lock (gate) cuts.AddLast((direction, bytes, reset));
    }

    public void CutAll()
    {
        foreach (var connection in connections.Keys) connection.End(reset: true);
    }

    /// <summary>Half-open: what these connections carry is swallowed both ways, for ever, without FIN or RST.</summary>
    public void StallAll()
    {
        foreach (var connection in connections.Keys) connection.Stalled = true;
    }

    /// <summary>Whether somebody listens; else new connections are refused.</summary>
    public void Listen(bool listen)
    {
        if (!listen) listener.Stop();
        else
        {
            listener.Start();
            _ = Accept();
        }
    }

    async Task Accept()
    {
        try
        {
            while (true) _ = Serve(await listener.AcceptTcpClientAsync());
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Listens no more.
        }
    }

    async Task Serve(TcpClient near)
    {
        using var connection = new Connection(near, new TcpClient()) { Stalled = Stalls };
        connections[connection] = true;
        try
        {
            await connection.Far.ConnectAsync(server.Host, server.Port);
            await Task.WhenAny(Pump(connection, Direction.Up), Pump(connection, Direction.Down));
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The API server is not there, or this proxy is no more.
        }
        connections.TryRemove(connection, out _);
    }

    async Task Pump(Connection connection, Direction direction)
    {
        try
        {
            var (from, to) = (connection.Near.GetStream(), connection.Far.GetStream());
            if (direction == Direction.Down) (from, to) = (to, from);
            var buffer = new byte[16 * 1024];
            while (true)
            {
                var read = await from.ReadAsync(buffer.AsMemory(0, BytesPerSecond > 0 ? 256 : buffer.Length));
                if (read == 0) break;
                if (connection.Stalled) continue;
                var (passing, ends, reset) = Count(direction, read);
                await to.WriteAsync(buffer.AsMemory(0, passing));
                if (ends) connection.End(reset);
                if (BytesPerSecond > 0) await Task.Delay(TimeSpan.FromSeconds((double)read / BytesPerSecond));
            }
            // One side has said its last; what is swallowed is not told to the other either.
            if (connection.Stalled) await Task.Delay(Timeout.Infinite, connection.Gone);
        }
        catch (Exception e) when (e is IOException or InvalidOperationException or OperationCanceledException)
        {
            // One of the two sides has gone.
        }
    }

    /// <summary>How many of these bytes may pass, and whether the connection ends with them.</summary>
    (int Passing, bool Ends, bool Reset) Count(Direction direction, int bytes)
    {
        lock (gate)
        {
            var (ends, reset) = (false, false);
            if (cuts.First is { } next && next.Value.Direction == direction)
            {
                (ends, reset) = (next.Value.Bytes <= bytes, next.Value.Reset);
                if (ends)
                {
                    (bytes, Cuts) = ((int)next.Value.Bytes, Cuts + 1);
                    cuts.RemoveFirst();
                }
                else next.Value = next.Value with { Bytes = next.Value.Bytes - bytes };
            }
            Passed = direction == Direction.Up ? (Passed.Up + bytes, Passed.Down) : (Passed.Up, Passed.Down + bytes);
            return (bytes, ends, reset);
        }
    }

    public void Dispose()
    {
        listener.Dispose();
        CutAll();
    }

    sealed class Connection(TcpClient near, TcpClient far) : IDisposable
    {
        readonly CancellationTokenSource gone = new();

        public TcpClient Near => near;

        public TcpClient Far => far;

        public CancellationToken Gone => gone.Token;

        public bool Stalled { get; set; }

        public void End(bool reset)
        {
            // With a linger time of 0 closing sends RST, else FIN.
            if (reset) near.LingerState = far.LingerState = new LingerOption(true, 0);
            Dispose();
        }

        public void Dispose()
        {
            gone.Cancel();
            near.Dispose();
            far.Dispose();
        }
    }
}
