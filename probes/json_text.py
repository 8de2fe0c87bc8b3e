"""JSON as probes read it: strictly, and without a way to crash."""

from __future__ import annotations

from typing import Any

import msgspec


def loads(text: bytes | bytearray | memoryview) -> Any:
    """Raises ValueError for what is no JSON, no UTF-8, or nested deeper than the interpreter can follow."""
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeDecodeError as error:  # its own words count from the start of one name
        raise ValueError("not UTF-8") from error


def dumps(value: Any) -> bytes:
    return msgspec.json.encode(value)
