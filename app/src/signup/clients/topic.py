"""The SNS topic that verification messages go to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3

from signup.clients.config import AWS_ERRORS, CONFIG, error_code


class PublishFailed(Exception):
    """SNS did not take the message; the text is AWS's error code."""


class Topic:
    """Publishes JSON messages to one topic."""

    def __init__(self, topic_arn: str, region: str) -> None:
        self._topic_arn = topic_arn
        self._client = boto3.session.Session(region_name=region).client("sns", config=CONFIG)

    def publish(self, message: Mapping[str, Any]) -> None:
        """Publish one message; raises PublishFailed."""
        try:
            self._client.publish(TopicArn=self._topic_arn, Message=json.dumps(message))
        except AWS_ERRORS as error:
            raise PublishFailed(error_code(error)) from error
