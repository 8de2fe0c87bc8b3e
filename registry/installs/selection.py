"""Which of a repository's files make the model that the user means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from probes import Folder, Header, choose_weights, merge_headers, refuse_missing_parts
from probes.containers.folder import ADAPTER_INDEX, CONFIGS, PIPELINE_INDEX
from probes.containers.weight_names import PICKLES, part_of, variant_of
from probes.scan import WEIGHTS
from registry.errors import NoWeights, UnusableFile
from registry.installs.names import is_kept
from registry.installs.origins import Listing, RemoteFile
from registry.installs.origins.base import misnamed
from registry.sources import HubSource

TEXTS = (".json", ".txt", ".model")  # configurations and tokenizers
# The safety checker is 1.2 GB that the backend never loads, and in many repositories a pickle.
NOT_LOADED = frozenset({"safety_checker", "feature_extractor"})
PEFT_WEIGHTS = "adapter_model.safetensors"
# Says which shard holds which tensor; of use only beside the shards.
SHARD_INDEX = ".safetensors.index."
# diffusers, PEFT and the training scripts give every repository's LoRA the same name; it then says nothing about the model.
GENERIC_STEMS = frozenset({"pytorch_lora_weights", "adapter_model", "model", "diffusion_pytorch_model", "lora"})


@dataclass(frozen=True, slots=True)
class Selection:
    """The files to fetch. `prefix` ("" or "x/") is the folder of the repository that they are in; a folder model keeps its layout.

    `variants`: of a pipeline, those that its weights are there in beside the unmarked one, by name.
    """

    files: tuple[RemoteFile, ...]
    is_folder: bool
    name: str
    prefix: str = ""
    variants: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes to transfer, as far as the origin knows."""
        return sum(f.size or 0 for f in self.files)

    @property
    def weights(self) -> tuple[RemoteFile, ...]:
        return tuple(f for f in self.files if _ends(f.path, WEIGHTS)) or self.files

    def inside(self, file: RemoteFile) -> str:
        """Path of one of the files in the model; "" for a model that is this file."""
        return file.path[len(self.prefix) :] if self.is_folder else ""


def options(
    listing: Listing, read: Callable[[RemoteFile], Mapping[str, Any]], variant: str | None = None
) -> list[list[Selection]]:
    """What could be meant, the likelier ones in front: the named file; else a diffusers folder; else the weight files of the named
    folder, and after them those of the folders below. Names decide nothing more: what the files are is for their headers to say.

    `read` fetches a small JSON file. `variant`: of a pipeline's weights, see Options. Raises NoWeights, UnusableFile.
    """
    by_path = {f.path: f for f in listing.files}
    prefix = f"{listing.focus.rstrip('/')}/" if listing.focus else ""
    if variant and prefix + PIPELINE_INDEX not in by_path:
        raise NoWeights(
            f"{_label(listing)} is no pipeline, and only a pipeline's weights have variants such as {variant}. Leave it out.",
            variants=[],
        )
    if listing.focus in by_path:
        return [[_single(by_path[listing.focus], listing, by_path)]]
    inside = [f for f in listing.files if f.path.startswith(prefix)]
    misfits = [f for f in listing.left_out if f.path.startswith(prefix)]
    if index := by_path.get(prefix + PIPELINE_INDEX):
        files, variants = _pipeline_files([*inside, *misfits], prefix, read(index), variant)
        _check_names(files, misfits, prefix, listing)
        name = PurePosixPath(prefix).name or _repository_name(listing)
        return [[Selection(files, True, name, prefix, variants)]]
    weights = [f for f in inside if _ends(f.path, WEIGHTS)]
    here = [_single(f, listing, by_path) for f in weights if "/" not in f.path[len(prefix) :]]
    below = [_single(f, listing, by_path) for f in weights if "/" in f.path[len(prefix) :]]
    if not weights:
        _check_names([f for f in misfits if _ends(f.path, WEIGHTS)], misfits, prefix, listing)
        raise _nothing(listing, inside, prefix)
    return [tier for tier in (here, below) if tier]


def _check_names(chosen: Iterable[RemoteFile], misfits: Iterable[RemoteFile], prefix: str, listing: Listing) -> None:
    """A folder keeps the names of its files, so all of them must be such as every system takes. Raises UnusableFile."""
    for file in chosen:
        if file in misfits or not all(map(is_kept, file.path[len(prefix) :].split("/"))):
            raise misnamed(file.path, _label(listing))


def _ends(path: str, endings: tuple[str, ...]) -> bool:
    """People's and programs' spelling of an ending differs in its case."""
    return path.lower().endswith(endings)


def _single(file: RemoteFile, listing: Listing, by_path: Mapping[str, RemoteFile]) -> Selection:
    """A weight file by itself; PEFT's with the configuration beside it, which alone says by how much its tensors count (alpha)."""
    path = PurePosixPath(file.path)
    if _ends(file.path, PICKLES):
        raise _pickle(file.path)
    name = _repository_name(listing) if path.stem in GENERIC_STEMS else path.stem
    prefix = file.path[: -len(path.name)]
    config = by_path.get(prefix + ADAPTER_INDEX) if path.name == PEFT_WEIGHTS else None
    return Selection((config, file), True, name, prefix) if config else Selection((file,), False, name, prefix)


def _pipeline_files(
    files: Iterable[RemoteFile], prefix: str, index: Mapping[str, Any], variant: str | None
) -> tuple[tuple[RemoteFile, ...], tuple[str, ...]]:
    """model_index.json, and of each component that it names the JSON and text files and one set of safetensors weights; and the variants
    that there are.

    A repository often holds the same weights several times (fp16 variant, .bin, .ckpt, ONNX), and other folders beside (training
    states): the plain safetensors are taken, else a variant, never a pickle. With `variant`, that of each component which has it.
    """
    chosen: list[RemoteFile] = []
    components: dict[str, list[RemoteFile]] = {}
    for file in files:
        parts = file.path[len(prefix) :].split("/")
        if parts == [PIPELINE_INDEX]:
            chosen.append(file)
        elif len(parts) == 2 and index.get(parts[0]) and parts[0] not in NOT_LOADED:
            components.setdefault(parts[0], []).append(file)
    variants = set[str]()
    for members in components.values():
        by_name = {PurePosixPath(f.path).name: f for f in members}
        chosen += [f for name, f in by_name.items() if name.endswith(TEXTS) and SHARD_INDEX not in name]
        kept = choose_weights(sorted(n for n in by_name if variant_of(n) == variant)) if variant else []
        kept = kept or choose_weights(sorted(by_name))
        if not kept and (pickle := next((f for f in members if _ends(f.path, PICKLES)), None)):
            raise _pickle(pickle.path)
        if any(map(part_of, kept)):
            kept += [n for n in by_name if SHARD_INDEX in n and variant_of(n) == variant_of(kept[0])]
        chosen += [by_name[name] for name in kept]
        variants |= {found for name in by_name if (found := variant_of(name))}
    there = sorted(variants)
    if variant and variant not in variants:
        raise NoWeights(
            f"Its weights have no variant {variant} (there: {', '.join(there) or 'none'}). Leave it out.",
            variants=there,
        )
    return tuple(chosen), tuple(there)


def folder_from(
    selection: Selection, read: Callable[[RemoteFile], Mapping[str, Any]], header: Callable[[RemoteFile], Header]
) -> Folder:
    """What the probe needs of a folder that is not on disk yet: its small JSON files and its weights' headers."""
    index = read(next(f for f in selection.files if selection.inside(f) in (PIPELINE_INDEX, ADAPTER_INDEX)))
    configs: dict[str, Mapping[str, Any]] = {}
    shards: dict[str, dict[str, RemoteFile]] = {}
    for file in selection.files:
        component, _, name = selection.inside(file).rpartition("/")
        if name in CONFIGS:
            configs[component] = read(file)
        elif _ends(name, (".safetensors",)):
            shards.setdefault(component, {})[name] = file
    for names in shards.values():
        refuse_missing_parts([*names])
    headers = {c: merge_headers([header(file) for file in parts.values()]) for c, parts in shards.items()}
    return Folder(index, configs, headers, selection.name)


def _repository_name(listing: Listing) -> str:
    if listing.repo_id:
        return listing.repo_id.split("/")[-1]
    path = PurePosixPath(listing.source)
    return path.parent.name if listing.focus else path.name  # a file on disk is its own focus


def _nothing(listing: Listing, inside: list[RemoteFile], prefix: str) -> Exception:
    pickles = [f.path for f in inside if _ends(f.path, PICKLES)]
    if pickles:
        return _pickle(pickles[0])
    return NoWeights(
        f"There is no weight file ({', '.join(WEIGHTS)}) in {_label(listing)}{'/' + prefix if prefix else ''}."
    )


def _pickle(path: str) -> UnusableFile:
    return UnusableFile(
        f"{path} is a pickle, which can run code when it is loaded; modelshelf never opens one. "
        "Look for a .safetensors version, or convert it on a machine you can afford to lose.",
        probe="pickle",
        file=path,
    )


def address(listing: Listing, selection: Selection) -> str:
    """Of one of several options, as the user can type it."""
    path = selection.weights[0].path
    if listing.repo_id is None:
        return str(Path(listing.source, path))
    return str(HubSource(listing.repo_id, listing.ref, path))


def _label(listing: Listing) -> str:
    return listing.repo_id or listing.source
