"""A real `modelshelf serve` process, for the tests and the demo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

from tests.loopback import NETWORK

Client = TypeVar("Client", bound=httpx.Client)
MODELSHELF = Path(sys.executable).with_name("modelshelf")


def environment(root: Path, endpoint: str, **more: str) -> dict[str, str]:
    """Only what the process needs: nobody's own token or settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELSHELF_", "HF_", "CIVITAI_"))}
    return (
        kept
        | {"NO_PROXY": "127.0.0.1", "MODELSHELF_ROOT": str(root), "HF_ENDPOINT": endpoint, "MODELSHELF_DEVICE": "cpu"}
        | {"MODELSHELF_ALLOWED_NETWORKS": NETWORK, "MODELSHELF_LOG_LEVEL": "warning"}
        | more
    )


@contextmanager
def running_service(
    root: Path, endpoint: str, client_class: type[Client] = httpx.Client, **more: str
) -> Iterator[Client]:
    """A client of a service that was just started on a free port; stopped at the end."""
    command = [MODELSHELF, "serve", "--port", "0"]
    with subprocess.Popen(
        command, env=environment(root, endpoint, **more), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "listens on" not in line:
                raise RuntimeError(f"modelshelf serve did not start: {line!r}, exit code {process.wait(10)}")
            with client_class(base_url=line.split()[3], timeout=600, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            process.wait(20)
