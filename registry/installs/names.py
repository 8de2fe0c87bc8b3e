"""Names for files, out of whatever a stranger calls his model."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 120
"""Bytes of UTF-8: a number and `.safetensors.part` behind it still fit into the 143 that eCryptfs allows, the strictest in use."""

_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)
"""What Windows takes for a device, whatever ending follows: learn.microsoft.com/windows/win32/fileio/naming-a-file."""


_FOREIGN = frozenset('<>:"|?*')  # in no name on Windows (same page)


def is_kept(name: str) -> bool:
    """Whether every system takes it as it is, as the name of a file in a model's folder."""
    fits = len(name.encode(errors="replace")) <= LONGEST and not name.endswith((".", " "))
    return fits and _FOREIGN.isdisjoint(name) and not _DEVICES.match(name)


def file_name(text: str) -> str:
    """`text` as the name of one file on every system, without an ending of its own: letters, digits and `_ + . -`.

    Letters of every script stay, composed (NFC), as macOS does not keep them; separators, control and invisible characters, and those
    that turn the direction of writing become `-`. Never empty, hidden, a device or longer than LONGEST.
    """
    plain = re.sub(r"[^\w.+-]+", "-", unicodedata.normalize("NFC", text)).strip("-.")
    short = plain.encode()[:LONGEST].decode(errors="ignore").strip("-.")
    return f"_{short}" if _DEVICES.match(short) else short or "model"
