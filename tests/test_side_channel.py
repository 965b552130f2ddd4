"""The side channel under faults: every signup gets its mail, and each message ends in one place."""

from __future__ import annotations

import hashlib
import json
import secrets
import statistics
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from load import load
from side_channel import Channel
from support import Platform, evenkeel, wait_until

pytestmark = pytest.mark.long

SIGNUPS, RATE = 1000, 12
OUTAGE_SIGNUPS, OUTAGE_SECONDS = 60, 60
ROUNDS, ROUND_SECONDS, ROUND_RATE = 5, 20, 10
CLICKS = 100


@pytest.fixture
def channel(platform: Platform) -> Channel:
    return Channel(platform.target.project(), platform.target.client, platform.local.mail_url, platform.target.environment())


def published(platform: Platform, emails: list[str]) -> set[str]:
    """Ids of the messages to these addresses, once all are published."""
    listed = ",".join(f"'{email}'" for email in emails)
    where = f"FROM outbox WHERE payload->>'email' IN ({listed})"
    wait_until("an empty outbox", lambda: platform.query(f"SELECT count(*) {where} AND published_at IS NULL") == ["0"], period=2)
    found = set(platform.query(f"SELECT id {where}"))
    assert len(found) >= len(emails)
    return found


def signups(platform: Platform, count: int, rate: float) -> list[str]:
    """Addresses that signed up, one after the other."""
    with load(platform.url, rate, signup_every=1) as running:
        wait_until(f"{count} signups", lambda: len(running.acknowledged) >= count, seconds=10 * count / rate)
    assert running.failed() == []
    return running.acknowledged


def settle(channel: Channel, messages: set[str], note: Callable[[], Any] = lambda: None) -> dict[str, set[str]]:
    """Where each message ended, when none is under way any more."""
    ends: dict[str, set[str]] = {}

    def settled() -> bool:
        nonlocal ends
        note()
        ends = channel.ends(messages)
        return not ends["limbo"]

    wait_until("an end of each message", settled, seconds=1800, period=5)
    return ends


@pytest.mark.timeout(3600)
def test_every_signup_is_mailed_though_sends_fail_and_functions_die(platform: Platform, channel: Channel) -> None:
    working: set[str] = set()
    gathered = time.monotonic()

    def gather() -> None:
        """Links live for ten minutes, which the whole may take longer than."""
        nonlocal gathered
        if time.monotonic() - gathered > 60:
            gathered = time.monotonic()
            working.update(channel.working())

    with channel.failing(mode="mixed", probability=0.3, seconds=30), channel.killing(every=4) as killer:
        emails = signups(platform, SIGNUPS, RATE)
        messages = published(platform, emails)
        ends = settle(channel, messages, gather)
    counts = {name: len(found) for name, found in ends.items()}
    print(f"published {len(messages)}: {counts}; {killer.kills} functions killed")
    assert counts["sent"] + counts["dead"] == len(messages)
    # In two places is only a message whose function died after it had noted the mail as sent.
    assert len(channel.twice(messages)) <= killer.kills
    working |= channel.working()
    assert killer.kills > 10

    while dead := channel.ends(messages)["dead"]:  # their faults are over; locks of the killed last half a minute
        wait_until("the end of the locks", lambda: channel.under_way() == 0, period=2)
        print(evenkeel("redrive").stdout.splitlines()[0])
        assert channel.ends(messages)["dead"] < dead
        working |= channel.working()
    assert channel.depth("dead-letter") == channel.depth("refused") == 0
    assert channel.ends(messages)["sent"] == messages
    assert {email.lower() for email in emails} <= working
    # A second mail is explained by a function that died between SendGrid's answer and its own note of it, and by nothing else.
    extra = sum(channel.counts(messages).values()) - len(messages)
    print(f"{extra} mails more than messages")
    assert 0 <= extra <= killer.kills


def test_an_outage_is_made_good_once(platform: Platform, channel: Channel) -> None:
    with channel.failing(mode="fail", status=503):
        began = time.monotonic()
        emails = signups(platform, OUTAGE_SIGNUPS, RATE)
        messages = published(platform, emails)
        wait_until("all dead letters", lambda: channel.depth("dead-letter") >= len(messages), seconds=600, period=2)
        wait_until("the end of the outage", lambda: time.monotonic() - began > OUTAGE_SECONDS)
        assert channel.ends(messages)["dead"] == messages
        status = evenkeel("mail", EMAIL=emails[0]).stdout
        assert status.startswith("given up: message ")
        assert "SendGrid answered 503" in status
    listed = evenkeel("redrive", ARGS="--check").stdout
    assert f"{len(messages)} messages; {len(messages)} wait" in listed
    with ThreadPoolExecutor(2) as pool:  # two people at once
        said = [done.stdout for done in pool.map(evenkeel, ["redrive", "redrive"])]
    print("\n".join(text.splitlines()[0] for text in said))
    wait_until("all mails", lambda: channel.ends(messages)["sent"] == messages, period=2)
    assert channel.depth("dead-letter") == 0
    assert channel.counts(messages) == dict.fromkeys(messages, 1)
    assert "is empty" in evenkeel("redrive").stdout
    wait_until("SendGrid's word", lambda: evenkeel("mail", EMAIL=emails[0]).stdout.startswith("delivered: message "), period=2)


def test_two_clicks_at_once_both_succeed(platform: Platform) -> None:
    email = f"twice-{uuid.uuid4().hex}@example.com"
    user = platform.sign_up(email).json()["id"]
    text = str(wait_until("the mail", lambda: platform.mails(email))[0]["text"])
    token = text.split("token=")[1].split()[0]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda url: requests.post(url, timeout=30), [f"{platform.url}/v1/user/verify?token={token}"] * 2))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["verified"] for answer in answers] == [True, True]
    events = platform.query(f"SELECT event FROM audit WHERE user_id = '{user}' AND event = 'user.verified'")  # noqa: S608
    assert events == ["user.verified"]


def test_every_404_takes_as_long(platform: Platform) -> None:
    table, dynamodb = platform.outputs["token_table_name"], platform.target.client("dynamodb")

    def stored(seconds: int) -> str:
        token = secrets.token_urlsafe(32)
        item = {
            "token_hash": hashlib.sha256(token.encode()).hexdigest(),
            "user_id": str(uuid.uuid4()),
            "message_id": str(uuid.uuid4()),
        }
        expires = {"expires_at": {"N": str(int(time.time()) + seconds)}}
        dynamodb.put_item(TableName=table, Item={**{name: {"S": value} for name, value in item.items()}, **expires})
        return token

    kinds: dict[str, Callable[[], str]] = {
        "unknown": lambda: secrets.token_urlsafe(32),
        "forged": lambda: "A" * 43,
        "expired": lambda: stored(-5),
        "foreign": lambda: stored(600),
    }
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    with requests.Session() as session:
        for number in range(CLICKS):
            for kind in sorted(kinds, key=lambda name: hash((number, name))):  # in turns of another order each time
                url = f"{platform.url}/v1/user/verify?token={kinds[kind]()}"
                began = time.perf_counter()
                assert session.post(url, timeout=30).status_code == 404
                times[kind].append(1000 * (time.perf_counter() - began))
    medians = {kind: round(statistics.median(each), 2) for kind, each in times.items()}
    print(f"milliseconds to a 404: {medians}")
    assert max(medians.values()) < 1.2 * min(medians.values())


def test_signups_are_as_quick_while_the_side_channel_is_down(platform: Platform) -> None:
    sns, topic = platform.target.client("sns"), platform.outputs["topic_arn"]
    own = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
    denied = {"Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": topic}
    nobody = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    measured: dict[str, list[float]] = {"up": [], "down": []}

    def waiting() -> int:
        return int(platform.query("SELECT count(*) FROM outbox WHERE published_at IS NULL")[0])

    try:
        for _ in range(ROUNDS):
            for state, policy in (("up", own), ("down", nobody)):
                sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
                measured[state].append(_round(platform))
                if state == "down":
                    assert waiting() > 0
            sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=own)
            wait_until(
                "an empty outbox",
                lambda: waiting() == 0,
                seconds=600,
                period=2,
            )
    finally:
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=own)
    medians = {state: statistics.median(each) for state, each in measured.items()}
    print(f"99th percentile of signups in ms, medians of {ROUNDS} rounds: {medians} of {measured}")
    assert medians["down"] < 1.1 * medians["up"] + 10


def _round(platform: Platform) -> float:
    """The 99th percentile of signups over a round, in milliseconds; none may fail."""
    with load(platform.url, ROUND_RATE, signup_every=1) as running:
        wait_until("the round", lambda: len(running.outcomes) >= ROUND_SECONDS * ROUND_RATE, seconds=20 * ROUND_SECONDS)
    assert running.failed() == []
    return running.p99()
