"""gunicorn's logger with an access log in JSON."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

MAX_PATH = 200
PROBES = frozenset({"/livez", "/healthz"})


class AccessLogger(Logger):  # type: ignore[misc]
    """Logs a request without its query string (tokens), client address, headers or credentials."""

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        """Log one answered request; `duration_ms` is in milliseconds. Healthy probes are logged at DEBUG only."""
        status = int(str(resp.status).split(None, 1)[0])
        path = str(environ.get("PATH_INFO", ""))
        headers = {name.lower(): value for name, value in resp.headers}
        fields = {
            "method": environ.get("REQUEST_METHOD"),
            "path": loggable_path(path),
            "status": status,
            "bytes": getattr(resp, "sent", None),
            "duration_ms": round(request_time.total_seconds() * 1000, 1),
            "request_id": headers.get("x-request-id"),
        }
        log = self.access_log.debug if path in PROBES and status == 200 else self.access_log.info
        log("request", extra={"fields": fields})


def loggable_path(path: str) -> str:
    """A path cut to a bounded length, with any segment that looks like a mail address taken out."""
    return "/".join("[redacted]" if "@" in segment else segment for segment in path.split("/"))[:MAX_PATH]
