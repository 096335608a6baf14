"""The host's own cluster of PostgreSQL, asked as its superuser."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.backup.settings import Settings
from slipway.base import process
from slipway.base.errors import FailedError

SUPERUSER = "postgres"
_SOCKET = "/run/postgresql"
_PATIENCE = 60.0

# Databases that a backup has to have; template0 and template1 are no one's data.
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"

# Alembic's tables of versions, whatever their names are: they have this one column.
REVISIONS = """
SELECT format('SELECT %L, coalesce(string_agg(version_num::text, '','' ORDER BY version_num::text), '''') FROM %s',
              c.oid::regclass, c.oid::regclass)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'
   AND ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) = ARRAY['version_num']
"""

# The largest tables, with the rows that the statistics say they have.
TABLES = """
SELECT c.oid::regclass::text, pg_table_size(c.oid), coalesce(s.n_live_tup, 0)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 2 DESC, 1 LIMIT 5
"""


@dataclass(frozen=True)
class Archive:
    """What PostgreSQL says of handing over its WAL. Times in seconds since 1970, 0 where there is none."""

    mode: str
    is_ours: bool
    timeout: int  # seconds after which a segment is handed over that is not full
    archived: float
    failed: float
    failed_wal: str
    waiting: int  # bytes of WAL that the server keeps

    @property
    def problem(self) -> str:
        """Why WAL is not archived, as the end of a sentence; "" when it is."""
        if self.mode not in ("on", "always"):
            return "PostgreSQL does not archive its WAL (archive_mode is off): run site.yml"
        if not self.is_ours:
            return "PostgreSQL has an archive_command that is not of Slipway: run site.yml"
        if self.failed > self.archived:
            return f"{self.failed_wal} was not taken into the repository"
        return ""


_ARCHIVE = """
SELECT current_setting('archive_mode'),
       strpos(current_setting('archive_command'), '/etc/pgbackrest/slipway') > 0,
       (SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout'),
       coalesce(extract(epoch FROM last_archived_time), 0)::bigint,
       coalesce(extract(epoch FROM last_failed_time), 0)::bigint,
       coalesce(last_failed_wal, ''),
       (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir())
  FROM pg_stat_archiver
"""


def ask(settings: Settings, query: str, database: str = "postgres", patience: float = _PATIENCE) -> list[list[str]]:
    """The rows of a query; FailedError with psql's message."""
    result = process.run(
        [
            str(settings.programs / "psql"),
            *("--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--field-separator=\t", "--quiet"),
            "--set=ON_ERROR_STOP=1",
            f"--command={query}",
        ],
        user=SUPERUSER,
        environment={
            "PGHOST": _SOCKET,
            "PGPORT": str(settings.port),
            "PGUSER": SUPERUSER,
            "PGDATABASE": database,
            "PGCONNECT_TIMEOUT": "10",
            "PGAPPNAME": "slipway",
        },
        timeout=patience,
    )
    if result.returncode != 0:
        unit = f"postgresql@{settings.version}-{settings.cluster}"
        raise FailedError(
            f"PostgreSQL does not answer on this host. `systemctl status {unit}` shows why.",
            process.tail(result.stderr, 5),
        )
    return [line.split("\t") for line in result.stdout.splitlines() if line]


def archive(settings: Settings) -> Archive:
    mode, ours, timeout, archived, failed, wal, waiting = ask(settings, _ARCHIVE)[0]
    return Archive(mode, ours == "t", int(timeout), float(archived), float(failed), wal, int(waiting))


def size(settings: Settings) -> int:
    """The bytes of all databases."""
    return int(ask(settings, "SELECT sum(pg_database_size(oid))::bigint FROM pg_database")[0][0])


def databases(settings: Settings) -> list[str]:
    return [row[0] for row in ask(settings, DATABASES)]


def revisions(settings: Settings, database: str) -> dict[str, str]:
    """The revisions of a database, by alembic's table of them."""
    queries = [row[0] for row in ask(settings, REVISIONS, database)]
    return {table: revision for query in queries for table, revision in ask(settings, query, database)}


def tables(settings: Settings, database: str) -> dict[str, int]:
    """The rows that the largest tables of a database have, as PostgreSQL's statistics say."""
    return {name: int(rows) for name, _, rows in ask(settings, TABLES, database)}
