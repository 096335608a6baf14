"""A migration that has done something when it fails."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    op.execute("CREATE TABLE half_way (id bigint)")
    raise RuntimeError("the variant raises half-way")


def downgrade() -> None:
    op.execute("DROP TABLE half_way")
