"""Load shedding: whatever requests wait for, health checks find a free thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from signup.problems import problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

RESERVED_THREADS = 4
"""Threads of a worker kept for health checks and for turning requests away."""
PLACE = "signup.place"


class Answer:
    """An answer's pieces; its place is free when all are sent, or nobody takes them any more."""

    def __init__(self, pieces: Iterable[bytes], environ: WSGIEnvironment) -> None:
        self._pieces, self._environ = pieces, environ

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        """What WSGI servers call in the end, whatever that is."""
        try:
            if hasattr(self._pieces, "close"):
                self._pieces.close()
        finally:
            _leave(self._environ)


def init_app(app: Flask, threads: int) -> None:
    """Answer 503 to requests that would take one of the worker's reserved threads.

    When the database hangs, every request hangs with it for seconds. Without this they would take all threads, the
    load balancer's checks would time out, and the Auto Scaling group would replace a fleet that nothing is wrong with.
    A thread is taken until the answer is sent, which Flask's own teardown comes before.
    """
    places = threading.BoundedSemaphore(threads - RESERVED_THREADS)
    answer_of = app.wsgi_app

    @app.before_request
    def enter() -> Response | None:
        if request.blueprint == "health":
            return None
        if not places.acquire(blocking=False):
            return problem(503, "This server is busy. Try again in a moment.", retry_after=1)
        request.environ[PLACE] = places
        return None

    def answered(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return Answer(answer_of(environ, start_response), environ)
        except BaseException:
            _leave(environ)
            raise

    app.wsgi_app = answered  # type: ignore[method-assign]


def _leave(environ: WSGIEnvironment) -> None:
    place = environ.pop(PLACE, None)
    if place is not None:
        place.release()
