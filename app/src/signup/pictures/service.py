"""Setting, reading and removing a user's picture.

S3 and the database can't commit together. The object comes before its row and goes after it: whatever fails in between leaves
an object without a row, which costs its storage, and never a row without its object.
"""

from __future__ import annotations

import logging
from uuid import UUID

from signup.clients.pictures import PictureBucket, PictureMissing, PicturesUnavailable, StoredPicture
from signup.ids import utc_now, uuid7
from signup.pictures import repo
from signup.pictures.model import Picture
from signup.pictures.upload import Upload
from signup.services import Services
from signup.users import repo as users
from signup.users.model import Event
from signup.users.service import Login, NotAuthenticated

log = logging.getLogger(__name__)


class NoPicture(Exception):
    """The user has none."""


def set_picture(services: Services, login: Login, upload: Upload, request_id: str) -> Picture:
    """Set the user's picture, with its audit row; the one before goes.

    Raises PicturesUnavailable, one of DATABASE_DOWN, or NotAuthenticated if the password has changed since the login.
    """
    key = f"{PictureBucket.PREFIX}{login.user.id}/{uuid7()}.{upload.extension}"
    services.pictures.put(key, upload.file, upload.size, upload.content_type)
    now = utc_now()
    picture = Picture(key, upload.content_type, upload.size, now)
    # Should this fail, the object stays: whether a commit that was not answered has happened, nobody knows.
    with services.engine.begin() as connection:
        allowed = users.lock_user(connection, login.user.id, login.password_hash)
        if allowed:
            before = repo.replace(connection, login.user.id, picture)
            users.insert_audit(connection, Event.PICTURE_SET, login.user.id, now, request_id)
    if not allowed:
        _forget(services, key)
        raise NotAuthenticated
    if before is not None:
        _forget(services, before)
    return picture


def open_picture(services: Services, user_id: UUID) -> tuple[Picture, StoredPicture]:
    """The user's picture, to be read and closed. Raises NoPicture or PicturesUnavailable."""
    seen = None
    while True:
        with services.engine.connect() as connection:
            picture = repo.find(connection, user_id)
        if picture is None:
            raise NoPicture
        try:
            return picture, services.pictures.get(picture.object_key)
        except PictureMissing:
            # Another request may have replaced it since the row was read.
            if picture.object_key == seen:
                raise
            seen = picture.object_key


def remove_picture(services: Services, login: Login, request_id: str) -> None:
    """Remove the user's picture, with its audit row. Raises NoPicture or NotAuthenticated."""
    now = utc_now()
    with services.engine.begin() as connection:
        if not users.lock_user(connection, login.user.id, login.password_hash):
            raise NotAuthenticated
        before = repo.remove(connection, login.user.id)
        if before is None:
            raise NoPicture
        users.insert_audit(connection, Event.PICTURE_REMOVED, login.user.id, now, request_id)
    _forget(services, before)


def _forget(services: Services, key: str) -> None:
    try:
        services.pictures.delete(key)
    except PicturesUnavailable as error:
        log.warning("a picture without a row stays", extra={"fields": {"key": key, "code": str(error)}})
