"""Times as the APIs give and take them, and as seconds since 1970, which the twin counts in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def epoch(value: Any) -> float:
    """Seconds since 1970 of a datetime (naive means UTC), of AWS's ISO text, or of seconds."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return float((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def moment(seconds: float) -> datetime:
    """The naive UTC datetime that moto's answers are made from."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def stamp(seconds: float) -> str:
    """As CloudWatch writes times into its messages: 2019-10-02T17:04:40.989+0000."""
    return f"{moment(seconds):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "+0000"


def zulu(seconds: float) -> str:
    """As in events and activities: 2019-10-02T17:04:40Z."""
    return f"{moment(seconds):%Y-%m-%dT%H:%M:%SZ}"
