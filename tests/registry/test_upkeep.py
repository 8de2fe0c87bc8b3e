"""Bytes are held against their digests, what is there twice is named, and only what belongs to nothing is removed."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import func, select

from registry.manager import Manager
from registry.queries import Query
from registry.rows import FIT
from registry.settings import Settings
from registry.upkeep import Condition, Upkeep
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


def states(library: Library) -> dict[str, tuple[Condition, tuple[str, ...]]]:
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
        "damaged": (Condition.DAMAGED, ("",)),
        "missing": (Condition.MISSING, ()),
        "new": (Condition.HASHED, ()),
        "whole": (Condition.WHOLE, ()),
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
    assert states(library)["a"][0] is Condition.DAMAGED
    flip(path, -1)
    assert states(library)["a"][0] is Condition.WHOLE
    assert library.model("a").damaged_at is None


def test_of_a_folder_the_damaged_file_is_named_and_an_added_one_does_no_harm(library: Library) -> None:
    shutil.copytree(STARTER / "modelshelf/starter-base", library.folder / "base")
    library.scan()
    library.hash()
    (library.folder / "base/notes.txt").write_text("mine")
    assert states(library)["base"] == (Condition.WHOLE, ())
    flip(library.folder / "base/vae/diffusion_pytorch_model.safetensors", -1)
    assert states(library)["base"] == (Condition.DAMAGED, ("vae/diffusion_pytorch_model.safetensors",))


def test_installed_and_scanned_copies_have_the_same_digests(library: Library) -> None:
    library.manager.install(str(STARTER / "modelshelf/starter-base"))
    installed = library.manager.catalog.get("starter-base")
    shutil.copytree(library.manager.catalog.path(installed), library.folder / "copy")
    library.scan()
    library.hash()
    assert library.model("copy").digests == installed.digests
    assert states(library)["starter-base"] == (Condition.WHOLE, ())


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
    base = manager.install(str(STARTER / "modelshelf/starter-base"))
    stray = manager.catalog.path(manager.install(str(STARTER / "modelshelf/starter-outline-lora")))
    manager.remove("starter-outline-lora")
    users = [stray.with_name(name) for name in (f"{stray.stem}.civitai.info", "own.safetensors")]
    for path in users:
        path.write_bytes(b"12345")  # whatever somebody else puts there is his
    library.put("stranger.safetensors", b"<html>")
    library.scan()
    waste = manager.upkeep.waste()
    assert (waste.files, waste.verdicts) == (((stray, stray.stat().st_size),), 1)
    assert stray.exists()
    manager.upkeep.remove(waste)
    assert {p for p in (root / "lora").rglob("*") if p.is_file()} == set(users)
    assert (library.folder / "stranger.safetensors").exists()
    assert manager.upkeep.waste().files == ()
    assert states(library)["starter-base"] == (Condition.WHOLE, ())
    manager.remove(base.id, files=True)
    users.append(manager.catalog.path(base) / "unet/diffusion_pytorch_model.safetensors")
    users[-1].parent.mkdir(parents=True)
    users[-1].write_bytes(b"mine, where modelshelf once had its own")
    assert manager.upkeep.waste().files == ()


def test_a_scanned_folder_that_a_link_in_the_root_leads_to_is_the_users(library: Library) -> None:
    manager = library.manager
    (manager.settings.root / "lora").symlink_to(library.folder)
    installed = manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    library.put("mine.safetensors")
    manager.catalog.remove(installed)
    library.put("sidecar.civitai.info", b"{}")
    library.scan()
    before = library.tree()
    manager.upkeep.remove(manager.upkeep.waste())
    assert library.tree() == before


def test_what_became_a_models_while_somebody_looked_stays(library: Library) -> None:
    manager = library.manager
    installed = manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    manager.catalog.remove(installed)
    waste = manager.upkeep.waste()
    manager.scans.scan(manager.settings.root / "lora")
    manager.upkeep.remove(waste)
    assert len(waste.files) == 1
    assert manager.catalog.path(installed).exists()


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


def test_partial_downloads_and_pictures_go_when_nobody_needs_them_any_more(library: Library, tmp_path: Path) -> None:
    manager = library.manager
    downloads = manager.settings.downloads
    job = manager.installs.open("a/b", staging="needed")
    for name in ("needed", "forsaken"):
        (downloads / name).mkdir(parents=True)
        (downloads / name / "model.safetensors.part").write_bytes(b"123")
    (downloads / "locks").mkdir(exist_ok=True)
    (downloads / "locks/x.install").touch()
    model = manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    for colour in ("red", "green"):
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(picture, "PNG")
        manager.set_preview(model.id, picture.getvalue())
    waste = manager.upkeep.waste()
    assert [path.parent.name for path, _ in waste.files] == ["forsaken", ".previews"]
    manager.upkeep.remove(waste)
    assert manager.upkeep.waste().files == ()
    assert sorted(p.name for p in downloads.iterdir()) == ["locks", "needed"]
    assert manager.previews.path(manager.catalog.get(model.id)).exists()
    assert manager.installs.get(job.id).staging == "needed"


def test_a_missing_model_is_not_waste(library: Library) -> None:
    path = library.put("a.safetensors")
    library.scan()
    path.unlink()
    library.scan()
    library.manager.upkeep.remove(library.manager.upkeep.waste())
    assert [m.name for m in library.manager.catalog.every(Query(missing=True))] == ["a"]


def test_what_goes_while_it_is_listed_is_not_waste(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    part = library.manager.settings.downloads / "forsaken/deep/model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"123")
    waste = library.manager.upkeep.waste()
    assert [path for path, _ in waste.files] == [part]

    def gone(*_: object) -> list[Path]:
        part.unlink()
        return [part]

    with monkeypatch.context() as patched:
        patched.setattr(Upkeep, "_unneeded", gone)
        assert library.manager.upkeep.waste().files == ()
    part.write_bytes(b"123")
    assert library.manager.upkeep.remove(waste).files == ((part, 3),)
    assert not part.parent.parent.exists()
