"""EventBridge that takes the region's own events, and delivers to queues, topics, functions and log groups.

moto matches patterns only in PutEvents, lets scheduled rules match everything, and delivers to queues and log groups.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.utils import utcnow
from moto.events import models, responses
from moto.events.exceptions import InvalidEventPatternException, ValidationException

from twin.region import cron, ec2, event_targets
from twin.region.patch import replace, wrap
from twin.region.region import Region
from twin.region.timestamps import epoch, zulu

_MAX_ENTRIES, _MAX_BYTES = 10, 256 * 1024
# What a pattern may ask of a value: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
_FILTERS = {"prefix", "suffix", "equals-ignore-case", "numeric", "exists", "anything-but", "cidr", "wildcard"}
_TARGETS = ("sqs", "sns", "lambda", "logs", "events")


def envelope(region: Region, source: str, kind: str, resources: list[str], detail: Any, at: float) -> dict[str, Any]:
    """An event as targets get it: https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html"""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": source,
        "account": region.settings.account_id,
        "time": zulu(at),
        "region": region.settings.region,
        "resources": resources,
        "detail": detail,
    }


def dispatch(region: Region, event: dict[str, Any], bus: str = "default") -> None:
    """Give an event to every rule of the bus that is enabled and matches; never raises."""
    found = region.backend("events").event_buses.get(bus)
    for rule in list(found.rules.values()) if found else []:
        rule.send_to_targets(event)


def run_scheduled(region: Region, rule: Any, at: float) -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html"""
    event = envelope(region, "aws.events", "Scheduled Event", [rule.arn], {}, at)
    for target in list(rule.targets):
        event_targets.deliver(region, rule, target, event)


def install(region: Region) -> None:
    def take(source: str, kind: str, resources: list[str], detail: dict[str, Any]) -> None:
        dispatch(region, envelope(region, source, kind, resources, detail, time.time()))

    def changed(instance: Any, state: str) -> None:
        """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html"""
        arn = f"arn:aws:ec2:{region.settings.region}:{region.settings.account_id}:instance/{instance.id}"
        detail = {"instance-id": instance.id, "state": state}
        region.emit("aws.ec2", "EC2 Instance State-change Notification", [arn], detail)

    region.on_event.append(take)
    ec2.state_listener = changed
    _install_rules()
    _install_putting(region)
    _install_delivery(region)


def _install_rules() -> None:
    @wrap(models.EventsBackend, "put_rule")
    def put_rule(original: Any, self: Any, name: str, *args: Any, **options: Any) -> Any:
        pattern, schedule = options.get("event_pattern"), options.get("scheduled_expression")
        if pattern:
            check_pattern(pattern)
        if schedule:
            try:
                cron.rate(schedule) if schedule.startswith("rate") else cron.eventbridge(schedule)
            except cron.InvalidSchedule as error:
                words = f" {error}" if "not supported" in str(error) else ""
                raise ValidationException(f"Parameter ScheduleExpression is not valid.{words}") from None
        return original(self, name, *args, **options)

    @wrap(models.EventsBackend, "put_targets")
    def put_targets(original: Any, self: Any, name: str, event_bus_arn: Any, targets: list[dict[str, Any]]) -> Any:
        for target in targets:
            parts = str(target.get("Arn")).split(":")
            if len(parts) >= 6 and (parts[2] not in _TARGETS or parts[5].startswith("api-destination")):
                raise ValidationException(f"The target {target['Arn']} is not supported by the twin.")
            given = [key for key in ("Input", "InputPath", "InputTransformer") if target.get(key)]
            if len(given) > 1:
                raise ValidationException(
                    f"Only one of Input, InputPath, or InputTransformer must be provided for target {target['Id']}."
                )
            if target.get("Input"):
                try:
                    json.loads(target["Input"])
                except ValueError:
                    raise ValidationException(f"JSON text in Input of target {target['Id']} is not valid.") from None
        return original(self, name, event_bus_arn, targets)

    @replace(responses.EventsHandler, "test_event_pattern")
    def test_event_pattern(self: Any) -> str:
        pattern = self._get_param("EventPattern")
        check_pattern(pattern)
        try:
            event = json.loads(self._get_param("Event"))
        except ValueError:
            raise JsonRESTError("InvalidEventPatternException", "Event is not valid. Reason: Invalid JSON") from None
        return json.dumps({"Result": bool(models.EventPattern.load(pattern).matches_event(event))})


def check_pattern(pattern: str) -> None:
    """What moto would take for a match: filters that it does not know."""

    def check(node: Any) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                for each in value if name == "$or" and isinstance(value, list) else [value]:
                    check(each)
        elif isinstance(node, list):
            for entry in node:
                if isinstance(entry, dict) and (len(entry) != 1 or not set(entry) <= _FILTERS):
                    raise InvalidEventPatternException(reason=f"Unrecognized match type {', '.join(entry)}")

    try:
        check(json.loads(pattern))
    except json.JSONDecodeError:
        raise InvalidEventPatternException(reason="Invalid JSON") from None


def _install_putting(region: Region) -> None:
    @replace(models.EventsBackend, "put_events")
    def put_events(self: Any, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not 1 <= len(events) <= _MAX_ENTRIES:
            raise ValidationException(
                "1 validation error detected: Value '[PutEventsRequestEntry]' at 'entries' failed to satisfy constraint: "
                f"Member must have length {'greater than or equal to 1' if not events else 'less than or equal to 10'}"
            )
        if sum(len(json.dumps(entry)) for entry in events) > _MAX_BYTES:
            raise ValidationException("Total size of the entries in the request is over the limit.")
        return [_put(self, entry) for entry in events]

    def _put(backend: Any, entry: dict[str, Any]) -> dict[str, Any]:
        for name in ("Source", "DetailType", "Detail"):
            if not entry.get(name):
                return _refused("InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is a required argument.")
        if entry["Source"].startswith("aws."):
            return _refused("NotAuthorizedForSourceException", "Not authorized for the source.")
        try:
            detail = json.loads(entry["Detail"])
        except ValueError:
            return _refused("MalformedDetail", "Detail is malformed.")
        if not isinstance(detail, dict):
            return _refused("MalformedDetail", "Detail is malformed.")
        bus = re.split(r"[/]", entry.get("EventBusName") or "default")[-1]
        at = epoch(entry["Time"]) if entry.get("Time") else time.time()
        event = envelope(region, entry["Source"], entry["DetailType"], list(entry.get("Resources") or []), detail, at)
        dispatch(region, event, bus)
        return {"EventId": event["id"]}


def _refused(code: str, message: str) -> dict[str, Any]:
    return {"ErrorCode": code, "ErrorMessage": message}


def _install_delivery(region: Region) -> None:
    @replace(models.Rule, "send_to_targets")
    def send_to_targets(self: Any, original_event: dict[str, Any], transform_input: bool = True) -> None:
        if self.state != "ENABLED" or not self.event_pattern.get_pattern():
            return
        if not self.event_pattern.matches_event(original_event):
            return
        for target in list(self.targets):
            event_targets.deliver(region, self, target, original_event, transform_input, utcnow())
