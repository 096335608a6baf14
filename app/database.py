"""The async engine and its sessions: one session per request, committed before the response is sent."""

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

POOL_TIMEOUT = 5  # seconds to wait for a free connection; with a longer wait requests would pile up
CONNECT_TIMEOUT = 5  # seconds
IDLE = 1.0  # seconds after which a connection is checked before it is used again

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
        hide_parameters=True,  # values must not be logged
        pool_size=settings.database_pool_size,
        max_overflow=0,  # the host's budget of connections depends on it
        pool_timeout=POOL_TIMEOUT,
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": {"application_name": name}},
    )
    _say_that_it_is_away(engine)
    _ping_idle_connections(engine)
    return engine


def make_sessions(engine: AsyncEngine) -> tuple[Sessions, Sessions]:
    """Sessions for requests that write, and for those that only read.

    Requests that only read use autocommit: they have nothing to roll back, and BEGIN and COMMIT would cost two more
    round trips.
    """
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")
    return async_sessionmaker(engine, expire_on_commit=False), async_sessionmaker(reading, expire_on_commit=False)


def _enforce_foreign_keys(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


def _say_that_it_is_away(engine: AsyncEngine) -> None:
    """Turn an OSError from connecting into a database error, as other code may raise OSError for other reasons."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def connect(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        except OSError as error:
            raise dialect.loaded_dbapi.OperationalError(f"no connection: {error or type(error).__name__}") from error


def _ping_idle_connections(engine: AsyncEngine) -> None:
    """Like `pool_pre_ping`, but without a ping for connections that were just in use, as a ping costs a round trip."""
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
            raise InvalidatePoolError from error  # the pool then makes new connections


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The session of a request.

    If the request can write, the session is committed when the route returns, and rolled back when it raises.
    """
    writes: Sessions = request.app.state.writes
    reads: Sessions = request.app.state.reads
    async with reads() if request.method in ("GET", "HEAD") else writes.begin() as session:
        yield session


# Scope "function": it ends when the route returns, before the response is sent. So the client gets an error when the
# commit fails, and not a success that did not happen.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]
