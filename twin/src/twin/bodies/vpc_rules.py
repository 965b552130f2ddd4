"""What decides about a VPC's packets, as plain values: groups, ACLs, routes, and the interfaces that they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_ALL_PORTS = (0, 65535)


@dataclass(frozen=True)
class Match:
    """What a rule says of protocol and ports. `protocol` is tcp, udp, icmp, a number, or "-1" for all; `ports` the first and
    last port, or ICMP's type and code with -1 for any."""

    protocol: str = "-1"
    ports: tuple[int, int] | None = None

    def render(self) -> str:
        """As a condition of nftables, with a space behind it."""
        if self.protocol == "-1":
            return ""
        if self.protocol == "icmp":
            kind, code = self.ports or (-1, -1)
            return "ip protocol icmp " if kind < 0 else f"icmp type {kind} " + (f"icmp code {code} " if code >= 0 else "")
        if self.protocol in ("tcp", "udp") and self.ports and self.ports[0] >= 0 and self.ports != _ALL_PORTS:
            first, last = self.ports
            return f"{self.protocol} dport {first} " if first == last else f"{self.protocol} dport {first}-{last} "
        return f"ip protocol {self.protocol} "

    def covers(self, protocol: str, port: int) -> bool:
        if self.protocol == "-1":
            return True
        first, last = self.ports or _ALL_PORTS
        return self.protocol == protocol and (first < 0 or first <= port <= last)


@dataclass(frozen=True)
class Rule:
    """A security group's rule: the other side is one of `cidrs` (CIDR blocks) or a member of one of `groups` (ids).
    `aws` says that a prefix list of AWS's services is meant, which all are at one address here."""

    match: Match
    cidrs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    aws: bool = False


@dataclass(frozen=True)
class Group:
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A network ACL's numbered entry."""

    number: int
    allow: bool
    match: Match
    cidr: str


@dataclass(frozen=True)
class Acl:
    ingress: tuple[Entry, ...] = ()
    egress: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Route:
    """A way out of the VPC. A target that can't be used is a black hole."""

    cidr: str
    target: Literal["internet", "nat", "blackhole"]


@dataclass(frozen=True)
class Subnet:
    """`cut` lists address blocks that a fault keeps the subnet from; `cut_all` cuts it off from all but itself, `cut_outside`
    from what is not in the VPC."""

    bridge: str
    cidr: str
    acl: str
    routes: tuple[Route, ...] = ()
    cut: tuple[str, ...] = ()
    cut_all: bool = False
    cut_outside: bool = False


@dataclass(frozen=True)
class Interface:
    """`public` says that it has a public address, `database` that it is one of RDS's.

    Of the API (`api`) and the mail service (`mail`): whether routes and ACLs lead there, and groups too.
    """

    addresses: tuple[str, ...]
    groups: tuple[str, ...]
    public: bool = False
    database: bool = False
    api: tuple[bool, bool] = (False, False)
    mail: tuple[bool, bool] = (False, False)


@dataclass(frozen=True)
class Vpc:
    cidrs: tuple[str, ...]
    subnets: tuple[Subnet, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=dict)
    acls: Mapping[str, Acl] = field(default_factory=dict)
