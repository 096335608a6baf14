"""Seconds of deployments.

Expand: the code of 0002 runs on this schema as well. It writes rows without `seconds` until its last worker has
stopped; 0004 fills those.
"""

import sqlalchemy as sa
from alembic import op

from app.migrations import backfill

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable and without a default: no row is rewritten, and the table is locked only for a moment.
    # IF NOT EXISTS, as the column stays when a later step fails.
    again = backfill.is_postgresql()  # SQLite does not support it, and rolls a failed attempt back
    op.add_column("deployments", sa.Column("seconds", sa.Float(), nullable=True), if_not_exists=again)

    took = (
        "extract(epoch FROM finished_at - started_at)"
        if backfill.is_postgresql()
        else "round((julianday(finished_at) - julianday(started_at)) * 86400, 3)"
    )
    backfill.in_batches("deployments", f"seconds = {took}", "finished_at IS NOT NULL AND seconds IS NULL")

    # CONCURRENTLY does not block writers, and must run outside of a transaction. A failed attempt leaves an invalid
    # index, so that IF NOT EXISTS alone would not build a valid one.
    with backfill.autocommit():
        op.drop_index("ix_deployments_finished_at", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_deployments_finished_at",
            "deployments",
            ["finished_at"],
            if_not_exists=True,
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with backfill.autocommit():
        op.drop_index("ix_deployments_finished_at", if_exists=True, postgresql_concurrently=True)
    op.drop_column("deployments", "seconds", if_exists=backfill.is_postgresql())
