"""Pictures from bundles: diffusers' own for the same job, LoRAs that leave no trace, errors that lose nothing."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ImageChops
from safetensors.torch import load_file, save_file

from registry.backends import AdapterRef, BackendOptions, CheckpointRef, GenerationJob, Step
from registry.backends.diffusers import DiffusersBackend
from registry.backends.diffusers import backend as backend_module
from registry.backends.schedulers import SCHEDULERS
from registry.errors import (
    FileMissing,
    IncompatibleAdapter,
    InvalidRequest,
    NotGenerable,
    NotResident,
    OutOfMemory,
    UnusableFile,
    WrongState,
)
from registry.holders import Holder
from registry.pipeline_config import PipelineConfig
from registry.weights import overlay as overlays
from registry.weights.bundle import Bundle, bundle_bytes
from tests.registry.tiny import ATTENTION, EVERYTHING, TEXT_ENCODER, Tiny, lora

NUMPY_COPY = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:__array_wrap__ must accept context:DeprecationWarning",
)
"""numpy's conversion of torch tensors inside diffusers' Euler, DPM++ and UniPC schedulers."""


def _backend(**options: Any) -> DiffusersBackend:
    return DiffusersBackend(BackendOptions(**{"device": "cpu", "budget_bytes": 2**30, **options}))


@pytest.fixture(scope="module")
def backend() -> DiffusersBackend:
    return _backend()


@pytest.fixture(scope="module")
def job(tiny: Tiny) -> GenerationJob:
    checkpoint = CheckpointRef(tiny.folder, "tiny", PipelineConfig.from_folder(tiny.folder))
    return GenerationJob(checkpoint, "a red circle", "ddim", steps=3, cfg=5.0, seed=7, width=16, height=16)


@pytest.fixture(scope="module")
def loras(tiny: Tiny, tmp_path_factory) -> dict[str, AdapterRef]:
    """Four that fit, strong enough to show, and one that does not."""
    folder = tmp_path_factory.mktemp("loras")
    made = {
        "style": lora(tiny.tensors, ATTENTION, layout="diffusers", seed=1),
        "lcm": lora(tiny.tensors, EVERYTHING, layout="kohya", alpha=2.0, seed=2),
        "text": lora(tiny.tensors, TEXT_ENCODER, layout="kohya", seed=3),
        "both": lora(tiny.tensors, f"{ATTENTION}|{TEXT_ENCODER}", layout="kohya", rank=2, seed=4),
    }
    made["stranger"] = {name: torch.zeros(9, *tensor.shape[1:]) for name, tensor in made["style"].items()}
    for name, tensors in made.items():
        save_file(tensors, folder / f"{name}.safetensors")
    return {name: AdapterRef(folder / f"{name}.safetensors", name, 1.0, name) for name in made}


def _pipeline(backend: DiffusersBackend, job: GenerationJob):
    with backend._pipeline(job.checkpoint, Holder("a test")) as pipeline:
        return pipeline


def _same(a, b) -> bool:
    return [image.tobytes() for image in a.images] == [image.tobytes() for image in b.images]


def _differ(a, b) -> int:
    """The largest difference of any channel, 0..255."""
    return max(high for _, high in ImageChops.difference(a, b).getextrema())


def _beside(adapter: AdapterRef) -> int:
    """Bytes that it takes unmerged: its factors, and those that its sidecars have of their own."""
    return 2 * adapter.path.stat().st_size


# --- one copy of the base ---------------------------------------------------------------------------------------------


def test_the_modules_hold_the_bundle_s_own_memory(backend: DiffusersBackend, job: GenerationJob):
    pipeline = _pipeline(backend, job)
    pipeline.wearer.take_off()
    bundle = pipeline.bundle.tensors
    bound = {p.data_ptr() for m in pipeline.modules.values() for p in m.parameters()}
    assert bound == {tensor.data_ptr() for tensor in bundle.values()}


def test_a_resident_checkpoint_is_not_loaded_again(backend: DiffusersBackend, job: GenerationJob, monkeypatch):
    backend.generate(job)

    def load(*_, **__):
        raise AssertionError("loaded again")

    monkeypatch.setattr(backend_module, "load_bundle", load)
    assert backend.generate(job).images


# --- the same pictures as diffusers ------------------------------------------------------------------------------------


def _by_diffusers(tiny: Tiny, job: GenerationJob, adapter: AdapterRef | None = None):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    logging.getLogger("diffusers").setLevel(logging.ERROR)
    pipe = StableDiffusionPipeline.from_pretrained(tiny.folder, safety_checker=None, local_files_only=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    if adapter:
        pipe.load_lora_weights(adapter.path.parent, weight_name=adapter.path.name)
        pipe.fuse_lora(lora_scale=adapter.weight)
    return pipe(
        job.prompt,
        negative_prompt=job.negative_prompt or None,
        num_inference_steps=job.steps,
        guidance_scale=job.cfg,
        width=job.width,
        height=job.height,
        generator=torch.Generator().manual_seed(job.seed),
    ).images[0]


@pytest.mark.parametrize(
    "changes", [{}, {"cfg": 1.0}, {"negative_prompt": "blue", "seed": 8}, {"width": 24, "height": 8}]
)
def test_without_adapters_it_is_diffusers_picture(tiny: Tiny, backend: DiffusersBackend, job: GenerationJob, changes):
    job = replace(job, **changes)
    image = backend.generate(job).images[0]
    assert image.size == (job.width, job.height)
    assert _differ(image, _by_diffusers(tiny, job)) == 0


@pytest.mark.parametrize("name", ["lcm", "both"])
def test_with_an_adapter_it_is_diffusers_fused_picture(
    tiny: Tiny, backend: DiffusersBackend, job: GenerationJob, loras, name
):
    adapter = replace(loras[name], weight=0.6)
    ours = backend.generate(replace(job, adapters=(adapter,))).images[0]
    assert _differ(ours, _by_diffusers(tiny, job, adapter)) <= 1
    assert _differ(ours, backend.generate(job).images[0]) > 1


def test_a_single_file_gives_the_folder_s_picture(tiny: Tiny, backend: DiffusersBackend, job: GenerationJob):
    single = replace(job, checkpoint=CheckpointRef(tiny.single, "single", job.checkpoint.config))
    assert _same(backend.generate(single), backend.generate(job))


# --- LoRAs leave no trace ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_after_any_sequence_of_sets_the_base_is_what_it_was(tiny: Tiny, job: GenerationJob, loras, seed):
    backend = _backend()
    plain = backend.generate(job)
    bundle = _pipeline(backend, job).bundle
    before = bundle.fingerprint()
    choose = random.Random(seed)
    for _ in range(12):
        names = choose.sample(["style", "lcm", "text", "both"], choose.randint(0, 4))
        worn = tuple(replace(loras[name], weight=choose.choice([-0.5, 0.0, 0.35, 1.0])) for name in names)
        if choose.random() < 0.25:
            with pytest.raises(IncompatibleAdapter):
                backend.generate(replace(job, adapters=(*worn, loras["stranger"])))
        else:
            made = backend.generate(replace(job, adapters=worn))
            assert _same(made, plain) == all(adapter.weight == 0 for adapter in worn)
        assert bundle.fingerprint() == before
    assert _same(backend.generate(job), plain)
    assert all(
        slot.parameter.data_ptr() == bundle.tensors[name].data_ptr()
        for name, slot in _pipeline(backend, job).slots.items()
    )


def test_a_set_gives_its_picture_whatever_was_on_before(backend: DiffusersBackend, job: GenerationJob, loras):
    wanted = replace(job, adapters=(replace(loras["lcm"], weight=0.35), replace(loras["style"], weight=0.45)))
    first = backend.generate(wanted)
    backend.generate(replace(job, adapters=(loras["text"],)))
    assert _same(backend.generate(wanted), first)


def test_the_same_set_again_makes_no_overlay(backend: DiffusersBackend, job: GenerationJob, loras, monkeypatch):
    calls, real = [], overlays.overlay
    backend.generate(job)
    monkeypatch.setattr(overlays, "overlay", lambda *args: calls.append(args) or real(*args))
    wanted = replace(job, adapters=(replace(loras["style"], weight=0.9),))
    for prompt in ("a", "b", "c"):
        backend.generate(replace(wanted, prompt=prompt))
    assert len(calls) == 1


def test_another_weight_reads_nothing_from_disk(job: GenerationJob, loras, tmp_path):
    backend = _backend()
    gone = Path(shutil.copy(loras["style"].path, tmp_path / "gone.safetensors"))
    adapter = replace(loras["style"], path=gone)
    first = backend.generate(replace(job, adapters=(adapter,)))
    gone.unlink()
    other = backend.generate(replace(job, adapters=(replace(adapter, weight=0.5),)))
    assert not _same(first, other)


def test_a_misfit_is_refused_whole_and_named(backend: DiffusersBackend, job: GenerationJob, loras):
    with pytest.raises(
        IncompatibleAdapter, match=r"stranger does not fit this checkpoint: .* do not fit: unet\..* and \d+ more"
    ) as caught:
        backend.generate(replace(job, adapters=(loras["style"], loras["stranger"])))
    assert caught.value.detail["adapter"] == "stranger"
    assert caught.value.detail["count"] == len(load_file(loras["stranger"].path))
    assert len(caught.value.detail["problems"]) == min(backend_module.NAMED_PROBLEMS, caught.value.detail["count"])


# --- seeds, progress, schedulers ----------------------------------------------------------------------------------------


@NUMPY_COPY
@pytest.mark.parametrize("scheduler", ["ddim", "lcm", "euler_a"])  # the latter two draw noise at every step
def test_a_seed_is_one_picture_whatever_n(backend: DiffusersBackend, job: GenerationJob, scheduler):
    three = backend.generate(replace(job, n=3, scheduler=scheduler))
    assert three.seeds == (7, 8, 9)
    for index, seed in enumerate(three.seeds):
        alone = backend.generate(replace(job, seed=seed, scheduler=scheduler))
        assert alone.images[0].tobytes() == three.images[index].tobytes()
    assert len({image.tobytes() for image in three.images}) == 3


@NUMPY_COPY
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_runs(backend: DiffusersBackend, job: GenerationJob, scheduler):
    made = backend.generate(replace(job, scheduler=scheduler, steps=4, cfg=1.0))
    assert max(high for _, high in made.images[0].getextrema()) > 0


@pytest.mark.parametrize(("batch", "passes"), [(1, 3), (2, 2), (4, 1)])
def test_progress_runs_over_all_passes(job: GenerationJob, batch, passes):
    seen: list[tuple[int, int]] = []
    made = _backend(batch=batch).generate(replace(job, n=3), lambda step: seen.append((step.done, step.total)))
    assert seen == [(done, 3 * passes) for done in range(1, 3 * passes + 1)]
    assert len(made.images) == 3


@pytest.mark.parametrize(("cfg", "batch"), [(0.0, 1), (1.0, 1), (1.5, 2)])
def test_cfg_of_1_or_less_is_one_denoiser_pass(backend: DiffusersBackend, job: GenerationJob, cfg, batch):
    sizes = []
    unet = _pipeline(backend, job).modules["unet"]
    hook = unet.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[0]))
    backend.generate(replace(job, cfg=cfg))
    hook.remove()
    assert sizes == [batch] * 3


def test_the_prediction_type_may_be_stated(backend: DiffusersBackend, job: GenerationJob):
    assert not _same(backend.generate(replace(job, prediction_type="v_prediction")), backend.generate(job))
    assert _same(backend.generate(replace(job, prediction_type="epsilon")), backend.generate(job))


def test_timings_add_up(backend: DiffusersBackend, job: GenerationJob):
    timings = dict(backend.generate(job).timings)
    total = timings.pop("total")
    assert set(timings) == {"load", "adapters", "wait", "encode", "denoise", "decode"}
    assert sum(timings.values()) == pytest.approx(total, abs=1e-3)
    assert min(timings["encode"], timings["denoise"], timings["decode"]) > 0


def test_from_many_threads_as_from_one(backend: DiffusersBackend, job: GenerationJob, loras):
    jobs = [
        replace(job, seed=i, adapters=(loras["lcm"],) if i % 2 else (), holder=Holder(f"job {i}")) for i in range(6)
    ]
    with ThreadPoolExecutor(3) as threads:
        made = list(threads.map(backend.generate, jobs))
    assert all(_same(one, backend.generate(wanted)) for one, wanted in zip(made, jobs, strict=True))


# --- bad input and short memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 20}, "width must be a multiple of 8 pixels, not 20"),
        ({"height": 0}, "height must be a multiple of 8"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1001}, "steps must be at most 1000"),
        ({"scheduler": "lcm", "steps": 60}, "LCM cannot run 60 steps"),
        ({"n": 0}, "n must be at least 1"),
        ({"seed": -1}, "seed must be from 0"),
        ({"seed": 2**63}, "seed must be from 0"),
        ({"scheduler": "magic"}, "There is no scheduler 'magic'"),
    ],
)
def test_what_cannot_be_run_is_said(backend: DiffusersBackend, job: GenerationJob, changes, said):
    with pytest.raises(InvalidRequest, match=said) as caught:
        backend.generate(replace(job, **changes))
    assert caught.value.detail["field"] in changes


def test_bad_files(backend: DiffusersBackend, job: GenerationJob, tmp_path):
    page = tmp_path / "page.safetensors"
    page.write_text("<html>")
    with pytest.raises(UnusableFile, match="broken"):
        backend.generate(replace(job, adapters=(AdapterRef(page, "page", 1.0, "broken"),)))
    with pytest.raises(FileMissing):
        backend.generate(replace(job, adapters=(AdapterRef(tmp_path / "gone", "gone", 1.0, "gone"),)))
    with pytest.raises(FileMissing):
        backend.generate(replace(job, checkpoint=CheckpointRef(tmp_path / "gone", "gone", job.checkpoint.config)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"in_channels": 9}, "inpainting"),
        ({"layers_per_block": 1}, "not those of its configuration"),
        ({"cross_attention_dim": 32}, "not those of its configuration"),
    ],
)
def test_a_configuration_that_is_not_the_tensors(
    backend: DiffusersBackend, tiny: Tiny, job: GenerationJob, changes, said
):
    own = job.checkpoint.config
    config = replace(own, components={**own.components, "unet": {**own.denoiser, **changes}})
    with pytest.raises(NotGenerable, match=said):
        backend.generate(replace(job, checkpoint=CheckpointRef(tiny.folder, f"tiny with {changes}", config)))


def test_no_room_in_the_budget(job: GenerationJob):
    backend = _backend(budget_bytes=1000)
    with pytest.raises(OutOfMemory, match="budget"):
        backend.generate(job)
    assert backend.residency.entries() == ()


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_a_device_without_memory(backend: DiffusersBackend, job: GenerationJob, loras, monkeypatch, failure: Exception):
    """It runs the adapters beside the model; without memory for that either, it says so and lives on."""
    before = backend.generate(job)
    wanted = replace(job, adapters=(replace(loras["lcm"], weight=0.123),))
    merged = backend.generate(wanted)
    backend.generate(replace(job, adapters=(loras["style"],)))  # written over what was made

    def fail(*_):
        raise failure

    with monkeypatch.context() as no_memory:
        no_memory.setattr(overlays, "overlay", fail)
        beside = backend.generate(wanted)
        assert beside.warnings == (backend_module.UNMERGED,)
        assert _differ(beside.images[0], merged.images[0]) <= 1
        no_memory.setattr(overlays, "attach", fail)
        with pytest.raises(OutOfMemory):
            backend.generate(replace(wanted, adapters=(loras["lcm"],)))
    assert _same(backend.generate(job), before)
    assert _same(backend.generate(wanted), merged)


@pytest.mark.parametrize(("failures", "warnings"), [(1, ()), (2, (backend_module.UNMERGED,))])
def test_where_memory_ends_while_drawing_what_is_idle_goes_and_then_the_overlay(
    job: GenerationJob, loras, monkeypatch, failures: int, warnings: tuple[str, ...]
):
    backend = _backend()
    wanted = replace(job, adapters=(loras["both"],))
    whole = backend.generate(wanted)
    backend.generate(replace(job, adapters=(loras["lcm"],)))
    real, left = backend_module.sample, [torch.OutOfMemoryError("CUDA out of memory")] * failures

    def sample(*arguments: object) -> object:
        if left:
            raise left.pop()
        return real(*arguments)

    monkeypatch.setattr(backend_module, "sample", sample)
    made = backend.generate(wanted)
    assert made.warnings == warnings
    assert _differ(made.images[0], whole.images[0]) <= 1
    assert len(backend.residency.entries()) == 2  # the checkpoint and what it wears: the other LoRA had to go


def test_a_set_that_runs_beside_the_model_is_not_put_on_again(job: GenerationJob, loras, monkeypatch):
    wanted = replace(job, adapters=(replace(loras["both"], weight=0.8),))
    model = bundle_bytes(job.checkpoint.path, torch.float32)
    backend = _backend(budget_bytes=model + _beside(loras["both"]))
    first = backend.generate(wanted)
    monkeypatch.setattr(overlays, "attach", None)
    again = backend.generate(wanted)
    assert again.warnings == first.warnings == (backend_module.UNMERGED,)
    assert _same(again, first)


def test_an_overlay_that_has_no_room_in_the_budget_runs_beside_the_model(job: GenerationJob, loras):
    wanted = replace(job, adapters=(replace(loras["both"], weight=0.8),))
    merged = _backend().generate(wanted)
    model = bundle_bytes(job.checkpoint.path, torch.float32)
    backend = _backend(budget_bytes=model + _beside(loras["both"]))
    beside = backend.generate(wanted)
    assert (merged.warnings, beside.warnings) == ((), (backend_module.UNMERGED,))
    assert _differ(beside.images[0], merged.images[0]) <= 1
    assert sum(tier.used for tier in backend.residents().tiers) <= backend.residency.budget


@pytest.fixture
def hooks_guarded() -> Iterator[None]:
    """A backend that compiles sets this for the whole process."""
    skips = torch._dynamo.config.skip_nnmodule_hook_guards
    yield
    torch._dynamo.config.skip_nnmodule_hook_guards = skips


@pytest.mark.parametrize("compiler", [None, "eager"])
def test_what_the_budget_counts_is_what_is_there(
    job: GenerationJob, loras, monkeypatch, hooks_guarded, compiler: str | None
):
    """Overlays, copies at fixed addresses for compiled graphs, factors and what runs beside the model."""
    backend = _backend(compile=compiler)
    pipeline = _pipeline(backend, job)
    pipeline.modules["unet"].__dict__.pop("_compiled_call_impl", None)  # only its addresses matter here

    def counted() -> int:
        return {r.digest: r.nbytes for r in backend.residents().models}["tiny"] - pipeline.bundle.nbytes

    backend.generate(replace(job, adapters=(loras["lcm"],)))
    merged = pipeline.wearer.nbytes
    assert counted() == merged > 0
    with monkeypatch.context() as no_memory:
        no_memory.setattr(overlays, "overlay", lambda *_: (_ for _ in ()).throw(MemoryError()))
        backend.generate(replace(job, adapters=(replace(loras["lcm"], weight=0.3),)))
    beside = counted() - (merged if compiler else 0)
    assert counted() == pipeline.wearer.nbytes
    assert beside == sum(t.nbytes for t in load_file(loras["lcm"].path).values() if t.dim())  # float32 there, too
    with backend.residency.lease_resident(next(e.key for e in backend.residency.entries() if e.label == "lcm")) as lcm:
        assert lcm.nbytes == {r.digest: r.nbytes for r in backend.residents().models}["lcm"]


def test_a_set_without_room_even_beside_the_model_is_refused_by_name(job: GenerationJob, loras):
    model = bundle_bytes(job.checkpoint.path, torch.float32)
    backend = _backend(budget_bytes=model + loras["lcm"].path.stat().st_size + 1000)
    plain = backend.generate(job)
    with pytest.raises(OutOfMemory, match=r"^tiny needs .* the budget is"):
        backend.generate(replace(job, adapters=(loras["lcm"],)))
    assert _same(backend.generate(job), plain)


# --- what is loaded -----------------------------------------------------------------------------------------------------


def test_residents_say_what_is_where_and_who_holds_it(job: GenerationJob, loras):
    backend = _backend()
    assert backend.residents().models == ()
    seen = []
    backend.generate(
        replace(job, adapters=(loras["style"],), holder=Holder("job 7")), lambda *_: seen.append(backend.residents())
    )
    model, style = seen[0].models
    assert (model.digest, style.digest, style.name) == ("tiny", "style", "style")
    assert model.holders == style.holders == ("job 7",)
    bundle = _pipeline(backend, job).bundle
    assert model.nbytes > bundle.nbytes  # with its overlay
    assert all(resident.holders == () for resident in backend.residents().models)
    tier = backend.residents().tiers[0]
    assert (tier.name, tier.device, tier.budget) == ("device", "cpu", 2**30)
    assert tier.used == sum(resident.nbytes for resident in backend.residents().models)
    backend.generate(job)
    taken = {r.digest: r.nbytes for r in backend.residents().models}["tiny"]
    assert taken == model.nbytes  # the overlay's memory is kept for the next one
    backend.residency.budget = tier.used
    assert backend.generate(replace(job, adapters=(loras["text"],))).warnings == ()  # until it is needed


def test_load_and_evict_by_hand(job: GenerationJob, monkeypatch):
    backend = _backend()
    backend.load(job.checkpoint, Holder("somebody"))
    with monkeypatch.context() as loaded:
        loaded.setattr(backend_module, "load_bundle", None)  # calling it again would be an error
        assert backend.generate(job).images
    with backend._pipeline(job.checkpoint, Holder("somebody")), pytest.raises(WrongState, match="in use by somebody"):
        backend.evict("tiny")
    backend.evict("tiny")
    assert backend.residents().models == ()
    with pytest.raises(NotResident):
        backend.evict("tiny")


def test_what_leaves_the_device_waits_on_the_host(tiny: Tiny, job: GenerationJob, loras, tmp_path):
    """Its file is not read again; the copy is the base, whatever was worn when it left."""
    folder = tmp_path / "gone"
    shutil.copytree(tiny.folder, folder)
    there = replace(job, checkpoint=CheckpointRef(folder, "gone", job.checkpoint.config))
    model = bundle_bytes(folder, torch.float32)
    backend = _backend(budget_bytes=2 * model - 1, host_bytes=model)
    plain = backend.generate(there)
    backend.generate(replace(there, adapters=(loras["style"],)))
    backend.generate(job)
    where = {(r.tier, r.digest) for r in backend.residents().models}
    assert where - {("device", "style")} == {("host", "gone"), ("device", "tiny")}
    for file in folder.rglob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend_module, "bundle_bytes", lambda *_: model)
        assert _same(backend.generate(there), plain)
    backend.evict("gone")
    assert "gone" not in {resident.digest for resident in backend.residents().models}


@pytest.mark.parametrize(
    ("failure", "level", "said"),
    [
        (RuntimeError("CUDA error: unspecified launch failure"), "WARNING", "unspecified launch failure"),
        (torch.OutOfMemoryError("out of pinned memory"), "INFO", "too little memory"),
    ],
)
def test_what_cannot_be_kept_on_the_host_is_said_and_hinders_nobody(
    tiny: Tiny, job: GenerationJob, monkeypatch, caplog, failure: Exception, level: str, said: str
):
    model = bundle_bytes(job.checkpoint.path, torch.float32)
    backend = _backend(budget_bytes=2 * model - 1, host_bytes=model)
    plain = backend.generate(job)

    def fail(*_: object, **__: object) -> None:
        raise failure

    with monkeypatch.context() as broken, caplog.at_level("INFO", logger=backend_module.__name__):
        broken.setattr(Bundle, "to", fail)
        other = backend.generate(replace(job, checkpoint=CheckpointRef(tiny.single, "other", job.checkpoint.config)))
    assert _same(other, plain)
    assert {(r.tier, r.digest) for r in backend.residents().models} == {("device", "other")}
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith("tiny leaves the device")
    assert said in record.getMessage()
    assert _same(backend.generate(job), plain)  # from its file


def test_an_error_in_the_caller_s_progress_is_his_own(backend: DiffusersBackend, job: GenerationJob):
    before = backend.generate(job)

    def stop(step: Step) -> None:
        raise RuntimeError(f"cancelled at {step.done} of {step.total}")

    with pytest.raises(RuntimeError, match="cancelled at 1 of 3"):
        backend.generate(job, stop)
    assert _same(backend.generate(job), before)


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtypes(job: GenerationJob, dtype, expected):
    backend = _backend(dtype=dtype)
    assert backend.generate(job).images[0].size == (16, 16)
    assert {tensor.dtype for tensor in _pipeline(backend, job).bundle.tensors.values()} == {expected}


@pytest.mark.parametrize("dtype", ["int8", "float12", "nn", "float8_e4m3fn"])
def test_a_dtype_that_is_none(dtype):
    with pytest.raises(InvalidRequest, match=dtype):
        _backend(dtype=dtype)


def test_the_default_budget_is_half_of_the_machine():
    import os

    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert _backend(budget_bytes=None).residency.budget == machine // 2


def test_progress_bars_are_silent(backend: DiffusersBackend, job: GenerationJob, capfd):
    backend.generate(job)
    assert capfd.readouterr() == ("", "")


# --- compiled -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(hooks_guarded) -> Iterator[DiffusersBackend]:
    """By a compiler that needs no C++ compiler beside it; it captures graphs as the others do."""
    yield _backend(compile="aot_eager")
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_denoiser_wears_what_the_plain_one_wears(
    backend: DiffusersBackend, compiled: DiffusersBackend, job: GenerationJob, loras
):
    """Its weights stay where they are, and it is compiled once, whatever is worn."""
    style, lcm = (replace(loras[name], weight=0.8) for name in ("style", "lcm"))
    compiled.generate(replace(job, adapters=(style, lcm)))
    slots = _pipeline(compiled, job).slots
    addresses = {name: slot.parameter.data_ptr() for name, slot in slots.items()}
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for worn in ((style,), (), (replace(lcm, weight=-0.4), style), (lcm,)):
        wanted = replace(job, adapters=worn)
        assert _differ(compiled.generate(wanted).images[0], backend.generate(wanted).images[0]) <= 1
        assert {name: slot.parameter.data_ptr() for name, slot in slots.items()} == addresses
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


@pytest.mark.slow
def test_a_compiled_denoiser_takes_notice_of_adapters_beside_it(
    backend: DiffusersBackend, compiled: DiffusersBackend, job: GenerationJob, loras
):
    wanted = replace(job, adapters=(replace(loras["lcm"], weight=0.8),))
    compiled.generate(job)
    compiled.residency.budget = bundle_bytes(job.checkpoint.path, torch.float32) + _beside(loras["lcm"])
    beside = compiled.generate(wanted)
    assert beside.warnings == (backend_module.UNMERGED,)
    assert _differ(beside.images[0], backend.generate(wanted).images[0]) <= 1


def test_a_compiler_that_torch_has_not():
    with pytest.raises(InvalidRequest, match=r"no compiler 'gcc'; there are .*inductor"):
        _backend(compile="gcc")
