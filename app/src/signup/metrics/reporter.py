"""Reports a process's metrics once a period, in a thread of its own."""

from __future__ import annotations

import logging
import threading

from signup.database import pool_of
from signup.metrics.emf import Metric, emit
from signup.metrics.requests import RequestMetrics
from signup.services import Services

log = logging.getLogger(__name__)


def report(services: Services, requests: RequestMetrics) -> None:
    """Write what was measured since the last time."""
    namespace = services.settings.metrics_namespace
    requests.report(namespace)
    pool, hasher = pool_of(services.engine), services.hasher
    emit(
        namespace,
        [
            Metric("DatabasePoolSize", "Count", pool.limit),
            Metric("DatabasePoolCheckedOut", "Count", pool.take_most()),
            Metric("DatabasePoolWaits", "Count", pool.waits.take()),
            Metric("HashesBusy", "Count", hasher.busy.take()),
            Metric("HashesWaiting", "Count", hasher.waiting.take()),
            Metric("HashesRefused", "Count", hasher.refused.take()),
        ],
    )


class Reporter:
    """Reports every `metrics_seconds`, and a last time when it is closed."""

    def __init__(self, services: Services, requests: RequestMetrics) -> None:
        self._services, self._requests = services, requests
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin; call it after a fork, since threads don't outlive one."""
        self._thread.start()

    def close(self) -> None:
        """Report what is left, and end."""
        self._closing.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._closing.wait(self._services.settings.metrics_seconds):
            self._report()
        self._report()

    def _report(self) -> None:
        try:
            report(self._services, self._requests)
        except Exception:
            # What is not measured must not stop what is.
            log.exception("metrics were not reported")
