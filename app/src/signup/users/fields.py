"""Validation of what a caller sends."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from email_validator import EmailNotValidError, validate_email

from signup.problems import FieldError, InvalidFields
from signup.users.common import is_expected
from signup.users.model import User

NAMES = ("first_name", "last_name", "email", "password")
CHANGEABLE = ("first_name", "last_name", "password")
MAX_NAME = 100
MAX_PASSWORD = 256
MAX_EMAIL = 254
MAX_REPORTED = 10
EXPECTED = "Is easy to guess: it is a common password, or made of your name or address. A few words of your own choice do better."

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


@dataclass(frozen=True)
class Change:
    """A valid request to change an account; None leaves as it is."""

    first_name: str | None = None
    last_name: str | None = None
    password: str | None = field(default=None, repr=False)


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
    values, errors = _read(body, NAMES, password_min_length)
    errors += [FieldError(name, "This field is required.") for name in NAMES if name not in body]
    if "password" in values:
        errors += _expected(values["password"], values)
    if errors:
        raise InvalidFields(errors)
    return SignUp(**values)


def parse_change(body: Mapping[str, Any], user: User, password_min_length: int) -> Change:
    """Check a request to change an account; raises InvalidFields with every problem at once."""
    values, errors = _read(body, CHANGEABLE, password_min_length)
    if not body:
        errors.append(FieldError("", f"Send one or more of {', '.join(CHANGEABLE)}."))
    if "password" in values:
        known = {"first_name": user.first_name, "last_name": user.last_name, "email": user.email}
        errors += _expected(values["password"], {**known, **values})
    if errors:
        raise InvalidFields(errors)
    return Change(**values)


def parse_resend(body: Mapping[str, Any]) -> str:
    """The address of a request for another mail; raises InvalidFields."""
    values, errors = _read(body, ("email",), 0)
    if "email" not in body:
        errors.append(FieldError("email", "This field is required."))
    if errors:
        raise InvalidFields(errors)
    return values["email"]


def _read(body: Mapping[str, Any], names: tuple[str, ...], password_min_length: int) -> tuple[dict[str, str], list[FieldError]]:
    """Those of the named fields that are there and right, in the form they are kept in, and what is wrong with the others."""
    errors = [FieldError(_shown(name), "This field is not known.") for name in body if name not in names]
    del errors[MAX_REPORTED:]
    values: dict[str, str] = {}
    for name in names:
        if name not in body:
            continue
        try:
            values[name] = _value(name, body[name], password_min_length)
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
    return values, errors


def _value(name: str, value: Any, password_min_length: int) -> str:
    if not isinstance(value, str):
        raise ValueError("Must be a string.")
    if problem := _text_problem(value):
        raise ValueError(problem)
    if name == "email":
        return normalize_email(value)
    if name == "password":
        if not password_min_length <= len(value) <= MAX_PASSWORD:
            raise ValueError(f"Must have {password_min_length} to {MAX_PASSWORD} characters.")
        return str(value)
    if len(value) > MAX_NAME or not re.fullmatch(VISIBLE, value):
        raise ValueError(f"Must have 1 to {MAX_NAME} characters.")
    return unicodedata.normalize("NFC", value).strip()


def _expected(password: str, values: Mapping[str, str]) -> list[FieldError]:
    known = [values[name] for name in NAMES if name != "password" and name in values]
    return [FieldError("password", EXPECTED)] if is_expected(password, known) else []


def _text_problem(value: str) -> str | None:
    if not re.fullmatch(TEXT, value):
        return "Must not have control characters."
    # JSON can say half of a surrogate pair, UTF-8 can't.
    if any(unicodedata.category(character) == "Cs" for character in value):
        return "Must not have halves of surrogate pairs."
    return None


def _shown(name: str) -> str:
    return name[:60].encode("ascii", "replace").decode()
