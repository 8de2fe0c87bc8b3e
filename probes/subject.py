"""One header with the views that rules share; each view is made once, and only when a rule asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from probes.adapters import Adapter, normalise
from probes.claims import Claim, claims_of
from probes.header import Header
from probes.report import Hints


class Subject:
    """`root`: the prefix under which names are read ("model.diffusion_model." for the denoiser of a whole checkpoint)."""

    def __init__(
        self, header: Header, hints: Hints | None = None, root: str = "", whole: Subject | None = None
    ) -> None:
        self.header = header
        self.hints = hints or Hints()
        self.root = root
        self.whole = whole or self
        self._endings: dict[str, tuple[str, ...]] = {}
        self._views: dict[str, Subject] = {}

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
        """Whether some name may begin with this root: a look at first parts, to spare looking for every key under every root."""
        return not root or root.partition(".")[0] in self.whole.children

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

    @cached_property
    def text(self) -> str:
        """All names, each between line feeds: `"\\nout." in text` asks all of them at once, at C speed."""
        return "\n".join(["", *self.names, ""])

    def begins(self, start: str) -> bool:
        return "\n" + start in self.text

    def ending(self, suffix: str) -> tuple[str, ...]:
        if suffix not in self._endings:
            self._endings[suffix] = tuple([name for name in self.names if name.endswith(suffix)])
        return self._endings[suffix]

    @cached_property
    def words(self) -> frozenset[str]:
        """Every dotted part of every name, without digits. Digits go first, so that blocks become alike and a hundred names remain."""
        unnumbered = set(self.text.encode().translate(None, b"0123456789").split(b"\n"))
        return frozenset(b".".join(unnumbered).decode().split("."))

    @cached_property
    def children(self) -> frozenset[str]:
        """The first part of every name: the network's own submodules."""
        return frozenset([name.partition(".")[0] for name in self.names])

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
