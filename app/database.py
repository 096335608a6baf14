"""The async engine and the sessions made from it: one a request, committed before the response is sent."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from app.settings import Settings

POOL_TIMEOUT = 5  # seconds to wait for a free connection; longer, and requests pile up
CONNECT_TIMEOUT = 5  # seconds
IDLE = 1.0  # seconds after which a connection is asked whether it still lives before it is used

Sessions = async_sessionmaker[AsyncSession]


def make_engine(settings: Settings) -> AsyncEngine:
    """The engine for the configured database, with a pool of exactly `database_pool_size` connections."""
    if settings.database_url.startswith("sqlite"):
        engine = create_async_engine(settings.database_url, hide_parameters=True)
        event.listen(engine.sync_engine, "connect", _enforce_foreign_keys)
        return engine
    name = f"logbook {settings.release_tag or settings.release_sha[:12]}".strip()
    engine = create_async_engine(
        settings.database_url,
        hide_parameters=True,  # values have no place in a log
        pool_size=settings.database_pool_size,
        max_overflow=0,  # the host's connection budget counts on it
        pool_timeout=POOL_TIMEOUT,
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": {"application_name": name}},
    )
    _say_that_it_is_away(engine)
    _ping_idle_connections(engine)
    return engine


def make_sessions(engine: AsyncEngine) -> tuple[Sessions, Sessions]:
    """For requests that write, and for those that only read.

    The latter commit each statement by itself: there is nothing to undo, and BEGIN and COMMIT would be a third and a
    fourth way to the server and back.
    """
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")
    return async_sessionmaker(engine, expire_on_commit=False), async_sessionmaker(reading, expire_on_commit=False)


def _enforce_foreign_keys(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


def _say_that_it_is_away(engine: AsyncEngine) -> None:
    """Make what the system says of a connection that cannot be made the database's error: an OSError may be anything's,
    say a file's that is missing."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def connect(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        except OSError as error:
            raise dialect.loaded_dbapi.OperationalError(f"no connection: {error or type(error).__name__}") from error


def _ping_idle_connections(engine: AsyncEngine) -> None:
    """What `pool_pre_ping` does, but not for connections that were in use a moment ago: a ping costs a round trip."""
    pool = engine.sync_engine.pool

    @event.listens_for(pool, "checkin")
    def note_the_time(_: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["idle_since"] = time.monotonic()

    @event.listens_for(pool, "checkout")
    def ping(connection: Any, entry: ConnectionPoolEntry, _: Any) -> None:
        if time.monotonic() - entry.info.get("idle_since", time.monotonic()) < IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except Exception as error:
            raise InvalidatePoolError from error  # the pool then connects anew


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The request's session.

    One that writes is committed when the route has returned and rolled back when it has raised. In one that only reads
    there is nothing to commit.
    """
    writes: Sessions = request.app.state.writes
    reads: Sessions = request.app.state.reads
    async with reads() if request.method in ("GET", "HEAD") else writes.begin() as session:
        yield session


# Scope "function": left when the route has returned, before the response is sent. A commit that fails is an error
# that the client sees, and never a success that did not happen.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]
