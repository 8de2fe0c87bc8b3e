"""The digests by which people name a model file, in one pass over its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

BLOCK = 1 << 20  # bytes read at a time: the digests' own speed is the limit from here on
HEADER_LIMIT = 100_000_000  # bytes; safetensors itself refuses longer headers (MAX_HEADER_SIZE in its tensor.rs)
_LENGTH_BYTES = 8
_AUTOV1 = (0x100000, 0x110000)  # the bytes that A1111's first model hash is of: get_old_model_hash in its sd_models.py
_AUTOV1_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Digests:
    """Of one whole file, as 64 hex digits each where nothing else is said; `size` in bytes.

    `autov3`: SHA-256 of what follows a safetensors header (file[8+N:], N the little-endian u64 in front), equal for
    files that differ in metadata only; None for other formats. A1111 shows its first 12 digits.
    `autov1`: the first 8 digits of the SHA-256 of the 64 KiB at 1 MiB, by which old metadata and Civitai name files; None for a file that
    has nothing there.
    `git`: SHA-1 of the file as a git blob, 40 hex digits, where it was asked for.
    """

    size: int
    blake3: str
    sha256: str
    autov3: str | None
    autov1: str | None = None
    git: str | None = None

    def by_algorithm(self) -> dict[str, str | None]:
        """Those that are recorded with a model."""
        return {name: getattr(self, name) for name in ("blake3", "sha256", "autov3", "autov1")}


class Hasher:
    """BLAKE3, SHA-256, AutoV3 and AutoV1 of bytes that arrive in pieces of any size.

    `git_size`: the bytes that will come, when git's SHA-1 of them is wanted too: git hashes the size first.
    """

    def __init__(self, git_size: int | None = None) -> None:
        self._git = None if git_size is None else hashlib.sha1(b"blob %d\0" % git_size, usedforsecurity=False)
        self._size = 0
        self._blake3 = blake3()
        self._sha256 = hashlib.sha256()
        self._body = hashlib.sha256()
        self._piece = hashlib.sha256()  # of _AUTOV1
        self._start = b""  # the file's first nine bytes, as far as they came
        self._body_at: int | None = None  # where the tensors begin, once known

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        return self._size

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        self._blake3.update(chunk)
        self._sha256.update(chunk)
        if self._git is not None:
            self._git.update(chunk)
        if len(self._start) <= _LENGTH_BYTES:
            self._start += bytes(chunk[: _LENGTH_BYTES + 1 - len(self._start)])
            self._body_at = _body_offset(self._start)
        if self._body_at is not None:
            self._body.update(memoryview(chunk)[max(0, self._body_at - self._size) :])
        start, end = (max(0, at - self._size) for at in _AUTOV1)
        self._piece.update(memoryview(chunk)[start:end])
        self._size += len(chunk)

    def digests(self) -> Digests:
        is_safetensors = self._body_at is not None and self._size >= self._body_at
        autov3 = self._body.hexdigest() if is_safetensors else None
        autov1 = self._piece.hexdigest()[:_AUTOV1_DIGITS] if self._size > _AUTOV1[0] else None
        git = None if self._git is None else self._git.hexdigest()
        return Digests(self._size, self._blake3.hexdigest(), self._sha256.hexdigest(), autov3, autov1, git)


def folder_digests(files: Mapping[str, Digests]) -> Digests:
    """Of a folder, from those of its files by their paths in it. Its BLAKE3 is that of its sorted `path NUL blake3 LF` lines.

    With one weight file on top, as PEFT's folders have it, the other digests are that file's, by which people name the adapter; other
    folders have none.
    """
    lines = "".join(f"{name}\0{digests.blake3}\n" for name, digests in sorted(files.items()))
    on_top = [digests for name, digests in files.items() if "/" not in name and digests.autov3]
    size, whole = sum(d.size for d in files.values()), blake3(lines.encode()).hexdigest()
    return replace(on_top[0], size=size, blake3=whole, git=None) if len(on_top) == 1 else Digests(size, whole, "", None)


def hash_file(path: Path, check: Callable[[], None] = lambda: None, git_size: int | None = None) -> Digests:
    """`check`: called for each BLOCK; what it raises ends it. Raises OSError when the file cannot be read."""
    hasher = Hasher(git_size)
    buffer = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            check()
            hasher.update(buffer[:count])
    return hasher.digests()


def _body_offset(start: bytes) -> int | None:
    """8+N of a file that begins like safetensors (a sane length, then a JSON object); None of any other.

    Nine bytes tell, and none of them is in the body: N is at least 2, for "{}".
    """
    if len(start) <= _LENGTH_BYTES or start[_LENGTH_BYTES:] != b"{":
        return None
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    return _LENGTH_BYTES + length if 2 <= length <= HEADER_LIMIT else None
