"""The application in this process, with the starter models installed; one for all the tests of a module."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.cli import main
from registry.manager import Manager
from registry.settings import Settings
from tests.bad_sources import GATED, add_bad_sources
from tests.conftest import STARTER
from tests.demo.strangers import sd15_lora, write
from tests.hub import LoopbackHub
from tests.loopback import NETWORK
from tests.service import environment

Here = Callable[..., tuple[int, str, str]]
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Starter:
    http: TestClient
    manager: Manager
    hub: LoopbackHub


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    folder = tmp_path_factory.mktemp("starter")
    shutil.copytree(STARTER, folder / "hub")
    write(folder / "hub/somebody/sd15/sd15.safetensors", sd15_lora())
    add_bad_sources(folder / "hub", STARTER)
    with LoopbackHub(folder / "hub", gated=[GATED]) as hub:
        manager = Manager(
            Settings(
                root=folder / "root",
                hub_endpoint=hub.endpoint,
                download_timeout=5,
                allowed_networks=NETWORK,
                allowed_folders=(Path("/no"),),  # where BAD_SOURCES looks for a file
            )
        )
        list(manager.install_starter())
        with TestClient(create_app(manager), base_url="http://127.0.0.1") as http:
            yield Starter(http, manager, hub)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs the command in this process, on `tmp_path / "root"`; returns exit status, standard output and error."""

    def run(*words: str, **more: str) -> tuple[int, str, str]:
        for name, value in environment(tmp_path / "root", NOWHERE, **more).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["modelshelf", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return (ended.value.code if isinstance(ended.value.code, int) else 0), out, err

    return run
