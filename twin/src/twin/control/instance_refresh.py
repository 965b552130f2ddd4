"""Instance refresh at work: which members are to be replaced next, and when the whole is done, has failed, or is undone.

How many at a time is up to replacement.py.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-adding-checkpoints-instance-refresh.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html
"""

from __future__ import annotations

from typing import Any

from moto.core.utils import utcnow

from twin.control import replacement
from twin.control.events import refresh_event
from twin.control.group_round import Round
from twin.control.refresh_progress import Progress
from twin.region.activities import said
from twin.region.instance_refresh import REVERSIBLE, InstanceRefresh, RollbackDetails, launch_source
from twin.region.members import PENDING, Member, leave

PATIENCE = 3600.0  # seconds for which failing replacements are retried, and protected or standby instances waited for


def advance(current: Round) -> list[Member]:
    """Move the group's refresh on; returns the members that may be replaced next, in order."""
    refresh = current.refresh
    if refresh is None:
        return []
    if current.deleting:
        _end(current, refresh, "Cancelled", "The Auto Scaling group is being deleted.", "Cancelled")
        return []
    if refresh.manual_rollback and refresh.status in REVERSIBLE:
        if refresh.status == "Pending":
            _begin(current, refresh)
        _roll_back(current, refresh, "Rollback initiated due to user request.")
    if refresh.status == "Cancelling":
        _cancel(current, refresh)
        return []
    if current.suspended("InstanceRefresh"):
        return []
    if refresh.status == "Pending":
        _begin(current, refresh)
    if refresh.status in ("InProgress", "Baking"):
        ringing = _ringing(current, refresh)
        if ringing:
            _fail(current, refresh, f"CloudWatch alarm {ringing} is in ALARM state.")
    if refresh.status == "Baking":
        if current.now >= (refresh.bake_until or 0.0):
            _succeed(current, refresh)
        return []
    if refresh.status == "InProgress":
        return _forward(current, refresh, Progress(current, refresh))
    if refresh.status == "RollbackInProgress":
        return _back(current, refresh, Progress(current, refresh))
    return []


def _begin(current: Round, refresh: InstanceRefresh) -> None:
    template, version, _, _ = launch_source(current.group)
    for member in current.members:
        if member.termination_cause is not None or not (
            member.active or member.lifecycle_state in ("Standby", "EnteringStandby")
        ):
            continue
        own = member.launch_template
        same = own and template and (own["LaunchTemplateId"], own["Version"]) == (template.id, str(version.number))
        if not (refresh.preferences.skip_matching and same):
            refresh.targets.add(member.instance_id)
    refresh.status, refresh.start = "InProgress", utcnow()
    refresh_event(current.region, current.group, "Started", refresh.refresh_id)


def _forward(current: Round, refresh: InstanceRefresh, progress: Progress) -> list[Member]:
    group, preferences = current.group, refresh.preferences
    if preferences.standby == "Terminate":
        for member in progress.standby:
            leave(group, member, said("an instance was taken out of service in response to an instance refresh."))
    _follow_failures(current, refresh, progress)
    if refresh.failing_since is not None and current.now - refresh.failing_since >= PATIENCE:
        _fail(current, refresh, refresh.failure)
        return []
    if progress.size > refresh.size:
        # The group has grown: a checkpoint that lies ahead again is reached again.
        refresh.checkpoints_passed = min(refresh.checkpoints_passed, progress.reached)
    refresh.size = progress.size
    refresh.percentage, refresh.to_update = progress.percentage, progress.to_update
    if progress.reached > refresh.checkpoints_passed:
        refresh.checkpoints_passed = progress.reached
        percentage = preferences.checkpoints[progress.reached - 1]
        refresh_event(
            current.region,
            group,
            "Checkpoint Reached",
            refresh.refresh_id,
            CheckpointPercentage=str(percentage),
            CheckpointDelay=str(preferences.delay),
        )
        if progress.reached < len(preferences.checkpoints):
            refresh.wait_until = current.now + preferences.delay
    if progress.complete(refresh.checkpoints_passed):
        _complete(current, refresh)
        return []
    if refresh.wait_until is not None and current.now < refresh.wait_until:
        refresh.reason = f"Waiting {preferences.delay} seconds after a checkpoint before continuing."
        return []
    refresh.wait_until = None
    if progress.hindering and not progress.replaceable and not progress.unready:
        return _hindered(current, refresh, progress)
    refresh.hindered_since = None
    refresh.reason = progress.waiting_for()
    if refresh.failing_since is not None:
        return []  # until a replacement has worked, no other instance is given up
    return progress.next(progress.allowed(refresh.checkpoints_passed) - progress.started)


def _back(current: Round, refresh: InstanceRefresh, progress: Progress) -> list[Member]:
    """Replace what was replaced; what the refresh had not come to stays as it is."""
    _follow_failures(current, refresh, progress)
    if refresh.failing_since is not None and current.now - refresh.failing_since >= PATIENCE:
        _end(current, refresh, "RollbackFailed", f"The rollback failed: {refresh.failure}", "Failed")
        return []
    remaining = len(progress.olds)
    if refresh.rollback:
        refresh.percentage = min(refresh.rollback.percentage, 100 * remaining // max(1, refresh.size))
        refresh.to_update = max(refresh.rollback.to_update, refresh.size - remaining)
    if not remaining and not progress.unready and len(current.active()) == current.wanted:
        reason = refresh.rollback.reason if refresh.rollback else ""
        _end(current, refresh, "RollbackSuccessful", reason, "Cancelled" if refresh.manual_rollback else "Failed")
        return []
    return progress.next(remaining)


def _follow_failures(current: Round, refresh: InstanceRefresh, progress: Progress) -> None:
    """An hour starts with a replacement that fails, and ends with one that works."""
    for member in progress.fresh:
        if current.ready(member):
            if member.instance_id not in refresh.ready_ids:
                refresh.ready_ids.add(member.instance_id)
                refresh.failing_since = None
        elif member.lifecycle_state == "InService" and current.warm(member) and not current.sound(member):
            refresh.trouble(current.now, f"{member.instance_id} did not pass its health checks.")


def _hindered(current: Round, refresh: InstanceRefresh, progress: Progress) -> list[Member]:
    first = progress.hindering[0]
    state = "is in Standby state" if first.lifecycle_state == "Standby" else "is protected from scale in"
    refresh.reason = f"Waiting for instances that can't be replaced. For example: {first.instance_id} {state}."
    if refresh.hindered_since is None:
        refresh.hindered_since = current.now
    elif current.now - refresh.hindered_since >= PATIENCE:
        _fail(current, refresh, f"{first.instance_id} could not be replaced since it {state}.")
    return []


def _complete(current: Round, refresh: InstanceRefresh) -> None:
    if refresh.preferences.bake:
        refresh.status, refresh.reason = "Baking", f"Waiting for the bake time of {refresh.preferences.bake} seconds to pass."
        refresh.bake_until = current.now + refresh.preferences.bake
    else:
        _succeed(current, refresh)


def _succeed(current: Round, refresh: InstanceRefresh) -> None:
    """Only now do the group's own settings change."""
    group = current.group
    if refresh.desired:
        asked = refresh.desired["LaunchTemplate"]
        group.ec2_launch_template = group.ec2_backend.get_launch_template(refresh.template_id)
        group.launch_template_version = asked.get("Version") or "$Default"
        group.provided_launch_template_version = asked.get("Version")
        group.launch_config = group.launch_configuration_name = None
    _end(current, refresh, "Successful", "", "Succeeded")


def _fail(current: Round, refresh: InstanceRefresh, words: str) -> None:
    if refresh.preferences.auto_rollback:
        refresh_event(current.region, current.group, "Failed", refresh.refresh_id)
        _roll_back(current, refresh, f"Rollback initiated automatically: {words}")
        return
    for new in replacement.links(current).values():
        if not current.ready(new):
            leave(current.group, new, said("an instance was taken out of service in response to a failed instance refresh."))
    _end(current, refresh, "Failed", f"The Instance Refresh failed: {words}", "Failed")


def _roll_back(current: Round, refresh: InstanceRefresh, reason: str) -> None:
    refresh.rollback = RollbackDetails(reason, utcnow(), refresh.percentage, refresh.to_update)
    launched = {member.instance_id for member in current.active() if member.generation == refresh.refresh_id}
    for new in replacement.links(current).values():
        if new.instance_id in launched:
            new.replaces = ""  # the one it was launched for stays
    for member in current.active():
        member.outgoing = "" if member.outgoing == "refresh" else member.outgoing
    refresh.status, refresh.reason, refresh.targets = "RollbackInProgress", reason, launched
    refresh.failing_since = refresh.wait_until = refresh.hindered_since = None


def _cancel(current: Round, refresh: InstanceRefresh) -> None:
    """No more replacements; those under way come to their end first, unless asked not to wait."""
    under_way = bool(replacement.links(current)) or any(
        member.lifecycle_state in PENDING or (member.termination_cause is not None and member.outgoing == "refresh")
        for member in current.members
    )
    if not (refresh.wait_for_transitions and under_way):
        _end(current, refresh, "Cancelled", "Cancelled due to user request.", "Cancelled")


def _end(current: Round, refresh: InstanceRefresh, status: str, reason: str, event: str) -> None:
    refresh.status, refresh.reason, refresh.end = status, reason, utcnow()
    if not (event == "Failed" and status == "RollbackSuccessful"):  # was told when the rollback began
        refresh_event(current.region, current.group, event, refresh.refresh_id)


def _ringing(current: Round, refresh: InstanceRefresh) -> str | None:
    """The name of an alarm that rings, if one does."""
    known: dict[str, Any] = current.region.backend("cloudwatch").alarms if refresh.preferences.alarms else {}
    return next((name for name in refresh.preferences.alarms if name in known and known[name].state_value == "ALARM"), None)
