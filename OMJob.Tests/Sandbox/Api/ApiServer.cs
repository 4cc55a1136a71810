// The store over HTTPS on 127.0.0.1, for kubectl and the operator: a CA and a token of its own, HTTP/1.1 and HTTP/2,
// watches as streams. Everything is in memory and gone when it stops.

using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace OMJobs.Sandbox;

/// <summary>Writes a pod's log: the pod, the request's query (container, follow, tailLines …), where to.</summary>
delegate Task PodLog(
    JsonObject pod, IReadOnlyDictionary<string, string> query, Stream output, CancellationToken stop);

sealed class ApiServer : IAsyncDisposable
{
    readonly X509Certificate2 authority = NewAuthority();
    readonly TimeSpan bookmarks;
    WebApplication app;
    CancellationTokenSource stop = new();
    // Completed and replaced by each write.
    volatile TaskCompletionSource changed = NewPulse();

    ApiServer(Store store, int port, TimeSpan bookmarks)
    {
        (Store, this.bookmarks) = (store, bookmarks);
        store.Changed += _ => Interlocked.Exchange(ref changed, NewPulse()).TrySetResult();
        app = NewApp(port);
    }

    WebApplication NewApp(int port)
    {
        var builder = WebApplication.CreateEmptyBuilder(new());
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = null; // the store says what is too large
            kestrel.Limits.Http2.MaxStreamsPerConnection = 1000;
            kestrel.Listen(IPAddress.Loopback, port, listen =>
            {
                listen.Protocols = HttpProtocols.Http1AndHttp2;
                listen.UseHttps(NewCertificate(authority));
            });
        });
        var built = builder.Build();
        built.Run(Answer);
        return built;
    }

    public Store Store { get; }

    /// <summary>What writes the logs of pods; without it they are empty.</summary>
    public PodLog Log { get; set; } = (_, _, _, _) => Task.CompletedTask;

    /// <summary>Told of each request before it is answered.</summary>
    public Action<HttpRequest>? Seen { get; set; }

    /// <summary>The token of the kubeconfig.</summary>
    public string AdminToken { get; } = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(20));

    /// <summary>The certificate that clients have to trust, as PEM.</summary>
    public string Authority => authority.ExportCertificatePem();

    public Uri Address { get; private set; } = null!;

    /// <summary>Listens at once, on any free port where none is given.</summary>
    public static async Task<ApiServer> Start(Store store, int port = 0, TimeSpan? bookmarks = null)
    {
        var server = new ApiServer(store, port, bookmarks ?? TimeSpan.FromMinutes(1));
        await server.app.StartAsync();
        var addresses = server.app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!;
        server.Address = new Uri(addresses.Addresses.First());
        return server;
    }

    /// <summary>A kubeconfig as YAML (JSON is YAML), for the administrator or for a token.</summary>
    public string Kubeconfig(string? token = null) => $$"""
        apiVersion: v1
        kind: Config
        current-context: sandbox
        clusters:
        - name: sandbox
          cluster:
            server: {{Address.ToString().TrimEnd('/')}}
            certificate-authority-data: {{Convert.ToBase64String(Encoding.ASCII.GetBytes(Authority))}}
        users:
        - name: sandbox
          user:
            token: {{token ?? AdminToken}}
        contexts:
        - name: sandbox
          context:
            cluster: sandbox
            user: sandbox
            namespace: default

        """;

    /// <summary>Writes the administrator's kubeconfig, readable by this user only.</summary>
    public async Task WriteKubeconfig(string path)
    {
        await File.WriteAllTextAsync(path, "");
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        await File.WriteAllTextAsync(path, Kubeconfig());
    }

    /// <summary>Breaks all connections and listens no more; what is stored stays.</summary>
    public async Task Stop()
    {
        await stop.CancelAsync();
        await app.StopAsync(new CancellationToken(canceled: true));
        await app.DisposeAsync();
        stop.Dispose();
    }

    /// <summary>Listens again at the same address, after Stop.</summary>
    public Task Restart()
    {
        stop = new();
        app = NewApp(Address.Port);
        return app.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await Stop();
        authority.Dispose();
    }

    static TaskCompletionSource NewPulse() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    // ----- requests

    async Task Answer(HttpContext context)
    {
        using var cut = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, stop.Token);
        try
        {
            Seen?.Invoke(context.Request);
            context.Response.Headers.Date = Store.Now.ToString("r");
            var response = User(context.Request) is { } user
                ? Handle(await Read(context.Request, user, cut.Token))
                : Refuse.With(401, "Unauthorized", "Unauthorized", null).Response;
            if (response.Watch is { } watch) await Stream(context, watch, cut.Token);
            else if (response.LogOf is { } pod) await WriteLog(context, pod, cut.Token);
            else await Write(context.Response, response, cut.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            context.Abort(); // the client has gone, or we are going
        }
    }

    ApiResponse Handle(ApiRequest request)
    {
        try
        {
            var response = Store.Handle(request);
            if (request.Method != "GET") Store.RunControllers();
            return response;
        }
#pragma warning disable CA1031 // A mistake of ours: the client is told, as by the real one.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return Refuse.With(500, "InternalError", $"Internal error occurred: {e}", null).Response;
        }
    }

    string? User(HttpRequest request)
    {
        if (request.Path.Value is "/healthz" or "/readyz" or "/livez" or "/version") return "anonymous";
        var token = request.Headers.Authorization.ToString();
        if (!token.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase)) return null;
        token = token["Bearer ".Length..].Trim();
        return token == AdminToken ? "admin" : Store.UserOf(token);
    }

    static async Task<ApiRequest> Read(HttpRequest request, string user, CancellationToken stop)
    {
        using var body = new MemoryStream();
        await request.Body.CopyToAsync(body, stop);
        var type = request.ContentType?.Split(';')[0].Trim() ?? "";
        return new ApiRequest(request.Method, request.Path.Value ?? "/")
        {
            Query = ApiRequest.ParseQuery(request.QueryString.Value ?? ""),
            Body = body.ToArray(),
            ContentType = type,
            Accept = request.Headers.Accept.ToString(),
            User = user,
        };
    }

    static async Task Write(HttpResponse target, ApiResponse response, CancellationToken stop)
    {
        target.StatusCode = response.Code;
        target.ContentType = response.PlainText is null ? "application/json" : "text/plain; charset=utf-8";
        if (response.Warning is { } warning) target.Headers.Append("Warning", $"299 - {Cause.Quote(warning)}");
        if (response.Body.Long("details", "retryAfterSeconds") is { } wait) target.Headers.RetryAfter = $"{wait}";
        var bytes = response.Bytes();
        target.ContentLength = bytes.Length;
        await target.Body.WriteAsync(bytes, stop);
    }

    // ----- streams

    /// <summary>Sends events as they come, until timeoutSeconds are over or an error event ends the watch.</summary>
    async Task Stream(HttpContext context, Watcher watch, CancellationToken stop)
    {
        var asked = context.Request.Query["timeoutSeconds"].ToString();
        var end = DateTime.UtcNow.AddSeconds(int.TryParse(asked, out var seconds) && seconds > 0 ? seconds : 1800);
        var bookmark = watch.Bookmarks ? DateTime.UtcNow + bookmarks : DateTime.MaxValue;
        var response = context.Response;
        response.ContentType = "application/json";
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        await response.StartAsync(stop);
        await response.Body.FlushAsync(stop);
        while (DateTime.UtcNow < end && !watch.Ended)
        {
            var next = changed.Task; // taken before looking, so that no write falls in between
            var any = false;
            for (; watch.Next() is { } change; any = true) await response.Body.WriteAsync(change.Line(), stop);
            if (DateTime.UtcNow >= bookmark)
            {
                await response.Body.WriteAsync(watch.Bookmark().Line(), stop);
                (any, bookmark) = (true, DateTime.UtcNow + bookmarks);
            }
            if (any) await response.Body.FlushAsync(stop);
            var until = (end < bookmark ? end : bookmark) - DateTime.UtcNow;
            if (until <= TimeSpan.Zero || watch.Ended) continue;
            try { await next.WaitAsync(until + TimeSpan.FromMilliseconds(1), stop); }
            catch (TimeoutException) { } // time for a bookmark, or to end
        }
    }

    async Task WriteLog(HttpContext context, JsonObject pod, CancellationToken stop)
    {
        context.Response.ContentType = "text/plain";
        await context.Response.StartAsync(stop);
        await Log(pod, context.Request.Query.ToDictionary(q => q.Key, q => q.Value.ToString()),
            context.Response.Body, stop);
    }

    // ----- certificates, which live as long as this process

    static X509Certificate2 NewAuthority()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=omjob-sandbox", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(
            X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(365));
    }

    static X509Certificate2 NewCertificate(X509Certificate2 authority)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=127.0.0.1", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new("1.3.6.1.5.5.7.3.1")], false));
        using var signed = request.Create(
            authority, authority.NotBefore, authority.NotAfter, RandomNumberGenerator.GetBytes(16));
        using var whole = signed.CopyWithPrivateKey(key);
        // Some platforms use only keys that were imported.
        return X509CertificateLoader.LoadPkcs12(whole.Export(X509ContentType.Pfx), null);
    }
}
