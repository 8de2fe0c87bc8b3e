"""The LoRAs of a checkpoint and the checkpoints of a LoRA come in full pages, and the one is not asked for the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import InvalidRequest
from registry.manager import Manager
from registry.queries import Query
from registry.settings import Settings
from tests.registry.shapes import Shelf, lora_shapes


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    manager = Manager(Settings(root=tmp_path))
    yield Shelf(manager)
    manager.close()


def test_the_list_comes_in_pages(shelf: Shelf) -> None:
    shelf.checkpoint("base", 64)
    for n in range(5):
        shelf.lora(f"lora{n}", lora_shapes(64))
    shelf.manager.fits.catch_up()
    first = shelf.manager.matches.loras("base", limit=2)
    second = shelf.manager.matches.loras("base", limit=9, cursor=first.cursor)
    assert [m.name for m, _ in (*first.loras, *second.loras)] == [f"lora{n}" for n in range(5)]
    assert second.cursor is None


def test_the_checkpoints_of_a_lora_come_in_full_pages(shelf: Shelf) -> None:
    for n in range(3):
        shelf.checkpoint(f"a{n}", 32)
        shelf.checkpoint(f"b{n}", 64)
    shelf.lora("one", lora_shapes(64))
    shelf.manager.fits.catch_up()
    first = shelf.manager.matches.checkpoints("one", limit=2)
    second = shelf.manager.matches.checkpoints("one", limit=2, cursor=first.cursor)
    assert [[m.name for m, _ in page.checkpoints] for page in (first, second)] == [["b0", "b1"], ["b2"]]
    assert second.cursor is None
    every = shelf.manager.matches.checkpoints("one", every=True).checkpoints
    assert [fit.fits for _, fit in every] == [False] * 3 + [True] * 3


def test_only_a_checkpoint_has_adapters_that_fit_it(shelf: Shelf) -> None:
    shelf.lora("one", lora_shapes(64))
    with pytest.raises(InvalidRequest, match="LoRAs fit checkpoints"):
        shelf.manager.matches.loras("one")


def test_only_an_adapter_has_checkpoints_that_it_fits(shelf: Shelf) -> None:
    shelf.checkpoint("base", 64)
    with pytest.raises(InvalidRequest, match="LoRAs fit checkpoints"):
        shelf.manager.matches.checkpoints("base")


def test_nothing_of_another_family_is_looked_for(shelf: Shelf) -> None:
    shelf.checkpoint("base", 64)
    with pytest.raises(InvalidRequest, match="nothing of sdxl fits it"):
        shelf.manager.matches.fitting("base", Query(family="sdxl"))
