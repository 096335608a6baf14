"""A migration that fails, waits or is interrupted: the old release serves on, on a schema that it knows."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.controller import flat

from .conftest import Steady
from .site import Site, wait_for

NAPPING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"


@pytest.mark.row(15, "migrate", "the migration raises half-way")
def test_a_migration_that_raises_half_way_changes_nothing(site: Site, steady: Steady) -> None:
    old, new, revision = site.live(), site.version(migration="raises_half_way"), site.revision()
    with steady() as load:
        output = site.fails(new)
        assert site.live() == old
        assert site.revision() == revision
        assert not site.has_table("half_way")
        assert site.left_behind() == []
        site.next_run()
    assert "the variant raises half-way" in output, output
    assert "The database's revision is still" in flat(output), output
    assert load.failures == []


@contextmanager
def idle_transaction(site: Site) -> Iterator[None]:
    """Somebody has read the table, and has not ended the transaction since."""
    command = ["docker", "exec", "-i", site.host.name, "runuser", "-u", "postgres", "--", "psql", "-d", "logbook"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as psql:
        assert psql.stdin is not None
        psql.stdin.write("BEGIN; SELECT count(*) FROM entries;\n")
        psql.stdin.flush()
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND usename = 'postgres'"
        wait_for(lambda: site.sql(idle) == "1", 10, 0.2)
        try:
            yield
        finally:
            psql.stdin.close()
            psql.wait()


@pytest.mark.row(18, "migrate", "an idle transaction holds the lock that a migration needs")
def test_a_migration_that_does_not_get_its_lock_gives_up_and_lets_the_traffic_through(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new, revision = site.live(), site.version(migration="needs_the_table"), site.revision()
    with steady() as load:
        with idle_transaction(site):
            output = site.fails(new)
        assert site.live() == old
        assert site.revision() == revision
        assert site.left_behind() == []
        slowest = max(load.seconds)  # the writers alone wait, which is less than a hundredth of all requests
        site.deploy(new)
        assert site.live() == new
        assert site.revision() != revision
    failed = [line for line in site.journal() if (line["tag"], line["outcome"]) == (new.tag, "failed")]
    record_property("note", f"gave up after {failed[0]['seconds']:.0f} s; the slowest request took {slowest:.1f} s")
    assert "canceling statement due to lock timeout" in flat(output), output
    assert failed[0]["phase"] == "migrate"
    assert failed[0]["seconds"] < 60
    assert 1 < slowest < 5, "nobody waited, or for too long"
    assert load.failures == []


@pytest.mark.row(20, "migrate", "the runner is SIGKILLed in the middle of a statement")
def test_the_statement_of_a_runner_that_is_killed_ends_within_5_s(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new, revision = site.live(), site.version(migration="naps"), site.revision()
    with steady() as load:
        with site.naps(120):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            wait_for(lambda: site.sql(NAPPING) == "1", 30, 0.2)
            site.kill_engine()
            seconds = wait_for(lambda: site.sql(NAPPING) == "0", 5, 0.2)
            assert run.end() != 0
        assert site.left_behind() == [], "the play did not undo what it had begun"
        assert site.live() == old
        assert site.revision() == revision
        assert not site.has_table(f"added_{new.migration}")
        site.deploy(new)
        assert site.live() == new
        assert site.revision() != revision
        assert site.left_behind() == []
    record_property("note", f"its backend ended after {seconds:.1f} s")
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


@pytest.mark.row(20, "migrate", "alembic alone is SIGKILLed in the middle of a statement")
def test_the_death_of_alembic_alone_is_reported(site: Site, steady: Steady) -> None:
    old, new, revision = site.live(), site.version(migration="naps"), site.revision()
    with steady() as load:
        with site.naps(120):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            wait_for(lambda: site.sql(NAPPING) == "1", 30, 0.2)
            site.sh("pkill -KILL -u logbook_migrate")
            wait_for(lambda: site.sql(NAPPING) == "0", 5, 0.2)
            assert run.end() != 0
        assert site.live() == old
        assert site.revision() == revision
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
    assert "A migration failed" in flat(run.output), run.output
    assert load.failures == []


@pytest.mark.row(21, "migrate", "two runners: alembic is started by hand beside a deploy's")
def test_the_second_of_two_runners_waits_and_has_nothing_to_do(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version(migration="naps")
    with steady() as load:
        with site.naps(6):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            wait_for(lambda: site.sql(NAPPING) == "1", 30, 0.2)
            started = time.monotonic()
            output = site.sh(
                f"""cd /srv/logbook/releases/{new.release} && set -a && . /etc/logbook/env && . /etc/logbook/migrate.env
                setpriv --reuid logbook_migrate --regid logbook_migrate --init-groups --reset-env \
                    env DATABASE_URL="$DATABASE_URL" .venv/bin/python -m alembic upgrade head 2>&1; echo code $?"""
            )
            waited = time.monotonic() - started
            assert run.end() == 0, run.output[-3000:]
        assert site.live() == new
        assert site.left_behind() == []
    assert output.endswith("code 0"), output
    assert "Running upgrade" not in output, output
    assert waited > 3
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


@pytest.mark.row(22, "migrate", "PostgreSQL is down (requests fail while it is)")
def test_without_postgresql_a_deploy_fails_before_anything_changes(site: Site, steady: Steady) -> None:
    old, new, journal = site.live(), site.version(migration="adds_a_table"), site.journal()
    with steady() as load:
        began = time.monotonic()
        site.host.exec("systemctl", "stop", "postgresql.service")
        try:
            output = site.fails(new)
            assert site.journal() == journal
        finally:
            site.host.exec("systemctl", "start", "postgresql.service")
        site.wait_until_ready(15)
        ended = time.monotonic()
        assert site.live() == old
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
    assert "PostgreSQL at /run/postgresql does not answer" in flat(output), output
    assert "changed=0" in output
    assert load.failures, "or it was not down"
    assert load.outside([(began, ended)]) == []


@pytest.mark.row(23, "migrate", "PostgreSQL restarts, fast (requests fail while it does)")
def test_a_restart_of_postgresql_fails_the_migration_cleanly_and_the_app_connects_again(
    site: Site, steady: Steady
) -> None:
    old, new, revision = site.live(), site.version(migration="naps"), site.revision()
    with steady() as load:
        with site.naps(60):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            wait_for(lambda: site.sql(NAPPING) == "1", 30, 0.2)
            began = time.monotonic()
            site.sh("pg_lsclusters --no-header | while read -r v n _; do pg_ctlcluster $v $n restart -m fast; done")
            site.wait_until_ready(15)
            ended = time.monotonic()
            assert run.end() != 0
        assert site.live() == old
        assert site.revision() == revision
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
    assert "A migration failed" in flat(run.output), run.output
    assert load.outside([(began, ended)]) == []


# As the migration's role, which has no limit of its own. Ends when its input does.
HOLDS_CONNECTIONS = """
import asyncio, sys
import asyncpg

async def main():
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    held, full = [], False
    while not ended.done():
        try:
            held.append(await asyncpg.connect(host="/run/postgresql", user="logbook_migrate", database="logbook"))
        except asyncpg.TooManyConnectionsError:
            if not full:
                print("full", flush=True)
            full = True
            await asyncio.sleep(0.05)
    for connection in held:
        connection.terminate()

asyncio.run(main())
"""


@contextmanager
def no_connection_left(site: Site) -> Iterator[None]:
    """Somebody holds every connection that is not reserved for superusers, and takes each that becomes free."""
    python = f"/srv/logbook/releases/{site.live().release}/.venv/bin/python"
    command = ["docker", "exec", "-i", site.host.name, "runuser", "-u", "logbook_migrate", "--", python, "-c"]
    with subprocess.Popen(
        [*command, HOLDS_CONNECTIONS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "full\n"
            yield
        finally:
            holder.stdin.close()
            holder.wait()


@pytest.mark.row(24, "migrate", "no connection is left")
def test_without_a_connection_a_deploy_fails_before_anything_changes(site: Site, steady: Steady) -> None:
    old, new, journal = site.live(), site.version(migration="adds_a_table"), site.journal()
    with steady() as load:
        with no_connection_left(site):
            output = site.fails(new)
            assert site.journal() == journal
            assert site.live() == old
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
    assert "has no connection left for role" in flat(output), output
    assert "changed=0" in output
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]
