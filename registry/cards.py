"""Model cards (README.md of a Hub repository): front matter, and what the prose recommends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from registry.models import Statement

_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?)\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_MAX_FRONT = 64 * 1024  # characters; the longest on the Hub, with every widget and metric, are a quarter of it
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+|\s\|\s")
_NUMBER = r"(?<![a-z0-9.])(?:0,\d+|\d+(?:\.\d+)?|\.\d+)(?!\d|\.\d|\s*%|x\b)"
# "0.6-0.9", "4 to 8", "0.5 up to 1", "between 1 and 2"; the en dash is what people write. Elsewhere `and` begins another statement.
_RANGE = (
    rf"(?:between\s+(?P<from>{_NUMBER})\s+and\s+(?P<until>{_NUMBER})"
    rf"|(?:between\s+)?(?P<low>{_NUMBER})(?:\s*(?:-|–|(?:up\s+)?to|~)\s*(?P<high>{_NUMBER}))?)"
)
_LINK = r"[\s_-]+"

# "weight of 0.8", "Recommended strength: 0.6-0.9", "guidance scale around 1.0": the whole noun phrase, and which it is tells what the
# number is of. Between them stand only filler words, so that "the weights were trained for 10 epochs" does not match.
_AMOUNT = re.compile(
    r"\b(?:"
    r"(?P<other>(?:denois\w*|noise|img2img|image|control[ -]?net|(?:ip|t2i)[ -]?adapter|conditioning|negative|clip|text[ _-]encoder)"
    rf"(?:{_LINK}\w+)?{_LINK}(?:weight|strength|scale)s?)"
    rf"|(?P<cfg>(?:cfg|guidance)(?:{_LINK}(?:guidance|scale|strength|weight|value))*)"
    rf"|(?P<weight>(?:lora{_LINK})?(?:weight|strength|scale)s?)"
    rf")\b(?:\s+(?:of|is|at|around|about|anywhere|from|to|=)\b)*[\s:*_=~]*(?:\((?=[\d.,\s~–-]*\)))?{_RANGE}",
    re.IGNORECASE,
)
# "0.8 strength", "0.6-0.9 weight", "<lora:name:0.8>": taken only from a sentence that recommends, too.
_AMOUNT_FIRST = re.compile(
    rf"(?:{_RANGE}\s+(?:lora\s+)?(?P<noun>weight|strength)s?\b(?!\s+decay|\s*:)|<lora:[^<>:]+:(?P<tag>{_NUMBER})>)",
    re.IGNORECASE,
)
# A number of steps or a guidance is taken only from a sentence that recommends: cards also tell how long training took.
_RECOMMENDS = re.compile(r"\b(?:recommend\w*|suggest\w*|best|optimal|use|sampl\w+|inference)\b", re.IGNORECASE)
_STEPS = re.compile(rf"{_RANGE}\s*(?:inference |sampling )?steps\b", re.IGNORECASE)
_SCHEDULER = re.compile(
    r"\b(LCM|TCD|DDIM|PNDM|Euler(?: a(?:ncestral)?)?|UniPC|DPM\+\+(?: 2M)?)\s*(?:scheduler|sampler)\b", re.IGNORECASE
)
_SCHEDULER_NAMES = {"dpm++": "dpmpp_2m", "dpm++ 2m": "dpmpp_2m", "euler a": "euler_a", "euler ancestral": "euler_a"}

MAX_WEIGHT = 2.0  # a "weight" above it is something else (kilograms, epochs): no published LoRA recommends more
MAX_STEPS = 150
MAX_CFG = 30.0


@dataclass(frozen=True, slots=True)
class Card:
    """`front` is the YAML front matter, `prose` the rest without code."""

    front: Mapping[str, Any] = field(default_factory=dict)
    prose: str = ""

    @property
    def base_model(self) -> str | None:
        value = self.front.get("base_model")
        first = value[0] if isinstance(value, list) and value else value
        return first if isinstance(first, str) else None

    @property
    def trigger(self) -> str | None:
        value = self.front.get("instance_prompt")
        return value.strip() if isinstance(value, str) and value.strip().lower() not in {"", "none", "null"} else None


class _Texts(yaml.BaseLoader):
    """Every scalar is its text, or None: nothing is made of it, so no date is wrong and no number has a million digits.

    Aliases are refused: a few hundred bytes of them unfold to more than any memory holds.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


_NULL = "tag:yaml.org,2002:null"
_Texts.add_implicit_resolver(_NULL, re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Texts.add_constructor(_NULL, lambda *_: None)


def parse_card(text: str | None) -> Card:
    """Never raises: a card is somebody's prose, and a broken front matter only means that it says nothing."""
    text = (text or "").lstrip()
    front: Any = None
    if match := _FRONT_MATTER.match(text):
        text = text[match.end() :]
        if len(match[1]) <= _MAX_FRONT:
            # People paste tabs and stray colons, and strangers nest without end; the prose is still worth reading.
            with suppress(yaml.YAMLError, RecursionError):
                front = yaml.load(match[1], Loader=_Texts)
    return Card(front=front if isinstance(front, dict) else {}, prose=_CODE.sub(" ", text))


def recommendations(card: Card, by: str = "model card") -> dict[str, Statement]:
    """`weight`, `steps`, `cfg`, `scheduler`: those that the prose states, the first statement of each."""
    found: dict[str, Statement] = {}
    for sentence in (s.lstrip(" *#|>-").rstrip(" *#|-") for s in _SENTENCE_END.split(card.prose)):
        for name, value in _stated(sentence):
            found.setdefault(name, Statement(name, value.value, by, sentence[:200], value.minimum, value.maximum))
    return found


class _Value(NamedTuple):
    value: float | int | str
    minimum: float | None = None
    maximum: float | None = None


def _stated(sentence: str) -> Iterator[tuple[str, _Value]]:
    recommends = _RECOMMENDS.search(sentence) is not None
    for match in _AMOUNT.finditer(sentence):
        if match["weight"] and (weight := _number(match, MAX_WEIGHT)):
            yield "weight", weight
        elif match["cfg"] and recommends and (cfg := _number(match, MAX_CFG)):
            yield "cfg", cfg
    if not recommends:
        return
    for match in _AMOUNT_FIRST.finditer(sentence):
        if weight := _number(match, MAX_WEIGHT):
            yield "weight", weight
    for match in _STEPS.finditer(sentence):
        if steps := _number(match, MAX_STEPS):
            yield "steps", steps._replace(value=int(steps.value))
    if scheduler := _SCHEDULER.search(sentence):
        name = scheduler[1].lower()
        yield "scheduler", _Value(_SCHEDULER_NAMES.get(name, name))


def _number(match: re.Match[str], limit: float) -> _Value | None:
    """A single number, or a range whose middle is the value. None: it cannot be meant."""
    given = match.groupdict()
    first = given.get("tag") or match["from"] or match["low"]
    low, high = (float(text.replace(",", ".")) for text in (first, match["until"] or match["high"] or first))
    if not (low <= high <= limit) or high == 0:
        return None
    return _Value(round((low + high) / 2, 3), *((low, high) if high > low else ()))
