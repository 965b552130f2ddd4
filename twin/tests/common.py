"""What any of the tests may need: to wait for a condition, to take back what the extensions change, to serve an API."""

from __future__ import annotations

import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from twin.region import ec2, patch
from twin.region.region import Region


def until(condition: Callable[[], Any], seconds: float = 120, pause: float = 0.02) -> Any:
    """Wait for a true value and return it. The limit is for a machine that is busy with other things."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(pause)
    return value


@functools.cache
def client(service: str) -> Any:
    """A client of moto in this process, within `mock_aws`. To make one takes longer than most tests."""
    make: Any = boto3.Session("test", "test", region_name="us-east-1").client
    return make(service)


@contextmanager
def undoing() -> Iterator[None]:
    """The extensions change moto's classes; this takes back at its end what they change within."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        undoable: Any = monkeypatch.setattr
        monkeypatch.setattr(patch, "setattr", lambda *args: undoable(*args, raising=False), raising=False)
        undoable(ec2, "state_listener", None)
        yield


def api_of(region: Region) -> Callable[[dict[str, Any], Any], list[bytes]]:
    """The region's API as a WSGI application: its gates, its routes, and moto."""
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for route in (*region.gates, *region.routes):
            app = route(environ)
            if app is not None:
                return list(app(environ, start_response))
        with region.lock:
            return list(moto(environ, start_response))

    return answer


@contextmanager
def served_at(address: str, port: int, app: Any) -> Iterator[int]:
    """An application behind HTTP while the context lasts; its port."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server(address, port, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def allowing(action: str | list[str], resource: str | None, *services: str) -> str:
    """A resource's policy that lets services in."""
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"Service": list(services)}, "Action": action}
    if resource:
        statement["Resource"] = resource
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def clear(region: Region) -> None:
    """Remove the region's containers and its network."""
    for name in region.podman.containers():
        region.podman.remove(name)
    region.network.close()
