"""Bytes are held against their digests, what is there twice is named, and only what belongs to nothing is removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from registry.manager import Manager
from registry.queries import Query
from registry.rows import FIT
from registry.settings import Settings
from registry.upkeep import State
from tests.conftest import STARTER
from tests.databases import migrated_sqlite
from tests.registry.scans.library import Library, lora


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


def states(library: Library) -> dict[str, tuple[State, tuple[str, ...]]]:
    found = library.manager.upkeep.verify(library.manager.catalog.every())
    return {verified.model.name: (verified.state, verified.files) for verified in found}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_verify_tells_whole_damaged_missing_and_hashes_what_was_not(library: Library) -> None:
    for name in ("whole", "damaged", "missing"):
        library.put(f"{name}.safetensors")
    library.scan()
    library.hash()
    library.put("new.safetensors")
    library.scan()
    flip(library.folder / "damaged.safetensors", -1)
    (library.folder / "missing.safetensors").unlink()
    assert states(library) == {
        "damaged": (State.DAMAGED, ("",)),
        "missing": (State.MISSING, ()),
        "new": (State.HASHED, ()),
        "whole": (State.WHOLE, ()),
    }
    assert library.model("damaged").damaged_at is not None
    assert library.model("missing").missing_since is not None
    assert library.model("new").sha256 is not None
    assert library.model("whole").damaged_at is None


def test_a_file_that_was_mended_is_whole_again(library: Library) -> None:
    path = library.put("a.safetensors")
    library.scan()
    library.hash()
    flip(path, -1)
    assert states(library)["a"][0] is State.DAMAGED
    flip(path, -1)
    assert states(library)["a"][0] is State.WHOLE
    assert library.model("a").damaged_at is None


def test_of_a_folder_the_damaged_file_is_named_and_an_added_one_does_no_harm(library: Library) -> None:
    shutil.copytree(STARTER / "modelshelf/starter-base", library.folder / "base")
    library.scan()
    library.hash()
    (library.folder / "base/notes.txt").write_text("mine")
    assert states(library)["base"] == (State.WHOLE, ())
    flip(library.folder / "base/vae/diffusion_pytorch_model.safetensors", -1)
    assert states(library)["base"] == (State.DAMAGED, ("vae/diffusion_pytorch_model.safetensors",))


def test_installed_and_scanned_copies_have_the_same_digests(library: Library) -> None:
    library.manager.install(str(STARTER / "modelshelf/starter-base"))
    installed = library.manager.catalog.get("starter-base")
    shutil.copytree(library.manager.catalog.path(installed), library.folder / "copy")
    library.scan()
    library.hash()
    assert library.model("copy").digests == installed.digests
    assert states(library)["starter-base"] == (State.WHOLE, ())


def test_duplicates_are_the_same_file_or_the_same_weights(library: Library) -> None:
    for name in ("a", "b"):
        library.put(f"{name}.safetensors", lora("one header"))
    library.put("c.safetensors", lora("another header"))
    library.put("d.safetensors", lora("other weights", rank=2))
    library.scan()
    assert library.manager.upkeep.duplicates() == [], "nothing is hashed yet"
    library.hash()
    groups = library.manager.upkeep.duplicates()
    assert {(g.same, tuple(m.name for m in g.models)) for g in groups} == {
        ("file", ("a", "b")),
        ("weights", ("a", "b", "c")),
    }
    assert {g.digest for g in groups} == {library.model("a").blake3, library.model("c").autov3}


def test_the_same_file_twice_is_one_group(library: Library) -> None:
    for name in ("a", "b"):
        library.put(f"{name}.safetensors", lora("the same"))
    library.scan()
    library.hash()
    [group] = library.manager.upkeep.duplicates()
    assert (group.same, [m.name for m in group.models]) == ("file", ["a", "b"])


def test_what_nothing_refers_to_is_shown_then_removed(library: Library) -> None:
    manager = library.manager
    root = manager.settings.root
    manager.install(str(STARTER / "modelshelf/starter-base"))
    manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    kept = manager.catalog.path(manager.catalog.get("starter-outline-lora"))
    stray = root / "lora/sd-1/deep/stray.safetensors"
    stray.parent.mkdir()
    stray.write_bytes(b"12345")
    library.put("mine.safetensors")  # a scanned folder is the user's, whatever lies in it
    library.put("stranger.safetensors", b"<html>")
    library.scan()
    waste = manager.upkeep.waste()
    assert (waste.files, waste.size, waste.verdicts) == (((stray, 5),), 5, 0)
    assert stray.exists()
    manager.upkeep.remove(waste)
    assert not stray.parent.exists()
    assert kept.exists()
    assert (library.folder / "stranger.safetensors").exists()
    assert manager.upkeep.waste().files == ()
    assert all(manager.catalog.path(m).exists() for m in manager.catalog.every())


def test_verdicts_on_what_is_no_more_go_too(library: Library) -> None:
    manager = library.manager
    manager.install(str(STARTER / "modelshelf/starter-base"))
    manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    manager.catalog.remove(manager.catalog.get("starter-outline-lora"))
    waste = manager.upkeep.waste()
    assert waste.verdicts == 1
    manager.upkeep.remove(waste)
    with manager.catalog.writing() as connection:
        assert connection.execute(select(func.count()).select_from(FIT)).scalar_one() == 0


def test_a_missing_model_is_not_waste(library: Library) -> None:
    path = library.put("a.safetensors")
    library.scan()
    path.unlink()
    library.scan()
    library.manager.upkeep.remove(library.manager.upkeep.waste())
    assert [m.name for m in library.manager.catalog.every(Query(missing=True))] == ["a"]
