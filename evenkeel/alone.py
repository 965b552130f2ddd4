"""The service by itself: its processes beside a PostgreSQL, with what each of them takes of the processors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from evenkeel.host import ROOT
from evenkeel.steps import Failure, wait_for

_GUNICORN = ("-m", "gunicorn", "-c", "python:signup.gunicorn_conf", "signup.wsgi:app")
_MIGRATE = ("-c", "from signup.schema.migrate import main; main()")
_OUTBOX = ("-c", "from signup.outbox.publisher import main; main()")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Service:
    """The running service: its address, and its processes by name."""

    url: str
    processes: dict[str, subprocess.Popen[bytes]]

    def processor_seconds(self) -> dict[str, float]:
        """What each process and its children have used so far."""
        return {name: used(process.pid) for name, process in self.processes.items()}


@contextmanager
def service(database: str, topic: str, log: Path) -> Iterator[Service]:
    """Run the service and its publisher on an empty database, as their units do, with their own defaults."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own = {
        "SIGNUP_DATABASE_URL": database,
        "SIGNUP_TOPIC_ARN": "arn:aws:sns:us-east-1:123456789012:bench",
        "SIGNUP_TOKEN_TABLE": "bench",
        "SIGNUP_PUBLIC_URL": "http://localhost",
        "SIGNUP_PORT": str(port),
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": topic,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith(("SIGNUP_", "AWS_"))}, **own}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        for name, process in processes.items():
            if process.poll() is not None:
                raise Failure(f"the {name} ended with {process.returncode}: {log} says why")
        try:
            return requests.get(f"{url}/healthz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    with log.open("wb") as output:
        migration = subprocess.run([sys.executable, *_MIGRATE], cwd=ROOT, env=environment, stdout=output, stderr=output)
        if migration.returncode:
            raise Failure(f"the migration ended with {migration.returncode}: {log} says why")
        try:
            for name, arguments in (("service", _GUNICORN), ("publisher", _OUTBOX)):
                processes[name] = subprocess.Popen(
                    [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
                )
            wait_for("the service", ready, 60)
            yield Service(url, processes)
        finally:
            for process in processes.values():
                process.send_signal(signal.SIGTERM)
            for process in processes.values():
                _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for its orderly end; one that does not come to it is killed."""
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def used(pid: int) -> float:
    """Seconds of processor time of a process and all its living descendants."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(words[11]) + int(words[12])) / _TICK + sum(used(int(child)) for child in children)
