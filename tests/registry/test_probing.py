"""What a user may name to have probed: files, dumps, folders, repositories and addresses; of what is elsewhere, headers only."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import registry.probing
from probes import Kind, Outcome, Report, UnreadableModel, dump_header, pack_dump, probe
from registry.errors import FileMissing, InvalidSource, NoWeights, RepositoryNotFound
from registry.probing import inputs
from registry.settings import Settings
from registry.sources import UrlSource
from tests.conftest import STARTER
from tests.demo.strangers import open_lora, sd15_lora, write
from tests.hub import LoopbackHub
from tests.probes import headers

LORA = sd15_lora()
PICKLE = pickle.dumps({"state_dict": list(range(1000))})


def answers(text: str, settings: Settings) -> dict[str, Report]:
    return {each.source: probe(*each.load()) for each in inputs(text, settings)}


def peft(folder: Path) -> None:
    config = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": "stabilityai/stable-diffusion-2-1"}
    write(folder / "adapter_config.json", json.dumps(config).encode())
    headers.write_sparse(folder / "adapter_model.safetensors", headers.load("lora-sd-1-self-attention").tensors)


def sharded(folder: Path) -> None:
    folder.mkdir(parents=True)
    tensors = list(headers.load("unet-sd-1-miniature-diffusers").tensors.items())
    for number, part in ((1, tensors[:50]), (2, tensors[50:])):
        headers.write_sparse(folder / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors", dict(part))
    write(folder / "diffusion_pytorch_model.safetensors.index.json", b'{"weight_map": {}}')


# --- on disk ---


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder as people have them: models of every form, and what lies about beside them."""
    root = tmp_path / "models"
    write(root / "loras/a.safetensors", LORA)
    write(root / "loras/notes.txt", b"mine")
    write(root / "loras/a.png", b"\x89PNG")
    write(root / "loras/.cache/b.safetensors", LORA)
    write(root / "old.ckpt", PICKLE)
    write(root / "page.safetensors", b"<!DOCTYPE html><html></html>")
    peft(root / "peft")
    sharded(root / "shards")
    shutil.copytree(STARTER / "modelshelf/starter-base", root / "pipeline")
    return root


def test_every_model_in_a_folder_is_an_input_and_a_folder_that_is_a_model_is_one(
    collection: Path, settings: Settings
) -> None:
    found = {each.source: each for each in inputs(str(collection), settings)}
    assert {str(Path(source).relative_to(collection)) for source in found} == {
        "loras/a.safetensors", "old.ckpt", "page.safetensors", "peft", "shards", "pipeline",
        "pipeline/starter-base.safetensors",  # the same in one file, as repositories have it beside
    }  # fmt: skip
    reports = {Path(s).name: probe(*each.load()) for s, each in found.items() if not s.endswith("page.safetensors")}
    assert {name: (r.family, r.format) for name, r in reports.items()} == {
        "a.safetensors": ("sd-1", "safetensors"),
        "old.ckpt": (None, "pickle"),
        "peft": ("sd-2", "peft folder"),
        "pipeline": ("sd-1", "diffusers folder"),
        "starter-base.safetensors": ("sd-1", "safetensors"),
        "shards": ("sd-1", "folder"),
    }


def test_one_broken_file_does_not_hide_the_others(collection: Path, settings: Settings) -> None:
    refused = []
    for each in inputs(str(collection), settings):
        try:
            each.load()
        except UnreadableModel as error:
            refused.append((Path(each.source).name, error.code))
    assert refused == [("page.safetensors", "html_page")]


def test_a_folder_that_is_a_model_is_named_as_the_user_did(
    collection: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(collection)
    assert list(answers("./pipeline", settings)) == ["./pipeline"]
    assert list(answers("loras", settings)) == ["loras/a.safetensors"]


def test_a_component_with_its_configuration_is_a_model(settings: Settings) -> None:
    unet = STARTER / "modelshelf/starter-base/unet"
    assert [(s, r.family, r.format) for s, r in answers(str(unet), settings).items()] == [(str(unet), "sd-1", "folder")]


def test_a_configuration_alone_does_not_make_a_folder_a_model(tmp_path: Path, settings: Settings) -> None:
    write(tmp_path / "x/config.json", b"{}")
    for name in ("a", "b"):
        write(tmp_path / f"x/{name}.safetensors", LORA)
    assert len(answers(str(tmp_path / "x"), settings)) == 2


def test_a_name_that_is_not_utf8_is_looked_at_alone_as_in_its_folder(tmp_path: Path, settings: Settings) -> None:
    path = str(tmp_path / os.fsdecode(b"caf\xe9.safetensors"))
    write(Path(path), LORA)
    assert answers(path, settings) == answers(str(tmp_path), settings)
    assert answers(path, settings)[path].family == "sd-1"


@pytest.mark.parametrize("name", ["empty", "only-text"])
def test_a_folder_without_a_model_is_an_error(tmp_path: Path, settings: Settings, name: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "only-text/readme.txt", b"soon")
    with pytest.raises(NoWeights, match="no model"):
        list(inputs(str(tmp_path / name), settings))


def test_a_missing_file_is_refused_when_it_is_loaded(settings: Settings) -> None:
    (each,) = inputs("/no/such.safetensors", settings)
    with pytest.raises(UnreadableModel, match="There is no file"):
        each.load()


def test_folders_that_cannot_be_looked_into_are_told(
    collection: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a system that refuses to list it: a test that runs as root is let in everywhere."""

    def refusing(real: Callable[..., object]) -> Callable[..., object]:
        def ask(path: str) -> object:
            if Path(path).name == "loras":
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        return ask

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    refused = {}
    for each in inputs(str(collection), settings):
        try:
            each.load()
        except UnreadableModel as error:
            refused[Path(each.source).name] = error.code
    assert refused == {"loras": "not_readable", "page.safetensors": "html_page"}
    with pytest.raises(UnreadableModel, match="Permission denied"):
        next(inputs(str(collection / "loras"), settings))


def test_the_name_of_a_file_and_the_card_beside_it_are_hints(tmp_path: Path, settings: Settings) -> None:
    fixture = headers.load("lcm-lora-sdxl")
    named, carded = tmp_path / "a" / "lcm.safetensors", tmp_path / "b" / "x.safetensors"
    for path in (named, carded):
        path.parent.mkdir()
        headers.write_sparse(path, fixture.tensors, fixture.metadata)
    write(tmp_path / "b/README.md", b"---\ntags: [lcm]\n---\n# x\n")
    assert [r.kind for r in answers(str(named), settings).values()] == [Kind.LCM_LORA]
    assert [r.kind for r in answers(str(carded), settings).values()] == [Kind.LCM_LORA]
    (tmp_path / "b/README.md").unlink()
    assert [r.outcome for r in answers(str(carded), settings).values()] == [Outcome.AMBIGUOUS]


@pytest.mark.parametrize(
    ("fixture", "record", "said", "kind", "family"),
    [
        ("lora-sd-1-self-attention", "x.json", {"sd version": "SD1"}, Kind.LORA, "sd-1"),  # A1111's
        ("lora-sd-1-self-attention", "x.civitai.info", {"baseModel": "SD 2.1"}, Kind.LORA, "sd-2"),
        ("lcm-lora-sdxl", "x.civitai.info", {"baseModel": "SDXL 1.0 LCM"}, Kind.LCM_LORA, "sdxl"),
    ],
)
def test_what_another_program_left_beside_a_file_is_a_hint(
    fixture: str, record: str, said: dict[str, str], kind: Kind, family: str, tmp_path: Path, settings: Settings
) -> None:
    model = headers.load(fixture)
    path = headers.write_sparse(tmp_path / "x.safetensors", model.tensors, model.metadata)
    assert [r.outcome for r in answers(str(path), settings).values()] == [Outcome.AMBIGUOUS]
    write(tmp_path / record, json.dumps(said).encode())
    assert [(r.kind, r.family) for r in answers(str(path), settings).values()] == [(kind, family)]


def test_a_dump_is_probed_with_its_own_hints_and_not_by_its_name(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "lcm.json"
    path.write_bytes(pack_dump(dump_header(headers.load("lcm-lora-sdxl").header)))
    assert [r.outcome for r in answers(str(path), settings).values()] == [Outcome.AMBIGUOUS]


# --- elsewhere ---


@pytest.mark.parametrize("compressed", [False, True])
def test_a_dump_elsewhere_is_probed_as_on_disk(compressed: bool, hub: LoopbackHub, settings: Settings) -> None:
    path = hub.root / "somebody/dumps/header.json"
    write(path, pack_dump(dump_header(headers.load("unet-sdxl-ldm").header), compressed))
    write(path.with_name("notes.json"), b'{"tensors of": "none"}')
    (remote,) = answers("hf://somebody/dumps/header.json", settings).values()
    (local,) = answers(str(path), settings).values()
    assert remote == local
    assert local.family == "sdxl"
    with pytest.raises(UnreadableModel, match="text file"):
        answers("hf://somebody/dumps/notes.json", settings)


def test_what_is_longer_than_any_dump_is_not_fetched(
    hub: LoopbackHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.probing, "DUMP_CAP", 1000)
    write(hub.root / "somebody/dumps/header.json", pack_dump(dump_header(headers.load("unet-sdxl-ldm").header)))
    with pytest.raises(UnreadableModel, match="text file"):
        answers("hf://somebody/dumps/header.json", settings)


@pytest.mark.parametrize(
    "text",
    [
        "modelshelf/starter-lcm-lora",
        "hf://modelshelf/starter-lcm-lora",
        "hf://modelshelf/starter-lcm-lora@main/pytorch_lora_weights.safetensors",
        "https://huggingface.co/modelshelf/starter-lcm-lora",
        "https://huggingface.co/modelshelf/starter-lcm-lora/blob/main/pytorch_lora_weights.safetensors",
        "huggingface.co/modelshelf/starter-lcm-lora/tree/main",
    ],
)
def test_every_form_of_address_that_can_be_installed_from(text: str, hub: LoopbackHub, settings: Settings) -> None:
    ((source, report),) = answers(text, settings).items()
    assert (report.kind, report.family) == (Kind.LCM_LORA, "sd-1")
    if "pytorch_lora_weights" in text:
        assert source == text
    else:
        assert (
            source
            == "hf://modelshelf/starter-lcm-lora"
            + ("@main" if "tree" in text else "")
            + "/pytorch_lora_weights.safetensors"
        )


def test_a_file_behind_an_address(hub: LoopbackHub, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(hub.root / "somebody/lora/x.safetensors", LORA)
    url = f"{hub.endpoint}/somebody/lora/resolve/main/x.safetensors"  # with http://, which the parser refuses
    monkeypatch.setattr(registry.probing, "parse_source", lambda text, endpoint: UrlSource(text))
    assert [(s, r.family) for s, r in answers(url, settings).items()] == [(url, "sd-1")]


def test_what_stands_beside_a_remote_file_says_the_same_as_on_disk(hub: LoopbackHub, settings: Settings) -> None:
    repository = hub.root / "somebody/open"
    write(repository / "open.safetensors", open_lora())
    (repository / "open.json").write_text(json.dumps({"sd version": "SD2"}))
    (remote,) = answers("hf://somebody/open/open.safetensors", settings).values()
    (local,) = answers(str(repository / "open.safetensors"), settings).values()
    assert remote == local
    assert (remote.outcome, remote.family) == ("identified", "sd-2")


def test_a_remote_pipeline_is_one_input_and_the_same_as_on_disk(hub: LoopbackHub, settings: Settings) -> None:
    (remote,) = answers("modelshelf/starter-base", settings).values()
    (local,) = answers(str(STARTER / "modelshelf/starter-base"), settings).values()
    assert remote == local


def test_a_remote_peft_adapter_knows_its_base(hub: LoopbackHub, settings: Settings) -> None:
    peft(hub.root / "somebody/adapter")
    (report,) = answers("somebody/adapter", settings).values()
    assert (report.family, report.format) == ("sd-2", "peft folder")


def test_each_model_of_a_repository_of_several(hub: LoopbackHub, settings: Settings) -> None:
    root = hub.root / "somebody/several"
    write(root / "a.safetensors", LORA)
    write(root / "deep/b.safetensors", LORA)
    write(root / "old.bin", PICKLE)
    found = answers("hf://somebody/several@main", settings)
    assert {source: report.family for source, report in found.items()} == {
        "hf://somebody/several@main/a.safetensors": "sd-1",
        "hf://somebody/several@main/deep/b.safetensors": "sd-1",
        "hf://somebody/several@main/old.bin": None,
    }
    assert list(answers("hf://somebody/several/deep", settings)) == ["hf://somebody/several/deep/b.safetensors"]


def test_remote_shards_of_names_of_their_own_are_told(hub: LoopbackHub, settings: Settings) -> None:
    write(hub.root / "somebody/renamed/diffusion_pytorch_model.safetensors.index.json", b'{"weight_map": {}}')
    for name in ("a", "b"):
        write(hub.root / f"somebody/renamed/{name}.safetensors", LORA)
    (report,) = answers("somebody/renamed", settings).values()
    assert "index.json is of weights that were saved in several files" in report.reason


def test_remote_shards_are_one_model(hub: LoopbackHub, settings: Settings) -> None:
    sharded(hub.root / "somebody/sharded")
    assert [(s, r.family, r.format) for s, r in answers("somebody/sharded", settings).items()] == [
        ("somebody/sharded", "sd-1", "folder")
    ]


SHARD = "diffusion_pytorch_model-00002-of-00002.safetensors"


def test_one_shard_by_itself_is_no_model_on_disk_or_elsewhere(hub: LoopbackHub, settings: Settings) -> None:
    sharded(hub.root / "somebody/sharded")
    for text in (str(hub.root / "somebody/sharded" / SHARD), f"hf://somebody/sharded/{SHARD}"):
        ((_, report),) = answers(text, settings).items()
        assert (report.outcome, "part 2 of 2" in report.reason) == (Outcome.UNUSABLE, True)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_folder_that_lacks_a_shard_is_not_whole(where: str, hub: LoopbackHub, settings: Settings) -> None:
    folder = hub.root / "somebody/sharded"
    sharded(folder)
    (folder / SHARD).unlink()
    (each,) = inputs(str(folder) if where == "here" else "somebody/sharded", settings)
    with pytest.raises(UnreadableModel, match=f"lacks 1 of the 2 files that it was saved in, {SHARD}"):
        each.load()


def test_a_remote_pipeline_that_lacks_a_shard_is_not_whole(hub: LoopbackHub, settings: Settings) -> None:
    root = hub.root / "somebody/pipeline"
    shutil.copytree(STARTER / "modelshelf/starter-base", root)
    (whole,) = (root / "unet").glob("*.safetensors")
    whole.rename(root / "unet" / SHARD)
    for text in (str(root), "somebody/pipeline"):
        with pytest.raises(UnreadableModel, match="lacks 1 of the 2 files"):
            answers(text, settings)


def test_a_remote_pickle_is_named_by_its_first_bytes(hub: LoopbackHub, settings: Settings) -> None:
    write(hub.root / "somebody/pickle/model.ckpt", PICKLE)
    (report,) = answers("somebody/pickle", settings).values()
    assert (report.outcome, report.format) == (Outcome.UNUSABLE, "pickle")


def test_a_remote_pipeline_of_pickles_is_unusable_as_it_is_on_disk(hub: LoopbackHub, settings: Settings) -> None:
    root = hub.root / "somebody/pickled"
    shutil.copytree(STARTER / "modelshelf/starter-base", root)
    unet = root / "unet"
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    write(unet / "diffusion_pytorch_model.bin", PICKLE)
    (remote,) = answers("somebody/pickled", settings).values()
    (local,) = answers(str(root), settings).values()
    assert remote == local
    assert (local.outcome, local.format) == (Outcome.UNUSABLE, "diffusers folder")


def test_of_what_is_elsewhere_the_header_alone_is_fetched(hub: LoopbackHub, settings: Settings) -> None:
    body = bytes(8_000_000)
    write(hub.root / "somebody/big/x.safetensors", headers.safetensors_bytes({"x": ("U8", (len(body),))}) + body)
    (report,) = answers("somebody/big", settings).values()
    assert report.outcome is Outcome.UNKNOWN
    assert [seen.range for seen in hub.seen if seen.sent > 100_000] == ["bytes=0-524287"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("somebody/missing", RepositoryNotFound),
        ("hf://modelshelf/starter-lcm-lora/no-such.safetensors", FileMissing),
        ("somebody/words", NoWeights),
        ("ftp://example.com/x.safetensors", InvalidSource),
        ("not a source", InvalidSource),
    ],
)
def test_what_cannot_be_probed(text: str, error: type[Exception], hub: LoopbackHub, settings: Settings) -> None:
    write(hub.root / "somebody/words/README.md", b"# Soon")
    with pytest.raises(error):
        list(inputs(text, settings))


def test_a_file_on_disk_and_in_a_repository_give_the_same_report(hub: LoopbackHub, settings: Settings) -> None:
    write(hub.root / "somebody/lora/x.safetensors", LORA)
    (remote,) = answers("hf://somebody/lora/x.safetensors", settings).values()
    (local,) = answers(str(hub.root / "somebody/lora/x.safetensors"), settings).values()
    assert remote == local
