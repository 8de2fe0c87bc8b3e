"""Rules: frozen values that are held against a subject and answer with evidence. A signature is a tuple of them.

These look at tensors' names and shapes, metadata and hints; those in adapter_rules at the modules of an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from probes.claims import foremost
from probes.report import Evidence
from probes.subject import Subject

_NO_DIGITS = str.maketrans("", "", "0123456789")


class Rule(Protocol):
    def check(self, subject: Subject) -> Evidence: ...


def _matching(subject: Subject, key: str) -> tuple[str, ...]:
    """Names that `key` stands for, the first of the alphabet first: itself, with a leading "/" in the whole file, or with a leading
    "*" all that end so."""
    if key[0] not in "/*":  # most by far
        return (key,) if subject.has(key) else ()
    return _matching(subject.whole, key[1:]) if key[0] == "/" else subject.ending(key[1:])


@dataclass(frozen=True, slots=True)
class _Keys:
    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)


@dataclass(frozen=True, slots=True, init=False)
class Has(_Keys):
    """Some tensor is there: any of `keys`, each a name or "*" and an ending."""

    absent: Evidence = field(compare=False, repr=False)
    """Made once: most signatures begin so, and most end there."""

    def __init__(self, *keys: str) -> None:
        _Keys.__init__(self, *keys)
        object.__setattr__(self, "absent", Evidence("has", False, keys[0], "present", "absent"))

    def check(self, subject: Subject) -> Evidence:
        for key in self.keys:
            found = _matching(subject, key)
            if found:
                return Evidence("has", True, found[0], "present", "present")
        return self.absent


@dataclass(frozen=True, slots=True, init=False)
class Without(_Keys):
    """None of these tensors is there."""

    def check(self, subject: Subject) -> Evidence:
        for key in self.keys:
            found = _matching(subject, key)
            if found:
                return Evidence("without", False, found[0], "absent", "present")
        return Evidence("without", True, self.keys[0], "absent", "absent")


@dataclass(frozen=True, slots=True)
class Either:
    """One of these rules holds. What speaks against all is told by the first."""

    rules: tuple[Rule, ...]

    def __init__(self, *rules: Rule) -> None:
        object.__setattr__(self, "rules", rules)

    def check(self, subject: Subject) -> Evidence:
        seen = [rule.check(subject) for rule in self.rules]
        return next((evidence for evidence in seen if evidence.ok), seen[0])


_ALONG = ("rows", "width", "kernel", "kernel")
"""What evidence calls a size along each axis."""


@dataclass(frozen=True, slots=True)
class Width:
    """Every tensor that `key` stands for has one of `sizes` at `axis` (1: what a layer takes in, 0: what it gives), and
    there is one. Where only the number of its values is known, that must be so many times one of them (see Volumes)."""

    key: str
    sizes: tuple[int, ...]
    axis: int = 1

    def __init__(self, key: str, *sizes: int, axis: int = 1) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "axis", axis)

    def check(self, subject: Subject) -> Evidence:
        rule, expected, widths = _ALONG[self.axis], " or ".join(map(str, self.sizes)), list[int | None]()
        found = _matching(subject, self.key)
        for name in found:
            if (count := subject.columns.get(name)) is not None:
                fits = any(count % size == 0 for size in self.sizes)
                return Evidence("volume", fits, name, f"a multiple of {expected}", str(count))
            shape = subject.shape(name) or ()
            size = shape[self.axis] if len(shape) > self.axis else None
            if size not in self.sizes:
                return Evidence(rule, False, name, expected, str(size))
            widths.append(size)
        name, seen = (found[0], str(widths[0])) if found else (self.key, "absent")
        return Evidence(rule, bool(found), name, expected, seen)


@dataclass(frozen=True, slots=True, eq=False)
class Volumes:
    """Where a weight is one column of bytes that nothing tells the rows of, it has as many values as its layer's input
    and output widths give. `layers`: flattened path -> these widths."""

    layers: Mapping[str, tuple[int, int]]

    def check(self, subject: Subject) -> Evidence:
        for name, count in subject.columns.items():
            widths = self.layers.get(name.removesuffix(".weight").replace(".", "_"))
            if widths is not None and widths[0] * widths[1] != count:
                return Evidence("volumes", False, name, f"{widths[0]} x {widths[1]}", str(count))
        return Evidence("volumes", True, None, "as many as their layers have", "as many" if subject.columns else "none")


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Every tensor that `key` stands for has so many dimensions (4: a convolution, 2: a linear layer), and there is
    one."""

    key: str
    count: int

    def check(self, subject: Subject) -> Evidence:
        found = _matching(subject, self.key)
        for name in found:
            shape = subject.shape(name) or ()
            if len(shape) != self.count:
                return Evidence("dimensions", False, name, str(self.count), str(len(shape)))
        name, seen = (found[0], str(self.count)) if found else (self.key, "absent")
        return Evidence("dimensions", bool(found), name, str(self.count), seen)


@dataclass(frozen=True, slots=True)
class Only:
    """The network has no submodule beside these, digits aside: a foreign one means another, newer or changed architecture."""

    children: frozenset[str]

    def __init__(self, *children: str) -> None:
        object.__setattr__(self, "children", frozenset(child.translate(_NO_DIGITS) for child in children))

    def check(self, subject: Subject) -> Evidence:
        foreign = sorted(subject.children - self.children)
        first = (foreign[0] or "a number") if foreign else None
        return Evidence("only", not foreign, first, "no other submodule", "other" if foreign else "none")


STORED = """
    weight bias scaled_fp8 scale_weight scale_input weight_scale weight_scale_2 input_scale output_scale comfy_quant
    absmax quant_map nested_absmax nested_quant_map quant_state bitsandbytes__nf4 bitsandbytes__fp4 SCB weight_format
"""
"""Last words of names: of plain tensors, of ComfyUI's fp8 and nvfp4, of quanto, of bitsandbytes' 4 and 8 bits."""


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
class Mirrored:
    """As many blocks lead up again as lead down: a UNet of whatever depth, and all of it."""

    down: str
    up: str

    def check(self, subject: Subject) -> Evidence:
        down, up = subject.blocks(self.down), subject.blocks(self.up)
        return Evidence("blocks", 0 < down == up, self.up, str(down or "some"), str(up))


@dataclass(frozen=True, slots=True)
class Claimed:
    """Metadata or hints name this family: for look-alikes, which shapes alone cannot tell apart. `rival`: the family that
    it is told from, which a more trustworthy source may name."""

    family: str
    rival: str
    wanted: bool = True

    def check(self, subject: Subject) -> Evidence:
        claims = foremost(subject.claims, (self.family, self.rival))
        claim = next((c for c in claims if c.family == self.family), None)
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
        outside = next((name for name in subject.whole.names if not name.startswith(subject.root)), None)
        return Evidence(
            "alone",
            outside is None,
            outside,
            "nothing else in the file",
            "other tensors" if outside else "nothing else",
        )


@dataclass(frozen=True, slots=True, init=False)
class Begins(_Keys):
    """Some name begins so, digits aside."""

    def check(self, subject: Subject) -> Evidence:
        found = next(filter(None, map(subject.beginning, self.keys)), None)
        return Evidence("begins", found is not None, found or self.keys[0], "present", "present" if found else "absent")
