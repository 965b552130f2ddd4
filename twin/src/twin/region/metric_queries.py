"""Queries as GetMetricData and alarms pose them: statistics of metrics, and expressions over other queries.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDataQuery.html
"""

from __future__ import annotations

from typing import Any

from twin.region.metric_math import Context, InvalidExpression, Series, Unsupported, evaluate
from twin.region.metric_store import Aggregate, MetricStore, key

# A query is AWS's own structure: Id, and either MetricStat (Metric, Period, Stat, Unit) or Expression with Period.
Query = dict[str, Any]


def period_of(queries: list[Query]) -> int:
    """The period that the queries share; expressions without one take their metrics'."""
    for query in queries:
        period = (query.get("MetricStat") or {}).get("Period") or query.get("Period")
        if period:
            return int(period)
    return 60


def aggregates(store: MetricStore, stat: dict[str, Any], start: float, end: float) -> dict[int, Aggregate]:
    """Aggregates that a MetricStat asks for, by the start of their period."""
    metric = stat["Metric"]
    dimensions = {entry["Name"]: entry["Value"] for entry in metric.get("Dimensions") or []}
    wanted = key(metric["Namespace"], metric["MetricName"], dimensions)
    return store.query(wanted, start, end, int(stat["Period"]), stat.get("Unit"))


def run(store: MetricStore, queries: list[Query], start: float, end: float) -> dict[str, Series]:
    """Series by query id for [start, end). Raises InvalidExpression, and Unsupported for what the twin lacks."""
    by_id = {query["Id"]: query for query in queries}
    period = period_of(queries)
    slots = list(range(int(start), int(end), period))
    found: dict[str, Any] = {}
    metrics = [query["Id"] for query in queries if query.get("MetricStat")]
    for name in metrics:
        stat = by_id[name]["MetricStat"]
        values = {at: sample.statistic(stat["Stat"]) for at, sample in aggregates(store, stat, start, end).items()}
        found[name] = {at: value for at, value in values.items() if value is not None}
    waiting = [query for query in queries if query.get("Expression")]
    while waiting:
        failed: InvalidExpression | None = None
        left = []
        for query in waiting:
            expression = query["Expression"]
            if expression.lstrip().upper().startswith(("SELECT", "SEARCH")):
                raise Unsupported("Metrics Insights queries and SEARCH are not supported by the twin")
            try:
                found[query["Id"]] = evaluate(expression, Context(found, metrics, int(query.get("Period") or period), slots))
            except Unsupported:
                raise
            except InvalidExpression as error:  # perhaps it refers to an expression that comes later
                left.append(query)
                failed = error
        if failed is not None and len(left) == len(waiting):
            raise failed
        waiting = left
    return {name: value if isinstance(value, dict) else {} for name, value in found.items()}
