"""Access logs of load balancers in S3: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html"""

from __future__ import annotations

import gzip
import logging
import random
import string
from datetime import UTC, datetime
from typing import Any

from moto.core.exceptions import ServiceException

from twin.bodies.haproxy_log import Request
from twin.region.acm import find_certificate
from twin.region.elb_interfaces import interfaces_of
from twin.region.elbv2_logs import folder
from twin.region.region import Region

log = logging.getLogger(__name__)

PUBLISH_SECONDS = 30  # AWS: 5 minutes
MOST_ENTRIES = 200_000  # that wait for publication


class AccessLogs:
    """Entries that wait to be published, by load balancer."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._entries: dict[str, list[str]] = {}
        self._due = region.clock() + PUBLISH_SECONDS

    def add(self, request: Request, balancer: Any, listener: Any, group: Any | None) -> None:
        """Note a request, if its load balancer has access logs. Call with the region's lock."""
        if balancer.attrs["access_logs.s3.enabled"] != "true":
            return
        entries = self._entries.setdefault(balancer.arn, [])
        if len(entries) < MOST_ENTRIES:
            certificate = self._certificate(listener, request["certificate"]) if request["certificate"] else "-"
            entries.append(entry(request, balancer, group.arn if group else "-", certificate))

    def _certificate(self, listener: Any, fingerprint: str) -> str:
        for arn in listener.certificates:
            material = find_certificate(self.region, arn)
            if material is not None and material.fingerprint == fingerprint:
                return str(arn)
        return "-"

    def publish(self, everything: bool = False) -> None:
        """Write an object for each load balancer with new entries, when it is time or `everything` is wanted."""
        if not everything and self.region.clock() < self._due:
            return
        self._due = self.region.clock() + PUBLISH_SECONDS
        entries, self._entries = self._entries, {}
        now = datetime.now(UTC)
        for arn, lines in entries.items():
            body = gzip.compress("".join(f"{line}\n" for line in lines).encode())
            with self.region.records():
                balancer = self.region.backend("elbv2").load_balancers.get(arn)
                if balancer is None or balancer.attrs["access_logs.s3.enabled"] != "true":
                    continue
                try:
                    self.region.backend("s3").put_object(
                        balancer.attrs["access_logs.s3.bucket"], object_key(self.region, balancer, now), body
                    )
                except ServiceException as error:
                    log.warning("access logs of %s are lost: %s", balancer.name, error)


def object_key(region: Region, balancer: Any, ended: datetime) -> str:
    name = balancer.arn.split("loadbalancer/")[1].replace("/", ".")
    node = next(iter(interfaces_of(balancer).values()))
    chance = "".join(random.choices(string.ascii_lowercase + string.digits, k=8))  # noqa: S311 (a name, no secret)
    settings = region.settings
    where = f"{folder(region, balancer.attrs)}/elasticloadbalancing/{settings.region}/{ended:%Y/%m/%d}"
    what = f"{settings.account_id}_elasticloadbalancing_{settings.region}_{name}"
    return f"{where}/{what}_{ended:%Y%m%dT%H%MZ}_{node.private_ip_address}_{chance}.log.gz"


def entry(request: Request, balancer: Any, target_group_arn: str, certificate_arn: str) -> str:
    """The request as a line of AWS's format, fields in its order; "-" or -1 for what there was not."""
    secure = bool(request["protocol"])
    version = "2" if request["alpn"] == "h2" else request["version"].removeprefix("HTTP/")
    kind = "h2" if request["alpn"] == "h2" else "https" if secure else "http"
    if request["upgrade"].lower() == "websocket" and request.target_status == 101:
        kind = "wss" if secure else "ws"
    host = request["host"]
    # Whether a port was named or not, the log has one.
    name = host if ":" in host.rpartition("]")[2] else f"{host}:{request['port']}"
    uri = request["uri"]
    url = uri if "://" in uri else f"{'https' if secure else 'http'}://{name}{uri}"
    asked = f"{request['method']} {url} HTTP/{version}" if request["method"] else "- - -"
    answered = request.target if request.target_status else ""
    ended = datetime.fromtimestamp(request.ended, UTC)
    started = datetime.fromtimestamp(request.ended - max(int(request["total"] or 0), 0) / 1000, UTC)
    seen = (
        kind,
        f"{ended:%Y-%m-%dT%H:%M:%S.%fZ}",
        balancer.arn.split("loadbalancer/")[1],
        request.client or "-",
        request.target or "-",
        _seconds(request.waiting if request.target and request.target_status else -1),
        _seconds(request.responding if request.target_status else -1),
        _seconds(0 if request.target_status else -1),
        str(request.status or "-"),
        str(request.target_status or "-"),
        str(request.received),
        str(request.sent),
        _quoted(asked),
        _quoted(request["agent"]),
        request["cipher"] or "-",
        request["protocol"] or "-",
        target_group_arn,
        _quoted(request["trace"]),
        _quoted(request["server_name"]),
        _quoted(certificate_arn),
        request["priority"] or "-",
        f"{started:%Y-%m-%dT%H:%M:%S.%fZ}",
        _quoted(request["action"]),
        _quoted(request["location"]),
        _quoted(""),  # the reasons why a Lambda function or an authentication failed
        _quoted(request.target),
        _quoted(str(request.target_status) if answered else ""),
        _quoted(""),  # classification and its reason: HAProxy refuses what is ambiguous
        _quoted(""),
        f"TID_{request['connection']}" if request["connection"] else "-",
        _quoted(""),  # what a transform made of host and path, and its outcome
        _quoted(""),
        _quoted(""),
    )
    return " ".join(seen)


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value >= 0 else "-1"


def _quoted(text: str) -> str:
    escaped = "".join(
        f"\\x{ord(character):02X}" if character in '"\\' or not character.isprintable() else character for character in text
    )
    return f'"{escaped or "-"}"'
