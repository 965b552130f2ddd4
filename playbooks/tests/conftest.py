"""A stub twin for the whole run, and the fleet in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from rollouts import Fleet, Region, serve

from evenkeel.host import ROOT
from twin.settings import Settings

SLOT = int(os.environ.get("TWIN_TEST_SLOT", "96")) + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    state = tmp_path_factory.mktemp("rollouts")
    made = serve(Settings(state=state, store=ROOT / ".state" / "store", name=f"rollouts{SLOT}", slot=SLOT))
    yield made
    made.process.terminate()
    assert made.process.wait(timeout=120) == 0, (state / "log").read_text()


@pytest.fixture(scope="module")
def fleet(region: Region) -> Fleet:
    made = Fleet(region)
    made.build()
    return made
