"""The application factory."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from signup import overload, problems, rates, request_id
from signup.clients.pictures import PictureBucket
from signup.clients.tokens import TokenTable
from signup.database import make_engine
from signup.health.latch import Latch
from signup.health.routes import blueprint as health
from signup.mail_events.routes import blueprint as mail_events
from signup.mail_events.signature import EventKey
from signup.metrics import requests as measured_requests
from signup.passwords import PasswordHasher
from signup.pictures.routes import blueprint as pictures
from signup.pictures.transfers import Transfers
from signup.reference.routes import blueprint as reference
from signup.services import Services
from signup.settings import Settings
from signup.users.routes import blueprint as users
from signup.verification.routes import blueprint as verification
from signup.web import cross_site, headers, static_files
from signup.web.routes import blueprint as web

MAX_BODY_BYTES = 64 * 1024
MAX_TRANSFERS = 8


class ExactMethodRule(Rule):
    """A route with the methods it names and no other: werkzeug would add HEAD to GET."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.methods is not None:
            self.methods.discard("HEAD")


class Application(Flask):
    """Flask with exact methods."""

    url_rule_class = ExactMethodRule


def create_app(settings: Settings, latch: Latch | None = None) -> Flask:
    """The signup service's WSGI application; call it after a fork, since it makes pools and clients.

    `latch` is shared by an instance's processes; by default the application has its own.
    """
    app = Application("signup", static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_BODY_BYTES,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.extensions["signup"] = Services(
        settings=settings,
        engine=make_engine(settings.database, "signup"),
        hasher=PasswordHasher(settings.hash_slots, settings.hash_queue),
        tokens=TokenTable(settings.token_table, settings.region),
        latch=latch or Latch(),
        pictures=PictureBucket(settings.picture_bucket, settings.region),
        transfers=Transfers(MAX_TRANSFERS),
        event_key=EventKey(settings.mail_events_key) if settings.mail_events_key else None,
    )
    app.extensions["signup.requests"] = measured_requests.init_app(app)
    request_id.init_app(app)
    problems.init_app(app)
    cross_site.init_app(app, settings.public_url)
    overload.init_app(app, settings.threads)
    headers.init_app(app)
    static_files.init_app(app)
    for blueprint in (health, users, verification, mail_events, pictures, web, reference):
        app.register_blueprint(blueprint)
    rates.init_app(app, settings.rates)
    return app
