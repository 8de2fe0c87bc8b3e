"""digests, sources, files, triggers, statements, overrides, tags, reports, text, fits, folders and scans get tables of their own"""

import unicodedata
from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"

# What was a column of `model` and is rows of other tables now.
MOVED = ("blake3", "sha256", "autov3", "files", "source", "repo_id", "revision", "base_model", "triggers", "recipe")
MOVED += ("overrides", "report")
INDEXED = ("kind", "family", "blake3", "sha256", "autov3", "source", "repo_id")
ORDERS = ("name_key", "created_at", "size")
FILTERS = ((), ("kind",), ("family",), ("kind", "family"))

CODE_POINTS = sa.String().with_variant(sa.String(collation="C"), "postgresql")
TIME = sa.DateTime(timezone=True)


def of_model(**options):
    return sa.Column(
        "model_id", sa.String(12), sa.ForeignKey("model.id", ondelete="CASCADE"), nullable=False, **options
    )


def folded(text):
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def upgrade() -> None:
    old = read_models()
    for column in INDEXED:
        op.drop_index(f"ix_model_{column}", "model")
    # The new columns first, filled, and only then bound: a table with rows takes no column that may not be null.
    with op.batch_alter_table("model") as model:
        for column in MOVED:
            model.drop_column(column)
        model.add_column(sa.Column("name_key", CODE_POINTS))
        model.add_column(sa.Column("managed", sa.Boolean, nullable=False, server_default=sa.true()))
        model.add_column(sa.Column("structure", sa.String))
        for column in ("hashed_at", "missing_since", "damaged_at"):
            model.add_column(sa.Column(column, TIME))
    create_tables()
    create_text_index()
    carry_over(old)
    with op.batch_alter_table("model") as model:
        model.alter_column("name_key", existing_type=CODE_POINTS, nullable=False)
        model.alter_column("managed", existing_type=sa.Boolean, existing_nullable=False, server_default=None)
        model.create_unique_constraint("model_name_key_key", ["name_key"])
    for order in ORDERS:
        for filters in FILTERS:
            op.create_index("_".join(("ix_model", *filters, order)), "model", [*filters, order, "id"])
    op.create_index("ix_model_structure", "model", ["structure"])
    op.create_index("ix_model_hashed_at", "model", ["hashed_at"])


def read_models():
    types = {"files": sa.JSON, "triggers": sa.JSON, "recipe": sa.JSON, "overrides": sa.JSON, "report": sa.JSON}
    model = sa.table("model", *(sa.column(name, types.get(name, sa.String)()) for name in ("id", "name", *MOVED)))
    return op.get_bind().execute(sa.select(model)).mappings().all()


def create_tables() -> None:
    op.create_table(
        "file",
        of_model(primary_key=True),
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String),
        sa.Column("blake3", sa.String),
    )
    op.create_table(
        "digest",
        of_model(primary_key=True),
        sa.Column("algorithm", sa.String, primary_key=True),
        sa.Column("by", sa.String, primary_key=True),
        sa.Column("value", CODE_POINTS, nullable=False, index=True),
    )
    op.create_table(
        "source",
        sa.Column("id", sa.Integer, primary_key=True),
        of_model(),
        sa.Column("url", sa.String, nullable=False, index=True),
        sa.Column("repo_id", sa.String, index=True),
        sa.Column("revision", sa.String),
        sa.Column("ref", sa.String),
        sa.Column("path", sa.String),
        sa.Column("etag", sa.String),
        sa.Column("added_at", TIME, nullable=False),
    )
    op.create_index("ix_source_model_url", "source", ["model_id", "url"], unique=True)
    op.create_table(
        "trigger",
        of_model(primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("word", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
    )
    op.create_table(
        "statement",
        of_model(primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("quote", sa.String, nullable=False),
        sa.Column("minimum", sa.Float),
        sa.Column("maximum", sa.Float),
    )
    op.create_table(
        "override",
        of_model(primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
    )
    op.create_table(
        "tag",
        of_model(primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("by", sa.String, nullable=False),
    )
    op.create_index("ix_tag_name", "tag", ["name", "model_id"])
    op.create_table(
        "report",
        of_model(primary_key=True),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("probed_at", TIME, nullable=False),
    )
    op.create_table(
        "model_text",
        sa.Column("id", sa.Integer, primary_key=True),
        of_model(unique=True),
        sa.Column("text", sa.String, nullable=False),
    )
    op.create_table(
        "fit",
        sa.Column("checkpoint", sa.String, primary_key=True),
        sa.Column("adapter", sa.String, primary_key=True),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("matched", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("problems", sa.JSON, nullable=False),
    )
    op.create_table(
        "catalog_state",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "folder",
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("scanned_at", TIME),
    )
    op.create_table(
        "seen",
        sa.Column("path", CODE_POINTS, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False, index=True),
        sa.Column("prober", sa.String, nullable=False),
        sa.Column("model_id", sa.String(12), sa.ForeignKey("model.id", ondelete="CASCADE"), index=True),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_table(
        "scan",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("folder", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
    )


# Both index every three characters in a row, of which any longer substring is made; registry/queries.py asks them. pg_trgm would do the
# same, and is an extension that not every server has.
TEXT_INDEX = {
    "sqlite": (
        "CREATE VIRTUAL TABLE model_text_fts USING fts5(text, content='model_text', content_rowid='id', tokenize='trigram')",
        """CREATE TRIGGER model_text_added AFTER INSERT ON model_text BEGIN
          INSERT INTO model_text_fts(rowid, text) VALUES (new.id, new.text);
        END""",
        """CREATE TRIGGER model_text_removed AFTER DELETE ON model_text BEGIN
          INSERT INTO model_text_fts(model_text_fts, rowid, text) VALUES ('delete', old.id, old.text);
        END""",
        """CREATE TRIGGER model_text_changed AFTER UPDATE ON model_text BEGIN
          INSERT INTO model_text_fts(model_text_fts, rowid, text) VALUES ('delete', old.id, old.text);
          INSERT INTO model_text_fts(rowid, text) VALUES (new.id, new.text);
        END""",
    ),
    "postgresql": (
        """CREATE FUNCTION modelshelf_trigrams(t text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
        $$SELECT array(SELECT DISTINCT substr(t, i, 3) FROM generate_series(1, length(t) - 2) AS i)$$""",
        "CREATE INDEX model_text_trigrams ON model_text USING gin (modelshelf_trigrams(text))",
    ),
}


def create_text_index() -> None:
    for statement in TEXT_INDEX[op.get_bind().dialect.name]:
        op.get_bind().exec_driver_sql(statement)


def carry_over(old) -> None:
    """Every value of revision 0001 as rows of the new tables."""
    at = datetime.now(UTC)
    rows = {
        name: [] for name in ("digest", "file", "source", "trigger", "statement", "override", "report", "model_text")
    }
    for model in old:
        of = {"model_id": model["id"]}
        for algorithm in ("blake3", "sha256", "autov3"):
            if model[algorithm]:
                rows["digest"].append(of | {"algorithm": algorithm, "by": "", "value": model[algorithm]})
        single = model["sha256"] is not None
        for file in model["files"]:
            kept = {key: file.get(key) for key in ("size", "sha256", "blake3")}
            rows["file"].append(of | kept | {"path": "" if single else file["path"]})
        pinned = f"hf://{model['repo_id']}@{model['revision']}/"
        path = model["source"].removeprefix(pinned) if model["source"].startswith(pinned) else None
        facts = {key: model[key] for key in ("repo_id", "revision")}
        source = {"url": model["source"], "path": path, "etag": model["sha256"] if path else None, "added_at": at}
        rows["source"].append(of | facts | source)
        for position, word in enumerate(model["triggers"]):
            rows["trigger"].append(of | {"position": position, "word": word, "by": "provider"})
        said = dict(model["recipe"])
        if model["base_model"]:
            said["base_model"] = {"value": model["base_model"], "by": "model card"}
        for name, value in said.items():
            quoted = {"value": value["value"], "by": value["by"], "quote": value.get("quote") or ""}
            bounds = {"minimum": value.get("min"), "maximum": value.get("max")}
            rows["statement"].append(of | {"name": name, "rank": 0} | quoted | bounds)
        rows["override"] += [of | {"name": name, "value": value} for name, value in model["overrides"].items()]
        rows["report"].append(of | {"data": model["report"], "probed_at": at})
        parts = dict.fromkeys(folded(p) for p in (model["name"], model["repo_id"], *model["triggers"]) if p)
        rows["model_text"].append(of | {"text": "\n".join(parts)})
    tables = sa.MetaData()
    tables.reflect(op.get_bind(), only=[*rows, "catalog_state", "model"])
    for name, values in rows.items():
        for value in values:
            op.get_bind().execute(tables.tables[name].insert().values(**value))
    table = tables.tables["model"]
    for model in old:
        changed = {"name_key": unique_key(model, old), "hashed_at": at}
        op.get_bind().execute(table.update().where(table.c.id == model["id"]).values(**changed))
    op.get_bind().execute(tables.tables["catalog_state"].insert().values(id=1, epoch=uuid4().hex[:12], version=1))


def unique_key(model, models) -> str:
    """0001 let names differ by compatibility forms alone (an `ﬁ` ligature); the later of two such gets its id behind."""
    key = folded(model["name"])
    first = next(m["id"] for m in models if folded(m["name"]) == key)
    return key if first == model["id"] else f"{key} {model['id']}"


def downgrade() -> None:
    raise NotImplementedError("0002 keeps what 0001 has no place for; restore a copy of the database instead")
