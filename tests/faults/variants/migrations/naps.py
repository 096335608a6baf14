"""A migration that takes as long as the tests say; it ends at once when they set `nap.seconds` to 0."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"

NAP = """
    DO $$ BEGIN
        WHILE clock_timestamp() < statement_timestamp() + (SELECT seconds FROM nap) * interval '1 s' LOOP
            PERFORM pg_sleep(0.05);
        END LOOP;
    END $$
"""


def upgrade() -> None:
    op.execute(f"CREATE TABLE added_{revision} (id bigint)")
    op.execute(NAP)


def downgrade() -> None:
    op.execute(f"DROP TABLE added_{revision}")
