"""Addresses at the edges of RFC 5321: what can't be mailed to is refused by name, what can is kept in one form."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select
from test_bad_input import GOOD, problem_of

from signup.schema.tables import metadata
from signup.users.fields import MAX_EMAIL, normalize_email

LOCAL, LABEL = "l" * 64, "d" * 63
# 4.5.3.1: local parts of 64 octets, paths of 256 with their brackets, so addresses of 254. RFC 1035, 2.3.4: labels of 63.
LONGEST = f"{LOCAL}@{LABEL}.{LABEL}.{'d' * 57}.com"

KEPT = {
    "a@example.com": "a@example.com",
    "1@example.com": "1@example.com",
    "A.B+tag@EXAMPLE.Com": "a.b+tag@example.com",
    "!#$%&'*+-/=?^_`{|}~@example.com": "!#$%&'*+-/=?^_`{|}~@example.com",
    "first.last@a.b.c.d.example.com": "first.last@a.b.c.d.example.com",
    f"{LOCAL}@example.com": f"{LOCAL}@example.com",
    f"ada@{LABEL}.com": f"ada@{LABEL}.com",
    LONGEST: LONGEST,
    "  ada@example.com ": "ada@example.com",
    "ada@bücher.example": "ada@xn--bcher-kva.example",
    "ada@BÜCHER.example": "ada@xn--bcher-kva.example",
    "ada@xn--bcher-kva.example": "ada@xn--bcher-kva.example",
}

REFUSED = [
    "",
    " ",
    "@",
    "ada",
    "@example.com",
    "ada@",
    "ada@example",
    "ada@localhost",
    "ada@host.localhost",
    "ada@.com",
    "ada@example..com",
    "ada@example.com.",
    "ada@-example.com",
    "ada@example-.com",
    "ada@exa_mple.com",
    "ada@exam ple.com",
    "ada@example.123",
    "ada@127.0.0.1",
    "ada@[127.0.0.1]",
    "ada@[IPv6:::1]",
    ".ada@example.com",
    "ada.@example.com",
    "a..b@example.com",
    "ada lovelace@example.com",
    "ada@@example.com",
    "ada@b@example.com",
    '"ada"@example.com',
    '"a b"@example.com',
    r'"a\"b"@example.com',
    "ada(comment)@example.com",
    "@relay.example:ada@example.com",
    "mailto:ada@example.com",
    "<ada@example.com>",
    "Ada <ada@example.com>",
    "ada@example.com, eve@example.com",
    "ada@example.com;eve@example.com",
    "ada@example.com\r\nBcc: eve@example.com",
    "ada@example.com\n",
    "a\0da@example.com",
    "ada@exa\0mple.com",
    "ada@example.com\u200b",
    "ada\u202e@example.com",
    "\ud800@example.com",
    "é@example.com",
    "ада@example.com",
    "🚢@example.com",
    "ada@🚢.example",
    "ada@xn--.example",
    f"l{LOCAL}@example.com",
    f"ada@d{LABEL}.com",
    LONGEST.replace("dd.com", "ddd.com"),
    f"ada@{LABEL}.{LABEL}.{LABEL}.{LABEL}.com",
    # Its form in ASCII is longer than what was sent.
    f"{LOCAL}@{'ü' * 40}.{'ü' * 40}.{'ü' * 40}.{'ü' * 20}.com",
    "ada@" + "a" * 50_000,
]


@pytest.mark.parametrize("given", KEPT)
def test_what_can_be_mailed_to_has_one_form(given: str) -> None:
    assert normalize_email(given) == KEPT[given]
    assert normalize_email(KEPT[given]) == KEPT[given]


def test_the_longest_address_is_as_long_as_it_may_be() -> None:
    assert len(LONGEST) == MAX_EMAIL == 254


def test_what_can_not_is_refused_by_name_wherever_it_is_sent(client: FlaskClient, database: Engine) -> None:
    for email in REFUSED:
        for path, body in (("/v1/user", {**GOOD, "email": email}), ("/v1/user/verify/resend", {"email": email})):
            (error,) = problem_of(client.post(path, json=body), 422)["errors"]
            assert error["field"] == "email", email
            assert error["detail"].endswith("."), email
        login = client.get("/v1/user/self", auth=(email.encode(errors="replace").decode(), GOOD["password"]))
        assert login.status_code == 401, email
    with database.connect() as connection:
        counts = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }
    assert counts | {"schema_floor": 0} == dict.fromkeys(metadata.tables, 0)


def test_the_longest_address_signs_up_and_in(client: FlaskClient) -> None:
    assert client.post("/v1/user", json={**GOOD, "email": LONGEST.upper()}).get_json()["email"] == LONGEST
    assert client.get("/v1/user/self", auth=(LONGEST, GOOD["password"])).status_code == 403
