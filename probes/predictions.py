"""Epsilon, v or flow: what a network predicts is never in its shapes, only in markers and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.report import Evidence
from probes.subject import Subject

_MARKERS = {"v_pred": "v_prediction", "edm_vpred.sigma_max": "edm_v_prediction", "edm_mean": "edm"}
"""Tensors, most of them without elements, that merge tools and ComfyUI's checkpoint saver put beside the weights."""
_SPELLINGS = {
    "epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction", "v-prediction": "v_prediction",
    "sample": "sample", "flow": "flow", "flow_prediction": "flow", "rectified-flow": "flow", "rectified_flow": "flow",
}  # fmt: skip
_STATED = ("modelspec.prediction_type", "modelspec.predict_key")
"""Metadata keys that state it: the standard's and kohya's, and what ComfyUI's checkpoint saver writes instead."""
_SAID_OF = {
    "modelspec.architecture": {"stable-diffusion-v2-768-v": "v_prediction", "stable-diffusion-v2-512": "epsilon"},
    # kohya's, whose trainer knew; of SDXL it names the base alone
    "ss_base_model_version": {"sd_v1": "epsilon", "sd_v1_v": "v_prediction", "sd_v2": "epsilon", "sd_v2_v": "v_prediction"},
}  # fmt: skip
"""Metadata key -> what a base model's name says."""


def prediction_type(subject: Subject, scheduler: Mapping[str, Any] | None) -> tuple[str, Evidence] | None:
    """The prediction type and where it stands, or None: the file does not tell."""
    for key, value in _MARKERS.items():
        if subject.whole.shape(key) is not None:
            return value, Evidence("prediction_type", True, key, value, "marker tensor present")
    said = (scheduler or {}).get("prediction_type")
    if isinstance(said, str) and said in _SPELLINGS:
        return _SPELLINGS[said], Evidence("prediction_type", True, "scheduler_config.json", _SPELLINGS[said], said)
    for key in _STATED:
        said = subject.metadata.get(key, "")
        if said in _SPELLINGS:
            return _SPELLINGS[said], Evidence("prediction_type", True, key, _SPELLINGS[said], said)
    for key, meanings in _SAID_OF.items():
        said = subject.metadata.get(key, "").partition("/")[0]
        if said in meanings:
            return meanings[said], Evidence("prediction_type", True, key, meanings[said], said)
    return None
