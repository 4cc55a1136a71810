// The objects that are known, as the API server has told them.

namespace OMJobs;

/// <summary>The newest state of each object, whatever order it is told in. All that it hands out are values: what a
/// worker has been given nobody changes. <paramref name="passed"/> tells if a watch has come past a version.</summary>
abstract class ObjectCache(Func<CachedObject, bool> passed)
{
    /// <summary>Guards all, also what is kept beside the objects.</summary>
    protected Lock Gate { get; } = new();
    protected Dictionary<Key, CachedObject> Objects { get; } = [];

    public Key[] Keys { get { lock (Gate) return [.. Objects.Keys]; } }

    public virtual CachedObject? Get(Key key)
    {
        lock (Gate) return Objects.GetValueOrDefault(key) is { } cached and not Tombstone ? cached : null;
    }

    /// <summary>What is to be reconciled when it changes; null: it itself. Under the lock, as all below.</summary>
    protected abstract Key? OwnerOf(CachedObject o);

    /// <summary>What is kept of a new state.</summary>
    protected abstract CachedObject Keep(CachedObject? before, CachedObject after);

    /// <summary>Something has changed; after is a Tombstone where it has gone, kept only if it was there.</summary>
    protected abstract void Changed(CachedObject? before, CachedObject after);

    /// <summary>Takes what the API server says of an object, by watch, list or answer, unless something newer is known.
    /// ReadAt: when the request was sent that it answers; isThere: nothing that was told by watch came after.</summary>
    public void Upsert(CachedObject seen, bool deleted = false, DateTimeOffset? readAt = null, bool isThere = false)
    {
        lock (Gate)
        {
            var cached = Objects.GetValueOrDefault(seen.Key);
            // W8: what the watch has come past and is not there has gone: an answer that comes late does not revive it.
            if ((cached is Tombstone || (cached is null && readAt is not null)) && !isThere && passed(seen)) return;
            deleted |= seen.IsGone; // the answer to a write that lets an object go bears the version before it
            var same = cached is not Tombstone && cached?.ResourceVersion == seen.ResourceVersion;
            if (same && readAt is not null) Objects[seen.Key] = cached = cached!.Merge(cached, readAt);
            if (cached is not null && !Versions.IsNewer(seen.ResourceVersion, cached.ResourceVersion)
                && !(deleted && same)) return;
            if (!deleted) Put(cached, seen.Merge(cached, readAt));
            else if (cached is not null) Put(cached, TombstoneOf(cached, seen));
            else Changed(null, TombstoneOf(seen with { OwnerKey = OwnerOf(seen) }, seen)); // nothing to replace
        }
    }

    /// <summary>The object is gone, if it is still this one (D2) and nothing newer has come since.</summary>
    public void Remove(CachedObject gone)
    {
        lock (Gate)
            if (Objects.GetValueOrDefault(gone.Key) is { } cached and not Tombstone && cached.Uid == gone.Uid)
                Put(cached, TombstoneOf(cached, cached));
    }

    /// <summary>What a list of that version should have had and had not is gone.</summary>
    public void Replace(Reflector reflector, HashSet<Key> listed, string version)
    {
        lock (Gate)
            foreach (var cached in Objects.Values.Where(h => h.Key.Resource == reflector.Resource && h is not Tombstone
                && reflector.Covers(h.Namespace) && !listed.Contains(h.Key)
                && !Versions.IsNewer(h.ResourceVersion, version)).ToArray())
                Put(cached, TombstoneOf(cached, cached));
    }

    public virtual void Clear() { lock (Gate) Objects.Clear(); }

    static Tombstone TombstoneOf(CachedObject cached, CachedObject seen) =>
        new() { Key = cached.Key, Uid = seen.Uid, ResourceVersion = seen.ResourceVersion, OwnerKey = cached.OwnerKey };

    void Put(CachedObject? before, CachedObject after)
    {
        if (OwnerOf(after) is { } owner) after = after with { OwnerKey = owner };
        if (before is not null) after = after with { Key = before.Key }; // one text, not two that are alike
        after = Objects[after.Key] = Keep(before, after);
        Changed(before, after);
    }
}
