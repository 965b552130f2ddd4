"""The event webhook of the local region's SendGrid, set up by SendGrid's own API: on AWS a person does so in its console."""

from __future__ import annotations

from typing import Any

import requests

from evenkeel.local import Local
from evenkeel.steps import Failure

SETTINGS = "/v3/user/webhooks/event/settings"
EVENTS = dict.fromkeys(("processed", "delivered", "bounce", "deferred", "dropped", "spam_report"), True)


def key(local: Local) -> str:
    """The public key that events are signed with. Raises Failure."""
    return str(_ask(local, "GET", f"{SETTINGS}/signed")["public_key"])


def point(local: Local, service_url: str) -> None:
    """Have events sent to the service. Raises Failure."""
    _ask(local, "PATCH", SETTINGS, {"enabled": True, "url": f"{service_url}/v1/mail/events", **EVENTS})


def _ask(local: Local, method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    headers = {"Authorization": "Bearer SG.local"}  # the sink takes any
    try:
        answer = requests.request(method, f"{local.mail_url}{path}", json=content, headers=headers, timeout=30)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise Failure(f"the mail sink does not take its webhook's settings: {type(error).__name__} ({local.log})") from None
    found: dict[str, Any] = answer.json()
    return found
