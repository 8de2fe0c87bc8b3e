"""The starter models: small, truly trained, shipped as package data. See SCORES.md beside this, and tests/starter for the training."""

from __future__ import annotations

from pathlib import Path

_REPOSITORIES = Path(__file__).resolve().parent / "repos"
# The base first: a LoRA without its checkpoint is of no use to anyone.
_ORDER = ("starter-base", "starter-outline-lora", "starter-heart-lora", "starter-lcm-lora")


def starter_repository(name: str) -> Path | None:
    """None: none is called so."""
    return next((folder for folder in starter_repositories() if folder.name == name), None)


def starter_repositories() -> list[Path]:
    """Folders laid out as the Hub's repositories, each with its model card."""
    return [_REPOSITORIES / "modelshelf" / name for name in _ORDER]
