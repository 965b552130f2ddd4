"""HTTP for pictures."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, request

from signup.bodies import no_content
from signup.pictures.formats import NotAPicture
from signup.pictures.service import NoPicture, open_picture, remove_picture, set_picture
from signup.pictures.upload import MAX_PICTURE, PictureTooLarge, received
from signup.problems import FieldError, InvalidFields, Problem
from signup.services import services
from signup.users.routes import verified_login

blueprint = Blueprint("pictures", __name__)

PATH = "/v1/user/self/pic"
NONE = "You have no picture."


@blueprint.post(PATH)
def upload() -> tuple[Response, int]:
    """Set the caller's picture: the body, whatever type it is declared to be."""
    login = verified_login()
    # One more than allowed, so that a body without a length is seen to be too long.
    request.max_content_length = MAX_PICTURE + 1
    with services().transfers.slot():
        try:
            with received(request.stream, request.content_length) as taken:
                picture = set_picture(services(), login, taken, g.request_id)
        except NotAPicture as error:
            raise InvalidFields([FieldError("", str(error))], 400) from None
        except PictureTooLarge:
            raise Problem(413, f"The picture is larger than {MAX_PICTURE // 1024**2} MB.") from None
    return jsonify(picture.to_json()), 201


@blueprint.get(PATH)
def download() -> Response:
    """The caller's picture."""
    user = verified_login().user
    release = services().transfers.acquire()
    try:
        picture, stored = open_picture(services(), user.id)
    except BaseException as error:
        release()
        if isinstance(error, NoPicture):
            raise Problem(404, NONE) from None
        raise
    response = Response(stored.pieces(), mimetype=picture.content_type)
    response.content_length = stored.size

    @response.call_on_close
    def end() -> None:
        try:
            stored.close()
        finally:
            release()

    return response


@blueprint.delete(PATH)
def remove() -> Response:
    """Remove the caller's picture."""
    try:
        remove_picture(services(), verified_login(), g.request_id)
    except NoPicture:
        raise Problem(404, NONE) from None
    return no_content()
