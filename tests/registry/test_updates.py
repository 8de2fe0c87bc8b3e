"""A model is out of date when the Hub announces another SHA-256 of its file: a new commit alone changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.manager import Manager
from registry.updates import Change, Update
from tests.conftest import STARTER
from tests.hub import LoopbackHub
from tests.registry.scans.library import lora

REPO, FILE = "somebody/ink", "ink.safetensors"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    root = tmp_path / "hub"
    (root / REPO).mkdir(parents=True)
    (root / REPO / FILE).write_bytes(lora("first"))
    shutil.copytree(STARTER / "modelshelf/starter-base", root / "modelshelf/starter-base")
    with LoopbackHub(root) as running:
        yield running


def only(manager: Manager) -> Update:
    [update] = manager.updates(manager.catalog.every())
    return update


def test_what_is_as_on_the_hub_is_current(manager: Manager) -> None:
    manager.install(REPO)
    assert only(manager).change is Change.CURRENT


def test_a_new_commit_with_the_same_file_is_no_update(manager: Manager, hub: LoopbackHub) -> None:
    manager.install(REPO)
    (hub.root / REPO / "README.md").write_text("# new words")
    update = only(manager)
    assert (update.change, update.revision != update.model.revision) == (Change.CURRENT, True)


def test_a_new_file_is_found_fetched_and_takes_over_name_and_settings(manager: Manager, hub: LoopbackHub) -> None:
    old = manager.install(REPO)
    manager.catalog.override(old.id, {"weight": 0.3})
    (hub.root / REPO / FILE).write_bytes(lora("second"))
    update = only(manager)
    assert (update.change, update.source) == (Change.NEWER, f"hf://{REPO}/{FILE}")
    assert manager.catalog.get(old.name).id == old.id, "looking changes nothing"
    new = manager.fetch_update(update)
    assert (new.name, new.overrides, new.revision) == (old.name, {"weight": 0.3}, update.revision)
    before = manager.catalog.get(old.id)
    assert before.name == f"{old.name}@{(old.revision or '')[:7]}"
    assert manager.catalog.path(before).exists()
    assert manager.catalog.path(new).read_bytes() == lora("second")
    names = [model.name for model in manager.catalog.every()]
    found = {u.model.id: u for u in manager.updates(manager.catalog.every())}
    assert {u.change for u in found.values()} == {Change.CURRENT}
    assert found[old.id].reason == f"the newer version is {new.name}"
    assert [model.name for model in manager.catalog.every()] == names


def test_of_all_that_came_from_one_place_the_newest_alone_is_succeeded(manager: Manager, hub: LoopbackHub) -> None:
    first = manager.install(REPO)
    (hub.root / REPO / FILE).write_bytes(lora("second"))
    second = manager.fetch_update(only(manager))
    manager.catalog.override(second.id, {"weight": 0.3}, name="mine")
    (hub.root / REPO / FILE).write_bytes(lora("third"))
    found = {u.model.id: u for u in manager.updates(manager.catalog.every())}
    assert (found[first.id].change, found[first.id].reason) == (Change.CURRENT, "the newer version is mine")
    third = manager.fetch_update(found[second.id])
    assert (third.name, third.overrides) == ("mine", {"weight": 0.3})
    names = {first.id: f"ink@{(first.revision or '')[:7]}", second.id: f"mine@{(second.revision or '')[:7]}"}
    assert {id: manager.catalog.get(id).name for id in names} == names


def test_an_old_version_that_is_the_only_one_left_is_succeeded_under_its_first_name(
    manager: Manager, hub: LoopbackHub
) -> None:
    first = manager.install(REPO)
    (hub.root / REPO / FILE).write_bytes(lora("second"))
    manager.remove(manager.fetch_update(only(manager)).id, files=True)
    again = manager.fetch_update(only(manager))
    assert (again.name, manager.catalog.get(first.id).name) == ("ink", f"ink@{(first.revision or '')[:7]}")


def test_every_source_on_the_hub_counts(manager: Manager, hub: LoopbackHub, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(lora("first"))
    shutil.copytree(hub.root / REPO, hub.root / "somebody/mirror")
    for source in (str(path), "somebody/mirror", REPO):
        manager.install(source)
    assert only(manager).change is Change.CURRENT
    shutil.rmtree(hub.root / "somebody/mirror")
    assert only(manager).change is Change.CURRENT
    (hub.root / REPO / FILE).write_bytes(lora("second"))
    update = only(manager)
    assert (update.change, update.source) == (Change.NEWER, f"hf://{REPO}/{FILE}")
    assert manager.fetch_update(update).name == "x"
    assert f"x@{(update.model.sources[1].revision or '')[:7]}" in [m.name for m in manager.catalog.every()]


def test_a_folder_is_held_against_its_weights(manager: Manager, hub: LoopbackHub) -> None:
    manager.install("modelshelf/starter-base")
    weights = hub.root / "modelshelf/starter-base/vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    update = only(manager)
    assert update.change is Change.NEWER
    assert update.reason.startswith("1 of ")


def test_a_file_that_is_gone_from_its_repository(manager: Manager, hub: LoopbackHub) -> None:
    manager.install(REPO)
    (hub.root / REPO / FILE).rename(hub.root / REPO / "other.safetensors")
    assert only(manager).change is Change.GONE


def test_a_hub_that_does_not_answer_is_told_and_stops_nobody(manager: Manager, hub: LoopbackHub) -> None:
    manager.install(REPO)
    shutil.rmtree(hub.root / REPO)
    update = only(manager)
    assert update.change is Change.UNKNOWN
    assert REPO in update.reason


def test_each_repository_is_asked_once_and_nothing_is_downloaded(manager: Manager, hub: LoopbackHub) -> None:
    manager.install(REPO)
    (hub.root / REPO / "second.safetensors").write_bytes(lora("another", rank=2))
    manager.install(f"hf://{REPO}/second.safetensors")
    hub.seen.clear()
    assert len(list(manager.updates(manager.catalog.every()))) == 2
    assert len([seen for seen in hub.seen if "/api/models/" in seen.path]) == 1
    assert not [seen for seen in hub.seen if seen.path.endswith(".safetensors")]


def test_what_did_not_come_from_the_hub_is_not_asked_for(manager: Manager, tmp_path: Path, hub: LoopbackHub) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(lora("mine"))
    manager.install(str(path))
    hub.seen.clear()
    assert list(manager.updates(manager.catalog.every())) == []
    assert hub.seen == []
