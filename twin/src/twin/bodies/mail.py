"""A SendGrid that delivers to a folder: takes mails by the v3 API, shows them, and misbehaves to order.

POST /v3/mail/send, GET and PATCH /v3/user/webhooks/event/settings and .../signed; beside SendGrid's own
GET /messages?to=ADDRESS&limit=1000, GET /messages/ID, GET /, GET and PUT /faults.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Request, Response

from twin.bodies import mail_pages, sendgrid
from twin.bodies.mail_events import EventWebhook
from twin.bodies.mailbox import Mailbox

log = logging.getLogger(__name__)

MODES = ("none", "slow", "fail", "hang", "reset", "mixed")
# What a mixed fault is, each time anew: mode and status.
MIXTURE = (("fail", 429), ("fail", 500), ("hang", 500), ("reset", 500))
MOST = 10_000  # mails in one answer
WEBHOOK = "/v3/user/webhooks/event/settings"


@dataclass(frozen=True)
class Fault:
    """How sends misbehave.

    `probability` of them are delayed by `seconds` (slow), answered with `status` (fail), left without an answer for
    `seconds` (hang), cut off by a TCP reset (reset), or any of these, busy (429) and failing (500) alike (mixed).
    """

    mode: str = "none"
    status: int = 500
    seconds: float = 30.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r}: choose one of {', '.join(MODES)}")
        if not isinstance(self.status, int) or not 400 <= self.status <= 599:
            raise ValueError(f"status {self.status!r}: choose 400 to 599")
        for name, value, most in (("seconds", self.seconds, 3600), ("probability", self.probability, 1)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise ValueError(f"{name} {value!r}: choose a number from 0 to {most}")


class Limited(Request):
    max_content_length = sendgrid.MAX_BYTES


class MailSink:
    """WSGI application over the mails in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.mailbox = Mailbox(folder)
        self.webhook = EventWebhook(folder, self.mailbox)
        # Faults hold until they are lifted, by whichever process.
        self._ordered = folder / "fault.json"
        self._fault = Fault(**json.loads(self._ordered.read_text())) if self._ordered.exists() else Fault()
        self._changed = threading.Condition()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self._answer(Limited(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            match request.method, request.path:
                case "POST", "/v3/mail/send":
                    return self._send(request)
                case "GET" | "PATCH", str(path) if path in (WEBHOOK, f"{WEBHOOK}/signed"):
                    return self._webhook(request)
                case "PUT", "/faults":
                    return self._order(request)
                case "GET", "/faults":
                    return _json(asdict(self._fault))
                case "GET", "/messages":
                    most = min(max(request.args.get("limit", 1000, int), 0), MOST)
                    return _json([mail.public() for mail in self.mailbox.find(request.args.get("to"), most)])
                case "GET", "/":
                    return _html(mail_pages.listing(self.mailbox.find()))
                case "GET", path if path.startswith("/messages/"):
                    mail = self.mailbox.get(path.removeprefix("/messages/"))
                    return _html(mail_pages.message(mail)) if mail else _error(404, "there is no mail with this id")
                case _, str(path) if path in ("/v3/mail/send", WEBHOOK, f"{WEBHOOK}/signed", "/faults", "/messages", "/"):
                    return _error(405, f"{request.method} is not for {request.path}")
            return _error(404, "not found: see / for the mails, /messages?to=ADDRESS for their JSON")
        except sendgrid.Refusal as refusal:
            return Response(refusal.body(), refusal.status, mimetype="application/json")

    def _send(self, request: Request) -> Response:
        sendgrid.authorize(request.headers.get("Authorization", ""))
        self._misbehave(request)
        if request.mimetype != "application/json":
            raise sendgrid.Refusal(415, ("Content-Type should be application/json.", None))
        try:
            data = request.get_data()
        except RequestEntityTooLarge:
            raise sendgrid.Refusal(413, ("The message exceeds the limit of 30 MB.", None)) from None
        message_id, mails = sendgrid.parse(data)
        if not mails:  # sandbox mode: checked, not sent
            return Response("", 200)
        self.mailbox.add(mails)
        self.webhook.tell(mails)
        return Response("", 202, headers={"X-Message-Id": message_id})

    def _webhook(self, request: Request) -> Response:
        """SendGrid's settings of the event webhook; its signature is always on.

        https://www.twilio.com/docs/sendgrid/api-reference/webhooks/update-an-event-webhook
        """
        sendgrid.authorize(request.headers.get("Authorization", ""))
        if request.method == "PATCH" and request.path == WEBHOOK:
            try:
                self.webhook.configure(json.loads(request.get_data()))
            except (ValueError, AttributeError) as error:
                raise sendgrid.Refusal(400, (f"{error}", None)) from None
        signed = request.path != WEBHOOK
        return _json({"public_key": self.webhook.public_key} if signed else asdict(self.webhook.settings))

    def _order(self, request: Request) -> Response:
        try:
            order = json.loads(request.get_data())
            fault = Fault(**order)
        except (ValueError, TypeError) as error:
            return _error(400, f"{error}; send JSON such as {json.dumps(asdict(Fault('fail', 429)))}")
        with self._changed:
            self._fault = fault
            new = self._ordered.with_suffix(".new")
            new.write_text(json.dumps(asdict(fault)))
            new.replace(self._ordered)
            self._changed.notify_all()
        return _json(asdict(fault))

    def _misbehave(self, request: Request) -> None:
        fault = self._fault
        if fault.mode == "none" or random.random() >= fault.probability:  # noqa: S311 (no secret)
            return
        mode, status = random.choice(MIXTURE) if fault.mode == "mixed" else (fault.mode, fault.status)  # noqa: S311
        if mode == "slow":
            time.sleep(fault.seconds)
        elif mode == "fail":
            raise sendgrid.Refusal(status, ("too many requests" if status == 429 else "Internal Server Error", None))
        elif mode == "hang":
            with self._changed:
                self._changed.wait_for(lambda: self._fault is not fault, fault.seconds)
            _reset(request)
        else:
            _reset(request)


def _reset(request: Request) -> None:
    """Cut the connection so that the client sees a TCP reset, not an orderly end."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
    raise ConnectionResetError("reset to order")


def _json(content: Any) -> Response:
    return Response(json.dumps(content), mimetype="application/json")


def _html(page: str) -> Response:
    headers = {"Content-Security-Policy": mail_pages.CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
    return Response(page, mimetype="text/html", headers=headers)


def _error(status: int, message: str) -> Response:
    return Response(json.dumps({"error": message}), status, mimetype="application/json")
