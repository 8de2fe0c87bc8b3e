"""models and installs"""

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "model",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("family", sa.String, nullable=False),
        sa.Column("variant", sa.String),
        sa.Column("prediction_type", sa.String),
        sa.Column("format", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False, unique=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("blake3", sa.String, nullable=False),
        sa.Column("sha256", sa.String),
        sa.Column("autov3", sa.String),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("repo_id", sa.String),
        sa.Column("revision", sa.String),
        sa.Column("base_model", sa.String),
        sa.Column("triggers", sa.JSON, nullable=False),
        sa.Column("recipe", sa.JSON, nullable=False),
        sa.Column("overrides", sa.JSON, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    for column in ("kind", "family", "blake3", "sha256", "autov3", "source", "repo_id"):
        op.create_index(f"ix_model_{column}", "model", [column])
    op.create_table(
        "install",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("bytes_done", sa.BigInteger, nullable=False),
        sa.Column("bytes_total", sa.BigInteger, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("model_id", sa.String(12), sa.ForeignKey("model.id", ondelete="SET NULL")),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_install_state", "install", ["state"])


def downgrade() -> None:
    op.drop_table("install")
    op.drop_table("model")
