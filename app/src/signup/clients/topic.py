"""The SNS topic that verification messages go to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from signup.clients.config import AWS_ERRORS, error_code
from signup.clients.late import LateClient


class PublishFailed(Exception):
    """SNS did not take the message; the text is AWS's error code."""


class Topic:
    """Publishes JSON messages to one topic."""

    def __init__(self, topic_arn: str, region: str) -> None:
        self._topic_arn = topic_arn
        self._client = LateClient("sns", region)

    def publish(self, message: Mapping[str, Any]) -> None:
        """Publish one message; raises PublishFailed."""
        try:
            self._client().publish(TopicArn=self._topic_arn, Message=json.dumps(message))
        except AWS_ERRORS as error:
            raise PublishFailed(error_code(error)) from error
