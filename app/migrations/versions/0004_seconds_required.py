"""Seconds of every deployment that has ended.

Contract: the code of 0002 writes none, and cannot run from here on.
"""

from alembic import op

from app.migrations import backfill

revision = "0004"
down_revision = "0003"
oldest_compatible = "0003"  # the code that has 0003 writes `seconds` together with `finished_at`
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What the code of 0002 wrote between the backfill of 0003 and its own end.
    took = (
        "extract(epoch FROM finished_at - started_at)"
        if backfill.is_postgresql()
        else "round((julianday(finished_at) - julianday(started_at)) * 86400, 3)"
    )
    backfill.in_batches("deployments", f"seconds = {took}", "finished_at IS NOT NULL AND seconds IS NULL")

    if backfill.is_postgresql():
        # NOT VALID looks at no row that is there, so its lock, which stops readers too, is held for a moment. The
        # constraint makes way first, in the same statement, as it is there already when an attempt failed below.
        op.execute(
            "-- squawk-ignore ban-drop-constraint\n"  # it is back before anybody can miss it
            "ALTER TABLE deployments DROP CONSTRAINT IF EXISTS ck_deployments_seconds, "
            "ADD CONSTRAINT ck_deployments_seconds CHECK ((finished_at IS NULL) = (seconds IS NULL)) NOT VALID"
        )
        # VALIDATE looks at all of them, under a lock that stops no reader and no writer; a transaction of its own, as
        # in the one above that one's lock would be held to the end.
        with backfill.autocommit():
            op.execute("ALTER TABLE deployments VALIDATE CONSTRAINT ck_deployments_seconds")
    else:
        with op.batch_alter_table("deployments") as batch:  # SQLite gets a constraint by making the table anew
            batch.create_check_constraint(op.f("ck_deployments_seconds"), "(finished_at IS NULL) = (seconds IS NULL)")


def downgrade() -> None:
    with op.batch_alter_table("deployments") as batch:
        batch.drop_constraint(op.f("ck_deployments_seconds"), type_="check")
