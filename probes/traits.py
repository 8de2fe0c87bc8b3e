"""Accelerations (LCM and its kin): properties that no structure proves, weighed from names, cards and metadata.

Structure has two voices only: it says "laid out like a few-step distillation" or it vetoes. SDXL-Lightning, TCD, DMD2
and PCM have the same names and shapes as an LCM-LoRA, so a name has to decide; without one the answer stays open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from probes.adapter_names import DENOISER, LORA
from probes.adapters import Adapter, Module
from probes.claims import texts
from probes.report import Evidence, Hints, Trait
from probes.subject import Subject

ACCELERATIONS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z])", re.IGNORECASE)
    for name, pattern in {
        "lcm": r"lcm|latent[-_ ]consistency",
        "tcd": r"tcd|trajectory[-_ ]consistency",
        "hyper": r"hyper[-_ ]?sd(?:xl)?|hyper[-_ ]?flux|hyper",
        "lightning": r"lightning",
        "dmd2": r"dmd2?",
        "pcm": r"pcm|phased[-_ ]consistency",
        "flash": r"flash[-_ ](?:sdx?l?|sd3|pixart|diffusion)",
        "turbo": r"turbo",
    }.items()
}

LAYOUT = 0.3
"""What the distillation layout alone is worth: it fits eight known accelerations and an ordinary kohya LoCon."""
WEIGHTS: Mapping[str, float] = {
    "metadata": 0.6,     # a title or architecture that the author wrote into the file
    "repository": 0.6,   # "latent-consistency/lcm-lora-sdv1-5"
    "file name": 0.5,
    "card tags": 0.5,
    "card text": 0.45,   # prose also names what an author compares with or recommends beside it
}  # fmt: skip
DECIDED = 0.6
"""Confidence from which a trait counts as present: the layout and one written statement reach it, prose alone does
not."""
MARGIN = 0.1
"""By how much the best acceleration must lead the second to be the answer."""

_METADATA_KEYS = (
    "modelspec.title",
    "modelspec.architecture",
    "modelspec.tags",
    "modelspec.description",
    "ss_output_name",
)
_PROSE = 600
"""Characters of a card that are read: title and first paragraph say what the model *is*, later ones what it goes
with."""
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---\r?\n", re.DOTALL)

_TARGETS = (
    "to_q", "to_k", "to_v", "to_out_0", "proj_in", "proj_out", "ff_net_0_proj", "ff_net_2", "conv1", "conv2", "conv_shortcut",
    "downsamplers_0_conv", "upsamplers_0_conv", "time_emb_proj",
)  # fmt: skip
"""What diffusers' train_lcm_distill_lora scripts adapt: all of it, and nothing else."""
_REQUIRED = ("attn1_to_q", "attn2_to_k", "to_out_0", "ff_net_0_proj", "ff_net_2", "conv1", "conv2", "time_emb_proj")
_SD2_TEXT = 1024
"""Width of SD 2's text, whose projections are linear in diffusers."""
_TRAINING_KEYS = (
    "ss_network_module",
    "ss_learning_rate",
    "ss_num_train_images",
    "ss_tag_frequency",
    "ss_dataset_dirs",
    "ss_num_epochs",
)


@dataclass(frozen=True, slots=True)
class Weighed:
    """All traits with some support, the strongest first, and what structure said."""

    traits: tuple[Trait, ...]
    layout: Evidence
    strict: bool
    """The layout is that of the published files to the letter: rank 64 throughout, and written as diffusers' scripts do.

    They save their metadata's `format`, kohya's trainer does not; a file in kohya's names without is a LoCon of rank 64.
    """

    def best(self) -> Trait | None:
        return self.traits[0] if self.traits else None


def distillation_layout(adapter: Adapter) -> Evidence:
    """Whether an adapter is laid out as the few-step distillations are; `seen` names the first thing that rules it
    out."""

    def veto(seen: str, module: Module | None = None) -> Evidence:
        return Evidence(
            "distillation_layout", False, adapter.keys.get(module.path) if module else None, _EXPECTED, seen
        )

    modules = adapter.modules
    stranger = next((m for m in modules if m.component != DENOISER), None)
    if stranger is not None:
        return veto("a text encoder is adapted", stranger)
    stranger = next((m for m in modules if m.kind != LORA or "dora" in m.parts), None)
    if stranger is not None:
        return veto(f"a module of kind {stranger.kind}", stranger)
    stranger = next(
        (m for m in modules if not m.path.endswith(_TARGETS) or not m.path.startswith(("down_", "up_", "mid_"))), None
    )
    if stranger is not None:
        return veto(f"{stranger.path} is adapted", stranger)
    paths = [m.path for m in modules]
    lacking = next((ending for ending in _REQUIRED if not any(path.endswith(ending) for path in paths)), None)
    if lacking is not None:
        return veto(f"no {lacking} is adapted")
    convolution = next((m for m in modules if m.path.endswith("proj_in") and m.kernel), None)
    if convolution is not None and any(m.inner == _SD2_TEXT for m in adapter.cross_attention):
        return veto("projections that are convolutions, as kohya's own SD 2 has", convolution)
    if len(adapter.ranks) != 1:
        return veto(f"ranks {', '.join(map(str, sorted(adapter.ranks)))}")
    return Evidence(
        "distillation_layout", True, None, _EXPECTED, f"{len(modules)} modules of rank {next(iter(adapter.ranks))}"
    )


_EXPECTED = "all attention, feed-forward, convolution and time layers of the UNet at one rank, and nothing else"


def weigh(subject: Subject) -> Weighed:
    """Weighs every acceleration for an adapter. Confidence is one minus the product of the doubts (1 - weight) of what
    supports it."""
    layout = distillation_layout(subject.adapter)
    training = next((key for key in _TRAINING_KEYS if key in subject.metadata), None)
    if layout.ok and training is not None:
        layout = replace(layout, ok=False, key=training, seen="metadata of an ordinary training")
    found = []
    for name, pattern in ACCELERATIONS.items():
        said = [
            (source, hit) for source, text in _sayings(subject.metadata, subject.hints) if (hit := pattern.search(text))
        ]
        evidence = []
        doubt = 1.0
        for source in dict.fromkeys(source for source, _ in said):
            hit = next(h for s, h in said if s == source)
            doubt *= 1 - WEIGHTS[source]
            evidence.append(Evidence("named", True, source, name, hit.group()))
        if not evidence:
            continue
        if layout.ok:
            doubt *= 1 - LAYOUT
        found.append(Trait(name, round(1 - doubt, 3), (*evidence, layout)))
    if layout.ok and not found:
        found.append(Trait("few-step distillation layout", LAYOUT, (layout,)))
    scripted = set(subject.metadata) == {"format"} or not (subject.adapter.kohya_names or subject.metadata)
    strict = layout.ok and subject.adapter.ranks == {64} and scripted
    return Weighed(tuple(sorted(found, key=lambda t: -t.confidence)), layout, strict)


def _sayings(metadata: Mapping[str, str], hints: Hints) -> Iterator[tuple[str, str]]:
    for key in _METADATA_KEYS:
        if metadata.get(key):
            yield "metadata", metadata[key]
    if hints.repo_id:
        yield "repository", hints.repo_id
    if hints.filename:
        yield "file name", hints.filename
    for tag in texts((hints.card or {}).get("tags")):
        yield "card tags", tag
    if hints.card_text:
        yield "card text", prose(hints.card_text)


def prose(card: str) -> str:
    """What is read of a card: its beginning, after the front matter."""
    return _FRONT_MATTER.sub("", card)[:_PROSE]
