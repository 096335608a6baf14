"""The action plugin's decisions, without a host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roles.release.action_plugins import slipway as plugin


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sha": "abc"}, ["--sha", "abc"]),
        ({"force": True, "open": False, "tag": None, "bundle": ""}, ["--force"]),
        ({"have": ["a", "b"]}, ["--have", "a", "--have", "b"]),
        ({"dry_run": True}, ["--dry-run"]),
    ],
)
def test_options_become_a_command_line(options: dict[str, object], expected: list[str]) -> None:
    assert plugin.command_line("stage", ["logbook", ""], options) == ["stage", "--json", *expected, "logbook"]


def test_events_are_read_among_other_output() -> None:
    output = 'Warning: x\n{"event":"phase","phase":"warm"}\n[1]\n{"no":"event"}\n{"event":"result"}\n'
    assert [event["event"] for event in plugin.read_events(output)] == ["phase", "result"]


def test_a_command_on_the_controller_runs_from_the_projects_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, events, _ = plugin.run_here(["resolve", "--json", "--accept", "commits", ".", "HEAD"])
    assert code == 0
    assert len(plugin.final_event(events)["sha"]) == 40
    assert Path.cwd() == tmp_path
    code, events, errors = plugin.run_here(["resolve"])
    assert (code, events) == (2, [])
    assert "arguments are required" in errors


def test_a_run_of_this_machine_that_has_ended_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as run:
        owner = plugin.owner(run.pid)
        assert not plugin.is_dead(owner)
        run.communicate(b"\n")
    assert plugin.is_dead(owner)
    me, pid = plugin.owner().partition(" (")[0], os.getpid()
    assert plugin.is_dead(f"{me} (pid {run.pid})"), "a machine without /proc"
    assert not plugin.is_dead(f"{me} (pid {pid})")
    assert plugin.is_dead(plugin.owner(pid).replace(", run ", ", run 1")), "its number is another process's now"


def test_a_run_of_another_namespace_counts_as_alive() -> None:
    owner = plugin.owner(os.getpid())
    assert not plugin.is_dead(owner[:-1] + "9)")


def test_only_a_result_is_a_result() -> None:
    phase, result = {"event": "phase", "message": "warm"}, {"event": "result", "message": "done"}
    assert plugin.final_event([phase, result]) == result
    assert plugin.final_event([phase]) == {}


@pytest.mark.parametrize(
    ("code", "final", "errors", "failed", "message"),
    [
        (0, {"message": "done"}, "a warning", False, "done"),
        (3, {"message": "refused"}, "", True, "refused"),
        (255, {}, "first\nConnection lost\n", True, "slipway ended with code 255 and no result: Connection lost"),
        (0, {}, "", True, "slipway ended with code 0 and no result: it printed nothing"),
    ],
)
def test_without_a_result_nothing_has_succeeded(
    code: int, final: dict[str, str], errors: str, failed: bool, message: str
) -> None:
    assert plugin.ending(code, final, errors) == (failed, message)


@pytest.mark.parametrize("other", ["", "root", "alice@elsewhere (pid 999999)", "x (pid 1"])
def test_anybody_else_counts_as_alive(other: str) -> None:
    assert not plugin.is_dead(other)


_ORPHAN = """
import multiprocessing, os, time
from roles.release.action_plugins import slipway as plugin

def work(run):
    while os.getppid() == run:
        time.sleep(0.01)
    print(run, plugin.owner(), flush=True)

multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),)).start()
os._exit(0)
"""


def test_a_worker_whose_run_was_killed_names_that_and_not_whoever_adopted_it() -> None:
    done = subprocess.run([sys.executable, "-c", _ORPHAN], capture_output=True, text=True, check=True)
    run, owner = done.stdout.strip().split(" ", 1)
    assert f"(pid {run}" in owner
    assert plugin.is_dead(owner)
