"""Shows of a playbook what it says and why it fails, and nothing else; the rest goes to the log, if there is one."""

from __future__ import annotations

from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: words
type: stdout
short_description: The playbook's own words
description: Messages of debug tasks, and the reasons of failures. Set ANSIBLE_LOG_PATH to keep what each task did.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "words"

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._display.display(f"task: {task.get_name()}", log_only=True)

    def v2_runner_on_ok(self, result: Any) -> None:
        answer = result.result
        self._display.display(f"ok: changed={answer.get('changed', False)}", log_only=True)
        if result.task.action in ("debug", "ansible.builtin.debug"):
            words = answer.get("msg", "")
            self._display.display("\n".join(words) if isinstance(words, list) else str(words))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        words = f"{result.task.get_name()}: {result.result.get('msg', 'no reason given')}"
        self._display.display(words, log_only=ignore_errors, stderr=not ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._display.display(f"unreachable: {result.result.get('msg', '')}", stderr=True)
