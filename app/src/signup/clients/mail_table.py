"""The DynamoDB table of mails, in which the person on call reads each one's life. The verifier begins their items."""

from __future__ import annotations

import time
from collections.abc import Sequence

from signup.clients.config import AWS_ERRORS, HASTY, error_code
from signup.clients.late import LateClient
from signup.ids import rfc3339
from signup.mail_events.events import MailEvent

KEEP_SECONDS = 40 * 24 * 3600  # as the verifier does


class MailTableUnavailable(Exception):
    """DynamoDB did not answer or refused; the text is AWS's error code."""


class MailTable:
    """Mails by message id."""

    def __init__(self, table: str, region: str) -> None:
        self._table = table
        self._client = LateClient("dynamodb", region, config=HASTY)

    def note(self, events: Sequence[MailEvent]) -> None:
        """Add when each of these events of one mail, in their order, happened first. Raises MailTableUnavailable."""
        names, sets = {"#expires": "expires_at"}, ["#expires = if_not_exists(#expires, :expires)"]
        given: dict[str, dict[str, str]] = {":expires": {"N": str(int(time.time()) + KEEP_SECONDS)}}
        for event in events:
            at = f"{event.kind}_at"
            if at not in names.values():
                names[f"#{at}"], given[f":{at}"] = at, {"S": rfc3339(event.occurred_at)}
                sets.append(f"#{at} = if_not_exists(#{at}, :{at})")
        reasons = [event.reason for event in events if event.reason and event.kind in ("bounced", "dropped")]
        if reasons:
            names["#bounce"], given[":bounce"] = "bounce", {"S": reasons[-1]}
            sets.append("#bounce = :bounce")
        try:
            self._client().update_item(
                TableName=self._table,
                Key={"message_id": {"S": str(events[0].message_id)}},
                UpdateExpression=f"SET {', '.join(sets)}",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=given,
            )
        except AWS_ERRORS as error:
            raise MailTableUnavailable(error_code(error)) from error
