from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from slipway import PROTOCOL
from slipway.base import process
from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.base.output import Reporter
from slipway.cli import commands
from slipway.cli import parser as cli
from slipway.deployment import lock
from slipway.deployment.engine import Engine
from slipway.deployment.results import Plan
from slipway.observers import logbook
from slipway.observers.logbook import Delivery
from slipway.slot import systemd

SHA = "a" * 40
DEPLOY = ["deploy", "logbook", "--sha", SHA]


def _result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.fixture
def installed(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """The app is installed on this host, and the tests run as root."""
    monkeypatch.setattr(config, "load", lambda _: settings)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.delenv(systemd.INSIDE, raising=False)
    return settings


class Unit:
    """A fake transient unit: whether it is active at each check, the commands that ran in it, their exit code."""

    def __init__(self) -> None:
        self.active = [False]
        self.code: int | None = 0
        self.ran: list[list[str]] = []

    def is_detached(self, _: str) -> bool:
        return self.active.pop(0)

    def run_detached(self, _: str, __: str, arguments: list[str]) -> int | None:
        self.ran.append(list(arguments))
        return self.code


@pytest.fixture
def unit(monkeypatch: pytest.MonkeyPatch) -> Unit:
    made = Unit()
    monkeypatch.setattr(systemd, "is_detached", made.is_detached)
    monkeypatch.setattr(systemd, "run_detached", made.run_detached)
    return made


@pytest.mark.parametrize("arguments", [[], ["deploy", "logbook"], ["rollback", "logbook", "--open", "--plan"], ["up"]])
def test_wrong_usage_has_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2


def test_every_command_has_a_function() -> None:
    actions = [item for item in cli.parser()._actions if isinstance(item, argparse._SubParsersAction)]
    named = {command.get_default("function") for command in actions[0].choices.values()}
    assert len(named) > 10
    assert all(callable(getattr(commands, name)) for name in named)


def test_an_unknown_app_has_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", "no-such-app", "--json"]) == 3
    result = _result(capsys)
    assert (result["outcome"], result["changed"]) == ("refused", False)
    assert "No app 'no-such-app' on this host" in result["message"]


def test_a_locked_app_has_exit_code_4_and_names_the_holder(
    installed: config.Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock.hold(installed.lock, "logbook") as held:
        held.renew("bob", "d1", "start", "v1", 60)
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
def test_success_has_exit_code_0_and_the_fields_of_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", "logbook", "--json"]) == 0
    expected = {"event": "result", "outcome": "ok", "message": "nothing to delete", "detail": "", "changed": False}
    assert _result(capsys) == {**expected, "deleted": []}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("needed", "action"), [(True, "deploy"), (False, "nothing")])
def test_a_controller_from_before_there_was_a_protocol_reads_the_action_of_a_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], needed: bool, action: str
) -> None:
    monkeypatch.setattr(Engine, "plan", lambda *_, **__: Plan("v1 would be deployed.", needed=needed))
    line = ["plan", "logbook", "--sha", SHA, "--json"]
    assert cli.main(line) == 0
    assert _result(capsys)["action"] == action
    assert cli.main([*line, "--protocol", str(PROTOCOL)]) == 0
    assert "action" not in _result(capsys)


@pytest.fixture
def live(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a live release whose `python` prints its directory, environment and arguments."""
    monkeypatch.setattr(config, "load", lambda _: settings)
    release = settings.release("v1-a")
    (release / ".venv/bin").mkdir(parents=True)
    program = release / ".venv/bin/python"
    program.write_text('#!/bin/sh\necho "$PWD|$SECRET_KEY|$LEAK|$*"\nexit 7\n')
    program.chmod(0o755)
    (release / ".venv/no-program").touch()
    (settings.slot("blue") / "env").write_text('SECRET_KEY="of the slot"\n')
    (settings.slot("blue") / "release").symlink_to(release)
    settings.live.symlink_to("slots/blue")
    monkeypatch.setenv("LEAK", "of root")
    return release


# What `run` replaces is the process itself, so it has one of its own.
IN_A_PROCESS = """
import pathlib, sys
from slipway.cli import parser as cli
from slipway.base import process
from slipway.base import settings as config
load = config.load
config.load = lambda app: load(app, pathlib.Path(sys.argv[1]))
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("dashes", [[], ["--"]])
def test_run_replaces_the_process_and_returns_the_exit_code_of_the_command(
    live: Path, settings: config.Settings, tmp_path: Path, dashes: list[str]
) -> None:
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    toml = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    (tmp_path / "logbook.toml").write_text(toml)
    line = ["run", "logbook", *dashes, "python", "-m", "app.tokens", "--json", "--", "x"]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(tmp_path), *line], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"{live}|of the slot||-m app.tokens --json -- x\n"


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([], "The command to run is missing. Type for example: slipway run logbook -- "),
        (["--", "no-such-program"], "has a program 'no-such-program'"),
        (["--", "./no-such-program"], "has a program './no-such-program'"),
        (["--", ".venv/no-program"], "has a program '.venv/no-program'"),
    ],
)
def test_run_refuses_a_missing_command_or_program(
    capsys: pytest.CaptureFixture[str], command: list[str], sentence: str
) -> None:
    assert cli.main(["run", "logbook", *command]) == 3
    assert sentence in capsys.readouterr().out


@pytest.mark.usefixtures("installed")
def test_run_is_refused_when_nothing_is_live(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "logbook", "--", "python"]) == 3
    assert "No release of logbook is live yet. Run deploy.yml." in capsys.readouterr().out


def test_report_without_a_logbook_is_refused(installed: config.Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert installed.logbook_url == ""
    assert cli.main(["report", "logbook", "--json"]) == 3
    assert "Set apps.logbook.logbook_url in the inventory" in _result(capsys)["message"]


@pytest.mark.parametrize(
    ("delivery", "code", "message"),
    [
        (Delivery(sent=2), 0, "2 report(s) sent, none is waiting."),
        (Delivery(), 0, "0 report(s) sent, none is waiting."),
        (
            Delivery(sent=1, refused=["v1: answered 409"]),
            0,
            "1 report(s) sent; rejected by the Logbook: v1: answered 409, none",
        ),
        (Delivery(sent=1, waiting=2, problem="it is down"), 1, "1 report(s) sent; 2 reports wait: it is down."),
    ],
)
def test_report_prints_sent_reports_and_fails_while_one_waits(
    installed: config.Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    delivery: Delivery,
    code: int,
    message: str,
) -> None:
    connected = replace(installed, logbook_url="https://logbook.example.com")
    monkeypatch.setattr(config, "load", lambda _: connected)
    monkeypatch.setattr(logbook, "flush", lambda _: delivery)
    assert cli.main(["report", "logbook", "--json"]) == code
    assert _result(capsys)["message"].startswith(message)


# A thread like that which sends a report to a Logbook that does not answer.
WITH_A_THREAD = """
import atexit, sys, threading
from slipway.cli import parser as cli
atexit.register(print, "taken down")
cli.main = lambda _: print("done", end="") or 3
if sys.argv[1:]:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
cli.program()
"""


@pytest.mark.parametrize(("arguments", "shown"), [([], "donetaken down\n"), (["with a thread"], "done")])
def test_a_process_with_a_sending_thread_exits_at_once_with_its_exit_code(arguments: list[str], shown: str) -> None:
    command = [sys.executable, "-c", WITH_A_THREAD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, shown, "")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("arguments", [DEPLOY, ["rollback", "logbook"]])
def test_the_owner_is_passed_to_the_unit(unit: Unit, arguments: list[str]) -> None:
    assert cli.main(arguments) == 0
    assert unit.ran == [[*arguments, "--owner", "alice"]]


@pytest.mark.usefixtures("installed")
def test_a_phase_without_owner_works_on_any_open_deployment(unit: Unit) -> None:
    unit.code = 1
    assert cli.main(["start", "logbook"]) == 1
    assert unit.ran == [["start", "logbook"]]


@pytest.mark.parametrize(("active", "runs"), [([True], 0), ([False, True], 1)])
def test_a_unit_in_use_is_a_locked_error(
    installed: config.Settings, unit: Unit, capsys: pytest.CaptureFixture[str], active: list[bool], runs: int
) -> None:
    with lock.hold(installed.lock, "logbook") as held:
        held.renew("bob", "d1", "start", "v1", 60)
    unit.active, unit.code = active, None
    assert cli.main([*DEPLOY, "--json"]) == 4
    assert _result(capsys)["holder"] == "bob"
    assert len(unit.ran) == runs


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.usefixtures("installed")
def test_a_command_that_was_not_started_as_another_was_quicker_is_tried_again_for_a_client_that_is_there(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(Reporter, "has_client_after", lambda *_: is_there)
    codes = [None, 0]
    monkeypatch.setattr(systemd, "run_detached", lambda *_: codes.pop(0))
    unit.active = [False, False]
    assert cli.main([*DEPLOY]) == (0 if is_there else 1)
    assert codes == ([] if is_there else [0])


@pytest.mark.usefixtures("installed")
def test_a_command_that_systemd_never_starts_fails(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    unit.code, unit.active = None, [False] * 5
    assert cli.main([*DEPLOY, "--json"]) == 1
    assert "systemd did not start slipway-logbook.service." in _result(capsys)["message"]


@pytest.mark.parametrize(("fails", "inside", "code"), [(True, "1", 101), (True, "", 1), (False, "1", 0)])
def test_a_command_that_has_failed_in_the_unit_is_not_taken_for_one_that_was_not_started(
    monkeypatch: pytest.MonkeyPatch, fails: bool, inside: str, code: int
) -> None:
    monkeypatch.setattr(process, "forget_caller", lambda: None)
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # whatever the tests before this one have left
    monkeypatch.setattr(cli, "main", lambda _: int(fails))
    monkeypatch.setenv(systemd.INSIDE, inside)
    with pytest.raises(SystemExit) as ended:
        cli.program()
    assert ended.value.code == code


@pytest.mark.parametrize(("ended", "code"), [(0, 0), (1, None), (101, 1), (3, 3), (255, 255)])
def test_the_exit_code_of_the_unit_is_that_of_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: int, code: int | None
) -> None:
    fake = tmp_path / "systemd-run"
    fake.write_text(f"#!/bin/sh\nexit {ended}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert systemd.run_detached("logbook", "/bin/true", []) == code


@pytest.mark.parametrize(("dead", "code"), [("bob", 0), ("carol", 4)])
def test_the_unit_of_a_superseded_run_is_waited_for(
    installed: config.Settings, unit: Unit, monkeypatch: pytest.MonkeyPatch, dead: str, code: int
) -> None:
    monkeypatch.setattr(lock, "CLIENT_SECONDS", 0)
    with lock.hold(installed.lock, "logbook") as held:
        held.renew("bob", "d1", "start", "v1", 60)
    unit.active = [True, True, True, False]
    assert cli.main(["rollback", "logbook", "--supersede", dead]) == code
    assert len(unit.ran) == (code == 0)
    assert lock.TAKEOVER_WAIT > 60


@pytest.mark.usefixtures("installed")
def test_a_run_that_only_tells_its_observers_is_waited_for(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "CLIENT_SECONDS", 0)
    unit.active = [True, True, False]
    assert cli.main(["rollback", "logbook"]) == 0
    assert len(unit.ran) == 1


def test_a_superseded_run_may_tell_its_observers_after_a_long_phase(
    installed: config.Settings, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for its observers begins when its lease ends, and not when somebody began to wait for it."""
    monkeypatch.setattr(lock, "CLIENT_SECONDS", 0)
    monkeypatch.setattr(lock, "OBSERVERS_WAIT", 0.25)
    with lock.hold(installed.lock, "logbook") as held:
        held.renew("bob", "d1", "start", "v1", 60)
    unit.active = [True] * 8 + [False]

    def is_detached(_: str) -> bool:
        if len(unit.active) == 3:
            with lock.hold(installed.lock, "logbook") as held:
                held.end_lease()
        return unit.active.pop(0)

    monkeypatch.setattr(systemd, "is_detached", is_detached)
    assert cli.main(["rollback", "logbook", "--supersede", "bob"]) == 0
    assert len(unit.ran) == 1


@pytest.mark.parametrize("begins_anew", [True, False])
def test_a_unit_that_stays_taken_without_a_lease_or_is_taken_anew_is_locked(
    installed: config.Settings, unit: Unit, monkeypatch: pytest.MonkeyPatch, begins_anew: bool
) -> None:
    if not begins_anew:
        monkeypatch.setattr(lock, "OBSERVERS_WAIT", 0.2)
    looks: list[int] = []

    def is_detached(_: str) -> bool:
        looks.append(1)
        if begins_anew and len(looks) == 2:
            with lock.hold(installed.lock, "logbook") as held:
                held.renew("bob", "d1", "start", "v1", 60)
        return True

    monkeypatch.setattr(systemd, "is_detached", is_detached)
    assert cli.main(["rollback", "logbook"]) == 4
    assert unit.ran == []
    assert len(looks) >= 2


@pytest.mark.parametrize("is_there", [True, False])
def test_a_command_that_waited_for_the_unit_runs_only_when_its_client_is_still_there(
    installed: config.Settings,
    unit: Unit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_there: bool,
) -> None:
    with lock.hold(installed.lock, "logbook") as held:
        held.renew("bob", "d1", "start", "v1", 60)
    monkeypatch.setattr(Reporter, "has_client_after", lambda *_: is_there)
    unit.active = [True, False]
    assert cli.main([*DEPLOY, "--supersede", "bob", "--json"]) == (0 if is_there else 1)
    assert len(unit.ran) == (1 if is_there else 0)
    if not is_there:
        assert "The client disconnected while this command waited" in _result(capsys)["message"]


@pytest.mark.usefixtures("installed")
def test_a_killed_phase_is_a_failure_and_not_a_lost_connection(unit: Unit, capsys: pytest.CaptureFixture[str]) -> None:
    unit.code = 255  # of systemd-run, for whatever a signal has ended; ssh means something else by it
    assert cli.main(["migrate", "logbook", "--json"]) == 1
    result = _result(capsys)
    assert result["message"] == "migrate was killed. `journalctl --unit=slipway-logbook.service` may show why."
    assert result["outcome"] == "failed"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("arguments", [["rollback", "logbook", "--plan"], ["rollback", "logbook", "--open"]])
def test_commands_that_touch_no_running_service_do_not_detach(unit: Unit, arguments: list[str]) -> None:
    assert cli.main(arguments) == 3
    assert unit.ran == []


@pytest.mark.usefixtures("installed")
def test_a_command_inside_the_unit_does_not_detach_again(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(systemd.INSIDE, "1")
    assert cli.main(["start", "logbook"]) == 3
    assert unit.ran == []
