"""The settings `processes` and `schedule`: their one whole form, what is wrong with them, and the files of their units.

A command is split into words as a shell splits it, and is run without one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from roles.app.module_utils import calendar_times, commands, setting_forms

PROCESS: dict[str, Any] = {"run": "", "count": 1, "stop_seconds": 30, "on": ""}
JOB: dict[str, Any] = {"run": "", "at": [], "catch_up": False, "timeout": 3600, "on": ""}

UNITS = "/etc/systemd/system"

# A part of a unit's name. A number at its end is that of one of several.
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,29}[a-z0-9])?")
_NUMBERED = re.compile(r".*-[0-9]+")
_MOST = 32  # of one process: each has a unit of its own

Values = Mapping[str, Any]


def complete(settings: Values) -> dict[str, Any]:
    """The settings with the whole form of both. What has a wrong form is left as it is, for `faults`."""
    processes = {name: _whole(PROCESS, entry) for name, entry in settings["processes"].items()}
    schedule = {name: _whole(JOB, entry) for name, entry in settings["schedule"].items()}
    for job in schedule.values():
        if isinstance(job, dict):
            times = [job["at"]] if isinstance(job["at"], str) else job["at"]
            job["at"] = [found for time in times for found in calendar_times.read(time)[0]]
    return {**settings, "processes": processes, "schedule": schedule}


def _whole(defaults: Values, entry: Any) -> Any:
    if isinstance(entry, str):
        entry = {"run": entry}
    if not isinstance(entry, Mapping):
        return entry
    # YAML takes an unquoted `on` for true.
    named = {"on" if key is True else key: value for key, value in entry.items()}
    return {**defaults, **named}


def declared_faults(settings: Values) -> Iterator[str]:
    """What is wrong with both as they are declared, a sentence each, which begins with the key."""
    processes, schedule = settings.get("processes"), settings.get("schedule")
    if isinstance(processes, Mapping):
        for name, entry in processes.items():
            yield from _faults("processes", name, entry, PROCESS)
    if isinstance(schedule, Mapping):
        for name, entry in schedule.items():
            yield from _faults("schedule", name, entry, JOB)
        if isinstance(processes, Mapping):
            for name in schedule:
                if name in processes:
                    yield f"schedule.{name} has the name of one of the processes. Give one of the two another name."


def _faults(setting: str, name: Any, entry: Any, defaults: Values) -> Iterator[str]:
    where = f"{setting}.{name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _NUMBERED.fullmatch(name):
        yield (
            f"{where} cannot be a name: use 1 to 31 of a-z, 0-9 and '-', beginning with a letter, and without '-' and "
            "a number at its end."
        )
        return
    if setting == "schedule" and isinstance(entry, str):
        yield f"{where} is '{entry}', but must have `run` and `at`, as in {{run: {entry}, at: '0 3 * * *'}}."
        return
    whole = _whole(defaults, entry)
    if not isinstance(whole, dict):
        yield f"{where} is {setting_forms.shown(entry)}, but must be a command, or a mapping with `run`."
        return
    for key in whole:
        if key not in defaults:
            yield setting_forms.unknown(f"{where}.{key}", str(key), defaults)
    yield from _command(f"{where}.run", whole["run"])
    if not isinstance(whole["on"], str):
        yield f"{where}.on is {setting_forms.shown(whole['on'])}, but must be the name of a host of the inventory."
    if setting == "processes":
        yield from _number(f"{where}.count", whole["count"], 0, _MOST)
        yield from _number(f"{where}.stop_seconds", whole["stop_seconds"], 1, 86_400)
    else:
        yield from _job(where, whole)


def host_faults(where: str, settings: Values, hosts: Sequence[str]) -> Iterator[str]:
    """Entries that would run nowhere, as no host has the name that `on` says; `settings` are whole."""
    for setting in ("processes", "schedule"):
        for name, entry in settings[setting].items():
            if entry["on"] and entry["on"] not in hosts:
                yield (
                    f"{where}.{setting}.{name}.on is '{entry['on']}', so it would run nowhere. Write one of "
                    f"{', '.join(hosts)}, or leave it out for all."
                )


def _job(where: str, job: Values) -> Iterator[str]:
    if not isinstance(job["catch_up"], bool):
        yield f"{where}.catch_up is {setting_forms.shown(job['catch_up'])}, but must be true or false."
    yield from _number(f"{where}.timeout", job["timeout"], 1, 7 * 86_400)
    at = job["at"]
    for time in [at] if isinstance(at, str) else at if isinstance(at, list) else [None]:
        if problem := calendar_times.read(time)[1] if isinstance(time, str) else "is no text":
            shown = setting_forms.shown(time)
            yield (
                f"{where}.at is {shown}, which {problem}. Write five fields as in cron ('0 3 * * *'), or as systemd "
                "does ('Mon..Fri 03:00')."
            )
    if at == []:
        yield f"{where}.at is missing: when is it to run? Write it as in cron, such as at: '0 3 * * *'."


def _command(where: str, command: Any) -> Iterator[str]:
    if not isinstance(command, str) or not command.strip():
        yield f"{where} is {setting_forms.shown(command)}, but must be a command, such as 'python -m worker'."
        return
    if re.search(r"[\x00-\x1f\x7f]", command.strip()):
        yield f"{where} has a line break or another control character in it. Write the command in one line."
        return
    yield from commands.faults(where, [command])


def _number(where: str, value: Any, least: int, most: int) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        yield f"{where} is {setting_forms.shown(value)}, but must be a whole number from {least} to {most}."


# For a host


def here(entries: Values, host: str) -> dict[str, Any]:
    """Those of one of the two settings that run on a host."""
    return {name: entry for name, entry in entries.items() if entry["on"] in ("", host)}


def most_at_once(settings: Values) -> int:
    """How many processes there are at most at a time: those of which there are several overlap with the old ones."""
    counts: list[int] = [process["count"] for process in settings.get("processes", {}).values()]
    return sum(count if count < 2 else 2 * count for count in counts) + len(settings.get("schedule", {}))


def units(settings: Values, app: str, host: str) -> list[dict[str, Any]]:
    """The files of the units, as {src, dest} with what their templates read."""
    found = []
    for name, process in here(settings["processes"], host).items():
        for number in range(1, process["count"] + 1):
            instance = name if number == 1 else f"{name}-{number}"
            path = f"{UNITS}/{app}.{instance}@.service"
            found.append({"src": "background@.service.j2", "dest": path, "name": instance, "process": process})
    for name, job in here(settings["schedule"], host).items():
        path = f"{UNITS}/{app}.{name}"
        found += [
            {"src": "background@.service.j2", "dest": f"{path}@.service", "name": name, "job": job},
            {"src": "schedule.service.j2", "dest": f"{path}.service", "name": name, "job": job},
            {"src": "schedule.timer.j2", "dest": f"{path}.timer", "name": name, "job": job},
        ]
    return found


def command_line(command: str) -> str:
    """The words of a command as a unit's file has them: each in quotes, without systemd's specifiers."""
    words = [re.sub(r'(["\\])', r"\\\1", word).replace("%", "%%") for word in shlex.split(command)]
    return " ".join(f'"{word}"' for word in words)
