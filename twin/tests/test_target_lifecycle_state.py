"""What an instance's metadata says of the state that its Auto Scaling group takes it to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from asg_world import GROUP, World, living
from werkzeug.test import Client

from twin.bodies.metadata import Metadata

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
LEAF = "/latest/meta-data/autoscaling/target-lifecycle-state"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


def target_state(world: World, instance_id: str) -> str | None:
    """What the instance reads; None where there is no such item."""
    instance = world.region.ec2.get_instance(instance_id)
    asker = Client(Metadata(world.region, world.vpc))
    origin = {"REMOTE_ADDR": instance.private_ip}
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = asker.put("/latest/api/token", headers=ttl, environ_overrides=origin).text
    answer = asker.get(LEAF, headers={"X-aws-ec2-metadata-token": token}, environ_overrides=origin)
    return answer.text if answer.status_code == 200 else None


def test_an_instance_reads_where_its_group_takes_it(world: World) -> None:
    world.group(desired=2, zones="ab")
    first, second = sorted(world.ids("InService"))
    assert target_state(world, first) == "InService"
    world.auto.enter_standby(InstanceIds=[first], AutoScalingGroupName=GROUP, ShouldDecrementDesiredCapacity=True)
    assert target_state(world, first) == "Standby"
    world.run(3)
    assert world.ids("Standby") == [first]
    assert target_state(world, first) == "Standby"
    world.auto.exit_standby(InstanceIds=[first], AutoScalingGroupName=GROUP)
    assert target_state(world, first) == "InService"
    world.run(3)
    world.auto.detach_instances(InstanceIds=[second], AutoScalingGroupName=GROUP, ShouldDecrementDesiredCapacity=True)
    assert target_state(world, second) == "Detached"
    world.run(3)
    assert target_state(world, second) == "Detached"


def test_a_leaving_instance_reads_so_before_and_while_its_hook_waits(world: World) -> None:
    world.group(desired=1, zones="a")
    world.behind_a_load_balancer()
    (leaving,) = world.ids("InService")
    world.balancers.delay = 10.0
    world.auto.put_lifecycle_hook(AutoScalingGroupName=GROUP, LifecycleHookName="drain", LifecycleTransition=TERMINATING)
    world.auto.terminate_instance_in_auto_scaling_group(InstanceId=leaving, ShouldDecrementDesiredCapacity=True)
    assert target_state(world, leaving) == "Terminated"
    world.run(3)
    assert world.ids("Terminating") == [leaving]  # it drains
    assert target_state(world, leaving) == "Terminated"
    world.run(12)
    assert world.ids("Terminating:Wait") == [leaving]
    assert target_state(world, leaving) == "Terminated"


def test_an_instance_of_no_group_reads_nothing(world: World) -> None:
    world.group(desired=0)
    made = world.ec2.run_instances(ImageId=next(iter(world.region.ec2.amis)), MinCount=1, MaxCount=1, SubnetId=world.subnets[0])
    world.run(2)
    assert target_state(world, made["Instances"][0]["InstanceId"]) is None
