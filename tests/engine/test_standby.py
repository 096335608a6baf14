"""The slot on standby: when it is paused, what keeps it from being woken, and that nothing is left stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from slipway.base.errors import FailedError
from slipway.cli import status
from slipway.records import deployment, journal, manifest, phases
from slipway.schema import database
from slipway.slot import processes, slots, standby, systemd
from slipway.slot.connections import Connections
from slipway.slot.processes import Process

from .fakes import PIDS, SESSIONS, V1, V2, V3, Host, deployed, request


@pytest.fixture
def host(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host on which slots can be paused, and where nobody waits long."""
    host.can_pause = True
    monkeypatch.setattr(standby, "_DATABASE_WAIT", 0.0)
    monkeypatch.setattr(standby, "_HEARTBEAT_WAIT", 0.0)
    host.engine.settings = host.settings = replace(host.settings, drain_seconds=0)
    return host


@pytest.fixture
def paused(host: Host) -> Host:
    """v1 is on standby in blue, v2 serves from green."""
    deployed(host, V1, V2)
    assert host.stopped == set(PIDS["blue"])
    host.calls.clear()
    return host


def message(host: Host, phase: str) -> str:
    """What the newest line of the journal about a phase says."""
    return [item.message for item in journal.read(host.settings.journal) if item.phase == phase][-1]


def record(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.settings.standby.read_text())
    return found


def change(host: Host, **values: Any) -> None:
    host.settings.standby.write_text(json.dumps({**record(host), **values}))


# Pausing


def test_the_main_process_is_stopped_first_and_the_record_says_what_was_paused(host: Host) -> None:
    deployed(host, V1)
    host.calls.clear()
    host.engine.deploy(request(V2), None)
    assert [call for call in host.calls if call.startswith("SIG")][:2] == ["SIGSTOP 10", "SIGSTOP 11 12"]
    assert "stop blue" not in host.calls
    found = record(host)
    assert (found["format"], found["state"], found["slot"]) == (1, "paused", "blue")
    assert (found["release"], found["tag"], found["sha"]) == ("v1-111111111111", *V1)
    assert [item["pid"] for item in found["processes"]] == [10, 11, 12]
    assert round(found["until"] - found["paused_at"]) == 3600
    assert found["database_started"] == "09:00"
    assert set(found["sessions"]) == SESSIONS
    assert message(host, "drain") == "blue drained in 0.1 s; on standby for 60 min: a rollback to v1 starts at once"
    assert host.timers[-1] == "slipway-standby-logbook"


def test_the_record_is_written_before_the_first_signal(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def stop(found: Any) -> bool:
        seen.append(record(host)["state"])
        return host.stop_processes(found)

    deployed(host, V1)
    monkeypatch.setattr(processes, "stop", stop)
    host.engine.deploy(request(V2), None)
    assert set(seen) == {"pausing"}


NOT_KEPT: dict[str, Callable[[Host], object]] = {
    "memory is short (MemAvailable 80 MB of 1024 MB)": lambda host: setattr(
        host, "memory", "memory is short (MemAvailable 80 MB of 1024 MB)"
    ),
    "its settings have changed since it was started": lambda host: host.settings.env_file.write_text('SECRET_KEY="2"'),
    "2 request(s) still had something to do after their answer": lambda host: setattr(host, "at_work", 2),
    "1 of its connections had a transaction or a lock in PostgreSQL": lambda host: setattr(
        host, "server", replace(host.server, holding=frozenset({"process 100"}))
    ),
    "what it holds in PostgreSQL cannot be checked": lambda host: setattr(
        host, "sessions", frozenset({"process 100", "port 40000"})
    ),
    "not all of its 2 workers were running": lambda host: host.gone.add(12),
}


@pytest.mark.parametrize("reason", NOT_KEPT)
def test_a_slot_that_cannot_be_kept_is_stopped_and_the_reason_said(host: Host, reason: str) -> None:
    deployed(host, V1)
    NOT_KEPT[reason](host)
    steps = host.engine
    # The new slot has the settings of now; what is changed concerns the old one.
    steps.deploy(request(V2), None)
    assert message(host, "drain") == f"blue drained in 0.1 s; stopped, not kept on standby: {reason}"
    assert host.running == {"green"}
    assert host.stopped == set()
    assert not host.settings.standby.exists()


def test_a_slot_that_is_stopped_after_all_is_continued_before_for_its_proper_end(host: Host) -> None:
    deployed(host, V1)
    host.server = replace(host.server, holding=frozenset({"process 100"}))
    host.calls.clear()
    host.engine.deploy(request(V2), None)
    ends = [call for call in host.calls if call.startswith(("SIG", "stop"))]
    assert ends[-3:] == ["SIGCONT 11 12", "SIGCONT 10", "stop blue"]


def test_without_standby_the_old_slot_is_stopped(host: Host) -> None:
    host.engine.settings = host.settings = replace(host.settings, standby_minutes=0)
    deployed(host, V1, V2)
    assert host.running == {"green"}
    assert message(host, "drain").endswith("stopped, not kept on standby: standby_minutes is 0")


def test_a_slot_with_connections_left_at_the_deadline_is_stopped(host: Host) -> None:
    deployed(host, V1)
    host.left = Connections(1, 0)
    host.engine.deploy(request(V2), None)
    assert host.running == {"green"}
    assert "stopped at the deadline" in message(host, "drain")


@pytest.mark.parametrize("state", [systemd.UnitState("failed", "failed", 0), systemd.UnitState("active", "running", 2)])
def test_a_slot_that_is_not_healthy_is_stopped(
    host: Host, monkeypatch: pytest.MonkeyPatch, state: systemd.UnitState
) -> None:
    deployed(host, V1)
    release = manifest.read(host.settings.release("v1-111111111111"))
    assert release is not None
    monkeypatch.setattr(systemd, "state", lambda *_: state)
    assert "its service is not healthy" in standby.pause(host.settings, "blue", release, 0, None)


def test_a_timer_that_cannot_be_started_leaves_nothing_paused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise FailedError("systemd does not start the timer slipway-standby-logbook.")

    deployed(host, V1)
    monkeypatch.setattr(systemd, "run_later", refuse)
    host.engine.deploy(request(V2), None)
    assert host.stopped == set()
    assert host.running == {"green"}
    assert message(host, "drain").endswith("systemd does not start the timer slipway-standby-logbook")


def test_an_app_without_alembic_is_paused_when_it_has_no_connection(host: Host) -> None:
    deployed(host, V1)
    release = replace(manifest.read(host.settings.release("v1-111111111111")), revisions=None)  # type: ignore[type-var]
    assert release is not None
    assert "cannot be checked" in standby.pause(host.settings, "blue", release, 0, None)
    host.sessions = frozenset()
    assert standby.pause(host.settings, "blue", release, 0, None) == ""


# Waking


def test_a_rollback_wakes_the_workers_then_switches_then_wakes_the_main_process(
    paused: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = slots.switch

    def noted(settings: Any, slot: str) -> None:
        paused.calls.append(f"switch {slot}")
        switch(settings, slot)

    monkeypatch.setattr(slots, "switch", noted)
    paused.engine.rollback(request(V1))
    order = [call for call in paused.calls if call.startswith(("SIGCONT", "gate", "switch", "watch", "start", "stop"))]
    assert order == ["SIGCONT 11 12", "gate blue", "switch blue", "SIGCONT 10", "watch"]
    assert message(paused, "start") == "blue woken from standby, ready after 0.1 s, 2 workers"
    assert paused.live() == "v1-111111111111"
    assert record(paused)["slot"] == "green", "and what it took over from is on standby now"


def test_a_slot_that_was_woken_some_time_ago_passes_its_gate_again_before_the_switch(
    paused: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.deployment.steps._FRESH", 0.0)
    paused.engine.rollback(request(V1))
    assert paused.calls.count("gate blue") == 2


COLD: dict[str, Callable[[Host], object]] = {
    "it was not on standby": lambda host: host.settings.standby.unlink(),
    "the record of its standby is from another version of Slipway": lambda host: change(host, format=2),
    "v3 was on standby, not v1": lambda host: change(host, release="v3-333333333333", tag="v3", sha=V3[1]),
    "pausing or waking it was interrupted": lambda host: change(host, state="waking"),
    "its standby has been over for some time": lambda host: change(host, until=standby.clock() - 1),
    "one of its processes was killed": lambda host: host.gone.add(12),
    "one of its processes was continued": lambda host: host.stopped.discard(10),
    "its settings have changed since": lambda host: host.settings.env_file.write_text('SECRET_KEY="rotated"\n'),
    "memory is short": lambda host: setattr(host, "memory", "memory is short"),
    "PostgreSQL has been restarted since": lambda host: setattr(host, "server", replace(host.server, started="10:00")),
    "a connection of it to PostgreSQL was closed since": lambda host: setattr(
        host, "sessions", frozenset({"process 100"})
    ),
}


@pytest.mark.parametrize("reason", COLD)
def test_a_standby_that_cannot_be_woken_is_ended_and_the_release_started_anew(paused: Host, reason: str) -> None:
    release = manifest.read(paused.settings.release("v1-111111111111"))
    assert release is not None
    COLD[reason](paused)
    asked = standby.Database(lambda: paused.server)
    assert standby.why_not(paused.settings, "blue", release, asked) == reason
    paused.engine.rollback(request(V1))
    assert "stop blue" in paused.calls
    assert paused.calls.index("stop blue") < paused.calls.index("start blue")
    assert f"; not woken from standby: {reason}" in message(paused, "start")
    assert paused.live() == "v1-111111111111"
    assert not paused.stopped & set(PIDS["blue"])


def test_a_standby_in_order_can_be_woken(paused: Host) -> None:
    release = manifest.read(paused.settings.release("v1-111111111111"))
    assert release is not None
    assert standby.why_not(paused.settings, "blue", release, standby.Database(lambda: paused.server)) == ""
    assert standby.why_not(paused.settings, "green", release, None) == "v1 was on standby, not v1"


def test_a_slot_that_does_not_pass_the_gate_when_woken_is_started_anew(
    paused: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, tries = paused.pass_gate, []

    def pass_gate(*arguments: Any, **options: Any) -> float:
        tries.append(1)
        if len(tries) == 1:
            raise FailedError("logbook@blue was not ready within 10 s.")
        return gate(*arguments, **options)

    monkeypatch.setattr("slipway.slot.cutover.pass_gate", pass_gate)
    paused.engine.rollback(request(V1))
    assert "; not woken from standby: it was woken, but then logbook@blue was not ready" in message(paused, "start")
    assert paused.live() == "v1-111111111111"


def test_a_deploy_of_the_release_on_standby_starts_it_anew(paused: Host) -> None:
    paused.engine.deploy(request(V1), None)
    assert "start blue" in paused.calls
    assert "woken" not in message(paused, "start")


@pytest.mark.parametrize(
    ("ages", "timeout", "expected"),
    [
        ([0.1, 0.9], 60, True),
        ([0.1, 31.0], 60, False),
        ([0.1], 60, False),  # of one worker nothing can be seen
        ([], 60, False),
        ([3600.0, 3600.0], 0, True),
        ([29.0, 29.9], 60, True),  # it was a short pause
    ],
)
def test_gunicorn_is_not_continued_while_it_would_end_a_worker(
    ages: list[float], timeout: float, expected: bool
) -> None:
    assert standby.all_reported(ages, 2, timeout) is expected


def test_after_its_time_the_main_process_is_continued_whatever_the_workers_do(
    paused: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "heartbeat_ages", lambda _: [3600.0, 0.1])
    paused.engine.rollback(request(V1))
    assert "though not every worker had reported" in message(paused, "watch")
    assert 10 not in paused.stopped


# Interruptions


@pytest.mark.parametrize("stopped", [{10}, {10, 11}, {10, 11, 12}])
def test_a_live_slot_that_is_stopped_in_part_is_continued_workers_first(paused: Host, stopped: set[int]) -> None:
    paused.engine.rollback(request(V1))
    paused.stopped |= stopped
    paused.calls.clear()
    assert "blue takes traffic and was still paused; it continues." in paused.engine.recover().message
    assert [call for call in paused.calls if call.startswith("SIG")] == ["SIGCONT 11 12", "SIGCONT 10"]
    assert not paused.stopped & set(PIDS["blue"])
    assert paused.stopped == set(PIDS["green"]), "the standby stays"
    assert "still paused" not in paused.engine.recover().message


@pytest.mark.parametrize("state", ["pausing", "waking"])
def test_an_idle_slot_that_is_half_paused_is_ended(paused: Host, state: str) -> None:
    change(paused, state=state)
    assert (
        "blue was on standby and was stopped: pausing or waking it was interrupted." in paused.engine.recover().message
    )
    assert paused.running == {"green"}
    assert not paused.settings.standby.exists()
    assert paused.timers[-1] == "no slipway-standby-logbook"


def test_a_slot_on_standby_is_left_alone_by_whoever_comes_next(paused: Host) -> None:
    assert paused.engine.recover().changed is False
    assert paused.running == {"blue", "green"}
    assert paused.stopped == set(PIDS["blue"])


def test_a_record_of_a_slot_that_does_not_run_any_more_is_removed(paused: Host) -> None:
    paused.running.discard("blue")
    paused.engine.recover()
    assert not paused.settings.standby.exists()


def test_a_deploy_that_fails_before_its_start_leaves_the_standby(paused: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise FailedError("The migration failed.")

    monkeypatch.setattr("slipway.schema.migrate.upgrade", fail)
    paused.heads = ["0002"]
    paused.history = [manifest.Revision("0001", ""), manifest.Revision("0002", "")]
    with pytest.raises(FailedError, match="The migration failed"):
        paused.engine.deploy(request(V3), None)
    assert paused.stopped == set(PIDS["blue"])
    assert standby.is_kept(paused.settings, "blue")


def test_a_deploy_that_fails_at_its_gate_has_ended_the_standby(paused: Host) -> None:
    paused.bad_gate.add(V3[1])
    with pytest.raises(FailedError):
        paused.engine.deploy(request(V3), None)
    assert paused.running == {"green"}
    assert not paused.settings.standby.exists()


def test_going_back_to_a_slot_that_is_paused_already_wakes_it(host: Host) -> None:
    """The deployment was killed after it had paused the old slot, and is undone by hand."""
    deployed(host, V1)
    host.engine.stage(request(V2), None)
    for name in ("start", "switch", "watch"):
        host.engine.phase(name, "alice")
    release = manifest.read(host.settings.release("v1-111111111111"))
    found = deployment.load(host.settings.deployment)
    assert release is not None
    assert found is not None
    deployment.save(host.settings.deployment, replace(found, state=phases.FINISHING))
    assert standby.pause(host.settings, "blue", release, 0, standby.Database(lambda: host.server)) == ""
    host.engine.revert("alice")
    assert host.live() == "v1-111111111111"
    assert host.stopped == set()
    assert host.running == {"blue"}
    assert not host.settings.standby.exists()


# The end


def test_the_timer_ends_a_standby_whose_time_is_over_and_no_other(paused: Host) -> None:
    assert paused.engine.end_standby().message == "There is no standby whose time is over."
    assert paused.stopped == set(PIDS["blue"])
    change(paused, until=standby.clock() - 1)
    assert paused.engine.end_standby().message == "v1 in blue was on standby and is stopped."
    assert paused.running == {"green"}
    assert not paused.settings.standby.exists()
    assert paused.engine.end_standby().message == "There is no standby whose time is over."


def test_the_timer_leaves_the_standby_to_a_deployment_that_is_open(paused: Host) -> None:
    change(paused, until=standby.clock() - 1)
    paused.running.add("blue")
    paused.engine.stage(request(V3), None)
    assert "A deployment is open" in paused.engine.end_standby().message


# Showing


def test_status_shows_the_standby_and_changes_nothing(paused: Host) -> None:
    before = record(paused)
    found = status.gather(paused.settings)
    assert (found["standby"]["slot"], found["standby"]["tag"], found["standby"]["problem"]) == ("blue", "v1", "")
    shown = status.render(found)
    until = found["standby"]["until"][11:16]
    assert f"standby   v1 in blue, until {until} UTC (a rollback to it starts at once)" in shown
    assert record(paused) == before


def test_status_says_why_a_standby_cannot_be_woken(paused: Host) -> None:
    paused.gone.add(12)
    shown = status.render(status.gather(paused.settings))
    assert "v1 in blue, cannot be woken: one of its processes was killed (a rollback to it starts it anew)" in shown


def test_status_shows_no_standby_where_there_is_none(host: Host) -> None:
    deployed(host, V1)
    found = status.gather(host.settings)
    assert found["standby"] is None
    assert "standby" not in status.render(found)


# The record


def test_a_record_keeps_what_another_version_has_put_into_it(paused: Host) -> None:
    change(paused, colour="red")
    found = standby.load(paused.settings)
    assert found is not None
    assert found.unknown == {"colour": "red"}
    standby.wake_workers(paused.settings, "blue")
    assert (record(paused)["state"], record(paused)["colour"]) == ("waking", "red")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "processes": [{}]}'])
def test_a_record_that_is_torn_is_none(paused: Host, text: str) -> None:
    paused.settings.standby.write_text(text)
    assert standby.load(paused.settings) is None
    assert standby.describe(paused.settings) is None


def test_what_postgresql_says_is_read_by_process_and_by_port(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "09:00\t100\t-1\tt\n09:00\t101\t\tf\n09:00\t102\t40000\tt\n"
    monkeypatch.undo()
    monkeypatch.setattr(database, "_query", lambda *_: rows)
    found = database.server(host.settings, {})
    assert found.started == "09:00"
    assert found.sessions == {"process 100", "process 101", "process 102", "port 40000"}
    assert found.holding == {"process 100", "process 102", "port 40000"}
    assert database.port(host.settings, {"DATABASE_URL": "postgresql+asyncpg://me@db:6432/app"}) == "6432"
    assert database.port(host.settings, {}) == "5432"


def test_the_processes_of_the_record_are_known_by_their_start(paused: Host) -> None:
    found = standby.load(paused.settings)
    assert found is not None
    assert found.processes == tuple(Process(pid, 2) for pid in PIDS["blue"])
