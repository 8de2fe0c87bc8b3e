"""What every test may ask for: a loopback hub that serves the starter repositories, settings on an empty folder, a manager."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from api.cli.opening import SERVER
from registry.manager import Manager
from registry.settings import Settings
from registry.starter import starter_repositories
from tests.bad_sources import GATED
from tests.databases import KINDS, PostgreSQL, engine_of, migrated_sqlite, postgresql_server
from tests.hub import LoopbackHub
from tests.loopback import NETWORK
from tests.registry.told import holds_what_is_said

# Of torch, here and in the services that are started: matrices this small are slower on two threads, on a busy machine 90 times, and
# pictures that two processes make are equal only if both use as many.
os.environ.setdefault("OMP_NUM_THREADS", "1")

STARTER = starter_repositories()[0].parents[1]


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector, which every probe of a large header sets going, need not
    walk over it each time, a quarter of what such tests took."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own token, endpoint or root must not reach a test."""
    for name in [n for n in os.environ if n.startswith(("MODELSHELF_", "HF_", "HUGGING_FACE_", "CIVITAI_"))]:
        monkeypatch.delenv(name)
    SERVER.set(None)  # nor a `--server` that an earlier test has given in this process


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server that runs as long as the tests do."""
    with postgresql_server() as running:
        yield running


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database, one of each kind."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'er' / 'registry.db'}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def engine(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """On a database whose schema is there, and nothing else; one of each kind."""
    if database_kind == "sqlite":
        url = migrated_sqlite(tmp_path / "registry.db")
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.new_database(migrated=True)
    with engine_of(url) as made:
        yield made
        holds_what_is_said(made)


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """With the starter, by a link: a copy would be 39 MB. A test adds other owners' repositories below its root."""
    shelf = tmp_path_factory.mktemp("hub")
    (shelf / "modelshelf").symlink_to(STARTER / "modelshelf")
    with LoopbackHub(shelf, gated=[GATED]) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, hub: LoopbackHub) -> Settings:
    migrated_sqlite(tmp_path / "root" / "modelshelf.db")
    return Settings(root=tmp_path / "root", hub_endpoint=hub.endpoint, download_timeout=5, allowed_networks=NETWORK)


@pytest.fixture
def manager(settings: Settings) -> Iterator[Manager]:
    running = Manager(settings)
    yield running
    running.close()
    with engine_of(settings.database) as engine:
        holds_what_is_said(engine)
