"""The metrics that AWS's services publish by themselves, each minute: instances, groups, queues, and request counts of nothing.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-metrics.html

Every instance is monitored in detail, as one with Monitoring.Enabled is on AWS (basic monitoring would be every five minutes).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPES

from twin.bodies.usage import Usage, usage
from twin.control.loop import WallClockLoop
from twin.control.policies import warming
from twin.region.metric_store import Aggregate, key, store_of
from twin.region.region import Region
from twin.region.target_tracking import request_counts

log = logging.getLogger(__name__)

_MINUTE = 60


class Metrics(WallClockLoop):
    """At the end of each minute publishes what was measured over it, under the minute's start as AWS does."""

    period = 1.0

    def __init__(self, region: Region, now: Callable[[], float] = time.time) -> None:
        super().__init__(region, now)
        self._published = int(now()) // _MINUTE
        self._before: dict[str, Usage] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    def tick(self) -> None:
        minute = int(self.now()) // _MINUTE
        if minute == self._published:
            return
        self._published = minute
        start = (minute - 1) * _MINUTE
        with self.region.records():
            store_of(self.region.backend("cloudwatch")).prune(self.now())
            self._groups(start)
            self._request_counts(start)
            self._queues(start)
        self._pool.submit(self._measure, start)  # asks podman, which takes its time

    def put(self, at: float, namespace: str, name: str, dimensions: dict[str, str], value: float, unit: str) -> None:
        sample = Aggregate()
        sample.add(value)
        store_of(self.region.backend("cloudwatch")).put(key(namespace, name, dimensions, unit), at, sample)

    def _groups(self, at: float) -> None:
        for group in self.region.backend("autoscaling").autoscaling_groups.values():
            if not group.metrics:
                continue
            states = Counter(_kind(str(member.lifecycle_state)) for member in group.instance_states)
            values = {
                "GroupMinSize": group.min_size,
                "GroupMaxSize": group.max_size,
                "GroupDesiredCapacity": group.desired_capacity,
            }
            for what in ("InService", "Pending", "Standby", "Terminating"):
                values[f"Group{what}Instances"] = values[f"Group{what}Capacity"] = states[what]
            values["GroupTotalInstances"] = values["GroupTotalCapacity"] = len(group.instance_states)
            for name in group.metrics:
                self.put(at, "AWS/AutoScaling", name, {"AutoScalingGroupName": group.name}, float(values[name]), "None")

    def _request_counts(self, at: float) -> None:
        """A zero for what target tracking watches: a target group without requests has a count of 0, not none."""
        for policy in self.region.backend("autoscaling").policies.values():
            target_group = request_counts(policy) if policy.policy_type == "TargetTrackingScaling" else None
            if target_group:
                self.put(at, "AWS/ApplicationELB", "RequestCountPerTarget", {"TargetGroup": target_group}, 0.0, "Count")

    def _queues(self, at: float) -> None:
        """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html"""
        for queue in self.region.backend("sqs").queues.values():
            counts = {
                "ApproximateNumberOfMessagesVisible": queue.approximate_number_of_messages,
                "ApproximateNumberOfMessagesNotVisible": queue.approximate_number_of_messages_not_visible,
            }
            for name, count in counts.items():
                self.put(at, "AWS/SQS", name, {"QueueName": queue.name}, float(count), "Count")

    def _measure(self, at: float) -> None:
        try:
            with self.region.records():
                running = [instance for instance in self.region.ec2.all_instances() if instance.state == "running"]
            pids = self._pids([instance.id for instance in running])
            measured = {name: found for name, pid in pids.items() if (found := usage(pid)) is not None}
            with self.region.records():
                members = self._members()
                for instance in running:
                    self._instance(at, instance, measured.get(instance.id), members.get(instance.id))
            self._before = measured
        except Exception:
            log.exception("the instances' metrics of this minute are lost")

    def _pids(self, names: list[str]) -> dict[str, int]:
        """The first process of each container, from one call of podman."""
        if not names:
            return {}
        said = self.region.podman.run("inspect", "--format={{.Name}} {{.State.Pid}}", *names, check=False)
        lines = [line.split() for line in said.splitlines()]
        return {name: int(pid) for name, pid in (line for line in lines if len(line) == 2) if int(pid)}

    def _members(self) -> dict[str, tuple[Any, bool]]:
        """Group and readiness of each instance that is in a group: one that warms up is not part of the group's metrics."""
        found = {}
        for group in self.region.backend("autoscaling").autoscaling_groups.values():
            warmup = float(getattr(group, "default_instance_warmup", None) or 0)
            for member in group.instance_states:
                ready = member.lifecycle_state == "InService" and not warming(member, warmup, self.region.clock())
                found[member.instance.id] = (group, ready)
        return found

    def _instance(self, at: float, instance: Any, now: Usage | None, membership: tuple[Any, bool] | None) -> None:
        dimensions: list[dict[str, str]] = [{"InstanceId": instance.id}]
        if membership and membership[1]:
            dimensions.append({"AutoScalingGroupName": membership[0].name})
        values = [
            (name, 0.0, "Count") for name in ("StatusCheckFailed", "StatusCheckFailed_Instance", "StatusCheckFailed_System")
        ]
        before = self._before.get(instance.id)
        if now is not None and before is not None and before.pid == now.pid and now.at > before.at:
            busy = (now.cpu - before.cpu) / (now.at - before.at) / vcpus(instance.instance_type) * 100
            values.append(("CPUUtilization", min(100.0, max(0.0, busy)), "Percent"))
            values.append(("NetworkIn", float(max(0, now.received - before.received)), "Bytes"))
            values.append(("NetworkOut", float(max(0, now.sent - before.sent)), "Bytes"))
        for name, value, unit in values:
            for each in dimensions:
                self.put(at, "AWS/EC2", name, each, value, unit)

    def end(self) -> None:
        super().end()
        self._pool.shutdown(wait=False, cancel_futures=True)


def vcpus(instance_type: str) -> int:
    return int(INSTANCE_TYPES.get(instance_type, {}).get("VCpuInfo", {}).get("DefaultVCpus", 2))


def _kind(lifecycle_state: str) -> str:
    """The state that the group's metrics count it under."""
    if lifecycle_state.startswith(("Pending", "Terminating")):
        return lifecycle_state.split(":")[0]
    return "Standby" if lifecycle_state in ("Standby", "EnteringStandby") else lifecycle_state
