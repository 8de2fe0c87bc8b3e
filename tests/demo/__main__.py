"""`make demo`: the whole product on the starter models, through a real service over HTTP, without a GPU and without a network.

A loopback hub plays huggingface.co for the addresses that are installed; nothing in the service knows.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from registry.settings import Settings
from registry.starter import starter_repositories
from tests.demo.sheet import Row, contact_sheet
from tests.demo.strangers import add_strangers
from tests.hub import LoopbackHub
from tests.service import MODELSHELF, running_service

OUTPUT = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
HUB = "https://huggingface.co"
REPOSITORIES = tuple(r.name for r in starter_repositories())
# The models' names: a file's own, or its repository's where the file's says nothing.
BASE, OUTLINE, LCM = "starter-base", "starter-outline-lora", "starter-lcm-lora"
PROMPTS = (
    "a red circle on a white background",
    "a yellow star on a blue background",
    "a green triangle on a black background",
    "a purple square on a yellow background",
    "a cyan cross on a red background",
    "a white diamond on a purple background",
)
console = Console(highlight=False)
if not console.is_terminal:
    console.width = 150  # a log has no right edge to wrap at


@dataclass(frozen=True)
class Setting:
    """One row of the contact sheet."""

    title: str
    loras: dict[str, float | None] = field(default_factory=dict)  # None: what the recipes choose
    suffix: str = ""
    more: dict[str, Any] = field(default_factory=dict)


SETTINGS = (
    Setting("base, 25 steps"),
    Setting("style at 0", {OUTLINE: 0.0}, ", outline style"),
    Setting("style at 0.5", {OUTLINE: 0.5}, ", outline style"),
    Setting("style at 1", {OUTLINE: 1.0}, ", outline style"),
    Setting("base, 4 steps", more={"steps": 4, "cfg": 1.0}),
    Setting("LCM-LoRA, 4 steps", {LCM: None}, more={"steps": 4}),
    Setting("LCM-LoRA at 0.35, 4 steps", {LCM: 0.35}, more={"steps": 4}),
    Setting("LCM-LoRA and style", {LCM: None, OUTLINE: None}, ", outline style", {"steps": 4}),
)


def main() -> None:
    began = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    repositories = OUTPUT / "hub"
    shutil.copytree(starter_repositories()[0].parent, repositories / "modelshelf")
    strangers = add_strangers(repositories)
    with (
        LoopbackHub(repositories, gated=[strangers.gated]) as hub,
        running_service(OUTPUT / "root", hub.endpoint) as service,
    ):
        step("Install from Hugging Face URLs")
        for name in REPOSITORIES:
            install(service, f"{HUB}/modelshelf/{name}")
        install(service, f"{HUB}/modelshelf/{BASE}/blob/main/{BASE}.safetensors")
        install(service, f"{HUB}/{strangers.real_sd15_lora}")

        step("What is not a model is refused, and changes nothing")
        before = len(service.get("/v1/models").json()["models"])
        for repository in (*strangers.refused, "modelshelf/no-such-repository", "datasets/somebody/pictures"):
            install(service, f"{HUB}/{repository}", expected=False)
        assert len(service.get("/v1/models").json()["models"]) == before

        step("What is installed")
        show_models(service)
        step(f"The LoRAs that fit {BASE}, and the one that does not")
        show_compatible(service)

        step("Pictures")
        rows = [draw_row(service, setting) for setting in SETTINGS]
    sheet = contact_sheet(PROMPTS, rows)
    sheet.save(OUTPUT / "contact-sheet.png")
    console.print(f"\n[bold]{OUTPUT / 'contact-sheet.png'}[/]   the whole demo took {time.monotonic() - began:.0f} s")
    step("Look at it yourself")
    console.print("  The same models, in the page:", f"  MODELSHELF_ROOT={OUTPUT / 'root'} {page_command()}", sep="\n")
    console.print(f"  then open [bold]{Settings().address}/[/] in a browser (Ctrl-C stops the service).")


def page_command() -> str:
    """`modelshelf serve`, as it can be typed here."""
    command = MODELSHELF.relative_to(Path.cwd()) if MODELSHELF.is_relative_to(Path.cwd()) else MODELSHELF
    return f"{command} serve"


def step(title: str) -> None:
    console.print(f"\n[bold]{title}[/]")


def install(service: httpx.Client, source: str, *, expected: bool = True) -> None:
    """POST /v1/installs, then follow the job's events to its end. The demo ends if that is not the `expected` one."""
    answer = service.post("/v1/installs", json={"source": source})
    last = follow(service, source, answer.json()["id"]) if answer.is_success else {"error": answer.json()}
    if (error := last["error"]) is not None:
        console.print(f"  [red]refused[/]    {source}")
        console.print(
            f"             {escape(error['detail'])} [dim]({error['status']} {error['code']})[/]", soft_wrap=True
        )
    else:
        model = service.get(f"/v1/models/{last['model_id']}").json()
        digest = f"sha256 {model['sha256'][:12]}" if model["sha256"] else f"{len(model['files'])} files"
        console.print(f"  [green]installed[/]  {source}")
        console.print(f"             {model['kind']}, {model['family']}, {model['size'] / 1e6:.1f} MB, {digest}")
    if expected is not (error is None):
        raise SystemExit("That was not expected: the demo has failed.")


def follow(service: httpx.Client, source: str, install_id: str) -> dict[str, Any]:
    """A progress bar to the end of the job; returns its last event."""
    last: dict[str, Any] = {}
    columns = (TextColumn("  {task.fields[state]:<12}"), BarColumn(), DownloadColumn(), TextColumn(source))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", state="queued", total=None)
        for last in events(service, install_id):
            bar.update(task, state=last["state"], completed=last["bytes_done"], total=last["bytes_total"] or None)
    return last


def events(service: httpx.Client, install_id: str) -> Iterator[dict[str, Any]]:
    with service.stream("GET", f"/v1/installs/{install_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def show_models(service: httpx.Client) -> None:
    table = Table("name", "kind", "family", "weight", "where the weight comes from", "triggers", box=None)
    for model in service.get("/v1/models").json()["models"]:
        weight = model["weight"] or {"value": "", "origin": "", "by": ""}
        table.add_row(
            model["name"],
            model["kind"],
            model["family"],
            str(weight["value"]),
            weight["by"],
            ", ".join(model["triggers"]),
        )
    console.print(table)


def show_compatible(service: httpx.Client) -> None:
    table = Table("LoRA", "fits", "reason", box=None)
    for lora in service.get(f"/v1/models/{BASE}/compatible-loras", params={"all": True}).json()["loras"]:
        table.add_row(lora["model"]["name"], "[green]yes[/]" if lora["fits"] else "[red]no[/]", lora["reason"])
    console.print(table)


def draw_row(service: httpx.Client, setting: Setting) -> Row:
    """The setting's picture of every prompt; the seconds are the median of the row, over HTTP."""
    pictures, seconds, plan = [], [], {}
    for number, prompt in enumerate(PROMPTS):
        body = {
            "checkpoint": BASE,
            "prompt": prompt + setting.suffix,
            "seed": 100 + number,
            "loras": [
                {"model": name} | ({} if weight is None else {"weight": weight})
                for name, weight in setting.loras.items()
            ],
            **setting.more,
        }
        start = time.monotonic()
        answer = service.post("/v1/generations", json=body)
        seconds.append(time.monotonic() - start)
        if answer.is_error:
            raise SystemExit(f"{setting.title}: {answer.json()['detail']}")
        plan = answer.json()["plan"]
        pictures.append(base64.b64decode(answer.json()["images"][0]["png"]))
    sampler = f"{plan['scheduler']['value']}, {plan['steps']['value']} steps, CFG {plan['cfg']['value']:g}"
    weights = [
        f"{a['name'].removeprefix('starter-')} at {a['weight']['value']:g}, {a['weight']['origin']}"
        for a in plan["loras"]
    ]
    console.print(f"  {setting.title:<28}{median(seconds):6.2f} s a picture   {sampler}   {'; '.join(weights)}")
    return Row(setting.title, "\n".join([sampler, *weights, f"{median(seconds):.2f} s a picture"]), pictures)


if __name__ == "__main__":
    main()
