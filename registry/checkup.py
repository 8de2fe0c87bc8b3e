"""What `modelshelf doctor` looks at: everything that commonly stands between a user and a picture. Nothing is changed."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import httpx
from sqlalchemy import Engine

from registry.catalog import Catalog
from registry.db import make_engine, schema_state
from registry.errors import ModelshelfError
from registry.installs.states import InstallBook
from registry.queries import Query
from registry.settings import Settings
from registry.tables import InstallState
from registry.tokens import Tokens

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "huggingface_hub")
ROOM = 20 * 10**9  # bytes: an SDXL checkpoint is 7 GB, and one of FLUX.1 24
HUB_SECONDS = 5.0


class Verdict(StrEnum):
    """`note`: worth knowing, and nothing fails because of it."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Check(NamedTuple):
    """`advice`: what to do, empty where there is nothing."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def check_up(settings: Settings, *, serving: bool = False) -> Iterator[Check]:
    """One after the other, as each is done: importing torch and asking the Hub take seconds.

    `serving`: it is the service itself that asks, and looks for no other one.
    """
    checks: list[Callable[[Settings], Iterator[Check]]] = [_versions, _root, _database, _hub, _service, _device]
    if serving:
        checks.remove(_service)
    for check in checks:
        try:
            yield from check(settings)
        except (ModelshelfError, OSError) as error:
            said = error.message if isinstance(error, ModelshelfError) else str(error)
            yield Check(check.__name__.strip("_"), Verdict.PROBLEM, said)


def _versions(_: Settings) -> Iterator[Check]:
    yield Check(
        "modelshelf", Verdict.OK, f"{version('modelshelf')}, Python {platform.python_version()}, {platform.platform()}"
    )
    found, missing = [], []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        advice = "Nothing can be generated without them: install modelshelf anew, with its dependencies."
        yield Check("libraries", Verdict.PROBLEM, f"missing: {', '.join(missing)}", advice)
    else:
        yield Check("libraries", Verdict.OK, ", ".join(found))


def _root(settings: Settings) -> Iterator[Check]:
    root = settings.root
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    set_another = "Choose another folder (MODELSHELF_ROOT), or change its rights."
    if not there.is_dir():
        yield Check("root", Verdict.PROBLEM, f"{there} is no folder", set_another)
        return
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Check("root", Verdict.PROBLEM, f"{there}: {error.strerror}", set_another)
        return
    yield Check("root", Verdict.OK, f"{root}{'' if there == root else ', made when it is first needed'}")
    free = shutil.disk_usage(there).free
    short = free < ROOM
    advice = f"A large checkpoint needs {ROOM / 1e9:.0f} GB while it arrives." if short else ""
    yield Check("free space", Verdict.NOTE if short else Verdict.OK, f"{free / 1e9:.1f} GB", advice)


def _database(settings: Settings) -> Iterator[Check]:
    if not settings.root.is_dir() and not settings.database_url:
        yield _NO_DATABASE
        return
    engine = make_engine(settings.database)
    try:
        yield from _recorded(settings, engine)
    finally:
        engine.dispose()


_NO_DATABASE = Check("database", Verdict.NOTE, "none yet", "The first command that needs it makes it.")


def _recorded(settings: Settings, engine: Engine) -> Iterator[Check]:
    state = schema_state(engine)
    if state.name == "none":
        yield _NO_DATABASE
        return
    url = engine.url.render_as_string(hide_password=True)
    if state.name != "current":
        found = f"{url} has {', '.join(state.stamped)}; this release has {', '.join(state.newest)}"
        yield Check(
            "database", Verdict.NOTE, found, "`modelshelf db upgrade`; `modelshelf db backup` makes a copy first."
        )
        return
    yield Check("database", Verdict.OK, f"{url}, schema {', '.join(state.stamped)}")
    yield from _shelf(Catalog(engine, settings.root))
    ended = InstallBook(engine).list(states=(InstallState.FAILED, InstallState.PAUSED), limit=None)
    if ended:
        told = [f"{sum(i.state == state for i in ended)} {state}" for state in {i.state for i in ended}]
        yield Check("installs", Verdict.NOTE, ", ".join(sorted(told)), "`modelshelf installs list` tells why.")
    if settings.host not in ("127.0.0.1", "localhost", "::1") and not Tokens(engine).list():
        advice = "`modelshelf token create`: `serve` does not start there without one."
        yield Check("token", Verdict.PROBLEM, f"none, and the host is {settings.host}", advice)


def _shelf(catalog: Catalog) -> Iterator[Check]:
    counts = catalog.counts()
    if not counts:
        yield Check(
            "models", Verdict.NOTE, "none", "`modelshelf starter install` brings small ones, without a network."
        )
        return
    kinds: dict[str, int] = {}
    for (_, kind), number in counts.items():
        kinds[kind] = kinds.get(kind, 0) + number
    yield Check("models", Verdict.OK, ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())))
    if gone := [model.name for model in catalog.every(Query(missing=True))]:
        advice = "Install them again, `modelshelf scan` the folder they are in now, or `modelshelf delete` them."
        yield Check("files", Verdict.PROBLEM, f"gone: {_some(gone)}", advice)
    if damaged := [model.name for model in catalog.every() if model.damaged_at]:
        yield Check(
            "files", Verdict.PROBLEM, f"changed since: {_some(damaged)}", "`modelshelf verify` reads them again."
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _hub(settings: Settings) -> Iterator[Check]:
    headers = {"Authorization": f"Bearer {settings.hub_token}"} if settings.hub_token else {}
    url = f"{settings.hub_endpoint.rstrip('/')}/api/whoami-v2"
    try:
        answer = httpx.get(url, headers=headers, timeout=HUB_SECONDS)
    except httpx.HTTPError as error:
        advice = "Only what is on this machine can be installed. A proxy: HTTPS_PROXY; a mirror: HF_ENDPOINT."
        yield Check("hub", Verdict.NOTE, f"{settings.hub_endpoint} does not answer: {error}", advice)
        return
    if settings.hub_token and answer.status_code in (401, 403):
        yield Check("hub", Verdict.PROBLEM, f"{settings.hub_endpoint} refuses the HF_TOKEN", "Make a new one there.")
    else:
        who = "with your HF_TOKEN" if settings.hub_token else "without HF_TOKEN: public repositories only"
        yield Check("hub", Verdict.OK, f"{settings.hub_endpoint} answers, {who}")


def _service(settings: Settings) -> Iterator[Check]:
    try:
        httpx.get(settings.address, timeout=1.0, trust_env=False)
    except httpx.HTTPError:
        yield Check("service", Verdict.NOTE, f"none answers at {settings.address}", "`modelshelf serve` starts it.")
    else:
        yield Check("service", Verdict.OK, f"one answers at {settings.address}")


def _device(settings: Settings) -> Iterator[Check]:
    try:
        from registry.backends.machine import describe_device
    except ImportError as error:
        yield Check("device", Verdict.PROBLEM, f"torch cannot be imported: {error}")
        return
    found, is_slow = describe_device(settings.device)
    advice = ""
    if is_slow:
        has_card = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
        advice = (
            "This machine has an NVIDIA driver, but this torch is built without CUDA: install the one with it."
            if has_card and settings.device == "auto"
            else "Pictures of SD 1.5 take a minute, larger models many; the starter models take a second."
        )
    yield Check("device", Verdict.NOTE if is_slow else Verdict.OK, f"{found}; {os.cpu_count()} cores", advice)
