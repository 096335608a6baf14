"""Start a slot, pass its gate, drain it, and go back to it: everything that starts or redirects a slot."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from slipway.base import process
from slipway.base.errors import FailedError, RefusedError
from slipway.base.settings import Settings
from slipway.records.manifest import Manifest
from slipway.slot import background, connections, denials, envfile, health, slots, standby, systemd
from slipway.slot.connections import Connections

_DRAIN_INTERVAL = 0.1
_TURN = 3  # times as many health requests in one turn, at most, as the gate needs ready answers
_PATIENCE = 5  # seconds in which a live release must give its ready answers
_SHORT_PATIENCE = 2  # seconds, for what is only said of the live release
_GUARD_MARGIN = 60  # seconds after which nobody can be at work any more who has stopped a slot to make way
_WAKE_DEADLINE = 10.0  # seconds in which a woken slot must be ready; normally it is within 0.1 s


def check_environment(settings: Settings) -> None:
    """RefusedError that names the first variable which the app requires, or has the host make, and which is not set."""
    known = envfile.of_app(settings)
    if absent := envfile.missing(known, settings.generated_env):
        raise RefusedError(f"{absent[0]} of {settings.app} is made by the host, and is not there. Run site.yml.")
    if absent := envfile.missing(known, settings.required_env):
        raise RefusedError(
            f"{absent[0]} is required by {settings.app} and not set in {settings.env_file}. "
            f"Set it in the inventory under apps.{settings.app}.env and run site.yml."
        )


def start(settings: Settings, slot: str, release: Manifest) -> str:
    """Start a release in an idle slot and wait until every worker is ready; a sentence about the result.

    FailedError, with the service's log, when it crashes or is not ready within `start_deadline` seconds.
    """
    check_environment(settings)
    _make_way(settings, slot)
    standby.end(settings, slot)
    background.stop(settings, slot)  # those of a run that was killed
    slots.prepare(settings, slot, release)
    systemd.start(settings.app, slot)
    if settings.overlap == "none":
        slots.switch(settings, slot)  # from now on clients wait at its socket
    seconds = pass_gate(settings, slot, release.sha)
    return f"{slot} ready after {seconds:.1f} s, {settings.workers} workers"


def _make_way(settings: Settings, slot: str) -> None:
    """With `overlap: none`, stop the slot that takes traffic before the other one is started.

    A timer makes sure that it does not stay so when this run is killed in between.
    """
    live = slots.live_slot(settings)
    if settings.overlap != "none" or live in (None, slot):
        return
    seconds = settings.start_deadline + settings.lease_seconds + _GUARD_MARGIN
    systemd.run_later(_guard(settings), f"Look after {settings.app}", seconds, [sys.argv[0], "recover", settings.app])
    standby.end(settings, str(live))


def end_guard(settings: Settings) -> None:
    """Whoever was stopped to make way is replaced, or runs again."""
    if settings.overlap == "none":
        systemd.cancel(_guard(settings))


def _guard(settings: Settings) -> str:
    return f"slipway-guard-{settings.app}"


def wake_or_start(
    settings: Settings, slot: str, release: Manifest, database: standby.Database | None, ended: str = ""
) -> str:
    """Like `start`, but a release on standby in the slot is woken if possible; if not, the sentence says why.

    `ended` is why its standby was ended already. After the switch a woken slot needs `standby.wake_main`.
    """
    check_environment(settings)
    if settings.overlap == "none":
        ended = ended or "overlap is none"
    reason = ended or standby.why_not(settings, slot, release, database)
    if not reason:
        try:
            standby.wake_workers(settings, slot)
            deadline = min(_WAKE_DEADLINE, settings.start_deadline)
            seconds = pass_gate(settings, slot, release.sha, deadline, is_up=True)
        except FailedError as error:
            reason = f"it was woken, but then {error}".rstrip(".")
        else:
            return f"{slot} woken from standby, ready after {seconds:.1f} s, {settings.workers} workers"
    return f"{start(settings, slot, release)}; not woken from standby: {reason}"


def check_authentication(settings: Settings, slot: str, release: Manifest) -> str:
    """Send the request `auth_check` to a slot without credentials; the status, as the end of a sentence.

    FailedError when the request was not refused.
    """
    if not settings.auth_check:
        return ""
    answer = health.ask_without_credentials(settings, slots.socket(settings, slot), settings.auth_check)
    if answer.status in (401, 403):
        return f"; {settings.auth_check} without credentials: {answer.status}"
    found = f"was answered with {answer.status}" if answer.status else f"was not answered ({answer.problem})"
    found += f" (Location: {answer.location.partition('?')[0]})" if answer.location else ""
    raise FailedError(
        f"{settings.auth_check} without credentials {found} by {release.version}, "
        f"but must be answered with 401 or 403 (apps.{settings.app}.auth_check)."
    )


def pass_gate(settings: Settings, slot: str, sha: str, deadline: float | None = None, *, is_up: bool = False) -> float:
    """Send health requests to the slot's own socket until the gate opens; the seconds it took.

    `deadline` is in seconds; None: `start_deadline`. `is_up`: the slot is known to run, so the first requests are sent
    before systemd is asked about it. FailedError as for `start`.
    """
    deadline = settings.start_deadline if deadline is None else deadline
    deadline += health.patience(settings, settings.workers)
    gate = health.Gate(sha=sha, workers=settings.workers, answers=settings.start_answers)
    started = time.monotonic()
    socket = slots.socket(settings, slot)
    if is_up:
        ask_in_turn(gate, settings, socket)
    while not gate.is_open:
        waited = time.monotonic() - started
        state = systemd.state(settings.app, slot)
        if state.crashed:
            reason = f"{settings.app}@{slot} crashed after {waited:.1f} s"
        elif gate.lost_worker:
            reason = f"a worker of {settings.app}@{slot} crashed after it was ready"
        elif waited > deadline:
            reason = f"{settings.app}@{slot} was not ready within {deadline:g} s ({gate.problem})"
        else:
            if state.active == "active":
                ask_in_turn(gate, settings, socket)
            if not gate.is_open:
                health.wait_briefly(started)
            continue
        log = systemd.failure(settings.app, slot, slots.prepared_at(settings, slot))
        absent = process.missing_variables(log)
        if absent:
            reason += f": it asks for {', '.join(absent[:8])}, which apps.{settings.app}.env does not have"
        denied = "".join(f" {denial.error}: {denial.remedy}" for denial in denials.find(log.splitlines(), settings)[:1])
        raise FailedError(f"{reason}.{denied}", log)
    return time.monotonic() - started


def why_not_ready(settings: Settings, slot: str, sha: str) -> str:
    """Why a slot that takes traffic is not ready, after several health requests to each worker; "" when it is."""
    started = time.monotonic()
    # The slot's actual number of workers, as the settings may have changed since it was started.
    workers = len(systemd.workers(settings.app, slot)) or 1
    gate = health.Gate(sha=sha, workers=workers, answers=settings.start_answers)
    while True:
        ask_in_turn(gate, settings, slots.socket(settings, slot))
        if gate.is_open:
            return ""
        if gate.lost_worker:
            return "a worker has crashed meanwhile"
        if time.monotonic() - started > _PATIENCE + health.patience(settings, workers):
            return gate.problem
        health.wait_briefly(started)


def why_no_answer(settings: Settings, slot: str) -> str:
    """Why a slot that takes traffic gives no ready answer to any of a few health requests; "" when it gives one."""
    started = time.monotonic()
    while True:
        answer = health.ask_slot(settings, slots.socket(settings, slot), timeout=2)
        if answer.ok or time.monotonic() - started > _SHORT_PATIENCE + 2 * settings.health_every:
            return "" if answer.ok else answer.sentence
        health.wait_briefly(started)


def ask_in_turn(gate: health.Gate, settings: Settings, socket: Path) -> None:
    """A few health requests between two checks of the unit. The kernel picks the worker, so several are needed.

    Once every worker has answered it goes on for some more: the kernel does not share requests out evenly.
    """
    needed = settings.workers * settings.start_answers
    for number in range(1, _TURN * needed + 1):
        gate.observe(health.ask_slot(settings, socket, timeout=2))
        if gate.is_open or gate.lost_worker or not gate.by_worker:  # the last one: the answer was not ready
            return
        if number >= needed and not gate.all_answered:
            return


def drain(settings: Settings, slot: str) -> tuple[float, Connections]:
    """Wait until a slot has no connection left; the seconds waited, and the connections left at the deadline."""
    started = time.monotonic()
    socket = slots.socket(settings, slot)
    while True:
        left = connections.count(socket)
        waited = time.monotonic() - started
        if not left.total or waited >= settings.drain_seconds:
            return waited, left
        time.sleep(_DRAIN_INTERVAL)


def pause_or_stop(
    settings: Settings, slot: str, release: Manifest | None, patience: float, database: standby.Database | None
) -> str:
    """Put a drained slot on standby, or stop it if that is not possible; a sentence that says which, and why.

    `patience` is how many seconds its last requests may take to finish.
    """
    reason = "its release is no longer complete"
    if release is not None:
        reason = standby.pause(settings, slot, release, patience, database)
        if not reason:
            return f"on standby for {settings.standby_minutes} min: a rollback to {release.version} starts at once"
    standby.end(settings, slot)
    return f"stopped, not kept on standby: {reason}"


def _is_awake(settings: Settings, slot: str, sha: str) -> bool:
    """Whether a slot whose workers were woken passes the gate."""
    with contextlib.suppress(FailedError):
        pass_gate(settings, slot, sha, min(_WAKE_DEADLINE, settings.start_deadline), is_up=True)
        return True
    return False


def go_back(settings: Settings, slot: str | None, sha: str | None) -> str:
    """Send traffic back to the slot that had it before (None: to no slot), after making sure that it is ready."""
    if slot is None:
        settings.live.unlink(missing_ok=True)
        return "nothing is live: there was no release before"
    is_woken = standby.wake_workers(settings, slot)
    if is_woken and sha is not None and not _is_awake(settings, slot, sha):
        standby.end(settings, slot)
    if systemd.state(settings.app, slot).active != "active" and sha is not None:
        standby.forget(settings, slot)
        systemd.start(settings.app, slot)
        if settings.overlap == "none":
            slots.switch(settings, slot)  # nobody else is there who could answer meanwhile
        pass_gate(settings, slot, sha)
    slots.switch(settings, slot)
    if is_woken:
        standby.wake_main(settings, slot)
    return f"{slot} takes traffic again"
