"""Which container is this? By its first bytes; a file's name says nothing here."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from probes.containers.foreign import is_foreign, refuse_foreign, refuse_zipped
from probes.containers.gguf import MAGIC as GGUF_MAGIC
from probes.containers.gguf import parse_gguf
from probes.containers.safetensors import parse_safetensors
from probes.containers.torch_zip import ZIP_MAGIC, parse_pickle
from probes.header import Header, HeaderIncomplete, UnreadableModel

REMOTE_PREFIX = 512 * 1024
"""First bytes to fetch of a remote file: holds the header of every published single-file checkpoint and LoRA but a few
kohya ones with tens of thousands of training tags."""
_FIRST_READ = 512
"""First bytes to read of a local file: enough to tell what it is, and fewer than a model's header has."""

_TEXT = frozenset([*range(0x20, 0x7F), *b"\t\r\n"])
_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--", b"<script", b"<meta", b"<title", b"<body")
_NET = b"<net "
"""In the XML that tells a network to OpenVINO."""


def parse_header(prefix: bytes | bytearray, size: int | None) -> Header:
    """The header from a file's first bytes, as fetched from anywhere. `size`: the whole file in bytes, None when
    unknown.

    Raises HeaderIncomplete when more bytes are needed and UnreadableModel when no number of them would help.
    """
    if size == 0 or (size is None and not prefix):
        raise UnreadableModel("empty_file", "The file is empty.")
    if prefix.startswith(ZIP_MAGIC):
        refuse_zipped(prefix)
    pickle = parse_pickle(prefix, size)  # those of the first protocols are text
    if pickle is not None:
        return pickle
    _refuse_text(prefix, size)
    if len(prefix) < 8:
        if size is not None and size < 8:
            raise UnreadableModel("too_short", f"The file has only {size} bytes; no model is that small.")
        raise HeaderIncomplete(8)
    if prefix.startswith(ZIP_MAGIC):
        raise UnreadableModel("zip_archive", "This is a zip archive, not a model.")
    refuse_foreign(prefix)
    if prefix.startswith(GGUF_MAGIC):
        return parse_gguf(prefix, size)
    return parse_safetensors(prefix, size)


def _refuse_text(prefix: bytes | bytearray, size: int | None) -> None:
    """Things that downloads leave behind in place of a model. A safetensors file starts with a length below 100 MB, so
    its fifth to eighth bytes are zero and none of these match it."""
    text = _as_utf8(prefix)
    start = text[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<?xml") and _NET in start:
        raise UnreadableModel("compiled_model", "This is a network for OpenVINO, whose weights lie in a .bin file.")
    if start.startswith(_PAGE):
        raise UnreadableModel(
            "html_page",
            "This is a web page, not a model: the download met a login, licence or error page.",
        )
    if start.startswith(b"version https://git-lfs"):
        raise UnreadableModel(
            "lfs_pointer",
            "This is a git-LFS pointer, not the model itself.",
        )
    if start.startswith((b'{"', b"{\n", b"{ ")) or (len(text) >= 8 and _TEXT.issuperset(text[:8])):
        if prefix.startswith(GGUF_MAGIC) or is_foreign(prefix):
            return
        raise UnreadableModel(
            "text_file",
            "This is a text file, perhaps a site's error message, not a model.",
        )


def _as_utf8(prefix: bytes | bytearray) -> bytes | bytearray:
    """Text in UTF-16, with a mark of its order or without, as if it were ASCII; all else as it is. Four letters and four zeros
    by turns are no length below 100 MB, whichever come first."""
    start = prefix[2:10] if prefix[:2] in (b"\xff\xfe", b"\xfe\xff") else prefix[:8]
    for letters, zeros in ((start[::2], start[1::2]), (start[1::2], start[::2])):
        if len(zeros) == 4 and not any(zeros) and _TEXT.issuperset(letters):
            return bytes(prefix[:1024]).lstrip(b"\xff\xfe").replace(b"\0", b"")
    return prefix


def read_header(path: str | Path) -> Header:
    """The header of one file on disk; nothing after the header is read.

    Raises UnreadableModel, also for a path that is missing, is a folder or may not be read.
    """
    path = Path(path)
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode) and not S_ISDIR(stat.st_mode):  # opening a named pipe would wait for its writer
            raise UnreadableModel("not_a_file", f"{path} is a device, pipe or socket.")
        with path.open("rb", buffering=0) as file:
            stat = os.fstat(file.fileno())  # of what is read, whatever has taken the name meanwhile
            prefix = bytearray(file.read(_FIRST_READ))
            while True:
                try:
                    return parse_header(prefix, stat.st_size)
                except HeaderIncomplete as incomplete:
                    prefix = _read_on(file, prefix, incomplete.needed)
    except FileNotFoundError:
        raise UnreadableModel("not_found", f"There is no file {path}.") from None
    except IsADirectoryError:
        raise UnreadableModel("is_a_folder", f"{path} is a folder.") from None
    except OSError as error:
        raise UnreadableModel("not_readable", f"{path} cannot be read ({error.strerror}).") from None
    except ValueError:  # a NUL in the path
        raise UnreadableModel("not_found", f"There is no file {str(path)!r}.") from None


def _read_on(file: FileIO, prefix: bytearray, needed: int) -> bytearray:
    """`prefix` and the bytes of the file that follow it, up to `needed`, in one new buffer."""
    buffer = bytearray(needed)
    buffer[: len(prefix)] = prefix
    with memoryview(buffer) as view:
        count = file.readinto(view[len(prefix) :])
    if not count:
        raise UnreadableModel("truncated", "The file ends inside its header.")
    del buffer[len(prefix) + count :]
    return buffer
