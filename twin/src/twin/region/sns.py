"""SNS that delivers to functions and web servers: invocations with AWS's event, requests that nobody waits for, retries, and
the subscription's dead-letter queue."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

import requests
from moto.awslambda.exceptions import UnknownFunctionException
from moto.sns import models

from twin.region.patch import wrap
from twin.region.region import Region

log = logging.getLogger(__name__)

_TIMEOUT = 15.0  # seconds for an HTTP subscriber to answer, as on AWS
# AWS tries three times more, 20 seconds apart; the twin waits a twentieth of it.
_RETRY_DELAYS = (1.0, 1.0, 1.0)
_REMEMBERED = 100  # messages of a topic that moto keeps for its own tests, which would otherwise grow for ever
# What an endpoint's own policy must let SNS do: https://docs.aws.amazon.com/sns/latest/dg/subscribe-sqs-queue-to-sns-topic.html
ACTIONS = {"lambda": "lambda:InvokeFunction", "sqs": "sqs:SendMessage"}


def install(region: Region) -> None:
    @wrap(models.Subscription, "publish")
    def publish(
        original: Any,
        self: Any,
        message: str,
        message_id: str,
        subject: str | None = None,
        message_attributes: dict[str, Any] | None = None,
        message_structure: str | None = None,
        **options: Any,
    ) -> None:
        if self.protocol in ACTIONS and not _may(region, ACTIONS[self.protocol], self.endpoint, self.topic.arn):
            matcher = self._filter_policy_matcher
            if matcher is None or matcher.matches(message_attributes, message):
                notification = self.get_post_data(message, message_id, subject, message_attributes=message_attributes)
                _dead_letter(region, self, notification, f"the endpoint's policy does not let SNS {ACTIONS[self.protocol]}")
            return
        if self.protocol not in ("lambda", "http", "https"):
            settings = {"subject": subject, "message_attributes": message_attributes, "message_structure": message_structure}
            original(self, message, message_id, **settings, **options)
            return
        matcher = self._filter_policy_matcher
        if matcher is not None and not matcher.matches(message_attributes, message):
            return
        if message_structure == "json":
            message = self._parse_message_structure(message, self.protocol)
        notification = self.get_post_data(message, message_id, subject, message_attributes=message_attributes)
        if self.protocol != "lambda":
            # Nobody may wait for a web server while holding the region's lock, as whoever publishes does.
            threading.Thread(target=_post, args=(region, self, notification), name="sns-http", daemon=True).start()
            return
        try:
            functions: Any = region.loops["Functions"]
            functions.enqueue(self.endpoint, None, json.dumps(event(self.arn, notification)).encode())
        except UnknownFunctionException as error:
            # A client's error: AWS does not retry it.
            _dead_letter(region, self, notification, str(error.message))

    @wrap(models.Topic, "publish")
    def publish_topic(original: Any, self: Any, *args: Any, **options: Any) -> Any:
        result = original(self, *args, **options)
        _count(region, self, "NumberOfMessagesPublished")
        del self.sent_notifications[:-_REMEMBERED]
        return result


def _post(region: Region, subscription: Any, notification: dict[str, Any]) -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/SendMessageToHttp.html"""
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",
        "User-Agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": notification["Type"],
        "x-amz-sns-message-id": notification["MessageId"],
        "x-amz-sns-topic-arn": notification["TopicArn"],
        "x-amz-sns-subscription-arn": subscription.arn,
    }
    raw = subscription.attributes.get("RawMessageDelivery") == "true"
    body = (notification["Message"] if raw else json.dumps(notification)).encode()
    reason = ""
    for delay in (0.0, *_RETRY_DELAYS):
        time.sleep(delay)
        try:
            answer = requests.post(subscription.endpoint, data=body, headers=headers, timeout=_TIMEOUT)
        except requests.RequestException as error:
            reason = str(error)
            continue
        if answer.ok:
            return
        reason = f"{subscription.endpoint} answered {answer.status_code}"
        if 400 <= answer.status_code < 500 and answer.status_code != 429:
            break  # a client's error: AWS does not retry it
    with region.records():
        _dead_letter(region, subscription, notification, reason)


def _may(region: Region, action: str, resource: str, topic: str) -> bool:
    return region.allows_service("sns.amazonaws.com", action, resource, {"aws:SourceArn": topic})


def event(subscription: str, notification: dict[str, Any]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html"""
    renamed = {"SigningCertURL": "SigningCertUrl", "UnsubscribeURL": "UnsubscribeUrl"}
    content = {renamed.get(name, name): value for name, value in notification.items()}
    defaults: dict[str, Any] = {"Subject": None, "MessageAttributes": {}}
    record = {
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription,
        "EventSource": "aws:sns",
        "Sns": {**defaults, **content},
    }
    return {"Records": [record]}


def _dead_letter(region: Region, subscription: Any, notification: dict[str, Any], reason: str) -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html"""
    policy = json.loads(subscription.attributes.get("RedrivePolicy") or "{}")
    target = policy.get("deadLetterTargetArn")
    _count(region, subscription.topic, "NumberOfNotificationsFailed")
    if not target:
        log.error("%s: a message is lost, and no dead-letter queue is set: %s", subscription.arn, reason)
        return
    if not _may(region, "sqs:SendMessage", target, subscription.topic.arn):
        log.error("%s: a message is lost, as the dead-letter queue's policy does not let SNS send it", subscription.arn)
        _count(region, subscription.topic, "NumberOfNotificationsFailedToRedriveToDlq")
        return
    region.backend("sqs").send_message(target.split(":")[-1], json.dumps(notification))
    _count(region, subscription.topic, "NumberOfNotificationsRedrivenToDlq")


def _count(region: Region, topic: Any, name: str) -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-monitoring-using-cloudwatch.html"""
    region.metric("AWS/SNS", name, {"TopicName": topic.name}, 1, "Count")
