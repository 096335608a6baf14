"""A migration that needs a lock which nobody else may hold."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    op.execute(f"ALTER TABLE entries ADD COLUMN added_{revision} bigint")


def downgrade() -> None:
    op.execute(f"ALTER TABLE entries DROP COLUMN added_{revision}")
