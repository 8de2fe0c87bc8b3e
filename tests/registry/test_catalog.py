"""Queries and writes of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from registry.catalog import Catalog
from registry.db import make_engine, migrate
from registry.errors import InvalidRequest, ModelNotFound
from registry.tables import Model


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    engine = make_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    migrate(engine)
    made = Catalog(engine, tmp_path)
    for name, kind, family, more in (
        ("Base", "checkpoint", "sd-1", {"source": "hf://o/base@1", "blake3": "b3"}),
        ("outline", "lora", "sd-1", {"triggers": ["outline style"], "sha256": "aa"}),
        ("fast", "lcm_lora", "sdxl", {"repo_id": "latent/fast_100%"}),
    ):
        made.add(row(name, kind, family, **more))
    return made


def row(name: str, kind: str, family: str, **more: Any) -> Model:
    facts = {
        "id": f"{name.lower()}-id",
        "format": "safetensors",
        "path": name,
        "size": 5_000_000_000,
        "blake3": name,
        "source": name,
    }
    return Model(name=name, kind=kind, family=family, **{**facts, **more})


def names(models: list[Model]) -> list[str]:
    return [m.name for m in models]


def test_list_is_by_name_whatever_the_case(catalog: Catalog) -> None:
    assert names(catalog.list()) == ["Base", "fast", "outline"]
    assert names(catalog.list(limit=1, offset=1)) == ["fast"]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"kind": "lora"}, ["outline"]),
        ({"family": "sd-1"}, ["Base", "outline"]),
        ({"kind": "lora", "family": "sdxl"}, []),
        ({"text": "OUTLINE"}, ["outline"]),
        ({"text": "style"}, ["outline"]),
        ({"text": "latent/"}, ["fast"]),
        ({"text": "100%"}, ["fast"]),
        ({"text": "_a"}, []),
    ],
)
def test_filters(catalog: Catalog, criteria: dict[str, str], expected: list[str]) -> None:
    assert names(catalog.list(**criteria)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("reference", ["base-id", "Base", "bASE", "base-"])
def test_a_model_is_found_by_id_by_name_and_by_the_beginning_of_its_id(catalog: Catalog, reference: str) -> None:
    assert catalog.get(reference).name == "Base"


@pytest.mark.parametrize("reference", ["", "nothing", "bas", "%", "____", "'; drop table model; --"])
def test_a_model_that_is_not_there(catalog: Catalog, reference: str) -> None:
    with pytest.raises(ModelNotFound, match="modelshelf list"):
        catalog.get(reference)


def test_an_ids_beginning_that_two_models_share_asks_for_more(catalog: Catalog) -> None:
    catalog.add(row("other", "lora", "sdxl", id="outlines"))
    with pytest.raises(InvalidRequest, match=r"outline-id.*outlines|outlines.*outline-id"):
        catalog.get("outl")
    assert catalog.get("outlines").name == "other"
    assert catalog.get("outline").id == "outline-id"


def test_names_are_unique(catalog: Catalog) -> None:
    assert catalog.has_name("OUTline")
    assert not catalog.has_name("outlin")
    with pytest.raises(IntegrityError):
        catalog.add(row("outline", "lora", "sdxl", id="again", path="elsewhere"))


def test_find_by_source_or_digest(catalog: Catalog) -> None:
    assert (found := catalog.find(source="hf://o/base@1")) is not None
    assert found.name == "Base"
    assert (found := catalog.find(source="elsewhere", sha256="aa")) is not None
    assert found.name == "outline"
    assert catalog.find(source=None, sha256=None, blake3="nope") is None


def test_sizes_beyond_32_bits_survive(catalog: Catalog) -> None:
    assert catalog.get("Base").size == 5_000_000_000
