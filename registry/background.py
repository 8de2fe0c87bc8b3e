"""Work that goes on in the background of a service, whatever happens to one round of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import ModelshelfError

logger = logging.getLogger(__name__)


@contextmanager
def going_on(what: str) -> Iterator[None]:
    """An error of this round of `what` is logged, and the thread goes on with the next. A decorator, too."""
    try:
        yield
    except ModelshelfError as error:
        logger.warning("%s: %s It goes on.", what, error.message)
    except Exception:
        logger.exception("%s met an unforeseen error, and goes on", what)
