"""Folders are registered where they lie: new, moved, changed, gone and come back, each found by looking at no more than it takes."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from probes import Kind, Outcome
from registry.accelerations import ACCELERATION
from registry.errors import FileMissing
from registry.manager import Manager
from registry.queries import Query
from registry.scans import record, scanner, skips
from registry.settings import Settings
from tests.conftest import STARTER
from tests.registry.scans.library import Library, lora, touch_later


def test_a_library_is_registered_in_place_and_left_alone(library: Library) -> None:
    library.put("ComfyUI/models/loras/style/ink.safetensors")
    library.put("webui/models/Lora/ink.safetensors", lora("another"))
    library.put("webui/models/Lora/ink.json", b"{}")
    shutil.copytree(STARTER / "modelshelf/starter-base", library.folder / "ComfyUI/models/diffusers/base")
    before = library.tree()
    assert library.scan()["added"] == 4  # starter-base is a diffusers folder and a single file
    assert library.tree() == before
    assert {"ink", "ink-2", "base", "starter-base"} == set(library.names())
    model = library.model("ink")
    assert (model.kind, model.family, model.managed, model.blake3) == ("lora", "sd-1", False, None)
    assert library.manager.catalog.path(model) == library.folder / "ComfyUI/models/loras/style/ink.safetensors"
    assert library.model("base").format == "diffusers folder"
    assert library.manager.catalog.report(model)["outcome"] == "identified"


def test_what_the_header_says_is_recorded(library: Library) -> None:
    told = {"modelspec.trigger_phrase": "ink, line", "modelspec.lora_default_weight": "0.6"}
    library.put("ink.safetensors", lora("Ink", **told))
    library.scan()
    model = library.model("ink")
    assert (model.triggers, model.recipe["weight"]["value"]) == (["ink", "line"], 0.6)


def test_a_digest_that_the_header_claims_is_kept_and_held_against_the_bytes(library: Library) -> None:
    library.put("a.safetensors", lora("a", sshs_model_hash="ab" * 32))
    library.scan()
    assert [library.model("a").contradicts(claim) for claim in library.model("a").claims] == [
        False
    ]  # nothing known yet
    library.hash()
    [claim] = library.model("a").claims
    assert (claim.algorithm, claim.by) == ("autov3", "file header, sshs_model_hash")
    assert library.model("a").contradicts(claim)


def test_a_second_scan_reads_nothing_and_writes_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        library.put(f"{n}.safetensors")
    library.put("torn.safetensors", b"<html>")
    assert library.scan() == {"added": 5, "skipped": 1}
    version = library.manager.catalog.version()
    monkeypatch.setattr("probes.scan.probe", None)
    monkeypatch.setattr(scanner, "read_header", None)
    assert library.scan() == {"unchanged": 5, "skipped": 1}
    assert library.manager.catalog.version() == version


def test_what_is_no_model_to_take_is_remembered_with_the_reason(library: Library) -> None:
    library.put("torn.safetensors", b"<html>")
    library.put("old.ckpt", b"\x80\x02}q\x00.")
    library.scan()
    seen = record.seen_below(library.manager._engine, str(library.folder))
    assert {Path(path).name for path in seen} == {"torn.safetensors", "old.ckpt"}
    assert library.names() == []


def test_whatever_lies_beside_them_the_models_are_registered(library: Library) -> None:
    beside = {
        "a.json": '{"preferred weight": 1' + "0" * 400 + "}",
        "b.json": '{"activation text": "\\ud800ink\\u0000", "description": "\\ud800"}',
        "c/README.md": "---\nd: 2024-13-45\n---\nWeight of 0.5.",
        "d.civitai.info": '{"images": [{"nsfwLevel": 1}, 5], "files": 3}',
    }
    for name, text in beside.items():
        library.put(name, text.encode())
    for name in ("a", "b", "c/c", "d"):
        library.put(f"{name}.safetensors")
    library.put(os.fsdecode(b"\xff.safetensors"))
    assert library.scan() == {"added": 4, "skipped": 1}
    assert library.model("b").triggers == ["?ink"]
    assert library.scan() == {"unchanged": 4, "skipped": 1}


def test_a_reader_that_fails_says_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.put("a.safetensors")
    library.put("a.json", b"{}")
    monkeypatch.setattr("registry.scans.beside.read_beside", None)
    assert library.scan() == {"added": 1}


def test_a_scanned_acceleration_is_one_and_a_later_release_may_say_so(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.put("flash-sd-lora.safetensors")
    with monkeypatch.context() as before:
        before.setattr(scanner, "decided", lambda report: ())
        library.scan()
    [model] = library.manager.catalog.list()
    assert ACCELERATION not in model.facts
    monkeypatch.setattr(record, "prober", lambda: "another")
    library.scan()
    [model] = library.manager.catalog.list()
    assert model.facts[ACCELERATION]["value"] == "flash"


def test_a_scan_tells_apart_what_is_new(library: Library) -> None:
    library.put("a.safetensors")
    library.scan()
    library.put("b.safetensors")
    assert library.scan() == {"unchanged": 1, "added": 1}


def test_a_changed_file_keeps_its_model_and_the_users_settings(library: Library) -> None:
    path = library.put("a.safetensors", lora("before"))
    library.scan()
    library.hash()
    model = library.model("a")
    library.manager.catalog.override(model.id, {"weight": 0.4})
    path.write_bytes(lora("after, and longer", rank=2))
    assert library.scan() == {"changed": 1}
    after = library.model("a")
    assert (after.id, after.overrides, after.blake3, after.hashed_at) == (model.id, {"weight": 0.4}, None, None)
    assert after.structure != model.structure
    assert after.size == path.stat().st_size


@pytest.mark.parametrize("emptied", [False, True], ids=["gone", "emptied"])
def test_what_went_away_before_it_was_hashed_keeps_no_other_from_being_hashed(library: Library, emptied: bool) -> None:
    for name in ("folder/adapter_model.safetensors", "later.safetensors"):
        library.put(name, lora(name, rank=1 if "folder" in name else 2))
    library.put("folder/adapter_config.json", b'{"peft_type": "LORA"}')
    library.scan()
    for path in (library.folder / "folder").iterdir():
        path.unlink()
    if not emptied:
        (library.folder / "folder").rmdir()
    assert "later" in library.hash()


def test_a_file_that_was_only_touched_keeps_what_is_known_of_it_once_it_is_hashed_again(library: Library) -> None:
    path = library.put("a.safetensors")
    library.scan()
    library.hash()
    blake3 = library.model("a").blake3
    touch_later(path)
    assert library.scan() == {"changed": 1}
    assert library.hash() == ["a"]
    assert library.model("a").blake3 == blake3


def test_a_file_that_became_something_else_is_missing(library: Library) -> None:
    path = library.put("a.safetensors")
    library.scan()
    path.write_bytes(b"<html>")
    assert library.scan() == {"skipped": 1}
    assert library.model("a").missing_since is not None


# -- moved


def test_a_moved_file_is_the_same_model(library: Library) -> None:
    path = library.put("a.safetensors")
    library.scan()
    model = library.model("a")
    library.manager.catalog.override(model.id, {"weight": 0.4})
    (library.folder / "sub").mkdir()
    path.rename(library.folder / "sub/renamed.safetensors")
    assert library.scan() == {"moved": 1}
    after = library.model("a")
    assert (after.id, after.overrides, after.missing_since) == (model.id, {"weight": 0.4}, None)
    assert library.manager.catalog.path(after) == library.folder / "sub/renamed.safetensors"
    assert library.scan() == {"unchanged": 1}


def test_a_file_that_came_by_another_way_is_found_again_by_its_digest(library: Library) -> None:
    """A copy to another disk and back: another inode, another time, the same bytes."""
    path = library.put("a.safetensors")
    library.scan()
    library.hash()
    model = library.model("a")
    data = path.read_bytes()
    path.unlink()
    assert library.scan() == {"missing": 1}
    touch_later(library.put("sub/b.safetensors", data))
    assert library.scan() == {"moved": 1}
    after = library.model(model.id)
    assert (after.missing_since, after.blake3) == (None, model.blake3)
    assert library.manager.catalog.path(after) == library.folder / "sub/b.safetensors"


def test_a_folder_that_came_by_another_way_is_found_again_by_its_digest(library: Library) -> None:
    first = library.folder / "base"
    shutil.copytree(
        STARTER / "modelshelf/starter-base", first, ignore=shutil.ignore_patterns("starter-base.safetensors")
    )
    library.scan()
    library.hash()
    model = library.model("base")
    shutil.copytree(first, library.folder / "elsewhere/other")
    shutil.rmtree(first)
    assert library.scan() == {"moved": 1}
    assert library.manager.catalog.path(library.model(model.id)) == library.folder / "elsewhere/other"


def test_a_copy_is_a_model_of_its_own_as_long_as_the_first_is_there(library: Library) -> None:
    path = library.put("a.safetensors")
    library.scan()
    library.hash()
    library.put("b.safetensors", path.read_bytes())
    assert library.scan() == {"unchanged": 1, "added": 1}


def test_of_two_equal_files_that_moved_each_is_found_once(library: Library) -> None:
    first, second = library.put("a.safetensors", lora("same")), library.put("b.safetensors", lora("same"))
    library.scan()
    library.hash()
    data = first.read_bytes()
    first.unlink(), second.unlink()
    library.put("c.safetensors", data), library.put("d.safetensors", data), library.put("e.safetensors", data)
    assert library.scan() == {"moved": 2, "added": 1}
    assert library.scan() == {"unchanged": 3}


def test_a_file_of_equal_size_and_other_bytes_is_no_moved_one(library: Library) -> None:
    path = library.put("a.safetensors", lora("one"))
    library.scan()
    library.hash()
    path.unlink()
    library.put("b.safetensors", lora("two"))
    assert library.scan() == {"added": 1, "missing": 1}


# -- missing


def test_what_is_gone_is_marked_and_what_is_back_is_not(library: Library) -> None:
    path = library.put("a.safetensors")
    library.put("b.safetensors")
    library.scan()
    aside = path.rename(library.folder.parent / "aside")
    assert library.scan() == {"unchanged": 1, "missing": 1}
    assert library.model("a").missing_since is not None
    assert [m.name for m in library.manager.catalog.every(Query(missing=True))] == ["a"]
    assert library.scan() == {"unchanged": 1}, "told once"
    aside.rename(path)
    assert library.scan() == {"unchanged": 2}
    assert library.model("a").missing_since is None


def test_a_file_of_the_rarer_ending_is_found(library: Library) -> None:
    library.put("a.sft")
    assert library.scan() == {"added": 1}


def test_a_file_with_an_ending_that_no_scan_looks_at_is_missing_only_when_it_is_gone(library: Library) -> None:
    path = library.put("a.weights")
    library.manager.scans.register(path)
    assert library.scan() == {}
    assert library.model("a").missing_since is None
    aside = path.rename(library.folder.parent / "aside")
    assert library.scan() == {"missing": 1}
    aside.rename(path)
    assert library.scan() == {}
    assert library.model("a").missing_since is None


def test_a_folder_that_is_not_there_says_nothing_of_its_files(library: Library) -> None:
    library.put("a.safetensors")
    library.scan()
    library.folder.rename(library.folder.parent / "unplugged")
    with pytest.raises(FileMissing):
        library.scan()
    library.manager.scans.refresh()
    assert library.model("a").missing_since is None


def test_a_folder_that_may_not_be_looked_into_says_nothing_of_its_files(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.put("sub/a.safetensors")
    library.scan()
    real = os.scandir

    def refused(path: str):  # type: ignore[no-untyped-def]
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert library.scan() == {"skipped": 1}
    monkeypatch.undo()
    assert library.model("a").missing_since is None
    assert library.scan() == {"unchanged": 1}


def test_models_of_another_folder_are_none_of_a_scans_business(library: Library) -> None:
    library.put("a.safetensors")
    library.scan()
    other = Library(library.folder.parent / "library0", library.manager)
    other.put("b.safetensors")
    assert other.scan() == {"added": 1}
    assert library.model("a").missing_since is None


# -- what modelshelf installed itself


@pytest.fixture
def installed(library: Library) -> Library:
    library.manager.install(str(STARTER / "modelshelf/starter-outline-lora"))
    return library


def test_scanning_the_root_changes_nothing_of_what_was_installed(installed: Library) -> None:
    manager = installed.manager
    before = manager.catalog.get("starter-outline-lora")
    counts = manager.scans.scan(manager.settings.root)
    assert (counts.added, counts.changed) == (0, 1)
    assert manager.catalog.get("starter-outline-lora") == before
    assert manager.scans.scan(manager.settings.root).unchanged == 1


def test_an_installed_model_whose_file_was_deleted_is_marked(installed: Library) -> None:
    manager = installed.manager
    path = manager.catalog.path(manager.catalog.get("starter-outline-lora"))
    aside = path.rename(path.with_suffix(".aside"))
    manager.scans.refresh()
    assert manager.catalog.get("starter-outline-lora").missing_since is not None
    aside.rename(path)
    manager.scans.refresh()
    assert manager.catalog.get("starter-outline-lora").missing_since is None


# -- the rest


def test_another_release_looks_at_everything_again_and_keeps_the_digests_and_the_user_s_settings(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.put("a.safetensors")
    library.scan()
    library.hash()
    library.manager.catalog.override("a", {"weight": 0.4, "notes": "mine"})
    before = library.model("a")
    monkeypatch.setattr(record, "prober", lambda: "another")
    assert library.scan() == {"changed": 1}
    assert library.model("a") == before
    assert library.scan() == {"unchanged": 1}
    assert library.scan(afresh=True) == {"changed": 1}


def test_what_lies_beside_a_file_is_read_again_when_that_is_looked_at_afresh(library: Library) -> None:
    library.put("a.safetensors")
    library.put("a.json", b'{"preferred weight": 0.5, "activation text": "ink, old"}')
    library.scan()
    library.manager.catalog.override("a", {"notes": "mine"})

    def told() -> tuple[list[object], list[str], str | None]:
        model = library.model("a")
        weights = [said.value for said in model.statements if said.name == "weight"]
        return weights, [trigger.word for trigger in model.trigger_words], model.overrides.get("notes")

    assert told() == ([0.5], ["ink", "old"], "mine")
    library.put("a.json", b'{"preferred weight": 0.7, "activation text": "ink"}')
    assert library.scan() == {"unchanged": 1}
    assert library.scan(afresh=True) == {"changed": 1}
    assert told() == ([0.7], ["ink"], "mine")


def test_what_an_older_release_could_not_name_is_named_by_the_next_start(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.put("a.safetensors")
    with monkeypatch.context() as older:
        older.setattr(record, "prober", lambda: "older")
        older.setattr(scanner, "is_taken", lambda _: False)
        assert library.scan() == {"skipped": 1}
        library.manager.scans.refresh()
        assert library.names() == []
    library.manager.scans.refresh()
    assert library.names() == ["a"]


def test_another_release_misses_what_is_gone(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    path = library.put("a.safetensors")
    library.scan()
    monkeypatch.setattr(record, "prober", lambda: "another")
    path.unlink()
    assert library.scan() == {"missing": 1}


def test_a_scan_that_is_ended_early_keeps_what_it_found(library: Library) -> None:
    for n in range(2 * scanner.BATCH + 5):
        library.put(f"{n:03}.safetensors")
    told: list[scanner.Counts] = []

    def check() -> None:
        if told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.manager.scans.scanner.scan(library.folder, told.append, check)
    assert told[-1].added == scanner.BATCH == len(library.names())
    assert library.scan() == {"unchanged": scanner.BATCH, "added": scanner.BATCH + 5}


def test_a_link_to_the_library_is_the_library(library: Library) -> None:
    library.put("a.safetensors")
    library.scan()
    link = library.folder.parent / "link"
    link.symlink_to(library.folder)
    assert library.manager.scans.scan(link).unchanged == 1


def test_scanned_loras_are_in_the_compatible_list(library: Library, tmp_path: Path) -> None:
    library.put("a.safetensors")
    shutil.copytree(STARTER / "modelshelf/starter-base", library.folder / "base")
    library.scan()
    [(model, fit)] = library.manager.matches.every_lora("base", every=True)
    assert model.name == "a"
    assert "wants 768 -> 320" in fit.reason


def test_a_second_database_does_not_hinder_the_first(library: Library, tmp_path: Path) -> None:
    library.put("a.safetensors")
    library.scan()
    other = Manager(Settings(root=tmp_path / "second"))
    assert other.scans.scan(library.folder).added == 1
    other.close()


# -- what is passed over


def test_what_is_passed_over_is_told_by_reason_with_some_of_it_by_name(library: Library) -> None:
    whole = lora("ink")
    for name, data in {
        "ink.safetensors": whole,
        "a.ckpt": b"\x80\x02" + bytes(64),
        "old/b.pt": b"\x80\x02" + bytes(64),
        "old/c.pt": b"\x80\x02" + bytes(64),
        "old/d.pt": b"\x80\x02" + bytes(64),
        "torn.safetensors": whole[:-100],
        "page.safetensors": b"<!DOCTYPE html><html>",
        "vae.safetensors": (STARTER / "modelshelf/starter-base/vae/diffusion_pytorch_model.safetensors").read_bytes(),
    }.items():
        library.put(name, data)
    first = library.manager.scans.scan(library.folder)
    again = library.manager.scans.scan(library.folder)
    assert (first.added, first.skipped, again.unchanged, again.skipped) == (1, 7, 1, 7)
    for counts in (first, again):
        told = {reason: (skip.count, [Path(e).name for e in skip.examples]) for reason, skip in counts.skips.items()}
        assert told == {
            "pickle": (4, ["a.ckpt", "b.pt", "c.pt"]),
            "truncated": (1, ["torn.safetensors"]),
            "html_page": (1, ["page.safetensors"]),
            "vae": (1, ["vae.safetensors"]),
        }


def test_what_is_put_right_is_passed_over_no_more(library: Library) -> None:
    path = library.put("a.safetensors", b"<html>")
    assert library.scan() == {"skipped": 1}
    path.write_bytes(lora("a"))
    assert library.scan() == {"added": 1}
    assert library.manager.scans.scan(library.folder).skips == {}


@pytest.mark.parametrize(
    "reason", [*Kind, *Outcome, "pickle", "bad_offsets", "not_readable", skips.OUTSIDE, skips.BAD_NAME]
)
def test_every_reason_has_words(reason: str) -> None:
    [(one, *_)], [(two, *_)] = skips.in_words([(reason, 1, "a")]), skips.in_words([(reason, 2, "ab")])
    assert (one[:2], two[:2]) == ("1 ", "2 ")
    assert "_" not in one + two


def test_reasons_that_people_call_the_same_are_told_together() -> None:
    found = [("too_short", 1, ["a"]), ("pickle", 1, ["b"]), ("size_mismatch", 4, ["c", "d", "e"])]
    assert skips.in_words(found) == [("5 truncated", 5, ["a", "c", "d"]), ("1 pickle", 1, ["b"])]


def test_a_model_is_found_by_the_digest_that_old_metadata_names_it_by(library: Library) -> None:
    path = library.put("large.safetensors", lora("large", rank=600))
    library.put("small.safetensors")
    library.scan()
    library.hash()
    autov1 = sha256(path.read_bytes()[0x100000:0x110000]).hexdigest()[:8]
    assert [model.name for model in library.manager.catalog.every(Query(digest=autov1))] == ["large"]
    assert (library.model("large").digest("autov1"), library.model("small").digest("autov1")) == (autov1, None)
