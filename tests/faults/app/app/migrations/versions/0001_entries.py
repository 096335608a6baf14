"""Entries; and how long the migrations nap that nap, which the tests set."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("text", sa.Text(), nullable=False),
    )
    op.create_table("nap", sa.Column("seconds", sa.Integer(), nullable=False))
    op.execute("INSERT INTO nap VALUES (0)")


def downgrade() -> None:
    op.drop_table("nap")
    op.drop_table("entries")
