"""Zonal shifts of Application Recovery Controller, which moto lacks: load balancers send nothing more to a zone, for a while.

https://docs.aws.amazon.com/arc-zonal-shift/latest/api/API_StartZonalShift.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/zonal-shift.html
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, unquote

from twin.region.region import Region

SERVICE = "arc-zonal-shift"
LONGEST_SECONDS = 72 * 3600
_PATHS = ("/zonalshifts", "/managedresources", "/autoshift", "/configuration", "/practiceruns")
Answer = tuple[int, dict[str, Any]]


@dataclass
class ZonalShift:
    """Times in seconds since 1970. `canceled` is whether someone ended it before its time."""

    id: str
    resource: str
    away_from: str
    comment: str
    started: float
    expires: float
    canceled: bool = False

    @property
    def status(self) -> str:
        return "CANCELED" if self.canceled else "ACTIVE" if time.time() < self.expires else "EXPIRED"

    def described(self) -> dict[str, Any]:
        return {
            "zonalShiftId": self.id,
            "resourceIdentifier": self.resource,
            "awayFrom": self.away_from,
            "comment": self.comment,
            "startTime": self.started,
            "expiryTime": self.expires,
            "status": self.status,
        }


class ZonalShiftError(Exception):
    """An answer that is an error of the API."""

    def __init__(self, status: int, code: str, message: str, reason: str = "", **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.body = {"message": message, **({"reason": reason} if reason else {}), **more}


def shifts_of(balancer: Any) -> list[ZonalShift]:
    """The load balancer's zonal shifts, past ones too; they are on its record."""
    return cast("list[ZonalShift]", vars(balancer).setdefault("zonal_shifts", []))


def shifted_zone(balancer: Any) -> str | None:
    """The name of the zone that requests are shifted away from."""
    return next((shift.away_from for shift in shifts_of(balancer) if shift.status == "ACTIVE"), None)


def install(region: Region) -> None:
    api = _Api(region)

    def route(environ: dict[str, Any]) -> Any | None:
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if f"/{SERVICE}/aws4_request" in authorization and environ.get("PATH_INFO", "").startswith(_PATHS):
            return api
        return None

    region.routes.append(route)


class _Api:
    """The service as a WSGI application; only records change, so the region's lock is held throughout."""

    def __init__(self, region: Region) -> None:
        self.region = region

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            size = int(environ.get("CONTENT_LENGTH") or 0)
            try:
                body = json.loads(environ["wsgi.input"].read(size) or b"{}") if size else {}
            except ValueError:
                raise ZonalShiftError(400, "ValidationException", "The request body is not valid JSON", "MissingValue") from None
            with self.region.records():
                status, answer = self._answer(environ, body)
            headers = []
        except ZonalShiftError as error:
            status, answer = error.status, error.body
            headers = [("x-amzn-ErrorType", error.code)]
        words = {200: "OK", 201: "Created"}.get(status, "Error")
        start_response(f"{status} {words}", [("Content-Type", "application/json"), *headers])
        return [json.dumps(answer).encode()]

    def _answer(self, environ: dict[str, Any], body: dict[str, Any]) -> Answer:
        method = environ["REQUEST_METHOD"]
        # The path as it was sent: an ARN in it has slashes of its own.
        path = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"]).split("?")[0]
        kind, _, identifier = path.removeprefix("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        wanted = (method, kind, bool(identifier))
        if wanted == ("POST", "zonalshifts", False):
            return 201, self._start(body).described()
        if wanted == ("GET", "zonalshifts", False):
            return 200, self._list(query)
        if wanted == ("PATCH", "zonalshifts", True):
            return 200, self._update(unquote(identifier), body).described()
        if wanted == ("DELETE", "zonalshifts", True):
            shift = self._active(unquote(identifier))
            shift.canceled = True
            self.region.wake("LoadBalancers")
            return 200, shift.described()
        if wanted == ("GET", "managedresources", True):
            return 200, self._described(self._balancer(unquote(identifier)))
        if wanted == ("GET", "managedresources", False):
            return 200, {"items": [self._summary(balancer) for balancer in self._managed()]}
        raise ZonalShiftError(
            400,
            "ValidationException",
            "Practice runs and zonal autoshift are not supported by the twin",
            "AutoshiftUpdateNotAllowed",
        )

    def _managed(self) -> list[Any]:
        return [
            balancer
            for balancer in self.region.backend("elbv2").load_balancers.values()
            if balancer.attrs.get("zonal_shift.config.enabled") == "true"
        ]

    def _balancer(self, arn: str) -> Any:
        for balancer in self._managed():
            if balancer.arn == arn:
                return balancer
        raise ZonalShiftError(
            404, "ResourceNotFoundException", f"The resource {arn} was not found or is not enabled for zonal shift"
        )

    def _zones(self, balancer: Any) -> dict[str, str]:
        """Names of the load balancer's zones, by id."""
        return {self.region.subnet(subnet.id).availability_zone_id: subnet.availability_zone for subnet in balancer.subnets}

    def _start(self, body: dict[str, Any]) -> ZonalShift:
        for name in ("resourceIdentifier", "awayFrom", "expiresIn", "comment"):
            if not isinstance(body.get(name), str):
                raise ZonalShiftError(400, "ValidationException", f"{name} is required", "MissingValue")
        balancer = self._balancer(body["resourceIdentifier"])
        zones = self._zones(balancer)
        away_from = body["awayFrom"]
        if zones.get(away_from, away_from) not in zones.values():
            raise ZonalShiftError(
                400, "ValidationException", f"The resource is not in the Availability Zone {away_from}", "InvalidAz"
            )
        active = [shift for shift in shifts_of(balancer) if shift.status == "ACTIVE"]
        if active:
            raise ZonalShiftError(
                409,
                "ConflictException",
                "There's already an active zonal shift for that resource identifier",
                "ZonalShiftAlreadyExists",
                zonalShiftId=active[0].id,
            )
        now = time.time()
        shift = ZonalShift(
            str(uuid.uuid4()),
            balancer.arn,
            zones.get(away_from, away_from),
            _comment(body["comment"]),
            now,
            now + _seconds(body["expiresIn"]),
        )
        shifts_of(balancer).append(shift)
        self.region.wake("LoadBalancers")
        return shift

    def _update(self, shift_id: str, body: dict[str, Any]) -> ZonalShift:
        shift = self._active(shift_id)
        if body.get("comment") is not None:
            shift.comment = _comment(body["comment"])
        if body.get("expiresIn") is not None:
            shift.expires = time.time() + _seconds(body["expiresIn"])
        return shift

    def _all(self) -> list[ZonalShift]:
        return [shift for balancer in self.region.backend("elbv2").load_balancers.values() for shift in shifts_of(balancer)]

    def _active(self, shift_id: str) -> ZonalShift:
        for shift in self._all():
            if shift.id == shift_id:
                if shift.status != "ACTIVE":
                    raise ZonalShiftError(
                        409,
                        "ConflictException",
                        "Can't change a zonal shift that is not active",
                        "ZonalShiftStatusNotActive",
                        zonalShiftId=shift_id,
                    )
                return shift
        raise ZonalShiftError(404, "ResourceNotFoundException", f"There's no zonal shift with the id {shift_id}")

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        status, resource = query.get("status"), query.get("resourceIdentifier")
        if status not in (None, "ACTIVE", "EXPIRED", "CANCELED"):
            raise ZonalShiftError(400, "ValidationException", f"{status} is no status of zonal shifts", "InvalidStatus")
        found = [
            shift.described()
            for shift in sorted(self._all(), key=lambda shift: -shift.started)
            if status in (None, shift.status) and resource in (None, shift.resource)
        ]
        try:
            start, size = int(query.get("nextToken", "0")), int(query.get("maxResults", "100"))
        except ValueError:
            raise ZonalShiftError(400, "ValidationException", "The token is not valid", "InvalidToken") from None
        rest = {"nextToken": str(start + size)} if start + size < len(found) else {}
        return {"items": found[start : start + size], **rest}

    def _described(self, balancer: Any) -> dict[str, Any]:
        away = shifted_zone(balancer)
        return {
            "arn": balancer.arn,
            "name": balancer.name,
            "appliedWeights": {zone_id: 0.0 if name == away else 1.0 for zone_id, name in self._zones(balancer).items()},
            "zonalShifts": [
                {**{name: value for name, value in shift.described().items() if name != "status"}, "appliedStatus": "APPLIED"}
                for shift in shifts_of(balancer)
                if shift.status == "ACTIVE"
            ],
            "autoshifts": [],
            "zonalAutoshiftStatus": "DISABLED",
        }

    def _summary(self, balancer: Any) -> dict[str, Any]:
        return {**self._described(balancer), "availabilityZones": list(self._zones(balancer))}


def _comment(comment: Any) -> str:
    if not isinstance(comment, str) or len(comment) > 128:
        raise ZonalShiftError(400, "ValidationException", "comment must have 128 characters at most", "MissingValue")
    return comment


def _seconds(expires_in: Any) -> int:
    """How long "5m" or "2h" is, between a minute and three days."""
    found = re.fullmatch(r"([1-9][0-9]*)([mh])", str(expires_in))
    seconds = int(found.group(1)) * {"m": 60, "h": 3600}[found.group(2)] if found else 0
    if not 60 <= seconds <= LONGEST_SECONDS:
        raise ZonalShiftError(
            400, "ValidationException", f"expiresIn {expires_in!r} must be between 1 minute and 72 hours", "InvalidExpiresIn"
        )
    return seconds
