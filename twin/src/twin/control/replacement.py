"""Replacing members: how many at a time, and whether the new one comes before the old one goes.

Two bounds rule every replacement: how many must stay ready, and how many there may be. Where there is room above, the
new instance comes first; otherwise, where there is room below, the old one goes first.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-maintenance-policy-overview-and-considerations.html
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html
"""

from __future__ import annotations

from dataclasses import dataclass

from twin.control import balance, health, members
from twin.control.group_round import Round
from twin.region.activities import said
from twin.region.groups import maintenance_policy
from twin.region.members import Member, leave

_LAUNCHED = {
    "unhealthy": health.LAUNCHED_FOR_UNHEALTHY,
    "lifetime": "an instance was launched in response to an instance reaching its maximum lifetime.",
    "rebalance": "an instance was launched to balance instances in the group's zones.",
    "refresh": "an instance was launched in response to an instance refresh.",
}
_LEFT = {
    "lifetime": "an instance was taken out of service in response to it reaching its maximum lifetime.",
    "rebalance": "an instance was taken out of service to balance instances in the group's zones.",
    "refresh": "an instance was taken out of service in response to an instance refresh.",
}


@dataclass(frozen=True)
class Limits:
    """How many must stay ready (`floor`) and how many there may be (`ceiling`)."""

    floor: int
    ceiling: int


def limits(desired: int, least: int, most: int | None) -> Limits:
    """Percentages of the desired capacity as numbers; the lower one is rounded up.

    When both bounds leave no room, one instance is replaced all the same: launched first if the upper bound was given,
    terminated first if it was left out.
    """
    floor = -(-least * desired // 100)
    if most is None:
        return Limits(min(floor, max(0, desired - 1)), desired)
    return Limits(floor, max(most * desired // 100, floor + 1 if floor >= desired else 0))


def bounds(current: Round, reason: str) -> Limits | None:
    """The bounds of a replacement; None for an unhealthy instance that no policy protects."""
    refresh = current.refresh
    if refresh and reason == "refresh":
        return limits(current.wanted, refresh.least, refresh.most)
    policy = maintenance_policy(current.group)
    if reason == "rebalance":
        found = limits(current.wanted, *(policy or (100, 110)))
        return Limits(found.floor, max(found.ceiling, current.wanted + 1))
    if policy:
        return limits(current.wanted, *policy)
    return None if reason == "unhealthy" else limits(current.wanted, 90, None)


def links(current: Round) -> dict[str, Member]:
    """Members launched for one that is still to go, by its id."""
    outgoing = {member.instance_id for member in current.active() if member.outgoing}
    found = {}
    for member in current.active():
        if member.replaces in outgoing:
            found[member.replaces] = member
        elif member.replaces:
            member.replaces = ""
    return found


def run(current: Round, due: list[Member]) -> None:
    """Move replacements on; `due` are the members that an instance refresh wants replaced next."""
    if current.deleting:
        return
    linked = links(current)
    for member in current.active():
        if member.outgoing == "refresh" and member.instance_id not in linked:
            member.outgoing = ""  # its replacement failed, or the refresh has ended
    _finish(current, linked)
    for reason in ("unhealthy", "refresh", "lifetime", "rebalance"):
        bound = bounds(current, reason)
        waiting = due if reason == "refresh" else [member for member in current.active() if member.outgoing == reason]
        for old in waiting:
            if not old.active or old.instance_id in linked or old.outgoing not in ("", reason):
                continue
            old.outgoing = reason
            if not _start(current, old, reason, bound):
                break


def _finish(current: Round, linked: dict[str, Member]) -> None:
    if current.suspended("Terminate"):
        return
    for old in [member for member in current.active() if member.instance_id in linked]:
        new = linked[old.instance_id]
        if not current.ready(new):
            continue
        bound = bounds(current, old.outgoing)
        if bound is None or not current.ready(old) or ready(current) > bound.floor:
            leave(current.group, old, said(_left(old)))
            new.replaces = ""


def _start(current: Round, old: Member, reason: str, bound: Limits | None) -> bool:
    """Begin one replacement; False when there is no room for it now."""
    refresh = current.refresh
    # What failed while it was to replace another, or was launched by this refresh, goes at once: nothing depends on it yet.
    fresh = bool(reason == "unhealthy" and (old.replaces or (refresh and old.generation == refresh.generation)))
    if bound is None or fresh:
        return _go(current, old, reason)
    if current.suspended("Terminate"):
        return False
    extra = len(links(current))
    leaving = sum(1 for member in current.active() if member.outgoing and member.health_status != "Healthy")
    projected = max(len(current.active()), current.wanted + extra) + 1 - leaving
    if current.wanted < bound.ceiling and projected <= bound.ceiling:
        return _come(current, old, reason)
    if reason == "unhealthy":
        serving = sum(1 for member in current.active() if member.lifecycle_state == "InService")
        return serving - 1 >= bound.floor and _go(current, old, reason)
    # A healthy instance goes first only while launches work and enough others are ready.
    broken = current.warm(old) and not current.sound(old)
    room = broken or ready(current) - (1 if current.ready(old) else 0) >= bound.floor
    return room and current.may_launch and _go(current, old, reason)


def _come(current: Round, old: Member, reason: str) -> bool:
    """Launch the new one first; the old one goes when that is ready."""
    if not current.may_launch:
        return False
    zones = None
    if reason == "rebalance":
        have = balance.count(current, old)
        zones = {min((place.zone for place in balance.places(current)), key=lambda zone: have[zone])}
    launched = members.launch(current, said(_LAUNCHED[reason]), replaces=old, zones=zones)
    if launched is None and reason == "rebalance":
        old.outgoing = ""  # no capacity there yet
    return launched is not None


def _go(current: Round, old: Member, reason: str) -> bool:
    """Let the old one go first; the scaling step launches the new one."""
    if current.suspended("Terminate"):
        return False
    leave(current.group, old, said(_left(old)))
    current.owed.append(_LAUNCHED[reason])
    return True


def ready(current: Round) -> int:
    return sum(1 for member in current.active() if current.ready(member))


def _left(old: Member) -> str:
    return health.cause(old) if old.outgoing == "unhealthy" else _LEFT[old.outgoing]
