"""The service as it runs: gunicorn with this package's configuration."""

from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import requests
from serving import COMMAND, Log, Serve, environment
from sqlalchemy import make_url
from waiting import wait_for

from signup.settings import Settings


def test_serves_logs_and_stops(serve: Serve, person: dict[str, str]) -> None:
    url, process = serve()
    token = "t" * 43
    assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
    assert requests.post(f"{url}/v1/user", json=person, timeout=5).status_code == 201
    assert requests.get(f"{url}/v1/user/verify?token={token}", timeout=5).status_code == 404
    assert requests.get(f"{url}/v1/{person['email']}", timeout=5).status_code == 404
    requests.get(f"{url}/v1/user/self", auth=(person["email"], person["password"]), timeout=5)
    chunks = iter([b" " * 40_000] * 2)
    chunked = requests.post(f"{url}/v1/user", data=chunks, headers={"Content-Type": "application/json"}, timeout=5)
    assert chunked.status_code == 413
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = [json.loads(line) for line in output.splitlines()]
    access = [line for line in lines if line["logger"] == "gunicorn.access"]
    assert sorted((line["path"], line["method"], line["status"]) for line in access) == [
        ("/v1/[redacted]", "GET", 404),
        ("/v1/user", "POST", 201),
        ("/v1/user", "POST", 413),
        ("/v1/user/self", "GET", 403),
        ("/v1/user/verify", "GET", 404),
    ]
    assert all(line["request_id"] and line["duration_ms"] >= 0 for line in access)
    for secret in (token, person["password"], person["email"]):
        assert secret not in output
    assert not any("127.0.0.1" in json.dumps(line) for line in access)


def test_a_burst_waits_its_turn(serve: Serve, person: dict[str, str]) -> None:
    url, _ = serve(SIGNUP_WORKERS="1")

    def sign_up(number: int) -> int:
        body = {**person, "email": f"ada{number}@example.com"}
        return requests.post(f"{url}/v1/user", json=body, timeout=20).status_code

    # Many more than may hash at once, and few enough for a busy machine to get to each within the queue's patience.
    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(sign_up, range(8))) == {201: 8}


def test_health_checks_are_answered_while_the_database_hangs(serve: Serve, gate: Any, settings: Settings) -> None:
    gate.open()
    database = make_url(settings.database.url or "").set(host="127.0.0.1", port=gate.port)
    url, _ = serve(SIGNUP_WORKERS="1", SIGNUP_DATABASE_URL=database.render_as_string(hide_password=False))
    assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
    gate.hang()

    def read_self(_: int) -> tuple[int, bool]:
        response = requests.get(f"{url}/v1/user/self", auth=("ada@example.com", "x"), timeout=60)
        return response.status_code, "Retry-After" in response.headers

    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(read_self, number) for number in range(120)]
        checks = 0
        while wait(asked, timeout=0.1).not_done:
            assert requests.get(f"{url}/healthz", timeout=2).status_code == 200
            checks += 1
        assert checks > 5
        assert Counter(each.result() for each in asked) == {(503, True): 120}


def test_clients_who_do_not_go_keep_nobody_out(serve: Serve) -> None:
    url, _ = serve(SIGNUP_WORKERS="1")
    parts = urlsplit(url)
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10))
            client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert requests.get(f"{url}/livez", timeout=5).status_code == 200
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert answer.endswith(b"}")


class KeptAlive:
    """A client that sends one request after the other on one connection, until that is announced to end, or has ended.

    `lost` counts requests that were sent in full and not answered in full.
    """

    def __init__(self, url: str, person: dict[str, str], number: int) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._person, self._number = person, number
        self.answered: list[int] = []
        self.lost = 0
        self.closed = ""

    def run(self) -> None:
        while not self.closed:
            self.ask()

    def ask(self) -> None:
        """Send one request, unless the connection has ended already."""
        if self._connection.sock is not None and self._has_ended():
            self.closed = "while nothing was under way"
            return
        try:
            if len(self.answered) % 3:
                body = json.dumps({**self._person, "email": f"client{self._number}-{len(self.answered)}@example.com"})
                self._connection.request("POST", "/v1/user", body, {"Content-Type": "application/json"})
            else:
                self._connection.request("GET", "/livez")
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self.lost += 1
            self.closed = "in the middle"
            return
        self.answered.append(answer.status)
        if answer.will_close:
            self.closed = "as announced"

    def _has_ended(self) -> bool:
        poller = select.poll()
        poller.register(self._connection.sock, select.POLLIN)
        return bool(poller.poll(0))


def test_a_stop_loses_no_request(serve: Serve, person: dict[str, str]) -> None:
    url, process = serve(SIGNUP_WORKERS="2")
    log = Log(process)
    clients = [KeptAlive(url, person, number) for number in range(8)]
    threads = [threading.Thread(target=client.run) for client in clients]
    idle = KeptAlive(url, person, len(clients))
    idle.ask()
    slow = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    body = json.dumps({**person, "email": "slow@example.com"}).encode()
    slow.putrequest("POST", "/v1/user")
    slow.putheader("Content-Type", "application/json")
    slow.putheader("Content-Length", str(len(body)))
    slow.endheaders(body[:10])
    for thread in threads:
        thread.start()
    wait_for("some answers to each", lambda: all(len(client.answered) > 3 for client in clients))
    process.terminate()
    for thread in threads:
        thread.join()
    idle.ask()
    # A request under way takes the time that it takes.
    slow.send(body[10:])
    assert slow.getresponse().status == 201
    log.ended()
    assert process.returncode == 0
    assert sum(client.lost for client in [*clients, idle]) == 0
    assert {status for client in clients for status in client.answered} == {200, 201}
    assert {client.closed for client in clients} == {"as announced"}


def test_wrong_settings_end_the_master_with_78() -> None:
    done = subprocess.run(COMMAND, env=environment(SIGNUP_PORT="0"), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert "SIGNUP_TOPIC_ARN is not set" in done.stderr
    assert "SIGNUP_PORT is '0'" in done.stderr
    assert "Traceback" not in done.stderr
