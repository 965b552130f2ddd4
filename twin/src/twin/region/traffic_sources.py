"""Target groups of a group, by both APIs; the control loop registers and deregisters the members.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AttachTrafficSources.html
"""

from __future__ import annotations

from typing import Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult, EmptyResult

from twin.region.groups import group_of
from twin.region.patch import add, wrap
from twin.region.region import Region


def install(region: Region) -> None:
    def named(response: Any) -> tuple[Any, list[str]]:
        group = group_of(response, response._get_param("AutoScalingGroupName"))
        sources = response._get_param("TrafficSources", []) or []
        kinds = {source.get("Type") or "elbv2" for source in sources}
        if kinds - {"elbv2"}:
            raise ValidationError(f"Traffic sources of type {', '.join(sorted(kinds))} are not supported by the twin.")
        return group, [source["Identifier"] for source in sources]

    def known(arns: list[str]) -> None:
        groups = region.backend("elbv2").target_groups
        missing = [arn for arn in arns if arn not in groups]
        if missing:
            raise ValidationError(
                f"Provided Target Groups may not be valid. Please ensure they exist and try again: {', '.join(missing)}"
            )

    @wrap(models.AutoScalingBackend, "attach_load_balancer_target_groups")
    def attach(original: Any, self: Any, group_name: str, target_group_arns: list[str]) -> Any:
        known(target_group_arns)
        return original(self, group_name, target_group_arns)

    @wrap(models.AutoScalingBackend, "detach_load_balancer_target_groups")
    def detach(original: Any, self: Any, group_name: str, target_group_arns: list[str]) -> Any:
        result = original(self, group_name, target_group_arns)
        for member in self.autoscaling_groups[group_name].instance_states:
            member.registered -= set(target_group_arns)
        return result

    for name in ("attach_load_balancer_target_groups", "detach_load_balancer_target_groups"):

        @wrap(responses.AutoScalingResponse, name)
        def change(original: Any, self: Any) -> Any:
            group_of(self, self._get_param("AutoScalingGroupName"))
            return original(self)

    @add(responses.AutoScalingResponse, "attach_traffic_sources")
    def attach_traffic_sources(self: Any) -> Any:
        group, arns = named(self)
        self.autoscaling_backend.attach_load_balancer_target_groups(group.name, arns)
        return EmptyResult()

    @add(responses.AutoScalingResponse, "detach_traffic_sources")
    def detach_traffic_sources(self: Any) -> Any:
        group, arns = named(self)
        self.autoscaling_backend.detach_load_balancer_target_groups(group.name, arns)
        return EmptyResult()

    @add(responses.AutoScalingResponse, "describe_traffic_sources")
    def describe_traffic_sources(self: Any) -> Any:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        sources = [{"Identifier": arn, "Type": "elbv2", "State": "InService"} for arn in group.target_group_arns]
        return ActionResult({"TrafficSources": sources})
