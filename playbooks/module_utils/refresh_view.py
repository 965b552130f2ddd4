"""What AWS says of a group and its refresh, put as people ask: how far, where, why it failed, what clients saw."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.exceptions as botocore
from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict

ACTIVE = frozenset({"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"})
CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
THROTTLES = frozenset(
    {"RequestLimitExceeded", "ThrottledException", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)
FAILURES_SHOWN = 3
# What clients saw: metric, and whether it is counted by target group besides the load balancer.
METRICS = {"requests": "RequestCount", "target_5xx": "HTTPCode_Target_5XX_Count", "elb_5xx": "HTTPCode_ELB_5XX_Count"}


def lost(error: BaseException) -> str:
    """What a failed call has lost: "connection" comes back by itself, "credentials" need a person; "" is neither."""
    error = getattr(error, "exception", None) or error  # the collection wraps boto3's
    if isinstance(error, botocore.ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in CREDENTIALS:
            return "credentials"
        return "connection" if code in THROTTLES or status >= 500 else ""
    if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError | botocore.TokenRetrievalError):
        return "credentials"
    if isinstance(error, botocore.UnauthorizedSSOTokenError | botocore.SSOTokenLoadError | botocore.CredentialRetrievalError):
        return "credentials"
    return "connection" if isinstance(error, botocore.HTTPClientError | botocore.ConnectionError | OSError) else ""


class Fleet:
    """One Auto Scaling group, its refreshes, targets and metrics."""

    def __init__(self, module: Any, name: str) -> None:
        self.module = module
        self.name = name
        self.autoscaling = module.client("autoscaling")

    def active_refresh(self) -> dict[str, Any]:
        """The refresh under way; {} without one."""
        newest = self.refresh("")
        return newest if newest.get("Status") in ACTIVE else {}

    def refresh(self, refresh_id: str) -> dict[str, Any]:
        """The refresh of that id, or the newest; {} if there is none."""
        which = {"InstanceRefreshIds": [refresh_id]} if refresh_id else {"MaxRecords": 1}
        found = self.autoscaling.describe_instance_refreshes(AutoScalingGroupName=self.name, **which)["InstanceRefreshes"]
        return found[0] if found else {}

    @staticmethod
    def version(refresh: dict[str, Any]) -> str:
        return str(refresh.get("DesiredConfiguration", {}).get("LaunchTemplate", {}).get("Version", ""))

    def view(self, refresh: dict[str, Any]) -> dict[str, Any]:
        """The refresh, and the group's instances by zone."""
        groups = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])["AutoScalingGroups"]
        group = groups[0] if groups else {"Instances": [], "AvailabilityZones": []}
        health = self._health(group.get("TargetGroupARNs", []))
        zones: dict[str, Counter[str]] = {zone: Counter() for zone in sorted(group["AvailabilityZones"])}
        wanted = self.version(refresh)
        for instance in group["Instances"]:
            state = instance["LifecycleState"]
            if state.startswith(("Terminating", "Detaching")):
                kind = "leaving"
            elif instance.get("LaunchTemplate", {}).get("Version") != wanted:
                kind = "old"
            else:
                kind = "new" if state == "InService" and health.get(instance["InstanceId"], True) else "warming"
            zones.setdefault(instance["AvailabilityZone"], Counter())[kind] += 1
        shown = camel_dict_to_snake_dict(refresh)
        if "StartTime" in refresh:
            until = refresh.get("EndTime") or datetime.now(UTC)
            shown["elapsed_seconds"] = max(0, int((until - refresh["StartTime"]).total_seconds()))
        found = {"refresh": shown, "zones": {zone: dict(kinds) for zone, kinds in zones.items()}}
        return found | {"failed_replacements": self._failed_replacements(refresh)}

    def _failed_replacements(self, refresh: dict[str, Any]) -> list[str]:
        """Instances that were launched since the refresh began, and taken out again since they failed their health checks."""
        if refresh.get("Status") not in ACTIVE or "StartTime" not in refresh:
            return []
        launched, failed = set(), []
        for activity in reversed(self._activities(refresh)):
            instance = activity["Description"].rpartition(" ")[2]
            if activity["Description"].startswith("Launching"):
                launched.add(instance)
            elif activity["Description"].startswith("Terminating") and "health check" in activity["Cause"]:
                failed.append(instance)
        return [instance for instance in failed if instance in launched]

    def _activities(self, refresh: dict[str, Any]) -> list[dict[str, Any]]:
        """What the group did since the refresh began, newest first."""
        found = self.autoscaling.describe_scaling_activities(AutoScalingGroupName=self.name, MaxRecords=100)["Activities"]
        # Activities' times are whole seconds.
        began = refresh["StartTime"] - timedelta(seconds=1) if "StartTime" in refresh else None
        return [activity for activity in found if began is None or activity["StartTime"] >= began]

    def _health(self, target_groups: list[str]) -> dict[str, bool]:
        """Whether each target is healthy, in all of the target groups."""
        found: dict[str, bool] = {}
        if not target_groups:
            return found
        balancing = self.module.client("elbv2")
        for arn in target_groups:
            for target in balancing.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]:
                name = target["Target"]["Id"]
                found[name] = found.get(name, True) and target["TargetHealth"]["State"] == "healthy"
        return found

    def report(self, refresh: dict[str, Any]) -> dict[str, Any]:
        return {"failures": self._failures(refresh), "alarms": self._alarms(refresh), "clients": self._clients(refresh)}

    def _failures(self, refresh: dict[str, Any]) -> list[str]:
        """The latest activities since the start that failed, or that replaced what failed its health checks."""
        found: dict[str, None] = {}
        for activity in self._activities(refresh):
            if activity["StatusCode"] in ("Failed", "Cancelled"):
                found[f"{activity['Description']}: {activity.get('StatusMessage') or activity['Cause']}"] = None
            elif "health" in activity["Cause"] and activity["Description"].startswith("Terminating"):
                found[f"{activity['Description']}: {activity['Cause']}"] = None
        return list(found)[:FAILURES_SHOWN]

    def _alarms(self, refresh: dict[str, Any]) -> list[str]:
        names = refresh.get("Preferences", {}).get("AlarmSpecification", {}).get("Alarms", [])
        if not names:
            return []
        found = self.module.client("cloudwatch").describe_alarms(AlarmNames=names, StateValue="ALARM")
        return [f"{alarm['AlarmName']}: {alarm.get('StateReason', '')}" for alarm in found["MetricAlarms"]]

    def _clients(self, refresh: dict[str, Any]) -> dict[str, int]:
        """Sums over the load balancers of the group from the start on; CloudWatch may be some minutes behind."""
        groups = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])["AutoScalingGroups"]
        arns = groups[0].get("TargetGroupARNs", []) if groups else []
        if not arns or "StartTime" not in refresh:
            return {}
        target_groups = self.module.client("elbv2").describe_target_groups(TargetGroupArns=arns)["TargetGroups"]
        balancers = sorted({arn.split("loadbalancer/")[1] for group in target_groups for arn in group["LoadBalancerArns"]})
        queries = [
            {
                "Id": f"{name}_{number}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/ApplicationELB",
                        "MetricName": metric,
                        "Dimensions": [{"Name": "LoadBalancer", "Value": balancer}],
                    },
                    "Period": 60,
                    "Stat": "Sum",
                },
            }
            for number, balancer in enumerate(balancers)
            for name, metric in METRICS.items()
        ]
        if not queries:
            return {}
        answer = self.module.client("cloudwatch").get_metric_data(
            MetricDataQueries=queries,
            StartTime=refresh["StartTime"].replace(second=0, microsecond=0),
            EndTime=datetime.fromtimestamp(time.time() + 60, UTC),
        )
        sums: Counter[str] = Counter(dict.fromkeys(METRICS, 0))
        for result in answer["MetricDataResults"]:
            sums[result["Id"].rsplit("_", 1)[0]] += int(sum(result["Values"]))
        return dict(sums)
