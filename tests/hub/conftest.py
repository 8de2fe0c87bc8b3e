from __future__ import annotations

from tests.hub.fixtures import hub as hub
