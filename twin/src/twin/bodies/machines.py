"""The machines under EC2's instances: systemd containers in namespaces of the VPC. The one place where instances touch podman.

Control loops reach bodies through this class alone, so that a test can put another in its place.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from twin.bodies.deaths import Deaths
from twin.bodies.network import Network
from twin.bodies.podman import Podman, PodmanError
from twin.settings import DNS_ADDRESS

# What systemd needs to boot and to apply a unit's sandbox in a container; without SYS_ADMIN it silently skips sandboxing.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_BOOT", "SYS_PTRACE", "AUDIT_WRITE", "NET_RAW")
# Exit status of a container whose systemd asked the kernel to restart: reboot(2), "LINUX_REBOOT_CMD_RESTART" in a PID namespace.
REBOOTED = 129
POWERED_OFF = 130
STOP_SECONDS = 30  # what services get to end in, before they are killed
NOTICE_SECONDS = 60.0
# Weights of a machine when the host's processors are short: elsewhere a machine that boots takes nothing from those that serve.
SHARES, BOOT_SHARES = 1024, 128
_PREFIX = "i-"  # of instance ids, which are the containers' names; databases and functions are named otherwise


@dataclass(frozen=True)
class Machine:
    """What a machine is made from: its instance id, podman image, private DNS name, place in the network, its public
    address or "", and its memory in MiB, 0 for as much as there is."""

    id: str
    image: str
    name: str
    vpc: str
    subnet: str
    cidr: str
    address: str
    public: str = ""
    memory: int = 0


class Machines:
    """Starts, ends and finds machines, each named by its instance's id.

    Methods return once the body has done what they say, and may take seconds; none may be called with the region's lock
    held. They raise PodmanError, OSError or subprocess.TimeoutExpired when the body can't.
    """

    def __init__(self, podman: Podman, network: Network) -> None:
        self.podman = podman
        self.network = network
        # Called from another thread with the id of a machine that ended without having been told to.
        self.on_end: Callable[[str], None] = lambda _: None
        self._deaths = Deaths(lambda name: self.on_end(name))

    def boot(self, machine: Machine) -> None:
        """Make the machine from its image and start it."""
        namespace = self.network.attach(machine.id, machine.vpc, machine.subnet, machine.cidr, machine.address)
        host, domain = machine.name.split(".", 1)
        options = (
            "--systemd=always",
            f"--hostname={host}",
            f"--dns={DNS_ADDRESS}",
            f"--dns-search={domain}",
            f"--cpu-shares={BOOT_SHARES}",
            *(f"--cap-add={capability}" for capability in CAPABILITIES),
            # Without swap, as AWS's instances are.
            *((f"--memory={machine.memory}m", f"--memory-swap={machine.memory}m") if machine.memory else ()),
        )
        self._deaths.watch(
            machine.id, self.podman.start(machine.id, machine.image, "/sbin/init", netns=namespace, options=options)
        )
        self._publish(machine)

    def booted(self, name: str) -> None:
        """Give a machine its whole share of the host's processors."""
        self.podman.run("update", f"--cpu-shares={SHARES}", name)

    def start(self, machine: Machine) -> None:
        """Start a machine that was stopped; it keeps its files and its private address."""
        self.podman.run("start", machine.id)
        self.adopt(machine)

    def adopt(self, machine: Machine) -> None:
        """Watch a machine that runs, whoever started it, and carry its public address."""
        self._deaths.watch(machine.id, self.podman.pid(machine.id))
        self._publish(machine)

    def resume(self, name: str) -> None:
        """Start a machine again that ended itself in order to reboot."""
        self.podman.run("start", name)
        self._deaths.watch(name, self.podman.pid(name))

    def reboot(self, name: str) -> None:
        self._deaths.forget(name)
        self.podman.run("restart", f"--time={STOP_SECONDS}", name)
        self._deaths.watch(name, self.podman.pid(name))

    def stop(self, name: str) -> None:
        """Shut a machine down, as pressing its power button does; one that doesn't run is no error."""
        self._deaths.forget(name)
        self.podman.run("stop", f"--time={STOP_SECONDS}", "--ignore", name, check=False)

    def remove(self, name: str) -> None:
        """Shut a machine down and destroy it with its network interface; one that isn't there is no error."""
        self.stop(name)
        self.podman.remove(name)
        self.network.detach(name)

    def kill(self, names: Iterable[str]) -> None:
        """Cut the power of all these machines at once: nothing in them gets to run another instruction."""
        names = list(names)
        if not names:
            return
        for name in names:
            self._deaths.forget(name)
        # One look for all, then one signal each: the last falls within a millisecond of the first. A name that has no
        # container yet makes podman complain, and print the others all the same.
        for line in self.podman.run("inspect", "--type=container", "--format={{.State.Pid}}", *names, check=False).split():
            if int(line):
                with suppress(ProcessLookupError):
                    os.kill(int(line), signal.SIGKILL)

    def withdraw(self, public: str) -> None:
        """Stop carrying connections to a public address."""
        self.network.unpublish(public)

    def commit(self, name: str, image: str) -> None:
        """Make a podman image of the machine's files as they are."""
        self.podman.run("commit", "--quiet", "--change", 'CMD ["/sbin/init"]', name, image)

    def exit_code(self, name: str) -> int | None:
        """How a machine ended, which does not run any more; None when there is no such container."""
        try:
            # podman learns of the end a moment after the kernel does.
            return int(self.podman.run("wait", name, timeout=NOTICE_SECONDS))
        except subprocess.TimeoutExpired:
            return self.podman.exit_code(name)
        except PodmanError:
            if name in self.found():
                raise
            return None

    def found(self) -> dict[str, bool]:
        """The ids of all machines there are, and whether each runs."""
        running = set(self.podman.containers(running=True))
        return {name: name in running for name in self.podman.containers() if name.startswith(_PREFIX)}

    def _publish(self, machine: Machine) -> None:
        if machine.public:
            self.network.publish(machine.public, machine.vpc, machine.address)
