"""A fuzz target: bytes that atheris makes, guided by which lines of `probes` they reach, are read and probed.

    make fuzz [SECONDS=60]          # installs atheris (Python 3.11 to 3.13, Linux) on its first run
    python -m tests.probes.fuzz -max_total_time=60 [FOLDER]     # libFuzzer's own options; FOLDER keeps what it finds

It ends with a non-zero status at the first input that breaks a promise, and leaves it as `crash-...`, which `python -m tests.probes.fuzz
crash-...` reads again. It starts from headers of real layouts, and from the beginnings of everything else that `probes` tells apart.
"""

from __future__ import annotations

import gzip
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEMORY = 1024  # MB that one input may make the process take: ten times the longest header
SEEDED = (
    "lora-sdxl-slider",
    "lora-sd-1-miniature-kohya-text-only",
    "lora-sd-1-miniature-processor",
    "lora-flux-xlabs",
    "lora-flux-2-klein-4b-attention",
    "unet-sd-1-miniature-diffusers",
    "vae-ldm",
)
LONGEST = 64 * 1024  # bytes of an input; longer ones are slow and reach nothing new


def seeds() -> Iterator[tuple[str, bytes]]:
    """File name, bytes: one of each kind, as short as it can be."""
    from tests.probes import headers

    for name in SEEDED:
        fixture = headers.load(name)
        yield f"{name}.safetensors", headers.safetensors_bytes(fixture.tensors, fixture.metadata)
    dump = gzip.decompress((headers.FOLDER / "lora-sdxl-slider.json.gz").read_bytes())
    yield "dump.json", dump
    yield "dump.json.gz", gzip.compress(dump)
    yield (
        "t5.gguf",
        b"GGUF\3\0\0\0"
        + (1).to_bytes(8, "little")
        + bytes(8)
        + (18).to_bytes(8, "little")
        + b"enc.blk.0.attn_q.w"
        + (b"\1\0\0\0" + (32).to_bytes(8, "little") + (8).to_bytes(4, "little") + bytes(8)),
    )
    yield "model.pt", b"PK\3\4" + bytes(26) + b"archive/data.pkl"
    yield "old.ckpt", b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    yield "page.html", b"<!doctype html><title>Sign in</title>"
    yield "pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def look(data: bytes) -> None:
    """Holds every promise against the bytes, and against the same as a safetensors header whose length is right: chance
    seldom finds that."""
    check(data)
    check(max(len(data) - 8, 0).to_bytes(8, "little") + data[8:])


def check(data: bytes) -> None:
    """Raises where a promise is broken: nothing but UnreadableModel (and HeaderIncomplete, where more bytes are needed)
    comes out; a header is believed at its own size and at no other; what is believed has an answer with a reason."""
    from probes import HeaderIncomplete, UnreadableModel, parse_dump, parse_header, probe
    from tests.probes import headers

    try:
        header = parse_header(data, None)
    except HeaderIncomplete as incomplete:
        if incomplete.needed <= len(data):
            raise AssertionError(f"asked for {incomplete.needed} bytes, and had {len(data)}") from None
        return
    except UnreadableModel:
        with suppress(UnreadableModel):
            dumped = parse_dump(data)
            assert dumped is None or probe(*dumped).reason
        return
    assert probe(header).reason
    if header.format == "safetensors":
        bits = sum(headers.BITS[dtype] * math.prod(shape) for dtype, shape in header.tensors.values())
        size = header.header_bytes + bits // 8
        assert len(parse_header(data, size).tensors) == len(header.tensors)
        for wrong in (size - 1, size + 1):
            with suppress(UnreadableModel):
                parse_header(data, wrong)
                raise AssertionError(f"the header of a file of {size} bytes was believed of one of {wrong}")


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["probes"]):  # so nothing here imports it before
        import probes  # noqa: F401
    with tempfile.TemporaryDirectory() as folder:
        for name, data in seeds():
            (Path(folder) / name).write_bytes(data)
        given = any(not argument.startswith("-") for argument in sys.argv[1:])
        limits = [f"-max_len={LONGEST}", f"-rss_limit_mb={MEMORY}", "-timeout=20"]
        atheris.Setup([sys.argv[0], *limits, *sys.argv[1:], *([] if given else [folder])], look)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
