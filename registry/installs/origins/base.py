"""What every origin can do, and the values it answers with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self, runtime_checkable

from registry.errors import FileMissing, UnusableFile
from registry.sources import relative_path

CARD = "README.md"
CARD_LIMIT = 1 << 20  # bytes; the longest published cards are a tenth of it
CHUNK = 1 << 20  # bytes of a file on disk handed on at a time


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """`path`: relative to the listing's root, "/" between its parts. `size` (bytes), `sha256`, `git` (hex): as announced.

    `git`: the SHA-1 that git gives the file as a blob; the Hub announces it of those that are no LFS files.
    `etag`: tells versions of the file apart where no commit does.
    """

    path: str
    size: int | None
    sha256: str | None
    git: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What an origin holds.

    `source`: canonical, with the commit pinned and the focus; `revision`: that commit; `card`: README.md's text;
    `focus`: the file or sub-folder that the user named, "" for all. `repo_id`, `revision` and `ref`, the branch or tag that was asked
    for (None: the default branch), are the Hub's alone. `root`: the folder on this machine that the files are in, if they are.
    `left_out`: what it holds beside `files` and has a name that leads nowhere in it on some system: nothing of that is ever read.
    """

    source: str
    repo_id: str | None
    revision: str | None
    files: tuple[RemoteFile, ...]
    card: str | None
    focus: str = ""
    ref: str | None = None
    root: Path | None = None
    left_out: tuple[RemoteFile, ...] = ()


class Stream:
    """Bytes of a file as they arrive. `etag`: of the version that they are of, if the server tells."""

    def __init__(self, chunks: Iterator[bytes], etag: str | None = None) -> None:
        self._chunks = chunks
        self.etag = etag

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


class Origin(Protocol):
    """A context manager; leaving it closes its connections. `reads_in_parallel`: whether several streams at once may be faster."""

    reads_in_parallel: bool

    def listing(self) -> Listing:
        """What is there; asked once, the same afterwards. Raises the errors of registry.errors."""
        ...

    def read(self, file: RemoteFile, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`; fewer only where the file ends."""
        ...

    def stream(
        self, file: RemoteFile, start: int = 0, end: int | None = None, etag: str | None = None
    ) -> AbstractContextManager[Stream]:
        """The bytes from offset `start` up to `end`, of the version `etag` when one is given.

        Entering raises RangeIgnored or RangeUnsatisfiable; iterating raises DownloadIncomplete when it breaks off.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class Informed(Protocol):
    """An origin that has more to tell of a file than its bytes."""

    def told_of(self, sha256: str) -> Mapping[str, Any] | None:
        """Its record of the file with this digest, in Civitai's form; None: it has none. Raises the errors of registry.errors."""
        ...

    def fetch(self, url: str, limit: int) -> bytes:
        """What is behind an address that the record names, of at most `limit` bytes. Raises the errors of registry.errors."""
        ...


class RangeIgnored(Exception):
    """The server answers with the whole file, or the file has changed: what is there already cannot be continued."""


class RangeUnsatisfiable(Exception):
    """The file ends before the offset asked for, or exactly there. `size`: its length in bytes, if the server told."""

    def __init__(self, size: int | None) -> None:
        super().__init__(size)
        self.size = size


def checked(path: str, owner: str) -> str:
    """A file's path, when it stays inside its folder on disk. Raises UnusableFile."""
    if not is_plain(path):
        raise misnamed(path, owner)
    return path


def is_plain(path: str) -> bool:
    """Whether it leads to a place inside of its folder, on every system."""
    try:
        relative_path(path)
    except ValueError:
        return False
    return True


def misnamed(path: str, owner: str) -> UnusableFile:
    """Of a file that would be needed."""
    return UnusableFile(
        f"{owner} names a file {path!r}, which not every system takes or which leads out of it; such a file is not taken. Rename it there.",
        file=repr(path),
    )


def find_focus(path: str, files: Iterable[RemoteFile], owner: str) -> str:
    """`path`, when it is one of the files or a folder of some. Raises FileMissing, which names what is close."""
    names = {file.path for file in files}
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}
    if not path or path in names or path in folders:
        return path
    by_name = {PurePosixPath(name).name: name for name in sorted(names | folders, reverse=True)}
    wanted = PurePosixPath(path).name
    close = get_close_matches(path, names | folders, n=3) or [
        by_name[n] for n in get_close_matches(wanted, by_name, n=3)
    ]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise FileMissing(f"{owner} has no file or folder {path}.{hint}", file=path, close=close)
