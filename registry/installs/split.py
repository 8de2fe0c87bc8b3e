"""One file over several connections, its bytes in order.

The file is cut into blocks. Each connection fetches the next one that nobody has, into memory; the caller takes them in order, so what is
on disk stays the beginning of the file, hashed as it grows, and a kill loses the blocks in memory at most. Connections are added as long as
each doubling makes it faster: many servers limit every connection, and a narrow line gains nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from threading import Condition, Thread

from registry.errors import DownloadIncomplete
from registry.installs.origins import Stream

BLOCK = (
    8 << 20
)  # bytes: a request's round trip is a small part of its time; with one block waiting, five at most are in memory
SPLIT_FROM = (
    64 << 20
)  # bytes that are missing: below, a transfer is over before a second connection pays for its handshake
EPOCH_SECONDS = 1.5  # of measuring, before it is decided whether to double the connections
GAIN = 1.2  # times the rate before, for the doubling to be kept
TRIES = 4  # of one block without a single new byte

OpenRange = Callable[[int, int], AbstractContextManager[Stream]]
"""The bytes from an offset up to another one."""


def split(open_range: OpenRange, start: int, end: int, *, most: int, check: Callable[[], None]) -> Iterator[bytes]:
    """The bytes from `start` to `end` in order, over 1 to `most` connections.

    `check` is called while waiting; what it raises ends the transfer. Raises what `open_range` raises, and DownloadIncomplete.
    """
    transfer = _Split(open_range, start, end, most)
    try:
        yield from transfer.chunks(check)
    finally:
        transfer.end()


class _Block:
    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.chunks: deque[bytes] = deque()
        self.whole = False


class _Split:
    def __init__(self, open_range: OpenRange, start: int, end: int, most: int) -> None:
        self._open = open_range
        self._blocks = [_Block(at, min(at + BLOCK, end)) for at in range(start, end, BLOCK)]
        self._most = most
        self._changed = Condition()
        self._next = 0  # the first block that no connection has
        self._taken = 0  # the block that the caller is at
        self._running = 0  # connections
        self._allowed = 1
        self._arrived = 0  # bytes
        self._failure: BaseException | None = None
        self._over = False

    def chunks(self, check: Callable[[], None]) -> Iterator[bytes]:
        pace = _Pace(self._most)
        for number, block in enumerate(self._blocks):
            self._taken = number
            while True:
                check()
                with self._changed:
                    self._allowed = pace.connections(self._arrived)
                    self._start_connections()
                    if not block.chunks and not block.whole:
                        self._changed.wait(0.1)
                    if self._failure is not None and not block.chunks and not block.whole:
                        raise self._failure
                    arrived, whole = list(block.chunks), block.whole
                    block.chunks.clear()
                yield from arrived
                if whole:
                    break

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
            while (block := self._claim()) is not None:
                self._fetch(block)
        except BaseException as error:  # whatever it is, the caller is told
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()
        finally:
            with self._changed:
                self._running -= 1

    def _claim(self) -> _Block | None:
        """The next block, when it is not too far ahead of the caller and this connection is still wanted."""
        with self._changed:
            ahead = self._next - self._taken
            if self._over or self._running > self._allowed or self._next == len(self._blocks) or ahead > self._allowed:
                return None
            self._next += 1
            return self._blocks[self._next - 1]

    def _fetch(self, block: _Block) -> None:
        at, tries = block.start, TRIES
        while at < block.end:
            before = at
            try:
                with self._open(at, block.end) as stream:
                    for chunk in stream:
                        if at + len(chunk) > block.end:
                            raise DownloadIncomplete("The server sends more than the range that it was asked for.")
                        at += len(chunk)
                        self._hand_over(block, chunk)
            except DownloadIncomplete:
                if at == before and (tries := tries - 1) == 0:
                    raise
                continue
            if at < block.end and at == before and (tries := tries - 1) == 0:
                raise DownloadIncomplete("The server ended a range early.")
        with self._changed:
            block.whole = True
            self._changed.notify_all()

    def _hand_over(self, block: _Block, chunk: bytes) -> None:
        with self._changed:
            if self._over:
                raise DownloadIncomplete("The transfer was ended.")
            block.chunks.append(chunk)
            self._arrived += len(chunk)
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
