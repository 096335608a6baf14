from __future__ import annotations

import argparse
import json
import os
from typing import Any

import pytest

from slipway import cli, commands, config, lock, systemd
from slipway.engine import Engine
from slipway.errors import FailedError

SHA = "a" * 40
DEPLOY = ["deploy", "logbook", "--sha", SHA]


def _result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.fixture
def installed(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """The app is on this host, and whoever runs the tests is root."""
    monkeypatch.setattr(config, "load", lambda _: settings)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.delenv(systemd.INSIDE, raising=False)
    return settings


class Unit:
    """The transient unit: whether it is active each time somebody looks, what ran in it, how that ended."""

    def __init__(self) -> None:
        self.active = [False]
        self.code = 0
        self.ran: list[list[str]] = []

    def is_detached(self, _: str) -> bool:
        return self.active.pop(0)

    def run_detached(self, _: str, __: str, arguments: list[str]) -> int:
        self.ran.append(list(arguments))
        return self.code


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> Unit:
    made = Unit()
    monkeypatch.setattr(systemd, "is_detached", made.is_detached)
    monkeypatch.setattr(systemd, "run_detached", made.run_detached)
    return made


@pytest.mark.parametrize("arguments", [[], ["deploy", "logbook"], ["rollback", "logbook", "--open", "--plan"], ["up"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


def test_every_command_is_one_that_there_is() -> None:
    actions = [item for item in cli.parser()._actions if isinstance(item, argparse._SubParsersAction)]
    named = {command.get_default("function") for command in actions[0].choices.values()}
    assert len(named) > 10
    assert all(callable(getattr(commands, name)) for name in named)


def test_an_app_that_is_not_here_is_refused_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", "no-such-app", "--json"]) == 3
    result = _result(capsys)
    assert (result["outcome"], result["changed"]) == ("refused", False)
    assert "No app 'no-such-app' on this host" in result["message"]


def test_an_app_that_is_being_deployed_is_locked_with_4_and_names_the_holder(
    installed: config.Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock.hold(installed.lock, "logbook") as held:
        held.renew("bob", "d1", "warm", "v1", 60)
        assert cli.main(["prune", "logbook", "--json"]) == 4
    result = _result(capsys)
    assert (result["outcome"], result["holder"]) == ("locked", "bob")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FailedError("git fetch failed.", "fatal: torn"), 1, "git fetch failed."),
        (PermissionError(13, "Permission denied", "/srv/logbook"), 3, "/srv/logbook needs root; run it with sudo."),
        (OSError(28, "No space left on device"), 1, "The system: No space left on device."),
    ],
)
def test_an_error_becomes_one_sentence_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, message: str
) -> None:
    def fail(_: Engine) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(Engine, "prune", fail)
    assert cli.main(["prune", "logbook", "--json"]) == code
    assert _result(capsys)["message"] == message


@pytest.mark.usefixtures("installed")
def test_what_is_done_ends_with_0_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", "logbook", "--json"]) == 0
    expected = {"event": "result", "outcome": "ok", "message": "nothing to delete", "detail": "", "changed": False}
    assert _result(capsys) == {**expected, "deleted": []}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("arguments", [DEPLOY, ["rollback", "logbook"]])
def test_who_asked_is_told_to_the_unit_in_which_everybody_is_root(unit: Unit, arguments: list[str]) -> None:
    assert cli.main(arguments) == 0
    assert unit.ran == [[*arguments, "--owner", "alice"]]


@pytest.mark.usefixtures("installed")
def test_a_phase_belongs_to_whoever_opened_its_deployment(unit: Unit) -> None:
    unit.code = 1
    unit.active = [False, False]
    assert cli.main(["warm", "logbook"]) == 1
    assert unit.ran == [["warm", "logbook"]]


@pytest.mark.parametrize(("active", "runs"), [([True], 0), ([False, True], 1)])
def test_a_unit_that_is_taken_is_locked(
    installed: config.Settings, unit: Unit, capsys: pytest.CaptureFixture[str], active: list[bool], runs: int
) -> None:
    with lock.hold(installed.lock, "logbook") as held:
        held.renew("bob", "d1", "warm", "v1", 60)
    unit.active, unit.code = active, 1
    assert cli.main([*DEPLOY, "--json"]) == 4
    assert _result(capsys)["holder"] == "bob"
    assert len(unit.ran) == runs


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("arguments", [["rollback", "logbook", "--plan"], ["rollback", "logbook", "--open"]])
def test_what_touches_no_running_service_stays_in_the_callers_process(unit: Unit, arguments: list[str]) -> None:
    assert cli.main(arguments) == 3
    assert unit.ran == []


@pytest.mark.usefixtures("installed")
def test_what_is_in_the_unit_does_not_detach_again(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(systemd.INSIDE, "1")
    assert cli.main(["warm", "logbook"]) == 3
    assert unit.ran == []
