"""A Hugging Face Hub on loopback, for tests and the demo: folders served as repositories, with faults on demand."""

from __future__ import annotations

from tests.hub.server import Fault, LoopbackHub, Seen

__all__ = ["Fault", "LoopbackHub", "Seen"]
