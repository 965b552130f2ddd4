"""Instances: a machine for each record that should run, and a state for each machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPES

from twin.bodies.machines import POWERED_OFF, REBOOTED, Machine, Machines
from twin.control.loop import Loop
from twin.region import target_health
from twin.region.ec2 import set_state
from twin.region.images import ImageCatalog, podman_image
from twin.region.region import Region

log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
NO_CAPACITY = ("Server.InsufficientInstanceCapacity", "Insufficient capacity to satisfy the instance request")
POWER_LOST = ("Server.ScheduledStop", "Stopped due to the failure of the underlying hardware")
BOOT_SECONDS = 30.0  # of a machine that is no target of a load balancer
VISIBLE_SECONDS = 3600.0  # after termination
SHUT_DOWN_INSIDE = ("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")


class Instances(Loop):
    """Moves EC2 instances between states by starting, stopping and removing their machines.

    What a restart of the twin must find again is in the records: the state itself, `booted` (the machine has run, so it has
    files of its own), `boots_until`, `reboot_requested`, `address_to_release`, and an image's `commit_requested`.
    """

    period = 1.0

    def __init__(self, region: Region, catalog: ImageCatalog, machines: Machines | None = None) -> None:
        super().__init__()
        self.region = region
        self.catalog = catalog
        self.machines = machines or Machines(region.podman, region.network)
        self.machines.on_end = self._on_end
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="instance")
        self._busy: set[str] = set()
        self._busy_lock = threading.Lock()
        self._dead: set[str] = set()

    # The loop

    def tick(self) -> None:
        with self.region.records():
            instances = list(self.region.ec2.all_instances())
            images = list(self.region.ec2.amis.values())
            serving = target_health.serving(self.region)
            self._forget(instances)
            self.catalog.save()
        for instance in instances:
            if instance.state == "pending":
                self._submit(instance.id, self._boot, instance)
            elif instance.state == "stopping":
                self._submit(instance.id, self._stop, instance)
            elif instance.state == "shutting-down":
                self._submit(instance.id, self._remove, instance)
            elif instance.state == "running" and getattr(instance, "reboot_requested", False):
                self._submit(instance.id, self._reboot, instance)
            elif instance.state == "running" and instance.id in self._dead:
                self._submit(instance.id, self._died, instance)
            elif instance.state == "running" and self._has_booted(instance, serving):
                self._submit(instance.id, self._booted, instance)
        for image in images:
            if image.state == "pending":
                self._submit(image.id, self._commit, image)

    def adopt(self) -> None:
        """Find the machines that a killed twin left. Those that should run are watched again, those that ended meanwhile have
        died, those without a record go. Records on the way to another state go on from there with the first tick."""
        found = self.machines.found()
        with self.region.records():
            known = {instance.id: instance for instance in self.region.ec2.all_instances()}
        for name in found.keys() - known.keys():
            log.warning("%s: a machine without a record is removed", name)
            self._submit(name, self._remove_unknown, name)
        for instance in known.values():
            runs = found.get(instance.id, False)
            if instance.state in ("running", "pending") and runs:
                self.machines.adopt(self._machine(instance))
                self._ready(instance)
            elif instance.state == "running" and not getattr(instance, "reboot_requested", False):
                self._dead.add(instance.id)
            elif instance.state == "terminated" and instance.id in found:
                self._submit(instance.id, self._remove_unknown, instance.id)
            elif instance.state == "stopped" and runs:
                self._submit(instance.id, self._stop_unknown, instance.id)

    def kill_zone(self, zone: str) -> list[str]:
        """Cut the power of a zone (us-east-1a): every machine there ends at once, mid-instruction. Returns the instances' ids.

        Instances with an EBS root stop when their hardware fails, those not yet running terminate:
        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-retirement.html
        Put the zone in `region.faults.dark` first, or the instances may start there again.
        """
        with self.region.records():
            struck = [
                instance
                for instance in self.region.ec2.all_instances()
                if instance.placement.zone == zone and instance.state not in ("stopped", "terminated")
            ]
        self.machines.kill(instance.id for instance in struck)
        with self.region.records():
            for instance in struck:
                if instance.state == "running":
                    self._halt(instance, *POWER_LOST)
                elif instance.state == "pending":
                    self._give_up(instance, *NO_CAPACITY)
        self.wake()
        return [instance.id for instance in struck]

    def _submit(self, key: str, action: Callable[[Any], None], record: Any) -> None:
        with self._busy_lock:
            if key in self._busy:
                return
            self._busy.add(key)

        def work() -> None:
            next_steps: tuple[str, ...] = ("Instances", "AutoScaling", "LoadBalancers")
            try:
                action(record)
            except Exception:
                log.exception("%s: %s failed; the next round tries again", key, action.__name__.strip("_"))
                next_steps = ()
            with self._busy_lock:
                self._busy.discard(key)
            self.region.wake(*next_steps)

        self._pool.submit(work)

    # Work on one record, in the pool

    def _boot(self, instance: Any) -> None:
        if self._dark(instance):
            with self.region.records():
                self._give_up(instance, *NO_CAPACITY)
            return
        machine = self._machine(instance)
        try:
            if getattr(instance, "booted", False):
                self.machines.start(machine)
            else:
                self.machines.boot(machine)
        except Exception as error:  # whatever kept the machine from starting, the API has to say so
            log.error("%s did not start: %s", instance.id, error)
            with self.region.records():
                self._give_up(instance, "Server.InternalError", f"Internal error on launch: {error}")
            return
        if self._dark(instance):  # the power went while it booted
            self.machines.kill([instance.id])
            with self.region.records():
                self._give_up(instance, *NO_CAPACITY)
            return
        self._ready(instance)

    def _ready(self, instance: Any) -> None:
        with self.region.records():
            self.region.names.set(instance.private_dns_name, instance.private_ip)
            instance.booted = True
            if instance.state == "pending":
                self._boots(instance)
                set_state(instance, "running")

    def _boots(self, instance: Any) -> None:
        instance.boots_until = self.region.clock() + BOOT_SECONDS

    def _has_booted(self, instance: Any, serving: set[str]) -> bool:
        until = getattr(instance, "boots_until", None)
        return until is not None and (instance.id in serving or self.region.clock() >= until)

    def _booted(self, instance: Any) -> None:
        instance.boots_until = None
        self.machines.booted(instance.id)

    def _stop(self, instance: Any) -> None:
        self.machines.stop(instance.id)
        self._release(instance)
        self._settle(instance, "stopping", "stopped")

    def _remove(self, instance: Any) -> None:
        self.machines.remove(instance.id)
        self._release(instance)
        with self.region.records():
            self.region.names.remove(instance.private_dns_name)
        self._settle(instance, "shutting-down", "terminated")

    def _reboot(self, instance: Any) -> None:
        try:
            self.machines.reboot(instance.id)
        except Exception as error:
            log.error("%s did not reboot: %s", instance.id, error)
            self._dead.add(instance.id)
        self._boots(instance)
        instance.reboot_requested = False  # only now, so that a twin killed meanwhile does it again

    def _died(self, instance: Any) -> None:
        """The machine ended without the API having asked for it."""
        code = self.machines.exit_code(instance.id)
        if code == REBOOTED and not self._dark(instance):
            self.machines.resume(instance.id)
            self._boots(instance)
            self._dead.discard(instance.id)
            return
        self._dead.discard(instance.id)
        with self.region.records():
            if instance.state != "running":
                return
            if code == POWERED_OFF and instance.instance_initiated_shutdown_behavior == "terminate":
                instance.terminate()
                set_state(instance, "shutting-down", *SHUT_DOWN_INSIDE)
            elif code == POWERED_OFF:
                self._halt(instance, *SHUT_DOWN_INSIDE)
            else:
                words = "Its container is gone" if code is None else f"Its container ended with status {code}"
                log.warning("%s: %s", instance.id, words)
                self._halt(instance, "Server.InternalError", words)

    def _commit(self, image: Any) -> None:
        try:
            self.machines.commit(image.commit_requested, podman_image(image.id))
        except Exception as error:
            log.error("%s: %s", image.id, error)
            with self.region.records():
                image.state = "failed"
            return
        with self.region.records():
            image.state = "available"

    def _remove_unknown(self, name: str) -> None:
        self.machines.remove(name)

    def _stop_unknown(self, name: str) -> None:
        self.machines.stop(name)

    # Records

    def _machine(self, instance: Any) -> Machine:
        with self.region.records():
            subnet = self.region.subnet(instance.subnet_id)
            return Machine(
                id=instance.id,
                image=podman_image(instance.image_id),
                name=instance.private_dns_name,
                vpc=subnet.vpc_id,
                subnet=subnet.id,
                cidr=subnet.cidr_block,
                address=instance.private_ip,
                public=instance.public_ip or "",
                memory=INSTANCE_TYPES.get(instance.instance_type, {}).get("MemoryInfo", {}).get("SizeInMiB", 0),
            )

    def _dark(self, instance: Any) -> bool:
        return instance.placement.zone in self.region.faults.dark

    def _give_up(self, instance: Any, code: str, message: str) -> None:
        """A launch that fails ends in `terminated`; a start that fails leads back to `stopped`, and the files stay.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
        """
        if instance.state != "pending":
            return
        if getattr(instance, "booted", False):
            self._halt(instance, code, message)
        else:
            instance.terminate()
            set_state(instance, "shutting-down", code, message)

    def _halt(self, instance: Any, code: str, message: str) -> None:
        """Stop an instance for a reason of its own, with all that a stop gives back."""
        instance.stop()
        set_state(instance, "stopping", code, message)

    def _settle(self, instance: Any, before: str, after: str) -> None:
        """Reach the state that `before` was on the way to, unless the API asked for another meanwhile; the reason stays."""
        with self.region.records():
            if instance.state == before:
                reason, words = instance.state_reason, instance._reason
                set_state(instance, after)
                instance.state_reason, instance._reason = reason, words
                instance.settled_at = self.region.clock()

    def _forget(self, instances: list[Any]) -> None:
        """Terminated instances stay visible for about an hour:
        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html"""
        ec2, now = self.region.ec2, self.region.clock()
        old = {
            instance.id
            for instance in instances
            if instance.state == "terminated" and now - getattr(instance, "settled_at", now) >= VISIBLE_SECONDS
        }
        if not old:
            return
        for reservation in list(ec2.reservations.values()):
            reservation.instances = [instance for instance in reservation.instances if instance.id not in old]
            if not reservation.instances:
                del ec2.reservations[reservation.id]
        for name in old:
            ec2.tags.pop(name, None)

    def _release(self, instance: Any) -> None:
        """Give back the public address, which an instance keeps neither stopped nor terminated."""
        address = getattr(instance, "address_to_release", None)
        if address:
            self.machines.withdraw(address)
            self.region.release_address(address)
            instance.address_to_release = None

    def _on_end(self, name: str) -> None:
        self._dead.add(name)
        self.wake()

    def end(self) -> None:
        super().end()
        self._pool.shutdown(wait=False, cancel_futures=True)
