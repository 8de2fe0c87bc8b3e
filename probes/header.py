"""What a weight file says about itself before its first tensor byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

_NOTHING: Mapping[str, str] = MappingProxyType({})


class UnreadableModel(Exception):
    """The bytes are not a model file, or are not whole.

    `code` is stable and meant for programs (the README's table of probe codes lists them all); the message is meant for
    people and says what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class HeaderIncomplete(Exception):
    """The header goes on past the bytes at hand: fetch `needed` bytes, counted from the start of the file, and parse
    again."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"the header takes at least {needed} bytes")
        self.needed = needed


class TensorSpec(NamedTuple):
    """dtype as safetensors spells it (`F16`, `BF16`, `F8_E4M3`, ...; GGUF types keep their GGUF name) and shape,
    outermost first."""

    dtype: str
    shape: tuple[int, ...]


class TensorTable(Mapping[str, TensorSpec]):
    """A checked safetensors header as a mapping; specs are made when asked for.

    A probe looks at a few dozen of an SDXL checkpoint's 2,515 tensors, and making every spec costs as much as parsing
    the JSON.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: Mapping[str, Mapping[str, Any]]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> TensorSpec:
        raw = self._raw[name]
        return TensorSpec(raw["dtype"], tuple(raw["shape"]))

    def shape(self, name: str) -> tuple[int, ...]:
        """Without making the spec around it, which takes several times as long."""
        return tuple(self._raw[name]["shape"])

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def keys(self) -> KeysView[str]:
        """The dictionary's own: looking names up and walking them costs no call."""
        return self._raw.keys()

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        return f"TensorTable({len(self._raw)} tensors)"


def shapes_of(tensors: Mapping[str, TensorSpec]) -> Callable[[str], tuple[int, ...]]:
    """Name -> shape, the shortest way there is."""
    return tensors.shape if isinstance(tensors, TensorTable) else lambda name: tensors[name].shape


@dataclass(frozen=True, slots=True)
class Header:
    """Names, dtypes and shapes of one weight file's tensors, and its free-form string metadata.

    `format` is `safetensors`, `gguf`, or for pickles, whose tensors are never read, `torch_zip` or `pickle`;
    `size` is the whole file in bytes when known; `header_bytes` is how much of it the header takes.
    """

    tensors: Mapping[str, TensorSpec]
    metadata: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    format: str = "safetensors"
    size: int | None = None
    header_bytes: int = 0
