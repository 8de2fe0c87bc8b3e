"""What other programs leave beside a model file, or a service tells of it: each kind of record, read into what is said of the model.

Everything is somebody's word: a value of another type, an empty one, or a number that cannot be meant is passed over.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from probes.containers.folder import ADAPTER_INDEX
from registry.cards import MAX_WEIGHT, Card, recommendations
from registry.models import BESIDE, Digest, Statement, Trigger

LIMIT = 4 << 20  # bytes; the longest Civitai answers are some hundred kB
PREVIEWS = (".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")

Record = Mapping[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """By one record."""

    statements: tuple[Statement, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    claims: tuple[Digest, ...] = ()


def of_automatic1111(record: Record, by: str) -> Said:
    """`<stem>.json` of A1111 and Forge: "preferred weight" (0: unset), "activation text", "description", "sd version"."""
    weight = _weight("weight", record.get("preferred weight"), by, "preferred weight")
    texts = (_text("description", record.get("description"), by), _text("base_model", record.get("sd version"), by))
    known = tuple(s for s in (weight, *texts) if s is not None and s.value != "Unknown")
    return Said(known, _words(record.get("activation text"), by))


def of_lora_manager(record: Record, by: str) -> Said:
    """`<stem>.metadata.json` of ComfyUI-Lora-Manager: "usage_tips" is a JSON text with strength, strength_min, strength_max."""
    tips = _object(record.get("usage_tips"))
    low, high = _number(tips.get("strength_min")), _number(tips.get("strength_max"))
    weight = _weight("weight", tips.get("strength"), by, "usage_tips", low, high)
    texts = (_text("title", record.get("model_name"), by), _text("base_model", record.get("base_model"), by))
    said = of_civitai(civitai, by) if isinstance(civitai := record.get("civitai"), dict) else Said()
    statements = tuple(s for s in (weight, *texts) if s is not None)
    return Said((*statements, *said.statements), said.triggers, _claims({"SHA256": record.get("sha256")}, by))


def of_civitai(record: Record, by: str) -> Said:
    """Civitai's answer about a version, which Civitai Helper keeps as `<stem>.civitai.info`."""
    model = _object(record.get("model"))
    prose = record.get("description")
    weight = recommendations(Card(prose=_plain(prose)), by).get("weight") if isinstance(prose, str) else None
    found = (
        weight,
        _text("title", model.get("name"), by),
        _text("version", record.get("name"), by),
        _text("base_model", record.get("baseModel"), by),
        _text("author", _object(record.get("creator")).get("username"), by),
        _text("description", record.get("description"), by),
        _text("page", _page(record), by),
        _text("preview", _tamest(record.get("images")), by),
    )
    words = record.get("trainedWords")
    triggers = _words(", ".join(w for w in words if isinstance(w, str)), by) if isinstance(words, list) else ()
    files = (
        [f for f in record.get("files") or [] if isinstance(f, dict)] if isinstance(record.get("files"), list) else []
    )
    hashes = _object(files[0].get("hashes")) if len(files) == 1 else {}  # of several, nobody says which this one is
    return Said(tuple(s for s in found if s is not None), triggers, _claims(hashes, by))


def _page(record: Record) -> str | None:
    """Of the version, for people."""
    model, version = record.get("modelId"), record.get("id")
    is_known = isinstance(model, int) and isinstance(version, int)
    return f"https://civitai.com/models/{model}?modelVersionId={version}" if is_known else None


def _tamest(images: object) -> str | None:
    """Address of the picture that can be shown to most people: the first of the lowest `nsfwLevel` (1: to everyone); no film."""
    shown = [i for i in images if isinstance(i, dict)] if isinstance(images, list) else []
    stills = [i for i in shown if i.get("type") in (None, "image")]
    found = min(stills, key=lambda i: level if isinstance(level := i.get("nsfwLevel"), int) else 0, default={})
    return found.get("url")


def _plain(html: str) -> str:
    """Its words; a paragraph or line each."""
    return unescape(re.sub(r"<[^>]+>", "\n", html))


def of_stability_matrix(record: Record, by: str) -> Said:
    """`<stem>.cm-info.json` of Stability Matrix."""
    found = (
        _text("title", record.get("ModelName"), by),
        _text("version", record.get("VersionName"), by),
        _text("base_model", record.get("BaseModel"), by),
        _text("description", record.get("ModelDescription"), by),
    )
    words = record.get("TrainedWords")
    triggers = _words(", ".join(w for w in words if isinstance(w, str)), by) if isinstance(words, list) else ()
    return Said(tuple(s for s in found if s is not None), triggers, _claims(_object(record.get("Hashes")), by))


# Best first, as people trust them: what the user typed into a program, then what a program took from a service.
KINDS: tuple[tuple[str, str, Callable[[Record, str], Said]], ...] = (
    (".json", "A1111 sidecar", of_automatic1111),
    (".metadata.json", "LoRA Manager sidecar", of_lora_manager),
    (".civitai.info", "Civitai sidecar", of_civitai),
    (".cm-info.json", "Stability Matrix sidecar", of_stability_matrix),
)


def read(stem: str, open_record: Callable[[str], bytes | None]) -> list[Said]:
    """What the records beside a model say, best first. `stem`: its path without the file's ending; a folder's whole. `open_record` gives a
    record's bytes, None where there is none."""
    found = []
    for ending, by, understand in KINDS:
        if body := open_record(f"{stem}{ending}"):
            found.append(_understood(understand, body, by))
    return found


def _understood(understand: Callable[[Record, str], Said], body: bytes, by: str) -> Said:
    """Nothing, where a stranger's record is such that its reader fails: no install and no scan ends for it."""
    try:
        return understand(_object(body), by)
    except Exception:
        _log.exception("a %s cannot be understood", by)
        return Said()


def read_beside(path: Path, may_read: Callable[[Path], bool] = lambda _: True) -> list[Said]:
    """The same, on disk, and PEFT's configuration in a folder; a record that cannot or may not be read says nothing."""

    def open_record(name: str) -> bytes | None:
        record = Path(name)
        try:
            is_record = record.is_file() and record.stat().st_size <= LIMIT and may_read(record)
            return record.read_bytes() if is_record else None
        except OSError:
            return None

    stem = path if path.is_dir() else path.with_suffix("")
    found = read(str(stem), open_record)
    if config := open_record(str(path / ADAPTER_INDEX)):
        found.append(_understood(of_peft, config, ADAPTER_INDEX))
    preview = next((p for ending in PREVIEWS if (p := Path(f"{stem}{ending}")).is_file() and may_read(p)), None)
    if preview is not None:
        found.append(Said((Statement("preview", str(preview), BESIDE),)))
    return found


def base_models(said: Iterable[Said]) -> Mapping[str, list[str]] | None:
    """What records call the model's base, for Hints.sidecar; None: they do not."""
    found = [statement.value for each in said for statement in each.statements if statement.name == "base_model"]
    return {"base_model": found} if found else None


def of_peft(record: Record, by: str) -> Said:
    """adapter_config.json of a PEFT folder, as far as people want to read it."""
    base = _text("base_model", record.get("base_model_name_or_path"), by)
    return Said((base,)) if base else Said()


def _object(value: object) -> Mapping[str, Any]:
    """A JSON object, itself or as text; anything else is empty."""
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None
    return number if number is not None and 0 < number <= MAX_WEIGHT else None


def _weight(
    name: str, value: object, by: str, key: str, low: float | None = None, high: float | None = None
) -> Statement | None:
    number = _number(value)
    if number is None and low is not None and high is not None and low <= high:
        number = round((low + high) / 2, 3)
    return None if number is None else Statement(name, number, by, f"{key}: {value or f'{low}-{high}'}", low, high)


def _text(name: str, value: object, by: str) -> Statement | None:
    return Statement(name, value.strip(), by) if isinstance(value, str) and value.strip() else None


def _words(value: object, by: str) -> tuple[Trigger, ...]:
    words = (word.strip() for word in value.split(",")) if isinstance(value, str) else ()
    return tuple(Trigger(word, by) for word in dict.fromkeys(words) if word)


_ALGORITHMS = {"SHA256": "sha256", "BLAKE3": "blake3", "AutoV3": "autov3", "AutoV1": "autov1", "CRC32": "crc32"}


def _claims(hashes: Mapping[str, Any], by: str) -> tuple[Digest, ...]:
    values = ((_ALGORITHMS[k], v.lower()) for k, v in hashes.items() if k in _ALGORITHMS and isinstance(v, str) and v)
    return tuple(Digest(algorithm, value, by) for algorithm, value in values if set(value) <= set("0123456789abcdef"))
