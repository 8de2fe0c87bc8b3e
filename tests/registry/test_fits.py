"""Verdicts are worked out once for equal shapes, kept, and are what comparing the files gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
from sqlalchemy import update

from probes import TensorSpec, read_header
from registry import fits
from registry.compatibility import checkpoint_tensors
from registry.fits import structure, unreadable
from registry.manager import Manager
from registry.rows import MODEL
from registry.settings import Settings
from tests.registry.shapes import LAYERS, Shelf, lora_shapes, write_safetensors


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    manager = Manager(Settings(root=tmp_path))
    made = Shelf(manager)
    compare = fits.check_fit

    def counted(*arguments):  # type: ignore[no-untyped-def]
        made.comparisons += 1
        return compare(*arguments)

    monkeypatch.setattr(fits, "check_fit", counted)
    yield made
    manager.close()


def test_fits_fits_partly_and_does_not_fit(shelf: Shelf) -> None:
    shelf.checkpoint("base", 64)
    shelf.lora("fitting", lora_shapes(64))
    shelf.lora("half", {**lora_shapes(64, LAYERS[:2]), **lora_shapes(32, LAYERS[2:])})
    shelf.lora("wide", lora_shapes(32))
    shelf.lora("stranger", lora_shapes(64), family="sdxl")
    shelf.manager.fits.catch_up()
    assert shelf.verdicts("base") == {"fitting": (True, 6, 6)}
    every = shelf.verdicts("base", every=True)
    assert every == {"fitting": (True, 6, 6), "half": (False, 4, 6), "stranger": (False, 0, 0), "wide": (False, 0, 6)}
    reasons = {model.name: fit.reason for model, fit in shelf.manager.matches.every_lora("base", every=True)}
    assert "2 of 6 tensors do not fit" in reasons["half"]
    assert reasons["stranger"] == "stranger is for sdxl, base is sd-1"


def test_models_of_equal_shapes_share_one_comparison(shelf: Shelf) -> None:
    for n in range(3):
        shelf.checkpoint(f"base{n}", 64)
        shelf.lora(f"lora{n}", lora_shapes(64), dtype=("F16", "F32")[n % 2])
    shelf.manager.fits.catch_up()
    assert (shelf.comparisons, shelf.rows()) == (1, 1)
    assert all(set(shelf.verdicts(f"base{n}")) == {"lora0", "lora1", "lora2"} for n in range(3))


def test_only_what_is_new_is_compared(shelf: Shelf) -> None:
    shelf.checkpoint("base", 64)
    shelf.lora("one", lora_shapes(64))
    shelf.manager.fits.catch_up()
    shelf.lora("two", lora_shapes(64, rank=8))
    shelf.manager.fits.catch_up()
    assert shelf.comparisons == 2
    shelf.checkpoint("other", 32)
    shelf.manager.fits.catch_up()
    assert shelf.comparisons == 4
    shelf.manager.fits.catch_up()
    assert shelf.comparisons == 4
    assert set(shelf.verdicts("base")) == {"one", "two"}
    assert shelf.verdicts("other") == {}


def test_new_rules_judge_everything_anew(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.checkpoint("base", 64)
    shelf.lora("one", lora_shapes(64))
    shelf.manager.fits.catch_up()
    monkeypatch.setattr(fits, "RULES", fits.RULES + 1)
    shelf.manager.fits.catch_up()
    assert shelf.comparisons == 2
    assert shelf.verdicts("base") == {"one": (True, 6, 6)}


def test_a_model_that_was_not_compared_yet_says_so(shelf: Shelf) -> None:
    shelf.checkpoint("base", 64)
    shelf.lora("one", lora_shapes(64))
    assert shelf.verdicts("base") == {}
    [(_, fit)] = shelf.manager.matches.every_lora("base", every=True)
    assert (fit.fits, fit.reason) == (False, "not compared yet")


def test_a_file_that_cannot_be_read_fits_nothing_and_stops_nobody(shelf: Shelf) -> None:
    shelf.checkpoint("base", 64)
    shelf.lora("fine", lora_shapes(64))
    shelf.lora("torn", lora_shapes(64))
    (shelf.manager.settings.root / "torn").write_bytes(b"<html>")
    shelf.manager.fits.catch_up()
    assert shelf.manager.catalog.get("torn").structure == unreadable()
    assert shelf.verdicts("base") == {"fine": (True, 6, 6)}
    reasons = {model.name: fit.reason for model, fit in shelf.manager.matches.every_lora("base", every=True)}
    assert "cannot be read" in reasons["torn"]


@pytest.mark.parametrize("told", ["1:unreadable", "1:unreadable:0.0.9"])
def test_what_an_older_version_could_not_read_is_read_again_once(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    shelf.checkpoint("base", 64)
    for name in ("fine", "torn"):
        shelf.lora(name, lora_shapes(64))
    shelf.manager.catalog.override("fine", {"weight": 0.4})
    (shelf.manager.settings.root / "torn").write_bytes(b"<html>")
    with shelf.manager.catalog.writing() as connection:
        connection.execute(update(MODEL).where(MODEL.c.kind == "lora").values(structure=told))
    shelf.manager.fits.catch_up()
    assert shelf.verdicts("base") == {"fine": (True, 6, 6)}
    assert shelf.manager.catalog.get("fine").overrides["weight"] == 0.4
    read = Mock(side_effect=read_header)
    monkeypatch.setattr(fits, "read_header", read)
    shelf.manager.fits.catch_up()
    assert read.call_count == 0


@pytest.mark.parametrize("name", ["base", "one"])
@pytest.mark.parametrize("cause", ["away", "locked"])
def test_a_file_that_cannot_be_read_for_a_moment_is_looked_at_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, name: str, cause: str
) -> None:
    shelf.checkpoint("base", 64)
    shelf.lora("one", lora_shapes(64))
    path = shelf.manager.settings.root / name
    with monkeypatch.context() as meanwhile:
        if cause == "away":
            path.rename(path.with_name("aside"))
        else:
            refused = PermissionError(13, "Permission denied")
            meanwhile.setattr(Path, "open", Mock(side_effect=refused))
        shelf.manager.fits.catch_up()
        assert shelf.verdicts("base") == {}
    if cause == "away":
        path.with_name("aside").rename(path)
    shelf.manager.fits.catch_up()
    assert shelf.verdicts("base") == {"one": (True, 6, 6)}


def test_a_family_whose_layout_is_not_known_is_compared_by_name_and_says_so(shelf: Shelf) -> None:
    write_safetensors(shelf.manager.settings.root / "base", {"double_blocks.0.odd": (8, 8)})
    shelf.add("base", "checkpoint", "flux-1")
    shelf.lora("one", lora_shapes(64), family="flux-1")
    shelf.manager.fits.catch_up()
    [(model, fit)] = shelf.manager.matches.every_lora("base")
    assert model.name == "one"
    assert "not compared yet" in fit.reason


def test_the_list_agrees_with_what_generating_decides(shelf: Shelf) -> None:
    base = shelf.checkpoint("base", 64)
    for name, width in (("fitting", 64), ("wide", 32)):
        shelf.lora(name, lora_shapes(width))
    shelf.manager.fits.catch_up()
    for model, fit in shelf.manager.matches.every_lora("base", every=True):
        said = shelf.manager.generator.fit(model, base)
        assert (fit.fits, fit.reason, fit.matched, fit.total) == (said.fits, said.reason, said.matched, said.total)


def test_an_adapter_that_is_not_there_yet_is_held_against_every_structure_once(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = [shelf.checkpoint(f"base{n}", 64) for n in range(3)] + [shelf.checkpoint("other", 32)]
    shelf.lora("one", lora_shapes(64))
    shelf.manager.fits.catch_up()
    bases = [shelf.manager.catalog.get(base.id) for base in bases]
    header = read_header(shelf.manager.settings.root / "one")
    read: list[Path] = []

    def counted(path: Path) -> Mapping[str, TensorSpec]:
        read.append(path)
        return checkpoint_tensors(path)

    monkeypatch.setattr(fits, "checkpoint_tensors", counted)
    assert [fit.fits for fit in shelf.manager.fits.judge(header, bases)] == [True, True, True, False]
    assert len(read) == 2


def test_a_structure_is_of_names_and_shapes_and_nothing_else() -> None:
    tensors = {"a": TensorSpec("F16", (2, 3)), "b": TensorSpec("F16", (4,))}
    again = {"b": TensorSpec("F32", (4,)), "a": TensorSpec("F32", (2, 3))}
    assert structure(tensors) == structure(again)
    for other in ({"a": (2, 3)}, {"a": (3, 2), "b": (4,)}, {"a": (2, 3), "c": (4,)}, {"a": (2,), "b": (3, 4)}):
        assert structure({k: TensorSpec("F16", shape) for k, shape in other.items()}) != structure(tensors)
