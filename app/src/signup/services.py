"""What a request handler works with, made once per process."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app
from sqlalchemy import Engine

from signup.clients.pictures import PictureBucket
from signup.clients.tokens import TokenTable
from signup.health.latch import Latch
from signup.mail_events.signature import EventKey
from signup.passwords import PasswordHasher
from signup.pictures.transfers import Transfers
from signup.settings import Settings


@dataclass(frozen=True)
class Services:
    """The process's settings, pools and clients."""

    settings: Settings
    engine: Engine
    hasher: PasswordHasher
    tokens: TokenTable
    latch: Latch
    pictures: PictureBucket
    transfers: Transfers
    event_key: EventKey | None


def services() -> Services:
    """The current application's services."""
    found = current_app.extensions["signup"]
    if not isinstance(found, Services):
        raise TypeError("the application was not made by create_app")
    return found
