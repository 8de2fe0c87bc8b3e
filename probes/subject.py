"""One header with the views that rules share; each view is made once, and only when a rule asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from probes.adapters import Adapter, normalise
from probes.claims import Claim, claims_of
from probes.header import Header
from probes.report import Hints


class Subject:
    """`root`: the prefix under which names are read ("model.diffusion_model." for the denoiser of a whole
    checkpoint)."""

    def __init__(
        self, header: Header, hints: Hints | None = None, root: str = "", whole: Subject | None = None
    ) -> None:
        self.header = header
        self.hints = hints or Hints()
        self.root = root
        self.whole = whole or self
        self._endings: dict[str, tuple[str, ...]] = {}
        self._views: dict[str, Subject] = {}
        self._blocks: dict[str, int] = {}
        self._present: dict[str, bool] = {}

    def under(self, root: str) -> Subject:
        """The same header read under another root."""
        if root == self.root:
            return self
        if root not in self._views:
            self._views[root] = Subject(self.header, self.hints, root, self.whole)
        return self._views[root]

    def has(self, name: str) -> bool:
        return self.root + name in self.header.tensors

    def present(self, root: str) -> bool:
        """Whether some name begins with this root (roots have no digits), to spare looking for every key under every root."""
        if root not in self._present:
            self._present[root] = not root or any(name.startswith(root) for name in self.patterns)
        return self._present[root]

    def shape(self, name: str) -> tuple[int, ...] | None:
        spec = self.header.tensors.get(self.root + name)
        return None if spec is None else spec.shape

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names under the root, without it."""
        if not self.root:
            return tuple(self.header.tensors)
        cut = len(self.root)
        return tuple([name[cut:] for name in self.header.tensors if name.startswith(self.root)])

    def ending(self, suffix: str) -> tuple[str, ...]:
        if suffix not in self._endings:
            self._endings[suffix] = tuple([name for name in self.names if name.endswith(suffix)])
        return self._endings[suffix]

    def blocks(self, prefix: str) -> int:
        """How many different parts follow `prefix` and a dot: the number of its blocks."""
        if prefix not in self._blocks:
            start = prefix + "."
            cut = len(start)
            self._blocks[prefix] = len({name[cut:].partition(".")[0] for name in self.names if name.startswith(start)})
        return self._blocks[prefix]

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """Names without digits, each once: blocks become alike, and a hundred of an SDXL checkpoint's 2,515 names remain.

        Made at C speed in one go; all questions that numbers do not matter for are asked of these.
        """
        if self is not self.whole:
            return tuple([name[len(self.root) :] for name in self.whole.patterns if name.startswith(self.root)])
        text = "\n".join(self.header.tensors).encode("utf-8", "replace")
        return tuple(line.decode() for line in set(text.translate(None, b"0123456789").split(b"\n")))

    @cached_property
    def words(self) -> frozenset[str]:
        """Every dotted part of every name, without digits."""
        return frozenset(".".join(self.patterns).split("."))

    @cached_property
    def children(self) -> frozenset[str]:
        """The first part of every name, without digits: the network's own submodules."""
        return frozenset([name.partition(".")[0] for name in self.patterns])

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata

    @property
    def adapter(self) -> Adapter:
        return self.whole._adapter

    @cached_property
    def _adapter(self) -> Adapter:
        return normalise(self.header.tensors)

    @property
    def claims(self) -> tuple[Claim, ...]:
        return self.whole._claims

    @cached_property
    def _claims(self) -> tuple[Claim, ...]:
        return claims_of(self.header.metadata, self.hints)
