"""What an app runs beside its web process: a worker, a beat of which there is one, a schedule, commands."""

from __future__ import annotations

import itertools
import subprocess
from typing import Any

from tests.controller import flat

from .site import App, Environment, wait_for


def job(app: App, number: int) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in app.ask("/").json() if item["id"] == number)
    return found


def test_a_worker_ends_the_job_that_it_is_at_and_the_new_one_takes_the_next(prod: Environment) -> None:
    app = prod.of("orders")
    before, after = app.live(), app.other()
    first = app.ask("/", "POST", 201, params={"seconds": 12}).json()["id"]
    wait_for(lambda: job(app, first)["taken_by"], 10)
    taken_by = job(app, first)["taken_by"]
    assert taken_by.startswith(before)
    prod.deploy("orders", after)
    second = app.ask("/", "POST", 201, params={"seconds": 0.1}).json()["id"]
    wait_for(lambda: job(app, first)["done_by"] and job(app, second)["done_by"], 30)
    # By the very process that had taken it, and once.
    assert job(app, first) == {"id": first, "seconds": 12, "attempts": 1, "taken_by": taken_by, "done_by": taken_by}
    assert job(app, second)["done_by"].startswith(after)
    assert job(app, second)["attempts"] == 1


def test_of_what_there_is_one_there_are_never_two(prod: Environment) -> None:
    app = prod.of("ticker")
    before, after = app.live(), app.other()
    prod.deploy("ticker", after)
    prod.roll_back("ticker")
    assert app.live() == before
    wait_for(lambda: list(app.ask("/beats").json())[-1].startswith(before), 20)
    spans = [(float(beat["first"]), float(beat["last"]), name) for name, beat in app.ask("/beats").json().items()]
    spans.sort()
    assert len(spans) >= 3
    overlaps = [(one, two) for one, two in itertools.pairwise(spans) if one[1] >= two[0]]
    assert overlaps == []
    workers = prod.sh("pgrep -u ticker -fc 'ticker[.]worker'")
    assert workers.strip() == "2"


def ticks(app: App) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = app.ask("/ticks").json()
    return found


def test_a_schedule_runs_one_at_a_time_in_the_live_release(prod: Environment) -> None:
    """It is due every five seconds and takes seven."""
    app = prod.of("notices")
    before, after = app.live(), app.other()
    seen = len(ticks(app))
    wait_for(lambda: len(ticks(app)) > seen, 25)
    prod.deploy("notices", after)
    wait_for(lambda: len([tick for tick in ticks(app)[seen:] if tick["release"] == after and tick["ended"]]) >= 2, 60)
    found = ticks(app)[seen:]
    ended = [tick for tick in found if tick["ended"]]
    for one, two in itertools.pairwise(found):
        assert one["ended"], f"{one} never ended"
        assert one["ended"] <= two["began"], f"{one} and {two} ran at once"
    releases = [tick["release"] for tick in ended]
    assert releases[-1] == after
    assert {before, after} >= set(releases)
    assert releases == sorted(releases, key=[before, after].index), "an old release was run after the new one"
    assert "ticked" in prod.sh("journalctl --no-pager -n 50 -o cat -u 'notices*'")


def test_a_command_is_run_in_the_live_release_and_its_exit_code_is_passed_on(prod: Environment) -> None:
    app = prod.of("orders")
    said = prod.play("run.yml", "-e", "app=orders", "-e", "command=printenv RELEASE_TAG POSTGRES_DB", limit=None)
    assert app.live() in said
    failed = prod.play("run.yml", "-e", "app=orders", "-e", "command=sh -c 'exit 7'", limit=None, check=False)
    assert "of orders ended with exit code 7" in flat(failed)
    inside = ["docker", "exec", prod.host.name, "slipway", "run", "orders", "--", "sh", "-c", "exit 7"]
    assert subprocess.run(inside, capture_output=True, check=False).returncode == 7


def test_a_schedule_that_fails_is_seen_in_status(prod: Environment) -> None:
    app = prod.of("notices")
    app.sql("ALTER TABLE tick RENAME TO hidden")
    try:
        wait_for(
            lambda: "tick" in prod.sh("slipway status notices") and "failed" in prod.sh("slipway status notices"), 30
        )
    finally:
        app.sql("ALTER TABLE hidden RENAME TO tick")
