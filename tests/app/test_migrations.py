from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.migrations import backfill
from hosts import postgresql

from .conftest import PROJECT, Server, alembic

SERVICE = "INSERT INTO services (name, repository_url) VALUES ('kept', 'https://git.example.com/kept')"
TOKEN = "INSERT INTO api_tokens (name, scope, key, secret_hash) VALUES ('ci', 'write', 'k', 'h')"
# As the code of 0002 writes them: one that is under way, and one that has ended after a minute and a half.
COLUMNS = 'service_id, token_id, environment, version, "commit", actor, status, started_at, finished_at'
INSERT = f"INSERT INTO deployments ({COLUMNS}) SELECT 1, 1, 'prod', 'v1', 'c0ffee', 'ops', "
STARTED = f"{INSERT} 'started', '2026-11-24 10:00:00.000000', NULL"
FINISHED = f"{INSERT} 'succeeded', '2026-11-24 10:00:00.000000', '2026-11-24 10:01:30.250000'"
NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)"
MANY = f"{NUMBERS} {FINISHED} FROM numbers"

WRITTEN = {"0001": [SERVICE], "0002": [TOKEN, STARTED, FINISHED], "0003": [FINISHED]}
CONTENT = [
    "SELECT id, name, repository_url, description, created_at FROM services ORDER BY id",
    "SELECT id, name, scope, key, secret_hash, created_at FROM api_tokens ORDER BY id",
    f"SELECT id, host, kind, phases, detail, {COLUMNS} FROM deployments ORDER BY id",  # noqa: S608  # our own names
]
FILLED = "SELECT count(*) FROM deployments WHERE seconds = 90.25"


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any migration."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite3"
    return _new(request.getfixturevalue("server"))


def _new(server: Server) -> str:
    return server.create(f"test_{os.urandom(4).hex()}")


def _query(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run the statements in one transaction; the rows of the last statement."""

    async def run() -> list[tuple[object, ...]]:
        engine = create_async_engine(url)
        rows: list[tuple[object, ...]] = []
        try:
            async with engine.begin() as connection:
                for statement in statements:
                    result = await connection.execute(text(statement))
                    rows = [tuple(row) for row in result] if result.returns_rows else []
        finally:
            await engine.dispose()
        return rows

    return asyncio.run(run())


def _migrate(url: str, revision: str) -> None:
    command.upgrade(alembic(url), revision)


def _psql(server: Server, url: str, statements: str) -> subprocess.CompletedProcess[str]:
    programs = postgresql.programs()
    assert programs is not None
    target = [f"--host={server.directory}", "--username=logbook", f"--dbname={make_url(url).database}"]
    run = [str(programs / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", *target]
    return subprocess.run(run, input=statements, capture_output=True, text=True, check=False)


def _revision(url: str) -> object:
    return _query(url, "SELECT version_num FROM alembic_version")[0][0]


def _revisions() -> list[str]:
    scripts = ScriptDirectory.from_config(alembic("sqlite+aiosqlite://")).walk_revisions()
    return [script.revision for script in scripts][::-1]


def _content(url: str) -> list[list[tuple[object, ...]]]:
    return [_query(url, statement) for statement in CONTENT]


def test_every_step_goes_up_and_down_with_data_in_the_tables(empty_database: str) -> None:
    url, revisions = empty_database, _revisions()
    for revision in revisions:
        _migrate(url, revision)
        for statement in WRITTEN.get(revision, []):
            _query(url, statement)
    written = _content(url)
    assert [len(rows) for rows in written] == [1, 1, 3]
    for revision in revisions[-2:0:-1]:
        command.downgrade(alembic(url), revision)
        assert _content(url) == written
    _migrate(url, "head")
    assert _content(url) == written
    command.downgrade(alembic(url), "0001")
    assert _query(url, "SELECT name FROM services") == [("kept",)]
    command.downgrade(alembic(url), "base")
    assert _query(url, "SELECT * FROM alembic_version") == []


def test_seconds_of_rows_written_by_older_code_are_filled(empty_database: str) -> None:
    url, seconds = empty_database, "SELECT seconds FROM deployments ORDER BY id"
    _migrate(url, "0002")
    _query(url, SERVICE, TOKEN, STARTED, FINISHED)
    _migrate(url, "0003")
    assert _query(url, seconds) == [(None,), (90.25,)]
    _query(url, FINISHED)
    assert _query(url, seconds) == [(None,), (90.25,), (None,)]
    _migrate(url, "0004")
    assert _query(url, seconds) == [(None,), (90.25,), (90.25,)]
    with pytest.raises(IntegrityError, match="ck_deployments_seconds"):
        _query(url, FINISHED)
    # SQLite has made the table anew: the other constraints have come along.
    with pytest.raises(IntegrityError, match="ck_deployments_kind"):
        _query(url, "UPDATE deployments SET kind = 'neither'")


def test_models_match_the_migrations(empty_database: str) -> None:
    config = alembic(empty_database)
    command.upgrade(config, "head")
    command.check(config)


# A table that is large and in use


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def _until(client: AsyncConnection, question: str, answer: int) -> None:
    deadline = time.monotonic() + 30
    while await client.scalar(text(question)) != answer:
        assert time.monotonic() < deadline, question
        await asyncio.sleep(0.02)


async def _begin_upgrade(url: str, revision: str) -> asyncio.subprocess.Process:
    """Alembic, running in a process beside the test."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "upgrade", revision),
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_backfill_locks_no_row_for_longer_than_its_batch(server: Server) -> None:
    """A client locks a row of the third batch. The first two are done and unlocked, and alembic retries."""
    url = _new(server)
    _migrate(url, "0003")
    _query(url, SERVICE, TOKEN, MANY)
    _query(url, f"ALTER DATABASE {make_url(url).database} SET lock_timeout = '300ms'")

    async def hold_a_row_while_it_runs() -> tuple[int, str]:
        engine = create_async_engine(url)
        async with engine.connect() as holder, engine.connect() as client:
            await client.execution_options(isolation_level="AUTOCOMMIT")
            await holder.execute(text("SELECT * FROM deployments WHERE id = 2100 FOR UPDATE"))
            run = await _begin_upgrade(url, "0004")
            await _until(client, FILLED, 2 * backfill.BATCH)
            await _until(client, WAITING, 1)
            await client.execute(text("UPDATE deployments SET detail = 'written meanwhile' WHERE id <= 2000"))
            await _until(client, WAITING, 0)  # its lock_timeout has ended the batch
            assert run.returncode is None
            await holder.rollback()
            output, _ = await run.communicate()
        await engine.dispose()
        assert run.returncode is not None
        return run.returncode, output.decode()

    code, output = asyncio.run(hold_a_row_while_it_runs())
    assert code == 0, output
    assert _query(url, FILLED) == [(2500,)]


def test_a_migration_that_waits_for_a_lock_does_not_block_others_for_long(server: Server) -> None:
    """Somebody reads for long. What wants to change the table waits for that, and readers wait behind it: not for long,
    though nobody has set a lock_timeout."""
    url = _new(server)
    _migrate(url, "0002")

    async def read_while_it_waits() -> tuple[int, str]:
        engine = create_async_engine(url)
        async with engine.connect() as holder, engine.connect() as client:
            await client.execution_options(isolation_level="AUTOCOMMIT")
            await holder.execute(text("SELECT * FROM deployments"))
            run = await _begin_upgrade(url, "0003")
            await _until(client, WAITING, 1)
            async with asyncio.timeout(10):
                await client.execute(text("SELECT * FROM deployments"))
            assert run.returncode is None
            await holder.rollback()
            output, _ = await run.communicate()
        await engine.dispose()
        assert run.returncode is not None
        return run.returncode, output.decode()

    code, output = asyncio.run(read_while_it_waits())
    assert code == 0, output
    assert "locked for too long" in output
    assert _revision(url) == "0003"


INTERRUPT = {
    "postgresql": [
        """CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.id = 1500 THEN RAISE EXCEPTION 'interrupted'; END IF; RETURN NEW; END $$""",
        "CREATE TRIGGER stop BEFORE UPDATE ON deployments FOR EACH ROW EXECUTE FUNCTION stop()",
    ],
    "sqlite": [
        """CREATE TRIGGER stop BEFORE UPDATE ON deployments WHEN NEW.id = 1500
           BEGIN SELECT RAISE(ABORT, 'interrupted'); END"""
    ],
}


def test_a_backfill_that_was_interrupted_is_continued_by_the_next_run(empty_database: str) -> None:
    url, kind = empty_database, empty_database.partition("+")[0]
    _migrate(url, "0002")
    _query(url, SERVICE, TOKEN, MANY, *INTERRUPT[kind])
    with pytest.raises(DBAPIError, match="interrupted"):
        _migrate(url, "head")
    assert _revision(url) == "0002"
    if kind == "postgresql":
        assert _query(url, FILLED) == [(1000,)]
    else:  # one transaction: nothing of it is there, neither rows nor the column
        with pytest.raises(DBAPIError, match="no such column"):
            _query(url, FILLED)
    _query(url, "DROP TRIGGER stop" + " ON deployments" * (kind == "postgresql"))
    _migrate(url, "head")
    assert _query(url, FILLED) == [(2500,)]


def test_remains_of_failed_attempts_are_replaced(server: Server) -> None:
    """An invalid index in place of that of 0003, and a constraint of 0004 that could not be validated."""
    url = _new(server)
    _migrate(url, "0002")
    _query(url, SERVICE, TOKEN, FINISHED, FINISHED)
    failed = _psql(
        server, url, "CREATE UNIQUE INDEX CONCURRENTLY ix_deployments_finished_at ON deployments (finished_at)"
    )
    assert "could not create unique index" in failed.stderr
    valid = "SELECT indisvalid, indisunique FROM pg_index WHERE indexrelid = 'ix_deployments_finished_at'::regclass"
    assert _query(url, valid) == [(False, True)]
    _migrate(url, "0003")
    assert _query(url, valid) == [(True, False)]
    _query(url, "ALTER TABLE deployments ADD CONSTRAINT ck_deployments_seconds CHECK (seconds IS NULL) NOT VALID")
    _migrate(url, "0004")
    assert _query(url, "SELECT convalidated FROM pg_constraint WHERE conname = 'ck_deployments_seconds'") == [(True,)]


# As SQL


def _printed(revisions: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    command.upgrade(alembic("postgresql+asyncpg://nobody@/nowhere"), revisions, sql=True)
    return capsys.readouterr().out


def test_printed_sql_does_the_same_as_the_migrations(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    url = _new(server)
    for revisions in ("base:0003", "0003:head"):
        done = _psql(server, url, _printed(revisions, capsys))
        assert done.returncode == 0, done.stderr
        if revisions == "base:0003":
            _query(url, SERVICE, TOKEN, STARTED, MANY)
    assert _query(url, FILLED) == [(2500,)]
    command.check(alembic(url))


def test_squawk_accepts_the_printed_sql(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file per migration: squawk then knows which tables are new in it, and so used by nobody yet."""
    before = "base"
    for revision in _revisions():
        (tmp_path / f"{revision}.sql").write_text(_printed(f"{before}:{revision}", capsys))
        before = revision
    squawk = Path(sys.executable).with_name("squawk")
    run = [str(squawk), f"--config={PROJECT / '.squawk.toml'}", "--reporter=gcc", *map(str, tmp_path.iterdir())]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


# Who runs them


def test_two_runners_take_turns(server: Server) -> None:
    """Without the lock the second runner fails, as the first one has just created the table."""
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


LOCKS = (
    "SELECT pg_advisory_lock(730542196, n) FROM generate_series(1, 100) n UNION ALL SELECT pg_advisory_lock(7305421963)"
)


@contextlib.contextmanager
def locked_by(server: Server, url: str, user: str) -> Iterator[None]:
    """A session of that user with a hundred locks of the class that runners take."""
    programs = postgresql.programs()
    assert programs is not None
    target = [f"--host={server.directory}", f"--username={user}", f"--dbname={make_url(url).database}"]
    session = [str(programs / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", *target]
    with subprocess.Popen(session, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(f"{LOCKS};\n\\echo locked\n")
        holder.stdin.flush()
        while holder.stdout.readline() != "locked\n":
            assert holder.poll() is None
        yield
        holder.kill()


def test_a_lock_of_a_role_that_cannot_migrate_keeps_nobody_waiting(server: Server) -> None:
    """The app's role took the lock of migrations, and no deploy with one could succeed."""
    url, role = _new(server), server.create_role(5)
    with locked_by(server, url, role):
        started = time.monotonic()
        _migrate(url, "head")
        assert time.monotonic() - started < 20
    assert _query(url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_a_lock_of_a_role_that_can_migrate_is_waited_for(server: Server) -> None:
    url = _new(server)
    environment = {**os.environ, "DATABASE_URL": url}
    with locked_by(server, url, "logbook"):
        run = [sys.executable, "-m", "alembic", "upgrade", "head"]
        runner = subprocess.Popen(run, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with pytest.raises(subprocess.TimeoutExpired):
            runner.wait(3)
        assert _query(url, "SELECT to_regclass('alembic_version')") == [(None,)]
    output, _ = runner.communicate(timeout=60)
    assert runner.returncode == 0, output


def test_the_migration_of_the_deploy_tests_overlay_works(tmp_path: Path, empty_database: str) -> None:
    """tests/overlay copied over this tree: it migrates, its models match, and the rows of the first version stay."""
    head = _revisions()[-1]
    tree = tmp_path / "tree"
    for name in ("app", "alembic.ini"):
        source = PROJECT / name
        shutil.copytree(source, tree / name) if source.is_dir() else shutil.copy(source, tree / name)
    shutil.copytree(PROJECT / "tests/overlay", tree, dirs_exist_ok=True)
    _migrate(empty_database, head)
    _query(empty_database, SERVICE)
    environment = {**os.environ, "DATABASE_URL": empty_database}
    for arguments in (["upgrade", "head"], ["check"]):
        run = [sys.executable, "-m", "alembic", *arguments]
        done = subprocess.run(run, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert _query(empty_database, "SELECT name, (SELECT count(*) FROM notes) FROM services") == [("kept", 0)]
