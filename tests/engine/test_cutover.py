"""The loops that wait for a slot, with everything that they ask faked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base import files
from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.records import manifest
from slipway.slot import connections, cutover, envfile, health, slots, systemd
from slipway.slot.connections import Connections
from slipway.slot.health import Answer
from slipway.slot.systemd import UnitState

SHA = "a" * 40
ACTIVE, ACTIVATING = UnitState("active", "running", 0), UnitState("activating", "start", 0)


class Slot:
    """A fake slot: its systemd state, the answers of its workers, its connections, and the actions on it."""

    def __init__(self) -> None:
        self.state = ACTIVE
        self.answers: Iterator[Answer] = itertools.cycle([Answer(200, SHA, 1), Answer(200, SHA, 2)])
        self.traffic: Iterator[Connections] = itertools.repeat(Connections(0, 0))
        self.calls: list[str] = []

    def look(self, *_: object) -> Connections:
        self.calls.append("look")
        return next(self.traffic)


@pytest.fixture
def slot(monkeypatch: pytest.MonkeyPatch) -> Slot:
    made = Slot()
    monkeypatch.setattr(systemd, "state", lambda *_: made.state)
    monkeypatch.setattr(systemd, "start", lambda *_: made.calls.append("start"))
    monkeypatch.setattr(systemd, "stop", lambda *_: made.calls.append("stop"))
    monkeypatch.setattr(systemd, "failure", lambda *_: "ImportError: no module named app")
    monkeypatch.setattr(health, "ask_slot", lambda *_, **__: next(made.answers))
    monkeypatch.setattr(connections, "count", made.look)
    monkeypatch.setattr(cutover, "_DRAIN_INTERVAL", 0.01)
    return made


@pytest.fixture
def hasty(settings: config.Settings) -> config.Settings:
    """Two workers that have to answer three times each, and no patience."""
    return replace(settings, start_deadline=0.1, drain_seconds=0.1)


@pytest.mark.usefixtures("slot")
def test_the_gate_opens_when_every_worker_has_answered(settings: config.Settings) -> None:
    assert cutover.pass_gate(settings, "blue", SHA) < 5


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(503, problem="no database"), "HTTP 503: no database"),
        (Answer(200, "b" * 40, 1), "the answer came from commit bbbbbbbbbbbb, not aaaaaaaaaaaa"),
        (Answer(200, SHA, 1), "1 of 2 workers answered"),
    ],
)
def test_start_deadline_error_has_the_reason_and_the_log(
    hasty: config.Settings, slot: Slot, answer: Answer, problem: str
) -> None:
    slot.answers = itertools.repeat(answer, 60)
    with pytest.raises(FailedError) as caught:
        cutover.pass_gate(hasty, "blue", SHA)
    assert str(caught.value) == f"logbook@blue was not ready within 0.1 s ({problem})."
    assert caught.value.detail == "ImportError: no module named app"


def test_a_slot_that_is_known_to_run_is_asked_before_systemd_is(
    settings: config.Settings, slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(*_: object) -> UnitState:
        slot.calls.append("state")
        return ACTIVE

    monkeypatch.setattr(systemd, "state", state)
    slot.answers = (Answer(200, SHA, pid) for pid in (1, 1, 1, 1, 2, 1, 1, 2, 1, 2))  # not evenly
    cutover.pass_gate(settings, "blue", SHA, is_up=True)
    assert slot.calls == []


def test_a_slot_that_was_thought_to_run_and_has_crashed_does_not_pass(settings: config.Settings, slot: Slot) -> None:
    slot.state = UnitState("failed", "failed", 0)
    slot.answers = itertools.repeat(Answer(0, problem="ConnectionRefusedError"), 1)
    with pytest.raises(FailedError, match="logbook@blue crashed after 0"):
        cutover.pass_gate(settings, "blue", SHA, is_up=True)


@pytest.mark.parametrize(
    ("pids", "asked"),
    [
        ([1] * 30, 6),  # the other worker is not ready yet
        ([1] * 5 + [2] + [1] * 30, 18),  # it is, and seldom gets a request
        ([1, 2, 3] * 10, 3),  # one was replaced
    ],
)
def test_a_turn_of_requests_ends(settings: config.Settings, slot: Slot, pids: list[int], asked: int) -> None:
    left = iter(pids)
    slot.answers = (Answer(200, SHA, pid) for pid in left)
    cutover.ask_in_turn(health.Gate(SHA, settings.workers, 3), settings, Path("socket"))
    assert len(pids) - len(list(left)) == asked


def test_no_health_request_before_the_unit_is_active(hasty: config.Settings, slot: Slot) -> None:
    slot.state = ACTIVATING
    with pytest.raises(FailedError, match="no answer yet"):
        cutover.pass_gate(hasty, "blue", SHA)


@pytest.mark.parametrize("state", [UnitState("failed", "failed", 0), UnitState("active", "running", 1)])
def test_a_crash_fails_the_gate_at_once_with_the_service_log(
    settings: config.Settings, slot: Slot, state: UnitState
) -> None:
    slot.state = state
    with pytest.raises(FailedError, match="logbook@blue crashed after 0") as caught:
        cutover.pass_gate(settings, "blue", SHA)
    assert caught.value.detail == "ImportError: no module named app"


def test_a_worker_that_crashes_and_is_replaced_fails_the_gate(settings: config.Settings, slot: Slot) -> None:
    slot.answers = (Answer(200, SHA, pid) for pid in (1, 2, 1, 3, 1, 3))
    with pytest.raises(FailedError, match="a worker of logbook@blue crashed after it was ready"):
        cutover.pass_gate(settings, "blue", SHA)


def test_start_stops_the_slot_before_it_is_prepared(
    hasty: config.Settings, slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = slots.prepare

    def prepared(*arguments: Any) -> None:
        slot.calls.append("prepare")
        prepare(*arguments)

    monkeypatch.setattr(slots, "prepare", prepared)
    release = manifest.Manifest("v1-a", "v1", SHA, "", "3.13", "", "")
    assert cutover.start(hasty, "blue", release).startswith("blue ready after 0.")
    assert slot.calls == ["stop", "prepare", "start"]
    assert envfile.read(hasty.slot("blue") / "env")["RELEASE_SHA"] == SHA


WRITE = "POST /api/v1/deployments"
RELEASE = manifest.Manifest("v1-a", "v1", SHA, "", "3.13", "", "")


def test_auth_check_passes_when_the_request_is_refused(hasty: config.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def ask(*arguments: Any) -> Answer:
        asked.append(arguments)
        return Answer(401)

    monkeypatch.setattr(health, "ask_without_credentials", ask)
    said = cutover.check_authentication(replace(hasty, auth_check=WRITE), "blue", RELEASE)
    assert said == "; POST /api/v1/deployments without credentials: 401"
    assert [arguments[1:] for arguments in asked] == [(slots.socket(hasty, "blue"), WRITE)]
    assert cutover.check_authentication(hasty, "blue", RELEASE) == ""
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Answer(201), "answered with 201"),
        (Answer(307), "answered with 307"),
        (Answer(404), "answered with 404"),
        (Answer(422, problem="a field is missing"), "answered with 422"),
        (Answer(500), "answered with 500"),
        (Answer(0, problem="TimeoutError: timed out"), "not answered (TimeoutError: timed out)"),
    ],
)
def test_auth_check_fails_with_the_status_of_the_answer(
    hasty: config.Settings, monkeypatch: pytest.MonkeyPatch, answer: Answer, found: str
) -> None:
    monkeypatch.setattr(health, "ask_without_credentials", lambda *_: answer)
    with pytest.raises(FailedError) as caught:
        cutover.check_authentication(replace(hasty, auth_check=WRITE), "blue", RELEASE)
    assert str(caught.value) == (
        f"POST /api/v1/deployments without credentials was {found} by v1, "
        "but must be answered with 401 or 403 (apps.logbook.auth_check)."
    )


def test_a_missing_variable_is_named_before_the_slot_is_stopped(hasty: config.Settings, slot: Slot) -> None:
    hasty.env_file.write_text("SECRET_KEY=\n")
    with pytest.raises(RefusedError, match=r"SECRET_KEY is required by logbook.*apps\.logbook\.env"):
        cutover.start(hasty, "blue", manifest.Manifest("v1-a", "v1", SHA, "", "3.13", "", ""))
    assert slot.calls == []


def test_drain_ends_when_the_last_connection_has_ended(hasty: config.Settings, slot: Slot) -> None:
    slot.traffic = iter([Connections(2, 0), Connections(0, 1), Connections(0, 0)])
    waited, left = cutover.drain(hasty, "blue")
    assert (waited < 1, left.total) == (True, 0)
    assert slot.calls == ["look", "look", "look"]


def test_drain_ends_at_its_deadline_with_the_connections_left(hasty: config.Settings, slot: Slot) -> None:
    slot.traffic = itertools.repeat(Connections(established=2, queued=1), 100)
    waited, left = cutover.drain(hasty, "blue")
    assert (waited >= hasty.drain_seconds, left.total) == (True, 3)


def test_go_back_does_not_start_a_slot_that_is_running(hasty: config.Settings, slot: Slot) -> None:
    files.link_atomically(hasty.live, "slots/green")
    cutover.go_back(hasty, "blue", SHA)
    assert slots.live_slot(hasty) == "blue"
    assert slot.calls == []


def test_go_back_does_not_switch_to_a_slot_that_fails_its_gate(hasty: config.Settings, slot: Slot) -> None:
    files.link_atomically(hasty.live, "slots/green")
    slot.state = UnitState("failed", "failed", 0)
    with pytest.raises(FailedError, match="blue crashed"):
        cutover.go_back(hasty, "blue", SHA)
    assert slot.calls == ["start"]
    assert slots.live_slot(hasty) == "green"
