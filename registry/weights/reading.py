"""Tensors from files into one allocation: large parallel reads through a small ring of buffers, converted where they arrive.

A mapped file copied to a GPU takes its page faults one by one (85 against 956 MB/s, measured), and a tensor-by-tensor load holds the
file's bytes and the converted ones at once. Here host memory beside the allocation is the ring.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

import torch
from torch import Tensor

from registry.errors import UnusableFile
from registry.holders import GoOn, locked
from registry.weights.files import gone

BLOCK_BYTES = 16 * 2**20
"""One read: beyond it neither disks nor PCIe get faster."""
BLOCKS = 6
"""Buffers of the ring, 96 MiB; pinning costs about 1 s per GiB, so that they are made once for the process."""
THREADS = 4


@dataclass(frozen=True, slots=True)
class Move:
    """`count` elements of `dtype` at `offset` (bytes) of a file, into `to`, flat and of any dtype; `columns`: transposed, from so many;
    times `scale`."""

    path: Path
    offset: int
    dtype: torch.dtype
    count: int
    to: Tensor
    columns: int | None = None
    scale: float = 1.0

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


def read(moves: Iterable[Move], device: torch.device, go_on: GoOn = lambda: None) -> None:
    """Carries out all moves, block by block.

    Raises UnusableFile: a file ends too early; FileMissing; OSError; whatever `go_on` raises between two.
    """
    blocks = list(_blocks(_pieces(moves)))
    ring = _ring(device.type == "cuda")
    files: dict[Path, int] = {}
    waiting: list[tuple[Future[Tensor], int, list[Move]]] = []
    with locked(ring.lock, go_on), ThreadPoolExecutor(THREADS, thread_name_prefix="read") as readers:
        try:
            for path, start, end, parts in blocks:
                go_on()
                if path not in files:
                    files[path] = _open(path)
                if len(waiting) == BLOCKS:
                    _arrive(*waiting.pop(0), ring, device)
                waiting.append((readers.submit(_fetch, ring, files[path], path, start, end), start, parts))
            while waiting:
                go_on()
                _arrive(*waiting.pop(0), ring, device)
        finally:
            for block, _, _ in waiting:  # after an error: what was read for nothing
                if block.exception() is None:
                    ring.give_back(block.result())
            for descriptor in files.values():
                os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise gone(path) from error


def _pieces(moves: Iterable[Move]) -> Iterator[Move]:
    """Moves of at most a block each; what is transposed stays whole."""
    for move in moves:
        step = move.count if move.columns else max(1, BLOCK_BYTES // move.dtype.itemsize)
        for start in range(0, move.count, step):
            count = min(step, move.count - start)
            offset = move.offset + start * move.dtype.itemsize
            yield replace(move, offset=offset, count=count, to=move.to[start : start + count])


def _blocks(moves: Iterable[Move]) -> Iterator[tuple[Path, int, int, list[Move]]]:
    """(file, first byte, end, moves): neighbours in a file are read together."""
    path, start, end, parts = Path(), 0, 0, list[Move]()
    for move in sorted(moves, key=lambda move: (move.path, move.offset)):
        stop = move.offset + move.nbytes
        if parts and (move.path != path or stop - start > BLOCK_BYTES or move.offset - end > BLOCK_BYTES // 4):
            yield path, start, end, parts
            parts = []
        if not parts:
            path, start, end = move.path, move.offset, move.offset
        parts.append(move)
        end = max(end, stop)
    if parts:
        yield path, start, end, parts


class _Ring:
    """Buffers for one load at a time (`lock`): two that share a disk and a bus are no quicker together."""

    def __init__(self, pinned: bool) -> None:
        self.lock = Lock()
        self._pinned = pinned
        self._free: SimpleQueue[Tensor | None] = SimpleQueue()
        for _ in range(BLOCKS):
            self._free.put(None)

    def take(self, nbytes: int) -> Tensor:
        buffer = self._free.get()
        try:
            if buffer is None or buffer.numel() < nbytes:
                buffer = torch.empty(max(nbytes, BLOCK_BYTES), dtype=torch.uint8, pin_memory=self._pinned)
        except BaseException:  # or the next load would wait for this place for ever
            self._free.put(None)
            raise
        return buffer

    def give_back(self, buffer: Tensor) -> None:
        """One that was made larger for what cannot be divided is not kept."""
        self._free.put(buffer if buffer.numel() <= BLOCK_BYTES else None)


@lru_cache(maxsize=2)
def _ring(pinned: bool) -> _Ring:
    return _Ring(pinned)


def _fetch(ring: _Ring, descriptor: int, path: Path, start: int, end: int) -> Tensor:
    buffer = ring.take(end - start)
    try:
        view = buffer.numpy().data[: end - start]
        done = 0
        while done < len(view):
            got = os.preadv(descriptor, [view[done:]], start + done)
            if got == 0:
                raise UnusableFile(f"{path.name} ends before the tensors that it announces.", path=str(path))
            done += got
    except BaseException:
        ring.give_back(buffer)
        raise
    return buffer


def _arrive(block: Future[Tensor], start: int, parts: Sequence[Move], ring: _Ring, device: torch.device) -> None:
    buffer = block.result()
    try:
        end = max(move.offset + move.nbytes for move in parts) - start
        here = buffer[:end].to(device, non_blocking=True)
        for move in parts:
            at = move.offset - start
            values = typed(here[at : at + move.nbytes], move.dtype)
            move.to.copy_(values if move.columns is None else values.view(-1, move.columns).T.reshape(-1))
            if move.scale != 1:
                move.to.mul_(move.scale)
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()  # the buffer is written to again
    finally:
        ring.give_back(buffer)


def typed(raw: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes as elements, without a copy where they lie as elements must."""
    aligned = (
        raw if raw.data_ptr() % dtype.itemsize == 0 else raw.clone()
    )  # some writers pad their header to no boundary
    return aligned.view(dtype)
