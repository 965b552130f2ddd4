"""Requests and how long they take, by route, method and class of status."""

from __future__ import annotations

import threading
import time

from flask import Flask, Response, g, request

from signup.metrics.emf import Metric, emit
from signup.metrics.values import Distribution

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER = "other"
"""For paths and methods that are not the service's: whoever sends nonsense makes no metric of it."""
DIMENSIONS = ("Route", "Method", "StatusClass")

Key = tuple[str, str, str]


class RequestMetrics:
    """This process's requests since they were last reported."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies: dict[Key, Distribution] = {}

    def add(self, key: Key, seconds: float) -> None:
        """A request was answered."""
        with self._lock:
            self._latencies.setdefault(key, Distribution()).add(seconds * 1000)

    def report(self, namespace: str) -> None:
        """Write a line for each kind of request there was, and begin anew."""
        with self._lock:
            taken, self._latencies = self._latencies, {}
        for key, latencies in sorted(taken.items()):
            metrics = [
                Metric("Requests", "Count", latencies.count()),
                Metric("Latency", "Milliseconds", latencies.to_emf()),
            ]
            emit(namespace, metrics, dict(zip(DIMENSIONS, key, strict=True)), (DIMENSIONS, ("StatusClass",)))


def init_app(app: Flask) -> RequestMetrics:
    """Measure every request, from before the first handler to after the last; call it before all other `init_app`."""
    measured = RequestMetrics()

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()

    @app.after_request
    def end(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else OTHER
        method = request.method if request.method in METHODS else OTHER
        measured.add((route, method, f"{response.status_code // 100}xx"), time.monotonic() - g.began)
        return response

    return measured
