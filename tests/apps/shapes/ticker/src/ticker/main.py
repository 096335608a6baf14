"""Events in PostgreSQL, in tables that the app makes itself; a worker takes them from Redis."""

import contextlib
import os
from collections.abc import AsyncIterator

import redis
from fastapi import FastAPI, Response
from sqlalchemy import BigInteger, create_engine, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_engine(os.environ["DATABASE_URL"], pool_size=4, max_overflow=0)
store = redis.from_url(os.environ["CACHE_URL"], decode_responses=True)
RELEASE = os.environ["RELEASE_TAG"]


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "event"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    release: Mapped[str]


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(1)")
        Base.metadata.create_all(connection)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/live")
def live() -> dict[str, bool]:
    return {"ok": store.ping()}


@app.get("/")
def count(response: Response) -> dict[str, object]:
    response.headers["x-release"] = RELEASE
    with engine.connect() as connection:
        events = connection.execute(select(func.count()).select_from(Event)).scalar_one()
    return {"events": events, "worked": int(store.get("worked") or 0), "keys": sorted(store.keys())}


@app.post("/", status_code=201)
def event(response: Response) -> dict[str, bool]:
    response.headers["x-release"] = RELEASE
    with engine.begin() as connection:
        connection.execute(insert(Event).values(release=RELEASE))
    store.lpush("events", RELEASE)
    return {"ok": True}


@app.get("/beats")
def beats() -> dict[str, dict[str, str]]:
    """From when to when each beat was seen, by its name."""
    first, last = store.hgetall("first"), store.hgetall("last")
    return {name: {"first": first[name], "last": last[name]} for name in first}
