"""Passwords that are easy to guess."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from test_bad_input import problem_of

from signup.users.common import common_passwords, is_expected

KNOWN = ("Ada Augusta", "Lovelace", "ada.l@example.com")


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "Password-Password1!",
        "letmeinletmein!!",
        "password1234567",
        "***princess2024",
        "qwertyuiopasdfgh",
        "abcdefghijklmnop",
        "zyxwvutsrqponmlk",
        "123456789012345",
        "xxxxxxxxxxxxxxxx",
        "abcabcabcabcabca",
        " " * 15,
        "🚢" * 15,
        "\uff50assword password",
        "Ada Lovelace 1815",
        "lovelacelovelace",
        "adaaugustalovelace",
        "ada.l@example.com",
        "evenkeel evenkeel",
        "ada-password-2024",
        "my-signup-password!",
    ],
)
def test_what_others_would_guess_is_refused(password: str) -> None:
    assert is_expected(password, KNOWN)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "password princess dragon",
        "lovelace wrote about the engine",
        "adam likes lovely lace",
        "3141592653589793",
        "my7391824650174629",
        "pass8365019274650",
        "🚢🚀🚁🚂🚃🚄🚅🚆🚇🚈🚉🚊🚋🚌🚍",
        "ἄνδρα μοι ἔννεπε",
    ],
)
def test_a_passphrase_is_welcome_though_its_words_are_common(password: str) -> None:
    assert not is_expected(password, KNOWN)


def test_the_list_is_there_in_the_form_that_passwords_are_compared_in() -> None:
    found = common_passwords()
    assert len(found) > 19_000
    assert {"password", "iloveyou", "letmein"} <= found
    assert all(word == word.casefold() and len(word) >= 4 for word in found)


def test_signing_up_with_one_is_a_field_error(client: FlaskClient, person: dict[str, str]) -> None:
    for password in ("passwordpassword", "lovelace-ada-1815"):
        body = problem_of(client.post("/v1/user", json={**person, "password": password}), 422)
        assert [error["field"] for error in body["errors"]] == ["password"]
        assert password not in str(body)
