"""Rules: frozen values that are held against a subject and answer with evidence. A signature is a tuple of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from probes.adapters import CONTROL, DENOISER, LANGUAGE, LOHA, LOKR, TEXT, Module
from probes.report import Evidence
from probes.subject import Subject

_NO_DIGITS = str.maketrans("", "", "0123456789")


class Rule(Protocol):
    def check(self, subject: Subject) -> Evidence: ...


def _matching(subject: Subject, key: str) -> tuple[str, ...]:
    """Names that `key` stands for: itself, or with a leading "*" all that end so."""
    if key.startswith("*"):
        return subject.ending(key[1:])
    return (key,) if subject.has(key) else ()


@dataclass(frozen=True, slots=True)
class Has:
    """Some tensor is there: any of `keys`, each a name or "*" and an ending."""

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)

    def check(self, subject: Subject) -> Evidence:
        for key in self.keys:
            found = _matching(subject, key)
            if found:
                return Evidence("has", True, found[0], "present", "present")
        return Evidence("has", False, self.keys[0], "present", "absent")


@dataclass(frozen=True, slots=True)
class Without:
    """None of these tensors is there."""

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)

    def check(self, subject: Subject) -> Evidence:
        for key in self.keys:
            found = _matching(subject, key)
            if found:
                return Evidence("without", False, found[0], "absent", "present")
        return Evidence("without", True, self.keys[0], "absent", "absent")


@dataclass(frozen=True, slots=True)
class Width:
    """Every tensor that `key` stands for has one of `sizes` at `axis` (1: what a layer takes in, 0: what it gives), and
    there is one."""

    key: str
    sizes: tuple[int, ...]
    axis: int = 1

    def __init__(self, key: str, *sizes: int, axis: int = 1) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "axis", axis)

    def check(self, subject: Subject) -> Evidence:
        expected = " or ".join(map(str, self.sizes))
        name = self.key
        for name in (found := _matching(subject, self.key)):
            shape = subject.shape(name) or ()
            size = shape[self.axis] if len(shape) > self.axis else None
            if size not in self.sizes:
                return Evidence("width", False, name, expected, str(size))
        return Evidence("width", bool(found), name, expected, expected if found else "absent")


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Every tensor that `key` stands for has so many dimensions (4: a convolution, 2: a linear layer), and there is
    one."""

    key: str
    count: int

    def check(self, subject: Subject) -> Evidence:
        name = self.key
        for name in (found := _matching(subject, self.key)):
            shape = subject.shape(name) or ()
            if len(shape) != self.count:
                return Evidence("dimensions", False, name, str(self.count), str(len(shape)))
        return Evidence("dimensions", bool(found), name, str(self.count), str(self.count) if found else "absent")


@dataclass(frozen=True, slots=True)
class Only:
    """The network has no submodule beside these, digits aside: a foreign one means another, newer or changed architecture."""

    children: frozenset[str]

    def __init__(self, *children: str) -> None:
        object.__setattr__(self, "children", frozenset(child.translate(_NO_DIGITS) for child in children))

    def check(self, subject: Subject) -> Evidence:
        foreign = sorted(subject.children - self.children)
        return Evidence(
            "only", not foreign, foreign[0] if foreign else None, "no other submodule", "other" if foreign else "none"
        )


STORED = """
    weight bias scaled_fp8 scale_weight scale_input weight_scale weight_scale_2 input_scale comfy_quant
    absmax quant_map nested_absmax nested_quant_map quant_state bitsandbytes__nf4 bitsandbytes__fp4 SCB weight_format
"""
"""Last words of names: of plain tensors, of ComfyUI's fp8 and nvfp4, of bitsandbytes' 4 and 8 bits."""


@dataclass(frozen=True, slots=True)
class Words:
    """No name has a part beside these, digits aside: finds modules that were put *into* known blocks (temporal layers,
    gates). How tensors are stored is known anyway."""

    known: frozenset[str]

    def __init__(self, words: str) -> None:
        object.__setattr__(self, "known", frozenset(["", *f"{STORED} {words}".translate(_NO_DIGITS).split()]))

    def check(self, subject: Subject) -> Evidence:
        foreign = sorted(subject.words - self.known)
        return Evidence(
            "words", not foreign, foreign[0] if foreign else None, "no foreign module", "present" if foreign else "none"
        )


@dataclass(frozen=True, slots=True)
class Blocks:
    """`prefix` is followed by so many different numbers: the network's depth."""

    prefix: str
    counts: tuple[int, ...]

    def __init__(self, prefix: str, *counts: int) -> None:
        object.__setattr__(self, "prefix", prefix)
        object.__setattr__(self, "counts", counts)

    def check(self, subject: Subject) -> Evidence:
        seen = subject.blocks(self.prefix)
        expected = " or ".join(map(str, self.counts))
        return Evidence("blocks", seen in self.counts, self.prefix, expected, str(seen))


@dataclass(frozen=True, slots=True)
class Meta:
    """A metadata value is one of these."""

    key: str
    values: tuple[str, ...]

    def __init__(self, key: str, *values: str) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "values", values)

    def check(self, subject: Subject) -> Evidence:
        seen = subject.metadata.get(self.key)
        return Evidence("meta", seen in self.values, self.key, " or ".join(self.values), seen)


@dataclass(frozen=True, slots=True)
class Claimed:
    """Metadata or hints name this family: for look-alikes, which shapes alone cannot tell apart."""

    family: str
    wanted: bool = True

    def check(self, subject: Subject) -> Evidence:
        claim = next((c for c in subject.claims if c.family == self.family), None)
        rule, expected = (
            ("claimed", f"said to be {self.family}")
            if self.wanted
            else ("not_claimed", f"not said to be {self.family}")
        )
        return Evidence(
            rule,
            (claim is not None) == self.wanted,
            claim.source if claim else None,
            expected,
            claim.said if claim else "not said",
        )


@dataclass(frozen=True, slots=True)
class Alone:
    """The file holds nothing outside of the root: a part that was saved by itself, not a checkpoint that contains
    it."""

    def check(self, subject: Subject) -> Evidence:
        outside = next((name for name in subject.header.tensors if not name.startswith(subject.root)), None)
        return Evidence(
            "alone",
            outside is None,
            outside,
            "nothing else in the file",
            "other tensors" if outside else "nothing else",
        )


@dataclass(frozen=True, slots=True)
class Begins:
    """Some name begins so, digits aside."""

    starts: tuple[str, ...]

    def __init__(self, *starts: str) -> None:
        object.__setattr__(self, "starts", starts)

    def check(self, subject: Subject) -> Evidence:
        found = next((name for name in subject.patterns if name.startswith(self.starts)), None)
        return Evidence(
            "begins", found is not None, found or self.starts[0], "present", "present" if found else "absent"
        )


# --- rules on adapters ---


@dataclass(frozen=True, slots=True)
class AdapterOf:
    """The file is an adapter and nothing else, and adapts `part`: the denoiser (with text encoders or without), text
    encoders alone, or a language model."""

    part: str = DENOISER

    def check(self, subject: Subject) -> Evidence:
        adapter = subject.adapter
        if not adapter.modules or adapter.others:
            seen = f"{len(adapter.modules)} adapter modules and {len(adapter.others)} other tensors"
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
        fits = re.compile(self.pattern).match  # re keeps compiled patterns
        stranger = next((m.path for m in subject.adapter.layers if not fits(m.path)), None)
        return Evidence(
            "paths", stranger is None, stranger, f"module names of {self.name}", "foreign" if stranger else "all fit"
        )


class Architecture(Protocol):
    """A denoiser's layers under each naming it is published with: flattened path -> (input width, output width)."""

    @property
    def name(self) -> str: ...
    @property
    def namings(self) -> tuple[Mapping[str, tuple[int, int]], ...]: ...
    def sort(self, path: str) -> str:
        """A layer's path without its place: all layers of a sort are alike, and are adapted together or not at all."""


def _naming(architecture: Architecture, modules: tuple[Module, ...]) -> Mapping[str, tuple[int, int]]:
    """The naming that an adapter uses: the one that knows most of its modules before the first that it does not."""

    def known(layers: Mapping[str, tuple[int, int]]) -> int:
        return next((at for at, module in enumerate(modules) if module.path not in layers), len(modules))

    return max(architecture.namings, key=known)


@dataclass(frozen=True, slots=True)
class Fits:
    """Every denoiser module is a layer of this architecture, with its widths."""

    architecture: Architecture

    def check(self, subject: Subject) -> Evidence:
        name, modules = self.architecture.name, subject.adapter.layers
        if not modules:
            return Evidence("fits", False, None, f"layers of {name}", "no layer is adapted")
        layers = _naming(self.architecture, modules)
        for module in modules:
            layer = layers.get(module.path)
            if layer is None:
                return Evidence("fits", False, module.path, f"a layer of {name}", "no such layer")
            if (
                not _agrees(module.inner, layer[0], module)
                or not _agrees(module.outer, layer[1], module)
                or module.either not in (None, *layer)
            ):
                return Evidence(
                    "fits", False, module.path, f"{layer[0]} -> {layer[1]}", f"{module.inner} -> {module.outer}"
                )
        return Evidence("fits", True, None, f"layers of {name}", f"{len(modules)} modules fit")


def _agrees(seen: int | None, width: int, module: Module) -> bool:
    """LoHa and LoKr flatten a convolution's kernel into its input width (3x3: nine times)."""
    return seen is None or seen == width or (not module.kernel and module.kind in (LOHA, LOKR) and seen == 9 * width)


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
    has.

    Tells adapters of a cut-down network from adapters of its parent: what fits both and covers the smaller was made for
    the smaller. `beyond` True: the opposite, the adapter does not fit the smaller network or leaves some of its layers
    out.
    """

    architecture: Architecture
    beyond: bool = False

    def check(self, subject: Subject) -> Evidence:
        name = self.architecture.name
        if self.beyond:
            exceeds = Exceeds(self.architecture).check(subject)
            if exceeds.ok:
                return exceeds
        paths = {m.path for m in subject.adapter.layers}
        sort = self.architecture.sort
        sorts = set(map(sort, paths))
        layers = _naming(self.architecture, subject.adapter.layers)
        missing = next((path for path in layers if sort(path) in sorts and path not in paths), None)
        if self.beyond:
            return Evidence(
                "beyond",
                missing is not None,
                missing,
                f"not just {name}'s layers",
                "left out" if missing else f"all of {name}",
            )
        return Evidence(
            "covers", missing is None, missing, f"every such layer of {name}", "left out" if missing else "all of them"
        )


@dataclass(frozen=True, slots=True)
class Encoders:
    """The adapted text encoders have the widths of this family's. `widths`: component (see adapters.PREFIXES) ->
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


_SQUARE = ("q_proj", "k_proj", "v_proj", "out_proj", "SelfAttention_q", "SelfAttention_k", "SelfAttention_v")
_TAKING = (*_SQUARE, "fc1", "wi_0", "wi_1")
"""Layers of CLIP and T5 that take in the encoder's own width, and those of them that also give it."""


def _encoder_width(module: Module) -> int | None:
    """The text encoder's own width, if the module bears it."""
    if module.inner is not None:
        return module.inner if module.path.endswith(_TAKING) else None
    return (module.outer or module.either) if module.path.endswith(_SQUARE) else None
