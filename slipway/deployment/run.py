"""A deployment under way: its lock and lease, its phases in the journal, and its one end, whatever happens.

A phase that fails undoes its deployment before it raises. What was interrupted is found by the next command, or by
the boot: before the rename of the `live` link the old release is left to serve, after it the new one.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from slipway.base import files
from slipway.base.errors import FailedError, RefusedError, SlipwayError
from slipway.base.output import Reporter
from slipway.base.settings import Settings
from slipway.deployment import lock
from slipway.observers import logbook
from slipway.records import deployment, journal, manifest, receipt
from slipway.records.deployment import Deployment, Request
from slipway.records.manifest import Manifest
from slipway.release import store
from slipway.schema import migrate
from slipway.slot import cutover, slots, systemd


@dataclass
class Step:
    """What a phase reports when it ends well; `detail` is for the journal alone."""

    message: str = ""
    skipped: bool = False
    detail: dict[str, Any] = field(default_factory=dict)


class Session:
    """What every command needs of the deployment that is, or is not, under way."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self.settings = settings
        self.report = reporter
        self._closed: list[tuple[Deployment, journal.Entry]] = []  # of which the Logbook was not told yet

    @contextlib.contextmanager
    def hold(self, wait: float = 0) -> Iterator[lock.Lock]:
        """The app's lock, waited for as `lock.hold` does, and what a run that was killed had half written is gone."""
        with lock.hold(self.settings.lock, self.settings.app, wait) as held:
            for directory in (self.settings.root, self.settings.backups, *map(self.settings.slot, slots.NAMES)):
                files.sweep(directory)
            yield held

    @contextlib.contextmanager
    def exclusive(self, request: Request) -> Iterator[tuple[lock.Lock, str]]:
        """The lock for a new deployment, after one that its owner left open is ended; how that went, or ""."""
        wait = lock.TAKEOVER_WAIT if request.superseded else 0
        with self.telling(), self.hold(wait) as held:
            self._check_lease(held, request.owner, request.superseded)
            self._claim(held, request)  # at once, so that whoever comes second is told of us
            recovered = self.recover(held)
            if recovered:
                self.report.note(recovered)
                self._claim(held, request)
            try:
                yield held, recovered
            finally:
                if deployment.load(self.settings.deployment) is None:
                    held.end_lease()

    def _claim(self, held: lock.Lock, request: Request) -> None:
        held.renew(request.owner, "", "stage", request.version, self.settings.lease_seconds)

    @contextlib.contextmanager
    def exclusive_phase(self, owner: str | None) -> Iterator[lock.Lock]:
        """The lock for a phase of a deployment that is open; `owner` None is whoever opened it."""
        with self.telling(), self.hold() as held:
            if owner is not None:
                self._check_lease(held, owner)
            yield held

    def _check_lease(self, held: lock.Lock, owner: str, superseded: tuple[str, ...] = ()) -> None:
        """LockedError when another's deployment is open and its lease has not ended."""
        lease = held.lease()
        if lease is None or deployment.load(self.settings.deployment) is None:
            return  # with nothing open a lease says no more than the kernel lock, and we hold that
        if lease.is_held_against(owner, superseded, lock.clock()):
            raise lock.busy(self.settings.app, lease)

    @contextlib.contextmanager
    def resume(self, owner: str | None, *states: str) -> Iterator[tuple[lock.Lock, Deployment]]:
        """The open deployment, when it has come as far as one of `states`."""
        with self.exclusive_phase(owner) as held:
            opened = deployment.load(self.settings.deployment)
            if opened is None:
                raise RefusedError(
                    f"No deployment of {self.settings.app} is open: it has ended, or was undone. Run deploy.yml again."
                )
            if owner is not None and opened.owner != owner:
                raise RefusedError(
                    f"The open deployment of {self.settings.app} is now that of {opened.owner}, not of {owner}."
                )
            if opened.state not in states:
                raise RefusedError(
                    f"The deployment of {opened.version} is {opened.state}; "
                    f"this phase follows on {' or '.join(states)}."
                )
            yield held, opened

    @contextlib.contextmanager
    def phase(self, held: lock.Lock, opened: Deployment, name: str) -> Iterator[Step]:
        """Time a phase, write it down, and undo the deployment when it fails."""
        held.renew(opened.owner, opened.id, name, opened.version, self.settings.lease_seconds)
        started = time.monotonic()
        step = Step()
        try:
            yield step
        except Exception as error:
            reason, evidence = _explain(error)
            self._end_phase(opened, name, "failed", started, reason)
            try:
                undone = self.undo(held, opened, "failed", reason)
            except SlipwayError as second:
                undone = f"And the way back failed: {second} `slipway revert {self.settings.app}` tries it again."
            raise FailedError(f"{reason} {undone}", evidence) from error
        self._end_phase(opened, name, "skipped" if step.skipped else "ok", started, step.message, step.detail)
        held.renew(opened.owner, opened.id, name, opened.version, self.settings.lease_seconds)

    def _end_phase(
        self,
        opened: Deployment,
        name: str,
        outcome: str,
        started: float,
        message: str,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Write down and report a phase that began at `started`."""
        seconds = round(time.monotonic() - started, 3)
        self._write(opened, name, outcome, seconds, message, detail)
        self.report.phase(name, outcome, seconds, message)

    def open(self, held: lock.Lock, action: str, request: Request, schema_from: str | None = None) -> Deployment:
        live = slots.live_slot(self.settings)
        opened = Deployment(
            id=deployment.new_id(),
            action=action,
            owner=request.owner,
            release=request.release,
            tag=request.tag,
            sha=request.sha,
            from_slot=live,
            from_release=slots.live_release(self.settings),
            to_slot=slots.other(live),
            opened_at=journal.now(),
            schema_from=schema_from,
        )
        held.renew(opened.owner, opened.id, "stage", opened.version, self.settings.lease_seconds)
        deployment.save(self.settings.deployment, opened)
        self._tell(lambda: logbook.begin(self.settings, opened))
        return opened

    def finish(self, held: lock.Lock, opened: Deployment) -> str:
        """After the switch: drain, close as succeeded, prune; the receipt in a sentence."""
        with self._phase_after_switch(opened, "drain") as step:
            if opened.from_slot is not None:
                step.message = cutover.drain_and_stop(self.settings, opened.from_slot, opened.sha, opened.receipt)
            else:
                step.skipped, step.message = True, "no release was live before"
        message = self._close(held, opened, "succeeded", "")
        with self._phase_after_switch(opened, "prune") as step:
            gone = store.prune(self.settings)
            step.skipped, step.message = (
                not gone,
                f"deleted {', '.join(gone)}" if gone else "nothing to delete",
            )
        return message

    @contextlib.contextmanager
    def _phase_after_switch(self, opened: Deployment, name: str) -> Iterator[Step]:
        """Like `phase`, but the new release has proved itself: a failure is reported and undoes nothing."""
        started = time.monotonic()
        step = Step()
        try:
            yield step
        except Exception as error:
            self._end_phase(opened, name, "failed", started, _explain(error)[0])
            return
        self._end_phase(opened, name, "skipped" if step.skipped else "ok", started, step.message)

    def undo(self, held: lock.Lock, opened: Deployment, outcome: str, reason: str) -> str:
        """Make the release that was live before serve alone, and close; a sentence that says what serves."""
        with contextlib.suppress(OSError):  # a full disk; without the note an interruption of this would go unnoticed
            deployment.advance(self.settings.deployment, opened, deployment.REVERTING)
        message = cut = schema = ""
        if opened.schema_from is not None:
            schema = migrate.restore(self.settings, opened.schema_from)
        switched = slots.live_slot(self.settings) == opened.to_slot
        if switched:
            release = self.release_before(opened)
            message = cutover.go_back(self.settings, opened.from_slot, release.sha if release else None)
            _, left = cutover.drain(self.settings, opened.to_slot)
            opened.receipt.cut = left.total
            cut = f"{left.total} connection(s) to {opened.version} were cut." if left.total else ""
        systemd.stop(self.settings.app, opened.to_slot)
        self._close(held, opened, outcome, f"{reason} {cut}".strip(), switched=switched)
        serving = slots.live_release(self.settings)
        serves = f"{serving} serves as before." if serving else f"{message or 'nothing is live'}.".capitalize()
        return " ".join(part for part in (schema, serves, cut) if part)

    def release_before(self, opened: Deployment) -> Manifest | None:
        """The release that was live when the deployment was opened."""
        return manifest.read(self.settings.release(opened.from_release)) if opened.from_release else None

    def _close(self, held: lock.Lock, opened: Deployment, outcome: str, message: str, *, switched: bool = False) -> str:
        """Write the result line with its receipt, end the lease; `message`, or the receipt in a sentence for it."""
        lines = [item for item in journal.read(self.settings.journal) if item.deployment == opened.id]
        phases: dict[str, float] = {}
        for item in lines:
            phases[item.phase] = round(phases.get(item.phase, 0) + item.seconds, 3)
        summary = opened.receipt.summary(phases)
        before = self.release_before(opened)
        message = message or receipt.sentence(summary, before.version if before else None, opened.version)
        seconds = round(sum(phases.values()), 3)
        switched = switched or any((item.phase, item.outcome) == ("switch", "ok") for item in lines)
        detail = {"receipt": summary, "switched": switched}
        result = self._write(opened, journal.RESULT, outcome, seconds, message, detail)
        deployment.close(self.settings.deployment)
        self._closed.append((opened, result))
        held.end_lease()
        return message

    def _write(
        self,
        opened: Deployment,
        phase: str,
        outcome: str,
        seconds: float,
        message: str,
        detail: dict[str, Any] | None = None,
    ) -> journal.Entry:
        """Add to the journal. A full disk must keep nobody from undoing what filled it."""
        entry = journal.Entry(
            deployment=opened.id,
            action=opened.action,
            phase=phase,
            outcome=outcome,
            release=opened.release,
            tag=opened.tag,
            sha=opened.sha,
            owner=opened.owner,
            live=slots.live_release(self.settings),
            seconds=seconds,
            message=message,
            at=journal.now(),
            detail={"from": opened.from_release, **(detail or {})},
        )
        try:
            journal.append(self.settings.journal, entry)
        except OSError as error:
            self.report.note(f"{self.settings.journal} could not be written: {error.strerror}")
        return entry

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Afterwards, whatever came of it, tell the Logbook what was closed: last of all, and with the lock free."""
        try:
            yield
        finally:
            closed, self._closed = self._closed, []
            self._tell(lambda: logbook.end(self.settings, closed))

    def _tell(self, tell: Callable[[], str]) -> None:
        """No trouble with the Logbook is one of the deployment's."""
        try:
            note = tell()
        except Exception as error:
            note = f"The Logbook was not told: {_explain(error)[0]}"
        if note:
            self.report.note(note)

    def recover(self, held: lock.Lock) -> str:
        """Bring an interrupted deployment to one end: the old release before the rename, the new one after it."""
        opened = deployment.load(self.settings.deployment)
        live = slots.live_slot(self.settings)
        if opened is None:
            idle = slots.other(live)
            if live is not None and systemd.state(self.settings.app, idle).active != "inactive":
                systemd.stop(self.settings.app, idle)
                return f"{idle} was running without taking traffic and was stopped."
            return ""
        if opened.state == deployment.REVERTING:
            self.undo(held, opened, "reverted", "its undoing was interrupted")
            return f"The interrupted undoing of the {opened.action} of {opened.version} was finished."
        if live == opened.to_slot:
            self.finish(held, opened)
            return f"The interrupted {opened.action} of {opened.version} had switched and was finished."
        self.undo(held, opened, "reverted", "interrupted before the switch")
        return f"The interrupted {opened.action} of {opened.version} had not switched and was undone."


def _explain(error: Exception) -> tuple[str, str]:
    """A sentence about what ended a phase, and the evidence; a mistake of our own comes with its traceback."""
    if isinstance(error, SlipwayError):
        return str(error), error.detail
    if isinstance(error, OSError):
        return f"{error.filename or 'The system'}: {error.strerror or error}.", ""
    return f"{type(error).__name__}: {error}.", "".join(traceback.format_exception(error))
