"""The app on both databases: SQLite, and a real PostgreSQL that the tests start. Both are migrated by alembic."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.main import create_app
from app.models import Base
from app.settings import Settings, get_settings
from hosts import postgresql

PROJECT = Path(__file__).resolve().parents[2]


class Server:
    """A PostgreSQL server on a unix socket in a directory of its own; no TCP."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self._programs = programs
        # PostgreSQL refuses to run as root.
        self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(directory, "nobody", "nogroup")

    def initialise(self) -> None:
        self._run("initdb", "--username=logbook", "--auth=trust", "--no-sync", f"--pgdata={self.directory / 'data'}")

    def start(self) -> None:
        options = f"-k {self.directory} -c listen_addresses='' -c fsync=off -c max_connections=40"
        self._control("start", f"--log={self.directory / 'log'}", f"--options={options}")

    def stop(self) -> None:
        self._control("stop", "--mode=immediate")

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://logbook@/{database}?host={self.directory}"

    def create(self, database: str) -> str:
        user = pwd.getpwuid(os.geteuid()).pw_name
        done = subprocess.run(
            [self._programs / "createdb", "--username=logbook", f"--host={self.directory}", database],
            check=False, capture_output=True, text=True, env={**os.environ, "PGUSER": user},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return self.url(database)

    def create_role(self, connections: int) -> str:
        """A login that may hold so many connections; its name."""
        name = f"limited_{os.urandom(4).hex()}"
        run = [
            "createuser",
            f"--connection-limit={connections}",
            "--username=logbook",
            f"--host={self.directory}",
            name,
        ]
        self._run(*run)
        return name

    def _control(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, "--wait", "--silent", f"--pgdata={self.directory / 'data'}", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        command_line = [*self._as, str(self._programs / program), *arguments]
        subprocess.run(command_line, check=True, stdout=subprocess.DEVNULL, cwd=self.directory)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    programs = postgresql.programs()
    if programs is None:
        pytest.fail("The tests want a PostgreSQL server: apt-get install postgresql (or run `make unit`).")
    directory = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a unix socket may have 107 characters
    made = Server(directory, programs)
    made.initialise()
    made.start()
    yield made
    made.stop()
    shutil.rmtree(directory)


def alembic(url: str, root: Path = PROJECT) -> Config:
    """Alembic's configuration for a database, and the settings that env.py reads."""
    os.environ["DATABASE_URL"] = url
    get_settings.cache_clear()
    return Config(root / "alembic.ini")


@pytest.fixture(scope="session")
def migrated_postgresql(server: Server) -> str:
    url = server.create("logbook")
    command.upgrade(alembic(url), "head")
    return url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('sqlite')}/logbook.sqlite3"
    command.upgrade(alembic(url), "head")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of either kind."""
    url: str = request.getfixturevalue(f"migrated_{request.param}")
    return url


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(
        database_url=database_url, database_pool_size=2, release_tag="v1.2.0", release_sha="a" * 40, _env_file=None
    )


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its lifespan entered; the tables are emptied afterwards."""
    made = create_app(settings)
    async with made.router.lifespan_context(made):
        yield made
    engine = create_async_engine(make_url(settings.database_url))
    async with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            await connection.execute(text(f"DELETE FROM {table.name}"))  # noqa: S608  # our own names
    await engine.dispose()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://logbook.test") as made:
        yield made
