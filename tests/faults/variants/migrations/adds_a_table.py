"""A table: what most migrations do."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    op.execute(f"CREATE TABLE added_{revision} (id bigint)")


def downgrade() -> None:
    op.execute(f"DROP TABLE added_{revision}")
