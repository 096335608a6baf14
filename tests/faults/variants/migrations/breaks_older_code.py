"""A migration that only code which knows the one before it can live with."""

from alembic import op

revision = "REVISION"
down_revision = "HEAD"
oldest_compatible = "HEAD"


def upgrade() -> None:
    op.execute(f"CREATE TABLE added_{revision} (id bigint)")


def downgrade() -> None:
    op.execute(f"DROP TABLE added_{revision}")
