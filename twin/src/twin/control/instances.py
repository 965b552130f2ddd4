"""Instances: a container for each record that should run, and a state for each container."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twin.bodies.deaths import Deaths
from twin.bodies.podman import PodmanError
from twin.control.loop import Loop
from twin.region.ec2 import set_state
from twin.region.images import ImageCatalog, podman_image
from twin.region.region import Region
from twin.settings import DNS_ADDRESS

log = logging.getLogger(__name__)

# What systemd needs to boot and to apply a unit's sandbox in a container; without SYS_ADMIN it silently skips sandboxing.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_BOOT", "SYS_PTRACE", "AUDIT_WRITE", "NET_RAW")
# Exit status of a container whose systemd asked the kernel to restart: reboot(2), "LINUX_REBOOT_CMD_RESTART" in a PID namespace.
REBOOTED = 129
POWERED_OFF = 130


class Instances(Loop):
    """Moves EC2 instances between states by starting, stopping and removing their containers."""

    period = 1.0

    def __init__(self, region: Region, catalog: ImageCatalog) -> None:
        super().__init__()
        self.region = region
        self.catalog = catalog
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="instance")
        self._busy: set[str] = set()
        self._busy_lock = threading.Lock()
        self._deaths = Deaths(self._on_death)
        self._dead: set[str] = set()

    # The loop

    def tick(self) -> None:
        with self.region.records():
            instances = list(self.region.ec2.all_instances())
            images = list(self.region.ec2.amis.values())
            self.catalog.save()
        for instance in instances:
            if instance.state == "pending":
                self._submit(instance.id, self._boot, instance)
            elif instance.state == "stopping":
                self._submit(instance.id, self._stop, instance)
            elif instance.state == "shutting-down":
                self._submit(instance.id, self._remove, instance)
            elif instance.state == "running" and getattr(instance, "reboot_requested", False):
                instance.reboot_requested = False
                self._submit(instance.id, self._reboot, instance)
            elif instance.state == "running" and instance.id in self._dead:
                self._submit(instance.id, self._died, instance)
        for image in images:
            if image.state == "pending":
                self._submit(image.id, self._commit, image)

    def _submit(self, key: str, action: Any, record: Any) -> None:
        with self._busy_lock:
            if key in self._busy:
                return
            self._busy.add(key)

        def work() -> None:
            try:
                action(record)
            except Exception:
                log.exception("%s: %s failed", key, action.__name__.strip("_"))
            finally:
                with self._busy_lock:
                    self._busy.discard(key)
                self.region.wake("AutoScaling", "LoadBalancers")

        self._pool.submit(work)

    # Bodies

    def _boot(self, instance: Any) -> None:
        try:
            network = self.region.network
            with self.region.records():
                subnet = self.region.subnet(instance.subnet_id)
                vpc, cidr, address, public = subnet.vpc_id, subnet.cidr_block, instance.private_ip, instance.public_ip
                name, image = instance.private_dns_name, podman_image(instance.image_id)
            if instance.id in self.region.podman.containers():
                self.region.podman.run("start", instance.id)
                self._deaths.watch(instance.id, self.region.podman.pid(instance.id))
            else:
                namespace = network.attach(instance.id, vpc, subnet.id, cidr, address)
                capabilities = tuple(f"--cap-add={capability}" for capability in CAPABILITIES)
                options = (
                    "--systemd=always",
                    f"--hostname={name.split('.')[0]}",
                    f"--dns={DNS_ADDRESS}",
                    f"--dns-search={name.split('.', 1)[1]}",
                    *capabilities,
                )
                self._deaths.watch(
                    instance.id, self.region.podman.start(instance.id, image, "/sbin/init", netns=namespace, options=options)
                )
            if public:
                network.publish(public, vpc, address)
            self.region.names.set(name, address)
        except (PodmanError, OSError) as error:
            log.error("%s did not start: %s", instance.id, error)
            with self.region.records():
                if instance.state == "pending":
                    instance.terminate()
                    set_state(instance, "shutting-down", "Server.InternalError", f"Internal error on launch: {error}")
            self.region.wake("Instances")
            return
        with self.region.records():
            if instance.state == "pending":
                set_state(instance, "running")

    def _stop(self, instance: Any) -> None:
        self._deaths.forget(instance.id)
        self.region.podman.run("stop", "--time=30", instance.id, check=False)
        self._release(instance)
        with self.region.records():
            if instance.state == "stopping":
                reason = instance.state_reason
                set_state(instance, "stopped")
                instance.state_reason = reason

    def _remove(self, instance: Any) -> None:
        self._deaths.forget(instance.id)
        # A machine that is shut down gets to stop its services, as on AWS.
        self.region.podman.run("stop", "--time=30", "--ignore", instance.id, check=False)
        self.region.podman.remove(instance.id)
        self._release(instance)
        self.region.network.detach(instance.id)
        with self.region.records():
            self.region.names.remove(instance.private_dns_name)
            reason, words = instance.state_reason, instance._reason
            set_state(instance, "terminated")
            instance.state_reason, instance._reason = reason, words

    def _release(self, instance: Any) -> None:
        """Give back the public address, which an instance keeps neither stopped nor terminated."""
        address = getattr(instance, "address_to_release", None)
        if address:
            self.region.network.unpublish(address)
            self.region.release_address(address)

    def _reboot(self, instance: Any) -> None:
        self._deaths.forget(instance.id)
        self.region.podman.run("restart", "--time=30", instance.id)
        self._deaths.watch(instance.id, self.region.podman.pid(instance.id))

    def _died(self, instance: Any) -> None:
        """The container's first process ended without the API having asked for it."""
        self._dead.discard(instance.id)
        code = self.region.podman.exit_code(instance.id)
        if code == REBOOTED:
            self.region.podman.run("start", instance.id)
            self._deaths.watch(instance.id, self.region.podman.pid(instance.id))
            return
        with self.region.records():
            if instance.state != "running":
                return
            if code == POWERED_OFF and instance.instance_initiated_shutdown_behavior == "terminate":
                instance.terminate()
                set_state(instance, "shutting-down", "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
            elif code == POWERED_OFF:
                set_state(instance, "stopped", "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
            else:
                log.warning("%s: its container ended with status %d", instance.id, code)
                set_state(instance, "stopped", "Server.InternalError", f"The container ended with status {code}")
        self.region.wake("Instances")

    def _commit(self, image: Any) -> None:
        source = image.commit_requested
        try:
            self.region.podman.run("commit", "--quiet", "--change", 'CMD ["/sbin/init"]', source, podman_image(image.id))
        except PodmanError as error:
            log.error("%s: %s", image.id, error)
            with self.region.records():
                image.state = "failed"
            return
        with self.region.records():
            image.state = "available"
        self.region.wake("Instances")

    def _on_death(self, name: str) -> None:
        self._dead.add(name)
        self.wake()

    def end(self) -> None:
        super().end()
        self._pool.shutdown(wait=False, cancel_futures=True)
