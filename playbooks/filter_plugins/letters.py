"""Given-up messages and mails, put for people to read."""

from __future__ import annotations

from collections import Counter
from typing import Any

Record = dict[str, Any]
COLUMNS = ("kept_at", "fate", "message_id", "request_id", "occurred_at", "attempts", "why")
WHY_CHARACTERS = 100
# What each fate asks for.
HINTS = {
    "replayed": "{0} not sent yet: what fails again comes back to a queue within minutes.",
    "unreadable": "{0} can't be read and stay: look at them with aws sqs receive-message.",
    "waits": "{0} wait.",
}


def report(rows: list[Record], queue: str, late: int = 0, more: bool = False) -> list[str]:
    """A line of counts, what it asks for, and a table. `late` entries came meanwhile; `more` are there than were looked at."""
    left = [f"{late} more came meanwhile: run it again once their cause is gone."] if late else []
    left += ["There are more than redrive_limit: run it again."] if more else []
    if not rows:
        return left or [f"{queue} is empty."]
    counts = Counter(row["fate"] for row in rows)
    lines = [f"{queue}: {len(rows)} messages; " + ", ".join(f"{count} {fate}" for fate, count in sorted(counts.items())) + "."]
    lines += [hint.format(counts[fate]) for fate, hint in HINTS.items() if counts[fate]] + left
    shown = [{name: name.upper().replace("_", " ") for name in COLUMNS}, *rows]
    cells = [[" ".join(str(row[name]).split())[:WHY_CHARACTERS] for name in COLUMNS] for row in shown]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return lines


def lives(mails: list[Record]) -> list[str]:
    """Each mail's steps, one a line."""
    lines = []
    for mail in mails:
        lines.append(f"{mail['status']}: message {mail['message_id']}, user {mail['user_id']}, request {mail['request_id']}")
        if mail["attempts"] > 1:
            lines.append(f"  {mail['attempts']} attempts")
        lines += [f"  {step['at']}  {step['what']}" for step in mail["steps"]]
    return lines or [
        "No mail to this address has reached the verifier in the past 40 days. Either nobody asked for one, or it waits: in the",
        "outbox (metrics OutboxDepth and OutboxOldestAge), or in SNS while the function can't be invoked.",
    ]


class FilterModule:
    """Names under which the playbooks find them."""

    def filters(self) -> dict[str, Any]:
        return {"letters_report": report, "letters_lives": lives}
