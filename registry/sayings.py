"""A user says what a model on the shelf is: its file is looked at again with that word, and its record follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from msgspec import structs
from sqlalchemy import Connection

from probes import Hints, Report, UnreadableModel, probe, read_target
from registry.accelerations import ACCELERATION, decided
from registry.catalog import Catalog
from registry.errors import FileMissing, UnusableFile
from registry.fits import structure_of
from registry.installs.examine import accept
from registry.models import Model
from registry.revisions import reclassify
from registry.scans.beside import sidecars_and_card
from registry.words import heard, words_of


class Judged(NamedTuple):
    """A model as it is with what was said of it, and the probe's answer."""

    model: Model
    report: Report

    def write(self, connection: Connection) -> None:
        """Within a transaction of Catalog.writing."""
        reclassify(connection, self.model, self.report.as_dict())


def judge(catalog: Catalog, model: Model, words: Mapping[str, str | None]) -> Judged | None:
    """`words`: None takes one back. Returns None where nothing new is said.

    Raises NotAsSaid (the shapes exclude it), NotIdentified (without the word it is open), UnusableFile, FileMissing.
    """
    before = words_of(model.overrides)
    said = words_of({**before, **words})
    if said == before:
        return None
    path = catalog.path(model)
    if not path.exists():
        raise FileMissing(
            f"The file of {model.name} is gone, so that nothing can be read in it. Put it back, or install it again.",
            model=model.id,
        )
    # What was read in the card when it was installed is not kept: what it said of the kind stays as long as the user does not speak of it.
    is_settled = model.managed and "kind" not in words
    hints = _hints(catalog, model)
    try:
        header, _ = read_target(path)
        report = probe(header, heard(hints, said))
        if is_settled and report.kind != model.kind:
            report = probe(header, heard(hints, {"kind": model.kind, **said}))
        accept(report)
    except UnreadableModel as error:
        raise UnusableFile(f"{path} cannot be read: {error}", probe=error.code) from error
    kept = [statement for statement in model.statements if is_settled or statement.name != ACCELERATION]
    changed = structs.replace(
        model,
        kind=str(report.kind),
        family=str(report.family),
        variant=report.variant,
        prediction_type=report.prediction_type,
        structure=structure_of(path, str(report.kind), str(report.family)),
        statements=(*kept, *(() if is_settled else decided(report))),
        tags=report.tags,
    )
    return Judged(changed, report)


def _hints(catalog: Catalog, model: Model) -> Hints:
    """What is known beside the bytes: what lies there; of modelshelf's own files what their source was called and their card's base."""
    path = catalog.path(model)
    if not model.managed:
        return sidecars_and_card(path, {}).hints
    base = model.stated("base_model")
    return Hints(
        repo_id=model.repo_id,
        filename=None if path.is_dir() else PurePosixPath(model.source).name,
        card=None if base is None else {"base_model": base.value},
    )
