"""What an experiment's role must be allowed before an action of Fault Injection Service begins.

https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from twin.control.fault_actions import ActionFailed
from twin.region.region import Region

# Described to resolve the targets, on all resources.
_LOOKS = {
    "aws:ec2:stop-instances": ("ec2:DescribeInstances",),
    "aws:ec2:reboot-instances": ("ec2:DescribeInstances",),
    "aws:ec2:terminate-instances": ("ec2:DescribeInstances",),
    "aws:ec2:asg-insufficient-instance-capacity-error": ("autoscaling:DescribeAutoScalingGroups",),
    "aws:network:disrupt-connectivity": ("ec2:DescribeSubnets", "ec2:DescribeVpcs", "ec2:DescribeNetworkAcls"),
    "aws:rds:reboot-db-instances": ("rds:DescribeDBInstances",),
    "aws:cloudwatch:assert-alarm-state": ("cloudwatch:DescribeAlarms",),
}
# Done to each of the targets.
_DEEDS = {
    "aws:ec2:stop-instances": ("ec2:StopInstances",),
    "aws:ec2:reboot-instances": ("ec2:RebootInstances",),
    "aws:ec2:terminate-instances": ("ec2:TerminateInstances",),
    "aws:network:disrupt-connectivity": ("ec2:ReplaceNetworkAclAssociation",),
    "aws:rds:reboot-db-instances": ("rds:RebootDBInstance",),
}


@dataclass(frozen=True)
class Need:
    """One permission: the action, the ARN it is for, and the condition keys that FIS gives."""

    action: str
    resource: str = "*"
    context: dict[str, str | list[str]] = field(default_factory=dict)


def check(region: Region, experiment: Any, action: dict[str, Any], targets: list[str]) -> None:
    """Raises ActionFailed for the first permission that the experiment's role lacks. Call with the region's lock held."""
    for need in needs(region, action, targets):
        if not region.allows_role(experiment.role_arn, need.action, need.resource, need.context):
            account, name = experiment.role_arn.split(":")[4], experiment.role_arn.rsplit("/", 1)[-1]
            where = "" if need.resource == "*" else f" on resource: {need.resource}"
            raise ActionFailed(
                "UnauthorizedOperation: You are not authorized to perform this operation. "
                f"User: arn:aws:sts::{account}:assumed-role/{name}/{experiment.id} is not authorized to perform: "
                f"{need.action}{where} because no identity-based policy allows the {need.action} action"
            )


def needs(region: Region, action: dict[str, Any], targets: list[str]) -> Iterator[Need]:
    """The permissions of an action on the ARNs `targets`. The twin's own actions need none: no API call has their effect."""
    kind = action["actionId"]
    yield from (Need(name) for name in _LOOKS.get(kind, ()))
    yield from (Need(name, arn) for name in _DEEDS.get(kind, ()) for arn in targets)
    if kind == "aws:ec2:stop-instances" and "startInstancesAfterDuration" in (action.get("parameters") or {}):
        yield from (Need("ec2:StartInstances", arn) for arn in targets)
    elif kind == "aws:network:disrupt-connectivity":
        managed = "managedByFIS"  # the tag of the network ACLs that FIS puts in place of a subnet's own
        for vpc in sorted({region.subnet(arn.rsplit("/", 1)[-1]).vpc_id for arn in targets}):
            account, name = region.settings.account_id, region.settings.region
            acl = f"arn:aws:ec2:{name}:{account}:network-acl/*"
            yield Need("ec2:CreateNetworkAcl", f"arn:aws:ec2:{name}:{account}:vpc/{vpc}")
            yield Need("ec2:CreateNetworkAcl", acl, {f"aws:RequestTag/{managed}": "true"})
            yield Need("ec2:CreateTags", acl, {f"aws:RequestTag/{managed}": "true", "ec2:CreateAction": "CreateNetworkAcl"})
            yield Need("ec2:CreateNetworkAclEntry", acl, {f"ec2:ResourceTag/{managed}": "true"})
            yield Need("ec2:DeleteNetworkAcl", acl, {f"ec2:ResourceTag/{managed}": "true"})
    elif kind.endswith("insufficient-instance-capacity-error"):
        yield Need("ec2:InjectApiError", context={"ec2:FisActionId": kind, "ec2:FisTargetArns": targets})
