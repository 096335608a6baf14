"""systemd, through its command line tools: the slots of an app, and the transient unit in which phases run."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.base import files, process, sandbox
from slipway.base.errors import FailedError

# Set inside of the transient unit, so that a command knows that it already runs there.
INSIDE = "SLIPWAY_INSIDE_UNIT"

_STARTING = "7d4958e842da4a758f6c1cdc7b36dcc5"  # the id of systemd's message that it starts a unit
# Exit codes of systemd-run: when it has started nothing, and when its command was killed by a signal. A command that
# has failed ends with another one inside of the unit, so that it is not taken for one that was never started.
_NOT_STARTED, KILLED = 1, 255
FAILED_INSIDE = 101
_LOG_BYTES = 32 * 2**20  # of a log that is looked at
_RELEASE_SECONDS = 10.0  # systemd may take so long to end the remaining processes of a killed phase


@dataclass(frozen=True)
class UnitState:
    """The state of a service. `restarts` counts automatic restarts since it was last started by a command."""

    active: str  # active, activating, deactivating, inactive, failed
    sub: str
    restarts: int

    @property
    def is_up(self) -> bool:
        return self.active in ("active", "activating", "reloading")

    @property
    def crashed(self) -> bool:
        return self.active == "failed" or self.restarts > 0 or self.sub == "auto-restart"


def parse_show(output: str) -> UnitState:
    """Read the output of `systemctl show`."""
    values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    return UnitState(
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", "dead"),
        restarts=int(values.get("NRestarts") or 0),
    )


def state(app: str, slot: str) -> UnitState:
    return parse_show(_show("ActiveState,SubState,NRestarts", f"{app}@{slot}.service"))


def _show(properties: str, *units: str) -> str:
    """What systemd says of units: a line a property, an empty line between two units."""
    return process.run(["systemctl", "show", f"--property={properties}", *units]).stdout


def workers(app: str, slot: str) -> set[int]:
    """The process numbers of a slot's workers: the current children of its main process."""
    main = _show("MainPID", f"{app}@{slot}.service").strip().removeprefix("MainPID=")
    try:
        return {int(number) for number in Path(f"/proc/{main}/task/{main}/children").read_text().split()}
    except OSError:
        return set()


def start(app: str, slot: str) -> None:
    """Queue the start of a slot, its socket first, and do not wait: the gate checks whether the app comes up."""
    units = [f"{app}@{slot}.socket", f"{app}@{slot}.service"]
    if "yes" in _show("NeedDaemonReload", *units):
        process.run(["systemctl", "daemon-reload"])  # a run of site.yml may have been killed before it did this
    process.run(["systemctl", "reset-failed", *units])
    result = process.run(["systemctl", "start", "--no-block", *units])
    if result.returncode != 0:
        raise FailedError(f"systemd could not start {app}@{slot}.", process.tail(result.stderr))


def stop(app: str, slot: str, patience: float) -> None:
    """Stop a slot and wait for its end. The socket comes first: otherwise a late connection would start it again.

    A service can ask systemd for more time again and again. One that runs on after `patience` seconds is killed.
    """
    units = [f"{app}@{slot}.socket", f"{app}@{slot}.service"]
    # Of a start that still waits (for PostgreSQL, at boot) there is a job, and it has to be cancelled.
    shown = [line for line in _show("ActiveState,Job", *units).split() if line not in ("Job=", "Job=0")]
    if shown == ["ActiveState=inactive"] * len(units):
        return
    try:
        result = process.run(["systemctl", "stop", *units], timeout=patience)
    except FailedError:
        process.run(["systemctl", "kill", "--signal=SIGKILL", units[1]])
        result = process.run(["systemctl", "stop", *units], timeout=patience)
    if result.returncode != 0:
        raise FailedError(f"systemd could not stop {app}@{slot}.", process.tail(result.stderr))
    process.run(["systemctl", "reset-failed", *units])


def failure(app: str, slot: str, since: float) -> str:
    """The first failure in the log of a slot's service after `since` (seconds since 1970), with systemd's lines.

    All its runs since then count, as it may have crashed and been started again several times. What the run before
    them says of its own end may come late, and does not count.
    """
    return process.first_failure("\n".join(log(app, slot, since, 1000)))


def log(app: str, slot: str, since: float, entries: int, timeout: float | None = None) -> list[str]:
    """The lines of a slot's log after `since`, of its last so many entries, as people read them.

    FailedError when reading them takes longer than `timeout` seconds.
    """
    process.run(["journalctl", "--sync"])
    command = [
        *("journalctl", "--output=json", "--all", f"--lines={entries}", "--no-pager", "--quiet"),
        "--output-fields=MESSAGE,MESSAGE_ID,INVOCATION_ID,_SYSTEMD_INVOCATION_ID",
        *(f"--unit={app}@{slot}.service", f"--since=@{since:.6f}"),
    ]
    # An app can write entries of any size. What is cut off is an entry that cannot be read then.
    bounded = ["sh", "-c", f'"$@" | head --bytes={_LOG_BYTES}', "-", *command]
    found = list(_entries(process.run(bounded, timeout=timeout).stdout))
    started = {_run_of(entry) for entry in found if entry.get("MESSAGE_ID") == _STARTING}
    messages = [_message(entry) for entry in found if not started or _run_of(entry) in started]
    return [shown for text in messages for line in text.splitlines() for shown in readable(line).splitlines()]


def _entries(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        with contextlib.suppress(ValueError):
            entry = files.decode_json(line)
            if isinstance(entry, dict):
                yield entry


def _run_of(entry: dict[str, Any]) -> str:
    """The run of its service that an entry of the journal is about, also when systemd itself wrote it."""
    return str(entry.get("_SYSTEMD_INVOCATION_ID") or entry.get("INVOCATION_ID"))


def _message(entry: dict[str, Any]) -> str:
    """Its text, which journalctl gives as a list of bytes when it has colours or is not UTF-8.

    It is a list of texts when the program has sent several.
    """
    text = entry.get("MESSAGE") or ""
    with contextlib.suppress(TypeError, ValueError):
        return bytes(text).decode(errors="replace") if isinstance(text, list) else str(text)
    return "\n".join(map(str, text))


def readable(line: str) -> str:
    """A log line for people: if it is a JSON object, its level, message and traceback."""
    try:
        value = files.decode_json(line) if line.startswith("{") else None
    except ValueError:
        value = None
    if not isinstance(value, dict) or "message" not in value:
        return line
    level = f"[{str(value['level']).upper()}] " if value.get("level") else ""
    traceback = f"\n{value['exc_info']}" if value.get("exc_info") else ""
    return f"{level}{value['message']}{traceback}"


def is_detached(app: str) -> bool:
    """Whether a command is running in the app's transient unit.

    If it was killed, this waits until systemd has released the unit, which takes until the last of its processes has
    ended: the command that undoes the interrupted deployment must not be refused because of that.
    """
    unit = f"slipway-{app}.service"
    started = time.monotonic()
    while True:
        shown = _show("LoadState,ActiveState,SubState", unit)
        if "LoadState=not-found" in shown:
            return False
        found = parse_show(shown)
        if found.is_up or time.monotonic() - started >= _RELEASE_SECONDS:
            return True
        if found.active == "failed":
            process.run(["systemctl", "reset-failed", unit])
        time.sleep(0.05)


def run_detached(app: str, program: str, arguments: Sequence[str]) -> int | None:
    """Run a command in the transient unit `slipway-<app>` and wait for it; its exit code, None if it was not started.

    The unit goes on when this process, the connection or Ansible ends. Its fixed name allows only one at a time.
    """
    command = [
        *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"),
        *(f"--unit=slipway-{app}", f"--description=Slipway deployment of {app}"),
        "--property=OOMPolicy=continue",  # a migration that runs out of memory must not stop the engine as well
        *(f"--property={line}" for line in sandbox.ENGINE),
        *(f"--setenv={INSIDE}=1", "--", program, *arguments),
    ]
    sys.stdout.flush()
    code = subprocess.run(command, check=False).returncode
    return None if code == _NOT_STARTED else FailedError.exit_code if code == FAILED_INSIDE else code


def run_later(unit: str, title: str, seconds: float, command: Sequence[str | Path]) -> None:
    """Run `command` once after so many seconds, by a transient timer; an older timer of that name is replaced."""
    timer = [
        *("systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--description={title}"),
        *(f"--on-active={seconds:g}", "--timer-property=AccuracySec=1s", "--", *command),
    ]
    result = process.run(timer)
    if result.returncode != 0:  # most likely the name is taken
        cancel(unit)
        process.run(["systemctl", "stop", f"{unit}.service"])  # its command may wait for the lock that we have
        result = process.run(timer)
    if result.returncode != 0:
        raise FailedError(f"systemd does not start the timer {unit}.", process.tail(result.stderr))


def cancel(unit: str) -> None:
    """Stop a timer of `run_later`; a command that it has started goes on."""
    process.run(["systemctl", "stop", f"{unit}.timer"])


def is_inside_unit() -> bool:
    return os.environ.get(INSIDE) == "1"


# Units beside the slots: processes, timers and jobs


def states(pattern: str) -> dict[str, UnitState]:
    """The states of the loaded units whose names match a pattern of the shell's, by their names."""
    shown = _show("Id,ActiveState,SubState,NRestarts", pattern)
    found = {}
    for block in shown.split("\n\n"):
        name = re.search(r"^Id=(.+)$", block, re.MULTILINE)
        if name:
            found[name[1]] = parse_show(block)
    return found


def properties(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit as systemd prints them; "" for what it does not say."""
    lines = dict(line.split("=", 1) for line in _show(",".join(names), unit).splitlines() if "=" in line)
    return {name: lines.get(name, "") for name in names}


def start_units(units: Sequence[str]) -> None:
    """Queue the start of units, and do not wait."""
    if not units:
        return
    if "yes" in _show("NeedDaemonReload", *units):
        process.run(["systemctl", "daemon-reload"])
    process.run(["systemctl", "reset-failed", *units])
    result = process.run(["systemctl", "start", "--no-block", *units])
    if result.returncode != 0:
        raise FailedError(f"systemd could not start {', '.join(units)}.", process.tail(result.stderr))


def stop_units(units: Sequence[str], patience: float) -> None:
    """Stop units and wait for their end; what runs on after `patience` seconds is killed."""
    if not units:
        return
    try:
        result = process.run(["systemctl", "stop", *units], timeout=patience)
    except FailedError:
        process.run(["systemctl", "kill", "--signal=SIGKILL", *units])
        result = process.run(["systemctl", "stop", *units], timeout=patience)
    if result.returncode != 0:
        raise FailedError(f"systemd could not stop {', '.join(units)}.", process.tail(result.stderr))
    process.run(["systemctl", "reset-failed", *units])


def stop_soon(units: Sequence[str]) -> None:
    """Ask units to end, and do not wait for it."""
    if units:
        process.run(["systemctl", "stop", "--no-block", *units])


def run_oneshot(unit: str) -> str | None:
    """Run a unit that ends by itself; None when it ended well, else how it ended."""
    process.run(["systemctl", "reset-failed", unit])
    if process.run(["systemctl", "start", unit]).returncode == 0:
        return None
    ended = properties(unit, "Result", "ExecMainStatus")
    return f"exit code {ended['ExecMainStatus']}" if ended["Result"] == "exit-code" else ended["Result"]


def working_directories(units: Sequence[str]) -> list[Path]:
    """Where the main processes of units are."""
    found = []
    for line in _show("MainPID", *units).split() if units else []:
        with contextlib.suppress(OSError):
            found.append(Path("/proc", line.removeprefix("MainPID="), "cwd").readlink())
    return found


def log_of(unit: str, entries: int) -> list[str]:
    """The last lines of a unit's log, as people read them."""
    command = ["journalctl", f"--unit={unit}", "--output=json", f"--lines={entries}", "--no-pager"]
    found = process.run(command).stdout
    texts = [_message(entry) for entry in _entries(found)]
    return [shown for text in texts for line in text.splitlines() for shown in readable(line).splitlines()]
