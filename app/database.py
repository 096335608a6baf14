"""The async engine and the sessions made from it: one a request, committed before the response is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.settings import Settings

POOL_TIMEOUT = 5  # seconds to wait for a free connection; longer, and requests pile up
CONNECT_TIMEOUT = 5  # seconds


def make_engine(settings: Settings) -> AsyncEngine:
    """The engine for the configured database, with a pool of exactly `database_pool_size` connections."""
    if settings.database_url.startswith("sqlite"):
        engine = create_async_engine(settings.database_url)
        event.listen(engine.sync_engine, "connect", _enforce_foreign_keys)
        return engine
    name = f"logbook {settings.release_tag or settings.release_sha[:12]}".strip()
    return create_async_engine(
        settings.database_url,
        pool_size=settings.database_pool_size,
        max_overflow=0,  # the host's connection budget counts on it
        pool_timeout=POOL_TIMEOUT,
        pool_pre_ping=True,  # a restarted server must cost no request
        connect_args={"timeout": CONNECT_TIMEOUT, "server_settings": {"application_name": name}},
    )


def make_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)


def _enforce_foreign_keys(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """The request's session. It is committed when the route has returned and rolled back when it has raised."""
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    async with sessions() as session, session.begin():
        yield session


# Scope "function": left when the route has returned, before the response is sent. A commit that fails is an error
# that the client sees, and never a success that did not happen.
Session = Annotated[AsyncSession, Depends(get_session, scope="function")]
