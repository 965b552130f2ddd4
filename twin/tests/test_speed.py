"""What is made faster answers with the same bytes as before."""

from __future__ import annotations

import csv
import re
from collections import UserDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import xmltodict
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.core import serialize
from moto.core.utils import get_service_model
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import Client
from world import World, living, undoing

from twin.bodies import haproxy
from twin.region import speed, structures
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


class Machine:
    """Has members' values in every way that a record may: as attributes of its own, of its class, and made up, or not."""

    instance_type = "of the class"
    Placement = None

    def __init__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes)

    @property
    def ImageId(self) -> str:
        if "image_id" in vars(self):
            raise AttributeError("take the other")
        return "made up"


class Guessing(Machine):
    def __getattr__(self, name: str) -> str:
        if name.startswith("key_n"):
            return "guessed"
        raise AttributeError(name)


_MEMBERS: dict[str, Any] = {
    "InstanceId": st.sampled_from(["i-1", "", None]),
    "instance_id": st.just("i-2"),
    "id": st.just("i-3"),
    "ImageId": st.just("ami-1"),
    "image_id": st.just("ami-2"),
    "instance_type": st.just("own"),
    "EbsOptimized": st.sampled_from([True, False, "True", "no", 0, None]),
    "ami_launch_index": st.sampled_from([0, "1", 2.5, True]),
    "launch_time": st.sampled_from(
        [
            datetime(2026, 1, 1, 10, tzinfo=UTC),
            datetime(2026, 1, 1, 11, tzinfo=timezone(timedelta(hours=1))),
            datetime(2026, 1, 1, 10, 0, 0, 5),
            "2026-01-01T10:00:00.000Z",
            "2026-01-01 10:00",
            1.5,
            1,
        ]
    ),
    "Tags": st.sampled_from([[], None, [{"Key": "a<", "value": ""}], [{"key": "b", "Value": "c", "more": 1}, {}]]),
    "tags": st.just([{"Key": "d", "Value": "e"}]),
    "State": st.sampled_from([{}, {"Code": 16, "Name": "running"}]),
    "placement": st.just({"availability_zone": "a"}),
    "key_name": st.sampled_from(["<&>", ""]),
    "SecurityGroups": st.lists(st.builds(Machine, st.just({"GroupName": "x"})), max_size=2),
}
_machines = st.lists(
    st.builds(
        lambda kind, attributes: kind(attributes),
        st.sampled_from([dict, Machine, Guessing, UserDict]),
        st.fixed_dictionaries({}, optional={name: values for name, values in _MEMBERS.items() if name != "ImageId"}),
    ),
    max_size=4,
)


def _written(operation: str, machines: list[Any]) -> bytes:
    model = get_service_model("ec2").operation_model(operation)
    picker = serialize.XFormedAttributePicker(response_transformers=EC2BaseResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER)
    writer = serialize.EC2Serializer(operation_model=model, value_picker=picker)
    result = {"Instances": machines} if operation == "RunInstances" else {"Reservations": [{"Instances": machines}]}
    try:
        return str(writer.serialize(result)["body"]).encode()
    except Exception as error:
        return repr(error).encode()


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(_machines, min_size=2, max_size=2), st.sampled_from(["RunInstances", "DescribeInstances"]))
def test_records_of_every_kind_are_written_the_same(batches: list[list[Any]], operation: str) -> None:
    expected = [_written(operation, machines) for machines in batches]
    with undoing():
        structures.install()
        found = [_written(operation, machines) for machines in batches]
        assert [_written(operation, machines) for machines in batches] == found  # from what is remembered
    for before, after in zip(expected, found, strict=True):
        assert after == before, _difference(before, after)


def test_plans_for_many_layouts_are_not_kept() -> None:
    machines = [{"InstanceId": f"i-{number}", f"attribute-{number}": 1} for number in range(1000)]
    with undoing():
        structures.install()
        found = _written("RunInstances", machines)
    assert _written("RunInstances", machines) == found
    shape = get_service_model("ec2").operation_model("RunInstances").output_shape.members["Instances"].member
    assert max(len(plan.layouts) for plan in vars(shape)["twin_plans"].values()) == 64


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


def test_columns_of_haproxy_are_csvs() -> None:
    lines = ["pxname,svname,qcur,scur,status,check_status,check_code,check_health,last,", 'a,"b,""c",,3,UP 1/2,* L7OK,200,4,"x",']
    rows = [{name: row[name] for name in row if name in haproxy._COLUMNS} for row in csv.DictReader([*lines, ""])]
    assert haproxy._table([*lines, ""]) == rows
    assert len(rows[0]) == len(haproxy._COLUMNS)
    assert haproxy._table([]) == haproxy._table(lines[:1]) == []


@pytest.mark.parametrize("name", ["a b", "a>", "<a", "a/b"])
def test_names_that_break_out_of_their_element_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        unparse({"root": {name: "x"}}, full_document=True, short_empty_elements=True, pretty=False)
