// Where the cluster is, and who we are there.

using System.Security.Cryptography.X509Certificates;
using System.Text;
using k8s;
using k8s.Authentication;
using k8s.KubeConfigModels;
using YamlDotNet.RepresentationModel;

namespace OMJobs;

/// <summary>Where the cluster is, who we are there. Configuration and credentials are the client package's.</summary>
sealed record Kubeconfig(string Server, ServiceClientCredentials? Credentials)
{
    const string ServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount";
    /// <summary>The cluster's own authorities; null: the system's.</summary>
    public X509Certificate2Collection? Authorities { get; init; }
    public X509Certificate2? ClientCertificate { get; init; }
    /// <summary>What follows the client certificate in its file: the authorities between it and the root.</summary>
    public X509Certificate2Collection ClientChain { get; init; } = [];
    /// <summary>Credentials that have nothing cached (W7); null: no plugin gives them.</summary>
    public Func<ServiceClientCredentials>? Renew { get; init; }
    public string? TlsServerName { get; init; }
    public bool SkipTlsVerify { get; init; }
    /// <summary>The files that it was read from, and what they held.</summary>
    public IReadOnlyDictionary<string, string> Files { get; init; } = new Dictionary<string, string>();
    /// <summary>Reads all of it anew. Throws KubeconfigException.</summary>
    public Func<Kubeconfig>? Again { get; init; }
    /// <summary>Whether a file holds something else by now; one that is empty is being written. By content, for mounted
    /// files are links that are swapped.</summary>
    public bool HasChanged =>
        Files.Any(file => File.ReadAllText(file.Key) is { Length: > 0 } text && text != file.Value);

    /// <summary>Nothing of what the files hold.</summary>
    public override string ToString() => Server;

    /// <summary>In-cluster if no path is given and we are in a pod, else a file. Throws KubeconfigException.</summary>
    public static Kubeconfig Load(string? path, string? context)
    {
        if (path is null && KubernetesClientConfiguration.IsInCluster())
            return InCluster(KubernetesClientConfiguration.InClusterConfig().Host, ServiceAccount);
        var file = path;
        file ??= Environment.GetEnvironmentVariable("KUBECONFIG") is { Length: > 0 } variable ? variable
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".kube", "config");
        if (path is null && file.Contains(Path.PathSeparator))
            throw new KubeconfigException("KUBECONFIG names several files: give one with --kubeconfig");
        if (path is null && !File.Exists(file))
            throw new KubeconfigException($"no service account of a pod here and no {file}: give --kubeconfig");
        return From(file, read => FromKubeconfig(Path.GetFullPath(file), context, read));
    }

    /// <summary>With the token and the authorities of a directory, where the kubelet renews them.</summary>
    internal static Kubeconfig InCluster(string host, string directory) =>
        // The package would read the token again by the wall clock, which may be set back.
        From(directory, read => new(host.TrimEnd('/'), Token(read(Path.Combine(directory, "token"))))
        {
            Authorities = Bundle(read(Path.Combine(directory, "ca.crt"))),
        });

    /// <summary>Takes down what is read, so that a change shows, also one that comes while it is read.</summary>
    static Kubeconfig From(string file, Func<Func<string, string>, Kubeconfig> load)
    {
        var files = new Dictionary<string, string>();
        try
        {
            return load(path => files[path] = File.ReadAllText(path)) with
            {
                Files = files,
                Again = () => From(file, load),
            };
        }
#pragma warning disable CA1031 // Whatever the package, YAML or a plugin throws: whoever starts us must see which file.
        catch (Exception e) when (e is not KubeconfigException)
#pragma warning restore CA1031
        {
            throw new KubeconfigException($"{file}: {e.Message.Split('\n')[0].Trim()}");
        }
    }

    static Kubeconfig FromKubeconfig(string path, string? context, Func<string, string> read)
    {
        var yaml = new YamlStream();
        yaml.Load(new StringReader(read(path)));
        if (yaml.Documents is not [{ RootNode: YamlMappingNode root }, ..])
            throw new KubeconfigException($"{path}: no kubeconfig");
        context ??= Scalar(root, "current-context")
            ?? throw new KubeconfigException($"{path}: no current-context; give one with --context");
        var chosen = Named(root, "contexts", "context", context)
            ?? throw new KubeconfigException($"{path}: no context '{context}'");
        var cluster = Named(root, "clusters", "cluster", Scalar(chosen, "cluster"))
            ?? throw new KubeconfigException($"{path}: context '{context}' names no cluster of this file");
        var user = Named(root, "users", "user", Scalar(chosen, "user"));
        if (user is null && Scalar(chosen, "user") is not null)
            throw new KubeconfigException($"{path}: context '{context}' names no user of this file");
        if (Scalar(cluster, "proxy-url") is not null)
            throw new KubeconfigException($"{path}: proxy-url is not supported: connect to the API server directly");
        return FromKubeconfig(path, cluster, user, read);
    }

    static Kubeconfig FromKubeconfig(
        string path, YamlMappingNode cluster, YamlMappingNode? user, Func<string, string> read)
    {
        // All files are read here: the package reads one certificate of a bundle, no tokenFile, and nothing again.
        string? Beside(YamlMappingNode? node, string key) =>
            Scalar(node, key) is { } name ? read(Path.Combine(Path.GetDirectoryName(path)!, name)) : null;
        string? Pem(YamlMappingNode? node, string key) => Decode(Scalar(node, key + "-data")) ?? Beside(node, key);
        var credentials = OfUser(user);
        var config = Configuration(path, cluster, credentials);
        // A plugin's certificate comes from the package.
        var certificate = Decode(config.ClientCertificateData) ?? Pem(user, "client-certificate");
        var key = Decode(config.ClientCertificateKeyData) ?? Pem(user, "client-key");
        var token = Beside(user, "tokenFile");
        return new(config.Host.TrimEnd('/'), token is null ? Kubernetes.CreateCredentials(config) : Token(token))
        {
            Authorities = Pem(cluster, "certificate-authority") is { } authorities ? Bundle(authorities) : null,
            ClientCertificate = certificate is null ? null : X509Certificate2.CreateFromPem(certificate, key),
            ClientChain = Chain(certificate),
            Renew = token is null && config.TokenProvider is not null && credentials?.ExternalExecution is { } exec
                ? () => new TokenCredentials(new ExecTokenProvider(exec)) : null,
            TlsServerName = string.IsNullOrEmpty(config.TlsServerName) ? null : config.TlsServerName,
            SkipTlsVerify = config.SkipTlsVerify,
        };
    }

    /// <summary>What the package makes of what was chosen. It would also match names without case, and wants
    /// credentials of every user. It runs the plugin, if there is one.</summary>
    static KubernetesClientConfiguration Configuration(
        string path, YamlMappingNode cluster, UserCredentials? credentials)
    {
        var user = credentials is null ? null : "u";
        var endpoint = new ClusterEndpoint
        {
            Server = Scalar(cluster, "server"),
            TlsServerName = Scalar(cluster, "tls-server-name"),
            SkipTlsVerify = Scalar(cluster, "insecure-skip-tls-verify") == "true",
        };
        return KubernetesClientConfiguration.BuildConfigFromConfigObject(new K8SConfiguration
        {
            FileName = path,
            CurrentContext = "x",
            Contexts = [new() { Name = "x", ContextDetails = new() { Cluster = "c", User = user } }],
            Clusters = [new() { Name = "c", ClusterEndpoint = endpoint }],
            Users = [new() { Name = "u", UserCredentials = credentials }],
        });
    }

    /// <summary>Null for a user without any that the package is asked for.</summary>
    static UserCredentials? OfUser(YamlMappingNode? user)
    {
        string[] known = ["token", "username", "exec"];
        return !known.Any(key => Child(user, key) is not null) ? null : new()
        {
            Token = Scalar(user, "token"),
            UserName = Scalar(user, "username"),
            Password = Scalar(user, "password"),
            ExternalExecution = Child(user, "exec") is not YamlMappingNode exec ? null : new()
            {
                ApiVersion = Scalar(exec, "apiVersion"),
                Command = Scalar(exec, "command"),
                Arguments = [.. Items(exec, "args").OfType<YamlScalarNode>().Select(a => Quote(a.Value ?? ""))],
                EnvironmentVariables = [.. Items(exec, "env").Select(Variable)],
            },
        };
    }

    static TokenCredentials Token(string text) => text.Trim() is { Length: > 0 } token
        ? new(token) : throw new InvalidDataException("the token file is empty");

    static X509Certificate2Collection Bundle(string pem)
    {
        var authorities = new X509Certificate2Collection();
        authorities.ImportFromPem(pem);
        return authorities is not [] ? authorities
            : throw new InvalidDataException("no certificate in the certificate authority");
    }

    static string? Decode(string? data) =>
        string.IsNullOrEmpty(data) ? null : Encoding.UTF8.GetString(Convert.FromBase64String(data));

    static X509Certificate2Collection Chain(string? pem)
    {
        var all = new X509Certificate2Collection();
        all.ImportFromPem(pem);
        return [.. all.Skip(1)];
    }

    static string? Scalar(YamlNode? node, string key) =>
        Child(node, key) is YamlScalarNode { Value: { Length: > 0 } text } ? text : null;

    static Dictionary<string, string> Variable(YamlNode node) =>
        new() { ["name"] = Scalar(node, "name") ?? "", ["value"] = Scalar(node, "value") ?? "" };

    static YamlNode? Child(YamlNode? node, string key) =>
        (node as YamlMappingNode)?.Children.TryGetValue(new YamlScalarNode(key), out var value) is true ? value : null;

    static IEnumerable<YamlNode> Items(YamlNode node, string key) => Child(node, key) as YamlSequenceNode ?? [];

    static YamlMappingNode? Named(YamlMappingNode root, string list, string kind, string? name) => Child(
        Items(root, list).FirstOrDefault(i => Scalar(i, "name") == name), kind) as YamlMappingNode;

    /// <summary>The package joins a plugin's arguments with blanks.</summary>
    static string Quote(string argument) => argument.Length > 0 && !argument.AsSpan().ContainsAny(" \t\n\"")
        ? argument : $"\"{argument.Replace("\"", "\\\"", StringComparison.Ordinal)}\"";
}

/// <summary>Something in a kubeconfig, or in what it names, that whoever starts us must change.</summary>
sealed class KubeconfigException(string message) : Exception(message);
