"""Readiness of this instance."""

from __future__ import annotations

import logging

from signup.database import DATABASE_DOWN
from signup.health.repo import schema_state
from signup.schema.revisions import is_beyond, is_current, needed_revision
from signup.services import Services

log = logging.getLogger(__name__)


class NotReady(Exception):
    """The database can't be reached, or its schema is behind this release or beyond it; the text says which, and what to do."""


def check(services: Services) -> str:
    """Look at the database; returns its schema's revision, remembers the success, or raises NotReady."""
    try:
        revision, floor = schema_state(services.engine)
    except DATABASE_DOWN as error:
        raise NotReady("The database can't be reached.") from error
    if revision is None or not is_current(revision):
        raise NotReady(
            f"The database's schema is at {revision or 'nothing'}, this release needs {needed_revision()}: run signup-migrate."
        )
    if is_beyond(floor):
        raise NotReady(
            f"The database's schema is at {revision} and its floor at {floor}: it no longer has what this release, at "
            f"{needed_revision()}, relies on. Start a release at {floor} or later."
        )
    if not services.latch.is_set():
        services.latch.set()
        log.info("instance is ready", extra={"fields": {"revision": revision}})
    return revision


def warm_up(services: Services) -> None:
    """Connect to the database at boot, so that no request has to read the database's secret first.

    A database that is away only delays this: the health check keeps trying.
    """
    try:
        check(services)
    except NotReady as error:
        log.warning("not ready yet", extra={"fields": {"reason": str(error)}})
