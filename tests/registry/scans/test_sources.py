"""Where a scanned file came from is known as long as its bytes are those: another program may put others in their place at any time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.manager import Manager
from registry.models import Model
from registry.queries import Query
from registry.settings import Settings
from tests.databases import migrated_sqlite
from tests.hub import LoopbackHub
from tests.loopback import NETWORK
from tests.registry.scans.library import Library, lora, touch_later

REPO = "somebody/ink"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    (tmp_path / "hub" / REPO).mkdir(parents=True)
    (tmp_path / "hub" / REPO / "ink.safetensors").write_bytes(lora("first"))
    with LoopbackHub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def manager(tmp_path: Path, hub: LoopbackHub) -> Iterator[Manager]:
    root = tmp_path / "root"
    database = migrated_sqlite(root / "modelshelf.db")
    settings = Settings(root=root, database_url=database, hub_endpoint=hub.endpoint, allowed_networks=NETWORK)
    running = Manager(settings)
    yield running
    running.close()


@pytest.fixture
def library(library: Library) -> Library:
    """With the repository's file in it, and known to be that."""
    library.put("x.safetensors", lora("first"))
    library.scan()
    library.hash()
    return library


def bytes_of(model: Model, library: Library) -> bytes:
    return library.manager.catalog.path(model).read_bytes()


@pytest.mark.parametrize("name", ["Screenshot 2024-05-01 at 1.00.00\u202fPM.png", "水墨\u3000画.png", "a\u00a0b.png"])
def test_what_else_lies_there_may_have_any_name(manager: Manager, hub: LoopbackHub, tmp_path: Path, name: str) -> None:
    (hub.root / REPO / name).write_bytes(b"picture")
    assert manager.install(REPO).name == "ink"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(b"picture")
    (folder / "mine.safetensors").write_bytes(lora("mine"))
    assert manager.install(str(folder)).name == "mine"


def test_a_model_whose_name_holds_a_wide_space_gets_one_that_every_system_takes(
    manager: Manager, tmp_path: Path
) -> None:
    path = tmp_path / "水墨\u3000画.safetensors"
    path.write_bytes(lora("wide"))
    model = manager.install(str(path))
    assert (model.name, manager.catalog.path(model).name) == ("水墨-画", "水墨-画.safetensors")


def test_what_has_other_bytes_is_from_nowhere_and_no_install_hands_it_out(library: Library) -> None:
    manager = library.manager
    assert manager.install(REPO).name == "x"
    library.put("x.safetensors", lora("another"))
    assert library.scan() == {"changed": 1}
    library.hash()
    assert library.model("x").sources == ()
    assert list(manager.updates(manager.catalog.every())) == []
    again = manager.install(REPO)
    assert (again.name, bytes_of(again, library)) == ("ink", lora("first"))


def test_what_was_written_to_since_the_last_scan_is_not_handed_out(library: Library) -> None:
    library.put("x.safetensors", lora("tsrif"))
    assert bytes_of(library.manager.install(REPO), library) == lora("first")


def test_what_was_found_to_have_another_digest_is_not_handed_out(library: Library) -> None:
    """One of modelshelf's own, written to all the same, and hashed again."""
    manager = library.manager
    manager.catalog.remove(library.model("x"))
    own = manager.install(REPO)
    manager.catalog.path(own).write_bytes(lora("tsrif"))
    manager.scans.digester.hash(own.id)
    assert bytes_of(manager.install(REPO), library) == lora("first")


@pytest.mark.parametrize("gone", ["x", "y"])
def test_of_two_equal_files_the_one_that_is_there_gains_the_source(library: Library, gone: str) -> None:
    library.put("y.safetensors", lora("first"))
    library.scan()
    library.hash()
    (library.folder / f"{gone}.safetensors").unlink()
    library.scan()
    found = library.manager.install(REPO)
    assert (found.name, found.managed, len(found.sources)) == ({"x": "y", "y": "x"}[gone], False, 1)


def test_what_was_missing_and_is_back_is_handed_out_as_often_as_it_is_asked_for(library: Library) -> None:
    path = library.folder / "x.safetensors"
    aside = path.rename(path.with_suffix(".aside"))
    library.scan()
    assert library.model("x").missing_since is not None
    aside.rename(path)
    assert [library.manager.catalog.path(library.manager.install(REPO)) for _ in range(2)] == [path, path]
    assert library.model("x").missing_since is None


def test_what_was_only_touched_is_still_from_there_once_it_is_hashed_again(library: Library) -> None:
    manager = library.manager
    manager.install(REPO)
    before = library.model("x")
    for _ in range(2):
        touch_later(library.folder / "x.safetensors")
        assert library.scan() == {"changed": 1}
    in_doubt = library.model("x")
    assert (in_doubt.sources, in_doubt.digests) == (before.sources, ())
    assert manager.catalog.list(Query(digest=before.blake3)) == []
    library.hash()
    after = library.model("x")
    assert (after.sources, after.digests) == (before.sources, before.digests)
    assert manager.install(REPO).id == before.id


@pytest.mark.parametrize("title", ["first", "tsrif"])
def test_until_then_no_install_hands_it_out(library: Library, title: str) -> None:
    path = library.put("x.safetensors", lora("first"))
    library.scan()
    library.hash()
    library.manager.install(REPO)
    library.put("x.safetensors", lora(title))
    touch_later(path)
    library.scan()
    assert library.model("x").sources
    again = library.manager.install(REPO)
    assert (again.name, bytes_of(again, library)) == ("ink", lora("first"))


def test_as_many_bytes_that_are_others_are_from_nowhere_once_they_are_hashed(library: Library) -> None:
    library.manager.install(REPO)
    path = library.put("x.safetensors", lora("tsrif"))
    touch_later(path)
    assert library.scan() == {"changed": 1}
    library.hash()
    assert (library.model("x").sources, library.model("x").claims) == ((), ())
    assert library.manager.catalog.list(Query(text=REPO)) == []
