"""A platform of the tests' own: brought up by the same command that people use, once a run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from conformance import pytest_addoption, pytest_configure  # noqa: F401 (the option --conformance)
from support import Platform, bring_up, evenkeel


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    """The region `test`, brought up. With EVENKEEL_KEEP=1 it is kept for the next run, to work on the tests themselves."""
    keep = os.environ.get("EVENKEEL_KEEP") == "1"
    if not keep:
        evenkeel("down")  # what an interrupted run left
    yield bring_up()
    if not keep:
        evenkeel("down")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that end or restart the region come last, in the order in which they stand."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
