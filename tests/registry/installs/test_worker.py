"""An install from source to record, through the real Hub client and a hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from secrets import token_hex

import pytest
from blake3 import blake3
from sqlalchemy import Connection, event

from registry.catalog import Entry
from registry.errors import (
    AmbiguousChoice,
    Cancelled,
    DigestMismatch,
    HubUnreachable,
    KindNotTaken,
    ModelshelfError,
    NotIdentified,
    NoWeights,
    StorageFull,
    UnusableFile,
    WrongState,
)
from registry.installs import examine, pauses, placing
from registry.installs.download import RESERVE
from registry.installs.hashing import hash_file
from registry.installs.worker import Progress
from registry.manager import Manager
from registry.settings import Settings
from registry.starter import starter_repositories
from registry.tables import Install, InstallState
from tests.bad_sources import BAD_SOURCES, GATED, add_bad_sources, files_below
from tests.conftest import STARTER
from tests.demo.strangers import safetensors, sd15_lora, write
from tests.hub import Fault, LoopbackHub
from tests.probes import headers

OUTLINE = "modelshelf/starter-outline-lora"
FILE = "pytorch_lora_weights.safetensors"
VAE = "modelshelf/starter-base/vae/diffusion_pytorch_model.safetensors"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The hub's folder: the outline LoRA, and room for more repositories."""
    shutil.copytree(STARTER / OUTLINE, tmp_path / "hub" / OUTLINE)
    return tmp_path / "hub"


@pytest.fixture
def hub(shelf: Path):  # type: ignore[no-untyped-def]
    with LoopbackHub(shelf, gated=[GATED]) as running:
        yield running


def test_an_install_from_a_web_url(manager: Manager, hub: LoopbackHub, settings: Settings) -> None:
    seen: list[Progress] = []
    model = manager.install(f"https://huggingface.co/{OUTLINE}", seen.append)

    assert (model.kind, model.family, model.name) == ("lora", "sd-1", "starter-outline-lora")
    assert model.repo_id == OUTLINE
    assert model.revision is not None
    assert len(model.revision) == 40
    assert model.revision in model.source
    original = hash_file(STARTER / OUTLINE / FILE)
    assert (model.sha256, model.blake3, model.autov3, model.size) == (
        original.sha256,
        original.blake3,
        original.autov3,
        original.size,
    )
    assert model.base_model == "modelshelf/starter-base"
    assert model.triggers
    assert "weight" in model.recipe
    assert manager.catalog.path(model) == settings.root / "lora" / "sd-1" / "starter-outline-lora.safetensors"
    assert hash_file(manager.catalog.path(model)) == original

    states = list(dict.fromkeys(p.state for p in seen))
    assert states == [
        InstallState.RESOLVING,
        InstallState.DOWNLOADING,
        InstallState.PROBING,
        InstallState.REGISTERING,
        InstallState.INSTALLED,
    ]
    assert max(p.bytes_done for p in seen) == original.size
    job = manager.installs.list()[0]
    assert (job.state, job.model_id, job.bytes_done, job.bytes_total) == (
        InstallState.INSTALLED,
        model.id,
        original.size,
        original.size,
    )
    assert files_below(settings.root) == {"lora", "lora/sd-1", "lora/sd-1/starter-outline-lora.safetensors"}


@pytest.mark.parametrize(
    "source",
    [
        OUTLINE,
        f"hf://{OUTLINE}",
        f"https://huggingface.co/{OUTLINE}/tree/main",
        f"https://huggingface.co/{OUTLINE}/blob/main/{FILE}",
        f"https://hf.co/{OUTLINE}/resolve/main/{FILE}?download=true",
        str(STARTER / OUTLINE),
        str(STARTER / OUTLINE / FILE),
    ],
)
def test_every_way_to_name_it_gives_the_same_model(manager: Manager, source: str) -> None:
    model = manager.install(source)
    assert (model.kind, model.blake3) == ("lora", hash_file(STARTER / OUTLINE / FILE).blake3)


def test_the_same_model_again_is_not_downloaded_again(manager: Manager, hub: LoopbackHub) -> None:
    first = manager.install(OUTLINE)
    hub.seen.clear()
    again = manager.install(f"https://huggingface.co/{OUTLINE}/blob/main/{FILE}")
    assert again.id == first.id
    assert [s.range for s in hub.seen if s.server == "storage"] == ["bytes=0-524287"]  # its header, to be probed
    assert [m.id for m in manager.catalog.list()] == [first.id]


def test_the_same_bytes_in_another_repository_are_not_downloaded_and_gain_a_source(
    manager: Manager, hub: LoopbackHub, shelf: Path
) -> None:
    first = manager.install(OUTLINE)
    shutil.copytree(shelf / OUTLINE, shelf / "mirror/outline")
    hub.seen.clear()
    again = manager.install("mirror/outline")
    assert again.id == first.id
    assert [s.repo_id for s in again.sources] == [OUTLINE, "mirror/outline"]
    assert [s.range for s in hub.seen if s.server == "storage"] == ["bytes=0-524287"]
    assert "on the shelf already" in manager.installs.list()[0].notes[0]


def test_the_same_weights_with_another_header_are_told(manager: Manager, shelf: Path) -> None:
    body = sd15_lora()
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length]) | {"__metadata__": {"sshs_model_hash": "ab" * 32}}
    raw = json.dumps(header).encode()
    write(shelf / "a/one/one.safetensors", body)
    write(shelf / "a/two/two.safetensors", len(raw).to_bytes(8, "little") + raw + body[8 + length :])
    one, two = manager.install("a/one"), manager.install("a/two")
    assert one.autov3 == two.autov3
    assert one.id != two.id
    assert manager.installs.list()[0].notes == [
        "It has the same weights as one, with another header (equal AutoV3).",
        f"The file header, sshs_model_hash claims autov3 abababababab; the bytes have {two.autov3[:12]}.",  # type: ignore[index]
    ]


def test_a_folder_takes_the_files_that_are_on_the_shelf_and_fetches_the_others(
    manager: Manager, hub: LoopbackHub, shelf: Path
) -> None:
    base = shelf / "modelshelf/starter-base"
    shutil.copytree(STARTER / "modelshelf/starter-base", base)
    shutil.copytree(base, shelf / "other/base")
    (shelf / "other/base/tokenizer/tokenizer_config.json").write_text('{"model_max_length": 78}')
    first = manager.install("modelshelf/starter-base")
    hub.seen.clear()
    second = manager.install("other/base")
    assert (second.id != first.id, second.kind) == (True, "checkpoint")
    fetched = {s.path.rpartition("/")[2].partition("?")[0]: s.range for s in hub.seen if s.server == "storage"}
    assert set(fetched.values()) == {"bytes=0-524287"}  # headers only
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert (manager.catalog.path(first) / unet).samefile(manager.catalog.path(second) / unet)


def test_a_file_on_the_shelf_that_was_damaged_is_not_taken(manager: Manager, shelf: Path) -> None:
    base = shelf / "modelshelf/starter-base"
    shutil.copytree(STARTER / "modelshelf/starter-base", base)
    shutil.copytree(base, shelf / "other/base")
    (shelf / "other/base/tokenizer/tokenizer_config.json").write_text('{"model_max_length": 78}')
    vae = manager.catalog.path(manager.install("modelshelf/starter-base")) / "vae/diffusion_pytorch_model.safetensors"
    vae.write_bytes(vae.read_bytes()[:-1] + b"\x77")
    copy = manager.catalog.path(manager.install("other/base")) / "vae/diffusion_pytorch_model.safetensors"
    assert hash_file(copy) == hash_file(base / "vae/diffusion_pytorch_model.safetensors")


def test_what_the_users_programs_may_write_to_is_copied_and_never_written_to(
    manager: Manager, hub: LoopbackHub, shelf: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(STARTER / "modelshelf/starter-base", shelf / "modelshelf/starter-base"))
    mine = Path(shutil.copytree(base, tmp_path / "mine/base"))
    (base / "tokenizer/tokenizer_config.json").write_text('{"model_max_length": 78}')
    manager.scans.scan(mine.parent)
    list(manager.scans.digester.hash_all())
    unet = mine / "unet/diffusion_pytorch_model.safetensors"
    vae = "vae/diffusion_pytorch_model.safetensors"
    (mine / vae).write_bytes(b"other")
    hub.faults[f"modelshelf/starter-base/{vae}"] = Fault(corrupt=True)
    with pytest.raises(DigestMismatch):
        manager.install("modelshelf/starter-base")
    [staged] = manager.settings.downloads.glob("*/model/unet/*.safetensors")
    assert hash_file(staged) == hash_file(unet)
    assert not staged.samefile(unet)
    unet.write_bytes(written := unet.read_bytes()[:-1] + b"!")  # in place, as many programs write
    hub.faults.clear()
    model = manager.install("modelshelf/starter-base")
    assert [v.state for v in manager.upkeep.verify([model])] == ["whole"]
    assert unet.read_bytes() == written


@pytest.mark.parametrize("repository", [OUTLINE, "modelshelf/starter-base"])
def test_what_somebody_puts_where_it_would_lie_is_not_replaced(
    manager: Manager, shelf: Path, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(STARTER / repository, shelf / repository, dirs_exist_ok=True)
    add, put = manager.catalog.add_in, list[Path]()

    def put_there(connection: Connection, entries: list[Entry]) -> None:
        path = manager.settings.root / entries[0].model.path
        put.append(path if path.suffix else path / "notes.txt")
        write(put[0], b"mine")
        add(connection, entries)

    monkeypatch.setattr(manager.catalog, "add_in", put_there)
    with pytest.raises(ModelshelfError):
        manager.install(repository)
    assert put[0].read_bytes() == b"mine"
    assert manager.catalog.list() == []
    assert manager.upkeep.waste().files == ()
    monkeypatch.undo()
    assert manager.catalog.is_whole(manager.install(repository))


def test_what_another_program_left_beside_a_file_settles_what_it_is(manager: Manager, tmp_path: Path) -> None:
    fixture = headers.load("lora-sd-1-self-attention")
    path = headers.write_sparse(tmp_path / "x.safetensors", fixture.tensors)
    with pytest.raises(NotIdentified):
        manager.install(str(path))
    write(tmp_path / "x.civitai.info", b'{"baseModel": "SD 2.1"}')
    assert manager.install(str(path)).family == "sd-2"


class TestSeveralModels:
    """A source that holds more than one file: what they are decides, not their names."""

    def test_the_one_that_is_taken(self, manager: Manager, shelf: Path) -> None:
        write(shelf / "a/b/aaa-vae.safetensors", (STARTER / VAE).read_bytes())
        write(shelf / "a/b/page.safetensors", b"<!DOCTYPE html><html><body>Sign in</body></html>")
        write(shelf / "a/b/the.weird.name.safetensors", sd15_lora())
        assert manager.install("a/b").name == "the.weird.name"

    def test_of_several_the_user_decides(self, manager: Manager, shelf: Path) -> None:
        write(shelf / "a/b/x.safetensors", sd15_lora(rank=4))
        write(shelf / "a/b/y.safetensors", sd15_lora(rank=8))
        write(shelf / "a/b/vae.safetensors", (STARTER / VAE).read_bytes())
        with pytest.raises(AmbiguousChoice, match=r"2 models in a/b.*hf://a/b/x\.safetensors \(lora, sd-1\)") as caught:
            manager.install("a/b")
        first, second = caught.value.detail["candidates"]
        assert (first["report"]["kind"], second["report"]["rank"]) == ("lora", 8)
        assert manager.install(second["source"]).name == "y"

    def test_those_in_folders_below_when_none_is_on_top(self, manager: Manager, shelf: Path) -> None:
        write(shelf / "a/b/vae.safetensors", (STARTER / VAE).read_bytes())
        write(shelf / "a/b/deep/er/style.safetensors", sd15_lora())
        write(shelf / "c/d/vae.safetensors", (STARTER / VAE).read_bytes())
        with pytest.raises(KindNotTaken):  # the only one there says what is wrong
            manager.install("c/d")
        assert manager.install("a/b").name == "style"

    def test_none_is_taken_while_some_were_not_looked_at(
        self, manager: Manager, shelf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(examine, "LISTED", 2)
        write(shelf / "a/b/1.safetensors", (STARTER / VAE).read_bytes())
        for number in (2, 3, 4):
            write(shelf / f"a/b/{number}.safetensors", sd15_lora(rank=number))
        with pytest.raises(AmbiguousChoice, match="1 models and 2 more weight files that were not looked at"):
            manager.install("a/b")
        write(shelf / "a/b/2.safetensors", (STARTER / VAE).read_bytes())
        with pytest.raises(NoWeights, match=r"None of the 4 .* among the first 2; 2 were not looked at"):
            manager.install("a/b")

    def test_none_of_them(self, manager: Manager, shelf: Path) -> None:
        write(shelf / "a/b/one.safetensors", (STARTER / VAE).read_bytes())
        write(shelf / "a/b/two.safetensors", b"<!DOCTYPE html><html><body>Sign in</body></html>")
        with pytest.raises(NoWeights, match="None of the 2 weight files") as caught:
            manager.install("a/b")
        assert [c["report"]["outcome"] for c in caught.value.detail["candidates"]] == ["identified", "unusable"]


@pytest.mark.parametrize("harm", ["deleted", "cut", "changed"])
def test_a_model_whose_file_is_gone_or_damaged_is_mended_by_installing_it_again(manager: Manager, harm: str) -> None:
    first = manager.catalog.override(manager.install(OUTLINE).id, {"weight": 0.4}, name="mine")
    path = manager.catalog.path(first)
    whole = path.read_bytes()
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(whole[:-5] + (b"" if harm == "cut" else b"12345"))
    assert [v.state for v in manager.upkeep.verify([first])] == ["missing" if harm == "deleted" else "damaged"]
    again = manager.install(OUTLINE)
    assert manager.catalog.path(again).read_bytes() == whole
    assert [(m.id, m.name, m.overrides, m.missing_since, m.damaged_at) for m in manager.catalog.list()] == [
        (first.id, "mine", {"weight": 0.4}, None, None)
    ]
    assert manager.installs.list()[0].notes == ["mine is whole again."]


@pytest.mark.parametrize("harm", ["missing", "damaged"])
@pytest.mark.parametrize("step", ["_clear", "_put", "_set"])
def test_one_that_is_killed_while_a_model_is_mended_goes_on_mending_it(
    manager: Manager, settings: Settings, monkeypatch: pytest.MonkeyPatch, harm: str, step: str
) -> None:
    model = manager.install(OUTLINE)
    path = manager.catalog.path(model)
    whole = path.read_bytes()
    path.unlink() if harm == "missing" else path.write_bytes(whole[:-1] + b"x")
    assert [v.state for v in manager.upkeep.verify([model])] == [harm]

    def kill(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        try:
            monkeypatch.setattr(placing, step, kill)
            Manager(settings).install(OUTLINE)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    successor = Manager(settings)
    successor.resume_installs()
    successor.wait()
    successor.close()
    mended = manager.catalog.get(model.id)
    assert path.read_bytes() == whole
    assert (mended.missing_since, mended.damaged_at) == (None, None)


def test_a_damaged_folder_is_mended_too(manager: Manager, tmp_path: Path) -> None:
    shutil.copytree(STARTER / "modelshelf/starter-base", tmp_path / "base")
    first = manager.install(str(tmp_path / "base"))
    weights = manager.catalog.path(first) / "unet/diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    assert [v.state for v in manager.upkeep.verify([first])] == ["damaged"]
    assert manager.install(str(tmp_path / "base")).id == first.id
    assert weights.read_bytes() == whole
    assert [v.state for v in manager.upkeep.verify([first])] == ["whole"]


def test_what_is_gone_from_a_folder_of_the_users_comes_to_the_shelf(manager: Manager, tmp_path: Path) -> None:
    """The record stays, with the user's settings; nothing is written to where it lay."""
    mine = tmp_path / "mine/outline.safetensors"
    write(mine, (STARTER / OUTLINE / FILE).read_bytes())
    manager.scans.scan(mine.parent)
    list(manager.scans.digester.hash_all())
    [scanned] = manager.catalog.list()
    manager.catalog.override(scanned.id, {"weight": 0.4})
    mine.unlink()
    manager.scans.scan(mine.parent)
    model = manager.install(OUTLINE)
    assert (model.id, model.overrides, model.managed, model.missing_since) == (scanned.id, {"weight": 0.4}, True, None)
    assert model.path.startswith("lora/sd-1/")
    assert list(mine.parent.iterdir()) == []
    write(mine, (STARTER / OUTLINE / FILE).read_bytes())
    assert manager.scans.scan(mine.parent).added == 1  # a second copy, of which `duplicates` tells


def test_a_file_name_that_no_disk_takes_with_an_ending_behind_it(
    manager: Manager, hub: LoopbackHub, shelf: Path
) -> None:
    name = "x" * 243
    write(shelf / f"a/b/{name}.safetensors", sd15_lora())  # 255 bytes, without .part
    model = manager.install(f"a/b:{name}.safetensors")
    assert model.name == "x" * 120
    assert manager.catalog.path(model).exists()


def test_a_place_that_a_missing_model_has_is_not_taken(manager: Manager, shelf: Path) -> None:
    first = manager.install(OUTLINE)
    manager.catalog.override(first.id, {}, name="mine")
    manager.catalog.path(first).unlink()
    write(shelf / f"another/starter-outline-lora/{FILE}", sd15_lora())
    model = manager.install("another/starter-outline-lora")
    assert model.name == "starter-outline-lora-2"
    assert manager.catalog.is_whole(model)


@pytest.mark.parametrize("name", ["x.SAFETENSORS", "x.sft", "x.safetensors.bak", "weights"])
def test_a_file_that_is_named_is_taken_whatever_its_ending_says(manager: Manager, shelf: Path, name: str) -> None:
    write(shelf / "a/b" / name, sd15_lora())
    model = manager.install(f"a/b:{name}")
    assert (model.kind, manager.catalog.path(model).suffix) == ("lora", ".safetensors")
    assert manager.catalog.is_whole(model)


@pytest.mark.parametrize("name", ["x.SAFETENSORS", "x.sft"])
def test_an_ending_is_known_in_every_spelling(manager: Manager, shelf: Path, name: str) -> None:
    write(shelf / "a/b" / name, sd15_lora())
    assert manager.install("a/b").name == "x"


def test_what_a_full_disk_has_paused_goes_on_when_the_reserve_is_free_again_and_not_before(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, free = namedtuple("usage", "total used free"), [0]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free[0]))
    with pytest.raises(StorageFull) as caught:
        manager.install(OUTLINE)
    states = []
    for more in (RESERVE - 1, RESERVE):
        free[0] = caught.value.detail["needed"] + more
        manager._worker.make_room()
        states.append(manager.installs.list()[0].state)
    assert states == [InstallState.PAUSED, InstallState.QUEUED]


def test_one_that_is_cancelled_lets_go_while_a_name_is_being_resolved(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hangs.wait(30))
    install = manager.installs.open(f"hf://{OUTLINE}")
    threading.Timer(0.5, lambda: manager.installs.command(install.id, "cancel")).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        manager.run_install(install.id)
    assert time.monotonic() - began < 2
    hangs.set()


def test_a_name_that_is_taken_gets_a_number(manager: Manager, shelf: Path) -> None:
    write(shelf / "one/detail/detail.safetensors", sd15_lora(rank=4))
    write(shelf / "two/detail/Detail.safetensors", sd15_lora(rank=8))
    assert [manager.install(f"{owner}/detail").name for owner in ("one", "two")] == ["detail", "Detail-2"]


@pytest.mark.parametrize("source", ["somebody/big", "path"])
def test_the_same_source_asked_for_many_times_at_once_is_one_model(
    manager: Manager, hub: LoopbackHub, shelf: Path, source: str
) -> None:
    whole = sd15_lora(rank=128)
    path = shelf / "somebody/big/big.safetensors"
    write(path, whole)
    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(manager.install, [str(path) if source == "path" else source] * 4))
    assert len({m.id for m in models}) == 1
    assert len(manager.catalog.list()) == 1
    assert {i.state for i in manager.installs.list()} == {InstallState.INSTALLED}
    assert sum(s.sent for s in hub.seen if s.server == "storage") < len(whole) + 5 * 2**19  # once, and headers


def test_a_service_that_starts_leaves_alone_what_another_process_installs(
    manager: Manager, hub: LoopbackHub, shelf: Path, settings: Settings
) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    other = Manager(settings)

    def start_the_other(progress: Progress) -> None:
        if progress.state == InstallState.DOWNLOADING and progress.bytes_done:
            other.resume_installs()

    assert manager.install("somebody/big", start_the_other).blake3 == blake3(whole).hexdigest()
    other.close()
    assert [i.state for i in manager.installs.list()] == [InstallState.INSTALLED]


def test_a_service_that_is_stopped_leaves_its_installs_to_the_next(
    manager: Manager, hub: LoopbackHub, shelf: Path, settings: Settings
) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    hub.faults["somebody/big/big.safetensors"] = Fault(bytes_per_second=len(whole) // 3)
    job = manager.submit_install("somebody/big")
    while not manager.installs.get(job.id).bytes_done:
        time.sleep(0.02)
    manager.close()
    hub.faults.clear()
    successor = Manager(settings)
    assert successor.installs.get(job.id).state == InstallState.QUEUED
    successor.resume_installs()
    successor.wait()
    assert successor.installs.get(job.id).state == InstallState.INSTALLED
    successor.close()


def test_ctrl_c_pauses(manager: Manager, shelf: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.state == InstallState.DOWNLOADING:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manager.install(OUTLINE, interrupt)
    assert manager.installs.list()[0].state == InstallState.PAUSED


def test_an_install_that_was_interrupted_and_then_discarded_is_not_told_of(manager: Manager) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    job = manager.installs.open(f"hf://{OUTLINE}").id
    with pytest.raises(KeyboardInterrupt):
        manager._worker.run(job, interrupt)
    assert [i.id for i in manager.interrupted_installs()] == [job]
    manager.discard_install(job)
    assert manager.interrupted_installs() == []


def test_a_wrong_file_is_refused_before_it_is_downloaded(manager: Manager, hub: LoopbackHub, shelf: Path) -> None:
    big = safetensors({"nobody.knows.this": [1024, 1024, 4]}, {})
    write(shelf / "somebody/stranger/model.safetensors", big)
    with pytest.raises(NotIdentified):
        manager.install("somebody/stranger")
    assert sum(s.sent for s in hub.seen if s.server == "storage") < len(big) / 4


def test_a_bad_name_among_the_others_is_passed_over_and_told(manager: Manager, shelf: Path) -> None:
    for name in ("line\nbreak.txt", "back\\slash.safetensors", "CON.txt", "x" * 250):
        (shelf / OUTLINE / name).write_bytes(b"")
    assert manager.install(OUTLINE).kind == "lora"
    [note] = manager.installs.list()[0].notes
    assert note.startswith("2 files were passed over, for names that not every system takes: ")
    assert "'line\\nbreak.txt'" in note


@pytest.mark.parametrize(("source", "code", "_status"), BAD_SOURCES)
def test_what_cannot_be_installed_is_told_and_leaves_nothing(
    manager: Manager, shelf: Path, settings: Settings, source: str, code: str, _status: int
) -> None:
    add_bad_sources(shelf, STARTER)
    before = manager.install(OUTLINE)
    kept = files_below(settings.root)
    with pytest.raises(ModelshelfError) as caught:
        manager.install(source)
    assert caught.value.code == code
    assert [m.id for m in manager.catalog.list()] == [before.id]
    assert files_below(settings.root) == kept
    if code != "invalid_source":  # what is no source never becomes a job
        job = manager.installs.list()[0]
        assert (job.state, job.model_id) == (InstallState.FAILED, None)
        assert job.error is not None
        assert (job.error["code"], job.error["message"]) == (code, caught.value.message)
    else:
        assert len(manager.installs.list()) == 1


def test_wrong_bytes_are_refused(manager: Manager, hub: LoopbackHub, settings: Settings) -> None:
    hub.faults[f"{OUTLINE}/{FILE}"] = Fault(corrupt=True)
    with pytest.raises((DigestMismatch, UnusableFile)):
        manager.install(OUTLINE)
    assert manager.catalog.list() == []
    assert not (settings.root / "lora").exists()


def test_an_install_that_was_killed_goes_on_where_it_was(
    manager: Manager, hub: LoopbackHub, shelf: Path, settings: Settings
) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)

    killed_halfway(manager, "somebody/big", len(whole))
    job = manager.installs.list()[0]
    assert job.state == InstallState.DOWNLOADING
    hub.seen.clear()

    successor = Manager(settings)
    successor.resume_installs()
    successor.wait()
    assert successor.installs.get(job.id).state == InstallState.INSTALLED
    assert successor.catalog.list()[0].blake3 == blake3(whole).hexdigest()
    (rest,) = [s for s in hub.seen if s.server == "storage" and s.range and not s.range.startswith("bytes=0-")]
    assert rest.sent < len(whole) // 2
    successor.close()


def test_a_new_commit_meanwhile_throws_nothing_away_that_is_still_the_same(
    manager: Manager, hub: LoopbackHub, shelf: Path
) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    killed_halfway(manager, "somebody/big", len(whole))
    (shelf / "somebody/big/README.md").write_text("# of today")
    hub.seen.clear()
    manager.resume_installs()
    manager.wait()
    [install] = manager.installs.list()
    assert install.state == InstallState.INSTALLED
    assert sum(s.sent for s in hub.seen if s.server == "storage") < len(whole) // 2 + 2**19  # the rest, and the header
    assert not list(manager.settings.downloads.glob("*/model*"))


def test_of_a_folder_with_a_new_commit_what_is_gone_is_not_in_the_model(manager: Manager, shelf: Path) -> None:
    base = Path(shutil.copytree(STARTER / "modelshelf/starter-base", shelf / "modelshelf/starter-base"))
    (base / "tokenizer/extra.json").write_text("{}")
    size = sum(p.stat().st_size for p in base.rglob("*.safetensors"))
    killed_halfway(manager, "modelshelf/starter-base", size)
    (base / "tokenizer/extra.json").unlink()
    changed = base / "scheduler/scheduler_config.json"
    changed.write_text(changed.read_text() + " ")
    model = manager.install("modelshelf/starter-base")
    folder = manager.catalog.path(model)
    assert (folder / "scheduler/scheduler_config.json").read_text() == changed.read_text()
    assert not (folder / "tokenizer/extra.json").exists()


def test_what_arrived_of_a_file_that_its_repository_has_renamed_is_removed(
    manager: Manager, hub: LoopbackHub, shelf: Path
) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    killed_halfway(manager, "somebody/big", len(whole))
    (shelf / "somebody/big/big.safetensors").rename(shelf / "somebody/big/better.safetensors")
    manager.resume_installs()
    manager.wait()
    assert [m.name for m in manager.catalog.list()] == ["better"]
    assert [p.name for p in manager.settings.downloads.iterdir()] == ["locks"]


def test_the_same_bytes_from_two_repositories_at_once_are_downloaded_once(
    manager: Manager, hub: LoopbackHub, shelf: Path
) -> None:
    whole = sd15_lora(rank=128)
    for name in ("one/big", "two/big"):
        write(shelf / name / "big.safetensors", whole)
        hub.faults[f"{name}/big.safetensors"] = Fault(bytes_per_second=len(whole))
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(manager.install, ["one/big", "two/big"])
    assert first.id == second.id
    assert sum(s.sent for s in hub.seen if s.server == "storage") < len(whole) + 3 * 2**19  # once, and headers
    assert {s.repo_id for s in manager.catalog.get(first.id).sources} == {"one/big", "two/big"}


def test_a_pipeline_from_two_repositories_at_once_is_downloaded_once_but_for_its_small_files(
    manager: Manager, hub: LoopbackHub, shelf: Path
) -> None:
    for name in ("one/base", "two/base"):
        shutil.copytree(STARTER / "modelshelf/starter-base", shelf / name)
    weights = {path.relative_to(shelf / "one/base").as_posix() for path in shelf.glob("one/base/*/*.safetensors")}
    for repository, file in product(("one/base", "two/base"), weights):
        hub.faults[f"{repository}/{file}"] = Fault(bytes_per_second=8 << 20)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(manager.install, ["one/base", "two/base"])
    assert first.id == second.id
    assert {s.repo_id for s in manager.catalog.get(first.id).sources} == {"one/base", "two/base"}
    size = sum((shelf / "one/base" / file).stat().st_size for file in weights)
    assert sum(s.sent for s in hub.seen if s.server == "storage") < 1.5 * size  # once, and headers


def test_a_connection_that_is_cut_again_and_again_is_picked_up(manager: Manager, hub: LoopbackHub, shelf: Path) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    hub.faults["somebody/big/big.safetensors"] = Fault(cut_after=len(whole) // 3)
    assert manager.install("somebody/big").blake3 == blake3(whole).hexdigest()


def test_a_connection_that_is_away_for_a_while_is_waited_for_and_shown(
    manager: Manager, hub: LoopbackHub, shelf: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "PAUSES", (0.3,))
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    hub.faults["somebody/big/big.safetensors"] = Fault(cut_after=len(whole) // 2, cuts=2)  # the header, then the file
    told: list[str] = []

    def go_away(progress: Progress) -> None:
        if progress.bytes_done and hub.faults["somebody/big/big.safetensors"].cuts == 0:
            hub.faults["somebody/big/big.safetensors"] = Fault(fail_next=9)  # four for each try

    watched = threading.Thread(target=lambda: told.extend(messages(manager)))
    watched.start()
    assert manager.install("somebody/big", go_away).blake3 == blake3(whole).hexdigest()
    watched.join()
    assert "The next try is in 0 s" in told[0]
    assert manager.installs.list()[0].error is None


def test_one_that_had_begun_waits_for_a_network_that_is_not_up_yet(
    manager: Manager, hub: LoopbackHub, shelf: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "PAUSES", (0.3,))
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    killed_halfway(manager, "somebody/big", len(whole))
    hub.faults["somebody/big"] = Fault(fail_next=9)  # its listing; four for each try
    [again] = manager._worker.abandoned()
    seen: list[Progress] = []
    told: list[str] = []
    watched = threading.Thread(target=lambda: told.extend(messages(manager)))
    watched.start()
    assert manager.run_install(again, seen.append).blake3 == blake3(whole).hexdigest()
    watched.join()
    assert "The next try is in 0 s" in told[0]
    assert {progress.trouble for progress in seen} == {None, *told}  # who looks on is told, too
    [install] = manager.installs.list()
    assert (install.state, install.error, install.attempt) == (InstallState.INSTALLED, None, 2)


@pytest.mark.parametrize("order", [(), ("pause", "resume"), ("cancel", "retry")])
def test_one_that_is_queued_and_never_began_waits_for_the_network_too(
    manager: Manager, hub: LoopbackHub, impatient: None, monkeypatch: pytest.MonkeyPatch, order: tuple[str, ...]
) -> None:
    monkeypatch.setattr(pauses, "PAUSES", (0.3,))
    queued = manager.installs.open(f"hf://{OUTLINE}")
    for name in order:
        manager.installs.command(queued.id, name)
    hub.faults[OUTLINE] = Fault(fail_next=9)  # its listing; four for each try
    told: list[str] = []
    watched = threading.Thread(target=lambda: told.extend(messages(manager)))
    watched.start()
    manager.resume_installs()
    manager.wait()
    watched.join()
    assert "The next try is in 0 s" in told[0]
    [install] = manager.installs.list()
    assert (install.state, install.error) == (InstallState.INSTALLED, None)


def test_it_waits_no_longer_than_the_setting_says(settings: Settings, impatient: None) -> None:
    away = Manager(settings.model_copy(update={"hub_endpoint": "http://127.0.0.1:9", "download_patience": 0.5}))
    away.installs.open(f"hf://{OUTLINE}")
    away.resume_installs()
    away.wait()
    [install] = away.installs.list()
    assert (install.state, install.error and install.error["code"]) == (InstallState.FAILED, "hub_unreachable")
    away.close()


def test_what_waiting_does_not_cure_is_told_at_once(
    manager: Manager, hub: LoopbackHub, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of an install that nobody looks at: the storage refuses the file, and what answers is no hub."""
    monkeypatch.setattr(hub, "signature", lambda _: token_hex(8))  # no address is signed as the storage wants it
    shutil.copytree(shelf / OUTLINE, shelf / "somebody/else")
    hub.faults["somebody/else"] = Fault(says=b"<html>Log in</html>")
    for repo_id in (OUTLINE, "somebody/else"):
        manager.installs.open(f"hf://{repo_id}")
    manager.resume_installs()
    manager.wait()
    assert [i.error and i.error["code"] for i in manager.installs.list()] == ["hub_unusable"] * 2


def test_one_that_waits_keeps_no_other_from_working(
    settings: Settings, hub: LoopbackHub, shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even where one is worked on at a time."""
    monkeypatch.setattr(pauses, "PAUSES", (60.0,))
    alone = Manager(settings.model_copy(update={"installs_at_once": 1, "download_timeout": 1}))
    hub.faults[OUTLINE] = Fault(fail_next=999)  # its listing
    write(tmp_path / "there.safetensors", sd15_lora(rank=4))
    away = alone.installs.open(f"hf://{OUTLINE}")
    alone.resume_installs()
    there = alone.installs.open(str(tmp_path / "there.safetensors"))
    alone.resume_installs()
    while alone.installs.get(there.id).state != InstallState.INSTALLED:
        time.sleep(0.02)
    waits = alone.installs.get(away.id)
    assert (waits.state, waits.error and waits.error["code"]) == (InstallState.RESOLVING, "hub_unreachable")
    alone.order_install(away.id, "cancel")
    alone.wait()
    assert alone.installs.get(away.id).state == InstallState.CANCELLED
    alone.close()


def test_bytes_that_one_waits_for_are_taken_from_another_that_brings_them(
    settings: Settings, hub: LoopbackHub, shelf: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "PAUSES", (1.5,))
    both = Manager(settings)
    whole = sd15_lora(rank=128)
    for repo_id in ("somebody/slow", "somebody/mirror"):
        write(shelf / repo_id / "big.safetensors", whole)
    slow = "somebody/slow/big.safetensors"
    hub.faults[slow] = Fault(bytes_per_second=len(whole), cut_after=len(whole) // 2)
    waits = both.installs.open("hf://somebody/slow")
    both.resume_installs()
    while not both.installs.get(waits.id).bytes_done:
        time.sleep(0.02)
    hub.faults[slow] = Fault(fail_next=999)
    while not both.installs.get(waits.id).error:
        time.sleep(0.02)
    brings = both.submit_install("hf://somebody/mirror")
    both.wait()
    ended = [both.installs.get(install.id) for install in (waits, brings)]
    assert [install.state for install in ended] == [InstallState.INSTALLED] * 2
    assert "big.safetensors was not downloaded: the same file is on the shelf." in ended[0].notes
    [model] = both.catalog.list()
    assert {source.repo_id for source in model.sources} == {"somebody/slow", "somebody/mirror"}
    both.close()


def test_two_of_one_source_of_which_the_first_waits_end_both_where_one_is_worked_on_at_a_time(
    settings: Settings, hub: LoopbackHub, shelf: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the files that the first has, which waits for the place that the second has: it has to give that up."""
    monkeypatch.setattr(pauses, "PAUSES", (1.5,))
    alone = Manager(settings.model_copy(update={"installs_at_once": 1}))
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    big = "somebody/big/big.safetensors"
    hub.faults[big] = Fault(bytes_per_second=len(whole), cut_after=len(whole) // 2)
    first = alone.installs.open("hf://somebody/big")
    alone.resume_installs()
    while not alone.installs.get(first.id).bytes_done:
        time.sleep(0.02)
    hub.faults[big] = Fault(fail_next=999)
    while not alone.installs.get(first.id).error:
        time.sleep(0.02)
    hub.faults.clear()
    second = alone.submit_install("hf://somebody/big")
    alone.wait()
    assert {alone.installs.get(install.id).state for install in (first, second)} == {InstallState.INSTALLED}
    assert len(alone.catalog.list()) == 1
    alone.close()


def messages(manager: Manager) -> list[str]:
    """What a running install tells of its troubles, until it ends."""
    told: list[str] = []
    while not (rows := manager.installs.list()) or rows[0].state != InstallState.INSTALLED:
        told += [row.error["message"] for row in rows if row.error and row.error["message"] not in told]
        time.sleep(0.02)
    return told


def test_an_install_that_is_cancelled_stops_and_keeps_its_bytes(
    manager: Manager, hub: LoopbackHub, shelf: Path, settings: Settings
) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)
    hub.faults["somebody/big/big.safetensors"] = Fault(bytes_per_second=len(whole) // 2)

    def cancel(progress: Progress) -> None:
        if progress.state == InstallState.DOWNLOADING and progress.bytes_done:
            job = manager.installs.list()[0]
            if job.state == InstallState.DOWNLOADING:
                manager.installs.move(job.id, InstallState.CANCELLED)

    with pytest.raises(Cancelled):
        manager.install("somebody/big", cancel)
    assert manager.installs.list()[0].state == InstallState.CANCELLED
    assert manager.catalog.list() == []
    assert [p for p in files_below(settings.root) if p.endswith(".part")]


def test_a_pause_in_the_middle_and_going_on(manager: Manager, hub: LoopbackHub, shelf: Path) -> None:
    whole = sd15_lora(rank=128)
    write(shelf / "somebody/big/big.safetensors", whole)

    def pause(progress: Progress) -> None:
        if progress.bytes_done > len(whole) // 2:
            manager.installs.command(manager.installs.list()[0].id, "pause")

    with pytest.raises((Cancelled, WrongState)):
        manager.install("somebody/big", pause)
    job = manager.installs.list()[0]
    assert (job.state, job.error) == (InstallState.PAUSED, None)
    hub.seen.clear()
    manager.installs.command(job.id, "resume")
    assert manager.run_install(job.id).blake3 == blake3(whole).hexdigest()
    assert sum(s.sent for s in hub.seen if s.server == "storage") < len(whole) // 2 + 2**19  # the rest, and the header


@pytest.mark.parametrize("order", ["pause", "cancel"])
def test_even_while_it_registers(manager: Manager, settings: Settings, order: str) -> None:
    def stop(progress: Progress) -> None:
        if progress.state == InstallState.REGISTERING:
            manager.installs.command(manager.installs.list()[0].id, order)

    with pytest.raises(Cancelled):
        manager.install(OUTLINE, stop)
    assert manager.catalog.list() == []
    assert not [p for p in files_below(settings.root) if p.startswith("lora/") and p.endswith(".safetensors")]
    job = manager.installs.list()[0]
    manager.installs.command(job.id, {"pause": "resume", "cancel": "retry"}[order])
    assert manager.run_install(job.id).name == "starter-outline-lora"


def test_installs_run_side_by_side_and_no_more_than_the_setting_says(
    settings: Settings, hub: LoopbackHub, shelf: Path
) -> None:
    bounded = Manager(settings.model_copy(update={"installs_at_once": 2, "download_timeout": 1}))
    jobs = []
    for number in range(4):
        write(shelf / f"somebody/{number}/{number}.safetensors", sd15_lora(rank=64 + number))
        hub.faults[f"somebody/{number}/{number}.safetensors"] = Fault(cut_after=600_000, stalls=True)  # past the header
        jobs.append(bounded.submit_install(f"somebody/{number}").id)

    def states() -> list[str]:
        return sorted(bounded.installs.get(job).state for job in jobs)

    while states() != [InstallState.DOWNLOADING] * 2 + [InstallState.QUEUED] * 2:
        time.sleep(0.02)
    hub.faults.clear()
    most = 2
    while states() != [InstallState.INSTALLED] * 4:
        most = max(most, sum(state not in (InstallState.QUEUED, InstallState.INSTALLED) for state in states()))
        time.sleep(0.02)
    assert most <= 3  # one may end and the next begin while the states are read
    bounded.close()


def test_what_ended_long_ago_is_forgotten_with_its_partial_files(manager: Manager, settings: Settings) -> None:
    def cancel(progress: Progress) -> None:
        if progress.bytes_done:
            manager.installs.command(manager.installs.list()[0].id, "cancel")

    with pytest.raises((Cancelled, WrongState)):
        manager.install(OUTLINE, cancel)
    (settings.downloads / "locks" / "left-by-a-killed-process").touch()
    manager.watch_installs()
    assert len(manager.installs.list()) == 1
    assert files_below(settings.root)
    forgetful = Manager(settings.model_copy(update={"keep_installs_days": 0}))
    forgetful.watch_installs()
    assert forgetful.installs.list() == []
    assert files_below(settings.root) == set()
    assert list((settings.downloads / "locks").iterdir()) == []
    forgetful.close()


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


def killed_halfway(manager: Manager, source: str, size: int) -> None:
    def kill(progress: Progress) -> None:
        if progress.bytes_done > size // 2:
            raise Killed

    with pytest.raises(Killed):
        manager.install(source, kill)


def test_a_file_on_disk_that_changed_is_read_anew(manager: Manager, tmp_path: Path) -> None:
    """Only a commit pins bytes: what an interrupted copy left of the old file is not continued with the new one."""
    path = tmp_path / "mine.safetensors"
    write(path, sd15_lora(rank=128))

    killed_halfway(manager, str(path), path.stat().st_size)
    changed = bytearray(path.read_bytes())
    changed[-1000:] = bytes([60]) * 1000
    path.write_bytes(changed)
    assert manager.install(str(path)).blake3 == blake3(changed).hexdigest()


def test_a_hub_that_is_away(settings: Settings) -> None:
    away = Manager(settings.model_copy(update={"hub_endpoint": "http://127.0.0.1:9"}))
    with pytest.raises(HubUnreachable):
        away.install(OUTLINE)
    away.close()


@pytest.mark.slow
def test_the_starter_installs_without_a_network(tmp_path: Path) -> None:
    alone = Manager(Settings(root=tmp_path / "root", hub_endpoint="http://127.0.0.1:9"))
    models = list(alone.install_starter())
    assert [(m.name, m.kind, m.family) for m in models] == [
        ("starter-base", "checkpoint", "sd-1"),
        ("starter-outline-lora", "lora", "sd-1"),
        ("starter-heart", "lora", "sd-1"),
        ("starter-lcm-lora", "lcm_lora", "sd-1"),
    ]
    base = models[0]
    assert base.sha256 is None
    assert {f.path for f in alone.catalog.files(base)} >= {
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
    }
    for repository, model in zip(starter_repositories(), models, strict=True):
        assert "weight" in model.recipe or model.kind == "checkpoint", repository
        assert alone.catalog.path(model).exists()
        assert model.source == f"starter://{repository.name}", "not where this installation happens to be"
    assert alone.install("starter://starter-heart-lora").id == models[2].id
    alone.close()


def test_what_other_programs_left_beside_the_file_is_recorded(manager: Manager, shelf: Path, tmp_path: Path) -> None:
    """From the Hub and from disk; a digest that they claim and the bytes do not have is told."""
    record = json.dumps({"preferred weight": 0.55, "activation text": "ink"})
    lies = json.dumps({"sha256": "cd" * 32})
    for folder, rank in ((shelf / "a/b", 4), (tmp_path / "mine", 8)):
        write(folder / "x.safetensors", sd15_lora(rank=rank))
        (folder / "x.json").write_text(record)
        (folder / "x.metadata.json").write_text(lies)
    for source in ("a/b", str(tmp_path / "mine/x.safetensors")):
        model = manager.install(source)
        assert (model.recipe["weight"]["value"], model.recipe["weight"]["by"]) == (0.55, "A1111 sidecar")
        assert [(t.word, t.by) for t in model.trigger_words] == [("ink", "A1111 sidecar")]
        assert model.sha256 is not None
        [note] = manager.installs.list()[0].notes
        assert note == f"The LoRA Manager sidecar claims sha256 cdcdcdcdcdcd; the bytes have {model.sha256[:12]}."


def killed_at_the_end(manager: Manager) -> Path:
    """The folder of partial files of an install that has ended and was not yet done with it."""
    manager.install(OUTLINE)
    [install] = manager.installs.list()
    assert install.staging is None  # a later install of the same source has the same folder
    manager.installs.progress(install.id, staging="left")
    return manager.settings.downloads / "left"


def test_a_kill_between_the_end_of_an_install_and_the_removal_of_its_partial_files_leaves_none(
    manager: Manager,
) -> None:
    left = killed_at_the_end(manager)
    others = manager.settings.downloads / "of another"
    for folder in (left, others):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"12345")
    manager.resume_installs()
    assert (left.exists(), others.exists()) == (False, True)


def test_to_look_for_partial_files_reads_no_install(manager: Manager) -> None:
    """It is done each second, and installs are as many as ever were."""
    left = killed_at_the_end(manager)
    left.mkdir()
    read: list[str] = []

    def note(read_one: Install, _: object) -> None:
        read.append(read_one.id)

    event.listen(Install, "load", note)
    try:
        manager._worker.sweep()
    finally:
        event.remove(Install, "load", note)
    assert (left.exists(), read) == (False, [])


def test_partial_files_that_another_install_may_go_on_with_stay(manager: Manager) -> None:
    left = killed_at_the_end(manager)
    [ended] = manager.installs.list()
    other = manager.installs.open(ended.source, staging=ended.staging, state=InstallState.PAUSED)
    left.mkdir()
    manager._worker.sweep()
    assert left.exists()
    manager.installs.forget([other.id])
    manager._worker.sweep()
    assert not left.exists()
