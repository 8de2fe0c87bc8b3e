"""CLIP's vocabulary, for checkpoints in one file, which have no tokenizer in them.

`merges.txt.gz` has the 48,894 byte pair merges of https://github.com/openai/CLIP, in their order (MIT licence, in LICENSE); the vocabulary
follows from them. OpenCLIP's text encoders were trained with the same one.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def _merges() -> tuple[tuple[str, str], ...]:
    lines = gzip.decompress((Path(__file__).parent / "merges.txt.gz").read_bytes()).decode().splitlines()
    pairs = (line.split() for line in lines)
    return tuple((first, second) for first, second in pairs)


def vocabulary() -> dict[str, int]:
    """Token -> id. Bytes that print stand for themselves, the others for the characters from U+0100 on; then each again as the end of
    a word."""
    printing = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in printing] + [chr(256 + i) for i in range(256 - len(printing))]
    entries = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in _merges()), START, END]
    return {entry: number for number, entry in enumerate(entries)}


def clip_tokenizer(pad: str, length: int) -> Any:
    """CLIP's own, cutting and padding (with `pad`) to `length` tokens."""
    return CLIPTokenizer(vocab=vocabulary(), merges=list(_merges()), pad_token=pad, model_max_length=length)
