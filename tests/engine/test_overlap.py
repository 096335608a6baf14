"""`overlap: none`: what takes traffic is stopped before the next release is started, and comes back if that fails."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from slipway.base.errors import FailedError
from slipway.deployment.engine import Engine
from slipway.slot import cutover, slots

from .fakes import V1, V2, Host, deployed, request

GUARD = "slipway-guard-logbook"


@pytest.fixture
def alone(host: Host) -> Host:
    """The fake host fails the test when two slots run at the same time."""
    host.settings = dataclasses.replace(host.settings, overlap="none")
    host.engine = Engine(host.settings, host.engine.report)
    deployed(host, V1)
    host.calls.clear()
    return host


def kill_in_the_gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> float:
        raise Killed

    monkeypatch.setattr(cutover, "pass_gate", die)
    return Killed


def test_the_old_release_is_stopped_first(alone: Host) -> None:
    deployed(alone, V2)
    assert alone.calls.index("stop blue") < alone.calls.index("start green")
    assert alone.running == {"green"}
    assert alone.timers[-2:] == [GUARD, f"no {GUARD}"]
    assert alone.results()[-1] == ("deploy", "v2", "succeeded")


def test_clients_wait_at_the_socket_of_the_new_one(alone: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = kill_in_the_gate(monkeypatch)
    with pytest.raises(killed):
        deployed(alone, V2)
    assert slots.live_slot(alone.settings) == "green"


def test_a_release_that_does_not_start_gives_way_to_the_old_one(alone: Host) -> None:
    alone.bad_gate = {V2[1]}
    with pytest.raises(FailedError, match=r"crashed.*v1-1.* serves as before"):
        deployed(alone, V2)
    assert alone.running == {"blue"}
    assert alone.live() == "v1-111111111111"
    assert alone.timers[-1] == f"no {GUARD}"


def test_a_failed_watch_gives_way_to_the_old_one(alone: Host) -> None:
    alone.watch_reason = "5 of 10 requests failed"
    with pytest.raises(FailedError):
        deployed(alone, V2)
    assert alone.running == {"blue"}
    assert alone.live() == "v1-111111111111"


@pytest.mark.parametrize("booted", [True, False])
def test_a_run_that_was_killed_while_the_new_one_started_is_undone(
    alone: Host, monkeypatch: pytest.MonkeyPatch, booted: bool
) -> None:
    with monkeypatch.context() as patch:
        killed = kill_in_the_gate(patch)
        with pytest.raises(killed):
            deployed(alone, V2)
    if booted:
        alone.running.clear()
    alone.engine.recover()
    assert alone.running == {"blue"}
    assert alone.live() == "v1-111111111111"
    assert alone.results()[-1] == ("deploy", "v2", "reverted")


def test_a_run_that_was_killed_after_the_switch_is_finished(alone: Host) -> None:
    alone.engine.stage(request(V2), None)
    alone.engine.phase("start", "alice")
    alone.engine.phase("switch", "alice")
    alone.engine.recover()
    assert alone.running == {"green"}
    assert alone.results()[-1] == ("deploy", "v2", "succeeded")


def test_a_rollback_starts_the_older_release_alone(alone: Host) -> None:
    deployed(alone, V2)
    alone.engine.rollback(request(V1))
    assert alone.running == {"blue"}


def test_one_of_several_hosts_that_boots_serves_with_the_old_release(alone: Host) -> None:
    alone.engine.stage(request(V2, fleet=("a", "b")), None)
    alone.engine.phase("start", "alice")
    alone.running.clear()
    alone.engine.recover()
    assert alone.running == {"blue"}
    assert alone.live() == "v1-111111111111"
