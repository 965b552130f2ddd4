"""Desired capacity: launches what is missing, and takes out of service what is too much.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scaling-manually.html
"""

from __future__ import annotations

from twin.control import members, replacement, termination_policies
from twin.control.group_round import Round
from twin.region.activities import record, said
from twin.region.members import Member, leave

_DIFFERENCE = "an instance was {} in response to a difference between desired and actual capacity, {} the capacity from {} to {}."
_PROTECTED = "Could not scale to desired capacity because all remaining instances are protected from scale-in."


def scale(current: Round) -> None:
    if current.deleting:
        for member in current.members:
            if member.termination_cause is None:
                leave(current.group, member, "an instance was taken out of service in response to the group's deletion.")
        return
    extra = len(replacement.links(current))
    have = len(current.active())
    goal = current.wanted + extra
    if have < goal:
        _out(current, have, goal)
    elif have > goal:
        _in(current, have, goal)
    group = current.group
    if len(current.active()) == goal:
        group.capacity_cause, group.protection_noted = "", False
        current.owed.clear()


def _out(current: Round, have: int, goal: int) -> None:
    if not current.may_launch:
        return
    owed = current.owed
    difference = said(_DIFFERENCE.format("started", "increasing", have, goal))
    before = getattr(current.group, "capacity_cause", "")
    for _ in range(goal - have):
        cause = said(owed[0]) if owed else "  ".join(filter(None, (before, difference)))
        if members.launch(current, cause) is None:
            return
        if owed:
            owed.pop(0)


def _in(current: Round, have: int, goal: int) -> None:
    if current.suspended("Terminate"):
        return
    difference = said(_DIFFERENCE.format("taken out of service", "shrinking", have, goal))
    before = getattr(current.group, "capacity_cause", "")
    for _ in range(have - goal):
        leaving = _victim(current)
        if leaving is None:
            return
        selected = said(f"instance {leaving.instance_id} was selected for termination.")
        leave(current.group, leaving, "  ".join(filter(None, (before, difference, selected))))


def _victim(current: Round) -> Member | None:
    active = current.active()
    linked = replacement.links(current)
    pairs = set(linked) | {new.instance_id for new in linked.values()}
    alone = [member for member in active if member.instance_id not in pairs]
    unguarded = alone
    refresh = current.refresh
    if refresh or linked:
        # The bounds of a replacement hold while it goes on: what is ready stays as long as it is needed.
        bound = replacement.bounds(current, "refresh")
        spare = bound is None or replacement.ready(current) > bound.floor
        unguarded = [member for member in alone if spare or not current.ready(member)]
        targets = [member for member in unguarded if refresh and member.instance_id in refresh.targets]
        unready = [member for member in targets if not current.ready(member)]
        unguarded = unready or targets or unguarded
    found = termination_policies.choose(current.group, active, unguarded)
    if found is None and linked and not alone:
        # Only pairs are left: give up a replacement that is not ready yet.
        found = next((new for new in linked.values() if not current.ready(new)), None)
        if found:
            old = next(member for member in active if member.instance_id == found.replaces)
            old.outgoing, found.replaces = "", ""
    if found is None and alone and all(member.protected_from_scale_in for member in alone):
        _note_protection(current)
    return found


def _note_protection(current: Round) -> None:
    group = current.group
    if not getattr(group, "protection_noted", False):
        group.protection_noted = True
        before = getattr(group, "capacity_cause", "") or said("the capacity was to shrink.")
        record(group, "Terminating EC2 instance", before).fail(_PROTECTED)
