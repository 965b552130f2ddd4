"""Validation of what a caller sends."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from email_validator import EmailNotValidError, validate_email

from signup.problems import FieldError, InvalidFields

NAMES = ("first_name", "last_name", "email", "password")
MAX_NAME = 100
MAX_PASSWORD = 256
MAX_EMAIL = 254
MAX_REPORTED = 10

_CONTROL = r"\x00-\x1f\x7f-\x9f"
TEXT = f"[^{_CONTROL}]*"
"""A pattern for texts without control characters (Unicode's Cc), NUL among them, which PostgreSQL can't store."""
VISIBLE = rf"{TEXT}[^{_CONTROL}\s]{TEXT}"
"""Such a text with something else than spaces in it."""


@dataclass(frozen=True)
class SignUp:
    """A valid request to sign up."""

    first_name: str
    last_name: str
    email: str
    password: str = field(repr=False)


def normalize_email(text: str) -> str:
    """An address in the one form it is stored and compared in: lower case, its domain in ASCII.

    Nothing is looked up in DNS: that would make the request wait for a network. Raises ValueError with what is wrong.
    """
    if len(text) > MAX_EMAIL:
        raise ValueError("The email address is too long.")
    try:
        valid = validate_email(text.strip(), check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    except UnicodeError:
        raise ValueError("The email address has characters that can't be used.") from None
    address = (valid.ascii_email or valid.normalized).lower()
    if len(address) > MAX_EMAIL:
        raise ValueError("The email address is too long.")
    return address


def parse_sign_up(body: Mapping[str, Any], password_min_length: int) -> SignUp:
    """Check a request to sign up; raises InvalidFields with every problem at once."""
    errors = [FieldError(_shown(name), "This field is not known.") for name in body if name not in NAMES]
    del errors[MAX_REPORTED:]
    values: dict[str, str] = {}
    for name in NAMES:
        value = body.get(name)
        if name not in body:
            errors.append(FieldError(name, "This field is required."))
        elif not isinstance(value, str):
            errors.append(FieldError(name, "Must be a string."))
        elif problem := _text_problem(value):
            errors.append(FieldError(name, problem))
        else:
            values[name] = value
    for name in ("first_name", "last_name"):
        if name in values:
            if len(values[name]) > MAX_NAME or not re.fullmatch(VISIBLE, values[name]):
                errors.append(FieldError(name, f"Must have 1 to {MAX_NAME} characters."))
            values[name] = unicodedata.normalize("NFC", values[name]).strip()
    if "email" in values:
        try:
            values["email"] = normalize_email(values["email"])
        except ValueError as error:
            errors.append(FieldError("email", str(error)))
    if "password" in values and not password_min_length <= len(values["password"]) <= MAX_PASSWORD:
        errors.append(FieldError("password", f"Must have {password_min_length} to {MAX_PASSWORD} characters."))
    if errors:
        raise InvalidFields(errors)
    return SignUp(**values)


def _text_problem(value: str) -> str | None:
    if not re.fullmatch(TEXT, value):
        return "Must not have control characters."
    # JSON can say half of a surrogate pair, UTF-8 can't.
    if any(unicodedata.category(character) == "Cs" for character in value):
        return "Must not have halves of surrogate pairs."
    return None


def _shown(name: str) -> str:
    return name[:60].encode("ascii", "replace").decode()
