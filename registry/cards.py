"""Model cards (README.md of a Hub repository): front matter, and what the prose recommends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_FRONT_MATTER = re.compile(r"\A\s*---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+|\s\|\s")
_NUMBER = r"(\d+(?:\.\d+)?)"
_TO = r"\s*(?:-|–|to|~|and)\s*"  # an en dash is what people write
_RANGE = rf"{_NUMBER}(?:{_TO}{_NUMBER})?"

# "weight of 0.8", "Recommended strength: 0.6-0.9", "scale around 1.0". Between the word and its number stand only filler words, so that
# "the weights were trained for 10 epochs" does not match.
_WEIGHT = re.compile(
    rf"\b(?:weight|strength|lora[ _]scale|scale)s?\b(?:\s+(?:of|is|at|around|about|between|from|to|=))*[\s:*_=~]*{_RANGE}(?!\s*%)",
    re.IGNORECASE,
)
# A number of steps or a guidance is taken only from a sentence that recommends: cards also tell how long training took.
_RECOMMENDS = re.compile(r"\b(?:recommend\w*|best|optimal|use|sampl\w+|inference)\b", re.IGNORECASE)
_STEPS = re.compile(rf"\b{_RANGE}\s*(?:inference |sampling )?steps\b", re.IGNORECASE)
_CFG = re.compile(
    rf"\b(?:cfg|guidance)(?:[ _-]?scale)?\b(?:\s+(?:of|is|at|around|about))*[\s:*_=~]*{_RANGE}", re.IGNORECASE
)
_SCHEDULER = re.compile(
    r"\b(LCM|TCD|DDIM|PNDM|Euler(?: a(?:ncestral)?)?|UniPC|DPM\+\+(?: 2M)?)\s*(?:scheduler|sampler)\b", re.IGNORECASE
)
_SCHEDULER_NAMES = {"dpm++": "dpmpp_2m", "dpm++ 2m": "dpmpp_2m", "euler a": "euler_a", "euler ancestral": "euler_a"}

MAX_WEIGHT = 2.0  # a "weight" above it is something else (kilograms, epochs): no published LoRA recommends more
MAX_STEPS = 150


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A value that somebody recommends. `quote` is the passage it was read from, `by` where that passage stands."""

    value: float | int | str
    by: str
    quote: str = ""
    minimum: float | None = None
    maximum: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "by": self.by, "quote": self.quote, "min": self.minimum, "max": self.maximum}


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


def parse_card(text: str | None) -> Card:
    """Never raises: a card is somebody's prose, and a broken front matter only means that it says nothing."""
    if not text:
        return Card()
    match = _FRONT_MATTER.match(text)
    front: Any = None
    if match:
        try:
            front = yaml.safe_load(match[1])
        except Exception:  # PyYAML's own, and those of what it makes: ValueError of a thirteenth month
            front = None  # people paste tabs and stray colons; the prose is still worth reading
        text = text[match.end() :]
    return Card(front=front if isinstance(front, dict) else {}, prose=_CODE.sub(" ", text))


def recommendations(card: Card) -> dict[str, Recommendation]:
    """`weight`, `steps`, `cfg`, `scheduler`: those that the prose states, the first statement of each."""
    found: dict[str, Recommendation] = {}
    for sentence in (s.strip(" *#|>-") for s in _SENTENCE_END.split(card.prose)):
        if weight := _numbers(_WEIGHT, sentence, MAX_WEIGHT, float):
            found.setdefault("weight", weight)
        if not _RECOMMENDS.search(sentence):
            continue
        if steps := _numbers(_STEPS, sentence, MAX_STEPS, int):
            found.setdefault("steps", steps)
        if cfg := _numbers(_CFG, sentence, 30.0, float):
            found.setdefault("cfg", cfg)
        if scheduler := _SCHEDULER.search(sentence):
            name = scheduler[1].lower()
            found.setdefault(
                "scheduler", Recommendation(_SCHEDULER_NAMES.get(name, name), "model card", sentence[:200])
            )
    return found


def _numbers(
    pattern: re.Pattern[str], sentence: str, limit: float, number: type[int] | type[float]
) -> Recommendation | None:
    """A single number, or a range whose middle is the value (rounded to the number's own precision)."""
    match = pattern.search(sentence)
    if match is None:
        return None
    low = float(match[1])
    high = float(match[2]) if match[2] else low
    if not (low <= high <= limit) or high == 0:
        return None
    value = round((low + high) / 2, 3) if number is float else int((low + high) // 2)
    bounds = (low, high) if high > low else (None, None)
    return Recommendation(value, "model card", sentence[:200], *bounds)
