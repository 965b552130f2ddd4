"""Structured logs: one JSON object a line, to stdout."""

from __future__ import annotations

import json
import logging
import logging.config
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from signup.ids import rfc3339

MAX_FRAMES = 20

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered. Not Flask's `g`: commands log too, and start sooner without Flask."""


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON; `extra={"fields": {...}}` adds members.

    An exception is logged as its type and frames, never its message: messages of databases and parsers quote the
    input, which may be an address, a password or a token.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        entry: dict[str, Any] = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            entry["request_id"] = request_id
        entry.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            entry["exception"] = _exception(record.exc_info[1], record.exc_info[2])
        return json.dumps(entry, default=str)


def _exception(error: BaseException, trace: TracebackType | None) -> dict[str, Any]:
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
    described: dict[str, Any] = {"type": type_name(error), "frames": frames[-MAX_FRAMES:]}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        described["cause"] = type_name(cause)
    return described


def type_name(error: BaseException) -> str:
    """The qualified name of an exception's class."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def logging_config(level: str) -> dict[str, Any]:
    """A `logging.config.dictConfig` dictionary that sends everything, gunicorn's loggers included, to stdout."""
    stdout = {"handlers": ["stdout"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
        "root": {"level": "WARNING", "handlers": ["stdout"]},
        "loggers": {
            "signup": {"level": level, **stdout},
            "signup.metrics": {"level": "INFO", **stdout},  # metrics, whatever of the log is wanted
            "gunicorn.error": {"level": "INFO", **stdout},
            "gunicorn.access": {"level": level, **stdout},
        },
    }


def configure(level: str) -> None:
    """Set up logging for a command."""
    logging.config.dictConfig(logging_config(level))
