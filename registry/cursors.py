"""Where a page of a list ended, as a text that its reader hands back for the next one."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from registry.errors import InvalidRequest

_MOST = 4096  # characters; the longest name makes a third of it


def pack(place: Sequence[Any]) -> str:
    """Of JSON values; the first says which list it belongs to."""
    return urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


@contextmanager
def unpacked(text: str) -> Iterator[Any]:
    """What was packed, or whatever else somebody has made up. Raises InvalidRequest when the block finds it to be none of its places, by
    ValueError or TypeError."""
    try:
        if len(text) > _MOST:
            raise ValueError("too long")
        yield json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(
            "cursor belongs to no page of this list; leave it out to begin at the first.", field="cursor"
        ) from error
