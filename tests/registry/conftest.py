"""A tiny Stable Diffusion, made once; torch and diffusers are imported only by the tests that ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.registry.tiny import Tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    from tests.registry.tiny import build

    return build(tmp_path_factory.mktemp("tiny"))
