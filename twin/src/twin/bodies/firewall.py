"""A VPC's security groups, network ACLs and routes as one nftables table in its namespace, always replaced as a whole.

A packet between network interfaces passes, in this order: faults and network ACLs at its subnets' borders (without memory,
so before connection tracking), the route table when it leaves the VPC, the egress rules of its source's security groups, the
ingress rules of its destination's (both of new connections only). Whatever has no interface record is dropped.

- https://docs.aws.amazon.com/vpc/latest/userguide/vpc-security-groups.html
- https://docs.aws.amazon.com/vpc/latest/userguide/vpc-network-acls.html
- https://docs.aws.amazon.com/vpc/latest/userguide/route-table-options.html
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from twin.bodies.vpc_rules import Entry, Interface, Match, Rule, Vpc
from twin.settings import API_ADDRESS, DNS_ADDRESS, MAIL_ADDRESS, METADATA_ADDRESS

TABLE = "vpc_firewall"
UPLINK = "uplink"

# What a VPC's namespace starts with: the router's own services, until the records say more.
CLOSED = Vpc(cidrs=())


def render(vpc: Vpc) -> str:
    """The ruleset that replaces the VPC's table in one transaction; equal records give equal text."""
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    lines += [f"  {line}" for part in (_sets, _hooks, _borders, _routes, _groups) for line in part(vpc)]
    return "\n".join([*lines, "}", ""])


def _sets(vpc: Vpc) -> Iterator[str]:
    """Sets of addresses: who is in which group, and who may go where."""
    members: dict[str, list[str]] = {name: [] for name in sorted(vpc.groups)}
    for interface in vpc.interfaces:
        for group in interface.groups:
            members.setdefault(group, []).extend(interface.addresses)
    named = {
        **members,
        "interfaces": _addresses(vpc.interfaces),
        "databases": _addresses(one for one in vpc.interfaces if one.database),
        "public": _addresses(one for one in vpc.interfaces if one.public),
        "api_way": _addresses(one for one in vpc.interfaces if one.api[0]),
        "api_allowed": _addresses(one for one in vpc.interfaces if all(one.api)),
        "mail_way": _addresses(one for one in vpc.interfaces if one.mail[0]),
        "mail_allowed": _addresses(one for one in vpc.interfaces if all(one.mail)),
    }
    for name, addresses in named.items():
        elements = f"; elements = {_set(sorted(set(addresses)))}" if addresses else ""
        yield f"set {name} {{ type ipv4_addr{elements}; }}"


def _hooks(vpc: Vpc) -> Iterator[str]:
    """Where packets come in: between interfaces, to the router's addresses, from them."""
    within = [f'"{subnet.bridge}" . "{subnet.bridge}"' for subnet in vpc.subnets]
    inside = [f"iifname . oifname {_set(within)} goto groups"] if within else []
    yield from _chain(
        "forward",
        "type filter hook forward priority filter; policy drop;",
        # A standby follows its primary here; on AWS by RDS's own network, which no rule of the VPC's touches.
        "ip saddr @databases ip daddr @databases accept",
        *inside,
        "jump borders",
        f'oifname "{UPLINK}" jump routes',
        "goto groups",
    )
    services = f"{{ {METADATA_ADDRESS}, {DNS_ADDRESS} }}"
    yield from _chain(
        "input",
        "type filter hook input priority filter; policy drop;",
        'iifname "lo" accept',
        # Security groups and network ACLs don't filter AWS's link-local services.
        f"ip daddr {services} accept",
        f"ip daddr {API_ADDRESS} goto to_api",
        f"ip daddr {MAIL_ADDRESS} goto to_mail",
        "ip daddr @interfaces goto to_balancer",
        "jump faults",
        "ct state established,related accept",
        "drop",
    )
    for name in ("api", "mail"):
        yield from _chain(
            f"to_{name}",
            "jump faults",
            f"ip saddr != @{name}_way drop",
            "ct state established,related accept",
            f"ip saddr @{name}_allowed accept",
            "drop",
        )
    here = [f'iifname "{subnet.bridge}" ip daddr {subnet.cidr} goto groups' for subnet in vpc.subnets]
    yield from _chain("to_balancer", *here, "jump borders", "goto groups")
    # Load balancers have addresses of their own: nothing else of the router's has business with an interface.
    yield from _chain(
        "output",
        "type filter hook output priority filter; policy accept;",
        'oifname "lo" accept',
        f"ip saddr {services} accept",
        "ip saddr @interfaces goto from_balancer",
        "jump faults",
        f"ip saddr {{ {API_ADDRESS}, {MAIL_ADDRESS} }} jump acls_in",
        f"ip saddr {{ {API_ADDRESS}, {MAIL_ADDRESS} }} accept",
        "ct state established,related accept",
        "ip daddr @interfaces drop",
    )
    there = [f'oifname "{subnet.bridge}" ip saddr {subnet.cidr} goto groups' for subnet in vpc.subnets]
    yield from _chain("from_balancer", *there, "jump borders", f'oifname "{UPLINK}" jump routes', "goto groups")


def _borders(vpc: Vpc) -> Iterator[str]:
    """Faults and network ACLs, where a packet leaves one subnet and enters another."""
    faults = []
    for subnet in vpc.subnets:
        for near, far in (("saddr", "daddr"), ("daddr", "saddr")):
            if subnet.cut_all:
                faults.append(f"ip {near} {subnet.cidr} drop")
            if subnet.cut_outside:
                faults.append(f"ip {near} {subnet.cidr} ip {far} != {_blocks(vpc.cidrs)} drop")
            if subnet.cut:
                faults.append(f"ip {near} {subnet.cidr} ip {far} {_blocks(subnet.cut)} drop")
    yield from _chain("faults", *faults)
    for name, acl in sorted(vpc.acls.items()):
        for way, entries, far in (("in", acl.ingress, "saddr"), ("out", acl.egress, "daddr")):
            if not _allows_all(entries):
                rules = (
                    f"{_peer(far, (entry.cidr,))}{entry.match.render()}{'return' if entry.allow else 'drop'}"
                    for entry in sorted(entries, key=lambda entry: entry.number)
                )
                yield from _chain(f"acl_{way}_{name}", *rules, "drop")
    chains: dict[str, list[str]] = {"in": [], "out": []}
    for subnet in vpc.subnets:
        acl = vpc.acls[subnet.acl]
        for way, entries in (("in", acl.ingress), ("out", acl.egress)):
            if not _allows_all(entries):
                chains[way].append(f"{subnet.cidr} : jump acl_{way}_{subnet.acl}")
    for way, near in (("in", "daddr"), ("out", "saddr")):
        yield from _chain(f"acls_{way}", *([f"ip {near} vmap {_set(chains[way])}"] if chains[way] else []))
    yield from _chain("borders", "jump faults", "jump acls_out", "jump acls_in")


def _routes(vpc: Vpc) -> Iterator[str]:
    """The way out, by the source's subnet: the longest prefix decides."""
    for subnet in vpc.subnets:
        rules = []
        for route in sorted(subnet.routes, key=lambda route: -ipaddress.IPv4Network(route.cidr).prefixlen):
            far = _peer("daddr", (route.cidr,))
            if route.target == "internet":
                rules.append(f"{far}ip saddr @public return")
            elif route.target == "nat":
                # A NAT gateway carries no answer to a connection that did not come through it.
                rules.append(f"{far}ct direction original return")
            rules.append(f"{far}drop")
        yield from _chain(f"routes_{subnet.bridge}", *rules, "drop")
    chains = [f"{subnet.cidr} : goto routes_{subnet.bridge}" for subnet in vpc.subnets]
    yield from _chain("routes", *([f"ip saddr vmap {_set(chains)}"] if chains else []), "drop")


def _groups(vpc: Vpc) -> Iterator[str]:
    """Security groups: a connection that one side's rule and the other's allow is accepted, and so are its replies."""
    for name, group in sorted(vpc.groups.items()):
        yield from _chain(f"in_{name}", *_allowing(group.ingress, "saddr", "accept"))
    combinations = sorted({interface.groups for interface in vpc.interfaces})
    for number, names in enumerate(combinations):
        yield from _chain(f"ingress_{number}", *(f"jump in_{name}" for name in names), "drop")
    numbers = {names: number for number, names in enumerate(combinations)}
    where = [(address, numbers[one.groups]) for one in vpc.interfaces for address in one.addresses]
    to = [f"{address} : goto ingress_{number}" for address, number in sorted(where)]
    yield from _chain("ingress", *([f"ip daddr vmap {_set(to)}"] if to else []), f'oifname "{UPLINK}" accept', "drop")
    for name, group in sorted(vpc.groups.items()):
        yield from _chain(f"out_{name}", *_allowing(group.egress, "daddr", "goto ingress"))
    for number, names in enumerate(combinations):
        yield from _chain(f"egress_{number}", *(f"jump out_{name}" for name in names), "drop")
    by = [f"{address} : goto egress_{number}" for address, number in sorted(where)]
    yield from _chain(
        "groups",
        "ct state established,related accept",
        "ct state invalid drop",
        *([f"ip saddr vmap {_set(by)}"] if by else []),
        f'iifname "{UPLINK}" goto ingress',
        "drop",
    )


def _allowing(rules: Iterable[Rule], far: str, verdict: str) -> Iterator[str]:
    blocks: dict[Match, list[str]] = {}
    for rule in rules:
        if rule.cidrs:
            blocks.setdefault(rule.match, []).extend(rule.cidrs)
        for group in rule.groups:
            yield f"ip {far} @{group} {rule.match.render()}{verdict}"
    for match, cidrs in blocks.items():
        yield f"{_peer(far, cidrs)}{match.render()}{verdict}"


def _allows_all(entries: Iterable[Entry]) -> bool:
    first = min(entries, key=lambda entry: entry.number, default=None)
    return first is not None and first.allow and first.match == Match() and first.cidr == "0.0.0.0/0"


def _addresses(interfaces: Iterable[Interface]) -> list[str]:
    return [address for interface in interfaces for address in interface.addresses]


def _peer(far: str, cidrs: Iterable[str]) -> str:
    blocks = _blocks(cidrs)
    return "" if blocks == "{ 0.0.0.0/0 }" else f"ip {far} {blocks} "


def _blocks(cidrs: Iterable[str]) -> str:
    """An nftables set of address blocks, which must not overlap."""
    return _set(
        [str(block) for block in ipaddress.collapse_addresses(ipaddress.IPv4Network(cidr, strict=False) for cidr in cidrs)]
    )


def _set(elements: Iterable[str]) -> str:
    return "{ " + ", ".join(elements) + " }"


def _chain(name: str, *rules: str) -> Iterator[str]:
    yield f"chain {name} {{"
    yield from (f"  {rule}" for rule in rules)
    yield "}"
