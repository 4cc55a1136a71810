// Lists and watches.

namespace OMJobs;

/// <summary>A list and watch of one resource, in one namespace or in all (empty).</summary>
sealed class Reflector(Resource resource, string ns, string query = "")
{
    public Resource Resource => resource;
    /// <summary>With a query to which parameters can be added.</summary>
    public string Path { get; } = $"{resource.Path(ns)}?{query}";
    public string Namespace => ns;
    /// <summary>What to log where the API server does not serve it, or not to us; null: it is needed.</summary>
    public string? WhenAbsent { get; init; }
    public bool Covers(string name) => ns.Length == 0 || ns == name;
    public bool IsPast(CachedObject seen) => seen.Key.Resource == resource && Covers(seen.Namespace)
        && Version is { } version && !Versions.IsNewer(seen.ResourceVersion, version);
    /// <summary>All that was there has been told, since the start or since the cache was dropped.</summary>
    public bool Listed { get; set; }
    /// <summary>Objects in a page of a list: it grows and shrinks with what they have in bytes.</summary>
    public int PageSize { get; set; } = FirstPage;
    public const int FirstPage = 10;
    /// <summary>Where to go on from; null: list first.</summary>
    public string? Version { get; set; }
    /// <summary>The newest version that was told, in answers too; one that is lost in a race comes again.</summary>
    public string? Newest { get; set; }
    /// <summary>Ends the stream that is open, to list again.</summary>
    public CancellationTokenSource? Stream { get; set; }
    public bool Connected { get; set; }
    /// <summary>The stream has had a line, if only a bookmark.</summary>
    public bool Told { get; set; }
    /// <summary>Streams in a row that lasted and had none.</summary>
    public int Silent { get; set; }
    /// <summary>From where on nothing was told, not even a bookmark, for long (W9).</summary>
    public string? Untold { get; set; }
    /// <summary>The API server said that it does not serve it, or not to us.</summary>
    public bool Absent { get; set; }
    /// <summary>Timestamps: the loop's last turn, the server's last word, the end of the last connection.</summary>
    public long LastTurn { get; set; }
    public long LastReceived { get; set; }
    /// <summary>The server's last word by its own clock, in seconds of the epoch; 0: never.</summary>
    public long LastEvent { get; set; }
    public long Disconnected { get; set; }
    public void Advance(string? version, long now, DateTimeOffset server)
    {
        (Version, LastReceived, LastEvent) = (version, now, server.ToUnixTimeSeconds());
        if (version is not null) Advance(version);
    }

    public void Advance(string version)
    {
        if (Newest is not { } newest || Versions.IsNewer(version, newest)) Newest = version;
    }

    public override string ToString() => $"{resource.Kind}s{(ns.Length == 0 ? "" : $" of namespace {ns}")}";
}

/// <summary>Splits a list into its items while it comes in: one of them is in memory at a time.</summary>
sealed class ListReader(ListReader.Item take)
{
    public delegate void Item(ReadOnlySpan<byte> json);
    enum At { Start, Fields, Items, Done }

    const int GoodPage = 4 << 20, MostItems = 1000; // bytes
    byte[] buffer = [];
    int length, items;
    long bytes;
    At at;
    JsonReaderState state = new(new() { MaxDepth = JsonReading.MostDepth });

    public ListMeta? Meta { get; private set; }

    /// <summary>Takes the next piece of the text. Throws JsonException where it is none.</summary>
    public void Feed(ReadOnlySpan<byte> piece)
    {
        var needed = length + piece.Length;
        if (buffer.Length < needed) Array.Resize(ref buffer, Math.Max(needed, 2 * length));
        piece.CopyTo(buffer.AsSpan(length));
        length += piece.Length;
        bytes += piece.Length;
        var reader = new Utf8JsonReader(buffer.AsSpan(0, length), isFinalBlock: false, state);
        var used = 0;
        while (at != At.Done && Step(ref reader)) (used, state) = ((int)reader.BytesConsumed, reader.CurrentState);
        buffer.AsSpan(used, length - used).CopyTo(buffer);
        length -= used;
    }

    /// <summary>Takes one field or item; false, and nothing is taken, where it is not there as a whole yet.</summary>
    bool Step(ref Utf8JsonReader reader)
    {
        if (!reader.Read()) return false;
        switch (at)
        {
            case At.Start when reader.TokenType != JsonTokenType.StartObject: throw new JsonException();
            case At.Start: at = At.Fields; break;
            case At.Fields when reader.TokenType == JsonTokenType.EndObject: at = At.Done; break;
            case At.Items when reader.TokenType == JsonTokenType.EndArray: at = At.Fields; break;
            case At.Fields:
                var (isMeta, isItems) = (reader.ValueTextEquals("metadata"u8), reader.ValueTextEquals("items"u8));
                if (!reader.Read()) return false;
                if (isItems && reader.TokenType == JsonTokenType.StartArray) { at = At.Items; break; }
                if (Value(ref reader) is not { } field) return false;
                if (isMeta) Meta = JsonSerializer.Deserialize(buffer.AsSpan(field), ApiJson.Default.ListMeta);
                break;
            default:
                if (Value(ref reader) is not { } item) return false;
                items++;
                take(buffer.AsSpan(item));
                break;
        }
        return true;
    }

    static Range? Value(ref Utf8JsonReader reader)
    {
        var start = (int)reader.TokenStartIndex;
        return reader.TrySkip() ? start..(int)reader.BytesConsumed : null;
    }

    /// <summary>The answer, as a fault where it is no whole list; what has come as a whole is taken only now.</summary>
    public Reply Read(Reply reply)
    {
        if (!reply.Ok) return reply;
        try { Feed(reply.Body); }
        catch (JsonException) { at = At.Start; }
        return at == At.Done && Meta?.ResourceVersion is not null ? reply
            : Reply.Failed("the list cannot be read");
    }

    /// <summary>How many of such objects make a good page; not many times more than were seen.</summary>
    public int NextPage(int asked) => items == 0 ? asked
        : (int)Math.Clamp(GoodPage / Math.Max(1, bytes / items), 1, Math.Min(8L * asked, MostItems));
}
