// The kinds of objects that the operator deals with.

namespace OMJobs;

static class Resources
{
    public const string ApiVersion = "pipelines.openmetadata.org/v1";

    public static readonly Resource
        Pods = new("v1", "Pod", ModelJson.Default.PodObject, ModelJson.Default.WatchEventPodObject),
        OMJobs = new(ApiVersion, "OMJob", ModelJson.Default.JobObject, ModelJson.Default.WatchEventJobObject),
        CronOMJobs = new(ApiVersion, "CronOMJob", ModelJson.Default.CronObject, ModelJson.Default.WatchEventCronObject);
}
