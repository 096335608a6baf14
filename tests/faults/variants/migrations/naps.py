"""A migration that takes as long as the tests say."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    op.execute(f"CREATE TABLE added_{revision} (id bigint)")
    op.execute("SELECT pg_sleep((SELECT seconds FROM nap))")


def downgrade() -> None:
    op.execute(f"DROP TABLE added_{revision}")
