"""Warm, switch, drain, and the way back: everything that starts, stops or redirects a slot."""

from __future__ import annotations

import time
from pathlib import Path

from slipway.base.errors import FailedError, RefusedError
from slipway.base.settings import Settings
from slipway.records.manifest import Manifest
from slipway.records.receipt import Receipt
from slipway.slot import connections, envfile, health, slots, systemd, watch
from slipway.slot.connections import Connections

_DRAIN_INTERVAL = 0.1
_PATIENCE = 5  # seconds that a release which serves has to give its ready answers


def check_environment(settings: Settings) -> None:
    """RefusedError naming the first variable that the app requires and its environment file lacks."""
    if absent := envfile.missing(envfile.read(settings.env_file), settings.required_env):
        raise RefusedError(
            f"{absent[0]} is required by {settings.app} and not set in {settings.env_file}. "
            f"Set it in the inventory under apps.{settings.app}.env and run site.yml."
        )


def warm(settings: Settings, slot: str, release: Manifest) -> str:
    """Start a release in an idle slot and wait until every worker is ready; a sentence of what answered.

    FailedError, with what the service has logged of it, when it crashes or is not ready in `start_deadline` seconds.
    """
    check_environment(settings)
    systemd.stop(settings.app, slot)
    slots.prepare(settings, slot, release)
    systemd.start(settings.app, slot)
    seconds = pass_gate(settings, slot, release.sha)
    return f"{slot} ready after {seconds:.1f} s, {settings.workers} workers"


def check_authentication(settings: Settings, slot: str, release: Manifest) -> str:
    """Ask a slot what only those with credentials may, without any; how it refused, to go behind a sentence.

    FailedError when it did anything else.
    """
    if not settings.auth_check:
        return ""
    answer = health.ask_without_credentials(slots.socket(settings, slot), settings.auth_check)
    if answer.status in (401, 403):
        return f"; {settings.auth_check} without credentials: {answer.status}"
    found = str(answer.status) if answer.status else f"nothing ({answer.problem})"
    raise FailedError(
        f"{release.version} answered {settings.auth_check} without credentials with {found}; "
        f"only 401 or 403 will do (apps.{settings.app}.auth_check)."
    )


def pass_gate(settings: Settings, slot: str, sha: str) -> float:
    """Ask the slot's own socket until the gate opens; seconds that it took. FailedError as for `warm`."""
    gate = health.Gate(sha=sha, workers=settings.workers, answers=settings.start_answers)
    started = time.monotonic()
    socket = slots.socket(settings, slot)
    while not gate.is_open:
        waited = time.monotonic() - started
        state = systemd.state(settings.app, slot)
        if state.crashed:
            reason = f"{settings.app}@{slot} crashed after {waited:.1f} s"
        elif gate.lost_worker:
            reason = f"a worker of {settings.app}@{slot} died after it was ready"
        elif waited > settings.start_deadline:
            reason = f"{settings.app}@{slot} was not ready within {settings.start_deadline:g} s ({gate.problem})"
        else:
            if state.active == "active":
                ask_in_turn(gate, settings, socket)
            health.wait_briefly(started)
            continue
        raise FailedError(f"{reason}.", systemd.failure(settings.app, slot, slots.prepared_at(settings, slot)))
    return time.monotonic() - started


def why_not_ready(settings: Settings, slot: str, sha: str) -> str:
    """Why a slot that takes traffic is not ready, each of its workers asked several times; "" when it is."""
    started = time.monotonic()
    # Its own number of workers: the settings may have changed since it was started.
    gate = health.Gate(sha=sha, workers=len(systemd.workers(settings.app, slot)) or 1, answers=settings.start_answers)
    while True:
        ask_in_turn(gate, settings, slots.socket(settings, slot))
        if gate.is_open:
            return ""
        if gate.lost_worker:
            return "a worker died meanwhile"
        if time.monotonic() - started > _PATIENCE:
            return gate.problem
        health.wait_briefly(started)


def ask_in_turn(gate: health.Gate, settings: Settings, socket: Path) -> None:
    """A handful of questions between two looks at the unit; workers are picked by the kernel, so ask often."""
    for _ in range(settings.workers * settings.start_answers):
        answer = health.ask_slot(socket, settings.health_path, timeout=2)
        gate.observe(answer)
        if gate.is_open or not answer.ok:
            return


def drain(settings: Settings, slot: str) -> tuple[float, Connections]:
    """Wait until nobody talks to a slot any more; seconds waited, and what was left at the deadline."""
    started = time.monotonic()
    socket = slots.socket(settings, slot)
    while True:
        left = connections.count(socket)
        waited = time.monotonic() - started
        if not left.total or waited >= settings.drain_seconds:
            return waited, left
        time.sleep(_DRAIN_INTERVAL)


def drain_and_stop(settings: Settings, slot: str, sha: str, receipt: Receipt) -> str:
    """Drain a slot and stop it while commit `sha` takes traffic, all on the receipt; a sentence that counts the cut."""
    with watch.probing(settings, [sha], receipt):
        waited, left = drain(settings, slot)
    errors = receipt.errors
    with watch.probing(settings, [sha], receipt):
        systemd.stop(settings.app, slot)
    if not left.total:
        return f"{slot} drained in {waited:.1f} s"
    receipt.cut, receipt.cut_errors = left.total, receipt.errors - errors
    return f"{slot} stopped at the deadline of {settings.drain_seconds:g} s, {left.total} connection(s) cut"


def go_back(settings: Settings, slot: str | None, sha: str | None) -> str:
    """Send traffic to the slot that had it before (None: to none), making sure that it serves."""
    if slot is None:
        settings.live.unlink(missing_ok=True)
        return "nothing is live: there was no release before"
    if systemd.state(settings.app, slot).active != "active" and sha is not None:
        systemd.start(settings.app, slot)
        pass_gate(settings, slot, sha)
    slots.switch(settings, slot)
    return f"{slot} takes traffic again"
