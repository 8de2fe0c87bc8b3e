"""Whether what a source offers is on the shelf already."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from registry.catalog import Catalog
from registry.installs.beside import on_disk
from registry.installs.origins import Listing
from registry.installs.placing import pinned
from registry.installs.selection import Selection
from registry.models import Model
from registry.words import NOTHING_SAID, Words, words_of


def known(catalog: Catalog, listing: Listing, selection: Selection) -> Model | None:
    """The same revision of the same source, or a file with the digest that the Hub announces, if it is still there and its own digest is
    no other."""
    # The weights of a PEFT folder by themselves are another model: without its configuration they count differently.
    return next(
        (
            model
            for model in _recorded(catalog, listing, selection)
            if catalog.is_whole(model) and catalog.path(model).is_dir() == selection.is_folder
        ),
        None,
    )


def words_before(catalog: Catalog, listing: Listing, selection: Selection) -> Words:
    """What the user has said of a model on record that is this one, also where its file is gone or damaged by now."""
    here = None if listing.root is None else catalog.at(on_disk(listing, selection))
    models = chain([here] if here else (), _recorded(catalog, listing, selection))
    return next(filter(None, (words_of(model.overrides) for model in models)), NOTHING_SAID)


def _recorded(catalog: Catalog, listing: Listing, selection: Selection) -> Iterator[Model]:
    announced = None if selection.is_folder else selection.files[0].sha256
    source = pinned(listing, selection) if listing.revision else None
    models = catalog.matching(source=source, sha256=announced)
    return (model for model in models if announced is None or model.sha256 in (None, announced))
