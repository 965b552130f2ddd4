"""`python -m evenkeel.signup_load URL ...`: signs up strangers, and writes what it saw as one JSON object to standard output.

Closed loop by default: every client sends its next signup when the last one was answered. With --rate, signups leave at
their times whether or not earlier ones were answered, as the public's do. One thread and no HTTP library: it shares the
machine's cores with what it loads, so it must cost next to nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from evenkeel.host import ROOT
from evenkeel.steps import Failure, last_line

TIMEOUT = 60.0
PASSWORD = "measured twice, cut once"  # noqa: S105 - of nobody


@dataclass
class Seen:
    """Milliseconds of each signup that was answered with 201, in the order of the answers; how many were answered otherwise."""

    milliseconds: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)

    def refuse(self, why: str) -> None:
        self.refused[why] = self.refused.get(why, 0) + 1


class Client:
    """One connection, kept open from signup to signup."""

    def __init__(self, url: str, seen: Seen) -> None:
        self._where = urlsplit(url)
        self._seen = seen
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def sign_up(self) -> None:
        address = f"bench-{uuid.uuid4().hex}@example.com"
        began = time.monotonic()
        try:
            status = await asyncio.wait_for(self._ask(address), TIMEOUT)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            self.close()
            self._seen.refuse(type(error).__name__)
            return
        if status == 201:
            self._seen.milliseconds.append(1000 * (time.monotonic() - began))
            self._seen.addresses.append(address)
        else:
            self._seen.refuse(str(status))

    async def _ask(self, address: str) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._where.hostname, self._where.port or 80)
        reader, writer = self._streams
        person = {"first_name": "Bench", "last_name": "Mark", "email": address, "password": PASSWORD}
        body = json.dumps(person).encode()
        head = f"POST /v1/user HTTP/1.1\r\nHost: {self._where.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = answer.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))  # none is a ValueError, as a broken one
        if b"connection: close" in answer:
            self.close()
        return int(answer.split()[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed(url: str, clients: int, count: int, seen: Seen) -> None:
    """Sign `count` strangers up with `clients` connections."""
    left = iter(range(count))

    async def work() -> None:
        client = Client(url, seen)
        for _ in left:
            await client.sign_up()
        client.close()

    await asyncio.gather(*(work() for _ in range(clients)))


async def opened(url: str, rate: float, count: int, seen: Seen) -> None:
    """Sign `count` strangers up, `rate` a second, each on whichever connection is free."""
    free: list[Client] = []

    async def work() -> None:
        client = free.pop() if free else Client(url, seen)
        await client.sign_up()
        free.append(client)

    loop = asyncio.get_running_loop()
    began = loop.time()
    under_way = set()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
        task = loop.create_task(work())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    for client in free:
        client.close()


def load(url: str, count: int, *options: str) -> dict[str, Any]:
    """Run this in a process of its own; returns what it saw, and the seconds and the processor time that it took.

    Raises Failure.
    """
    command = [sys.executable, "-m", "evenkeel.signup_load", url, f"--count={count}", *options]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"the load generator ended with {done.returncode}: {last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="signup_load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--count", type=int, required=True, help="how many signups")
    parser.add_argument("--clients", type=int, default=16, help="connections of the closed loop")
    parser.add_argument("--rate", type=float, help="signups a second of the open loop")
    arguments = parser.parse_args()
    seen = Seen()
    began, used = time.monotonic(), time.process_time()
    if arguments.rate:
        asyncio.run(opened(arguments.url, arguments.rate, arguments.count, seen))
    else:
        asyncio.run(closed(arguments.url, arguments.clients, arguments.count, seen))
    span = {"seconds": time.monotonic() - began, "processor_seconds": time.process_time() - used}
    json.dump({**vars(seen), **span}, sys.stdout)


if __name__ == "__main__":
    main()
