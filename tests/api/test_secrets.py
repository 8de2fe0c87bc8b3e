"""Tokens for the Hub and for Civitai open what they should, and are then found nowhere: no log, database, answer or temporary file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.demo.strangers import sd15_lora, write
from tests.hub import Fault, LoopbackHub
from tests.hub.civitai import LoopbackCivitai
from tests.service import MODELSHELF, environment, running_service

HUB, CIVITAI = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz", "civitai0123456789abcdef"
PRIVATE, SLOW = "ada/private", "ada/slow"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    write(tmp_path / "hub" / PRIVATE / "ink.safetensors", sd15_lora())
    write(tmp_path / "hub" / SLOW / "slow.safetensors", sd15_lora(rank=64))
    private = [PRIVATE, SLOW]
    with LoopbackHub(tmp_path / "hub", private=private, tokens={HUB: set(private)}) as running:
        running.faults[f"{SLOW}/slow.safetensors"] = Fault(bytes_per_second=200_000)
        yield running


@pytest.fixture
def civitai(tmp_path: Path) -> Iterator[LoopbackCivitai]:
    write(tmp_path / "civitai/seven.safetensors", sd15_lora(rank=8))
    with LoopbackCivitai({7: tmp_path / "civitai/seven.safetensors"}, token=CIVITAI) as running:
        yield running


def where(folder: Path) -> list[str]:
    """Files under `folder` that hold one of the tokens."""
    secrets = [token.encode() for token in (HUB, CIVITAI)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if any(secret in path.read_bytes() for secret in secrets)]


@pytest.mark.slow
def test_they_are_found_nowhere(tmp_path: Path, hub: LoopbackHub, civitai: LoopbackCivitai) -> None:
    root = tmp_path / "root"
    told: list[str] = []
    for folder in ("temporary", "home"):
        (tmp_path / folder).mkdir()
    more = {
        "HF_TOKEN": HUB,
        "CIVITAI_API_TOKEN": CIVITAI,
        "MODELSHELF_CIVITAI_ENDPOINT": civitai.endpoint,
        "TMPDIR": str(tmp_path / "temporary"),
        "HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "home/hf"),
        "HF_DEBUG": "1",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [MODELSHELF, *words], env=environment(root, hub.endpoint, **more), capture_output=True, text=True
        )
        told.extend((done.stdout, done.stderr))
        return done

    assert run("install", PRIVATE).returncode == 0
    assert run("install", civitai.url(7)).returncode == 0
    assert run("install", "ada/missing").returncode != 0
    for words in (("list", "--json"), ("show", "ink", "--json"), ("installs", "list", "--json"), ("update", "--json")):
        assert run(*words).returncode == 0

    with running_service(root, hub.endpoint, httpx.Client, **more) as service:
        job = service.post("/v1/installs", json={"source": SLOW}).json()["id"]
        with service.stream("GET", f"/v1/installs/{job}/events") as events:
            for line in events.iter_lines():
                told.append(line)
                if line.startswith("data:") and json.loads(line[5:])["bytes_done"] > 0:
                    break
        answers = [
            service.post("/v1/installs", json={"source": "ada/missing"}),
            service.post("/v1/probe", json={"source": PRIVATE}),
            *map(service.get, ("/v1/installs", f"/v1/installs/{job}", "/v1/models", "/v1/models/ink", "/openapi.json")),
            service.post(f"/v1/installs/{job}/pause"),
        ]
        for answer in answers:
            told += [answer.text, str(answer.headers)]
        assert where(root) == []  # while it runs: the write-ahead log and the partial file, too

    assert [row["source"] for row in json.loads(run("list", "--json").stdout)]
    assert not [text for text in told if HUB in text or CIVITAI in text]
    assert where(root) == []
    assert not [
        path
        for folder in ("temporary", "home")
        if any((tmp_path / folder).iterdir())
        for path in where(tmp_path / folder)
    ]
    # They were used all the same, and by nobody else.
    assert [s for s in hub.seen if s.authorized]
    assert {s.authorized for s in hub.seen if s.server == "storage"} == {False}
    assert {s.authorized for s in civitai.seen if s.path.startswith("/delivery")} == {False}


def test_what_is_printed_of_the_settings_does_not_tell_them() -> None:
    from registry.settings import Settings

    shown = repr(Settings(hub_token=HUB, civitai_token=CIVITAI))
    assert HUB not in shown
    assert CIVITAI not in shown
