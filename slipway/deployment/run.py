"""The run of one command for an app: it holds the lock and writes the record, the journal and the result.

A phase that fails undoes its deployment before it raises. An interrupted deployment is ended by the next command, or at
boot (see `recovery`).
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from slipway.base import crash, files
from slipway.base.errors import FailedError, RefusedError, SlipwayError
from slipway.base.output import Reporter
from slipway.base.redact import redact
from slipway.base.settings import Settings
from slipway.deployment import lock
from slipway.records import deployment as record
from slipway.records import journal, manifest, phases, receipt
from slipway.records.deployment import Deployment, Request
from slipway.records.manifest import Manifest
from slipway.release import store
from slipway.schema import migrate
from slipway.slot import background, cutover, envfile, slots, standby, systemd, watch


class Observer(Protocol):
    """An object that is notified of deployments. Each method returns a note for the operator, or "".

    A deployment goes on in the same way when an observer fails.
    """

    def opened(self, deployment: Deployment) -> str: ...

    def phase(self, deployment: Deployment, name: str, outcome: str, seconds: float, message: str) -> str: ...

    def closed(self, deployment: Deployment, entry: journal.Entry) -> str:
        """Called after the app's lock is free; `entry` is the line of the journal with the result."""
        ...

    def wait(self) -> str:
        """Called when the command ends, after the app's lock is free: finish pending work within a few seconds."""
        ...


@dataclass(frozen=True)
class Found:
    """The outcome of a phase: a sentence, whether there was nothing to do, and details that only the journal gets."""

    message: str = ""
    skipped: bool = False
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass
class Step:
    """A phase that is running. It puts its outcome here when it succeeds."""

    found: Found = field(default_factory=Found)


class Run:
    """The lock of an app, while it is held, and the open deployment, if there is one."""

    def __init__(
        self, settings: Settings, report: Reporter, observers: Sequence[Observer], app_lock: lock.Lock
    ) -> None:
        self.settings = settings
        self.report = report
        self.lock = app_lock
        self.deployment = record.load(settings.deployment)
        self.interrupted = self.deployment  # as it was found; `recovery` ends it before another one is opened
        self.ready_at: float | None = None  # when the release has passed its gate in this command (monotonic clock)
        self.not_woken = ""  # why `recovery` has stopped the slot that was on standby
        self.recovered = ""  # what `recovery` did, as a sentence
        self.is_later = False  # whether another host of this run has gone through the phase before
        self.forced = False  # whether the operator insists on this release
        self._observers = observers
        self._closed: list[tuple[Deployment, journal.Entry]] = []  # to be passed to observers once the lock is free

    @classmethod
    @contextlib.contextmanager
    def hold(
        cls, settings: Settings, report: Reporter, observers: Sequence[Observer], wait: float = 0
    ) -> Iterator[Run]:
        """Take the app's lock, waiting for it like `lock.hold`, and remove temporary files that killed runs left.

        FailedError when the client disconnected during the wait: its next attempt may have been started already.
        """
        run: Run | None = None
        try:
            with lock.hold(settings.lock, settings.app, wait) as app_lock:
                for directory in (settings.root, settings.backups, *map(settings.slot, slots.NAMES)):
                    files.sweep(directory)
                store.sweep_bundles(settings)
                if app_lock.waited and not report.has_client_after("The lock is free.", lock.CLIENT_SECONDS):
                    raise FailedError(lock.DISCONNECTED)
                run = cls(settings, report, observers, app_lock)
                yield run
        finally:
            if run is not None:
                run._notify_closed()

    # The deployment that is open

    @property
    def current(self) -> Deployment:
        """The open deployment; RefusedError when there is none."""
        if self.deployment is None:
            raise RefusedError(
                f"No deployment of {self.settings.app} is open: it has finished or was undone. Run deploy.yml again."
            )
        return self.deployment

    def check_lease(self, owner: str, superseded: tuple[str, ...] = ()) -> None:
        """LockedError when a deployment of another owner is open and its lease has not ended."""
        lease = self.lock.lease()
        if lease is None or self.deployment is None:
            return  # with no open deployment only the kernel lock counts, and this process holds it
        if lease.is_held_against(owner, superseded, lock.clock()):
            raise lock.busy(self.settings.app, self.settings.lock, lease)

    def check_state(self, owner: str | None, *states: str) -> None:
        """RefusedError unless the open deployment belongs to `owner` (None: to anyone) and is in one of `states`."""
        found = self.current
        if owner is not None and found.owner != owner:
            raise RefusedError(
                f"The open deployment of {self.settings.app} now belongs to {found.owner}, not to {owner}."
            )
        if found.state not in states:
            raise RefusedError(
                f"The deployment of {found.version} is {found.state}; this phase needs it to be {' or '.join(states)}."
            )

    def claim(self, request: Request) -> None:
        """Write the owner of this run into the lease, before a deployment is open."""
        self.lock.renew(request.owner, "", "stage", request.version, self.settings.lease_seconds)

    def open(self, action: str, request: Request, schema_from: str | None = None) -> None:
        """Open a deployment from what is live now to the release of `request`."""
        self.forced = request.force
        live = slots.live_slot(self.settings)
        self.deployment = Deployment(
            id=record.new_id(),
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
            fleet=request.fleet,
        )
        self._renew("stage")
        record.save(self.settings.deployment, self.deployment)
        opened = self.deployment
        self._notify(lambda observer: observer.opened(opened))

    def put(self, **changes: Any) -> None:
        """Change fields of the record. They are written to disk with the next state."""
        self.deployment = replace(self.current, **changes)

    def advance(self, state: str) -> None:
        """Record on disk that the deployment has reached a state."""
        self.put(state=state)
        record.save(self.settings.deployment, self.current)

    def release_before(self) -> Manifest | None:
        """The release that was live when the deployment was opened."""
        name = self.current.from_release
        return manifest.read(self.settings.release(name)) if name else None

    # Phases

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[Step]:
        """Run a phase: renew the lease, write the journal, advance the record. Undo the deployment when it fails."""
        self._renew(name)
        started = time.monotonic()
        step = Step()
        try:
            yield step
        except Exception as error:
            reason, evidence = explain(error)
            reason = redact(reason, envfile.all_of(self.settings))  # an answer of the app may be a part of it
            self._end_phase(self.current, name, "failed", started, Found(reason))
            try:
                undone = self.undo("failed", reason)
            except SlipwayError as second:
                undone = f"It could not be undone: {second} Run `slipway revert {self.settings.app}` to try again."
            raise FailedError(f"{reason} {undone}", evidence) from error
        self._end_phase(self.current, name, "skipped" if step.found.skipped else "ok", started, step.found)
        self.advance(phases.row(name).leads_to)
        self._renew(name)

    @contextlib.contextmanager
    def last_phase(self, name: str, deployment: Deployment) -> Iterator[Step]:
        """Run a phase after the new release has passed its watch: a failure is reported, and nothing is undone."""
        started = time.monotonic()
        step = Step()
        try:
            yield step
        except Exception as error:
            self._end_phase(deployment, name, "failed", started, Found(explain(error)[0]))
            return
        self._end_phase(deployment, name, "skipped" if step.found.skipped else "ok", started, step.found)

    @contextlib.contextmanager
    def observing(self, *shas: str) -> Iterator[None]:
        """Probe the site and count the clients' requests while the block runs, and add both to the receipt."""
        tally = watch.Tally()
        try:
            with watch.probing(self.settings, shas, self.current.receipt.log) as tally:
                yield
        finally:
            self.count(tally)

    def count(self, tally: watch.Tally) -> None:
        """Add a tally to the receipt."""
        self.put(receipt=tally.added_to(self.current.receipt))

    # Ends

    def undo(self, outcome: str, reason: str) -> str:
        """Send traffic back to the release before, and close the deployment; a sentence that says what is live."""
        self.put(state=phases.REVERTING)
        with contextlib.suppress(OSError):  # a full disk must not prevent the undoing
            record.save(self.settings.deployment, self.current)
        message = cut = schema = ""
        if self.current.schema_from is not None:
            schema = migrate.restore(self.settings, self.current.schema_from)
        switched = slots.live_slot(self.settings) == self.current.to_slot
        alone = self._runs_alone()
        if alone:
            standby.end(self.settings, self.current.to_slot)
        if switched or alone:
            release = self.release_before()
            message = cutover.go_back(self.settings, self.current.from_slot, release.sha if release else None)
            _, left = cutover.drain(self.settings, self.current.to_slot)
            self.put(receipt=replace(self.current.receipt, cut=left.total))
            cut = f"{left.total} connection(s) to {self.current.version} were cut." if left.total else ""
        # The release before the live one may be on standby there still, when this ended before `start`.
        if switched or not standby.is_kept(self.settings, self.current.to_slot):
            standby.end(self.settings, self.current.to_slot)
        cutover.end_guard(self.settings)
        self.settle_processes()
        self.close(outcome, f"{reason} {cut}".strip(), switched=switched)
        serves = self._what_serves() or f"{message or 'nothing is live'}.".capitalize()
        return " ".join(part for part in (schema, serves, cut) if part)

    def settle_processes(self, stopped: str | None = None) -> None:
        """Let the processes of what is live run, and those of the slot `stopped` end. A failure is only reported.

        What serves does so all the same.
        """
        try:
            background.reconcile(self.settings)
            if stopped is not None:
                background.stop(self.settings, stopped)
        except SlipwayError as error:
            self.report.note(f"The processes of {self.settings.app} are not as they should be: {error}")

    def _runs_alone(self) -> bool:
        """Whether the slot before was stopped to make way for the new one, and is to be started again."""
        before = self.current.from_slot
        if self.settings.overlap != "none" or before is None:
            return False
        return not systemd.state(self.settings.app, before).is_up

    def _what_serves(self) -> str:
        """A sentence about the live release, which is asked whether it is ready; "" when none is live."""
        serving, slot = slots.live_release(self.settings), slots.live_slot(self.settings)
        if serving is None or slot is None:
            return ""
        problem = cutover.why_no_answer(self.settings, slot)
        return f"{serving} is live, but not ready ({problem})." if problem else f"{serving} serves as before."

    def close(self, outcome: str, message: str = "", *, switched: bool = False) -> str:
        """Write the result line with the receipt and end the lease; returns `message`, or the receipt as a sentence."""
        closed = self.current
        written = journal.read(self.settings.journal)
        # Observers may write lines of their own, which are not phases.
        lines = [item for item in written if item.deployment == closed.id and item.phase in phases.NAMES]
        seconds: dict[str, float] = {}
        for item in lines:
            seconds[item.phase] = round(seconds.get(item.phase, 0) + item.seconds, 3)
        summary = closed.receipt.summary(seconds)
        before = self.release_before()
        message = message or receipt.sentence(summary, before.version if before else None, closed.version)
        message = f"{message} {closed.remark}".rstrip()
        switched = switched or any((item.phase, item.outcome) == ("switch", "ok") for item in lines)
        detail = {"receipt": summary, "switched": switched}
        total = round(sum(seconds.values()), 3)
        result = self._write(closed, journal.RESULT, outcome, total, Found(message, detail=detail))
        record.close(self.settings.deployment)
        self.deployment = None
        self._closed.append((closed, result))
        self.lock.end_lease()
        return message

    # Inside

    def _renew(self, phase: str) -> None:
        found = self.current
        self.lock.renew(found.owner, found.id, phase, found.version, self.settings.lease_seconds)

    def _end_phase(self, deployment: Deployment, name: str, outcome: str, started: float, found: Found) -> None:
        """Write a phase that began at `started` to the journal, and report it."""
        seconds = round(time.monotonic() - started, 3)
        self._write(deployment, name, outcome, seconds, found)
        self.report.phase(name, outcome, seconds, found.message)
        self._notify(lambda observer: observer.phase(deployment, name, outcome, seconds, found.message))

    def _write(self, deployment: Deployment, phase: str, outcome: str, seconds: float, found: Found) -> journal.Entry:
        """Add a line to the journal. A failure is only reported: a full disk must not prevent the undoing."""
        entry = journal.Entry(
            deployment=deployment.id,
            action=deployment.action,
            phase=phase,
            outcome=outcome,
            release=deployment.release,
            tag=deployment.tag,
            sha=deployment.sha,
            owner=deployment.owner,
            live=slots.live_release(self.settings),
            seconds=seconds,
            message=found.message,
            at=journal.now(),
            detail={"from": deployment.from_release, **found.detail},
        )
        try:
            journal.append(self.settings.journal, entry)
        except OSError as error:
            self.report.note(f"{self.settings.journal} could not be written: {error.strerror}")
        return entry

    def _notify_closed(self) -> None:
        closed, self._closed = self._closed, []
        for deployment, entry in closed:
            self._notify(functools.partial(_closed, deployment, entry))
        self._notify(lambda observer: observer.wait())

    def _notify(self, event: Callable[[Observer], str]) -> None:
        """Pass an event to each observer, and report its note."""
        for observer in self._observers:
            try:
                note = event(observer)
            except Exception as error:
                note = f"{type(observer).__name__} failed: {explain(error)[0]}"
            if note:
                self.report.note(note)


def _closed(deployment: Deployment, entry: journal.Entry, observer: Observer) -> str:
    return observer.closed(deployment, entry)


def explain(error: Exception) -> tuple[str, str]:
    """A sentence about the error that ended a phase, and its detail."""
    if isinstance(error, SlipwayError):
        return str(error), error.detail
    if isinstance(error, OSError):
        return f"{error.filename or 'The system'}: {error.strerror or type(error).__name__}.", ""
    return crash.explain(error), ""
