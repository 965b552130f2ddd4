"""Metrics of the outbox. Every publisher sees the whole of it: read the highest of what they report, not the sum."""

from __future__ import annotations

import time

from sqlalchemy import Engine

from signup.metrics.emf import Metric, emit
from signup.metrics.values import Counter
from signup.outbox.repo import backlog


class OutboxMetrics:
    """Counts what this publisher does, and looks at what is left once a period."""

    def __init__(self, namespace: str, seconds: float) -> None:
        self._namespace, self._seconds = namespace, seconds
        self._next = time.monotonic()
        self.published, self.failed = Counter(), Counter()

    def report_if_due(self, engine: Engine) -> None:
        """Write a line if the period is over. Raises one of DATABASE_DOWN."""
        if time.monotonic() < self._next:
            return
        with engine.connect() as connection:
            depth, oldest = backlog(connection)
        self._next = time.monotonic() + self._seconds
        emit(
            self._namespace,
            [
                Metric("OutboxDepth", "Count", depth),
                Metric("OutboxOldestAge", "Seconds", round(oldest, 1)),
                Metric("OutboxPublished", "Count", self.published.take()),
                Metric("OutboxFailed", "Count", self.failed.take()),
            ],
        )
