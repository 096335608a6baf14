"""The revision of a database and the objects in it, read with psql, which is faster than starting alembic."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slipway.base import files, process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.schema import url
from slipway.slot import slots, standby

_UNDEFINED_TABLE = "42P01"
_MOST_HEADS = 1000
_USUAL_TABLE = "alembic_version"

# Where Debian has PostgreSQL's own programs, by version. Its /usr/bin/psql looks for the newest of them, in Perl, which
# takes three times as long as a query.
PROGRAMS = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Item:
    """One object in the schema. `name` is quoted for SQL. An index is invalid when building it has failed."""

    kind: str
    table: str  # the table that it belongs to; for a table its own name
    name: str
    is_invalid: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{' (INVALID)' if self.is_invalid else ''}"


# An index that is being built right now is invalid as well, and must be left alone.
_COLUMNS = ("kind", "table", "name", "is invalid")
_CATALOG = """
WITH own AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
SELECT CASE c.relkind WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'v' THEN 'view'
         WHEN 'm' THEN 'materialized view' ELSE 'table' END,
       coalesce(i.indrelid, c.oid)::regclass::text, c.oid::regclass::text,
       i.indisvalid IS false AND c.relkind = 'i' AND NOT EXISTS (
         SELECT FROM pg_stat_progress_create_index b WHERE b.index_relid = c.oid)
  FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relkind IN ('r', 'p', 'i', 'I', 'v', 'm') AND c.relnamespace IN (SELECT oid FROM own)
UNION ALL
SELECT 'column', c.oid::regclass::text,
       format('%s.%I %s%s', c.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
         CASE WHEN a.attnotnull THEN ' not null' END), false
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND c.relnamespace IN (SELECT oid FROM own)
UNION ALL
SELECT 'constraint', conrelid::regclass::text, format('%I on %s', conname, conrelid::regclass), false
  FROM pg_constraint WHERE conrelid <> 0 AND connamespace IN (SELECT oid FROM own)
UNION ALL
SELECT 'type', t.oid::regtype::text, t.oid::regtype::text, false
  FROM pg_type t WHERE t.typtype IN ('e', 'd') AND t.typnamespace IN (SELECT oid FROM own)
"""


def catalog(settings: Settings, environment: Mapping[str, str]) -> frozenset[Item]:
    """The objects in the database's schemas: tables, columns, indexes, constraints, views and types."""
    rows = (line.split("\t") for line in _query(settings, environment, _CATALOG).split("\n"))
    # A name may have a tab or a line break: what cannot be told apart is left out.
    return frozenset(Item(row[0], row[1], row[2], row[3] == "t") for row in rows if len(row) == len(_COLUMNS))


def difference(before: Iterable[Item], after: Iterable[Item]) -> list[str]:
    """The objects that are new or gone between two catalogs, as text; a new or gone table without its parts."""
    old, new = frozenset(before), frozenset(after)
    whole = {item.name for item in old ^ new if item.kind == "table"}
    changed = [item for item in old ^ new if item.kind == "table" or item.table not in whole]
    in_order = sorted(changed, key=lambda item: (item.table, item.kind != "table", item.name))
    return [f"{item} {'is new' if item in new else 'is gone'}" for item in in_order]


def drop_index(settings: Settings, environment: Mapping[str, str], name: str) -> None:
    """Drop an index without locking its table for others. `name` is quoted for SQL."""
    _query(settings, environment, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def size(settings: Settings, environment: Mapping[str, str]) -> int:
    """The size of the database on disk, in bytes."""
    return int(_query(settings, environment, "SELECT pg_database_size(current_database())"))


def dump(settings: Settings, environment: Mapping[str, str], target: Path) -> None:
    """Write a dump for pg_restore to `target`, complete or not at all. FailedError with the output of pg_dump.

    The file is of the user of this process alone. PostgreSQL's programs have it open, and do not need its directory.
    """
    partial = files.unfinished(target)
    partial.unlink(missing_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(partial, flags, 0o600), "r+b") as file:
            patience = settings.migrate_timeout
            dumped = _run(settings, environment, ["pg_dump", "--no-password", "--format=custom"], patience, output=file)
            os.fsync(file.fileno())
            file.seek(0)
            # Checks that the dump can be read.
            listed = _run(settings, environment, ["pg_restore", "--list"], patience, source=file)
        for result in (dumped, listed):
            if result.returncode != 0:
                raise FailedError("The database could not be dumped.", process.tail(result.stderr))
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def current_revision(settings: Settings, environment: Mapping[str, str], table: str = "") -> str | None:
    """The revision in alembic's table of versions; None when no migration was ever run. Several are joined by commas.

    `table` is its name, quoted for SQL; "" for the usual one.

    FailedError, with the output of psql, when PostgreSQL cannot be connected to within 10 s.
    """
    try:
        # The table may be anything, as the app's migrations can make a view of it.
        query = f"SELECT left(version_num, 100) FROM {table or _USUAL_TABLE} ORDER BY 1 LIMIT {_MOST_HEADS}"  # noqa: S608  # alembic has quoted it
        found = _query(settings, environment, query)
    except FailedError as error:
        if _UNDEFINED_TABLE in error.detail:
            return None
        raise
    return ",".join(found.split()) or None


# Who runs the app may read the table of versions. If it could write there, it would decide what is migrated.
_PROTECT = """
DO $slipway$
DECLARE
    versions regclass := to_regclass({table});
    app regrole := to_regrole({role});
    writes text := 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER';
BEGIN
    IF current_setting('server_version_num')::int >= 170000 THEN
        writes := writes || ', MAINTAIN';
    END IF;
    IF app IS NOT NULL AND (SELECT NOT pg_has_role(app, relowner, 'MEMBER') FROM pg_class WHERE oid = versions) THEN
        EXECUTE format('REVOKE %s ON %s FROM %s', writes, versions, app);
    END IF;
END $slipway$
"""


def protect_versions(settings: Settings, environment: Mapping[str, str], table: str, role: str) -> None:
    """Take from the role of the app what it may write in alembic's table of versions; nothing if it is the owner's.

    `table` as for `current_revision`. `role` is as it is, not quoted.
    """
    quoted = '"' + role.replace('"', '""') + '"'
    _query(settings, environment, _PROTECT.format(table=_literal(table or _USUAL_TABLE), role=_literal(quoted)))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# Every role can see the locks of other sessions, but only the session's own role can see its state. Each transaction
# has at least a lock on its own number.
_SESSIONS = """
SELECT pg_postmaster_start_time(), a.pid, a.client_port, a.pid IN (SELECT l.pid FROM pg_locks l)
  FROM pg_stat_activity a
"""


def port(settings: Settings, environment: Mapping[str, str]) -> str:
    """The TCP port of PostgreSQL."""
    return url.connection(settings, environment).get("PGPORT", standby.DATABASE_PORT)


def server(settings: Settings, environment: Mapping[str, str]) -> standby.Server:
    """When PostgreSQL was started, its connections, and which of them have a transaction or a lock."""
    sessions, holding, started = set(), set(), ""
    for line in _query(settings, environment, _SESSIONS).splitlines():
        started, pid, client_port, holds = line.split("\t")
        names = {f"process {pid}"} | ({f"port {client_port}"} if client_port not in ("", "-1") else set())
        sessions |= names
        holding |= names if holds == "t" else set()
    return standby.Server(started, frozenset(sessions), frozenset(holding))


def _query(settings: Settings, environment: Mapping[str, str], query: str) -> str:
    """The output of psql for a query: a row per line, with tabs between columns. FailedError with its message."""
    command = [psql(), "--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--field-separator=\t"]
    result = _run(settings, environment, [*command, "--set=VERBOSITY=verbose", f"--command={query}"], timeout=30)
    if result.returncode != 0:
        said = process.tail(result.stderr, 5)
        if not (meaning := _meaning(settings, environment, result.stderr)):
            message = "PostgreSQL does not answer the migration role."
            if slots.live_release(settings) is None:
                message += f" If the app has no database, set apps.{settings.app}.database to none."
            raise FailedError(message, said)
        raise FailedError(f"PostgreSQL at {_place(settings, environment)} {meaning}.", said)
    return result.stdout


# What psql says, and what that means.
_REASONS = (
    ("certificate verify failed", "has a certificate that the authority in database.ca has not signed"),
    ("does not match host name", "has a certificate for another name than that of the host in the URL"),
    ("root certificate file", "cannot be checked: the file of database.ca is not on the host. Run site.yml"),
    ("server does not support SSL", "has no TLS, which database.ca or the URL asks for"),
    ("password authentication failed", "refuses the password of role {user}"),
    ("no password supplied", "wants a password of role {user}, and there is none"),
    ("no pg_hba.conf entry", "does not let role {user} of this host in (pg_hba.conf)"),
    ("too many connections", "has no connection left for role {user}"),
    ("too many clients", "has no connection left for role {user}"),
    ("remaining connection slots", "has no connection left for role {user}"),
    ("could not translate host name", "has a name that this host cannot resolve"),
    ("Connection refused", "does not answer"),
    ("timeout expired", "does not answer"),
    ("No route to host", "does not answer"),
    ("Network is unreachable", "does not answer"),
    ("No such file or directory", "does not answer"),
)


def _meaning(settings: Settings, environment: Mapping[str, str], said: str) -> str:
    """What it means that PostgreSQL did not answer, as the end of a sentence; "" where that is not known."""
    user = url.connection(settings, environment).get("PGUSER", settings.migrate_user)
    return next((meaning.format(user=user) for sign, meaning in _REASONS if sign in said), "")


def _place(settings: Settings, environment: Mapping[str, str]) -> str:
    """The hosts that were asked; of a URL whose password has an @ in it, a part of the password would stand there."""
    place = url.connection(settings, environment).get("PGHOST", "the host itself")
    return "the host in the URL" if "@" in place else place


def check(settings: Settings, environment: Mapping[str, str]) -> None:
    """FailedError, in one sentence, when PostgreSQL cannot be connected to."""
    _query(settings, environment, "SELECT 1")


def psql() -> str:
    """The newest psql on this host, found as Debian's own wrapper finds it; "psql" where there is no such directory."""
    found = [path for path in PROGRAMS.glob("*/bin/psql") if path.parts[-3].isdecimal()]
    return str(max(found, key=lambda path: int(path.parts[-3]), default="psql"))


def _run(
    settings: Settings,
    environment: Mapping[str, str],
    command: list[str],
    timeout: float,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the migration role, perhaps with files as its input and output."""
    connection = url.connection(settings, environment)
    if not connection:
        name = settings.database_url or " and ".join(settings.database_parts.values())
        raise FailedError(f"{name} of {settings.app} names no PostgreSQL database. Set it in the inventory.")
    return process.run(
        command,
        user=settings.migrate_user,
        environment={**connection, "PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "slipway"},
        timeout=timeout,
        source=source,
        output=output,
    )
