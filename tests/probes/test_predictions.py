"""What a network predicts: from marker tensors, metadata and configurations, most of which say so in passing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from probes import Folder, TensorSpec, probe, sentence
from tests.probes import headers


@pytest.mark.parametrize(
    ("fixture", "metadata", "predicts"),
    [
        ("single-file-sdxl", {}, None),
        ("single-file-sdxl", {"modelspec.prediction_type": "v"}, "v_prediction"),
        ("single-file-sdxl", {"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ("single-file-sdxl", {"modelspec.prediction_type": "V"}, "v_prediction"),
        ("single-file-sdxl", {"modelspec.prediction_type": "v_pred"}, "v_prediction"),
        ("single-file-sdxl", {"modelspec.prediction_type": "v-prediction"}, "v_prediction"),
        ("single-file-sdxl", {"modelspec.prediction_type": " V-Pred"}, "v_prediction"),
        ("single-file-sdxl", {"modelspec.prediction_type": "EPS"}, "epsilon"),
        ("single-file-sdxl", {"modelspec.prediction_type": "whatever"}, None),
        ("single-file-sdxl", {"modelspec.predict_key": "epsilon"}, "epsilon"),  # ComfyUI's CheckpointSave
        ("single-file-sdxl", {"modelspec.predict_key": "v"}, "v_prediction"),
        ("single-file-sdxl", {"ss_base_model_version": "sdxl_base_v1-0"}, None),
        ("single-file-sd-2", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction"),
        ("lora-sd-2-kohya", {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "v_prediction"),
        ("lora-sd-2-kohya", {"ss_base_model_version": "sd_v2_v"}, "v_prediction"),
        ("lora-sd-2-kohya", {"ss_base_model_version": "sd_v2"}, "epsilon"),
        ("lora-sd-1-kohya", {"ss_base_model_version": "sd_v1", "modelspec.prediction_type": "v"}, "v_prediction"),
        ("lora-sd-1-kohya", {"ss_base_model_version": "sd_v1"}, "epsilon"),
        # a base that the shapes are not says nothing of what they predict
        ("single-file-sdxl", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, None),
        ("single-file-sd-2", {"ss_base_model_version": "sd_v1"}, None),
        ("lora-sdxl-kohya", {"ss_base_model_version": "sd_v2_v"}, None),
    ],
)
def test_metadata(fixture: str, metadata: Mapping[str, str], predicts: str | None) -> None:
    report = probe(replace(headers.load(fixture), metadata=metadata).header)
    assert report.prediction_type == predicts
    assert [e.expected for e in report.evidence if e.rule == "prediction_type"] == ([predicts] if predicts else [])


@pytest.mark.parametrize(
    ("fixture", "metadata"),
    [
        ("single-file-sdxl", {"modelspec.prediction_type": "epsilon", "modelspec.predict_key": "v"}),
        ("lora-sd-2-kohya", {"modelspec.architecture": "stable-diffusion-v2-512/lora", "ss_base_model_version": "sd_v2_v"}),
    ],
)  # fmt: skip
def test_metadata_that_contradict_each_other_leave_it_open(fixture: str, metadata: Mapping[str, str]) -> None:
    header = headers.load(fixture).header
    report = probe(replace(header, metadata=metadata))
    assert report.prediction_type is None
    assert {e.key: e.expected for e in report.evidence if e.rule == "prediction_type"}.keys() == metadata.keys()
    marked = replace(header, metadata=metadata, tensors={**header.tensors, "v_pred": TensorSpec("F32", (0,))})
    if report.kind == "checkpoint":
        assert probe(marked).prediction_type == "v_prediction"


@pytest.mark.parametrize(
    ("markers", "predicts"),
    [
        (("v_pred", "edm_vpred.sigma_max", "edm_vpred.sigma_min"), "edm_v_prediction"),
        (("edm_mean", "edm_std", "v_pred"), "edm"),
    ],
)
def test_of_several_markers_the_one_counts_that_comfyui_asks_for_first(markers: tuple[str, ...], predicts: str) -> None:
    """Its saver writes both for a model of v with EDM's sampling, and loads that as EDM's."""
    header = headers.load("single-file-sdxl").header
    marked = replace(header, tensors={**header.tensors, **{marker: TensorSpec("F32", (0,)) for marker in markers}})
    assert probe(marked).prediction_type == predicts


@pytest.mark.parametrize(
    ("marker", "predicts"),
    [
        ("v_pred", "v_prediction"),
        ("edm_vpred.sigma_max", "edm_v_prediction"),
        ("edm_mean", "edm"),
        ("ztsnr", None),  # says of the noise, not of what is predicted
    ],
)
def test_marker_tensors(marker: str, predicts: str | None) -> None:
    header = headers.load("single-file-sdxl").header
    marked = replace(header, tensors={**header.tensors, marker: TensorSpec("F32", (0,))})
    report = probe(marked)
    assert (report.family, report.prediction_type, report.default_prediction_type) == ("sdxl", predicts, "epsilon")


@pytest.mark.parametrize("markers", [("ztsnr",), ("v_pred", "ztsnr")])
def test_zero_terminal_snr_is_told_though_it_says_nothing_of_what_is_predicted(markers: tuple[str, ...]) -> None:
    header = headers.load("single-file-sdxl").header
    marked = replace(header, tensors={**header.tensors, **{marker: TensorSpec("F32", (0,)) for marker in markers}})
    told = [sentence(e) for e in probe(marked).evidence if e.rule == "zero_terminal_snr"]
    assert told == ["ztsnr says that it was trained up to noise alone"]
    assert "zero_terminal_snr" not in {e.rule for e in probe(header).evidence}


@pytest.mark.parametrize(
    ("scheduler", "predicts"),
    [
        ({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}, "v_prediction"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler", "prediction_type": None}, "flow"),
        ({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"}, "flow"),
        ({"_class_name": "EulerDiscreteScheduler"}, None),
        ({"_class_name": 3}, None),
        ({}, None),
    ],
)
def test_scheduler_configuration(scheduler: Mapping[str, object], predicts: str | None) -> None:
    """Of schedulers for flows the class says it: their configurations have nothing to choose."""
    parts = {"transformer": headers.load("sd-3-medium-diffusers").header}
    report = probe(Folder({"_class_name": "StableDiffusion3Pipeline"}, {"scheduler": scheduler}, parts))
    assert report.prediction_type == predicts
    assert [e.key for e in report.evidence if e.rule == "prediction_type"] == ["scheduler_config.json"] * bool(predicts)
