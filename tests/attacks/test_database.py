"""What the app's own role tries in its database, on a real host as that user of the system."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.circumstances.test_runtime_role import DENIED, OF_MIGRATIONS, STAYS_ALLOWED
from tests.faults.site import Site


def ask(site: Site, user: str, statement: str) -> tuple[str, str]:
    """psql as that user of the host: the exit code, and what it said."""
    made = statement.format(t="alembic_version").replace("shop_owner", "logbook_owner").replace("shop", "logbook")
    psql = f"psql --no-psqlrc -qtA -v ON_ERROR_STOP=1 -d logbook -c {shlex.quote(made)}"
    said = site.sh(f"runuser -u {user} -- {psql} </dev/null 2>&1; echo; echo code $?")
    text, _, code = said.rpartition("code ")
    return code.strip(), text.strip()


@pytest.fixture
def orders(site: Site) -> Iterator[Site]:
    """A table of the owner, as a migration makes one; afterwards the database is at the revision that it was at."""
    site.sql("SET ROLE logbook_owner; CREATE TABLE IF NOT EXISTS orders (id serial, version_num text)")
    revision = site.revision()
    yield site
    if site.revision() != revision:
        site.sql(f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608  # it is alembic's own


@pytest.mark.parametrize("statement", DENIED.values(), ids=DENIED)
def test_the_apps_user_is_denied(orders: Site, statement: str) -> None:
    said = ask(orders, "logbook", statement)[1]
    assert "permission denied" in said or "must be owner" in said or "no privileges were granted" in said, said


@pytest.mark.parametrize("statement", STAYS_ALLOWED.values(), ids=STAYS_ALLOWED)
def test_the_apps_user_goes_on(orders: Site, statement: str) -> None:
    assert "ERROR" not in ask(orders, "logbook", statement)[1]


@pytest.mark.parametrize("statement", OF_MIGRATIONS.values(), ids=OF_MIGRATIONS)
def test_migrations_go_on(orders: Site, statement: str) -> None:
    assert "ERROR" not in ask(orders, "logbook_migrate", statement)[1]


def test_an_app_that_holds_the_lock_of_migrations_holds_up_none(site: Site) -> None:
    """A thousand numbers of the class that runners take, and the one number that they took before."""
    locks = "SELECT pg_advisory_lock(730542196, n) FROM generate_series(1, 1000) n; SELECT pg_advisory_lock(7305421963)"
    psql = f"psql --no-psqlrc --quiet --dbname=logbook --command={shlex.quote(locks)} --command='SELECT pg_sleep(120)'"
    pid = site.sh(f"runuser -u logbook -- {psql} >/dev/null 2>&1 & echo $!")
    held = "SELECT count(*) FROM pg_locks WHERE locktype = ''advisory'' AND granted".replace("''", "'")
    try:
        site.wait_there(f'test "$(runuser -u postgres -- psql -tAd logbook -c "{held}")" -ge 1001', 20)
        new = site.version(migration="adds_a_table")
        site.deploy(new)
        assert site.live() == new
        assert site.revision() == new.migration
        assert int(site.sql(held)) >= 1001
    finally:
        site.sh(f"kill {pid}")
