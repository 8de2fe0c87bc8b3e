"""What the registry answers about a model: plain values, free of the database.

The smallest are named tuples: a page of models has a thousand of them, and a frozen dataclass takes five times as long to make."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from msgspec import Struct, field

RECIPE = ("weight", "steps", "cfg", "scheduler")
"""The statements that are recommended values; all others are facts (title, author, license, base_model, preview, ...)."""


BESIDE = "file beside it"
BEFORE = "before it was written to"
"""Who claims the digest that a model's bytes had, until that of today's is known: no claim to show, but what its sources depend on."""
PICTURE = "picture"
"""The fact that names the model's own picture, by its digest (registry/previews.py); `preview` says where it is shown."""


def new_id() -> str:
    """48 random bits as 12 hex digits: short enough to type, and the primary key refuses the improbable collision."""
    return uuid4().hex[:12]


def folded(text: str) -> str:
    """For comparing and searching: compatibility forms (full-width letters, ligatures) and case make no difference."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


class Digest(NamedTuple):
    """`value` in lower-case hex. `by` is "" for one computed from the bytes, else who claims it."""

    algorithm: str
    value: str
    by: str = ""


class Provenance(NamedTuple):
    """Where a model can be had from: `url` is canonical, with the commit; the rest is for a repository's file.

    `revision`: the commit; `ref`: the branch or tag that was asked for (None: the default branch); `etag`: the file's, on the Hub its
    LFS SHA-256.
    """

    url: str
    repo_id: str | None = None
    revision: str | None = None
    ref: str | None = None
    path: str | None = None
    etag: str | None = None


class Trigger(NamedTuple):
    word: str
    by: str


class Statement(NamedTuple):
    """What somebody other than the user says of a model; `by`: where it stands, `quote`: the passage it was read from."""

    name: str
    value: Any
    by: str
    quote: str = ""
    minimum: float | None = None
    maximum: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "by": self.by, "quote": self.quote, "min": self.minimum, "max": self.maximum}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model. `path` is inside a folder, "" for a model that is one file."""

    path: str
    size: int
    sha256: str | None = None
    blake3: str | None = None


class Model(Struct, frozen=True, kw_only=True):
    """One checkpoint, LoRA or LCM-LoRA. `size` in bytes; `path` relative to the root when inside it."""

    name: str
    kind: str
    family: str
    format: str
    path: str
    size: int
    id: str = field(default_factory=new_id)
    variant: str | None = None
    prediction_type: str | None = None
    managed: bool = True
    structure: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    hashed_at: datetime | None = None
    missing_since: datetime | None = None
    damaged_at: datetime | None = None
    digests: tuple[Digest, ...] = ()
    sources: tuple[Provenance, ...] = ()
    trigger_words: tuple[Trigger, ...] = ()
    statements: tuple[Statement, ...] = ()
    """Of one name, the one that counts comes first."""
    tags: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blake3(self) -> str | None:
        """Of the file; of a folder: of its sorted `path NUL blake3 LF` lines. None: not hashed yet."""
        return self.digest("blake3")

    @property
    def sha256(self) -> str | None:
        """Of the whole file; None for a folder."""
        return self.digest("sha256")

    @property
    def autov3(self) -> str | None:
        """SHA-256 of the tensor bytes behind the safetensors header."""
        return self.digest("autov3")

    @property
    def claims(self) -> tuple[Digest, ...]:
        return tuple(d for d in self.digests if d.by)

    def contradicts(self, claim: Digest) -> bool:
        """Whether the bytes were found to have another digest than somebody claims, as far as the claim tells it."""
        actual = self.digest(claim.algorithm)
        return bool(claim.by) and actual is not None and not actual.startswith(claim.value)

    @property
    def source(self) -> str:
        return self.sources[0].url if self.sources else self.path

    @property
    def repo_id(self) -> str | None:
        return self.sources[0].repo_id if self.sources else None

    @property
    def revision(self) -> str | None:
        return self.sources[0].revision if self.sources else None

    @property
    def triggers(self) -> list[str]:
        """The user's own, else the provider's."""
        own: list[str] | None = self.overrides.get("triggers")
        return [trigger.word for trigger in self.trigger_words] if own is None else own

    @property
    def recipe(self) -> dict[str, dict[str, Any]]:
        """Recommended values, by name."""
        return {s.name: s.as_dict() for s in reversed(self.statements) if s.name in RECIPE}

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """What else is said of it, by name."""
        return {s.name: s.as_dict() for s in reversed(self.statements) if s.name not in RECIPE}

    def stated(self, name: str) -> Statement | None:
        """The one of this name that counts."""
        for statement in self.statements:
            if statement.name == name:
                return statement
        return None

    @property
    def preview(self) -> str | None:
        """What tells its picture from others: the user's choice, else what came with it. None: it has none."""
        kept = [s.value for s in self.statements if s.name == PICTURE]
        beside = [s.value for s in self.statements if s.name == "preview" and s.by == BESIDE]
        marks = (self.overrides.get("preview"), *kept, *beside)
        return str(mark) if (mark := next(filter(None, marks), None)) else None

    @property
    def base_model(self) -> str | None:
        """What it was made from, as its provider says."""
        stated = self.stated("base_model")
        return str(stated.value) if stated else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, the fields in the order in which people read them."""
        names = (
            *("id", "name", "kind", "family", "variant", "prediction_type", "format", "size"),
            *("blake3", "sha256", "autov3", "source", "repo_id", "revision", "base_model"),
            *("triggers", "recipe", "facts", "overrides", "path", "managed"),
        )
        times = {name: getattr(self, name) for name in ("created_at", "hashed_at", "missing_since", "damaged_at")}
        return (
            {name: getattr(self, name) for name in names}
            | {"tags": list(self.tags)}
            | {name: value and value.isoformat() for name, value in times.items()}
            | {"digests": [d._asdict() for d in self.digests], "sources": [s._asdict() for s in self.sources]}
        )

    def digest(self, algorithm: str) -> str | None:
        """The computed one."""
        for digest in self.digests:
            if digest.algorithm == algorithm and not digest.by:
                return digest.value
        return None


def computed(**values: str | None) -> tuple[Digest, ...]:
    """Digests of the bytes, by algorithm; None and "" are left out."""
    return tuple(Digest(algorithm, value) for algorithm, value in values.items() if value)


def search_text(model: Model) -> str:
    """All that a text search looks through: name, repositories, triggers, tags, title and author; one a line."""
    said = (str(s.value) for s in model.statements if s.name in ("title", "author"))
    parts: Iterable[str] = (
        model.name,
        *(s.repo_id or "" for s in model.sources),
        *model.triggers,
        *model.tags,
        *said,
    )
    return "\n".join(dict.fromkeys(folded(part) for part in parts if part))
