"""What is wrong with a release shows before it takes traffic, or as soon as it has."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.controller import flat

from .conftest import Steady
from .site import Site, Version


def refused(site: Site, steady: Steady, new: Version) -> str:
    """The output of a deploy that does not come to the switch, under traffic that sees nothing of it."""
    old = site.live()
    with steady() as load:
        output = site.fails(new)
        assert site.live() == old
        assert site.left_behind() == []
        site.next_run()
    assert load.failures == []
    assert load.releases == [old.sha, site.live().sha]
    assert site.phase(new, "result")["outcome"] == "failed"
    return output


@pytest.mark.row(25, "start", "the new code crashes at import")
def test_code_that_crashes_at_import_fails_at_once_and_shows_its_traceback(site: Site, steady: Steady) -> None:
    new = site.version("crashes_at_import")
    output = refused(site, steady, new)
    assert "crashed after" in flat(output), output
    assert "RuntimeError: the variant crashes at import" in output, output
    assert site.phase(new, "start")["seconds"] < 10


@pytest.mark.row(26, "start", "the new code is ready only after 20 s")
def test_code_that_is_ready_after_20_s_is_waited_for(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version("ready_after_20_s")
    with steady() as load:
        with site.settings(start_deadline=60):
            site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
        site.next_run()
    assert site.phase(new, "start")["seconds"] > 19
    assert load.failures == []
    assert load.releases[:2] == [old.sha, new.sha]


@pytest.mark.row(27, "start", "the new code is never ready")
def test_code_that_is_never_ready_fails_at_the_deadline(site: Site, steady: Steady) -> None:
    new = site.version("never_ready")
    with site.settings(start_deadline=10):
        output = refused(site, steady, new)
    assert "was not ready within 10 s" in flat(output), output
    assert site.phase(new, "start")["seconds"] < 21


@pytest.mark.row(28, "start", "one of the two workers crashes")
def test_a_worker_that_crashes_keeps_the_gate_shut(site: Site, steady: Steady) -> None:
    with site.settings(start_deadline=10):
        output = flat(refused(site, steady, site.version("one_worker_crashes")))
    assert "crashed after it was ready" in output or "was not ready within" in output, output


@pytest.mark.row(29, "start", "the gate is answered by another release")
def test_answers_of_another_release_keep_the_gate_shut(site: Site, steady: Steady) -> None:
    new = site.version("answers_as_another")
    with site.settings(start_deadline=10):
        output = refused(site, steady, new)
    assert f"the answer came from commit 0123456789ab, not {new.sha[:12]}" in flat(output), output


@pytest.mark.row(30, "start", "a variable that is required is missing")
def test_a_required_variable_that_is_missing_is_named_before_anything_changes(site: Site, steady: Steady) -> None:
    old, new, journal = site.live(), site.version(), site.journal()
    with steady() as load:
        with site.settings(required_env=["DATABASE_URL", "PAYMENT_TOKEN"]):
            output = site.fails(new)
        assert site.live() == old
        assert site.journal() == journal
        site.deploy(new)
        assert site.live() == new
        site.next_run()
    assert "PAYMENT_TOKEN is required by logbook and not set" in flat(output), output
    assert "changed=0" in output
    assert load.failures == []


@pytest.mark.row(30, "start", "a variable that nobody declared as required is missing")
def test_what_the_code_says_of_a_missing_variable_is_shown(site: Site, steady: Steady) -> None:
    new = site.version("needs_a_variable")
    output = refused(site, steady, new)
    assert "crashed after" in flat(output), output
    assert "PAYMENT_TOKEN must be set" in output, output
    assert site.phase(new, "start")["seconds"] < 10


@pytest.mark.row(31, "watch", "ready, then 500s under traffic (their clients are the ones that see them)")
def test_a_release_that_fails_under_traffic_is_taken_back_within_15_s(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version("fails_under_traffic")
    with steady() as load:
        with site.settings(watch_seconds=10):
            output = site.fails(new)
        assert site.live() == old
        assert site.left_behind() == []
        site.next_run()
    assert "requests were answered with a server error" in flat(output), output
    lines = {name: site.phase(new, name) for name in ("switch", "result")}
    times = {name: datetime.fromisoformat(line["at"]) for name, line in lines.items()}
    assert (times["result"] - times["switch"]).total_seconds() < 15
    assert lines["result"]["outcome"] == "failed"
    assert load.failures, "or it did not take traffic"
    assert all(item.text.startswith("GET /: 500") for item in load.failures), load.failures
    assert load.failures[-1].at - load.failures[0].at < 15
