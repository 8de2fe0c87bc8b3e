"""Examples of whole answers, put together from those that stand with the fields of their schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

MOMENT = "2026-11-26T15:00:00Z"
_PLAIN = {"boolean": True, "null": None}

# What server-sent events are, as FastAPI describes them; each one's `data` is JSON.
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string"},
        "id": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


class NoExample(LookupError):
    """A field has none, and its type tells none."""


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value that fits a JSON schema. `schemas`: those that its references name. Raises NoExample, naming the field."""
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for several in ("examples", "enum"):
        if several in schema:
            return schema[several][0]
    for one in ("const", "default"):
        if one in schema:
            return schema[one]
    if "anyOf" in schema:  # what may be absent, and shows nothing of its own, is shown absent
        return None if {"type": "null"} in schema["anyOf"] else example(schema["anyOf"][0], schemas)
    if schema.get("type") == "array":
        return [example(schema["items"], schemas)]
    if "properties" in schema:
        return {name: example(field, schemas) for name, field in schema["properties"].items()}
    if schema.get("format") == "date-time":
        return MOMENT
    if schema.get("type") in _PLAIN:
        return _PLAIN[schema["type"]]
    raise NoExample(schema.get("title", json.dumps(schema)))


def example_of(model: type[BaseModel], **known: Any) -> dict[str, Any]:
    """As JSON; `known` values go before the fields' own."""
    schema = model.model_json_schema(mode="serialization")
    return {**example(schema, schema.get("$defs", {})), **known}


def shown(content: Any, media_type: str = "application/json", **more: Any) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: an example of an answer that no schema's fields show. `more`: of its media type."""
    return {200: {"content": {media_type: {**more, "example": content}}}}


def events(*seen: tuple[str, Mapping[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: some events of a stream, each a name and its data."""
    told = [{"event": name, "id": str(n), "data": json.dumps(data)} for n, (name, data) in enumerate(seen, 1)]
    return shown(told, "text/event-stream", itemSchema=_EVENT)


def states(row: type[BaseModel], *names: str) -> dict[int | str, dict[str, Any]]:
    """For a stream of a row that changes: itself, in some of its states."""
    return events(*((name, example_of(row, state=name)) for name in names))
