// An operator that has no file descriptor left.

using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Xunit;

namespace OMJobs.Tests.EndToEnd;

public sealed class DescriptorTests
{
    static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_health_port_outlives_a_time_without_free_file_descriptors()
    {
        using var config = new TestKubeconfig().With("server: https://127.0.0.1:1");
        await using var process = new OperatorProcess(config.Path);
        await Eventually.True("it has loaded what it needs to log a refused connection", () =>
            process.Log.Contains("times in a row", StringComparison.Ordinal));
        var open = Directory.GetFiles($"/proc/{process.Id}/fd").Length;
        var callers = new List<Socket>();
        try
        {
            await Limit(process.Id, open + 10);
            for (var i = 0; i < 40; i++)
            {
                callers.Add(new(SocketType.Stream, ProtocolType.Tcp));
                await callers[^1].ConnectAsync(IPAddress.Loopback, process.HealthPort, Stop);
            }
            await Eventually.True("it has none left", () =>
                process.Log.Contains("cannot accept", StringComparison.Ordinal), 60);
        }
        finally { callers.ForEach(caller => caller.Dispose()); }
        await Eventually.True("healthy again", async () => await process.Health("health") == HttpStatusCode.OK, 60);
        Assert.Equal(2, process.Log.Split("cannot accept").Length); // said once
    }

    static async Task Limit(int process, int descriptors)
    {
        using var limit = Process.Start("prlimit", [$"--pid={process}", $"--nofile={descriptors}:"]);
        await limit.WaitForExitAsync(Stop);
        Assert.Equal(0, limit.ExitCode);
    }
}
