"""What can go wrong before a request reaches a service. `errors.py` gives each its code in each protocol."""

from __future__ import annotations

from enum import Enum, auto


class Kind(Enum):
    MISSING_TOKEN = auto()
    INCOMPLETE_SIGNATURE = auto()
    UNSUPPORTED_MECHANISM = auto()
    UNKNOWN_KEY = auto()
    BAD_TOKEN = auto()
    EXPIRED_TOKEN = auto()
    BAD_SIGNATURE = auto()
    CLOCK_SKEW = auto()
    WRONG_REGION = auto()
    EXPIRED_URL = auto()
    PAYLOAD_MISMATCH = auto()
    DENIED = auto()
    UNKNOWN_ACTION = auto()
    UNSUPPORTED = auto()
    MALFORMED = auto()
    TOO_LARGE = auto()
    INTERNAL = auto()
    # A code of the service's own, given with the failure.
    OWN = auto()


class Failure(Exception):
    """A refusal: its kind, and the words for the caller where the kind has none of its own."""

    def __init__(self, kind: Kind, message: str = "", code: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code
        self.status = status
