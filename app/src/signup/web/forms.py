"""Reading what a browser's form sends."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from flask import request

from signup.bodies import whole
from signup.problems import FieldError, Problem

KIND = "application/x-www-form-urlencoded"
MAX_FIELDS = 20
MAX_NAME = 60


def read_form() -> tuple[dict[str, str], list[FieldError]]:
    """A form's fields, and what is wrong with those left out: not UTF-8, or given twice. Raises Problem."""
    if request.mimetype != KIND:
        raise Problem(415, f"Send the form as {KIND}, or JSON to /v1/user.")
    pairs = [pair for pair in whole().split(b"&") if pair]
    if len(pairs) > MAX_FIELDS:
        raise Problem(400, f"The form has more than {MAX_FIELDS} fields.")
    given: dict[str, str] = {}
    errors: dict[str, FieldError] = {}
    for pair in pairs:
        raw_name, _, raw_value = (unquote_to_bytes(part.replace(b"+", b" ")) for part in pair.partition(b"="))
        name = raw_name.decode(errors="replace")[:MAX_NAME]
        if name in given or name in errors:
            errors[name] = FieldError(name, "Must be given once.")
        else:
            try:
                given[name] = raw_value.decode()
            except UnicodeDecodeError:
                errors[name] = FieldError(name, "Must be text in UTF-8.")
    return {name: value for name, value in given.items() if name not in errors}, list(errors.values())
