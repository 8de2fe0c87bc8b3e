"""Hashing in the background takes its share and no more, and nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from registry.installs.hashing import BLOCK
from registry.manager import Manager
from registry.scans import digesting
from registry.scans.digesting import SHARE, Digester
from tests.demo.strangers import sd15_lora
from tests.registry.scans.library import Library

BACKLOG = 3  # files of several blocks each


class Rests(Event):
    """In place of the digester's stop: what it rests for is noted, and handed on instead of slept."""

    def __init__(self, rest: Callable[[float], None]) -> None:
        super().__init__()
        self._rest = rest

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self._rest(timeout or 0.0)
        return self.is_set()


@pytest.fixture
def backlog(library: Library) -> int:
    """Bytes that were registered and not hashed."""
    for n in range(BACKLOG):
        library.put(f"{n}.safetensors", sd15_lora(rank=100 + n))
    library.scan()
    return sum(path.stat().st_size for path in library.folder.iterdir())


def test_it_rests_after_each_block_as_long_as_its_share_asks(
    manager: Manager, backlog: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, rests = 0.0, list[float]()

    def work(*_: object) -> float:
        nonlocal clock
        clock += 3.0  # seconds that each block takes
        return clock

    def rest(seconds: float) -> None:
        nonlocal clock
        rests.append(seconds)
        if len(rests) == 10:
            digester._stop.set()
            digester.wake()

    digester = Digester(manager._engine, manager.catalog, Rests(rest))
    monkeypatch.setattr(digesting.time, "monotonic", work)
    digester.run()
    assert len(rests) == 10 < backlog / BLOCK
    assert rests == pytest.approx([3.0 * (1 - SHARE) / SHARE] * 10)


def test_requests_are_served_while_a_file_is_half_hashed(manager: Manager, library: Library, backlog: int) -> None:
    in_the_middle, go_on = Event(), Event()

    def rest(_: float) -> None:
        in_the_middle.set()
        assert go_on.wait(60)

    digester = Digester(manager._engine, manager.catalog, Rests(rest))
    hashing = Thread(target=digester.run)
    hashing.start()
    try:
        assert in_the_middle.wait(60)
        http = TestClient(create_app(manager), base_url="http://127.0.0.1")  # without its own background
        found = http.get("/v1/models").json()["models"]
        assert [(model["name"], model["blake3"]) for model in found] == [(str(n), None) for n in range(BACKLOG)]
        assert http.patch("/v1/models/1", json={"weight": 0.4}).status_code == 200
        library.put("new.safetensors")
        assert library.scan() == {"unchanged": BACKLOG, "added": 1}
        assert not go_on.is_set()
    finally:
        go_on.set()
        while manager.catalog.get("2").blake3 is None and hashing.is_alive():
            hashing.join(0.05)
        digester._stop.set()
        digester.wake()
        hashing.join()
    assert all(manager.catalog.get(str(n)).blake3 for n in range(BACKLOG))
    assert manager.catalog.get("1").overrides["weight"] == 0.4
