"""A typed Python client of a running modelshelf, thin over httpx: one method for each route.

>>> from api.client import AdapterRequest, Client, GenerationRequest
>>> with Client("http://127.0.0.1:8420", token="msh_...") as shelf:
...     for model in shelf.models(kind="lora", family="sd-1"):
...         print(model.name, model.weight.value)
...     made = shelf.generate(GenerationRequest("starter-base", "a red circle", loras=(AdapterRequest("starter-lcm-lora"),)))

Importing it costs what httpx costs: no torch, no database, no web framework.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, ServerSentEvent

from api import records
from api.reading import read
from api.records import (
    Check,
    Duplicates,
    Event,
    Filters,
    Fit,
    Generation,
    GenerationJob,
    Install,
    Model,
    ModelDetail,
    NewToken,
    Removed,
    Residency,
    Scan,
    Task,
    Token,
    Waste,
)
from registry.errors import Cancelled, ModelshelfError, ServiceUnreachable, recreate
from registry.installs.options import AS_USUAL, Options
from registry.plans import AdapterRequest, GenerationRequest
from registry.scopes import EVERY_SCOPE
from registry.words import words_of

__all__ = ["DEFAULT_URL", "AdapterRequest", "Client", "GenerationRequest", "ModelshelfError"]

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8420"
PAGE = 200  # models asked for at once
TIMEOUT = httpx.Timeout(
    60.0, connect=5.0
)  # seconds; an event stream is never silent as long: the service pings every 15
PATIENCE = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds before each attempt to take up an event stream that broke
JOB_ENDS = ("succeeded", "failed", "cancelled")  # of generations and tasks


class Client:
    """Speaks to one service. Callable from several threads at once.

    Every method raises the errors of `registry.errors` by the service's own codes, ServiceUnreachable where nothing answers. References
    to models are ids, names, or beginnings of ids.
    """

    def __init__(self, url: str = DEFAULT_URL, token: str | None = None, *, http: httpx.Client | None = None) -> None:
        """`token`: for a service that listens beyond its own machine. `http`: a client with settings of your own (proxies,
        certificates, time-outs), which `close` leaves open."""
        self.url = url.rstrip("/")
        self._own = http is None
        self._http = http or httpx.Client(timeout=TIMEOUT, trust_env=not _is_loopback(self.url))
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._own:
            self._http.close()

    # -- models
    def models(self, *, page: int = PAGE, **filters: Unpack[Filters]) -> Iterator[Model]:
        """All that pass, fetched a page at a time while they are read."""
        return (read(Model, each) for each in self._pages("/v1/models", "models", {"limit": page, **filters}))

    def model(self, model: str) -> ModelDetail:
        return self._ask(ModelDetail, "GET", _path("models", model))

    def edit(self, model: str, **stated: Any) -> Model:
        """What you say of it: name, tags, notes, triggers, weight, weight_min, weight_max, steps, cfg, scheduler; family, kind.
        None takes one back. Raises NotAsSaid for a family or kind that the shapes exclude."""
        return self._ask(Model, "PATCH", _path("models", model), json=stated)

    def delete(self, model: str, *, files: bool = False) -> None:
        """Take it off the shelf; `files`: also off the disk. Raises WrongState: it is in use, or its file was scanned in place."""
        self._send("DELETE", _path("models", model), params={"files": "remove" if files else "keep"})

    def preview(self, model: str) -> bytes:
        """A WebP file. Raises FileMissing where it has none."""
        return self._send("GET", _path("models", model, "preview")).content

    def set_preview(self, model: str, picture: bytes | Path) -> Model:
        """`picture`: a PNG, JPEG or WebP file of at most 16 MiB."""
        content = picture.read_bytes() if isinstance(picture, Path) else picture
        return self._ask(Model, "PUT", _path("models", model, "preview"), content=content)

    def remove_preview(self, model: str) -> Model:
        return self._ask(Model, "DELETE", _path("models", model, "preview"))

    def compatible_loras(self, checkpoint: str, *, every: bool = False) -> Iterator[Fit]:
        """The LoRAs that fit it, each with the reason; with `every`, also those that do not, and why not."""
        path = _path("models", checkpoint, "compatible-loras")
        return (read(Fit, each) for each in self._pages(path, "loras", {"all": every, "limit": PAGE}))

    def compatible_checkpoints(self, lora: str, *, every: bool = False) -> Iterator[Fit]:
        """The checkpoints that it fits, each with the reason; with `every`, also those that it does not, and why not."""
        path = _path("models", lora, "compatible-checkpoints")
        return (read(Fit, each) for each in self._pages(path, "checkpoints", {"all": every, "limit": PAGE}))

    def families(self) -> list[records.Family]:
        return [read(records.Family, each) for each in self._json("GET", "/v1/families")["families"]]

    # -- installs
    def probe(self, source: str, *, family: str | None = None, kind: str | None = None) -> records.Probe:
        """What a source is, from its headers alone, and which of the installed checkpoints it fits; nothing is downloaded. `family` and
        `kind`: what you say that it is, as in Options of an install."""
        said = words_of({"family": family, "kind": kind})
        return self._ask(records.Probe, "POST", "/v1/probe", json={"source": source, **said})

    def install(
        self, source: str, on_progress: Callable[[Install], None] = lambda _: None, options: Options = AS_USUAL
    ) -> Model:
        """To its end. Raises what it failed with; when the wait is interrupted (Ctrl-C), the install is paused."""
        return self.finish_install(self.submit_install(source, options).id, on_progress)

    def submit_install(self, source: str, options: Options = AS_USUAL) -> Install:
        return self._ask(Install, "POST", "/v1/installs", json={"source": source, **options.as_dict()})

    def submit_starter(self) -> list[Install]:
        """Queue the small models that ship with modelshelf."""
        return [read(Install, each) for each in self._json("POST", "/v1/starter")["installs"]]

    def finish_install(self, install_id: str, on_progress: Callable[[Install], None] = lambda _: None) -> Model:
        """Follow one that was submitted, as `install` does."""
        last: Install | None = None
        try:
            for last in self.install_events(install_id):
                on_progress(last)
        except BaseException:
            with suppress(ModelshelfError):  # it has ended, or is paused
                self.order_install(install_id, "pause")
            raise
        if last is None or last.model_id is None:
            raise last.error.error if last and last.error else Cancelled(f"The install {install_id} was cancelled.")
        return self.model(last.model_id)

    def installs(self, *, page: int = PAGE) -> Iterator[Install]:
        """All, the newest first, fetched a page at a time while they are read."""
        return (read(Install, each) for each in self._pages("/v1/installs", "installs", {"limit": page}))

    def get_install(self, install_id: str) -> Install:
        return self._ask(Install, "GET", _path("installs", install_id))

    def install_events(self, install_id: str) -> Iterator[Install]:
        """The install after every change, to its end. A paused one has not ended: the iterator waits."""
        for event in self._events(_path("installs", install_id, "events"), ("installed", "failed", "cancelled")):
            yield read(Install, event.json())

    def order_install(self, install_id: str, command: str) -> Install:
        """`command`: pause, resume, cancel or retry. What has arrived is kept."""
        return self._ask(Install, "POST", _path("installs", install_id, command))

    def discard_install(self, install_id: str) -> None:
        """Cancel it if it runs, and forget it and its partial files."""
        self._send("DELETE", _path("installs", install_id))

    # -- scans
    def submit_scan(self, folder: str, *, afresh: bool = False) -> Scan:
        """`folder`: an absolute path on the server, in a folder that may be scanned. `afresh`: unchanged files are looked at, too."""
        return self._ask(Scan, "POST", "/v1/scans", json={"folder": folder, "afresh": afresh})

    def scan_folders(self) -> list[str]:
        """That were ever scanned, the last one first, 1000 at most."""
        return list(self._json("GET", "/v1/scans")["folders"])

    def scan_events(self, scan_id: str) -> Iterator[Scan]:
        for event in self._events(_path("scans", scan_id, "events"), ("done", "failed", "cancelled")):
            yield read(Scan, event.json())

    def get_scan(self, scan_id: str) -> Scan:
        return self._ask(Scan, "GET", _path("scans", scan_id))

    def cancel_scan(self, scan_id: str) -> Scan:
        return self._ask(Scan, "DELETE", _path("scans", scan_id))

    # -- upkeep
    def run_task(
        self, kind: str, models: Sequence[str] = (), on_progress: Callable[[Task], None] = lambda _: None
    ) -> Task:
        """Upkeep over `models`, or over all, to its end: verify, hash, check-updates, update or load. Raises what it failed with; when the
        wait is interrupted (Ctrl-C), it is cancelled."""
        task = self.submit_task(kind, models)
        try:
            for now in self.task_events(task.id):
                on_progress(now)
                task = now
        except BaseException:
            with suppress(ModelshelfError):
                self.cancel_task(task.id)
            raise
        if task.error:
            raise task.error.error
        return task

    def submit_task(self, kind: str, models: Sequence[str] = ()) -> Task:
        return self._ask(Task, "POST", "/v1/tasks", json={"kind": kind, "models": list(models)})

    def task_events(self, task_id: str) -> Iterator[Task]:
        for event in self._events(_path("tasks", task_id, "events"), JOB_ENDS):
            yield read(Task, event.json())

    def get_task(self, task_id: str) -> Task:
        return self._ask(Task, "GET", _path("tasks", task_id))

    def cancel_task(self, task_id: str) -> Task:
        return self._ask(Task, "DELETE", _path("tasks", task_id))

    def duplicates(self) -> Duplicates:
        """What is there twice, all pages in one."""
        return self._whole(Duplicates, "/v1/duplicates", "duplicates")

    def waste(self) -> Waste:
        """What nothing refers to, all pages in one."""
        return self._whole(Waste, "/v1/waste", "files")

    def remove_waste(self) -> Removed:
        """What `waste` lists at this moment."""
        return self._ask(Removed, "DELETE", "/v1/waste")

    # -- the service itself
    def check_up(self) -> list[Check]:
        """What stands in the way on the service's machine; some seconds."""
        return [read(Check, each) for each in self._json("GET", "/v1/doctor")["checks"]]

    def tokens(self) -> list[Token]:
        """Those in force, oldest first."""
        return [read(Token, each) for each in self._json("GET", "/v1/tokens")["tokens"]]

    def create_token(self, name: str = "", scopes: Collection[str] = EVERY_SCOPE) -> NewToken:
        """Raises InsufficientScope: it would open more than this client's own token."""
        return self._ask(NewToken, "POST", "/v1/tokens", json={"name": name, "scopes": sorted(scopes)})

    def revoke_token(self, token: str) -> None:
        """By id, or by a name that only one has. Raises TokenNotFound."""
        self._send("DELETE", _path("tokens", token))

    # -- generations
    def generate(self, request: GenerationRequest, on_event: Callable[[Event], None] | None = None) -> Generation:
        """To its end. Raises what it failed with; when the wait is interrupted (Ctrl-C), it is cancelled.

        `on_event` is told everything that happens, previews of the picture in the making included.
        """
        job = self.submit_generation(request, previews=on_event is not None)
        try:
            for event in self.generation_events(job.id):
                if on_event:
                    on_event(event)
        except BaseException:
            with suppress(ModelshelfError):
                self.cancel_generation(job.id)
            raise
        made = self.get_generation(job.id)
        if made.error:
            raise made.error.error
        return Generation(made.id, made.images or [], made.plan, made.warnings, made.timings or {})

    def submit_generation(self, request: GenerationRequest, *, previews: bool = False) -> GenerationJob:
        body = _body(request) | {"previews": previews}
        return self._ask(GenerationJob, "POST", "/v1/generations", params={"wait": False}, json=body)

    def generations(self) -> list[GenerationJob]:
        """Those that wait, run, or ended not long ago, newest first; without their pictures."""
        return [read(GenerationJob, each) for each in self._json("GET", "/v1/generations")["generations"]]

    def get_generation(self, generation_id: str) -> GenerationJob:
        return self._ask(GenerationJob, "GET", _path("generations", generation_id))

    def generation_events(self, generation_id: str, after: int = 0) -> Iterator[Event]:
        """What happens to it, to its end. A connection that breaks is taken up where it was; `after`: the last number that is known."""
        path = _path("generations", generation_id, "events")
        for event in self._events(path, JOB_ENDS, last_id=str(after) if after else ""):
            yield Event(int(event.id), event.event, event.json())

    def cancel_generation(self, generation_id: str) -> GenerationJob:
        return self._ask(GenerationJob, "DELETE", _path("generations", generation_id))

    def plan(self, request: GenerationRequest) -> records.PlanPreview:
        """What a generation would do, every value with where it came from, beside what is recommended."""
        return self._ask(records.PlanPreview, "POST", "/v1/plans", json=_body(request))

    def schedulers(self) -> list[records.Scheduler]:
        return [read(records.Scheduler, each) for each in self._json("GET", "/v1/schedulers")["schedulers"]]

    # -- what is loaded
    def residency(self) -> Residency:
        return self._ask(Residency, "GET", "/v1/residency")

    def load(self, checkpoint: str) -> Residency:
        """Into memory, before somebody waits for it."""
        return self._ask(Residency, "PUT", _path("residency", checkpoint))

    def evict(self, model: str) -> Residency:
        return self._ask(Residency, "DELETE", _path("residency", model))

    # -- speaking
    def _ask(self, record: type[T], method: str, path: str, **more: Any) -> T:
        return read(record, self._json(method, path, **more))

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            body: dict[str, Any] = self._send(method, path, **more).json()
        except ValueError as error:
            raise self._unreachable() from error
        return body

    def _whole(self, record: type[T], path: str, name: str) -> T:
        """With the rows of all pages, which stand under `name`."""
        page = self._json("GET", path, params={"limit": PAGE})
        rows = page[name]
        while page["next"] is not None:
            page = self._json("GET", path, params={"limit": PAGE, "cursor": page["next"]})
            rows += page[name]
        return read(record, {**page, name: rows})

    def _pages(self, path: str, name: str, filters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        filters = {key: value for key, value in filters.items() if value is not None}
        while True:
            page = self._json("GET", path, params=filters)
            yield from page[name]
            if page["next"] is None:
                return
            filters["cursor"] = page["next"]

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, self.url + path, headers=self._headers, **more)
        except httpx.TransportError as error:
            raise self._unreachable() from error
        return self._checked(answer)

    def _events(self, path: str, ends: tuple[str, ...], last_id: str = "") -> Iterator[ServerSentEvent]:
        """Until one that is named in `ends`. A stream that breaks off before is taken up with Last-Event-ID."""
        patience = iter(PATIENCE)
        while True:
            headers = self._headers | ({"Last-Event-ID": last_id} if last_id else {})
            try:
                with self._http.stream("GET", self.url + path, headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                        self._checked(answer)
                    for event in EventSource(answer).iter_sse():
                        if not event.data:
                            continue  # httpx-sse makes one of a ping that follows an event with an id
                        last_id, patience = event.id, iter(PATIENCE)
                        yield event
                        if event.event in ends:
                            return
            except httpx.TransportError as error:
                broken: Exception | None = error
            else:
                broken = None
            if (pause := next(patience, None)) is None:
                raise self._unreachable() from broken
            time.sleep(pause)

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        try:
            problem = answer.json()
            raise recreate(problem["code"], problem["detail"], problem.get("facts") or {})
        except (ValueError, KeyError, TypeError) as error:  # something between this client and the service answered
            raise ModelshelfError(f"{self.url} answered {answer.status_code} {answer.reason_phrase}.") from error

    def _unreachable(self) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"No modelshelf service answers at {self.url}; `modelshelf serve` starts one.", url=self.url
        )


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _body(request: GenerationRequest) -> dict[str, Any]:
    stated = {name: value for name, value in asdict(request).items() if value is not None}
    if request.image is not None:
        stated["image"] = b64encode(request.image).decode()
    loras = [{name: value for name, value in asdict(lora).items() if value is not None} for lora in request.loras]
    return stated | {"loras": loras}


def _is_loopback(url: str) -> bool:
    host = httpx.URL(url).host
    return host in ("localhost", "::1") or host.startswith("127.")
