"""The database's tables. They stay inside `registry`: the API answers with its own schemas."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import JSON, BigInteger, Column, DateTime
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python, whatever the database keeps (SQLite drops the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """48 random bits as 12 hex digits: short enough to type, and the primary key refuses the improbable collision."""
    return uuid4().hex[:12]


class State(StrEnum):
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


class Model(SQLModel, table=True):
    """One checkpoint, LoRA or LCM-LoRA on disk."""

    __tablename__ = "model"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=12)
    name: str = Field(unique=True)
    kind: str = Field(index=True)
    family: str = Field(index=True)
    variant: str | None = None
    prediction_type: str | None = None
    format: str
    path: str = Field(unique=True)  # relative to the root when inside it
    size: int = Field(sa_column=Column(BigInteger, nullable=False))  # bytes
    blake3: str = Field(index=True)  # of the file; of a folder: of its sorted (path, blake3) list
    sha256: str | None = Field(default=None, index=True)  # whole file; None for a folder
    autov3: str | None = Field(default=None, index=True)  # SHA-256 of the tensor bytes behind the safetensors header
    files: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    source: str = Field(index=True)  # canonical, with the commit
    repo_id: str | None = Field(default=None, index=True)
    revision: str | None = None
    base_model: str | None = None  # what the model card says it was made from
    triggers: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    recipe: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    overrides: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    report: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))


class Install(SQLModel, table=True):
    """One request to install, from the moment it is asked for."""

    __tablename__ = "install"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=12)
    state: str = Field(default=State.QUEUED.value, index=True)
    source: str
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
    revision: str | None = None  # commit
    etag: str | None = None  # as it was served
    updated_at: datetime = Field(default_factory=now, sa_column=Column(UtcDateTime, nullable=False))
