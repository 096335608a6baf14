"""A service as small as one can be that has everything a deploy has to do with."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import BackgroundTasks, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.behaviour import Behaviour
from app.models import Entry
from app.settings import get_settings

settings = get_settings()
behaviour = Behaviour()
engine = create_async_engine(
    settings.database_url,
    pool_size=settings.pool_size,
    max_overflow=0,
    pool_timeout=5,
    pool_pre_ping=True,  # a restarted server must cost no request
    connect_args={"timeout": 5, "server_settings": {"application_name": f"faults {settings.release_tag}"}},
)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    # All connections at once: a server that has none left later costs this release no request.
    with contextlib.suppress(Exception):
        opened = [await engine.connect() for _ in range(settings.pool_size)]
        for connection in opened:
            await connection.close()
    await behaviour.start()
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.middleware("http")
async def say_which_release_answers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call(request)
    response.headers["x-release"] = behaviour.sha
    return response


@app.get("/health/ready")
async def ready(response: Response) -> dict[str, object]:
    problem = "" if await behaviour.ready() else "not yet"
    try:
        async with asyncio.timeout(5), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except Exception as error:
        problem = f"the database does not answer: {type(error).__name__}"
    response.status_code = 503 if problem else 200
    return {
        "status": problem or "ready",
        "sha": behaviour.sha,
        "release": settings.release_tag,
        "pid": os.getpid(),
    }


@app.get("/")
async def read(response: Response) -> dict[str, str]:
    response.status_code = behaviour.status()
    return {"release": settings.release_tag}


@app.post("/", status_code=201)
async def write() -> dict[str, str]:
    async with engine.begin() as connection:
        await connection.execute(insert(Entry).values(text=settings.release_tag))
    return {"release": settings.release_tag}


async def _write_later(seconds: float) -> None:
    await asyncio.sleep(seconds)
    async with engine.begin() as connection:
        await connection.execute(insert(Entry).values(text="later"))


@app.post("/later", status_code=202)
async def later(seconds: float, tasks: BackgroundTasks) -> dict[str, str]:
    """What is asked for is done after the answer."""
    tasks.add_task(_write_later, seconds)
    return {"release": settings.release_tag}


@app.get("/slow")
async def slow(seconds: float) -> dict[str, str]:
    await asyncio.sleep(seconds)
    return {"release": settings.release_tag}


@app.websocket("/ws")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.send_text(await socket.receive_text())
