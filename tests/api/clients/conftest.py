"""A real service with the starter models and the real backend, for the clients that people have."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from registry.manager import Manager
from registry.settings import Settings
from tests.service import running_service

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("clients") / "root"
    manager = Manager(Settings(root=root, hub_endpoint=NOBODY))
    list(manager.install_starter())
    manager.close()
    with running_service(root, NOBODY) as client:
        assert client.put("/v1/residency/starter-base").status_code == 200  # torch takes its time: no test waits for it
        yield client
