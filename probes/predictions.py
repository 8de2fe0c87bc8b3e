"""Epsilon, v or flow: what a network predicts is never in its shapes, only in markers and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.claims import family_of
from probes.report import Evidence
from probes.subject import Subject

_MARKERS = {"edm_mean": "edm", "edm_vpred.sigma_max": "edm_v_prediction", "v_pred": "v_prediction"}
"""Tensors, most of them without elements, that merge tools and ComfyUI's checkpoint saver put beside the weights; in the order in which
ComfyUI asks for them, as its saver puts the last two into one file (a model of v with EDM's sampling)."""
_SPELLINGS = {
    "epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_pred": "v_prediction", "vpred": "v_prediction",
    "v_prediction": "v_prediction", "sample": "sample", "flow": "flow", "flow_prediction": "flow", "rectified_flow": "flow",
}  # fmt: skip
"""In small letters, with `_` between words."""
_FLOW_SCHEDULERS = "FlowMatch"
"""What the classes of diffusers' schedulers for flows begin with; their configurations state no prediction type."""
_ZERO_SNR = "ztsnr"
"""A marker tensor, too: of the noise that it was trained with, which ends in nothing of the picture. ComfyUI's saver puts it beside
`v_pred`, and its loader takes a checkpoint that has it alone for one that predicts epsilon."""
_STATED = ("modelspec.prediction_type", "modelspec.predict_key")
"""Metadata keys that state it: the standard's and kohya's, and what ComfyUI's checkpoint saver writes instead."""
_SAID_OF = {
    "modelspec.architecture": {"stable-diffusion-v2-768-v": "v_prediction", "stable-diffusion-v2-512": "epsilon"},
    # kohya's, whose trainer knew; of SDXL it names the base alone
    "ss_base_model_version": {"sd_v1": "epsilon", "sd_v1_v": "v_prediction", "sd_v2": "epsilon", "sd_v2_v": "v_prediction"},
}  # fmt: skip
"""Metadata key -> what a base model's name says, where it names the family that the shapes are."""


def prediction_type(
    subject: Subject, family: str | None, scheduler: Mapping[str, Any] | None
) -> tuple[str | None, tuple[Evidence, ...]]:
    """The prediction type of a model of this family and where it stands; None where the file does not tell, or its metadata
    contradict each other.

    A marker counts before a pipeline's scheduler, that before what the metadata state, and that before what a base's name says there.
    """
    metadata = subject.metadata
    for found in (_marked(subject), _scheduled(scheduler or {}), _stated(metadata), _named(metadata, family)):
        if found:
            meant = {evidence.expected for evidence in found}
            return (found[0].expected, found[:1]) if len(meant) == 1 else (None, found)
    return None, ()


def _marked(subject: Subject) -> tuple[Evidence, ...]:
    key = next((key for key in _MARKERS if subject.whole.shape(key) is not None), None)
    return () if key is None else (_says(key, _MARKERS[key], "marker tensor present"),)


def _scheduled(scheduler: Mapping[str, Any]) -> tuple[Evidence, ...]:
    said, name = scheduler.get("prediction_type"), scheduler.get("_class_name")
    if meant := _meaning(said):
        return (_says("scheduler_config.json", meant, said),)
    is_flow = isinstance(name, str) and name.startswith(_FLOW_SCHEDULERS)
    return (_says("scheduler_config.json", "flow", name),) if is_flow else ()


def _stated(metadata: Mapping[str, str]) -> tuple[Evidence, ...]:
    return tuple(_says(key, meant, metadata[key]) for key in _STATED if (meant := _meaning(metadata.get(key))))


def _named(metadata: Mapping[str, str], family: str | None) -> tuple[Evidence, ...]:
    bases = {key: metadata.get(key, "").partition("/")[0] for key in _SAID_OF}
    return tuple(
        _says(key, _SAID_OF[key][base], base)
        for key, base in bases.items()
        if base in _SAID_OF[key] and family_of(base) == family
    )


def _meaning(said: Any) -> str | None:
    return _SPELLINGS.get(said.strip().lower().replace("-", "_")) if isinstance(said, str) else None


def _says(key: str, meant: str, seen: Any) -> Evidence:
    return Evidence("prediction_type", True, key, meant, seen)


def zero_snr(subject: Subject) -> tuple[Evidence, ...]:
    """That the file says it was trained up to noise alone, if it does. It tells nothing of what is predicted."""
    there = subject.whole.shape(_ZERO_SNR) is not None
    return (Evidence("zero_terminal_snr", True, _ZERO_SNR, "marker tensor", "present"),) if there else ()
