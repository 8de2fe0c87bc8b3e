"""From JSON, or from the registry's own values, to the records of this client; and back to JSON."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import partial
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read(record: type[T], source: Any, /, **known: Any) -> T:
    """A `record` from a JSON object, or from an object with attributes of the same names; `known` values go before those.

    What the record has no field for is passed over (a newer service says more); a field that the source does not have is None.
    """
    look: Callable[[str], Any] = source.get if isinstance(source, Mapping) else partial(_attribute, source)
    return record(
        **{name: known[name] if name in known else _value(hint, look(name)) for name, hint in _hints(record).items()}
    )


def plain(value: Any) -> Any:
    """JSON-ready, as the service itself writes it."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value


def _attribute(source: Any, name: str) -> Any:
    return getattr(source, name, None)


_HINTS: dict[type, dict[str, Any]] = {}  # worked out once: it takes longer than reading a record


def _hints(record: type) -> dict[str, Any]:
    if record not in _HINTS:
        _HINTS[record] = get_type_hints(record)
    return _HINTS[record]


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        wanted = [a for a in arguments if a is not NoneType]
        return _value(wanted[0], value) if len(wanted) == 1 else value
    if origin is list:
        return [_value(arguments[0], each) for each in value]
    if origin is dict:
        return {name: _value(arguments[1], each) for name, each in value.items()}
    if hint is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if hint is bytes and isinstance(value, str):
        return b64decode(value)
    if hint is str:
        return str(value)  # an enumeration's member is its text
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return read(hint, value)
    return value
