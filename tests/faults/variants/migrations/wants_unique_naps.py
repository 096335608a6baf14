"""A migration whose index cannot be built while there are two naps of the same length."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY ux_{revision} ON nap (seconds)")


def downgrade() -> None:
    op.execute(f"DROP INDEX ux_{revision}")
