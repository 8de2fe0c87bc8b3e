"""What a single file runs with, and who lends it what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from safetensors.torch import load_file, save_file

from registry.catalog import Catalog
from registry.errors import NotGenerable
from registry.generation.planning import Planner
from registry.models import Model
from registry.pictures import infotext
from registry.plans import AdapterRequest, Borrowed, GenerationRequest
from registry.tables import now
from tests.registry.tiny import TEXT_ENCODER, Tiny, lora


def resolve(catalog: Catalog, **request: Any) -> Any:
    return Planner(catalog).resolve(GenerationRequest(**{"checkpoint": "tiny", "prompt": "a cat", **request}))


def test_a_single_file_of_unpublished_sizes_runs_with_a_folder_of_the_same_shapes(catalog: Catalog) -> None:
    _, folder, _ = resolve(catalog)
    _, single, _ = resolve(catalog, checkpoint="single")
    assert single.checkpoint.config == folder.checkpoint.config
    catalog.remove(catalog.get("tiny"))
    with pytest.raises(NotGenerable, match="Install a diffusers folder"):
        resolve(catalog, checkpoint="single")


@pytest.fixture
def alone(catalog: Catalog, tmp_path: Path) -> str:
    """A file of the denoiser alone."""
    whole = catalog.get("single")
    tensors = {
        name: t for name, t in load_file(catalog.path(whole)).items() if name.startswith("model.diffusion_model.")
    }
    save_file(tensors, tmp_path / "alone.safetensors")
    catalog.add(structs.replace(whole, id="alone", name="alone", path=str(tmp_path / "alone.safetensors")), {})
    return "alone"


def test_a_file_of_the_denoiser_alone_borrows_the_rest_and_the_plan_says_of_whom(
    catalog: Catalog, alone: str, tmp_path: Path
) -> None:
    for lender in ("single", "tiny"):
        plan, job, hashes = resolve(catalog, checkpoint=alone)
        (borrowed,) = plan.borrowed
        (lent,) = job.checkpoint.lent
        assert borrowed == Borrowed(catalog.get(lender).id, lender, catalog.get(lender).blake3, ("text_encoder", "vae"))
        assert (lent.path, lent.digest) == (catalog.path(catalog.get(lender)), catalog.get(lender).blake3)
        assert f"alone has no text_encoder, vae of its own: those of {lender} are used." in plan.notes
        text = infotext(plan, 1, hashes)
        assert f"VAE hash: {lender}, VAE: {lender}, " in text.replace("folder", "tiny")
        if lender == "single":
            catalog.remove(catalog.get("single"))


def test_what_is_known_to_be_damaged_lends_nothing(catalog: Catalog, alone: str) -> None:
    catalog.set(catalog.get("single"), damaged_at=now())
    plan, _, _ = resolve(catalog, checkpoint=alone)
    assert [borrowed.name for borrowed in plan.borrowed] == ["tiny"]


def test_a_lender_that_is_removed_meanwhile_is_none(catalog: Catalog, alone: str) -> None:
    """As somebody else's request does between two looks at the catalogue."""

    def removed(model: Model) -> Model:
        if model.name == "single":
            catalog.remove(model)
        return catalog.get(model.id)

    planner = Planner(catalog, current=removed)
    assert [borrowed.name for borrowed in planner.borrowed(catalog.get(alone))] == ["tiny"]


def test_an_adapter_is_held_against_what_is_borrowed_as_well(
    catalog: Catalog, alone: str, tiny: Tiny, tmp_path: Path
) -> None:
    words = tmp_path / "words.safetensors"
    save_file(lora(tiny.tensors, TEXT_ENCODER, layout="kohya", seed=4), words)
    catalog.add(structs.replace(catalog.get("style"), id="words", name="words", path=str(words)), {})
    _, job, _ = resolve(catalog, checkpoint=alone, loras=(AdapterRequest("words"),))
    assert [adapter.name for adapter in job.adapters] == ["words"]


def test_where_nothing_lends_what_it_lacks_it_is_refused_with_what_to_install(catalog: Catalog, alone: str) -> None:
    for lender in ("tiny", "single"):
        catalog.remove(catalog.get(lender))
    with pytest.raises(NotGenerable) as refused:
        resolve(catalog, checkpoint=alone)
    assert refused.value.message == (
        "alone holds unet alone; a picture takes text encoders and a VAE, too, and no sd-1 model that is installed lends it those. "
        "Install the family's diffusers folder (modelshelf install stable-diffusion-v1-5/stable-diffusion-v1-5), or a file that has "
        "all of them."
    )
