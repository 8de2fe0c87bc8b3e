"""What has arrived of a file that is not whole, on disk: its beginning, the *part*, and beside it blocks of what comes later.

A block is a file of its own, `<part>.<offset>`. Its first byte is the file's at that offset, and it is written from its front on, as the
part is: no file has a hole. So of each of them its length tells how much has arrived, and no journal could say something else.
Any of them may lose its end, or be gone: that is fetched again. What was written is the kernel's, and a process that is killed loses what
its connections held in their hands. A power cut is another thing: only a whole part is synced. File systems of today (ext4, XFS, Btrfs)
lengthen a file on disk after its bytes are there, so what is lost then is the end; where one does not, the announced digest tells, and the
file is fetched anew.
"""

from __future__ import annotations

from glob import escape
from pathlib import Path


def blocks(part: Path) -> dict[int, Path]:
    """Those that are there, by their offset in the file, in bytes; in order."""
    numbered = ((path.name.removeprefix(f"{part.name}."), path) for path in part.parent.glob(f"{escape(part.name)}.*"))
    return dict(sorted((int(offset), path) for offset, path in numbered if offset.isdecimal()))


def block(part: Path, offset: int) -> Path:
    return part.with_name(f"{part.name}.{offset}")


def arrived(part: Path) -> int:
    """Bytes that need not be fetched; 0 when nothing is there."""
    end = come = part.stat().st_size if part.exists() else 0
    for offset, path in blocks(part).items():  # of the first one the beginning may be in the part already
        block_end = offset + path.stat().st_size
        come += max(0, block_end - max(offset, end))
        end = max(end, block_end)
    return come


def drop_blocks(part: Path) -> None:
    for path in blocks(part).values():
        path.unlink(missing_ok=True)


def drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    drop_blocks(part)
