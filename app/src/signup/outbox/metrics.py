"""Metrics of the outbox. Every publisher sees the whole of it: read the highest of what they report, not the sum."""

from __future__ import annotations

from sqlalchemy import Engine

from signup.metrics.emf import Metric, emit
from signup.metrics.values import Counter
from signup.outbox.repo import backlog


class OutboxMetrics:
    """Counts what this publisher does, and looks at what is left."""

    def __init__(self, namespace: str, seconds: float) -> None:
        self._namespace, self.seconds = namespace, seconds
        self.published, self.failed = Counter(), Counter()

    def report(self, engine: Engine) -> int:
        """Write a line; nothing is left of it to do. Raises one of DATABASE_DOWN."""
        with engine.connect() as connection:
            depth, oldest = backlog(connection)
        emit(
            self._namespace,
            [
                Metric("OutboxDepth", "Count", depth),
                Metric("OutboxOldestAge", "Seconds", round(oldest, 1)),
                Metric("OutboxPublished", "Count", self.published.take()),
                Metric("OutboxFailed", "Count", self.failed.take()),
            ],
        )
        return 0
