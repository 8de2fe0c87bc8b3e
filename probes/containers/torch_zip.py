"""PyTorch pickles (.ckpt, .pt, .bin): recognised by their first bytes, never opened.

Unpickling runs code that the file's author chose, and `torch.load(weights_only=True)` has had escapes of its own
(CVE-2025-32434), so there is no path in modelshelf that reads one.
"""

from __future__ import annotations

import re

from probes.header import Header, HeaderIncomplete, UnreadableModel

ADVICE = (
    "This is a PyTorch pickle: opening one runs code that its author chose, so it is never read here. "
    "Take the .safetensors version of the model, which most repositories have beside it. Or convert it on a machine that "
    'you can afford to lose: state = torch.load(FILE, map_location="cpu", weights_only=True), then '
    'safetensors.torch.save_file(state.get("state_dict", state), "FILE.safetensors").'
)
PICKLED = ("torch_zip", "pickle")
"""Formats of headers that tell no tensors."""
ZIP_MAGIC = b"PK\x03\x04"
_FIRST_PROTOCOLS = re.compile(
    rb"L119547037146038801333356L\n"  # torch.save's magic number
    rb"|\(+[dl]p[0-9]+\n"
    rb"|\(*[\]})]q\0"
    rb"|\(*c[A-Za-z_][\w.]*\n\w+\n(?:p[0-9]+\n|q\0|\()"
)
"""How pickles of protocols 0 and 1 begin, whose opcodes are letters: with a number, an empty list or table, or a class's name."""
_TAR_MAGIC = 257, b"ustar"
_TAR_ENTRIES = (b"sys_info\0", b"pickle\0", b"tensors\0", b"storages\0")
"""Names in a file that torch.save wrote before PyTorch 0.1.10, each of a pickle or of what pickles describe."""
_WINDOW = 1 << 16
"""torch.save writes `<archive>/data.pkl` as its first entry; TorchScript after a few small ones. Bytes that are
searched for it."""


def parse_pickle(prefix: bytes | bytearray, size: int | None) -> Header | None:
    """A header without tensors when the bytes begin a pickle: `torch_zip` since PyTorch 1.6, `pickle` before; else
    None. Raises HeaderIncomplete while the window is not whole and nothing found."""
    if len(prefix) < 8:
        return None
    if prefix.startswith(ZIP_MAGIC):
        found = b"data.pkl" in prefix[:_WINDOW]
        if not found and size is not None and len(prefix) < min(size, _WINDOW):
            raise HeaderIncomplete(min(size, _WINDOW))
        return Header({}, {}, "torch_zip", size, 0) if found else None
    # PROTO opcode with protocol 2..5, then any opcode: the legacy format starts with its magic number as LONG1 (0x8a).
    # A safetensors length with these low bytes has zeros from its fifth byte on (header cap 100 MB) and JSON behind it;
    # a pickle of protocol 4 or 5 with a short first frame has the zeros, too. One of the first protocols never has.
    if prefix[:1] == b"\x80" and 2 <= prefix[1] <= 5 and (any(prefix[4:8]) or prefix[8:9] not in (b"", b"{")):
        return Header({}, {}, "pickle", size, 0)
    if any(prefix[4:8]) and _FIRST_PROTOCOLS.match(prefix):
        return Header({}, {}, "pickle", size, 0)
    return _parse_tar(prefix, size)


def _parse_tar(prefix: bytes | bytearray, size: int | None) -> Header | None:
    at, magic = _TAR_MAGIC
    is_torch = prefix.startswith(_TAR_ENTRIES)
    if is_torch and len(prefix) < at + len(magic) and (size is None or len(prefix) < size):
        raise HeaderIncomplete(at + len(magic) if size is None else min(size, at + len(magic)))
    if prefix[at : at + len(magic)] != magic:
        return None
    if is_torch:
        return Header({}, {}, "pickle", size, 0)
    raise UnreadableModel("archive", "This is a tar archive, not a model.")
