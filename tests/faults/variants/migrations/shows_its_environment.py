"""A migration that fails, with all of its environment in the message."""

import os

revision = "REVISION"
down_revision = "HEAD"


def upgrade() -> None:
    raise RuntimeError(dict(os.environ))


def downgrade() -> None:
    pass
