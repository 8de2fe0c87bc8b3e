"""A folder or a single file on disk, read like a little repository."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Self

from probes.containers.folder import ADAPTER_INDEX
from registry.errors import FileMissing, InvalidSource, PathRefused
from registry.installs.folders import admit
from registry.installs.origins.base import (
    CARD,
    CARD_LIMIT,
    CHUNK,
    Listing,
    RangeIgnored,
    RemoteFile,
    Stream,
    checked,
    is_plain,
)
from registry.sources import PathSource

FILES_LIMIT = 10_000  # the largest model repositories hold hundreds; more means that a whole disk was named


class FolderOrigin:
    """Hidden files and folders (.git, .cache) are left out; links to files are followed, links to folders are not."""

    reads_in_parallel = False

    def __init__(self, source: PathSource, folders: Sequence[Path] | None = None, called: str | None = None) -> None:
        """`folders`: those that may be read from, wherever links lead; None: every one. `called`: what is recorded in place of the path."""
        self._path = source.path
        self._called = called or str(source)
        self._folders = folders

    def listing(self) -> Listing:
        return self._listing

    def read(self, file: RemoteFile, start: int, length: int) -> bytes:
        with admit(self._existing(file.path), self._folders).open("rb") as handle:
            handle.seek(start)
            return handle.read(length)

    @contextmanager
    def stream(
        self, file: RemoteFile, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> Iterator[Stream]:
        path = admit(self._existing(file.path), self._folders)
        now = version(path)
        if start and etag is not None and etag != now:
            raise RangeIgnored
        with path.open("rb", buffering=0) as handle:
            handle.seek(start)
            left = math.inf if end is None else end - start

            def chunks() -> Iterator[bytes]:
                nonlocal left
                while left and (chunk := handle.read(int(min(CHUNK, left)))):
                    left -= len(chunk)
                    yield chunk

            yield Stream(chunks(), now)

    def may_read(self, path: Path) -> bool:
        """Whether a file beside the model is in a folder that may be read from."""
        try:
            admit(path, self._folders)
        except PathRefused:
            return False
        return True

    def close(self) -> None:
        """Nothing stays open between calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @cached_property
    def _listing(self) -> Listing:
        try:
            return self._looked_through()
        except OSError as error:
            raise FileMissing(f"{self._path} cannot be read: {error.strerror}.", file=str(self._path)) from error

    def _looked_through(self) -> Listing:
        admit(self._path, self._folders)
        left_out: tuple[RemoteFile, ...] = ()
        if self._path.is_dir():
            listed, focus = list(self._walk()), ""
            files = tuple(file for file in listed if is_plain(file.path))
            left_out = tuple(file for file in listed if not is_plain(file.path))
        elif self._path.is_file():
            config = self._path.with_name(ADAPTER_INDEX)  # without it, a PEFT file is half of a model
            files = tuple(map(self._remote_file, (self._path, *([config] if config.is_file() else []))))
            focus = checked(self._path.name, str(self._path.parent))
        elif self._path.exists():
            raise InvalidSource(f"{self._path} is neither a file nor a folder.")
        else:
            raise FileMissing(f"There is no file or folder {self._path}.", file=str(self._path))
        card = card_beside(self._path, self.may_read)
        return Listing(self._called, None, None, files, card, focus, root=self._root, left_out=left_out)

    @property
    def _root(self) -> Path:
        return self._path if self._path.is_dir() else self._path.parent

    def _walk(self) -> Iterator[RemoteFile]:
        count = 0
        for folder, folders, names in os.walk(self._path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if name.startswith(".") or not path.is_file():
                    continue
                count += 1
                if count > FILES_LIMIT:
                    raise InvalidSource(
                        f"{self._path} holds more than {FILES_LIMIT} files; name the model's own folder or file."
                    )
                yield self._remote_file(path)

    def _remote_file(self, path: Path) -> RemoteFile:
        admit(path, self._folders)
        name = path.relative_to(self._root).as_posix()
        return RemoteFile(name, path.stat().st_size, None, etag=version(path))

    def _existing(self, name: str) -> Path:
        path = self._root / checked(name, str(self._path))
        if not path.is_file():
            raise FileMissing(f"{path} is no longer there.", file=str(path))
        return path


def card_beside(path: Path, may_read: Callable[[Path], bool] = lambda _: True) -> str | None:
    """README.md of a folder; beside a single file, where any may lie, only when front matter marks it as a model card."""
    card = path / CARD if path.is_dir() else path.with_name(CARD)
    if not card.is_file() or not may_read(card):
        return None
    with card.open("rb") as handle:
        text = handle.read(CARD_LIMIT).decode("utf-8", errors="replace")
    return text if path.is_dir() or text.startswith("---") else None


def version(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"
