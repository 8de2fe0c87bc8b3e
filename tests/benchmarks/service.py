"""A service whose requests name twenty LoRA sets in any order, against the same requests without a LoRA, over HTTP."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from tests.benchmarks.tables import Table
from tests.service import MODELSHELF, environment, running_service

REQUESTS = 200
AT_ONCE = 72  # clients; 64 of their requests wait, which is what the service queues unless told otherwise
OUTLINE, HEART = (0.4, 0.6, 0.8, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)
SETS = [
    [{"model": "starter-outline-lora", "weight": outline}, {"model": "starter-heart", "weight": heart}]
    for outline, heart in product(OUTLINE, HEART)
]
EACH = ((25, 7.5), (4, 1.0))  # steps and CFG
NOWHERE = "http://127.0.0.1:9"  # the starter comes with the package


def run(quick: bool) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        command = [MODELSHELF, "starter", "install"]
        subprocess.run(command, env=environment(root, NOWHERE), check=True, capture_output=True)
        with running_service(root, NOWHERE, OMP_NUM_THREADS="1") as client:
            yield _table(client, REQUESTS // 10 if quick else REQUESTS, rounds=1 if quick else 3)


def _table(client: httpx.Client, count: int, rounds: int) -> Table:
    rows = []
    for steps, cfg in EACH:
        wanted = [number % len(SETS) for number in range(count)]
        random.Random(1).shuffle(wanted)
        bodies = [
            {"checkpoint": "starter-base", "prompt": f"a red circle, number {i}", "seed": i, "steps": steps, "cfg": cfg}
            | {"scheduler": "euler"}
            for i in range(count)
        ]
        dressed = [body | {"loras": SETS[chosen]} for body, chosen in zip(bodies, wanted, strict=True)]
        _ask(client, dressed[: len(SETS)])  # loads them
        spent: dict[str, list[tuple[float, float, float]]] = {"with": [], "without": []}
        for _ in range(rounds):
            spent["without"].append(_ask(client, bodies))
            spent["with"].append(_ask(client, dressed))
        cpu, wall, switching = ({side: median(r[i] for r in runs) for side, runs in spent.items()} for i in range(3))
        rows.append(
            (
                f"{steps} steps, CFG {cfg:g}",
                count / cpu["without"],
                count / cpu["with"],
                cpu["without"] / cpu["with"],
                "at least 0.9",
                wall["without"] / wall["with"],
                f"{switching['with'] / wall['with']:.1%}",
            )
        )
    return Table(
        f"{count} requests over {len(SETS)} LoRA sets, shuffled, to a service with the starter, one thread",
        (
            "each request",
            "a CPU second, no LoRA",
            "a CPU second, with",
            "throughput",
            "goal",
            "by the wall",
            "time for switching",
        ),
        rows,
    )


def _ask(client: httpx.Client, bodies: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    """The service's CPU seconds, seconds by the wall, and seconds that it put LoRAs on and off."""
    before, began = _cpu_seconds(), time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as clients:
        switching = sum(clients.map(lambda body: _generate(client, body), bodies))
    return _cpu_seconds() - before, time.perf_counter() - began, switching


def _generate(client: httpx.Client, body: dict[str, Any]) -> float:
    while (answer := client.post("/v1/generations", json=body, timeout=600)).status_code == 429:
        time.sleep(float(answer.headers["Retry-After"]))
    return float(answer.raise_for_status().json()["timings"]["adapters"])


def _cpu_seconds() -> float:
    """Of the one child process, the service."""
    threads = Path("/proc/self/task").iterdir()
    (child,) = (pid for thread in threads for pid in (thread / "children").read_text().split())
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
