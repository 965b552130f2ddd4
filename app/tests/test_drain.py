"""signup-drain: what the instance's metadata and its lifecycle action tell it, and what it does then."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from signup.clients.lifecycle import LifecycleAction, LifecycleUnavailable
from signup.clients.metadata import Metadata, MetadataUnavailable
from signup.drain.agent import await_drained, await_termination, complete, maker
from signup.drain.connections import open_connections
from signup.settings import DrainSettings

SETTINGS = DrainSettings(group="t-fleet", hook="t-drain", region="us-east-1", drain_seconds=5)
ENVIRONMENT = {"AWS_REGION": "us-east-1", "SIGNUP_AUTOSCALING_GROUP": "t-fleet", "SIGNUP_DRAIN_HOOK": "t-drain"}
INSTANCE = "i-0123456789abcdef0"


class World:
    """The metadata service of one instance, and Auto Scaling as far as it is asked here, on one loopback port."""

    def __init__(self) -> None:
        self.state: str | None = "InService"
        self.tokens = self.looks = self.refused = 0
        self.waiting = self.denied = False
        self.waits_after = 0  # refusals
        self.asked: list[str] = []
        world = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self, status: int, body: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_PUT(self) -> None:
                assert self.path == "/latest/api/token"
                world.tokens += 1
                self._answer(200, f"token-{world.tokens}")

            def do_GET(self) -> None:
                if self.headers.get("X-aws-ec2-metadata-token") != f"token-{world.tokens}":
                    self._answer(401)
                elif self.path.endswith("/instance-id"):
                    self._answer(200, INSTANCE)
                elif self.path.endswith("/autoscaling/target-lifecycle-state"):
                    world.looks += 1
                    state = world.state
                    self._answer(404 if state is None else 200, state or "")
                else:
                    self._answer(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                assert f"InstanceId={INSTANCE}" in body
                assert "AutoScalingGroupName=t-fleet" in body
                assert "LifecycleHookName=t-drain" in body
                action = body.split("Action=")[1].split("&")[0]
                if world.denied or not world.waiting:
                    code = "AccessDenied" if world.denied else "ValidationError"
                    world.refused += 1
                    world.waiting = world.refused == world.waits_after
                    self._answer(400, f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>")
                    return
                world.asked.append(action)
                world.waiting = action != "CompleteLifecycleAction"
                self._answer(200, f"<{action}Response><{action}Result/></{action}Response>")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", made.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    yield made
    made.server.shutdown()
    made.server.server_close()


def drained(connections: int = 0, **settings: Any) -> float | None:
    """Wait for the drain in short steps; returns the seconds it took, or None when it was told to stop."""
    began = time.monotonic()
    chosen = DrainSettings(**{**vars(SETTINGS), **settings})
    done = await_drained(maker(chosen, Metadata()), chosen, threading.Event(), lambda _: connections, step=0.05)
    return time.monotonic() - began if done else None


def test_metadata_renews_its_token_and_knows_what_is_missing(world: World) -> None:
    metadata = Metadata()
    assert metadata.target_lifecycle_state() == "InService"
    assert (metadata.instance_id(), world.tokens) == (INSTANCE, 1)
    world.tokens = 5  # as though the first had expired
    world.state = None
    assert metadata.target_lifecycle_state() is None
    assert world.tokens == 6
    world.server.shutdown()
    world.server.server_close()
    with pytest.raises(MetadataUnavailable):
        metadata.target_lifecycle_state()


def test_termination_is_noticed_and_nothing_else_is(world: World) -> None:
    stop = threading.Event()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(await_termination(Metadata(), stop, 0.02)))
    thread.start()
    for state in (None, "Standby", "InService", "Detached"):
        world.state, before = state, world.looks
        wait_for("a look, and the next", lambda before=before: world.looks >= before + 2)  # type: ignore[misc]
        assert not found
    world.state = "Terminated"
    thread.join(5)
    assert found == [True]
    world.state = "InService"
    stop.set()
    assert not await_termination(Metadata(), stop, 0.02)


def test_outages_of_the_metadata_service_are_outlived(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Flaky(Metadata):
        asked = 0

        def target_lifecycle_state(self) -> str | None:
            self.asked += 1
            if self.asked <= 3:
                raise MetadataUnavailable("HTTP 503")
            return "Terminated"

    assert await_termination(Flaky(), threading.Event(), 0.01)
    assert caplog.text.count("metadata service is unavailable") == 1


def test_a_waiting_hook_tells_of_a_drained_instance(world: World) -> None:
    world.waits_after = 4
    took = drained()
    assert took is not None
    assert took < SETTINGS.drain_seconds
    assert world.refused == 4
    assert world.asked == ["RecordLifecycleActionHeartbeat"] * 2


def test_open_connections_get_the_time_of_draining(world: World) -> None:
    world.waiting = True
    took = drained(connections=2)
    assert took is not None
    assert 5 <= took < 7


@pytest.mark.parametrize("denied", [True, False])
def test_without_a_hook_the_service_ends_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, denied: bool
) -> None:
    monkeypatch.setattr("signup.drain.agent.PATIENCE_SECONDS", -4.0)
    world.denied = denied
    took = drained()
    assert took is not None
    assert 1 <= took < 3
    assert "going on without it" in caplog.text


def test_the_action_is_completed_when_it_can_be(world: World) -> None:
    action = LifecycleAction("t-fleet", "t-drain", INSTANCE, "us-east-1")
    stop = threading.Event()
    assert not complete(lambda: action, stop, seconds=0.2, step=0.05)
    world.waits_after = world.refused + 4
    assert complete(lambda: action, stop, seconds=20, step=0.05)
    assert world.asked == ["CompleteLifecycleAction"]
    world.denied = True
    with pytest.raises(LifecycleUnavailable, match="AccessDenied"):
        action.complete()
    assert not complete(lambda: action, stop, seconds=0.2, step=0.05)


def test_connections_are_counted_by_local_port() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert open_connections(port) == 0
        with closing(socket.create_connection(("127.0.0.1", port))) as near, closing(server.accept()[0]):
            assert open_connections(port) == 1
            assert open_connections(near.getsockname()[1]) == 1


def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    program = "from signup.drain.agent import main; main()"
    values = {"PYTHONPATH": ":".join(sys.path), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=values, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_commands_from_notice_to_completion(world: World, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_ENDPOINT_URL": world.url}
    with socket.create_server(("127.0.0.1", 0)) as probe:  # a port that nobody on this machine has connections to
        port = str(probe.getsockname()[1])
    values = {**ENVIRONMENT, **keys, "AWS_EC2_METADATA_SERVICE_ENDPOINT": world.url, "SIGNUP_PORT": port}
    mark = tmp_path / "drained"
    watching = run("watch", str(mark), **values)
    world.state, world.waiting = "Terminated", True
    output, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0, output
    assert mark.exists()
    leaving = run("leave", **values)
    output, _ = leaving.communicate(timeout=30)
    assert leaving.returncode == 0, output
    assert world.asked[-1] == "CompleteLifecycleAction"


def test_a_stopped_watch_is_no_exit(world: World, tmp_path: Path) -> None:
    watching = run("watch", str(tmp_path / "drained"), **ENVIRONMENT, AWS_EC2_METADATA_SERVICE_ENDPOINT=world.url)
    assert watching.stdout is not None
    assert "InService" in watching.stdout.readline()
    watching.terminate()
    assert watching.wait(10) == 0
    assert not list(tmp_path.iterdir())


def test_outside_a_group_there_is_nothing_to_do(tmp_path: Path) -> None:
    watching = run("watch", str(tmp_path / "drained"), AWS_REGION="us-east-1")
    output, _ = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert "no Auto Scaling group" in output


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_watch_stays_small() -> None:
    program = "import sys, signup.drain.agent; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert not {"boto3", "sqlalchemy", "flask", "gunicorn"} & set(done.stdout.split())
