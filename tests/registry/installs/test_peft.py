"""PEFT's LoRAs are folders: adapter_config.json says by how much their tensors count, so neither is taken without the other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from registry.manager import Manager
from registry.models import Model
from registry.settings import Settings
from registry.updates import Change
from registry.weights.files import adapter_file
from tests.conftest import STARTER
from tests.hub import LoopbackHub

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """The hub's folder: the outline LoRA as PEFT saves it, at the top of one repository and below in another."""
    tensors = load_file(STARTER / "modelshelf/starter-outline-lora/pytorch_lora_weights.safetensors")
    folder = tmp_path / "hub/ada/outline-peft"
    folder.mkdir(parents=True)
    save_file({f"base_model.model.{name.removeprefix('unet.')}": t for name, t in tensors.items()}, folder / WEIGHTS)
    config = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 32,
        "base_model_name_or_path": "runwayml/stable-diffusion-v1-5",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    shutil.copytree(folder, tmp_path / "hub/ada/epochs/10")
    return tmp_path / "hub"


@pytest.fixture
def hub(shelf: Path):  # type: ignore[no-untyped-def]
    with LoopbackHub(shelf) as running:
        yield running


def fits(manager: Manager, model: Model) -> bool:
    base = manager.install(str(STARTER / "modelshelf/starter-base/starter-base.safetensors"))
    return model.id in [lora.id for lora, _ in manager.matches.loras(base.id).loras]


@pytest.mark.parametrize(
    ("source", "name", "url"),
    [
        ("ada/outline-peft", "outline-peft", "hf://ada/outline-peft@{}"),
        (f"ada/outline-peft:{WEIGHTS}", "outline-peft", "hf://ada/outline-peft@{}"),
        ("ada/epochs:10", "epochs", "hf://ada/epochs@{}/10"),
        ("ada/epochs", "epochs", "hf://ada/epochs@{}/10"),
        (f"{{shelf}}/ada/outline-peft/{WEIGHTS}", "outline-peft", None),
        ("{shelf}/ada/outline-peft", "outline-peft", None),
    ],
)
def test_both_are_installed_however_the_lora_is_named(
    manager: Manager, hub: LoopbackHub, shelf: Path, source: str, name: str, url: str | None
) -> None:
    model = manager.install(source.format(shelf=shelf))
    assert (model.kind, model.family, model.format, model.name) == ("lora", "sd-1", "peft folder", name)
    file = adapter_file(manager.catalog.path(model))
    assert json.loads(file.with_name("adapter_config.json").read_text())["lora_alpha"] == 32
    assert [f.path for f in manager.catalog.files(model)] == ["adapter_config.json", WEIGHTS]
    assert model.base_model == "runwayml/stable-diffusion-v1-5"
    assert model.facts["base_model"]["by"] == "adapter_config.json"
    # By these people name the adapter, as they would the bare file.
    weights = next(f for f in manager.catalog.files(model) if f.path == WEIGHTS)
    assert (model.sha256, len(model.autov3 or "")) == (weights.sha256, 64)
    if url is not None:
        assert model.source == url.format(model.revision)
        assert [u.change for u in manager.updates([model])] == [Change.CURRENT]
        assert manager.install(source).id == model.id
        assert "Nothing was downloaded" in manager.installs.list()[0].notes[0]
    assert fits(manager, model)


def test_one_that_is_scanned_in_place_fits_as_well(manager: Manager, shelf: Path) -> None:
    manager.scans.scan(shelf / "ada/outline-peft")
    [model] = manager.catalog.list()
    assert (model.kind, model.format, model.base_model) == ("lora", "peft folder", "runwayml/stable-diffusion-v1-5")
    assert fits(manager, model)


def test_its_weights_alone_are_another_model(manager: Manager, hub: LoopbackHub, shelf: Path) -> None:
    """Without the configuration they count differently: what is on the shelf does not stand for them."""
    (shelf / "ada/bare").mkdir()
    shutil.copy(shelf / f"ada/outline-peft/{WEIGHTS}", shelf / "ada/bare/bare.safetensors")
    whole, bare = manager.install("ada/outline-peft"), manager.install("ada/bare")
    assert whole.id != bare.id
    assert "same weights" in " ".join(manager.installs.list()[0].notes)


def test_what_it_fits_is_told_before_it_is_installed(manager: Manager, hub: LoopbackHub, settings: Settings) -> None:
    base = manager.install(str(STARTER / "modelshelf/starter-base/starter-base.safetensors"))
    inquiry = manager.inquire("ada/outline-peft")
    assert [(model.id, fit.fits) for model, fit in inquiry.fits] == [(base.id, True)]
