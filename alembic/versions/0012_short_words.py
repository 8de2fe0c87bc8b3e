"""on PostgreSQL words of one and two characters have the index of the longer ones (Chinese and Japanese words are often that short)"""

from alembic import op

revision = "0012"
down_revision = "0011"

UP = (
    """CREATE FUNCTION modelshelf_grams(t text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$SELECT array(SELECT DISTINCT substr(t, i, n) FROM generate_series(1, length(t)) AS i, generate_series(1, 3) AS n
    WHERE i + n <= length(t) + 1)$$""",
    "CREATE INDEX model_text_grams ON model_text USING gin (modelshelf_grams(text))",
    "DROP INDEX model_text_trigrams",
    "DROP FUNCTION modelshelf_trigrams(text)",
)
DOWN = (
    """CREATE FUNCTION modelshelf_trigrams(t text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$SELECT array(SELECT DISTINCT substr(t, i, 3) FROM generate_series(1, length(t) - 2) AS i)$$""",
    "CREATE INDEX model_text_trigrams ON model_text USING gin (modelshelf_trigrams(text))",
    "DROP INDEX model_text_grams",
    "DROP FUNCTION modelshelf_grams(text)",
)


def upgrade() -> None:
    run(UP)


def downgrade() -> None:
    run(DOWN)


def run(statements: tuple[str, ...]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for statement in statements:
            op.get_bind().exec_driver_sql(statement)
