from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from .conftest import PROJECT, Server, alembic

INSERT = "INSERT INTO services (name, repository_url) VALUES ('kept', 'https://git.example.com/kept')"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database in which nothing has been migrated."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite3"
    server: Server = request.getfixturevalue("server")
    return server.create(f"test_{os.urandom(4).hex()}")


def _query(url: str, statement: str) -> list[tuple[object, ...]]:
    async def run() -> list[tuple[object, ...]]:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            result = await connection.execute(text(statement))
            rows = [tuple(row) for row in result] if result.returns_rows else []
        await engine.dispose()
        return rows

    return asyncio.run(run())


def test_every_step_goes_up_and_down_with_data_in_the_tables(empty_database: str) -> None:
    config = alembic(empty_database)
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    command.upgrade(config, revisions[0])
    _query(empty_database, INSERT)
    for revision in revisions[1:]:
        command.upgrade(config, revision)
    for revision in revisions[-2::-1]:
        command.downgrade(config, revision)
    assert _query(empty_database, "SELECT name FROM services") == [("kept",)]
    command.downgrade(config, "base")
    assert _query(empty_database, "SELECT * FROM alembic_version") == []


def test_the_models_are_what_the_migrations_make(empty_database: str) -> None:
    config = alembic(empty_database)
    command.upgrade(config, "head")
    command.check(config)


def test_the_sql_can_be_printed_without_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    command.upgrade(alembic("postgresql+asyncpg://nobody@/nowhere"), "head", sql=True)
    assert "CREATE TABLE services" in capsys.readouterr().out


def test_two_runners_take_turns(server: Server) -> None:
    """Without the lock, the second one fails on a table that the first one has just made."""
    url = server.create("two_runners")
    environment = {**os.environ, "DATABASE_URL": url}
    run = [sys.executable, "-m", "alembic", "upgrade", "head"]
    runners = [
        subprocess.Popen(run, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for runner in runners:
        output, errors = runner.communicate(timeout=60)
        assert runner.returncode == 0, output + errors


def test_the_second_version_of_the_deploy_tests_is_sound(tmp_path: Path, empty_database: str) -> None:
    """tests/overlay laid over this tree: it migrates, its models match, and the rows of the first version stay."""
    tree = tmp_path / "tree"
    for name in ("app", "alembic.ini"):
        source = PROJECT / name
        shutil.copytree(source, tree / name) if source.is_dir() else shutil.copy(source, tree / name)
    shutil.copytree(PROJECT / "tests/overlay", tree, dirs_exist_ok=True)
    environment = {**os.environ, "DATABASE_URL": empty_database}
    for arguments in (["upgrade", "0001"], ["upgrade", "head"], ["check"]):
        run = [sys.executable, "-m", "alembic", *arguments]
        done = subprocess.run(run, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    _query(empty_database, INSERT)
    assert _query(empty_database, "SELECT count(*) FROM notes") == [(0,)]
