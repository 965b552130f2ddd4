"""Runs the module of the same name; with `wait`, again and again until the refresh has ended, showing what has changed."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()
GONE = {"credentials": "the credentials are not valid any more", "connection": "AWS does not answer"}
# boto3 alone would try a dead network for minutes before anybody hears of it.
PATIENCE = {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 2}}
KINDS = ("old", "new", "warming", "leaving")
GOOD = {"started": "Successful", "described": "Successful", "rolled_back": "RollbackSuccessful"}


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        asked = dict(self._task.args)
        answer = self._look(asked, task_vars)
        if not boolean(asked.get("wait", False)) or self._task.check_mode or answer.get("failed") or not answer.get("refresh"):
            return answer
        self.asked, self.task_vars = asked, task_vars
        changed = answer["changed"]
        return {**self._follow(answer), "changed": changed}

    def _look(self, arguments: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        return found

    def _follow(self, answer: dict[str, Any]) -> dict[str, Any]:
        name, refresh_id = self.asked["name"], answer["refresh"]["instance_refresh_id"]
        look = {"name": name, "refresh_id": refresh_id, "aws_config": PATIENCE}
        patience = float(self.asked.get("patience_seconds", 600))
        shown, failing_since, given_up = "", 0.0, ""
        while True:
            if answer.get("failed"):
                failing_since = failing_since or time.monotonic()
                if answer.get("lost") != "connection" or time.monotonic() - failing_since > patience:
                    return self._gone(answer, refresh_id)
                words = "no answer from AWS; the refresh goes on there, and is asked for again"
            else:
                failing_since = 0.0
                words = progress(answer)
            if words != shown:
                refresh = answer.get("refresh", {})
                display.display(f"{clock(refresh.get('elapsed_seconds', 0))}  {words}" if refresh else f"       {words}")
                shown = words
            if not answer.get("failed") and not answer["active"]:
                break
            if not given_up and (given_up := self._hopeless(answer)):
                display.display(f"       {given_up}")
                self._look({"name": name, "state": "rolled_back", "aws_config": PATIENCE}, self.task_vars)
            time.sleep(float(self.asked.get("poll_seconds", 5)))
            answer = self._look(look, self.task_vars)
        report = self._look({**look, "report": True}, self.task_vars)
        return self._ended(report if not report.get("failed") else answer, given_up)

    def _hopeless(self, answer: dict[str, Any]) -> str:
        """Why the refresh is not worth going on with; "" while it is."""
        failed, allowed = answer.get("failed_replacements", []), self.asked.get("failures_allowed")
        under_way = answer.get("refresh", {}).get("status") in ("Pending", "InProgress", "Baking")
        if not under_way or allowed in (None, "") or len(failed) <= int(allowed):
            return ""
        return f"rolling back: {len(failed)} of the new instances failed their health checks ({', '.join(failed)})"

    def _gone(self, answer: dict[str, Any], refresh_id: str) -> dict[str, Any]:
        what = GONE.get(answer.get("lost", ""), "AWS refuses to say how far it is")
        words = (
            f"{what}, so refresh {refresh_id} can't be followed. It goes on by itself, and rolls back by itself if it fails. "
            "Run the same command again, with credentials that work, to follow it to its end. "
            f"AWS's words: {answer.get('msg', '')}"
        )
        return {"failed": True, "msg": words, "lost": answer.get("lost", ""), "refresh_id": refresh_id}

    def _ended(self, answer: dict[str, Any], given_up: str) -> dict[str, Any]:
        refresh = answer["refresh"]
        status, clients = refresh["status"], seen(answer.get("report", {}).get("clients", {}))
        if status == GOOD[self.asked.get("state", "described")]:
            return {**answer, "msg": f"{status} after {refresh.get('elapsed_seconds', 0)} s. {clients}".strip()}
        lines = [failure(refresh), given_up, *details(answer.get("report", {})), clients]
        return {**answer, "failed": True, "msg": "\n".join(line for line in lines if line)}


def clock(seconds: int) -> str:
    return f"{seconds // 60:3d}:{seconds % 60:02d}"


def progress(answer: dict[str, Any]) -> str:
    """How far it is, on one line: what is the same as before is not shown again."""
    refresh = answer["refresh"]
    zones = []
    for zone, kinds in answer["zones"].items():
        counts = [f"{kinds[kind]} {kind}" for kind in KINDS if kinds.get(kind)]
        zones.append(f"{zone} {', '.join(counts) or 'empty'}")
    return f"{refresh['status']} {refresh.get('percentage_complete', 0)} %  {' | '.join(zones)}"


def failure(refresh: dict[str, Any]) -> str:
    """How it ended, and AWS's reason."""
    reasons = [refresh.get("rollback_details", {}).get("rollback_reason"), refresh.get("status_reason")]
    why = " ".join(dict.fromkeys(reason for reason in reasons if reason)) or "AWS gives no reason."
    return f"the refresh ended {refresh['status']} after {refresh.get('elapsed_seconds', 0)} s: {why}"


def details(report: dict[str, Any]) -> list[str]:
    return [*(f"alarm {words}" for words in report.get("alarms", [])), *report.get("failures", [])]


def seen(clients: dict[str, int]) -> str:
    if not clients:
        return ""
    return (
        f"Clients, as far as CloudWatch has it: {clients['requests']} requests, "
        f"{clients['target_5xx']} answered 5xx by instances, {clients['elb_5xx']} by the load balancer."
    )
