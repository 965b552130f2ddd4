"""HTTP for the event webhook."""

from __future__ import annotations

import logging
import re
import time

from flask import Blueprint, Response, request

from signup.bodies import from_json, no_content, whole
from signup.mail_events.events import read
from signup.mail_events.repo import insert_events
from signup.mail_events.signature import SIGNATURE, TIMESTAMP
from signup.problems import Problem
from signup.services import services

# SendGrid sends up to 768 kB at once.
MAX_BODY_BYTES = 1_000_000
MAX_AGE_SECONDS = 25 * 3600
"""SendGrid tries for 24 hours. What is replayed meanwhile changes nothing: messages and their events are kept for longer."""
MAX_AHEAD_SECONDS = 300

blueprint = Blueprint("mail_events", __name__)
log = logging.getLogger(__name__)


@blueprint.post("/v1/mail/events")
def take() -> Response:
    """Keep what SendGrid tells of mails.

    Safe to repeat: events are known by their ids, so that what is replayed changes nothing. SendGrid sends again what was
    not answered with 2xx.
    """
    key = services().event_key
    if key is None:
        raise Problem(404, "No events of mails are taken here.")
    if request.mimetype != "application/json":
        raise Problem(415, "Send JSON with Content-Type: application/json.")
    body = whole(MAX_BODY_BYTES)
    signature, timestamp = request.headers.get(SIGNATURE, ""), request.headers.get(TIMESTAMP, "")
    if not key.signed(signature, timestamp, body) or not _fresh(timestamp):
        raise Problem(403, "These events are not signed, not by SendGrid, or not in the past 25 hours.")
    content = from_json(body)
    if not isinstance(content, list):
        raise Problem(400, "The body must be a JSON array of events.")
    events = read(content)
    with services().engine.begin() as connection:
        kept = insert_events(connection, events)
    log.info("mail events", extra={"fields": {"received": len(content), "ours": len(events), "new": kept}})
    return no_content()


def _fresh(timestamp: str) -> bool:
    """Whether a signed time is near; the signature alone would be good for ever."""
    return bool(re.fullmatch("[0-9]{1,12}", timestamp)) and -MAX_AHEAD_SECONDS <= time.time() - int(timestamp) <= MAX_AGE_SECONDS
