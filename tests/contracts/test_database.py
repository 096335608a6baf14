"""The setting `database`: its whole form, what it means for roles and engine, and what is refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from filter_plugins import apps
from roles.app.filter_plugins import app_settings
from roles.app.module_utils import database
from slipway.base.errors import RefusedError
from slipway.slot import envfile
from tests.templates import render

LOCAL = "postgresql+asyncpg://logbook@localhost/logbook?host=/run/postgresql"


def settled(**declared: Any) -> dict[str, Any]:
    return apps.settings({"logbook": {**render.APP, **declared}})["logbook"]


def facts(**declared: Any) -> dict[str, Any]:
    return tomllib.loads(render.render("app", "app.toml.j2", declared))


def variables(**declared: Any) -> dict[str, Any]:
    known = render.variables("app", declared)
    found: dict[str, Any] = render.evaluate("{{ __app_env }}", **known)
    return found


@pytest.mark.parametrize(
    ("value", "env", "expected"),
    [
        ("", {}, {"kind": "postgresql", "url": "DATABASE_URL", "scheme": "postgresql+asyncpg", "tcp": False}),
        (None, {}, {"kind": "postgresql"}),
        ("none", {}, {"kind": "none"}),
        (False, {}, {"kind": "none"}),
        ("mysql", {}, {"kind": "mariadb", "scheme": "mysql+aiomysql"}),
        ("sqlite", {}, {"kind": "sqlite", "scheme": "sqlite+aiosqlite"}),
        ("mysql+asyncmy", {}, {"kind": "mariadb", "scheme": "mysql+asyncmy"}),
        ({"scheme": "postgresql+psycopg"}, {}, {"kind": "postgresql", "scheme": "postgresql+psycopg"}),
        ({"url": "POSTGRES_URL"}, {}, {"kind": "postgresql", "url": "POSTGRES_URL"}),
        ("", {"DATABASE_URL": "postgresql://me:x@db.example.com/a"}, {"kind": "external"}),
        ("", {"DATABASE_URL": "mysql+aiomysql://me:x@db.example.com/a"}, {"kind": "external"}),
        ({"url": "PG"}, {"PG": "postgresql://me:x@db.example.com/a"}, {"kind": "external", "url": "PG"}),
        # Only the driver is said: the database stays on the host.
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook@localhost/logbook"}, {"kind": "postgresql"}),
        ("", {"DATABASE_URL": "postgresql+psycopg:///logbook"}, {"scheme": "postgresql+psycopg"}),
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook@/logbook?host=/run/postgresql"}, {"kind": "postgresql"}),
        # With a password, or another name, it is somebody else's.
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook:x@localhost/logbook"}, {"kind": "external"}),
        ("", {"DATABASE_URL": "postgresql+psycopg://other@localhost/other"}, {"kind": "external"}),
        ("", {"DATABASE_URL": "postgresql+psycopg://logbook@localhost:6432/logbook"}, {"kind": "external"}),
        (
            {
                "host": "POSTGRES_SERVER",
                "user": "POSTGRES_USER",
                "password": "POSTGRES_PASSWORD",
                "name": "POSTGRES_DB",
            },
            {},
            {"kind": "postgresql", "url": "", "tcp": True},
        ),
        (
            {"host": "H", "name": "N"},
            {"H": "db.example.com"},
            {"kind": "external", "parts": {"host": "H", "name": "N"}},
        ),
    ],
)
def test_there_is_one_whole_form(value: Any, env: dict[str, str], expected: dict[str, Any]) -> None:
    found = database.whole(value, env, "logbook")
    assert {key: found[key] for key in expected} == expected
    assert database.whole(found, database.without_own(found, env)) == found, "it stays as it is"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("mongo", "database is 'mongo', but must be one of none, postgresql, external"),
        ({"url": "postgresql://me:s3cret@db/a"}, "database.url is the name of the variable that has the URL"),
        ({"url": "MY-URL"}, "'MY-URL' cannot be the name of a variable"),
        ({"hots": "X"}, "database has 'hots', but it has only"),
        ({"host": 5}, "are names of variables"),
        ({"scheme": "oracle"}, "database.scheme is 'oracle'"),
        ({"connections": "many"}, "database.connections is 'many'"),
        ([], "database is []"),
    ],
)
def test_what_it_cannot_be_is_one_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(RefusedError) as refused:
        database.whole(value, {}, "logbook")
    assert sentence in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert apps.faults({"logbook": {"database": value}})[0].startswith(
        ("apps.logbook.database", "apps.logbook: database")
    )


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"database": "external"}, "apps.logbook.env.DATABASE_URL is not set."),
        ({"database": {"owner": "me"}}, "apps.logbook.database.owner is 'me', but must be one of migrate, app."),
        ({"database": {"kind": "postgresql", "scheme": "mysql"}}, "apps.logbook.database.scheme is 'mysql'"),
        ({"database": {"connections": -1}}, "apps.logbook.database.connections is -1"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(declared: dict[str, Any], sentence: str) -> None:
    settings = settled(**declared)
    found = app_settings.faults(settings, "logbook", "prod", {"SECRET_KEY": "x"})
    assert len(found) == 1
    assert sentence in found[0]


def test_an_app_without_a_database_is_given_none_and_asked_for_none() -> None:
    assert apps.databases({"logbook": settled(database="none")}, 2) == []
    written = facts(database="none")
    assert (written["database"], written["required_env"]) == ("none", ["SECRET_KEY"])
    assert "DATABASE_URL" not in variables(database="none")
    assert envfile.parse(app_settings.env_file(variables(database="none")))["STATE_DIRECTORY"] == "/var/lib/logbook"


def test_a_url_that_says_the_driver_leaves_the_database_on_the_host() -> None:
    declared = {"env": {"SECRET_KEY": "x", "DATABASE_URL": "postgresql+psycopg://logbook@localhost/logbook"}}
    assert [item["name"] for item in apps.databases({"logbook": settled(**declared)}, 2)] == ["logbook"]
    found = variables(**declared)
    assert found["DATABASE_URL"] == LOCAL.replace("asyncpg", "psycopg")
    assert facts(**declared)["network"] == "none"


def test_the_name_of_the_variable_is_the_apps_choice() -> None:
    found = variables(database={"url": "POSTGRES_URL"})
    assert found["POSTGRES_URL"] == LOCAL
    assert "DATABASE_URL" not in found
    assert facts(database={"url": "POSTGRES_URL"})["required_env"] == ["POSTGRES_URL", "SECRET_KEY"]


def test_migrations_of_an_app_that_owns_its_tables_run_as_the_app() -> None:
    assert facts()["migrate_user"] == "logbook_migrate"
    assert facts(database={"owner": "app"})["migrate_user"] == "logbook"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql+psycopg://me:x@db.example.com/a", "postgresql"),
        ("mysql+aiomysql://me:x@db.example.com/a", "mysql"),
        ("sqlite+aiosqlite:////mnt/a.db", "sqlite"),
    ],
)
def test_of_a_database_elsewhere_the_url_says_the_kind(url: str, kind: str) -> None:
    assert facts(env={"SECRET_KEY": "x", "DATABASE_URL": url})["database"] == kind


def test_sqlite_is_a_file_of_the_app_on_one_host() -> None:
    assert variables(database="sqlite")["DATABASE_URL"] == "sqlite+aiosqlite:////var/lib/logbook/logbook.sqlite3"
    assert (facts(database="sqlite")["database"], facts(database="sqlite")["migrate_user"]) == ("sqlite", "logbook")
    declared = {"logbook": {**render.APP, "database": "sqlite"}}
    assert apps.faults(declared) == []
    assert "each of the 3 hosts would have data of its own" in apps.faults(declared, hosts=3)[0]
