"""Experiments of Fault Injection Service: resolves targets, starts actions in order, watches stop conditions, ends faults.

https://docs.aws.amazon.com/fis/latest/userguide/experiments.html
"""

from __future__ import annotations

import logging
from typing import Any

from twin.control import fault_actions, fault_permissions
from twin.control.fault_actions import ActionFailed, alarm_state
from twin.control.fault_targets import resolve
from twin.control.loop import Loop
from twin.region.faults import Faults
from twin.region.fis import TERMINAL, Progress, move, move_action
from twin.region.region import Region

log = logging.getLogger(__name__)


class Experiments(Loop):
    period = 0.5

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region

    def adopt(self) -> None:
        with self.region.records():
            self._hold()

    def tick(self) -> None:
        with self.region.records():
            experiments = [entry for entry in self.region.backend("fis").experiments.values() if entry.status not in TERMINAL]
        for experiment in experiments:
            with self.region.records():
                namespaces = self._step(experiment)
                self._hold()
            # Only now: what is dark must be known before its bodies end, or they would be started again.
            fault_actions.cut_power(namespaces)

    def _step(self, experiment: Any) -> list[str]:
        """Move one experiment on as far as it goes now; returns the network namespaces that lose their power."""
        if experiment.status == "initiating":
            self._begin(experiment)
        if experiment.status == "running" and (alarm := self._stopped_by(experiment)):
            move(experiment, "stopping", f"Experiment halted by stop condition {alarm}.")
        if experiment.status == "stopping":
            self._end_all(experiment, "stopped")
            halted = getattr(experiment, "reason", "")
            move(experiment, "stopped", halted if "stop condition" in halted else "Experiment stopped.")
        elif experiment.status == "running":
            return self._advance(experiment)
        return []

    def _begin(self, experiment: Any) -> None:
        own = {"aws:SourceArn": experiment.arn}
        roles = {role.arn for role in self.region.backend("iam").roles.values()}
        if experiment.role_arn not in roles:
            self._fail(experiment, f"The experiment's role {experiment.role_arn} does not exist.", "UnauthorizedOperation")
            return
        if not self.region.allows_service("fis.amazonaws.com", "sts:AssumeRole", experiment.role_arn, own):
            self._fail(
                experiment, f"The experiment's role {experiment.role_arn} can't be assumed by FIS.", "UnauthorizedOperation"
            )
            return
        for condition in experiment.stop_conditions:
            if condition["source"] != "none" and alarm_state(self.region, condition["value"]) is None:
                self._fail(experiment, f"The stop condition's alarm {condition['value']} does not exist.", "ValidationException")
                return
        if alarm := self._stopped_by(experiment):
            self._fail(experiment, f"The stop condition {alarm} is in the state ALARM already.", "StopConditionTriggered")
            return
        experiment.resolved = {name: resolve(self.region, target) for name, target in experiment.targets.items()}
        experiment.progress = {}
        options = experiment.experiment_options or {}
        empty = [name for name, arns in experiment.resolved.items() if not arns]
        if empty and options.get("emptyTargetResolutionMode") != "skip":
            self._fail(experiment, f"Target resolution returned empty set: {', '.join(empty)}", "TargetResolutionError")
            return
        if options.get("actionsMode") == "skip-all":
            for action in experiment.actions.values():
                move_action(action, "skipped", "Action was skipped.")
            move(experiment, "completed", "Experiment completed.")
            return
        move(experiment, "running", "Experiment is running.")

    def _advance(self, experiment: Any) -> list[str]:
        namespaces: list[str] = []
        for name, action in experiment.actions.items():
            try:
                if action["state"]["status"] == "running":
                    if fault_actions.done(self.region, action, experiment.progress[name]):
                        self._finish(experiment, name, "completed")
                elif action["state"]["status"] == "pending" and self._ready(experiment, action):
                    namespaces += self._start(experiment, name)
            except ActionFailed as error:
                move_action(action, "failed", str(error))
                self._fail(experiment, f"Action {name} failed: {error}", "ActionFailed")
                return namespaces
        if all(action["state"]["status"] in (*TERMINAL, "skipped") for action in experiment.actions.values()):
            move(experiment, "completed", "Experiment completed.")
        return namespaces

    def _ready(self, experiment: Any, action: dict[str, Any]) -> bool:
        before = [experiment.actions[name]["state"]["status"] for name in action.get("startAfter") or []]
        return all(status in ("completed", "skipped") for status in before)

    def _start(self, experiment: Any, name: str) -> list[str]:
        action = experiment.actions[name]
        chosen = list((action.get("targets") or {}).values())
        targets = experiment.resolved[chosen[0]] if chosen else []
        if chosen and not targets:
            move_action(action, "skipped", "Action was skipped: its target is empty.")
            return []
        fault_permissions.check(self.region, experiment, action, targets)
        progress = experiment.progress[name] = Progress(targets, self.region.clock())
        log.warning("experiment %s: %s starts (%s)", experiment.id, name, action["actionId"])
        fault_actions.start(self.region, action, progress)
        move_action(action, "running")
        return fault_actions.bodies(self.region, action)

    def _finish(self, experiment: Any, name: str, status: str) -> None:
        fault_actions.end(self.region, experiment.actions[name], experiment.progress[name])
        move_action(experiment.actions[name], status)

    def _end_all(self, experiment: Any, status: str) -> None:
        """End what runs and give up what has not begun."""
        for name, action in experiment.actions.items():
            now = action["state"]["status"]
            if now == "running":
                try:
                    self._finish(experiment, name, status)
                except ActionFailed as error:
                    move_action(action, "failed", str(error))
            elif now == "pending":
                move_action(action, "cancelled", "Action was cancelled.")

    def _fail(self, experiment: Any, reason: str, code: str) -> None:
        self._end_all(experiment, "stopped")
        move(experiment, "failed", reason, code)

    def _stopped_by(self, experiment: Any) -> str:
        """ARN of a stop condition's alarm that is in ALARM, or nothing."""
        for condition in experiment.stop_conditions:
            if condition["source"] == "aws:cloudwatch:alarm" and alarm_state(self.region, condition["value"]) == "ALARM":
                return str(condition["value"])
        return ""

    def _hold(self) -> None:
        """Let the running actions decide which faults are in force. Call with the lock held."""
        wanted = Faults()
        for experiment in self.region.backend("fis").experiments.values():
            for name, action in experiment.actions.items():
                if action["state"]["status"] == "running" and experiment.status not in TERMINAL:
                    fault_actions.hold(self.region, action, experiment.progress[name], wanted)
        if wanted != self.region.faults:
            self.region.faults = wanted
            self.region.wake("Networks", "AutoScaling", "Databases", "Instances")
