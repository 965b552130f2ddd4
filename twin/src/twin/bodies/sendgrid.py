"""What SendGrid's v3 Mail Send accepts and how it refuses the rest.

https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send
https://www.twilio.com/docs/sendgrid/api-reference/mail-send/errors
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from twin.bodies.mailbox import Mail

MAX_BYTES = 30 * 1024 * 1024
MAX_RECIPIENTS = 1000
ADDRESS = re.compile(r"[^@\s<>()]+@[^@\s<>()]+\.[^@\s<>()]+")
HELP = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html"

PERSONALIZATIONS = "The personalizations field is required and must have at least one personalization."
TO = (
    "The to array is required for all personalization objects, and must have at least one email object with a valid "
    "email address."
)
FROM = (
    "The from object must be provided for every email send. It is an object that requires the email parameter, but may "
    'also contain a name parameter.  e.g. {"email" : "example@example.com"}  or {"email" : "example@example.com", '
    '"name" : "Example Recipient"}.'
)
SUBJECT = (
    "The subject is required. You can get around this requirement if you use a template with a subject defined or if "
    "every personalization has a subject defined."
)
CONTENT = (
    "Unless a valid template_id is provided, the content parameter is required. There must be at least one defined "
    "content block. We typically suggest both text/plain and text/html blocks are included, but only one block is "
    "required."
)
CONTENT_VALUE = "The content value must be a string at least one character in length."
CONTENT_TYPE = "The content type must be a string at least one character in length."
CUSTOM_ARGS = "The custom_args must be an object whose values are strings."
ADDRESS_INVALID = "Does not contain a valid address."
DUPLICATE = "Each email address in the personalization block should be unique between to, cc, and bcc."


class Refusal(Exception):
    """SendGrid's answer to a request that it does not take: a status and (message, field) for each error."""

    def __init__(self, status: int, *errors: tuple[str, str | None]) -> None:
        super().__init__(errors)
        self.status = status
        self.errors = errors

    def body(self) -> str:
        fields = [{"message": message, "field": field, "help": HELP if field else None} for message, field in self.errors]
        return json.dumps({"errors": fields})


def authorize(header: str) -> None:
    """Refuse a request without an API key. Which key it is does not matter here."""
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refusal(401, ("The provided authorization grant is invalid, expired, or revoked", None))


def parse(data: bytes) -> tuple[str, list[Mail]]:
    """The message's id, and one mail for each recipient; raises Refusal with every error found."""
    try:
        request = json.loads(data)
    except ValueError:
        raise Refusal(400, ("Bad Request", None)) from None
    if not isinstance(request, dict):
        raise Refusal(400, ("Bad Request", None))
    errors: list[tuple[str, str | None]] = []
    message_id = secrets.token_urlsafe(16)
    text, html = _content(request, errors)
    sender = request.get("from")
    if not _is_address(sender):
        errors.append((FROM, "from.email"))
    mails: list[Mail] = []
    personalizations = request.get("personalizations")
    if not isinstance(personalizations, list) or not personalizations:
        errors.append((PERSONALIZATIONS, "personalizations"))
        personalizations = []
    for number, personalization in enumerate(personalizations):
        where = f"personalizations.{number}"
        if not isinstance(personalization, dict):
            errors.append((PERSONALIZATIONS, where))
            continue
        subject = personalization.get("subject") or request.get("subject")
        if (not isinstance(subject, str) or not subject.strip()) and not request.get("template_id"):
            errors.append((SUBJECT, "subject"))
        custom = {}
        for arguments, field in (
            (request.get("custom_args"), "custom_args"),
            (personalization.get("custom_args"), f"{where}.custom_args"),
        ):
            if arguments is None:
                continue
            if not isinstance(arguments, dict) or not all(isinstance(value, str) for value in arguments.values()):
                errors.append((CUSTOM_ARGS, field))
                continue
            custom.update(arguments)
        for recipient in _recipients(personalization, where, errors):
            name = f"{message_id}.{len(mails)}"
            email = sender["email"] if isinstance(sender, dict) else ""
            mails.append(Mail(name, recipient, str(email), str(subject or ""), text, html, custom))
    if len(mails) > MAX_RECIPIENTS:
        errors.append((f"A message may have {MAX_RECIPIENTS} recipients at most.", "personalizations"))
    if errors:
        raise Refusal(400, *dict.fromkeys(errors))
    sandbox = (request.get("mail_settings") or {}).get("sandbox_mode") or {}
    return message_id, [] if sandbox.get("enable") else mails


def _is_address(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("email"), str) and bool(ADDRESS.fullmatch(value["email"]))


def _recipients(personalization: dict[str, Any], where: str, errors: list[tuple[str, str | None]]) -> list[str]:
    found: list[str] = []
    if not isinstance(personalization.get("to"), list) or not personalization["to"]:
        errors.append((TO, f"{where}.to"))
    for kind in ("to", "cc", "bcc"):
        entries = personalization.get(kind) or []
        for number, entry in enumerate(entries if isinstance(entries, list) else [entries]):
            if not _is_address(entry):
                errors.append((ADDRESS_INVALID, f"{where}.{kind}.{number}.email"))
            elif entry["email"].lower() in found:
                errors.append((DUPLICATE, where))
            else:
                found.append(entry["email"].lower())
    return found


def _content(request: dict[str, Any], errors: list[tuple[str, str | None]]) -> tuple[str | None, str | None]:
    """The text and HTML parts. SendGrid's templates are not known here: a mail that relies on one has no content."""
    blocks = request.get("content")
    if not isinstance(blocks, list) or not blocks:
        if not request.get("template_id"):
            errors.append((CONTENT, "content"))
        return None, None
    parts: dict[str, str] = {}
    for number, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        value = block.get("value") if isinstance(block, dict) else None
        if not isinstance(kind, str) or not kind:
            errors.append((CONTENT_TYPE, f"content.{number}.type"))
        elif not isinstance(value, str) or not value:
            errors.append((CONTENT_VALUE, f"content.{number}.value"))
        else:
            parts[kind] = value
    return parts.get("text/plain"), parts.get("text/html")
