"""Probing: full-size headers against reading and parsing the same bytes with nothing more; a folder; a remote file."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
from safetensors import safe_open

from probes import probe, scan_folder
from probes.names import forget
from registry.installs.examine import examine
from registry.installs.origins import open_origin
from registry.sources import HubSource, UrlSource
from tests.benchmarks.tables import Table, side_by_side
from tests.hub import LoopbackHub
from tests.loopback import LOOPBACK
from tests.probes import headers

CHECKPOINTS = {"SD 1.5": "single-file-sd-1", "SDXL": "single-file-sdxl", "FLUX.1": "flux-1-dev-comfy"}
LORAS = {"SD 1.5 LoRA": "lora-sd-1-kohya", "SDXL LoRA": "lora-sdxl-kohya", "FLUX.1 LoRA": "lora-flux-kohya"}
FOLDER = ("lora-sd-1-kohya", "lora-sdxl-kohya-unet", "lora-sdxl-peft", "lora-flux-kohya", "lora-flux-ai-toolkit",
          "lora-sd-1-locon", "lora-sdxl-slider", "lora-qwen-image-transformer")  # fmt: skip
"""What the folder's files are, in turns."""


def run(quick: bool) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as folder:
        yield from local_files(Path(folder), 3 if quick else 60)
        yield lora_folder(Path(folder), 100 if quick else 10_000)
        yield remote_files(Path(folder))


def write(path: Path, fixture: str) -> Path:
    """A file of the fixture's true size, its tensors a hole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    loaded = headers.load(fixture)
    return headers.write_sparse(path, loaded.tensors, loaded.metadata)


def bare(path: Path, loads: Callable[[bytes], Any]) -> Callable[[], object]:
    """The least that anything can do that wants to know what is in a header."""

    def read() -> object:
        with path.open("rb") as file:
            return loads(file.read(int.from_bytes(file.read(8), "little")))

    return read


def opened(path: Path) -> list[str]:
    with safe_open(path, framework="numpy") as file:
        return list(file.keys())


def bytes_read(call: Callable[[], object]) -> int:
    """Bytes that `call` reads from files it opens with Path.open unbuffered."""
    count = 0

    class Counting(FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal count
            data = super().read(-1 if size is None else size)
            count += len(data)
            return data

        def readinto(self, buffer: Any, /) -> int:
            nonlocal count
            got = super().readinto(buffer)
            count += got
            return got

    with patch.object(Path, "open", lambda path, mode, buffering: Counting(path, mode)):
        call()
    return count


def local_files(folder: Path, rounds: int) -> Iterator[Table]:
    rows = []
    for name, fixture in (CHECKPOINTS | LORAS).items():
        path = write(folder / "local" / f"{fixture}.safetensors", fixture)
        spent = side_by_side(
            {
                "probe": lambda path=path: (forget(), probe(path)),  # type: ignore[misc]
                "again": lambda path=path: probe(path),  # type: ignore[misc]
                "json": bare(path, json.loads),
                "msgspec": bare(path, msgspec.json.decode),
                "safe_open": lambda path=path: opened(path),  # type: ignore[misc]
            },
            rounds,
        )
        with path.open("rb") as handle:
            length = 8 + int.from_bytes(handle.read(8), "little")
        report = probe(path)
        assert report.family, report.reason
        ratios = [spent["probe"] / spent[other] for other in ("json", "msgspec", "safe_open")]
        size = round(path.stat().st_size / 1e6)
        read = bytes_read(lambda path=path: probe(path))  # type: ignore[misc]
        ms = [spent[how] * 1e3 for how in ("probe", "again")]
        rows.append((name, len(headers.load(fixture).tensors), size, length, read, *ms, *ratios))
    yield Table(
        "One file: CPU time of a probe, and how many times that of reading the header and parsing it alone",
        ("file", "tensors", "MB", "header bytes", "bytes read", "ms", "ms again", "x json", "x msgspec", "x safe_open"),
        rows,
        (
            "json, msgspec: read the header and parse it. safe_open: safetensors, open the file and list its keys.",
            "again: a file with the names of one seen before, as in a folder of LoRAs; the ratios are of a first look.",
        ),
    )


def lora_folder(folder: Path, count: int) -> Table:
    """`count` names of a few files: hard links, which a scan cannot tell from copies and a disk holds easily."""
    root = folder / "loras"
    originals = [write(folder / "originals" / f"{fixture}.safetensors", fixture) for fixture in FOLDER]
    for index in range(count):
        place = root / f"{index // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        os.link(originals[index % len(originals)], place / f"{index:05}.safetensors")
    known: dict[str, Any] = {}
    rows = []
    for title, unchanged, forgetful in (
        ("first, no file like one before", False, True),
        ("first", False, False),
        ("second, unchanged", True, False),
    ):
        found = []
        wall, cpu = time.perf_counter(), time.process_time()
        for each in scan_folder(root, known if unchanged else {}):
            found.append(each)
            if forgetful:
                forget()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        known = {each.path: (each.stamp, each.report) for each in found}
        rows.append((title, len(found), sum(each.fresh for each in found), cpu, wall, cpu / len(found) * 1e3))
    sizes = sorted({len(headers.load(fixture).tensors) for fixture in FOLDER})
    return Table(
        f"A folder of {count:,} LoRAs, scanned",
        ("pass", "found", "read", "CPU s", "wall s", "CPU ms a file"),
        rows,
        (
            f"{len(FOLDER)} layouts in turns, of {sizes[0]:,} to {sizes[-1]:,} tensors, hard links to one file each.",
            "No file like one before: all that is remembered of names and tensors is forgotten after each, as if every file "
            "had a trainer and settings of its own. Real folders are in between.",
        ),
    )


def remote_files(folder: Path) -> Table:
    rows = []
    for name, fixture in (CHECKPOINTS | LORAS).items():
        for how in ("Hub repository", "https address"):
            with shelf(folder / f"{how[0]}-{fixture}", fixture) as hub:
                url = f"{hub.endpoint}/ada/model/resolve/main/weights.safetensors"
                source = HubSource("ada/model") if how == "Hub repository" else UrlSource(url)
                with open_origin(source, endpoint=hub.endpoint, token=None, timeout=30, access=LOOPBACK) as origin:
                    start = time.process_time()
                    assert examine(origin).report.family
                    spent = time.process_time() - start
                asked = [seen for seen in hub.seen if seen.server == "storage"]
            rows.append((name, how, len(asked), sum(seen.sent for seen in asked), len(hub.seen), spent * 1e3))
    return Table(
        "One remote file, through the hub on loopback: what is asked of it to know what it is",
        ("file", "by", "Range requests", "bytes", "requests in all", "CPU ms, both ends"),
        rows,
        ("In all: with the repository's listing, and with what the Hub answers by sending on to its storage.",),
    )


@contextmanager
def shelf(root: Path, fixture: str) -> Iterator[LoopbackHub]:
    """A hub with one repository of one file. Its digests are made up: nobody has gigabytes of zeros hashed for that."""
    write(root / "ada" / "model" / "weights.safetensors", fixture)
    with patch("tests.hub.repository._digests", lambda *_: ("0" * 40, "0" * 64)), LoopbackHub(root) as hub:
        yield hub
