"""Alembic as projects have it: each layout is read, migrated and looked up again with a real alembic and PostgreSQL."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.records import manifest
from slipway.records.manifest import Manifest, Revision
from slipway.release import history, inside, migrations
from slipway.schema import database, migrate
from slipway.slot import envfile
from tests.app.conftest import Server, server
from tests.engine.conftest import settings

__all__ = ["server", "settings"]

PYTHON = "{}.{}.{}".format(*sys.version_info)
IDENTITY = {"RELEASE_TAG": "v1", "RELEASE_SHA": "1" * 40}
INI = "[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n"
PROJECT = '[tool.alembic]\nscript_location = "%(here)s/migrations"\n'
LOGGING = (
    "[loggers]\nkeys = root\n[handlers]\nkeys =\n[formatters]\nkeys =\n[logger_root]\nlevel = WARNING\nhandlers =\n"
)
ENV = """
import asyncio, os
from alembic import context
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    {before}
    context.configure(connection=connection{options})
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(os.environ["DATABASE_URL"]{engine})
    async with engine.connect() as connection:
        {prepare}
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()

asyncio.run(main())
"""
MAKES_SCHEMA = "await connection.execute(text('CREATE SCHEMA IF NOT EXISTS \"{0}\"')); await connection.commit()"


def env(options: str = "", *, before: str = "pass", prepare: str = "pass", engine: str = "") -> str:
    return ENV.format(options=options and f", {options}", before=before, prepare=prepare, engine=engine)


def script(name: str, down: object = None, more: str = "", does: str = "") -> str:
    made = f"""\
        \"\"\"Message of {name}\"\"\"
        from alembic import op
        {more}
        revision = "{name}"
        down_revision = {down!r}

        def upgrade():
            op.execute("CREATE TABLE t_{name} (id bigint)")
            {does or "pass"}

        def downgrade():
            op.execute("DROP TABLE t_{name}")
    """
    return textwrap.dedent(made)


def versions(*names: str, where: str = "migrations/versions") -> dict[str, str]:
    return {f"{where}/{n}.py": script(n, d) for n, d in zip(names, (None, *names), strict=False)}


USUAL = {"alembic.ini": INI, "migrations/env.py": env(), **versions("a", "b")}
TWO_PLACES = INI + "version_locations = %(here)s/migrations/versions:%(here)s/billing\n"

# Files of a release, and variables of the app. The last revisions of each are the heads.
LAYOUTS: dict[str, tuple[dict[str, str], dict[str, str], set[str]]] = {
    "alembic.ini": (USUAL, {}, {"b"}),
    "pyproject.toml alone": (
        {**USUAL, "pyproject.toml": PROJECT, "alembic.ini": ""}, {}, {"b"}),
    "pyproject.toml, and alembic.ini for logging": (
        {**USUAL, "pyproject.toml": PROJECT, "alembic.ini": LOGGING}, {}, {"b"}),
    "alembic.ini, and another place in pyproject.toml": (
        {**USUAL, "pyproject.toml": PROJECT.replace("migrations", "old")}, {}, {"b"}),
    "a configuration elsewhere, named by ALEMBIC_CONFIG": (
        {"db/alembic.ini": INI, "db/migrations/env.py": env(), **versions("a", "b", where="db/migrations/versions")},
        {"ALEMBIC_CONFIG": "db/alembic.ini"}, {"b"}),
    "a configuration in a folder, with places from there": (
        {"src/db/alembic.ini": INI.replace("%(here)s/", ""), "src/db/migrations/env.py": env(),
         **versions("a", "b", where="src/db/migrations/versions")}, {}, {"b"}),
    "pyproject.toml in a folder": (
        {"db/pyproject.toml": PROJECT, "db/migrations/env.py": env(),
         **versions("a", "b", where="db/migrations/versions")}, {}, {"b"}),
    "a folder, and modules of the app": (
        {"db/alembic.ini": INI, "service/__init__.py": "NAME = 'v'\n",
         "db/migrations/env.py": env("version_table=NAME", before="from service import NAME"),
         **versions("a", "b", where="db/migrations/versions")}, {}, {"b"}),
    "a package": (
        {"alembic.ini": "[alembic]\nscript_location = service.db:migrations\n", "service/__init__.py": "",
         "service/db/__init__.py": "", "service/db/migrations/env.py": env(),
         **versions("a", "b", where="service/db/migrations/versions")}, {}, {"b"}),
    "a table of versions of its own": ({**USUAL, "migrations/env.py": env("version_table='my_versions'")}, {}, {"b"}),
    "a table that has to be quoted": (
        {**USUAL, "migrations/env.py": env("version_table='My \"versions\"'")}, {}, {"b"}),
    "a schema of its own for that table": (
        {**USUAL, "migrations/env.py": env("version_table_schema='meta'", prepare=MAKES_SCHEMA.format("meta"))},
        {}, {"b"}),
    "a schema that has to be quoted": (
        {**USUAL, "migrations/env.py": env("version_table_schema='My-meta'", prepare=MAKES_SCHEMA.format("My-meta"))},
        {}, {"b"}),
    "another search path": (
        {**USUAL, "migrations/env.py": env(
            prepare=MAKES_SCHEMA.format("tenant"),
            engine=", connect_args={'server_settings': {'search_path': 'tenant'}}")},
        {}, {"b"}),
    "options from elsewhere": (
        {**USUAL, "migrations/env.py": env("**OPTIONS", before="from app.db import OPTIONS"), "app/__init__.py": "",
         "app/db.py": "OPTIONS = {'version_table': 'app_versions'}\n"}, {}, {"b"}),
    "one transaction for each migration": (
        {**USUAL, "migrations/env.py": env("transaction_per_migration=True")}, {}, {"b"}),
    "directories below that of the versions": (
        {"alembic.ini": INI + "recursive_version_locations = true\n", "migrations/env.py": env(),
         "migrations/versions/2025/a.py": script("a"), "migrations/versions/2026/b.py": script("b", "a")}, {}, {"b"}),
    "two directories, each with a history of its own": (
        {"alembic.ini": TWO_PLACES, "migrations/env.py": env(), **versions("a", "b"),
         **versions("x", "y", where="billing")},
        {}, {"b", "y"}),
    "heads of which one depends on the other": (
        {"alembic.ini": TWO_PLACES, "migrations/env.py": env(), **versions("a", "b"),
         "billing/x.py": script("x", more="depends_on = 'b'; branch_labels = ('billing',)")}, {}, {"x"}),
    "a dependency named by its label": (
        {"alembic.ini": TWO_PLACES, "migrations/env.py": env(), **versions("a"),
         "migrations/versions/b.py": script("b", "a", more="depends_on = ('billing',)"),
         "billing/x.py": script("x", more="branch_labels = ('billing',)")}, {}, {"b"}),
    "a branch with a label": (
        {**USUAL, "migrations/versions/c.py": script("c", "a", more="branch_labels = ('beta',)")}, {}, {"b", "c"}),
    "a merge": (
        {**USUAL, "migrations/versions/c.py": script("c", "a"), "migrations/versions/d.py": script("d", ("b", "c"))},
        {}, {"d"}),
    "settings that are read as a migration is loaded": (
        {**USUAL, "migrations/versions/c.py": script("c", "b", more="import os; KEY = os.environ['SECRET_KEY']")},
        {}, {"c"}),
    "a migration that prints": (
        {**USUAL, "migrations/versions/c.py": script(
            "c", "b", more="import os; print('loaded'); os.write(1, b'{\"heads\": []}\\n')", does="print('done')")},
        {}, {"c"}),
    "an env.py that prints": ({**USUAL, "migrations/env.py": "print('[]')\n" + env()}, {}, {"b"}),
    "an env.py that closes its output": ({**USUAL, "migrations/env.py": "import os\nos.close(1)\n" + env()}, {}, {"b"}),
    "revisions that only alembic can read": (
        {**USUAL, "migrations/versions/c.py": script("c", "b").replace('revision = "c"', "revision = 'C'.lower()")},
        {}, {"c"}),
    "the release in the environment": (
        {**USUAL, "migrations/env.py": env(before="assert os.environ['RELEASE_TAG'] == 'v1'")}, {}, {"b"}),
}  # fmt: skip


def write(settings: config.Settings, files: Mapping[str, str], name: str = "v1") -> Path:
    """A release with these files, whose Python and packages are those of the tests."""
    release = settings.release(name)
    for path, content in {"pyproject.toml": "", **files}.items():
        (release / path).parent.mkdir(parents=True, exist_ok=True)
        (release / path).write_text(content)
    if "alembic.ini" in files and not files["alembic.ini"]:
        (release / "alembic.ini").unlink()
    packages = release / ".venv/lib/python{}.{}/site-packages".format(*sys.version_info)
    packages.parent.mkdir(parents=True)
    packages.symlink_to(Path(pytest.__file__).parents[1])
    python = release / ".venv/bin/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return release


def variables(settings: config.Settings, **values: str) -> None:
    settings.env_file.write_text(envfile.render({**envfile.read(settings.env_file), **values}))


def described(settings: config.Settings, files: Mapping[str, str], name: str = "v1") -> Manifest:
    release = write(settings, files, name)
    seen = history.look(release, PYTHON)
    found = migrations.find(settings, release, seen, IDENTITY)
    made = Manifest(
        name, "v1", "1" * 40, "", PYTHON, "", "", found.heads, found.revisions, found.version_table, seen.setup
    )
    return replace(made, alembic_at=found.at)


# The others are rows of the matrix: each takes two starts of alembic.
ALWAYS = frozenset(
    {
        "alembic.ini",
        "pyproject.toml in a folder",
        "a package",
        "a schema that has to be quoted",
        "two directories, each with a history of its own",
        "a migration that prints",
    }
)


@pytest.mark.parametrize(
    ("files", "extra", "expected"),
    [pytest.param(*row, id=name, marks=[] if name in ALWAYS else pytest.mark.matrix) for name, row in LAYOUTS.items()],
)
def test_each_layout_is_migrated_and_its_revision_found_again(
    settings: config.Settings,
    server: Server,
    request: pytest.FixtureRequest,
    files: dict[str, str],
    extra: dict[str, str],
    expected: set[str],
) -> None:
    variables(settings, DATABASE_URL=server.create(f"layout_{list(LAYOUTS).index(request.node.callspec.id)}"), **extra)
    release = described(settings, files)
    assert migrate.pending(settings, release) == (None, release.revisions)
    done = migrate.upgrade(settings, release)
    assert f"{len(release.revisions or [])} migration(s): empty to" in done
    current, waiting = migrate.pending(settings, release)
    assert set((current or "").split(",")) == expected
    assert waiting == []
    assert migrate.nothing_to_run(settings, release) == "the database is at this release's head"
    tables = {item.name.split(".")[-1] for item in database.catalog(settings, envfile.of_migrations(settings))}
    assert {f"t_{item.revision}" for item in release.revisions or []} <= tables


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "several configurations": (
        {"db/alembic.ini": INI, "src/audit/alembic.ini": INI, "db/migrations/env.py": env(),
         **versions("a", where="db/migrations/versions")},
        "configurations of alembic in db and in src/audit. .*ALEMBIC_CONFIG: db/alembic.ini in apps.logbook.env, or"),
    "a configuration that was not committed": (
        {"migrations/env.py": env(), **versions("a")},
        "The release has migrations/env.py, but alembic finds no configuration.*Commit the alembic.ini"),
    "a configuration without a place": ({**USUAL, "alembic.ini": "[alembic]\n"}, "a script_location to alembic.ini"),
    "a configuration for logging alone": ({**USUAL, "alembic.ini": LOGGING}, "a script_location to alembic.ini"),
    "two heads": (
        {**USUAL, "migrations/versions/c.py": script("c", "a")}, r"have 2 heads \([bc], [bc]\); run `alembic merge`"),
    "a migration that cannot be loaded": (
        {**USUAL, "migrations/versions/c.py": script("c", "b", more="import nothing_of_that_name")},
        "alembic cannot read the release's migrations"),
    "an env.py that ends the program": (
        {**USUAL, "migrations/env.py": "raise SystemExit(0)"}, "ended without an answer"),
    "an env.py that fails": ({**USUAL, "migrations/env.py": "1/0"}, "alembic cannot read the release's migrations"),
    "an oldest revision that is not there": (
        {**USUAL, "migrations/versions/c.py": script("c", "b", more="oldest_compatible = 'z'")},
        "c declares oldest_compatible = 'z', which is not a revision"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "message"), REFUSED.values(), ids=REFUSED)
def test_migrations_that_would_not_be_run_are_refused_with_what_to_type(
    settings: config.Settings, server: Server, request: pytest.FixtureRequest, files: dict[str, str], message: str
) -> None:
    place = list(REFUSED).index(request.node.callspec.id)
    variables(settings, DATABASE_URL=server.create(f"refused_{place}"))
    with pytest.raises(FailedError, match=message):
        described(settings, files)


def test_an_app_without_alembic_has_no_migrations(settings: config.Settings) -> None:
    release = described(settings, {"app/env.py": "", "app/versions.py": ""})
    assert (release.revisions, release.heads) == (None, [])


def test_alembic_is_asked_once_for_the_same_env_and_again_for_another(
    settings: config.Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables(settings, DATABASE_URL=server.create("asked_once"))
    asked = []
    ask = inside.ask

    def counted(*arguments: Any, **options: Any) -> dict[str, Any]:
        asked.append(arguments)
        return ask(*arguments, **options)

    monkeypatch.setattr(inside, "ask", counted)
    mine = {**USUAL, "migrations/env.py": env("version_table='v'")}
    for name, files, times, table in (
        ("v1", mine, 1, "public.v"),
        ("v2", {**mine, **versions("a", "b", "c")}, 1, "public.v"),
        ("v3", {**mine, "migrations/env.py": env()}, 2, "public.alembic_version"),
    ):
        made = described(settings, files, name)
        assert (len(asked), made.version_table) == (times, table)
        (settings.release(name) / manifest.NAME).write_text(manifest.dump(made))
        (settings.release(name) / manifest.COMPLETE).touch()


def test_a_database_at_several_revisions_is_known_by_what_they_follow_on() -> None:
    def made(*names: str, **follows: tuple[str, ...]) -> Manifest:
        listed = [Revision(name, "", None, follows.get(name, ())) for name in names]
        return Manifest("v1", "v1", "1" * 40, "", PYTHON, "", "", [], listed)

    release = made("a", "x", "b", "c", b=("a",), c=("b", "x"))
    assert [item.revision for item in release.pending("a")] == ["x", "b", "c"]
    assert [item.revision for item in release.pending("a,x")] == ["b", "c"]
    assert [item.revision for item in release.pending("b,x")] == ["c"]
    assert [item.revision for item in release.pending("b")] == ["x", "c"]
    assert release.pending("c") == []
    assert release.knows("b,x")
    assert not release.knows("b,z")
    assert release.pending("b,z") == []


SQLITE_ENV = env().replace(
    'os.environ["DATABASE_URL"]', '"sqlite+aiosqlite:///" + os.path.join(os.environ["STATE_DIRECTORY"], "app.db")'
)


def test_another_database_than_postgresql_is_migrated_each_time(settings: config.Settings, tmp_path: Path) -> None:
    """What alembic alone knows: where it is. It is not asked for, and a rollback changes nothing."""
    chosen = replace(settings, database="sqlite")
    variables(chosen, STATE_DIRECTORY=str(tmp_path))
    release = write(chosen, {**USUAL, "migrations/env.py": SQLITE_ENV})
    found = migrations.find(chosen, release, history.look(release, PYTHON), IDENTITY)
    assert found.heads == ["b"]
    made = Manifest("v1", "v1", "1" * 40, "", PYTHON, "", "", found.heads, found.revisions)
    for _ in range(2):
        assert migrate.nothing_to_run(chosen, made) == ""
        assert migrate.upgrade(chosen, made) == "alembic upgrade heads: b"
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as database_file:
        assert database_file.execute("SELECT version_num FROM alembic_version").fetchall() == [("b",)]
    assert migrate.stays(chosen) == "its database is sqlite"


MIGRATES = """
import asyncio, os, sys
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from service import TABLE

async def main():
    engine = create_async_engine(os.environ["DATABASE_URL"])
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE TABLE {TABLE} (id bigint)"))
    await engine.dispose()

asyncio.run(main())
print("made it", os.environ["RELEASE_TAG"], os.getcwd())
sys.exit(int(sys.argv[1]))
"""


def by_commands(settings: config.Settings, *commands: str) -> tuple[config.Settings, Manifest]:
    chosen = replace(settings, migrate=list(commands), directory="backend")
    files = {"tools.py": MIGRATES, "service/__init__.py": "TABLE = 'made_by_hand'\n", "alembic.ini": INI}
    write(chosen, {f"backend/{name}": content for name, content in files.items()})
    release = chosen.release("v1")
    found = migrations.find(chosen, release, history.look(release, PYTHON, "backend"), IDENTITY)
    assert (found.heads, found.revisions) == ([], None), "files of alembic are left alone"
    return chosen, Manifest("v1", "v1", "1" * 40, "", PYTHON, "", "", migrates="commands")


def test_commands_migrate_and_what_they_change_is_seen(settings: config.Settings, server: Server) -> None:
    variables(settings, DATABASE_URL=server.create("by_commands"))
    chosen, release = by_commands(settings, "python --version", "python tools.py 0")
    assert migrate.nothing_to_run(chosen, release) == ""
    done = migrate.upgrade(chosen, release)
    assert done == "python --version, python tools.py 0 (1 change(s) in the schema)"


def test_a_command_that_fails_is_named_with_its_last_lines_and_what_it_has_left(
    settings: config.Settings, server: Server
) -> None:
    variables(settings, DATABASE_URL=server.create("command_fails"))
    chosen, release = by_commands(settings, "python tools.py 3", "python --version")
    with pytest.raises(FailedError, match=r"A migration failed: 'python tools\.py 3'\.") as caught:
        migrate.upgrade(chosen, release)
    assert "These changes were not rolled back: table made_by_hand is new." in str(caught.value)
    assert caught.value.detail == f"made it v1 {chosen.release('v1')}/backend"
