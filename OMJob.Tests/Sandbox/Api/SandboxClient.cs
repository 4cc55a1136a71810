// A small client of the Kubernetes API for the kubelet and the tests: paths and JSON in, JSON out. It shares nothing
// with the operator, so that a mistake there cannot hide here.

using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Runtime.CompilerServices;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json.Nodes;
using k8s;

namespace OMJobs.Sandbox;

/// <summary>An answer that is not a success: the status code and the API server's own words.</summary>
sealed class ApiException(HttpStatusCode code, string body) : Exception($"{(int)code}: {body}")
{
    public HttpStatusCode Code => code;

    /// <summary>The API server's message.</summary>
    public string Words => JsonNode.Parse(body).Text("message") ?? body;

    /// <summary>Whether it is the API's or the connection's trouble, and not a mistake in here.</summary>
    public static bool Passes(Exception e) => e is ApiException or HttpRequestException or TaskCanceledException;
}

/// <summary>One line of a watch: ADDED, MODIFIED or DELETED, and the object.</summary>
sealed record Notice(string Type, JsonObject Object)
{
    /// <summary>When it came.</summary>
    public DateTimeOffset At { get; } = DateTimeOffset.UtcNow;

    /// <summary>It fills a gap: there may have been other versions since the one before.</summary>
    public bool Late { get; init; }
}

/// <summary>The paths of the collections that the suite uses.</summary>
static class Paths
{
    public const string Namespaces = "/api/v1/namespaces";
    public const string Nodes = "/api/v1/nodes";

    public static string Core(string ns, string plural) => $"{Namespaces}/{ns}/{plural}";

    public static string Pods(string ns) => Core(ns, "pods");

    public static string Pod(string ns, string name) => $"{Pods(ns)}/{name}";

    public static string OMJobs(string ns) => $"/apis/pipelines.openmetadata.org/v1/namespaces/{ns}/omjobs";

    public static string OMJob(string ns, string name) => $"{OMJobs(ns)}/{name}";

    public static string CronOMJobs(string ns) => $"/apis/pipelines.openmetadata.org/v1/namespaces/{ns}/cronomjobs";

    public static string CronOMJob(string ns, string name) => $"{CronOMJobs(ns)}/{name}";
}

sealed class SandboxClient : IDisposable
{
    readonly KubernetesClientConfiguration config;
    readonly HttpClient http;

    public SandboxClient(string kubeconfig)
    {
        config = KubernetesClientConfiguration.BuildConfigFromConfigFile(kubeconfig);
        http = new HttpClient(Handler()) { BaseAddress = new Uri(config.Host), Timeout = Timeout.InfiniteTimeSpan };
        if (config.AccessToken is { } token) http.DefaultRequestHeaders.Authorization = new("Bearer", token);
    }

    public Uri Server => http.BaseAddress!;

    /// <summary>The cluster's own authorities, as PEM; empty where the machine's are meant.</summary>
    public string Authorities => config.SslCaCerts?.ExportCertificatePems() ?? "";

    /// <summary>A token of a service account, for an hour.</summary>
    public async Task<string> Token(string ns, string account)
    {
        var path = $"{Paths.Core(ns, "serviceaccounts")}/{account}/token";
        var request = new JsonObject
        {
            ["apiVersion"] = "authentication.k8s.io/v1",
            ["kind"] = "TokenRequest",
            ["spec"] = new JsonObject { ["expirationSeconds"] = 3600 },
        };
        return (await Create(path, request)).Text("status", "token")!;
    }

    /// <summary>A kubeconfig of who has that token, for this API server or for another address of it.</summary>
    public JsonObject Kubeconfig(string token, string? server = null)
    {
        var cluster = new JsonObject { ["server"] = server ?? Server.ToString() };
        if (server?.StartsWith("http:") != true)
        {
            cluster["certificate-authority-data"] = Convert.ToBase64String(Encoding.UTF8.GetBytes(Authorities));
            cluster["tls-server-name"] = Server.Host;
        }
        return new()
        {
            ["apiVersion"] = "v1",
            ["kind"] = "Config",
            ["clusters"] = new JsonArray(new JsonObject { ["name"] = "c", ["cluster"] = cluster }),
            ["users"] = new JsonArray(
                new JsonObject { ["name"] = "u", ["user"] = new JsonObject { ["token"] = token } }),
            ["contexts"] = new JsonArray(
                new JsonObject { ["name"] = "x", ["context"] = new JsonObject { ["cluster"] = "c", ["user"] = "u" } }),
            ["current-context"] = "x",
        };
    }

    /// <summary>A connection to this API server that trusts what this client trusts; it carries no token.</summary>
    public SocketsHttpHandler Handler()
    {
        var tls = new SslClientAuthenticationOptions();
        if (config.SslCaCerts is { Count: > 0 } authorities)
        {
            tls.CertificateChainPolicy = new()
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            tls.CertificateChainPolicy.CustomTrustStore.AddRange(authorities);
        }
        if (Pem(config.ClientCertificateData, config.ClientCertificateFilePath) is { } certificate)
        {
            var key = Pem(config.ClientCertificateKeyData, config.ClientKeyFilePath);
            tls.ClientCertificates = [X509Certificate2.CreateFromPem(certificate, key)];
        }
        return new SocketsHttpHandler { SslOptions = tls };
    }

    static string? Pem(string? base64, string? file) =>
        base64 is not null ? Encoding.UTF8.GetString(Convert.FromBase64String(base64))
        : file is not null ? File.ReadAllText(file) : null;

    public Task<JsonObject> Get(string path) => Send(HttpMethod.Get, path, null);

    /// <summary>The rows that `kubectl get -o wide` shows, each cell by its column.</summary>
    public async Task<Dictionary<string, JsonNode?>[]> Table(string path)
    {
        const string accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
        var table = JsonNode.Parse(await SendText(HttpMethod.Get, path, null, default, accept))!;
        var columns = table.Items("columnDefinitions").Select(column => column.Text("name")!);
        return [.. table.Items("rows").Select(row => columns.Zip((JsonArray)row["cells"]!).ToDictionary())];
    }

    /// <summary>The object, or null where the API server answers 404.</summary>
    public async Task<JsonObject?> Find(string path)
    {
        try
        {
            return await Get(path);
        }
        catch (ApiException e) when (e.Code == HttpStatusCode.NotFound)
        {
            return null;
        }
    }

    public async Task<List<JsonObject>> List(string path) => [.. (await Get(path)).Items("items")];

    public Task<JsonObject> Create(string path, JsonNode body) => Send(HttpMethod.Post, path, body);

    public Task<JsonObject> Replace(string path, JsonNode body) => Send(HttpMethod.Put, path, body);

    /// <summary>An array is a JSON patch, an object a merge patch.</summary>
    public Task<JsonObject> Patch(string path, JsonNode patch) => Send(HttpMethod.Patch, path, patch);

    /// <summary>Whether there was something to delete.</summary>
    public async Task<bool> Delete(string path, string? propagation = null, int? grace = null, string? uid = null)
    {
        var options = new JsonObject { ["apiVersion"] = "v1", ["kind"] = "DeleteOptions" };
        if (propagation is not null) options["propagationPolicy"] = propagation;
        if (grace is not null) options["gracePeriodSeconds"] = grace;
        if (uid is not null) options["preconditions"] = new JsonObject { ["uid"] = uid };
        try
        {
            await Send(HttpMethod.Delete, path, options);
            return true;
        }
        catch (ApiException e) when (e.Code is HttpStatusCode.NotFound or HttpStatusCode.Conflict)
        {
            return false;
        }
    }

    /// <summary>Creates every document of a YAML text, or merges it into the object that is there.</summary>
    public async Task Apply(IEnumerable<JsonObject> documents)
    {
        foreach (var document in documents)
        {
            var collection = await Collection(document);
            try
            {
                await Create(collection, document);
            }
            catch (ApiException e) when (e.Code == HttpStatusCode.Conflict)
            {
                await Patch($"{collection}/{document.Name()}", document);
            }
        }
    }

    /// <summary>The collection that an object belongs to, by the API server's discovery.</summary>
    async Task<string> Collection(JsonObject o)
    {
        var version = o.Text("apiVersion")!;
        var root = version.Contains('/') ? $"/apis/{version}" : $"/api/{version}";
        var resources = (await Get(root)).Items("resources");
        var resource = resources.First(r => r.Text("kind") == o.Text("kind") && !r.Text("name")!.Contains('/'));
        return (bool)resource["namespaced"]!
            ? $"{root}/namespaces/{o.Text("metadata", "namespace") ?? "default"}/{resource.Text("name")}"
            : $"{root}/{resource.Text("name")}";
    }

    /// <summary>What the collection holds, then what changes; a gap is filled by listing again.</summary>
    public async IAsyncEnumerable<Notice> Watch(
        string path, [EnumeratorCancellation] CancellationToken stop = default)
    {
        var known = new Dictionary<string, JsonObject>();
        string? version = null;
        while (true)
        {
            if (version is null)
            {
                if (await TryList(path, stop) is not { } list) continue;
                version = list.Text("metadata", "resourceVersion");
                var listed = list.Items("items").ToDictionary(o => o.Uid());
                foreach (var (uid, gone) in known.ToList())
                    if (!listed.ContainsKey(uid) && known.Remove(uid))
                        yield return new Notice("DELETED", gone) { Late = true };
                // The youngest last, as they came: of the pods of a job main, whose name is the greater one, was first.
                foreach (var (uid, o) in listed
                    .OrderBy(e => e.Value.Time("metadata", "creationTimestamp")).ThenByDescending(e => e.Value.Name()))
                {
                    // The items of a list do not say what they are.
                    o["kind"] = list.Text("kind")![..^"List".Length];
                    yield return new Notice(known.ContainsKey(uid) ? "MODIFIED" : "ADDED", o) { Late = true };
                    known[uid] = o;
                }
            }
            var join = path.Contains('?') ? '&' : '?';
            using var answer = await Open($"{path}{join}watch=1&allowWatchBookmarks=true&timeoutSeconds=200" +
                $"&resourceVersion={version}", stop);
            if (answer is null) version = null;
            while (answer is not null && await ReadLine(answer, stop) is { } line)
            {
                var change = JsonNode.Parse(line)!;
                var o = (JsonObject)change["object"]!;
                if (change.Text("type") is "ERROR")
                {
                    version = null;
                    break;
                }
                version = o.Text("metadata", "resourceVersion");
                if (change.Text("type") is "BOOKMARK") continue;
                if (change.Text("type") is "DELETED") known.Remove(o.Uid());
                else known[o.Uid()] = o;
                yield return new Notice(change.Text("type")!, o);
            }
        }
    }

    async Task<JsonObject?> TryList(string path, CancellationToken stop)
    {
        try
        {
            return await Send(HttpMethod.Get, path, null, stop);
        }
        catch (Exception e) when (ApiException.Passes(e))
        {
            await Task.Delay(TimeSpan.FromSeconds(1), stop);
            return null;
        }
    }

    async Task<StreamReader?> Open(string path, CancellationToken stop)
    {
        try
        {
            var answer = await http.GetAsync(path, HttpCompletionOption.ResponseHeadersRead, stop);
            return answer.IsSuccessStatusCode ? new StreamReader(await answer.Content.ReadAsStreamAsync(stop)) : null;
        }
        catch (HttpRequestException)
        {
            // Not there for now: taken up again from where it was.
            await Task.Delay(TimeSpan.FromMilliseconds(100), stop);
            return StreamReader.Null;
        }
    }

    static async Task<string?> ReadLine(StreamReader reader, CancellationToken stop)
    {
        try
        {
            return await reader.ReadLineAsync(stop);
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>An answer that is no JSON.</summary>
    public Task<string> GetText(string path) => SendText(HttpMethod.Get, path, null, default);

    async Task<JsonObject> Send(HttpMethod method, string path, JsonNode? body, CancellationToken stop = default) =>
        JsonNode.Parse(await SendText(method, path, body, stop))!.AsObject();

    async Task<string> SendText(
        HttpMethod method, string path, JsonNode? body, CancellationToken stop, string? accept = null)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(TimeSpan.FromSeconds(30));
        using var request = new HttpRequestMessage(method, path);
        if (accept is not null) request.Headers.Accept.ParseAdd(accept);
        if (body is not null)
        {
            request.Content = new StringContent(body.ToJsonString());
            request.Content.Headers.ContentType = new MediaTypeHeaderValue(
                method != HttpMethod.Patch ? "application/json"
                : body is JsonArray ? "application/json-patch+json" : "application/merge-patch+json");
        }
        using var answer = await http.SendAsync(request, deadline.Token);
        // A CRD that has changed is not served for a moment.
        if (answer is { StatusCode: HttpStatusCode.TooManyRequests, Headers.RetryAfter.Delta: { TotalSeconds: 1 } soon })
        {
            await Task.Delay(soon, deadline.Token);
            return await SendText(method, path, body, stop, accept);
        }
        var text = await answer.Content.ReadAsStringAsync(deadline.Token);
        return answer.IsSuccessStatusCode ? text : throw new ApiException(answer.StatusCode, text);
    }

    public void Dispose() => http.Dispose();
}
