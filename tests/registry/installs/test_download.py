"""A file arrives whole and verified, or the reason is told and what came is kept."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from registry.errors import Cancelled, DigestMismatch, DownloadIncomplete, DownloadShort, HubUnreachable, StorageFull
from registry.installs.download import ATTEMPTS, RESERVE, Watch, download
from registry.installs.hashing import Digests, hash_file
from registry.installs.origins import Origin, RemoteFile, open_origin
from registry.sources import HubSource, PathSource, UrlSource
from tests.hub import Fault, LoopbackHub
from tests.hub.fixtures import OPEN, WEIGHTS
from tests.loopback import LOOPBACK

pytestmark = pytest.mark.usefixtures("impatient")
NAME = f"{OPEN}/{WEIGHTS}"


@pytest.fixture
def origin(hub: LoopbackHub) -> Iterator[Origin]:
    with open_origin(HubSource(OPEN), endpoint=hub.endpoint, token=None, timeout=30, access=LOOPBACK) as origin:
        origin.listing()
        yield origin


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / f"{WEIGHTS}.part"


@pytest.fixture
def body(hub: LoopbackHub) -> bytes:
    return (hub.root / NAME).read_bytes()


def weights(origin: Origin) -> RemoteFile:
    return next(file for file in origin.listing().files if file.path == WEIGHTS)


def bring(origin: Origin, part: Path, file: RemoteFile | None = None, **options: Any) -> Digests:
    calls = {name: options.pop(name) for name in ("on_bytes", "on_etag", "check") if name in options}
    return download(origin, file or weights(origin), part, Watch(**calls), **options)


def transfers(hub: LoopbackHub) -> list[tuple[str | None, int]]:
    """(Range, bytes sent) of every answer from the storage."""
    return [(seen.range, seen.sent) for seen in hub.seen if seen.server == "storage"]


def test_a_file_arrives(hub: LoopbackHub, origin: Origin, part: Path, body: bytes) -> None:
    told: list[int] = []
    digests = bring(origin, part, on_bytes=told.append)
    assert part.read_bytes() == body
    assert digests == hash_file(hub.root / NAME)
    assert digests.sha256 == weights(origin).sha256
    assert transfers(hub) == [(None, len(body))]
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0, len(body))


def test_from_a_folder(hub: LoopbackHub, part: Path, body: bytes) -> None:
    with open_origin(PathSource(hub.root / OPEN), endpoint="", token=None, timeout=1, access=LOOPBACK) as origin:
        assert bring(origin, part) == hash_file(hub.root / NAME)
    assert part.read_bytes() == body


@pytest.mark.parametrize("told", [True, False], ids=["of announced size", "of unknown size"])
def test_from_an_address(hub: LoopbackHub, part: Path, body: bytes, told: bool) -> None:
    hub.faults[NAME] = Fault(chunked=not told, ignores_range=not told)
    url = f"{hub.endpoint}/{OPEN}/resolve/main/{WEIGHTS}"
    with open_origin(UrlSource(url), endpoint="", token=None, timeout=5, access=LOOPBACK) as origin:
        assert bring(origin, part) == hash_file(hub.root / NAME)
    assert part.read_bytes() == body


def test_an_empty_file_needs_no_request(hub: LoopbackHub, origin: Origin, part: Path) -> None:
    assert bring(origin, part, RemoteFile("epochs/none", 0, None)).size == 0
    assert part.exists()
    assert not transfers(hub)


class TestResuming:
    def test_only_the_rest_is_asked_for(self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes) -> None:
        part.write_bytes(body[:100_000])
        told: list[int] = []
        assert bring(origin, part, on_bytes=told.append) == hash_file(hub.root / NAME)
        assert transfers(hub) == [("bytes=100000-", len(body) - 100_000)]
        assert told[0] == 100_000

    def test_a_whole_part_is_verified_and_nothing_asked_for(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes
    ) -> None:
        part.write_bytes(body)
        assert bring(origin, part) == hash_file(hub.root / NAME)
        assert not transfers(hub)

    def test_a_part_longer_than_the_file_is_discarded(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes
    ) -> None:
        part.write_bytes(body + b"x")
        assert bring(origin, part) == hash_file(hub.root / NAME)
        assert transfers(hub) == [(None, len(body))]

    def test_a_server_that_ignores_the_range_begins_anew(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes
    ) -> None:
        hub.faults[NAME] = Fault(ignores_range=True)
        part.write_bytes(body[:100_000])
        told: list[int] = []
        assert bring(origin, part, on_bytes=told.append) == hash_file(hub.root / NAME)
        assert part.read_bytes() == body
        assert told[:2] == [100_000, 0]

    @pytest.mark.parametrize(("extra", "asked"), [(b"", 1), (b"x", 2)], ids=["whole already", "too long"])
    def test_a_part_of_a_file_of_unknown_size(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes, extra: bytes, asked: int
    ) -> None:
        part.write_bytes(body + extra)
        announced = RemoteFile(WEIGHTS, None, weights(origin).sha256)
        assert bring(origin, part, announced) == hash_file(hub.root / NAME)
        assert len(transfers(hub)) == asked

    def test_a_damaged_part_is_found_out(self, origin: Origin, part: Path, body: bytes) -> None:
        part.write_bytes(bytes(100_000))
        with pytest.raises(DigestMismatch):
            bring(origin, part)
        assert not part.exists()
        assert bring(origin, part).size == len(body)


class TestBrokenConnections:
    def test_it_goes_on_within_the_call(self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes) -> None:
        hub.faults[NAME] = Fault(cut_after=90_000)
        assert bring(origin, part) == hash_file(hub.root / NAME)
        assert [sent for _, sent in transfers(hub)] == [90_000, 90_000, 90_000, len(body) - 270_000]
        assert transfers(hub)[1][0] == "bytes=90000-"

    def test_a_server_that_falls_silent_counts_as_broken(self, hub: LoopbackHub, part: Path, body: bytes) -> None:
        hub.faults[NAME] = Fault(cut_after=100_000, cuts=1, stalls=True)
        with open_origin(HubSource(OPEN), endpoint=hub.endpoint, token=None, timeout=0.5, access=LOOPBACK) as origin:
            assert bring(origin, part) == hash_file(hub.root / NAME)
        assert transfers(hub)[-1] == ("bytes=100000-", len(body) - 100_000)

    def test_without_progress_it_gives_up_and_keeps_what_came(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes
    ) -> None:
        part.write_bytes(body[:1000])
        hub.faults[NAME] = Fault(cut_after=0)
        with pytest.raises(DownloadIncomplete, match=r"1,000 of [\d,]+ bytes of .* are kept") as caught:
            bring(origin, part)
        assert part.read_bytes() == body[:1000]
        assert caught.value.detail == {"done": 1000, "size": len(body)}

    def test_with_progress_it_gives_up_too_in_the_end(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes
    ) -> None:
        hub.faults[NAME] = Fault(cut_after=100)
        with pytest.raises(DownloadIncomplete, match=f"broke {ATTEMPTS} times"):
            bring(origin, part)
        assert part.read_bytes() == body[: ATTEMPTS * 100]

    def test_beginning_anew_and_being_cut_is_no_progress(self, hub: LoopbackHub, origin: Origin, part: Path) -> None:
        hub.faults[NAME] = Fault(cut_after=1000, ignores_range=True)
        with pytest.raises(DownloadIncomplete):
            bring(origin, part)
        assert len(transfers(hub)) == 3  # cut; the range ignored; cut at the same place

    def test_a_file_of_unknown_size(self, hub: LoopbackHub, origin: Origin, part: Path) -> None:
        announced = RemoteFile(WEIGHTS, None, weights(origin).sha256)
        hub.faults[NAME] = Fault(cut_after=100_000, cuts=2)
        assert bring(origin, part, announced) == hash_file(hub.root / NAME)

    def test_a_server_that_goes_away(self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes) -> None:
        hub.faults[NAME] = Fault(cut_after=50_000, cuts=1)

        def then_fails(done: int) -> None:
            if done == 50_000:
                hub.faults[NAME] = Fault(fail_next=99)

        with pytest.raises(HubUnreachable):
            bring(origin, part, on_bytes=then_fails)
        assert part.read_bytes() == body[:50_000]


class TestWrongBytes:
    def test_another_digest(self, hub: LoopbackHub, origin: Origin, part: Path) -> None:
        hub.faults[NAME] = Fault(corrupt=True)
        with pytest.raises(DigestMismatch, match="were deleted; try again") as caught:
            bring(origin, part)
        assert not part.exists()
        assert caught.value.detail["expected"] == weights(origin).sha256 != caught.value.detail["actual"]

    def test_more_bytes_than_announced(self, hub: LoopbackHub, origin: Origin, part: Path) -> None:
        hub.faults[NAME] = Fault(extra=9)
        with pytest.raises(DigestMismatch, match="sends more"):
            bring(origin, part)
        assert not part.exists()

    def test_fewer_bytes_than_announced(self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes) -> None:
        announced = RemoteFile(WEIGHTS, len(body) + 1, None)
        with pytest.raises(DownloadShort, match="less of it than was announced"):
            bring(origin, part, announced)
        assert part.exists()


class TestCancelling:
    def test_it_stops_at_the_next_chunk_and_keeps_what_came(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes
    ) -> None:
        hub.faults[NAME] = Fault(bytes_per_second=500_000)
        done: list[int] = [0]

        def check() -> None:
            if done[-1] > 20_000:
                raise Cancelled("enough")

        with pytest.raises(Cancelled, match="enough"):
            bring(origin, part, on_bytes=done.append, check=check)
        assert 20_000 < part.stat().st_size < 200_000
        hub.faults.clear()
        assert bring(origin, part) == hash_file(hub.root / NAME)
        assert sum(sent for _, sent in transfers(hub)) < 2 * len(body)

    def test_while_an_old_part_is_hashed(self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes) -> None:
        def check() -> None:
            raise Cancelled("at once")

        part.write_bytes(body[:1000])
        with pytest.raises(Cancelled):
            bring(origin, part, check=check)
        assert part.read_bytes() == body[:1000]
        assert not transfers(hub)


class TestFullDisk:
    def test_it_is_told_before_anything_is_fetched(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - RESERVE - 5000, RESERVE + 5000))
        part.write_bytes(body[:1000])
        with pytest.raises(StorageFull, match=r"needs [\d,]+ more bytes, and .* has 5,000 to spare") as caught:
            bring(origin, part)
        assert caught.value.detail == {"needed": len(body) - 1000, "free": 5000}
        assert part.read_bytes() == body[:1000]
        assert not transfers(hub)

    def test_of_an_unknown_size_the_reserve_is_kept_too(
        self, origin: Origin, part: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr("registry.installs.download.ROOM_EVERY", 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, RESERVE + len(body) // 2 - part.stat().st_size))
        with pytest.raises(StorageFull) as caught:
            bring(origin, part, replace(weights(origin), size=None))
        assert caught.value.detail["needed"] == 0
        assert 0 < part.stat().st_size < len(body)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_it_fills_up_meanwhile(
        self, hub: LoopbackHub, origin: Origin, part: Path, body: bytes, number: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Tight(FileIO):
            """A file on a disk with room for 100,000 bytes: the write that reaches the end is short, the next fails."""

            def write(self, data: memoryview) -> int:
                if not (room := 100_000 - self.tell()):
                    raise OSError(number, "full")
                return super().write(data[:room])

        def tight(path: Path, *args: Any, **options: Any) -> Any:
            return Tight(path, "ab+") if path == part else ordinary(path, *args, **options)

        ordinary = Path.open
        monkeypatch.setattr("registry.installs.download.YIELDED", 10_000)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", tight)
            with pytest.raises(StorageFull, match=r"what came of .* is kept"):
                bring(origin, part)
        assert part.read_bytes() == body[:90_000]  # the rest makes room for the database to say so
        assert bring(origin, part) == hash_file(hub.root / NAME)
        assert transfers(hub)[-1] == ("bytes=90000-", len(body) - 90_000)

    def test_other_errors_of_the_disk_are_not_called_so(
        self, origin: Origin, part: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(_: int) -> None:
            raise OSError(errno.EIO, "broken")

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="broken"):
            bring(origin, part)


DOWNLOADER = """
import sys
from pathlib import Path
from registry.installs.download import Watch, download
from registry.installs.origins import open_origin
from registry.sources import HubSource
from tests.loopback import LOOPBACK

endpoint, repo, part = sys.argv[1:]
with open_origin(HubSource(repo), endpoint=endpoint, token=None, timeout=60, access=LOOPBACK) as origin:
    file = next(f for f in origin.listing().files if f.path.endswith("weights.safetensors"))
    print(download(origin, file, Path(part), Watch()).blake3)
"""


def test_a_killed_process_is_continued_by_the_next(hub: LoopbackHub, part: Path, body: bytes) -> None:
    """kill -9 in the middle, twice; over all processes every byte of the file is sent once."""
    command = [sys.executable, "-c", DOWNLOADER, hub.endpoint, OPEN, str(part)]
    where = Path(__file__).parents[3]
    hub.faults[NAME] = Fault(cut_after=100_000, stalls=True)
    for kept in (100_000, 200_000):
        with subprocess.Popen(command, cwd=where) as process:
            eventually(lambda kept=kept: part.exists() and part.stat().st_size == kept)
            process.kill()
        eventually(lambda kept=kept: len(transfers(hub)) == kept // 100_000)
    hub.faults.clear()
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hash_file(hub.root / NAME).blake3
    assert part.read_bytes() == body
    assert transfers(hub) == [(None, 100_000), ("bytes=100000-", 100_000), ("bytes=200000-", len(body) - 200_000)]


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120  # a generous one: starting Python takes long on a busy machine
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
