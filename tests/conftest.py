"""What every test may ask for: a loopback hub that serves the starter repositories, settings on an empty folder, a manager."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.manager import Manager
from registry.settings import Settings
from registry.starter import starter_repositories
from tests.hub import LoopbackHub
from tests.loopback import NETWORK

STARTER = starter_repositories()[0].parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own token, endpoint or root must not reach a test."""
    for name in [n for n in os.environ if n.startswith(("MODELSHELF_", "HF_", "HUGGING_FACE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub(STARTER) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, hub: LoopbackHub) -> Settings:
    return Settings(root=tmp_path / "root", hub_endpoint=hub.endpoint, download_timeout=5, allowed_networks=NETWORK)


@pytest.fixture
def manager(settings: Settings) -> Iterator[Manager]:
    running = Manager(settings)
    yield running
    running.close()
