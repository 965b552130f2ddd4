"""Delivery of events to the targets of a rule: what they get of the event, and what becomes of it when they can't be reached.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from datetime import datetime
from typing import Any

from moto.core.utils import unix_time_millis, utcnow
from moto.utilities.arns import parse_arn

from twin.region.region import Region
from twin.region.timestamps import epoch, zulu

log = logging.getLogger(__name__)

_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")
_PLACEHOLDER = re.compile(r"<([A-Za-z0-9_.-]+)>")
_ABSENT = object()
# What a target's own policy must let EventBridge do; https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
_ACTIONS = {
    "sqs": ("sqs:SendMessage",),
    "sns": ("sns:Publish",),
    "lambda": ("lambda:InvokeFunction",),
    "logs": ("logs:CreateLogStream", "logs:PutLogEvents"),
}


class NoPermissions(Exception):
    """The target's policy does not let EventBridge in."""

    error_type = "NO_PERMISSIONS"


def deliver(
    region: Region, rule: Any, target: dict[str, Any], event: dict[str, Any], transform: bool = True, at: datetime | None = None
) -> None:
    """Send an event to one target. What can't be delivered goes to the target's dead-letter queue; nothing is raised."""
    try:
        body = content(rule, target, event, at or utcnow()) if transform else json.dumps(event)
        _send(region, rule, target, event, body)
    except Exception as error:
        code = str(getattr(error, "error_type", "") or getattr(error, "code", "") or type(error).__name__)
        message = str(getattr(error, "message", "") or error)
        log.warning("rule %s: its target %s can't be reached: %s", rule.name, target.get("Arn"), message)
        _dead_letter(region, rule, target, event, code, message)


def content(rule: Any, target: dict[str, Any], event: dict[str, Any], at: datetime) -> str:
    """The body that the target gets."""
    if target.get("Input"):
        return str(target["Input"])
    if target.get("InputPath"):
        found = look_up(event, target["InputPath"])
        return json.dumps(None if found is _ABSENT else found)
    if target.get("InputTransformer"):
        return transformed(target["InputTransformer"], rule, event, at)
    return json.dumps(event)


def look_up(event: Any, path: str) -> Any:
    """What a JSON path as $.detail.state or $.resources[0] leads to."""
    if not path.startswith("$"):
        raise ValueError(f"{path} is not a JSON path")
    found, position = event, 1
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ValueError(f"the JSON path {path} is not supported by the twin")
        position = match.end()
        name = next((group for group in (match[1], match[3], match[4]) if group is not None), None)
        if name is None:
            index = int(match[2])
            found = found[index] if isinstance(found, list) and index < len(found) else _ABSENT
        else:
            found = found.get(name, _ABSENT) if isinstance(found, dict) else _ABSENT
    return found


def transformed(transformer: dict[str, Any], rule: Any, event: dict[str, Any], at: datetime) -> str:
    """The template with its placeholders filled in: JSON where they stand alone, plain text inside quotation marks."""
    values: dict[str, Any] = {
        "aws.events.rule-arn": rule.arn,
        "aws.events.rule-name": rule.name,
        "aws.events.event.ingestion-time": zulu(epoch(at)),
        "aws.events.event": {name: value for name, value in event.items() if name != "detail"},
        "aws.events.event.json": event,
    }
    for name, path in (transformer.get("InputPathsMap") or {}).items():
        values[name] = look_up(event, path)
    template = str(transformer["InputTemplate"])
    out, position = [], 0
    for match in _PLACEHOLDER.finditer(template):
        out.append(template[position : match.start()])
        position = match.end()
        value = values.get(match[1], _ABSENT)
        quoted = len(re.findall(r'(?<!\\)"', template[: match.start()])) % 2 == 1
        if quoted:
            text = "" if value is _ABSENT else value if isinstance(value, str) else json.dumps(value)
            out.append(json.dumps(text)[1:-1])
        else:
            out.append("null" if value is _ABSENT else json.dumps(value))
    return "".join([*out, template[position:]])


def _send(region: Region, rule: Any, target: dict[str, Any], event: dict[str, Any], body: str) -> None:
    arn = parse_arn(target["Arn"])
    if arn.service == "sqs":
        region.backend("sqs").get_queue(arn.resource_id)  # one that is not there is told apart from one that is closed
    _check(region, rule, arn.service, target["Arn"])
    if arn.service == "sqs":
        queues = region.backend("sqs")
        group = (target.get("SqsParameters") or {}).get("MessageGroupId")
        queues.send_message(arn.resource_id, body, group_id=group)
    elif arn.service == "sns":
        region.backend("sns").publish(body, arn=target["Arn"])
    elif arn.service == "lambda":
        functions: Any = region.loops["Functions"]
        functions.enqueue(target["Arn"], None, body.encode())
    elif arn.service == "logs":
        logs, stream = region.backend("logs"), str(uuid.uuid4())
        group = target["Arn"].split(":log-group:", 1)[1].removesuffix(":*")
        logs.create_log_stream(group, stream)
        logs.put_log_events(group, stream, [{"timestamp": int(unix_time_millis()), "message": body}])
    elif arn.service == "events" and arn.resource_type == "event-bus":
        bus = region.backend("events").event_buses.get(arn.resource_id)
        for each in list(bus.rules.values()) if bus else []:
            each.send_to_targets(event)
    elif arn.service == "events":  # an archive, under the rule that moto makes for it
        for archive in region.backend("events").archives.values():
            if archive.rule is not None and archive.rule.arn == rule.arn:
                archive.events.append(event)
    else:
        raise ValueError(f"the target {target['Arn']} is not supported by the twin")


def _check(region: Region, rule: Any, service: str, resource: str) -> None:
    """Raises NoPermissions."""
    asked = f"{resource.removesuffix(':*')}:log-stream:any" if service == "logs" else resource
    for action in _ACTIONS.get(service, ()):
        if not region.allows_service("events.amazonaws.com", action, asked, {"aws:SourceArn": rule.arn}):
            raise NoPermissions(f"events.amazonaws.com is not authorized to perform: {action} on resource: {resource}")


def _dead_letter(region: Region, rule: Any, target: dict[str, Any], event: dict[str, Any], code: str, message: str) -> None:
    arn = (target.get("DeadLetterConfig") or {}).get("Arn")
    if not arn:
        return
    said = {
        "RULE_ARN": rule.arn,
        "TARGET_ARN": target["Arn"],
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        # Resources that are not there are not tried again.
        "RETRY_ATTEMPTS": "0",
    }
    attributes = {name: {"DataType": "String", "StringValue": value[:1024] or "-"} for name, value in said.items()}
    try:
        _check(region, rule, "sqs", arn)
        region.backend("sqs").send_message(arn.split(":")[-1], json.dumps(event), message_attributes=attributes)
    except Exception:
        log.exception("rule %s: its dead-letter queue %s can't be reached", rule.name, arn)
