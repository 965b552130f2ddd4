"""Follows the journal of some units, and sends what they say to CloudWatch Logs: each entry once or, after a crash, twice.

Usage: journal_shipper.py UNIT... with OBSERVABILITY_LOG_GROUP and AWS's usual environment; the position is kept in
$STATE_DIRECTORY. The stream is named after the instance. Lines of the embedded metric format become metrics there.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from itertools import groupby
from pathlib import Path
from typing import IO, Any
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
MOST_EVENTS, MOST_BYTES, EVENT_BYTES, EVENT_OVERHEAD = 1000, 900_000, 200_000, 26
PATIENCE = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
METADATA = "http://169.254.169.254/latest"
# A call's events span a day at most; milliseconds, as their timestamps.
DAY = 86_400_000
GATHER_SECONDS = 2.0
LONGEST_PAUSE = 60.0


def instance_id() -> str:
    """From the instance's own metadata, version 2."""
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    with urlopen(Request(f"{METADATA}/api/token", method="PUT", headers=lifetime), timeout=5) as answer:
        token = answer.read().decode()
    with urlopen(Request(f"{METADATA}/meta-data/instance-id", headers={"X-aws-ec2-metadata-token": token}), timeout=5) as answer:
        return str(answer.read().decode())


def entries(stream: IO[str] | None, found: queue.Queue[dict[str, Any] | None]) -> None:
    """Read journalctl's lines into the queue, whose bound is what a long outage may take of memory; None is the end."""
    for line in stream or ():
        found.put(json.loads(line))
    found.put(None)


def event(entry: dict[str, Any]) -> dict[str, Any]:
    """The message as it is, so that its own JSON can be searched for; bytes, which journald gives as numbers, as text."""
    text = entry.get("MESSAGE") or ""
    if isinstance(text, list):
        text = bytes(text).decode(errors="replace")
    message = text.encode()[:EVENT_BYTES].decode(errors="ignore") or "-"
    return {"timestamp": int(entry["__REALTIME_TIMESTAMP"]) // 1000, "message": message}


def gather(found: queue.Queue[dict[str, Any] | None]) -> tuple[list[dict[str, Any]], str, bool]:
    """Some events in the order of their time, the position after them, and whether the journal goes on."""
    batch: list[dict[str, Any]] = []
    size, cursor, until = 0, "", 0.0
    while len(batch) < MOST_EVENTS and size < MOST_BYTES - EVENT_BYTES:
        try:
            entry = found.get(timeout=max(0.0, until - time.monotonic()) if batch else None)
        except queue.Empty:
            break
        if entry is None:
            return sorted(batch, key=lambda each: int(each["timestamp"])), cursor, False
        until = until or time.monotonic() + GATHER_SECONDS
        batch.append(event(entry))
        size, cursor = size + len(batch[-1]["message"].encode()) + EVENT_OVERHEAD, str(entry["__CURSOR"])
    return sorted(batch, key=lambda each: int(each["timestamp"])), cursor, True


def put(logs: Any, group: str, stream: str, batch: list[dict[str, Any]]) -> None:
    """Send, however long it takes; the stream is made when there is none."""
    pause = 1.0
    while True:
        try:
            logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            if code == "ResourceNotFoundException":
                try:
                    logs.create_log_stream(logGroupName=group, logStreamName=stream)
                    continue
                except (BotoCoreError, ClientError) as other:
                    code = other.response["Error"]["Code"] if isinstance(other, ClientError) else type(other).__name__
            print(f"CloudWatch Logs takes nothing, trying again in {pause:.0f} s: {code}", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            return


def main(units: list[str]) -> None:
    position = Path(os.environ["STATE_DIRECTORY"]) / "cursor"
    since = [f"--after-cursor={position.read_text()}"] if position.exists() else []
    command = ["journalctl", "--follow", "--lines=all", "--output=json", *since, *(f"--unit={unit}" for unit in units)]
    stream = instance_id()
    logs = boto3.client("logs", config=PATIENCE)
    found: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=10_000)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as journal:
        threading.Thread(target=entries, args=(journal.stdout, found), daemon=True).start()
        goes_on = True
        while goes_on:
            batch, cursor, goes_on = gather(found)
            if batch:
                for _, same_day in groupby(batch, key=lambda each: int(each["timestamp"]) // DAY):
                    put(logs, os.environ["OBSERVABILITY_LOG_GROUP"], stream, list(same_day))
                new = position.with_suffix(".new")
                new.write_text(cursor)
                new.replace(position)
    sys.exit("journalctl has ended")


if __name__ == "__main__":
    main(sys.argv[1:])
