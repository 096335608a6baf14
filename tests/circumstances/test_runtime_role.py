"""What the role of an app must not do in its database, and what its migrations go on doing, on a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from hosts import postgresql
from hosts.scratch import PROJECT
from slipway.base import files
from slipway.base import settings as config
from slipway.schema import database, migrate
from tests.app.conftest import Server, server
from tests.engine.conftest import settings

__all__ = ["server", "settings"]

SCRIPT = PROJECT / "roles/postgresql/files/missing_privileges.sql"
APP, OWNER, MIGRATE = "shop", "shop_owner", "shop_migrate"
# As roles/postgresql makes them.
ROLES = f"""
CREATE ROLE {OWNER} NOLOGIN; CREATE ROLE {MIGRATE} LOGIN; CREATE ROLE {APP} LOGIN;
GRANT {OWNER} TO {MIGRATE}; ALTER ROLE {MIGRATE} SET role = '{OWNER}';
"""
TABLES = f"""
SET ROLE {OWNER};
CREATE SCHEMA sales;
CREATE TABLE alembic_version (version_num varchar(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY);
CREATE TABLE sales.history (version_num varchar(32) NOT NULL PRIMARY KEY);
CREATE TABLE orders (id serial, version_num text);
INSERT INTO alembic_version VALUES ('0001'); INSERT INTO sales.history VALUES ('0001');
"""  # noqa: S608  # our own names
VERSIONS = ("alembic_version", "sales.history")

DENIED = {
    "insert": "INSERT INTO {t} VALUES ('0002')",
    "update": "UPDATE {t} SET version_num = '0002'",
    "delete": "DELETE FROM {t}",
    "truncate": "TRUNCATE {t}",
    "upsert": "INSERT INTO {t} VALUES ('0001') ON CONFLICT (version_num) DO UPDATE SET version_num = '0002'",
    "merge": "MERGE INTO {t} v USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "copy": "COPY {t} FROM STDIN",
    "select for update": "SELECT * FROM {t} FOR UPDATE",
    "select for share": "SELECT * FROM {t} FOR SHARE",
    "lock against the migration": "BEGIN; LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE",
    "lock against its writes": "BEGIN; LOCK TABLE {t} IN SHARE MODE",
    "a trigger": "CREATE TRIGGER t BEFORE INSERT ON {t} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "a rule": "CREATE RULE r AS ON INSERT TO {t} DO INSTEAD NOTHING",
    "another column": "ALTER TABLE {t} ADD more text",
    "another owner": f"ALTER TABLE {{t}} OWNER TO {APP}",
    "drop": "DROP TABLE {t}",
    "reindex": "REINDEX TABLE {t}",
    "cluster": "CLUSTER {t} USING alembic_version_pkc",
    "a privilege for all": "GRANT INSERT ON {t} TO PUBLIC",
    "a large object": "SELECT lo_create(0)",
    "a large object of the old way": "SELECT lo_creat(131072)",
    "a large object with content": "SELECT lo_from_bytea(0, 'x')",
    "a large object from a file": "SELECT lo_import('/etc/hostname')",
    "a privilege on functions": f"GRANT EXECUTE ON FUNCTION lo_create(oid) TO {APP}",
    "the owner's role": f"SET ROLE {OWNER}",
}
STAYS_ALLOWED = {
    "read the version": "SELECT version_num FROM {t}",
    "write its own": "INSERT INTO orders (version_num) VALUES ('1')",
    "lock its own": "BEGIN; LOCK TABLE orders IN SHARE MODE",
    "an advisory lock": "SELECT pg_advisory_lock(1)",
    "a temporary table": "CREATE TEMP TABLE kept (id int)",
}
OF_MIGRATIONS = {
    "write the version": "UPDATE {t} SET version_num = '0001'",
    "delete and insert": "DELETE FROM {t}; INSERT INTO {t} VALUES ('0001')",
    "lock it": "BEGIN; LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE",
    "widen it": "ALTER TABLE {t} ALTER version_num TYPE varchar(64)",
    "a large object": "SELECT lo_unlink(lo_create(0)), lo_unlink(lo_from_bytea(0, 'x')), lo_unlink(lo_creat(131072))",
    "an advisory lock": "SELECT pg_advisory_lock(7305421963)",
    "an index": "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON orders (id)",
    "a table": "CREATE TABLE IF NOT EXISTS more (id int)",
    "a privilege for the app": f"GRANT EXECUTE ON FUNCTION lo_create(oid) TO {APP}; "
    f"REVOKE EXECUTE ON FUNCTION lo_create(oid) FROM {APP}",
}


@dataclass(frozen=True)
class Shop:
    """The database of an app, and psql as any role."""

    server: Server
    name: str
    programs: Path

    def ask(self, role: str, *statements: str, variables: dict[str, str] | None = None) -> tuple[int, str]:
        given = [f"--set={name}={value}" for name, value in (variables or {}).items()]
        psql = [
            str(self.programs / "psql"),
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
        ]
        place = [f"--host={self.server.directory}", f"--username={role}", f"--dbname={self.name}"]
        done = subprocess.run(
            [*psql, *given, *place], input=";\n".join(statements), capture_output=True, text=True, check=False
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def provision(self) -> list[str]:
        """What roles/postgresql/tasks/databases.yml does at each site.yml; the statements that it had to run."""
        code, missing = self.ask("logbook", SCRIPT.read_text(), variables={"app": APP, "owner": OWNER})
        assert code == 0, missing
        if missing:
            code, said = self.ask("logbook", missing)
            assert (code, said) == (0, "")
        return missing.splitlines()

    @property
    def url(self) -> str:
        return f"postgresql://{MIGRATE}@/{self.name}?host={self.server.directory}"


def _shop(server: Server) -> Shop:
    programs = postgresql.programs()
    assert programs is not None
    name = f"shop_{os.urandom(4).hex()}"
    made = Shop(server, name, programs)
    server.create(name)
    code, known = made.ask("logbook", f"SELECT 1 FROM pg_roles WHERE rolname = '{APP}'")  # noqa: S608  # our own names
    assert known or made.ask("logbook", ROLES)[0] == 0
    database_is_theirs = f"ALTER DATABASE {name} OWNER TO {OWNER}; REVOKE ALL ON DATABASE {name} FROM PUBLIC"
    assert (
        made.ask("logbook", database_is_theirs, f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {APP}, {MIGRATE}")[0]
        == code
        == 0
    )
    return made


@pytest.fixture(scope="module")
def provisioned(server: Server) -> Shop:
    """A host of an earlier version, as it is after site.yml: the tables were there before."""
    made = _shop(server)
    defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {APP}"
    others = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT USAGE ON SEQUENCES TO {APP}"
    assert made.ask("logbook", defaults, others) == (0, "")
    assert made.ask("logbook", TABLES) == (0, "")
    assert made.ask(APP, "UPDATE alembic_version SET version_num = '0001'; SELECT lo_unlink(lo_create(0))") == (0, "1")
    assert made.provision()
    return made


def test_a_second_run_of_site_changes_nothing(provisioned: Shop) -> None:
    assert provisioned.provision() == []


@pytest.mark.parametrize("table", VERSIONS)
@pytest.mark.parametrize("statement", DENIED.values(), ids=DENIED)
def test_the_apps_role_is_denied(provisioned: Shop, statement: str, table: str) -> None:
    code, said = provisioned.ask(APP, statement.format(t=table))
    assert code != 0 or "no privileges were granted" in said, said
    assert "permission denied" in said or "must be owner" in said or "no privileges were granted" in said, said


@pytest.mark.parametrize("statement", STAYS_ALLOWED.values(), ids=STAYS_ALLOWED)
def test_the_apps_role_goes_on(provisioned: Shop, statement: str) -> None:
    code, said = provisioned.ask(APP, statement.format(t="alembic_version"))
    assert code == 0, said


@pytest.mark.parametrize("table", VERSIONS)
@pytest.mark.parametrize("statement", OF_MIGRATIONS.values(), ids=OF_MIGRATIONS)
def test_migrations_go_on(provisioned: Shop, statement: str, table: str) -> None:
    code, said = provisioned.ask(MIGRATE, statement.format(t=table))
    assert code == 0, said


def test_a_migration_that_gives_the_app_large_objects_is_not_taken_back(provisioned: Shop) -> None:
    try:
        assert provisioned.ask(MIGRATE, f"GRANT EXECUTE ON FUNCTION lo_create(oid) TO {APP}") == (0, "")
        assert provisioned.provision() == []
        assert provisioned.ask(APP, "SELECT lo_unlink(lo_create(0))") == (0, "1")
    finally:
        provisioned.ask(MIGRATE, f"REVOKE EXECUTE ON FUNCTION lo_create(oid) FROM {APP}")


@pytest.mark.parametrize("table", ["", "sales.history", '"Odd "" name"'])
def test_a_table_of_versions_that_a_migration_makes_is_closed_at_once(
    server: Server, settings: config.Settings, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    shop = _shop(server)
    shop.provision()
    name = table or "alembic_version"
    assert shop.ask(MIGRATE, f"CREATE SCHEMA sales; CREATE TABLE {name} (version_num text)") == (0, "")
    assert shop.ask(APP, f"INSERT INTO {name} VALUES ('1')") == (0, ""), "it is a table like any other until then"  # noqa: S608  # our own names
    monkeypatch.setattr(database, "PROGRAMS", Path("/nowhere"))
    database.protect_versions(settings, {"DATABASE_URL": shop.url}, table, APP)
    assert "permission denied" in shop.ask(APP, f"INSERT INTO {name} VALUES ('1')")[1]  # noqa: S608  # our own names
    assert shop.ask(APP, f"SELECT count(*) FROM {name}") == (0, "1")  # noqa: S608  # our own names
    assert shop.ask(MIGRATE, f"DELETE FROM {name}") == (0, "")  # noqa: S608  # our own names
    assert shop.provision() == []


def test_a_dump_is_a_file_of_root_that_migrations_cannot_reach(
    server: Server, settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an earlier version of Slipway gave the directory to the migration role."""
    shop = _shop(server)
    assert shop.ask(MIGRATE, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS id") == (0, "")
    monkeypatch.setattr(database, "PROGRAMS", Path("/nowhere"))
    outside = settings.root / "outside"
    outside.write_text("kept")
    settings.backups.mkdir(mode=0o777)
    if os.geteuid() == 0:
        shutil.chown(settings.backups, "nobody")
    made = settings.backups / "made.dump"
    files.unfinished(made).symlink_to(outside)
    migrate.keep_to_root(settings.backups)
    database.dump(settings, {"DATABASE_URL": shop.url}, made)
    for path, mode in ((settings.backups, 0o700), (made, 0o600)):
        assert (path.lstat().st_uid, path.lstat().st_mode & 0o7777) == (os.geteuid(), mode)
    assert outside.read_text() == "kept"
    listed = subprocess.run(["pg_restore", "--list", made], capture_output=True, text=True, check=True).stdout
    assert "TABLE DATA public kept" in listed
