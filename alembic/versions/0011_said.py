"""what is said of a model stands in its own row, too, so that a page of models is read at once"""

import json
from operator import itemgetter

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"

AT_ONCE = 500
BEFORE = "before it was written to"
# The parts of the document in their order: a table, the columns of a value, and those that a model's values are ordered by.
PARTS = (
    ("digest", ("algorithm", "value", "by"), ("by", "algorithm")),
    ("source", ("url", "repo_id", "revision", "ref", "path", "etag"), ("id",)),
    ("trigger", ("word", "by"), ("position",)),
    ("statement", ("name", "value", "by", "quote", "minimum", "maximum"), ("rank", "name")),
    ("tag", ("name",), ("name",)),
    ("override", ("name", "value"), ("name",)),
)
JSON = {("statement", "value"), ("override", "value")}


def upgrade() -> None:
    op.add_column("model", sa.Column("said", sa.Text, nullable=False, server_default="[]"))
    bind = op.get_bind()
    model = sa.table("model", sa.column("id", sa.String), sa.column("said", sa.Text))
    ids = bind.execute(sa.select(model.c.id)).scalars().all()
    told = sa.update(model).where(model.c.id == sa.bindparam("of")).values(said=sa.bindparam("told"))
    for at in range(0, len(ids), AT_ONCE):
        parts = [values(bind, *part, ids[at : at + AT_ONCE]) for part in PARTS]
        some = [{"of": of, "told": document(*(part.get(of, []) for part in parts))} for of in ids[at : at + AT_ONCE]]
        bind.execute(told, some)


def values(bind, name, value, order, ids) -> dict:
    """model -> its rows of a table, in order."""
    columns = dict.fromkeys(("model_id", *order, *value))
    table = sa.table(name, *(sa.column(c, sa.JSON if (name, c) in JSON else None) for c in columns))
    found = {}
    rows = bind.execute(sa.select(table).where(table.c.model_id.in_(ids))).mappings()
    for row in sorted(rows, key=itemgetter(*order)):
        found.setdefault(row["model_id"], []).append([row[c] for c in value])
    return found


def document(digests, sources, triggers, statements, tags, overrides) -> str:
    digests = [digest for digest in digests if digest[2] != BEFORE]
    tags = list(dict.fromkeys(name for (name,) in tags))
    parts = (digests, sources, triggers, statements, tags, dict(overrides))
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def downgrade() -> None:
    op.drop_column("model", "said")
