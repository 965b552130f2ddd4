"""Fixtures of the load balancing tests: a plugin, so that moto is extended once however many modules use it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from balancing import World
from common import until
from conftest import SLOT
from moto import mock_aws

from twin.bodies import netns
from twin.bodies.podman import Podman
from twin.region import acm, elbv2, zonal_shift
from twin.region.region import Region
from twin.settings import Settings


@pytest.fixture(scope="session")
def region() -> Iterator[Region]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state=Path(folder) / "a-folder-whose-path-is-too-long-for-a-socket-address" / ("x" * 60),
                            store=Path(folder) / "store", name=f"test{SLOT}-lb", slot=SLOT + 2)  # fmt: skip
        region = Region(settings, Podman(settings))
        network: Any = SimpleNamespace(namespace=lambda vpc_id: f"{settings.name}.{vpc_id}")
        network.ensure_vpc = network.namespace
        region.network = network
        for extension in (acm, elbv2, zonal_shift):
            extension.install(region)
        yield region
        netns.delete(f"{settings.name}.host")


@pytest.fixture
def world(region: Region) -> Iterator[World]:
    with mock_aws():
        world = World(region)
        try:
            until(lambda: world.balancer_state()["Code"] == "active")
            yield world
        finally:
            world.close()
