"""The answers of `probe`: order-free, with a reason and evidence, never a guess."""

from __future__ import annotations

import json
import pickle
import random
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import probes.engine
from probes import Header, HeaderIncomplete, Kind, Outcome, TensorSpec, parse_header, probe, read_header
from tests.probes import headers


def lora(*modules: tuple[str, int, int], rank: int = 4) -> Header:
    tensors = {}
    for name, inner, outer in modules:
        tensors[f"{name}.lora_down.weight"] = TensorSpec("F16", (rank, inner))
        tensors[f"{name}.lora_up.weight"] = TensorSpec("F16", (outer, rank))
    return Header(tensors)


def header_of(tensors: Mapping[str, tuple[int, ...]], dtype: str = "F16") -> Header:
    return Header({name: TensorSpec(dtype, shape) for name, shape in tensors.items()})


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_are_named_and_never_opened(tmp_path: Path) -> None:
    legacy, archive = tmp_path / "old.ckpt", tmp_path / "new.pt"
    legacy.write_bytes(pickle.dumps(Bomb(), protocol=2))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    framed = tmp_path / "framed.ckpt"
    framed.write_bytes(pickle.dumps(Bomb(), protocol=4))
    for path, form in ((legacy, "pickle"), (framed, "pickle"), (archive, "torch_zip")):
        report = probe(path)
        assert (report.outcome, report.format, report.source) == (Outcome.UNUSABLE, form, str(path))
        assert ".safetensors" in report.reason


PICKLED = {
    "table": {"state_dict": OrderedDict(bomb=Bomb())},
    "list": [Bomb()],
    "pair": ({}, Bomb()),
    "class": OrderedDict(bomb=Bomb()),
    "bomb": Bomb(),
    "torch": 0x1950A86A20F9469CFC6C,  # the number that torch.save puts first
}


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize("what", PICKLED)
def test_pickles_of_the_first_protocols_are_text_and_named_all_the_same(
    tmp_path: Path, what: str, protocol: int
) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps(PICKLED[what], protocol))
    report = probe(path)
    assert (report.outcome, report.format) == (Outcome.UNUSABLE, "pickle")


@pytest.mark.parametrize("first", ["sys_info", "pickle", "tensors", "storages"])
def test_a_tar_archive_of_pickles_is_one(tmp_path: Path, first: str) -> None:
    path = tmp_path / "0.1.9.pt"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(first))
    assert probe(path).format == "pickle"
    with pytest.raises(HeaderIncomplete):
        parse_header(path.read_bytes()[:200], path.stat().st_size)


def test_file_folder_and_header_give_the_same_report(tmp_path: Path) -> None:
    fixture = headers.load("unet-sd-1-diffusers")
    path = headers.write_sparse(tmp_path / "diffusion_pytorch_model.safetensors", fixture.tensors, fixture.metadata)
    report = probe(path)
    assert replace(report, source=None) == probe(read_header(path)) == probe(fixture.header)
    folder = probe(tmp_path)
    assert (folder.family, folder.layout, folder.format) == ("sd-1", "diffusers", "folder")


def test_a_file_that_another_takes_the_place_of_meanwhile_is_judged_by_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = headers.load("unet-sd-1-diffusers")
    path, whole = tmp_path / "model.safetensors", tmp_path / "model.safetensors.part"
    path.write_bytes(b"an older and shorter one")
    headers.write_sparse(whole, fixture.tensors)
    opened = Path.open

    def opening(path: Path, *how: object, **more: object) -> object:
        whole.replace(path)
        return opened(path, *how, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", opening)
    assert read_header(path).size == path.stat().st_size
    assert path.stat().st_size > 100


def test_remote_prefix_gives_the_same_report() -> None:
    fixture = headers.load("single-file-sdxl")
    head = headers.safetensors_bytes(fixture.tensors, fixture.metadata)
    assert probe(parse_header(head, len(head) + headers.data_size(fixture.tensors))) == probe(fixture.header)


@pytest.mark.parametrize("name", ["single-file-sdxl", "lora-sdxl-kohya", "lora-sd-1-self-attention"])
def test_order_of_tensors_and_of_signatures_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    header = headers.load(name).header
    before = probe(header)
    names = list(header.tensors)
    random.Random(7).shuffle(names)
    shuffled = [*probes.engine.SIGNATURES]
    random.Random(8).shuffle(shuffled)
    monkeypatch.setattr(probes.engine, "SIGNATURES", tuple(shuffled))
    after = probe(Header({name: header.tensors[name] for name in names}, header.metadata))
    assert (after.outcome, after.kind, after.family, after.candidates) == (
        before.outcome,
        before.kind,
        before.family,
        before.candidates,
    )


def test_report_is_json() -> None:
    report = probe(headers.load("lora-sd-1-kohya").header)
    document = json.loads(json.dumps(report.as_dict()))
    assert next(iter(document)) == "source"
    assert document["evidence"][0].keys() == {"rule", "ok", "key", "expected", "seen"}


def test_no_tensors_and_unknown_tensors_are_answers() -> None:
    assert probe(Header({})).outcome is Outcome.UNKNOWN
    report = probe(Header({"fc.weight": TensorSpec("F32", (10, 10)), "fc.bias": TensorSpec("F32", (10,))}))
    assert (report.outcome, report.kind, report.family) == (Outcome.UNKNOWN, None, None)
    assert "2 tensors" in report.reason


def test_a_packed_weight_whose_bias_has_no_length_is_an_answer() -> None:
    packed = {"x.weight": (8, 1), "x.weight.absmax": (1,), "x.bias": ()}
    assert probe(header_of(packed, "U8")).outcome is Outcome.UNKNOWN


def test_near_miss_says_what_speaks_against_it() -> None:
    header = headers.load("unet-ssd-1b-ldm").header
    against = {e.rule: e for e in probe(header).evidence}["not sdxl checkpoint"]
    assert (against.key, against.expected, against.seen) == ("input_blocks.7.1.transformer_blocks", "10", "4")


def test_foreign_module_in_a_known_network_is_not_passed_over() -> None:
    header = headers.load("unet-sd-2-diffusers").header
    extra = {"down_blocks.0.temporal_attentions.0.weight": TensorSpec("F16", (320, 320))}
    report = probe(Header({**header.tensors, **extra}))
    assert report.outcome is Outcome.UNKNOWN
    assert "temporal_attentions" in report.reason


def test_half_a_pair_is_unusable() -> None:
    header = headers.load("lora-sd-1-kohya").header
    lost = next(name for name in header.tensors if name.endswith("lora_up.weight"))
    report = probe(Header({name: spec for name, spec in header.tensors.items() if name != lost}))
    assert report.outcome is Outcome.UNUSABLE
    assert "half" in report.reason


def test_only_halves_are_unusable() -> None:
    header = headers.load("lora-sd-1-kohya-no-alpha").header
    report = probe(Header({name: spec for name, spec in header.tensors.items() if "lora_down" in name}))
    assert report.outcome is Outcome.UNUSABLE


def test_text_encoder_of_another_family_is_not_passed_over() -> None:
    header = lora(
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768, 320),
        ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1024, 1024),
    )
    assert probe(header).outcome is Outcome.UNKNOWN


def test_two_widths_of_text_in_one_file_are_unknown() -> None:
    header = lora(
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 768, 320),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 1024, 640),
    )
    assert probe(header).outcome is Outcome.UNKNOWN


def test_motion_lora_is_recognised_and_not_taken() -> None:
    """AnimateDiff's motion LoRAs adapt temporal layers of width 320, which must not pass for SD 1's own."""
    block = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0"
    header = Header(
        {
            f"{block}.processor.{part}_lora.{half}.weight": TensorSpec("F32", shape)
            for part in ("to_q", "to_k", "to_v", "to_out")
            for half, shape in (("down", (32, 320)), ("up", (320, 32)))
        }
    )
    assert probe(header).kind is Kind.MOTION_LORA


def test_language_model_lora_is_recognised_and_not_taken() -> None:
    tensors = {}
    for i in range(4):
        for part in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{i}.self_attn.{part}"
            tensors[f"{name}.lora_A.weight"] = TensorSpec("F32", (8, 4096))
            tensors[f"{name}.lora_B.weight"] = TensorSpec("F32", (4096, 8))
    assert probe(Header(tensors)).kind is Kind.LANGUAGE_MODEL


@pytest.mark.parametrize("draws", ["llm2vae.weight", "timestep_emb.mlp.0.weight"])
def test_a_language_model_that_draws_is_more_than_one(draws: str) -> None:
    language = {"model.wte.weight": (32000, 4096), "model.layers.0.self_attn.qkv_proj.weight": (6144, 4096)}
    assert probe(header_of(language)).kind is Kind.LANGUAGE_MODEL
    assert probe(header_of({**language, draws: (4096, 256)})).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        ({"emb_params": (2, 768)}, Kind.TEXTUAL_INVERSION),
        ({"<cat>": (768,)}, Kind.TEXTUAL_INVERSION),
        ({"clip_l": (4, 768), "clip_g": (4, 1280)}, Kind.TEXTUAL_INVERSION),
        ({"clip_l": (4, 768), "clip_g": (4, 1280), "t5xxl": (4, 4096)}, Kind.TEXTUAL_INVERSION),
        ({"emb_params": (150, 768)}, Kind.TEXTUAL_INVERSION),
        ({"string_to_param.*": (2, 768)}, Kind.TEXTUAL_INVERSION),
        ({"text_encoders_0": (2, 768), "text_encoders_1": (2, 1280)}, Kind.TEXTUAL_INVERSION),
        ({"<v1.5-style>": (1, 768)}, Kind.TEXTUAL_INVERSION),
        ({"sks": (768,)}, Kind.TEXTUAL_INVERSION),
        ({"my_style-2": (768,)}, Kind.TEXTUAL_INVERSION),
        (
            {"model.embed_tokens.weight": (32000, 4096), "model.layers.0.self_attn.q_proj.weight": (4096, 4096)},
            Kind.LANGUAGE_MODEL,
        ),
        (
            {
                "token_embedding.weight": (256384, 4096),
                "blocks.0.attn.q.weight": (4096, 4096),
                "blocks.0.pos_embedding.embedding.weight": (32, 64),
            },
            Kind.TEXT_ENCODER,
        ),
        (
            {
                "0.weight": (64, 3, 3, 3),
                "1.conv.0.weight": (64, 64, 3, 3),
                "1.conv.4.weight": (64, 64, 3, 3),
                "14.weight": (4, 64, 3, 3),
            },
            Kind.VAE,
        ),
        ({"lllite_unet_input_blocks_1_1_attn1.conditioning1.0.weight": (32, 3, 4, 4)}, Kind.CONTROLNET),
    ],
)
def test_recognised_but_not_taken(tensors: dict[str, tuple[int, ...]], kind: Kind) -> None:
    report = probe(Header({name: TensorSpec("F16", shape) for name, shape in tensors.items()}))
    assert (report.outcome, report.kind) == (Outcome.IDENTIFIED, kind)


@pytest.mark.parametrize("up", [(0, 0), (640, 0)])
def test_a_matrix_of_no_columns_is_no_half_of_a_pair(up: tuple[int, int]) -> None:
    name = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    header = Header(
        {f"{name}.lora_down.weight": TensorSpec("F16", (4, 640)), f"{name}.lora_up.weight": TensorSpec("F16", up)}
    )
    assert probe(header).outcome is Outcome.UNUSABLE


def test_what_an_adapter_is_does_not_depend_on_the_order_of_its_tensors() -> None:
    """safetensors' own writer sorts names, which puts a bias's difference (diff_b) before its layer's factors."""
    header = headers.load("lora-wan-14b-i2v-lightx2v").header
    as_found = probe(header)
    for names in (sorted(header.tensors), sorted(header.tensors, reverse=True)):
        again = probe(Header({name: header.tensors[name] for name in names}, header.metadata))
        assert (again.reason, again.rank, again.layout) == (as_found.reason, as_found.rank, as_found.layout)
