"""A variation of the tiny app with an address for everything that an app may want to do on its host."""

from __future__ import annotations

import pytest

from tests.faults.site import APP, Site, Version

ROUTES = '''
"""What an app may want to do: each address does one thing, and says what came of it."""

import asyncio
import json
import os
import pathlib
import sqlite3
import tempfile
import time

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import text

from app.main import engine

router = APIRouter()


@router.post("/sql")
async def sql(request: Request) -> list[str]:
    """Runs the statements that are sent, in one transaction, as the app; what the last one answers."""
    async with engine.begin() as connection:
        for statement in await request.json():
            found = await connection.execute(text(statement))
        return [str(row[0]) for row in found] if found.returns_rows else []


@router.get("/headers")
async def headers(request: Request) -> dict[str, str]:
    return dict(request.headers)


@router.post("/kept")
async def keep(request: Request) -> dict[str, str]:
    """Writes what is sent to HOME, and to a database in the directory that the variable names."""
    data = (await request.body()).decode()
    (pathlib.Path.home() / "kept.txt").write_text(data)
    with sqlite3.connect(os.path.join(os.environ["STATE_DIRECTORY"], "kept.db")) as database:
        database.execute("CREATE TABLE IF NOT EXISTS kept (text TEXT)")
        database.execute("INSERT INTO kept VALUES (?)", [data])
    return {"home": str(pathlib.Path.home()), "temporary": tempfile.mkdtemp()}


@router.get("/kept")
async def kept() -> dict[str, object]:
    with sqlite3.connect(os.path.join(os.environ["STATE_DIRECTORY"], "kept.db")) as database:
        rows = [row[0] for row in database.execute("SELECT text FROM kept")]
    return {"file": (pathlib.Path.home() / "kept.txt").read_text(), "rows": rows}


def _nice() -> None:
    os.nice(5)


def _meminfo() -> None:
    open("/proc/meminfo").close()


def _upload() -> None:
    pathlib.Path("uploads").mkdir()


@router.get("/denied/{what}")
async def denied(what: str) -> None:
    {"nice": _nice, "meminfo": _meminfo, "upload": _upload}[what]()


async def _events(kind: str, number: int, pause: float, size: int):
    for counted in range(number):
        event = json.dumps([counted, time.time()])
        yield f"data: {event}\\n\\n" if kind == "sse" else f"{event}{' ' * size}\\n"
        await asyncio.sleep(pause)


TYPES = {"sse": "text/event-stream", "ndjson": "application/x-ndjson", "text": "text/plain", "json": "application/json"}


@router.get("/stream/{kind}")
async def stream(
    kind: str, number: int = 4, pause: float = 0.3, size: int = 0, buffering: str = ""
) -> StreamingResponse:
    answer = StreamingResponse(_events(kind, number, pause, size), media_type=TYPES.get(kind))
    if kind == "download":
        answer.headers["Content-Disposition"] = "attachment; filename=export.csv"
    if buffering:
        answer.headers["X-Accel-Buffering"] = buffering
    return answer


@router.put("/upload")
async def upload(request: Request) -> dict[str, int]:
    return {"bytes": sum([len(chunk) async for chunk in request.stream()])}
'''

FILES: dict[str, str | None] = {
    "app/workshop.py": ROUTES,
    "app/main.py": (APP / "app/main.py").read_text()
    + "\nfrom app.workshop import router  # noqa: E402\n\napp.include_router(router)\n",
}


@pytest.fixture(scope="session")
def made(provisioned: Site) -> Version:
    """The version with the addresses, and with a migration that adds a schema."""
    return provisioned.version(migration="adds_a_schema", files=FILES)


@pytest.fixture
def workshop(site: Site, made: Version) -> Site:
    """The host, with that version live."""
    if site.live() != made:
        site.deploy(made)
    return site
