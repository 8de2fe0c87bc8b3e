"""Generations that are cancelled at any moment, beside loads and evictions by hand, over the real backend with memory for one model."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from registry.backends import AdapterRef, BackendOptions, CheckpointRef, GenerationJob
from registry.backends.diffusers import DiffusersBackend
from registry.backends.diffusers import backend as backend_module
from registry.errors import Cancelled, NotResident, OutOfMemory, WrongState
from registry.generation.jobs import Generation, Job, Picture
from registry.generation.queue import MAX_THREADS, GenerationQueue
from registry.holders import Holder
from registry.pipeline_config import PipelineConfig
from registry.weights.bundle import bundle_bytes, load_bundle
from registry.weights.files import Lent
from tests.registry.tiny import ATTENTION, TEXT_ENCODER, Tiny, ldm_layout, lora

pytestmark = pytest.mark.slow

WAIT = 60
MOMENTS = 50
NO_LORA = ""


@dataclass(frozen=True)
class Shelf:
    """`asked`: jobs by the names of their checkpoint and their LoRA; `painted`: what each gives where nothing else goes on."""

    asked: dict[tuple[str, str], GenerationJob]
    painted: dict[tuple[str, str], bytes]
    nbytes: int


@pytest.fixture(scope="module")
def shelf(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A folder, its tensors as a file, and a file of the denoiser alone that borrows from either."""
    folder = tmp_path_factory.mktemp("storm")
    config = PipelineConfig.from_folder(tiny.folder)
    denoiser = {name: tensor * 1.01 for name, tensor in tiny.tensors.items() if name.startswith("unet.")}
    save_file(ldm_layout(denoiser), folder / "alone.safetensors")
    rest = frozenset({"text_encoder", "vae"})
    lent = [Lent(name, name, path, name, rest) for name, path in (("folder", tiny.folder), ("file", tiny.single))]
    checkpoints = {
        "folder": CheckpointRef(tiny.folder, "folder", config, managed=True),
        "file": CheckpointRef(tiny.single, "file", config),
        "alone": CheckpointRef(folder / "alone.safetensors", "alone", config, lent=(lent[0],)),
        "alone, too": CheckpointRef(folder / "alone.safetensors", "alone", config, lent=(lent[1],)),
    }
    loras: dict[str, tuple[AdapterRef, ...]] = {NO_LORA: ()}
    for seed, (name, layers) in enumerate({"style": ATTENTION, "words": TEXT_ENCODER}.items()):
        save_file(lora(tiny.tensors, layers, layout="kohya", seed=seed), folder / f"{name}.safetensors")
        loras[name] = (AdapterRef(folder / f"{name}.safetensors", name, 1.0, name),)
    asked = {
        (name, worn): GenerationJob(ref, "a red circle", "ddim", 2, 1.0, 7, 16, 16, adapters)
        for name, ref in checkpoints.items()
        for worn, adapters in loras.items()
    }
    alone = DiffusersBackend(BackendOptions(device="cpu", budget_bytes=2**30))
    painted = {key: alone.generate(job).images[0].tobytes() for key, job in asked.items()}
    assert len(set(painted.values())) == 2 * len(loras)
    return Shelf(asked, painted, bundle_bytes(tiny.folder, torch.float32))


def run(backend: DiffusersBackend) -> Callable[[Job], Generation]:
    def generate(job: Job) -> Generation:
        made = backend.generate(job.work, job.step)
        return Generation(job.plan, (Picture(made.images[0].tobytes(), 7),), made.timings, made.warnings)

    return generate


@pytest.mark.parametrize("host", [0, 3], ids=["one tier", "a host tier"])
@pytest.mark.parametrize("seed", range(2))
def test_whoever_is_not_cancelled_gets_his_picture_and_nothing_is_left_held(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, seed: int, host: int
) -> None:
    random = Random(seed)
    budget = int(1.9 * shelf.nbytes)
    backend = DiffusersBackend(BackendOptions(device="cpu", budget_bytes=budget, host_bytes=host * shelf.nbytes))

    def slowly(*arguments: Any, go_on: Callable[[], None], **more: Any) -> Any:
        pause = random.choice((0.0, 0.0, 0.0002))

        def go_on_slowly() -> None:
            time.sleep(pause)
            go_on()

        return load_bundle(*arguments, go_on=go_on_slowly, **more)

    monkeypatch.setattr(backend_module, "load_bundle", slowly)
    queue = GenerationQueue(run(backend), MOMENTS)
    jobs: list[tuple[tuple[str, str], Job]] = []
    cancelled: set[str] = set()
    by_hand: list[Future[None]] = []

    def ask() -> None:
        key = random.choice(list(shelf.asked))
        plan: Any = SimpleNamespace(warnings=())
        jobs.append((key, queue.submit(Job(plan, shelf.asked[key], {}))))

    def cancel() -> None:
        if jobs and not (job := random.choice(jobs[-2:])[1]).ended:
            try:
                queue.cancel(job.id)
            except WrongState:
                return  # it ended just now
            cancelled.add(job.id)

    def load() -> None:
        checkpoint = random.choice(list(shelf.asked.values())).checkpoint
        by_hand.append(hands.submit(backend.load, checkpoint, Holder("loading")))

    def evict() -> None:
        by_hand.append(hands.submit(backend.evict, random.choice(("folder", "file", "alone"))))

    with ThreadPoolExecutor(3) as hands:
        for _ in range(MOMENTS):
            random.choices((ask, cancel, load, evict), (6, 5, 2, 1))[0]()
            time.sleep(random.choice((0.0, 0.001, 0.01, 0.05)))
            for tier in backend.residents().tiers:
                assert tier.used <= tier.budget
        for key, job in jobs:
            if job.id in cancelled:
                with pytest.raises(Cancelled):
                    job.wait(0)
            else:
                made = job.wait(WAIT)
                assert made.warnings == ()
                assert made.pictures[0].png == shelf.painted[key], key
        for outcome in by_hand:
            assert isinstance(outcome.exception(WAIT), OutOfMemory | NotResident | WrongState | None)
    assert len(queue._threads) <= MAX_THREADS
    queue.close()
    assert not [model for model in backend.residents().models if model.holders]
    assert 0 < len(cancelled) < len(jobs)
