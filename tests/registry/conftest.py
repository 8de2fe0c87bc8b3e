"""A tiny Stable Diffusion, made once; torch and diffusers are imported only by the tests that ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.registry.tiny import Tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    import torch

    from tests.registry.tiny import build

    torch.set_num_threads(1)  # matrices this small are slower on two threads, and on a busy machine 90 times slower
    return build(tmp_path_factory.mktemp("tiny"))
