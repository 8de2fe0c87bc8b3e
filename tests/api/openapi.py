"""The reviewed OpenAPI document, openapi.json beside this file. `python -m tests.api.openapi` writes it anew."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from api.app import create_app
from registry.manager import Manager
from registry.settings import Settings

SNAPSHOT = Path(__file__).with_name("openapi.json")


@cache
def document() -> dict[str, Any]:
    """As the code describes itself now."""
    with tempfile.TemporaryDirectory() as root:
        manager = Manager(Settings(root=Path(root)))
        try:
            described: dict[str, Any] = json.loads(json.dumps(create_app(manager).openapi()))
        finally:
            manager.close()
    return described


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n")
