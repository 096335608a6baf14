"""What roles/postgresql makes of the databases of all apps, on a real PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosts import postgresql
from hosts.scratch import PROJECT
from roles.postgresql.library import slipway_databases as module
from tests.app.conftest import Server, server

__all__ = ["server"]

FILES = PROJECT / "roles/postgresql/files"
SCRIPTS = {
    "migrate": (FILES / "missing_privileges.sql").read_text(),
    "app": (FILES / "the_apps_own.sql").read_text(),
}
MIGRATE = {"lock_timeout": "2000ms", "idle_in_transaction_session_timeout": "60s"}


class Counted(module.Psql):
    """psql, and how often it was started."""

    def __init__(self, server: Server) -> None:
        programs = postgresql.programs()
        assert programs is not None
        super().__init__(str(programs), str(server.directory), 5432, "logbook")
        self.calls = 0

    def __call__(self, script: str, database: str = "postgres", *options: str) -> str:
        self.calls += 1
        return super().__call__(script, database, *options)


@pytest.fixture
def psql(server: Server) -> Counted:
    return Counted(server)


@pytest.fixture
def names() -> list[str]:
    return [f"app_{os.urandom(4).hex()}" for _ in range(3)]


def provide(psql: Counted, databases: list[dict[str, Any]], *, check: bool = False) -> list[str]:
    return module.provide(psql, databases, MIGRATE, SCRIPTS, check=check)


def test_a_second_run_changes_nothing_and_asks_as_often_for_many_as_for_one(psql: Counted, names: list[str]) -> None:
    databases: list[dict[str, Any]] = [{"name": name, "connections": 7} for name in names]
    databases[1]["owner"] = "app"
    assert provide(psql, databases)
    psql.calls = 0
    assert provide(psql, databases) == []
    many, psql.calls = psql.calls, 0
    assert provide(psql, databases[:1]) == []
    assert many == psql.calls == 2


def test_what_an_app_may_do_is_what_its_roles_are_for(psql: Counted, names: list[str]) -> None:
    app, owned, _ = names
    provide(psql, [{"name": app, "connections": 7, "limit": 9}, {"name": owned, "connections": 5, "owner": "app"}])
    ask = "SELECT rolname, rolcanlogin, rolconnlimit FROM pg_roles WHERE rolname LIKE '{}%' ORDER BY 1"
    assert psql(ask.format(app)).split() == [f"{app}|t|9", f"{app}_migrate|t|-1", f"{app}_owner|f|-1"]
    ask = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database WHERE datname = '{}'"
    assert psql(ask.format(app)).strip() == f"{app}_owner|UTF8"
    assert psql(ask.format(owned)).strip() == f"{owned}|UTF8"
    ask = "SELECT has_database_privilege('{}', '{}', 'CONNECT')"
    assert psql(ask.format(owned, app)).strip() == "f"
    assert psql(ask.format(f"{app}_migrate", app)).strip() == "t"
    # S608: the names are the test's own.
    psql(f"SET ROLE {app}_owner; CREATE TABLE t (id int); SET ROLE {app}; INSERT INTO t VALUES (1)", app)  # noqa: S608
    settings = psql(f"SELECT setconfig FROM pg_db_role_setting WHERE setrole = '{app}_migrate'::regrole")  # noqa: S608
    assert settings.strip() == f"{{lock_timeout=2000ms,idle_in_transaction_session_timeout=60s,role={app}_owner}}"


@pytest.mark.parametrize(
    "spoilt",
    [
        "ALTER ROLE {app} SUPERUSER",
        "ALTER ROLE {app}_owner LOGIN CREATEDB",
        "ALTER ROLE {app} CONNECTION LIMIT -1",
        "ALTER ROLE {app} SET work_mem = '1GB'",
        "ALTER ROLE {app}_migrate SET lock_timeout = '1h'",
        "ALTER ROLE {app}_migrate RESET role",
        "REVOKE {app}_owner FROM {app}_migrate",
        "GRANT pg_monitor TO {app}_migrate",
        "ALTER DATABASE {app} OWNER TO {app}",
        "GRANT TEMPORARY ON DATABASE {app} TO PUBLIC",
        "REVOKE CONNECT ON DATABASE {app} FROM {app}",
    ],
)
def test_what_somebody_has_changed_is_put_right(psql: Counted, names: list[str], spoilt: str) -> None:
    app = names[0]
    databases = [{"name": app, "connections": 7}]
    provide(psql, databases)
    psql(spoilt.format(app=app))
    would = provide(psql, databases, check=True)
    assert would
    assert provide(psql, databases, check=True) == would, "check mode changes nothing"
    assert set(would) <= set(provide(psql, databases))
    assert provide(psql, databases) == []


def test_check_mode_on_a_host_without_the_databases_makes_none(psql: Counted, names: list[str]) -> None:
    databases = [{"name": names[0], "connections": 7}]
    assert f'CREATE ROLE "{names[0]}_owner"' in provide(psql, databases, check=True)
    # S608: the names are the test's own.
    assert psql(f"SELECT count(*) FROM pg_roles WHERE rolname LIKE '{names[0]}%'").strip() == "0"  # noqa: S608
    assert psql(f"SELECT count(*) FROM pg_database WHERE datname = '{names[0]}'").strip() == "0"  # noqa: S608


def test_a_database_in_another_encoding_is_refused_with_what_to_do(psql: Counted, names: list[str]) -> None:
    psql(f"CREATE DATABASE {names[0]} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    with pytest.raises(module.RefusedError, match=f"Database {names[0]} has the encoding SQL_ASCII"):
        provide(psql, [{"name": names[0], "connections": 7}])


def test_a_name_that_a_migration_chose_is_no_statement_in_another_database(psql: Counted, names: list[str]) -> None:
    """What a database answers is split by lines that only this run knows."""
    app, other, _ = names
    databases = [{"name": name, "connections": 7} for name in (app, other)]
    provide(psql, databases)
    odd = f'"x\n-- 00 {other}\nCREATE TABLE taken (id int);\n"'
    # S608: the names are the test's own.
    psql(f"SET ROLE {app}_owner; CREATE TABLE {odd} (id int); REVOKE ALL ON {odd} FROM {app}; GRANT DELETE ON {odd}"  # noqa: S608
         f" TO {app}; ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM {app}", app)  # fmt: skip
    assert provide(psql, databases)
    assert psql("SELECT to_regclass('taken')", other).strip() == ""
    assert provide(psql, databases) == []


def test_no_task_of_the_role_is_repeated_for_each_database() -> None:
    """An app costs what it is asked for, not a module call: those took three seconds of each run."""
    for path in sorted(Path(PROJECT / "roles/postgresql/tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text()):
            assert "loop" not in task, f"{path.name}: {task['name']}"
