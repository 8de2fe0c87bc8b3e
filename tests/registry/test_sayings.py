"""What a user says of a model that its header leaves open: kept with the install and with the model, and what depends on it follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from probes import read_header
from registry.accelerations import acceleration
from registry.errors import FileMissing, InvalidRequest, ModelshelfError, NotAsSaid, NotIdentified
from registry.installs.options import Options, Place
from registry.installs.worker import Progress
from registry.manager import Manager
from registry.models import Model
from registry.queries import Query
from registry.revisions import reclassify
from registry.settings import Settings
from registry.tables import InstallState
from tests.demo.strangers import look_alike_lora, open_lora, safetensors, sd15_lora, write
from tests.hub import Fault, LoopbackHub
from tests.probes import headers
from tests.registry.shapes import Shelf


class Killed(BaseException):
    """Nobody is left to write down how it ended."""


OPEN, ALIKE, PLAIN, BOTH = "somebody/open", "somebody/alike", "somebody/plain", "somebody/both"
SD_1, SD_2 = Options(family="sd-1"), Options(family="sd-2")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    root = tmp_path / "hub"
    write(root / OPEN / "ink.safetensors", open_lora())
    write(root / ALIKE / "pen.safetensors", look_alike_lora())
    write(root / PLAIN / "lead.safetensors", sd15_lora())
    write(root / BOTH / "one.safetensors", sd15_lora())
    write(root / BOTH / "other.safetensors", look_alike_lora())
    with LoopbackHub(root) as running:
        yield running


def what(model: Model) -> tuple[str, str, dict[str, str]]:
    return model.kind, model.family, dict(model.overrides)


# --- with an install


def test_what_is_open_is_refused_with_what_can_be_said(manager: Manager, hub: LoopbackHub) -> None:
    with pytest.raises(NotIdentified, match="Say it with --family sd-1") as refused:
        manager.install(OPEN)
    candidates = refused.value.detail["candidates"]
    assert candidates == [{"family": "sd-1", "kind": "lora"}, {"family": "sd-2", "kind": "lora"}]
    for said in candidates:
        assert manager.inquire(OPEN, Options(**said)).refusal is None
    assert what(manager.install(OPEN, options=Options(**candidates[1])))[:2] == ("lora", "sd-2")


def test_the_word_is_kept_as_the_user_s_own(manager: Manager, hub: LoopbackHub) -> None:
    model = manager.install(OPEN, options=SD_2)
    assert what(manager.catalog.get(model.id)) == ("lora", "sd-2", {"family": "sd-2"})
    assert model.path == "lora/sd-2/ink.safetensors"
    assert manager.catalog.report(model)["family"] == "sd-2"


def test_a_word_that_the_shapes_exclude_is_refused_before_a_byte_of_weights(manager: Manager, hub: LoopbackHub) -> None:
    for source, word, allowed in ((OPEN, "flux-1", "sd-1 lora and sd-2 lora"), (PLAIN, "sdxl", "sd-1 lora")):
        with pytest.raises(NotAsSaid, match=f"said to be {word}, but the shapes allow {allowed} alone"):
            manager.install(source, options=Options(family=word))
    with pytest.raises(NotAsSaid, match="said to be lcm_lora, but the shapes allow sd-1 lora alone"):
        manager.submit_install(PLAIN, Options(kind="lcm_lora"))
    assert not manager.catalog.list()


@pytest.mark.parametrize(
    ("family", "nearest"), [("SD1.5", "sd-1"), ("sdx", "sdxl"), ("kolor", "kolors"), ("Flux.1 D", "flux-1")]
)
def test_an_unknown_family_is_refused_with_the_nearest(manager: Manager, family: str, nearest: str) -> None:
    with pytest.raises(InvalidRequest, match=f"There is no family “{family}”. The nearest: {nearest}") as refused:
        manager.install("somebody/nothing", options=Options(family=family))
    assert refused.value.detail["field"] == "family"
    with pytest.raises(InvalidRequest, match=r"There are .*anima, auraflow, "):
        Options(family="zzzzz").check(None)  # type: ignore[arg-type]


def test_the_word_chooses_among_several_files(manager: Manager, hub: LoopbackHub) -> None:
    assert what(manager.install(BOTH, options=Options(family="kolors")))[1] == "kolors"
    assert what(manager.install(BOTH, options=SD_1))[1] == "sd-1"


def test_whoever_goes_on_with_an_install_knows_the_word(manager: Manager, hub: LoopbackHub, settings: Settings) -> None:
    """The row is all that a killed service leaves; a queued one, and one that was paused, goes on by it, too."""

    def kill(progress: Progress) -> None:
        if progress.state == InstallState.DOWNLOADING:
            raise Killed

    with pytest.raises(Killed):
        manager.install(OPEN, kill, SD_2)
    [install] = manager.installs.list()
    assert (install.state, Options.of(install.options)) == (InstallState.DOWNLOADING, SD_2)
    successor = Manager(settings)
    try:
        successor.resume_installs()
        successor.wait()
        assert successor.installs.get(install.id).state == InstallState.INSTALLED
        assert what(successor.catalog.get("ink")) == ("lora", "sd-2", {"family": "sd-2"})
    finally:
        successor.close()


def test_a_failed_one_is_tried_again_with_the_word(manager: Manager, hub: LoopbackHub) -> None:
    hub.faults[f"{OPEN}/ink.safetensors"] = Fault(corrupt=True)
    with pytest.raises(ModelshelfError):
        manager.install(OPEN, options=SD_2)
    hub.faults.clear()
    [install] = manager.installs.list()
    manager.installs.command(install.id, "retry")
    assert what(manager.run_install(install.id)) == ("lora", "sd-2", {"family": "sd-2"})


def test_a_file_here_is_registered_where_it_lies_with_the_word(manager: Manager, tmp_path: Path) -> None:
    write(tmp_path / "mine/ink.safetensors", open_lora())
    source, in_place = str(tmp_path / "mine/ink.safetensors"), Options(Place.IN_PLACE, family="sd-2")
    model = manager.install(source, options=in_place)
    assert (model.managed, *what(model)) == (False, "lora", "sd-2", {"family": "sd-2"})


@pytest.mark.parametrize("place", Place)
def test_what_was_said_of_a_file_here_counts_when_it_is_installed_again(
    manager: Manager, tmp_path: Path, place: Place
) -> None:
    write(tmp_path / "mine/ink.safetensors", open_lora())
    source = str(tmp_path / "mine/ink.safetensors")
    manager.install(source, options=Options(Place.IN_PLACE, family="sd-2"))
    assert what(manager.install(source, options=Options(place))) == ("lora", "sd-2", {"family": "sd-2"})


def test_it_does_not_count_for_other_bytes_at_the_same_place(manager: Manager, tmp_path: Path) -> None:
    write(tmp_path / "mine/ink.safetensors", open_lora())
    source = str(tmp_path / "mine/ink.safetensors")
    manager.install(source, options=Options(Place.IN_PLACE, family="sd-2"))
    write(tmp_path / "mine/ink.safetensors", open_lora(rank=8))
    with pytest.raises(NotIdentified):
        manager.install(source)


def test_a_second_word_is_heard_beside_the_first(manager: Manager, tmp_path: Path) -> None:
    fixture = headers.load("lcm-lora-sdxl")  # whose family and kind are open
    (tmp_path / "mine").mkdir()
    source = str(headers.write_sparse(tmp_path / "mine/fast.safetensors", fixture.tensors, fixture.metadata))
    lcm = manager.install(source, options=Options(Place.IN_PLACE, kind="lcm_lora"))
    assert what(lcm)[:2] == ("lcm_lora", "sdxl")
    again = manager.install(source, options=Options(Place.IN_PLACE, family="kolors"))
    assert (again.id, what(again)) == (lcm.id, ("lcm_lora", "kolors", {"family": "kolors", "kind": "lcm_lora"}))


def test_said_of_what_is_on_the_shelf_already_it_corrects_that(manager: Manager, hub: LoopbackHub) -> None:
    before = manager.install(ALIKE)
    after = manager.install(ALIKE, options=Options(family="kolors"))
    assert (after.id, what(after)) == (before.id, ("lora", "kolors", {"family": "kolors"}))
    assert what(manager.install(ALIKE))[1] == "kolors"  # nothing is said now: that stays


def test_an_install_that_mends_a_model_remembers_what_was_said_of_it(manager: Manager, hub: LoopbackHub) -> None:
    model = manager.install(OPEN, options=SD_2)
    manager.catalog.path(model).unlink()
    assert manager.inquire(OPEN).refusal is None
    mended = manager.install(OPEN)
    assert (mended.id, what(mended)) == (model.id, ("lora", "sd-2", {"family": "sd-2"}))


def test_a_newer_version_is_what_the_older_one_was_said_to_be(manager: Manager, hub: LoopbackHub) -> None:
    old = manager.install(OPEN, options=SD_2)
    manager.edit(old.id, {"weight": 0.3})
    write(hub.root / OPEN / "ink.safetensors", open_lora(rank=8))
    [update] = manager.updates(manager.catalog.every())
    new = manager.fetch_update(update)
    assert (new.id != old.id, what(new)) == (True, ("lora", "sd-2", {"family": "sd-2", "weight": 0.3}))


def test_every_database_keeps_it(database_url: str, settings: Settings, hub: LoopbackHub, tmp_path: Path) -> None:
    write(tmp_path / "mine/nib.safetensors", open_lora(rank=8))
    manager = Manager(settings.model_copy(update={"database_url": database_url}))
    try:
        manager.install(OPEN, options=SD_2)
        manager.install(str(tmp_path / "mine/nib.safetensors"), options=Options(Place.IN_PLACE, family="sd-1"))
        manager.scans.scan(tmp_path / "mine", afresh=True)
        assert {m.name: m.family for m in manager.catalog.every()} == {"ink": "sd-2", "nib": "sd-1"}
        assert manager.edit("ink", {"family": "sd-1"}).overrides == {"family": "sd-1"}
    finally:
        manager.close()


# --- of a model


@pytest.fixture
def alike(manager: Manager, hub: LoopbackHub) -> Model:
    return manager.install(ALIKE)


def test_a_look_alike_is_corrected_and_taken_back(manager: Manager, alike: Model) -> None:
    assert alike.family == "sdxl"
    assert what(manager.edit("pen", {"family": "kolors", "weight": 0.5})) == (
        "lora", "kolors", {"family": "kolors", "weight": 0.5},
    )  # fmt: skip
    report = manager.catalog.report(alike)
    assert report["family"] == "kolors"
    assert [e["seen"] for e in report["evidence"] if e["key"] == "user"] == ["kolors"] * 2
    assert [m.id for m in manager.catalog.page(Query(family="kolors")).models] == [alike.id]
    assert what(manager.edit("pen", {"family": None})) == ("lora", "sdxl", {"weight": 0.5})


def test_what_can_be_said_is_told_of_models_that_were_probed_before_it_could_be(manager: Manager, alike: Model) -> None:
    report = manager.catalog.report(alike)
    assert {"family": "kolors", "kind": "lora"} in report["choices"]
    older = {name: value for name, value in report.items() if name != "choices"}
    with manager.catalog.writing() as connection:
        reclassify(connection, alike, older)
    assert manager.catalog.report(alike) == report


def test_verdicts_follow(manager: Manager, alike: Model) -> None:
    shelf = Shelf(manager)
    sdxl, kolors = shelf.checkpoint("base", 640, "sdxl"), shelf.checkpoint("other", 320, "kolors")
    manager.fits.catch_up()

    def judged() -> list[str]:
        return [
            model.name
            for model, fit in manager.matches.checkpoints("pen", every=True).checkpoints
            if "is for" not in fit.reason
        ]

    assert judged() == [sdxl.name]
    manager.edit("pen", {"family": "kolors"})
    assert judged() == [kolors.name]
    [(_, fit)] = [
        found for found in manager.matches.checkpoints("pen", every=True).checkpoints if found[0].id == kolors.id
    ]
    tensors = read_header(manager.catalog.path(alike)).tensors
    assert fit.total == len(tensors)  # compared, and not only said to be of the family


def test_what_the_shapes_exclude_changes_nothing(manager: Manager, alike: Model) -> None:
    before = manager.catalog.version()
    with pytest.raises(NotAsSaid, match="allow sdxl lora, koala lora, kolors lora"):
        manager.edit("pen", {"family": "sd-1", "weight": 0.5}, name="quill")
    with pytest.raises(InvalidRequest, match="The nearest: kolors"):
        manager.edit("pen", {"family": "kolor"})
    assert (manager.catalog.version(), what(manager.catalog.get("pen"))) == (before, ("lora", "sdxl", {}))


def test_of_a_model_whose_file_is_gone_nothing_new_can_be_said(manager: Manager, alike: Model) -> None:
    manager.catalog.path(alike).unlink()
    with pytest.raises(FileMissing, match="The file of pen is gone"):
        manager.edit("pen", {"family": "kolors", "weight": 0.5})
    assert what(manager.edit("pen", {"weight": 0.5})) == ("lora", "sdxl", {"weight": 0.5})


def test_what_would_be_open_again_is_not_taken_back(manager: Manager, hub: LoopbackHub) -> None:
    manager.install(OPEN, options=SD_2)
    with pytest.raises(NotIdentified):
        manager.edit("ink", {"family": None})
    assert what(manager.edit("ink", {"family": "sd-1"})) == ("lora", "sd-1", {"family": "sd-1"})


def test_a_lora_is_said_to_be_an_lcm_lora_and_is_sampled_as_one(manager: Manager, tmp_path: Path) -> None:
    fixture = headers.load("lcm-lora-sd-1-miniature")
    data = safetensors({name: [*spec.shape] for name, spec in fixture.header.tensors.items()}, {})
    write(tmp_path / "fast.safetensors", data)
    ordinary = manager.install(str(tmp_path / "fast.safetensors"))
    assert (ordinary.kind, acceleration(ordinary)) == ("lora", None)
    lcm = manager.edit(ordinary.id, {"kind": "lcm_lora"})
    found = acceleration(lcm)
    assert (lcm.kind, found and found.recipe.trait) == ("lcm_lora", "lcm")
    again = manager.edit(ordinary.id, {"kind": "lora"})
    assert (again.kind, acceleration(again)) == ("lora", None)
