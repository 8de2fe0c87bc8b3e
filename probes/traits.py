"""Accelerations (LCM and its kin): properties that no structure proves, weighed from names, cards and metadata.

Structure has two voices only: it says "laid out like a few-step distillation" or it vetoes. SDXL-Lightning, TCD, DMD2
and PCM have the same names and shapes as an LCM-LoRA, so a name has to decide; without one the answer stays open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from probes.adapter_names import DENOISER, LORA
from probes.adapters import Adapter, Module
from probes.claims import READ, SIDECAR_KEYS, texts
from probes.report import USER, Evidence, Hints, Kind, Trait
from probes.subject import Subject

_STEPS = r"\d{1,2}[-_ ]?steps?"
_NAMES: Mapping[str, str] = {
    "lcm": r"lcm|latent[-_ ]consistency|vegart",  # Segmind-VegaRT is the LCM-LoRA for Segmind Vega
    "tcd": r"tcd|trajectory[-_ ]consistency",
    "hyper": rf"hyper[-_ ]?(?:sd(?:xl)?|flux|{_STEPS})|{_STEPS}[-_ ]hyper",  # alone it is an adjective
    "lightning": r"lightning",
    "dmd2": r"dmd2?",
    "pcm": r"pcm|phased[-_ ]consistency",
    "flash": r"flash[-_ ](?:sdx?l?|sd3|pixart|diffusion)",
    "turbo": r"turbo",
}
_BESIDE = (
    r"(?:with|without|for|than|unlike|not|non?|base(?:[-_ ]model)?)[-_ :]+(?:(?:the|an?|any|sd|sdxl|xl|flux)[-_ ]+)?"
)
"""Words before what a model goes with, or is compared to, and is not."""
_BASES: Mapping[str, str] = {
    "lightning": r"(?<!sd[-_ ])xl[-_ ]+",  # DreamShaper XL Lightning; SDXL-Lightning is a LoRA
    "turbo": r"(?:z[-_ ]?image|(?:sd[-_ ]?)?xl|sd|large)[-_ ]+",
}
"""What stands before an acceleration in the names of checkpoints that carry it, and that LoRAs are made for."""


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z0-9]){pattern}(?![a-z])", re.IGNORECASE)


ACCELERATIONS: Mapping[str, re.Pattern[str]] = {name: _compiled(f"(?:{said})") for name, said in _NAMES.items()}
TELLINGS: Mapping[str, re.Pattern[str]] = {
    name: _compiled(rf"(?:(?P<beside>{_BESIDE})|(?P<base>{_BASES.get(name, '(?!)')}))?(?:{said})")
    for name, said in _NAMES.items()
}
"""The same with the words before that make them another model's."""

LAYOUT = 0.3
"""What the distillation layout alone is worth: it fits eight known accelerations and an ordinary kohya LoCon."""
WEIGHTS: Mapping[str, float] = {
    USER: 1.0,           # who knows what he has
    "metadata": 0.6,     # a title or architecture that the author wrote into the file
    "repository": 0.6,   # "latent-consistency/lcm-lora-sdv1-5"
    "file name": 0.5,
    "card tags": 0.5,
    "sidecar": 0.5,          # Civitai's base models: "SDXL 1.0 LCM"
    "card title": 0.45,
    "card text": 0.4,    # prose also names what an author compares with or recommends beside it
}  # fmt: skip
DECIDED = 0.6
"""Confidence from which a trait counts as present: the layout and one written statement reach it, prose alone does
not."""
UNDECIDED = 0.55
"""The most that words come to where structure speaks against them, or where they are no statement."""
_STATEMENTS = frozenset({USER, "metadata", "repository", "card tags"})
"""Where a LoRA that is laid out like the published ones, but not to the letter, has to be said to be one."""
_LAID_OUT_OTHERWISE = frozenset({"flash"})
"""Published without the layout: Flash Diffusion adapts attention and feed-forward alone."""
_ORDINARY = frozenset({"lightning", "turbo"})
"""Words that styles and subjects have in their names, too. Of a LoRA without the layout they count where a name says nothing
beside them and the model's: FLUX.1-Turbo-Alpha, Qwen-Image-Edit-2511-Lightning."""
_NOTHING_ELSE = re.compile(
    r"(?:flux|qwen|wan|sd|stable[-_ ]?diffusion|hunyuan|ltx|chroma|hidream)"
    r"(?:[-_. ]?(?:\d+[-_ ]?steps?|v?\d[^\W_]*|image|video|edit|dev|schnell|[ti]2[iv]|a?\d+b|large|medium|xl))*+"
    r"[-_. ]+(?:turbo|lightning)"
    r"(?:[-_. ]+(?:alpha|beta|preview|loras?|v?\d[^\W_]*|steps?|rank[-_ ]?\d+|bf16|fp\d+|comfy(?:ui)?|distill(?:ed)?))*+",
    re.IGNORECASE,
)
"""Whose words are not given back once they are taken: a name that can be taken in many ways would take forever."""
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
_TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)

_TARGETS = (
    "to_q", "to_k", "to_v", "to_out_0", "proj_in", "proj_out", "ff_net_0_proj", "ff_net_2", "conv1", "conv2", "conv_shortcut",
    "downsamplers_0_conv", "upsamplers_0_conv", "time_emb_proj",
)  # fmt: skip
"""What diffusers' train_lcm_distill_lora scripts adapt: all of it, and nothing else."""
_RANKS = frozenset({64})
"""Rank of the published few-step distillations."""
_SCRIPTED = frozenset({"format", "lora_adapter_metadata"})
"""What diffusers' scripts write beside the tensors, the latter since 0.35."""
_UNET = ("down_", "up_", "mid_", "input_blocks_", "middle_block_", "output_blocks_")
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
    published = layout.ok and subject.adapter.ranks == _RANKS
    vetoed = not layout.ok and all(m.path.startswith(_UNET) for m in subject.adapter.denoiser)
    kind = subject.hints.kind
    found = []
    for name in ACCELERATIONS:
        said = _said(name, subject, published)
        if name == "lcm" and layout.ok and kind == Kind.LCM_LORA:
            said = {USER: kind, **said}
        if not said:
            continue
        doubt = math.prod(1 - WEIGHTS[source] for source in said) * (1 - LAYOUT if layout.ok else 1)
        denied = name == "lcm" and kind == Kind.LORA
        against = denied or (vetoed and name not in _LAID_OUT_OTHERWISE)
        unstated = layout.ok and not published and not _STATEMENTS & said.keys()
        in_passing = not layout.ok and name in _ORDINARY and not _named_so(subject)
        confidence = min(1 - doubt, UNDECIDED if against or unstated or in_passing else 1)
        evidence = [Evidence("named", True, source, name, words) for source, words in said.items()]
        found.append(Trait(name, round(confidence, 3), (*evidence, layout)))
    if layout.ok and not found:
        found.append(Trait("few-step distillation layout", LAYOUT, (layout,)))
    keys = subject.metadata.keys()
    scripted = {"format"} <= keys <= _SCRIPTED if keys else not subject.adapter.kohya_names
    return Weighed(tuple(sorted(found, key=lambda t: -t.confidence)), layout, published and scripted)


def _named_so(subject: Subject) -> bool:
    """Whether a name of the model is that of its base and of an acceleration, and nothing else."""
    sources = ("metadata", "repository", "file name")
    return any(
        source in sources and _NOTHING_ELSE.fullmatch(text.removesuffix(".safetensors"))
        for source, text in _sayings(subject.metadata, subject.hints)
    )


def _said(name: str, subject: Subject, published: bool) -> Mapping[str, str]:
    """Source -> the words by which it says that the model is this acceleration. What its base is called is none of them,
    but where the layout is that of the published accelerations: those are called so, too."""
    bases = texts((subject.hints.card or {}).get("base_model"))
    if not published and any(ACCELERATIONS[name].search(base, 0, READ) for base in bases):
        return {}
    said: dict[str, str] = {}
    for source, text in _sayings(subject.metadata, subject.hints):
        for hit in TELLINGS[name].finditer(text, 0, READ):
            if hit["beside"] is None and (published or hit["base"] is None):
                said.setdefault(source, hit.group())
    sidecar = subject.hints.sidecar or {}
    for base in (text for key in SIDECAR_KEYS for text in texts(sidecar.get(key)) if published):
        if found := ACCELERATIONS[name].search(base, 0, READ):
            said.setdefault("sidecar", found.group())
    return said


def _sayings(metadata: Mapping[str, str], hints: Hints) -> Iterator[tuple[str, str]]:
    for key in _METADATA_KEYS:
        if metadata.get(key):
            yield "metadata", metadata[key]
    if hints.repo_id:
        yield "repository", hints.repo_id.rpartition("/")[2]  # its owner may be called anything
    if hints.filename:
        yield "file name", hints.filename
    for tag in texts((hints.card or {}).get("tags")):
        yield "card tags", tag
    if hints.card_text:
        yield from zip(("card title", "card text"), prose(hints.card_text), strict=True)


def prose(card: str) -> tuple[str, str]:
    """What is read of a card: of its beginning, after the front matter, the title and the rest."""
    beginning = _FRONT_MATTER.sub("", card)[:_PROSE]
    title = _TITLE.search(beginning)
    return (title[1], beginning[: title.start()] + beginning[title.end() :]) if title else ("", beginning)
