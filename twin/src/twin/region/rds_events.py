"""RDS's events: kept for DescribeEvents, told to EventBridge and to the SNS topics of event subscriptions.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.rds import models
from moto.rds.exceptions import InvalidParameterCombination, RDSClientError
from moto.rds.responses import RDSResponse

from twin.region.patch import add, replace, wrap
from twin.region.region import Region

log = logging.getLogger(__name__)

# Number, category, message.
EVENTS = {
    1: ("backup", "Backing up DB instance"),
    2: ("backup", "Finished DB instance backup"),
    3: ("deletion", "DB instance deleted"),
    4: ("availability", "DB instance shutdown"),
    5: ("creation", "DB instance created"),
    6: ("availability", "DB instance restarted"),
    11: ("configuration change", "Updated to use DBParameterGroup {name}"),
    13: ("failover", "Multi-AZ instance failover started."),
    16: ("configuration change", "Reset master credentials"),
    19: ("restoration", "Restored from DB instance {source} to {target}"),
    20: ("recovery", "Recovery of the DB instance has started. Recovery time will vary with the amount of data to be recovered."),
    21: ("recovery", "Recovery of the DB instance is complete."),
    24: ("configuration change", "Applying modification to convert to a Multi-AZ DB instance."),
    25: ("configuration change", "Finished applying modification to convert to a Multi-AZ DB instance."),
    28: ("configuration change", "Disabled automated backups"),
    29: ("configuration change", "Finished applying modification to convert to a standard (Single-AZ) DB instance."),
    30: ("configuration change", "Applying modification to convert to a standard (Single-AZ) DB instance."),
    31: ("failure", "DB instance put into {state}. RDS recommends that you initiate a point-in-time-restore."),
    32: ("configuration change", "Enabled automated backups"),
    40: ("creation", "Creating manual snapshot"),
    41: ("deletion", "Deleted user snapshot"),
    42: ("creation", "Manual snapshot created"),
    43: ("restoration", "Restored from snapshot {source}"),
    49: ("failover", "Multi-AZ instance failover completed"),
    50: ("failover", "Multi-AZ instance activation started"),
    51: ("failover", "Multi-AZ instance activation completed"),
    87: ("notification", "DB instance stopped"),
    88: ("notification", "DB instance started"),
    90: ("creation", "Creating automated snapshot"),
    91: ("creation", "Automated snapshot created"),
    361: ("recovery", "Recovery of standby DB instance has started."),
    362: ("recovery", "Recovery of standby DB instance has completed."),
}
CATEGORIES = {
    "db-instance": sorted({
        "availability", "backup", "configuration change", "creation", "deletion", "failover", "failure", "low storage",
        "maintenance", "notification", "read replica", "recovery", "restoration",
    }),
    "db-snapshot": ["creation", "deletion", "notification", "restoration"],
}  # fmt: skip
RETENTION = timedelta(days=14)
DEFAULT_MINUTES = 60
DETAIL_TYPES = {"db-instance": "RDS DB Instance Event", "db-snapshot": "RDS DB Snapshot Event"}
SOURCE_TYPES = {"db-instance": "DB_INSTANCE", "db-snapshot": "SNAPSHOT"}
MESSAGES_PAGE = "http://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html"


@dataclass
class RDSEvent:
    """Named as DescribeEvents answers; `event_id` is what EventBridge and SNS say besides."""

    source_identifier: str
    source_type: str
    source_arn: str
    message: str
    event_categories: list[str]
    event_id: str
    date: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))


def tell(region: Region, resource: Any, number: int, **words: str) -> None:
    """Record that event `number` happened to an instance or a snapshot, and tell whoever wants to know."""
    category, message = EVENTS[number]
    event = RDSEvent(
        resource.resource_id,
        resource.event_source_type,
        resource.arn,
        message.format(**words),
        [category],
        f"RDS-EVENT-{number:04}",
    )
    with region.records():
        backend = region.backend("rds")
        oldest = event.date - RETENTION
        while backend.events and backend.events[0].date < oldest:
            backend.events.pop(0)
        backend.events.append(event)
        tags = {tag["Key"]: tag["Value"] for tag in resource.tags}
        detail = {
            "EventCategories": event.event_categories,
            "SourceType": SOURCE_TYPES[event.source_type],
            "SourceArn": event.source_arn,
            "Date": _milliseconds(event.date, "T") + "Z",
            "Message": event.message,
            "SourceIdentifier": event.source_identifier,
            "EventID": event.event_id,
            "Tags": tags,
        }
        region.emit("aws.rds", DETAIL_TYPES[event.source_type], [event.source_arn], detail)
        for subscription in list(backend.event_subscriptions.values()):
            if _wants(subscription, event):
                _notify(region, subscription, event, tags)


def _wants(subscription: Any, event: RDSEvent) -> bool:
    return bool(
        subscription.enabled
        and subscription.source_type in (None, event.source_type)
        and (not subscription.source_ids or event.source_identifier in subscription.source_ids)
        and (not subscription.event_categories or set(event.event_categories) & set(subscription.event_categories))
    )


def _notify(region: Region, subscription: Any, event: RDSEvent, tags: dict[str, str]) -> None:
    topic = region.backend("sns").topics.get(subscription.sns_topic_arn)
    if topic is None:
        return  # deleted since; AWS drops the notification, too
    if not region.allows_service("events.rds.amazonaws.com", "sns:Publish", topic.arn, {"aws:SourceArn": event.source_arn}):
        log.warning("%s: its topic's policy does not let RDS publish", subscription.subscription_name)
        return
    anchor = {"db-instance": "dbinstance", "db-snapshot": "snapshot"}[event.source_type]
    message = {
        "Event Source": event.source_type,
        "Event Time": _milliseconds(event.date, " "),
        "Identifier Link": f"https://console.aws.amazon.com/rds/home?region={region.settings.region}"
        f"#{anchor}:id={event.source_identifier}",
        "Source ID": event.source_identifier,
        "Source ARN": event.source_arn,
        "Event ID": f"{MESSAGES_PAGE}#{event.event_id}",
        "Event Message": event.message,
        "Tags": tags,
    }
    topic.publish(json.dumps(message), subject="RDS Notification Message")


def _milliseconds(date: datetime, separator: str) -> str:
    return date.isoformat(sep=separator, timespec="milliseconds")


def install(region: Region) -> None:
    @replace(models.RDSBackend, "add_event")
    def add_event(self: Any, event_type: str, resource: Any) -> None:
        """moto tells a few events where it makes a record; here they are told when the body gets there."""

    @replace(models.RDSBackend, "describe_events")
    def describe_events(
        self: Any,
        source_identifier: str | None = None,
        source_type: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        duration: int | None = None,
        event_categories: list[str] | None = None,
        **_: Any,
    ) -> list[RDSEvent]:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DescribeEvents.html"""
        if source_identifier is not None and source_type is None:
            raise InvalidParameterCombination("Cannot specify source identifier without source type")
        end = _naive(end_time) or datetime.now(UTC).replace(tzinfo=None)
        start = _naive(start_time) or end - timedelta(minutes=int(duration or DEFAULT_MINUTES))
        if start > end:
            raise InvalidParameterCombination("The end time must come after the start time.")
        return [
            event
            for event in self.events
            if start <= event.date <= end
            and source_identifier in (None, event.source_identifier)
            and source_type in (None, event.source_type)
            and (not event_categories or set(event_categories) & set(event.event_categories))
        ]

    _install_subscriptions(region)


def _naive(date: datetime | None) -> datetime | None:
    return date.astimezone(UTC).replace(tzinfo=None) if date and date.tzinfo else date


def _install_subscriptions(region: Region) -> None:
    def check(wanted: dict[str, Any]) -> None:
        topic = wanted.get("sns_topic_arn")
        if topic is not None and topic not in region.backend("sns").topics:
            raise RDSClientError("SNSTopicArnNotFound", f"The SNS topic {topic} does not exist.")
        kind = wanted.get("source_type")
        if wanted.get("source_ids") and not kind:
            raise InvalidParameterCombination("SourceIds needs a SourceType.")
        for category in wanted.get("event_categories") or []:
            if kind in CATEGORIES and category not in CATEGORIES[kind]:
                raise RDSClientError("SubscriptionCategoryNotFound", f"The category {category} of {kind} does not exist.")

    @wrap(models.RDSBackend, "create_event_subscription")
    def create_event_subscription(original: Any, self: Any, kwargs: Any) -> Any:
        check(kwargs)
        # Not said is yes: moto takes it for no, and keeps None for a list that is left out.
        settings = {name: value for name, value in kwargs.items() if value is not None}
        subscription = original(self, {"enabled": True, **settings})
        subscription.source_ids = list(settings.get("source_ids", []))
        subscription.event_categories = list(settings.get("event_categories", []))
        subscription.customer_aws_id = region.settings.account_id
        subscription.subscription_creation_time = subscription.created_at.isoformat()
        subscription.event_subscription_arn = subscription.arn
        return subscription

    @add(RDSResponse, "modify_event_subscription")
    def modify_event_subscription(self: Any) -> ActionResult:
        """https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyEventSubscription.html"""
        [subscription] = self.backend.describe_event_subscriptions(self.params["SubscriptionName"])
        names = ("sns_topic_arn", "source_type", "event_categories", "enabled")
        given = {name: self.params[name] for name in names if name in self.params}
        check({"source_type": subscription.source_type, **given})
        for name, value in given.items():
            setattr(subscription, name, list(value) if name == "event_categories" else value)
        return ActionResult({"EventSubscription": subscription})

    def change_sources(self: Any, change: Any) -> ActionResult:
        [subscription] = self.backend.describe_event_subscriptions(self.params["SubscriptionName"])
        change(subscription.source_ids, self.params["SourceIdentifier"])
        return ActionResult({"EventSubscription": subscription})

    @add(RDSResponse, "add_source_identifier_to_subscription")
    def add_source(self: Any) -> ActionResult:
        return change_sources(self, lambda ids, new: ids.append(new) if new not in ids else None)

    @add(RDSResponse, "remove_source_identifier_from_subscription")
    def remove_source(self: Any) -> ActionResult:
        return change_sources(self, lambda ids, old: ids.remove(old) if old in ids else None)
