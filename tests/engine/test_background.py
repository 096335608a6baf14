"""Processes and schedules beside the web process: those of what is live run, and no others, whatever happens."""

from __future__ import annotations

import dataclasses

import pytest

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.deployment.engine import Engine
from slipway.slot import background, slots, systemd

from .fakes import V1, V2, Host, Programs, deployed, request

BEAT, WORKER = {"run": "beat", "count": 1, "stop_seconds": 5}, {"run": "work", "count": 2, "stop_seconds": 60}
BLUE = {"logbook.beat@blue.service", "logbook.worker@blue.service", "logbook.worker-2@blue.service"}
GREEN = {unit.replace("blue", "green") for unit in BLUE}
TIMER = "logbook.report.timer"


@pytest.fixture
def busy(host: Host) -> Host:
    """An app with a process of which there is one, one of which there are two, and a schedule."""
    host.settings = dataclasses.replace(
        host.settings,
        processes={"beat": BEAT, "worker": WORKER},
        schedule={"report": {"run": "report", "at": ["daily"], "catch_up": False, "timeout": 60}},
    )
    host.engine = Engine(host.settings, host.engine.report)
    return host


def test_they_run_once_a_release_is_live(busy: Host) -> None:
    deployed(busy, V1)
    assert busy.units == BLUE | {TIMER}


def test_a_deploy_ends_the_single_one_first_and_starts_the_others_first(busy: Host) -> None:
    deployed(busy, V1)
    busy.calls.clear()
    deployed(busy, V2)
    assert busy.units == GREEN | {TIMER}
    order = busy.calls
    assert order.index("gate green") < order.index("stop logbook.beat@blue.service")
    assert order.index("stop logbook.beat@blue.service") < order.index("start logbook.beat@green.service")
    assert order.index("start logbook.worker@green.service") < order.index("ask logbook.worker@blue.service to end")
    assert order.index("ask logbook.worker@blue.service to end") < order.index("watch")
    assert order.index("watch") < order.index("stop logbook.worker@blue.service")


def test_a_process_that_crashes_at_once_undoes_the_deploy(busy: Host) -> None:
    deployed(busy, V1)
    busy.crashing = {"worker-2@green"}
    with pytest.raises(FailedError, match=r"its process worker-2 ended right after its start.*v1-1.* serves as before"):
        deployed(busy, V2)
    assert busy.live() == "v1-111111111111"
    assert busy.units >= BLUE | {TIMER}
    assert "logbook.beat@green.service" not in busy.units


def test_a_rollback_goes_on_without_a_process_that_the_older_release_does_not_have(busy: Host) -> None:
    deployed(busy, V1, V2)
    busy.crashing = {"worker@blue"}
    busy.engine.rollback(request(V1))
    assert busy.live() == "v1-111111111111"


@pytest.mark.parametrize("state", ["stage", "start"])
def test_an_interrupted_deploy_leaves_the_processes_of_the_old_release(busy: Host, state: str) -> None:
    deployed(busy, V1)
    busy.engine.stage(request(V2), None)
    if state == "start":
        busy.engine.phase("start", "alice")
    assert busy.units == BLUE | {TIMER}
    busy.units = set()  # a reboot
    busy.engine.recover()
    assert busy.units == BLUE | {TIMER}


def test_a_run_that_was_killed_after_the_switch_is_finished_with_the_processes_of_the_new_release(busy: Host) -> None:
    deployed(busy, V1)
    busy.engine.stage(request(V2), None)
    busy.engine.phase("start", "alice")
    files.link_atomically(busy.settings.live, "slots/green")
    busy.units -= {"logbook.beat@blue.service"}  # killed between the end of the old one and the start of the new one
    busy.engine.recover()
    assert busy.units == GREEN | {TIMER}


def test_a_watch_that_fails_brings_the_old_processes_back(busy: Host) -> None:
    deployed(busy, V1)
    busy.watch_reason = "5 of 10 requests failed"
    with pytest.raises(FailedError):
        deployed(busy, V2)
    assert {unit for unit in busy.units if "beat" in unit} == {"logbook.beat@blue.service"}
    assert busy.units >= BLUE


def test_what_is_new_in_the_settings_runs_from_the_next_deploy_on(busy: Host) -> None:
    whole = busy.settings
    busy.settings = dataclasses.replace(whole, processes={"beat": BEAT}, schedule={})
    busy.engine = Engine(busy.settings, busy.engine.report)
    deployed(busy, V1)
    busy.settings = whole
    busy.engine = Engine(whole, busy.engine.report)
    busy.engine.recover()
    assert busy.units == {"logbook.beat@blue.service"}
    deployed(busy, V2)
    assert busy.units == GREEN | {TIMER}


def test_nothing_is_asked_of_systemd_for_an_app_without_any(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "states", lambda _: pytest.fail("asked"))
    deployed(host, V1, V2)
    host.engine.recover()


def test_the_environment_of_a_slot_has_the_paths_of_the_release_itself(busy: Host) -> None:
    deployed(busy, V1)
    text = (busy.settings.slot("blue") / "release.env").read_text()
    assert f'VIRTUAL_ENV="{busy.settings.release("v1-111111111111")}/.venv"' in text


def test_a_job_is_not_run_while_one_of_the_release_before_goes_on(busy: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(systemd, "run_oneshot", lambda unit: ran.append(unit))
    assert background.run_job(busy.settings, "report") == "No release is live yet."
    deployed(busy, V1, V2)
    busy.units |= {"logbook.report@blue.service"}
    assert "still runs" in background.run_job(busy.settings, "report")
    assert ran == []
    busy.units -= {"logbook.report@blue.service"}
    background.run_job(busy.settings, "report")
    assert ran == ["logbook.report@green.service"]
    monkeypatch.setattr(systemd, "run_oneshot", lambda _: "exit code 3")
    with pytest.raises(FailedError, match=r"report of logbook has failed \(exit code 3\)"):
        background.run_job(busy.settings, "report")


def test_a_job_of_an_old_release_is_left_to_end_by_a_deploy(busy: Host) -> None:
    deployed(busy, V1)
    busy.units |= {"logbook.report@blue.service"}
    deployed(busy, V2)
    assert "logbook.report@blue.service" in busy.units


def test_a_release_in_which_a_job_runs_is_not_pruned(busy: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    place = busy.settings.release("v1-111111111111")
    monkeypatch.setattr(systemd, "working_directories", lambda units: [place / "api"] if units else [])
    busy.settings = dataclasses.replace(busy.settings, keep_releases=1)
    busy.engine = Engine(busy.settings, busy.engine.report)
    deployed(busy, V1, V2, ("v3", "3" * 40), ("v4", "4" * 40))
    assert place.is_dir()


def test_states_are_read_of_what_systemctl_shows(programs: Programs) -> None:
    shown = "Id=a.w@blue.service\nActiveState=active\nSubState=running\nNRestarts=2\n\nId=a.r.timer\n"
    programs.answers["systemctl show"] = (0, shown, "")
    found = systemd.states("a.*")
    assert {name: state.restarts for name, state in found.items()} == {"a.w@blue.service": 2, "a.r.timer": 0}


def test_the_status_shows_them(busy: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(busy, V1)
    monkeypatch.setattr(systemd, "properties", lambda _, *names: dict.fromkeys(names, "Fri 2026-11-27 03:00:00 UTC"))
    rows = background.rows(background.describe(busy.settings), "logbook")
    assert ("process", "worker-2@blue active") in rows
    when = "Fri 2026-11-27 03:00:00 UTC"
    assert ("schedule", f"report: the last run FAILED, last {when}, next {when}") in rows


def test_slots_of_before_have_no_processes(host: Host) -> None:
    assert slots.background(host.settings, "blue") == set()
