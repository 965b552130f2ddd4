"""The Lambda function's entry point."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from verifier import mail, message, sendgrid_client
from verifier.api_key import ApiKey
from verifier.logs import configure
from verifier.settings import Settings, load_settings
from verifier.tokens import TokenTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """What an execution environment keeps from one invocation to the next."""

    settings: Settings
    tokens: TokenTable
    api_key: ApiKey


@cache
def services() -> Services:
    """Made at the first invocation; a settings error fails every invocation with the whole list."""
    settings = load_settings()
    return Services(
        settings,
        TokenTable(settings.token_table, settings.token_lifetime_seconds),
        ApiKey(settings.sendgrid_secret_arn),
    )


def handle(event: Mapping[str, Any], _context: object) -> dict[str, int]:
    """Handle an SNS event and return how many mails SendGrid took.

    Any failure is raised, so that Lambda tries again (twice, for asynchronous invocations) and then hands the event
    to its failure destination.
    """
    configure()
    made = services()
    records = event["Records"]
    for record in records:
        _verify(made, record["Sns"])
    return {"sent": len(records)}


def _verify(made: Services, notification: Mapping[str, Any]) -> None:
    fields = {"sns_message_id": notification.get("MessageId")}
    try:
        request = message.parse(notification["Message"])
        fields |= {"message_id": request.message_id, "user_id": request.user_id, "request_id": request.request_id}
        _send(made, request)
    except Exception as error:
        # The class tells retryable from permanent; messages of our own errors name no addresses, others' may.
        ours = type(error).__module__.split(".")[0] == "verifier"
        reason = {"error": type(error).__name__, "reason": str(error) if ours else None}
        log.error("verification failed", extra={"fields": {**fields, **reason}})
        raise
    log.info("verification mail queued", extra={"fields": fields})


def _send(made: Services, request: message.Message) -> None:
    settings = made.settings
    key = made.api_key.get()
    token = made.tokens.mint(request)
    try:
        sendgrid_client.send(
            api_key=key,
            host=settings.sendgrid_host,
            timeout_seconds=settings.sendgrid_timeout_seconds,
            sender=settings.mail_from,
            recipient=request.email,
            mail=mail.render(settings.public_url, token, settings.token_lifetime_seconds),
            message_id=request.message_id,
        )
    except sendgrid_client.MailRefusedError as error:
        if error.status in (401, 403):
            made.api_key.forget()
        raise
