"""A scan that was asked for over the network stays inside the folders that are allowed, wherever links in them lead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.installs.options import Options, Place
from registry.manager import Manager
from registry.scans.book import ENDED, ScanState
from registry.settings import Settings
from registry.tables import ScanRow
from tests.databases import migrated_sqlite
from tests.registry.scans.library import Library, lora

SECRET = b'{"activation text": "secret"}'


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    root = tmp_path / "root"
    folders = (tmp_path / "library", tmp_path / "also")
    running = Manager(
        Settings(root=root, database_url=migrated_sqlite(root / "modelshelf.db"), allowed_folders=folders)
    )
    yield running
    running.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """What nobody may ask for: a model with its record and its picture."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name, data in (("s.safetensors", lora("s")), ("s.json", SECRET), ("s.png", b"picture")):
        (folder / name).write_bytes(data)
    return folder


def ask(library: Library) -> ScanRow:
    """Over the network."""
    scans = library.manager.scans
    scan = scans.submit(str(library.folder))
    until = time.monotonic() + 30
    while scan.state not in ENDED and time.monotonic() < until:
        time.sleep(0.01)
        scan = scans.book.get(scan.id)
    assert (scan.state, scan.error) == (ScanState.DONE, None)
    return scan


def test_a_model_behind_a_link_that_leads_out_is_passed_over_and_told(library: Library, elsewhere: Path) -> None:
    library.put("mine.safetensors")
    (library.folder / "folder").symlink_to(elsewhere)
    (library.folder / "file.safetensors").symlink_to(elsewhere / "s.safetensors")
    scan = ask(library)
    assert library.names() == ["mine"]
    [skip] = scan.skips
    assert (skip["reason"], skip["count"]) == ("outside", 2)
    assert {Path(path).name for path in skip["examples"]} == {"folder", "file.safetensors"}


def test_a_folder_that_is_one_model_is_passed_over_whole_if_a_link_in_it_leads_out(
    library: Library, elsewhere: Path
) -> None:
    for name in ("near", "far"):
        library.put(f"{name}/adapter_config.json", b'{"peft_type": "LORA"}')
    library.put("near/adapter_model.safetensors")
    (library.folder / "far/adapter_model.safetensors").symlink_to(elsewhere / "s.safetensors")
    scan = ask(library)
    assert library.names() == ["near"]
    assert scan.skips == [{"reason": "outside", "count": 1, "examples": [str(library.folder / "far")]}]


def test_what_lies_beside_a_model_is_not_read_where_a_link_leads_out(library: Library, elsewhere: Path) -> None:
    path = library.put("mine.safetensors")
    for ending in (".json", ".png"):
        path.with_suffix(ending).symlink_to(elsewhere / f"s{ending}")
    (library.folder / "README.md").symlink_to(elsewhere / "s.json")
    (elsewhere / "s.json").write_bytes(b"---\nlicense: secret\n---\n")
    ask(library)
    (elsewhere / "s.json").write_bytes(SECRET)
    options = Options(place=Place.IN_PLACE, confined=True)
    library.put("too.safetensors", lora("too")).with_suffix(".json").symlink_to(elsewhere / "s.json")
    library.manager.install(str(library.folder / "too.safetensors"), options=options)
    for name in ("mine", "too"):
        model = library.model(name)
        assert (model.trigger_words, model.preview, model.stated("license")) == ((), None, None)


def test_links_inside_and_into_other_allowed_folders_are_followed(library: Library, tmp_path: Path) -> None:
    (tmp_path / "also").mkdir()
    (tmp_path / "also/there.safetensors").write_bytes(lora("there"))
    (tmp_path / "also/there.json").write_bytes(SECRET)
    (library.folder / "link").symlink_to(tmp_path / "also")
    assert ask(library).skips == []
    assert library.model("there").triggers == ["secret"]


def test_on_the_machine_itself_links_lead_anywhere_and_what_was_found_so_stays(
    library: Library, elsewhere: Path
) -> None:
    (library.folder / "link").symlink_to(elsewhere)
    assert library.scan() == {"added": 1}
    before = library.model("s")
    assert before.triggers == ["secret"]
    assert ask(library).counts["missing"] == 0
    assert library.model("s") == before


def test_what_is_looked_at_again_by_itself_is_what_may_be_asked_for(library: Library, elsewhere: Path) -> None:
    ask(library)
    (library.folder / "link").symlink_to(elsewhere)
    library.manager.scans.refresh()
    assert library.names() == []


def test_a_folder_that_became_a_link_after_it_was_asked_for_is_refused(library: Library, elsewhere: Path) -> None:
    scans = library.manager.scans
    scan = scans.book.open(str(library.folder / "sub"))
    (library.folder / "sub").symlink_to(elsewhere)
    scans._run(scan.id)
    assert library.names() == []
    assert (scans.book.get(scan.id).error or {})["code"] == "path_refused"
