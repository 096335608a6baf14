"""Database URLs as people have them: read as SQLAlchemy and the driver read them, and never shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.engine import make_url

from slipway.base.errors import RefusedError
from slipway.schema import url as urls

SCHEME = "postgresql+asyncpg://"


def of_sqlalchemy(url: str) -> dict[str, str]:
    """What asyncpg would connect with, named as libpq names it."""
    dialect: Any = asyncpg.dialect
    given = dialect().create_connect_args(make_url(url))[1]
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "database": "PGDATABASE"}
    found = {}
    for name, variable in names.items():
        value = given.get(name)
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
        if text:
            found[variable] = text
    return found


URLS = [
    "logbook@/logbook?host=/run/postgresql",
    "me:p%40ss@db.example.com:6432/app",
    "me:pa#ss@db/app",  # the case that printed a password: '#' begins a fragment elsewhere
    "me:pa#12345@db/app",
    "me:p:a:ss@db/app",
    "me:pa/ss@db/app",
    "me:pa?ss@db/app",
    "me:pa[ss]@db/app",
    "me:pa ss@db/app",
    "me:p%C3%A4ss@db/app",
    "me:päss@db/app",
    "me:p+ss@db/app",
    "me:@db/app",
    "@db/app",
    "m@company:ss@db/app",
    "m@company@db/app",
    "m%40company:ss@db/app",
    "me@db",
    "db/app",
    "/app",
    "",
    "me:ss@[::1]:5433/app",
    "me:ss@[fe80::1%25eth0]/app",
    "me:ss@db/my%20app",
    "me:ss@db/app-one.two",
    "me@/app?host=h1:5432&host=h2:5433",
    "me@/app?host=h1,h2&port=5432,5433",
    "me@/app?host=/run/postgresql&port=5433",
    "me@/app?host=%2Frun%2Fpostgresql",
    "me@db:5433/app?ssl=require",
    "me@db/app?prepared_statement_cache_size=0&async_fallback=true",
    "me:50%25@db/app",
    "me:50%@db/app",
]


@pytest.mark.parametrize("rest", URLS)
def test_psql_connects_where_the_driver_does(rest: str) -> None:
    found = urls.libpq_environment(SCHEME + rest)
    assert {name: value for name, value in found.items() if name != "PGSSLMODE"} == of_sqlalchemy(SCHEME + rest)


@given(st.text("ab1@:/?#%,.=& ä", max_size=24))
@how(max_examples=300)
def test_whatever_sqlalchemy_reads_is_read_alike_and_else_refused_without_showing_it(rest: str) -> None:
    try:
        expected = of_sqlalchemy(f"{SCHEME}{rest}")
    except Exception:
        expected = None
    found, refusal = None, ""
    try:
        found = urls.libpq_environment(f"{SCHEME}{rest}")
    except RefusedError as error:
        refusal = str(error)
    if expected is not None:
        assert found == expected, refusal
    assert len(rest) < 4 or rest not in refusal


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("sslmode=verify-full", "PGSSLMODE", "verify-full"),
        ("ssl=verify-full", "PGSSLMODE", "verify-full"),  # asyncpg's name
        ("sslrootcert=/etc/ca.pem", "PGSSLROOTCERT", "/etc/ca.pem"),
        ("sslcert=/c.pem", "PGSSLCERT", "/c.pem"),
        ("sslkey=/k.pem", "PGSSLKEY", "/k.pem"),
        ("options=-csearch_path%3Dtenant", "PGOPTIONS", "-csearch_path=tenant"),
        ("target_session_attrs=read-write", "PGTARGETSESSIONATTRS", "read-write"),
        ("passfile=/etc/pgpass", "PGPASSFILE", "/etc/pgpass"),
        ("service=main", "PGSERVICE", "main"),
        ("channel_binding=require", "PGCHANNELBINDING", "require"),
    ],
)
def test_what_the_query_asks_for_reaches_psql(query: str, name: str, value: str) -> None:
    assert urls.libpq_environment(f"{SCHEME}me@db/app?{query}")[name] == value


@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///./dev.sqlite3", "mysql://me@db/app"])
def test_other_databases_are_not_postgresql(url: str) -> None:
    assert urls.libpq_environment(url) == {}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:c4n4ry@db:c4n4ry/app",
        "postgresql://me@db:/c4n4ry",
        "postgresql://me:se@cret:c4n4ry@db/app",
        "postgresql://me@/app?host=db:c4n4ry",
        "postgresql://me@/app?host=db&port=c4n4ry",
        "c4n4ry",
        "//c4n4ry@db/app",
        "post gres://c4n4ry@db/app",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_with_what_to_type_and_is_not_shown(url: str) -> None:
    with pytest.raises(RefusedError) as refused:
        urls.libpq_environment(url)
    assert "c4n4ry" not in f"{refused.value} {refused.value.detail}"
    assert "%40" in str(refused.value)
