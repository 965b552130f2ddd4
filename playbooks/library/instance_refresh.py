#!/usr/bin/python
"""Ansible module: an instance refresh with a desired configuration, followed to its end. See DOCUMENTATION."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.refresh_view import ACTIVE, Fleet, lost
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

DOCUMENTATION = r"""
module: instance_refresh
short_description: Start, follow or roll back an instance refresh of an Auto Scaling group
description:
  - Starts an instance refresh to a numbered launch template version, with checkpoints, bake time, alarms and automatic rollback,
    none of which M(amazon.aws.autoscaling_instance_refresh) knows; rolls one back; or says how far one is.
  - With O(wait), an action plugin of the same name follows it to its end and shows a line whenever something has changed. A
    refresh goes on without who started it. Run again, the task finds the one under way and follows that.
  - Fails when the refresh ends in any other way than was asked for, with AWS's own reason, what the group's activities say, and
    what the load balancer's clients saw.
options:
  name:
    description: Name of the Auto Scaling group.
    type: str
    required: true
  state:
    description:
      - V(started) starts a refresh, unless one to the same version is under way. Another one under way is a failure.
      - V(rolled_back) rolls the refresh that is under way back.
      - V(described) changes nothing.
    type: str
    choices: [started, rolled_back, described]
    default: described
  refresh_id:
    description: The refresh that is described. The newest one if left out.
    type: str
  template_id:
    description: Id of the launch template, for O(state=started).
    type: str
  version:
    description: Number of the version, for O(state=started). Not V($Latest) or V($Default), which can't be rolled back.
    type: int
  preferences:
    description: RefreshPreferences of AWS's API, in snake case.
    type: dict
    options:
      auto_rollback: {type: bool, default: true, description: Roll back when the refresh fails.}
      skip_matching: {type: bool, default: true, description: Leave instances alone that have the version already.}
      min_healthy_percentage: {type: int, default: 100, description: Of the desired capacity.}
      max_healthy_percentage: {type: int, default: 200, description: Of the desired capacity.}
      instance_warmup: {type: int, description: Seconds. The group's own default if left out.}
      checkpoint_percentages: {type: list, elements: int, default: [], description: Ascending.}
      checkpoint_delay: {type: int, default: 3600, description: Seconds to wait at a checkpoint.}
      bake_time: {type: int, default: 0, description: Seconds to watch the alarms when all is replaced.}
      alarms: {type: list, elements: str, default: [], description: CloudWatch alarms that fail the refresh.}
  report:
    description: Add what the group's activities, the alarms and the clients say.
    type: bool
    default: false
  wait:
    description: Follow the refresh to its end. Not in check mode.
    type: bool
    default: false
  failures_allowed:
    description:
      - With O(wait), how many new instances may fail their health checks. One more, and the refresh is rolled back at once; AWS
        itself goes on trying for an hour. Any number if left out.
    type: int
  poll_seconds:
    description: Pause between two looks.
    type: float
    default: 5
  patience_seconds:
    description: For how long a look that fails for a passing reason (network, throttling) is tried again.
    type: float
    default: 600
author: [Evenkeel]
"""

EXAMPLES = r"""
- name: Roll version 7 out
  instance_refresh:
    name: web
    state: started
    template_id: lt-0123456789abcdef0
    version: 7
    preferences:
      checkpoint_percentages: [33, 100]
      checkpoint_delay: 300
      bake_time: 600
      alarms: [web-errors]
    wait: true

- name: Roll back what is under way
  instance_refresh:
    name: web
    state: rolled_back
    wait: true
"""

RETURN = r"""
refresh:
  description: The refresh as AWS describes it, in snake case, with C(elapsed_seconds). Empty if there is none.
  type: dict
  returned: success
zones:
  description: For each zone, how many instances are C(old), C(new), C(warming) (new, and not healthy yet) and C(leaving).
  type: dict
  returned: success
failed_replacements:
  description: Ids of new instances that were taken out since they failed their health checks, while the refresh is under way.
  type: list
  returned: success
report:
  description: C(failures) of the group's activities, C(alarms) that ring, and C(clients) with requests and errors.
  type: dict
  returned: with O(report)
lost:
  description: Why a look failed, if that may pass, V(connection), or needs a person, V(credentials).
  type: str
  returned: failure
"""

PREFERENCES = {
    "auto_rollback": {"type": "bool", "default": True},
    "skip_matching": {"type": "bool", "default": True},
    "min_healthy_percentage": {"type": "int", "default": 100},
    "max_healthy_percentage": {"type": "int", "default": 200},
    "instance_warmup": {"type": "int"},
    "checkpoint_percentages": {"type": "list", "elements": "int", "default": []},
    "checkpoint_delay": {"type": "int", "default": 3600},
    "bake_time": {"type": "int", "default": 0},
    "alarms": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "rolled_back", "described"], "default": "described"},
    "refresh_id": {"type": "str"},
    "template_id": {"type": "str"},
    "version": {"type": "int"},
    "preferences": {"type": "dict", "options": PREFERENCES},
    "report": {"type": "bool", "default": False},
    "wait": {"type": "bool", "default": False},
    "failures_allowed": {"type": "int"},
    "poll_seconds": {"type": "float", "default": 5},
    "patience_seconds": {"type": "float", "default": 600},
}


def request(preferences: dict[str, Any]) -> dict[str, Any]:
    """RefreshPreferences of StartInstanceRefresh: what is left out keeps AWS's default."""
    found: dict[str, Any] = {
        "AutoRollback": preferences["auto_rollback"],
        "SkipMatching": preferences["skip_matching"],
        "MinHealthyPercentage": preferences["min_healthy_percentage"],
        "MaxHealthyPercentage": preferences["max_healthy_percentage"],
        "BakeTime": preferences["bake_time"],
    }
    if preferences["instance_warmup"] is not None:
        found["InstanceWarmup"] = preferences["instance_warmup"]
    if preferences["checkpoint_percentages"]:
        found["CheckpointPercentages"] = preferences["checkpoint_percentages"]
        found["CheckpointDelay"] = preferences["checkpoint_delay"]
    if preferences["alarms"]:
        found["AlarmSpecification"] = {"Alarms": preferences["alarms"]}
    return found


def start(module: AnsibleAWSModule, fleet: Fleet) -> tuple[bool, str]:
    """Whether a refresh was started, and the id of the one to follow."""
    name, version = module.params["name"], module.params["version"]
    active = fleet.active_refresh()
    if active:
        if fleet.version(active) == str(version):
            return False, active["InstanceRefreshId"]
        module.fail_json(msg=f"a refresh of {name} to launch template version {fleet.version(active)} is under way")
    if module.check_mode:
        return True, ""
    configuration = {"LaunchTemplate": {"LaunchTemplateId": module.params["template_id"], "Version": str(version)}}
    started = fleet.autoscaling.start_instance_refresh(
        AutoScalingGroupName=name,
        Strategy="Rolling",
        DesiredConfiguration=configuration,
        Preferences=request(module.params["preferences"]),
    )
    return True, started["InstanceRefreshId"]


def roll_back(module: AnsibleAWSModule, fleet: Fleet) -> tuple[bool, str]:
    active = fleet.active_refresh()
    if not active:
        module.fail_json(msg=f"no refresh of {module.params['name']} is under way: there is nothing to roll back")
    if active["Status"] == "RollbackInProgress":
        return False, active["InstanceRefreshId"]
    if not module.check_mode:
        fleet.autoscaling.rollback_instance_refresh(AutoScalingGroupName=module.params["name"])
    return True, active["InstanceRefreshId"]


def main() -> None:
    module = AnsibleAWSModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "started", ("template_id", "version", "preferences"))],
    )
    try:
        fleet = Fleet(module, module.params["name"])
        changed, refresh_id = False, module.params["refresh_id"] or ""
        if module.params["state"] == "started":
            changed, refresh_id = start(module, fleet)
        elif module.params["state"] == "rolled_back":
            changed, refresh_id = roll_back(module, fleet)
        would_start = module.check_mode and module.params["state"] == "started" and changed
        refresh = {} if would_start else fleet.refresh(refresh_id)
        answer: dict[str, Any] = {"changed": changed, **fleet.view(refresh)}
        if module.params["report"] and refresh:
            answer["report"] = fleet.report(refresh)
    except Exception as error:  # whatever boto3 raises: sorted by what may be done about it
        module.fail_json_aws(
            error, msg=f"the refresh of {module.params['name']} can't be {module.params['state']}", lost=lost(error)
        )
    module.exit_json(active=refresh.get("Status") in ACTIVE, **answer)


if __name__ == "__main__":
    main()
