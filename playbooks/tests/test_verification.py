"""Messages that were given up, and the life of mails: the modules in this process, and the playbooks for real."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from evenkeel.host import ROOT, VENV

DEAD, REFUSED = "verification-dead-letter", "verification-refused"
EMAIL = "ada@example.com"
LATER = "2026-01-31T12:00:0{}.000Z"

for helper in ("letters", "mails"):  # as Ansible ships them with its modules
    sys.modules[f"ansible.module_utils.{helper}"] = import_module(f"playbooks.module_utils.{helper}")
dead_letters, mail_status = import_module("playbooks.library.dead_letters"), import_module("playbooks.library.mail_status")
told = import_module("playbooks.filter_plugins.letters")
CLIENTS: dict[str, Any] = {}  # of the one server


@dataclass
class Channel:
    """A side channel's queues, tables and topic; what the topic publishes is kept."""

    url: str
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}")
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self.clients:
            session: Any = boto3.Session("testing", "testing", region_name="us-east-1")
            self.clients[service] = session.client(service, endpoint_url=self.url)
        return self.clients[service]

    def build(self) -> None:
        sqs, sns = self.client("sqs"), self.client("sns")
        self.urls = {name: sqs.create_queue(QueueName=f"{self.name}-{name}")["QueueUrl"] for name in (DEAD, REFUSED, "published")}
        self.topic = sns.create_topic(Name=f"{self.name}-verification")["TopicArn"]
        arn = sqs.get_queue_attributes(QueueUrl=self.urls["published"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
        for name, key in ((f"{self.name}-idempotency", "id"), (f"{self.name}-mail", "message_id")):
            indexed = [{"AttributeName": each, "AttributeType": "S"} for each in (key, "recipient", "queued_at")]
            index = [{"AttributeName": "recipient", "KeyType": "HASH"}, {"AttributeName": "queued_at", "KeyType": "RANGE"}]
            self.client("dynamodb").create_table(
                TableName=name,
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=indexed,
                GlobalSecondaryIndexes=[{"IndexName": "recipient", "KeySchema": index, "Projection": {"ProjectionType": "ALL"}}],
                BillingMode="PAY_PER_REQUEST",
            )

    def put(self, queue: str, body: Any, reason: str = "") -> None:
        attributes = {"Reason": {"DataType": "String", "StringValue": reason}} if reason else {}
        text = body if isinstance(body, str) else json.dumps(body)
        self.client("sqs").send_message(QueueUrl=self.urls[queue], MessageBody=text, MessageAttributes=attributes)

    def published(self) -> list[str]:
        return [message["message_id"] for message in map(json.loads, self._drain("published"))]

    def _drain(self, queue: str) -> list[str]:
        sqs, found = self.client("sqs"), []
        while got := sqs.receive_message(QueueUrl=self.urls[queue], MaxNumberOfMessages=10).get("Messages"):
            for entry in got:
                found.append(entry["Body"])
                sqs.delete_message(QueueUrl=self.urls[queue], ReceiptHandle=entry["ReceiptHandle"])
        return found

    def waiting(self, queue: str) -> int:
        """How many entries anybody can take at once."""
        names = ["ApproximateNumberOfMessages"]
        found = self.client("sqs").get_queue_attributes(QueueUrl=self.urls[queue], AttributeNames=names)["Attributes"]
        return int(found["ApproximateNumberOfMessages"])

    def done(self, message_id: str, status: str = "COMPLETED", until: float = 1769860830) -> None:
        key = "mail#" + hashlib.sha256(json.dumps(message_id).encode()).hexdigest()
        item = {"id": {"S": key}, "status": {"S": status}, "in_progress_expiration": {"N": str(int(1000 * until))}}
        self.client("dynamodb").put_item(TableName=f"{self.name}-idempotency", Item=item)

    def mail(self, message_id: str, email: str = EMAIL, **known: str) -> None:
        values = {"message_id": message_id, "user_id": "u-1", "request_id": "req-1", "queued_at": LATER.format(0), **known}
        values["recipient"] = hashlib.sha256(email.encode()).hexdigest()
        self.client("dynamodb").put_item(TableName=f"{self.name}-mail", Item={name: {"S": text} for name, text in values.items()})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def channel(server: str) -> Channel:
    made = Channel(server, clients=CLIENTS)
    made.build()
    return made


class Asked:
    """What a module's work needs of Ansible."""

    def __init__(self, channel: Channel, module: Any, check_mode: bool = False, **options: Any) -> None:
        self.params = {name: spec.get("default") for name, spec in module.ARGUMENTS.items()} | options
        self.check_mode = check_mode
        self.client = channel.client
        self.warnings: list[str] = []
        self.warn = self.warnings.append


def message(message_id: str = "", email: str = EMAIL) -> dict[str, Any]:
    ids = {"message_id": message_id or str(uuid.uuid4()), "user_id": "u-1", "request_id": "req-1"}
    return {"version": 1, **ids, "email": email, "locale": "en", "occurred_at": LATER.format(0)}


def notification(content: Any) -> dict[str, Any]:
    return {"Type": "Notification", "Message": content if isinstance(content, str) else json.dumps(content)}


def failed(content: Any) -> dict[str, Any]:
    """Lambda's record of an event that failed."""
    return {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": {"Records": [{"Sns": notification(content)}]},
        "responsePayload": {"errorType": "MailUndeliveredError", "errorMessage": "SendGrid answered 503"},
    }


def replay(channel: Channel, check_mode: bool = False, **options: Any) -> dict[str, Any]:
    given = {
        "queue": f"{channel.name}-{DEAD}",
        "state": "replayed",
        "topic": f"{channel.name}-verification",
        "sent_table": f"{channel.name}-idempotency",
    }
    found: dict[str, Any] = dead_letters.work(Asked(channel, dead_letters, check_mode, **given | options))
    return found


UNREADABLE = (
    "{",
    "[]",
    {"Type": "Notification"},
    {"requestPayload": [1]},
    {"requestPayload": {"Records": [3]}},
    {"requestPayload": {"Records": 3}},
    {"requestPayload": {}, "requestContext": "?", "responsePayload": "?"},
    {"requestPayload": {}, "requestContext": {"approximateInvokeCount": "x"}},
    {"Type": "Notification", "Message": "\ud800"},
)


def test_each_form_of_entry_is_replayed_and_what_can_not_be_read_stays(channel: Channel) -> None:
    by_topic, by_function = message(), message()
    channel.put(DEAD, notification(by_topic))
    channel.put(DEAD, failed(by_function))
    for unreadable in UNREADABLE:
        channel.put(DEAD, unreadable)
    listed = replay(channel, check_mode=True)
    assert (listed["changed"], listed["replayed"]) == (True, 0)
    assert channel.waiting(DEAD) == 2 + len(UNREADABLE)

    done = replay(channel)
    assert (done["changed"], done["replayed"]) == (True, 2)
    assert sorted(channel.published()) == sorted([by_topic["message_id"], by_function["message_id"]])
    rows = {row["message_id"]: row for row in done["rows"]}
    assert rows[by_function["message_id"]]["why"] == "RetriesExhausted: MailUndeliveredError: SendGrid answered 503"
    assert rows[by_function["message_id"]]["attempts"] == 3
    assert rows[by_topic["message_id"]]["why"] == "not delivered to the function"
    assert [row["fate"] for row in done["rows"]].count("unreadable") == len(UNREADABLE)
    assert EMAIL not in json.dumps(done)
    assert channel.waiting(DEAD) == len(UNREADABLE)

    again = replay(channel)
    assert (again["changed"], again["replayed"], channel.published()) == (False, 0, [])


def test_a_poisoned_queue_keeps_no_good_message(channel: Channel) -> None:
    for number in range(25):
        channel.put(DEAD, f"poison {number}")
    good = message()
    channel.put(DEAD, notification(good))
    assert replay(channel)["replayed"] == 1
    assert channel.published() == [good["message_id"]]
    assert channel.waiting(DEAD) == 25


def test_the_report_waits_for_what_was_replayed(channel: Channel) -> None:
    before, now, never = message(), message(), message()
    for each in (before, now, never):
        channel.put(DEAD, failed(each))
    channel.done(before["message_id"])
    timer = threading.Timer(0.5, channel.done, [now["message_id"]])
    timer.start()
    rows = replay(channel, wait_seconds=3)["rows"]
    timer.join()
    fates = {row["message_id"]: row["fate"] for row in rows}
    assert fates == {before["message_id"]: "sent before", now["message_id"]: "sent", never["message_id"]: "replayed"}
    text = "\n".join(told.report(rows, DEAD))
    assert text.startswith(f"{DEAD}: 3 messages; 1 replayed, 1 sent, 1 sent before.\n1 not sent yet")


def test_an_entry_is_deleted_only_once_it_is_published(channel: Channel) -> None:
    channel.put(DEAD, notification(message()))
    with pytest.raises(Exception, match="NotFound"):
        replay(channel, topic="no-such-topic")
    assert channel.waiting(DEAD) == 1, "the next run sees it at once"
    assert replay(channel)["replayed"] == 1


def test_what_is_left_is_told(channel: Channel) -> None:
    for _ in range(3):
        channel.put(DEAD, notification(message()))
    done = replay(channel, limit=2)
    assert (done["replayed"], done["more"]) == (2, True)
    assert "There are more than redrive_limit: run it again." in told.report(done["rows"], DEAD, done["late"], done["more"])
    assert replay(channel, limit=2)["more"] is False
    assert told.report([], DEAD, late=2) == ["2 more came meanwhile: run it again once their cause is gone."]
    assert told.report([], DEAD) == [f"{DEAD} is empty."]


def test_what_comes_meanwhile_is_left_for_the_next_time(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    channel.put(DEAD, notification(message()))
    monkeypatch.setattr("playbooks.module_utils.letters._asked_at", lambda _: 0.0)
    done = replay(channel)
    assert (done["rows"], done["late"], channel.waiting(DEAD)) == ([], 1, 1)


def test_what_was_sent_already_is_not_published_again(channel: Channel) -> None:
    sent = message()
    channel.put(DEAD, failed(sent))
    channel.done(sent["message_id"])
    done = replay(channel)
    assert ([row["fate"] for row in done["rows"]], done["replayed"]) == (["sent before"], 0)
    assert (channel.published(), channel.waiting(DEAD)) == ([], 0)


def ask(channel: Channel, email: str = EMAIL) -> list[dict[str, Any]]:
    names = {
        "mail_table": f"{channel.name}-mail",
        "sent_table": f"{channel.name}-idempotency",
        "queues": [f"{channel.name}-{queue}" for queue in (DEAD, REFUSED)],
    }
    found: list[dict[str, Any]] = mail_status.work(Asked(channel, mail_status, email=email, **names))
    return found


def test_a_mails_life_is_told_in_order(channel: Channel) -> None:
    email = f"{uuid.uuid4()}@example.com"
    times = {"published_at": 1, "failed_at": 2, "accepted_at": 4, "delivered_at": 5, "bounced_at": 6}
    known = {name: LATER.format(second) for name, second in times.items()}
    channel.mail("m-1", email, **known, failure="SendGrid answered 503", bounce="550 no such user")
    channel.mail("m-2", email, published_at=LATER.format(1), queued_at=LATER.format(9))
    channel.done("m-2", "INPROGRESS", until=time.time() + 600)
    channel.mail("m-3", "somebody@example.com")
    second, first = ask(channel, email.upper())
    assert (first["message_id"], first["status"]) == ("m-1", "bounced")
    assert [step["what"] for step in first["steps"]] == [
        "asked for: committed with its user, waiting in the outbox",
        "published to SNS",
        "an attempt failed: SendGrid answered 503",
        "taken by SendGrid",
        "delivered to the receiving server",
        "bounced: 550 no such user",
    ]
    assert first["steps"][0]["at"] == "2026-01-31 12:00:00.000"
    assert (second["message_id"], second["status"]) == ("m-2", "in progress")
    assert email not in json.dumps([first, second])


def test_times_of_a_second_alone_keep_their_order(channel: Channel) -> None:
    """As SendGrid tells them: a mail was taken before it was delivered, in the same second."""
    email = f"{uuid.uuid4()}@example.com"
    channel.mail("m-4", email, accepted_at="2026-01-31T12:00:05.377Z", delivered_at="2026-01-31T12:00:05.000Z")
    (mail,) = ask(channel, email)
    assert mail["status"] == "delivered"
    assert [step["what"] for step in mail["steps"]][-2:] == ["taken by SendGrid", "delivered to the receiving server"]


def test_a_killed_attempt_is_told_from_one_at_work(channel: Channel) -> None:
    email = f"{uuid.uuid4()}@example.com"
    channel.mail("m-5", email)
    channel.done("m-5", "INPROGRESS", until=time.time() - 1)
    assert [mail["status"] for mail in ask(channel, email)] == ["interrupted"]


def test_an_address_is_looked_up_as_the_service_keeps_it(channel: Channel) -> None:
    channel.mail("m-6", "ada@xn--bcher-kva.example")
    assert [mail["message_id"] for mail in ask(channel, " Ada@B\u00fccher.example")] == ["m-6"]


def test_a_refused_message_without_a_time_is_found(channel: Channel) -> None:
    email = f"{uuid.uuid4()}@example.com"
    channel.put(REFUSED, notification({**message("m-7", email), "occurred_at": "yesterday"}), "malformed")
    (mail,) = ask(channel, email)
    assert [step["what"] for step in mail["steps"]] == [f"in {channel.name}-{REFUSED}: refused: malformed"]


def test_what_never_reached_the_function_is_found_in_its_queue(channel: Channel) -> None:
    email = f"{uuid.uuid4()}@example.com"
    channel.put(DEAD, notification(message("m-lost", email.upper())))
    channel.put(REFUSED, notification(message("m-refused", email)), "sendgrid-400")
    channel.put(DEAD, "{")
    mails = {mail["message_id"]: mail for mail in ask(channel, email)}
    assert {mail["status"] for mail in mails.values()} == {"given up"}
    assert mails["m-lost"]["steps"][-1]["what"] == f"in {channel.name}-{DEAD}: not delivered to the function"
    assert mails["m-refused"]["steps"][-1]["what"] == f"in {channel.name}-{REFUSED}: refused: sendgrid-400"
    assert channel.waiting(DEAD) == 2
    assert told.lives(ask(channel, "nobody@example.com"))[0].startswith("No mail to this address")


def test_the_playbooks_run(channel: Channel, tmp_path: Any) -> None:
    email, lost = f"{uuid.uuid4()}@example.com", message()
    channel.mail("m-9", email, accepted_at=LATER.format(3))
    channel.put(DEAD, failed(lost))

    def run(playbook: str, *options: str) -> tuple[int, str]:
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "words",
            "ANSIBLE_HOME": str(tmp_path),
            "ANSIBLE_LOG_PATH": str(tmp_path / "log"),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": channel.url,
            "AWS_REGION": "us-east-1",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(ROOT / ".state" / "pycache"),
        }
        command = [
            str(VENV / "bin" / "ansible-playbook"),
            f"playbooks/{playbook}.yml",
            "-e",
            f"verification_name={channel.name}",
            *options,
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    status, text = run("mail_status", "-e", f"email={email}")
    assert status == 0, text
    assert re.search(
        r"^accepted: message m-9.*\n.*waiting in the outbox\n  2026-01-31 12:00:03.000  taken by SendGrid$", text, re.M
    )
    status, text = run("redrive", "--check")
    assert (status, channel.published()) == (0, []), text
    assert f"{channel.name}-{DEAD}: 1 messages; 1 waits." in text
    status, text = run("redrive", "-e", "redrive_wait_seconds=0")
    assert (status, channel.published()) == (0, [lost["message_id"]]), text
    assert f"{channel.name}-{DEAD}: 1 messages; 1 replayed." in text
    assert lost["message_id"] in text
    status, text = run("redrive", "-e", "redrive_queue=other")
    assert status != 0
    assert "redrive_queue=other is dead-letter or refused" in text
    said = (tmp_path / "log").read_text()
    assert email not in said
    assert EMAIL not in said
