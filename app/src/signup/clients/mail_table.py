"""The DynamoDB table of mails, in which the person on call reads each one's life. The verifier begins their items."""

from __future__ import annotations

import time

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

    def note(self, event: MailEvent) -> None:
        """Add when something happened to a mail, the first time that it did. Raises MailTableUnavailable."""
        names, at = {"#at": f"{event.kind}_at", "#expires": "expires_at"}, {"S": rfc3339(event.occurred_at)}
        sets = ["#at = if_not_exists(#at, :at)", "#expires = if_not_exists(#expires, :expires)"]
        given = {":at": at, ":expires": {"N": str(int(time.time()) + KEEP_SECONDS)}}
        if event.reason and event.kind in ("bounced", "dropped"):
            names["#bounce"] = "bounce"
            sets.append("#bounce = :bounce")
            given[":bounce"] = {"S": event.reason}
        try:
            self._client().update_item(
                TableName=self._table,
                Key={"message_id": {"S": str(event.message_id)}},
                UpdateExpression=f"SET {', '.join(sets)}",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=given,
            )
        except AWS_ERRORS as error:
            raise MailTableUnavailable(error_code(error)) from error
