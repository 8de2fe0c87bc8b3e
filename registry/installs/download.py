"""One file, from an origin to disk: resumable, cancellable, hashed while it arrives, verified at the end."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from registry.errors import DigestMismatch, DownloadIncomplete, StorageFull
from registry.installs.hashing import BLOCK, Digests, Hasher
from registry.installs.origins import Origin, RangeIgnored, RangeUnsatisfiable, RemoteFile

ATTEMPTS = 20
"""Requests that one call makes, as long as each gets further than the ones before; then the caller decides."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def download(
    origin: Origin, file: RemoteFile, part: Path, *, on_bytes: Callable[[int], None], check: Callable[[], None]
) -> Digests:
    """Bring `file` into `part`, whole, verified and synced to disk, and return its digests.

    Bytes that `part` holds already, from an earlier call or process, are hashed, and only the missing ones are asked
    for. The caller names `part` so that it can belong to one version of one file only, and renames it afterwards.

    `on_bytes`: told the bytes in `part` after each chunk; they fall to 0 when a server's answer forces a new beginning.
    `check`: called before each chunk is written; what it raises ends the download, which keeps what has arrived.

    Raises DownloadIncomplete, HubUnreachable and StorageFull, which keep `part` for the next call;
    DigestMismatch, which deletes it; and what `origin` raises.
    """
    try:
        with part.open("ab+", buffering=0) as handle, _full_disk(file, part):
            attempt = _Download(origin, file, part, handle, on_bytes, check)
            attempt.run()
            os.fsync(handle.fileno())
        digests = attempt.hasher.digests()
        _verify(file, digests)
    except DigestMismatch:
        part.unlink()
        raise
    return digests


class _Download:
    """One call of download(). The hasher has seen exactly the bytes that are in the part."""

    def __init__(
        self,
        origin: Origin,
        file: RemoteFile,
        part: Path,
        handle: FileIO,
        on_bytes: Callable[[int], None],
        check: Callable[[], None],
    ) -> None:
        self._origin = origin
        self._file = file
        self._part = part
        self._handle = handle
        self._on_bytes = on_bytes
        self._check = check
        self.hasher = Hasher()

    def run(self) -> None:
        self._take_up()
        self._check_space()
        furthest = self.hasher.size
        for _ in range(ATTEMPTS):
            if self._is_whole():
                return
            try:
                if self._fetch_rest():
                    return
            except RangeIgnored:
                self._begin_anew()
            except RangeUnsatisfiable as error:
                if self._file.size is not None:
                    raise self._incomplete(
                        DownloadIncomplete("The server has less of it than was announced.")
                    ) from error
                if error.size == self.hasher.size:
                    return
                self._begin_anew()
            except DownloadIncomplete as error:
                if self.hasher.size <= furthest:
                    raise self._incomplete(error) from error
                furthest = self.hasher.size
        raise self._incomplete(DownloadIncomplete(f"The connection broke {ATTEMPTS} times."))

    def _fetch_rest(self) -> bool:
        """One request. True when its end is the file's; where no size was announced, a proper end is all there is."""
        with self._origin.stream(self._file, self.hasher.size) as chunks:
            for chunk in chunks:
                self._add(chunk)
        if self._file.size is not None and not self._is_whole():
            raise DownloadIncomplete(f"The server ended {self._file.path} early.")
        return True

    def _take_up(self) -> None:
        """Hash what an earlier call left; more than the file has cannot be the beginning of it."""
        size = self._handle.seek(0, os.SEEK_END)
        if self._file.size is not None and size > self._file.size:
            self._begin_anew()
            return
        self._handle.seek(0)
        while block := self._handle.read(BLOCK):
            self._check()
            self.hasher.update(block)
        self._on_bytes(self.hasher.size)

    def _check_space(self) -> None:
        """Say at once what would otherwise fail hours later."""
        missing = (self._file.size or 0) - self.hasher.size
        free = shutil.disk_usage(self._part.parent).free
        if missing > free:
            raise StorageFull(
                f"{self._file.path} needs {missing:,} more bytes, and {self._part.parent} has {free:,} left. "
                "Make room, then try again.",
                needed=missing,
                free=free,
            )

    def _add(self, chunk: bytes) -> None:
        self._check()
        rest = memoryview(chunk)
        while rest:  # an unbuffered write may take a part only
            rest = rest[self._handle.write(rest) :]
        self.hasher.update(chunk)
        self._on_bytes(self.hasher.size)
        if self._file.size is not None and self.hasher.size > self._file.size:
            raise self._too_long()

    def _begin_anew(self) -> None:
        self._handle.truncate(0)
        self.hasher = Hasher()
        self._on_bytes(0)

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
        return DownloadIncomplete(
            f"{error.message} {self.hasher.size:,}{of} bytes of {self._file.path} are kept; try again to go on.",
            done=self.hasher.size,
            size=self._file.size,
        )


def _verify(file: RemoteFile, digests: Digests) -> None:
    if file.sha256 is not None and digests.sha256 != file.sha256.lower():
        raise DigestMismatch(
            f"The bytes of {file.path} are not those that were announced (SHA-256 {digests.sha256[:12]}, not "
            f"{file.sha256[:12]}). They were deleted; try again, and look at HF_ENDPOINT and proxies if it recurs.",
            expected=file.sha256,
            actual=digests.sha256,
        )


@contextmanager
def _full_disk(file: RemoteFile, part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFull(
            f"The disk of {part.parent} is full; what came of {file.path} is kept. Make room, then try again."
        ) from error
