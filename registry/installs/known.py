"""Whether what a source offers is on the shelf already."""

from __future__ import annotations

from registry.catalog import Catalog
from registry.installs.origins import Listing
from registry.installs.placing import pinned
from registry.installs.selection import Selection
from registry.models import Model


def known(catalog: Catalog, listing: Listing, selection: Selection) -> Model | None:
    """The same revision of the same source, or a file with the digest that the Hub announces, if it is still there and its own digest is
    no other."""
    announced = None if selection.is_folder else selection.files[0].sha256
    source = pinned(listing, selection) if listing.revision else None
    # The weights of a PEFT folder by themselves are another model: without its configuration they count differently.
    return next(
        (
            model
            for model in catalog.matching(source=source, sha256=announced)
            if (announced is None or model.sha256 in (None, announced))
            and catalog.is_whole(model)
            and catalog.path(model).is_dir() == selection.is_folder
        ),
        None,
    )
