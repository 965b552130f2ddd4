#!/usr/bin/python
"""Ansible module: the life of the mails to one address. See DOCUMENTATION."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.letters import LetterQueue, parsed
from ansible.module_utils.mails import SentMails, plain
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

DOCUMENTATION = r"""
module: mail_status
short_description: Tell what became of the verification mails to an address
description:
  - Looks the address's mails up by its SHA-256 in the table of mails, and adds what the idempotency table and the queues of
    given-up messages say of them. Changes nothing, but hides the queues' entries from others while it looks at them.
options:
  email:
    description: The address. It is neither logged nor returned.
    type: str
    required: true
  mail_table:
    description: DynamoDB table of mails.
    type: str
    required: true
  sent_table:
    description: DynamoDB table of the messages that are done.
    type: str
    required: true
  queues:
    description: Names of the queues of given-up messages.
    type: list
    elements: str
    default: []
author: [Evenkeel]
"""

EXAMPLES = r"""
- name: Ask for an address's mails
  mail_status:
    email: ada@example.com
    mail_table: evenkeel-mail
    sent_table: evenkeel-idempotency
    queues: [evenkeel-verification-dead-letter, evenkeel-verification-refused]
"""

RETURN = r"""
mails:
  description:
    - The mails, newest first, each with C(message_id), C(user_id), C(request_id), C(status), and C(steps) with C(at) and C(what).
  type: list
  returned: success
"""

ARGUMENTS = {
    "email": {"type": "str", "required": True, "no_log": True},
    "mail_table": {"type": "str", "required": True},
    "sent_table": {"type": "str", "required": True},
    "queues": {"type": "list", "elements": "str", "default": []},
}
INDEX = "recipient"
MOST_LETTERS = 1000
# The steps that the table of mails may have, and what each means.
STEPS = {
    "queued_at": ("queued", "asked for: committed with its user, waiting in the outbox"),
    "published_at": ("published", "published to SNS"),
    "failed_at": ("failed", "an attempt failed: {failure}"),
    "refused_at": ("refused", "refused, kept in the queue of refused messages: {refusal}"),
    "accepted_at": ("accepted", "taken by SendGrid"),
    "deferred_at": ("deferred", "the receiving server asks to wait, SendGrid tries again"),
    "delivered_at": ("delivered", "delivered to the receiving server"),
    "bounced_at": ("bounced", "bounced: {bounce}"),
    "dropped_at": ("dropped", "dropped by SendGrid: {bounce}"),
    "reported_at": ("reported as spam", "reported as spam by its recipient"),
}
# Once SendGrid has taken a mail, the latest of these tells how far it is.
DONE = ("accepted_at", "deferred_at", "delivered_at", "bounced_at", "dropped_at", "reported_at")


def time_of(text: str) -> str:
    """A timestamp to the millisecond, in UTC; nothing for what is no time, as in a message that was refused for it."""
    try:
        return f"{datetime.fromisoformat(text.replace('Z', '+00:00')).astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]
    except (ValueError, OverflowError):
        return ""


def address_of(text: str) -> str:
    """An address as the service keeps it: lower case, its domain in ASCII."""
    local, at, domain = text.strip().lower().rpartition("@")
    try:
        return local + at + domain.encode("idna").decode()
    except UnicodeError:
        return local + at + domain


def life(item: dict[str, Any], record: dict[str, Any], letters: list[dict[str, Any]]) -> dict[str, Any]:
    """One mail: its steps in order, and in a word how far it is."""
    known = {name: at for name in STEPS if (at := time_of(str(item.get(name) or "")))}

    def place(name: str) -> tuple[str, int]:  # SendGrid tells whole seconds alone
        return known[name][: len("2026-01-31 12:00:00")], list(STEPS).index(name)

    words = {"failure": item.get("failure", "-"), "refusal": item.get("refusal", "-"), "bounce": item.get("bounce", "-")}
    steps = [{"at": known[name], "what": STEPS[name][1].format(**words)} for name in sorted(known, key=place)]
    status = STEPS[max(known, key=place)][0] if known else "unknown"
    done = [name for name in DONE if name in known]
    if record.get("status") == "INPROGRESS":
        until = datetime.fromtimestamp(int(record.get("in_progress_expiration", 0)) / 1000, UTC)
        held = until > datetime.now(UTC)
        told = "until then an attempt holds the message" if held else "an attempt was killed; the next one takes over"
        steps.append({"at": f"{until:%Y-%m-%d %H:%M:%S.%f}"[:-3], "what": told})
        status = "in progress" if held else "interrupted"
    if done:
        status = STEPS[max(done, key=place)][0]
    elif letters:
        status = "given up"
    steps += [{"at": f"{letter['kept_at']}.000", "what": f"in {letter['queue']}: {letter['why']}"} for letter in letters]
    about = {name: str(item.get(name) or "-") for name in ("message_id", "user_id", "request_id")}
    return {
        **about,
        "attempts": int(item.get("attempts", 0)),
        "status": status,
        "steps": sorted(steps, key=lambda one: one["at"][: len("2026-01-31 12:00:00")]),
    }


def letters_of(module: AnsibleAWSModule, email: str) -> dict[str, list[dict[str, Any]]]:
    """The given-up messages to the address, by their ids."""
    found: dict[str, list[dict[str, Any]]] = {}
    sqs = module.client("sqs")
    for name in module.params["queues"]:
        with LetterQueue(sqs, name) as queue:
            for letter in queue.take(MOST_LETTERS):
                for text, row in zip(letter.messages, letter.rows(), strict=False):
                    if address_of(str(parsed(text).get("email") or "")) == email:
                        found.setdefault(row["message_id"], []).append({**row, "queue": name})
            if queue.more:
                module.warn(f"{name} has more than {MOST_LETTERS} entries, of which these were looked at")
    return found


def work(module: AnsibleAWSModule) -> list[dict[str, Any]]:
    email = address_of(module.params["email"])
    dynamodb = module.client("dynamodb")
    pages = dynamodb.get_paginator("query").paginate(
        TableName=module.params["mail_table"],
        IndexName=INDEX,
        KeyConditionExpression="recipient = :recipient",
        ExpressionAttributeValues={":recipient": {"S": hashlib.sha256(email.encode()).hexdigest()}},
        ScanIndexForward=False,
    )
    items = {item["message_id"]: item for page in pages for item in map(plain, page["Items"])}
    letters = letters_of(module, email)
    for message_id, rows in letters.items():  # some never reached the function
        row = rows[0]
        asked = {"queued_at": row["occurred_at"]} if row["occurred_at"] != "-" else {}
        items.setdefault(message_id, {name: row[name] for name in ("message_id", "user_id", "request_id")} | asked)
    sent = SentMails(dynamodb, module.params["sent_table"])
    return [life(item, sent.record(message_id), letters.get(message_id, [])) for message_id, item in items.items()]


def main() -> None:
    module = AnsibleAWSModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        mails = work(module)
    except Exception as error:  # whatever boto3 raises
        module.fail_json_aws(error, msg="the mails to the address can't be looked up")
    module.exit_json(changed=False, mails=mails)


if __name__ == "__main__":
    main()
