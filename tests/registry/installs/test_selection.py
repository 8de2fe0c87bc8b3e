"""Which of a repository's files make the model that the user means."""

from __future__ import annotations

import pytest

from registry.errors import NoWeights, UnusableFile
from registry.installs.origins import Listing, RemoteFile
from registry.installs.selection import Selection, address, options
from registry.sources import parse_source

COMPONENTS = ("unet", "vae", "tokenizer")
INDEX = {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]} | {c: ["x", "Y"] for c in COMPONENTS}


def chosen(*paths: str, focus: str = "", repo_id: str = "owner/great-lora") -> Selection:
    """The only option."""
    [[selection]] = tiers(*paths, focus=focus, repo_id=repo_id)
    return selection


def tiers(
    *paths: str, focus: str = "", repo_id: str = "owner/great-lora", left_out: tuple[str, ...] = ()
) -> list[list[Selection]]:
    files, others = (tuple(RemoteFile(path, 10, None) for path in some) for some in (paths, left_out))
    listing = Listing("hf://owner/great-lora@c0ffee", repo_id, "c0ffee", files, None, focus, left_out=others)
    return options(listing, lambda _: INDEX)


def paths(selection: Selection) -> list[str]:
    return [f.path for f in selection.files]


def test_the_one_weight_file_is_the_model() -> None:
    made = chosen("README.md", "style.safetensors", "example.png", ".gitattributes")
    assert (paths(made), made.is_folder, made.name) == (["style.safetensors"], False, "style")


@pytest.mark.parametrize("name", ["pytorch_lora_weights", "adapter_model", "diffusion_pytorch_model"])
def test_a_name_that_every_repository_uses_gives_way_to_the_repositorys(name: str) -> None:
    assert chosen(f"{name}.safetensors").name == "great-lora"


def test_a_named_file_is_taken_whatever_stands_beside_it() -> None:
    made = chosen("a.safetensors", "sub/b.safetensors", "model_index.json", focus="sub/b.safetensors")
    assert (paths(made), made.name, made.prefix) == (["sub/b.safetensors"], "b", "sub/")


def test_several_weight_files_are_all_options_those_on_top_first() -> None:
    found = tiers("x/c.safetensors", "b.safetensors", "a.gguf", "README.md", "y/z/d.safetensors", "e.ckpt")
    assert [[paths(s) for s in tier] for tier in found] == [
        [["b.safetensors"], ["a.gguf"]],
        [["x/c.safetensors"], ["y/z/d.safetensors"]],
    ]


@pytest.mark.parametrize(
    ("repo_id", "ref", "expected"),
    [
        ("o/r", None, "hf://o/r/x/a.gguf"),
        ("o/r", "refs/pr/3", "hf://o/r@refs/pr/3/x/a.gguf"),
        (None, None, "/m/x/a.gguf"),
    ],
)
def test_an_option_has_an_address_that_can_be_typed(repo_id: str | None, ref: str | None, expected: str) -> None:
    listing = Listing(
        "hf://o/r@c0ffee" if repo_id else "/m", repo_id, None, (RemoteFile("x/a.gguf", 1, None),), None, ref=ref
    )
    [[selection]] = options(listing, lambda _: {})
    assert address(listing, selection) == expected
    assert str(parse_source(expected, endpoint="https://huggingface.co")) == expected


PIPELINE = (
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "v1-5-pruned.safetensors",
    "v1-5-pruned.ckpt",
    "README.md",
    "checkpoint-500/optimizer.bin",
    "vae_1_0/diffusion_pytorch_model.safetensors",
    "safety_checker/pytorch_model.bin",
)


def test_a_pipeline_folder_is_taken_once_in_safetensors() -> None:
    made = chosen(*PIPELINE)
    assert made.is_folder
    assert sorted(paths(made)) == [
        "model_index.json",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    ]


def test_a_pipeline_in_a_named_sub_folder() -> None:
    made = chosen(*(f"small/{p}" for p in PIPELINE), "other.safetensors", focus="small")
    assert made.is_folder
    assert (made.prefix, made.name) == ("small/", "small")
    assert all(p.startswith("small/") for p in paths(made))


def test_a_single_file_beside_a_pipeline_can_be_named() -> None:
    assert paths(chosen(*PIPELINE, focus="v1-5-pruned.safetensors")) == ["v1-5-pruned.safetensors"]


@pytest.mark.parametrize("other", ["line\nbreak.txt", "a\\b.safetensors", "unet/old\x1b.bin", "safety_checker/\n.json"])
def test_what_is_left_out_for_its_name_does_not_matter_unless_the_model_needs_it(other: str) -> None:
    [[made]] = tiers(*PIPELINE, left_out=(other,))
    assert paths(made) == paths(chosen(*PIPELINE))
    [[single]] = tiers("style.safetensors", left_out=(other,))
    assert paths(single) == ["style.safetensors"]


@pytest.mark.parametrize("name", ["tokenizer/line\nbreak.txt", "unet/a\\b.json"])
def test_a_pipeline_that_needs_what_is_left_out_is_refused(name: str) -> None:
    with pytest.raises(UnusableFile, match="not every system takes"):
        tiers(*PIPELINE, left_out=(name,))


def test_weights_under_a_bad_name_are_refused_for_it_when_there_are_no_others() -> None:
    with pytest.raises(UnusableFile, match="not every system takes"):
        tiers("README.md", left_out=("line\nbreak.safetensors",))


@pytest.mark.parametrize("name", ["CON.txt", "a:b.json", f"{'x' * 200}.txt"])
def test_of_a_pipeline_only_names_that_every_system_takes(name: str) -> None:
    assert chosen(*PIPELINE, name, f"checkpoint-500/{name}")
    with pytest.raises(UnusableFile, match="not every system takes"):
        chosen(*PIPELINE, f"tokenizer/{name}")


def test_sharded_weights_come_whole() -> None:
    shards = [f"unet/model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    made = chosen("model_index.json", "unet/config.json", "unet/model.safetensors.index.json", *shards)
    assert set(paths(made)) == {"model_index.json", "unet/config.json", "unet/model.safetensors.index.json", *shards}


@pytest.mark.parametrize(
    "files", [("model.ckpt",), ("pytorch_model.bin", "README.md"), ("model_index.json", "unet/model.bin")]
)
def test_pickles_are_never_chosen(files: tuple[str, ...]) -> None:
    with pytest.raises(UnusableFile, match="pickle") as error:
        chosen(*files)
    assert error.value.detail["probe"] == "pickle"


def test_a_named_pickle_is_refused_too() -> None:
    with pytest.raises(UnusableFile, match="never opens"):
        chosen("good.safetensors", "bad.ckpt", focus="bad.ckpt")


@pytest.mark.parametrize("files", [(), ("README.md",), ("config.json", "preview.png")])
def test_a_repository_without_weights(files: tuple[str, ...]) -> None:
    with pytest.raises(NoWeights, match="owner/great-lora"):
        chosen(*files)


def test_a_named_file_is_looked_into_whatever_it_is_called() -> None:
    assert paths(chosen("README.md", "a.safetensors", focus="README.md")) == ["README.md"]
