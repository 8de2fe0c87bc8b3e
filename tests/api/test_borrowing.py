"""A file of the denoiser alone, as ComfyUI's diffusion_models/ has them, in a real service and on the command line."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.conftest import STARTER
from tests.registry.tiny import ldm_name
from tests.service import MODELSHELF, environment, running_service

pytestmark = pytest.mark.slow

LENDER, FILE = "starter-base", "painted"
NOTE = f"{FILE} has no text_encoder, vae of its own: those of {LENDER} are used."


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the starter's UNet as one file."""
    folder = tmp_path_factory.mktemp("own")
    unet = load_file(STARTER / "modelshelf" / LENDER / "unet" / "diffusion_pytorch_model.safetensors")
    save_file({ldm_name(f"unet.{name}", layers=1): t for name, t in unet.items()}, folder / f"{FILE}.safetensors")
    return folder


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory, own: Path) -> Iterator[httpx.Client]:
    root = tmp_path_factory.mktemp("root")
    with running_service(root, "http://127.0.0.1:1", MODELSHELF_ALLOWED_FOLDERS=str(own)) as client:
        _scan(client, own)
        yield client


def _scan(client: httpx.Client, folder: Path) -> None:
    scan = client.post("/v1/scans", json={"folder": str(folder)})
    client.get(f"{scan.headers['location']}/events")  # until it has ended


def ask(client: httpx.Client, checkpoint: str, to: str = "generations") -> httpx.Response:
    body = {"checkpoint": checkpoint, "prompt": "a red circle", "steps": 2, "seed": 1, "cfg": 1}
    return client.post(f"/v1/{to}", json=body)


def pixels(made: dict[str, Any]) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(made["images"][0]["png"]))).tobytes()


def test_it_is_refused_until_something_lends_what_it_lacks_and_then_draws(service: httpx.Client, own: Path) -> None:
    refused = ask(service, FILE)
    assert refused.json()["code"] == "not_generable"
    assert "no sd-1 model that is installed lends it those" in refused.json()["detail"]
    assert "modelshelf install stable-diffusion-v1-5/stable-diffusion-v1-5" in refused.json()["detail"]
    assert service.get(f"/v1/models/{FILE}").json()["borrowed"] == []

    shutil.copytree(STARTER / "modelshelf" / LENDER, own / LENDER)
    _scan(service, own)
    lender = service.get(f"/v1/models/{LENDER}").json()
    (borrowed,) = service.get(f"/v1/models/{FILE}").json()["borrowed"]
    assert {**borrowed, "digest": None} == {
        "id": lender["id"],
        "name": LENDER,
        "digest": None,
        "components": ["text_encoder", "vae"],
    }
    plan = ask(service, FILE, "plans").json()["plan"]
    assert plan["borrowed"][0]["id"] == lender["id"]
    assert NOTE in plan["notes"]

    made = ask(service, FILE).json()
    assert pixels(made) == pixels(ask(service, LENDER).json())
    with Image.open(io.BytesIO(base64.b64decode(made["images"][0]["png"]))) as picture:
        assert json.loads(picture.info["modelshelf"])["borrowed"] == made["plan"]["borrowed"]
        assert f"VAE: {LENDER}" in picture.info["parameters"]
    assert service.put(f"/v1/residency/{FILE}").status_code == 200
    assert FILE not in [m["name"] for m in service.delete(f"/v1/residency/{FILE}").json()["models"]]


def test_the_command_line_says_what_is_borrowed(own: Path, tmp_path: Path) -> None:
    shutil.copytree(STARTER / "modelshelf" / LENDER, own / LENDER)
    env = environment(tmp_path / "root", "http://127.0.0.1:1")

    def run(*words: str | Path) -> str:
        return subprocess.run([MODELSHELF, *words], env=env, check=True, capture_output=True, text=True).stdout

    run("scan", own)
    shown = run("show", FILE)
    assert f"borrows of {LENDER}" in shown
    assert "text_encoder, vae" in shown
    assert NOTE in " ".join(run("generate", FILE, "a red circle", "--steps", "1", "-o", tmp_path).split())
