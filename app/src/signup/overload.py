"""Load shedding: whatever requests wait for, health checks find a free thread."""

from __future__ import annotations

import threading

from flask import Flask, Response, g, request

from signup.problems import problem

RESERVED_THREADS = 4
"""Threads of a worker kept for health checks and for turning requests away."""


def init_app(app: Flask, threads: int) -> None:
    """Answer 503 to requests that would take one of the worker's reserved threads.

    When the database hangs, every request hangs with it for seconds. Without this they would take all threads, the
    load balancer's checks would time out, and the Auto Scaling group would replace a fleet that nothing is wrong with.
    """
    places = threading.BoundedSemaphore(threads - RESERVED_THREADS)

    @app.before_request
    def enter() -> Response | None:
        if request.blueprint == "health":
            return None
        if not places.acquire(blocking=False):
            return problem(503, "This server is busy. Try again in a moment.", retry_after=1)
        g.place = places
        return None

    @app.teardown_request
    def leave(_error: BaseException | None) -> None:
        place = g.pop("place", None)
        if place is not None:
            place.release()
