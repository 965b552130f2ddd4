"""The SNS topic that verification messages go to."""

from __future__ import annotations

from signup.clients.config import AWS_ERRORS, error_code
from signup.clients.late import LateClient


class PublishFailed(Exception):
    """SNS did not take the message; the text is AWS's error code."""


class Topic:
    """Publishes messages to one topic."""

    def __init__(self, topic_arn: str, region: str) -> None:
        self._topic_arn = topic_arn
        self._client = LateClient("sns", region)

    def publish(self, message: str) -> None:
        """Publish one message; raises PublishFailed."""
        try:
            self._client().publish(TopicArn=self._topic_arn, Message=message)
        except AWS_ERRORS as error:
            raise PublishFailed(error_code(error)) from error
