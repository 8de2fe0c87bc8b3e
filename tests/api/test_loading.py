"""Generations while models are loaded: given up at once, and waiting only while somebody else needs the memory. In a real service."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import STARTER
from tests.service import MODELSHELF, environment, running_service

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BASE, OTHER = "starter-base", "other-base"
ONE_FITS, BOTH_FIT = "0.05", "1"  # GiB; either takes 36 MiB
WAIT = 60  # seconds, for what should take none


class Slow:
    """A disk that is slow with the models that it is told to hold."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "held"
        self.settings = {
            "MODELSHELF_BACKEND": "tests.registry.backends.held:Held",
            "MODELSHELF_ALLOWED_FOLDERS": str(folder),
            "PYTHONPATH": str(ROOT),
            "HELD": str(self._file),
        }
        self.hold("")

    def hold(self, name: str) -> None:
        self._file.write_text(name)

    def is_read(self) -> bool:
        return self._file.with_name("held.reading").exists()


@pytest.fixture
def disk(tmp_path: Path) -> Slow:
    """With the starter checkpoint on it, and another of other weights."""
    for name in (BASE, OTHER):
        shutil.copytree(STARTER / "modelshelf" / BASE, tmp_path / "own" / name)
    vae = tmp_path / "own" / OTHER / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(vae).items()}, vae, {"format": "pt"})
    return Slow(tmp_path)


@contextmanager
def serving(tmp_path: Path, disk: Slow, gib: str) -> Iterator[httpx.Client]:
    settings = {**disk.settings, "MODELSHELF_MEMORY_GIB": gib}
    with running_service(tmp_path / "root", "http://127.0.0.1:1", **settings) as client:
        scan = client.post("/v1/scans", json={"folder": str(tmp_path / "own")})
        client.get(f"{scan.headers['location']}/events")  # until it has ended
        try:
            yield client
        finally:
            disk.hold("")


def ask(client: httpx.Client, checkpoint: str, query: str = "") -> httpx.Response:
    body = {"checkpoint": checkpoint, "prompt": "a red circle", "steps": 1, "seed": 1}
    return client.post(f"/v1/generations{query}", json=body)


def job(client: httpx.Client, checkpoint: str) -> str:
    return str(ask(client, checkpoint, "?wait=false").headers["location"])


def until(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT
    while not (seen := look()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return seen


def resident(client: httpx.Client) -> dict[str, list[str]]:
    """Name -> who works with it; what they take is what is counted."""
    shown = client.get("/v1/residency").json()
    assert sum(tier["used"] for tier in shown["tiers"]) == sum(model["nbytes"] for model in shown["models"])
    return {model["name"]: model["holders"] for model in shown["models"]}


def test_one_that_loads_is_cancelled_at_once_and_its_load_given_up(tmp_path: Path, disk: Slow) -> None:
    with serving(tmp_path, disk, BOTH_FIT) as client:
        assert client.put(f"/v1/residency/{BASE}").status_code == 200
        disk.hold(OTHER)
        loading = job(client, OTHER)
        until(lambda: OTHER in resident(client))
        assert client.delete(loading).json()["state"] == "cancelled"
        assert client.delete(loading).status_code == 409
        assert ask(client, BASE).status_code == 200  # which has nothing to load
        assert resident(client)[OTHER] == [f"generation {loading.rpartition('/')[2]}"]  # its disk still hangs
        disk.hold("")
        until(lambda: OTHER not in resident(client))
        assert ask(client, OTHER).status_code == 200
        assert resident(client) == {BASE: [], OTHER: []}


def test_a_load_that_somebody_else_waits_for_is_finished_for_him(tmp_path: Path, disk: Slow) -> None:
    with serving(tmp_path, disk, BOTH_FIT) as client:
        client.put(f"/v1/residency/{BASE}")
        disk.hold(OTHER)
        first = job(client, OTHER)
        until(lambda: OTHER in resident(client))
        client.delete(first)
        second = job(client, OTHER)
        until(lambda: len(resident(client)[OTHER]) == 2)
        disk.hold("")
        client.get(f"{second}/events")  # until it has ended
        assert client.get(second).json()["state"] == "succeeded"
        assert client.get(first).json()["state"] == "cancelled"


def test_ctrl_c_ends_a_command_that_loads(tmp_path: Path, disk: Slow) -> None:
    disk.hold(BASE)
    env = environment(tmp_path / "root", "http://127.0.0.1:1", HELD_SECONDS="0.5", **disk.settings)
    subprocess.run([MODELSHELF, "scan", tmp_path / "own"], env=env, check=True, capture_output=True)
    command = [MODELSHELF, "generate", BASE, "a red circle", "-o", tmp_path]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(disk.is_read)
        process.send_signal(signal.SIGINT)  # it has 462 tensors, half a second each
        process.communicate(timeout=WAIT)
    assert process.returncode == 130


def test_what_is_loaded_by_hand_makes_room_and_while_it_loads_is_waited_for(tmp_path: Path, disk: Slow) -> None:
    with serving(tmp_path, disk, ONE_FITS) as client, ThreadPoolExecutor(1) as threads:
        assert ask(client, BASE).status_code == 200
        disk.hold(OTHER)
        by_hand = threads.submit(client.put, f"/v1/residency/{OTHER}")
        until(lambda: resident(client).get(OTHER) == ["loading"])
        waiting = job(client, BASE)
        shown = until(lambda: client.get(waiting).json()["waiting_for"])
        assert shown == f"room in memory, which {OTHER} (loading) takes up"
        refused = client.put(f"/v1/residency/{BASE}").json()  # by hand nobody waits
        assert (refused["code"], "Try again when that has ended" in refused["detail"]) == ("out_of_memory", True)
        given_up = job(client, BASE)
        assert client.delete(given_up).json()["state"] == "cancelled"
        disk.hold("")
        events = client.get(f"{waiting}/events").text
        assert by_hand.result().status_code == 200
        assert client.get(waiting).json()["state"] == "succeeded", events
        assert events.index("event: waiting") < events.index("event: step")
        assert client.get(waiting).json()["waiting_for"] is None
        assert resident(client) == {BASE: []}


def leave(client: httpx.Client, disk: Slow) -> None:
    """Asks for a load, and does not wait for the answer."""
    with closing(HTTPConnection(client.base_url.host, client.base_url.port or 80)) as connection:
        connection.request("PUT", f"/v1/residency/{OTHER}")
        until(disk.is_read)


def cancel_task(client: httpx.Client, disk: Slow) -> None:
    task = client.post("/v1/tasks", json={"kind": "load", "models": [OTHER]}).headers["location"]
    until(disk.is_read)
    assert client.delete(task).json()["state"] == "cancelled"


@pytest.mark.parametrize("give_up", [leave, cancel_task])
def test_a_load_by_hand_is_given_up_with_whoever_asked_for_it(
    tmp_path: Path, disk: Slow, give_up: Callable[[httpx.Client, Slow], None]
) -> None:
    disk.settings["HELD_SECONDS"] = "0.5"  # for each of 462 tensors
    with serving(tmp_path, disk, BOTH_FIT) as client:
        disk.hold(OTHER)
        give_up(client, disk)
        until(lambda: OTHER not in resident(client))


def test_what_never_fits_is_refused_with_what_to_do(tmp_path: Path, disk: Slow) -> None:
    with serving(tmp_path, disk, "0.01") as client:
        answer = ask(client, BASE)
        assert (answer.status_code, answer.json()["code"]) == (503, "out_of_memory")
        assert "It never fits: raise MODELSHELF_MEMORY_GIB" in answer.json()["detail"]
