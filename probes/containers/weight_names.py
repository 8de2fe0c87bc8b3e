"""What libraries call the files of weights: stems, variants, the parts of a model that is saved in several, and pickles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from probes.header import UnreadableModel

OTHERS = (".sft", ".gguf")
"""Weights of one file by itself: no library reads them out of a model's folder."""
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_lora_weights", "adapter_model")
"""What diffusers, transformers and PEFT save under; `.fp16` and other variants stand between stem and suffix."""
PARTS_CAP = 1_000
"""Most files that one model is saved in; a name that claims more is not believed."""

_NUMBER = r"[0-9]{5}(?![0-9])"
"""As `save_pretrained` and gguf-split write it; people number series of models with fewer digits."""
_PART = re.compile(f"(.+)-({_NUMBER})-of-({_NUMBER})(.*)")
_VARIANT = re.compile(
    rf"(?:\.(?P<one>[^.-]+)(?:-{_NUMBER}-of-{_NUMBER})?|-{_NUMBER}-of-{_NUMBER}\.(?P<two>[^.]+))\.safetensors$|\.safetensors\.index\.(?P<three>[^.]+)\.json$"
)


class Part(NamedTuple):
    """One file of a model that was saved in `total` of them, by its name; `number` counts from 1."""

    stem: str
    number: int
    total: int
    rest: str

    @property
    def names(self) -> Iterable[str]:
        """Of all parts of the model."""
        return (f"{self.stem}-{number:05}-of-{self.total:05}{self.rest}" for number in range(1, self.total + 1))


def part_of(name: str) -> Part | None:
    """What a name such as `model-00001-of-00003.safetensors` says; None where it says nothing of parts, or what cannot be."""
    match = _PART.fullmatch(name)
    if match is None or not int(match[2]) <= int(match[3]) <= PARTS_CAP:
        return None
    return Part(match[1], int(match[2]), int(match[3]), match[4])


def refuse_missing_parts(names: Sequence[str]) -> None:
    """Raises UnreadableModel where these are parts of one model, and not all of them: what is missing may be what tells it
    apart."""
    missing = _missing(names)
    if missing:
        count = f"{len(missing):,} of the {len(missing) + len(names):,} files"
        raise UnreadableModel("truncated", f"The model lacks {count} that it was saved in, {missing[0]} among them.")


def _missing(names: Sequence[str]) -> list[str]:
    part = part_of(names[0]) if names else None
    return [name for name in part.names if name not in names] if part else []


def choose_weights(files: list[str]) -> list[str]:
    """The weight files of one component among its folder's file names: the unvaried one, else one variant, whole or in
    all its parts.

    A lone safetensors file of any name counts too; several of unknown names do not (which is meant, only the user
    knows).
    """
    weights = [name for name in files if name.lower().endswith(".safetensors")]
    for stem in STEMS:
        if f"{stem}.safetensors" in weights:
            return [f"{stem}.safetensors"]
        own = [name for name in weights if name.startswith(stem) and name[len(stem)] in ".-"]
        parts = [name for name in own if part_of(name)]
        whole = [name for name in own if name not in parts]
        plain = [name for name in parts if name.startswith(f"{stem}-")]
        if plain:
            return _one_saving(plain)
        if whole:
            return whole[:1]
        if parts:
            return _one_saving(parts)
    return weights if len(weights) == 1 else []


def why_none(files: Iterable[str]) -> str | None:
    """Of a component of which `choose_weights` takes nothing: why, where its files look as if something could be taken."""
    for name in files:
        if ".safetensors.index." in name:
            return (
                f"{name} is of weights that were saved in several files, and here is none by the name that it was saved under "
                "(NAME-00001-of-00002.safetensors). Get all of them, under the names that they were published with."
            )
        if name.lower().endswith(OTHERS):
            return (
                f"The weights are in {name}, and from a model's folder .safetensors files alone are loaded. Give that file by itself, "
                "or get the folder with the weights it was published with."
            )
    return None


def _one_saving(names: Sequence[str]) -> list[str]:
    """The parts of one saving, of those that lie in one folder: the first that is whole, if one is."""
    savings: dict[Part | None, list[str]] = {}
    for name in names:
        part = part_of(name)
        savings.setdefault(part and part._replace(number=0), []).append(name)
    return next((names for names in savings.values() if not _missing(names)), next(iter(savings.values())))


def variant_of(name: str) -> str | None:
    """What diffusers calls so: `fp16` of model.fp16.safetensors, of its parts in either spelling, and of their index; None: no
    variant."""
    return found[found.lastgroup] if (found := _VARIANT.search(name)) and found.lastgroup else None
