"""Rules on what an adapter adapts: which part of a pipeline, which layers, of which widths."""

from __future__ import annotations

import re
from dataclasses import dataclass

from probes.adapter_names import CONTROL, DENOISER, LANGUAGE, LOHA, LOKR, LORA, OFT, TEXT
from probes.adapters import Module
from probes.fitting import Architecture, fitting, foreign, left_out
from probes.report import Evidence
from probes.subject import Subject
from probes.wording import counted


@dataclass(frozen=True, slots=True)
class AdapterOf:
    """The file is an adapter and nothing else, and adapts `part`: the denoiser (with text encoders or without), text
    encoders alone, or a language model."""

    part: str = DENOISER

    def check(self, subject: Subject) -> Evidence:
        adapter = subject.adapter
        if not adapter.modules or adapter.others:
            seen = (
                f"{counted(len(adapter.modules), 'adapter module')} and {counted(len(adapter.others), 'other tensor')}"
            )
            return Evidence(
                "adapter", False, adapter.others[0] if adapter.others else None, "adapter modules alone", seen
            )
        main = next((part for part in (DENOISER, LANGUAGE, CONTROL) if part in adapter.components), TEXT)
        seen = ", ".join(sorted(adapter.components))
        return Evidence("adapter", main == self.part, None, f"adapter of the {self.part}", seen)


@dataclass(frozen=True, slots=True)
class CrossAttention:
    """The adapted cross-attention layers take in text of this width; `width` None: none of them is adapted."""

    width: int | None

    def check(self, subject: Subject) -> Evidence:
        modules = subject.adapter.cross_attention
        key = subject.adapter.keys[modules[0].path] if modules else None
        seen = sorted({m.inner for m in modules if m.inner is not None})
        expected = [] if self.width is None else [self.width]
        return Evidence(
            "cross_attention",
            seen == expected,
            key,
            ", ".join(map(str, expected)) or "none",
            ", ".join(map(str, seen)) or "none",
        )


@dataclass(frozen=True, slots=True)
class AdapterWidth:
    """The adapted layer at `path` takes in this many values."""

    path: str
    width: int

    def check(self, subject: Subject) -> Evidence:
        module = next((m for m in subject.adapter.denoiser if m.path == self.path), None)
        seen = module.inner if module else None
        return Evidence("width", seen == self.width, self.path, str(self.width), str(seen) if module else "not adapted")


@dataclass(frozen=True, slots=True)
class Paths:
    """Every denoiser module has a path of this grammar (a regular expression over the flattened path)."""

    name: str
    pattern: str

    def check(self, subject: Subject) -> Evidence:
        stranger = foreign(self.pattern, subject.adapter.paths)
        return Evidence(
            "paths", stranger is None, stranger, f"module names of {self.name}", "foreign" if stranger else "all fit"
        )


@dataclass(frozen=True, slots=True)
class Adapts:
    """Some denoiser module has a path that begins so (a regular expression over the flattened path)."""

    what: str
    pattern: str

    def check(self, subject: Subject) -> Evidence:
        fits = re.compile(self.pattern).match
        found = next((path for path in subject.adapter.paths if fits(path)), None)
        return Evidence("adapts", found is not None, found, self.what, "adapted" if found else "not adapted")


@dataclass(frozen=True, slots=True)
class Fits:
    """Every denoiser module is a layer of this architecture, with its widths."""

    architecture: Architecture

    def check(self, subject: Subject) -> Evidence:
        name, adapter = self.architecture.name, subject.adapter
        modules = adapter.layers
        if not modules:
            return Evidence("fits", False, None, f"layers of {name}", "no layer is adapted")
        found = fitting(self.architecture, subject.adapter.paths)
        known = len(found.inners)
        if adapter.inners[:known] != found.inners or adapter.outers[:known] != found.outers:
            for module, inner, outer in zip(modules, found.inners, found.outers, strict=False):
                if (
                    not _agrees(module.inner, inner, module)
                    or not _agrees(module.outer, outer, module)
                    or module.either not in (None, inner, outer)
                ):
                    return Evidence("fits", False, module.path, f"{inner} -> {outer}", module.widths)
        if found.stranger is not None:
            return Evidence("fits", False, found.stranger, f"a layer of {name}", "no such layer")
        return Evidence("fits", True, None, f"layers of {name}", f"{len(modules)} modules fit")


def _agrees(seen: int | None, width: int, module: Module) -> bool:
    """LoHa, LoKr, PEFT's OFT and whatever ComfyUI trains flatten a convolution's kernel into its input width: the 3x3 of UNets, and the
    2x2 patches of latents that transformers embed."""
    if seen is None or seen == width:
        return True
    if width is None or module.kernel or module.kind not in _FLATTENED:
        return False
    return seen == 9 * width or (seen == 4 * width and width <= _LATENT)


_FLATTENED = frozenset({LORA, LOHA, LOKR, OFT})
_LATENT = 128
"""Channels of the deepest latents."""


@dataclass(frozen=True, slots=True)
class Exceeds:
    """Some module is no layer of this smaller network, whose layers the larger one has too."""

    architecture: Architecture

    def check(self, subject: Subject) -> Evidence:
        fit = Fits(self.architecture).check(subject)
        return Evidence("beyond", not fit.ok, fit.key, f"more than {self.architecture.name} has", fit.seen)


@dataclass(frozen=True, slots=True)
class Covers:
    """For each sort of layer that the adapter touches (`attn2_to_k`, ...), it touches every one that the architecture
    has."""

    architecture: Architecture

    def check(self, subject: Subject) -> Evidence:
        name = self.architecture.name
        missing = left_out(self.architecture, subject.adapter.paths)
        return Evidence(
            "covers", missing is None, missing, f"every such layer of {name}", "left out" if missing else "all of them"
        )


@dataclass(frozen=True, slots=True)
class LeavesOut:
    """The adapter touches some layers of a sort and not others: of a few blocks, it says nothing of how many there are."""

    architecture: Architecture

    def check(self, subject: Subject) -> Evidence:
        covers = Covers(self.architecture).check(subject)
        return Evidence(
            "leaves_out", not covers.ok, covers.key, f"every such layer of {self.architecture.name}", covers.seen
        )


@dataclass(frozen=True, slots=True)
class Encoders:
    """The adapted text encoders have the widths of this family's. `widths`: component (see adapter_names.PREFIXES) ->
    width."""

    widths: tuple[tuple[str, int], ...]

    def __init__(self, **widths: int) -> None:
        object.__setattr__(self, "widths", tuple(widths.items()))

    def check(self, subject: Subject) -> Evidence:
        known = dict(self.widths)
        for module in subject.adapter.modules:
            component = module.component
            if component == DENOISER:
                continue
            if component not in known:
                expected = f"one of {', '.join(known) or 'none'}"
                return Evidence("text_encoder", False, module.path, expected, component)
            seen = _encoder_width(module)
            if seen is not None and seen != known[component]:
                key = subject.adapter.keys[module.path]
                return Evidence("text_encoder", False, key, str(known[component]), str(seen))
        return Evidence("text_encoder", True, None, ", ".join(f"{c} {w}" for c, w in self.widths), "none contradicts")


@dataclass(frozen=True, slots=True)
class EncoderLayers:
    """The adapted text encoder has so many layers; trainers adapt all of them."""

    count: int

    def check(self, subject: Subject) -> Evidence:
        numbers = [_LAYER.search(module.path) for module in subject.adapter.modules if module.component != DENOISER]
        seen = len({number[1] for number in numbers if number})
        return Evidence("blocks", seen == self.count, "the text encoder", str(self.count), str(seen))


_LAYER = re.compile(r"(?:^|_)layers_(\d+)_")
_SQUARE = ("q_proj", "k_proj", "v_proj", "out_proj", "SelfAttention_q", "SelfAttention_k", "SelfAttention_v")
_TAKING = (*_SQUARE, "fc1", "wi_0", "wi_1")
"""Layers of CLIP and T5 that take in the encoder's own width, and those of them that also give it."""


def _encoder_width(module: Module) -> int | None:
    """The text encoder's own width, if the module bears it."""
    if module.inner is not None:
        return module.inner if module.path.endswith(_TAKING) else None
    return (module.outer or module.either) if module.path.endswith(_SQUARE) else None
