"""A migration that reads the app's settings as it is loaded, and prints."""

import os

from alembic import op

from app.settings import get_settings

revision = "REVISION"
down_revision = "HEAD"
settings = get_settings()
print("loaded")  # noqa: T201  # what it is for
os.write(1, b'{"heads": [], "revisions": []}\n')


def upgrade() -> None:
    op.execute(f"CREATE TABLE added_{revision} (id bigint)")
    print('{"event": "result", "outcome": "failed"}')  # noqa: T201  # what it is for


def downgrade() -> None:
    op.execute(f"DROP TABLE added_{revision}")
