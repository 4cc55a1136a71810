// What the process takes.

using System.Diagnostics;
using System.Globalization;

namespace OMJobs;

/// <summary>The process_* metrics of Prometheus' client libraries.</summary>
static class ProcessMetrics
{
    const string Cpu = "process_cpu_seconds_total", Resident = "process_resident_memory_bytes",
        Virtual = "process_virtual_memory_bytes", Start = "process_start_time_seconds", Open = "process_open_fds",
        MostOpen = "process_max_fds";

    public static readonly (string Name, string Type, string Help)[] All =
    [
        (Cpu, "counter", "Processor time, user and system, in seconds."),
        (Resident, "gauge", "Resident memory in bytes."),
        (Virtual, "gauge", "Virtual memory in bytes."),
        (Start, "gauge", "When the process started, in seconds since the epoch."),
        (Open, "gauge", "Open file descriptors."),
        (MostOpen, "gauge", "How many file descriptors may be open."),
    ];

    public static List<(string Name, string Labels, double Value)> Now()
    {
        using var me = Process.GetCurrentProcess();
        List<(string, string, double)> values =
        [
            (Cpu, "", me.TotalProcessorTime.TotalSeconds), (Resident, "", me.WorkingSet64),
            (Virtual, "", me.VirtualMemorySize64),
            (Start, "", new DateTimeOffset(me.StartTime).ToUnixTimeMilliseconds() / 1000.0),
        ];
        const string most = "Max open files";
        try
        {
            values.Add((Open, "", Directory.GetFileSystemEntries("/proc/self/fd").Length));
            var limit = File.ReadLines("/proc/self/limits").First(l => l.StartsWith(most, StringComparison.Ordinal));
            var soft = limit[most.Length..].Trim().Split(' ')[0]; // "unlimited" is no number
            if (double.TryParse(soft, CultureInfo.InvariantCulture, out var n)) values.Add((MostOpen, "", n));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // no Linux, or not all of it
        return values;
    }
}
