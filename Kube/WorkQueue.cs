// The keys that wait for a worker.

using System.Threading.Channels;

namespace OMJobs;

/// <summary>Holds a key at most once, never hands out one that is being worked on, and can wake a key at a time. A key
/// added while it is worked on comes back after Done. Namespaces take turns, and none comes before the others: it might
/// for ever. Of each the urgent ones come first: what has begun, before what is new. As many keys as there are workers
/// are worked on at once. One that takes longer than a second counts for its own namespace only: a namespace in which
/// every request takes its time holds up no other one, as long as fewer of them are slow than there are
/// workers.</summary>
sealed class WorkQueue(TimeProvider time, Metrics? metrics = null, string name = "")
{
    static readonly TimeSpan Slow = TimeSpan.FromSeconds(1);

    /// <summary>Of its metrics.</summary>
    public string Label { get; } = Metrics.Label("name", name);
    /// <summary>Set before the first key is taken.</summary>
    public int Workers { get; set; } = int.MaxValue;

    sealed class Slot(Key key, long number) : IComparable<Slot>
    {
        public readonly Key Key = key;
        public bool Ready, Urgent, Working, Slow, Again;
        public long Since; // timestamp of the Add that it is worked on for
        public long Taken; // timestamp
        public long Wake = long.MaxValue; // timestamp
        public int CompareTo(Slot? other) => (Wake, number).CompareTo((other!.Wake, other.Number));
        long Number => number;
    }

    /// <summary>The keys of a namespace that wait for a worker; one that became urgent is in both.</summary>
    sealed class Lane(string ns)
    {
        public readonly string Namespace = ns;
        public readonly Queue<Slot> Urgent = [], Others = [];
        public int Working;
        public bool Waiting; // for its turn
    }

    readonly Lock gate = new();
    readonly Dictionary<Key, Slot> slots = [];
    readonly Dictionary<string, Lane> lanes = []; // by namespace
    readonly Queue<Lane> turns = []; // those that have keys
    readonly Queue<(Slot Slot, long Taken)> prompt = []; // worked on since then; those that are done are passed by
    readonly Channel<bool> news = Channel.CreateBounded<bool>(1); // there may be a key to take
    readonly SortedSet<Slot> timers = []; // those that have a Wake
    readonly Channel<bool> sooner = Channel.CreateBounded<bool>(1);
    int working, slow;
    long made;

    /// <summary>What is remembered: nothing but memory shows a leak.</summary>
    internal (int Keys, int Times, int Others) Remembered
    {
        get { lock (gate) return (slots.Count, timers.Count, lanes.Count + turns.Count + prompt.Count); }
    }

    public int Depth { get { lock (gate) return slots.Values.Count(s => s.Ready); } }

    public void Add(Key key, bool first = false)
    {
        lock (gate)
        {
            var slot = SlotOf(key);
            if (slot.Working) slot.Again = true;
            if (slot.Working || (slot.Ready && (slot.Urgent || !first))) return;
            if (!slot.Ready)
            {
                slot.Since = time.GetTimestamp();
                metrics?.Count(Metrics.Adds, Label);
            }
            (slot.Ready, slot.Urgent) = (true, first);
            var lane = LaneOf(key);
            (first ? lane.Urgent : lane.Others).Enqueue(slot);
            if (!lane.Waiting) turns.Enqueue(lane);
            lane.Waiting = true;
            news.Writer.TryWrite(true);
        }
    }

    /// <summary>Wakes the key then, or at an earlier time that was set; not if it is taken before.</summary>
    public void AddAfter(Key key, TimeSpan delay)
    {
        if (delay <= TimeSpan.Zero) { Add(key); return; }
        lock (gate)
        {
            var ticks = Math.Min(delay.TotalSeconds * time.TimestampFrequency, long.MaxValue / 4.0);
            var at = time.GetTimestamp() + (long)ticks;
            var slot = SlotOf(key);
            if (at >= slot.Wake) return;
            Wake(slot, at);
            if (timers.Min == slot) sooner.Writer.TryWrite(true);
        }
    }

    /// <summary>The clock by which the times were meant has been set: whoever waits looks again.</summary>
    public void WakeAll()
    {
        lock (gate)
            foreach (var slot in timers.ToArray())
            {
                Wake(slot, long.MaxValue);
                Add(slot.Key);
            }
    }

    /// <summary>The next key, or null once stopped. Its time is forgotten: who takes it sets it anew.</summary>
    public async Task<Key?> Take(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            var patience = Timeout.InfiniteTimeSpan;
            lock (gate)
            {
                if (MayTake(ref patience) && Next() is { } slot)
                {
                    var now = time.GetTimestamp();
                    (slot.Ready, slot.Working, slot.Taken) = (false, true, now);
                    metrics?.Observe(Metrics.QueueTime, Label, time.GetElapsedTime(slot.Since, now));
                    Wake(slot, long.MaxValue);
                    (working, LaneOf(slot.Key).Working) = (working + 1, LaneOf(slot.Key).Working + 1);
                    prompt.Enqueue((slot, now));
                    if (turns.Count > 0) news.Writer.TryWrite(true); // for another one that waits
                    return slot.Key;
                }
            }
            using var awake = CancellationTokenSource.CreateLinkedTokenSource(stop);
            await Task.WhenAny(Told(news, awake.Token), Task.Delay(patience, time, awake.Token));
            awake.Cancel(); // and not on another thread
        }
        return null;
    }

    /// <summary>A worker is free; if not, when one will count as slow.</summary>
    bool MayTake(ref TimeSpan patience)
    {
        for (; prompt.TryPeek(out var oldest); prompt.Dequeue())
        {
            var (slot, taken) = oldest;
            if (!slot.Working || slot.Slow || slot.Taken != taken) continue;
            var age = time.GetElapsedTime(taken);
            if (age < Slow)
            {
                // A delay is cut to whole milliseconds: one that is cut to none would be no wait.
                patience = TimeSpan.FromMilliseconds(Math.Ceiling((Slow - age).TotalMilliseconds));
                break;
            }
            slot.Slow = true;
            slow++;
        }
        if (working - slow >= Workers) return false;
        patience = Timeout.InfiniteTimeSpan;
        return working < (long)Workers * Workers;
    }

    /// <summary>The first key of the namespace whose turn it is; null where none may be worked on.</summary>
    Slot? Next()
    {
        for (var i = turns.Count; i > 0; i--)
        {
            var lane = turns.Dequeue();
            Slot? next = null;
            // What was taken as an urgent one is not ready any more.
            while (lane.Working < Workers && next is null
                && (lane.Urgent.TryDequeue(out var slot) || lane.Others.TryDequeue(out slot)))
                next = slot.Ready ? slot : null;
            lane.Waiting = lane.Urgent.Count + lane.Others.Count > 0;
            if (lane.Waiting) turns.Enqueue(lane);
            if (next is not null) return next;
            if (lane is { Working: 0, Waiting: false }) lanes.Remove(lane.Namespace);
        }
        return null;
    }

    /// <summary>How long ago the key that is worked on was added: others came first.</summary>
    public TimeSpan Age(Key key) { lock (gate) return time.GetElapsedTime(slots[key].Since); }

    public void Done(Key key)
    {
        lock (gate)
        {
            var (slot, lane) = (slots[key], LaneOf(key));
            var again = slot.Again;
            (working, lane.Working) = (working - 1, lane.Working - 1);
            if (slot.Slow) slow--;
            (slot.Working, slot.Slow, slot.Again) = (false, false, false);
            metrics?.Observe(Metrics.WorkTime, Label, time.GetElapsedTime(slot.Taken));
            if (again) Add(key, first: true);
            else if (slot.Wake == long.MaxValue) slots.Remove(key);
            if (lane is { Working: 0, Waiting: false }) lanes.Remove(key.Namespace);
            news.Writer.TryWrite(true);
        }
    }

    /// <summary>Hands each key that comes to the work until stopped; ends once all of it is done.</summary>
    public async Task Run(Func<Key, Task> work, CancellationToken stop)
    {
        var working = new List<Task>();
        while (await Take(stop) is { } key)
        {
            if (working.Find(task => task.IsFaulted) is { } broken) await broken;
            working.RemoveAll(task => task.IsCompleted);
            working.Add(One(key));
        }
        await Task.WhenAll(working);

        async Task One(Key key)
        {
            try { await work(key); }
            finally { Done(key); }
        }
    }

    /// <summary>Moves keys whose time has come; runs until stopped.</summary>
    public async Task RunTimers(CancellationToken stop)
    {
        for (Task? earlier = null; !stop.IsCancellationRequested;)
        {
            using var awake = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var delay = Task.Delay(MoveRipe(), time, awake.Token);
            earlier ??= Told(sooner, stop);
            await Task.WhenAny(delay, earlier);
            awake.Cancel();
            if (earlier.IsCompleted) earlier = null;
        }
    }

    /// <summary>Completes where it was awaited, not on whatever thread writes.</summary>
    static async Task Told(Channel<bool> channel, CancellationToken stop) => await channel.Reader.ReadAsync(stop);

    /// <summary>Adds the keys whose time has come; returns how long it is until the next one's.</summary>
    TimeSpan MoveRipe()
    {
        lock (gate)
        {
            var now = time.GetTimestamp();
            while (timers.Min is { } slot)
            {
                var seconds = (slot.Wake - now) / (double)time.TimestampFrequency;
                if (slot.Wake > now) return TimeSpan.FromSeconds(Math.Clamp(seconds, 0.001, 3600));
                Wake(slot, long.MaxValue);
                Add(slot.Key);
            }
            return TimeSpan.FromHours(1);
        }
    }

    void Wake(Slot slot, long at)
    {
        if (slot.Wake != long.MaxValue) timers.Remove(slot);
        slot.Wake = at;
        if (at != long.MaxValue) timers.Add(slot);
    }

    Lane LaneOf(Key key)
    {
        if (!lanes.TryGetValue(key.Namespace, out var lane)) lanes[key.Namespace] = lane = new(key.Namespace);
        return lane;
    }

    Slot SlotOf(Key key)
    {
        if (!slots.TryGetValue(key, out var slot)) slots[key] = slot = new Slot(key, made++);
        return slot;
    }
}

static class Tasks
{
    /// <summary>Awaits without throwing: for waits that end by cancellation or time.</summary>
    public static async Task Quietly(this Task task) => await Task.WhenAny(task);
}
