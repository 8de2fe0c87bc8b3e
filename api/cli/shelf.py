"""What a command works on: the shelf of a running service, or this machine's own. Both answer with the same records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Unpack

if TYPE_CHECKING:
    from api.records import (
        Check,
        Duplicates,
        Event,
        Filters,
        Fit,
        Generation,
        Install,
        Model,
        ModelDetail,
        NewToken,
        Removed,
        Scan,
        Task,
        Token,
        Waste,
    )
    from registry.installs.options import Options
    from registry.manager import Manager
    from registry.plans import GenerationRequest
    from registry.settings import Settings

OnProgress = Callable[[Any], None]
"""Is told an Install, or a Progress of the registry's: both have state, filename, bytes_done, bytes_total, trouble."""


class Shelf(Protocol):
    """The methods of api.client.Client that commands call, and what they need besides."""

    def models(self, **filters: Unpack[Filters]) -> Iterator[Model]: ...
    def model(self, model: str) -> ModelDetail: ...
    def locate(self, path: str) -> str: ...
    def edit(self, model: str, **stated: Any) -> Model: ...
    def delete(self, model: str, *, files: bool = False) -> None: ...
    def compatible_loras(self, checkpoint: str, *, every: bool = False) -> Iterator[Fit]: ...
    def compatible_checkpoints(self, lora: str, *, every: bool = False) -> Iterator[Fit]: ...
    def install(self, source: str, on_progress: OnProgress, options: Options = ...) -> Model: ...
    def install_starter(self, on_progress: OnProgress) -> Iterator[Model]: ...
    def finish_install(self, install_id: str, on_progress: OnProgress) -> Model: ...
    def installs(self) -> Iterator[Install]: ...
    def order_install(self, install_id: str, command: str) -> Install: ...
    def discard_install(self, install_id: str) -> None: ...
    def interrupt(self) -> None: ...
    def interrupted(self) -> list[Install]: ...
    def scan_folders(self) -> list[str]: ...
    def scan(self, folder: str, *, afresh: bool = False) -> Scan: ...
    def run_task(self, kind: str, models: Sequence[str], on_progress: Callable[[Task], None]) -> Task: ...
    def duplicates(self) -> Duplicates: ...
    def waste(self) -> Waste: ...
    def remove_waste(self) -> Removed: ...
    def check_up(self) -> Iterable[Check]: ...
    def tokens(self) -> list[Token]: ...
    def create_token(self, name: str, scopes: Collection[str]) -> NewToken: ...
    def revoke_token(self, token: str) -> None: ...
    def generate(self, request: GenerationRequest, on_event: Callable[[Event], None]) -> Generation: ...
    def made_again(self, made: Generation) -> str: ...


SERVER: ContextVar[str | None] = ContextVar("server", default=None)
"""What `--server` says; None: what the setting says."""


def chosen_server(settings: Settings) -> str | None:
    return SERVER.get() or settings.server


@contextmanager
def opened_shelf() -> Iterator[Shelf]:
    from registry.settings import Settings

    settings = Settings()
    if server := chosen_server(settings):
        from api.cli.remote import RemoteShelf

        with RemoteShelf(server, settings.token) as remote:
            yield remote
    else:
        from api.cli.local import LocalShelf

        with LocalShelf(settings) as local:
            yield local


@contextmanager
def managed(settings: Settings) -> Iterator[Manager]:
    from registry.manager import build_manager

    manager = build_manager(settings)
    try:
        yield manager
    finally:
        manager.close()
