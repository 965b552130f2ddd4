"""Instances and their machines, on stubs: what every failure of a machine does to the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from world import SimulatedInstances, World, living

from twin.bodies.machines import POWERED_OFF, REBOOTED
from twin.control.instances import BOOT_SECONDS
from twin.region import target_health
from twin.region.ec2 import set_state

STATE_REASONS = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html"
LIFECYCLE = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html"
RETIREMENT = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-retirement.html"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with living(tmp_path) as made:
        yield made


def launch(world: World, zone: str = "a", image: str = "", **options: Any) -> Any:
    subnet = world.subnets(zone)[0]
    image = image or world.image()
    answer = world.client("ec2").run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet, **options)
    return world.region.ec2.get_instance(answer["Instances"][0]["InstanceId"])


def running(world: World, zone: str = "a", **options: Any) -> Any:
    instance = launch(world, zone, **options)
    world.until("running", lambda: instance.state == "running")
    return instance


def described(world: World, instance: Any) -> dict[str, Any]:
    found: dict[str, Any] = world.client("ec2").describe_instances(InstanceIds=[instance.id])["Reservations"][0]["Instances"][0]
    return found


@pytest.mark.rule(
    "faults", "An internal error during a launch terminates the instance, with Server.InternalError.", STATE_REASONS
)
def test_a_machine_that_does_not_boot_terminates_its_instance(world: World) -> None:
    world.machines.refuse = lambda machine: "podman run: there is no /sbin/init"
    instance = launch(world)
    world.until("its end", lambda: instance.state == "terminated")
    reason = described(world, instance)["StateReason"]
    assert reason["Code"] == "Server.InternalError"
    assert reason["Message"] == "Server.InternalError: Internal error on launch: podman run: there is no /sbin/init"
    assert world.machines.found() == {}


def test_a_machine_has_its_whole_share_once_it_serves_or_has_had_time_to_boot(world: World) -> None:
    idle, target = running(world), running(world)
    elb = world.client("elbv2")
    group = elb.create_target_group(Name="some", Protocol="HTTP", Port=80, VpcId=target.vpc_id)["TargetGroups"][0]
    elb.register_targets(TargetGroupArn=group["TargetGroupArn"], Targets=[{"Id": target.id}])
    world.step(3)
    assert world.machines.settled == []
    record = world.region.backend("elbv2").target_groups[group["TargetGroupArn"]]
    target_health.verdicts(record)[target.id, 80] = target_health.Verdict(target_health.HEALTHY)
    world.step(1)
    assert world.machines.settled == [target.id]
    world.step(BOOT_SECONDS)
    assert world.machines.settled == [target.id, idle.id]


def test_a_stopped_machine_that_does_not_start_is_stopped_again(world: World) -> None:
    instance = running(world)
    world.client("ec2").stop_instances(InstanceIds=[instance.id])
    world.until("stopped", lambda: instance.state == "stopped")
    world.machines.refuse = lambda machine: "podman start: no space left on device"
    world.client("ec2").start_instances(InstanceIds=[instance.id])
    assert instance.state == "pending"
    world.until("stopped again", lambda: instance.state == "stopped")
    assert described(world, instance)["StateReason"]["Code"] == "Server.InternalError"
    assert "no space left on device" in described(world, instance)["StateTransitionReason"]
    world.machines.refuse = lambda machine: None
    world.client("ec2").start_instances(InstanceIds=[instance.id])
    world.until("running", lambda: instance.state == "running")


def test_a_stopped_machine_whose_files_are_lost_is_not_replaced_by_a_new_one(world: World) -> None:
    instance = running(world)
    world.client("ec2").stop_instances(InstanceIds=[instance.id])
    world.until("stopped", lambda: instance.state == "stopped")
    world.machines.remove(instance.id)
    world.client("ec2").start_instances(InstanceIds=[instance.id])
    world.step(2)
    assert instance.state == "stopped"
    assert instance.state_reason.code == "Server.InternalError"


@pytest.mark.rule(
    "faults", "A launch for which a zone has no capacity ends in Server.InsufficientInstanceCapacity.", STATE_REASONS
)
def test_nothing_boots_in_a_zone_without_power(world: World) -> None:
    dark, lit = launch(world, "b"), launch(world, "a")
    world.region.faults.dark.add("us-east-1b")  # the API lets the launch through, and then there is no power
    world.step(3)
    assert (dark.state, lit.state) == ("terminated", "running")
    assert described(world, dark)["StateReason"]["Code"] == "Server.InsufficientInstanceCapacity"


def test_nothing_starts_in_a_zone_without_power(world: World) -> None:
    instance = running(world, "b")
    world.client("ec2").stop_instances(InstanceIds=[instance.id])
    world.until("stopped", lambda: instance.state == "stopped")
    world.region.faults.dark.add("us-east-1b")
    instance.start()  # past the API, which may refuse it by itself
    world.step(2)
    assert instance.state == "stopped"
    assert instance.state_reason.code == "Server.InsufficientInstanceCapacity"
    assert not world.machines.found()[instance.id]


@pytest.mark.rule("faults", "When its hardware fails, an instance with an EBS root is stopped, and keeps its files.", RETIREMENT)
def test_power_loss_ends_every_machine_of_its_zone_and_no_other(world: World) -> None:
    struck, spared = [running(world, "a"), running(world, "a")], running(world, "b")
    world.instances.boot_seconds = lambda instance: 60
    booting = launch(world, "a")
    world.step(2)
    world.region.faults.dark.add("us-east-1a")
    assert set(world.instances.kill_zone("us-east-1a")) == {struck[0].id, struck[1].id, booting.id}
    assert [world.machines.found()[instance.id] for instance in (*struck, spared)] == [False, False, True]
    world.step(120)
    assert [instance.state for instance in (*struck, spared)] == ["stopped", "stopped", "running"]
    assert described(world, struck[0])["StateReason"]["Code"] == "Server.ScheduledStop"
    assert (booting.state, booting.state_reason.code) == ("terminated", "Server.InsufficientInstanceCapacity")
    world.region.faults.dark.clear()
    world.instances.boot_seconds = lambda instance: 0
    world.client("ec2").start_instances(InstanceIds=[struck[0].id])
    world.until("running", lambda: struck[0].state == "running")


def test_power_that_goes_while_a_machine_boots_ends_it(world: World) -> None:
    instance = launch(world, "a")

    def lights_out(machine: Any) -> None:
        world.region.faults.dark.add("us-east-1a")

    world.machines.refuse = lights_out
    world.step(3)
    assert (instance.state, instance.state_reason.code) == ("terminated", "Server.InsufficientInstanceCapacity")
    assert world.machines.found() == {}


def test_a_machine_that_reboots_itself_stays_but_not_without_power(world: World) -> None:
    instance = running(world, "a")
    world.machines.end(instance.id, REBOOTED)
    world.step(1)
    assert instance.state == "running"
    assert world.machines.found()[instance.id]
    world.region.faults.dark.add("us-east-1a")
    world.machines.end(instance.id, REBOOTED)
    world.step(2)
    assert instance.state == "stopped"


@pytest.mark.rule("lifecycle", "A shutdown from inside stops the instance, or terminates it if it was launched so.", LIFECYCLE)
def test_a_shutdown_from_inside_does_what_the_instance_was_launched_for(world: World) -> None:
    stops = running(world)
    terminates = running(world, InstanceInitiatedShutdownBehavior="terminate")
    for instance in (stops, terminates):
        world.machines.end(instance.id, POWERED_OFF)
    world.step(3)
    assert (stops.state, terminates.state) == ("stopped", "terminated")
    assert {stops.state_reason.code, terminates.state_reason.code} == {"Client.InstanceInitiatedShutdown"}


@pytest.mark.rule(
    "lifecycle", "An instance gives back its public address when it stops, and gets another with a start.", LIFECYCLE
)
def test_a_machine_that_dies_gives_back_its_public_address(world: World) -> None:
    subnet = world.subnets("a")[0]
    client = world.client("ec2")
    client.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})
    made = client.run_instances(ImageId=world.image(), MinCount=1, MaxCount=1, SubnetId=subnet)["Instances"][0]["InstanceId"]
    instance = world.region.ec2.get_instance(made)
    world.until("running", lambda: instance.state == "running")
    before = described(world, instance)["PublicIpAddress"]
    world.machines.end(instance.id)
    world.step(3)
    assert instance.state == "stopped"
    assert "PublicIpAddress" not in described(world, instance)
    assert world.machines.withdrawn == [before]
    client.start_instances(InstanceIds=[instance.id])
    world.step(3)
    assert described(world, instance)["PublicIpAddress"] != before


@pytest.mark.rule(
    "lifecycle",
    "A terminated instance stays visible for about an hour.",
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html",
)
def test_terminated_instances_are_forgotten_after_an_hour(world: World) -> None:
    kept, gone = running(world), running(world)
    world.client("ec2").create_tags(Resources=[gone.id], Tags=[{"Key": "Name", "Value": "gone"}])
    world.client("ec2").terminate_instances(InstanceIds=[gone.id])
    world.step(3500, 100)
    assert described(world, gone)["State"]["Name"] == "terminated"
    world.step(200, 100)
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        described(world, gone)
    assert described(world, kept)["State"]["Name"] == "running"
    assert gone.id not in world.region.ec2.tags


def adopt(world: World) -> None:
    """A twin that was killed and starts again: the records and the machines are there, all else is new."""
    world.instances = SimulatedInstances(world.region, world.machines)
    world.region.loops["Instances"] = world.instances
    world.instances.adopt()


def test_a_restarted_twin_finds_its_machines(world: World) -> None:
    kept, died, missing, rebooting = (running(world) for _ in range(4))
    stopping, leaving, stopped, gone = (running(world) for _ in range(4))
    pending, up_already = launch(world), launch(world)
    image_id = world.client("ec2").create_image(InstanceId=kept.id, Name="baked")["ImageId"]
    # What happened while nobody looked:
    world.machines.exists[died.id] = False
    world.machines.remove(missing.id)
    rebooting.reboot_requested = True
    world.machines.exists[rebooting.id] = False
    set_state(stopping, "stopping", "Client.UserInitiatedShutdown", "User initiated shutdown")
    set_state(leaving, "shutting-down", "Client.UserInitiatedShutdown", "User initiated shutdown")
    set_state(stopped, "stopped")  # though it runs
    set_state(gone, "terminated")
    world.machines.exists[up_already.id] = True
    world.machines.exists["i-0123456789abcdef0"] = True
    adopt(world)
    assert (kept.state, up_already.state) == ("running", "running")
    world.step(5)
    states = {
        name: instance.state
        for name, instance in {
            "kept": kept, "died": died, "missing": missing, "rebooting": rebooting, "stopping": stopping,
            "leaving": leaving, "stopped": stopped, "gone": gone, "pending": pending, "up already": up_already,
        }.items()
    }  # fmt: skip
    assert states == {
        "kept": "running", "died": "stopped", "missing": "stopped", "rebooting": "running", "stopping": "stopped",
        "leaving": "terminated", "stopped": "stopped", "gone": "terminated", "pending": "running", "up already": "running",
    }  # fmt: skip
    assert died.state_reason.code == missing.state_reason.code == "Server.InternalError"
    assert world.region.ec2.amis[image_id].state == "available"
    alive = {name for name, runs in world.machines.found().items() if runs}
    assert alive == {instance.id for instance in (kept, rebooting, pending, up_already)}
    assert "i-0123456789abcdef0" not in world.machines.found()
    assert gone.id not in world.machines.found()
    # It is watched: its death is noticed.
    world.machines.end(kept.id)
    world.step(2)
    assert kept.state == "stopped"
