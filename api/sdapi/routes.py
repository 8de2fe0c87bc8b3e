"""The routes of /sdapi/v1."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import RootModel
from starlette.concurrency import run_in_threadpool

from api.access import GENERATE, GENERATIONS, MANAGE, SHELF, CallerDep
from api.checkpoints import SUFFIXES, Checkpoints, CheckpointsDep
from api.conditional import UNCHANGED, ConditionalDep
from api.deps import ManagerDep
from api.examples import shown
from api.problems import FAILURES, REFUSALS, raises
from api.sdapi.console import Console
from api.sdapi.schemas import (
    Checkpoint,
    Image2Image,
    Images,
    Lora,
    Options,
    OptionsIn,
    OptionsSet,
    Progress,
    Sampler,
    Scripts,
    Spacing,
    Text2Image,
)
from probes import Kind
from registry import errors, queries
from registry.backends.schedulers import SCHEDULERS, canonical
from registry.catalog import Catalog
from registry.errors import InvalidRequest
from registry.generation import Job
from registry.models import Model
from registry.pictures import infotext
from registry.plans import GenerationRequest
from registry.prompts import emphasis

router = APIRouter(prefix="/sdapi/v1", tags=["WebUI's API"])

LISTED = 10_000  # models: this API has no pages, and its clients show all in one list
_SPACINGS = (
    Spacing(name="automatic", label="Automatic", aliases=["normal", "uniform"]),
    Spacing(name="karras", label="Karras"),
    Spacing(name="sgm_uniform", label="SGM Uniform", aliases=["trailing"]),
)
_PLAIN = {"", "automatic", *(_SPACINGS[0].aliases or ())}
_OPTIONS: dict[str, tuple[object, ...]] = {"samples_format": ("png",), "CLIP_stop_at_last_layers": (0, 1)}
"""WebUI's settings that would make other pictures or files, and the values that they have here."""


async def console(request: Request) -> Console:
    found: Console = request.app.state.console
    return found


ConsoleDep = Annotated[Console, Depends(console)]
MADE = raises(*REFUSALS, *FAILURES)


@router.post("/txt2img", dependencies=[GENERATE], responses=MADE)
async def text_to_image(console: ConsoleDep, checkpoints: CheckpointsDep, body: Text2Image, request: Request) -> Images:
    """Pictures from a prompt, in which LoRAs stand as `<lora:name:0.8>` or `<lora:name:text encoders':denoiser's>`.

    What would change the pictures and cannot be done here (`enable_hr`, scripts, styles, masks ...) is refused, not left out.
    """
    return await _generate(console, checkpoints, body, request, {})


@router.post("/img2img", dependencies=[GENERATE], responses=MADE)
async def image_to_image(
    console: ConsoleDep, checkpoints: CheckpointsDep, body: Image2Image, request: Request
) -> Images:
    """Pictures from a picture and a prompt; else as txt2img."""
    start = {"image": _decoded(body.init_images[0]), "strength": body.denoising_strength}
    return await _generate(console, checkpoints, body, request, start)


@router.get("/sd-models", dependencies=[SHELF], response_model=list[Checkpoint], responses=UNCHANGED)
def list_checkpoints(manager: ManagerDep, conditional: ConditionalDep) -> Response:
    """The checkpoints, ten thousand at most."""
    return conditional.answer(
        lambda: RootModel[list[Checkpoint]](
            [
                Checkpoint(
                    title=title_of(model),
                    model_name=model.name,
                    hash=_short(model),
                    sha256=model.sha256,
                    filename=str(manager.catalog.path(model)),
                )
                for model in _listed(manager.catalog, queries.Query(kind=Kind.CHECKPOINT, missing=False))
            ]
        )
    )


@router.get("/loras", dependencies=[SHELF], response_model=list[Lora], responses=UNCHANGED)
def list_loras(manager: ManagerDep, conditional: ConditionalDep) -> Response:
    """The LoRAs and LCM-LoRAs, ten thousand at most."""
    return conditional.answer(
        lambda: RootModel[list[Lora]](
            [
                Lora(
                    name=model.name,
                    alias=str(model.facts.get("output_name", {}).get("value") or model.name),
                    path=str(manager.catalog.path(model)),
                    metadata={"ss_output_name": fact["value"]} if (fact := model.facts.get("output_name")) else {},
                )
                for model in _listed(manager.catalog, queries.Query(adapters=True, missing=False))
            ]
        )
    )


@router.get("/samplers", dependencies=[SHELF])
async def list_samplers() -> list[Sampler]:
    """Every sampler; the spacing of its noise levels may be part of its name, or be given as `scheduler`."""
    return [Sampler(name=s.label, aliases=[s.name, *s.also]) for s in SCHEDULERS.values()]


@router.get("/schedulers", dependencies=[SHELF])
async def list_spacings() -> list[Spacing]:
    """How noise levels may be spaced. Not every sampler can be spaced in every way; what cannot be is refused."""
    return list(_SPACINGS)


@router.get("/options", dependencies=[SHELF], responses=raises(errors.ModelNotFound))
async def show_options(checkpoints: CheckpointsDep) -> Options:
    """The checkpoint in use, and what else is always so."""
    model = await run_in_threadpool(checkpoints.get)
    return Options(sd_model_checkpoint=title_of(model), sd_checkpoint_hash=model.sha256)


@router.post("/options", dependencies=[GENERATE], responses=raises(errors.ModelNotFound, errors.InvalidRequest))
async def set_options(checkpoints: CheckpointsDep, body: OptionsIn) -> OptionsSet:
    """Chooses the checkpoint, by title, name, file name or hash. What would change pictures is refused; what else is set means nothing
    here, and is named in the answer."""
    given = body.model_extra or {}
    _check(given, "")
    if body.sd_model_checkpoint:
        await run_in_threadpool(checkpoints.get, body.sd_model_checkpoint, keep=True)
    return OptionsSet(ignored=_unknown(given))


@router.get("/progress", dependencies=[GENERATIONS])
async def show_progress(
    console: ConsoleDep,
    caller: CallerDep,
    skip_current_image: Annotated[bool, Query(description="Without the picture.")] = False,
) -> Progress:
    """Of the request that runs, else of the next that waits."""
    return console.progress(caller, with_image=not skip_current_image)


@router.post("/interrupt", dependencies=[GENERATE], responses=shown({}))
async def interrupt(console: ConsoleDep, caller: CallerDep) -> dict[str, str]:
    """Ends the request that runs: it is answered with the pictures of its finished batches."""
    console.interrupt(caller)
    return {}


@router.post("/skip", dependencies=[GENERATE], responses=shown({}))
async def skip(console: ConsoleDep, caller: CallerDep) -> dict[str, str]:
    """Gives up the batch that runs; its request goes on with the next."""
    console.skip(caller)
    return {}


NULL: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "null"}}}}}


@router.post("/refresh-checkpoints", dependencies=[MANAGE], responses=NULL)
@router.post("/refresh-loras", dependencies=[MANAGE], responses=NULL)
def refresh(manager: ManagerDep) -> None:
    """Looks through the folders that are scanned, in the background."""
    for folder in manager.scans.folders():
        manager.scans.submit(folder)


@router.get("/scripts", dependencies=[SHELF])
async def list_scripts() -> Scripts:
    """None."""
    return Scripts()


_FREE = {"free": 2**34, "used": 0, "total": 2**34}


@router.get("/memory", dependencies=[SHELF], responses=shown({"ram": _FREE, "cuda": {"system": _FREE}}))
def show_memory(manager: ManagerDep) -> dict[str, dict[str, Any]]:
    """Of the room for weights, in bytes: `ram` on a CPU and behind a GPU, `cuda` on one."""
    shown: dict[str, dict[str, Any]] = {"ram": {}, "cuda": {}}
    for tier in manager.residents().tiers:
        amount = {"free": max(0, tier.budget - tier.used), "used": tier.used, "total": tier.budget}
        if tier.device == "cpu":
            shown["ram"] = amount
        else:
            shown["cuda"] = {"system": amount}
    return shown


def _none_of(path: str, answer: Any, kind: Any) -> None:
    name = path.replace("-", "_")

    @router.get(f"/{path}", dependencies=[SHELF], name=name, response_model=kind, responses=shown(answer))
    async def nothing() -> Any:
        """What WebUI has and modelshelf does not: none."""
        return answer


for _path in (
    *("upscalers", "latent-upscale-modes", "sd-vae", "hypernetworks", "face-restorers", "realesrgan-models"),
    "prompt-styles",
):
    _none_of(_path, [], list[Any])
_none_of("embeddings", {"loaded": {}, "skipped": {}}, dict[str, dict[str, Any]])
_none_of("cmd-flags", {}, dict[str, Any])


async def _generate(
    console: Console, checkpoints: Checkpoints, body: Text2Image, request: Request, start: dict[str, Any]
) -> Images:
    if refused := body.refused():
        raise InvalidRequest(f"{refused[0]} cannot be done here; leave it out.", field=refused[0])
    _check(body.override_settings, "override_settings.")
    title = str(body.override_settings.get("sd_model_checkpoint") or "")
    keep = not body.override_settings_restore_afterwards
    model = await run_in_threadpool(checkpoints.get, title, keep=keep)
    asked = GenerationRequest(
        checkpoint=model.id,
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        steps=body.steps,
        cfg=body.cfg_scale,
        scheduler=scheduler_named(body.sampler_name or body.sampler_index, body.scheduler),
        seed=None if body.seed in (None, -1) else body.seed,
        width=body.width,
        height=body.height,
        n=body.batch_size,
        **start,
    )
    jobs = await console.generate(asked, body.n_iter, request)
    unheard = [*body.unheard(), *(f"override_settings.{name}" for name in _unknown(body.override_settings))]
    left = [f"{name} means nothing here." for name in unheard]
    left += [
        f"{found} is read as plain text here."
        for text in (body.prompt, body.negative_prompt)
        if (found := emphasis(text))
    ]
    return await run_in_threadpool(_answer, body, model, jobs, left)


def _answer(body: Text2Image, model: Model, jobs: list[Job], warnings: list[str]) -> Images:
    made = [(job, picture) for job in jobs if job.result for picture in job.result.pictures]
    parameters = body.model_dump(exclude={"init_images"})
    info: dict[str, Any] = {
        "prompt": body.prompt,
        "negative_prompt": body.negative_prompt,
        "batch_size": body.batch_size,
        "sd_model_name": model.name,
        "sd_model_hash": _short(model),
        "subseed": -1,
        "subseed_strength": 0,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "styles": [],
        "clip_skip": 1,
        "version": "modelshelf",
        "all_prompts": [body.prompt] * len(made),
        "all_negative_prompts": [body.negative_prompt] * len(made),
        "all_seeds": [picture.seed for _, picture in made],
        "all_subseeds": [-1] * len(made),
        "infotexts": [infotext(job.plan, picture.seed, job.hashes) for job, picture in made],
        "job_timestamp": f"{datetime.now():%Y%m%d%H%M%S}",
        "warnings": list(dict.fromkeys([*warnings, *(w for job in jobs if job.result for w in job.result.warnings)])),
    }
    if jobs:
        plan = jobs[0].plan
        info |= {
            "seed": plan.seed.value,
            "width": plan.width.value,
            "height": plan.height.value,
            "sampler_name": SCHEDULERS[plan.scheduler.value].label,
            "cfg_scale": plan.cfg.value,
            "steps": plan.steps.value,
            "denoising_strength": plan.strength.value if plan.strength else None,
        }
    images = [b64encode(picture.png).decode() for _, picture in made] if body.send_images else []
    return Images(images=images, parameters=parameters, info=json.dumps(info))


def scheduler_named(sampler: str | None, spacing: str | None) -> str | None:
    """Our name for a sampler and the spacing of its noise levels, which may be part of the sampler's name. Raises InvalidRequest."""
    if not sampler:
        return None
    words = (spacing or "").strip().lower().replace("_", " ")
    if words in _PLAIN or sampler.lower().endswith(words):
        return canonical(sampler)
    return canonical(f"{sampler} {words}")


def title_of(model: Model) -> str:
    """As WebUI writes it: the file's name, and the beginning of its hash if that is known."""
    suffix = PurePath(model.path).suffix
    name = model.name + (suffix if suffix in SUFFIXES else "")
    return f"{name} [{short}]" if (short := _short(model)) else name


def _short(model: Model) -> str | None:
    """As pictures name it, see registry/pictures.py: of a folder, which has no SHA-256, of its BLAKE3."""
    digest = model.sha256 or model.blake3
    return digest and digest[:10]


def _listed(catalog: Catalog, query: queries.Query) -> Iterator[Model]:
    return islice(catalog.every(replace(query, limit=queries.MAX_LIMIT)), LISTED)


def _check(options: Mapping[str, Any], where: str) -> None:
    """Raises InvalidRequest for what would change pictures, and cannot be done here."""
    for name, possible in _OPTIONS.items():
        if name in options and options[name] not in possible:
            raise InvalidRequest(f"{where}{name} is always {possible[-1]} here.", field=f"{where}{name}")


def _unknown(options: Mapping[str, Any]) -> list[str]:
    return [name for name in options if name != "sd_model_checkpoint" and name not in _OPTIONS]


def _decoded(picture: str) -> bytes:
    text = picture.partition(";base64,")[2] if picture.startswith("data:") else picture
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidRequest(f"init_images has no picture in base64: {error}.", field="init_images") from error
