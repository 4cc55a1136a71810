// One process of the operator in the simulation: the real Operator on one thread, whose continuations, requests,
// watches and timers wait until the scheduler of the World picks them. Killing it is dropping it.

using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using OMJobs.Sandbox;

namespace OMJobs.Tests.Simulation;

/// <summary>Continuations wait here. One that comes from another thread would end the determinism: it throws.</summary>
sealed class Continuations : SynchronizationContext
{
    readonly Queue<(SendOrPostCallback Callback, object? State)> ready = [];
    readonly int thread = Environment.CurrentManagedThreadId;

    public int Count => ready.Count;

    public override void Post(SendOrPostCallback d, object? state)
    {
        if (Environment.CurrentManagedThreadId != thread)
            throw new InvalidOperationException("The operator left the simulation's thread");
        ready.Enqueue((d, state));
    }

    public void RunOne()
    {
        var (callback, state) = ready.Dequeue();
        Enter(() => callback(state));
    }

    public void Enter(Action action)
    {
        var before = Current;
        SetSynchronizationContext(this);
        try { action(); }
        finally { SetSynchronizationContext(before); }
    }
}

/// <summary>The clock of one process: monotonic time is the world's, the wall clock may be wrong.</summary>
sealed class ProcessTime(World world, Continuations continuations, TimeSpan skew) : TimeProvider
{
    readonly PriorityQueue<Timer, (long Due, int Number)> timers = new();
    int numbers;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;
    public override long GetTimestamp() => world.Ticks;
    public override DateTimeOffset GetUtcNow() => World.Epoch.AddTicks(world.Ticks) + skew;

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new Timer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>When the next timer is due; null where none is set.</summary>
    public long? NextDue
    {
        get
        {
            while (timers.TryPeek(out var timer, out var at))
            {
                if (timer.Due == at.Due) return at.Due;
                timers.Dequeue(); // changed or disposed of since
            }
            return null;
        }
    }

    public void Fire()
    {
        var timer = timers.Dequeue();
        timer.Due = null;
        continuations.Enter(timer.Run);
    }

    sealed class Timer(ProcessTime time, TimerCallback callback, object? state) : ITimer
    {
        public long? Due { get; set; }
        public void Run() => callback(state);

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            Due = dueTime < TimeSpan.Zero ? null : time.GetTimestamp() + dueTime.Ticks;
            if (Due is { } due) time.timers.Enqueue(this, (due, time.numbers++));
            return true;
        }

        public void Dispose() => Due = null;
        public ValueTask DisposeAsync() { Dispose(); return ValueTask.CompletedTask; }
    }
}

/// <summary>What becomes of a request on its way.</summary>
enum Fate
{
    /// <summary>It arrives and is answered.</summary>
    Served,
    /// <summary>It has its effect; the answer is lost.</summary>
    AnswerLost,
    /// <summary>It has no effect and an answer that says nothing of it.</summary>
    Failed,
    /// <summary>The client gives up; it may still arrive, minutes later.</summary>
    Late,
}

/// <summary>A request that has been sent and not been answered yet.</summary>
sealed class InFlight(SimulatedOperator by, Request request, long issued)
{
    readonly TaskCompletionSource<Reply> answered = new();

    public Request Request => request;
    public SimulatedOperator By => by;
    public long Issued => issued;
    /// <summary>Of all requests, from 1.</summary>
    public int Number { get; set; }
    public Fate Fate { get; set; }
    /// <summary>The operator dies with it.</summary>
    public bool Kills { get; set; }
    public Reply? Reply { get; set; }
    /// <summary>When the answer arrives, which may be long after it was given.</summary>
    public long HeldUntil { get; set; }
    public bool HasArrived(long now) => Reply is not null && now >= HeldUntil;
    /// <summary>The objects in the answer.</summary>
    public IEnumerable<JsonObject> Told { get; set; } = [];
    public Watcher? Watcher { get; set; }
    /// <summary>The stream is open.</summary>
    public bool Open { get; set; }
    /// <summary>Where the answer, the end of a watch or the client's patience is due.</summary>
    public long Ends { get; set; } = issued + request.Timeout.Ticks;
    public Task<Reply> Answered => answered.Task;
    public bool IsWatch => request.OnLine is not null;
    public bool IsWrite => request.Method != HttpMethod.Get;
    public void Answer(Reply reply) => answered.SetResult(reply);
    public void Cancel() => answered.SetCanceled();
    public override string ToString() => $"{request.Method} {request.Path}";
}

sealed class SimulatedOperator : ILogger
{
    readonly World world;
    readonly Operator op;

    // quiet: it is `release` that runs, with that --quiet-for (seconds); null: the operator.
    public SimulatedOperator(World world, string name, Deadlines clocks, TimeSpan skew, double? quiet = null)
    {
        (this.world, Name, Releases) = (world, name, quiet is not null);
        Time = new(world, Continuations, skew);
        op = new(Send, clocks, Time, this, new Random(world.Random.Next()));
        if (quiet is { } seconds)
        {
            Continuations.Enter(() => _ = Release(TimeSpan.FromSeconds(seconds)));
            return;
        }
        var good = world.GoodDefaults; // with another file it would not start
        string Read() => Interlocked.Exchange(ref good, null!) ?? world.Defaults!;
        var settings = new Settings
        {
            Namespaces = world.Namespaces,
            Deadlines = clocks,
            Workers = 3,
            RunDefaults = world.Defaults is null ? null : new("defaults", Read),
        };
        Continuations.Enter(() => _ = op.Run(settings, CancellationToken.None));
    }

    async Task Release(TimeSpan quiet) => world.Released(this, await op.Release(world.Namespaces, quiet, default));

    public string Name { get; }
    public bool Releases { get; }
    public Continuations Continuations { get; } = new();
    public ProcessTime Time { get; }
    public List<InFlight> Requests { get; } = [];
    /// <summary>SIGSTOP: it does nothing until then.</summary>
    public long FrozenUntil { get; set; }
    public bool Frozen => world.Ticks < FrozenUntil;
    /// <summary>The objects that it remembers; nothing but memory shows it.</summary>
    public Key[] Held => op.CachedKeys;

    Task<Reply> Send(Request request, CancellationToken stop)
    {
        var flight = new InFlight(this, request, world.Ticks);
        Requests.Add(flight);
        world.Sent(this, flight);
        CheckPace(request);
        if (flight.IsWatch) // let go of by the operator itself
            stop.Register(() => Continuations.Post(_ => { if (Requests.Remove(flight)) flight.Cancel(); }, null));
        return flight.Answered;
    }

    readonly Dictionary<string, Queue<long>> sent = []; // of each method and path, when

    /// <summary>No request is repeated all the time: nothing changes as fast as that.</summary>
    void CheckPace(Request request)
    {
        if (!world.Paced || request.Path.Contains("continue=")) return;
        var what = $"{request.Method} {request.Path.Split('?')[0]}";
        if (!sent.TryGetValue(what, out var times)) sent[what] = times = [];
        times.Enqueue(world.Ticks);
        while (times.Peek() < world.Ticks - 10 * TimeSpan.TicksPerSecond) times.Dequeue();
        if (times.Count > 40) world.Violate($"{Name} sends {what} {times.Count} times within 10 s");
    }

    public void Deliver(InFlight request, Reply reply)
    {
        Requests.Remove(request);
        world.Note($"{Name} is answered {request.Number}: {reply.Code} {reply.Fault}");
        Continuations.Enter(() => request.Answer(reply));
        foreach (var told in request.Told) See(told);
    }

    /// <summary>Hands out one line of a watch; empty: the stream is open.</summary>
    public void Deliver(InFlight watch, byte[] line, JsonObject? told = null)
    {
        Reply? ended = null;
        Continuations.Enter(() => ended = watch.Request.OnLine!(line.AsMemory().TrimEnd((byte)'\n')));
        if (told is not null) See(told);
        if (ended is not null) Deliver(watch, ended);
    }

    readonly Dictionary<string, long> newest = []; // of each pod that was told, the version

    /// <summary>Pods that it was told run while they are deleted: the last request that it had sent by then.</summary>
    public Dictionary<string, int> Stopping { get; } = [];

    void See(JsonObject told)
    {
        if (told.Text("kind") is not "Pod" || told.Uid() is null) return;
        if (!long.TryParse(told.Text("metadata", "resourceVersion"), out var version)) return; // a dry run's
        if (version < newest.GetValueOrDefault(told.Uid())) return; // old news, which it need not hear
        newest[told.Uid()] = version;
        if (Oracle.IsStopping(told)) Stopping.TryAdd(told.Uid(), world.Requests);
    }

    // ----- its log: an error is a bug

    public void Log<T>(LogLevel level, EventId id, T state, Exception? e, Func<T, Exception?, string> format)
    {
        if (level >= LogLevel.Error && !Releases) world.Violate($"{Name} logs an error: {format(state, e)}");
        world.Note($"{Name}: {format(state, e)}");
    }

    public bool IsEnabled(LogLevel level) => level >= LogLevel.Error || world.Tracing;
    public IDisposable? BeginScope<T>(T state) where T : notnull => null;
}
