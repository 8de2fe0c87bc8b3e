"""The database's tables. Of models callers get the values of registry/models.py; an install, a scan and a token are a row each, and it is
that which they get."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, ForeignKey, Index, String, Text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from registry.models import new_id


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python, whatever the database keeps (SQLite drops the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        return _utc if dialect.name == "sqlite" else None


def _utc(text: str | None) -> datetime | None:
    """In one call: a page of models has hundreds of them."""
    return datetime.fromisoformat(f"{text}+00:00") if text else None


# Compared by code point on every database: SQLite does so by itself, PostgreSQL sorts by the language of its server, in which neither
# prefix ranges nor the order of pages would be the same.
CODE_POINTS = String().with_variant(String(collation="C"), "postgresql")


def now() -> datetime:
    return datetime.now(UTC)


def _of_model(**options: Any) -> Column[str]:
    """Foreign key of a row that goes with its model."""
    return Column(String(12), ForeignKey("model.id", ondelete="CASCADE"), nullable=False, **options)


def _bytes() -> Column[int]:
    return Column(BigInteger, nullable=False, default=0)


def _time(*, nullable: bool = False) -> Column[datetime]:
    return Column(UtcDateTime, nullable=nullable)


class InstallState(StrEnum):
    """Of an install; `registry/installs/states.py` has the transitions."""

    QUEUED = "queued"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    PROBING = "probing"
    REGISTERING = "registering"
    INSTALLED = "installed"
    PAUSED = "paused"
    FAILED = "failed"
    CANCELLED = "cancelled"


SORTED_BY = ("name_key", "created_at", "size")


class ModelRow(SQLModel, table=True):
    """One checkpoint, LoRA or LCM-LoRA on disk; what is said of it stands in the tables below."""

    __tablename__ = "model"
    # A page is a range of one of these, whatever it is filtered by and sorted by; `id` settles equal values.
    __table_args__ = tuple(
        Index("_".join(("ix_model", *filters, order)), *filters, order, "id")
        for order in SORTED_BY
        for filters in ((), ("kind",), ("family",), ("kind", "family"))
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=12)
    name: str = Field(unique=True)
    name_key: str = Field(
        sa_column=Column(CODE_POINTS, nullable=False, unique=True)
    )  # case-folded, for order and look-up
    kind: str
    family: str
    variant: str | None = None
    prediction_type: str | None = None
    format: str
    path: str = Field(unique=True)  # relative to the root when inside it
    size: int = Field(sa_column=_bytes())
    managed: bool = True  # the file is modelshelf's own; False: registered where it lies, never moved or deleted
    structure: str | None = Field(default=None, index=True)  # digest of tensor names and shapes, see registry/fits.py
    created_at: datetime = Field(default_factory=now, sa_column=_time())
    hashed_at: datetime | None = Field(
        default=None, sa_column=Column(UtcDateTime, index=True)
    )  # bytes gave the digests
    missing_since: datetime | None = Field(default=None, sa_column=_time(nullable=True))
    damaged_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))  # bytes gave other digests
    # What the tables below say of it, as JSON: a page of models is read at once. registry/rows.py writes it, after each of their changes.
    said: str = Field(default="[]", sa_column=Column(Text, nullable=False, server_default="[]"))


class FileRow(SQLModel, table=True):
    """One file of a model, as it was when its digests were taken."""

    __tablename__ = "file"

    model_id: str = Field(sa_column=_of_model(primary_key=True))
    path: str = Field(primary_key=True)  # inside a folder; "" for a model that is one file
    size: int = Field(sa_column=_bytes())
    sha256: str | None = None
    blake3: str | None = None


class PlacedRow(SQLModel, table=True):
    """A file that modelshelf has put on its shelf, there until it is off the disk: what is not here, modelshelf never removes."""

    __tablename__ = "placed"

    path: str = Field(sa_column=Column(CODE_POINTS, primary_key=True))  # relative to the root


class DigestRow(SQLModel, table=True):
    """A digest of a whole model, computed from its bytes or claimed by somebody (a header, a sidecar, a service)."""

    __tablename__ = "digest"

    model_id: str = Field(sa_column=_of_model(primary_key=True))
    algorithm: str = Field(primary_key=True)  # blake3, sha256, autov3, autov1, crc32, ...
    by: str = Field(primary_key=True)  # "" when computed, else who claims it
    value: str = Field(sa_column=Column(CODE_POINTS, nullable=False, index=True))  # lower-case hex


class SourceRow(SQLModel, table=True):
    """Where a model can be had from, or was; the first is where it came from."""

    __tablename__ = "source"
    __table_args__ = (Index("ix_source_model_url", "model_id", "url", unique=True),)

    id: int | None = Field(default=None, primary_key=True)
    model_id: str = Field(sa_column=_of_model())
    url: str = Field(index=True)  # canonical, with the commit
    repo_id: str | None = Field(default=None, index=True)
    revision: str | None = None  # commit
    ref: str | None = None  # branch or tag that was asked for; None: the default branch
    path: str | None = None  # in the repository
    etag: str | None = None  # the Hub's is the LFS sha256
    added_at: datetime = Field(default_factory=now, sa_column=_time())


class TriggerRow(SQLModel, table=True):
    __tablename__ = "trigger"

    model_id: str = Field(sa_column=_of_model(primary_key=True))
    position: int = Field(primary_key=True)
    word: str
    by: str


class StatementRow(SQLModel, table=True):
    """What somebody other than the user says of a model: a recommended value or a fact, with where it stands."""

    __tablename__ = "statement"

    model_id: str = Field(sa_column=_of_model(primary_key=True))
    name: str = Field(primary_key=True)  # weight, steps, cfg, scheduler; title, author, license, base_model, ...
    rank: int = Field(primary_key=True)  # 0: the one that counts
    value: Any = Field(sa_column=Column(JSON, nullable=False))
    by: str
    quote: str = ""
    minimum: float | None = None
    maximum: float | None = None


class OverrideRow(SQLModel, table=True):
    """The user's own setting; no probe and no install touches it."""

    __tablename__ = "override"

    model_id: str = Field(sa_column=_of_model(primary_key=True))
    name: str = Field(primary_key=True)
    value: Any = Field(sa_column=Column(JSON, nullable=False))


class TagRow(SQLModel, table=True):
    __tablename__ = "tag"
    __table_args__ = (Index("ix_tag_name", "name", "model_id"),)

    model_id: str = Field(sa_column=_of_model(primary_key=True))
    name: str = Field(primary_key=True)  # case-folded
    by: str = Field(primary_key=True)  # "" for the probe, or registry/rows.py's USER: each keeps its own


class ReportRow(SQLModel, table=True):
    """The last probe's answer."""

    __tablename__ = "report"

    model_id: str = Field(sa_column=_of_model(primary_key=True))
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    probed_at: datetime = Field(default_factory=now, sa_column=_time())


class TextRow(SQLModel, table=True):
    """What a text search looks through; registry/queries.py tells how it is indexed on each database."""

    __tablename__ = "model_text"

    id: int | None = Field(default=None, primary_key=True)
    model_id: str = Field(sa_column=_of_model(unique=True))
    text: str  # normalised and case-folded


class FitRow(SQLModel, table=True):
    """The verdict on every adapter of one structure with every checkpoint of another: models of equal shapes share it."""

    __tablename__ = "fit"

    checkpoint: str = Field(primary_key=True)  # model.structure
    adapter: str = Field(primary_key=True)
    verdict: str  # fits, partly, no
    reason: str
    matched: int
    total: int


class CatalogState(SQLModel, table=True):
    """One row: `version` counts the changes of what the catalogue answers; `epoch` tells databases apart."""

    __tablename__ = "catalog_state"

    id: int = Field(default=1, primary_key=True)
    epoch: str = Field(default_factory=new_id)
    version: int = Field(sa_column=Column(BigInteger, nullable=False))


class FolderRow(SQLModel, table=True):
    """A folder of the user's that is scanned in place."""

    __tablename__ = "folder"

    path: str = Field(primary_key=True)
    added_at: datetime = Field(default_factory=now, sa_column=_time())
    scanned_at: datetime | None = Field(default=None, sa_column=_time(nullable=True))


class SeenRow(SQLModel, table=True):
    """A file or folder that a scan has looked at, model or not: with the same stamp it is not read again."""

    __tablename__ = "seen"

    path: str = Field(sa_column=Column(CODE_POINTS, primary_key=True))  # absolute
    size: int = Field(sa_column=_bytes())
    mtime_ns: int = Field(sa_column=_bytes())
    inode: int = Field(sa_column=Column(BigInteger, nullable=False, index=True))
    prober: str  # who looked, see registry/prober.py
    model_id: str | None = Field(
        default=None, sa_column=Column(String(12), ForeignKey("model.id", ondelete="CASCADE"), index=True)
    )
    reason: str = ""  # why it is no model here
    code: str = ""  # what kind of reason that is, see registry/scans/skips.py


class ScanRow(SQLModel, table=True):
    """One scan of a folder, from the moment it is asked for."""

    __tablename__ = "scan"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=12)
    folder: str
    state: str = Field(index=True)
    counts: dict[str, int] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    skips: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False)
    )  # reason, count, examples
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))  # code, message, detail
    created_at: datetime = Field(default_factory=now, sa_column=_time())
    updated_at: datetime = Field(default_factory=now, sa_column=_time())


class Install(SQLModel, table=True):
    """One request to install, from the moment it is asked for."""

    __tablename__ = "install"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=12)
    state: str = Field(default=InstallState.QUEUED.value, index=True)
    source: str
    options: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False)
    )  # registry/installs/options.py
    attempt: int = 1  # begun anew by whoever queues it again; a worker of an older one lets go
    bytes_per_second: float | None = None  # of the transfer that runs
    filename: str | None = None  # that arrives
    staging: str | None = None  # name of its folder of partial files
    notes: list[str] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False)
    )  # for people, of what came of it
    bytes_done: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    bytes_total: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))  # code, message, detail
    model_id: str | None = Field(default=None, foreign_key="model.id", ondelete="SET NULL")
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
    updated_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class Transfer(SQLModel, table=True):
    """A partial file: which version it is the beginning of. How much of it has arrived, the file itself tells."""

    __tablename__ = "transfer"

    staging: str = Field(primary_key=True)  # name of the folder that it lies in
    path: str = Field(primary_key=True)  # as its origin lists it
    revision: str | None = None  # what pins its bytes: the announced digest, else the commit
    etag: str | None = None  # as it was served
    updated_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class ApiToken(SQLModel, table=True):
    """Lets somebody use the service from another machine; only the digest is kept."""

    __tablename__ = "api_token"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=12)
    name: str
    digest: str = Field(unique=True)  # SHA-256, hex
    scopes: list[str] = Field(sa_column=Column(JSON, nullable=False))  # registry/tokens.py
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
