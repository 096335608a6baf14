"""The app on both databases: SQLite, and a real PostgreSQL that the tests start. Both are migrated by alembic."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import async_sessionmaker

from app.main import create_app
from app.schemas.token import Scope, TokenCreate
from app.services import tokens
from app.settings import Settings, get_settings
from hosts import postgresql

PROJECT = Path(__file__).resolve().parents[2]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Server:
    """A PostgreSQL server on a unix socket in its own directory, without TCP."""

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

    def kill(self) -> None:
        """Kill all its processes and wait until they have ended."""
        main = int((self.directory / "data/postmaster.pid").read_text().splitlines()[0])
        os.kill(main, signal.SIGSTOP)  # it starts no other meanwhile
        killed = [main, *children(main)]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while left := [pid for pid in killed if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, f"killed, but still there: {left}"
            time.sleep(0.01)

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://logbook@/{database}?host={self.directory}"

    def create(self, database: str, template: str = "template1") -> str:
        """Create a copy of the database `template`; its URL."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        where = ["--username=logbook", f"--host={self.directory}"]
        done = subprocess.run(
            [self._programs / "createdb", *where, f"--template={template}", database],
            check=False, capture_output=True, text=True, env={**os.environ, "PGUSER": user},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return self.url(database)

    def create_role(self, connections: int) -> str:
        """Create a login with this limit of connections; its name."""
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
        pytest.fail("The tests want a PostgreSQL server: apt-get install postgresql (or run `make app`).")
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
def template(server: Server) -> str:
    """The name of a migrated database without connections, which is quick to copy."""
    command.upgrade(alembic(server.create("template_logbook")), "head")
    return "template_logbook"


@pytest.fixture(scope="session")
def migrated_postgresql(server: Server, template: str) -> str:
    return server.create("logbook", template)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "logbook.sqlite3"
    command.upgrade(alembic(f"sqlite+aiosqlite:///{path}"), "head")
    return path


def make_settings(url: str, **values: Any) -> Settings:
    """The settings of an app on this database, without the variables of the environment."""
    known = {"database_pool_size": 2, "release_tag": "v1.2.0", "release_sha": "a" * 40}
    return Settings(database_url=url, _env_file=None, **{**known, **values})


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings for a migrated database: a new SQLite file, or the PostgreSQL database that all tests share."""
    if request.param == "sqlite":
        copied = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path)
        return make_settings(f"sqlite+aiosqlite:///{copied}")
    return make_settings(request.getfixturevalue("migrated_postgresql"))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its lifespan started. Its writes to PostgreSQL are rolled back at the end."""
    made = create_app(settings)
    async with made.router.lifespan_context(made):
        if settings.database_url.startswith("sqlite"):
            yield made
            return
        async with made.state.engine.connect() as connection:
            transaction = await connection.begin()
            # Commits of the app end a savepoint of this one transaction; what only reads commits each statement, and
            # so needs none.
            made.state.writes, made.state.reads = (
                async_sessionmaker(connection, expire_on_commit=False, join_transaction_mode=mode)
                for mode in ("create_savepoint", "rollback_only")
            )
            yield made
            await transaction.rollback()


@pytest.fixture
async def committing_app(server: Server, template: str) -> AsyncIterator[FastAPI]:
    """An application that really commits, on its own PostgreSQL database: for concurrent requests."""
    made = create_app(make_settings(server.create(f"test_{os.urandom(4).hex()}", template), database_pool_size=5))
    async with made.router.lifespan_context(made):
        yield made


def client_of(app: FastAPI, token: str = "") -> httpx.AsyncClient:
    """A client that calls the app without a server, with the token if one is given."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(transport=transport, base_url="https://logbook.test", headers=headers)


async def make_token(app: FastAPI, scope: Scope = Scope.ADMIN, name: str = "tests") -> str:
    async with app.state.writes() as session, session.begin():
        _, text = await tokens.create(session, TokenCreate(name=name, scope=scope))
    return text


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token that is allowed to do everything."""
    async with client_of(app, await make_token(app)) as made:
        yield made


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as made:
        yield made
