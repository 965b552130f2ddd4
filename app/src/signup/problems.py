"""Errors as RFC 9457 problem details, or as a page where a browser asked for one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, g, render_template, request
from gunicorn.http.errors import NoMoreData, ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from signup.clients.pictures import PicturesUnavailable
from signup.clients.tokens import TokensUnavailable
from signup.database import DATABASE_DOWN
from signup.logs import type_name
from signup.passwords import HashQueueFull
from signup.pictures.transfers import TransfersFull
from signup.slow_bodies import BodyTooSlow

KEPT_HEADERS = ("Allow", "WWW-Authenticate", "Retry-After")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of a request; an empty name stands for the whole body."""

    field: str
    detail: str


class InvalidFields(Exception):
    """A request whose fields can't be accepted."""

    def __init__(self, errors: list[FieldError], status: int = 422) -> None:
        super().__init__(", ".join(error.field for error in errors))
        self.errors = errors
        self.status = status


class Problem(Exception):
    """An error answer with a status and a sentence for the caller."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def wants_page() -> bool:
    """Whether a browser asks for a page or for what is nowhere; whoever accepts anything, as curl does, gets JSON."""
    if request.path.startswith("/v1/") or not (request.blueprint in (None, "web") or request.path == "/docs"):
        return False
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def title_of(status: int) -> str:
    """A status in words."""
    return HTTP_STATUS_CODES.get(status) or HTTPStatus(status).phrase


def problem_body(status: int, detail: str, request_id: str, errors: list[FieldError] | None = None) -> dict[str, Any]:
    """A problem's members (RFC 9457)."""
    body: dict[str, Any] = {"type": "about:blank", "title": title_of(status), "status": status, "detail": detail}
    if errors:
        body["errors"] = [{"field": error.field, "detail": error.detail} for error in errors]
    body["request_id"] = request_id
    return body


def use_page(template: str, **values: object) -> None:
    """Show a problem of this request on this page, if it shows it as a page: a form that can be sent again."""
    g.problem_page = (template, values)


def problem(
    status: int,
    detail: str,
    *,
    errors: list[FieldError] | None = None,
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error answer (RFC 9457); `retry_after` is in seconds."""
    if wants_page():
        template, values = g.get("problem_page", ("problem.html", {}))
        page = render_template(template, **values, problem={"status": status, "detail": detail})
        response = Response(page, status, mimetype="text/html")
    else:
        body = problem_body(status, detail, g.get("request_id", ""), errors)
        response = Response(json.dumps(body), status, mimetype="application/problem+json")
    response.headers.update(headers or {})
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def init_app(app: Flask) -> None:
    """Answer every error as a problem."""

    @app.errorhandler(InvalidFields)
    def invalid(error: InvalidFields) -> Response:
        return problem(error.status, "Some fields can't be accepted; see errors.", errors=error.errors)

    @app.errorhandler(Problem)
    def known(error: Problem) -> Response:
        return problem(error.status, error.detail, headers=error.headers)

    @app.errorhandler(HashQueueFull)
    def busy(_error: HashQueueFull) -> Response:
        log.warning("hash queue is full")
        return problem(503, "Too many sign-ups and logins at once. Try again in a moment.", retry_after=1)

    @app.errorhandler(TokensUnavailable)
    def tokens_unavailable(error: TokensUnavailable) -> Response:
        log.error("token table is unavailable", extra={"fields": {"code": str(error)}})
        return problem(503, "The token can't be looked up right now. Try again in a moment.", retry_after=5)

    @app.errorhandler(TransfersFull)
    def transfers_full(_error: TransfersFull) -> Response:
        log.warning("too many pictures at once")
        return problem(503, "Too many pictures at once. Try again in a moment.", retry_after=1)

    @app.errorhandler(PicturesUnavailable)
    def pictures_unavailable(error: PicturesUnavailable) -> Response:
        log.error("picture bucket is unavailable", extra={"fields": {"code": str(error)}})
        return problem(503, "Pictures are not available right now. Try again in a moment.", retry_after=5)

    @app.errorhandler(BodyTooSlow)
    def too_slow(_error: BodyTooSlow) -> Response:
        log.warning("a body took too long")
        return problem(408, "The body took too long to arrive.")

    @app.errorhandler(ParseException)
    @app.errorhandler(NoMoreData)
    def unreadable(_error: Exception) -> Response:
        # gunicorn reads a body as it is asked for, and closes the connection after this answer.
        return problem(400, "The body is not well-formed HTTP.")

    def database_down(error: Exception) -> Response:
        original = getattr(error, "orig", None) or error
        fields = {"reason": type_name(original), "sqlstate": getattr(original, "pgcode", None)}
        log.error("database is unavailable", extra={"fields": fields})
        return problem(503, "The database is not available right now. Try again in a moment.", retry_after=5)

    for kind in DATABASE_DOWN:
        app.register_error_handler(kind, database_down)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response | HTTPException:
        status = error.code or 500
        if status < 400:
            return error
        headers = {name: value for name, value in error.get_headers() if name in KEPT_HEADERS}
        return problem(status, error.description or "", headers=headers)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("request failed", exc_info=error)
        return problem(500, "Something went wrong here. Quote the request id if you report it.")
