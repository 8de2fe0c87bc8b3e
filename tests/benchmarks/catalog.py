"""The catalogue at 100,000 models: requests against a bare route with the same bytes, the queries, a start with known files, and requests
while files are hashed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from itertools import count, islice
from pathlib import Path
from statistics import median, quantiles
from typing import TypeVar

import psutil
from sqlalchemy import Engine

from probes.json_text import loads
from registry.catalog import Catalog, Entry
from registry.db import migrate
from registry.installs.hashing import hash_file
from registry.manager import Manager
from registry.models import Model, Provenance, Statement, Trigger, computed
from registry.queries import Query
from registry.rows import FIT, insert_new
from registry.settings import Settings
from tests.benchmarks.tables import Table
from tests.databases import engine_of, postgresql_server
from tests.demo.strangers import sd15_lora
from tests.registry.scans.library import lora
from tests.service import running_service

FAMILIES = ("sd-1", "sdxl", "sd-2", "flux-1", "sd-3")
CHECKPOINT_STRUCTURES, ADAPTER_STRUCTURES = 20, 300  # of all families; what a large library has, by guess
WORDS = ("anime", "detail", "watercolor", "portrait", "noise", "film", "neon", "sketch", "clay", "ink")
START = datetime(2026, 1, 1, tzinfo=UTC)
BASE = "checkpoint-0"

T = TypeVar("T")


def run(quick: bool) -> Iterator[Table]:
    count = 5_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        with engine_of(Settings(root=root).database) as engine:
            migrate(engine)
            started = time.perf_counter()
            fill(engine, root, count)
            filled = time.perf_counter() - started
            sqlite = query_times(Catalog(engine, root), rounds=3 if quick else 30, dialect="sqlite")
        yield over_http(root, count, seconds=1.0 if quick else 2.0, rounds=3 if quick else 7)
        postgresql = {} if quick else on_postgresql(root, count)
        yield queries(count, filled, sqlite, postgresql)
        yield start_with_known_files(Path(folder), 300 if quick else 30_000)
        yield while_hashing(Path(folder), mib=128 if quick else 1536, seconds=0.5 if quick else 4.0)


def model(n: int) -> Model:
    is_checkpoint = n % 100 == 0
    kind = "checkpoint" if is_checkpoint else "lcm_lora" if n % 500 == 1 else "lora"
    shape = n // 100 % CHECKPOINT_STRUCTURES if is_checkpoint else n % ADAPTER_STRUCTURES
    word = WORDS[n % len(WORDS)]
    return Model(
        id=f"{n:012x}",
        name=f"checkpoint-{n // 100}" if is_checkpoint else f"{word} style {n * 7919 % 999983}",
        kind=kind,
        family=FAMILIES[shape % len(FAMILIES)],
        format="safetensors",
        path=f"{kind}/{n}.safetensors",
        size=1000 + n * 7919 % 10**9,
        created_at=START + timedelta(seconds=n),
        hashed_at=START,  # or the service would look for the file, to hash it beside the requests
        structure=f"1:{kind[0]}{shape}",
        digests=computed(
            **{name: f"{hash((name, n)) & (1 << 64) - 1:016x}" * 4 for name in ("blake3", "sha256", "autov3")}
        ),
        sources=(
            Provenance(f"hf://author{n % 5000}/{word}-{n}@{n:040x}", f"author{n % 5000}/{word}-{n}", f"{n:040x}"),
        ),
        trigger_words=(Trigger(f"{word}trigger{n % 3000}", "file header"),),
        statements=(Statement("weight", 0.8, "model card", "Use it at 0.8."),),
        tags=("common", f"tag{n % 1000}"),
    )


def fill(engine: Engine, root: Path, count: int) -> None:
    catalog = Catalog(engine, root)
    numbers = iter(range(count))
    while some := list(islice(numbers, 2000)):
        catalog.add_many([Entry(model(n), {"reason": "made up"}) for n in some])
    rows = [
        {"checkpoint": f"1:c{c}", "adapter": f"1:l{a}", "matched": 264, "total": 264, "problems": []}
        | {"verdict": "fits" if a % 3 else "partly", "reason": "all 264 tensors fit (88 layers)"}
        for c in range(CHECKPOINT_STRUCTURES)
        for a in range(ADAPTER_STRUCTURES)
        if a % len(FAMILIES) == c % len(FAMILIES)
    ]
    with engine.begin() as connection:
        insert_new(connection, FIT, rows)
        if engine.dialect.name == "postgresql":  # as its autovacuum does within a minute
            connection.exec_driver_sql("ANALYZE")


# -- over HTTP


def over_http(root: Path, count: int, seconds: float, rounds: int) -> Table:
    """One client, one connection, one request after the other, as a page does it."""
    address = "/v1/models?kind=lora&family=sdxl&limit=50"
    fitting = f"/v1/models/{BASE}/compatible-loras?limit=50"
    with service(root) as (port, process):
        client = Client(port)
        bodies = {name: client.get(path) for name, path in (("list", address), ("compatible list", fitting))}
        etag = client.etag
        contenders: dict[str, Callable[[], object]] = {
            "list, bare route with its bytes": lambda: client.get("/bare/list"),
            "list": lambda: client.get(address),
            "list, every page another": pages(client, address.removesuffix("&limit=50")),
            "list, the client has it (304)": lambda: client.get(address, etag),
            "compatible list, bare route with its bytes": lambda: client.get("/bare/compatible"),
            "compatible list": lambda: client.get(fitting),
            "compatible list, every page another": pages(client, fitting.removesuffix("?limit=50") + "?all=false"),
        }
        rates = side_by_side(contenders, seconds, rounds, lambda: sum(process.cpu_times()[:2]))
    rows = []
    for name, (rate, spent) in rates.items():
        bare = rates[f"{name.split(',')[0]}, bare route with its bytes"]
        rows.append((name, rate, rate / bare[0], spent * 1e3, spent / bare[1]))
    notes = [
        f"{count:,} models; {len(bodies['list']):,} and {len(bodies['compatible list']):,} bytes an answer; 50 models a page."
    ]
    return Table(
        "Requests per second (one client, one connection, HTTP/1.1 kept alive)",
        ("", "per second", "of bare", "CPU ms", "of bare"),
        rows,
        notes,
    )


def pages(client: Client, address: str) -> Callable[[], object]:
    """Each call asks for the page after the one before; after the last from the first again, of other lengths: none was made before."""
    lengths, place = count(50), ""

    def ask() -> object:
        nonlocal place
        if not place:
            place = f"limit={next(lengths)}"
        found = loads(client.get(f"{address}&{place}"))["next"]
        place = f"{place.partition('&')[0]}&cursor={found}" if found else ""
        return found

    return ask


def side_by_side(
    contenders: dict[str, Callable[[], object]], seconds: float, rounds: int, cpu: Callable[[], float]
) -> dict[str, tuple[float, float]]:
    """Median of each's requests per second, and the service's CPU seconds per request over all rounds (they come in steps of 10 ms).

    In turns, so that a busy machine burdens all alike. `cpu` tells the service's CPU seconds until now.
    """
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    spent = dict.fromkeys(contenders, (0.0, 0))
    for turn in range(rounds):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            contenders[name]()
            started, before, done = time.perf_counter(), cpu(), 0
            while time.perf_counter() - started < seconds:
                contenders[name]()
                done += 1
            rates[name].append(done / (time.perf_counter() - started))
            spent[name] = (spent[name][0] + cpu() - before, spent[name][1] + done)
    return {name: (median(found), spent[name][0] / spent[name][1]) for name, found in rates.items()}


class Client:
    """As little between the clock and the service as Python allows."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.etag = ""

    def get(self, path: str, etag: str = "") -> bytes:
        self._connection.request("GET", path, headers={"If-None-Match": etag} if etag else {})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != (304 if etag else 200):
            raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
        self.etag = answer.headers.get("etag", "")
        return body


@contextmanager
def service(root: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The application with two bare routes beside it, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.catalog", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), psutil.Process(process.pid)
        finally:
            process.terminate()


def serve(root: str) -> None:
    import socket

    import uvicorn
    from fastapi import FastAPI, Response
    from fastapi.testclient import TestClient

    from api.app import create_app

    manager = Manager(Settings(root=Path(root)))
    app = FastAPI()
    service = create_app(manager)
    client = TestClient(service, base_url="http://127.0.0.1")
    bodies = {
        "list": client.get("/v1/models?kind=lora&family=sdxl&limit=50").content,
        "compatible": client.get(f"/v1/models/{BASE}/compatible-loras?limit=50").content,
    }

    @app.get("/bare/{name}")
    async def bare(name: str) -> Response:
        return Response(bodies[name], media_type="application/json")

    app.mount("/", service)
    # With the protocol named: only then asyncio sets TCP_NODELAY, as it does for the service, and no answer waits 40 ms for an ACK.
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


# -- the queries by themselves


def asked(catalog: Catalog) -> dict[str, Query]:
    some = catalog.get(f"{4242:012x}")
    base = catalog.get(BASE)
    return {
        "first page by name": Query(),
        "a page in the middle": Query(cursor=catalog.page(Query(sort="name", limit=1000)).cursor),
        "kind and family": Query(kind="lora", family="sdxl"),
        "newest first": Query(sort="-created"),
        "largest of a kind first": Query(kind="lora", sort="-size"),
        "a tag that all have": Query(tag="common"),
        "a tag that one in 1,000 has": Query(tag="tag7"),
        "a word that all have": Query(text="style"),
        "a part of a word that few have": Query(text="rigger2999"),
        "two words": Query(text="neon trigger17"),
        "two letters that none has": Query(text="qq"),
        "a whole SHA-256": Query(digest=some.sha256),
        "the first ten digits of one": Query(digest=(some.sha256 or "")[:10]),
        "compatible with a checkpoint": Query(family=base.family, fits=base.structure, missing=False),
    }


def query_times(catalog: Catalog, rounds: int, dialect: str) -> dict[str, float]:
    """Median milliseconds of a page of 100, its models' digests, sources, triggers ... included.

    Of CPU time on SQLite, which works in this process; of wall time on PostgreSQL, which does not.
    """
    clock = time.process_time if dialect == "sqlite" else time.perf_counter
    found = {}
    for name, query in asked(catalog).items():
        times = []
        for _ in range(rounds):
            started = clock()
            catalog.page(query)
            times.append(clock() - started)
        found[name] = median(times) * 1000
    return found


def on_postgresql(root: Path, count: int) -> dict[str, float]:
    with postgresql_server() as server, engine_of(server.new_database(migrated=True)) as engine:
        fill(engine, root, count)
        return query_times(Catalog(engine, root), rounds=15, dialect="postgresql")


def queries(count: int, filled: float, sqlite: dict[str, float], postgresql: dict[str, float]) -> Table:
    rows = [(name, ms, postgresql.get(name, "")) for name, ms in sqlite.items()]
    notes = [
        f"{count:,} models, registered at {count / filled:,.0f} a second on SQLite.",
        "Pages of 100 models with all that belongs to them; CPU time on SQLite, wall time on PostgreSQL.",
    ]
    return Table("Queries, milliseconds", ("", "SQLite", "PostgreSQL"), rows, notes)


# -- scans


def start_with_known_files(folder: Path, count: int) -> Table:
    library = folder / "library"
    for n in range(count):
        path = library / f"{n // 500:03}" / f"lora-{n}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lora(f"number {n}"))
    settings = Settings(root=folder / "scans")
    rows = []
    manager, *spent = timed(lambda: Manager(settings))
    rows.append(("a new database", *spent))
    _, *spent = timed(lambda: manager.scans.scan(library))
    rows.append((f"the first scan of {count:,} LoRAs", *spent))
    manager.close()
    manager, *spent = timed(lambda: Manager(settings))
    rows.append(("a start", *spent))
    _, *spent = timed(manager.scans.refresh)
    rows.append((f"looking at all {count:,} again, which are known", *spent))
    manager.close()
    return Table("Scans, seconds", ("", "CPU", "wall"), rows)


# -- requests beside the hashing of what was registered


def while_hashing(folder: Path, mib: int, seconds: float) -> Table:
    """A library whose large files were registered a moment ago: a list, each page another, while the service hashes them and after it."""
    library, root = folder / "large", folder / "hashing"
    for n in range(small := 500):
        _put(library / f"small-{n}.safetensors", lora(f"number {n}"))
    for n in range(mib // 32):
        _put(library / f"large-{n}.safetensors", sd15_lora(rank=900 + n))  # 32 MB and a little more each
    size = sum(path.stat().st_size for path in library.iterdir())
    manager = Manager(Settings(root=root))
    manager.scans.scan(library)
    manager.close()
    alone = timed(lambda: hash_file(library / "large-0.safetensors"))
    speed = (library / "large-0.safetensors").stat().st_size / alone[1]
    address = "/v1/models?kind=lora"
    with running_service(root, "http://127.0.0.1:9") as service:
        client = Client(int(service.base_url.port or 0))
        while not _are_hashed(client, "size", small):  # the smallest are hashed first
            time.sleep(0.2)
        began = time.perf_counter()
        busy = latencies(pages(client, address), seconds)
        if _are_hashed(client, "-size", 1):
            raise RuntimeError("all was hashed before the requests were over: take more of it")
        while not _are_hashed(client, "-size", 1):
            time.sleep(0.2)
        lasted = time.perf_counter() - began
        idle = latencies(pages(client, address), seconds)
    rows = [
        (f"a page of a list, {name}", pick(busy), pick(idle), pick(busy) / pick(idle))
        for name, pick in (("median", median), ("99 of 100 within", lambda found: quantiles(found, n=100)[-1]))
    ]
    notes = [
        f"{size / 1e6:,.0f} MB were hashed in {lasted:.0f} s, {size / lasted / 1e6:,.0f} MB a second; with nothing else to do, a core "
        f"hashes {speed / 1e6:,.0f} MB in a second."
    ]
    return Table("Requests while files are hashed, milliseconds", ("", "while hashing", "after it", "x"), rows, notes)


def latencies(ask: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of each request, one after the other."""
    ask()
    found, until = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        ask()
        found.append((time.perf_counter() - began) * 1e3)
    return found


def _are_hashed(client: Client, sort: str, count: int) -> bool:
    """Whether the first `count` of all models are."""
    return all(model["blake3"] for model in loads(client.get(f"/v1/models?sort={sort}&limit={count}"))["models"])


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """With CPU and wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    serve(sys.argv[1])
