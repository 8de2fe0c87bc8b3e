"""What the user says of a model that its header leaves open, over HTTP and at the command line, with a service and without."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api.client import Client
from registry.errors import InvalidRequest, NotAsSaid, NotIdentified
from registry.installs.options import Options
from tests.api.conftest import Here
from tests.demo.strangers import look_alike_lora, open_lora, write
from tests.hub import LoopbackHub
from tests.service import MODELSHELF, environment, running_service

pytestmark = pytest.mark.slow

OPEN, ALIKE = "somebody/open", "somebody/alike"
NAMES = (
    "one",
    "two",
    "three",
    "four",
    "five",
)  # of models that are told apart by their ranks, so that each test has its own
CANDIDATES = [{"family": "sd-1", "kind": "lora"}, {"family": "sd-2", "kind": "lora"}]


class Service(NamedTuple):
    client: Client
    hub: LoopbackHub
    root: Path

    def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        answer = self.client._http.post(f"{self.client.url}/v1/{path}", json=body)
        return answer.status_code, answer.json()


def hub_of(root: Path) -> LoopbackHub:
    for rank, name in enumerate(NAMES, 1):
        write(root / f"{OPEN}-{name}/ink-{name}.safetensors", open_lora(rank))
        write(root / f"{ALIKE}-{name}/pen-{name}.safetensors", look_alike_lora(rank))
    return LoopbackHub(root)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("said")
    with (
        hub_of(folder / "hub") as hub,
        running_service(folder / "root", hub.endpoint) as http,
        Client(str(http.base_url)) as client,
    ):
        yield Service(client, hub, folder / "root")


# --- over HTTP


def test_a_probe_tells_what_can_be_said_and_takes_it(service: Service) -> None:
    status, found = service.post("probe", source=f"{OPEN}-one")
    assert (status, found["family"], found["refusal"]["code"]) == (200, None, "not_identified")
    assert found["refusal"]["facts"]["candidates"] == found["report"]["choices"] == CANDIDATES
    status, found = service.post("probe", source=f"{OPEN}-one", **CANDIDATES[1])
    assert (status, found["family"], found["refusal"]) == (200, "sd-2", None)
    assert service.client.probe(f"{OPEN}-one", family="sd-1").family == "sd-1"


def test_a_word_in_vain_is_refused_and_the_shapes_stand(service: Service) -> None:
    _, found = service.post("probe", source=f"{ALIKE}-one", family="sd-1")
    assert (found["family"], found["refusal"]["code"]) == ("sdxl", "not_as_said")
    assert {"family": "kolors", "kind": "lora"} in found["refusal"]["facts"]["candidates"]
    status, problem = service.post("installs", source=f"{ALIKE}-one", family="sd-1")
    assert (status, problem["code"]) == (422, "not_as_said")
    assert "the shapes allow sdxl lora, koala lora, kolors lora" in problem["detail"]


@pytest.mark.parametrize("path", ["probe", "installs"])
@pytest.mark.parametrize(
    "wrong", [{"family": "sd1.5"}, {"family": ""}, {"family": 1}, {"kind": "vae"}, {"kind": "LoRA"}]
)
def test_what_no_model_is_cannot_be_said(service: Service, path: str, wrong: dict[str, Any]) -> None:
    status, problem = service.post(path, source=f"{OPEN}-one", **wrong)
    assert (status, problem["code"]) == (422, "invalid_request")
    if wrong == {"family": "sd1.5"}:
        assert problem["facts"]["nearest"][0] == "sd-1"


def test_an_install_keeps_what_was_said_of_it(service: Service) -> None:
    with pytest.raises(NotIdentified):
        service.client.install(f"{OPEN}-two")
    model = service.client.install(f"{OPEN}-two", options=Options(family="sd-2"))
    assert (model.kind, model.family, model.overrides) == ("lora", "sd-2", {"family": "sd-2"})


def test_a_model_is_corrected_and_the_correction_taken_back(service: Service) -> None:
    client = service.client
    model = client.install(f"{ALIKE}-two")
    version = client._http.get(f"{client.url}/v1/models/{model.id}").headers["ETag"]
    assert client.edit(model.id, family="kolors", weight=0.4).family == "kolors"
    found = client._http.get(f"{client.url}/v1/models/{model.id}", headers={"If-None-Match": version})
    assert (found.status_code, found.json()["report"]["family"]) == (200, "kolors")
    assert [m.id for m in client.models(family="kolors")] == [model.id]
    with pytest.raises(NotAsSaid):
        client.edit(model.id, family="flux-1")
    with pytest.raises(InvalidRequest, match="The nearest: kolors"):
        client.edit(model.id, family="kolor")
    back = client.edit(model.id, family=None)
    assert (back.family, back.overrides) == ("sdxl", {"weight": 0.4})


# --- at the command line


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with hub_of(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def alone(hub: LoopbackHub, here: Here) -> Here:
    return partial(here, HF_ENDPOINT=hub.endpoint)


def test_probe_takes_the_word(alone: Here, tmp_path: Path) -> None:
    write(tmp_path / "ink.safetensors", open_lora())
    write(tmp_path / "pen.safetensors", look_alike_lora())
    ink, pen = (str(tmp_path / f"{name}.safetensors") for name in ("ink", "pen"))
    status, text, _ = alone("probe", ink)
    assert (status, "Say it with --family sd-1" in text) == (3, True)
    status, text, _ = alone("probe", ink, "--family", "sd-2")
    assert (status, "sd-2 lora" in text) == (0, True)
    status, text, _ = alone("probe", pen)
    assert "sdxl lora or koala or kolors or" in text
    status, text, _ = alone("probe", pen, "--family", "flux-1", "--explain")
    assert status == 0
    assert "user says “flux-1”, but the shapes allow sdxl lora, koala lora" in text
    status, _, said = alone("probe", pen, "--family", "kolour")
    assert (status, "There is no family “kolour”. The nearest: kolors" in said) == (1, True)


def test_install_and_set_take_the_word(alone: Here) -> None:
    status, _, said = alone("install", f"{OPEN}-one", f"{ALIKE}-one")
    assert (status, "Say it with --family sd-1" in said) == (1, True)
    status, text, _ = alone("install", f"{OPEN}-one", f"{OPEN}-two", "--family", "sd-2")
    assert (status, text.count("lora, sd-2")) == (0, 2)
    assert alone("set", "pen-one", "--family", "kolors", "--weight", "0.5")[1] == "pen-one: family kolors, weight 0.5\n"
    assert "kolors" in alone("list", "--family", "kolors")[1]
    assert alone("set", "pen-one", "--reset")[1] == "pen-one: family kolors\n"
    status, _, said = alone("set", "pen-one", "--family", "sd-1")
    assert (status, "the shapes allow sdxl lora" in said) == (1, True)


@pytest.mark.parametrize("by", ["itself", "service"])
def test_on_a_terminal_it_is_asked(service: Service, by: str, tmp_path: Path) -> None:
    source = f"{OPEN}-{'three' if by == 'service' else 'four'}"
    root = service.root if by == "service" else tmp_path / "root"
    more = {"MODELSHELF_SERVER": service.client.url} if by == "service" else {}
    env = environment(root, service.hub.endpoint, **more)
    text = on_terminal("2\n", env, "install", source)
    assert "leaves open what it is" in text
    assert "Which one (1 to 2)" in text
    assert "lora, sd-2" in text
    done = subprocess.run([MODELSHELF, "show", f"ink-{source.split('-')[1]}", "--json"], env=env, capture_output=True)
    assert json.loads(done.stdout)["overrides"] == {"family": "sd-2"}  # what was asked, and no more


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_nothing_is_asked_where_a_pipe_would_swallow_the_question(
    hub: LoopbackHub, tmp_path: Path, more: tuple[str, ...]
) -> None:
    _, theirs = pty.openpty()
    command = [MODELSHELF, "install", f"{OPEN}-one", *more]
    env = environment(tmp_path / "root", hub.endpoint)
    done = subprocess.run(command, env=env, stdin=theirs, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "[]\n" if more else "")
    assert "not_identified" in done.stderr


def on_terminal(typed: str, env: dict[str, str], *words: str) -> str:
    """All that the command writes on a terminal, at which this is typed."""
    terminal, theirs = pty.openpty()
    with subprocess.Popen([MODELSHELF, *words], env=env, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        os.write(terminal, typed.encode())
        text = b""
        while chunk := _read(terminal):
            text += chunk
        assert running.wait() == 0, text.decode()
    os.close(terminal)
    return text.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody is at the other end any more
        return b""
