"""Guests."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE guest (id integer AUTO_INCREMENT PRIMARY KEY, name varchar(100) NOT NULL)")


def downgrade() -> None:
    op.execute("DROP TABLE guest")
