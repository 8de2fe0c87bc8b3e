"""A small stock of repositories, and the fixture that serves it; other test packages import both."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.hub.server import LoopbackHub

OPENS = "hf_opens_everything"
KNOWN = "hf_known_but_not_let_in"
CARD = "---\nlicense: apache-2.0\ntags:\n- lora\n- diffusers\n---\n# Outline\n\nUse a weight of 0.8.\n"
GATED, PRIVATE, OPEN = "ada/gated-lora", "ada/private-lora", "ada/outline-lora"
WEIGHTS = "pytorch_lora_weights.safetensors"


def safetensors(body: bytes, **metadata: str) -> bytes:
    """A safetensors file of one u8 tensor that holds `body`."""
    tensor = {"dtype": "U8", "shape": [len(body)], "data_offsets": [0, len(body)]}
    header = json.dumps({"__metadata__": metadata, "weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + body


@cache
def noise(size: int) -> bytes:
    """Bytes that differ at every offset a test is likely to mix up."""
    return b"".join(struct.pack(">I", index * 2654435761 % 2**32) for index in range(size // 4 + 1))[:size]


def stock(root: Path) -> Path:
    """OPEN with a branch and two folders, GATED, PRIVATE."""
    files = {
        f"{OPEN}/README.md": CARD.encode(),
        f"{OPEN}/{WEIGHTS}": safetensors(noise(300_000)),
        f"{OPEN}/epochs/outline-10.safetensors": safetensors(noise(1_000)),
        f"{OPEN}/epochs/a file #1.json": b"{}",
        f"{OPEN}@v1.0/{WEIGHTS}": safetensors(noise(2_000)),
        f"{OPEN}@refs%2Fpr%2F1/{WEIGHTS}": safetensors(noise(3_000)),
        f"{GATED}/README.md": CARD.encode(),
        f"{GATED}/{WEIGHTS}": safetensors(noise(5_000)),
        f"{PRIVATE}/{WEIGHTS}": safetensors(noise(6_000)),
    }
    for name, body in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    tokens = {OPENS: {GATED, PRIVATE}, KNOWN: set[str]()}
    with LoopbackHub(stock(tmp_path / "hub"), gated={GATED}, private={PRIVATE}, tokens=tokens) as hub:
        yield hub
