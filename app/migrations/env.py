"""Runs the migrations: one runner at a time, each migration in a transaction of its own, giving way to traffic."""

from __future__ import annotations

import asyncio
import logging
import time

from alembic import context
from sqlalchemy import Connection, event, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.models import Base
from app.settings import get_settings

LOCK_KEY = 7_305_421_963  # any number that no other program takes a lock on in this database
LOCK_WAIT = 300  # seconds to wait for another runner
# Seconds to wait for a table's lock, during which all who come after it wait, too. The role that migrates may have a
# lock_timeout of its own, which then counts; that of a database that somebody else runs has none.
GIVE_WAY = "SELECT set_config('lock_timeout', '2s', false) WHERE current_setting('lock_timeout') = '0'"
RETRIES = 5  # of a migration that did not get a table's lock within lock_timeout
LOCK_NOT_AVAILABLE = "55P03"

log = logging.getLogger("app.migrations")  # what is said under alembic's name goes nowhere


def configure_and_run(connection: Connection | None = None) -> None:
    """Run what is pending on `connection`, or print it as SQL when there is none."""
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
    """Take the advisory lock by asking again and again.

    A statement that waits for it would be a transaction that CREATE INDEX CONCURRENTLY of the other runner waits for.
    """
    deadline = time.monotonic() + LOCK_WAIT
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}):
        if time.monotonic() > deadline:
            raise SystemExit(f"Another migration has been running for {LOCK_WAIT} s; look at pg_stat_activity.")
        await asyncio.sleep(0.5)


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
    """Run as the only runner; a migration that did not get a lock in time is tried again, a little later each time."""
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
        # Its driver would begin a transaction only before a row changes: a migration that failed would leave its DDL.
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
