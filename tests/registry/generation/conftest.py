"""A generator over a painter, which takes a step only when the test lets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Semaphore

import pytest

from registry.backends import BackendOptions
from registry.catalog import Catalog
from registry.db import make_engine
from registry.generation import Generator
from registry.models import Model, computed
from tests.databases import migrated_sqlite
from tests.registry.backends.painter import Painter
from tests.registry.tiny import Tiny, lora


@pytest.fixture
def gate() -> Semaphore:
    return Semaphore(0)


@pytest.fixture
def painter(gate: Semaphore) -> Painter:
    return Painter(BackendOptions(), gate=gate)


@pytest.fixture
def catalog(tiny: Tiny, tmp_path: Path) -> Catalog:
    """The tiny checkpoint twice, as a folder and as a single file, and two LoRAs for it."""
    from safetensors.torch import save_file

    catalog = Catalog(make_engine(migrated_sqlite(tmp_path / "test.db")), tmp_path)
    facts = {"family": "sd-1", "format": "safetensors", "size": 1}
    catalog.add(
        Model(name="tiny", kind="checkpoint", path=str(tiny.folder), digests=computed(blake3="folder"), **facts), {}
    )
    catalog.add(
        Model(name="single", kind="checkpoint", path=str(tiny.single), digests=computed(blake3="single"), **facts), {}
    )
    for number, name in enumerate(("style", "line")):
        path = tmp_path / f"{name}.safetensors"
        save_file(lora(tiny.tensors, r"unet\..*to_q\.weight", layout="kohya", seed=number), path)
        catalog.add(Model(name=name, kind="lora", path=str(path), digests=computed(blake3=name), **facts), {})
    return catalog


@pytest.fixture
def generator(catalog: Catalog, painter: Painter) -> Iterator[Generator]:
    running = Generator(catalog, lambda: painter, capacity=6)
    yield running
    assert painter.gate is not None
    painter.gate.release(1000)
    running.close()
