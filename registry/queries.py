"""Lists of models: filtered, sorted, a page at a time, each a range of an index however many models there are.

Two ways lead to a page. A filter that few models pass (a digest, a rare word or tag) names them, and they are sorted. Any other page is
read off the index of its order, and models that do not pass are skipped; as many pass, few are. Which way is taken is decided by
asking each filter for SELECTIVE + 1 models, not by the database's statistics, which SQLite does not keep by itself.

Text is searched by substring, on every database alike: `text LIKE` decides, over text that was case-folded by us and not by the
database. What finds the candidates is an index of all three characters in a row: FTS5's trigram tokenizer on SQLite
(alembic/versions/0002), a GIN index over an array on PostgreSQL, which holds single characters and pairs as well (0012). On SQLite words
that short are looked for on the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from hashlib import blake2b
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Text,
    any_,
    bindparam,
    cast,
    column,
    exists,
    func,
    select,
    table,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from probes import Kind
from registry.cursors import pack, unpacked
from registry.errors import InvalidRequest
from registry.models import BEFORE, folded
from registry.rows import DIGEST, FIT, MODEL, TAG, TEXT
from registry.verdicts import Verdict

SELECTIVE = 2000  # models; sorting as many takes 2 ms, and a filter that lets more of 100,000 pass fills a page of 100 within 5,000 rows
SAMPLE_PERCENT = 2  # of the texts, whole pages of the disk by chance: 2,000 of 100,000, which take a millisecond
MAX_LIMIT = 1000
MAX_TEXT = 200  # characters of a search
MIN_DIGEST = 6  # hex digits: of 100,000 models, six begin with the same ones in one case of 170
GRAM = 3  # characters in a row that the text indexes know

SORTS: dict[str, Column[Any]] = {"name": MODEL.c.name_key, "created": MODEL.c.created_at, "size": MODEL.c.size}
"""What a list can be sorted by; with a `-` in front, from the greatest down."""

_TEXTS = {"kind": "kind", "family": "family", "tag": "tag", "text": "q", "digest": "digest"}
"""A query's fields that are text, and what a request calls them."""

_FTS = table("model_text_fts", column("rowid"), column("model_text_fts"))


@dataclass(frozen=True, slots=True)
class Query:
    """Which models, in which order; None: any.

    `text`: words, each of which must stand somewhere in a model's name, repositories, triggers, tags, title or author. `digest`: of any
    kind, computed or claimed, whole or its beginning. `adapters`: whatever is no checkpoint. `fits`: the `structure` of a checkpoint that
    adapters must fit; `takes`: that of an adapter that checkpoints must take. `cursor`: as the page before gave it.
    """

    kind: str | None = None
    family: str | None = None
    tag: str | None = None
    text: str | None = None
    digest: str | None = None
    missing: bool | None = None
    adapters: bool = False
    fits: str | None = None
    takes: str | None = None
    sort: str = "name"
    limit: int = 100
    cursor: str | None = None

    def checked(self) -> Query:
        """With text and digest normalised. Raises InvalidRequest."""
        if self.sort.removeprefix("-") not in SORTS:
            raise InvalidRequest(
                f"sort is {self.sort}; it can be {', '.join(SORTS)}, with - from the end.", field="sort"
            )
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidRequest(f"limit is {self.limit}; it must be between 1 and {MAX_LIMIT}.", field="limit")
        for name, called in _TEXTS.items():
            value = getattr(self, name) or ""
            if len(value) > MAX_TEXT or not storable(value):
                what = (
                    f"longer than {MAX_TEXT} characters" if len(value) > MAX_TEXT else "no text that a database holds"
                )
                raise InvalidRequest(f"{called} is {what}.", field=called)
        return replace(
            self,
            tag=folded(self.tag) if self.tag else None,
            text=" ".join(sorted(set(folded(self.text).split()))) or None if self.text else None,
            digest=_checked_digest(self.digest) if self.digest else None,
        )


EVERYTHING = Query()


class Rows(NamedTuple):
    """Rows of `model` in order; `cursor` of the next page, None after the last."""

    rows: Sequence[Row[Any]]
    cursor: str | None


def storable(text: str) -> bool:
    """PostgreSQL takes neither NUL nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def find(connection: Connection, query: Query) -> Rows:
    """One page. Raises InvalidRequest."""
    query = query.checked()
    values = {name: value for name in _VALUES if (value := getattr(query, name)) is not None}
    if query.cursor:
        values |= zip(_AFTER, _after(query), strict=True)
    statement = _passing(connection, query, _listed(frozenset(values), query.missing, query.adapters, query.sort))
    if statement is None:
        return Rows((), None)
    rows = connection.execute(statement, values | {"length": query.limit + 1}).all()
    if len(rows) <= query.limit:
        return Rows(rows, None)
    last = rows[query.limit - 1]
    order, _ = _order(query.sort)
    return Rows(rows[: query.limit], _cursor(query, [last._mapping[order.name], last._mapping["id"]]))


def _passing(connection: Connection, query: Query, listed: Select[Any]) -> Select[Any] | None:
    """`listed`, of those that pass the filters by other tables; None: nothing can pass."""
    chosen: set[str] | None = None
    for found, test in _set_filters(connection, query):
        few: Sequence[str] | None = None
        if found is not None:  # one may come twice: by two of its digests
            few = connection.execute(found.limit(SELECTIVE + 1)).scalars().all()
        if few is not None and len(few) <= SELECTIVE:
            chosen = set(few) if chosen is None else chosen.intersection(few)
        else:
            of_this = test.selected_columns[0] == MODEL.c.id
            listed = listed.where(exists(test.where(of_this).correlate(MODEL)))
    if chosen is None:
        return listed
    return listed.where(_among(connection, sorted(chosen))) if chosen else None


def _among(connection: Connection, ids: Sequence[str]) -> ColumnElement[bool]:
    if connection.dialect.name == "sqlite":
        return MODEL.c.id.in_(ids)
    return MODEL.c.id == any_(bindparam("ids", ids, type_=ARRAY(String)))  # one parameter: psycopg takes 10 µs for each


_VALUES = ("kind", "family", "fits", "takes")
_AFTER = ("after", "after_id")


@cache
def _listed(given: frozenset[str], missing: bool | None, adapters: bool, sort: str) -> Select[Any]:
    """Reads a page of one row more than asked for, by conditions on a model's own row and on the verdict that belongs to its structure.
    Made once for each set of parameters that are `given`: it takes longer than to run it.
    """
    found: list[ColumnElement[bool]] = [
        c == bindparam(c.name) for c in (MODEL.c.kind, MODEL.c.family) if c.name in given
    ]
    if missing is not None:
        found.append(MODEL.c.missing_since.is_not(None) if missing else MODEL.c.missing_since.is_(None))
    if adapters or "fits" in given:
        # `!=` and not IN: an index of the order cannot be read in order through a list of kinds.
        found.append(MODEL.c.kind != Kind.CHECKPOINT)
    for name, mine, other in (("fits", FIT.c.checkpoint, FIT.c.adapter), ("takes", FIT.c.adapter, FIT.c.checkpoint)):
        if name in given:
            pair = (mine == bindparam(name), other == MODEL.c.structure, FIT.c.verdict == Verdict.FITS)
            found.append(exists(select(other).where(*pair).correlate(MODEL)))
    order, descending = _order(sort)
    # `name_key` is unique; the other orders are settled by the id.
    keys: list[ColumnElement[Any]] = [order] if order is MODEL.c.name_key else [order, MODEL.c.id]
    if "after" in given:
        here = tuple_(*keys)
        there = tuple_(*(bindparam(name, type_=key.type) for name, key in zip(_AFTER, keys, strict=False)))
        found.append(here < there if descending else here > there)
    listed = select(MODEL).where(*found).limit(bindparam("length"))
    return listed.order_by(*(key.desc() if descending else key for key in keys))


def _order(sort: str) -> tuple[Column[Any], bool]:
    """By which column, and whether from its greatest down."""
    return SORTS[sort.removeprefix("-")], sort.startswith("-")


def _set_filters(connection: Connection, query: Query) -> Iterator[tuple[Select[Any] | None, Select[Any]]]:
    """Filters by other tables: the ids that pass, from an index, and the same for testing one model by its id. None: many pass."""
    if query.digest:
        # A range, with `g` behind every hex digit. (BETWEEN would be the same, but SQLAlchemy 2.1 writes it for PostgreSQL with a COLLATE
        # that stands between BETWEEN and its AND, where the grammar has none.)
        beginning = (DIGEST.c.value >= query.digest, DIGEST.c.value < f"{query.digest}g")
        passing = select(DIGEST.c.model_id).where(*beginning, DIGEST.c.by != BEFORE)
        yield passing, passing
    if query.tag:
        passing = select(TAG.c.model_id).where(TAG.c.name == query.tag)
        yield passing, passing
    if query.text:
        words = query.text.split()
        passing = select(TEXT.c.model_id).where(*(TEXT.c.text.contains(word, autoescape=True) for word in words))
        yield None if _are_common(connection, words) else _by_grams(connection, passing, words), passing


def _are_common(connection: Connection, words: Sequence[str]) -> bool:
    """Whether far more than SELECTIVE texts have the words, by a sample. SQLite need not ask: its index gives one match after the other;
    PostgreSQL's gathers all of them before the first (250 ms for 100,000)."""
    if connection.dialect.name == "sqlite":
        return False
    sample = TEXT.tablesample(func.system(SAMPLE_PERCENT))
    matching = (sample.c.text.contains(word, autoescape=True) for word in words)
    found = connection.execute(select(func.count()).select_from(sample).where(*matching)).scalar_one()
    return bool(found > 5 * SELECTIVE * SAMPLE_PERCENT / 100)


def _by_grams(connection: Connection, matching: Select[Any], words: Sequence[str]) -> Select[Any]:
    """`matching`, told where to look: among the texts that have the grams of the words, at whatever places."""
    if connection.dialect.name != "sqlite":
        grams = sorted({gram for word in words for gram in _grams(word)})
        wanted = cast(bindparam("grams", grams, type_=ARRAY(Text)), ARRAY(Text))
        return matching.where(func.modelshelf_grams(TEXT.c.text, type_=ARRAY(Text)).contains(wanted))
    indexed = sorted({gram for word in words if len(word) >= GRAM for gram in _grams(word)})
    if not indexed:
        return matching
    terms = " AND ".join('"' + gram.replace('"', '""') + '"' for gram in indexed)
    # A join and no IN, which would gather every match of a frequent word before the first is looked at.
    found = matching.select_from(_FTS.join(TEXT, TEXT.c.id == _FTS.c.rowid))
    return found.where(_FTS.c.model_text_fts.op("MATCH")(terms))


def _grams(word: str) -> Iterator[str]:
    """As few as cover it: with all of them, or the word as a phrase, the indexes read two to three times as much, and find little less."""
    yield from (word[at : at + GRAM] for at in range(0, len(word) - GRAM, GRAM))
    yield word[-GRAM:]


def _checked_digest(text: str) -> str:
    """Lower-case hex, as people paste it: `sha256:...`, `0x...`, capitals."""
    digest = text.strip().lower().rpartition(":")[2].removeprefix("0x")
    if len(digest) < MIN_DIGEST or not set(digest) <= set("0123456789abcdef"):
        raise InvalidRequest(f"digest is {text!r}; give at least {MIN_DIGEST} hex digits of one.", field="digest")
    return digest


# -- cursors: where a page ended, and a mark of the list that it belongs to


def _cursor(query: Query, last: Sequence[Any]) -> str:
    value, model_id = last
    return pack([_mark(query), value.isoformat() if isinstance(value, datetime) else value, model_id])


def _after(query: Query) -> list[Any]:
    """Value and id of the last row of the page before, from the cursor; raises InvalidRequest."""
    order, _ = _order(query.sort)
    with unpacked(query.cursor or "") as place:
        mark, value, model_id = place
        if order is MODEL.c.created_at:
            value = datetime.fromisoformat(value)
        wanted = {"size": int, "created_at": datetime}.get(order.name, str)
        if mark != _mark(query) or not isinstance(value, wanted) or not isinstance(model_id, str):
            raise ValueError("of another list")
        if isinstance(value, int) and value.bit_length() > 63:
            raise ValueError("no number that a database holds")
        if isinstance(value, str) and not storable(value + model_id):
            raise ValueError("no text")
    return [value, model_id]


_MARKED = sorted(set(Query.__slots__) - {"cursor", "limit"})


def _mark(query: Query) -> str:
    """Of everything but the page's place and length."""
    facts = json.dumps({name: getattr(query, name) for name in _MARKED})
    return blake2b(facts.encode(), digest_size=6).hexdigest()
