"""Fixtures: a store of images that real bodies can start from."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

# moto reads its settings when it is imported: the twin's, and no list of AMIs to be made for every test.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

import boto3
import pytest
from access_world import Iam, Things
from conformance import pytest_addoption, pytest_configure  # noqa: F401 (the option --conformance)
from moto.iam import models as iam_models

from twin.bodies import debian, lambda_runtime, postgres_image
from twin.bodies.podman import Podman
from twin.settings import Settings

STATE = Path(__file__).resolve().parents[2] / ".state"
# Names and addresses of the tests' twins; another slot lets two runs go on at once. The next few slots are theirs too, and
# each of pytest-xdist's processes takes ten.
SLOT = int(os.environ.get("TWIN_TEST_SLOT", "101")) + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture(scope="session", autouse=True)
def policies_made_once() -> Iterator[None]:
    """moto parses AWS's thousand managed policies for every partition of every world, which was most of this suite's time."""
    make: Any = iam_models.IAMBackend._init_aws_policies
    made: dict[tuple[str, str], list[Any]] = {}

    def again(self: Any) -> list[Any]:
        key = (self.account_id, self.region_name)
        if key not in made:
            if not (policies := make(self)):  # this world wants none
                return policies
            made[key] = policies
        return [copy.copy(policy) for policy in made[key]]

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(iam_models.IAMBackend, "_init_aws_policies", again)
        yield


@pytest.fixture(scope="session")
def twin_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose store has every image; made here if it lacks one."""
    settings = Settings(state=tmp_path_factory.mktemp("twin"), store=STATE / "store", name=f"test{SLOT}", slot=SLOT)
    podman = Podman(settings)
    debian.build(podman, settings.state / "debian.log")
    postgres_image.build(podman)
    lambda_runtime.build(podman)
    return settings


@pytest.fixture(scope="session")
def served(twin_settings: Settings) -> Iterator[Settings]:
    """A whole twin in a process of its own, as `python -m twin serve` runs it."""
    own = replace(twin_settings, name=f"test{SLOT}-served", slot=SLOT + 1, state=twin_settings.state / "served")
    command = [sys.executable, "-m", "twin", "serve", f"--name={own.name}", f"--slot={own.slot}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    own.state.mkdir()
    with (own.state / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--state={own.state}", f"--store={own.store}"],
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None, (own.state / "log").read_text()
        assert time.monotonic() < until, "the twin did not answer within 120 s"
        try:
            socket.create_connection((own.address, 4566), timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    yield own
    process.terminate()
    assert process.wait(timeout=120) == 0


@pytest.fixture(scope="session")
def client(served: Settings) -> Callable[[str], Any]:
    """Makes boto3 clients of the served twin, with its operator's key."""
    key = json.loads((served.state / "operator.json").read_text())
    session = boto3.Session(key["access_key_id"], key["secret_access_key"], region_name=served.region)
    make: Any = session.client
    return lambda service: make(service, endpoint_url=served.endpoint_url)


@pytest.fixture(scope="session")
def iam(served: Settings, client: Callable[[str], Any]) -> Iam:
    return Iam(served, client)


@pytest.fixture(scope="session")
def things(iam: Iam) -> Things:
    return Things(iam.client)
