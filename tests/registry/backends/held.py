"""The real backend on a slow disk: a tensor of a checkpoint whose name is in the file HELD takes HELD_SECONDS, or until it is no longer.

Beside that file, one that ends in `.reading` says that a load has begun.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from registry.backends.diffusers import DiffusersBackend, backend
from registry.holders import GoOn
from registry.weights.bundle import Bundle, load_bundle


def _load(path: Path, *arguments: Any, go_on: GoOn, **more: Any) -> Bundle:
    def slow() -> None:
        Path(f"{os.environ['HELD']}.reading").touch()
        until = time.monotonic() + float(os.environ.get("HELD_SECONDS", "60"))
        while path.name in Path(os.environ["HELD"]).read_text() and time.monotonic() < until:
            time.sleep(0.01)
        go_on()

    return load_bundle(path, *arguments, go_on=slow, **more)


class Held(DiffusersBackend):
    """As its module says."""


backend.load_bundle = _load  # type: ignore[assignment]
