"""What is made faster answers with the same bytes as before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import xmltodict
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import Client
from world import World, living, undoing

from twin.region import speed
from twin.region.speed import unparse

VERSIONS = {
    "autoscaling": "2011-01-01",
    "ec2": "2016-11-15",
    "elasticloadbalancing": "2015-12-01",
    "iam": "2010-05-08",
    "sts": "2011-06-15",
    "rds": "2014-10-31",
    "sns": "2010-03-31",
    "monitoring": "2010-08-01",
}
CALLS: list[tuple[str, str, dict[str, str]]] = [
    ("ec2", "DescribeInstances", {}),
    ("ec2", "DescribeInstances", {"Filter.1.Name": "tag:aws:autoscaling:groupName", "Filter.1.Value.1": "fleet"}),
    ("ec2", "DescribeInstances", {"Filter.1.Name": "tag:odd", "Filter.1.Value.1": "*"}),
    ("ec2", "DescribeInstances", {"InstanceId.1": "i-00000000000000000"}),
    ("ec2", "DescribeTags", {}),
    ("ec2", "DescribeTags", {"Filter.1.Name": "resource-id", "Filter.1.Value.1": "vpc-*"}),
    ("ec2", "DescribeSubnets", {}),
    ("ec2", "DescribeVpcs", {}),
    ("ec2", "DescribeSecurityGroups", {}),
    ("ec2", "DescribeImages", {}),
    ("ec2", "DescribeNetworkInterfaces", {}),
    ("ec2", "DescribeLaunchTemplateVersions", {"LaunchTemplateName": "fleet"}),
    ("autoscaling", "DescribeAutoScalingGroups", {}),
    ("autoscaling", "DescribeScalingActivities", {"AutoScalingGroupName": "fleet"}),
    ("autoscaling", "DescribeAutoScalingInstances", {}),
    ("elasticloadbalancing", "DescribeTargetGroups", {}),
    ("elasticloadbalancing", "DescribeLoadBalancers", {}),
    ("iam", "ListRoles", {}),
    ("iam", "GetRole", {"RoleName": "role"}),
    ("iam", "GetRole", {"RoleName": "none"}),
    ("sts", "GetCallerIdentity", {}),
    ("rds", "DescribeDBInstances", {}),
    ("sns", "ListTopics", {}),
    ("monitoring", "DescribeAlarms", {}),
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


def answers(world: World) -> list[tuple[int, bytes]]:
    client = Client(DomainDispatcherApplication(create_backend_app))

    def call(service: str, action: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        scope = f"Credential=AKIA/20260101/us-east-1/{service}/aws4_request"
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=x",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        body = urlencode({"Action": action, "Version": VERSIONS[service], **parameters})
        answer = client.post("/", data=body, headers=headers)
        # moto makes up an id for each answer, and a database can be restored up to this very moment.
        return answer.status_code, re.sub(rb"(?i)(<(?:requestid|latestrestorabletime)>)[^<]*", rb"\1", answer.data)

    return [call(*each) for each in CALLS]


def _difference(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Both answers, a little from where they part."""
    at = next((index for index, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0)
    return before[max(0, at - 60) : at + 200], after[max(0, at - 60) : at + 200]


def test_answers_are_the_same_bytes(world: World) -> None:
    group = world.group("fleet", 5, Tags=[{"Key": "odd", "Value": '<&>"', "PropagateAtLaunch": True}])
    arn = world.client("elbv2").create_target_group(
        Name="targets", Protocol="HTTP", Port=80, VpcId=world.region.subnet(group.vpc_zone_identifier.split(",")[0]).vpc_id
    )["TargetGroups"][0]["TargetGroupArn"]
    world.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}", Description="a & b")
    world.client("sns").create_topic(Name="topic")
    world.client("rds").create_db_instance(
        DBInstanceIdentifier="database", DBInstanceClass="db.t4g.micro", Engine="postgres", AllocatedStorage=20,
        MasterUsername="master", MasterUserPassword="a-long-password",
    )  # fmt: skip
    world.client("cloudwatch").put_metric_alarm(
        AlarmName="alarm", MetricName="CPUUtilization", Namespace="AWS/EC2", Period=60, EvaluationPeriods=1, Threshold=1.5,
        ComparisonOperator="GreaterThanThreshold", Statistic="Average",
        Dimensions=[{"Name": "AutoScalingGroupName", "Value": "fleet"}],
    )  # fmt: skip
    world.step(5)
    CALLS.append(("elasticloadbalancing", "DescribeTargetGroupAttributes", {"TargetGroupArn": arn}))
    slow = answers(world)
    with undoing():
        speed.install(world.region)
        first, again = answers(world), answers(world)
    assert {status for status, _ in slow} >= {200, 400}
    for call, before, after, later in zip(CALLS, slow, first, again, strict=True):
        assert after == before, (call, _difference(before[1], after[1]))
        assert later == before, call


_names = st.sampled_from(["a", "Name", "item", "member"])
_leaves: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(st.characters(exclude_categories=["C"]), max_size=5),
    st.floats(allow_nan=False),
)
_trees: Any = st.recursive(
    st.one_of(_leaves, st.dictionaries(st.sampled_from(["@xmlns", "@id", "#text"]), st.text("a<&\">'", max_size=4))),
    lambda inner: st.one_of(
        st.dictionaries(_names, inner, max_size=3), st.lists(st.dictionaries(_names, inner, max_size=2), max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(_trees, st.booleans(), st.booleans())
def test_documents_are_the_same_text(tree: Any, full: bool, short: bool) -> None:
    document = {"root": {"inside": tree}}
    expected = xmltodict.unparse(document, full_document=full, short_empty_elements=short)
    assert unparse(document, full_document=full, short_empty_elements=short, pretty=False) == expected


@pytest.mark.parametrize("name", ["a b", "a>", "<a", "a/b"])
def test_names_that_break_out_of_their_element_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        unparse({"root": {name: "x"}}, full_document=True, short_empty_elements=True, pretty=False)
