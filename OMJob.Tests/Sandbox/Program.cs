// Serves the store on the port that is given, until SIGINT or SIGTERM; writes a kubeconfig.

using System.Runtime.InteropServices;
using OMJobs.Sandbox;

if (args is ["compare", var real, var mine, var requests])
{
    var list = await File.ReadAllTextAsync(requests);
    var expected = await Conformance.Run(await File.ReadAllTextAsync(real), list);
    var actual = await Conformance.Run(await File.ReadAllTextAsync(mine), list);
    var differences = Conformance.Compare(expected, actual);
    foreach (var difference in differences) Console.WriteLine(difference);
    Console.WriteLine($"{expected.Count} answers, {expected.Count(e => e.Omission is not null)} differ on purpose, " +
        $"{differences.Count} differences");
    return differences.Count == 0 ? 0 : 1;
}
if (args is not [var port, var kubeconfig, ..])
{
    Console.Error.WriteLine("usage: omjob-sandbox PORT KUBECONFIG [MANIFEST]...");
    return 2;
}
var store = new Store(TimeProvider.System, Random.Shared);
foreach (var manifest in args[2..]) store.Load(await File.ReadAllTextAsync(manifest));
await using var server = await ApiServer.Start(store, int.Parse(port, null));
await server.WriteKubeconfig(kubeconfig);
Console.WriteLine($"serving {server.Address}");
var stopped = new TaskCompletionSource();
void Stop(PosixSignalContext signal) { signal.Cancel = true; stopped.TrySetResult(); }
using var term = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
await stopped.Task;
return 0;
