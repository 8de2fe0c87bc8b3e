"""Header dumps: a model's names, dtypes, shapes and metadata as JSON, so that a misidentified file can be reported
without sending it.

A dump is also the tests' fixture format (tests/probes/fixtures/headers), and `probe` takes one in place of the file:

    {"made_by": ..., "expect": {...}, "hints": {...}, "format": "safetensors",
     "metadata": {"ss_network_dim": "16"}, "tensors": {"NAME": ["F16", [320, 16]], ...}}

of a folder, `"folder": {"index": ..., "configs": {...}, "pickles": [...]}` and `"components": {"unet": {"format", "metadata",
"tensors"}}` stand in place of the last three. `expect` and `hints` (what is known beside the bytes) may be missing.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from probes import json_text
from probes.containers.file import read_header
from probes.containers.folder import Folder, read_folder
from probes.containers.safetensors import HEADER_CAP, TENSOR_CAP, names_too_much
from probes.containers.torch_zip import PICKLED
from probes.header import Header, TensorSpec, UnreadableModel
from probes.redaction import redacted_configuration, redacted_metadata, reduced, told_hints, whole
from probes.report import TAKEN, Hints, Outcome, Report

_EXPECTED = ("kind", "family", "variant", "prediction_type", "layout", "rank", "candidates", "tags")
"""Fields of a report that a fixture states, where they say anything; `outcome` too, unless it is `identified`."""
MAYBE_DUMP = ("text_file", "unsupported_format")
"""A dump is text or gzip, which no model is: only what is refused with one of these codes can be one."""
_DTYPE = 16  # characters of the longest dtype, with some to spare


def dump_header(
    target: Header | Folder,
    hints: Hints | None = None,
    report: Report | None = None,
    *,
    keep_private: bool = False,
    made_by: str = "",
) -> dict[str, Any]:
    """A JSON-ready dump. `report`: what the probe says now, to be corrected by who reports it.

    Texts that people wrote (titles, comments, paths, file names, training tags) are reduced to the words that a probe
    reads in them, unless `keep_private`. Names of tensors are kept: they are what is probed.

    Raises UnreadableModel of a pickle, whose tensors cannot be listed without opening it.
    """
    if isinstance(target, Header) and target.format in PICKLED:
        raise UnreadableModel(
            "pickle",
            "A pickle has no header: what its tensors are called can only be learnt by opening it, which is never done "
            "here.",
        )
    hints = told_hints(hints or Hints(), whole if keep_private else reduced)
    said = {name: value for name, value in asdict(hints).items() if value}
    document: dict[str, Any] = {"made_by": made_by, "expect": _expect(report) if report else {}}
    if said:
        document["hints"] = said
    if isinstance(target, Header):
        return document | _header_document(target, keep_private)
    index, configs = target.index, dict(target.configs)
    if not keep_private:
        index, configs = redacted_configuration(index), redacted_configuration(configs)
    folder = {"index": index, "configs": configs, "pickles": list(target.pickles)}
    components = {name: _header_document(header, keep_private) for name, header in target.headers.items()}
    return document | {"folder": folder, "components": components}


def _header_document(header: Header, keep_private: bool) -> dict[str, Any]:
    metadata = dict(header.metadata) if keep_private else redacted_metadata(header.metadata)
    tensors = {name: [spec.dtype, list(spec.shape)] for name, spec in header.tensors.items()}
    return {"format": header.format, "metadata": metadata, "tensors": tensors}


def _expect(report: Report) -> dict[str, Any]:
    said = {name: value for name, value in report.as_dict().items() if name in _EXPECTED and value}
    return said if report.outcome is Outcome.IDENTIFIED else {"outcome": str(report.outcome), **said}


def pack_dump(document: Mapping[str, Any], compressed: bool = False) -> bytes:
    """The bytes of a dump, the same each time; compressed they take a twentieth."""
    text = json_text.dumps(document)
    return gzip.compress(text, compresslevel=9, mtime=0) if compressed else text + b"\n"


def read_target(path: str | Path) -> tuple[Header | Folder, Hints | None]:
    """What a probe looks at: a file's header, a folder's, or those that a dump holds; and the hints of a dump, None for
    all else. Raises UnreadableModel.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_folder(path), None
    except OSError as error:
        raise UnreadableModel("not_readable", f"{path} cannot be read ({error.strerror}).") from None
    try:
        return read_header(path), None
    except UnreadableModel as refused:
        if refused.code not in MAYBE_DUMP:
            raise
        try:
            with path.open("rb") as file:
                dumped = parse_dump(file.read(HEADER_CAP + 1))
        except OSError:  # gone since it was refused
            raise refused from None
        if dumped is None:
            raise
        return dumped


def parse_dump(data: bytes) -> tuple[Header | Folder, Hints] | None:
    """What a dump holds; None where the bytes are no dump at all. Raises UnreadableModel where one is broken."""
    document = _document(data)
    if document is None:
        return None
    hints = _hints(document.get("hints", {}))
    if "tensors" in document:
        return _header(document), hints
    folder = _mapping(document.get("folder", {}), "folder")
    index, configs, pickles = folder.get("index"), folder.get("configs", {}), folder.get("pickles", [])
    if not isinstance(pickles, list):
        raise _broken("pickles is no list")
    return Folder(
        None if index is None else _mapping(index, "index"),
        {name: _mapping(config, name) for name, config in _mapping(configs, "configs").items()},
        {name: _header(_mapping(part, name)) for name, part in _mapping(document["components"], "components").items()},
        pickles=tuple(str(name) for name in pickles),
    ), hints


def _document(data: bytes) -> dict[str, Any] | None:
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(HEADER_CAP + 1)
        except (OSError, EOFError, zlib.error):
            return None
    if len(data) > HEADER_CAP or names_too_much(data, 0, len(data)):
        return None
    try:
        document = json_text.loads(data)
    except ValueError:
        return None
    known = isinstance(document, dict) and ("tensors" in document or "components" in document)
    return document if known else None


def _header(document: Mapping[str, Any]) -> Header:
    tensors = _mapping(document.get("tensors"), "tensors")
    if len(tensors) > TENSOR_CAP:
        raise _broken(f"it has more than {TENSOR_CAP:,} tensors")
    metadata = _mapping(document.get("metadata") or {}, "metadata")
    form = document.get("format", "safetensors")
    if not isinstance(form, str) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken("format and the values of metadata must be text")
    return Header({name: _spec(name, value) for name, value in tensors.items()}, metadata, form)


def _spec(name: str, value: Any) -> TensorSpec:
    match value:
        case [str(dtype), list(shape)] if len(dtype) <= _DTYPE and all(
            type(n) is int and 0 <= n < 1 << 63 for n in shape
        ):
            return TensorSpec(dtype, tuple(shape))
    raise _broken(f"tensor {name[:80]!r} is not [dtype, [shape]]")


def _hints(value: Any) -> Hints:
    given = _mapping(value, "hints")
    card, sidecar = given.get("card"), given.get("sidecar")
    kind = _text(given, "kind")
    if kind not in (None, *TAKEN):
        raise _broken(f"kind is none of {', '.join(TAKEN)}")
    return Hints(
        repo_id=_text(given, "repo_id"),
        filename=_text(given, "filename"),
        card=None if card is None else _mapping(card, "card"),
        card_text=_text(given, "card_text"),
        sidecar=None if sidecar is None else _mapping(sidecar, "sidecar"),
        family=_text(given, "family"),
        kind=kind,
    )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if not isinstance(value, str | None):
        raise _broken(f"{name} is no text")
    return value


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _broken(f"{name} is no table")
    return value


def _broken(why: str) -> UnreadableModel:
    return UnreadableModel("bad_dump", f"This looks like a header dump, but {why}.")
