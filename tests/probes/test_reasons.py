"""Every answer that is not a model says what is the matter and what can be done; where it can be followed, it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from probes import Folder, Header, Hints, Outcome, Report, TensorSpec, UnreadableModel, probe
from probes.header import REMEDIES
from tests.probes import headers

ROOT = Path(__file__).resolve().parents[2]
OPEN = [n for n in headers.names() if headers.load(n).expect.get("outcome") in ("ambiguous", "unknown")]
SUGGESTED = re.compile(r"\(as in (\S+\.safetensors)\)")
ACTIONS = re.compile(r"Download it again|Convert|convert|Say|report it|ask who made it|Take the")


def with_tensors(name: str, *extra: tuple[str, tuple[int, ...]], without: str = "\0") -> Header:
    kept = {k: v for k, v in headers.load(name).header.tensors.items() if without not in k}
    return Header({**kept, **{key: TensorSpec("F16", shape) for key, shape in extra}})


def halved(name: str) -> Header:
    header = headers.load(name).header
    lost = next(key for key in header.tensors if key.endswith("lora_up.weight"))
    return Header({key: spec for key, spec in header.tensors.items() if key != lost})


NOT_MODELS: dict[str, tuple[Header | Folder, Outcome, str]] = {
    # what is the matter -> (target, outcome, what the reason names)
    "no tensors": (Header({}), Outcome.UNKNOWN, "no tensors"),
    "pickle": (Header({}, format="pickle"), Outcome.UNUSABLE, "save_file"),
    "torch zip": (Header({}, format="torch_zip"), Outcome.UNUSABLE, "save_file"),
    "foreign tensors": (Header({"fc.weight": TensorSpec("F32", (9, 9))}), Outcome.UNKNOWN, "fc.weight"),
    "foreign module": (
        with_tensors("unet-sd-2-diffusers", ("down_blocks.0.temporal_attentions.0.weight", (320, 320))),
        Outcome.UNKNOWN,
        "Closest: sd-2 checkpoint, but names have a foreign part, temporal_attentions",
    ),
    "one layer missing": (
        with_tensors("unet-sd-1-ldm", without="out.2.weight"),
        Outcome.UNKNOWN,
        "Closest: sd-1 checkpoint, but out.2.weight is missing",
    ),
    "adapter of nothing known": (
        Header({"lora_unet_x.lora_down.weight": TensorSpec("F16", (4, 77)), "lora_unet_x.lora_up.weight": TensorSpec("F16", (77, 4))}),
        Outcome.UNKNOWN,
        "such as x, 77 -> 77",
    ),
    "adapter beside other tensors": (with_tensors("lora-sd-1-kohya", ("stranger", (3,))), Outcome.UNKNOWN, "stranger"),
    "adapter beside a layer that was trained whole": (
        with_tensors("lora-flux-diffusers", ("transformer.x_embedder.weight", (3072, 64))),
        Outcome.UNKNOWN,
        "Closest: flux-1 lora, but it has 190 adapter modules and 1 other tensor where an adapter has adapter modules alone",
    ),
    "two adapters": (
        with_tensors(
            "lora-flux-diffusers",
            ("transformer.transformer_blocks.0.attn.to_q.lora_A.second.weight", (4, 3072)),
            ("transformer.transformer_blocks.0.attn.to_q.lora_B.second.weight", (3072, 4)),
        ),
        Outcome.UNKNOWN,
        "190 adapter modules beside 2 other tensors (such as transformer.transformer_blocks.0.attn.to_q.lora_A.",
    ),
    "text encoder of another family": (
        with_tensors(
            "lora-sd-1-kohya-no-alpha",
            ("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight", (4, 1024)),
            ("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight", (1024, 4)),
        ),
        Outcome.UNKNOWN,
        "Closest: sd-1 lora, but text encoder layer",
    ),
    "half a pair": (halved("lora-sd-1-kohya"), Outcome.UNUSABLE, "does not fit the other, in 1 adapter module, such as"),
    "folder without weights": (Folder({"peft_type": "LORA"}), Outcome.UNUSABLE, ".safetensors"),
    "folder of pickles": (Folder({"peft_type": "LORA"}, pickles=("",)), Outcome.UNUSABLE, "save_file"),
    "pipeline without weights": (Folder({"_class_name": "FluxPipeline"}), Outcome.UNUSABLE, "FluxPipeline"),
    "pipeline of pickles": (Folder({"_class_name": "X"}, pickles=("unet",)), Outcome.UNUSABLE, "save_file"),
}  # fmt: skip


@pytest.mark.parametrize(("target", "outcome", "names"), NOT_MODELS.values(), ids=NOT_MODELS)
def test_what_is_no_model_says_why_and_what_to_do(target: Header | Folder, outcome: Outcome, names: str) -> None:
    report = probe(target)
    assert report.outcome is outcome
    assert names in report.reason
    assert_can_be_acted_upon(report)


@pytest.mark.parametrize("name", OPEN)
def test_fixtures_that_stay_open_say_why_and_what_to_do(name: str) -> None:
    report = probe(headers.load(name).header)
    assert report.outcome in (Outcome.AMBIGUOUS, Outcome.UNKNOWN)
    assert_can_be_acted_upon(report)


def assert_can_be_acted_upon(report: Report) -> None:
    assert ACTIONS.search(report.reason), report.reason
    assert report.reason[0].isupper() or report.reason[0].isdigit()
    assert report.reason.rstrip()[-1] in ".)"
    assert "None" not in report.reason
    assert len(report.reason) < 700


@pytest.mark.parametrize("name", [n for n in OPEN if headers.load(n).expect["outcome"] == "ambiguous"])
def test_an_ambiguous_answer_is_settled_by_doing_what_it_says(name: str) -> None:
    header = headers.load(name).header
    before = probe(header)
    suggested = SUGGESTED.search(before.reason)
    assert suggested, before.reason
    after = probe(header, Hints(filename=suggested[1]))
    assert after.outcome is Outcome.IDENTIFIED
    assert f"{after.family} {after.kind}" in before.candidates


@pytest.mark.parametrize(
    ("part", "shape", "said"),
    [
        ("ia3_l", (320, 1), "? -> 320"),
        ("ia3_l", (1, 320), "320 -> ?"),
        ("ia3_l", (1, 320, 1, 1), "320 on one side"),  # of a convolution
        ("oft_R.weight", (10, 496), "320 -> ?"),
        ("oft_R.weight", (1, 496), "? -> ?"),  # may be shared by all blocks
    ],
)
def test_an_adapter_of_no_known_layer_says_the_widths_that_it_tells(
    part: str, shape: tuple[int, ...], said: str
) -> None:
    report = probe(Header({f"base_model.model.mystery.{part}": TensorSpec("F32", shape)}))
    assert report.reason.startswith(f"An adapter of 1 module (such as mystery, {said})")


def test_two_accelerations_alike_are_named() -> None:
    report = probe(headers.load("lcm-lora-sdxl").header, Hints(repo_id="someone/lcm-vs-tcd"))
    assert report.outcome is Outcome.AMBIGUOUS
    assert "lcm and tcd alike" in report.reason
    assert_can_be_acted_upon(report)


def test_a_pickle_is_converted_by_what_the_advice_says(tmp_path: Path) -> None:
    """The two calls that the reason quotes, run as they stand there."""
    import safetensors.torch
    import torch

    tensors = {
        k: torch.zeros(s.shape) for k, s in headers.load("lora-sd-1-miniature-kohya-no-alpha").header.tensors.items()
    }
    torch.save({"state_dict": tensors}, tmp_path / "model.ckpt")
    reason = probe(tmp_path / "model.ckpt").reason
    load, save = re.search(
        r"state = (torch\.load\(.*?\)), then (safetensors\.torch\.save_file\(.*\))\.$", reason
    ).groups()  # type: ignore[union-attr]
    where = json.dumps(str(tmp_path / "model"))[:-1]
    known = {"torch": torch, "safetensors": safetensors}
    state = eval(load.replace("FILE", f'{where}.ckpt"'), known)
    eval(save.replace('"FILE', where), {**known, "state": state})
    assert probe(tmp_path / "model.safetensors").family == "sd-1"


# --- what cannot be read at all ---


def test_every_code_has_a_remedy_and_every_remedy_a_code() -> None:
    sources = "".join(path.read_text() for folder in ("probes", "registry") for path in (ROOT / folder).rglob("*.py"))
    raised = set(re.findall(r'UnreadableModel\(\s*"(\w+)"', sources))
    assert raised == REMEDIES.keys()


@pytest.mark.parametrize("code", REMEDIES)
def test_a_refusal_says_what_is_the_matter_and_then_what_to_do(code: str) -> None:
    refused = UnreadableModel(code, "This is the matter.")
    assert str(refused) == f"This is the matter. {REMEDIES[code]}"
    assert re.match(r"[A-Z][a-z]+ .*\.$", REMEDIES[code])


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"", "empty_file", "The file is empty. Download it again."),
        (b"<!DOCTYPE html><html></html>", "html_page", "This is a web page, not a model: the download met a login"),
        (
            b"\x1f\x8b" + bytes(20),
            "unsupported_format",
            "This is a gzip archive, not a model. Take or make a .safetensors",
        ),
        (bytes(64), "bad_header", "never finished. Download it again, and compare its size"),
        (
            b"\x10" + bytes(7) + b"{",
            "truncated",
            "The file ends inside its header (9 bytes of at least 24). Finish the download",
        ),
    ],
)
def test_of_a_file(tmp_path: Path, data: bytes, code: str, said: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UnreadableModel, match=re.escape(said)) as caught:
        probe(tmp_path / "x")
    assert caught.value.code == code


@pytest.mark.parametrize("ending", ["", ".lora_down.weight", ".lora_up.weight"])
def test_a_name_of_megabytes_is_told_by_its_beginning(ending: str) -> None:
    name = "x" * 1_000_000
    pairs = {f"{name}{ending}": (4, 4), f"{name}.alpha": (1,)}
    if ending == ".lora_up.weight":
        pairs[f"{name}.lora_down.weight"] = (4, 4)
    reason = probe(Header({key: TensorSpec("F16", shape) for key, shape in pairs.items()})).reason
    assert "such as xxx" in reason
    assert len(reason) < 2_000
