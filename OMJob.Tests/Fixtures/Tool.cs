// Programs of others that a test goes by; it is skipped where they are not installed.

using System.Diagnostics;
using Xunit;

namespace OMJobs.Tests;

static class Tool
{
    public static Task<(int Code, string Output, string Errors)> Run(
        string name, string[] arguments, params (string Name, string Value)[] variables) =>
        Run(name, arguments, "", variables);

    /// <summary>Runs it from the repository's root, with this on its standard input and these variables; returns its exit
    /// code and what it wrote.</summary>
    public static async Task<(int Code, string Output, string Errors)> Run(
        string name, string[] arguments, string input, params (string Name, string Value)[] variables)
    {
        var start = new ProcessStartInfo(name, arguments)
        {
            WorkingDirectory = Sandbox.Repository.File(""),
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (variable, value) in variables) start.Environment[variable] = value;
        using var process = new Process { StartInfo = start };
        try { process.Start(); }
        catch (System.ComponentModel.Win32Exception) { Assert.Skip($"{name} is not installed"); }
        var output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        var errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, await output, await errors);
    }
}
