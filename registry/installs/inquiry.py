"""What would an install of this source bring, and which checkpoints would it fit? Answered from headers; nothing is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from probes import Header, Kind, UnreadableModel
from registry.catalog import Catalog
from registry.compatibility import Fit, check_fit, checkpoint_tensors
from registry.errors import ModelshelfError, NotGenerable, UnusableFile
from registry.installs.examine import Candidate, accept, connection, examine, header_at
from registry.installs.origins import open_origin
from registry.models import Model
from registry.queries import Query
from registry.settings import Settings
from registry.sources import parse_source

MOST_CHECKPOINTS = 200  # of the family; each costs the reading of its header


@dataclass(frozen=True, slots=True)
class Inquiry:
    """`refusal`: why it would not be installed, None if it would. `installed`: the model that is there already.

    `fits`: of an adapter, the verdict on every checkpoint of its family, those that it fits first.
    """

    candidate: Candidate
    refusal: ModelshelfError | None = None
    installed: Model | None = None
    fits: tuple[tuple[Model, Fit], ...] = ()


def inquire(text: str, settings: Settings, catalog: Catalog, *, confined: bool = False) -> Inquiry:
    """`confined`: see Options. Raises InvalidSource, the origin's and the selection's errors, and UnusableFile."""
    try:
        source = parse_source(text, endpoint=settings.hub_endpoint, confined=confined)
        with open_origin(source, **connection(settings, confined=confined)) as origin:
            candidate = examine(origin)
            listing, selection = candidate.listing, candidate.selection
            try:
                report = accept(candidate.report)
            except ModelshelfError as refusal:
                return Inquiry(candidate, refusal)
            header = header_at(origin, selection.weights[0]) if report.kind != Kind.CHECKPOINT else None
    except UnreadableModel as error:
        raise UnusableFile(str(error), probe=error.code) from error
    announced = None if selection.is_folder else selection.files[0].sha256
    installed = catalog.find(source=listing.source if listing.revision else None, sha256=announced)
    if header is None:
        return Inquiry(candidate, installed=installed)
    checkpoints = catalog.page(Query(kind=Kind.CHECKPOINT, family=str(report.family), limit=MOST_CHECKPOINTS)).models
    verdicts = [(model, _fit(header, model, catalog)) for model in checkpoints]
    return Inquiry(candidate, installed=installed, fits=tuple(sorted(verdicts, key=lambda v: not v[1].fits)))


def _fit(adapter: Header, checkpoint: Model, catalog: Catalog) -> Fit:
    path = catalog.path(checkpoint)
    if not path.exists():
        return Fit.refused(f"{path} is gone; install it again")
    try:
        return check_fit(adapter, checkpoint_tensors(path))
    except UnusableFile as error:
        return Fit.refused(error.message)
    except NotGenerable:
        # Tensor names that are not mapped yet: the family is all that can be compared, and the reason says that it was.
        return Fit(True, f"both are {checkpoint.family}; tensors of this family are not compared yet", 0, 0)
