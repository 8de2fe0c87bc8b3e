"""Lists: the same answers on every kind of database, each page a range of an index, whatever is asked for."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from sqlalchemy import Engine, event

from registry.catalog import Catalog, Entry
from registry.db import migrate
from registry.errors import InvalidRequest
from registry.models import Model, Provenance, Statement, Trigger, computed, folded, search_text
from registry.queries import MAX_LIMIT, SELECTIVE, Query
from registry.rows import FIT, insert_new
from tests.databases import KINDS, PostgreSQL, engine_of

COUNT = 2 * SELECTIVE + 500  # enough that a filter that half of them pass is read off the order, and a rarer one is not
START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = ("Noise", "Outline", "Añime", "STRASSE", "ﬁlm", "水墨画", "100%_real", 'quo"te', "back\\slash")


def model(n: int) -> Model:
    kind = "checkpoint" if n % 50 == 0 else "lcm_lora" if n % 97 == 0 else "lora"
    return Model(
        id=f"{n * 7919 % 10**9:012x}",
        name=f"{WORDS[n % len(WORDS)]} {'é' if n % 2 else 'Z'} {n}",
        kind=kind,
        family=("sd-1", "sdxl", "flux-1")[n % 3],
        format="safetensors",
        path=f"models/{n}",
        size=(n * 37) % 1000,  # many of a size
        created_at=START + timedelta(seconds=n // 5),  # five at once
        structure=f"1:{kind[0]}{n % 4}",
        missing_since=START if n % 11 == 0 else None,
        digests=computed(sha256=f"{n * 104729:016x}" * 4, autov3=f"{n:064x}"[::-1]),
        sources=(Provenance(f"hf://o{n % 7}/r@1", f"o{n % 7}/r"),),
        trigger_words=(Trigger(f"trigger{n % 1000}", "header"),),
        statements=(Statement("author", f"author {n % 3}", "card"),),
        tags=("Common", f"tag{n % 100}") if n % 10 else ("rare",),
    )


class Shelf:
    """The same models as rows of a database and as a list in memory."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.catalog = Catalog(engine, Path("/shelf"))
        self.models = [model(n) for n in range(COUNT)]
        self.catalog.add_many([Entry(m, {}) for m in self.models])
        verdicts = {"1:l0": "fits", "1:l1": "no", "1:l2": "partly", "1:l3": "fits"}
        facts = {"checkpoint": "1:c0", "reason": "", "matched": 0, "total": 0, "problems": []}
        with engine.begin() as connection:
            insert_new(connection, FIT, [facts | {"adapter": a, "verdict": v} for a, v in verdicts.items()])
        if engine.dialect.name == "postgresql":
            with engine.begin() as connection:
                connection.exec_driver_sql("ANALYZE")

    @cached_property
    def texts(self) -> dict[str, str]:
        return {m.id: search_text(m) for m in self.models}

    def expected(self, query: Query) -> list[str]:
        """By looking at every model."""
        passing = [m for m in self.models if self._passes(m, query)]
        field = {"name": lambda m: folded(m.name), "created": lambda m: m.created_at, "size": lambda m: m.size}
        key = field[query.sort.removeprefix("-")]
        return [m.id for m in sorted(passing, key=lambda m: (key(m), m.id), reverse=query.sort.startswith("-"))]

    def _passes(self, model: Model, query: Query) -> bool:
        tests = (
            query.kind in (None, model.kind),
            query.family in (None, model.family),
            query.tag is None or folded(query.tag) in map(folded, model.tags),
            query.text is None or all(word in self.texts[model.id] for word in folded(query.text).split()),
            query.digest is None or any(d.value.startswith(query.digest) for d in model.digests),
            query.missing in (None, model.missing_since is not None),
            not (query.adapters or query.fits) or model.kind != "checkpoint",
            query.fits is None or (query.fits == "1:c0" and model.structure in ("1:l0", "1:l3")),
        )
        return all(tests)


@pytest.fixture(scope="module", params=KINDS)
def shelf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('shelf') / 'registry.db'}"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.new_database(migrated=True)
    with engine_of(url) as engine:
        migrate(engine)
        yield Shelf(engine)


QUERIES = (
    Query(),
    Query(kind="lora"),
    Query(kind="lcm_lora"),
    Query(family="sdxl"),
    Query(kind="checkpoint", family="sdxl"),
    Query(tag="COMMON"),
    Query(tag="tag7"),
    Query(tag="common", family="sd-1"),
    Query(text="author"),
    Query(text="NOISE"),
    Query(text="noise 0"),
    Query(text="oise trigger99"),
    Query(text="trigger99 author", kind="lora"),
    Query(text="straße"),
    Query(text="film"),
    Query(text="水墨"),
    Query(text="水墨画"),
    Query(text="é"),
    Query(text="100%_"),
    Query(text='uo"t'),
    Query(text="k\\s"),
    Query(text="%"),
    Query(text="r%l"),
    Query(text="nothing of this name"),
    Query(text="o3/r", tag="common"),
    Query(digest="000000"),
    Query(digest=f"{104729 * 42:016x}" * 4),
    Query(digest=f"{7:064x}"[::-1], kind="lora"),
    Query(digest="abcdef0123"),
    Query(missing=True),
    Query(missing=False, family="flux-1"),
    Query(adapters=True, family="sd-1"),
    Query(fits="1:c0", family="sd-1", missing=False),
    Query(fits="1:c0", family="sd-1", text="noise"),
    Query(fits="1:unknown"),
)
ORDERS = ("name", "-name", "created", "-created", "size", "-size")


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_a_list_has_what_looking_at_every_model_would_find(shelf: Shelf, query: Query) -> None:
    assert [m.id for m in shelf.catalog.every(replace(query, limit=MAX_LIMIT))] == shelf.expected(query)


@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize(
    "query", [Query(limit=33), Query(family="sdxl", limit=100), Query(tag="tag7", limit=7)], ids=str
)
def test_pages_follow_each_other_without_gap_or_repetition_in_every_order(
    shelf: Shelf, query: Query, sort: str
) -> None:
    query = replace(query, sort=sort)
    wanted = 20 * query.limit
    assert [m.id for m in islice(shelf.catalog.every(query), wanted)] == shelf.expected(query)[:wanted]


def test_the_last_page_says_so(shelf: Shelf) -> None:
    everything = shelf.expected(Query(tag="tag7"))
    assert shelf.catalog.page(Query(tag="tag7", limit=len(everything))).cursor is None
    assert shelf.catalog.page(Query(tag="tag7", limit=len(everything) - 1)).cursor is not None


# -- indices


def plans(shelf: Shelf, query: Query) -> list[str]:
    """How the database goes about each statement of one page."""
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(shelf.engine, "before_cursor_execute", note)
    try:
        shelf.catalog.page(query)
    finally:
        event.remove(shelf.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if shelf.engine.dialect.name == "sqlite" else "EXPLAIN "
    found = []
    with shelf.engine.connect() as connection:
        if shelf.engine.dialect.name == "postgresql":
            # A few thousand rows are sooner read than looked up; what is asked here is whether they could be.
            connection.exec_driver_sql("SET enable_seqscan = off")
            connection.exec_driver_sql("SET enable_sort = off")
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(explain + statement, parameters).all()
            found.append("\n".join(str(row[-1]) for row in rows))
    return found


IN_ORDER = [
    replace(query, sort=sort)
    for sort in ORDERS
    for query in (
        Query(),
        Query(kind="lora"),
        Query(family="sdxl"),
        Query(kind="lora", family="sdxl"),
        Query(tag="common", family="sd-1"),
        Query(text="author", kind="lora"),
        Query(text="é"),
        Query(fits="1:c0", family="sd-1", missing=False),
    )
]


@pytest.mark.parametrize("query", IN_ORDER, ids=str)
def test_a_page_that_many_pass_is_read_off_an_index_and_never_sorted(shelf: Shelf, query: Query) -> None:
    first = shelf.catalog.page(replace(query, limit=10))
    for page in (replace(query, limit=10), replace(query, limit=10, cursor=first.cursor)):
        unsorted(plans(shelf, page)[-1])  # those before ask how many pass a filter


def unsorted(plan: str) -> None:
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan
    assert "SCAN model\n" not in f"{plan}\n"
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(digest="0000000000"), "ix_digest_value"),
        (Query(tag="tag7"), "ix_tag_name"),
        (Query(text="trigger99"), "model_text_"),
        (Query(text="水墨画 ab"), "model_text_"),
    ],
    ids=str,
)
def test_what_few_pass_is_found_by_an_index_of_its_own(shelf: Shelf, query: Query, index: str) -> None:
    candidates, *rest = plans(shelf, query)
    assert index in candidates
    assert "SCAN digest" not in candidates
    assert "SCAN tag" not in candidates
    assert "SCAN model_text\n" not in f"{candidates}\n"
    assert "Seq Scan" not in candidates
    assert all("SCAN model\n" not in f"{plan}\n" and "Seq Scan on model" not in plan for plan in rest)


@pytest.mark.parametrize("text", ["水墨", "画", "zz", "trigger99", 'quo"te'])
def test_words_of_any_length_have_an_index_on_postgresql(shelf: Shelf, text: str) -> None:
    if shelf.engine.dialect.name == "postgresql":
        found = plans(shelf, Query(text=text))
        assert (
            any("Index Scan on model_text_grams" in plan for plan in found) or len(found) == 2
        )  # many have it: it is skipped through


@pytest.mark.parametrize("limit", [50, 500])
def test_a_page_is_one_query_with_all_that_belongs_to_its_models(shelf: Shelf, limit: int) -> None:
    [plan] = plans(shelf, Query(limit=limit))
    assert "SCAN" not in plan.replace("SCAN model USING INDEX", "")
    assert "Seq Scan" not in plan


# -- bad input


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (Query(sort="weight"), "sort"),
        (Query(sort="--name"), "sort"),
        (Query(limit=0), "limit"),
        (Query(limit=MAX_LIMIT + 1), "limit"),
        (Query(text="x" * 201), "q"),
        (Query(text="a\0b"), "q"),
        (Query(tag="\ud800"), "tag"),
        (Query(family="a\0"), "family"),
        (Query(digest="12345"), "digest"),
        (Query(digest="nothexatall"), "digest"),
        (Query(digest="%%%%%%"), "digest"),
        (Query(cursor="!"), "cursor"),
        (Query(cursor=base64.urlsafe_b64encode(b"[" * 3000).decode()), "cursor"),
        (Query(cursor="A" * 100_000), "cursor"),
        (Query(cursor="bm90IGpzb24"), "cursor"),
        (Query(cursor="é"), "cursor"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(shelf: Shelf, query: Query, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        shelf.catalog.page(query)
    assert refused.value.detail == {"field": field}


@pytest.mark.parametrize("text", ["sha256:{}", "0x{}", "{}  ", "SHA256:{}"])
def test_a_digest_may_be_written_as_people_paste_it(shelf: Shelf, text: str) -> None:
    whole = f"{104729 * 42:016x}" * 4
    for digest in (text.format(whole), text.format(whole.upper())):
        assert [m.id for m in shelf.catalog.every(Query(digest=digest))] == [model(42).id]


def test_a_forged_number_in_a_cursor_is_refused(shelf: Shelf) -> None:
    query = Query(sort="size", limit=1)
    mark, _, model_id = json.loads(base64.urlsafe_b64decode(str(shelf.catalog.page(query).cursor) + "=="))
    forged = base64.urlsafe_b64encode(json.dumps([mark, 10**30, model_id]).encode()).decode()
    with pytest.raises(InvalidRequest, match="cursor"):
        shelf.catalog.page(replace(query, cursor=forged))


@pytest.mark.parametrize(
    "other",
    [Query(family="sdxl"), Query(sort="-name"), Query(sort="size"), Query(text="noise"), Query(missing=True)],
    ids=str,
)
def test_a_cursor_of_another_list_is_refused(shelf: Shelf, other: Query) -> None:
    cursor = shelf.catalog.page(Query(limit=5)).cursor
    with pytest.raises(InvalidRequest, match="cursor"):
        shelf.catalog.page(replace(other, cursor=cursor))


def test_a_page_may_be_longer_than_the_one_before(shelf: Shelf) -> None:
    cursor = shelf.catalog.page(Query(limit=5)).cursor
    assert [m.id for m in shelf.catalog.page(Query(limit=50, cursor=cursor)).models] == shelf.expected(Query())[5:55]


FORGED: tuple[Callable[[list[Any]], Any], ...] = (
    lambda place: place[:2],
    lambda place: [place[0], 5, place[2]],
    lambda place: [place[0], None, place[2]],
    lambda place: [place[0], "a\0", place[2]],
    lambda place: {"a": 1},
    lambda place: 7,
)


@pytest.mark.parametrize("forge", FORGED)
def test_a_forged_cursor_is_refused(shelf: Shelf, forge: Callable[[list[Any]], Any]) -> None:
    cursor = shelf.catalog.page(Query(limit=5)).cursor or ""
    place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps(forge(place)).encode()).decode()
    with pytest.raises(InvalidRequest, match="cursor"):
        shelf.catalog.page(Query(limit=5, cursor=forged))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=12))
def test_any_text_can_be_searched_for_or_is_refused(shelf: Shelf, text: str) -> None:
    query = Query(text=text, limit=MAX_LIMIT)
    try:
        found = shelf.catalog.page(query).models
    except InvalidRequest:
        assert "\0" in text or any("\ud800" <= c <= "\udfff" for c in text)
        return
    assert [m.id for m in found] == shelf.expected(query)[:MAX_LIMIT]


def ids(models: Sequence[Model]) -> list[str]:
    return [m.id for m in models]


def test_a_model_that_comes_or_goes_between_two_pages_moves_no_other(engine: Engine, tmp_path: Path) -> None:
    catalog = Catalog(engine, tmp_path)
    catalog.add_many([Entry(structs.replace(model(n), name=f"m{n:02}"), {}) for n in range(10)])
    first = catalog.page(Query(limit=4))
    catalog.remove(catalog.get("m01"))
    catalog.add(structs.replace(model(99), name="m00b"), {})
    rest = catalog.page(Query(limit=20, cursor=first.cursor)).models
    assert [m.name for m in rest] == [f"m{n:02}" for n in range(4, 10)]
