"""A large file over several connections: the same bytes in order, and only as many connections as make it faster."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import FileIO
from pathlib import Path

import pytest

from registry.errors import Cancelled, DigestMismatch, DownloadIncomplete, StorageFull
from registry.installs import split as splitting
from registry.installs.download import Watch, download
from registry.installs.hashing import hash_file
from registry.installs.origins import Origin, Stream, open_origin
from registry.installs.partial import arrived, block, blocks
from registry.installs.split import _Block, _Pace, split
from registry.sources import HubSource
from tests.hub import Fault, LoopbackHub
from tests.hub.fixtures import OPEN, WEIGHTS, noise, safetensors
from tests.loopback import LOOPBACK

pytestmark = pytest.mark.usefixtures("impatient")
NAME = f"{OPEN}/{WEIGHTS}"
BODY = noise(1_000_003)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BLOCK": 64 << 10, "SPLIT_FROM": 128 << 10, "EPOCH_SECONDS": 0.05}.items():
        monkeypatch.setattr(splitting, name, value)


class Server:
    """Ranges of BODY, with pauses and cuts; counts what runs at once."""

    def __init__(self, seconds: float = 0.0, cut: float = 0.0) -> None:
        self.seconds, self.cut = seconds, cut
        self.asked: list[tuple[int, int]] = []
        self.running = self.most = 0
        self.dice = random.Random(1)

    @contextmanager
    def open(self, start: int, end: int) -> Iterator[Stream]:
        self.asked.append((start, end))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield Stream(self.chunks(start, end))
        finally:
            self.running -= 1

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, 7001):
            if self.cut == 1 or (at > start and self.dice.random() < self.cut):
                raise DownloadIncomplete("cut")
            time.sleep(self.seconds)
            yield BODY[at : min(at + 7001, end)]


def nothing() -> None: ...


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "whole.safetensors.part"


def taken(chunks: Iterator[bytes]) -> bytes:
    return b"".join(chunks)


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize(("start", "end"), [(0, len(BODY)), (5, 64 << 10), (123_456, 999_999)])
def test_the_bytes_come_in_order(part: Path, start: int, end: int, most: int) -> None:
    server = Server(seconds=0.0005)
    assert taken(split(server.open, start, end, part, most=most, check=nothing)) == BODY[start:end]
    assert server.most <= most
    assert not blocks(part)


def test_a_server_that_limits_each_connection_gets_more_of_them(part: Path) -> None:
    server = Server(seconds=0.005)
    assert taken(split(server.open, 0, len(BODY), part, most=4, check=nothing)) == BODY
    assert 2 <= server.most <= 4


def test_ranges_that_are_cut_are_picked_up_where_they_were(part: Path) -> None:
    server = Server(cut=0.2)
    assert taken(split(server.open, 0, len(BODY), part, most=4, check=nothing)) == BODY
    assert any(start % splitting.BLOCK for start, _ in server.asked)


def test_a_server_that_gives_nothing_ends_it_after_what_came(part: Path) -> None:
    server = Server()
    came = bytearray()

    def take() -> None:
        for chunk in split(server.open, 0, len(BODY), part, most=2, check=nothing):
            came.extend(chunk)
            if len(came) > 300_000:
                server.cut = 1.0

    with pytest.raises(DownloadIncomplete):
        take()
    assert bytes(came) == BODY[: len(came)]
    assert len(came) > 300_000


def test_it_stops_when_it_is_no_longer_wanted(part: Path) -> None:
    server = Server(seconds=0.01)
    began = time.monotonic()

    def check() -> None:
        if time.monotonic() > began + 0.05:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        list(split(server.open, 0, len(BODY), part, most=4, check=check))
    deadline = time.monotonic() + 60
    while server.running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert max(end for _, end in server.asked) < len(BODY) // 1.5


class TestWhatAnEarlierTransferLeft:
    """`until`: where its part ended; beside it are blocks, each up to its own length."""

    def goes_on(self, part: Path, until: int, most: int = 4) -> list[tuple[int, int]]:
        """The ranges that are asked for then."""
        server = Server()
        part.write_bytes(BODY[:until])
        assert BODY[:until] + taken(split(server.open, until, len(BODY), part, most=most, check=nothing)) == BODY
        assert not blocks(part)
        return server.asked

    def asked(self, part: Path, until: int, **options: int) -> int:
        return sum(end - start for start, end in self.goes_on(part, until, **options))

    @pytest.mark.parametrize("most", [1, 4])
    def test_is_not_fetched_again(self, part: Path, most: int) -> None:
        kept = {2: splitting.BLOCK, 3: 10_000, 5: splitting.BLOCK - 1}
        for number, size in kept.items():
            at = number * splitting.BLOCK
            block(part, at).write_bytes(BODY[at : at + size])
        assert self.asked(part, 70_000, most=most) == len(BODY) - 70_000 - sum(kept.values())

    def test_is_what_the_part_has_not(self, part: Path) -> None:
        """A kill came between the part and the block's removal, or while the block was being taken."""
        block(part, 0).write_bytes(BODY[: splitting.BLOCK])
        block(part, splitting.BLOCK).write_bytes(BODY[splitting.BLOCK : splitting.BLOCK + 30_000])
        until = splitting.BLOCK + 20_000
        part.write_bytes(BODY[:until])
        assert arrived(part) == until + 10_000
        assert self.asked(part, until) == len(BODY) - until - 10_000

    def ended_early(self, part: Path, until: int) -> int:
        """A transfer of which the part has nothing yet; returns the bytes that have arrived."""
        part.write_bytes(BODY[:until])
        transfer = split(Server().open, until, len(BODY), part, most=1, check=nothing)
        next(transfer)
        transfer.close()
        return arrived(part)

    def test_begins_where_the_part_ended(self, part: Path) -> None:
        """In the middle of a block's bytes: what is before them, nobody asks for."""
        until = 100_000
        have = self.ended_early(part, until)
        assert have > until
        assert block(part, until).read_bytes().startswith(BODY[until:have])
        assert self.asked(part, until) == len(BODY) - have

    @pytest.mark.parametrize("until", [99_999, 70_000, 64 << 10, 30_000, 0])
    def test_stays_when_the_part_loses_its_end(self, part: Path, until: int) -> None:
        """By a power cut, or to make room on a full disk: what it lost is fetched again, and nothing else is."""
        had = 100_000
        come = self.ended_early(part, had) - had
        part.write_bytes(BODY[:until])
        assert arrived(part) == until + come
        assert self.asked(part, until) == len(BODY) - until - come

    def test_is_shorter_than_what_the_part_has_of_it(self, part: Path) -> None:
        """By a power cut: to go on behind the part's end would leave a hole in it."""
        block(part, 0).write_bytes(BODY[:10_000])
        self.ended_early(part, 50_000)
        assert not block(part, 0).exists()
        self.goes_on(part, 20_000)

    def test_that_begins_behind_the_end_is_no_block_of_this_file(self, part: Path) -> None:
        block(part, 2_000_000).write_bytes(b"other")
        assert self.asked(part, 0) == len(BODY)

    def test_is_longer_than_a_block_can_be(self, part: Path) -> None:
        block(part, 0).write_bytes(bytes(splitting.BLOCK + 1))
        assert self.asked(part, 0) == len(BODY)


@pytest.mark.parametrize(
    ("rates", "connections"),
    [
        ({1: 10, 2: 20, 4: 40}, 4),  # bytes per second that each number of connections brings
        ({1: 10, 2: 20, 4: 21}, 2),
        ({1: 10, 2: 11, 4: 99}, 1),
        ({1: 10, 2: 5, 4: 99}, 1),
    ],
)
def test_connections_are_doubled_while_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, rates: dict[int, int], connections: int
) -> None:
    now, arrived, pace = 0.0, 1, _Pace(4)
    monkeypatch.setattr(splitting.time, "monotonic", lambda: now)
    for _ in range(10):
        current = pace.connections(arrived)
        now += 1.0
        arrived += rates[current]
    assert pace.connections(arrived) == connections


class TestOfADownload:
    @pytest.fixture
    def origin(self, hub: LoopbackHub) -> Iterator[Origin]:
        (hub.root / NAME).write_bytes(safetensors(BODY))
        with open_origin(HubSource(OPEN), endpoint=hub.endpoint, token=None, timeout=30, access=LOOPBACK) as origin:
            yield origin

    def bring(self, origin: Origin, part: Path) -> None:
        file = next(f for f in origin.listing().files if f.path == WEIGHTS)
        assert download(origin, file, part, Watch(), connections=4).sha256 == file.sha256

    def test_it_arrives_over_one_redirect(self, hub: LoopbackHub, origin: Origin, tmp_path: Path) -> None:
        origin.listing()
        hub.seen.clear()
        hub.faults[NAME] = Fault(bytes_per_second=2_000_000)
        self.bring(origin, tmp_path / "part")
        assert hash_file(tmp_path / "part") == hash_file(hub.root / NAME)
        assert sum(s.sent for s in hub.seen if s.server == "storage") == (hub.root / NAME).stat().st_size
        assert len([s for s in hub.seen if s.server == "hub"]) < len([s for s in hub.seen if s.server == "storage"]) / 2

    def test_a_server_without_ranges_serves_it_in_one_piece(
        self, hub: LoopbackHub, origin: Origin, tmp_path: Path
    ) -> None:
        hub.faults[NAME] = Fault(ignores_range=True)
        block(tmp_path / "part", splitting.BLOCK).write_bytes(b"of an earlier transfer")
        self.bring(origin, tmp_path / "part")
        assert not blocks(tmp_path / "part")

    def test_blocks_with_other_bytes_are_told_by_the_digest(
        self, hub: LoopbackHub, origin: Origin, tmp_path: Path
    ) -> None:
        block(tmp_path / "part", splitting.BLOCK).write_bytes(bytes(splitting.BLOCK))
        with pytest.raises(DigestMismatch):
            self.bring(origin, tmp_path / "part")
        assert not list(tmp_path.glob("part*"))
        self.bring(origin, tmp_path / "part")

    @pytest.mark.parametrize("had", [0, 100_000, 600_000])
    def test_a_full_disk_keeps_the_blocks(
        self, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had: int
    ) -> None:
        """The part gives up its end; what then goes on has the bytes of the source, though no digest tells."""
        [listed] = (f for f in origin.listing().files if f.path == WEIGHTS)
        file, whole, part = replace(listed, sha256=None), safetensors(BODY), tmp_path / "part"
        write = _Block.write

        def full(block: _Block, handle: FileIO, chunk: bytes) -> None:
            """As a disk does it: of what does not fit, some is written."""
            write(block, handle, chunk[:5_000])
            raise OSError(errno.ENOSPC, "No space left on device")

        part.write_bytes(whole[:had])
        for _ in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(_Block, "write", full)
                with pytest.raises(StorageFull) as refusal:
                    download(origin, file, part, Watch(), connections=4)
            kept = arrived(part)
            assert refusal.value.detail["needed"] == len(whole) - kept
            assert blocks(part)
        download(origin, file, part, Watch(), connections=4)
        assert part.read_bytes() == whole

    def test_an_address_that_expires_meanwhile_is_asked_for_anew(
        self, hub: LoopbackHub, origin: Origin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = next(f for f in origin.listing().files if f.path == WEIGHTS)
        hub.seen.clear()

        def first_bytes(start: int) -> bytes:
            with origin.stream(file, start, start + 10) as stream:
                return b"".join(stream)

        whole = first_bytes(0) + first_bytes(10)
        signature = hub.signature
        monkeypatch.setattr(hub, "signature", lambda path: signature(f"later {path}"))
        whole += first_bytes(20) + first_bytes(30)
        assert whole == (hub.root / NAME).read_bytes()[:40]
        assert [(s.server, s.status) for s in hub.seen] == [
            ("hub", 302),
            ("storage", 206),
            ("storage", 206),
            ("storage", 403),
            ("hub", 302),
            ("storage", 206),
            ("storage", 206),
        ]

    def test_cut_again_and_again(self, hub: LoopbackHub, origin: Origin, tmp_path: Path) -> None:
        hub.faults[NAME] = Fault(cut_after=50_000)
        self.bring(origin, tmp_path / "part")
