"""CloudWatch metrics that are aggregated as AWS does it, in a store of bounded size.

moto keeps every sample in one list and searches all of it for every period of every query.
"""

from __future__ import annotations

import math
import time
from typing import Any

from moto.cloudwatch import models, responses
from moto.cloudwatch.exceptions import InvalidParameterCombination, InvalidParameterValue, ValidationError
from moto.core.responses import ActionResult
from moto.core.utils import utcnow

from twin.region import cloudwatch_alarms
from twin.region.metric_math import InvalidExpression
from twin.region.metric_queries import Query, period_of, run
from twin.region.metric_store import HIGH, STANDARD, Aggregate, MetricKey, is_percentile, is_statistic, key, store_of
from twin.region.patch import replace, wrap
from twin.region.region import Region
from twin.region.timestamps import epoch, moment

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
_PAST, _FUTURE = 14 * 86400, 2 * 3600
_PAGE = 500  # metrics in one answer of ListMetrics
_MAX_DATAPOINTS = 1440  # in one answer of GetMetricStatistics


def aligned(start: float, period: int) -> int:
    """Where a query begins: at a whole minute, or at the division of a minute that a shorter period asks for."""
    step = period if period < STANDARD else STANDARD
    return int(start) // step * step


def install(region: Region) -> None:
    def take(namespace: str, name: str, dimensions: dict[str, str], value: float, unit: str) -> None:
        sample = Aggregate()
        sample.add(float(value))
        store_of(region.backend("cloudwatch")).put(key(namespace, name, dimensions, unit), time.time(), sample)

    region.on_metric.append(take)
    _install_writing()
    _install_reading()
    cloudwatch_alarms.install(region)


def _install_writing() -> None:
    @replace(models.CloudWatchBackend, "put_metric_data")
    def put_metric_data(self: Any, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        now = time.time()
        for number, datum in enumerate(metric_data, 1):
            self._validate_parameters_put_metric_data(datum, number)
            at = epoch(datum["Timestamp"]) if datum.get("Timestamp") else now
            if not now - _PAST <= at <= now + _FUTURE:
                raise InvalidParameterValue(
                    f"The parameter MetricData.member.{number}.Timestamp must specify a time no more than two weeks in the past"
                    " or two hours in the future."
                )
            dimensions = {entry["Name"]: entry["Value"] for entry in datum.get("Dimensions") or []}
            resolution = HIGH if int(datum.get("StorageResolution") or STANDARD) == HIGH else STANDARD
            metric = key(namespace, datum["MetricName"], dimensions, datum.get("Unit") or "None")
            store_of(self).put(metric, at, _sample(datum, number), resolution)


def _sample(datum: dict[str, Any], number: int) -> Aggregate:
    sample = Aggregate()
    if datum.get("Values"):
        values = [float(value) for value in datum["Values"]]
        for value, count in zip(values, datum.get("Counts") or [1.0] * len(values), strict=True):
            sample.add(value, float(count))
    elif datum.get("StatisticValues"):
        given = {name: float(value) for name, value in datum["StatisticValues"].items()}
        low, high, count = given["Minimum"], given["Maximum"], given["SampleCount"]
        sample = Aggregate(count, given["Sum"], low, high, {low: count} if low == high else None)
    else:
        sample.add(float(datum.get("Value") or 0.0))
    if not math.isfinite(sample.total):
        raise InvalidParameterValue(f"The value {sample.total} for parameter MetricData.member.{number}.Value is invalid.")
    return sample


def _install_reading() -> None:
    @replace(models.CloudWatchBackend, "get_metric_data")
    def get_metric_data(self: Any, queries: list[Query], start_time: Any, end_time: Any, scan_by: str = "") -> list[Any]:
        start, end = epoch(start_time), epoch(end_time)
        if start >= end:
            words = "must not equal parameter EndTime" if start == end else "must be less than the parameter EndTime"
            raise ValidationError(f"The parameter StartTime {words}.")
        _check_queries(queries)
        period = period_of(queries)
        try:
            series = run(store_of(self), queries, aligned(start, period), end)
        except InvalidExpression as error:
            raise ValidationError(f"Error in expression: {error}") from None
        answers = []
        for query in queries:
            if query.get("ReturnData") is False or str(query.get("ReturnData")).lower() == "false":
                continue
            points = sorted(series[query["Id"]].items(), reverse=scan_by != "TimestampAscending")
            stat = query.get("MetricStat")
            answer: dict[str, Any] = {"id": query["Id"], "status_code": "Complete"}
            answer["label"] = query.get("Label") or (stat["Metric"]["MetricName"] if stat else query["Id"])
            answer["values"] = [value for _, value in points]
            answer["timestamps"] = [moment(at) for at, _ in points]
            answers.append(answer)
        return answers

    @replace(responses.CloudWatchResponse, "get_metric_statistics")
    def get_metric_statistics(self: Any) -> Any:
        statistics, extended = self._get_param("Statistics") or [], self._get_param("ExtendedStatistics") or []
        if not statistics and not extended:
            raise InvalidParameterCombination("Must specify either Statistics or ExtendedStatistics")
        for name in extended:
            if not is_percentile(name):
                raise InvalidParameterValue(f"The value {name} for parameter ExtendedStatistics is not supported by the twin.")
        start, end = epoch(self._get_param("StartTime")), epoch(self._get_param("EndTime"))
        if start >= end:
            raise InvalidParameterValue("The parameter StartTime must be less than the parameter EndTime.")
        period = int(self._get_param("Period"))
        if (end - start) / period > _MAX_DATAPOINTS:
            raise InvalidParameterCombination(
                f"You have requested up to {math.ceil((end - start) / period)} datapoints, which exceeds the limit of "
                f"{_MAX_DATAPOINTS}. You may reduce the datapoints requested by increasing Period, or decreasing the time range."
            )
        dimensions = {entry["Name"]: entry["Value"] for entry in self._get_param("Dimensions") or []}
        metric = key(self._get_param("Namespace"), self._get_param("MetricName"), dimensions)
        kept, unit = store_of(self.cloudwatch_backend), self._get_param("Unit")
        points = []
        for each in [unit] if unit else kept.units(metric):  # every unit of the metric is a series of its own
            for at, sample in kept.query(metric, aligned(start, period), end, period, each).items():
                point: dict[str, Any] = {"Timestamp": moment(at), "Unit": each}
                point |= {name: sample.statistic(name) for name in statistics}
                if extended:
                    values = {name: sample.statistic(name) for name in extended}
                    point["ExtendedStatistics"] = {name: value for name, value in values.items() if value is not None}
                points.append(point)
        return ActionResult({"Label": metric.name, "Datapoints": points})

    @wrap(models.CloudWatchBackend, "get_all_metrics")
    def get_all_metrics(original: Any, self: Any) -> list[Any]:
        """For ListMetrics and moto's own uses: each metric of the store once, and the daily ones that moto makes up for S3."""
        return [_listed(metric) for metric in store_of(self).metrics()] + list(self.aws_metric_data)

    @replace(models.CloudWatchBackend, "list_metrics")
    def list_metrics(
        self: Any, next_token: str | None, namespace: str, metric_name: str, dimensions: Any
    ) -> tuple[Any, list[Any]]:
        start = int(next_token) if next_token and next_token.isdigit() else 0
        if next_token and not start:
            raise InvalidParameterValue("Request parameter NextToken is invalid")
        seen, found = set(), []
        for listed in self.get_all_metrics():
            name = (listed.namespace, listed.name, tuple((entry.name, entry.value) for entry in listed.dimensions))
            if name not in seen and listed.filter(namespace, metric_name, dimensions):
                seen.add(name)
                found.append(listed)
        return str(start + _PAGE) if len(found) > start + _PAGE else None, found[start : start + _PAGE]


def _listed(metric: MetricKey) -> Any:
    dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions]
    return models.MetricDatumBase(metric.namespace, metric.name, dimensions, utcnow())


def _check_queries(queries: list[Query]) -> None:
    seen = set()
    for query in queries:
        if query["Id"] in seen:
            raise ValidationError(f"The values for parameter id in MetricDataQueries are not unique: {query['Id']}.")
        seen.add(query["Id"])
        stat = query.get("MetricStat")
        if stat and not is_statistic(stat["Stat"]):
            raise ValidationError(f"The statistic {stat['Stat']} is not supported by the twin.")
