"""/sdapi/v1, spoken to by webuiapi from PyPI; its pictures, read by sd-parsers from PyPI."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import webuiapi
from PIL import Image, ImageChops
from sd_parsers import ParserManager

from registry.manager import Manager
from registry.settings import Settings
from tests.api.clients.conftest import NOBODY
from tests.service import running_service

pytestmark = pytest.mark.slow

CIRCLE = {"prompt": "a red circle on a white background", "seed": 7, "steps": 4, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def webui(service: httpx.Client) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(baseurl=f"{service.base_url}/sdapi/v1")


def differ(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is not None


def until(condition: Callable[[], bool]) -> None:
    """Looked at until it is so: two minutes at most, far more than it takes."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_lists(webui: webuiapi.WebUIApi) -> None:
    [checkpoint] = webui.get_sd_models()
    assert checkpoint["model_name"] == "starter-base"
    assert checkpoint["title"] == f"starter-base [{checkpoint['hash']}]"
    assert Path(checkpoint["filename"]).is_dir()
    loras = {lora["name"]: lora["path"] for lora in webui.get_loras()}
    assert loras.keys() == {"starter-outline-lora", "starter-heart", "starter-lcm-lora"}
    assert all(Path(path).is_file() for path in loras.values())
    assert {"DPM++ 2M Karras", "Euler a", "LCM"} <= set(webui.util_get_sampler_names())
    assert {"automatic", "karras"} <= set(webui.util_get_scheduler_names())
    assert webui.get_embeddings()["loaded"] == {}
    assert webui.get_upscalers() == webui.get_prompt_styles() == []
    assert webui.refresh_checkpoints() is None


def test_choosing_a_checkpoint(webui: webuiapi.WebUIApi) -> None:
    webui.util_set_model("starter")
    assert webui.util_get_current_model() == webui.get_sd_models()[0]["title"]
    for name in ("starter-base", "starter-base.safetensors", webui.get_sd_models()[0]["hash"]):
        assert webui.set_options({"sd_model_checkpoint": name, "sd_vae": "x"}) == {"ignored": ["sd_vae"]}
    assert webui.set_options({"sd_model_checkpoint": "nothing"})["code"] == "model_not_found"


def test_loras_in_the_prompt(webui: webuiapi.WebUIApi) -> None:
    def made(tags: str) -> webuiapi.WebUIApiResult:
        prompt = f"{CIRCLE['prompt']}{tags}"
        return webui.txt2img(**{**CIRCLE, "prompt": prompt}, sampler_name="Euler a", cfg_scale=4)

    plain, worn = made(""), made(" <lora:starter-outline-lora:0.8>")
    assert differ(plain.image, worn.image)
    assert not differ(plain.image, made("").image)
    assert not differ(plain.image, made("<lora:starter-outline-lora:0>").image)
    only_denoiser = made("<lora:starter-outline-lora:0:0.8>")
    assert "<lora:starter-outline-lora:0:0.8>" in only_denoiser.info["infotexts"][0]
    with pytest.raises(RuntimeError, match="model_not_found"):
        made("<lora:unheard-of:1>")
    with pytest.raises(RuntimeError, match="no number"):
        made("<lora:starter-outline-lora:much>")


def test_several_pictures_and_what_is_said_of_them(webui: webuiapi.WebUIApi) -> None:
    made = webui.txt2img(**CIRCLE, batch_size=2, n_iter=2, sampler_name="DPM++ 2M", scheduler="karras")
    assert made.info["all_seeds"] == [7, 8, 9, 10]
    assert [made.info[k] for k in ("sampler_name", "steps", "cfg_scale", "width")] == ["DPM++ 2M Karras", 4, 7.0, 64]
    assert made.info["infotexts"] == [picture.text["parameters"] for picture in made.images]
    assert made.parameters["batch_size"] == 2


def test_a_picture_from_a_picture(webui: webuiapi.WebUIApi) -> None:
    start = Image.new("RGB", (64, 64), "white")
    made = webui.img2img(images=[start], **CIRCLE, denoising_strength=0.5, sampler_name="Euler")
    assert made.image.size == (64, 64)
    assert made.info["denoising_strength"] == 0.5


REFUSED: list[dict[str, Any]] = [
    {"enable_hr": True},
    {"sampler_name": "None such"},
    {"steps": 1000},
    {"eta": 0.5},
    {"s_noise": 1.1},
    {"seed_resize_from_w": 512},
    {"override_settings": {"CLIP_stop_at_last_layers": 2}},
    {"override_settings": {"samples_format": "jpg"}},
]


@pytest.mark.parametrize("wrong", REFUSED, ids=str)
def test_what_cannot_be_done_is_refused(webui: webuiapi.WebUIApi, wrong: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="invalid_request"):
        webui.txt2img(**{**CIRCLE, **wrong})


def test_a_setting_that_cannot_be_is_refused(webui: webuiapi.WebUIApi) -> None:
    assert webui.set_options({"CLIP_stop_at_last_layers": 2})["code"] == "invalid_request"
    assert webui.set_options({"CLIP_stop_at_last_layers": 1}) == {"ignored": []}


def test_a_field_that_webui_does_not_have_is_named_in_a_warning(service: httpx.Client) -> None:
    answer = service.post("/sdapi/v1/txt2img", json={**CIRCLE, "stepz": 3, "clip_skip": 1})
    assert json.loads(answer.raise_for_status().json()["info"])["warnings"] == ["stepz means nothing here."]


def test_weighted_words_are_drawn_as_they_stand_and_said_to_be(webui: webuiapi.WebUIApi) -> None:
    made = webui.txt2img(**{**CIRCLE, "prompt": "a (red:1.3) circle"}, sampler_name="Euler")
    assert made.info["warnings"] == ["(red:1.3) is read as plain text here."]


def test_progress_skip_and_interrupt(webui: webuiapi.WebUIApi) -> None:
    long = {**CIRCLE, "steps": 25, "sampler_name": "Euler"}

    def step() -> tuple[int, int]:
        state = webui.get_progress()["state"]
        return state["job_no"], state["sampling_step"]

    with ThreadPoolExecutor(1) as other:
        running = other.submit(webui.txt2img, **long, n_iter=20)
        try:
            until(lambda: webui.get_progress()["current_image"] is not None)
            seen = webui.get_progress()
            assert 0 < seen["progress"] < 1
            assert seen["state"]["job_count"] == 20
            assert Image.open(io.BytesIO(base64.b64decode(seen["current_image"]))).size
            assert webui.skip() == {}
            until(lambda: step() >= (2, 1))
        finally:
            assert webui.interrupt() == {}
        made = running.result(60)
    assert 1 <= len(made.images) < 19
    assert 7 not in made.info["all_seeds"]
    assert webui.get_progress()["progress"] == webui.get_progress()["state"]["job_count"] == 0


def test_sd_parsers_reads_a_picture(webui: webuiapi.WebUIApi, service: httpx.Client) -> None:
    tags = " <lora:starter-lcm-lora:1> <lora:starter-outline-lora:0.5>"
    asked = {**CIRCLE, "prompt": CIRCLE["prompt"] + tags, "negative_prompt": "blue, green"}
    made = webui.txt2img(**asked, sampler_name="LCM", cfg_scale=1)
    read = ParserManager().parse(made.image)
    assert read is not None
    [sampler] = read.samplers
    assert [p.value for p in sampler.prompts] == [asked["prompt"]]
    assert [p.value for p in sampler.negative_prompts] == ["blue, green"]
    assert (sampler.name, sampler.parameters) == ("LCM", {"steps": "4", "cfg_scale": "1", "seed": "7"})
    [checkpoint] = webui.get_sd_models()
    assert (sampler.model.name, sampler.model.hash) == ("starter-base", checkpoint["hash"])
    assert read.metadata["Size"] == "64x64"
    digests = {m["name"]: m["autov3"] for m in service.get("/v1/models").json()["models"]}
    assert read.metadata["Hashes"] == {
        "model": checkpoint["hash"],
        **{f"lora:{name}": digests[name][:12] for name in ("starter-lcm-lora", "starter-outline-lora")},
    }


def test_with_a_token_as_the_password(tmp_path: Path) -> None:
    manager = Manager(Settings(root=tmp_path, hub_endpoint=NOBODY))
    token = manager.tokens.create("webui")
    manager.close()
    with running_service(tmp_path, NOBODY, MODELSHELF_HOST="0.0.0.0") as client:
        address = f"http://127.0.0.1:{client.base_url.port}/sdapi/v1"
        assert requests.get(f"{address}/sd-models", timeout=30).status_code == 401
        webui = webuiapi.WebUIApi(baseurl=address, username="anybody", password=token)
        assert webui.get_sd_models() == []
