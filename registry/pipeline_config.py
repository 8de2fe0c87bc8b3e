"""What must be known beside the tensors to run a checkpoint: the JSON of a diffusers folder, or of the family that a single file is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from probes import TensorSpec
from probes.containers.folder import PIPELINE_INDEX
from registry.backends.schedulers import scheduler_of
from registry.compatibility import checkpoint_tensors
from registry.config_bounds import check_config
from registry.errors import FileMissing, NotGenerable, UnusableFile

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts of a diffusers pipeline: its denoiser, and each text encoder with its tokenizer. `patch`: latents per side of what the
    denoiser takes as one token. `packed`: channels that the denoiser takes for each of the VAE's. `optional`: text encoders that a folder
    may lack."""

    denoiser: str
    tokenizers: Mapping[str, str]
    patch: int = 1
    packed: int = 1
    optional: frozenset[str] = frozenset()


_TWO = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
LAYOUTS: Mapping[str, Layout] = {
    "StableDiffusionPipeline": Layout("unet", {"text_encoder": "tokenizer"}),
    "StableDiffusionXLPipeline": Layout("unet", _TWO),
    "StableDiffusion3Pipeline": Layout(
        "transformer", {**_TWO, "text_encoder_3": "tokenizer_3"}, patch=2, optional=frozenset({"text_encoder_3"})
    ),
    "FluxPipeline": Layout("transformer", _TWO, patch=2, packed=4),
}
"""The pipelines that can be run, by diffusers' class name."""
_ALSO: Mapping[str, str] = {
    "StableDiffusionImg2ImgPipeline": "StableDiffusionPipeline",
    "LatentConsistencyModelPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLPipeline",
    "StableDiffusion3Img2ImgPipeline": "StableDiffusion3Pipeline",
    "FluxImg2ImgPipeline": "FluxPipeline",
}
"""Classes over the same modules: what differs is the call, which is ours."""


NATIVE_LATENTS = 128
"""Per side, where a denoiser's configuration has none: FLUX.1's, in diffusers' FluxPipeline."""


@dataclass(frozen=True, slots=True)
class TokenizerRef:
    """`folder` of a tokenizer's files; None: CLIP's own vocabulary, which ships with modelshelf, padded with `pad` to `length` tokens."""

    folder: Path | None = None
    pad: str = "<|endoftext|>"
    length: int = 77


@dataclass(frozen=True)
class PipelineConfig:
    """Configurations by component (`unet`, `vae`, `text_encoder`, ...), and where the tokenizers come from.

    `origin`: whose these are, for people. `folder`: the diffusers folder they were read from, if any. `options`: arguments of the pipeline
    itself. `unused`: canonical names of tensors that the file has and the pipeline does not use.
    """

    pipeline: str
    origin: str
    components: Mapping[str, Json]
    tokenizers: Mapping[str, TokenizerRef]
    scheduler_config: Json
    options: Json = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Raises UnusableFile: a configuration has numbers that no model has."""
        for component, config in {**self.components, "scheduler": self.scheduler_config}.items():
            check_config(f"{self.origin}'s {component}", config)

    @classmethod
    def from_folder(cls, path: Path) -> PipelineConfig:
        """Reads a diffusers folder's JSON files; no weights.

        Raises FileMissing: a component's configuration is not there. UnusableFile: it is no JSON object. NotGenerable: the folder
        is of a pipeline that is not in LAYOUTS.
        """
        index = _read(path / PIPELINE_INDEX)
        stated = str(index.get("_class_name"))
        pipeline = _ALSO.get(stated, stated)
        if "Inpaint" in pipeline:
            raise NotGenerable(
                f"{path.name} is an inpainting checkpoint ({stated}): it needs a mask, which a prompt cannot give.",
                pipeline=stated,
            )
        if (layout := LAYOUTS.get(pipeline)) is None:
            raise NotGenerable(f"{path.name} is a {stated}; those can be run: {', '.join(LAYOUTS)}.", pipeline=stated)
        without = {name for name in layout.optional if index.get(name, [None])[0] is None}
        tokenizers = {encoder: name for encoder, name in layout.tokenizers.items() if encoder not in without}
        for name in tokenizers.values():
            if not (path / name).is_dir():
                raise FileMissing(f"{path.name} has no {name} folder.", path=str(path / name))
        return cls(
            pipeline=pipeline,
            origin=path.name,
            components={c: _read(path / c / "config.json") for c in (layout.denoiser, "vae", *tokenizers)},
            tokenizers={name: TokenizerRef(path / name) for name in tokenizers.values()},
            scheduler_config=_read(path / "scheduler" / "scheduler_config.json"),
            options={k: v for k, v in index.items() if isinstance(v, bool) and k in _OPTIONS.get(pipeline, ())},
            folder=path,
        )

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.pipeline]

    @property
    def denoiser(self) -> Json:
        return self.components[self.layout.denoiser]

    @property
    def vae(self) -> Json:
        return self.components["vae"]

    @property
    def vae_scale(self) -> int:
        """Pixels per latent, each way: every VAE level but the last halves the picture."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def pixel_unit(self) -> int:
        """Width and height are multiples of this many pixels."""
        return self.vae_scale * self.layout.patch

    @property
    def native_size(self) -> tuple[int, int]:
        """Width and height in pixels of the pictures that the checkpoint was trained on."""
        sample = self.denoiser.get("sample_size", NATIVE_LATENTS)
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return int(width) * self.vae_scale, int(height) * self.vae_scale

    @property
    def scheduler(self) -> str | None:
        """Canonical name of the scheduler that the checkpoint came with; None: its class is not in our table."""
        return scheduler_of(self.scheduler_config)

    @property
    def scheduler_class(self) -> str:
        """As scheduler_config.json names it."""
        return str(self.scheduler_config.get("_class_name"))

    @cached_property
    def key(self) -> str:
        """Equal for two configurations exactly if they make the same pipeline. Hexadecimal."""
        tokenizers = {name: [str(t.folder), t.pad, t.length] for name, t in self.tokenizers.items()}
        parts = [self.pipeline, self.components, tokenizers, self.scheduler_config, self.options, sorted(self.unused)]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def refuse_extra_inputs(self) -> None:
        """Raises NotGenerable: the denoiser takes more channels than latents have."""
        takes, gives = self.denoiser["in_channels"], self.vae["latent_channels"] * self.layout.packed
        if takes != gives:
            raise NotGenerable(
                f"Its denoiser takes {takes} channels, the VAE gives {gives}: an inpainting or editing checkpoint, which text alone "
                "cannot drive."
            )

    @cached_property
    def _tensors(self) -> Mapping[str, tuple[int, ...]]:
        if self.folder is None:
            raise ValueError(f"{self.origin} is no folder: it has no tensors")
        return {name: spec.shape for name, spec in checkpoint_tensors(self.folder).items()}

    def lent_to(self, tensors: Mapping[str, TensorSpec]) -> PipelineConfig | None:
        """How a checkpoint with these canonical `tensors` runs with the configurations of this folder; None: it does not.

        The folder's own tensors must have the same names and shapes; text encoders that the pipeline can do without may be lacking. What
        leaves no trace in a shape (the number of attention heads, the prediction type) is not seen: compare families first.
        """
        theirs = {name: spec.shape for name, spec in tensors.items()}
        has = {name.partition(".")[0] for name in theirs}
        without = self.layout.optional - has
        own = {name: shape for name, shape in self._tensors.items() if name.partition(".")[0] not in without}
        unused = {name for name in theirs.keys() - own.keys() if name.endswith(_SURPLUS)}
        if own != {name: shape for name, shape in theirs.items() if name not in unused}:
            return None
        lacking = {self.layout.tokenizers[encoder] for encoder in without}
        return replace(
            self,
            components={name: config for name, config in self.components.items() if name not in without},
            tokenizers={name: ref for name, ref in self.tokenizers.items() if name not in lacking},
            unused=frozenset(unused),
        )


_SURPLUS = (".text_projection.weight", ".encoder.embed_tokens.weight")
"""ComfyUI writes every CLIP with its projection, which not every pipeline uses, and T5's word embedding under both its names."""
_OPTIONS = {"StableDiffusionXLPipeline": ("force_zeros_for_empty_prompt",)}
"""What a model_index.json says about the pipeline as a whole, and changes pictures."""


def _read(path: Path) -> Json:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileMissing(f"{path.parent.name}/{path.name} is missing.", path=str(path)) from None
    except ValueError as error:
        raise UnusableFile(f"{path.parent.name}/{path.name} is not JSON: {error}", path=str(path)) from error
    if not isinstance(content, dict):
        raise UnusableFile(f"{path.parent.name}/{path.name} is not a JSON object.", path=str(path))
    return content
