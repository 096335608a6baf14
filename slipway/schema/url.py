"""DATABASE_URL, read as SQLAlchemy reads it, for PostgreSQL's own programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, unquote

from slipway.base.errors import RefusedError
from slipway.base.settings import Settings

_DIALECTS = ("postgresql", "postgres")
_PLACE = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<host>[^:]*))(?::(?P<port>.*))?")
# What drivers take in the query and libpq takes from a variable. `ssl` is what asyncpg calls sslmode.
_VARIABLES = {
    "application_name": "PGAPPNAME",
    "channel_binding": "PGCHANNELBINDING",
    "client_encoding": "PGCLIENTENCODING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "database": "PGDATABASE",
    "dbname": "PGDATABASE",
    "gssencmode": "PGGSSENCMODE",
    "gsslib": "PGGSSLIB",
    "hostaddr": "PGHOSTADDR",
    "krbsrvname": "PGKRBSRVNAME",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "password": "PGPASSWORD",
    "require_auth": "PGREQUIREAUTH",
    "service": "PGSERVICE",
    "ssl": "PGSSLMODE",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "sslcert": "PGSSLCERT",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslrootcert": "PGSSLROOTCERT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "user": "PGUSER",
}


_HOW = (
    "Write it as postgresql+asyncpg://USER:PASSWORD@HOST:PORT/DATABASE, and in USER and PASSWORD write @ as %40, "
    ": as %3A, / as %2F and % as %25."
)


_PARTS = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "name": "PGDATABASE"}


def connection(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """libpq's environment variables for the database that an environment of the app names, by a URL or in parts.

    What the environment itself says to libpq about TLS holds where the URL says nothing.
    """
    if settings.database_url:
        found = libpq_environment(environment.get(settings.database_url, ""), settings.database_url)
    else:
        found = {_PARTS[part]: environment.get(name, "") for part, name in settings.database_parts.items()}
        found = {name: value for name, value in found.items() if value}
    said = {name: value for name, value in environment.items() if name.startswith("PGSSL")}
    return {**said, **found} if found else {}


def libpq_environment(url: str, name: str = "DATABASE_URL") -> dict[str, str]:
    """libpq's environment variables for a SQLAlchemy URL such as `postgresql+asyncpg://me@/db?host=/run/postgresql`.

    `name` is that of its variable. Passed in the environment and not as arguments, as the process list would show a
    password. Empty if the URL is not one of PostgreSQL. RefusedError, which never shows a part of the URL, when it
    cannot be read.
    """
    if not url:
        return {}
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[\w+]+", scheme):
        raise RefusedError(f"{name} is not a URL. {_HOW}")
    if scheme.partition("+")[0] not in _DIALECTS:
        return {}
    user, password, after = _account(rest)
    path, _, query = after.partition("?")
    place, _, database = path.partition("/")
    found = {"PGUSER": unquote(user), "PGPASSWORD": unquote(password), "PGDATABASE": unquote(database)}
    if match := _PLACE.fullmatch(place):
        found["PGHOST"] = match["ipv6"] or match["host"] or ""
        if match["port"] is not None:
            found["PGPORT"] = _number(match["port"], name)
    given = parse_qsl(query)
    found |= _hosts([value for key, value in given if key == "host"], [v for key, v in given if key == "port"], name)
    found |= {_VARIABLES[key]: value for key, value in given if key in _VARIABLES}
    return {key: value for key, value in found.items() if value}


def _account(text: str) -> tuple[str, str, str]:
    """User, password and what comes after them. An unquoted @ belongs to the user, any other sign to the password."""
    begin = re.match(r"[^:/]*", text)
    user = begin[0] if begin else ""
    after = text[len(user) :]
    if after.startswith(":") and "@" in after:
        password, _, after = after[1:].partition("@")
        return user, password, after
    user, at, _ = user.rpartition("@")
    return user, "", text[len(user) + len(at) :]


def _hosts(hosts: Iterable[str], ports: Iterable[str], name: str) -> dict[str, str]:
    """libpq's two lists for the hosts of a query: `host=a:5432&host=b:5433`, or `host=a,b&port=5432,5433`."""
    names, own = [], []
    for item in _split(hosts):
        host, colon, number = ("", "", item) if item.startswith("/") else item.rpartition(":")
        names.append(host if colon else item)
        own.append(_number(number, name) if colon else "")
    numbers = [_number(number, name) for number in _split(ports)]
    if any(own):
        numbers = [number or "5432" for number in own]
    return ({"PGHOST": ",".join(names)} if names else {}) | ({"PGPORT": ",".join(numbers)} if numbers else {})


def _split(items: Iterable[str]) -> list[str]:
    return [part for item in items for part in item.split(",")]


def _number(text: str, name: str) -> str:
    if not re.fullmatch(r"[0-9]+", text.strip()):
        raise RefusedError(f"{name} has a port that is not a number. {_HOW}")
    return text.strip()
