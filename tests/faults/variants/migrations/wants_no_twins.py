"""A migration whose index cannot be built while there are twins, in a table that the tests have made."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY ux_{revision} ON twins_{revision} (id)")


def downgrade() -> None:
    op.execute(f"DROP INDEX ux_{revision}")
