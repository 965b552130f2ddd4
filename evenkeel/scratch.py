"""What tests and benchmarks need without a region: the machine images, and a PostgreSQL. Nothing of it is left on the machine."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from evenkeel.local import Local
from twin.bodies import postgres
from twin.bodies.podman import Podman
from twin.settings import Settings

# A store user of its own, beside any region that runs.
LOCAL = Local("test-database", 98)
SETTINGS = Settings(state=LOCAL.state, store=LOCAL.store, name=LOCAL.name, slot=LOCAL.slot)


@contextmanager
def images() -> Iterator[None]:
    """The machine images are there; at the end podman's traces outside the repository go, if nobody else needs them.

    Raises Failure.
    """
    try:
        LOCAL.prepare()
        yield
    finally:
        Podman(SETTINGS).leave()


@contextmanager
def database() -> Iterator[str]:
    """A PostgreSQL server on a loopback port, of the version that the platform runs, once its image is there; yields its URL."""
    podman = Podman(SETTINGS)
    podman.configure()
    shutil.rmtree(SETTINGS.state, ignore_errors=True)
    SETTINGS.state.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    password = secrets.token_urlsafe(16)
    # Tests that stop a conversation at a word have to read it.
    parameters = {"max_connections": "300", "rds.force_ssl": "0"}
    server = postgres.Server(
        SETTINGS.name, SETTINGS.state, "tester", password, "tests", port=port, listen="127.0.0.1", parameters=parameters
    )
    try:
        postgres.start(podman, server)
        postgres.wait_ready(podman, server)
        yield f"postgresql://tester:{password}@127.0.0.1:{port}/tests"
    finally:
        podman.remove(SETTINGS.name)
        shutil.rmtree(SETTINGS.state, ignore_errors=True)
