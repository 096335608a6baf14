"""Runs the migrations: one runner at a time, each migration in its own transaction, with short waits for locks."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time

from alembic import context
from sqlalchemy import Connection, event, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.models import Base
from app.settings import get_settings

LOCK_CLASS = 730_542_196  # any number that no other program uses for advisory locks in this database
LOCK_WAIT = 300  # seconds to wait for another runner
# How long to wait for the lock of a table: all later queries on the table wait as well meanwhile. Used if the role that
# migrates has no lock_timeout of its own, as on an external database.
GIVE_WAY = "SELECT set_config('lock_timeout', '2s', false) WHERE current_setting('lock_timeout') = '0'"
# Anybody who may connect can take an advisory lock. One of a role that cannot migrate, such as that of the app, keeps
# nobody waiting.
OTHERS = """
SELECT EXISTS (
    SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND l.classid = :class AND l.objsubid = 2 AND l.granted AND pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND has_schema_privilege(a.usesysid, current_schema(), 'CREATE'))
"""
TAKE = "SELECT pg_try_advisory_lock(CAST(:class AS integer), CAST(:number AS integer))"
GIVE = "SELECT pg_advisory_unlock(CAST(:class AS integer), CAST(:number AS integer))"
RETRIES = 5  # attempts for a migration that does not get a table's lock within lock_timeout
LOCK_NOT_AVAILABLE = "55P03"

log = logging.getLogger("app.migrations")  # alembic's own logger has no handler


def configure_and_run(connection: Connection | None = None) -> None:
    """Run the pending migrations on `connection`, or print them as SQL if there is no connection."""
    url = get_settings().database_url
    context.configure(
        connection=connection,
        url=None if connection else url,
        target_metadata=Base.metadata,
        literal_binds=connection is None,
        dialect_opts={"paramstyle": "named"},
        transaction_per_migration=True,
        render_as_batch=url.startswith("sqlite"),
    )
    with context.begin_transaction():
        context.run_migrations()


async def wait_for_turn(connection: AsyncConnection) -> None:
    """Wait until no other runner has a lock of the class, and hold one until the connection is closed.

    Each runner takes a number of its own and then looks for others: of two that come at once, both see the other, and
    try again. A statement that waits for a lock would be an open transaction, and CREATE INDEX CONCURRENTLY of the
    other runner would wait for that.
    """
    deadline = time.monotonic() + LOCK_WAIT
    while time.monotonic() < deadline:
        mine = {"class": LOCK_CLASS, "number": secrets.randbelow(2**31)}
        if await connection.scalar(text(TAKE), mine):
            if not await connection.scalar(text(OTHERS), {"class": LOCK_CLASS}):
                return
            await connection.execute(text(GIVE), mine)
        await asyncio.sleep(random.uniform(0.3, 0.7))  # noqa: S311  # nobody has to guess it
    raise SystemExit(f"Another migration has been running for {LOCK_WAIT} s. See pg_stat_activity.")


def is_lock_timeout(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE


async def run_on(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text(GIVE_WAY))
            await connection.commit()
        await connection.run_sync(configure_and_run)
        await connection.commit()


async def run_patiently(engine: AsyncEngine) -> None:
    """Run as the only runner. A migration that does not get a lock in time is retried after a pause."""
    async with engine.connect() as guard:
        await guard.execution_options(isolation_level="AUTOCOMMIT")
        await wait_for_turn(guard)
        for attempt in range(1, RETRIES):
            try:
                return await run_on(engine)
            except DBAPIError as error:
                if not is_lock_timeout(error):
                    raise
                log.warning("a table was locked for too long; trying again (%s of %s)", attempt + 1, RETRIES)
                await asyncio.sleep(attempt)
        return await run_on(engine)


async def run_online() -> None:
    engine = create_async_engine(get_settings().database_url, poolclass=pool.NullPool)
    if engine.dialect.name == "sqlite":
        # SQLite's driver begins a transaction only before rows change: the DDL of a failed migration would stay.
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        await (run_patiently(engine) if engine.dialect.name == "postgresql" else run_on(engine))
    finally:
        await engine.dispose()


if context.is_offline_mode():
    configure_and_run()
elif (given := context.config.attributes.get("connection")) is not None:
    configure_and_run(given)
else:
    asyncio.run(run_online())
