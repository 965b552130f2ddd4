"""What CloudWatch remembers of metrics: data points aggregated by their resolution, and thinned out as they age.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

HOUR, DAY = 3600, 86400
# Resolution in seconds, and how long data of it stays before it is merged into the next. AWS keeps minutes for 15 days and
# five minutes for 63; a twin is too short-lived to need as much.
TIERS = ((1, 3 * HOUR), (60, DAY), (300, 15 * DAY))
STANDARD, HIGH = 60, 1
_EXACT_VALUES = 100  # distinct values in one aggregate that are kept as they are; beyond, three significant digits
_PERCENTILE = re.compile(r"p(\d{1,2}(\.\d{1,10})?|100)")
STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")


class MetricKey(NamedTuple):
    """A metric in one unit. Dimensions are sorted pairs of name and value: another set of them is another metric."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str = "None"


def key(namespace: str, name: str, dimensions: dict[str, str], unit: str = "None") -> MetricKey:
    return MetricKey(namespace, name, tuple(sorted(dimensions.items())), unit)


@dataclass
class Aggregate:
    """All samples of one metric in one stretch of time."""

    count: float = 0.0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    # Samples by value, for percentiles; None once a statistic set came in that says nothing of its single values.
    values: dict[float, float] | None = field(default_factory=dict)
    rounded: bool = False

    def add(self, value: float, count: float = 1.0) -> None:
        self.merge(Aggregate(count, value * count, value, value, {value: count}))

    def merge(self, other: Aggregate) -> None:
        self.count += other.count
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        if self.values is None or other.values is None:
            self.values = None
            return
        for value, count in other.values.items():
            self._count(_short(value) if self.rounded else value, count)
        if not self.rounded and len(self.values) > _EXACT_VALUES:
            exact, self.values, self.rounded = self.values, {}, True
            for value, count in exact.items():
                self._count(_short(value), count)

    def _count(self, value: float, count: float) -> None:
        if self.values is not None:
            self.values[value] = self.values.get(value, 0.0) + count

    def statistic(self, name: str) -> float | None:
        """One of AWS's statistics, or a percentile as in p99; None when the samples don't tell."""
        if not self.count:
            return None
        known = {"SampleCount": self.count, "Sum": self.total, "Minimum": self.low, "Maximum": self.high}
        if name in known:
            return known[name]
        return self.total / self.count if name == "Average" else self._percentile(float(name[1:]))

    def _percentile(self, percent: float) -> float | None:
        if self.values is None:
            return self.low if self.low == self.high else None
        reached, wanted = 0.0, self.count * percent / 100
        for value in sorted(self.values):
            reached += self.values[value]
            if reached >= wanted:
                return min(max(value, self.low), self.high)
        return self.high


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def is_statistic(name: str) -> bool:
    return name in STATISTICS or is_percentile(name)


def is_percentile(name: str) -> bool:
    return _PERCENTILE.fullmatch(name) is not None


class MetricStore:
    """Metrics of one account and region. Times are seconds since 1970; the caller holds the region's lock."""

    def __init__(self) -> None:
        # By metric (with no unit in its key), then by unit: a dictionary of aggregates for each tier.
        self._series: dict[MetricKey, dict[str, list[dict[int, Aggregate]]]] = {}

    def put(self, metric: MetricKey, at: float, sample: Aggregate, resolution: int = STANDARD) -> None:
        """Take samples of time `at`, to be kept by the second (HIGH) or by the minute (STANDARD)."""
        units = self._series.setdefault(metric._replace(unit=""), {})
        tiers = units.setdefault(metric.unit, [{} for _ in TIERS])
        tier = 0 if resolution == HIGH else 1
        _merge(tiers[tier], int(at) // resolution * resolution, sample)

    def prune(self, now: float) -> None:
        """Thin out what has become old; AWS forgets a metric when its last data point has gone."""
        for metric, units in list(self._series.items()):
            for unit, tiers in list(units.items()):
                _age(tiers, now)
                if not any(tiers):
                    del units[unit]
            if not units:
                del self._series[metric]

    def metrics(self) -> Iterator[MetricKey]:
        """Every metric once, whatever its units; their keys name none."""
        yield from self._series

    def query(self, metric: MetricKey, start: float, end: float, period: int, unit: str | None = None) -> dict[int, Aggregate]:
        """Aggregates by the start of their period, oldest first. Periods are counted from `start`; without `unit`, samples
        of all units count."""
        found: dict[int, Aggregate] = {}
        first = int(start)
        for each, tiers in self._series.get(metric._replace(unit=""), {}).items():
            if unit is not None and each != unit:
                continue
            for tier, (resolution, _) in zip(tiers, TIERS, strict=True):
                for at in _within(tier, first, end, resolution):
                    _merge(found, first + (at - first) // period * period, tier[at])
        return dict(sorted(found.items()))

    def units(self, metric: MetricKey) -> list[str]:
        return list(self._series.get(metric._replace(unit=""), {}))

    def __len__(self) -> int:
        """How many aggregates are kept."""
        return sum(len(tier) for units in self._series.values() for tiers in units.values() for tier in tiers)


def store_of(backend: Any) -> MetricStore:
    """The store of moto's CloudWatch backend, where it survives with the other records."""
    if not hasattr(backend, "metric_store"):
        backend.metric_store = MetricStore()
    kept: MetricStore = backend.metric_store
    return kept


def _age(tiers: list[dict[int, Aggregate]], now: float) -> None:
    """Merge what has outlived its tier into the next one."""
    for index, (_, lifetime) in enumerate(TIERS):
        tier = tiers[index]
        for at in [at for at in tier if at < now - lifetime]:
            sample = tier.pop(at)
            if index + 1 < len(TIERS):
                coarser = TIERS[index + 1][0]
                _merge(tiers[index + 1], at // coarser * coarser, sample)


def _within(tier: dict[int, Aggregate], start: int, end: float, resolution: int) -> Iterable[int]:
    """Keys of `tier` in [start, end): by counting up where the stretch is shorter than the tier."""
    if (end - start) / resolution < len(tier):
        aligned = -(-start // resolution) * resolution
        return (at for at in range(aligned, math.ceil(end), resolution) if at in tier)
    return (at for at in tier if start <= at < end)


def _merge(tier: dict[int, Aggregate], at: int, sample: Aggregate) -> None:
    if at not in tier:
        tier[at] = Aggregate()
    tier[at].merge(sample)
