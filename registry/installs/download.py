"""One file, from an origin to disk: resumable, cancellable, hashed while it arrives, verified at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from registry.db import is_full
from registry.errors import DigestMismatch, DownloadIncomplete, DownloadShort, StorageFull
from registry.installs import partial, split
from registry.installs.hashing import BLOCK, Digests, Hasher
from registry.installs.origins import Origin, RangeIgnored, RangeUnsatisfiable, RemoteFile, Stream

ATTEMPTS = 20
"""Requests that one call makes, as long as each gets further than the ones before; then the caller decides."""
RESERVE = 16 << 20
"""Bytes that stay free on the disk: the database must still be able to say that the disk is full."""
YIELDED = 1 << 20  # bytes of a partial file that are given up when the disk has none left
ROOM_EVERY = (
    4 << 20
)  # bytes between two looks at the free space: what comes of an unknown size takes no more of the reserve


@dataclass(frozen=True, slots=True)
class Watch:
    """What a download tells, and asks.

    `on_bytes`: told the bytes in the part after each chunk; they fall to 0 when a server's answer forces a new beginning.
    `on_etag`: told the ETag of the version that arrives, when the first bytes of it do.
    `check`: called before each chunk is written; what it raises ends the download, which keeps what has arrived.
    """

    on_bytes: Callable[[int], None] = lambda _: None
    on_etag: Callable[[str | None], None] = lambda _: None
    check: Callable[[], None] = lambda: None


def download(
    origin: Origin, file: RemoteFile, part: Path, watch: Watch, *, etag: str | None = None, connections: int = 1
) -> Digests:
    """Bring `file` into `part`, whole, verified and synced to disk, and return its digests.

    Bytes that `part` and the blocks beside it (registry/installs/partial.py) hold already, from an earlier call or process, are hashed, and
    only the missing ones are asked for, of the version `etag` when one is given. The caller names `part` so that it can belong to one
    version of one file only, and renames it afterwards. `connections`: the most that a large file is split over.

    Raises DownloadIncomplete, HubUnreachable and StorageFull, which keep `part` for the next call;
    DigestMismatch, which deletes it; and what `origin` raises.
    """
    try:
        with part.open("ab+", buffering=0) as handle, _full_disk(file, part):
            attempt = _Download(origin, file, part, handle, watch, etag, connections)
            attempt.run()
            os.fsync(handle.fileno())
        digests = attempt.hasher.digests()
        verify(file, digests)
    except DigestMismatch:
        partial.drop(part)
        raise
    partial.drop_blocks(part)  # of which all is in the part: a kill may have kept it from saying so
    return digests


def to_spare(folder: Path) -> int:
    """Bytes that a transfer into `folder` may take of its disk; below 0 where the reserve itself is touched."""
    return shutil.disk_usage(folder).free - RESERVE


def check_room(folder: Path, missing: int, what: str) -> None:
    """Say at once what would otherwise fail hours later. `missing`: bytes still to come, as far as known. Raises StorageFull."""
    free, needed = to_spare(folder), max(0, missing)
    if needed > free:
        raise StorageFull(
            f"{what} needs {needed:,} more bytes, and {folder} has {max(0, free):,} to spare. Make room, then try again.",
            needed=needed,
            free=max(0, free),
        )


class _Download:
    """One call of download(). The hasher has seen exactly the bytes that are in the part."""

    def __init__(
        self,
        origin: Origin,
        file: RemoteFile,
        part: Path,
        handle: FileIO,
        watch: Watch,
        etag: str | None,
        connections: int,
    ) -> None:
        self._origin = origin
        self._file = file
        self._part = part
        self._handle = handle
        self._watch = watch
        self._etag = etag
        self._connections = connections if origin.reads_in_parallel else 1
        self._looked = 0  # bytes that were there when the free space was looked at
        self._new_hasher()

    def run(self) -> None:
        self._take_up()
        self._check_room()
        furthest = self.hasher.size
        for _ in range(ATTEMPTS):
            if self._is_whole():
                return
            try:
                if self._fetch_rest():
                    return
            except RangeIgnored:
                # A server that serves no ranges at all, or a file that has changed.
                self._connections = 1
                self._begin_anew()
            except RangeUnsatisfiable as error:
                if self._file.size is not None:
                    raise self._incomplete(DownloadShort("The server has less of it than was announced.")) from error
                if error.size == self.hasher.size:
                    return
                self._begin_anew()
            except DownloadIncomplete as error:
                if self.hasher.size <= furthest:
                    raise self._incomplete(error) from error
                furthest = self.hasher.size
        raise self._incomplete(DownloadIncomplete(f"The connection broke {ATTEMPTS} times."))

    def _fetch_rest(self) -> bool:
        """One pass. True when its end is the file's; where no size was announced, a proper end is all there is."""
        with self._chunks() as chunks:
            for chunk in chunks:
                self._add(chunk)
        if self._file.size is not None and not self._is_whole():
            raise DownloadIncomplete(f"The server ended {self._file.path} early.")
        return True

    @contextmanager
    def _chunks(self) -> Iterator[Iterable[bytes]]:
        start, end = self.hasher.size, self._file.size
        is_large = end is not None and self._connections > 1 and end - start >= split.SPLIT_FROM
        if end is not None and (is_large or partial.blocks(self._part)):
            most, check = self._connections, self._watch.check
            chunks = split.split(self._open, start, end, self._part, most=most, check=check)
            try:
                yield chunks
            finally:
                chunks.close()  # type: ignore[attr-defined]  # a generator's
            return
        with self._open(start) as stream:
            yield stream

    @contextmanager
    def _open(self, start: int, end: int | None = None) -> Iterator[Stream]:
        with self._origin.stream(self._file, start, end, self._etag) as stream:
            if self._etag is None and stream.etag is not None:
                self._etag = stream.etag
                self._watch.on_etag(stream.etag)
            yield stream

    def _take_up(self) -> None:
        """Hash what an earlier call left; more than the file has cannot be the beginning of it."""
        size = self._handle.seek(0, os.SEEK_END)
        if self._file.size is not None and size > self._file.size:
            self._begin_anew()
            return
        self._handle.seek(0)
        while block := self._handle.read(BLOCK):
            self._watch.check()
            self.hasher.update(block)
        self._watch.on_bytes(self.hasher.size)

    def _check_room(self) -> None:
        self._looked = self.hasher.size
        check_room(self._part.parent, (self._file.size or 0) - partial.arrived(self._part), self._file.path)

    def _add(self, chunk: bytes) -> None:
        self._watch.check()
        if self.hasher.size - self._looked >= ROOM_EVERY:
            self._check_room()
        rest = memoryview(chunk)
        while rest:  # an unbuffered write may take a part only
            rest = rest[self._handle.write(rest) :]
        self.hasher.update(chunk)
        self._watch.on_bytes(self.hasher.size)
        if self._file.size is not None and self.hasher.size > self._file.size:
            raise self._too_long()

    def _begin_anew(self) -> None:
        self._handle.truncate(0)
        partial.drop_blocks(self._part)
        self._etag = None
        self._watch.on_etag(None)
        self._new_hasher()
        self._watch.on_bytes(0)

    def _new_hasher(self) -> None:
        self.hasher = Hasher(git_size=self._file.size if self._file.git else None)

    def _is_whole(self) -> bool:
        return self.hasher.size == self._file.size

    def _too_long(self) -> DigestMismatch:
        return DigestMismatch(
            f"The server sends more of {self._file.path} than the {self._file.size:,} bytes announced. "
            "What came was deleted; try again, and look at HF_ENDPOINT and proxies if it recurs.",
            expected_size=self._file.size,
        )

    def _incomplete(self, error: DownloadIncomplete) -> DownloadIncomplete:
        of = f" of {self._file.size:,}" if self._file.size is not None else ""
        return type(error)(
            f"{error.message} {self.hasher.size:,}{of} bytes of {self._file.path} are kept; try again to go on.",
            done=self.hasher.size,
            size=self._file.size,
        )


def verify(file: RemoteFile, digests: Digests) -> None:
    """Against what was announced: the SHA-256 of an LFS file, git's SHA-1 of another. Raises DigestMismatch."""
    for name, expected, actual in (("SHA-256", file.sha256, digests.sha256), ("git's SHA-1", file.git, digests.git)):
        if expected is not None and actual != expected.lower():
            raise DigestMismatch(
                f"The bytes of {file.path} are not those that were announced ({name} {str(actual)[:12]}, not "
                f"{expected[:12]}). They were deleted; try again, and look at HF_ENDPOINT and proxies if it recurs.",
                expected=expected,
                actual=actual,
            )


@contextmanager
def _full_disk(file: RemoteFile, part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        # Where not one byte is free, the database could not even say so: the last bytes that came make room for it.
        os.truncate(part, max(0, part.stat().st_size - YIELDED))
        size = partial.arrived(part)
        raise StorageFull(
            f"The disk of {part.parent} is full; what came of {file.path} is kept. Make room, then try again.",
            needed=(file.size or size) - size,
            free=0,
        ) from error
