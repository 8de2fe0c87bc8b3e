"""One header with the views that rules share; each view is made once, and only when a rule asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from probes.adapters import Adapter, normalise
from probes.claims import Claim, claims_of
from probes.header import Header, shapes_of
from probes.names import names_in
from probes.quantised import plain
from probes.report import Evidence, Hints
from probes.wrappers import unwrapped


class _Index:
    """What all views of a header share."""

    def __init__(self, header: Header, hints: Hints) -> None:
        self.hints = hints
        self.names = names_in(header.tensors)
        self.header = header
        for read in (unwrapped, plain):
            header = read(self.header, self.names)
            if header is not self.header:
                self.header, self.names = header, names_in(header.tensors)
        self._stored = shapes_of(header.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, unpacked where two 4-bit values are in a byte: NVFP4 halves the rows, bitsandbytes puts all bytes
        into one column: where nothing tells its rows, one dimension with the number of its values."""
        shape = self._stored(name)
        if len(shape) == 2 and f"{name}_scale" in self.header.tensors and self.header.tensors[name].dtype == "U8":
            return shape[0], 2 * shape[1]
        if len(shape) == 2 and shape[1] == 1 and f"{name}.absmax" in self.header.tensors:
            rows = next((self._stored(bias) for bias in _biases(name) if bias in self.header.tensors), (0,))
            return (rows[0], 2 * shape[0] // rows[0]) if any(rows[:1]) else (2 * shape[0],)
        return shape

    @cached_property
    def adapter(self) -> Adapter:
        return normalise(self.header.tensors)

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        return claims_of(self.header.metadata, self.hints)


def _biases(weight: str) -> tuple[str, str]:
    """Whose length is the number of a weight's rows: its own, or, of an attention without, that of what follows it."""
    layer = weight.removesuffix("weight")
    return f"{layer}bias", f"{layer.removesuffix('.').rpartition('.')[0]}.to_out.0.bias"


class Subject:
    """`root`: the prefix under which names are read ("model.diffusion_model." for the denoiser of a whole
    checkpoint)."""

    def __init__(self, header: Header, hints: Hints | None = None, root: str = "", index: _Index | None = None) -> None:
        self.root = root
        self._index = index or _Index(header, hints or Hints())
        self.header = header = self._index.header
        self.evidence: dict[int, Evidence] = {}
        """What rules have said so far, by their numbers (see probes.signature)."""
        self._names = header.tensors.keys()
        self._views: dict[str, Subject] = {}
        self._present: dict[tuple[str, ...], list[Subject]] = {}

    def under(self, root: str) -> Subject:
        """The same header read under another root."""
        view = self._views.get(root)
        if view is None:  # a view does not know this subject: rings of objects would outlive their probe
            view = self._views[root] = Subject(self.header, None, root, self._index)
        return view

    def views(self, roots: tuple[str, ...]) -> list[Subject]:
        """The same header read under those of the roots that some name begins with."""
        views = self._present.get(roots)
        if views is None:
            views = self._present[roots] = [self.under(root) for root in roots if self.present(root)]
        return views

    @property
    def whole(self) -> Subject:
        return self.under("")

    def has(self, name: str) -> bool:
        return self.root + name in self._names

    def present(self, root: str) -> bool:
        """Whether some name begins with this root (roots have no digits), to spare looking for every key under every root."""
        return self._index.names.begin(root)

    def beginning(self, start: str) -> str | None:
        """The first name, without the root and without digits, that begins so."""
        found = self._index.names.first(self.root + start)
        return None if found is None else found.removeprefix(self.root)

    def shape(self, name: str) -> tuple[int, ...] | None:
        name = self.root + name
        return self._index.shape(name) if name in self._names else None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names under the root, without it."""
        names = self._index.names.names
        cut = len(self.root)
        return tuple([name[cut:] for name in names if name.startswith(self.root)]) if cut else names

    def ending(self, suffix: str) -> tuple[str, ...]:
        """Names under the root, without it, that end so."""
        found = self._index.names.ending(suffix)
        if not self.root:
            return found
        names = [name.removeprefix(self.root) for name in found if name.startswith(self.root)]
        return tuple([name for name in names if name.endswith(suffix)])

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """Weights of which only the number of their values is known (see `shape`), by their names under the root."""
        packed = [name.removesuffix(".absmax") for name in self.ending(".weight.absmax")]
        return {name: shape[0] for name in packed if (shape := self.shape(name)) and len(shape) == 1}

    def blocks(self, prefix: str) -> int:
        """How many different parts follow `prefix` and a dot: the number of its blocks."""
        return self._index.names.parts_after(f"{self.root}{prefix}.")

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """Names under the root, without it and without digits, each once (see Names.patterns)."""
        patterns = self._index.names.patterns
        cut = len(self.root)
        return tuple([name[cut:] for name in patterns if name.startswith(self.root)]) if cut else patterns

    @cached_property
    def words(self) -> frozenset[str]:
        """Every dotted part of every name, without digits."""
        return frozenset(".".join(self.patterns).split("."))

    @cached_property
    def children(self) -> frozenset[str]:
        """The first part of every name, without digits: the network's own submodules."""
        return frozenset([name.partition(".")[0] for name in self.patterns])

    @property
    def hints(self) -> Hints:
        return self._index.hints

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata

    @property
    def adapter(self) -> Adapter:
        return self._index.adapter

    @property
    def claims(self) -> tuple[Claim, ...]:
        return self._index.claims
