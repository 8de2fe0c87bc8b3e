"""What was tried on installs, and what survived: real processes, a loopback hub, a small disk. Prints the table that the README shows.

    python -m tests.registry.installs.faults [--kills N]

An install *survives* when it ends whole: one model, its bytes those of the source, nothing half-made under a final name, no partial file
left. A refusal survives when it is told by its code and leaves nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from registry.errors import ModelshelfError
from registry.installs.hashing import hash_file
from registry.installs.locks import held
from registry.installs.options import Options, Place
from registry.manager import Manager
from registry.scans.digesting import hash_model
from registry.settings import Settings
from registry.starter import starter_repositories
from registry.tables import InstallState
from tests.demo.strangers import sd15_lora
from tests.hub import Fault, LoopbackHub, Seen
from tests.hub.civitai import LoopbackCivitai
from tests.loopback import NETWORK

BIG, FILE = "somebody/big", "somebody/big/big.safetensors"
LARGE, LARGE_FILE = "somebody/large", "somebody/large/large.safetensors"
PIPELINE = "somebody/base"
CONNECTIONS = 4
BUFFER = (
    1 << 20
)  # bytes that a kill may lose of each: a chunk of 64 KiB in its hand, the rest on the way through two sockets
PROBED = 1 << 19  # bytes in front, read before the download
SMALL_DISK = 64 << 20  # bytes
processes = multiprocessing.get_context("forkserver")


@dataclass
class Row:
    """`tried` times, of which `survived`; `how`: figures of what was seen."""

    fault: str
    tried: int = 0
    survived: int = 0
    how: str = ""

    def count(self, survived: bool) -> None:
        self.tried += 1
        self.survived += survived


class Stage:
    """A hub with one LoRA that is large for a test, and a shelf to install it on."""

    def __init__(self, folder: Path, size: int = 192) -> None:
        self.whole = sd15_lora(rank=size)
        self.path = folder / "hub" / FILE
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(self.whole)
        self.digests = hash_file(self.path)
        self.folder = folder
        self.root = folder / "root"
        self.mine = folder / "mine"  # files of this machine's user
        shutil.copytree(starter_repositories()[0], folder / "hub" / PIPELINE)
        self.hub = LoopbackHub(folder / "hub")

    def fresh(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.hub.faults.clear()
        self.hub.seen.clear()

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "hub_endpoint": self.hub.endpoint,
            "allowed_networks": NETWORK,
            "download_timeout": 5,
            "download_connections": CONNECTIONS,
        }

    def manager(self, **more: Any) -> Manager:
        return Manager(Settings(**self.facts | more))

    def add_large(self) -> Path:
        """Enough to be split, and no two blocks of it alike."""
        path = self.folder / "hub" / LARGE_FILE
        path.parent.mkdir(exist_ok=True)
        zeros = sd15_lora(rank=3000)
        end = 8 + int.from_bytes(zeros[:8], "little")
        path.write_bytes(zeros[:end] + random.Random(1).randbytes(len(zeros) - end))
        return path

    def sent(self) -> int:
        return sum(s.sent for s in self.hub.seen if s.server == "storage")

    def is_whole(self, models: int = 1) -> bool:
        """The shelf as an install must leave it."""
        with closed(self.manager()) as manager:
            found = manager.catalog.list()
            whole = all(hash_model(manager.catalog.path(m)).whole.blake3 == m.blake3 for m in found)
        return whole and len(found) == len(self.shelved()) == models and not leftovers(self.root)

    def shelved(self) -> list[Path]:
        """Whatever stands under a final name."""
        return list(self.root.glob("[a-z]*/*/*"))

    def nothing_half_made(self, blake3: str) -> bool:
        """Whatever stands under a final name is the whole model."""
        return all(hash_model(path).whole.blake3 == blake3 for path in self.shelved())


def leftovers(root: Path) -> list[Path]:
    return [p for p in (root / ".downloads").glob("**/*") if p.is_file() and p.parent.name != "locks"]


@contextmanager
def closed(manager: Manager) -> Iterator[Manager]:
    try:
        yield manager
    finally:
        manager.close()


class Steps:
    """Counts what a process does to files and databases that outlives it: renames, links, removals, new folders and files, commits.

    Each is counted before it is done. `die_at`: the one at which the process kills itself.
    """

    EVENTS = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")

    def __init__(self, folders: Sequence[Path], die_at: int | None) -> None:
        self._folders = tuple(map(str, folders))
        self._die_at = die_at
        self.count = 0

    def watch(self) -> None:
        sys.addaudithook(self._audit)
        event.listen(Engine, "commit", lambda _: self._step())

    def _audit(self, what: str, arguments: tuple[Any, ...]) -> None:
        writes = what == "open" and isinstance(arguments[1], str) and arguments[1][:1] in ("w", "a", "x")
        if (what in self.EVENTS or writes) and str(arguments[0]).startswith(self._folders):
            self._step()

    def _step(self) -> None:
        self.count += 1
        if self.count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def run(
    facts: dict[str, Any], source: str, die_at: int | None = None, told: Any = None, place: Place = Place.COPY
) -> None:
    """In a process of its own: go on with what is unfinished, or begin. `told`: gets the number of steps, see Steps.

    A model that is there already is whole then, or known as damaged: that one is installed again.
    """
    steps = Steps([facts["root"], Path(source)], die_at)
    if die_at is not None or told is not None:
        steps.watch()
    with closed(Manager(Settings(**facts))) as manager:
        manager.resume_installs()
        manager.wait()
        if not all(map(manager.catalog.is_whole, found := manager.catalog.list())) or not found:
            manager.install(source, options=Options(place))
        if told is not None:
            told.value = steps.count


def in_process(
    stage: Stage, source: str = BIG, die_at: int | None = None, told: Any = None, place: Place = Place.COPY
) -> Any:
    process = processes.Process(target=run, args=(stage.facts, source, die_at, told, place))
    process.start()
    return process


def killed(stage: Stage, kills: int, seed: int = 1) -> Row:
    """At moments drawn evenly from the time that an install takes. Then it goes on in another process."""
    row, dice, lost, at = Row("SIGKILL at a random moment"), random.Random(seed), [0], set[str]()
    stage.fresh()
    stage.hub.faults[FILE] = Fault(bytes_per_second=len(stage.whole) // 2)
    began = time.monotonic()
    in_process(stage).join()
    lasts = time.monotonic() - began
    for number in range(kills):
        stage.fresh()
        stage.hub.faults[FILE] = Fault(bytes_per_second=len(stage.whole) // 2)
        process = in_process(stage)
        process.join(lasts * (number + dice.random()) / kills)
        alive = process.is_alive()
        if alive:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        half_made = not stage.nothing_half_made(stage.digests.blake3)
        if (stage.root / "modelshelf.db").exists():
            with closed(stage.manager()) as manager:
                at |= {i.state for i in manager.installs.list()}
        stage.hub.faults.clear()
        before = stage.sent()
        here = sum(p.stat().st_size for p in leftovers(stage.root))
        last = in_process(stage)
        last.join()
        fetched = stage.sent() - before
        if here:  # the rest, and the header that is probed before
            lost.append(max(0, fetched - (len(stage.whole) - here) - PROBED))
        row.count(last.exitcode == 0 and not half_made and stage.is_whole())
    row.how = f"seen in {', '.join(sorted(at))}; at most {max(lost):,} bytes fetched twice"
    return row


def killed_while_split(stage: Stage, kills: int, seed: int = 1) -> Row:
    """While several connections bring one file. What is fetched twice then, the hub's log tells."""
    row, dice, lost = Row(f"SIGKILL while {CONNECTIONS} connections bring a file"), random.Random(seed), []
    path = stage.add_large()
    digests = hash_file(path)
    for _ in range(kills):
        stage.fresh()
        stage.hub.faults[LARGE_FILE] = Fault(bytes_per_second=3_000_000)  # of each connection: so more are opened
        process = in_process(stage, LARGE)
        while sum(p.stat().st_size > 0 for p in leftovers(stage.root) if p.suffix[1:].isdecimal()) < CONNECTIONS:
            if not process.is_alive():
                raise RuntimeError(
                    f"the install ended with {process.exitcode} before {CONNECTIONS} connections were open"
                )
            time.sleep(0.01)
        time.sleep(dice.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        half_made, before = bool(stage.shelved()), len(stage.hub.seen)
        stage.hub.faults.clear()
        last = in_process(stage, LARGE)
        last.join()
        lost.append(twice(stage.hub.seen[:before], stage.hub.seen[before:]))
        whole = stage.is_whole() and stage.nothing_half_made(digests.blake3)
        row.count(last.exitcode == 0 and not half_made and whole and lost[-1] <= CONNECTIONS * BUFFER)
    row.how = f"at most {max(lost):,} bytes fetched twice"
    return row


def twice(first: Sequence[Seen], then: Sequence[Seen]) -> int:
    """Bytes of a file that the storage has sent at first and then again, but for those in front, which every install probes."""

    def ranges(requests: Sequence[Seen]) -> Iterator[tuple[int, int]]:
        for seen in requests:
            if seen.server == "storage" and seen.range is not None:
                start = int(seen.range.removeprefix("bytes=").partition("-")[0])
                yield max(start, PROBED), start + seen.sent

    return sum(max(0, min(end, b) - max(start, a)) for start, end in ranges(first) for a, b in ranges(then))


def killed_at_every_step(stage: Stage, source: str, every: int = 1) -> Row:
    """Before each rename, link, removal, new file and commit of an install; `every`: only so many of them. Then it goes on."""
    which, what = "every step" if every == 1 else f"one step of {every}", {BIG: "a file", PIPELINE: "a folder"}[source]
    row, at = Row(f"SIGKILL before {which} on disk or in the database: {what}"), set[str]()
    stage.fresh()
    told = processes.Value("i", 0)
    in_process(stage, source, told=told).join()
    with closed(stage.manager()) as manager:
        [blake3] = [str(model.blake3) for model in manager.catalog.list()]
    for step in range(1, told.value + 1, every):
        stage.fresh()
        process = in_process(stage, source, die_at=step)
        process.join()
        half_made = not stage.nothing_half_made(blake3)
        if (stage.root / "modelshelf.db").exists():
            with closed(stage.manager()) as manager:
                at |= {i.state for i in manager.installs.list()}
        last = in_process(stage, source)
        last.join()
        row.count(last.exitcode == 0 and not half_made and stage.is_whole() and stage.nothing_half_made(blake3))
    row.how = f"seen in {', '.join(sorted(at))}"
    return row


def killed_while_taken_in(stage: Stage, place: Place, what: str, every: int = 1) -> Row:
    """A `file` or `folder` of this machine is copied or moved to the shelf. After a kill it is whole where it was or on the shelf; in the
    end, moved, it is on the shelf alone, and what lay beside it is still there."""
    which, doing = "every step" if every == 1 else f"one step of {every}", {Place.COPY: "copying", Place.MOVE: "moving"}
    row, at = Row(f"SIGKILL before {which} of {doing[place]} a {what} of this machine"), set[str]()
    source = {"file": stage.mine / "ink.safetensors", "folder": stage.mine / "base"}[what]
    beside = {"file": stage.mine / "other.txt", "folder": source / "NOTES.md"}[what]

    def files() -> dict[str, bytes]:
        paths = [source] if what == "file" else [p for p in sorted(source.rglob("*")) if p.is_file()]
        return {str(p.relative_to(stage.mine)): p.read_bytes() for p in paths if p.exists() and p != beside}

    def fresh() -> None:
        stage.fresh()
        shutil.rmtree(stage.mine, ignore_errors=True)
        stage.mine.mkdir()
        if what == "file":
            source.write_bytes(stage.whole)
        else:
            shutil.copytree(stage.folder / "hub" / PIPELINE, source)
            (source / "starter-base.safetensors").unlink()  # which is no part of the pipeline
            (source / "README.md").unlink()
        beside.write_text("mine")

    fresh()
    whole = files()
    told = processes.Value("i", 0)
    in_process(stage, str(source), told=told, place=place).join()
    [model] = stage.shelved()
    blake3 = str(hash_model(model).whole.blake3)
    for step in range(1, told.value + 1, every):
        fresh()
        process = in_process(stage, str(source), die_at=step, place=place)
        process.join()
        half_made = not stage.nothing_half_made(blake3)
        lost = not stage.shelved() and files() != whole
        at.add("where it was" if files() == whole else "in part where it was" if files() else "on the shelf alone")
        last = in_process(stage, str(source), place=place)
        last.join()
        stays = whole if place is Place.COPY else {}
        kept = stage.is_whole() and stage.nothing_half_made(blake3) and beside.read_text() == "mine"
        row.count(last.exitcode == 0 and not half_made and not lost and kept and files() == stays)
    row.how = f"seen {', '.join(sorted(at))}; whole on the shelf or there at any moment"
    return row


def killed_while_mended(stage: Stage, every: int = 1) -> Row:
    """A model is installed and its last byte changed; what a kill leaves is damaged and known as that, or whole."""
    which = "every step" if every == 1 else f"one step of {every}"
    row, at = Row(f"SIGKILL before {which} of mending a damaged model"), set[str]()

    def damaged() -> Path:
        stage.fresh()
        with closed(stage.manager()) as manager:
            model = manager.install(BIG)
            path = manager.catalog.path(model)
            path.write_bytes(stage.whole[:-1] + b"x")
            list(manager.upkeep.verify([model]))
        return path

    damaged()
    told = processes.Value("i", 0)
    in_process(stage, told=told).join()
    for step in range(1, told.value + 1, every):
        path = damaged()
        process = in_process(stage, die_at=step)
        process.join()
        whole = path.exists() and path.read_bytes() == stage.whole
        with closed(stage.manager()) as manager:
            [model] = manager.catalog.list()
            honest = whole or not manager.catalog.is_whole(model)
        at.add("whole" if whole else "damaged" if path.exists() else "gone")
        last = in_process(stage)
        last.join()
        row.count(last.exitcode == 0 and honest and path.read_bytes() == stage.whole and stage.is_whole())
    row.how = f"left {', '.join(sorted(at))}, and known as that"
    return row


def cut(stage: Stage) -> Row:
    row = Row("connection cut every N bytes")
    size, passes = len(stage.whole), []
    for pieces in (2, 7, 15, 60):
        stage.fresh()
        stage.hub.faults[FILE] = Fault(cut_after=size // pieces)
        with closed(stage.manager()) as manager:
            tries = 1
            job = manager.installs.open(f"hf://{BIG}").id
            while tries < 20:
                try:
                    manager.run_install(job)
                    break
                except ModelshelfError:
                    tries += 1
                    manager.installs.command(job, "retry")
            passes.append(f"{size // pieces:,} B: {tries}")
        row.count(stage.is_whole())
    row.how = f"runs that it took: {', '.join(passes)}"
    return row


def wrong_bytes(stage: Stage) -> Row:
    row = Row("wrong bytes, too many bytes")
    for fault in (Fault(corrupt=True), Fault(extra=9)):
        stage.fresh()
        stage.hub.faults[FILE] = fault
        with closed(stage.manager()) as manager:
            row.count(
                refused(manager, BIG) == "digest_mismatch" and not manager.catalog.list() and not leftovers(stage.root)
            )
    row.how = "refused: digest_mismatch; nothing kept"
    return row


def refused(manager: Manager, source: str) -> str:
    """The code that it is refused with; "" when it is not."""
    try:
        manager.install(source)
    except ModelshelfError as error:
        return error.code
    return ""


def half(stage: Stage, source: str = BIG) -> None:
    """Kill an install when half of the file has arrived."""
    process = in_process(stage, source)
    while sum(p.stat().st_size for p in leftovers(stage.root)) < len(stage.whole) // 2:
        if not process.is_alive():
            raise RuntimeError(f"the install ended with {process.exitcode} before half of the file had arrived")
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def range_ignored(stage: Stage) -> Row:
    row = Row("200 to a Range request")
    stage.fresh()
    stage.hub.faults[FILE] = Fault(bytes_per_second=len(stage.whole) // 2)
    half(stage)
    stage.hub.faults[FILE] = Fault(ignores_range=True)
    in_process(stage).join()
    row.count(stage.is_whole())
    row.how = "begun anew"
    return row


def changed_etag(stage: Stage) -> Row:
    row = Row("another file behind the address (ETag)")
    stage.fresh()
    with LoopbackCivitai(files={7: stage.path}) as civitai:
        civitai.faults["7"] = Fault(bytes_per_second=len(stage.whole) // 2)
        half(stage, civitai.url(7))
        civitai.faults.clear()
        changed = bytearray(stage.whole)
        changed[-5000:] = bytes([60]) * 5000
        stage.path.write_bytes(changed)
        in_process(stage, civitai.url(7)).join()
        with closed(stage.manager()) as manager:
            whole = [m.blake3 for m in manager.catalog.list()] == [hash_file(stage.path).blake3]
        row.count(whole and stage.is_whole())
    stage.path.write_bytes(stage.whole)
    row.how = "begun anew with the new one"
    return row


def statuses(stage: Stage) -> Row:
    row, codes = Row("401, 403, 404 of the file; 408, 429, 500, 502, 503, 504 twice"), []
    for status in (401, 403, 404):
        stage.fresh()
        stage.hub.faults[FILE] = Fault(fail_next=99, status=status)
        with closed(stage.manager()) as manager:
            codes.append(f"{status} {refused(manager, BIG)}")
            row.count(not codes[-1].endswith(" ") and not manager.catalog.list() and not leftovers(stage.root))
    for status in (408, 429, 500, 502, 503, 504):
        stage.fresh()
        stage.hub.faults[FILE] = Fault(fail_next=2, status=status, retry_after="1" if status == 429 else None)
        with closed(stage.manager()) as manager:
            manager.install(BIG)
        row.count(stage.is_whole())
    row.how = f"{', '.join(codes)}; the others waited out"
    return row


def disk_full(stage: Stage) -> Row:
    """On a disk of SMALL_DISK bytes, mounted in a namespace of its own."""
    row = Row("disk full at the start; disk full half-way")
    for when in ("start", "half-way"):
        stage.fresh()
        script = f"mount -t tmpfs -o size={SMALL_DISK} tmpfs {stage.root} && exec {sys.executable} -m {__spec__.name} --disk {when}"
        stage.root.mkdir()
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
        where = {
            "MODELSHELF_ROOT": str(stage.root),
            "HF_ENDPOINT": stage.hub.endpoint,
            "MODELSHELF_ALLOWED_NETWORKS": NETWORK,
        }
        stage.hub.faults[FILE] = Fault(bytes_per_second=len(stage.whole))
        done = subprocess.run(command, env={**os.environ, **where}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        row.count(done.stdout.split() == ["paused", "storage_full", "installed"])
    row.how = "paused with storage_full; went on by itself when there was room"
    return row


def on_small_disk(when: str) -> None:
    """What disk_full runs: fill the disk, install, make room, and let the service's watch go on."""
    with closed(Manager(Settings())) as manager:
        root = manager.settings.root
        ballast = root / "ballast"

        def fill() -> None:
            with ballast.open("wb", buffering=0) as file:
                free = shutil.disk_usage(root).free
                # Half-way even the reserve that the free space is checked against is taken: the write itself fails.
                file.write(bytes(free - (18 << 20)) if when == "start" else bytes(free - (1 << 20)))

        job = manager.installs.open(f"hf://{BIG}").id
        if when == "start":
            fill()

        def half_way(progress: Any) -> None:
            if progress.bytes_done > progress.bytes_total // 2 > 0 and not ballast.exists():
                fill()

        try:
            manager.run_install(job, half_way)
        except ModelshelfError as error:
            print(manager.installs.get(job).state, error.code)
        manager.watch_installs()
        time.sleep(3)
        assert manager.installs.get(job).state == InstallState.PAUSED
        ballast.unlink()
        while (state := manager.installs.get(job).state) != InstallState.INSTALLED:
            assert state != InstallState.FAILED, manager.installs.get(job).error
            time.sleep(0.1)
        print(state)


def cancelled(stage: Stage) -> Row:
    """In every kind of wait: how long until the worker has let go."""
    retries = Fault(fail_next=99, status=429, retry_after="50")
    slow = Fault(bytes_per_second=len(stage.whole) // 20)
    waits = {  # in which the install is, where, and what is the matter there
        "server slow": (InstallState.DOWNLOADING, FILE, slow),
        "server silent": (InstallState.DOWNLOADING, FILE, Fault(cut_after=1 << 20, stalls=True)),
        "between retries of the listing": (InstallState.RESOLVING, BIG, retries),
        "of the file": (InstallState.RESOLVING, FILE, retries),
        "of what Civitai knows": (InstallState.PROBING, "by-hash", retries),
        "waiting for another install": (InstallState.RESOLVING, FILE, slow),
    }
    row, seconds = Row(f"cancelled: {', '.join(waits)}"), []
    for name, (state, where, fault) in waits.items():
        stage.fresh()
        with (
            LoopbackCivitai(files={7: stage.path}) as civitai,
            closed(stage.manager(download_timeout=60, civitai_endpoint=civitai.endpoint)) as manager,
        ):
            source = civitai.url(7) if where == "by-hash" else f"hf://{BIG}"
            jobs = [manager.installs.open(source).id for _ in range(2 if "another" in name else 1)]
            stage.hub.faults[where] = civitai.faults[where] = replace(fault)
            for job in jobs:
                manager.order_install(manager.installs.command(job, "pause").id, "resume")
                while (there := manager.installs.get(job).state) != state:
                    if there == InstallState.DOWNLOADING and job != jobs[-1]:
                        break  # the other
                    time.sleep(0.01)
                time.sleep(1)
            began = time.monotonic()
            manager.order_install(jobs[-1], "cancel")
            with held(stage.root / ".downloads" / "locks" / f"{jobs[-1]}.install"):
                seconds.append(time.monotonic() - began)
            row.count(manager.installs.get(jobs[-1]).state == InstallState.CANCELLED and not stage.shelved())
            for job in jobs[:-1]:
                manager.order_install(job, "cancel")
    row.how = f"let go within {max(seconds):.1f} s"
    return row


def two_processes(stage: Stage) -> Row:
    row = Row("two processes install the same file")
    stage.fresh()
    stage.hub.faults[FILE] = Fault(bytes_per_second=len(stage.whole))
    both = [in_process(stage) for _ in range(2)]
    for process in both:
        process.join()
    row.count(all(p.exitcode == 0 for p in both) and stage.is_whole())
    row.how = f"{stage.sent() / len(stage.whole):.2f} times the file's bytes were sent, headers included"
    return row


def fifty(stage: Stage, count: int = 50) -> Row:
    row = Row(f"{count} installs at once")
    stage.fresh()
    for number in range(count):
        path = stage.folder / "hub" / f"many/{number}/{number}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sd15_lora(rank=number % 50 + 1))
    began = time.monotonic()
    with closed(stage.manager(installs_at_once=count)) as manager:
        for number in range(count):
            manager.installs.open(f"hf://many/{number}")
        manager.resume_installs()
        manager.wait()
        row.tried = count
        row.survived = len([i for i in manager.installs.list() if i.state == InstallState.INSTALLED])
    row.how = f"{time.monotonic() - began:.0f} s" if stage.is_whole(count) else "the shelf is not whole"
    return row


def rows(folder: Path, kills: int, many: int = 50) -> Iterator[Row]:
    stage = Stage(folder)
    with stage.hub:
        scenarios: tuple[Callable[[Stage], Row], ...] = (
            lambda s: killed(s, kills),
            lambda s: killed_while_split(s, max(1, kills // 4)),
            lambda s: killed_at_every_step(s, BIG),
            lambda s: killed_at_every_step(s, PIPELINE, every=3),
            lambda s: killed_while_taken_in(s, Place.MOVE, "file"),
            lambda s: killed_while_taken_in(s, Place.MOVE, "folder", every=3),
            lambda s: killed_while_taken_in(s, Place.COPY, "file", every=3),
            lambda s: killed_while_mended(s, every=5),
            cut,
            wrong_bytes,
            range_ignored,
            changed_etag,
            statuses,
            disk_full,
            cancelled,
            two_processes,
            lambda s: fifty(s, many),
        )
        for scenario in scenarios:
            yield scenario(stage)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--disk", choices=["start", "half-way"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.disk:
        on_small_disk(options.disk)
        return
    print("| what was tried | times | survived | what was seen |\n|---|---|---|---|", flush=True)
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), options.kills):
            lost += row.tried - row.survived
            print(f"| {row.fault} | {row.tried} | {row.survived} | {row.how} |", flush=True)
    sys.exit(bool(lost))


if __name__ == "__main__":
    processes.set_forkserver_preload(["registry.manager", "registry.installs.origins.hub", "registry.installs.worker"])
    main()
