"""Seconds of deployments.

Expand: what this adds, the code of 0002 neither needs nor minds. It goes on writing rows without `seconds` until its
last worker has stopped; 0004 fills those.
"""

import sqlalchemy as sa
from alembic import op

from app.migrations import backfill

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Nullable and without a default that has to be computed: no row is written anew, the table is locked for a moment.
    # IF NOT EXISTS, as the column stays when an attempt fails later on.
    again = backfill.is_postgresql()  # SQLite does not know it, and keeps nothing of an attempt that failed
    op.add_column("deployments", sa.Column("seconds", sa.Float(), nullable=True), if_not_exists=again)

    took = (
        "extract(epoch FROM finished_at - started_at)"
        if backfill.is_postgresql()
        else "round((julianday(finished_at) - julianday(started_at)) * 86400, 3)"
    )
    backfill.in_batches("deployments", f"seconds = {took}", "finished_at IS NOT NULL AND seconds IS NULL")

    # CONCURRENTLY lets writers go on, and wants to be outside of a transaction. An attempt that failed has left an
    # invalid index, which IF NOT EXISTS alone would take for this one.
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
