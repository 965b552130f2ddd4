"""`python rollout_twin.py NAME SLOT STATE STORE`: the stub twin, in which images may be bad and a refresh is not patient.

An AMI whose tag Test is "bad" gives instances that run and never answer; one whose tag Test is "failed" is in that state. A
refresh whose replacements fail gives up after PATIENCE seconds instead of AWS's hour.
"""

from __future__ import annotations

import sys
from typing import Any

import stub_twin
from moto.ec2.models.amis import Ami

from twin.bodies import netns
from twin.bodies.machines import Machine
from twin.control import instance_refresh

PATIENCE = 16.0


def told(image: Any) -> str:
    """The value of the image's tag Test."""
    return next((tag["value"] for tag in image.get_tags() if tag["key"] == "Test"), "")


class SomeBad(stub_twin.AnsweringMachines):
    def boot(self, machine: Machine) -> None:
        super().boot(machine)
        image = self.region.ec2.amis.get(machine.image.rsplit(":", 1)[-1])
        if image is not None and told(image) == "bad":
            netns.ip(f"addr delete {machine.address}/32 dev lo", self.region.network.namespace(machine.vpc))

    def remove(self, name: str) -> None:
        machine = self.machines.get(name)
        if machine:  # a bad one's address is not there to be deleted
            netns.ip(f"addr replace {machine.address}/32 dev lo", self.region.network.namespace(machine.vpc))
        super().remove(name)


if __name__ == "__main__":
    instance_refresh.PATIENCE = PATIENCE
    Ami.state = property(lambda self: "failed" if told(self) == "failed" else "available", lambda self, value: None)
    stub_twin.AnsweringMachines = SomeBad  # type: ignore[misc]
    stub_twin.main(*sys.argv[1:])
