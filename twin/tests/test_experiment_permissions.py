"""What an experiment's role must be allowed, and what becomes of the experiment without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_world import World, experimenting, in_zone, policy, wait

REFERENCE = "https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html"


CAPACITY = {"availabilityZoneIdentifiers": "us-east-1a", "duration": "PT1M", "percentage": "100"}
NETWORK = [f"ec2:{name}NetworkAcl" for name in ("Create", "Delete")] + [
    "ec2:CreateNetworkAclEntry",
    "ec2:CreateTags",
    "ec2:DescribeNetworkAcls",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ec2:ReplaceNetworkAclAssociation",
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with experimenting(tmp_path) as made:
        yield made


@pytest.mark.rule("faults", "An action for which the experiment's role lacks a permission fails the experiment.", REFERENCE)
@pytest.mark.parametrize(
    ("action", "key", "parameters", "needed"),
    [
        ("aws:ec2:stop-instances", "Instances", {}, ["ec2:DescribeInstances", "ec2:StopInstances"]),
        (
            "aws:ec2:stop-instances",
            "Instances",
            {"startInstancesAfterDuration": "PT1M"},
            ["ec2:DescribeInstances", "ec2:StartInstances", "ec2:StopInstances"],
        ),
        ("aws:ec2:terminate-instances", "Instances", {}, ["ec2:DescribeInstances", "ec2:TerminateInstances"]),
        ("aws:ec2:reboot-instances", "Instances", {}, ["ec2:DescribeInstances", "ec2:RebootInstances"]),
        ("aws:ec2:api-insufficient-instance-capacity-error", "Roles", CAPACITY, ["ec2:InjectApiError"]),
        ("aws:network:disrupt-connectivity", "Subnets", {"scope": "all", "duration": "PT1M"}, NETWORK),
    ],
)
def test_a_missing_permission_fails_exactly_there(
    world: World, action: str, key: str, parameters: dict[str, str], needed: list[str]
) -> None:
    subnet = f"arn:aws:ec2:us-east-1:123456789012:subnet/{world.subnets['a']}"
    targets = {
        "Instances": in_zone("a"),
        "Roles": {"resourceType": "aws:iam:role", "resourceArns": [world.role], "selectionMode": "ALL"},
        "Subnets": {"resourceType": "aws:ec2:subnet", "resourceArns": [subnet], "selectionMode": "ALL"},
    }
    wanted = {"act": {"actionId": action, "targets": {key: "them"}, "parameters": parameters}, "then": wait(startAfter=["act"])}
    for missing in needed:
        world.may(*(name for name in needed if name != missing), "logs:GetLogEvents")
        found = world.experiment(world.start(wanted, {"them": targets[key]}))
        assert found["state"]["status"] in ("running", "failed")
        world.step()
        failed = world.experiment(found["id"])
        assert failed["state"]["status"] == "failed"
        assert f"is not authorized to perform: {missing}" in failed["state"]["reason"]
        assert failed["actions"]["then"]["state"]["status"] == "cancelled"
        assert world.states("a") == ["running"] * 2
    world.may(*needed)
    found = world.start(wanted, {"them": targets[key]})
    world.step()
    assert world.experiment(found)["actions"]["act"]["state"]["status"] in ("running", "completed")


@pytest.mark.rule("faults", "The condition keys of ec2:InjectApiError narrow it to an action and its targets.", REFERENCE)
@pytest.mark.parametrize(("arn", "allowed"), [("arn:aws:iam::123456789012:role/exp*", True), ("arn:aws:iam::*:role/b", False)])
def test_injecting_can_be_narrowed(world: World, arn: str, allowed: bool) -> None:
    condition = {
        "StringEquals": {"ec2:FisActionId": "aws:ec2:api-insufficient-instance-capacity-error"},
        "ForAllValues:ArnLike": {"ec2:FisTargetArns": [arn]},
    }
    document = policy({"Effect": "Allow", "Action": "ec2:InjectApiError", "Resource": "*", "Condition": condition})
    world.iam.put_role_policy(RoleName="experiment", PolicyName="faults", PolicyDocument=document)
    action = {
        "actionId": "aws:ec2:api-insufficient-instance-capacity-error",
        "targets": {"Roles": "who"},
        "parameters": CAPACITY,
    }
    target = {"resourceType": "aws:iam:role", "resourceArns": [world.role], "selectionMode": "ALL"}
    found = world.start({"capacity": action}, {"who": target})
    world.step()
    assert world.status(found) == ("running" if allowed else "failed")


@pytest.mark.rule(
    "faults",
    "The experiment's role must trust fis.amazonaws.com.",
    "https://docs.aws.amazon.com/fis/latest/userguide/getting-started-iam-service-role.html",
)
def test_a_role_that_does_not_trust_fis(world: World) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    world.iam.update_assume_role_policy(RoleName="experiment", PolicyDocument=policy(trust))
    failed = world.experiment(world.start({"wait": wait()}))
    assert failed["state"]["status"] == "failed"
    assert failed["state"]["error"]["code"] == "UnauthorizedOperation"
    assert "can't be assumed" in failed["state"]["reason"]
