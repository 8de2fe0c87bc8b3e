"""A file is the model that its bytes were: the user's settings go with them, whatever stands now where they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.scans import digesting, lost
from registry.scans.digesting import Hashed
from tests.conftest import STARTER
from tests.registry.scans.library import Library, lora, touch_later

OUTLINE = "starter-outline-lora"


@pytest.fixture
def library(library: Library) -> Library:
    """`a`, which is of weight 0.1, and `b`, of 0.9; hashed."""
    for name, weight in (("a", 0.1), ("b", 0.9)):
        library.put(f"{name}.safetensors", lora(name))
        library.scan()
        library.manager.catalog.override(name, {"weight": weight})
    library.hash()
    return library


def weights(library: Library) -> dict[str, float | None]:
    """By the title in the bytes, of those that are there; the settings are those that apply to them."""
    models = [model for model in library.manager.catalog.every() if model.missing_since is None]
    paths = {title: library.folder / f"{title}.safetensors" for title in "ab"}
    holds = {
        path: next((t for t in "ab" if lora(t) == path.read_bytes()), "other")
        for path in paths.values()
        if path.exists()
    }
    return {holds[library.manager.catalog.path(model)]: model.overrides.get("weight") for model in models}


def test_two_files_that_swap_names(library: Library) -> None:
    (library.folder / "a.safetensors").rename(library.folder / "t")
    (library.folder / "b.safetensors").rename(library.folder / "a.safetensors")
    (library.folder / "t").rename(library.folder / "b.safetensors")
    assert library.scan() == {"moved": 2}
    assert weights(library) == {"a": 0.1, "b": 0.9}
    assert [library.model(n).path for n in "ab"] == [str(library.folder / f"{n}.safetensors") for n in "ba"]
    assert library.scan() == {"unchanged": 2}


def test_of_two_files_that_are_overwritten_with_each_other_s_bytes_each_is_the_model_of_its_place(
    library: Library,
) -> None:
    """Both places are taken: to tell this from a library that was touched, each file would have to be read whole."""
    library.put("a.safetensors", lora("b"))
    library.put("b.safetensors", lora("a"))
    assert library.scan() == {"changed": 2}
    assert sorted(library.hash()) == ["a", "b"]
    assert [library.model(n).path for n in "ab"] == [str(library.folder / f"{n}.safetensors") for n in "ab"]


@pytest.mark.parametrize(("gone", "read"), [(False, []), (True, ["a", "b"])], ids=["all there", "one gone"])
def test_a_library_that_was_touched_is_read_only_while_one_of_it_is_looked_for(
    library: Library, monkeypatch: pytest.MonkeyPatch, gone: bool, read: list[str]
) -> None:
    path = library.put("c.safetensors", lora("c"))
    library.scan()
    library.hash()
    for name in "abc":
        touch_later(library.folder / f"{name}.safetensors")
    if gone:
        path.unlink()
    hashed = []

    def hash_model(path: Path, check: Callable[[], None]) -> Hashed:
        hashed.append(path.stem)
        return digesting.hash_model(path, check)

    monkeypatch.setattr(lost, "hash_model", hash_model)
    library.scan()
    assert hashed == read


def test_a_file_that_is_moved_onto_another_takes_its_place_and_not_its_settings(library: Library) -> None:
    aside = shutil.copy(library.folder / "b.safetensors", library.folder.parent)
    (library.folder / "a.safetensors").rename(library.folder / "b.safetensors")
    assert library.scan() == {"moved": 1, "missing": 1}
    assert weights(library) == {"a": 0.1}
    replaced = library.model("b")
    assert (replaced.missing_since is None, replaced.overrides) == (False, {"weight": 0.9})
    assert library.scan() == {"unchanged": 1}
    shutil.move(aside, library.folder / "again.safetensors")
    assert library.scan() == {"unchanged": 1, "moved": 1}
    assert library.model("b").missing_since is None


def test_another_file_under_the_old_name_is_a_model_of_its_own(library: Library) -> None:
    (library.folder / "a.safetensors").rename(library.folder / "b.safetensors")
    library.put("a.safetensors", lora("new"))
    assert library.scan() == {"moved": 1, "added": 1, "missing": 1}
    assert weights(library) == {"a": 0.1, "other": None}


def test_a_copy_of_a_file_that_was_touched_leaves_it_the_model(library: Library) -> None:
    path = library.folder / "a.safetensors"
    library.put("copy.safetensors", path.read_bytes())
    os.utime(path)
    assert library.scan() == {"unchanged": 1, "changed": 1, "added": 1}
    assert library.manager.catalog.path(library.model("a")) == path


def test_a_model_of_modelshelf_s_own_that_was_moved_by_hand_is_the_user_s_from_now_on(library: Library) -> None:
    manager = library.manager
    own = manager.install(str(STARTER / "modelshelf" / OUTLINE))
    manager.catalog.override(own.id, {"weight": 0.3})
    there = Path(shutil.move(manager.catalog.path(own), library.folder / "mine.safetensors"))
    assert library.scan() == {"unchanged": 2, "moved": 1}
    manager.scans.refresh()
    after = library.model(own.id)
    assert (after.managed, after.missing_since, after.overrides) == (False, None, {"weight": 0.3})
    assert manager.catalog.path(after) == there
    assert [v.state for v in manager.upkeep.verify([after])] == ["whole"]
    manager.catalog.remove(after)
    assert list(manager.upkeep.waste().files) == []


def test_a_model_that_no_scan_has_seen_and_whose_place_is_taken_is_missing(library: Library) -> None:
    manager = library.manager
    own = manager.install(str(STARTER / "modelshelf" / OUTLINE))
    (library.folder / "a.safetensors").rename(manager.catalog.path(own))
    counts = manager.scans.scan(manager.settings.root)
    assert (counts.moved, manager.catalog.path(library.model("a"))) == (1, manager.catalog.path(own))
    assert library.model(own.id).missing_since is not None
