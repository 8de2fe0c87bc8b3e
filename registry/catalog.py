"""Every query and write of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, String, cast
from sqlmodel import Session, col, func, or_, select

from registry.db import unit_of_work
from registry.errors import InvalidRequest, ModelNotFound
from registry.tables import Model


class Catalog:
    """The models of one database. `root` is where relative paths of models start."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self._engine = engine
        self.root = root

    def list(
        self,
        *,
        kind: str | None = None,
        family: str | None = None,
        text: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Model]:
        """By name; `text` is looked for in name, repository id and triggers, case-insensitively."""
        query = select(Model).order_by(func.lower(Model.name), col(Model.id)).limit(limit).offset(offset)
        if kind:
            query = query.where(Model.kind == kind)
        if family:
            query = query.where(Model.family == family)
        if text:
            columns = (col(Model.name), col(Model.repo_id), cast(col(Model.triggers), String))
            query = query.where(or_(*(c.icontains(text, autoescape=True) for c in columns)))
        with Session(self._engine) as session:
            return list(session.exec(query))

    def counts(self) -> dict[tuple[str, str], int]:
        """(family, kind) -> number of models."""
        query = select(Model.family, Model.kind, func.count()).group_by(Model.family, Model.kind)
        with Session(self._engine) as session:
            return {(family, kind): number for family, kind, number in session.exec(query)}

    def get(self, reference: str) -> Model:
        """By id, else by name, else by the beginning of an id (4 digits at least). Raises ModelNotFound, InvalidRequest."""
        criteria = [col(Model.id) == reference, func.lower(Model.name) == reference.lower()]
        if len(reference) >= 4:
            criteria.append(col(Model.id).startswith(reference, autoescape=True))
        with Session(self._engine, expire_on_commit=False) as session:
            matches = next((found for c in criteria if (found := session.exec(select(Model).where(c)).all())), ())
        if len(matches) > 1:
            ids = [m.id for m in matches]
            raise InvalidRequest(f"“{reference}” begins the ids of {len(ids)} models: {', '.join(ids)}.", ids=ids)
        if not matches:
            raise ModelNotFound(
                f"There is no model “{reference}”. `modelshelf list` shows what is installed.", model=reference
            )
        return matches[0]

    def has_name(self, name: str) -> bool:
        """Whether a model has this name, whatever the case."""
        with Session(self._engine) as session:
            return session.exec(select(Model.id).where(func.lower(Model.name) == name.lower())).first() is not None

    def find(self, *, source: str | None = None, sha256: str | None = None, blake3: str | None = None) -> Model | None:
        """The model that came from this pinned source, or else has this digest."""
        criteria = ((Model.source, source), (Model.sha256, sha256), (Model.blake3, blake3))
        with Session(self._engine) as session:
            for column, value in criteria:
                if value and (model := session.exec(select(Model).where(column == value)).first()):
                    return model
        return None

    def add(self, model: Model) -> Model:
        self.add_all([model])
        return model

    def add_all(self, models: Iterable[Model]) -> None:
        """In one transaction: all or none."""
        with unit_of_work(self._engine) as session:
            session.add_all(models)

    def override(self, reference: str, settings: Mapping[str, Any]) -> Model:
        """Change the user's own settings for a model; a value of None takes one back. Raises what `get` raises."""
        model = self.get(reference)
        kept = {k: v for k, v in {**model.overrides, **settings}.items() if v is not None}
        with unit_of_work(self._engine) as session:
            session.get_one(Model, model.id).overrides = kept
        return self.get(model.id)

    def remove(self, model: Model) -> None:
        """Forget a model; its file is not touched."""
        with unit_of_work(self._engine) as session:
            session.delete(model)

    def path(self, model: Model) -> Path:
        """Absolute path of a model's file or folder."""
        return self.root / model.path
