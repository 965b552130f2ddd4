"""The edge of the API: whatever goes wrong behind it, clients get an error of the service's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from twin.access import errors
from twin.access.failures import Failure, Kind
from twin.access.requests import Call

log = logging.getLogger(__name__)

# Keys that a DeleteObjects request may not delete; S3 says so for each, and deletes the others. In `environ["twin.denied"]`
# too, so that the request can be carried out again.
denied_objects: ContextVar[frozenset[str]] = ContextVar("denied_objects", default=frozenset())


class Guarded:
    """A WSGI application whose failures are errors of the service's own."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return guarded(self.app, environ, start_response)


def guarded(app: Callable[..., Iterable[bytes]], environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Run `app` to its end. Its exceptions and its HTML pages, which AWS's clients can't read, become errors they can."""
    denied_objects.set(frozenset(environ.get("twin.denied", ())))
    call: Call | None = environ.get("twin.call")
    answer: list[Any] = []
    body: list[bytes] = []
    failure: Failure | None = None

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        answer[:] = [status, headers]
        return body.append

    try:
        body.extend(app(environ, start))
    except NotImplementedError:
        failure = unsupported(call)
    except Exception:
        log.exception("%s:%s failed", call.prefix if call else "?", call.operation if call else environ.get("PATH_INFO"))
        failure = Failure(Kind.INTERNAL)
    if failure is None and _has_no_handler(answer, body, call):
        failure = unsupported(call)
    if failure is not None:
        return list(errors.answer(failure, call)(environ, start_response))
    start_response(*answer)
    return body


def unsupported(call: Call | None) -> Failure:
    return Failure(Kind.UNSUPPORTED, f"{call.operation if call else 'This operation'} is not supported by the twin.")


def _has_no_handler(answer: list[Any], body: list[bytes], call: Call | None) -> bool:
    """Whether moto has no handler for this path: Flask's page, or moto's empty 404."""
    status, headers = answer
    if int(status.split()[0]) not in (404, 405) or call is None or call.service == "s3":
        return False
    kind = next((value for name, value in headers if name.lower() == "content-type"), "")
    page = b"".join(body)
    return (kind.startswith("text/html") and page.lstrip()[:9].lower() == b"<!doctype") or not page
