"""Epsilon, v or flow: what a network predicts is never in its shapes, only in markers and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.claims import family_of
from probes.report import Evidence
from probes.subject import Subject

_MARKERS = {"v_pred": "v_prediction", "edm_vpred.sigma_max": "edm_v_prediction", "edm_mean": "edm"}
"""Tensors, most of them without elements, that merge tools and ComfyUI's checkpoint saver put beside the weights."""
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
) -> tuple[str, Evidence] | None:
    """The prediction type of a model of this family and where it stands, or None: the file does not tell."""
    for key, value in _MARKERS.items():
        if subject.whole.shape(key) is not None:
            return value, Evidence("prediction_type", True, key, value, "marker tensor present")
    stated: list[tuple[str, Any]] = [("scheduler_config.json", (scheduler or {}).get("prediction_type"))]
    stated += [(key, subject.metadata.get(key)) for key in _STATED]
    for key, said in stated:
        if isinstance(said, str) and (meant := _SPELLINGS.get(said.strip().lower().replace("-", "_"))):
            return meant, Evidence("prediction_type", True, key, meant, said)
    name = (scheduler or {}).get("_class_name")
    if isinstance(name, str) and name.startswith(_FLOW_SCHEDULERS):
        return "flow", Evidence("prediction_type", True, "scheduler_config.json", "flow", name)
    for key, meanings in _SAID_OF.items():
        base = subject.metadata.get(key, "").partition("/")[0]
        if base in meanings and family_of(base) == family:
            return meanings[base], Evidence("prediction_type", True, key, meanings[base], base)
    return None


def zero_snr(subject: Subject) -> tuple[Evidence, ...]:
    """That the file says it was trained up to noise alone, if it does. It tells nothing of what is predicted."""
    there = subject.whole.shape(_ZERO_SNR) is not None
    return (Evidence("zero_terminal_snr", True, _ZERO_SNR, "marker tensor", "present"),) if there else ()
