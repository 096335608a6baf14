"""Runs the engine, on the host or on the controller, and turns its result into Ansible's.

Its options are documented in library/slipway.py.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import multiprocessing
import os
import re
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

PROJECT = Path(__file__).resolve().parents[3]
sys.path.append(str(PROJECT))

# Here, in the process that all workers are forked from; `commands` for its own sake, as `cli` loads it late.
from slipway.cli import commands  # noqa: E402, F401  # the path comes first; loaded, not used
from slipway.cli import parser as cli  # noqa: E402

PROGRAM = "/usr/local/bin/slipway"
READ_ONLY = {"plan", "resolve", "compare", "status", "releases"}
OWNED = {"stage", "migrate", "warm", "switch", "cut-over", "watch", "settle", "revert", "rollback"}
NOT_FOUND = 127


def owner(pid: int | None = None) -> str:
    """Who deploys: a person, a machine and the run (the ansible-playbook process, which started this worker).

    Where there is /proc, the run also says when its process started and in which namespace its number counts.
    """
    pid = _run() if pid is None else pid
    found = _process(pid)
    run = f"pid {pid}, run {found[1]}-{_namespace()}" if found else f"pid {pid}"
    return f"{_person()} ({run})"


def is_dead(other: str) -> bool:
    """Whether `other` is a run on this machine that has ended; a run elsewhere counts as alive."""
    match = re.fullmatch(r"(.+) \(pid (\d+)(?:, run (\d+)-(\d+))?\)", other)
    if not match or match[1] != _person():
        return False
    pid, started, namespace = int(match[2]), match[3], match[4]
    if started is None:
        return not _is_running(pid)
    if namespace != _namespace():
        return False  # a container of the same name: its processes are not ours to see
    found = _process(pid)
    return found is None or found[0] == "Z" or found[1] != started


def _person() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _run() -> int:
    """The process that started this worker, as it was then: the kernel names another one once that was killed."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid is not None else os.getppid()


def _process(pid: int) -> tuple[str, str] | None:
    """State and start (in ticks since boot) of a process, from proc(5); None when there is none, or no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]


def _namespace() -> str:
    return "".join(re.findall(r"\d+", str(Path("/proc/self/ns/pid").readlink())))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_line(command: str, arguments: list[Any], options: dict[str, Any]) -> list[str]:
    """`options` as `--name value`: true is a bare flag, a list repeats, nothing and false are left out."""
    line = [command, "--json"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(flag)
        elif isinstance(value, list):
            line += [part for item in value for part in (flag, str(item))]
        elif value is not None and value is not False and value != "":
            line += [flag, str(value)]
    return [*line, *(str(argument) for argument in arguments if argument not in (None, ""))]


def read_events(output: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines of `output`."""
    events = []
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def run_here(line: list[str]) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, events and errors of a command that runs in this process: to start another takes longer than most."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(PROJECT), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = cli.main(line)
        except SystemExit as usage:  # of argparse
            code = int(usage.code or 0)
    return code, read_events(output.getvalue()), errors.getvalue()


def final_event(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The result; empty when the engine ended before it had one (what a phase said before that is no result)."""
    return next((event for event in reversed(events) if event["event"] == "result"), {})


def ending(code: int, final: dict[str, Any], errors: str) -> tuple[bool, str]:
    """Whether a command failed, and what to say of it.

    Without a result it did, whatever its exit code: systemd-run ends with 0 when the host goes down under it.
    """
    if final:
        return code != 0, final["message"]
    last = errors.strip().splitlines()[-1:] or ["it printed nothing"]
    return True, f"slipway ended with code {code} and no result: {last[0]}"


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """See library/slipway.py."""

    _VALID_ARGS = frozenset({"command", "app", "arguments", "options", "send", "where"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        command, where = given["command"], given.get("where", "host")
        options = dict(given.get("options") or {})
        arguments = [given["app"]] if "app" in given else []
        arguments += given.get("arguments") or []
        reads = command in READ_ONLY or bool(options.get("plan"))
        if self._play_context.check_mode and not reads:
            return {**result, "skipped": True, "msg": "check mode: nothing was changed"}
        if command in OWNED and not reads:
            options["owner"] = owner()

        sent = Path(given["send"]).read_bytes() if given.get("send") else b"\n"
        code, events, errors = self._execute(command_line(command, arguments, options), where, sent)
        final = final_event(events)
        if final.get("outcome") == "locked" and is_dead(final.get("holder", "")):
            # The run that held the lease ended without its result, killed perhaps: its deployment is ours to end.
            options["supersede"] = final["holder"]
            code, events, errors = self._execute(command_line(command, arguments, options), where, sent)
            final = final_event(events)
        result |= {key: value for key, value in final.items() if key not in ("event", "detail", "text")}
        result["phases"] = [event for event in events if event["event"] == "phase"]
        if code == NOT_FOUND and where == "host":
            group = self._templar.template((task_vars or {}).get("release_environment", "<environment>"))
            result["msg"] = f"This host was never provisioned: run `ansible-playbook site.yml -l {group}` first."
            # A plan can still be shown; nothing else can go on.
            return {**result, "failed": not self._play_context.check_mode, "action": "deploy", "live": None}
        result["failed"], result["msg"] = ending(code, final, errors)
        result["changed"] = bool(final.get("changed")) and not reads
        if text := final.get("text"):
            result["text"] = text
        if final.get("detail"):
            result["detail"] = str(final["detail"]).splitlines()
        return result

    def _execute(self, line: list[str], where: str, sent: bytes) -> tuple[int, list[dict[str, Any]], str]:
        if where == "controller":
            return run_here(line)
        if where != "host":
            raise AnsibleActionFail(f"where is '{where}', but must be host or controller")
        # Something on its standard input keeps ssh from opening a terminal, whose loss would hang up the engine.
        answer = self._low_level_execute_command(shlex.join([PROGRAM, *line]), in_data=sent)
        return answer["rc"], read_events(answer["stdout"]), answer["stderr"] or answer["stdout"]
