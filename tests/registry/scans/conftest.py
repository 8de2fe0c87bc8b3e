"""A library as people have it, with small models of real names and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.manager import Manager
from registry.settings import Settings
from tests.databases import migrated_sqlite
from tests.registry.scans.library import Library


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    running = Manager(
        Settings(root=tmp_path / "root", database_url=migrated_sqlite(tmp_path / "root" / "modelshelf.db"))
    )
    yield running
    running.close()


@pytest.fixture
def library(tmp_path: Path, manager: Manager) -> Library:
    return Library(tmp_path / "library", manager)
