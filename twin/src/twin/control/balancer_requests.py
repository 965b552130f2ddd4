"""What HAProxy's lines about requests become: CloudWatch's metrics each second, and access logs in S3."""

from __future__ import annotations

import time
from typing import Any

from twin.bodies.haproxy_log import Request
from twin.control.access_logs import AccessLogs
from twin.control.balancer_config import backend_name, frontend_name, target_of
from twin.control.balancer_metrics import Metrics
from twin.control.loadbalancers import LoadBalancers
from twin.control.loop import Loop
from twin.region.region import Region
from twin.region.target_health import instances, zone_of


class Requests(Loop):
    """Reads what HAProxy has written since the last round."""

    period = 1.0

    def __init__(self, region: Region) -> None:
        super().__init__()
        self.region = region
        self.metrics = Metrics(region)
        self.logs = AccessLogs(region)
        self._started = time.time()

    def tick(self) -> None:
        balancers: Any = self.region.loops["LoadBalancers"]
        self._read(balancers)
        self.metrics.publish(balancers)
        self.logs.publish()

    def end(self) -> None:
        super().end()
        self.logs.publish(everything=True)

    def _read(self, balancers: LoadBalancers) -> None:
        read: list[Request] = []
        for body in list(balancers.bodies.values()):
            read += body.requests.read()
        if not read:
            return
        with self.region.records():
            elbv2 = self.region.backend("elbv2")
            listeners = {
                frontend_name(listener.arn): (balancer, listener)
                for balancer in elbv2.load_balancers.values()
                for listener in balancer.listeners.values()
            }
            groups = {backend_name(group.arn): group for group in elbv2.target_groups.values()}
            known = instances(self.region)
            zones: dict[tuple[str, str], str | None] = {}
            for request in read:
                if request.frontend not in listeners:
                    continue  # its listener is gone
                group = groups.get(request.backend)
                zone = None
                if group is not None and request["server"]:
                    key = (request.backend, request["server"])
                    if key not in zones:
                        zones[key] = zone_of(self.region, group, target_of(request["server"])[0], known)
                    zone = zones[key]
                balancer, listener = listeners[request.frontend]
                # What a twin before this one left unread is worth a log entry, but is not of now.
                if request.ended >= self._started - 1:
                    self.metrics.count(request, balancer, group, zone)
                self.logs.add(request, balancer, listener, group)
