"""What a failed migration leaves in the schema, and which code a schema suits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.controller import flat

from .conftest import Steady
from .site import Site

INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


@pytest.mark.row(16, "migrate", "the migration raises after an autocommit block")
def test_what_a_failed_migration_has_committed_is_named_and_a_second_run_is_safe(site: Site, steady: Steady) -> None:
    old, new, revision = site.live(), site.version(migration="raises_after_a_commit"), site.revision()
    with steady() as load:
        with site.naps(1):
            output = site.fails(new)
            again = site.fails(new)
        assert site.live() == old
        assert site.revision() == revision
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
        assert site.revision() == new.migration
    assert "the variant raises after a commit" in output, output
    assert f"the next run must expect them: index ix_{new.migration}" in flat(output), output
    assert "The database's revision is still" in flat(again), again
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


@pytest.mark.row(17, "migrate", "CREATE INDEX CONCURRENTLY fails on duplicates")
def test_an_invalid_index_is_named_and_dropped_by_the_next_run(site: Site, steady: Steady) -> None:
    old, new, revision = site.live(), site.version(migration="wants_no_twins"), site.revision()
    twins = f"twins_{new.migration}"
    with steady() as load:
        made = f"CREATE TABLE {twins} AS SELECT 1 AS id FROM generate_series(1, 2)"  # noqa: S608  # a name of the test's own
        site.sql(f"SET ROLE logbook_owner; {made}")
        output = site.fails(new)
        assert site.live() == old
        assert site.revision() == revision
        assert site.sql(INVALID) == "1", "or there was nothing to drop"
        assert site.left_behind() == []
        site.sql(f"TRUNCATE {twins}")
        site.deploy(new)
        assert site.live() == new
        assert site.revision() == new.migration
        assert site.sql(INVALID) == "0"
    assert f"ux_{new.migration}" in output, output
    assert "INVALID" in output, output
    assert f"invalid indexes dropped before: ux_{new.migration}" in site.phase(new, "migrate")["message"]
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


@pytest.mark.row(44, "rollback", "it needs a downgrade that loses data")
def test_a_downgrade_wants_its_flag_and_a_fresh_dump(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    start = site.live()
    old = site.version()
    site.deploy(old)
    revision = site.revision()
    backups = "ls /srv/logbook/backups 2>/dev/null || true"
    before = set(site.sh(backups).split())
    # The newest bears the one between, but not the oldest.
    between = site.version(migration="adds_a_table")
    new = site.version(migration="breaks_older_code")
    to_old = ("rollback.yml", *old.chosen)
    with steady() as load:
        refused_deploy = site.fails(new)
        assert site.live() == old
        assert site.revision() == revision
        site.deploy(between)
        site.deploy(new)
        refused = site.play(*to_old, check=False)
        assert site.live() == new
        assert site.revision() == new.migration
        assert set(site.sh(backups).split()) == before
        site.play(*to_old, "-e", "allow_data_loss=true")
        assert site.live() == old
        assert site.revision() == revision
        site.forget(between, new)
        assert site.left_behind() == []
        site.next_run()
    made = set(site.sh(backups).split()) - before
    record_property("note", f"dump {', '.join(made)}; live at first {start.tag}")
    assert f"{old.tag} cannot run on the schema after migration {new.migration}" in flat(refused_deploy), refused_deploy
    assert f"{old.tag} cannot run on the schema after migration {new.migration}" in flat(refused), refused
    assert "allow_data_loss=true" in flat(refused)
    assert "changed=0" in refused
    assert len(made) == 1
    listed = site.sh(f"runuser -u postgres -- true; pg_restore --list /srv/logbook/backups/{made.pop()}")
    assert f"added_{new.migration}" in listed, "the dump is from before the downgrade"
    assert load.failures == []
    assert load.releases[:4] == [old.sha, between.sha, new.sha, old.sha]
