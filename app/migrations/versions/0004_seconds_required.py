"""Seconds of every deployment that has ended.

Contract: the code of 0002 does not write them, and cannot run on this schema.
"""

from alembic import op

from app.migrations import backfill

revision = "0004"
down_revision = "0003"
oldest_compatible = "0003"  # the code that has 0003 writes `seconds` together with `finished_at`
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that the code of 0002 wrote between the backfill of 0003 and its end.
    took = (
        "extract(epoch FROM finished_at - started_at)"
        if backfill.is_postgresql()
        else "round((julianday(finished_at) - julianday(started_at)) * 86400, 3)"
    )
    backfill.in_batches("deployments", f"seconds = {took}", "finished_at IS NOT NULL AND seconds IS NULL")

    if backfill.is_postgresql():
        # NOT VALID does not check existing rows, so its lock, which also blocks readers, is held only for a moment. The
        # constraint is dropped first, in the same statement, as it already exists if an attempt has failed below.
        op.execute(
            "-- squawk-ignore ban-drop-constraint\n"  # the same statement adds it again
            "ALTER TABLE deployments DROP CONSTRAINT IF EXISTS ck_deployments_seconds, "
            "ADD CONSTRAINT ck_deployments_seconds CHECK ((finished_at IS NULL) = (seconds IS NULL)) NOT VALID"
        )
        # VALIDATE checks all rows, with a lock that blocks neither readers nor writers. It has its own transaction, as
        # the first statement's lock would otherwise be held until the check is done.
        with backfill.autocommit():
            op.execute("ALTER TABLE deployments VALIDATE CONSTRAINT ck_deployments_seconds")
    else:
        with op.batch_alter_table("deployments") as batch:  # on SQLite the table must be recreated for a constraint
            batch.create_check_constraint(op.f("ck_deployments_seconds"), "(finished_at IS NULL) = (seconds IS NULL)")


def downgrade() -> None:
    with op.batch_alter_table("deployments") as batch:
        batch.drop_constraint(op.f("ck_deployments_seconds"), type_="check")
