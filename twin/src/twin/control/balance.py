"""Distribution over zones: where to launch, what to do when a zone has no capacity, and how to get back to balance.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/auto-scaling-benefits.html (rebalancing)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from twin.control.group_round import RETRY_SECONDS, Round
from twin.region.members import Member


@dataclass
class Trouble:
    """A zone in which launches fail: `until` when to spare it, by the region's clock."""

    until: float = 0.0
    failures: int = 0


@dataclass(frozen=True)
class Place:
    """Where an instance can go; `subnet_id` is None for a group that names zones alone."""

    zone: str
    subnet_id: str | None


def troubles(group: Any) -> dict[str, Trouble]:
    found: dict[str, Trouble] = vars(group).setdefault("zone_troubles", {})
    return found


def refused(current: Round, zone: str) -> None:
    """Remember that EC2 had no capacity in the zone."""
    trouble = troubles(current.group).setdefault(zone, Trouble())
    trouble.until = current.now + RETRY_SECONDS[min(trouble.failures, len(RETRY_SECONDS) - 1)]
    trouble.failures += 1


def places(current: Round) -> list[Place]:
    group = current.group
    if group.vpc_zone_identifier:
        subnets = [current.region.subnet(subnet_id.strip()) for subnet_id in group.vpc_zone_identifier.split(",")]
        return [Place(subnet.availability_zone, subnet.id) for subnet in subnets]
    return [Place(zone, None) for zone in group.availability_zones]


def staying(current: Round, instead_of: Member | None = None) -> list[Member]:
    """Members without those whose replacement takes their place, and without `instead_of`, which is about to get one."""
    active = current.active()
    replaced = {member.replaces for member in active if member.replaces}
    return [member for member in active if member.instance_id not in replaced and member is not instead_of]


def count(current: Round, instead_of: Member | None = None) -> Counter[str]:
    """Those that stay, by zone."""
    return Counter(member.availability_zone for member in staying(current, instead_of))


def choices(current: Round, zones: set[str] | None = None, instead_of: Member | None = None) -> Iterator[Place]:
    """Places to try for one more instance, best first: the zone with the fewest, in it the subnet with the fewest."""
    remaining = staying(current, instead_of)
    have = Counter(member.availability_zone for member in remaining)
    subnets = Counter(member.instance.subnet_id for member in remaining)
    possible = places(current)
    order = {place: index for index, place in enumerate(possible)}
    ways = getattr(current.group, "availability_zone_distribution", None) or {}
    quota = None
    if ways.get("CapacityDistributionStrategy") == "balanced-only":
        zone_names = {place.zone for place in possible}
        quota = -(-max(current.wanted, sum(have[zone] for zone in zone_names) + 1) // len(zone_names))
    tried = set()
    for place in sorted(possible, key=lambda place: (have[place.zone], subnets[place.subnet_id], order[place])):
        trouble = troubles(current.group).get(place.zone)
        if (zones is not None and place.zone not in zones) or place.zone in tried:
            continue
        if trouble and current.now < trouble.until:
            continue
        if quota is not None and have[place.zone] >= quota:
            continue
        tried.add(place.zone)
        yield place


def uneven(current: Round) -> tuple[str, Member] | None:
    """The zone that lacks an instance and the member that should make room for one there; None in balance.

    Whole numbers differ by one at best; a member in a zone that the group has left must go in any case.
    """
    zones = list(dict.fromkeys(place.zone for place in places(current)))
    have = count(current)
    low = min(zones, key=lambda zone: (have[zone], zones.index(zone)))
    fullest = max(have, key=lambda zone: (zone not in zones, have[zone]), default=low)
    if fullest in zones and have[fullest] - have[low] < 2:
        return None
    trouble = troubles(current.group).get(low)
    if trouble and current.now < trouble.until:
        return None
    movable = [
        member
        for member in current.active()
        if member.availability_zone == fullest and not member.outgoing and not member.replaces
    ]
    if not movable:
        return None
    return low, min(movable, key=lambda member: (member.protected_from_scale_in, member.in_service_since or 0.0))


def rebalance(current: Round) -> None:
    """Mark members to be moved: at most 10 % of the group or one at a time, and only when nothing else is under way."""
    if current.deleting or current.suspended("AZRebalance", "Launch", "Terminate") or current.refresh:
        return
    active = current.active()
    moving = [member for member in active if member.outgoing == "rebalance"]
    if any(member.outgoing not in ("", "rebalance") for member in active) or len(active) - len(moving) > current.wanted:
        return
    if any(not current.sound(member) and not member.replaces for member in active) or len(active) < current.wanted:
        return
    if not current.may_launch or len(moving) >= max(1, current.wanted // 10):
        return
    found = uneven(current)
    if found:
        _, member = found
        member.outgoing = "rebalance"
