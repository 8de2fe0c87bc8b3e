"""A file in a folder of the user's may be written to between two scans: what is used is what it is now, and known as such."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from registry.backends import GenerationJob
from registry.errors import FileMissing, IncompatibleAdapter, ModelshelfError, UnusableFile
from registry.generation.planning import Planner
from registry.plans import AdapterRequest, GenerationRequest
from tests.conftest import STARTER
from tests.registry.scans.library import Library, lora, touch_later

REPOS = STARTER / "modelshelf"
OUTLINE, HEART = (next((REPOS / f"starter-{name}-lora").glob("*.safetensors")) for name in ("outline", "heart"))


@pytest.fixture
def files(library: Library) -> dict[str, Path]:
    """A checkpoint that is a file, one that is a folder, and a LoRA; scanned and hashed."""
    library.put("base.safetensors", (REPOS / "starter-base/starter-base.safetensors").read_bytes())
    shutil.copytree(REPOS / "starter-base", library.folder / "pipeline", ignore=shutil.ignore_patterns("starter-base*"))
    library.put("style.safetensors", OUTLINE.read_bytes())
    library.scan()
    library.hash()
    return {name: library.manager.catalog.path(library.model(name)) for name in ("base", "pipeline", "style")}


def job(library: Library, checkpoint: str = "base") -> GenerationJob:
    """What a generation would load."""
    manager = library.manager
    planner = Planner(manager.catalog, current=manager.scans.current)
    request = GenerationRequest(checkpoint, "a cat", loras=(AdapterRequest("style"),))
    return planner.resolve(request)[1]


def identities(job: GenerationJob) -> list[str]:
    return [job.checkpoint.digest, *(adapter.digest for adapter in job.adapters)]


def test_what_is_as_it_was_scanned_is_known_by_its_digest(library: Library, files: dict[str, Path]) -> None:
    expected = [library.model(name).blake3 for name in ("base", "style")]
    version = library.manager.catalog.version()
    assert identities(job(library)) == expected
    assert library.manager.catalog.version() == version, "nothing was looked at again"


def test_a_lora_with_other_bytes_is_known_by_those(library: Library, files: dict[str, Path]) -> None:
    before = library.model("style")
    library.manager.catalog.override("style", {"weight": 0.4})
    files["style"].write_bytes(HEART.read_bytes())
    assert identities(job(library))[1] != before.blake3
    changed = library.model("style")
    assert (changed.id, changed.blake3, changed.overrides) == (before.id, None, {"weight": 0.4})
    library.hash()
    assert library.model("style").blake3 not in (None, before.blake3)
    assert identities(job(library))[1] == library.model("style").blake3


@pytest.mark.parametrize("name", ["base", "pipeline"])
def test_a_checkpoint_too(library: Library, files: dict[str, Path], name: str) -> None:
    before = library.model(name).blake3
    assert identities(job(library, name))[0] == before
    touch_later(files[name] if files[name].is_file() else files[name] / "unet/diffusion_pytorch_model.safetensors")
    assert identities(job(library, name))[0] != before
    library.hash()
    assert identities(job(library, name))[0] == before, "the same bytes after all"


def test_what_it_is_now_decides_what_it_fits(library: Library, files: dict[str, Path]) -> None:
    files["style"].write_bytes(lora("of another size"))
    with pytest.raises(IncompatibleAdapter):
        job(library)
    manager = library.manager
    assert not [m for m, fit in manager.matches.loras("base").loras if m.name == "style"], "the lists know it, too"


@pytest.mark.parametrize(
    ("write", "error", "says"),
    [
        (lambda path: path.write_bytes(b"<html>"), UnusableFile, "style has changed since it was scanned"),
        (lambda path: path.unlink(), IncompatibleAdapter, "is gone"),
    ],
    ids=["no model", "gone"],
)
def test_what_cannot_be_used_any_more_is_refused(
    library: Library, files: dict[str, Path], write: object, error: type[ModelshelfError], says: str
) -> None:
    write(files["style"])  # type: ignore[operator]
    with pytest.raises(error, match=says):
        job(library)
    library.scan()
    assert library.model("style").missing_since is not None


def test_it_is_looked_at_again_before_it_is_loaded_ahead_of_time(library: Library, files: dict[str, Path]) -> None:
    files["base"].write_bytes(b"GGUF")
    with pytest.raises(UnusableFile, match="base has changed since it was scanned"):
        library.manager.load("base")
    files["base"].unlink()
    with pytest.raises(FileMissing):
        library.manager.load("base")


def test_an_emptied_folder_is_a_model_that_is_gone(library: Library, files: dict[str, Path]) -> None:
    """Of a LoRA as PEFT saves it, and of a checkpoint."""
    library.put("peft/adapter_model.safetensors", OUTLINE.read_bytes())
    library.put("peft/adapter_config.json", b'{"peft_type": "LORA"}')
    library.scan()
    manager = library.manager
    planner = Planner(manager.catalog, current=manager.scans.current)

    def empty(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    empty(manager.catalog.path(library.model("peft")))
    with pytest.raises(IncompatibleAdapter, match="holds 0 weight files"):
        planner.resolve(GenerationRequest("base", "a cat", loras=(AdapterRequest("peft"),)))
    empty(files["pipeline"])
    with pytest.raises(FileMissing):
        planner.resolve(GenerationRequest("pipeline", "a cat"))
    library.scan()
    assert [library.model(name).missing_since is not None for name in ("peft", "pipeline", "base")] == [
        True,
        True,
        False,
    ]
