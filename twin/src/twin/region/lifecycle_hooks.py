"""Lifecycle hooks: their records, and the calls that complete or prolong the waits they cause.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CompleteLifecycleAction.html
"""

from __future__ import annotations

import json
import logging
from copy import copy
from typing import Any, cast

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.exceptions import ServiceException
from moto.core.responses import EmptyResult
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random as random

from twin.region.groups import group_of
from twin.region.members import LifecycleAction
from twin.region.patch import add, replace
from twin.region.region import Region

log = logging.getLogger(__name__)

LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
LONGEST_WAIT = 172800  # 48 hours
HOOKS_OF_A_GROUP = 50
RESULTS = ("CONTINUE", "ABANDON")


def hooks_of(region: Region, group: Any) -> list[Any]:
    backend = region.backend("autoscaling")
    return [hook for hook in backend.lifecycle_hooks.values() if hook.auto_scaling_group_name == group.name]


def put_hook(backend: Any, group: Any, asked: dict[str, Any]) -> Any:
    """Create a hook of the group or change the one of that name; `asked` has PutLifecycleHook's parameters.

    Raises ValidationError or LimitExceeded as AWS does.
    """
    name = asked["LifecycleHookName"]
    key = f"{group.name}_{name}"
    hook = backend.lifecycle_hooks.get(key)
    transition = asked.get("LifecycleTransition") or (hook and hook.lifecycle_transition)
    if transition not in (LAUNCHING, TERMINATING):
        raise ValidationError(f"Invalid Lifecycle Transition: {transition}. Valid transitions are: {LAUNCHING}, {TERMINATING}")
    timeout = asked.get("HeartbeatTimeout")
    if timeout is not None and not 30 <= int(timeout) <= 7200:
        raise ValidationError("Heartbeat timeout must be in the range from 30 to 7200 seconds.")
    result = asked.get("DefaultResult")
    if result is not None and result not in RESULTS:
        raise ValidationError(f"Invalid Lifecycle Action Result: {result}. Valid results are: {', '.join(RESULTS)}")
    target, role = asked.get("NotificationTargetARN"), asked.get("RoleARN")
    if target and not (target.startswith("arn:") and target.split(":")[2] in ("sns", "sqs")):
        raise ValidationError(f"Invalid Notification Target ARN: {target}. It must be an SNS topic or an SQS queue.")
    if hook is None:
        own = [other for other in backend.lifecycle_hooks.values() if other.auto_scaling_group_name == group.name]
        if len(own) >= HOOKS_OF_A_GROUP:
            raise AutoscalingClientError("LimitExceeded", f"You have already reached your limit of {HOOKS_OF_A_GROUP} hooks.")
        hook = cast("Any", models.LifecycleHook(name, group.name, transition, None, None))
        hook.role_arn = hook.notification_target_arn = hook.notification_metadata = None
        backend.lifecycle_hooks[key] = hook
    hook.lifecycle_transition = transition
    hook.heartbeat_timeout = int(timeout) if timeout is not None else hook.heartbeat_timeout
    hook.global_timeout = min(LONGEST_WAIT, 100 * hook.heartbeat_timeout)
    hook.default_result = result or hook.default_result
    hook.role_arn = role or hook.role_arn
    hook.notification_target_arn = hook.notification_target_arn if target is None else target or None
    hook.notification_metadata = asked.get("NotificationMetadata") or hook.notification_metadata
    return hook


def notify(region: Region, group: Any, hook: Any, detail: dict[str, str]) -> bool:
    """Send the hook's message to its topic or queue, as its role may; returns whether it was taken. The log says why not.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/prepare-for-lifecycle-notifications.html
    """
    target = hook.notification_target_arn
    if not target:
        return True
    action = "sqs:SendMessage" if ":sqs:" in target else "sns:Publish"
    if not region.allows_role(hook.role_arn or "", action, target):
        log.warning("%s: the hook %s's role %s may not %s on %s", group.name, hook.name, hook.role_arn, action, target)
        return False
    message = {
        **detail,
        "Service": "AWS Auto Scaling",
        "Time": f"{utcnow():%Y-%m-%dT%H:%M:%S.000Z}",
        "AccountId": group.account_id,
        "RequestId": str(random.uuid4()),
    }
    name = group.name
    try:
        if ":sqs:" in target:
            region.backend("sqs").send_message(target.split(":")[-1], json.dumps(message))
        else:
            about = detail.get("LifecycleTransition") or detail.get("Event", "")
            subject = f"Auto Scaling:  Lifecycle action '{about.split(':')[-1]}' for instance {detail.get('EC2InstanceId', '')}"
            region.backend("sns").publish(json.dumps(message), arn=target, subject=subject[:100])
    except (ServiceException, KeyError) as error:
        log.warning("%s: the hook %s could not notify %s: %s", name, hook.name, target, error)
        return False
    return True


def install(region: Region) -> None:
    _install_records(region)
    _install_actions(region)


def _install_records(region: Region) -> None:
    @replace(responses.AutoScalingResponse, "put_lifecycle_hook")
    def put_lifecycle_hook(self: Any) -> Any:
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        hooks = self.autoscaling_backend.lifecycle_hooks
        before = {name: copy(hook) for name, hook in hooks.items()}
        hook = put_hook(self.autoscaling_backend, group, self._get_params())
        if self._get_param("NotificationTargetARN"):
            detail = {"Event": "autoscaling:TEST_NOTIFICATION", "AutoScalingGroupName": group.name}
            if not notify(region, group, hook, {**detail, "AutoScalingGroupARN": group.arn}):
                hooks.clear()
                hooks.update(before)
                raise ValidationError(
                    f"Unable to publish test message to notification target {hook.notification_target_arn} using IAM role "
                    f"{hook.role_arn}. Please check your target and role configuration and try to put lifecycle hook again."
                )
        return EmptyResult()

    @replace(responses.AutoScalingResponse, "delete_lifecycle_hook")
    def delete_lifecycle_hook(self: Any) -> Any:
        """Waits for it end first: ABANDON for launches, CONTINUE for terminations."""
        group = group_of(self, self._get_param("AutoScalingGroupName"))
        name = self._get_param("LifecycleHookName")
        if self.autoscaling_backend.lifecycle_hooks.pop(f"{group.name}_{name}", None) is None:
            raise ValidationError(f"No Lifecycle Hook found with name {name} for AutoScalingGroup {group.name}")
        for member in group.instance_states:
            action = member.actions.get(name)
            if action and not action.result:
                launching = member.lifecycle_state == "Pending:Wait"
                action.result, action.reason = "ABANDON" if launching else "CONTINUE", "Lifecycle Hook was deleted"
        region.wake("AutoScaling")
        return EmptyResult()


def _install_actions(region: Region) -> None:
    @add(responses.AutoScalingResponse, "complete_lifecycle_action")
    def complete_lifecycle_action(self: Any) -> Any:
        result = self._get_param("LifecycleActionResult")
        if result not in RESULTS:
            raise ValidationError(f"Invalid Lifecycle Action Result: {result}. Valid results are: {', '.join(RESULTS)}")
        action = _action(self)
        action.result, action.reason = result, f"Lifecycle Action Completed with {result} Result"
        region.wake("AutoScaling")
        return EmptyResult()

    @add(responses.AutoScalingResponse, "record_lifecycle_action_heartbeat")
    def record_lifecycle_action_heartbeat(self: Any) -> Any:
        action = _action(self)
        action.deadline = region.clock() + action.heartbeat
        return EmptyResult()


def _action(response: Any) -> LifecycleAction:
    """The action that a request names by token or by instance."""
    group = group_of(response, response._get_param("AutoScalingGroupName").rsplit("autoScalingGroupName/", 1)[-1])
    name = response._get_param("LifecycleHookName")
    token, instance_id = response._get_param("LifecycleActionToken"), response._get_param("InstanceId")
    if f"{group.name}_{name}" not in response.autoscaling_backend.lifecycle_hooks:
        raise ValidationError(f"No Lifecycle Hook found with name {name} for AutoScalingGroup {group.name}")
    if not token and not instance_id:
        raise ValidationError("You must specify either a LifecycleActionToken or an InstanceId")
    for member in group.instance_states:
        found: LifecycleAction | None = member.actions.get(name)
        if found and not found.result and (found.token == token if token else member.instance.id == instance_id):
            return found
    by = f"token {token}" if token else f"instance ID {instance_id}"
    raise ValidationError(f"No active Lifecycle Action found with {by}")
