"""CloudWatch's embedded metric format: a log line that CloudWatch Logs makes metrics of."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("signup.metrics")


@dataclass(frozen=True)
class Metric:
    """A value in one of CloudWatch's units."""

    name: str
    unit: str
    value: int | float | dict[str, Any]


def emit(
    namespace: str,
    metrics: list[Metric],
    dimensions: Mapping[str, str] | None = None,
    sets: tuple[tuple[str, ...], ...] = ((),),
) -> None:
    """Write one line. Each of `sets` names the dimensions of a metric of its own; () is the metric without any."""
    directive = {
        "Namespace": namespace,
        "Dimensions": [list(names) for names in sets],
        "Metrics": [{"Name": metric.name, "Unit": metric.unit} for metric in metrics],
    }
    fields: dict[str, Any] = {"_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}}
    fields.update(dimensions or {})
    fields.update({metric.name: metric.value for metric in metrics})
    log.info("metrics", extra={"fields": fields})
