"""From the setting `backend` to a backend."""

from __future__ import annotations

from importlib import import_module

from registry.backends import Backend, BackendOptions
from registry.errors import BackendUnavailable


def load_backend(path: str, options: BackendOptions) -> Backend:
    """What `module:class` names, made with `options`. Raises BackendUnavailable: there is none, or it has no `generate`."""
    module, _, name = path.partition(":")
    try:
        factory = getattr(import_module(module), name)
    except ImportError as error:
        raise BackendUnavailable(f"The backend {path} cannot be imported: {error}", backend=path) from error
    except AttributeError:
        raise BackendUnavailable(f"{module} has no {name!r} to generate with.", backend=path) from None
    made = factory(options)
    if not isinstance(made, Backend):
        raise BackendUnavailable(f"{path} makes a {type(made).__name__}, which has no `generate`.", backend=path)
    return made
