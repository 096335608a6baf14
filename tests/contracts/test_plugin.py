"""The action plugin's decisions, without a host; and what it may add to a command, against what the engine takes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from roles.release.action_plugins import slipway as plugin
from roles.release.module_utils.engine_call import Answer, command_line, read_events
from roles.release.module_utils.this_run import start_of, this_owner
from slipway import PROTOCOL
from slipway.base.errors import RefusedError
from slipway.cli import parser
from slipway.records import owner, phases
from slipway.records.owner import Owner

RELEASE = Path(__file__).resolve().parents[2] / "roles/release"
MINE = Owner("alice", "laptop", 20, "900", "4026531836", "ci-77")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sha": "abc"}, ["--sha", "abc"]),
        ({"force": True, "open": False, "tag": None, "bundle": ""}, ["--force"]),
        ({"have": ["a", "b"], "supersede": []}, ["--have", "a", "--have", "b"]),
        ({"dry_run": True, "protocol": 2}, ["--dry-run", "--protocol", "2"]),
    ],
)
def test_options_become_a_command_line(options: dict[str, object], expected: list[str]) -> None:
    assert command_line("stage", ["logbook", ""], options) == ["stage", "--json", *expected, "logbook"]


def test_events_are_read_among_other_output() -> None:
    output = 'Warning: x\nWelcome {"event":"phase","phase":"start"}\n[1]\n{"no":"event"}\n{"event":"result"}\n'
    assert [event["event"] for event in read_events(output)] == ["phase", "result"]


def test_a_command_on_the_controller_runs_from_the_projects_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = plugin.run_here(["resolve", "--json", "--accept", "commits", ".", "HEAD"])
    assert answer.code == 0
    assert len(answer.final["sha"]) == 40
    assert Path.cwd() == tmp_path
    answer = plugin.run_here(["resolve"])
    assert (answer.code, answer.events) == (2, [])
    assert "arguments are required" in answer.errors


# Owners


def test_a_run_of_this_machine_that_has_ended_is_dead() -> None:
    mine = this_owner()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as run:
        other = this_owner(run.pid)
        assert other.started
        assert not owner.is_dead(other, mine, start_of)
        run.communicate(b"\n")
    assert owner.is_dead(other, mine, start_of)
    assert owner.parse(str(other)) == other


def test_a_process_that_has_ended_and_is_not_waited_for_has_no_start() -> None:
    run = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)
        assert start_of(run.pid) is None
    finally:
        run.wait()
    assert start_of(os.getpid())


def test_the_id_of_a_run_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_RUN", "ci-77")
    assert str(this_owner()).endswith(", run ci-77)")
    monkeypatch.setenv("SLIPWAY_RUN", "ci 77")
    with pytest.raises(RefusedError, match="SLIPWAY_RUN is 'ci 77'"):
        this_owner()


_ORPHAN = """
import multiprocessing, os, time
from roles.release.module_utils.this_run import this_owner

def work(run):
    while os.getppid() == run:
        time.sleep(0.01)
    print(run, this_owner(), flush=True)

multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),)).start()
os._exit(0)
"""


def test_a_worker_whose_run_was_killed_names_that_run_and_not_the_process_that_adopted_it() -> None:
    done = subprocess.run([sys.executable, "-c", _ORPHAN], capture_output=True, text=True, check=True)
    run, other = done.stdout.strip().split(" ", 1)
    assert owner.parse(other).process == int(run)
    assert owner.is_dead(owner.parse(other), this_owner(), start_of)


@pytest.mark.parametrize(
    ("holder", "superseded", "expected"),
    [
        ("", [], False),
        ("root@a1b2c3 (pid 7, start 345, namespace 1, run ci-77)", [], True),
        # It was superseded already, and holds the app all the same.
        (
            "root@a1b2c3 (pid 7, start 345, namespace 1, run ci-77)",
            ["root@a1b2c3 (pid 7, start 345, namespace 1, run ci-77)"],
            False,
        ),
        (
            "root@d4e5f6 (pid 7, start 345, namespace 1, run ci-77)",
            ["root@a1b2c3 (pid 7, start 345, namespace 1, run ci-77)"],
            True,
        ),
        ("bob@server (pid 7, start 345, namespace 1)", [], False),
    ],
)
def test_a_dead_owner_is_superseded_once(holder: str, superseded: list[str], expected: bool) -> None:
    assert plugin.takes_over(holder, MINE, superseded) is expected


# Results


def _result(**fields: Any) -> dict[str, Any]:
    return {"event": "result", "outcome": "ok", "message": "done", "detail": "", **fields}


def test_only_a_result_is_a_result() -> None:
    phase = {"event": "phase", "message": "start"}
    assert Answer(0, [phase, _result()]).final == _result()
    assert Answer(0, [phase]).final == {}


@pytest.mark.parametrize(
    ("code", "events", "errors", "failed", "message"),
    [
        (0, [_result()], "a warning", False, "done"),
        (3, [_result(message="refused")], "", True, "refused"),
        (255, [], "first\nConnection lost\n", True, "slipway ended with code 255 and no result: Connection lost"),
        (0, [], "", True, "slipway ended with code 0 and no result: it printed nothing"),
    ],
)
def test_without_a_result_nothing_has_succeeded(
    code: int, events: list[dict[str, Any]], errors: str, failed: bool, message: str
) -> None:
    answer = Answer(code, events, errors)
    assert (answer.failed, answer.message) == (failed, message)
    assert answer.fields()["failed"] is failed


def test_what_a_task_returns() -> None:
    phase = {"event": "phase", "phase": "start", "outcome": "ok", "seconds": 1.0, "message": "started"}
    found = Answer(1, [phase, _result(outcome="failed", detail="a\nb", release="v1", changed=True)]).fields()
    assert found == {
        "outcome": "failed",
        "message": "done",
        "release": "v1",
        "phases": [phase],
        "detail": ["a", "b"],
        "failed": True,
        "msg": "done",
        "changed": True,
    }


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (Answer(3, [_result(outcome="refused")]), True),
        (Answer(4, [_result(outcome="locked", holder="bob")]), True),
        (Answer(127, []), True),
        (Answer(2, [], "slipway: error: unrecognized arguments: --protocol 2"), True),
        (Answer(1, [_result(outcome="failed")]), False),
        (Answer(255, []), False),
    ],
)
def test_a_command_that_was_refused_has_nothing_to_undo(answer: Answer, refused: bool) -> None:
    assert answer.is_refused is refused


def test_only_a_locked_app_has_a_holder() -> None:
    assert Answer(4, [_result(outcome="locked", holder="bob")]).holder == "bob"
    assert Answer(3, [_result(outcome="refused", holder="bob")]).holder == ""


def test_an_engine_from_before_the_protocol_is_told_from_other_mistakes() -> None:
    assert Answer(2, [], "usage: ...\nslipway plan: error: unrecognized arguments: --protocol 2\n").is_older
    assert Answer(2, [], "slipway: error: unrecognized arguments: --brief --protocol logbook\n").is_older
    assert not Answer(2, [], "slipway plan: error: unrecognized arguments: --sah\n").is_older


# What is added to a command, and what the engine takes


def _commands() -> dict[str, argparse.ArgumentParser]:
    root = parser.parser()
    found = next(item for item in root._actions if isinstance(item, argparse._SubParsersAction))
    return dict(found.choices)


def _flags(command: str) -> set[str]:
    return {flag for action in _commands()[command]._actions for flag in action.option_strings}


@pytest.mark.parametrize("command", sorted(_commands()))
def test_every_command_takes_what_the_plugin_may_add_to_it(command: str) -> None:
    added = {"--json", "--protocol"} | ({"--owner", "--supersede"} if command in phases.OWNED else set())
    assert added - _flags(command) == set()


@pytest.mark.parametrize("command", phases.OWNED)
def test_an_owner_and_several_superseded_ones_are_read_as_they_were_given(command: str) -> None:
    options = {"owner": str(MINE), "supersede": ["bob", str(MINE)], "protocol": PROTOCOL}
    needed = {"sha": "0" * 40} if command in ("stage", "deploy") else {}
    found = parser.parser().parse_args(command_line(command, ["logbook"], {**needed, **options}))
    assert (found.owner, found.supersede, found.protocol) == (str(MINE), ["bob", str(MINE)], PROTOCOL)


def test_every_command_that_belongs_to_an_owner_is_in_the_table() -> None:
    assert {name for name in _commands() if "--owner" in _flags(name)} == set(phases.OWNED)
    assert set(phases.OWNED) >= plugin.OPENS
    assert not plugin.READ_ONLY & set(phases.OWNED)


def _tasks(name: str) -> Iterator[dict[str, Any]]:
    """The tasks of a file of the role that give a command, those in blocks included."""
    for task in yaml.safe_load((RELEASE / "tasks" / name).read_text()):
        for part in ("block", "rescue"):
            yield from (item for item in task.get(part, []) if "slipway" in item)
        if "slipway" in task:
            yield task


def _given() -> list[tuple[str, dict[str, Any]]]:
    files = sorted(path.name for path in (RELEASE / "tasks").iterdir())
    return [(f"{name}: {task['name']}", task["slipway"]) for name in files for task in _tasks(name)]


@pytest.mark.parametrize(("where", "given"), _given(), ids=[where for where, _ in _given()])
def test_every_command_of_the_role_is_one_that_the_engine_takes(where: str, given: dict[str, Any]) -> None:
    options = {f"--{name.replace('_', '-')}" for name in given.get("options", {})}
    assert options - _flags(given["command"]) == set(), where
    if "source" in given:
        assert {"--sha", "--tag", "--force", "--bundle"} - _flags(given["command"]) == set()
        assert {"--sha", "--tag", "--force", "--brief"} - _flags("plan") == set()


def test_the_role_gives_enough_commands_for_that_to_mean_something() -> None:
    assert {given["command"] for _, given in _given()} >= {"deploy", "stage", "rollback", "revert", "status", "resolve"}


def test_on_several_hosts_the_phases_are_those_of_the_table_in_its_order() -> None:
    found = [task["slipway"]["command"] for task in _tasks("cut_over_together.yml")]
    assert found == list(phases.ON_SEVERAL_HOSTS)


def test_a_run_for_several_hosts_says_so_to_each() -> None:
    opening = [
        given["options"]
        for name in ("deploy_together.yml", "roll_back_together.yml")
        for task in _tasks(name)
        if (given := task["slipway"])["command"] in plugin.OPENS
    ]
    assert [options["fleet"] for options in opening] == ["{{ release_hosts }}"] * 2
