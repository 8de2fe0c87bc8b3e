"""`modelshelf ps`, `load` and `evict`: what the running service has in memory."""

from __future__ import annotations

from typing import Any

import typer

from api.cli.common import Json, Reference
from api.cli.output import print_json, print_table, size_text

app = typer.Typer()


@app.command()
def ps(json: Json = False) -> None:
    """What the running service has loaded: where, how big, and who works with it."""
    _show(_ask("GET", ""), json)


@app.command()
def load(model: Reference, json: Json = False) -> None:
    """Load a checkpoint into the running service's memory, before somebody waits for it."""
    _show(_ask("PUT", f"/{model}"), json)


@app.command()
def evict(model: Reference, json: Json = False) -> None:
    """Free a model's memory in the running service."""
    _show(_ask("DELETE", f"/{model}"), json)


def _ask(method: str, path: str) -> dict[str, Any]:
    import httpx

    from registry.errors import ServiceUnreachable, recreate
    from registry.settings import Settings

    settings = Settings()
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    url = f"http://{host}:{settings.port}/v1/residency{path}"
    try:
        answer = httpx.request(method, url, timeout=None, trust_env=False)
        body: dict[str, Any] = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise ServiceUnreachable(
            f"No modelshelf service answers at {host}:{settings.port} (MODELSHELF_HOST, MODELSHELF_PORT); "
            "start it with `modelshelf serve`.",
            url=url,
        ) from error
    if answer.is_error:
        raise recreate(body["code"], body["detail"], body.get("facts") or {})
    return body


def _show(residency: dict[str, Any], json: bool) -> None:
    if json:
        print_json(residency)
        return
    print_table(
        ("tier", "device", "used", "budget"),
        [(t["name"], t["device"], size_text(t["used"]), size_text(t["budget"])) for t in residency["tiers"]],
    )
    print_table(
        ("model", "tier", "size", "in use by", "idle"),
        [
            (m["name"], m["tier"], size_text(m["nbytes"]), ", ".join(m["holders"]), f"{m['idle']:.0f} s")
            for m in residency["models"]
        ],
    )
