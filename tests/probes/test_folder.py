"""Folders: diffusers pipelines, single components, PEFT adapters; on disk or put together from fetched parts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from probes import Folder, Hints, Kind, Outcome, UnreadableModel, choose_weights, probe, read_folder
from tests.probes import headers

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
}


def pipeline(
    path: Path, unet: str = "unet-sd-2-diffusers", weights: str = "diffusion_pytorch_model.safetensors"
) -> Path:
    (path / "unet").mkdir(parents=True)
    (path / "scheduler").mkdir()
    (path / "model_index.json").write_text(json.dumps(INDEX))
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"prediction_type": "v_prediction"}))
    (path / "unet" / "config.json").write_text(
        json.dumps({"_class_name": "UNet2DConditionModel", "cross_attention_dim": 1024})
    )
    fixture = headers.load(unet)
    headers.write_sparse(path / "unet" / weights, fixture.tensors, fixture.metadata)
    return path


def test_pipeline_folder(tmp_path: Path) -> None:
    report = probe(pipeline(tmp_path / "sd2"))
    assert (report.outcome, report.kind, report.family) == (Outcome.IDENTIFIED, Kind.CHECKPOINT, "sd-2")
    assert (report.format, report.prediction_type) == ("diffusers folder", "v_prediction")
    assert report.evidence[0].seen == "StableDiffusionPipeline"


@pytest.mark.parametrize(
    ("pipeline_class", "unet", "answer"),
    [
        ("StableDiffusionInpaintPipeline", "unet-sd-1-inpaint-diffusers", ("sd-1", "inpaint")),
        ("PaintByExamplePipeline", "unet-sd-1-inpaint-diffusers", ("sd-1", "image-prompt")),
        ("StableDiffusionImageVariationPipeline", "unet-sd-1-diffusers", ("sd-1", "image-prompt")),
        ("StableDiffusionLDM3DPipeline", "unet-sd-1-diffusers", ("sd-1", "rgb-d")),
        ("StableDiffusionLDM3DPipeline", "unet-sdxl-diffusers", ("sdxl", "normal")),
    ],
)
def test_a_pipeline_tells_what_its_unet_does_not_and_overrules_no_shape(
    tmp_path: Path, pipeline_class: str, unet: str, answer: tuple[str, str]
) -> None:
    folder = read_folder(pipeline(tmp_path / "model", unet))
    report = probe(Folder({**INDEX, "_class_name": pipeline_class}, folder.configs, folder.headers))
    assert (report.family, report.variant) == answer


def test_pipeline_from_fetched_parts_is_the_same(tmp_path: Path) -> None:
    folder = read_folder(pipeline(tmp_path / "sd2"))
    assert set(folder.headers) == {"unet"}
    assert folder.configs["scheduler"]["prediction_type"] == "v_prediction"
    assert probe(Folder(folder.index, folder.configs, folder.headers)).family == "sd-2"


def test_sharded_component(tmp_path: Path) -> None:
    path = pipeline(tmp_path / "model")
    unet = path / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    tensors = list(headers.load("unet-sd-2-diffusers").tensors.items())
    for number, part in ((1, tensors[:300]), (2, tensors[300:])):
        headers.write_sparse(unet / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors", dict(part))
    assert probe(path).family == "sd-2"


def sharded(folder: Path, parts: int, missing: int | None = None) -> Path:
    """SDXL's UNet in so many files, but for one."""
    tensors = headers.load("unet-sdxl-diffusers").tensors
    names = list(tensors)
    each = -(-len(names) // parts)
    folder.mkdir(exist_ok=True)
    for part in range(parts):
        if part + 1 != missing:
            name = f"diffusion_pytorch_model-{part + 1:05}-of-{parts:05}.safetensors"
            held = {key: tensors[key] for key in names[part * each : (part + 1) * each]}
            headers.write_sparse(folder / name, held)
    return folder


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_shard_that_is_missing_is_a_download_that_never_finished(tmp_path: Path, missing: int) -> None:
    """Whatever it holds: the second third of SDXL's blocks tells nothing that the others do not."""
    with pytest.raises(UnreadableModel, match=f"lacks 1 of the 3 files.*-0000{missing}-of-00003") as caught:
        probe(sharded(tmp_path / "unet", 3, missing))
    assert caught.value.code == "truncated"


def test_of_two_savings_in_one_folder_the_whole_one_counts(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "unet", 2, missing=1)
    assert probe(sharded(folder, 3)).family == "sdxl"


def test_shards_that_name_the_same_tensor_are_no_model(tmp_path: Path) -> None:
    tensors = headers.load("unet-sd-1-miniature-diffusers").tensors
    for number in (1, 2):
        headers.write_sparse(tmp_path / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors", tensors)
    with pytest.raises(UnreadableModel, match=f"{min(tensors)}.*nothing tells which one counts") as caught:
        probe(tmp_path)
    assert caught.value.code == "duplicate_names"


def test_a_component_that_is_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(26) + b"archive/data.pkl")
    assert "pickle" in probe(tmp_path).reason
    for name in ("a", "b"):  # which of them is meant, is the question then
        headers.write_sparse(tmp_path / f"{name}.safetensors", headers.load("lora-sd-1-kohya").tensors)
    with pytest.raises(UnreadableModel, match="no model_index"):
        probe(tmp_path)


def test_components_are_folders_in_the_folder(tmp_path: Path) -> None:
    pipeline(tmp_path / "other")
    index = {"unet": ["diffusers", "UNet2DConditionModel"]}
    for name in ("../other/unet", str(tmp_path / "other" / "unet"), "x" * 5000):
        index[name] = ["diffusers", "UNet2DConditionModel"]
    (tmp_path / "sly").mkdir()
    (tmp_path / "sly" / "model_index.json").write_text(json.dumps(index))
    assert read_folder(tmp_path / "sly").headers == {}
    assert probe(tmp_path / "sly").outcome is Outcome.UNUSABLE


def test_peft_folder_with_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"PK\x03\x04" + bytes(26) + b"archive/data.pkl")
    assert "pickle" in probe(tmp_path).reason


def test_a_component_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by a patch, because tests may run as root, who is refused nothing."""
    listed = Path.iterdir

    def iterdir(path: Path) -> object:
        if path.name == "unet":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(UnreadableModel) as caught:
        read_folder(pipeline(tmp_path / "model"))
    assert caught.value.code == "not_readable"


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_paths_that_cannot_be(name: str) -> None:
    with pytest.raises(UnreadableModel):
        probe(name)


def test_pickled_pipeline_is_unusable(tmp_path: Path) -> None:
    path = pipeline(tmp_path / "old")
    (path / "unet" / "diffusion_pytorch_model.safetensors").rename(path / "unet" / "diffusion_pytorch_model.bin")
    report = probe(path)
    assert report.outcome is Outcome.UNUSABLE
    assert "pickle" in report.reason


SHARDS = ("diffusion_pytorch_model.safetensors.index.json", "first.safetensors", "second.safetensors")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (SHARDS, f"{SHARDS[0]} is of weights that were saved in several files.*under the names"),
        (SHARDS[:1], f"{SHARDS[0]} is of weights that were saved in several files.*Get all of them"),
        (["flux1-dev-Q4_K_S.gguf"], r"weights are in flux1-dev-Q4_K_S\.gguf, .*\.safetensors files alone.*by itself"),
        (["sdxl.sft"], r"weights are in sdxl\.sft, "),
    ],
)
def test_weights_that_a_folder_has_and_that_do_not_count(tmp_path: Path, names: Sequence[str], why: str) -> None:
    path = pipeline(tmp_path / "model")
    (path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for name in names:
        (path / "unet" / name).write_text("{}")
    report = probe(path)
    assert report.outcome is Outcome.UNUSABLE
    assert re.search(why, report.reason), report.reason
    (path / "unet" / "config.json").unlink()
    with pytest.raises(UnreadableModel, match=why) as caught:
        probe(path / "unet")
    assert caught.value.code == "no_model_folder"


def test_pipeline_without_its_denoiser(tmp_path: Path) -> None:
    path = pipeline(tmp_path / "cut")
    (path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert probe(path).outcome is Outcome.UNUSABLE


@pytest.mark.parametrize(
    ("fixture", "kind"),
    [
        ("vae-diffusers", "vae"),
        ("lora-sd-1-diffusers", "lora"),
        ("lora-sd-1-self-attention", "lora"),
        ("lcm-lora-sd-1", "lcm_lora or lora"),
    ],
)
def test_a_pipeline_whose_denoiser_is_something_else_is_no_model(tmp_path: Path, fixture: str, kind: str) -> None:
    report = probe(pipeline(tmp_path / "model", fixture))
    assert (report.outcome, report.kind, report.family) == (Outcome.UNUSABLE, None, None)
    assert f"unet is of the kind {kind}, " in report.reason


@pytest.mark.parametrize("name", ["model_index.json", "adapter_config.json"])
def test_an_index_that_does_not_say_of_what(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"r": 8}')
    report = probe(tmp_path)
    assert report.outcome is Outcome.UNUSABLE
    assert "neither a pipeline (_class_name) nor an adapter (peft_type)" in report.reason


def test_peft_folder_and_its_base(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "stabilityai/stable-diffusion-2-1"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    headers.write_sparse(tmp_path / "adapter_model.safetensors", headers.load("lora-sd-2-peft").tensors)
    report = probe(tmp_path)
    assert (report.kind, report.family, report.format, report.rank) == (Kind.LORA, "sd-2", "peft folder", 16)


def test_class_of_the_base_in_adapter_config_breaks_a_tie(tmp_path: Path) -> None:
    """PEFT writes it for every model that is not transformers' own."""
    library = {"parent_library": "diffusers.models.transformers.transformer_chroma"}
    config = {"peft_type": "LORA", "base_model_name_or_path": "/home/ada/model", "auto_mapping": library}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    headers.write_sparse(tmp_path / "adapter_model.safetensors", headers.load("lora-flux-unmodulated").tensors)
    assert probe(tmp_path).family == "chroma"


def test_base_in_adapter_config_breaks_a_tie(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": "runwayml/stable-diffusion-v1-5"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    headers.write_sparse(tmp_path / "adapter_model.safetensors", headers.load("lora-sd-1-self-attention").tensors)
    assert probe(tmp_path).family == "sd-1"


def test_folder_with_one_lora_file(tmp_path: Path) -> None:
    fixture = headers.load("lcm-lora-sd-1")
    headers.write_sparse(tmp_path / "pytorch_lora_weights.safetensors", fixture.tensors, fixture.metadata)
    assert probe(tmp_path, Hints(card={"tags": ["lcm"]})).kind is Kind.LCM_LORA


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("model_index.json", "{", "bad_config"),
        ("model_index.json", "[]", "bad_config"),
        ("readme.txt", "", "no_model_folder"),
    ],
)
def test_folders_that_are_no_model(tmp_path: Path, name: str, text: str, code: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableModel) as caught:
        read_folder(tmp_path)
    assert caught.value.code == code


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="There is no folder"):
        read_folder(tmp_path / "gone")


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["model.fp16.safetensors", "model.safetensors"], ["model.safetensors"]),
        (["model.fp16.safetensors", "model.bin"], ["model.fp16.safetensors"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (
            ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"],
            ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"],
        ),
        (["anything.safetensors"], ["anything.safetensors"]),
        (["model.SAFETENSORS", "config.json"], ["model.SAFETENSORS"]),
        (["model.SAFETENSORS", "model.safetensors"], ["model.safetensors"]),
        (["one.safetensors", "two.safetensors"], []),
        (["model.bin"], []),
    ],
)
def test_which_weights_count(files: list[str], chosen: list[str]) -> None:
    assert choose_weights(files) == chosen
