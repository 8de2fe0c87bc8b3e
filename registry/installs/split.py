"""One file over several connections, its bytes in order.

The file is cut into blocks. Each connection fetches the next one that nobody has, into a file of its own (registry/installs/partial.py);
the caller takes them in order, so the part stays the beginning of the file, hashed as it grows. A kill loses what each connection has read
and not yet written, a chunk of its stream. Connections are added as long as each doubling makes it faster: many servers limit every
connection, and a narrow line gains nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import FileIO
from itertools import pairwise
from pathlib import Path
from threading import Condition, Thread

from registry.errors import DownloadIncomplete
from registry.installs import partial
from registry.installs.origins import Stream
from registry.installs.origins.base import CHUNK

BLOCK = 8 << 20  # bytes: a request's round trip is a small part of its time
SPLIT_FROM = (
    64 << 20
)  # bytes that are missing: below, a transfer is over before a second connection pays for its handshake
EPOCH_SECONDS = 1.5  # of measuring, before it is decided whether to double the connections
GAIN = 1.2  # times the rate before, for the doubling to be kept
TRIES = 4  # of one block without a single new byte

OpenRange = Callable[[int, int], AbstractContextManager[Stream]]
"""The bytes from an offset up to another one."""


def split(
    open_range: OpenRange, start: int, end: int, part: Path, *, most: int, check: Callable[[], None]
) -> Iterator[bytes]:
    """The bytes from `start` to `end` in order, over 1 to `most` connections; those in blocks beside `part` are not fetched again.

    A block is removed when all of it was taken, so a chunk must be in the part before the next one is asked for. `check` is called while
    waiting; what it raises ends the transfer, which keeps the blocks. Raises what `open_range` raises, OSError, and DownloadIncomplete.
    """
    transfer = _Split(open_range, start, end, part, most)
    try:
        yield from transfer.chunks(check)
    finally:
        transfer.end()


class _Block:
    """The bytes from `start` to `end` of the file. Its own file begins at `offset`, and has all from there up to `arrived`."""

    def __init__(self, path: Path, offset: int, start: int, end: int, arrived: int) -> None:
        self.path, self.start, self.end, self.arrived = path, start, end, arrived
        self._offset = offset

    @property
    def whole(self) -> bool:
        return self.arrived == self.end

    def open(self) -> FileIO:
        return FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+")

    def write(self, file: FileIO, chunk: bytes) -> None:
        """By place, not at the end: a connection of a transfer that was ended may still be writing the same bytes there."""
        file.seek(self.arrived - self._offset)
        rest = memoryview(chunk)
        while rest:  # an unbuffered write may take a part only
            rest = rest[file.write(rest) :]

    def read(self, start: int, end: int) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            file.seek(start - self._offset)
            while start < end and (chunk := file.read(min(CHUNK, end - start))):
                start += len(chunk)
                yield chunk


def _blocks(start: int, end: int, part: Path) -> list[_Block]:
    """What is missing, cut at every multiple of BLOCK and where a block that is there begins. Those of no use are removed.

    One that is there goes on at its end, and a new one begins with its first byte, wherever that is: no file ever has a hole, whatever
    becomes of the part.
    """
    there = partial.blocks(part)
    cuts = sorted({*range(start - start % BLOCK, end, BLOCK), *there, end})
    until = dict(pairwise(cuts))
    arrived: dict[int, int] = {}
    for at, path in there.items():
        come = at + path.stat().st_size
        if at < end and start < come <= until[at]:
            arrived[at] = come
        else:  # the part has all of it, or it is no block of this file
            path.unlink()
    first = min((start, *arrived))  # of a block that is there the beginning may be in the part already
    return [
        _Block(partial.block(part, at), at, max(at, start), to, arrived.get(at, at))
        for at, to in pairwise([first, *(cut for cut in cuts if start < cut <= end)])
    ]


class _Split:
    def __init__(self, open_range: OpenRange, start: int, end: int, part: Path, most: int) -> None:
        self._open = open_range
        self._blocks = _blocks(start, end, part)
        self._most = most
        self._changed = Condition()
        self._next = 0  # the first block that no connection has
        self._taken = 0  # the block that the caller is at
        self._running = 0  # connections
        self._allowed = 1
        self._came = 0  # bytes
        self._failure: BaseException | None = None
        self._over = False

    def chunks(self, check: Callable[[], None]) -> Iterator[bytes]:
        pace = _Pace(self._most)
        for number, block in enumerate(self._blocks):
            self._taken, at = number, block.start
            while at < block.end:
                check()
                with self._changed:
                    self._allowed = pace.connections(self._came)
                    self._start_connections()
                    if block.arrived == at:
                        self._changed.wait(0.1)
                    if self._failure is not None and block.arrived == at:
                        raise self._failure
                    arrived = block.arrived
                if arrived > at:
                    yield from block.read(at, arrived)
                    at = arrived
            block.path.unlink()

    def end(self) -> None:
        with self._changed:
            self._over = True

    def _start_connections(self) -> None:
        while self._running < self._allowed and self._next < len(self._blocks) and self._failure is None:
            self._running += 1
            # A daemon: one that waits for a silent server must not keep the process.
            Thread(target=self._connection, name="connection", daemon=True).start()

    def _connection(self) -> None:
        try:
            while (claimed := self._claim()) is not None:
                block, file = claimed
                with file:
                    self._fetch(block, file)
        except BaseException as error:  # whatever it is, the caller is told
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()
        finally:
            with self._changed:
                self._running -= 1

    def _claim(self) -> tuple[_Block, FileIO] | None:
        """The next block, when it is not too far ahead of the caller and this connection is still wanted."""
        with self._changed:
            while self._next < len(self._blocks) and self._blocks[self._next].whole:
                self._next += 1
            ahead = self._next - self._taken
            if self._over or self._running > self._allowed or self._next == len(self._blocks) or ahead > self._allowed:
                return None
            self._next += 1
            block = self._blocks[self._next - 1]
            return block, block.open()  # here: once the transfer is over, no block comes into being

    def _fetch(self, block: _Block, file: FileIO) -> None:
        tries = TRIES
        while not block.whole:
            before = block.arrived
            try:
                with self._open(before, block.end) as stream:
                    for chunk in stream:
                        if block.arrived + len(chunk) > block.end:
                            raise DownloadIncomplete("The server sends more than the range that it was asked for.")
                        self._take(block, file, chunk)
            except DownloadIncomplete:
                if block.arrived == before and (tries := tries - 1) == 0:
                    raise
                continue
            if block.arrived == before and (tries := tries - 1) == 0:
                raise DownloadIncomplete("The server ended a range early.")

    def _take(self, block: _Block, file: FileIO, chunk: bytes) -> None:
        if self._over:
            raise DownloadIncomplete("The transfer was ended.")
        block.write(file, chunk)
        with self._changed:
            block.arrived += len(chunk)
            self._came += len(chunk)
            self._changed.notify_all()


class _Pace:
    """How many connections: one, then twice as many for as long as that makes it GAIN times faster."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 1
        self._settled = most == 1
        self._since: tuple[float, int] | None = None
        self._rate = 0.0  # bytes per second with half as many

    def connections(self, arrived: int) -> int:
        """`arrived`: bytes so far."""
        if self._settled or not arrived:
            return self._now
        now = time.monotonic()
        if self._since is None:
            self._since = (now, arrived)
        seconds, came = now - self._since[0], arrived - self._since[1]
        if seconds >= EPOCH_SECONDS:
            rate, self._since = came / seconds, (now, arrived)
            if rate < self._rate * GAIN:
                self._now, self._settled = max(1, self._now // 2), True
            elif self._now == self._most:
                self._settled = True
            else:
                self._rate, self._now = rate, min(self._most, self._now * 2)
        return self._now
