"""What an app runs beside its web process: the units of its processes, and its timers.

The processes of the slot that is live run, and no others: `reconcile` makes that true, whatever was before. It is
called after each switch, when a deployment is undone, and at boot. The units are written by the role `app`; the name of
a process's is `<app>.<name>@<slot>.service`, or `<app>.<name>-2@<slot>.service` of the second of several.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.base import process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.slot import slots, systemd
from slipway.slot.systemd import UnitState

_SETTLED = 3.0  # seconds after which a process that was started and runs has not crashed at once
_QUEUED = 1.0  # seconds that systemd may take to begin a start
_PATIENCE = 15.0  # seconds beyond its own time that a process which is stopped may take
_INTERVAL = 0.2


@dataclass(frozen=True)
class Unit:
    """A loaded unit of a process, by its parts."""

    name: str  # of systemd
    process: str
    slot: str


def reconcile(settings: Settings) -> list[str]:
    """Start the processes of the live slot, stop those of the other one, and let the timers run; the units started.

    A process of which there is one has ended before its next one is started. Of several the new ones are started
    first, and the old ones are only asked to end: `stop` waits for that.
    """
    if not is_used(settings):
        return []
    live = slots.live_slot(settings)
    known = states(settings)
    old = [unit for unit in _of_processes(settings, known) if unit.slot != live and _is_there(known[unit.name])]
    single = [unit for unit in old if settings.processes.get(unit.process, {}).get("count", 1) < 2]
    _stop(settings, single)
    wanted = wanted_units(settings, live)
    missing = [unit for unit in wanted if not known.get(unit, _NOTHING).is_up]
    if missing:
        systemd.start_units(missing)
    systemd.stop_soon([unit.name for unit in old if unit not in single])
    _let_timers_run(settings, live, known)
    return missing


def _let_timers_run(settings: Settings, live: str | None, known: Mapping[str, UnitState]) -> None:
    """Of the jobs that the live slot has been set up with, and of no others."""
    names = slots.background(settings, live) if live else set()
    timers = {name: f"{settings.app}.{name}.timer" for name in settings.schedule}
    running = {name for name, timer in timers.items() if known.get(timer, _NOTHING).is_up}
    systemd.stop_units([timers[name] for name in timers if name in running - names], _PATIENCE)
    systemd.start_units([timers[name] for name in timers if name in names - running])


def is_used(settings: Settings) -> bool:
    """Whether an app has anything beside its web process."""
    return bool(settings.processes or settings.schedule)


def stop(settings: Settings, slot: str) -> int:
    """Stop the processes of a slot and wait for their end, until each one's deadline; how many there were."""
    if not settings.processes:
        return 0
    known = states(settings)
    found = [unit for unit in _of_processes(settings, known) if unit.slot == slot and _is_there(known[unit.name])]
    _stop(settings, found)
    return len(found)


def failure(settings: Settings, started: Iterable[str], since: float) -> tuple[str, str]:
    """Which of the units that were `started` does not run (any more), as a sentence, with its log; "" when all do.

    `since` is when that was, on the monotonic clock: the answer is given once they had the time to crash.
    """
    units = list(started)
    while units:
        known = states(settings)
        for unit in units:
            state = known.get(unit, _NOTHING)
            is_late = time.monotonic() - since >= _QUEUED
            if state.crashed or (is_late and not state.is_up):
                log = process.first_failure("\n".join(systemd.log_of(unit, 200)))
                return f"its process {unit.partition('@')[0].partition('.')[2]} ended right after its start", log
        if time.monotonic() - since >= _SETTLED:
            break
        time.sleep(_INTERVAL)
    return "", ""


def wanted_units(settings: Settings, slot: str | None) -> list[str]:
    """The units of the processes that run while a slot is live: a process that is new comes with the next deploy."""
    if slot is None or not settings.processes:
        return []
    given = slots.background(settings, slot)
    return [
        f"{settings.app}.{name if number == 1 else f'{name}-{number}'}@{slot}.service"
        for name, entry in settings.processes.items()
        for number in range(1, entry["count"] + 1)
        if name in given
    ]


def states(settings: Settings) -> dict[str, UnitState]:
    """The state of every loaded unit of the app beside its slots, by its name."""
    return systemd.states(f"{settings.app}.*")


_NOTHING = UnitState("inactive", "dead", 0)


def _is_there(state: UnitState) -> bool:
    """Whether something of a unit runs, also while it is being stopped, or is about to be started again."""
    return state.active not in ("inactive", "failed")


def _of_processes(settings: Settings, names: Iterable[str]) -> list[Unit]:
    """The units of processes among these names; jobs of the schedule are left to end."""
    found = []
    for name in names:
        match = re.fullmatch(rf"{re.escape(settings.app)}\.(.+)@(blue|green)\.service", name)
        if match is None or match[1] in settings.schedule:
            continue
        base = re.sub(r"-[0-9]+$", "", match[1])
        found.append(Unit(name, base if base in settings.processes else match[1], match[2]))
    return found


def _stop(settings: Settings, units: Iterable[Unit]) -> None:
    """Stop these units, side by side, and wait for their end."""
    found = list(units)
    if not found:
        return
    seconds = [settings.processes.get(unit.process, {}).get("stop_seconds", 30) for unit in found]
    systemd.stop_units([unit.name for unit in found], max(seconds) + _PATIENCE)


# Jobs of the schedule


def run_job(settings: Settings, name: str) -> str:
    """Run a job in the release that is live, and wait for its end; a sentence. FailedError when it has failed.

    It is not run while another run of it goes on, also one of the release before.
    """
    slot = slots.live_slot(settings)
    if slot is None:
        return "No release is live yet."
    units = {known: f"{settings.app}.{name}@{known}.service" for known in slots.NAMES}
    known = states(settings)
    for unit in units.values():
        if _is_there(known.get(unit, _NOTHING)):
            return f"{name} still runs since an earlier time, so it is not run again."
    result = systemd.run_oneshot(units[slot])
    if result is not None:
        raise FailedError(f"{name} of {settings.app} has failed ({result}). `slipway logs {settings.app}` shows why.")
    return f"{name} has ended well."


def releases_in_use(settings: Settings) -> set[str]:
    """The names of releases in which a job of the schedule, or a process, still runs."""
    if not is_used(settings):
        return set()
    names = [name for name, state in states(settings).items() if "@" in name and _is_there(state)]
    found = set()
    for directory in systemd.working_directories(names):
        if directory.is_relative_to(settings.releases) and directory != settings.releases:
            found.add(directory.relative_to(settings.releases).parts[0])
    return found


# For people


def describe(settings: Settings) -> dict[str, Any]:
    """The processes of the live slot and the jobs of the schedule, for showing."""
    if not is_used(settings):
        return {"processes": [], "schedule": []}
    live = slots.live_slot(settings)
    known = states(settings)
    return {
        "processes": [
            {"unit": unit, "state": state.active, "restarts": state.restarts}
            for unit in wanted_units(settings, live)
            for state in [known.get(unit, _NOTHING)]
        ],
        "schedule": [_job(settings, name, known) for name in settings.schedule],
    }


def _job(settings: Settings, name: str, known: Mapping[str, UnitState]) -> dict[str, Any]:
    unit = f"{settings.app}.{name}"
    shown = systemd.properties(f"{unit}.timer", "LastTriggerUSec", "NextElapseUSecRealtime")
    service = known.get(f"{unit}.service", _NOTHING)
    result = systemd.properties(f"{unit}.service", "Result")["Result"]
    return {
        "name": name,
        "waits": known.get(f"{unit}.timer", _NOTHING).active == "active",
        "runs": service.active == "activating",
        "failed": service.active == "failed" or result not in ("", "success"),
        "last": shown["LastTriggerUSec"],
        "next": shown["NextElapseUSecRealtime"],
    }


def rows(found: Mapping[str, Any], app: str) -> list[tuple[str, str]]:
    """The same as rows of `slipway status`."""
    lines = []
    for item in found["processes"]:
        restarts = f", restarted {item['restarts']} times" if item["restarts"] else ""
        name = item["unit"].removeprefix(f"{app}.").removesuffix(".service")
        lines.append(("process", f"{name} {item['state']}{restarts}"))
    for item in found["schedule"]:
        now = "runs now" if item["runs"] else "the last run FAILED" if item["failed"] else "ok"
        last = f", last {item['last']}" if item["last"] not in ("", "n/a", "0") else ", never run"
        then = f", next {item['next']}" if item["waits"] else ", waits for no time: run deploy.yml"
        lines.append(("schedule", f"{item['name']}: {now}{last}{then}"))
    return lines
