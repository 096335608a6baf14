"""Invoices."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE invoice (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, cents integer NOT NULL)")


def downgrade() -> None:
    op.execute("DROP TABLE invoice")
