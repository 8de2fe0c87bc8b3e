"""LCM-LoRA or not: structure allows or forbids, names decide, and without a name the answer stays open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probes import Header, Hints, Kind, Outcome, Report, TensorSpec, probe
from probes.traits import DECIDED
from tests.probes import headers

LCM_BASES = ["sd-1", "sd-2", "sdxl", "ssd-1b", "segmind-vega", "sd-1-miniature"]
OPEN_SDXL = ("sdxl lora", "sdxl lcm_lora", "kolors lora", "kolors lcm_lora")
TAGGED = Hints(card={"tags": ["lcm", "lora"]})


def traits(report: Report) -> dict[str, float]:
    return {trait.name: trait.confidence for trait in report.traits}


@pytest.mark.parametrize("base", LCM_BASES)
@pytest.mark.parametrize(
    "hints",
    [
        TAGGED,
        Hints(card_text="---\ntags:\n- lora\n---\n# LCM-LoRA\nA latent consistency LoRA for 4 steps."),
        Hints(repo_id="latent-consistency/lcm-lora-sdv1-5"),
        Hints(filename="lcm_lora_sdxl.safetensors"),
        Hints(sidecar={"baseModel": "SDXL 1.0 LCM"}),
    ],
    ids=["card tags", "card text", "repository", "file name", "sidecar"],
)
def test_distillation_layout_that_is_said_to_be_lcm(base: str, hints: Hints) -> None:
    report = probe(headers.load(f"lcm-lora-{base}").header, hints)
    assert (report.outcome, report.kind, report.family) == (
        Outcome.IDENTIFIED,
        Kind.LCM_LORA,
        base.removesuffix("-miniature"),
    )
    assert report.rank == 64
    assert traits(report)["lcm"] >= 0.6


def test_vega_s_lcm_lora_is_called_vegart() -> None:
    report = probe(headers.load("lcm-lora-segmind-vega").header, Hints(repo_id="segmind/Segmind-VegaRT"))
    assert (report.kind, report.family) == (Kind.LCM_LORA, "segmind-vega")


def test_same_layout_without_a_word_stays_open() -> None:
    report = probe(headers.load("lcm-lora-sdxl").header)
    assert report.outcome is Outcome.AMBIGUOUS
    assert report.candidates == OPEN_SDXL
    assert "few-step" in report.reason
    assert traits(report) == {"few-step distillation layout": 0.3}


@pytest.mark.parametrize(
    ("name", "hints"),
    [
        ("tcd", Hints(repo_id="h1t/TCD-SDXL-LoRA")),
        ("lightning", Hints(repo_id="ByteDance/SDXL-Lightning", filename="sdxl_lightning_4step_lora.safetensors")),
        ("hyper", Hints(repo_id="ByteDance/Hyper-SD", card_text="# Hyper-SD\nFaster than LCM and Turbo.")),
        ("dmd2", Hints(repo_id="tianweiy/DMD2")),
        ("pcm", Hints(repo_id="wangfuyun/PCM_Weights")),
    ],
)
def test_other_accelerations_are_loras_with_a_trait(name: str, hints: Hints) -> None:
    report = probe(headers.load("lcm-lora-sdxl").header, hints)
    assert (report.outcome, report.kind) == (Outcome.IDENTIFIED, Kind.LORA)
    assert next(iter(traits(report))) == name


def test_two_names_alike_stay_open() -> None:
    report = probe(headers.load("lcm-lora-sdxl").header, Hints(repo_id="someone/lcm-vs-tcd"))
    assert report.outcome is Outcome.AMBIGUOUS
    assert "lcm and tcd" in report.reason


@pytest.mark.parametrize(
    "name",
    ["lora-sd-1-kohya", "lora-sd-1-locon", "lora-sd-1-diffusers", "lora-sdxl-locon-ldm", "lora-sd-1-locon-conv-8"],
)
def test_structure_that_no_lcm_lora_has_is_not_overruled_by_a_name(name: str) -> None:
    fixture = headers.load(name)
    report = probe(fixture.header, TAGGED) if name != "lora-sdxl-locon-ldm" else probe(fixture.header)
    assert report.kind is Kind.LORA


def test_locon_of_rank_64_with_the_metadata_of_its_training_is_a_lora() -> None:
    header = headers.load("lcm-lora-sd-1").header
    report = probe(replace(header, metadata={"ss_network_module": "networks.lora", "ss_learning_rate": "1e-4"}))
    assert (report.outcome, report.kind) == (Outcome.IDENTIFIED, Kind.LORA)


@pytest.mark.parametrize("name", ["lora-sd-1-locon-64-stripped", "lora-sd-2-locon-64-stripped"])
def test_locon_of_rank_64_with_no_hint_is_a_lora(name: str) -> None:
    report = probe(headers.load(name).header)
    assert (report.outcome, report.kind) == (Outcome.IDENTIFIED, Kind.LORA)


def test_layout_of_another_rank_without_a_word_is_a_lora_with_a_weak_trait() -> None:
    report = probe(headers.load("lora-sd-1-locon-32-stripped").header)
    assert report.kind is Kind.LORA
    assert traits(report) == {"few-step distillation layout": 0.3}


@pytest.mark.parametrize("more", [{"lora_adapter_metadata": '{"unet.r": 64}'}, {}], ids=["since 0.35", "before"])
def test_what_diffusers_writes_beside_the_tensors_is_no_metadata_of_a_training(more: dict[str, str]) -> None:
    header = replace(headers.load("lcm-lora-sdxl").header, metadata={"format": "pt", **more})
    assert probe(header).candidates == OPEN_SDXL
    assert probe(header, TAGGED).kind is Kind.LCM_LORA


# --- what is said of something else, or in passing ---

PUBLISHED, LOCON_32, TRAINED = "lcm-lora-sd-1", "lora-sd-1-locon-32-stripped", "lora-sd-1-kohya"


@pytest.mark.parametrize("name", [PUBLISHED, LOCON_32])
@pytest.mark.parametrize(
    "hints",
    [
        Hints(card_text="# Ink\nA style. Works great together with the LCM-LoRA at 4 steps."),
        Hints(card_text="# Ink\nUse it with latent consistency or without."),
        Hints(filename="animestyle_works_with_lcm.safetensors"),
        Hints(repo_id="someone/ink-for-lcm"),
        Hints(filename="ink-no-lcm.safetensors"),
        Hints(filename="ink_without_lcm.safetensors"),
        Hints(repo_id="someone/not-an-lcm-lora", filename="non-lcm-ink.safetensors"),
        Hints(card_text="# Ink\nRecommended base: DreamShaper XL Lightning."),
        Hints(card_text="# Ink\nNo lightning, no turbo."),
    ],
)
def test_what_a_model_goes_with_it_is_not(name: str, hints: Hints) -> None:
    report = probe(headers.load(name).header, hints)
    assert report.kind is not Kind.LCM_LORA
    assert max(traits(report).values()) < DECIDED


@pytest.mark.parametrize(
    ("hints", "kind"),
    [
        (Hints(filename="lcm_style.safetensors"), Kind.LORA),
        (Hints(card_text="# LCM\nA latent consistency LoRA."), Kind.LORA),
        (Hints(repo_id="someone/lcm-lora-rank-32"), Kind.LCM_LORA),
        (TAGGED, Kind.LCM_LORA),
    ],
    ids=["file name", "card text", "repository", "card tags"],
)
def test_of_another_rank_than_the_published_it_has_to_be_stated(hints: Hints, kind: Kind) -> None:
    report = probe(headers.load(LOCON_32).header, hints)
    assert report.kind is kind
    assert (traits(report)["lcm"] >= DECIDED) == (kind is Kind.LCM_LORA)


@pytest.mark.parametrize(
    "title", ["porsche_911_turbo", "hyper-realistic-skin", "lightning_bolt_v2", "lcm", "Hyper-SD15"]
)
def test_a_name_does_not_decide_against_the_layout(title: str) -> None:
    header = headers.load(TRAINED).header
    titled = replace(header, metadata={**header.metadata, "modelspec.title": title, "ss_output_name": title})
    report = probe(titled, Hints(filename=f"{title}.safetensors", repo_id=f"someone/{title}"))
    assert report.kind is Kind.LORA
    assert max(traits(report).values(), default=0) < DECIDED


@pytest.mark.parametrize(
    "hints",
    [
        Hints(repo_id="joe/pixel-art-z-image-turbo-lora", filename="pixel_z_image_turbo.safetensors"),
        Hints(filename="pixel_turbo.safetensors", repo_id="joe/turbo", card={"base_model": "Tongyi-MAI/Z-Image-Turbo"}),
        Hints(repo_id="joe/hyper-real-skin"),
    ],
)
def test_the_name_of_a_base_is_no_acceleration(hints: Hints) -> None:
    assert traits(probe(headers.load("lora-z-image-transformer").header, hints)) == {}


@pytest.mark.parametrize(
    ("fixture", "name", "hints"),
    [
        ("lcm-lora-sdxl", "lightning", Hints(filename="sdxl_lightning_4step_lora.safetensors")),
        ("lcm-lora-sdxl", "hyper", Hints(filename="Hyper-SDXL-8steps-lora.safetensors")),
        ("lcm-lora-sd-1", "hyper", Hints(filename="Hyper-SD15-8steps-lora.safetensors")),
        ("lcm-lora-sdxl", "turbo", Hints(filename="sd_xl_turbo_lora_v1.safetensors")),
        ("lora-sdxl-unet-peft", "flash", Hints(repo_id="jasperai/flash-sdxl")),
        ("lora-flux-diffusers", "turbo", Hints(repo_id="alimama-creative/FLUX.1-Turbo-Alpha")),
        ("lora-flux-ai-toolkit", "hyper", Hints(repo_id="ByteDance/Hyper-SD", filename="Hyper-FLUX.1-dev-8steps-lora.safetensors")),
        ("lora-sd-3-medium-attention", "hyper", Hints(repo_id="ByteDance/Hyper-SD", filename="Hyper-SD3-4steps-CFG-lora.safetensors")),
        ("lora-qwen-image-transformer", "lightning", Hints(repo_id="lightx2v/Qwen-Image-Lightning")),
    ],
)  # fmt: skip
def test_the_published_accelerations_keep_their_names(fixture: str, name: str, hints: Hints) -> None:
    report = probe(headers.load(fixture).header, hints)
    assert (report.outcome, report.kind) == (Outcome.IDENTIFIED, Kind.LORA)
    assert traits(report)[name] >= DECIDED


@pytest.mark.parametrize(
    "repository",
    [
        "joe/porsche-911-turbo-flux-lora",
        "joe/flux-turbo-style",
        "joe/lightning-bolt",
        "turbo-ai/flux-style",
        "joe/flux-lightning-storm",
        "joe/qwen-image-turbo-anime",
        "joe/flux_1_mcqueen_lightning",
        f"joe/flux{'1' * 60}-turbo-granny",  # and that at once, in however many ways it can be taken
        f"joe/flux{'-14b' * 60}-turbo-granny",
        f"joe/flux-turbo{'_1' * 60}-granny",
    ],
)
@pytest.mark.parametrize("fixture", ["lora-flux-ai-toolkit", "lora-qwen-image-transformer"])
def test_a_word_of_ordinary_english_in_a_name_decides_nothing(fixture: str, repository: str) -> None:
    report = probe(headers.load(fixture).header, Hints(repo_id=repository, card={"tags": ["turbo", "lightning"]}))
    assert max(traits(report).values(), default=0) < DECIDED


@pytest.mark.parametrize(
    "repository",
    [
        "lightx2v/Qwen-Image-Edit-2511-Lightning",
        "lightx2v/Wan2.2-Lightning",
        "joe/FLUX.1-dev-Turbo-LoRA-8steps",
        "joe/wan2.2_t2v_14B_8-steps_lightning_v1.0_rank64",
        "joe/hunyuan_video_turbo_fp16",
    ],
)
def test_a_name_of_base_and_acceleration_alone_decides(repository: str) -> None:
    report = probe(headers.load("lora-qwen-image-transformer").header, Hints(repo_id=repository))
    assert max(traits(report).values()) >= DECIDED


def test_a_base_in_a_sidecar_makes_no_lora_of_another_layout_lcm() -> None:
    """Civitai's "SD 1.5 LCM" is what LoRAs are trained for, too."""
    report = probe(headers.load("lora-sd-1-kohya").header, Hints(sidecar={"baseModel": "SD 1.5 LCM"}))
    assert (report.kind, traits(report)) == (Kind.LORA, {})


def test_prose_alone_does_not_make_an_attention_lora_lcm() -> None:
    report = probe(headers.load("lora-sdxl-diffusers").header, Hints(card_text="Works well with LCM."))
    assert report.kind is Kind.LORA


def test_of_a_long_text_the_beginning_is_read() -> None:
    header = headers.load(PUBLISHED).header
    for before, kind in (("a " * 100, Kind.LCM_LORA), ("a " * 1_000, Kind.LORA)):
        titled = replace(header, metadata={"format": "pt", "modelspec.description": f"{before}LCM-LoRA"})
        assert probe(titled).kind is kind


def test_full_lcm_network_is_a_checkpoint() -> None:
    report = probe(headers.load("unet-sd-1-lcm-ldm").header)
    assert report.kind is Kind.CHECKPOINT
    assert "lcm" in traits(report)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: {**t, "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": TensorSpec("F16", (64, 768)),
                    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": TensorSpec("F16", (768, 64))}, "text encoder"),
        (lambda t: {k: v for k, v in t.items() if "time_emb_proj" not in k}, "no time_emb_proj"),
        (lambda t: {k: v for k, v in t.items() if "resnets" not in k}, "no conv1"),
        (lambda t: {**t, "lora_unet_conv_in.lora_down.weight": TensorSpec("F16", (64, 4, 3, 3)),
                    "lora_unet_conv_in.lora_up.weight": TensorSpec("F16", (320, 64, 1, 1))}, "conv_in"),
    ],
    ids=["text encoder", "no time layers", "no residual blocks", "first convolution"],
)  # fmt: skip
def test_vetoes_say_why(change, why: str) -> None:  # type: ignore[no-untyped-def]
    header = headers.load("lcm-lora-sd-1").header
    report = probe(Header(change(dict(header.tensors)), header.metadata), TAGGED)
    layout = next(e for e in report.evidence if e.rule == "distillation_layout")
    assert not layout.ok
    assert why in (layout.seen or "")
    assert report.kind is Kind.LORA
