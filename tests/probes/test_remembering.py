"""What probes remember of one header for the next is bounded in bytes, whatever the headers hold."""

from __future__ import annotations

import gc
import json
import struct
import tracemalloc

import pytest

from probes import parse_header, probe
from probes.names import forget


def lora(title: str, modules: int, characters: int, blanks: int = 0) -> bytes:
    """A LoRA's header; `characters`: in a module's name; `blanks`: bytes that say nothing, at the end."""
    document = {
        f"lora_unet_{title}_{module}".ljust(characters, "x") + f".lora_{half}.weight": {
            "dtype": "U8",
            "shape": [1, 1],
            "data_offsets": [2 * module + at, 2 * module + at + 1],
        }
        for module in range(modules)
        for at, half in enumerate(("down", "up"))
    }
    text = json.dumps(document, separators=(",", ":")).encode() + b" " * blanks
    return struct.pack("<Q", len(text)) + text


def remembered(*headers: bytes) -> int:
    """Bytes that probing these leaves behind."""
    forget()
    probe(parse_header(lora("first", 1, 30), None))  # what is made once a process
    gc.collect()
    tracemalloc.start()
    try:
        for header in headers:
            probe(parse_header(header, None))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        forget()


@pytest.mark.parametrize(
    ("modules", "characters"), [(5_100, 40), (300, 3_000)], ids=["more names than any LoRA has", "longer names"]
)
def test_of_headers_larger_than_any_loras_nothing_is_remembered(modules: int, characters: int) -> None:
    headers = [lora(f"{number}", modules, characters, 1 << 20) for number in range(3)]
    assert remembered(*headers) < len(headers[0]) // 4


def test_no_more_than_the_last_are_remembered() -> None:
    headers = [lora(f"{number}", 100, 500, 1 << 20) for number in range(60)]
    assert remembered(*headers) < 1.25 * remembered(*headers[:20])


def test_a_header_like_one_before_is_read_again_only_where_it_is_large() -> None:
    first, second = (parse_header(lora("same", 10, 40), None) for _ in range(2))
    assert first.tensors is second.tensors
    large = [parse_header(lora("same", 1_400, 200), None) for _ in range(2)]
    assert large[0].tensors is not large[1].tensors
