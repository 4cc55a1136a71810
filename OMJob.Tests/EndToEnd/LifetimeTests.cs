// The end of everything: OMJobs and their pods go when their time is over, and hold up no namespace that goes.

using Xunit;

namespace OMJobs.Tests.EndToEnd;

using OMJobs.Sandbox;

public class LifetimeTests(TestCluster cluster) : ClusterTest(cluster)
{
    [Fact]
    public async Task H3_after_its_time_to_live_an_OMJob_goes_and_takes_its_pods_with_it()
    {
        await Ns.Operator();
        var job = new JobBuilder("shortlived").With("ttlSecondsAfterFinished", "1");
        await Ns.Create(job);
        var run = await Ns.Ends(job, "Succeeded");
        await Ns.Gone(job);
        // No shorter than this: somebody has to be able to read the end.
        Assert.True(DateTime.UtcNow - run.Job.Time("status", "completionTime") > TimeSpan.FromSeconds(15));
        await Eventually.True("its pods are gone", async () => (await Ns.Api.List(Paths.Pods(Ns.Name))).Count == 0);
    }

    [Fact]
    public async Task G10_H13_a_namespace_that_is_deleted_is_not_held_up()
    {
        await Ns.Operator();
        JobBuilder[] jobs = [new("running", "sleep 600"), new("handling", exit: "sleep 600")];
        foreach (var job in jobs)
        {
            // The namespace controller looks again after half of it.
            job.With("mainPodSpec.terminationGracePeriodSeconds", "2");
            job.With("exitHandlerSpec.terminationGracePeriodSeconds", "2");
            await Ns.Create(job);
        }
        await Ns.PodPhase("running-main", "Running");
        await Ns.PodPhase("handling-exit", "Running");
        var path = $"{Paths.Namespaces}/{Ns.Name}";
        await Ns.Api.Delete(path);
        // Its controller has the namespaces of other tests to delete, too.
        await Eventually.True("the namespace is gone", async () => await Ns.Api.Find(path) is null, seconds: 120);
    }
}
