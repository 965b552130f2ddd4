"""SendGrid's signed event webhook, and what it tells of mails."""

from __future__ import annotations

import base64
import json
import logging
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from signup.clients.mail_table import MailTable, MailTableUnavailable
from signup.factory import create_app
from signup.mail_events import notes
from signup.mail_events.events import MailEvent, MailStatus, status_of
from signup.mail_events.notes import Notes
from signup.mail_events.routes import MAX_AGE_SECONDS
from signup.outbox.repo import KEEP, mark_published
from signup.schema.tables import mail_events, outbox
from signup.settings import Settings, SettingsError, load_settings

SENDGRID = ec.generate_private_key(ec.SECP256R1())
PATH = "/v1/mail/events"
RESEND = "/v1/user/verify/resend"
BOUNCE = {"event": "bounce", "type": "bounce", "reason": "550 5.1.1 <ada@example.com> no such user"}
NOON = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())


def public(key: Any) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@pytest.fixture
def hooked(settings: Settings) -> Iterator[Flask]:
    """The application with the webhook's key."""
    made = create_app(replace(settings, mail_events_key=public(SENDGRID)))
    yield made
    made.extensions["signup"].engine.dispose()


@pytest.fixture
def caller(hooked: Flask) -> FlaskClient:
    return hooked.test_client()


@pytest.fixture
def message_id(caller: FlaskClient, database: Engine, person: dict[str, str]) -> str:
    """Signs up; the id of the message that asks for the mail."""
    assert caller.post("/v1/user", json=person).status_code == 201
    with database.connect() as connection:
        return str(connection.execute(select(outbox.c.id)).scalar_one())


def happened(message_id: str, event: str, at: int = 0, **more: Any) -> dict[str, Any]:
    ids = {"sg_event_id": uuid.uuid4().hex, "message_id": message_id, "email": "ada@example.com"}
    return {"event": event, "timestamp": NOON + at, **ids, **more}


def send(caller: FlaskClient, content: Any, age: int = 0, key: Any = SENDGRID, **changes: Any) -> Any:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    timestamp = changes.pop("timestamp", str(int(time.time()) - age))
    signature = base64.b64encode(key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": signature,
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        "Content-Type": "application/json",
        **changes.pop("headers", {}),
    }
    return caller.post(PATH, data=changes.pop("body", body), headers=headers)


def kept(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(mail_events).order_by(mail_events.c.occurred_at)).all())


def mail_of(caller: FlaskClient, person: dict[str, str]) -> dict[str, str]:
    """What its owner is told of the last mail; asking sends another, so it is asked for once."""
    answer = caller.post(RESEND, json={"email": person["email"]}, auth=(person["email"], person["password"]))
    assert answer.status_code == 202, answer.data
    found: dict[str, str] = answer.get_json()["mail"]
    return found


def test_events_are_kept_once_however_often_they_come(caller: FlaskClient, database: Engine, message_id: str) -> None:
    events = [happened(message_id, "processed"), happened(message_id, "delivered", 3)]
    assert send(caller, events).status_code == 204
    assert send(caller, [*reversed(events), happened(message_id, "deferred", 1, response="421 busy")]).status_code == 204
    assert [row.kind for row in kept(database)] == ["accepted", "deferred", "delivered"]


def test_a_replayed_post_changes_nothing(caller: FlaskClient, database: Engine, message_id: str) -> None:
    body = json.dumps([happened(message_id, "processed")]).encode()
    timestamp = str(int(time.time()))
    signature = base64.b64encode(SENDGRID.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": signature,
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        "Content-Type": "application/json",
    }
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: caller.application.test_client().post(PATH, data=body, headers=headers), range(8)))
    assert {answer.status_code for answer in answers} == {204}
    assert len(kept(database)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"age": 25 * 3600 + 1},
        {"age": -301},
        {"key": ec.generate_private_key(ec.SECP256R1())},
        {"body": b"[]"},
        {"headers": {"X-Twilio-Email-Event-Webhook-Timestamp": str(int(time.time()) + 1)}},
        {"headers": {"X-Twilio-Email-Event-Webhook-Signature": "no base64"}},
        {"headers": {"X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(b"no signature").decode()}},
        {"headers": {"X-Twilio-Email-Event-Webhook-Signature": ""}},
    ],
)
def test_what_is_not_signed_now_and_by_sendgrid_is_refused(
    caller: FlaskClient, database: Engine, message_id: str, change: dict[str, Any]
) -> None:
    answer = send(caller, [happened(message_id, "delivered")], **change)
    assert answer.status_code == 403
    assert kept(database) == []


def test_what_sendgrid_tries_for_a_day_is_taken(caller: FlaskClient, database: Engine, message_id: str) -> None:
    assert send(caller, [happened(message_id, "delivered")], age=24 * 3600).status_code == 204
    assert len(kept(database)) == 1
    # And no event can come again after it is forgotten.
    assert timedelta(seconds=MAX_AGE_SECONDS) < KEEP


def test_a_signed_time_that_is_no_number_is_refused(caller: FlaskClient, message_id: str) -> None:
    for timestamp in ("", "now", "-1", "1" * 5000, "٣"):
        answer = send(caller, [happened(message_id, "delivered")], timestamp=timestamp)
        assert answer.status_code == 403


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"{}", 400), (b"\xff", 400), (b"[" * 100_000, 400)])
def test_signed_nonsense_is_refused(caller: FlaskClient, body: bytes, status: int) -> None:
    assert send(caller, body).status_code == status


def test_sendgrids_largest_batch_is_taken_and_no_larger(caller: FlaskClient, database: Engine, message_id: str) -> None:
    batch = [happened(message_id, "processed", reason="x" * 300) for _ in range(1200)]
    assert 500_000 < len(json.dumps(batch)) < 768_000
    assert send(caller, batch).status_code == 204
    assert len(kept(database)) == 1200
    assert send(caller, b"[" + b" " * 1_000_000 + b"]").status_code == 413


def test_what_is_no_event_of_ours_keeps_no_other(
    caller: FlaskClient, database: Engine, message_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    good = happened(message_id, "delivered")
    bad = [
        *(1, None, "x", [], {}),
        happened(message_id, "open"),
        happened(str(uuid.uuid4()), "delivered"),
        happened("no id", "delivered"),
        {**good, "sg_event_id": "\0"},
        {**good, "sg_event_id": "\ud800"},
        {**good, "sg_event_id": 7},
        {**good, "sg_event_id": "y" * 101},
        {**good, "sg_event_id": "z", "timestamp": "never"},
        {**good, "sg_event_id": "w", "timestamp": 10**30},
    ]
    assert send(caller, [*bad[:5], good, *bad[5:]]).status_code == 204
    assert [row.id for row in kept(database)] == [good["sg_event_id"]]
    record = next(record for record in caplog.records if record.message == "mail events")
    assert vars(record)["fields"] == {"received": 15, "ours": 2, "new": 1}
    assert "ada@example.com" not in caplog.text


def test_without_a_key_there_is_no_webhook(client: FlaskClient) -> None:
    assert send(client, []).status_code == 404


@pytest.mark.parametrize(
    "key",
    ["not base64!", "aGVsbG8=", public(rsa.generate_private_key(65537, 2048)), public(ec.generate_private_key(ec.SECP384R1()))],
)
def test_a_wrong_key_is_a_settings_error(key: str) -> None:
    with pytest.raises(SettingsError, match="SIGNUP_MAIL_EVENTS_KEY: it is no public key"):
        load_settings({"SIGNUP_MAIL_EVENTS_KEY": key})


def test_a_mails_status_follows_it(
    caller: FlaskClient, database: Engine, message_id: str, person: dict[str, str], hooked: Flask
) -> None:
    from signup.mail_events.repo import last_mail

    def status() -> str:
        with database.connect() as connection:
            row = connection.execute(select(outbox)).one()
            found = last_mail(connection, uuid.UUID(row.payload["user_id"]))
        return found.status if found else "none"

    assert status() == "queued"
    with database.begin() as connection:
        mark_published(connection, [uuid.UUID(message_id)])
    assert status() == "published"
    for event, more, expected in (
        ("deferred", {}, "accepted"),
        ("processed", {}, "accepted"),
        ("delivered", {}, "delivered"),
        ("spamreport", {}, "delivered"),
        ("bounce", {"type": "bounce"}, "bounced"),
    ):
        send(caller, [happened(message_id, event, int(time.time()) - NOON, **more)])
        assert status() == expected


def test_the_latest_end_counts_in_whatever_order_events_come() -> None:
    def event(kind: str, minute: int) -> MailEvent:
        return MailEvent(uuid.uuid4().hex, uuid.uuid4(), kind, datetime(2026, 1, 31, 12, minute, tzinfo=UTC), None)

    queued = datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert status_of(queued, None, [event("bounced", 3), event("delivered", 1), event("accepted", 0)]).status == "bounced"
    assert status_of(queued, None, [event("delivered", 5), event("dropped", 4)]).status == "delivered"
    assert status_of(queued, None, [event("deferred", 5), event("accepted", 4)]).status == "accepted"


def test_what_happened_in_one_second_has_an_order() -> None:
    """SendGrid tells times in whole seconds, and the database rows in any order."""
    noon, queued = datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 11, tzinfo=UTC)
    kinds = ["accepted", "deferred", "deferred", "delivered", "bounced"]
    events = [MailEvent(str(number), uuid.uuid4(), kind, noon, str(number)) for number, kind in enumerate(kinds)]
    for count, (status, reason) in ((3, ("accepted", "2")), (4, ("delivered", "3")), (5, ("bounced", "4"))):
        for given in permutations(events[:count]):
            assert status_of(queued, None, given) == MailStatus(status, noon, reason)


def test_a_reason_is_text_without_addresses_however_long_it_is(caller: FlaskClient, database: Engine, message_id: str) -> None:
    reasons = {
        "550 no \ud800 <ada@example.com> there": "550 no ? (address) there",
        "x" * 700_000: "x" * 200,
    }
    began = time.process_time()
    for at, reason in enumerate(reasons):
        assert send(caller, [happened(message_id, "bounce", at, reason=reason)]).status_code == 204
    assert time.process_time() - began < 10
    assert [row.reason for row in kept(database)] == list(reasons.values())


def test_a_bounce_shows_to_the_owner_alone(caller: FlaskClient, message_id: str, person: dict[str, str]) -> None:
    everyone = caller.post(RESEND, json={"email": person["email"]})
    assert set(everyone.get_json()) == {"detail"}
    other = {**person, "email": "eve@example.com"}
    caller.post("/v1/user", json=other)
    foreign = caller.post(RESEND, json={"email": person["email"]}, auth=(other["email"], other["password"]))
    assert (foreign.status_code, foreign.data) == (everyone.status_code, everyone.data)
    assert caller.post(RESEND, json={"email": person["email"]}, auth=(person["email"], "a wrong password")).status_code == 401


def test_a_hard_bounce_shows_at_resend_and_at_login(caller: FlaskClient, message_id: str, person: dict[str, str]) -> None:
    login = (person["email"], person["password"])
    assert "Use the link in the mail" in caller.get("/v1/user/self", auth=login).get_json()["detail"]
    send(caller, [happened(message_id, **BOUNCE)])  # type: ignore[arg-type]
    assert "the last mail to it came back" in caller.get("/v1/user/self", auth=login).get_json()["detail"]
    assert mail_of(caller, person) == {
        "status": "bounced",
        "at": "2026-01-31T12:00:00.000Z",
        "reason": "550 5.1.1 (address) no such user",
    }
    # The mail that was just asked for is another one.
    assert mail_of(caller, person)["status"] == "queued"


@pytest.fixture
def mail_table(aws: str) -> Iterator[str]:
    client = boto3.client("dynamodb", region_name="us-east-1")
    name = f"mail-{uuid.uuid4().hex[:8]}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "message_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "message_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield name
    client.delete_table(TableName=name)


def test_events_are_taken_over_into_the_table_of_mails(
    caller: FlaskClient, database: Engine, message_id: str, mail_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = [happened(message_id, "deferred", at, response="421 busy") for at in (3, 1)]
    send(caller, [happened(message_id, "processed"), *twice, happened(message_id, **BOUNCE, at=5)])  # type: ignore[arg-type]
    with pytest.raises(MailTableUnavailable, match="ResourceNotFoundException"):
        Notes(MailTable(f"{mail_table}-gone", "us-east-1")).take_over(database)
    assert [row.noted_at for row in kept(database)] == [None] * 4
    table = Notes(MailTable(mail_table, "us-east-1"))
    assert [table.take_over(database), table.take_over(database)] == [4, 0]
    send(caller, [happened(message_id, "processed", 7), happened(message_id, "delivered", 8)])
    assert table.take_over(database) == 2
    assert all(row.noted_at for row in kept(database))
    (item,) = boto3.client("dynamodb", region_name="us-east-1").scan(TableName=mail_table)["Items"]
    assert item["message_id"]["S"] == message_id
    assert item["accepted_at"]["S"] == "2026-01-31T12:00:00.000Z"
    assert item["deferred_at"]["S"] == "2026-01-31T12:00:01.000Z"
    assert item["delivered_at"]["S"] == "2026-01-31T12:00:08.000Z"
    assert item["bounced_at"]["S"] == "2026-01-31T12:00:05.000Z"
    assert item["bounce"]["S"] == "550 5.1.1 (address) no such user"
    assert int(item["expires_at"]["N"]) > time.time() + 37 * 86400


@pytest.fixture
def message_ids(caller: FlaskClient, database: Engine, person: dict[str, str], message_id: str) -> list[str]:
    """Of three that signed up."""
    for name in ("grace", "edsger"):
        assert caller.post("/v1/user", json={**person, "email": f"{name}@example.com"}).status_code == 201
    with database.connect() as connection:
        return [str(one) for one in connection.execute(select(outbox.c.id).order_by(outbox.c.created_at)).scalars()]


def test_what_was_noted_stays_so_whatever_follows(caller: FlaskClient, database: Engine, message_ids: list[str]) -> None:
    send(caller, [happened(one, "processed", at) for at, one in enumerate(message_ids)])
    table = Mock(note=Mock(side_effect=[None, MailTableUnavailable("Throttled")]))
    with pytest.raises(MailTableUnavailable):
        Notes(table).take_over(database)
    assert [row.noted_at is not None for row in kept(database)] == [True, False, False]


def test_what_is_new_of_a_mail_is_noted_at_once(caller: FlaskClient, database: Engine, message_ids: list[str]) -> None:
    first, second, _ = message_ids
    send(caller, [happened(one, "processed", at) for at, one in enumerate((first, second))])
    send(caller, [happened(one, "delivered", 2 + at) for at, one in enumerate((second, first))])
    table = Mock()
    assert Notes(table).take_over(database) == 4
    told = [[(str(event.message_id), event.kind) for event in call.args[0]] for call in table.note.call_args_list]
    assert told == [[(one, "accepted"), (one, "delivered")] for one in (first, second)]


def test_what_another_publisher_notes_is_left_to_it(
    caller: FlaskClient, database: Engine, message_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(caller, [happened(one, "processed", at) for at, one in enumerate(message_ids)])
    monkeypatch.setattr(notes, "AT_ONCE", 2)
    inner = Mock()
    outer = Mock(note=Mock(side_effect=lambda _: Notes(inner).take_over(database)))
    assert Notes(outer).take_over(database) == 2
    assert [call.args[0][0].message_id for call in inner.note.call_args_list] == [uuid.UUID(message_ids[2])]


def test_taking_over_ends_when_its_time_is_over(
    caller: FlaskClient, database: Engine, message_ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    send(caller, [happened(one, "processed", at) for at, one in enumerate(message_ids)])
    monkeypatch.setattr(notes, "SECONDS", 0.1)
    assert Notes(Mock(note=lambda _: time.sleep(0.2))).take_over(database) == 1
