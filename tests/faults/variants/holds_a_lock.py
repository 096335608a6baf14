"""A release whose workers hold a lock in PostgreSQL as long as they run, as one does that elects a leader."""

from app.normal import Normal
from sqlalchemy import text


class Behaviour(Normal):
    async def start(self) -> None:
        from app.main import engine

        self._connection = await engine.connect()
        await self._connection.execute(text("SELECT pg_advisory_lock_shared(1)"))
        await self._connection.commit()
