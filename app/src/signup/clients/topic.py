"""The SNS topic that verification messages go to."""

from __future__ import annotations

from collections.abc import Mapping

from signup.clients.config import AWS_ERRORS, error_code
from signup.clients.late import LateClient

MAX_BATCH = 10
UNANSWERED = "Unanswered"


class Topic:
    """Publishes messages to one topic."""

    def __init__(self, topic_arn: str, region: str) -> None:
        self._topic_arn = topic_arn
        self._client = LateClient("sns", region)

    def publish(self, messages: Mapping[str, str]) -> dict[str, str]:
        """Publish at most MAX_BATCH messages, given by their ids, in one request; returns AWS's error codes of those not taken.

        Where SNS did not answer, it may have taken them all the same.
        """
        entries = [{"Id": message_id, "Message": message} for message_id, message in messages.items()]
        try:
            answer = self._client().publish_batch(TopicArn=self._topic_arn, PublishBatchRequestEntries=entries)
        except AWS_ERRORS as error:
            return dict.fromkeys(messages, error_code(error))
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        refused = {entry["Id"]: entry["Code"] for entry in answer.get("Failed", ())}
        return {message_id: refused.get(message_id, UNANSWERED) for message_id in messages if message_id not in taken}
