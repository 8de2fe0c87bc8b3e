"""The corpus: headers that others made. Each is named, or left open only where its tensors leave it open."""

from __future__ import annotations

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


@pytest.mark.parametrize("maker", corpus.makers())
def test_every_header_is_named_or_left_open_as_its_tensors_leave_it(maker: str) -> None:
    worse = []
    for case in corpus.cases(maker):
        report = case.answer()
        verdict = case.judge(report)
        due = Verdict.OPEN if len(case.alike) > 1 else Verdict.RIGHT
        if verdict not in (Verdict.RIGHT, due):
            worse.append((case.name, verdict, dict(case.expect), report.reason))
    assert not worse


@pytest.mark.parametrize("maker", corpus.makers())
def test_a_name_chooses_among_what_the_tensors_leave_open_and_never_beyond(maker: str) -> None:
    for case in corpus.cases(maker):
        bare, name = case.answer(filename=""), NAMES[crc32(case.name.encode()) % len(NAMES)]
        named = case.answer(filename=name)
        if named.outcome is Outcome.IDENTIFIED:
            assert named.family in _open(bare), (case.name, name, named.reason)
        else:
            assert _open(named) <= _open(bare), (case.name, name, named.reason)


def _open(report: Report) -> set[str | None]:
    """The families that an answer leaves open: its own, and of its candidates, which are `FAMILY KIND`."""
    own = {report.family} if report.outcome is Outcome.IDENTIFIED or report.family else set()
    return own | {family for family, _, _ in (candidate.rpartition(" ") for candidate in report.candidates) if family}
