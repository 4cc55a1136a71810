// A clock that stands still until it is moved.

namespace OMJobs.Tests;

/// <summary>Timers, delays and timestamps of virtual time. Timers fire in order while Advance runs.</summary>
sealed class VirtualTime : TimeProvider
{
    readonly Lock gate = new(); // guards all below
    readonly List<VirtualTimer> timers = [];
    readonly List<(DateTimeOffset Due, TaskCompletionSource Armed)> waiting = [];
    DateTimeOffset now = Moment.Now;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;
    public override DateTimeOffset GetUtcNow() { lock (gate) return now; }
    public override long GetTimestamp() { lock (gate) return now.UtcTicks; }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new VirtualTimer(this, () => callback(state));
        timer.Change(dueTime, period);
        return timer;
    }

    public void Advance(double seconds)
    {
        var target = GetUtcNow().AddSeconds(seconds);
        while (true)
        {
            VirtualTimer? next;
            lock (gate)
            {
                next = timers.Where(t => t.Due <= target).MinBy(t => t.Due);
                if (next is null) { now = target; return; }
                if (next.Due > now) now = next.Due;
                if (next.Period > TimeSpan.Zero) next.Due += next.Period;
                else timers.Remove(next);
            }
            next.Fire();
        }
    }

    /// <summary>Since it was made.</summary>
    public TimeSpan Elapsed => GetUtcNow() - Moment.Now;

    /// <summary>Seconds until the next timer; null: none is set.</summary>
    public double? UntilNext
    {
        get { lock (gate) return timers.Count == 0 ? null : Math.Max(0, (timers.Min(t => t.Due) - now).TotalSeconds); }
    }

    /// <summary>Moves on to the next timer, unless it is further away than that.</summary>
    public void ToNextTimer(double seconds)
    {
        if (UntilNext is { } next && next <= seconds) Advance(next);
    }

    /// <summary>Completes once a timer is set for that many seconds from now.</summary>
    public Task Armed(double seconds)
    {
        lock (gate)
        {
            var due = now.AddSeconds(seconds);
            if (timers.Exists(t => t.Due == due)) return Task.CompletedTask;
            var armed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            waiting.Add((due, armed));
            return armed.Task;
        }
    }

    sealed class VirtualTimer(VirtualTime time, Action fire) : ITimer
    {
        public DateTimeOffset Due;
        public TimeSpan Period;

        public void Fire() => fire();

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (time.gate)
            {
                time.timers.Remove(this);
                if (dueTime == Timeout.InfiniteTimeSpan) return true;
                (Due, Period) = (time.now + dueTime, period);
                time.timers.Add(this);
                foreach (var (_, armed) in time.waiting.Where(w => w.Due == Due)) armed.TrySetResult();
                time.waiting.RemoveAll(w => w.Due == Due);
            }
            return true;
        }

        public void Dispose() { lock (time.gate) time.timers.Remove(this); }
        public ValueTask DisposeAsync() { Dispose(); return ValueTask.CompletedTask; }
    }
}
