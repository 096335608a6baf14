"""A guest book in MariaDB, over asyncmy."""

import os

from fastapi import FastAPI, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"], pool_pre_ping=True, pool_size=4, max_overflow=0)


@app.get("/health")
async def health() -> dict[str, bool]:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    return {"ok": True}


@app.get("/")
async def listed(response: Response) -> dict[str, object]:
    response.headers["x-release"] = os.environ["RELEASE_TAG"]
    async with engine.connect() as connection:
        count = (await connection.execute(text("SELECT count(*) FROM guest"))).scalar_one()
        user = (await connection.execute(text("SELECT current_user()"))).scalar_one()
        last = (await connection.execute(text("SELECT name FROM guest ORDER BY id DESC LIMIT 1"))).scalar()
    return {"count": count, "user": user, "last": last}


@app.post("/", status_code=201)
async def sign(response: Response, name: str = "Zoë 🚢") -> dict[str, bool]:
    response.headers["x-release"] = os.environ["RELEASE_TAG"]
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO guest (name) VALUES (:name)"), {"name": name})
    return {"ok": True}
