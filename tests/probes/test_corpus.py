"""The corpus: headers that others made. Each is named, or left open only where its tensors leave it open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import pytest

from probes import Outcome, Report
from tests.probes import corpus
from tests.probes.corpus import Verdict

pytestmark = pytest.mark.slow  # 3,000 headers

NAMES = (
    "sd15_detail.safetensors", "hyper_detail_xl.safetensors", "SDXL_pony_style_v3.safetensors", "flux_style_v2.safetensors",
    "sd3_art.safetensors", "wan_girl.safetensors", "qwen_image_style.safetensors", "zimage_portrait.safetensors",
    "kolors_palette_style.safetensors", "chroma_key_bg.safetensors", "ltx_motion.safetensors", "lcm_style.safetensors",
    "my-turbo-style.safetensors", "lightning-bolt-style.safetensors", "pytorch_lora_weights.safetensors",
)  # fmt: skip
"""What people call files, whatever is in them."""


class Answered(NamedTuple):
    """What the probe says of a header with what it came with, alone, and under one of NAMES."""

    case: str
    alike: Sequence[str]
    expect: Mapping[str, Any]
    verdict: Verdict
    report: Report
    bare: Report
    name: str
    named: Report


@pytest.fixture(scope="module", params=corpus.makers())
def answers(request: pytest.FixtureRequest) -> list[Answered]:
    """Of one maker's headers. To read them takes longer than to answer, and they are large: each is read once, and none is kept."""
    found = []
    for case in corpus.cases(request.param):
        report, name = case.answer(), NAMES[crc32(case.name.encode()) % len(NAMES)]
        bare, named = case.answer(filename=""), case.answer(filename=name)
        found.append(Answered(case.name, case.alike, case.expect, case.judge(report), report, bare, name, named))
    return found


def test_every_header_is_named_or_left_open_as_its_tensors_leave_it(answers: list[Answered]) -> None:
    worse = []
    for answer in answers:
        due = Verdict.OPEN if len(answer.alike) > 1 else Verdict.RIGHT
        if answer.verdict not in (Verdict.RIGHT, due):
            worse.append((answer.case, answer.verdict, dict(answer.expect), answer.report.reason))
    assert not worse


def test_a_name_chooses_among_what_the_tensors_leave_open_and_never_beyond(answers: list[Answered]) -> None:
    for case, *_, bare, name, named in answers:
        if named.outcome is Outcome.IDENTIFIED:
            assert named.family in _open(bare), (case, name, named.reason)
        else:
            assert _open(named) <= _open(bare), (case, name, named.reason)


def _open(report: Report) -> set[str | None]:
    """The families that an answer leaves open: its own, and of its candidates, which are `FAMILY KIND`."""
    own = {report.family} if report.outcome is Outcome.IDENTIFIED or report.family else set()
    return own | {family for family, _, _ in (candidate.rpartition(" ") for candidate in report.candidates) if family}
