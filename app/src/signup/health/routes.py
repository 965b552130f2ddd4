"""Health endpoints."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from signup.health.service import NotReady, check
from signup.problems import problem
from signup.services import services

blueprint = Blueprint("health", __name__)  # overload.py lets this name pass

RETRY_AFTER_SECONDS = 5


@blueprint.get("/livez")
def livez() -> Response:
    """The process answers; says nothing of the database."""
    return jsonify(status="live")


@blueprint.get("/readyz")
def readyz() -> Response:
    """The database can be reached now and its schema is current: for people and alarms, not for load balancers."""
    try:
        revision = check(services())
    except NotReady as error:
        return problem(503, str(error), retry_after=RETRY_AFTER_SECONDS)
    return jsonify(status="ready", database="reachable", schema=revision)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Sticky readiness, the load balancer's check: 503 until the instance was ready once, 200 from then on.

    A release that can't work never enters service, and a database outage never makes the Auto Scaling group replace
    instances that nothing is wrong with.
    """
    if not services().latch.is_set():
        try:
            check(services())
        except NotReady as error:
            return problem(503, str(error), retry_after=RETRY_AFTER_SECONDS)
    return jsonify(status="healthy")
