"""The region: moto's records under one lock, and what the control loops and bodies ask of them."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.backends import get_backend

from twin.access import gate
from twin.bodies.dns import Names
from twin.bodies.podman import Podman
from twin.region.faults import Faults
from twin.settings import Settings

if TYPE_CHECKING:
    from twin.bodies.network import Network
    from twin.control.loop import Loop

log = logging.getLogger(__name__)

# ARN of the role that makes the API request at hand; nothing for users, services and the control loops.
CALLER: ContextVar[str] = ContextVar("caller", default="")


@dataclass(frozen=True)
class InstanceRole:
    """The role that an instance profile carries."""

    name: str
    arn: str
    profile_arn: str
    profile_id: str


class Region:
    """One account in one region.

    moto's backends are not safe for concurrent use: every API request and every look of a control loop holds `lock`.
    Whoever holds it must not wait for a body.
    """

    def __init__(self, settings: Settings, podman: Podman) -> None:
        self.settings = settings
        self.podman = podman
        self.names = Names()
        self.network: Network
        self.loops: dict[str, Loop] = {}
        self.faults = Faults()
        # Seconds that only grow, the same over a restart of the process: what the control loops measure waits and times by.
        self.clock: Callable[[], float] = time.monotonic
        # Takers of what happens in the region: EventBridge's events and CloudWatch's data points.
        self.on_event: list[Callable[[str, str, list[str], dict[str, Any]], None]] = []
        self.on_metric: list[Callable[[str, str, dict[str, str], float, str], None]] = []
        # A gate sees every request first: it gets the WSGI environment and answers with an application that refuses, or None.
        self.gates: list[Callable[[dict[str, Any]], Any | None]] = []
        # Requests that wait for a body must not hold the lock: such a route gets the WSGI environment and answers with an
        # application, or None to leave the request to moto.
        self.routes: list[Callable[[dict[str, Any]], Any | None]] = []
        self.lock = threading.RLock()
        # Whoever changes records outside an API request says so, and may wait until the change is safe; see keeper.py.
        self.changed: Callable[[], None] = lambda: None
        self.commit: Callable[[], None] = lambda: None
        # What must be remembered and belongs to no record, by who remembers it: plain data.
        self.kept: dict[str, Any] = {}
        self._used: set[str] = set()
        # The address given out last, of each pool: the next is the one after it, so that none comes back at once.
        self._last: dict[str, int] = {}

    def backend(self, service: str) -> Any:
        """moto's backend of `service` in this account and region (or 'aws' for global services)."""
        backends = get_backend(service)[self.settings.account_id]  # type: ignore[call-overload]
        return backends[self.settings.region if self.settings.region in backends else "aws"]

    @property
    def ec2(self) -> Any:
        return self.backend("ec2")

    def wake(self, *names: str) -> None:
        """Let the named loops look at once."""
        for name in names:
            if name in self.loops:
                self.loops[name].wake()
        self.changed()

    def emit(self, source: str, detail_type: str, resources: list[str], detail: dict[str, Any]) -> None:
        """Tell EventBridge that something happened; `source` as in "aws.autoscaling". Call with or without the lock."""
        with self.lock:
            for take in self.on_event:
                take(source, detail_type, resources, detail)

    def metric(self, namespace: str, name: str, dimensions: dict[str, str], value: float, unit: str = "None") -> None:
        """Give CloudWatch one data point of now. Call with or without the lock."""
        with self.lock:
            for take in self.on_metric:
                take(namespace, name, dimensions, value, unit)

    @contextmanager
    def records(self) -> Iterator[Region]:
        """Hold the lock; every look at moto's records outside an API request goes through here."""
        with self.lock:
            yield self

    def state(self) -> dict[str, Any]:
        """What the region remembers beside moto's records, to be kept with them. Call with the lock held."""
        return {
            "kept": self.kept,
            "used": self._used,
            "last": self._last,
            "names": self.names.addresses(),
            "faults": vars(self.faults),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.kept.update(state["kept"])
        self._used, self._last = state["used"], state["last"]
        for name, address in state["names"].items():
            self.names.set(name, address)
        vars(self.faults).update(state["faults"])

    def allocate_public_address(self) -> str:
        return self._allocate(self.settings.public_addresses)

    def allocate_load_balancer_address(self) -> str:
        return self._allocate(self.settings.load_balancer_addresses)

    def release_address(self, address: str) -> None:
        with self.lock:
            self._used.discard(address)

    def _allocate(self, pool: ipaddress.IPv4Network) -> str:
        """The next free host address of `pool`."""
        hosts = pool.num_addresses - 2
        with self.lock:
            for step in range(hosts):
                number = (self._last.get(str(pool), 0) + step) % hosts + 1
                address = str(pool[number])
                if address not in self._used:
                    self._used.add(address)
                    self._last[str(pool)] = number
                    return address
        raise RuntimeError("the twin's addresses are used up")

    def subnet(self, subnet_id: str) -> Any:
        return self.ec2.get_subnet(subnet_id)

    def instance_at(self, vpc_id: str, address: str) -> Any | None:
        """The live instance with private `address` in the VPC."""
        with self.records():
            for instance in self.ec2.all_instances():
                if instance.state != "terminated" and instance.private_ip == address and instance.vpc_id == vpc_id:
                    return instance
        return None

    def reservation_of(self, instance: Any) -> str:
        with self.records():
            for reservation in self.ec2.reservations.values():
                if any(other.id == instance.id for other in reservation.instances):
                    return str(reservation.id)
        return ""

    def key_pair(self, name: str | None) -> str | None:
        """The public key of a key pair, in OpenSSH's format."""
        with self.records():
            pair = self.ec2.key_pairs.get(name) if name else None
            return str(pair.public_key) if pair else None

    def target_lifecycle_state(self, instance: Any) -> str | None:
        """What an instance's metadata says of its Auto Scaling group's plans; None for one that was in no group."""
        with self.records():
            group = getattr(instance, "autoscaling_group", None)
            if group is None:
                return "Detached" if getattr(instance, "was_detached", False) else None
            return next((str(member.target_state) for member in group.instance_states if member.instance is instance), None)

    def role_of(self, instance: Any) -> InstanceRole | None:
        wanted = instance.iam_instance_profile
        if not wanted:
            return None
        names = set(wanted.values()) if isinstance(wanted, dict) else {wanted}
        with self.records():
            for profile in self.backend("iam").instance_profiles.values():
                if {profile.name, profile.arn} & names and profile.roles:
                    role = profile.roles[0]
                    return InstanceRole(role.name, role.arn, profile.arn, profile.id)
        return None

    def allows_service(self, principal: str, action: str, resource_arn: str, context: gate.Keys = None) -> bool:
        """Whether the resource's own policy lets a service ("sns.amazonaws.com") do this; `context` has condition keys."""
        return gate.allows_service(self, principal, action, resource_arn, context)

    def allows_role(self, role_arn: str, action: str, resource_arn: str, context: gate.Keys = None) -> bool:
        """Whether a role that a service acts with may do this."""
        return gate.allows_role(self, role_arn, action, resource_arn, context)

    def assume_role(self, role_arn: str, session: str, seconds: int) -> tuple[str, str, str]:
        """Temporary credentials of a role: access key id, secret access key, session token."""
        with self.records():
            assumed = self.backend("sts").assume_role(
                region_name=self.settings.region,
                role_session_name=session,
                role_arn=role_arn,
                policy=None,
                duration=seconds,
                external_id=None,
            )
            self.changed()
            return assumed.access_key_id, assumed.secret_access_key, assumed.session_token
