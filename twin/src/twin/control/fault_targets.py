"""Which resources an experiment's target means at the moment it starts.

https://docs.aws.amazon.com/fis/latest/userguide/targets.html
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twin.region.fis import SELECTION
from twin.region.region import Region


@dataclass(frozen=True)
class Resource:
    """A candidate: ARN, tags, and the parts of its description that filters and parameters look at."""

    arn: str
    tags: dict[str, str]
    parts: dict[str, str]


def resolve(region: Region, target: dict[str, Any]) -> list[str]:
    """ARNs of the target's resources, chosen at random where the selection mode says so. Call with the lock held."""
    candidates = list(_candidates(region, target["resourceType"]))
    if target.get("resourceArns"):
        wanted = set(target["resourceArns"])
        found = [resource for resource in candidates if resource.arn in wanted]
    else:
        found = [resource for resource in candidates if _fits(resource, target)]
    return _select([resource.arn for resource in found], target["selectionMode"])


def _fits(resource: Resource, target: dict[str, Any]) -> bool:
    tags = target.get("resourceTags") or {}
    if any(resource.tags.get(key) != value for key, value in tags.items()):
        return False
    if any(resource.parts.get(entry["path"]) not in entry["values"] for entry in target.get("filters") or []):
        return False
    parameters = target.get("parameters") or {}
    zones = parameters.get("availabilityZoneIdentifiers") or parameters.get("availabilityZoneIdentifier")
    if zones and resource.parts.get("AvailabilityZone") not in [zone.strip() for zone in zones.split(",")]:
        return False
    return not parameters.get("vpc") or resource.parts.get("VpcId") == parameters["vpc"]


def _select(arns: list[str], mode: str) -> list[str]:
    found = SELECTION.fullmatch(mode)
    if found is None or mode == "ALL":
        return arns
    number = int(found.group(1))
    count = number if mode.startswith("COUNT") else math.floor(len(arns) * number / 100)
    return random.sample(arns, min(count, len(arns)))


def _candidates(region: Region, kind: str) -> Iterable[Resource]:
    account, name = region.settings.account_id, region.settings.region
    ec2 = region.ec2
    if kind == "aws:ec2:instance":
        for instance in ec2.all_instances():
            if instance.state == "terminated":
                continue
            zone = instance.placement.zone
            parts = {
                "State.Name": instance.state,
                "Placement.AvailabilityZone": zone,
                "AvailabilityZone": zone,
                "VpcId": instance.vpc_id,
                "SubnetId": instance.subnet_id,
                "InstanceType": instance.instance_type,
                "ImageId": instance.image_id,
            }
            yield Resource(f"arn:aws:ec2:{name}:{account}:instance/{instance.id}", _tags(instance.get_tags()), parts)
    elif kind == "aws:ec2:subnet":
        for zone_subnets in ec2.subnets.values():
            for subnet in zone_subnets.values():
                parts = {
                    "AvailabilityZone": subnet.availability_zone,
                    "VpcId": subnet.vpc_id,
                    "CidrBlock": subnet.cidr_block,
                }
                yield Resource(f"arn:aws:ec2:{name}:{account}:subnet/{subnet.id}", _tags(subnet.get_tags()), parts)
    elif kind == "aws:ec2:autoscaling-group":
        for group in region.backend("autoscaling").autoscaling_groups.values():
            yield Resource(group.arn, _tags(group.tags), {"AutoScalingGroupName": group.name})
    elif kind == "aws:rds:db":
        for database in region.backend("rds").databases.values():
            parts = {
                "DBInstanceIdentifier": database.db_instance_identifier,
                "AvailabilityZone": database.availability_zone,
                "DBSubnetGroup.VpcId": database.db_subnet_group.vpc_id if database.db_subnet_group else "",
            }
            yield Resource(database.arn, _tags(database.tags), parts)
    elif kind == "aws:iam:role":
        for role in region.backend("iam").roles.values():
            yield Resource(role.arn, _tags(role.tags), {})


def _tags(tags: Any) -> dict[str, str]:
    """moto spells tags in each service in another way."""
    return {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value")) for tag in tags or []}
