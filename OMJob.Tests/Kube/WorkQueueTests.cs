// The queue: a key at most once, never worked on twice at the same time, woken at a time. Time is virtual, but for the
// limit after which a test that waits for nothing fails.

using System.Collections.Concurrent;
using Xunit;

namespace OMJobs.Tests;

public sealed class WorkQueueTests : IDisposable
{
    static readonly Key A = new("data", "a"), B = new("data", "b"), C = new("data", "c");
    static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    readonly VirtualTime time = new();
    readonly CancellationTokenSource stop = new();
    readonly WorkQueue queue;

    public WorkQueueTests() => queue = new(time);

    public void Dispose()
    {
        stop.Cancel();
        stop.Dispose();
    }

    [Fact]
    public async Task A_key_that_is_added_again_and_again_is_there_once()
    {
        for (var i = 0; i < 10; i++) { queue.Add(A); queue.Add(B); }
        Assert.Equal(2, queue.Depth);
        Assert.Equal(A, await Take());
        Assert.Equal(B, await Take());
        Assert.Equal(0, queue.Depth);
    }

    [Fact]
    public async Task A_key_that_is_added_while_it_is_worked_on_comes_back_once_after_it_is_done()
    {
        queue.Add(A);
        await Take();
        queue.Add(A);
        queue.Add(A);
        Assert.Equal(0, queue.Depth);
        queue.Done(A);
        Assert.Equal(1, queue.Depth);
        Assert.Equal(A, await Take());
        queue.Done(A);
        Assert.Equal(0, queue.Depth);
    }

    [Fact]
    public async Task A_key_is_as_old_as_its_wait_for_a_worker()
    {
        queue.Add(A);
        time.Advance(40);
        queue.Add(A);
        await Take();
        Assert.Equal(TimeSpan.FromSeconds(40), queue.Age(A));
        queue.Add(A);
        time.Advance(5);
        queue.Done(A);
        await Take();
        Assert.Equal(TimeSpan.Zero, queue.Age(A));
    }

    [Fact]
    public async Task One_that_waits_is_given_a_key_as_soon_as_there_is_one()
    {
        var taken = Take();
        Assert.False(taken.IsCompleted);
        queue.Add(A);
        Assert.Equal(A, await taken);
    }

    [Fact]
    public async Task Once_stopped_no_key_is_given_out()
    {
        var waiting = queue.Take(stop.Token);
        await stop.CancelAsync();
        queue.Add(A);
        Assert.Null(await waiting.WaitAsync(Limit, TestContext.Current.CancellationToken));
        Assert.Null(await queue.Take(stop.Token));
    }

    [Fact]
    public async Task A_key_wakes_at_its_time_and_not_before()
    {
        var timers = queue.RunTimers(stop.Token);
        queue.AddAfter(A, TimeSpan.FromSeconds(10));
        await Armed(10);
        time.Advance(9.999);
        Assert.Equal(0, queue.Depth);
        time.Advance(0.001);
        Assert.Equal(A, await Take());
        await stop.CancelAsync();
        await timers.WaitAsync(Limit, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task The_earlier_wake_wins_and_the_later_one_is_forgotten()
    {
        _ = queue.RunTimers(stop.Token);
        queue.AddAfter(A, TimeSpan.FromSeconds(60));
        await Armed(60);
        queue.AddAfter(A, TimeSpan.FromSeconds(10));
        queue.AddAfter(A, TimeSpan.FromSeconds(30));
        await Armed(10);
        time.Advance(10);
        Assert.Equal(A, await Take());
        queue.Done(A);
        Assert.Equal(0, Held);
        queue.AddAfter(B, TimeSpan.FromSeconds(100));
        await Armed(100);
        time.Advance(100);
        Assert.Equal(B, await Take());
        Assert.Equal(0, queue.Depth);
    }

    [Fact]
    public async Task A_key_that_is_worked_on_when_its_time_comes_comes_back_after()
    {
        _ = queue.RunTimers(stop.Token);
        queue.Add(A);
        await Take();
        queue.AddAfter(A, TimeSpan.FromSeconds(5));
        await Armed(5);
        queue.AddAfter(B, TimeSpan.FromSeconds(5));
        time.Advance(5);
        Assert.Equal(B, await Take()); // A's time has come as well: it is the first of the two
        Assert.Equal(0, queue.Depth);
        queue.Done(A);
        Assert.Equal(A, await Take());
    }

    [Fact]
    public async Task Who_takes_a_key_before_its_time_sets_the_time_anew()
    {
        _ = queue.RunTimers(stop.Token);
        queue.AddAfter(A, TimeSpan.FromSeconds(5));
        await Armed(5);
        queue.Add(A);
        Assert.Equal(A, await Take());
        queue.AddAfter(A, TimeSpan.FromSeconds(7));
        queue.Done(A);
        time.Advance(5);
        await Armed(2);
        Assert.Equal(0, queue.Depth);
        time.Advance(2);
        Assert.Equal(A, await Take());
    }

    [Fact]
    public async Task Times_that_are_not_to_come_any_more_are_not_kept()
    {
        for (var i = 0; i < 100; i++)
        {
            queue.AddAfter(A, TimeSpan.FromHours(1));
            queue.Add(A);
            Assert.Equal(A, await Take());
            queue.Done(A);
        }
        Assert.Equal(0, Held);
        Assert.Equal(0, Timed);
    }

    [Fact]
    public async Task What_has_begun_comes_before_what_is_new()
    {
        queue.Add(A);
        queue.Add(B);
        queue.Add(C, first: true);
        Assert.Equal(3, queue.Depth);
        Assert.Equal(C, await Take());
        queue.Add(C); // while it is worked on
        queue.Done(C);
        Assert.Equal(C, await Take());
        queue.Add(B, first: true); // it waits already
        Assert.Equal(B, await Take());
        Assert.Equal(A, await Take());
        Assert.Equal(0, queue.Depth);
    }

    [Fact]
    public async Task A_key_that_became_urgent_comes_once()
    {
        queue.Add(A);
        queue.Add(A, first: true);
        queue.Add(A, first: true);
        Assert.Equal(A, await Take());
        queue.Done(A);
        queue.Add(B);
        Assert.Equal(B, await Take());
        Assert.Equal(0, queue.Depth);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    public void A_time_that_has_passed_is_now(int seconds)
    {
        queue.AddAfter(A, TimeSpan.FromSeconds(seconds));
        Assert.Equal(1, queue.Depth);
    }

    [Fact]
    public async Task A_time_that_never_comes_holds_nobody_up()
    {
        _ = queue.RunTimers(stop.Token);
        queue.AddAfter(A, TimeSpan.MaxValue);
        queue.AddAfter(B, TimeSpan.FromSeconds(1));
        await Armed(1);
        time.Advance(1);
        Assert.Equal(B, await Take());
    }

    [Fact]
    public async Task Keys_wake_in_the_order_of_their_times()
    {
        var keys = Enumerable.Range(1, 50).Select(i => new Key("data", $"{i}")).ToArray();
        foreach (var i in Enumerable.Range(1, 50).OrderBy(i => i * 7 % 51)) queue.AddAfter(keys[i - 1],
            TimeSpan.FromSeconds(i));
        time.Advance(100);
        _ = queue.RunTimers(stop.Token);
        foreach (var key in keys) Assert.Equal(key, await Take());
    }

    [Fact]
    public async Task W8_an_idle_key_is_forgotten_and_one_that_is_to_wake_is_not()
    {
        queue.Add(A);
        queue.Add(B);
        Assert.Equal(2, Held);
        await Take();
        await Take();
        queue.AddAfter(B, TimeSpan.FromSeconds(1));
        queue.Done(A);
        queue.Done(B);
        Assert.Equal(1, Held);
        _ = queue.RunTimers(stop.Token);
        await Armed(1);
        time.Advance(1);
        Assert.Equal(B, await Take());
        queue.Done(B);
        Assert.Equal(0, Held);
    }

    [Fact]
    public async Task Thousands_of_keys_under_several_workers_are_never_lost_and_never_worked_on_twice_at_once()
    {
        var keys = Enumerable.Range(0, 4000).Select(i => new Key("data", $"{i}")).ToArray();
        var working = new ConcurrentDictionary<Key, int>();
        var seen = new ConcurrentDictionary<Key, bool>();
        var (twice, last) = (0, false);
        var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _ = queue.RunTimers(stop.Token);

        async Task Work()
        {
            while (await queue.Take(stop.Token) is { } key)
            {
                if (working.AddOrUpdate(key, 1, (_, n) => n + 1) != 1) Interlocked.Increment(ref twice);
                var counts = Volatile.Read(ref last);
                await Task.Yield();
                working.AddOrUpdate(key, 0, (_, n) => n - 1);
                queue.Done(key);
                if (counts && seen.TryAdd(key, true) && seen.Count == keys.Length) all.TrySetResult();
            }
        }

        void Add(int start)
        {
            for (var i = 0; i < keys.Length; i++) queue.Add(keys[(start + i * 7) % keys.Length]);
        }

        var workers = Enumerable.Range(0, 8).Select(_ => Task.Run(Work)).ToArray();
        await Task.WhenAll(Enumerable.Range(0, 4).Select(i => Task.Run(() => Add(i * 1000))));
        Volatile.Write(ref last, true);
        Add(0); // whatever a worker does just now, each key has to come once more
        await all.Task.WaitAsync(Limit, TestContext.Current.CancellationToken);
        await stop.CancelAsync();
        await Task.WhenAll(workers);
        while (queue.Depth > 0) // a key that was counted before it was added for the last time is there again
            queue.Done((await queue.Take(TestContext.Current.CancellationToken))!.Value);
        Assert.Equal(0, twice);
        Assert.Equal(0, Held);
    }

    // ----- namespaces

    static Key[] KeysOf(string ns, int count) => [.. Enumerable.Range(1, count).Select(i => new Key(ns, $"{i}"))];

    Key[] AddAll(string ns, int count)
    {
        var keys = KeysOf(ns, count);
        foreach (var key in keys) queue.Add(key);
        return keys;
    }

    [Fact]
    public async Task Namespaces_take_turns_however_many_keys_each_has()
    {
        var (one, two, three) = (AddAll("one", 5), AddAll("two", 2), AddAll("three", 1));
        Key[] order = [one[0], two[0], three[0], one[1], two[1], one[2], one[3], one[4]];
        foreach (var key in order) Assert.Equal(key, await Take());
        Assert.Equal(0, queue.Depth);
    }

    [Fact]
    public async Task What_has_begun_comes_first_in_its_own_namespace_and_namespaces_take_turns()
    {
        var one = AddAll("one", 2);
        Key two = new("two", "urgent"), three = new("three", "urgent"), again = new("two", "again");
        queue.Add(new("two", "new"));
        foreach (var key in (Key[])[two, again, three]) queue.Add(key, first: true);
        foreach (var key in (Key[])[one[0], two, three, one[1], again, new("two", "new")]) Assert.Equal(key, await Take());
    }

    [Fact]
    public async Task A_namespace_in_which_something_is_always_urgent_holds_up_no_other_one()
    {
        foreach (var key in AddAll("busy", 3)) queue.Add(key, first: true);
        queue.Add(A);
        for (var taken = 0; ; taken++)
        {
            Assert.InRange(taken, 0, 1);
            var key = await Take();
            if (key == A) return;
            queue.Done(key!.Value);
            queue.Add(key.Value, first: true);
        }
    }

    [Fact]
    public async Task No_more_keys_are_worked_on_at_once_than_there_are_workers()
    {
        queue.Workers = 2;
        var keys = AddAll("data", 3);
        Assert.Equal(keys[0], await Take());
        Assert.Equal(keys[1], await Take());
        var third = Take();
        time.Advance(0.999);
        Assert.False(third.IsCompleted);
        queue.Done(keys[0]);
        Assert.Equal(keys[2], await third);
    }

    [Fact]
    public async Task A_namespace_that_keeps_all_workers_busy_holds_up_another_one_for_a_second()
    {
        queue.Workers = 2;
        var slow = AddAll("slow", 5);
        foreach (var key in slow[..2]) Assert.Equal(key, await Take());
        time.Advance(0.4);
        queue.Add(A);
        var next = Take();
        await Armed(0.6);
        time.Advance(0.599);
        Assert.False(next.IsCompleted);
        time.Advance(0.001);
        Assert.Equal(A, await next); // and none of the slow one's, which has come before
    }

    [Fact]
    public async Task A_namespace_never_has_more_keys_worked_on_than_there_are_workers()
    {
        queue.Workers = 2;
        var slow = AddAll("slow", 5);
        await Take();
        await Take();
        time.Advance(100);
        var third = Take();
        Assert.False(third.IsCompleted);
        queue.Done(slow[1]);
        Assert.Equal(slow[2], await third); // as soon as one is done
        queue.Add(A);
        Assert.Equal(A, await Take());
        queue.Done(A);
        queue.Done(slow[2]);
        Assert.Equal(slow[3], await Take());
    }

    [Fact]
    public async Task All_in_all_no_more_keys_are_worked_on_than_the_workers_squared()
    {
        queue.Workers = 2;
        var (one, two) = (AddAll("one", 3), AddAll("two", 2));
        foreach (var pair in (Key[][])[[one[0], two[0]], [one[1], two[1]]])
        {
            foreach (var key in pair) Assert.Equal(key, await Take());
            time.Advance(1);
        }
        queue.Add(A);
        var fifth = Take();
        time.Advance(100);
        Assert.False(fifth.IsCompleted);
        queue.Done(two[0]);
        Assert.Equal(A, await fifth); // as many of the first one are worked on as may be
    }

    [Fact]
    public async Task Fewer_slow_namespaces_than_workers_never_hold_up_another_one()
    {
        queue.Workers = 3;
        AddAll("slow", 10);
        AddAll("slower", 10);
        for (var taken = 0; taken < 6; taken++)
        {
            if (taken == 3) time.Advance(1);
            Assert.StartsWith("slow", (await Take())!.Value.Namespace, StringComparison.Ordinal);
        }
        time.Advance(1);
        foreach (var key in KeysOf("data", 50)) // none of the slow ones is done
        {
            queue.Add(key);
            Assert.Equal(key, await Take());
            queue.Done(key);
        }
    }

    [Fact]
    public async Task A_key_that_was_slow_is_not_when_it_comes_again()
    {
        queue.Workers = 1;
        queue.Add(A);
        await Take();
        time.Advance(5);
        queue.Done(A);
        queue.Add(A);
        Assert.Equal(A, await Take());
        queue.Add(new("other", "a"));
        var next = Take();
        time.Advance(0.999);
        Assert.False(next.IsCompleted);
        queue.Done(A);
        Assert.Equal("other", (await next)!.Value.Namespace);
    }

    [Fact]
    public async Task W8_nothing_is_remembered_of_a_namespace_that_is_idle()
    {
        queue.Workers = 2;
        for (var i = 0; i < 100; i++)
        {
            var key = new Key($"ns-{i}", "a");
            queue.Add(key);
            queue.Add(key, first: i % 2 == 0); // it is there twice, and taken once
            Assert.Equal(key, await Take());
            if (i % 10 == 0) time.Advance(2);
            queue.AddAfter(key, TimeSpan.FromHours(1));
            queue.Done(key);
        }
        queue.Add(A);
        await Take();
        queue.Done(A);
        Assert.InRange(queue.Remembered.Others, 0, 1);
        Assert.Equal(100, Held);
    }

    [Fact]
    public async Task Whoever_waits_for_a_time_looks_again_once_the_clock_was_set()
    {
        var timers = queue.RunTimers(stop.Token);
        queue.Add(C);
        await Take();
        queue.AddAfter(A, TimeSpan.FromHours(2));
        queue.AddAfter(B, TimeSpan.FromDays(9));
        queue.AddAfter(C, TimeSpan.FromHours(1));
        queue.WakeAll();
        Assert.Equal(2, queue.Depth);
        Assert.Equal(0, Timed);
        Key?[] woken = [await Take(), await Take()];
        Assert.Equal([A, B], woken.OrderBy(k => k!.Value.Name));
        queue.Done(C); // it was worked on
        Assert.Equal(C, await Take());
        queue.WakeAll();
        Assert.Equal(0, queue.Depth);
        Assert.False(timers.IsCompleted);
    }

    int Held => queue.Remembered.Keys;
    int Timed => queue.Remembered.Times;

    async Task<Key?> Take() => await queue.Take(stop.Token).WaitAsync(Limit, TestContext.Current.CancellationToken);

    /// <summary>The timers wait for that many seconds from now, and for nothing else.</summary>
    Task Armed(double seconds) => time.Armed(seconds).WaitAsync(Limit, TestContext.Current.CancellationToken);
}
