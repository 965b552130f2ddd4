"""Fixtures: a store of images that real bodies can start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from twin.bodies import debian, lambda_runtime, postgres_image
from twin.bodies.podman import Podman
from twin.settings import Settings

STATE = Path(__file__).resolve().parents[2] / ".state"


@pytest.fixture(scope="session")
def twin_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose store has every image; made here if it lacks one."""
    settings = Settings(state=tmp_path_factory.mktemp("twin"), store=STATE / "store", name="test-unit", slot=101)
    podman = Podman(settings)
    debian.build(podman, settings.state / "debian.log")
    postgres_image.build(podman)
    lambda_runtime.build(podman)
    return settings
