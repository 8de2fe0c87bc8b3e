"""From every revision up, with rows in every table: nothing that a user has is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from sqlalchemy import JSON, Connection, Engine, MetaData, text

from alembic import command
from registry.catalog import Catalog
from registry.db import MIGRATIONS, migrate, schema_state
from registry.errors import DatabaseUnavailable, ModelNotFound
from registry.models import Digest, ModelFile, Provenance, Trigger
from registry.queries import Query
from registry.revisions import revise
from tests.databases import engine_of
from tests.registry.told import holds_what_is_said

REVISIONS = re.findall(
    r'^revision = "(.+)"$', "".join(p.read_text() for p in MIGRATIONS.glob("versions/*.py")), re.MULTILINE
)

SHA, BLAKE, COMMIT = "5a" * 32, "b3" * 32, "c0" * 20
RECIPE = {"weight": {"value": 0.75, "by": "model card", "quote": "0.6-0.9", "min": 0.6, "max": 0.9}}
LORA = {
    "id": "aaaaaaaaaaaa",
    "name": "Outline",
    "kind": "lora",
    "family": "sd-1",
    "variant": "normal",
    "prediction_type": "epsilon",
    "format": "safetensors",
    "path": "lora/sd-1/Outline.safetensors",
    "size": 5_000_000_000,
    "blake3": BLAKE,
    "sha256": SHA,
    "autov3": "a3" * 32,
    "files": [{"path": "Outline.safetensors", "size": 5_000_000_000, "sha256": SHA, "blake3": BLAKE}],
    "source": f"hf://o/outline@{COMMIT}/Outline.safetensors",
    "repo_id": "o/outline",
    "revision": COMMIT,
    "base_model": "o/base",
    "triggers": ["outline style", "ink"],
    "recipe": RECIPE,
    "overrides": {"weight": 0.6, "steps": 8},
    "report": {"reason": "because", "outcome": "identified"},
    "created_at": "2026-01-02 03:04:05",
}
FOLDER = LORA | {
    "id": "bbbbbbbbbbbb",
    "name": "base",
    "kind": "checkpoint",
    "path": "checkpoint/sd-1/base",
    "blake3": "b4" * 32,
    "sha256": None,
    "autov3": None,
    "files": [{"path": "unet/model.safetensors", "size": 7, "sha256": SHA, "blake3": BLAKE}],
    "source": f"hf://o/base@{COMMIT}",
    "repo_id": "o/base",
    "base_model": None,
    "triggers": [],
    "recipe": {},
    "overrides": {},
}
# Told apart by 0001's `lower()`, equal when compatibility forms are folded.
LIGATURE = FOLDER | {"id": "cccccccccccc", "name": "\ufb01re", "path": "c", "source": "/c", "repo_id": None}
LETTERS = FOLDER | {"id": "dddddddddddd", "name": "fire", "path": "d", "source": "/d", "repo_id": None}
INSTALL = {
    "id": "eeeeeeeeeeee",
    "state": "installed",
    "source": "o/outline",
    "bytes_done": 1,
    "bytes_total": 1,
    "model_id": LORA["id"],
    "created_at": "2026-01-02 03:04:05",
    "updated_at": "2026-01-02 03:04:05",
}


def insert(connection: Connection, table: str, row: dict[str, Any]) -> None:
    """As the columns stood at that revision: today's tables would not do."""
    values = {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in row.items()}
    columns, places = ", ".join(f'"{k}"' for k in values), ", ".join(f":{k}" for k in values)
    connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({places})"), values)


def fill_0001(connection: Connection) -> None:
    for row in (LORA, FOLDER, LIGATURE, LETTERS):
        insert(connection, "model", row)
    insert(connection, "install", INSTALL)


@pytest.fixture
def upgraded(database_url: str, tmp_path: Path) -> Any:
    with engine_of(database_url) as engine:
        migrate(engine, "0001")
        with engine.begin() as connection:
            fill_0001(connection)
        migrate(engine)
        yield Catalog(engine, tmp_path), engine


def test_everything_of_0001_is_there_after_the_upgrade(upgraded: tuple[Catalog, Engine]) -> None:
    catalog, _ = upgraded
    model = catalog.get("outline")
    assert (model.id, model.name, model.kind, model.family, model.variant) == (
        LORA["id"],
        "Outline",
        "lora",
        "sd-1",
        "normal",
    )
    assert (model.prediction_type, model.format, model.path, model.size) == (
        *("epsilon", "safetensors", "lora/sd-1/Outline.safetensors"),
        5_000_000_000,
    )
    assert (model.blake3, model.sha256, model.autov3, model.claims) == (BLAKE, SHA, "a3" * 32, ())
    assert model.sources == (
        Provenance(str(LORA["source"]), "o/outline", COMMIT, path="Outline.safetensors", etag=SHA),
    )
    assert model.trigger_words == (Trigger("outline style", "provider"), Trigger("ink", "provider"))
    assert model.recipe == RECIPE
    assert model.base_model == "o/base"
    assert model.overrides == {"weight": 0.6, "steps": 8}
    assert model.created_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert (model.managed, model.missing_since) == (True, None)
    assert catalog.report(model) == LORA["report"]
    assert catalog.files(model) == [ModelFile("", 5_000_000_000, SHA, BLAKE)]


def test_models_rows_have_what_the_tables_say(upgraded: tuple[Catalog, Engine]) -> None:
    _, engine = upgraded
    holds_what_is_said(engine)


def test_a_folder_keeps_its_files_and_has_no_sha256_of_its_own(upgraded: tuple[Catalog, Engine]) -> None:
    catalog, _ = upgraded
    model = catalog.get("base")
    assert model.digests == (Digest("blake3", "b4" * 32),)
    assert catalog.files(model) == [ModelFile("unet/model.safetensors", 7, SHA, BLAKE)]


def test_search_finds_what_was_carried_over(upgraded: tuple[Catalog, Engine]) -> None:
    catalog, _ = upgraded
    assert [m.name for m in catalog.list(Query(text="outline style"))] == ["Outline"]
    assert [m.name for m in catalog.list(Query(text="o/base"))] == ["base"]


def test_names_that_only_compatibility_forms_told_apart_can_both_be_called(upgraded: tuple[Catalog, Engine]) -> None:
    catalog, _ = upgraded
    assert {catalog.get("fire").id, catalog.get("cccccccc").id, catalog.get("dddddddd").id} == {
        LIGATURE["id"],
        LETTERS["id"],
    }


def test_what_refers_to_a_model_still_does_and_goes_with_it(upgraded: tuple[Catalog, Engine]) -> None:
    catalog, engine = upgraded
    with engine.connect() as connection:
        assert connection.execute(text("SELECT model_id FROM install")).scalar() == LORA["id"]
    catalog.remove(catalog.get("outline"))
    with pytest.raises(ModelNotFound):
        catalog.get("outline")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT model_id FROM install")).scalar() is None
        for table in ("digest", "source", '"trigger"', "statement", "override", "report", "model_text", "file"):
            left = connection.execute(text(f"SELECT count(*) FROM {table} WHERE model_id = :id"), {"id": LORA["id"]})
            assert left.scalar() == 0, table


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_way_up_from_any_revision_ends_at_the_same_schema(revision: str, database_url: str) -> None:
    with engine_of(database_url) as engine:
        migrate(engine, revision)
        migrate(engine)
        assert schema(engine) == schema_from_nothing(database_url, engine)


def test_alembic_s_own_command_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    with engine_of(url) as engine:
        migrate(engine, "0001")
        with engine.begin() as connection:
            fill_0001(connection)
        monkeypatch.setenv("MODELSHELF_DATABASE_URL", url)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(config, "head")
        assert Catalog(engine, tmp_path).get("outline").overrides == {"weight": 0.6, "steps": 8}
        assert schema_state(engine).name == "current"


def test_tags_that_found_the_probe_s_in_their_place_are_the_user_s_again(database_url: str, tmp_path: Path) -> None:
    with engine_of(database_url) as engine:
        migrate(engine, "0001")
        with engine.begin() as connection:
            fill_0001(connection)
        migrate(engine, "0007")
        own = {"model_id": LORA["id"], "name": "tags", "value": ["Anime", "ink"]}
        with engine.begin() as connection:
            insert(connection, "override", own)
            for name, by in (("anime", ""), ("ink", "user")):
                insert(connection, "tag", {"model_id": LORA["id"], "name": name, "by": by})
        migrate(engine)
        catalog = Catalog(engine, tmp_path)
        with catalog.writing() as connection:
            revise(connection, catalog.get("outline"), {})
        with engine.connect() as connection:
            users = connection.execute(text("SELECT name FROM tag WHERE \"by\" = 'user' ORDER BY name")).scalars().all()
        assert users == ["anime", "ink"]


def test_a_database_of_a_newer_release_is_said_and_left_alone(database_url: str) -> None:
    with engine_of(database_url) as engine:
        migrate(engine)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        assert schema_state(engine).name == "newer"
        with pytest.raises(DatabaseUnavailable, match="of a newer modelshelf"):
            migrate(engine)


def schema(engine: Engine) -> dict[str, set[str]]:
    found = MetaData()
    found.reflect(engine)
    return {
        t.name: {f"{c.name} {JSON() if isinstance(c.type, JSON) else c.type} {c.nullable}" for c in t.columns}
        | {str(sorted(c.name for c in i.columns)) for i in t.indexes}
        for t in found.sorted_tables
        if not t.name.startswith("model_text_fts")
    }


def schema_from_nothing(database_url: str, engine: Engine) -> dict[str, set[str]]:
    """The same kind of database, migrated in one go: `engine`'s own, emptied."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    if engine.dialect.name == "sqlite":
        database_url = database_url.replace("registry.db", "fresh.db")
    with engine_of(database_url) as fresh:
        migrate(fresh)
        return schema(fresh)
