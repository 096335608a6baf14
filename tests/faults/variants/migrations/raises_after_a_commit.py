"""A migration that has committed something when it fails; it bears a second run. It fails while naps take time."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_{revision} ON entries (text)")
    if op.get_bind().exec_driver_sql("SELECT seconds FROM nap").scalar():
        raise RuntimeError("the variant raises after a commit")


def downgrade() -> None:
    op.execute(f"DROP INDEX ix_{revision}")
