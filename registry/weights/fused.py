"""A base and a low-rank product added in one pass over memory: fused.c, compiled on this machine by its own C compiler.

torch has no such operation on a CPU: it copies the base and then adds to the copy, which takes more than twice as long.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS: Mapping[tuple[str, torch.dtype], tuple[str, ...]] = {
    ("AVX512", torch.float32): ("-mavx512f", "-mfma"),
    ("AVX512", torch.bfloat16): ("-mavx512f", "-mfma", "-DBFLOAT16"),
    ("AVX512", torch.float16): ("-mavx512f", "-mfma", "-DFLOAT16"),
    ("AVX2", torch.float32): ("-mavx2", "-mfma"),
}
"""What the source is written for: instructions as torch finds them in a CPU, and the base's dtype."""
THREAD_VALUES = 2**18
"""A thread is worth starting for so many values, which take some 200 microseconds."""

Fused = Callable[[Tensor, Tensor, Tensor, float, Tensor], None]
_log = logging.getLogger(__name__)


def takes(base: Tensor, rank: int, out: Tensor) -> bool:
    """Whether `fused` can make out [rows, columns] of this base and factors of `rank`."""
    return (
        rank > 0
        and base.dtype == out.dtype
        and base.is_contiguous()
        and out.is_contiguous()
        and out.shape[1] % 16 == 0
        and out.data_ptr() % 64 == 0
    )


@cache
def fused(dtype: torch.dtype) -> Fused | None:
    """(base [rows, columns], up [rows, rank], down [rank, columns], weight, out): out = base + weight * (up @ down), on torch's number of
    threads. base and out of `dtype`, up and down float32; summed in float32 and rounded once.

    None: this machine has no C compiler, or a CPU that the source is not written for.
    """
    flags = FLAGS.get((torch.backends.cpu.get_cpu_capability(), dtype))
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if flags is None or compiler is None:
        return None
    try:
        patch = _library((compiler, "-O3", "-shared", "-fPIC", "-pthread", *flags)).patch
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        _log.warning("%s does not compile %s, LoRAs are put on more slowly: %s", compiler, SOURCE.name, said)
        return None
    patch.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_long] * 3 + [ctypes.c_float, ctypes.c_long]
    patch.restype = None

    def apply(base: Tensor, up: Tensor, down: Tensor, weight: float, out: Tensor) -> None:
        up, down = up.contiguous(), down.contiguous()
        threads = min(torch.get_num_threads(), 1 + out.numel() // THREAD_VALUES)
        places = (tensor.data_ptr() for tensor in (base, up, down, out))
        patch(*places, *out.shape, up.shape[1], weight, threads)

    return apply


def _library(command: tuple[str, ...]) -> ctypes.CDLL:
    """Kept where Python keeps what it compiles, by source and command; where nothing can be kept, compiled for this process alone."""
    digest = sha256(SOURCE.read_bytes() + repr(command).encode()).hexdigest()[:16]
    kept = SOURCE.parent / "__pycache__" / f"{SOURCE.stem}.{digest}.so"
    if kept.exists():
        with suppress(OSError):  # cut short by a power cut, or another system's: made anew
            return ctypes.CDLL(str(kept))
    with suppress(OSError):
        kept.parent.mkdir(exist_ok=True)
    keeps = os.access(kept.parent, os.W_OK)
    with tempfile.TemporaryDirectory(dir=kept.parent if keeps else None) as folder:
        made = Path(folder, kept.name)
        subprocess.run((*command, "-o", made, SOURCE), check=True, capture_output=True, text=True, timeout=60)
        library = ctypes.CDLL(str(made))  # stays when its file goes
        if keeps:
            made.replace(kept)  # whole or not at all: another process may look for it
    return library
