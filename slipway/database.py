"""At which revision a database stands, asked through psql: quicker than a start of alembic."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from slipway import envfile, process
from slipway.config import Settings
from slipway.errors import FailedError

_QUERY_NAMES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "sslmode": "PGSSLMODE",
    "ssl": "PGSSLMODE",  # asyncpg's name for it
    "sslrootcert": "PGSSLROOTCERT",
}
_UNDEFINED_TABLE = "42P01"


def libpq_environment(url: str) -> dict[str, str]:
    """libpq's environment variables for a SQLAlchemy URL such as `postgresql+asyncpg://me@/db?host=/run/postgresql`.

    By environment, not by argument: a password must not stand in the process list. Empty when it is no PostgreSQL.
    """
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] not in ("postgresql", "postgres"):
        return {}
    found = {
        "PGHOST": unquote(parts.hostname or ""),
        "PGPORT": str(parts.port or ""),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
    }
    for name, value in parse_qsl(parts.query):
        if name in _QUERY_NAMES:
            found[_QUERY_NAMES[name]] = value
    return {name: value for name, value in found.items() if value}


def migration_environment(settings: Settings) -> dict[str, str]:
    """What alembic sees: the app's environment, with the migration role's values on top."""
    values = envfile.read(settings.env_file)
    if settings.migrate_env_file.exists():
        values |= envfile.read(settings.migrate_env_file)
    return values


def current_revision(settings: Settings, environment: Mapping[str, str]) -> str | None:
    """The revision in `alembic_version`; None when nothing was ever migrated.

    FailedError when PostgreSQL does not answer within 10 s, in its own words.
    """
    connection = libpq_environment(environment.get("DATABASE_URL", ""))
    if not connection:
        raise FailedError("DATABASE_URL is not a PostgreSQL URL; production runs on PostgreSQL only.")
    command = [
        "psql",
        "--no-psqlrc",
        "--no-password",
        "--tuples-only",
        "--no-align",
        "--set=VERBOSITY=sqlstate",
    ]
    query = "SELECT version_num FROM alembic_version ORDER BY 1"
    result = process.run(
        [*command, f"--command={query}"],
        user=settings.migrate_user,
        environment={**connection, "PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "slipway"},
        timeout=30,
    )
    if result.returncode == 0:
        return ",".join(result.stdout.split()) or None
    if _UNDEFINED_TABLE in result.stderr:
        return None
    raise FailedError("PostgreSQL does not answer the migration role.", process.tail(result.stderr, 5))
