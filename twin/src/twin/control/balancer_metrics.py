"""Application Load Balancers' metrics: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html

Counts are published as sums, response times one by one, but not more than a few for each target group and second.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twin.bodies.haproxy_log import Request
from twin.control.balancer_config import frontend_name
from twin.region.region import Region
from twin.region.target_health import health_of, instances, load_balancers_of, zone_of

if TYPE_CHECKING:
    from twin.control.loadbalancers import LoadBalancers

NAMESPACE = "AWS/ApplicationELB"
HOSTS_EVERY_SECONDS = 5  # or when they change
MOST_TIMES = 20  # response times a round, for each set of dimensions

Dimensions = tuple[tuple[str, str], ...]


class Metrics:
    """Counts between two publications."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._sums: Counter[tuple[str, Dimensions, str]] = Counter()
        self._times: dict[Dimensions, list[float]] = {}
        self._hosts: dict[Dimensions, tuple[int, int]] = {}
        self._hosts_due = 0.0

    def count(self, request: Request, balancer: Any, group: Any | None, zone: str | None) -> None:
        """Take in a request; `group` and `zone` are those of its target, if one was chosen."""
        whole = _dimensions(LoadBalancer=_full_name(balancer.arn))
        sets = [whole]
        if zone:
            sets.append(_dimensions(LoadBalancer=_full_name(balancer.arn), AvailabilityZone=zone))
        chosen = []
        if group is not None:
            named = {"LoadBalancer": _full_name(balancer.arn), "TargetGroup": _group_name(group.arn)}
            chosen = [_dimensions(**named), *([_dimensions(**named, AvailabilityZone=zone)] if zone else [])]
        for each in sets:
            self._add("ProcessedBytes", each, request.received + request.sent, "Bytes")
            if request.target:
                self._add("RequestCount", each)
            if not request.target_status and request.status >= 300:
                self._add(f"HTTPCode_ELB_{request.status // 100}XX_Count", each)
                if request.status in (500, 502, 503, 504):
                    self._add(f"HTTPCode_ELB_{request.status}_Count", each)
            if request["action"] == "redirect":
                self._add("HTTP_Redirect_Count", each)
            if request["action"] == "fixed-response":
                self._add("HTTP_Fixed_Response_Count", each)
        for each in chosen:
            self._add("RequestCount", each)
        for each in [*sets, *chosen]:
            if request.target_status:
                self._add(f"HTTPCode_Target_{request.target_status // 100}XX_Count", each)
            if request.connection_failed:
                self._add("TargetConnectionErrorCount", each)
            if request.responding >= 0 and request.target_status:
                self._times.setdefault(each, []).append(request.responding)

    def _add(self, name: str, dimensions: Dimensions, value: int = 1, unit: str = "Count") -> None:
        self._sums[name, dimensions, unit] += value

    def publish(self, balancers: LoadBalancers) -> None:
        """Give CloudWatch what has come together, and how many hosts there are."""
        sums, self._sums = self._sums, Counter()
        times, self._times = self._times, {}
        with self.region.records():
            for (name, dimensions, unit), total in sums.items():
                self._put(name, dimensions, total, unit)
            for dimensions, values in times.items():
                for value in sample(values, MOST_TIMES):
                    self._put("TargetResponseTime", dimensions, value, "Seconds")
            hosts = self._count_hosts(balancers, sums)
            now = self.region.clock()
            due = now >= self._hosts_due
            for dimensions, (healthy, unhealthy) in hosts.items():
                if due or self._hosts.get(dimensions) != (healthy, unhealthy):
                    self._put("HealthyHostCount", dimensions, healthy, "Count")
                    self._put("UnHealthyHostCount", dimensions, unhealthy, "Count")
            self._hosts = hosts
            if due:
                self._hosts_due = now + HOSTS_EVERY_SECONDS
                for balancer in self.region.backend("elbv2").load_balancers.values():
                    names = [frontend_name(listener.arn) for listener in balancer.listeners.values()]
                    active = sum(balancers.connections.get(name, 0) for name in names)
                    self._put("ActiveConnectionCount", _dimensions(LoadBalancer=_full_name(balancer.arn)), active, "Count")

    def _count_hosts(
        self, balancers: LoadBalancers, sums: Counter[tuple[str, Dimensions, str]]
    ) -> dict[Dimensions, tuple[int, int]]:
        """Healthy and unhealthy targets of each target group, in all and by zone; publishes requests per target besides."""
        found: dict[Dimensions, tuple[int, int]] = {}
        elbv2 = self.region.backend("elbv2")
        known = instances(self.region)
        for group in elbv2.target_groups.values():
            for balancer in load_balancers_of(elbv2, group.arn):
                named = {"LoadBalancer": _full_name(balancer.arn), "TargetGroup": _group_name(group.arn)}
                states = health_of(self.region, group)
                by_zone = {subnet.availability_zone: (0, 0) for subnet in balancer.subnets}
                for (target_id, _), health in states.items():
                    zone = zone_of(self.region, group, target_id, known)
                    if zone in by_zone:
                        healthy, unhealthy = by_zone[zone]
                        by_zone[zone] = (healthy + (health.state == "healthy"), unhealthy + (health.state == "unhealthy"))
                for zone, counts in by_zone.items():
                    found[_dimensions(**named, AvailabilityZone=zone)] = counts
                healthy = sum(health.state == "healthy" for health in states.values())
                whole = _dimensions(**named)
                found[whole] = (healthy, sum(health.state == "unhealthy" for health in states.values()))
                requests = sums.get(("RequestCount", whole, "Count"), 0)
                if requests:
                    for each in (_dimensions(TargetGroup=named["TargetGroup"]), whole):
                        self._put("RequestCountPerTarget", each, requests / max(healthy, 1), "Count")
        return found

    def _put(self, name: str, dimensions: Dimensions, value: float, unit: str) -> None:
        self.region.metric(NAMESPACE, name, dict(dimensions), value, unit)


def sample(values: list[float], most: int) -> list[float]:
    """At most `most` of the values, evenly over their order of size, the smallest and the largest among them."""
    if len(values) <= most:
        return values
    ordered = sorted(values)
    return [ordered[round(number * (len(ordered) - 1) / (most - 1))] for number in range(most)]


def _dimensions(**named: str) -> Dimensions:
    return tuple(sorted(named.items()))


def _full_name(load_balancer_arn: str) -> str:
    """As in "app/name/0123456789abcdef"."""
    return load_balancer_arn.split("loadbalancer/")[1]


def _group_name(target_group_arn: str) -> str:
    """As in "targetgroup/name/0123456789abcdef"."""
    return target_group_arn.split(":")[-1]
