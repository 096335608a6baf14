"""What an app may do in its database: in the schemas that its migrations make, and in its own session."""

from __future__ import annotations

import httpx
import pytest

from hosts import scratch
from tests.circumstances.host.workshop import made, workshop
from tests.faults.site import Site, Version

__all__ = ["made", "workshop"]

# A schema that a migration made: what its app runs, in one transaction, and the last answer of it.
RUNS = {
    "select": (["SELECT count(*) FROM {s}.bills"], ["0"]),
    "insert, update and delete": (
        [
            "INSERT INTO {s}.bills (state) VALUES ('open'), ('open')",
            "UPDATE {s}.bills SET state = 'paid'",
            "DELETE FROM {s}.bills RETURNING state",
        ],
        ["paid", "paid"],
    ),
    "a partition": (["INSERT INTO {s}.parts VALUES (1) RETURNING id"], ["1"]),
    "a sequence": (["SELECT setval('{s}.numbers', 40)", "SELECT nextval('{s}.numbers')"], ["41"]),
    "a view": (["SELECT count(*) FROM {s}.open"], ["0"]),
    "a function": (["SELECT {s}.two()"], ["2"]),
    "a type": (["SELECT 'paid'::{s}.state"], ["paid"]),
    "a materialized view": (["SELECT bills FROM {s}.totals"], ["0"]),
    "refresh, as the owner lets it": (["SELECT {s}.refresh()", "SELECT bills FROM {s}.totals"], ["0"]),
    "a temporary table": (
        ["CREATE TEMP TABLE seen (id int) ON COMMIT DROP", "INSERT INTO seen VALUES (7)", "SELECT id FROM seen"],
        ["7"],
    ),
    "copy a table into a temporary one": (
        ["CREATE TEMP TABLE copied ON COMMIT DROP AS TABLE {s}.bills", "SELECT count(*) FROM copied"],
        ["0"],
    ),
    "lock a table": (["LOCK TABLE {s}.bills IN SHARE MODE", "SELECT 1"], ["1"]),
    "select for update": (["SELECT id FROM {s}.bills FOR UPDATE"], []),
    "an extension": (["SELECT similarity('abc', 'abc')"], ["1.0"]),
    "an advisory lock": (["SELECT pg_advisory_xact_lock(1)", "SELECT 3"], ["3"]),
    "listen and notify": (["LISTEN news", "NOTIFY news, 'x'", "UNLISTEN news", "SELECT 4"], ["4"]),
    "row level security": (
        ["SET LOCAL app.tenant = 'a'", "INSERT INTO {s}.tenants VALUES ('a')", "SELECT tenant FROM {s}.tenants"],
        ["a"],
    ),
    "a search path": (["SET LOCAL search_path = {s}", "SELECT count(*) FROM bills"], ["0"]),
}

# What stays the owner's: to change the schema, and what a migration has taken back.
STAYS_DENIED = {
    "a new table": ["CREATE TABLE {s}.more (id int)"],
    "a new schema": ["CREATE SCHEMA more"],
    "another column": ["ALTER TABLE {s}.bills ADD more int"],
    "a dropped table": ["DROP TABLE {s}.bills"],
    "an emptied table": ["TRUNCATE {s}.bills"],
    "what a migration has revoked": ["DELETE FROM {s}.audit"],
    "rows of another tenant": ["SET LOCAL app.tenant = 'a'", "INSERT INTO {s}.tenants VALUES ('b')"],
    "the owner's role": ["SET ROLE logbook_owner"],
    "the revision of the database": ["UPDATE alembic_version SET version_num = '0001'"],
    "a row of the revision": ["INSERT INTO alembic_version VALUES ('0001')"],
    "a lock of the revision": ["LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE"],
    "a large object": ["SELECT lo_from_bytea(0, 'x')"],
    "an empty large object": ["SELECT lo_create(0)"],
}


def ask(site: Site, schema: str, statements: list[str]) -> httpx.Response:
    with site.client() as client:
        return client.post("/sql", json=[statement.format(s=schema) for statement in statements])


def test_the_app_uses_all_that_a_migration_makes_in_a_new_schema(workshop: Site, made: Version) -> None:
    schema = f"billing_{made.migration}"
    answers = {what: ask(workshop, schema, statements) for what, (statements, _) in RUNS.items()}
    found = {what: answer.json() if answer.status_code == 200 else answer.text for what, answer in answers.items()}
    assert found == {what: expected for what, (_, expected) in RUNS.items()}


def test_the_app_refreshes_a_materialized_view_where_postgresql_can_allow_it(workshop: Site, made: Version) -> None:
    statement = f"REFRESH MATERIALIZED VIEW billing_{made.migration}.totals"
    version = int(workshop.sql("SHOW server_version_num"))
    assert ask(workshop, "", [statement]).status_code == (200 if version >= 170000 else 500)


@pytest.mark.parametrize("what", STAYS_DENIED)
def test_the_schema_stays_the_owners(workshop: Site, made: Version, what: str) -> None:
    assert ask(workshop, f"billing_{made.migration}", STAYS_DENIED[what]).status_code == 500


def test_what_an_earlier_version_of_slipway_has_left_gets_its_privileges_once(site: Site) -> None:
    """As on a host from before: defaults for `public` alone, a schema that the app was never let into, and tables from
    which a migration has taken something back."""
    privileges = "has_table_privilege('logbook', 'earlier.{}', 'SELECT,INSERT')".format
    site.sql("DROP SCHEMA IF EXISTS earlier CASCADE; DROP TABLE IF EXISTS trail, secrets")
    try:
        for kind in ("TABLES", "SEQUENCES", "SCHEMAS"):
            site.sql(f"ALTER DEFAULT PRIVILEGES FOR ROLE logbook_owner REVOKE ALL ON {kind} FROM logbook")
        site.sql(
            "SET ROLE logbook_owner; CREATE SCHEMA earlier; CREATE TABLE earlier.t (id serial); "
            "CREATE MATERIALIZED VIEW earlier.m AS SELECT 1 AS one; "
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO logbook; "
            "CREATE TABLE trail (id int); REVOKE UPDATE, DELETE ON trail FROM logbook; "
            "CREATE TABLE secrets (id int); REVOKE ALL ON secrets FROM logbook"
        )
        assert site.sql(f"SELECT {privileges('t')}") == "f"
        first = give(site)
        assert [line for line in first if "trail" in line or "secrets" in line] == []
        assert site.sql(f"SELECT {privileges('t')}, {privileges('m')}") == "t|t"
        assert site.sql("SELECT has_schema_privilege('logbook', 'earlier', 'USAGE')") == "t"
        assert site.sql("SELECT has_sequence_privilege('logbook', 'earlier.t_id_seq', 'USAGE')") == "t"
        assert site.sql("SELECT has_table_privilege('logbook', 'trail', 'DELETE')") == "f"
        assert site.sql("SELECT has_table_privilege('logbook', 'secrets', 'SELECT')") == "f"
        assert give(site) == []  # a second run changes nothing
        site.sql("SET ROLE logbook_owner; REVOKE DELETE ON earlier.t FROM logbook")
        assert give(site) == []  # and what is revoked afterwards stays so
    finally:
        give(site)
        site.sql("DROP SCHEMA IF EXISTS earlier CASCADE; DROP TABLE IF EXISTS trail, secrets")


def give(site: Site) -> list[str]:
    """Do what roles/postgresql/tasks/databases.yml does, which takes a whole site.yml; the statements."""
    psql = "runuser -u postgres -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=logbook"
    asked = f"{psql} --tuples-only --no-align --set=app=logbook --set=owner=logbook_owner"
    script = (scratch.PROJECT / "roles/postgresql/files/missing_privileges.sql").read_text()
    missing = site.host.exec("sh", "-c", asked, stdin=script)
    if missing:
        site.host.exec("sh", "-c", f"{psql} --single-transaction", stdin=missing)
    return missing.splitlines()
