"""The lifecycle action that keeps a leaving instance waiting."""

from __future__ import annotations

from botocore.exceptions import ClientError

from signup.clients.config import AWS_ERRORS, error_code
from signup.clients.late import LateClient


class LifecycleUnavailable(Exception):
    """Auto Scaling did not answer or refused; the text is AWS's error code."""


class LifecycleAction:
    """The action of one hook for one instance."""

    def __init__(self, group: str, hook: str, instance_id: str, region: str) -> None:
        self._names = {"AutoScalingGroupName": group, "LifecycleHookName": hook, "InstanceId": instance_id}
        self._client = LateClient("autoscaling", region)

    def heartbeat(self) -> bool:
        """Start the hook's timeout anew; False while the instance does not wait for the hook. Raises LifecycleUnavailable."""
        try:
            self._client().record_lifecycle_action_heartbeat(**self._names)
        except AWS_ERRORS as error:
            return _not_waiting(error)
        return True

    def complete(self) -> bool:
        """Let the instance go; False while it does not wait for the hook. Raises LifecycleUnavailable."""
        try:
            self._client().complete_lifecycle_action(**self._names, LifecycleActionResult="CONTINUE")
        except AWS_ERRORS as error:
            return _not_waiting(error)
        return True


def _not_waiting(error: Exception) -> bool:
    """False where the error says just that; else LifecycleUnavailable."""
    if isinstance(error, ClientError) and error_code(error) == "ValidationError":
        return False
    raise LifecycleUnavailable(error_code(error)) from error
