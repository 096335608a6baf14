"""Alembic as projects have it, on a host: migrated wherever it is configured, or refused before it is live."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.controller import flat
from tests.faults.conftest import Steady
from tests.faults.site import APP, Site

CONFIGURED = (APP / "pyproject.toml").read_text() + '\n[tool.alembic]\nscript_location = "%(here)s/app/migrations"\n'
HIDDEN = {"alembic.ini": None, "app/migrations/env.py": None, "app/migrations/script.py.mako": None}


def test_7_9_10_a_configuration_in_pyproject_and_a_migration_that_prints_and_reads_settings(
    site: Site, steady: Steady
) -> None:
    new = site.version(migration="prints_and_asks", files={"pyproject.toml": CONFIGURED, "alembic.ini": None})
    with steady() as load:
        site.deploy(new)
        assert site.live() == new
        assert site.revision() == new.migration
        assert site.has_table(f"added_{new.migration}")
    assert site.left_behind() == []
    assert load.failures == []


def test_7_migrations_that_alembic_does_not_find_are_refused_and_nothing_changes(site: Site, steady: Steady) -> None:
    old, revision = site.live(), site.revision()
    unconfigured = site.version(migration="adds_a_table", files={"alembic.ini": None})
    without = site.version(files={**HIDDEN, "app/migrations/versions/0001_entries.py": None})
    with steady() as load:
        found = flat(site.fails(unconfigured))
        lost = flat(site.fails(without))
        assert (site.live(), site.revision()) == (old, revision)
    assert "The release has app/migrations/env.py, but alembic finds no configuration" in found, found
    assert f"{without.tag} has no migrations (alembic finds no configuration), but {old.tag}, which is live" in lost, (
        lost
    )
    assert "export-ignore" in lost
    assert site.left_behind() == []
    assert load.failures == []
    # Meant, it is deployed; and the one after it has them again.
    site.deploy(without, "-e", "force=true")
    assert site.live() == without
    site.forget(unconfigured)
    site.next_run()


@contextlib.contextmanager
def table_in_a_schema(site: Site) -> Iterator[str]:
    """The table of versions where env.py says that it is, for a while; the text of that env.py."""
    usual = site.repository / "app/migrations/env.py"
    text = usual.read_text()
    changed = text.replace("connection=connection,", 'connection=connection,\n        version_table_schema="meta",', 1)
    assert changed != text
    site.sql("CREATE SCHEMA meta AUTHORIZATION logbook_owner; ALTER TABLE alembic_version SET SCHEMA meta")
    try:
        yield changed
    finally:
        site.sql("ALTER TABLE meta.alembic_version SET SCHEMA public; DROP SCHEMA meta")


def test_8_a_table_of_versions_in_a_schema_of_its_own(site: Site, steady: Steady) -> None:
    site.version()  # puts the usual env.py into the work tree
    with table_in_a_schema(site) as env, steady() as load:
        first = site.version(migration="adds_a_table", files={"app/migrations/env.py": env})
        second = site.version(migration="adds_a_table", files={"app/migrations/env.py": env})
        for version in (first, second):
            site.deploy(version)
            assert site.live() == version
            assert site.sql("SELECT version_num FROM meta.alembic_version") == version.migration
        site.play("rollback.yml")
        assert site.live() == first
        shown = site.host.exec("slipway", "status", "logbook")
        assert f"at {second.migration}" in shown, shown
    assert load.failures == []
    assert load.releases[-1] == first.sha
    site.next_run()
