"""The way back: to what is not there any more, past a migration, and what is never deleted."""

from __future__ import annotations

import pytest

from .conftest import Steady
from .site import UNIT, Site

RELEASES = "/srv/logbook/releases"


def complete(site: Site) -> set[str]:
    """The releases that are whole."""
    return {path.split("/")[-2] for path in site.sh(f"ls {RELEASES}/*/.complete").split()}


@pytest.mark.row(43, "rollback", "to a release that was pruned, with the git remote away")
def test_a_pruned_release_is_built_again_from_the_mirror(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version()
    away = site.repository.with_name("away")
    with steady() as load:
        site.deploy(new)
        site.sh(f"rm -r {RELEASES}/{old.release}")
        site.repository.rename(away)
        try:
            site.play("rollback.yml")
        finally:
            away.rename(site.repository)
        assert site.live() == old
        assert old.release in complete(site)
        assert site.left_behind() == []
    assert load.failures == []
    assert load.releases == [old.sha, new.sha, old.sha]


@pytest.mark.row(43, "rollback", "to a release that was pruned, and its commit is not in the mirror any more")
def test_a_release_that_cannot_be_built_again_is_refused_with_the_reason(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        site.deploy(new)
        site.sh(f"mv {RELEASES}/{old.release} /srv/logbook/kept && mv /srv/logbook/repo.git /srv/logbook/kept.git")
        try:
            site.sh("runuser -u logbook_build -- true; install -d -o logbook_build /srv/logbook/repo.git")
            site.sh("runuser -u logbook_build -- git init --quiet --bare /srv/logbook/repo.git")
            output = site.play("rollback.yml", check=False)
            assert site.live() == new
        finally:
            site.sh(
                f"cd /srv/logbook && rm -r repo.git && mv kept.git repo.git && rm -rf {RELEASES}/{old.release} "
                f"&& mv kept {RELEASES}/{old.release}"
            )
        assert site.left_behind() == []
        site.next_run()
    assert old.sha[:12] in output, output
    assert load.failures == []


@pytest.mark.row(45, "rollback", "the schema is ahead of the release, and compatible")
def test_a_rollback_past_a_migration_goes_back_in_code_alone(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version(migration="adds_a_table")
    with steady() as load:
        site.deploy(new)
        ahead = site.revision()
        site.play("rollback.yml")
        assert site.live() == old
        assert site.revision() == ahead
        assert site.status()["database"]["ahead"]
        assert site.left_behind() == []
        site.play("deploy.yml", *new.chosen)
        assert site.live() == new
        assert site.revision() == ahead
    assert site.phase(new, "migrate")["outcome"] == "skipped"
    assert load.failures == []
    assert load.releases == [old.sha, new.sha, old.sha, new.sha]


@pytest.mark.row(47, "prune", "the engine is SIGKILLed in the middle of it")
def test_a_prune_that_is_killed_deletes_neither_the_live_release_nor_the_one_before_it(
    site: Site, steady: Steady
) -> None:
    first, before, new = site.live(), site.version(), site.version()
    with steady() as load:
        site.deploy(before)
        with site.settings(keep_releases=2):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            site.wait_for_phase("start")  # the new release is counted among those that are whole
            # As soon as the first release has stopped being one: most of its files are still there.
            count = f"ls {RELEASES}/*/.complete | wc -l"
            fewer = f"test $({count}) -lt {site.sh(count)}"
            site.wait_there(fewer, then=f"systemctl kill --signal=KILL {UNIT}")
            run.end()
            assert {before.release, new.release} <= complete(site)
            assert site.live() == new
            halves = {item for item in site.left_behind() if item.startswith("releases/")}
            assert halves, "it was not killed in the middle"
            site.play("rollback.yml")
            assert site.live() == before
            assert site.left_behind() == []
            # Of what is live now, the one before it stays as well.
            assert complete(site) == {first.release, before.release, new.release}
    assert load.failures == []
    assert load.releases == [first.sha, before.sha, new.sha, before.sha]
