"""a tag that both the probe and the user set is two rows, so that neither takes the other's; a verdict keeps no list of problems"""

import unicodedata

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"

KEY = ("model_id", "name", "by")


def folded(text):
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def upgrade() -> None:
    op.create_table(
        "tag_by_whom",
        sa.Column("model_id", sa.String(12), sa.ForeignKey("model.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("by", sa.String, primary_key=True),
    )
    op.execute('INSERT INTO tag_by_whom (model_id, name, "by") SELECT model_id, name, "by" FROM tag')
    op.drop_table("tag")
    op.rename_table("tag_by_whom", "tag")
    op.create_index("ix_tag_name", "tag", ["name", "model_id"])
    restore()
    with op.batch_alter_table("fit") as fit:
        fit.drop_column("problems")


def restore() -> None:
    """The user's tags that found the probe's in their place."""
    bind = op.get_bind()
    tag = sa.table("tag", *(sa.column(name, sa.String) for name in KEY))
    own = sa.table("override", sa.column("model_id", sa.String), sa.column("name"), sa.column("value", sa.JSON))
    there = {tuple(row) for row in bind.execute(sa.select(*(tag.c[name] for name in KEY)))}
    for model_id, tags in bind.execute(sa.select(own.c.model_id, own.c.value).where(own.c.name == "tags")).all():
        for row in dict.fromkeys((model_id, folded(name), "user") for name in tags):
            if row not in there:
                bind.execute(tag.insert().values(dict(zip(KEY, row, strict=True))))


def downgrade() -> None:
    raise NotImplementedError("0008 keeps what 0007 has no place for; restore a copy of the database instead")
