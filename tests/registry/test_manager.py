"""What a service does by itself, in the background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from registry import manager as module
from registry.errors import DatabaseUnavailable, InstallNotFound
from registry.manager import Manager
from registry.settings import Settings


@pytest.mark.parametrize("error", [InstallNotFound("gone"), DatabaseUnavailable("away"), OSError("x"), KeyError("x")])
def test_the_watch_goes_on_after_an_error(manager: Manager, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    again, rounds = Event(), list[int]()

    def look() -> None:
        rounds.append(1)
        if len(rounds) == 2:  # the first is the start's
            raise error
        if len(rounds) > 2:
            again.set()

    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(manager, "resume_installs", look)
    manager.watch_installs()
    assert again.wait(20)


def test_hashing_goes_on_after_an_error(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    again, digester, rounds = Event(), manager.scans.digester, list[int]()

    def hash_all(_: Callable[[], None]) -> list[object]:
        rounds.append(1)
        if len(rounds) == 1:
            digester.wake()
            raise DatabaseUnavailable("away")
        again.set()
        return []

    monkeypatch.setattr(digester, "hash_all", hash_all)
    manager.scans.start()
    assert again.wait(20)


def test_a_root_that_is_not_there_yet_beside_a_database_elsewhere(tmp_path: Path) -> None:
    fresh = Manager(Settings(root=tmp_path / "deep/root", database_url=f"sqlite:///{tmp_path}/elsewhere.db"))
    fresh.resume_installs()
    fresh.close()
