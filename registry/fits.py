"""Which adapters fit which checkpoints, worked out once for models of equal shapes and kept, so that a list of them is one query.

A verdict hangs on tensor names and shapes alone (registry/compatibility.py). Their digest is a model's `structure`; a verdict belongs to
two structures. A thousand fine-tunes of one architecture share one structure, so a new LoRA is held against a few dozen checkpoints at
most, and a further fine-tune against nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, and_, not_, or_, select, update

from probes import Header, Kind, TensorSpec, UnreadableModel, read_header
from probes.scan import FLEETING
from registry.catalog import Catalog
from registry.compatibility import Fit, check_fit, checkpoint_tensors, judge
from registry.errors import FileMissing, NotGenerable, UnusableFile
from registry.models import Model
from registry.prober import prober
from registry.rows import FIT, MODEL, insert_new
from registry.verdicts import Verdict
from registry.weights.files import adapter_file

RULES = 1
"""Counted up whenever registry/compatibility.py or the names it rests on judge otherwise than before: all is then worked out anew."""

_UNREADABLE = f"{RULES}:unreadable"  # by whom, follows: another prober looks again
_UNMAPPED = f"{RULES}:unmapped:"  # a checkpoint whose tensor names belong to no known layout; its family follows
_CHECKPOINTS = 32  # tables of tensors held at once, about 1 MB each

Tensors = Mapping[str, TensorSpec]


def structure_of(path: Path, kind: str, family: str) -> str | None:
    """The structure of a model on disk, from its headers; `unreadable()` where they are none. None: its file is not there or cannot be
    opened, which may pass."""
    try:
        tensors = checkpoint_tensors(path) if kind == Kind.CHECKPOINT else read_header(adapter_file(path)).tensors
    except NotGenerable:
        return _UNMAPPED + family
    except (FileMissing, OSError):
        return None
    except (UnreadableModel, UnusableFile) as error:
        code = error.code if isinstance(error, UnreadableModel) else error.detail.get("reason")
        return None if code in FLEETING else unreadable()
    return structure(tensors)


def unreadable() -> str:
    """In place of a structure: this prober could not read the tensors."""
    return f"{_UNREADABLE}:{prober()}"


def is_readable(structure: str | None) -> bool:
    """Whether it is one. False also for None: nobody has looked yet."""
    return structure is not None and not structure.startswith(_UNREADABLE)


def structure(tensors: Tensors) -> str:
    """Digest of names and shapes. Not of dtypes: a LoRA fits a model in half precision as it fits the whole one."""
    digest = blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name}\0{','.join(map(str, tensors[name].shape))}\n".encode())
    return f"{RULES}:{digest.hexdigest()}"


def verdict_of(fit: Fit) -> Verdict:
    return Verdict.FITS if fit.fits else Verdict.PARTLY if fit.matched else Verdict.NO


class Fits:
    """The verdicts of one catalogue."""

    def __init__(self, engine: Engine, catalog: Catalog) -> None:
        self._engine = engine
        self._catalog = catalog

    def catch_up(self) -> None:
        """Work out whatever is not known yet: structures of new models, then verdicts on new structures."""
        self._find_structures()
        tables = _Tables(self)
        for adapter, checkpoints in self._unjudged():
            header = self._read(adapter, lambda path: read_header(adapter_file(path)))
            if header is None:
                continue
            rows = [self._judge(header, adapter, checkpoint, tables) for checkpoint in checkpoints]
            with self._catalog.writing() as connection:
                insert_new(connection, FIT, [row for row in rows if row is not None])

    def verdicts(self, checkpoints: Sequence[Model], adapters: Sequence[Model]) -> list[Fit]:
        """What is known of each of the adapters with each of the checkpoints, those of the first checkpoint first."""
        structures = [{model.structure for model in models if model.structure} for models in (checkpoints, adapters)]
        known = and_(FIT.c.checkpoint.in_(structures[0]), FIT.c.adapter.in_(structures[1]))
        with self._engine.connect() as connection:
            found = connection.execute(select(FIT).where(known)).mappings()
            rows = {(row["checkpoint"], row["adapter"]): dict(row) for row in found}
        return [
            self._verdict(checkpoint, adapter, rows.get((checkpoint.structure or "", adapter.structure or "")))
            for checkpoint in checkpoints
            for adapter in adapters
        ]

    def judge(self, adapter: Header, checkpoints: Iterable[Model]) -> Iterator[Fit]:
        """An adapter that is not on the shelf with each of these checkpoints of its family; those of one structure are compared once."""
        known: dict[str, Fit] = {}
        for checkpoint in checkpoints:
            path = self._catalog.path(checkpoint)
            key = checkpoint.structure or checkpoint.id
            if not path.exists():
                yield Fit.gone(path)
                continue
            if key not in known or not is_readable(key):
                try:
                    known[key] = judge(adapter, checkpoint.family, partial(checkpoint_tensors, path))
                except UnusableFile as error:
                    known[key] = Fit.refused(error.message)
            yield known[key]

    def _verdict(self, checkpoint: Model, adapter: Model, row: Mapping[str, Any] | None) -> Fit:
        if adapter.family != checkpoint.family:
            return Fit.strangers(adapter, checkpoint)
        for model in (adapter, checkpoint):
            if model.missing_since:
                return Fit.gone(self._catalog.path(model))
            if model.structure and not is_readable(model.structure):
                return Fit.refused(f"the tensors of {self._catalog.path(model)} cannot be read")
        if row is None:
            return Fit.refused("not compared yet")
        return Fit(row["verdict"] == Verdict.FITS, row["reason"], row["matched"], row["total"])

    # -- working out
    def _find_structures(self) -> None:
        """Of models that have none, one of other RULES, or one that another prober could not read."""
        others = not_(MODEL.c.structure.startswith(f"{RULES}:"))  # comparing would go by the server's language
        unread = and_(MODEL.c.structure.startswith(_UNREADABLE), MODEL.c.structure != unreadable())
        unknown = and_(or_(MODEL.c.structure.is_(None), others, unread), MODEL.c.missing_since.is_(None))
        columns = (MODEL.c.id, MODEL.c.path, MODEL.c.kind, MODEL.c.family)
        with self._engine.connect() as connection:
            stale = connection.execute(select(*columns).where(unknown)).all()
        for model_id, path, kind, family in stale:
            found = structure_of(self._catalog.root / path, kind, family)
            if found is None:
                continue  # the next time
            with self._catalog.writing() as connection:
                connection.execute(update(MODEL).where(MODEL.c.id == model_id, unknown).values(structure=found))

    def _unjudged(self) -> Iterator[tuple[str, list[str]]]:
        """Structures of adapters with those of checkpoints of their family on which there is no verdict."""
        usable = (MODEL.c.structure.is_not(None), not_(MODEL.c.structure.startswith(_UNREADABLE)))
        by_role = [
            select(MODEL.c.structure, MODEL.c.family).where(*usable, role).distinct().subquery()
            for role in (MODEL.c.kind != Kind.CHECKPOINT, MODEL.c.kind == Kind.CHECKPOINT)
        ]
        adapter, checkpoint = by_role
        pairs = (
            select(adapter.c.structure, checkpoint.c.structure)
            .join(checkpoint, adapter.c.family == checkpoint.c.family)
            .outerjoin(FIT, and_(FIT.c.adapter == adapter.c.structure, FIT.c.checkpoint == checkpoint.c.structure))
            .where(FIT.c.adapter.is_(None))
        )
        wanted: dict[str, list[str]] = {}
        with self._engine.connect() as connection:
            for one, other in connection.execute(pairs):
                wanted.setdefault(one, []).append(other)
        yield from wanted.items()

    def _judge(self, header: Header, adapter: str, checkpoint: str, tables: _Tables) -> dict[str, Any] | None:
        if checkpoint.startswith(_UNMAPPED):
            fit = Fit.by_family(checkpoint.removeprefix(_UNMAPPED))
        elif (tensors := tables[checkpoint]) is not None:
            fit = check_fit(header, tensors)
        else:
            return None
        facts = {"verdict": verdict_of(fit), "reason": fit.reason, "matched": fit.matched, "total": fit.total}
        return {"adapter": adapter, "checkpoint": checkpoint, **facts}

    def _read(self, wanted: str, reader: Any) -> Any:
        """From the first model of the structure that can still be read; None: there is none."""
        present = select(MODEL.c.path).where(MODEL.c.structure == wanted, MODEL.c.missing_since.is_(None))
        with self._engine.connect() as connection:
            paths: Iterable[str] = connection.execute(present).scalars().all()
        for path in paths:
            with suppress(UnreadableModel, UnusableFile, FileMissing, NotGenerable, OSError):
                return reader(self._catalog.root / path)
        return None


class _Tables:
    """Tensors of checkpoints by structure; the most recently used stay."""

    def __init__(self, fits: Fits) -> None:
        self._fits = fits
        self._held: OrderedDict[str, Tensors | None] = OrderedDict()

    def __getitem__(self, wanted: str) -> Tensors | None:
        if wanted not in self._held:
            self._held[wanted] = self._fits._read(wanted, checkpoint_tensors)
        self._held.move_to_end(wanted)
        while len(self._held) > _CHECKPOINTS:
            self._held.popitem(last=False)
        return self._held[wanted]
