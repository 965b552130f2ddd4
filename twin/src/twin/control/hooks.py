"""Lifecycle hooks at work: instances wait until every action is completed, abandoned, or out of time.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.moto_api._internal import mock_random as random

from twin.control.events import lifecycle_event
from twin.control.group_round import Round
from twin.region.lifecycle_hooks import LAUNCHING, hooks_of, notify
from twin.region.members import LifecycleAction, Member


def begin(current: Round, member: Member, transition: str) -> bool:
    """Let the member wait for the transition's hooks, once; False when there is none to wait for."""
    if member.hooked or current.deleting:
        return False
    member.hooked = True
    found = [hook for hook in hooks_of(current.region, current.group) if hook.lifecycle_transition == transition]
    member.actions = {}
    for hook in found:
        heartbeat = float(hook.heartbeat_timeout)
        member.actions[hook.name] = LifecycleAction(
            hook=hook.name,
            token=str(random.uuid4()),
            heartbeat=heartbeat,
            default=hook.default_result,
            deadline=current.now + heartbeat,
            expires=current.now + hook.global_timeout,
        )
        _tell(current, member, hook, transition)
    if not found:
        return False
    member.lifecycle_state = f"{'Pending' if transition == LAUNCHING else 'Terminating'}:Wait"
    activity = member.activity_end or member.moving or member.activity
    if activity:
        activity.pass_to("MidLifecycleAction", 60)
    return True


def proceed(current: Round, abandon: Callable[[Round, Member, str, str], None]) -> None:
    """End waits whose actions are complete, abandoned or out of time; `abandon` ends a launch, given a token and why."""
    for member in list(current.members):
        if not member.lifecycle_state.endswith(":Wait"):
            continue
        for action in member.actions.values():
            if not action.result and current.now >= min(action.deadline, action.expires):
                action.result, action.reason = action.default, "Heartbeat Timeout"
        abandoned = next((action for action in member.actions.values() if action.result == "ABANDON"), None)
        if not abandoned and not all(action.result for action in member.actions.values()):
            continue
        launching = member.lifecycle_state == "Pending:Wait"
        if launching and abandoned and member.termination_cause is None:
            abandon(current, member, abandoned.token, abandoned.reason)
        elif launching:
            member.lifecycle_state = "Pending:Proceed"
        else:  # both results let the instance go; ABANDON ends the other hooks' waits as well
            member.lifecycle_state = "Terminating:Proceed"
        member.actions = {}


def _tell(current: Round, member: Member, hook: Any, transition: str) -> None:
    action = member.actions[hook.name]
    launching = transition == LAUNCHING
    detail = {
        "LifecycleActionToken": action.token,
        "AutoScalingGroupName": current.group.name,
        "LifecycleHookName": hook.name,
        "EC2InstanceId": member.instance.id,
        "LifecycleTransition": transition,
        **({"NotificationMetadata": hook.notification_metadata} if hook.notification_metadata else {}),
        "Origin": "EC2" if launching else "AutoScalingGroup",
        "Destination": "AutoScalingGroup" if launching else "EC2",
    }
    lifecycle_event(current.region, current.group, detail)
    notify(current.region, current.group, hook, detail)
