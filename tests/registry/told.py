"""Held against every database that a test has written to."""

from __future__ import annotations

from sqlalchemy import Engine, select

from registry.rows import MODEL, TEXT, tell


def holds_what_is_said(engine: Engine) -> None:
    """No model's own row, nor what a search looks through, is behind what the tables say of it."""
    kept = select(MODEL.c.id, MODEL.c.said, TEXT.c.text).join(TEXT, TEXT.c.model_id == MODEL.c.id).order_by(MODEL.c.id)
    with engine.connect() as connection:
        found = connection.execute(kept).all()
        tell(connection, [model_id for model_id, *_ in found])
        assert connection.execute(kept).all() == found
        connection.rollback()
