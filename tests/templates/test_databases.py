"""What the role postgresql asks a server, and that its answer puts right what it found; on a server of our own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from hosts import postgresql
from tests.app.conftest import Server

ROLE = Path(__file__).resolve().parents[2] / "roles/postgresql"
DEFAULT = "\\connect two\nALTER DEFAULT PRIVILEGES FOR ROLE two_owner IN SCHEMA public"


@pytest.fixture(scope="module")
def psql() -> Iterator[list[str]]:
    """The command line of psql, as the role runs it, for a superuser of a fresh server."""
    programs = postgresql.programs()
    if programs is None:
        pytest.fail("The tests want a PostgreSQL server: apt-get install postgresql (or run `make unit`).")
    server = Server(Path(tempfile.mkdtemp(prefix="pg-")), programs)
    server.initialise()
    server.start()
    # The flags are the role's; only who asks differs, as the superuser of that server is called otherwise.
    flags = _variables()["__postgresql_psql"].partition("-- psql ")[2].replace('"', "").split("--")
    where = [f"--host={server.directory}", "--username=logbook", "--dbname=postgres"]
    yield [str(programs / "psql"), *(f"--{flag.rstrip()}" for flag in flags if flag), *where]
    server.stop()


def _variables(**given: Any) -> dict[str, Any]:
    internal = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    return {
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
        **{name: trust_as_template(value) if isinstance(value, str) else value for name, value in internal.items()},
        "__postgresql_migrate_settings": {"lock_timeout": "2000ms", "statement_timeout": "300000ms"},
        "postgresql_databases": [{"name": "one-app", "connections": 23}, {"name": "two", "connections": 7}],
        **given,
    }


def ask(psql: list[str]) -> str:
    """What the template answers, the statements that are due."""
    source = trust_as_template((ROLE / "templates/databases.sql.j2").read_text())
    return run(psql, Templar(loader=DataLoader(), variables=_variables()).template(source))


def run(psql: list[str], script: str) -> str:
    done = subprocess.run(psql, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_missing_is_made_and_then_nothing_is_due(psql: list[str]) -> None:
    due = ask(psql)
    assert due.count("CREATE ROLE") == 6
    assert due.count("CREATE DATABASE") == 2
    run(psql, due)
    assert ask(psql) == ""
    assert run(psql, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'one-app_owner'") == "f\n"
    assert run(psql, "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'two'") == "7\n"


@pytest.mark.parametrize(
    ("drift", "due"),
    [
        ('ALTER ROLE "one-app" SUPERUSER', 'ALTER ROLE "one-app" LOGIN NOSUPERUSER'),
        ('ALTER ROLE "one-app" NOLOGIN', 'ALTER ROLE "one-app" LOGIN'),
        ("ALTER ROLE two_owner LOGIN", "ALTER ROLE two_owner NOLOGIN"),
        ("ALTER ROLE two CONNECTION LIMIT 8", "CONNECTION LIMIT 7"),
        ("ALTER ROLE two SET work_mem = '9MB'", "ALTER ROLE two RESET ALL"),
        ("ALTER ROLE two_migrate SET lock_timeout = '9s'", "ALTER ROLE two_migrate SET lock_timeout = '2000ms'"),
        ("ALTER ROLE two_migrate RESET role", "ALTER ROLE two_migrate SET role = 'two_owner'"),
        ("REVOKE two_owner FROM two_migrate", "GRANT two_owner TO two_migrate"),
        ('GRANT "one-app_owner" TO two_migrate', 'REVOKE "one-app_owner" FROM two_migrate'),
        ("ALTER DATABASE two OWNER TO logbook", "ALTER DATABASE two OWNER TO two_owner"),
        ("GRANT CONNECT ON DATABASE two TO PUBLIC", "REVOKE ALL ON DATABASE two FROM PUBLIC"),
        ("REVOKE CONNECT ON DATABASE two FROM two", "GRANT CONNECT ON DATABASE two TO two"),
        (
            f"{DEFAULT} REVOKE DELETE ON TABLES FROM two",
            'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "two"',
        ),
        (
            f"{DEFAULT} REVOKE USAGE ON SEQUENCES FROM two",
            'GRANT USAGE, SELECT ON SEQUENCES TO "two"',
        ),
        ("DROP DATABASE two", "CREATE DATABASE two OWNER two_owner"),
    ],
)
def test_what_has_drifted_is_put_right(psql: list[str], drift: str, due: str) -> None:
    run(psql, ask(psql))
    run(psql, f"{drift};")
    answer = ask(psql)
    assert due in answer
    run(psql, answer)
    assert ask(psql) == ""


def test_a_database_in_another_encoding_is_refused(psql: list[str]) -> None:
    run(psql, ask(psql))
    run(psql, "DROP DATABASE two; CREATE DATABASE two OWNER two_owner ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;")
    done = subprocess.run(psql, input=ask(psql), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "The database two is in LATIN1, not in UTF8" in done.stderr
    run(psql, "DROP DATABASE two")
