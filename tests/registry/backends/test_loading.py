"""A backend is named by the setting, `module:class`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from registry.backends import BackendOptions
from registry.backends.loading import load_backend
from registry.errors import BackendUnavailable
from registry.settings import Settings
from tests.registry.backends.painter import Painter

PAINTER = "tests.registry.backends.painter:Painter"


def test_a_third_party_s_is_made_with_the_options() -> None:
    options = BackendOptions(device="cuda:1", batch=3)
    made = load_backend(PAINTER, options)
    assert isinstance(made, Painter)
    assert made.options is options


def test_the_default_setting_names_one() -> None:
    from registry.backends.diffusers import DiffusersBackend

    assert isinstance(load_backend(Settings().backend, BackendOptions(device="cpu")), DiffusersBackend)


def make_nothing(options: BackendOptions) -> object:
    return options


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no.such.module:Class", "cannot be imported: No module named 'no'"),
        ("tests.registry.backends.painter:Nothing", "has no 'Nothing'"),
        (f"{__name__}:make_nothing", "makes a BackendOptions, which has no `generate`"),
    ],
)
def test_one_that_cannot_be_loaded(path: str, said: str) -> None:
    with pytest.raises(BackendUnavailable, match=said):
        load_backend(path, BackendOptions())


@pytest.mark.parametrize("path", ["", "module", "module:", ":Class", "a b:C", "os;system:x"])
def test_a_path_that_is_none_is_refused_by_the_settings(path: str) -> None:
    with pytest.raises(ValidationError):
        Settings(backend=path)
