"""The Lambda function's entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyAlreadyInProgressError
from botocore.exceptions import ClientError

from verifier import mail, message, sendgrid_client
from verifier.api_key import ApiKey
from verifier.journal import Journal, now, timestamp
from verifier.once import Once, Result
from verifier.refused import RefusedQueue
from verifier.settings import Settings, load_settings
from verifier.telemetry import AGE, DUPLICATE, REFUSED, RETRIED, SENT, count, logger, metrics
from verifier.tokens import TokenTable

KEY_REFUSED = (401, 403)
MESSAGE_KEYS = ("sns_message_id", "message_id", "user_id", "request_id")


class MailFailedError(Exception):
    """An attempt failed for a library's reason, whose own words may quote addresses."""


@dataclass(frozen=True)
class Services:
    """What an execution environment keeps from one invocation to the next."""

    settings: Settings
    tokens: TokenTable
    once: Once
    refused: RefusedQueue
    journal: Journal
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
        Journal(settings.mail_table),
        ApiKey(settings.sendgrid_secret_arn),
    )


@logger.inject_lambda_context(clear_state=True, log_event=False)
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
        logger.append_keys(sns_message_id=record["Sns"].get("MessageId"))
        try:
            outcome = _handle(made, record["Sns"], context)
            outcomes[outcome] += 1
        except Exception as error:
            failure, outcome = error, RETRIED
            logger.error("mail failed", extra={"error": type(error).__name__, "reason": _words(error)})
        count(outcome)
        logger.remove_keys(MESSAGE_KEYS)
    if failure is not None:
        # Lambda keeps what is raised in its log and in the dead letter.
        raise failure if _is_own(failure) else MailFailedError(_words(failure)) from None
    return {"sent": outcomes[SENT], "duplicate": outcomes[DUPLICATE], "refused": outcomes[REFUSED]}


def _handle(made: Services, notification: Mapping[str, Any], context: Any) -> str:
    """What became of one message: SENT, DUPLICATE or REFUSED."""
    try:
        request = message.parse(notification["Message"])
    except message.MessageInvalidError as error:
        return _refuse(made, notification, error.kind, error)
    logger.append_keys(message_id=request.message_id, user_id=request.user_id, request_id=request.request_id)
    try:
        result, seen = made.once.run(request.message_id, context, lambda: _send(made, request))
    except sendgrid_client.MailRefusedError as error:
        refusal = f"sendgrid-{error.status}"
        _refuse(made, notification, refusal, error)
        made.journal.note(request, notification, refused_at=now(), refusal=refusal)
        return REFUSED
    except IdempotencyAlreadyInProgressError:  # another delivery is at it, and notes what comes of it
        raise
    except Exception as error:
        made.journal.note(request, notification, failed_at=now(), failure=_words(error))
        raise
    made.journal.note(request, notification, accepted_at=result["sent_at"])
    if seen:
        logger.info("mail was sent before", extra={"sent_at": result["sent_at"]})
        return DUPLICATE
    count(AGE, result["age_seconds"], "Seconds")
    logger.info("mail sent", extra={"age_seconds": result["age_seconds"]})
    return SENT


def _refuse(made: Services, notification: Mapping[str, Any], refusal: str, error: Exception) -> str:
    made.refused.put(notification, refusal)
    logger.error("message refused", extra={"refusal": refusal, "reason": _words(error)})
    return REFUSED


def _is_own(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] == "verifier"


def _words(error: Exception) -> str:
    """An error's text if it is our own, which names no addresses; others' may: their names and AWS's error codes alone."""
    if _is_own(error):
        return str(error)
    chain = [error, error.__cause__]
    codes = [str(each.response["Error"]["Code"]) for each in chain if isinstance(each, ClientError)]
    return ": ".join([type(error).__name__, *codes])


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
    return {"sent_at": timestamp(sent), "age_seconds": round(age, 3)}


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
