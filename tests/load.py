"""An open-loop load: requests leave at their times whether or not earlier ones were answered, as the public's do.

Bounded in rate, count and time, and aimed at the platform under test alone.
"""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_REQUESTS = 30_000
TIMEOUT = 10


@dataclass(frozen=True)
class Outcome:
    """One request: when it left (monotonic seconds), how long it took, and its status; 0 when there was no answer."""

    at: float
    seconds: float
    status: int
    signup: bool
    # The beginning of a refusal: whose words they are tells who refused.
    words: str = ""
    retry_after: str | None = None


@dataclass
class Load:
    url: str
    rate: float
    # One request in so many is a signup, the others read.
    signup_every: int = 10
    # Seconds that a client waits for its answer.
    timeout: float = TIMEOUT
    outcomes: list[Outcome] = field(default_factory=list)
    # Addresses whose signup was answered with 201.
    acknowledged: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(int(self.rate * self.timeout / 4)) as pool:
            for number in range(MAX_REQUESTS):
                due = began + number / self.rate
                if self._ended.wait(max(0.0, due - time.monotonic())):
                    return
                pool.submit(self._request, number % self.signup_every == 0)

    def end(self) -> None:
        self._ended.set()

    def _request(self, signup: bool) -> None:
        began = time.monotonic()
        email = f"load-{uuid.uuid4().hex}@example.com"
        retry_after = None
        try:
            if signup:
                person = {"first_name": "Load", "last_name": "Test", "email": email, "password": "fifty requests a second"}
                status, words, retry_after = self._answer("POST", "/v1/user", json.dumps(person))
            else:
                status, words, retry_after = self._answer("GET", "/livez")
        except (OSError, http.client.HTTPException) as error:
            status, words = 0, type(error).__name__
        said = words[:120] if status >= 300 or not status else ""
        self.outcomes.append(Outcome(began, time.monotonic() - began, status, signup, said, retry_after))
        if signup and status == 201:
            self.acknowledged.append(email)

    def _answer(self, method: str, path: str, body: str | None = None) -> tuple[int, str, str | None]:
        """One request on a connection of its own, by the lightest client there is: it shares the machine with what it loads."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=self.timeout)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace"), answer.headers["Retry-After"]
        finally:
            connection.close()

    def failed(self, since: float = 0.0, until: float = float("inf")) -> list[Outcome]:
        """Requests that left in the span and were not answered as they should be."""
        return [one for one in self.sent(since, until) if one.status != (201 if one.signup else 200)]

    def sent(self, since: float = 0.0, until: float = float("inf")) -> list[Outcome]:
        return [one for one in list(self.outcomes) if since <= one.at < until]

    def p99(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Milliseconds that one in a hundred of the span's answers took longer than."""
        return round(1000 * statistics.quantiles([one.seconds for one in self.sent(since, until)], n=100)[98], 1)


@contextmanager
def load(url: str, rate: float, **options: Any) -> Iterator[Load]:
    """Run a load beside what the block does; when the block ends, the last answers are awaited."""
    running = Load(url, rate, **options)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        running.end()
        thread.join()
