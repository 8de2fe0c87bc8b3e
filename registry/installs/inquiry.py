"""What would an install of this source bring, and which checkpoints would it fit? Answered from headers; nothing is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from probes import Kind, UnreadableModel
from registry.catalog import Catalog
from registry.compatibility import Fit
from registry.errors import ModelshelfError, UnusableFile
from registry.fits import Fits
from registry.installs.examine import Candidate, accept, connection, examine, header_at
from registry.installs.known import known, words_before
from registry.installs.options import AS_USUAL, Options
from registry.installs.origins import open_origin
from registry.models import Model
from registry.queries import Query
from registry.settings import Settings
from registry.sources import parse_source

MOST_CHECKPOINTS = 200  # of the family; each structure costs the reading of a header


@dataclass(frozen=True, slots=True)
class Inquiry:
    """`refusal`: why it would not be installed, None if it would. `installed`: the model that is there already.

    `fits`: of an adapter, the verdict on every checkpoint of its family, those that it fits first.
    """

    candidate: Candidate
    refusal: ModelshelfError | None = None
    installed: Model | None = None
    fits: tuple[tuple[Model, Fit], ...] = ()


def inquire(text: str, settings: Settings, catalog: Catalog, fits: Fits, wanted: Options = AS_USUAL) -> Inquiry:
    """Raises InvalidSource, the origin's and the selection's errors, and UnusableFile."""
    try:
        source = parse_source(text, endpoint=settings.hub_endpoint, confined=wanted.confined)
        wanted.check(source)
        with open_origin(source, **connection(settings, confined=wanted.confined)) as origin:
            candidate = examine(origin, wanted, lambda *offered: words_before(catalog, *offered))
            listing, selection = candidate.listing, candidate.selection
            try:
                report = accept(candidate.report)
            except ModelshelfError as refusal:
                return Inquiry(candidate, refusal)
            header = header_at(origin, selection.weights[0]) if report.kind != Kind.CHECKPOINT else None
    except UnreadableModel as error:
        raise UnusableFile(str(error), probe=error.code) from error
    installed = known(catalog, listing, selection)
    if header is None:
        return Inquiry(candidate, installed=installed)
    checkpoints = catalog.page(Query(kind=Kind.CHECKPOINT, family=str(report.family), limit=MOST_CHECKPOINTS)).models
    verdicts = zip(checkpoints, fits.judge(header, checkpoints), strict=True)
    return Inquiry(candidate, installed=installed, fits=tuple(sorted(verdicts, key=lambda v: not v[1].fits)))
