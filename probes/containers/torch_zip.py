"""PyTorch pickles (.ckpt, .pt, .bin): recognised by their first bytes, never opened.

Unpickling runs code that the file's author chose, and `torch.load(weights_only=True)` has had escapes of its own
(CVE-2025-32434), so there is no path in modelshelf that reads one.
"""

from __future__ import annotations

from probes.header import Header, HeaderIncomplete

ADVICE = (
    "This is a PyTorch pickle: opening one runs code that its author chose, so it is never read here. "
    "Take the .safetensors version of the model, which most repositories have beside it. Or convert it on a machine that "
    'you can afford to lose: state = torch.load(FILE, map_location="cpu", weights_only=True), then '
    'safetensors.torch.save_file(state.get("state_dict", state), "FILE.safetensors").'
)
PICKLED = ("torch_zip", "pickle")
"""Formats of headers that tell no tensors."""
ZIP_MAGIC = b"PK\x03\x04"
_WINDOW = 1 << 16
"""torch.save writes `<archive>/data.pkl` as its first entry; TorchScript after a few small ones. Bytes that are
searched for it."""


def parse_pickle(prefix: bytes | bytearray, size: int | None) -> Header | None:
    """A header without tensors when the bytes begin a pickle: `torch_zip` since PyTorch 1.6, `pickle` before; else
    None. Raises HeaderIncomplete while the window is not whole and nothing found."""
    if prefix.startswith(ZIP_MAGIC):
        found = b"data.pkl" in prefix[:_WINDOW]
        if not found and size is not None and len(prefix) < min(size, _WINDOW):
            raise HeaderIncomplete(min(size, _WINDOW))
        return Header({}, {}, "torch_zip", size, 0) if found else None
    # PROTO opcode with protocol 2..5, then any opcode: the legacy format starts with its magic number as LONG1 (0x8a).
    # A safetensors length with these low bytes has zeros from its fifth byte on (header cap 100 MB) and JSON behind it;
    # a pickle of protocol 4 or 5 with a short first frame has the zeros, too.
    if prefix[:1] == b"\x80" and 2 <= prefix[1] <= 5 and (any(prefix[4:8]) or prefix[8:9] not in (b"", b"{")):
        return Header({}, {}, "pickle", size, 0)
    return None
