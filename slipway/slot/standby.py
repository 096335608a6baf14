"""Standby: the slot that has just lost its traffic is paused and not ended, so that a rollback can continue it.

Paused means that every process of its service was sent SIGSTOP: it uses no processor and runs no job of its own, and
keeps its memory and its connections to PostgreSQL. A record below /run says what was paused, in which state
everything was then, and for how long; like the processes it does not survive a reboot.

A slot is paused main process first, so that it starts no new worker, and continued workers first: Gunicorn's main
process ends workers that have not reported for a while, so it stays stopped until each has reported again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.base import files
from slipway.base.errors import SlipwayError
from slipway.base.settings import Settings
from slipway.records import formats
from slipway.records.manifest import Manifest
from slipway.slot import connections, memory, processes, slots, systemd
from slipway.slot.processes import Process

FORMAT = 1
PAUSING, PAUSED, WAKING = "pausing", "paused", "waking"

DATABASE_PORT = "5432"  # unless the app's URL has another one

_FIRST_TO_GO = 1000  # what the kernel is told of a paused process for the case that memory runs out
_DATABASE_WAIT = 1.0  # seconds for PostgreSQL to end what it was asked just before the pause
_HEARTBEAT_WAIT = 10.0  # seconds for each worker to report to the main process; one second is the rule
_STOP_SECONDS = 30.0  # more than its unit gives a slot that is being stopped, beside the time for its requests
_INTERVAL = 0.05
_OTHER_VERSION = "the record of its standby is from another version of Slipway"
_ROUNDS = 10  # of looking for processes that were started while others were being stopped


@dataclass(frozen=True)
class Server:
    """What PostgreSQL says: when it was started, its connections, and which of them have a transaction or a lock.

    Connections are named as in `connections.sessions`.
    """

    started: str
    sessions: frozenset[str]
    holding: frozenset[str]


@dataclass(frozen=True)
class Database:
    """The PostgreSQL of an app: how it is asked (SlipwayError when it does not answer), and its port over TCP."""

    ask: Callable[[], Server]
    port: str = DATABASE_PORT


@dataclass(frozen=True)
class Standby:
    """The record of a paused slot. `paused_at` and `until` are seconds since boot."""

    slot: str
    release: str
    tag: str | None
    sha: str
    inputs: str  # digest of the files outside of the release that the slot was started with
    paused_at: float
    until: float
    state: str = PAUSING
    processes: tuple[Process, ...] = ()  # the main process is the first one
    database_started: str = ""
    sessions: tuple[str, ...] = ()  # its connections to PostgreSQL
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine

    @property
    def version(self) -> str:
        """How people call the release: its tag, else the commit."""
        return self.tag or self.sha[:12]


def clock() -> float:
    """Seconds since boot, time asleep included; unaffected by changes of the date."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# The record


def load(settings: Settings) -> Standby | None:
    """The record; None when there is none, or none that can be read (a newer version of Slipway wrote it)."""
    value = files.read_json(settings.standby)
    if value is None:
        return None
    try:
        formats.check(value, FORMAT, str(settings.standby))
        arguments, unknown = formats.split(value, Standby)
        numbered = tuple(Process(item["pid"], item["started"]) for item in arguments.pop("processes", ()))
        connected = tuple(arguments.pop("sessions", ()))
        return Standby(**arguments, processes=numbered, sessions=connected, unknown=unknown)
    except (SlipwayError, TypeError, KeyError):
        return None


def _save(settings: Settings, record: Standby) -> None:
    files.write_atomically(settings.standby, json.dumps(formats.stamped(record, FORMAT), indent=2) + "\n")


def forget(settings: Settings, slot: str) -> None:
    """Remove the record of a slot's standby and its timer, but not those of the other slot."""
    record = load(settings)
    if settings.standby.exists() and (record is None or record.slot == slot):
        settings.standby.unlink()
        systemd.cancel(_timer(settings))


def _timer(settings: Settings) -> str:
    return f"slipway-standby-{settings.app}"


# Pausing


def pause(settings: Settings, slot: str, release: Manifest, patience: float, database: Database | None) -> str:
    """Pause a slot that nobody talks to any more; "" when that was done, else why the slot still runs.

    `patience` is how many seconds its last requests have to end: an answer may be out, and its background task not
    done.
    """
    if reason := _why_not_to_pause(settings, slot) or _wait_for_last_requests(settings, slot, patience):
        return reason
    now = clock()
    record = Standby(
        slot=slot,
        release=release.release,
        tag=release.tag,
        sha=release.sha,
        inputs=slots.inputs_digest(settings),
        paused_at=now,
        until=now + settings.standby_minutes * 60,
    )
    _save(settings, record)
    try:
        command = [sys.argv[0], "end-standby", settings.app]
        title = f"End the standby of {settings.app}"
        systemd.run_later(_timer(settings), title, settings.standby_minutes * 60, command)
        paused, reason = _stop_and_check(settings, record, database)
    except (SlipwayError, OSError) as error:
        reason = str(error).rstrip(".")
    if reason:
        _continue(settings, slot)
        forget(settings, slot)  # also when nothing had been stopped yet
        return reason
    processes.set_oom_score(paused.processes, _FIRST_TO_GO)
    _save(settings, replace(paused, state=PAUSED))
    return ""


def _why_not_to_pause(settings: Settings, slot: str) -> str:
    """Why a slot is not to be paused, as far as it can be told while it still runs."""
    if settings.standby_minutes <= 0:
        return "standby_minutes is 0"
    state = systemd.state(settings.app, slot)
    if state.active != "active" or state.crashed:
        return f"its service is not healthy ({state.active}, restarted {state.restarts} times)"
    if slots.inputs_changed(settings, slot):
        return "its settings have changed since it was started"
    return memory.shortage()


def _wait_for_last_requests(settings: Settings, slot: str, patience: float) -> str:
    deadline = time.monotonic() + patience
    while True:
        service = processes.of_service(settings.app, slot)
        left = processes.at_work(settings.app, slot, service.workers) if service else None
        if left is None:
            return "how many requests it is at work on is not known"
        if not left:
            return ""
        if time.monotonic() >= deadline:
            return f"{left} request(s) still had something to do after their answer"
        time.sleep(_INTERVAL)


def _stop_and_check(settings: Settings, record: Standby, database: Database | None) -> tuple[Standby, str]:
    """Stop all processes; the record with what was found then, and why the slot cannot stay like that ("": it can)."""
    service = processes.of_service(settings.app, record.slot)
    for _ in range(_ROUNDS):
        if service is None or not processes.stop([service.main]) or not processes.stop(service.children):
            return record, "its processes could not be stopped"
        before, service = service, processes.of_service(settings.app, record.slot)
        if service == before:
            break
    if service is None or len(service.workers) != settings.workers:
        return record, f"not all of its {settings.workers} workers were running"
    if processes.at_work(settings.app, record.slot, service.workers) != 0:
        return record, "a request came in while it was paused"
    if connections.count(slots.socket(settings, record.slot)).total:
        return record, "a connection came in while it was paused"
    held = {item.pid for item in service.all}
    sessions = connections.sessions(held, database.port if database else DATABASE_PORT)
    record = replace(record, processes=service.all, sessions=tuple(sorted(sessions)))
    if database is None:
        return record, "what it holds in PostgreSQL cannot be checked" if sessions else ""
    server, reason = _ask_what_is_held(sessions, database.ask)
    return replace(record, database_started=server.started), reason


def _ask_what_is_held(sessions: frozenset[str], ask: Callable[[], Server]) -> tuple[Server, str]:
    """What PostgreSQL says, and why the slot may not be paused with these connections ("": it may).

    A transaction or a lock that a paused process has would keep others waiting until it is continued.
    """
    deadline = time.monotonic() + _DATABASE_WAIT
    while True:
        server = ask()
        unknown, holding = sessions - server.sessions, sessions & server.holding
        if not unknown and not holding:
            return server, ""
        if time.monotonic() >= deadline:
            if unknown:
                return server, "what it holds in PostgreSQL cannot be checked"
            return server, f"{len(holding)} of its connections had a transaction or a lock in PostgreSQL"
        time.sleep(_INTERVAL)


# Waking


def why_not(settings: Settings, slot: str, release: Manifest, database: Database | None) -> str:
    """Why a release cannot be woken in a slot and has to be started anew; "" when it can be woken."""
    record = load(settings)
    if record is None:
        newer = settings.standby.exists()
        return _OTHER_VERSION if newer else "it was not on standby"
    if (record.slot, record.release, record.sha) != (slot, release.release, release.sha):
        return f"{record.version} was on standby, not {release.version}"
    if reason := _what_became_of(settings, record) or memory.shortage():
        return reason
    return _what_became_of_connections(record, database)


def _what_became_of(settings: Settings, record: Standby) -> str:
    """Why a paused slot is not what it was when it was paused, PostgreSQL aside; "" when it is."""
    if record.state != PAUSED:
        return "pausing or waking it was interrupted"
    if is_over(record):
        return "its standby has been over for some time"
    if not all(map(processes.is_there, record.processes)):
        return "one of its processes was killed"
    if not all(map(processes.is_stopped, record.processes)):
        return "one of its processes was continued"
    if record.inputs != slots.inputs_digest(settings):
        return "its settings have changed since"
    return ""


def _what_became_of_connections(record: Standby, database: Database | None) -> str:
    try:
        if database is not None and database.ask().started != record.database_started:
            return "PostgreSQL has been restarted since"
        pids = {item.pid for item in record.processes}
        now = connections.sessions(pids, database.port if database else DATABASE_PORT)
    except SlipwayError as error:
        return str(error).rstrip(".")
    return "a connection of it to PostgreSQL was closed since" if set(record.sessions) - now else ""


def is_kept(settings: Settings, slot: str) -> bool:
    """Whether a slot is on standby as it should be: it runs without traffic, and that is right."""
    record = load(settings)
    return record is not None and record.slot == slot and not _what_became_of(settings, record)


def problem(settings: Settings, slot: str) -> str:
    """Why a slot that is on standby cannot stay so; "" when it can, or is not on standby."""
    record = load(settings)
    if record is None:
        return _OTHER_VERSION if settings.standby.exists() else ""
    return _what_became_of(settings, record) if record.slot == slot else ""


def wake_workers(settings: Settings, slot: str) -> bool:
    """Continue all but the main process of a slot, if it is paused; whether it was.

    `wake_main` has to follow once the slot takes traffic.
    """
    service = processes.of_service(settings.app, slot)
    if service is None or not any(map(processes.is_stopped, service.all)):
        return False
    record = load(settings)
    if record is not None and record.slot == slot:
        _save(settings, replace(record, state=WAKING))
    processes.set_oom_score(service.all, service.oom_score)
    processes.resume(service.children)
    return True


def is_waking(settings: Settings, slot: str) -> bool:
    """Whether the workers of a slot were woken and its main process was not."""
    record = load(settings)
    return record is not None and (record.slot, record.state) == (slot, WAKING)


def wake_main(settings: Settings, slot: str) -> str:
    """Continue the main process of a slot whose workers were woken; a sentence, "" when it was not stopped.

    That ends its standby. The main process is continued once no worker seems to have been silent for so long that
    Gunicorn would end it. A worker reports within a second of its waking. One that has not within ten is blocked:
    Gunicorn then ends it and starts another, as it would have without any standby.
    """
    service = processes.of_service(settings.app, slot)
    if service is None or not processes.is_stopped(service.main):
        forget(settings, slot)
        return ""
    started = time.monotonic()
    late = _wait_for_heartbeats(settings, service)
    processes.resume([service.main])
    forget(settings, slot)
    waited = f"Gunicorn's main process of {slot} was continued after {time.monotonic() - started:.1f} s"
    return f"{waited}, though not every worker had reported" if late else waited


def _wait_for_heartbeats(settings: Settings, service: processes.Slot) -> bool:
    """Wait until each worker has reported; whether it took too long."""
    deadline = time.monotonic() + _HEARTBEAT_WAIT
    while not all_reported(processes.heartbeat_ages(service.main), len(service.workers), settings.timeout):
        if time.monotonic() >= deadline:
            return True
        time.sleep(_INTERVAL)
    return False


def all_reported(ages: list[float], workers: int, timeout: float) -> bool:
    """Whether Gunicorn's main process would end no worker: it does so when one has been silent for `timeout` seconds.

    `ages` are the seconds since each of them reported. A worker reports when half of the timeout has gone by, so one
    that runs is never silent for much longer than that. A timeout of 0 means that none is ever ended.
    """
    if not timeout:
        return True
    return len(ages) >= workers and all(age <= timeout / 2 for age in ages)


def _continue(settings: Settings, slot: str) -> bool:
    """Continue whatever is stopped in a slot; whether anything was."""
    was_paused = wake_workers(settings, slot)
    if was_paused:
        wake_main(settings, slot)
    return was_paused


# Ending, repairing, showing


def end(settings: Settings, slot: str) -> None:
    """Stop a slot, on standby or not, and end its standby.

    The unit of the slot (see ExecStop= there) kills workers that are paused: continued for a proper end they would
    first run every job that has become due meanwhile, and what they were at work on has ended before the pause.
    """
    systemd.stop(settings.app, slot, settings.graceful_timeout + _STOP_SECONDS)
    forget(settings, slot)


def is_over(record: Standby) -> bool:
    """Whether the time of a standby has come."""
    return clock() >= record.until


def repair(settings: Settings) -> str:
    """Continue the slot that takes traffic if anything in it is stopped; a sentence, "" when nothing was.

    A run that was killed while it woke the slot, or that went back to it after pausing it, has left it like that.
    """
    record = load(settings)
    if record is not None and not _runs(settings, record):
        forget(settings, record.slot)  # it was stopped by somebody else
    live = slots.live_slot(settings)
    if live is None or not _continue(settings, live):
        return ""
    return f"{live} takes traffic and was still paused; it continues."


def _runs(settings: Settings, record: Standby) -> bool:
    """Whether anything of a slot runs; systemd is asked only where none of its known processes does."""
    return any(map(processes.is_there, record.processes)) or processes.of_service(settings.app, record.slot) is not None


def describe(settings: Settings) -> dict[str, Any] | None:
    """What is on standby, for showing; None when nothing is. `problem` is why it could not be woken, or ""."""
    record = load(settings)
    if record is None:
        return None
    left = record.until - clock()
    return {
        "slot": record.slot,
        "release": record.release,
        "tag": record.tag,
        "sha": record.sha,
        "until": (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds"),
        "problem": _what_became_of(settings, record),
    }


def sentence(described: dict[str, Any]) -> str:
    """The same for people."""
    name = f"{described['tag'] or described['sha'][:12]} in {described['slot']}"
    if described["problem"]:
        return f"{name}, cannot be woken: {described['problem']} (a rollback to it starts it anew)"
    return f"{name}, until {described['until'][11:16]} UTC (a rollback to it starts at once)"
