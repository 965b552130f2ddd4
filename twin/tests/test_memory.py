"""What a call makes only to answer is gone once it has answered."""

from __future__ import annotations

import gc
from pathlib import Path

from common import client, undoing
from moto import mock_aws
from moto.elbv2.models import FakeHealthStatus

from twin.bodies.podman import Podman
from twin.region import memory
from twin.region.region import Region
from twin.settings import Settings


def test_answers_are_not_kept(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, store=tmp_path / "store", name="test-memory", slot=64)
    with undoing(), mock_aws():
        memory.install(Region(settings, Podman(settings)))
        elb = client("elbv2")
        vpc = client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
        group = elb.create_target_group(Name="many", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")
        arn = group["TargetGroups"][0]["TargetGroupArn"]
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": f"10.0.0.{number}"} for number in range(1, 11)])
        for _ in range(3):
            assert len(elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]) == 10
        gc.collect()
        assert [one for one in gc.get_objects() if isinstance(one, FakeHealthStatus)] == []
