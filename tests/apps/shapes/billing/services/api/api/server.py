"""Invoices in PostgreSQL, from a factory."""

import contextlib
import os
from collections.abc import AsyncIterator

import money
from fastapi import FastAPI, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=4, max_overflow=0)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


def create_app() -> FastAPI:
    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        return {"ok": True}

    @app.get("/")
    async def count(response: Response) -> dict[str, object]:
        response.headers["x-release"] = os.environ["RELEASE_TAG"]
        async with engine.connect() as connection:
            number, cents = (await connection.execute(text("SELECT count(*), sum(cents) FROM invoice"))).one()
        return {"count": number, "sum": money.text(cents or 0)}

    @app.post("/", status_code=201)
    async def bill(response: Response) -> dict[str, bool]:
        response.headers["x-release"] = os.environ["RELEASE_TAG"]
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO invoice (cents) VALUES (199)"))
        return {"ok": True}

    return app
