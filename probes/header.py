"""What a weight file says about itself before its first tensor byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_NOTHING: Mapping[str, str] = MappingProxyType({})


_AGAIN = "Download it again, and compare its size and SHA-256 with those its page states."
_FINISH = "Finish the download, or start it again."
_NAME_ONE = "Give the path of a model's file or folder."
_NEWER = "Update modelshelf, or convert the file with the tool that wrote it."
REMEDIES: Mapping[str, str] = {
    # not there, not to be read
    "not_found": _NAME_ONE,
    "not_readable": "Check its permissions and the disk.",
    "outside": "Put the file itself there, or look at it on its own machine.",
    "not_a_file": _NAME_ONE,
    "is_a_folder": "Give a file in it, or probe the folder as a whole.",
    "no_model_folder": "Give the folder of one model, or one of its files.",
    # other things than models
    "empty_file": "Download it again.",
    "too_short": "Download it again.",
    "html_page": "Sign in or set a token, and download it again.",
    "lfs_pointer": "Run `git lfs pull` in its folder, or download the file from its page.",
    "text_file": "Open it in an editor to see, and download the model again.",
    "zip_archive": "Unpack it and take the .safetensors file that it holds.",
    "archive": "Unpack it and take the .safetensors file that it holds.",
    "compiled_model": "Another program runs it, and nothing turns it back: take the .safetensors version of the model.",
    "unsupported_format": "Take or make a .safetensors or .gguf file or a diffusers folder of the model.",
    "pickle": "Convert it to .safetensors where you trust it, and dump that.",
    # not whole
    "truncated": _FINISH,
    "trailing_bytes": _AGAIN,
    "size_mismatch": _AGAIN,
    # headers that cannot be believed
    "header_length_overflow": _AGAIN,
    "header_too_large": _AGAIN,
    "bad_header": _AGAIN,
    "bad_json": _AGAIN,
    "not_utf8": _AGAIN,
    "too_many_tensors": _AGAIN,
    "bad_shape": _AGAIN,
    "shape_overflow": _AGAIN,
    "bad_offsets": _AGAIN,
    "overlapping_tensors": _AGAIN,
    "hole_in_data": _AGAIN,
    "unknown_dtype": _NEWER,
    "bad_metadata": "Save the file again with a current safetensors library.",
    "duplicate_names": "Save the file again with a current safetensors or gguf library.",
    "bad_config": "Download it again.",
    "bad_dump": "Make it again with --dump-header.",
}
"""Code of an UnreadableModel -> what to do."""


class UnreadableModel(Exception):
    """The bytes are not a model file, or are not whole.

    `code` is stable and meant for programs: one of REMEDIES. The message is meant for people: `what` is the matter, and
    then what to do.
    """

    def __init__(self, code: str, what: str) -> None:
        super().__init__(f"{what} {REMEDIES[code]}")
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


class Entry(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A tensor as a safetensors header has it."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class TensorTable(Mapping[str, TensorSpec]):
    """A checked safetensors header as a mapping; specs are made when asked for. `made`: what has been made of it, by whom
    (see `once`).

    A probe looks at a few dozen of an SDXL checkpoint's 2,515 tensors, and making every spec costs as much as parsing
    the JSON.
    """

    __slots__ = ("_raw", "made")

    def __init__(self, raw: Mapping[str, Entry]) -> None:
        self._raw = raw
        self.made: dict[Any, Any] = {}

    def __getitem__(self, name: str) -> TensorSpec:
        raw = self._raw[name]
        return TensorSpec(raw.dtype, raw.shape)

    def shape(self, name: str) -> tuple[int, ...]:
        """Without making the spec around it, which takes several times as long."""
        return self._raw[name].shape

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


def once(work: Callable[[Mapping[str, TensorSpec]], T]) -> Callable[[Mapping[str, TensorSpec]], T]:
    """`work` on tensors, done once for a table, which is met again where a header is remembered."""

    def call(tensors: Mapping[str, TensorSpec]) -> T:
        if not isinstance(tensors, TensorTable):
            return work(tensors)
        if work not in tensors.made:
            tensors.made[work] = work(tensors)
        made: T = tensors.made[work]
        return made

    return call


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
