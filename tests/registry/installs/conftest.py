from __future__ import annotations

import pytest

from registry.installs.origins import http
from tests.hub.fixtures import hub as hub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries as many as ever, without the pauses."""
    monkeypatch.setattr(http, "BACKOFF_SECONDS", (0.0, 0.0, 0.0))
