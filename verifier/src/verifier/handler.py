"""The Lambda function's entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from verifier import mail, message, sendgrid_client
from verifier.api_key import ApiKey
from verifier.once import Once, Result
from verifier.refused import RefusedQueue
from verifier.settings import Settings, load_settings
from verifier.telemetry import AGE, DUPLICATE, REFUSED, RETRIED, SENT, count, logger, metrics
from verifier.tokens import TokenTable

KEY_REFUSED = (401, 403)


@dataclass(frozen=True)
class Services:
    """What an execution environment keeps from one invocation to the next."""

    settings: Settings
    tokens: TokenTable
    once: Once
    refused: RefusedQueue
    api_key: ApiKey


@cache
def services() -> Services:
    """Made at the first invocation; a settings error fails every invocation with the whole list."""
    settings = load_settings()
    metrics.namespace = settings.metrics_namespace
    return Services(
        settings,
        TokenTable(settings.token_table, settings.token_lifetime_seconds),
        Once(settings.idempotency_table),
        RefusedQueue(settings.refused_queue_url),
        ApiKey(settings.sendgrid_secret_arn),
    )


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handle(event: Mapping[str, Any], context: Any) -> dict[str, int]:
    """Handle an SNS event and return what became of its messages.

    A message is sent, was sent already, or is refused and kept in the queue of refused ones; none of these is ever tried
    again. Any other failure is raised once all messages had their turn, so that Lambda tries again (twice, for asynchronous
    invocations) and then hands the event to its failure destination.
    """
    made = services()
    outcomes = {SENT: 0, DUPLICATE: 0, REFUSED: 0}
    failure: Exception | None = None
    for record in event["Records"]:
        try:
            outcomes[_handle(made, record["Sns"], context)] += 1
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
    return {"sent": outcomes[SENT], "duplicate": outcomes[DUPLICATE], "refused": outcomes[REFUSED]}


def _handle(made: Services, notification: Mapping[str, Any], context: Any) -> str:
    """What became of one message: SENT, DUPLICATE or REFUSED."""
    fields = {"sns_message_id": notification.get("MessageId")}
    try:
        try:
            request = message.parse(notification["Message"])
            fields |= {"message_id": request.message_id, "user_id": request.user_id, "request_id": request.request_id}
            result, seen = made.once.run(request.message_id, context, lambda: _send(made, request))
        except message.MessageInvalidError as error:
            return _refuse(made, notification, fields, error.kind, str(error))
        except sendgrid_client.MailRefusedError as error:
            return _refuse(made, notification, fields, f"sendgrid-{error.status}", str(error))
    except Exception as error:
        count(RETRIED)
        # Messages of our own errors name no addresses, others' may.
        ours = type(error).__module__.split(".")[0] == "verifier"
        logger.error("mail failed", extra={**fields, "error": type(error).__name__, "reason": str(error) if ours else None})
        raise
    if seen:
        count(DUPLICATE)
        logger.info("mail was sent before", extra={**fields, "sent_at": result["sent_at"]})
        return DUPLICATE
    count(SENT)
    count(AGE, result["age_seconds"], "Seconds")
    logger.info("mail sent", extra={**fields, "age_seconds": result["age_seconds"]})
    return SENT


def _refuse(made: Services, notification: Mapping[str, Any], fields: dict[str, Any], reason: str, text: str) -> str:
    made.refused.put(notification, reason)
    count(REFUSED)
    logger.error("message refused", extra={**fields, "refusal": reason, "reason": text})
    return REFUSED


def _send(made: Services, request: message.Message) -> Result:
    """Mint a token and send its link; the token's life begins here, at each attempt anew."""
    settings = made.settings
    key = made.api_key.get()
    token = made.tokens.mint(request)
    rendered = mail.render(settings.public_url, token, settings.token_lifetime_seconds)
    try:
        _post(settings, key, request, rendered)
    except sendgrid_client.MailRefusedError as error:
        if error.status not in KEY_REFUSED:
            raise
        replaced = made.api_key.get(renew=True)
        if replaced == key:
            raise
        _post(settings, replaced, request, rendered)
    sent = datetime.now(UTC)
    age = max(0.0, (sent - request.occurred_at).total_seconds())
    return {"sent_at": sent.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "age_seconds": round(age, 3)}


def _post(settings: Settings, key: str, request: message.Message, rendered: mail.Mail) -> None:
    sendgrid_client.send(
        api_key=key,
        host=settings.sendgrid_host,
        timeout_seconds=settings.sendgrid_timeout_seconds,
        sender=settings.mail_from,
        recipient=request.email,
        mail=rendered,
        message_id=request.message_id,
    )
