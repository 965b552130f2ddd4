"""The mail sink, over real HTTP on a loopback port."""

from __future__ import annotations

import base64
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import CustomArg, Mail
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from twin.bodies import mail_events
from twin.bodies.mail import MailSink

KEY = {"Authorization": "Bearer SG.test"}


def message(**changes: Any) -> dict[str, Any]:
    whole = {
        "personalizations": [{"to": [{"email": "ada@example.com"}]}],
        "from": {"email": "no-reply@example.com"},
        "subject": "Hello",
        "content": [{"type": "text/plain", "value": "A text"}],
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


@contextmanager
def served(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with served(MailSink(tmp_path)) as found:
        yield found


def post(url: str, content: Any, timeout: float = 5) -> requests.Response:
    return requests.post(f"{url}/v3/mail/send", json=content, headers=KEY, timeout=timeout)


def inbox(url: str, to: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = requests.get(f"{url}/messages", params={"to": to}, timeout=5).json()
    return found


def test_sendgrids_own_client_is_understood(url: str) -> None:
    mail = Mail("no-reply@example.com", "ada@example.com", "Confirm", "the text", "<b>the html</b>")
    mail.add_custom_arg(CustomArg("message_id", "0190-abc"))
    answer = SendGridAPIClient("SG.test", host=url).send(mail)
    assert answer.status_code == 202
    assert answer.headers["X-Message-Id"]
    [found] = inbox(url, "Ada@Example.com")
    assert found.pop("received_at").endswith("Z")
    assert found.pop("id").startswith(answer.headers["X-Message-Id"])
    assert found == {
        "to": "ada@example.com",
        "from": "no-reply@example.com",
        "subject": "Confirm",
        "text": "the text",
        "html": "<b>the html</b>",
        "custom_args": {"message_id": "0190-abc"},
    }


def test_each_recipient_gets_a_mail_of_their_own(url: str) -> None:
    people = [
        {"to": [{"email": "a@example.com"}], "cc": [{"email": "b@example.com"}]},
        {"to": [{"email": "c@example.com"}]},
    ]
    assert post(url, message(personalizations=people)).status_code == 202
    assert [len(inbox(url, f"{who}@example.com")) for who in "abcd"] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"personalizations": None}, "personalizations"),
        ({"personalizations": [{}]}, "personalizations.0.to"),
        ({"personalizations": [{"to": [{"email": "not an address"}]}]}, "personalizations.0.to.0.email"),
        ({"from": None}, "from.email"),
        ({"subject": None}, "subject"),
        ({"content": []}, "content"),
        ({"content": [{"type": "text/plain", "value": ""}]}, "content.0.value"),
        ({"custom_args": {"attempt": 1}}, "custom_args"),
    ],
)
def test_bad_input_is_refused_in_sendgrids_shape(url: str, changes: dict[str, Any], field: str) -> None:
    answer = post(url, message(**changes))
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert requests.get(f"{url}/messages", timeout=5).json() == []


def test_what_is_no_json_is_refused(url: str) -> None:
    json_type = {**KEY, "Content-Type": "application/json"}
    assert requests.post(f"{url}/v3/mail/send", data="{", headers=json_type, timeout=5).status_code == 400
    assert requests.post(f"{url}/v3/mail/send", data="{}", headers=KEY, timeout=5).status_code == 415


def test_too_large_a_mail_is_refused(url: str) -> None:
    answer = post(url, message(content=[{"type": "text/plain", "value": "x" * (30 * 1024 * 1024)}]), timeout=30)
    assert answer.status_code == 413


def test_a_send_needs_a_key(url: str) -> None:
    answer = requests.post(f"{url}/v3/mail/send", json=message(), timeout=5)
    assert answer.status_code == 401
    assert "authorization" in answer.json()["errors"][0]["message"]


def test_mails_outlive_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    for count in (1, 2):
        server = make_server("127.0.0.1", 0, MailSink(folder), threaded=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.port}"
        assert post(url, message()).status_code == 202
        assert len(inbox(url, "ada@example.com")) == count
        server.shutdown()


def test_pages_escape_what_a_mail_says(url: str) -> None:
    evil = "<script>alert(1)</script>"
    text = f"{evil} https://example.com/verify?token=a&b"
    content = [{"type": "text/plain", "value": text}, {"type": "text/html", "value": evil}]
    post(url, message(subject=evil, content=content))
    listing = requests.get(url, timeout=5).text
    page = requests.get(f"{url}/messages/{inbox(url, 'ada@example.com')[0]['id']}", timeout=5)
    for shown in (listing, page.text):
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown
    assert 'href="https://example.com/verify?token=a&amp;b"' in page.text
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_faults_come_and_go_to_order(url: str) -> None:
    assert requests.put(f"{url}/faults", json={"mode": "fail", "status": 429}, timeout=5).status_code == 200
    assert post(url, message()).status_code == 429
    requests.put(f"{url}/faults", json={"mode": "fail", "probability": 0}, timeout=5)
    assert post(url, message()).status_code == 202
    requests.put(f"{url}/faults", json={"mode": "reset"}, timeout=5)
    with pytest.raises(requests.ConnectionError, match=r"reset by peer|without response"):
        post(url, message())
    requests.put(f"{url}/faults", json={"mode": "hang"}, timeout=5)
    with pytest.raises(requests.ReadTimeout):
        post(url, message(), timeout=0.5)
    requests.put(f"{url}/faults", json={"mode": "slow", "seconds": 0.4}, timeout=5)
    with pytest.raises(requests.ReadTimeout):
        post(url, message(), timeout=0.2)
    assert post(url, message()).elapsed.total_seconds() >= 0.4
    requests.put(f"{url}/faults", json={"mode": "none"}, timeout=5)
    assert post(url, message()).status_code == 202


def test_a_mixed_fault_is_each_of_them_in_turn(url: str) -> None:
    requests.put(f"{url}/faults", json={"mode": "mixed", "seconds": 0}, timeout=5)
    seen = set()
    for _ in range(200):
        try:
            seen.add(post(url, message()).status_code)
        except requests.ConnectionError:
            seen.add(0)
    assert seen == {0, 429, 500}
    requests.put(f"{url}/faults", json={"mode": "none"}, timeout=5)
    for _ in range(3):
        assert post(url, message()).status_code == 202
    assert len(requests.get(f"{url}/messages", params={"limit": 2}, timeout=5).json()) == 2


@pytest.mark.parametrize(
    "order", [{"mode": "explode"}, {"mode": "fail", "status": 200}, {"mode": "slow", "seconds": -1}, {"speed": 1}, []]
)
def test_an_order_that_makes_no_sense_is_refused(url: str, order: Any) -> None:
    answer = requests.put(f"{url}/faults", json=order, timeout=5)
    assert answer.status_code == 400
    assert "such as" in answer.json()["error"]
    assert requests.get(f"{url}/faults", timeout=5).json()["mode"] == "none"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are told a second after they happen."""
    monkeypatch.setattr(mail_events, "GATHER_SECONDS", 1.0)


class Listener:
    """What a webhook's events are posted to: refuses the first posts, keeps the others, and answers when it may."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.posts: queue.Queue[Request] = queue.Queue()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        request.get_data()
        self.refusals -= 1
        if self.refusals >= 0:
            return Response("", 503)(environ, start_response)
        self.posts.put(request)
        self.may_answer.wait(60)
        return Response("", 204)(environ, start_response)


WEBHOOK = "/v3/user/webhooks/event/settings"


def events(url: str, listener: Listener, count: int) -> list[dict[str, Any]]:
    """Events that were posted, so many of them, each post's signature checked against the key that the sink shows."""
    shown = requests.get(f"{url}{WEBHOOK}/signed", headers=KEY, timeout=5).json()["public_key"]
    key = load_der_public_key(base64.b64decode(shown))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    found: list[dict[str, Any]] = []
    while len(found) < count:
        post = listener.posts.get(timeout=60)
        signature = base64.b64decode(post.headers["X-Twilio-Email-Event-Webhook-Signature"])
        timestamp = post.headers["X-Twilio-Email-Event-Webhook-Timestamp"]
        key.verify(signature, timestamp.encode() + post.get_data(), ec.ECDSA(hashes.SHA256()))
        found += post.get_json()
    return found


@pytest.mark.usefixtures("soon")
def test_the_webhook_tells_what_became_of_mails_until_it_is_heard(url: str) -> None:
    people = [{"to": [{"email": "ada@example.com"}]}, {"to": [{"email": "nobody@bounce.example.com"}]}]
    assert post(url, message()).status_code == 202  # of a time without a webhook
    listener = Listener(refusals=2)
    with served(listener) as address:
        order = {"enabled": True, "url": f"{address}/events", "processed": True, "delivered": True, "bounce": True, "click": True}
        assert requests.patch(f"{url}{WEBHOOK}", json=order, headers=KEY, timeout=5).status_code == 200
        assert post(url, message(personalizations=people, custom_args={"message_id": "0190-abc"})).status_code == 202
        told = events(url, listener, 4)
        assert [(event["event"], event["email"]) for event in told] == [
            ("processed", "ada@example.com"),
            ("delivered", "ada@example.com"),
            ("processed", "nobody@bounce.example.com"),
            ("bounce", "nobody@bounce.example.com"),
        ]
        assert {event["message_id"] for event in told} == {"0190-abc"}
        assert len({event["sg_event_id"] for event in told}) == 4
        assert told[3]["reason"].startswith("550 ")


@pytest.mark.usefixtures("soon")
def test_what_happens_while_events_are_posted_is_gathered_for_the_next_post(url: str) -> None:
    listener = Listener(refusals=0)
    with served(listener) as address:
        order = {"enabled": True, "url": f"{address}/events", "delivered": True}
        assert requests.patch(f"{url}{WEBHOOK}", json=order, headers=KEY, timeout=5).status_code == 200
        listener.may_answer.clear()
        assert post(url, message()).status_code == 202
        assert len(listener.posts.get(timeout=60).get_json()) == 1
        assert post(url, message()).status_code == 202
        assert post(url, message()).status_code == 202
        answered = time.monotonic()
        listener.may_answer.set()
        assert len(listener.posts.get(timeout=60).get_json()) == 2
        assert time.monotonic() - answered >= mail_events.GATHER_SECONDS


@pytest.mark.usefixtures("soon")
def test_events_outlive_the_sink(tmp_path: Path) -> None:
    listener = Listener(refusals=0)
    with served(MailSink(tmp_path)) as url:
        order = {"enabled": True, "url": "http://127.0.0.1:9/events", "delivered": True}
        assert requests.patch(f"{url}{WEBHOOK}", json=order, headers=KEY, timeout=5).status_code == 200
        assert post(url, message()).status_code == 202
        shown = requests.get(f"{url}{WEBHOOK}/signed", headers=KEY, timeout=5).json()
    with served(listener) as address, served(MailSink(tmp_path)) as url:
        assert requests.get(f"{url}{WEBHOOK}/signed", headers=KEY, timeout=5).json() == shown
        order = {"url": f"{address}/events"}
        assert requests.patch(f"{url}{WEBHOOK}", json=order, headers=KEY, timeout=5).json()["enabled"] is True
        assert [event["event"] for event in events(url, listener, 1)] == ["delivered"]


@pytest.mark.parametrize("order", [{"enabled": True}, {"enabled": "yes"}, {"enabled": True, "url": "ftp://x"}, []])
def test_settings_of_a_webhook_that_make_no_sense_are_refused(url: str, order: Any) -> None:
    assert requests.patch(f"{url}{WEBHOOK}", json=order, headers=KEY, timeout=5).status_code == 400
    assert requests.get(f"{url}{WEBHOOK}", headers=KEY, timeout=5).json()["enabled"] is False
    assert requests.get(f"{url}{WEBHOOK}", timeout=5).status_code == 401
