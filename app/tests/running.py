"""The service's own processes, as their units start them, and an SNS that the test has in hand."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import requests
from serving import COMMAND
from waiting import wait_for

TOPIC = "arn:aws:sns:us-east-1:123456789012:verification"


class Unit:
    """A program and its children, in a process group of their own, as systemd's are in a control group."""

    def __init__(self, command: list[str], values: dict[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            command, env=values, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def runs(self) -> bool:
        return self._process.poll() is None

    def stands_still(self) -> bool:
        """Whether SIGSTOP has come into effect."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def workers(self) -> set[int]:
        """Process ids of its children."""
        return {int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()}

    def kill(self) -> None:
        """End all of it at once, without a word, and wait for that."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(20)

    def terminate(self) -> None:
        self._process.terminate()

    def stop(self, seconds: float = 40) -> int:
        """End it as systemd does; returns its exit status."""
        if self.runs():
            self._process.terminate()
        return self._process.wait(seconds)

    def said(self) -> str:
        """All that it has written so far."""
        self._log.seek(0)
        return self._log.read()

    def end(self) -> None:
        """Whatever state it is in, leave nothing behind."""
        if self.runs():
            self.kill()
        self._log.close()


@contextmanager
def running(command: list[str], values: dict[str, str]) -> Iterator[Unit]:
    unit = Unit(command, values)
    try:
        yield unit
    finally:
        unit.end()


@contextmanager
def ready(values: dict[str, str]) -> Iterator[tuple[str, Unit]]:
    """gunicorn on a free port, ready; yields its address and its processes."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with running(COMMAND, {**values, "SIGNUP_PORT": str(port)}) as unit:

        def healthy() -> bool:
            assert unit.runs(), unit.said()
            try:
                return requests.get(f"{url}/healthz", timeout=5).status_code == 200
            except requests.RequestException:
                return False

        wait_for("the service", healthy)
        yield url, unit


class Sns:
    """As much of SNS as publishing takes, over real HTTP.

    `on_taken` is called with each message that was taken, before it is answered: what it does to the publisher happens at that
    very point. A ConnectionError from it is no answer at all. Messages whose ids are in `refuses` are not taken.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.refuses: set[str] = set()
        self.on_taken: Callable[[dict[str, Any]], None] | None = None
        self._calls: set[tuple[str, str]] = set()
        sns = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one segment

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                entry, number, taken, refused = "PublishBatchRequestEntries.member.%d.%s", 1, "", ""
                while name := form.get(entry % (number, "Id")):
                    message = json.loads(form[entry % (number, "Message")][0])
                    if message["message_id"] in sns.refuses:
                        refused += f"<member><Id>{name[0]}</Id><Code>InternalError</Code></member>"
                    else:
                        sns.take(message, self.headers["amz-sdk-invocation-id"])
                        taken += f"<member><Id>{name[0]}</Id><MessageId>m</MessageId></member>"
                    number += 1
                result = f"<Successful>{taken}</Successful><Failed>{refused}</Failed>"
                self._answer(f"<PublishBatchResponse><PublishBatchResult>{result}</PublishBatchResult></PublishBatchResponse>")

            def _answer(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, message: dict[str, Any], call: str) -> None:
        if (call, message["message_id"]) in self._calls:  # boto3 has lost patience with a busy machine, and asks once more
            return
        self._calls.add((call, message["message_id"]))
        self.messages.append(message)
        if self.on_taken:
            self.on_taken(message)

    def count(self) -> Counter[str]:
        """How often each message was taken, by its id."""
        return Counter(str(message["message_id"]) for message in list(self.messages))

    def addresses(self) -> list[str]:
        """Whose messages were taken, in their order; an address comes as often as its messages did."""
        return [str(message["email"]) for message in list(self.messages)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
