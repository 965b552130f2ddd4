"""Metrics in logs: what arrives in CloudWatch Logs in the embedded metric format becomes metrics, as AWS extracts them.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from moto.logs import models

from twin.region.metric_store import HIGH, STANDARD, Aggregate, MetricKey, key, store_of
from twin.region.patch import wrap
from twin.region.region import Region

MOST_METRICS, MOST_VALUES, MOST_DIMENSIONS = 100, 100, 30
LATEST = 253402300800000  # the year 10000, in milliseconds


class Invalid(ValueError):
    """The document claims to hold metrics and does not."""


def install(region: Region) -> None:
    @wrap(models.LogsBackend, "put_log_events")
    def put_log_events(original: Any, self: Any, log_group_name: str, log_stream_name: str, log_events: list[Any]) -> Any:
        answer = original(self, log_group_name, log_stream_name, log_events)
        for event in log_events:
            try:
                # All of a line's metrics or none.
                for metric, at, sample, resolution in list(metrics_in(str(event["message"]), event["timestamp"] / 1000)):
                    store_of(region.backend("cloudwatch")).put(metric, at, sample, resolution)
            except Invalid:
                region.metric("AWS/Logs", "EMFValidationErrors", {"LogGroupName": log_group_name}, 1, "Count")
        return answer


def metrics_in(line: str, logged: float) -> Iterator[tuple[MetricKey, float, Aggregate, int]]:
    """Each metric of a log line, in each of its sets of dimensions, with its time. Raises Invalid."""
    if '"_aws"' not in line:
        return
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return  # a line like any other
    if not isinstance(document, dict) or not isinstance(document.get("_aws"), dict):
        return
    head = document["_aws"]
    at = head.get("Timestamp", logged * 1000)
    directives = head.get("CloudWatchMetrics", [])
    if not isinstance(at, int | float) or not abs(at) < LATEST or not isinstance(directives, list):
        raise Invalid("Timestamp, CloudWatchMetrics")
    for directive in directives:
        try:
            namespace, sets, metrics = directive["Namespace"], directive.get("Dimensions", [[]]), directive["Metrics"]
            if len(metrics) > MOST_METRICS or any(len(names) > MOST_DIMENSIONS for names in sets):
                raise Invalid("too many metrics or dimensions")
            for metric in metrics:
                sample = _sample(document[metric["Name"]])
                resolution = HIGH if metric.get("StorageResolution") == HIGH else STANDARD
                for names in sets:
                    dimensions = {name: _dimension(document[name]) for name in names}
                    yield key(namespace, metric["Name"], dimensions, metric.get("Unit", "None")), at / 1000, sample, resolution
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise Invalid(str(error)) from None


def _dimension(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid("a dimension's value must be a string")
    return value


def _sample(value: Any) -> Aggregate:
    """A number, a list of numbers, or values with their counts."""
    sample = Aggregate()
    if isinstance(value, dict):
        values, counts = value["Values"], value["Counts"]
    else:
        values = value if isinstance(value, list) else [value]
        counts = [1.0] * len(values)
    if not 0 < len(values) <= MOST_VALUES or len(values) != len(counts):
        raise Invalid("a metric needs 1 to 100 values")
    for each, count in zip(values, counts, strict=True):
        if isinstance(each, bool) or not isinstance(each, int | float) or not math.isfinite(each):
            raise Invalid("a metric's values must be numbers")
        sample.add(float(each), float(count))
    return sample
