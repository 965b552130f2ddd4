"""Machines with real bodies, in a region of this process: a restarted twin finds them, and a zone's power goes at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from common import clear, client, undoing, until
from conftest import SLOT
from moto import mock_aws
from world import EXTENSIONS

from twin.bodies.network import Network
from twin.bodies.podman import Podman
from twin.control.instances import Instances
from twin.region import base
from twin.region.region import Region
from twin.settings import Settings


class Place:
    """Two subnets in two zones, and the loop over their instances."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.ec2 = client("ec2")
        base.register(region)
        self.image = next(iter(region.ec2.amis))
        vpc = self.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        self.subnets = {
            zone: self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for n, zone in enumerate("ab")
        }
        self.begin()

    def begin(self) -> None:
        catalog: Any = SimpleNamespace(save=lambda: None)
        self.loop = Instances(self.region, catalog)
        self.region.loops = {"Instances": self.loop}

    def end(self) -> None:
        self.loop.end()
        self.loop.join(timeout=30)

    def launch(self, zone: str = "a", count: int = 1) -> list[Any]:
        with self.region.records():
            made = self.ec2.run_instances(
                ImageId=self.image, MinCount=count, MaxCount=count, SubnetId=self.subnets[zone], InstanceType="t3.micro"
            )
            return [self.region.ec2.get_instance(entry["InstanceId"]) for entry in made["Instances"]]

    def call(self, function: Callable[[], Any]) -> Any:
        """API calls in this process bypass the server, which takes the lock."""
        with self.region.records():
            return function()


@pytest.fixture
def place(twin_settings: Settings, tmp_path: Any) -> Iterator[Place]:
    settings = replace(twin_settings, name=f"test{SLOT}-adopt", slot=SLOT + 2, state=tmp_path)
    region = Region(settings, Podman(settings))
    region.podman.configure()
    region.network = Network(settings, lambda vpc, namespace: None, lambda vpc: None)

    clear(region)
    region.network.open()
    with undoing(), mock_aws():
        for extension in EXTENSIONS:
            extension.install(region)  # type: ignore[attr-defined]
        made = Place(region)
        yield made
        made.end()
        clear(region)


def test_a_restarted_twin_finds_its_containers(place: Place) -> None:
    podman = place.region.podman

    def state(instance: Any) -> str:
        return str(instance.state)

    place.loop.start()
    kept, died, gone, stopping = place.launch(count=4)
    until(lambda: all(state(instance) == "running" for instance in (kept, died, gone, stopping)))
    before = podman.pid(kept.id)
    place.end()  # the twin is dead now; its containers are not
    podman.run("kill", died.id)
    place.call(stopping.stop)
    place.region.ec2.reservations[place.region.reservation_of(gone)].instances.remove(gone)
    place.begin()
    [pending] = place.launch()
    place.loop.adopt()
    place.loop.start()
    until(lambda: (state(died), state(stopping), state(pending)) == ("stopped", "stopped", "running"))
    until(lambda: gone.id not in podman.containers())
    assert (kept.state, podman.pid(kept.id)) == ("running", before)
    assert died.state_reason.code == "Server.InternalError"
    os.kill(before, 9)
    until(lambda: state(kept) == "stopped")
    place.call(lambda: place.ec2.start_instances(InstanceIds=[died.id]))
    until(lambda: state(died) == "running")


def test_power_loss_ends_all_containers_of_a_zone_at_once(place: Place) -> None:
    place.loop.start()
    struck, [spared] = place.launch("a", 3), place.launch("b")
    until(lambda: all(instance.state == "running" for instance in (*struck, spared)))
    place.region.faults.dark.add("us-east-1a")
    began = time.monotonic()
    place.loop.kill_zone("us-east-1a")
    assert time.monotonic() - began < 10
    until(lambda: [place.region.podman.pid(instance.id) for instance in struck] == [0, 0, 0])
    until(lambda: {instance.state for instance in struck} == {"stopped"})
    assert {place.region.podman.exit_code(instance.id) for instance in struck} == {137}
    assert {instance.state_reason.code for instance in struck} == {"Server.ScheduledStop"}
    assert place.region.podman.pid(spared.id)
    assert spared.state == "running"
