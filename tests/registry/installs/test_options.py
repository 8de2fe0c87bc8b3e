"""What becomes of files that are on this machine already, and which of several precisions is taken."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from probes.containers.weight_names import variant_of
from registry.errors import Cancelled, InvalidRequest, KindNotTaken, NoWeights
from registry.installs import job
from registry.installs.hashing import hash_file
from registry.installs.options import Options, Place
from registry.installs.origins import Listing, RemoteFile
from registry.installs.selection import options
from registry.installs.worker import Progress
from registry.manager import Manager
from registry.scans.service import Scans
from registry.settings import Settings
from registry.tables import InstallState
from tests.conftest import STARTER
from tests.demo.strangers import sd15_lora, write

MOVE, IN_PLACE = Options(Place.MOVE), Options(Place.IN_PLACE)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine/ink.safetensors"
    write(path, sd15_lora())
    return path


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STARTER / "modelshelf/starter-base", tmp_path / "mine/base"))


class TestMove:
    def test_the_shelf_gets_the_very_file(self, manager: Manager, mine: Path) -> None:
        inode, digest = mine.stat().st_ino, hash_file(mine).blake3
        model = manager.install(str(mine), options=MOVE)
        kept = manager.catalog.path(model)
        assert (kept.stat().st_ino, hash_file(kept).blake3, model.blake3) == (inode, digest, digest)
        assert (mine.exists(), kept.stat().st_nlink, model.managed) == (False, 1, True)

    def test_of_a_folder_only_what_belongs_to_the_model_goes(self, manager: Manager, pipeline: Path) -> None:
        (pipeline / "notes.txt").write_text("mine")
        model = manager.install(str(pipeline), options=MOVE)
        assert (manager.catalog.path(model) / "unet/diffusion_pytorch_model.safetensors").is_file()
        left = {p.relative_to(pipeline).as_posix() for p in pipeline.rglob("*") if p.is_file()}
        assert left == {"notes.txt", "README.md", "starter-base.safetensors"}
        assert not (pipeline / "unet").exists()

    def test_what_is_no_model_stays(self, manager: Manager, tmp_path: Path) -> None:
        vae = tmp_path / "vae.safetensors"
        shutil.copy(STARTER / "modelshelf/starter-base/vae/diffusion_pytorch_model.safetensors", vae)
        with pytest.raises(KindNotTaken, match=r"^This is a vae; modelshelf takes checkpoint, lora, lcm_lora\.$"):
            manager.install(str(vae), options=MOVE)
        assert vae.exists()

    def test_one_that_is_cancelled_has_taken_nothing(self, manager: Manager, mine: Path) -> None:
        digest = hash_file(mine)

        def cancel(progress: object) -> None:
            job = manager.installs.list()[0]
            if job.state == InstallState.REGISTERING:
                manager.installs.command(job.id, "cancel")

        with pytest.raises(Cancelled):
            manager.install(str(mine), cancel, MOVE)
        manager.discard_install(manager.installs.list()[0].id)
        assert hash_file(mine) == digest

    def test_one_that_was_killed_goes_on_and_never_writes_to_the_users_file(
        self, manager: Manager, mine: Path, settings: Settings
    ) -> None:
        class Killed(BaseException):
            """As SIGKILL, caught by nobody."""

        def kill(progress: Progress) -> None:
            if progress.state == InstallState.PROBING:
                raise Killed

        with pytest.raises(Killed):
            manager.install(str(mine), kill, MOVE)
        with mine.open("ab") as file:
            file.write(b"more")  # longer than what was linked, which would be begun anew
        grown = hash_file(mine)
        successor = Manager(settings)
        successor.resume_installs()
        successor.wait()
        successor.close()
        assert hash_file(mine) == grown

    def test_across_file_systems_it_is_copied(
        self, manager: Manager, mine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        digest = hash_file(mine)
        monkeypatch.setattr(Path, "hardlink_to", refuse)
        model = manager.install(str(mine), options=MOVE)
        assert (hash_file(manager.catalog.path(model)), mine.exists()) == (digest, False)

    def test_one_that_is_killed_before_the_source_is_removed_is_finished_by_the_next(
        self, manager: Manager, settings: Settings, mine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def kill(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        if (child := os.fork()) == 0:
            try:
                monkeypatch.setattr(job, "remove_moved", kill)
                Manager(settings).install(str(mine), options=MOVE)
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert (manager.installs.list()[0].state, mine.exists()) == (InstallState.INSTALLED, True)
        manager.resume_installs()
        assert not mine.exists()
        [model] = manager.catalog.list()
        assert manager.catalog.path(model).stat().st_nlink == 1

    def test_bytes_that_the_shelf_has_already_are_left_where_they_are(self, manager: Manager, mine: Path) -> None:
        manager.install(str(mine), options=IN_PLACE)
        list(manager.scans.digester.hash_all())
        manager.install(str(mine), options=MOVE)
        assert mine.exists()
        assert [m.path for m in manager.catalog.list()] == [str(mine)]


class TestInPlace:
    def test_it_is_registered_where_it_lies(self, manager: Manager, mine: Path, settings: Settings) -> None:
        model = manager.install(str(mine), options=IN_PLACE)
        assert (model.name, model.path, model.managed, model.blake3) == ("ink", str(mine), False, None)
        assert not (settings.root / "lora").exists()
        assert [m.name for m in manager.scans.digester.hash_all()] == ["ink"]
        assert manager.installs.list()[0].state == InstallState.INSTALLED

    def test_a_folder_that_is_one_model(self, manager: Manager, pipeline: Path) -> None:
        (pipeline / "starter-base.safetensors").unlink()
        model = manager.install(str(pipeline), options=IN_PLACE)
        assert (model.path, model.format) == (str(pipeline), "diffusers folder")

    def test_twice_is_the_same_model_and_a_scan_knows_it(self, manager: Manager, mine: Path) -> None:
        first = manager.install(str(mine), options=IN_PLACE)
        assert manager.install(str(mine), options=IN_PLACE).id == first.id
        assert manager.scans.scan(mine.parent).unchanged == 1

    def test_one_that_is_gone_is_marked_though_no_scan_looks_there(self, manager: Manager, mine: Path) -> None:
        model = manager.install(str(mine), options=IN_PLACE)
        mine.unlink()
        scans: Scans = manager.scans
        scans.refresh()
        assert manager.catalog.get(model.id).missing_since
        write(mine, sd15_lora())
        scans.refresh()
        assert manager.catalog.get(model.id).missing_since is None


@pytest.mark.parametrize("place", [Place.MOVE, Place.IN_PLACE])
def test_what_is_elsewhere_can_only_be_copied(manager: Manager, place: Place) -> None:
    with pytest.raises(InvalidRequest, match="is not on this machine"):
        manager.install("modelshelf/starter-outline-lora", options=Options(place))
    assert manager.installs.list() == []


FILES = (
    "model_index.json",
    "unet/config.json",
    "unet/model.safetensors",
    "unet/model.fp16.safetensors",
    "vae/model.safetensors",
    "text_encoder/model-00001-of-00002.safetensors",
    "text_encoder/model-00002-of-00002.safetensors",
    "text_encoder/model.safetensors.index.json",
    "text_encoder/model.fp16-00001-of-00002.safetensors",
    "text_encoder/model.fp16-00002-of-00002.safetensors",
    "text_encoder/model.safetensors.index.fp16.json",
)


def chosen(variant: str | None, files: Iterable[str] = FILES) -> list[str]:
    listing = Listing("hf://o/r@c", "o/r", "c", tuple(RemoteFile(f, 1, None) for f in files), None)
    index = {"unet": ["x", "Y"], "vae": ["x", "Y"], "text_encoder": ["x", "Y"]}
    [[selection]] = options(listing, lambda _: index, variant)
    return sorted(f.path for f in selection.files)


def test_one_precision_is_taken_whole_the_unmarked_one_unless_another_is_asked_for() -> None:
    plain = [f for f in FILES if "fp16" not in f]
    half = [f for f in FILES if "fp16" in f]
    assert chosen(None) == sorted(plain)
    # A component without that variant comes as it is.
    assert chosen("fp16") == sorted([*half, "model_index.json", "unet/config.json", "vae/model.safetensors"])


def test_a_precision_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(NoWeights, match=r"no variant bf16 \(there: fp16\)"):
        chosen("bf16")


@pytest.mark.parametrize("focus", ["", "x.safetensors"])
def test_a_precision_of_what_is_no_pipeline_is_refused(focus: str) -> None:
    listing = Listing("hf://o/r@c", "o/r", "c", (RemoteFile("x.safetensors", 1, None),), None, focus)
    with pytest.raises(NoWeights, match="o/r is no pipeline"):
        options(listing, lambda _: {}, "fp16")


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("model.safetensors", None),
        ("model.fp16.safetensors", "fp16"),
        ("model-00001-of-00002.safetensors", None),
        ("model.fp16-00001-of-00002.safetensors", "fp16"),
        ("model-00001-of-00002.fp16.safetensors", "fp16"),
        ("model.safetensors.index.json", None),
        ("model.safetensors.index.fp16.json", "fp16"),
        ("config.json", None),
    ],
)
def test_names_of_variants(name: str, variant: str | None) -> None:
    assert variant_of(name) == variant


def test_whoever_goes_on_with_an_install_does_as_was_asked(manager: Manager, settings: Settings, mine: Path) -> None:
    job = manager.installs.open(str(mine), options=MOVE.as_dict())
    successor = Manager(settings)
    successor.resume_installs()
    successor.wait()
    successor.close()
    assert (manager.installs.get(job.id).state, mine.exists()) == (InstallState.INSTALLED, False)
