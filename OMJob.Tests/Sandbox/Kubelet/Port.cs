// Ports for programs that listen.

using System.Net;
using System.Net.Sockets;

namespace OMJobs.Sandbox;

/// <summary>Ports that nobody has: below those that the system gives to outgoing connections.</summary>
static class Port
{
    static int next = Random.Shared.Next(12000, 30000);

    public static int Free()
    {
        while (true)
        {
            var port = Interlocked.Increment(ref next);
            // A listener of ours would tell, too, but a process that another test starts then inherits it until its exec.
            try { new TcpClient(IPAddress.Loopback.ToString(), port).Dispose(); }
            catch (SocketException) { return port; }
        }
    }
}
