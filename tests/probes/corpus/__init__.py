"""Headers that trainers, exporters and published classes wrote, not this project's fixtures, and what each is: what the
probe is held against as a whole.

`MAKER.jsonl.xz` has a dump a line (probes/dump.py) with three fields more: `name`; `alike`, the families whose networks
have these very tensors, where there are several; and `expect`, fields of the report, each with the values that are right
(a list, where several are). `{"identified": false}` is for what no family here is: to name it would be a guess; with other
fields beside it, they hold where it is identified all the same.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from probes import Header, Hints, Report, json_text, probe
from probes.dump import parse_dump

FOLDER = Path(__file__).parent


class Verdict(StrEnum):
    """How good an answer is, the best first."""

    RIGHT = "right"
    OPEN = "open"
    """The tensors fit several families, and the answer names the right one among them."""
    UNTOLD = "untold"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    made_by: str
    header: Header
    hints: Hints
    expect: Mapping[str, Any]
    alike: Sequence[str]

    def judge(self, report: Report) -> Verdict:
        named = report.as_dict()
        identified = report.outcome == "identified"
        if identified and all(named[field] in _values(right) for field, right in self._fields.items()):
            return Verdict.RIGHT if self._fields else Verdict.WRONG
        if not identified and self.expect.get("identified") is False:
            return Verdict.RIGHT
        if self._among(report):
            return Verdict.OPEN
        return Verdict.WRONG if identified else Verdict.UNTOLD

    @property
    def _fields(self) -> Mapping[str, Any]:
        return {field: right for field, right in self.expect.items() if field != "identified"}

    def _among(self, report: Report) -> bool:
        """Whether the answer leaves open what the header leaves open, the right one included."""
        families, kinds = _values(self.expect.get("family")), _values(self.expect.get("kind"))
        return any(f"{family} {kind}" in report.candidates for family in families for kind in kinds)

    def answer(self, filename: str | None = None) -> Report:
        """What the probe says; with `filename`, of a file that came under this name alone."""
        return probe(self.header, self.hints if filename is None else Hints(filename=filename))


def makers() -> list[str]:
    return sorted(path.name.removesuffix(".jsonl.xz") for path in FOLDER.glob("*.jsonl.xz"))


def cases(maker: str) -> Iterator[Case]:
    """One maker's, one at a time: together they take gigabytes."""
    with lzma.open(FOLDER / f"{maker}.jsonl.xz") as lines:
        for line in lines:
            document = json_text.loads(line)
            dumped = parse_dump(line)
            assert dumped, document["name"]
            header, hints = dumped
            assert isinstance(header, Header)
            yield Case(
                document["name"], document["made_by"], header, hints, document["expect"], document.get("alike", ())
            )


def _values(right: Any) -> Sequence[Any]:
    return right if isinstance(right, list) else (right,)
