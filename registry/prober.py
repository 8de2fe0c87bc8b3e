"""Who looks at files: what another one could not name or read is looked at again."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path

import probes


@cache
def prober() -> str:
    """The release, and a digest of the probes themselves, which change more often than releases are made."""
    code = blake2b(digest_size=4)
    for path in sorted(Path(probes.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return f"{metadata.version('modelshelf')}+{code.hexdigest()}"
