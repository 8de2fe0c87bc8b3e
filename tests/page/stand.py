"""What the page is tested on: a real service process with the starter models, and a loopback hub with strangers among its repositories."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.bad_sources import GATED, add_bad_sources
from tests.conftest import STARTER
from tests.demo.strangers import look_alike_lora, open_lora, sd15_lora, write
from tests.hub import LoopbackHub
from tests.service import running_service

STARTERS = ("starter-base", "starter-outline-lora", "starter-heart-lora", "starter-lcm-lora")
STRANGERS = ("somebody/sd15", "somebody/hostile")
OPEN, ALIKE = (
    "somebody/open",
    "somebody/alike",
)  # nothing says whether it is for sd-1 or sd-2; it may be for kolors as well as for sdxl
HOSTILE = '<img src=x onerror="window.attacked=1">'
# Fits the starter and recommends no weight; every text of its card tries to be markup.
HOSTILE_CARD = f"""---
base_model: "javascript:window.attacked=1"
instance_prompt: '{HOSTILE}'
license: "{HOSTILE.replace('"', "'")}"
---
# {HOSTILE}
<script>window.attacked=1</script>
"""


class Stand(httpx.Client):
    """A client of the service, with its hub and its root."""

    hub: LoopbackHub
    root: Path

    @property
    def address(self) -> str:
        return str(self.base_url).rstrip("/")

    def install(self, source: str) -> str:
        """To its end; returns the model's id."""
        answer = self.post("/v1/installs", json={"source": source})
        assert answer.status_code == 202, answer.text
        with self.stream("GET", f"{answer.headers['location']}/events") as stream:
            *_, last = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        assert last["state"] == "installed", last
        return str(last["model_id"])

    def models(self) -> set[str]:
        """The ids of what is on the shelf."""
        return {model["id"] for model in self.get("/v1/models", params={"limit": 100}).json()["models"]}

    def forget(self, models: set[str]) -> None:
        for model in models:
            self.delete(f"/v1/models/{model}").raise_for_status()


@contextmanager
def running_stand(folder: Path, strangers: tuple[str, ...] = STRANGERS) -> Iterator[Stand]:
    """The starter is installed, and the `strangers`: a LoRA of the real SD 1.5 that does not fit it, and one with a hostile card."""
    hub_root, root = folder / "hub", folder / "root"
    shutil.copytree(STARTER, hub_root)
    add_bad_sources(hub_root, STARTER)
    write(hub_root / "somebody/sd15/sd15.safetensors", sd15_lora())
    write(hub_root / OPEN / "open.safetensors", open_lora())
    write(hub_root / ALIKE / "alike.safetensors", look_alike_lora())
    heart = remarked("starter-heart-lora/starter-heart.safetensors", ss_network_module="networks.lora")
    write(hub_root / "somebody/hostile/hostile.safetensors", heart)
    write(hub_root / "somebody/hostile/README.md", HOSTILE_CARD.encode())
    with (
        LoopbackHub(hub_root, gated=[GATED]) as hub,
        running_service(root, hub.endpoint, Stand) as stand,
    ):
        stand.hub, stand.root = hub, root
        for source in (*(f"modelshelf/{name}" for name in STARTERS), *strangers):
            stand.install(source)
        yield stand


def remarked(name: str, **metadata: str) -> bytes:
    """A file of the starter's with other metadata, so that it is another model."""
    whole = (STARTER / "modelshelf" / name).read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[8 + length :]
