// The kinds of objects that the operator deals with.

namespace OMJobs;

static class Resources
{
    public const string ApiVersion = "pipelines.openmetadata.org/v1";

    public static readonly Resource
        Pods = new("v1", "Pod", Json.Default.PodObject, Json.Default.WatchEventPodObject),
        OMJobs = new(ApiVersion, "OMJob", Json.Default.JobObject, Json.Default.WatchEventJobObject),
        CronOMJobs = new(ApiVersion, "CronOMJob", Json.Default.CronObject, Json.Default.WatchEventCronObject);
}
