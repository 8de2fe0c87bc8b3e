"""From names to what will run: found, held against each other, or refused before anything is loaded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from registry.catalog import Catalog
from registry.errors import InvalidRequest, NotGenerable
from registry.generation.planning import Planner
from registry.models import Model
from registry.pictures import MAX_START_PIXELS, open_picture
from registry.plans import AdapterRequest, GenerationRequest


def resolve(catalog: Catalog, **request: Any) -> Any:
    return Planner(catalog).resolve(GenerationRequest(**{"checkpoint": "tiny", "prompt": "a cat", **request}))


def picture(width: int = 32, height: int = 16, kind: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("variant", ["inpaint", "edit", "depth", "upscaler", "image-prompt", "unclip"])
def test_a_checkpoint_that_needs_more_than_a_prompt_is_refused_with_the_reason(catalog: Catalog, variant: str) -> None:
    other = structs.replace(catalog.get("tiny"), id="other", name="other", variant=variant, path="elsewhere")
    catalog.add(other, {})
    with pytest.raises(NotGenerable, match=f"needs a.* as every {variant} checkpoint"):
        resolve(catalog, checkpoint="other")


def test_a_start_picture_goes_to_the_backend_as_rgb_and_to_the_plan_as_a_digest(catalog: Catalog) -> None:
    plan, job, _ = resolve(catalog, image=picture(16, 8, "WEBP", "RGBA"), strength=0.5)
    assert (job.image.mode, job.image.size, job.strength) == ("RGB", (16, 8), 0.5)
    assert (job.width, job.height) == (16, 8)
    assert len(plan.image) == 64


@pytest.mark.parametrize("content", [b"", b"<svg/>", picture()[:40], b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_a_start_picture_that_is_none(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        open_picture(content)


def test_a_start_picture_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    side = int(MAX_START_PIXELS**0.5) + 8
    with pytest.raises(InvalidRequest, match="pixels"):
        open_picture(picture(side, side, mode="1"))


def test_a_start_picture_is_turned_upright() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown rotated by 90 degrees
    Image.new("RGB", (20, 10)).save(buffer, "JPEG", exif=exif)
    assert open_picture(buffer.getvalue()).size == (10, 20)


def test_an_adapter_at_weight_zero_is_planned_and_does_not_count_as_worn(catalog: Catalog) -> None:
    plan, job, _ = resolve(catalog, loras=(AdapterRequest("style", 0.0),))
    assert plan.adapters[0].weight.value == 0.0
    assert [adapter.weight for adapter in job.adapters] == [0.0]


@pytest.mark.parametrize("managed", [True, False])
def test_the_backend_is_told_whose_the_files_are(catalog: Catalog, tmp_path: Path, managed: bool) -> None:
    for name in ("tiny", "style"):
        path = catalog.path(catalog.get(name))
        mine = tmp_path / f"my {path.name}"
        mine.symlink_to(path)
        catalog.add(structs.replace(catalog.get(name), id=name, name=f"my {name}", path=str(mine), managed=managed), {})
    _, job, _ = resolve(catalog, checkpoint="my tiny", loras=(AdapterRequest("my style"),))
    assert [job.checkpoint.managed, job.adapters[0].managed] == [managed] * 2


def test_a_model_that_nobody_has_hashed_is_told_by_its_file_as_it_is_and_not_by_where_it_lies(
    catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "a:b.safetensors"  # keys of what is loaded are DIGEST:...
    path.write_bytes(b"one")
    model = Model(id="new", name="new", kind="lora", family="sd-1", format="safetensors", path=str(path), size=3)
    catalog.add(model, {})
    planner = Planner(catalog)
    before = planner.identity(model)
    assert before == planner.identity(model)
    assert before.startswith("unhashed-")
    assert not {":", "/"} & set(before)
    path.write_bytes(b"other")
    assert planner.identity(model) != before
