"""Progress a person can read: which step of how many, how long it took, and one clear line when it fails."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class Failure(Exception):
    """A step can't go on; the message says what is wrong and what to do."""


class Steps:
    """Numbered steps on standard output."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.began = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Run a step; yields a function that shows what it is at (on a terminal), and returns what it was good for."""
        self.number += 1
        began = time.monotonic()
        head = f"[{self.number}/{self.total}] {title}"
        outcome = ""
        terminal = sys.stdout.isatty()
        print(head, end="" if terminal else "\n", flush=True)

        def note(text: str) -> None:
            nonlocal outcome
            outcome = text
            if terminal:
                print(f"\r\033[K{head}: {text} ({time.monotonic() - began:.0f} s)", end="", flush=True)

        try:
            yield note
        except BaseException:
            print(f"\r\033[K{head}: failed after {time.monotonic() - began:.0f} s" if terminal else "      failed", flush=True)
            raise
        words = f"{outcome}, " if outcome else ""
        took = f"{words}{time.monotonic() - began:.1f} s"
        print(f"\r\033[K{head}: {took}" if terminal else f"      {took}", flush=True)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began


def wait_for(what: str, ready: Callable[[], bool], seconds: float, period: float = 0.5) -> None:
    """Wait until `ready()`; raises Failure naming `what` after `seconds`."""
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise Failure(f"{what} did not come within {seconds:.0f} s")
        time.sleep(period)


def last_line(text: str) -> str:
    """What a program said last, which mostly is why it ended."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def stop(message: str) -> NoReturn:
    print(f"evenkeel: {message}", file=sys.stderr)
    raise SystemExit(1)
