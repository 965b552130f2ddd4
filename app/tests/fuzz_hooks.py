"""Schemathesis's hooks: addresses that could be, and a record of every secret that was sent."""

from __future__ import annotations

import base64
import binascii
import html
import json
import os
import time
from typing import Any

import schemathesis
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import strategies as st
from pixels import jpeg, png
from requests import PreparedRequest
from requests.auth import AuthBase

from signup.mail_events.signature import SIGNATURE, TIMESTAMP
from signup.pictures.formats import JPEG, PNG
from signup.users.fields import EXPECTED

EVENT_KEY: Any = load_pem_private_key(os.environ["FUZZ_EVENT_KEY"].encode(), None)
ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}"
LABEL = r"[a-z]([a-z0-9]{0,10}[a-z0-9])?"
ADDRESSES = st.builds(
    "{}@{}.{}".format,
    st.from_regex(rf"{ATOM}(\.{ATOM})?", fullmatch=True),
    st.from_regex(LABEL, fullmatch=True),
    st.sampled_from(["com", "org", "example.net"]),
)
schemathesis.openapi.format("email", ADDRESSES)
for kind in (PNG, JPEG):  # whichever is declared: the content decides
    schemathesis.openapi.media_type(kind.content_type, st.builds(png, st.integers(0, 9000)) | st.builds(jpeg))


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """What is no breach: a password that anybody would guess, refused though no schema can say so."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 422:
        return True
    if response.headers["content-type"] != ["application/problem+json"]:
        return EXPECTED not in html.unescape(response.text)
    return response.json()["errors"] != [{"field": "password", "detail": EXPECTED}]


class Signed(AuthBase):
    """Signs as SendGrid does, where the request has a place for it."""

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        body = request.body or b""
        if SIGNATURE in request.headers and TIMESTAMP in request.headers:
            timestamp = str(int(time.time()))
            signed = EVENT_KEY.sign(timestamp.encode() + (body.encode() if isinstance(body, str) else body), ec.ECDSA(SHA256()))
            request.headers[SIGNATURE] = base64.b64encode(signed).decode()
            request.headers[TIMESTAMP] = timestamp
        return request


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Have SendGrid send half of the events that are sent."""
    if case.path == "/v1/mail/events" and len(repr(case.body)) % 2:
        kwargs["auth"] = Signed()


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Keep what must not be in the log."""
    sent = [values.get(name) for values in (case.body, case.query) if isinstance(values, dict) for name in SECRETS]
    if authorization := response.request.headers.get("Authorization"):
        sent += [authorization, *_credentials(authorization)]
    with open(os.environ["FUZZ_SECRETS"], "a", encoding="utf-8") as file:
        file.writelines(json.dumps(value) + "\n" for value in sent if isinstance(value, str))


SECRETS = ("email", "password", "token")


def _credentials(authorization: str | bytes) -> list[str]:
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    try:
        return base64.b64decode(text.partition(" ")[2]).decode().split(":", 1)
    except (binascii.Error, UnicodeDecodeError):
        return []
