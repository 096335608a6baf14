"""Jobs."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(
        """CREATE TABLE job (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            seconds double precision NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            taken_by text,
            done_by text)"""
    )


def downgrade() -> None:
    op.execute("DROP TABLE job")
