"""Filling a new column of a large table while the app is using it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import sqlalchemy as sa
from alembic import op

BATCH = 1_000  # rows that one statement locks, for some milliseconds

# Ids only increase, and a row that was filled is no longer "missing": a second attempt continues where the first ended.
PICK = (
    "SELECT max(id){into} FROM (SELECT id FROM {table} WHERE id > {done} AND {missing} ORDER BY id LIMIT {batch}) AS b"
)
UPDATE = "UPDATE {table} SET {assignment} WHERE id > {done} AND id <= {upto} AND {missing}"

# The same for `--sql`. psql runs each round in its own transaction, unless it is told to use a single one.
LOOP = """
DO $$
DECLARE
  done bigint := 0;
  upto bigint;
BEGIN
  LOOP
    {pick};
    EXIT WHEN upto IS NULL;
    {update};
    COMMIT;
    done := upto;
  END LOOP;
END
$$
"""
LOCALS = {"into": " INTO upto", "done": "done", "upto": "upto"}


def is_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"


def autocommit() -> AbstractContextManager[None]:
    """Run each statement in the block in its own transaction; what the migration did before it is committed first.

    An attempt can then fail at any step, so each step of a migration that uses this must work when it is run again. On
    SQLite, which has only one writer, the migration stays one transaction.
    """
    return op.get_context().autocommit_block() if is_postgresql() else nullcontext()


def in_batches(table: str, assignment: str, missing: str) -> None:
    """`UPDATE table SET assignment WHERE missing`, in batches, so that no row is locked for long."""
    parts = {"table": table, "assignment": assignment, "missing": missing, "batch": BATCH}
    online = not op.get_context().as_sql
    parts |= {"into": "", "done": ":done", "upto": ":upto"} if online else LOCALS
    pick, update = PICK.format_map(parts), UPDATE.format_map(parts)
    with autocommit():
        if online:
            _run(sa.text(pick), sa.text(update))
        elif is_postgresql():
            op.execute(LOOP.format(pick=pick, update=update))
        else:
            op.execute(f"UPDATE {table} SET {assignment} WHERE {missing}")  # noqa: S608  # what a migration wrote


def _run(pick: sa.TextClause, update: sa.TextClause) -> None:
    connection, done = op.get_bind(), 0
    while (upto := connection.scalar(pick, {"done": done})) is not None:
        connection.execute(update, {"done": done, "upto": upto})
        done = upto
