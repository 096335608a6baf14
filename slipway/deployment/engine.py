"""The engine's commands. Each public method of `Engine` is one of them; it takes the app's lock at most once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from slipway.base.errors import FailedError
from slipway.base.output import Reporter
from slipway.base.settings import Settings
from slipway.deployment import lock, preflight, recovery, steps
from slipway.deployment.results import Plan, Progress, Pruned, Result, Rotated, progress
from slipway.deployment.run import Found, Observer, Run
from slipway.records import deployment as record
from slipway.records import journal, manifest, phases
from slipway.records.deployment import Deployment, Request
from slipway.release import build, fit, kept, store
from slipway.schema import migrate, roles
from slipway.slot import background, cutover, secrets, slots, standby, systemd

_STANDBY_WAIT = 3600.0  # seconds that the command `end-standby` waits for a running phase, such as a migration


class Engine:
    """The commands for one app on this host. `observers` are notified of each deployment."""

    def __init__(self, settings: Settings, reporter: Reporter, observers: Sequence[Observer] = ()) -> None:
        self.settings = settings
        self.report = reporter
        self.observers = observers

    # Deploy

    def plan(self, request: Request, *, brief: bool = False) -> Plan:
        """What `stage` would do, without doing it. Refuses what `stage` would refuse, as far as that can be checked.

        With `brief` the checks of the host are left out, as the command that follows does them.
        """
        preflight.check_request(self.settings, request)
        reason = preflight.nothing_to_do(self.settings, request)
        revision = None if reason or brief else preflight.check_host(self.settings)
        name = slots.live_release(self.settings)
        live = manifest.read(self.settings.release(name)) if name else None
        known = journal.deployed(journal.read(self.settings.journal))
        return Plan(
            message=reason or f"{request.version} would be deployed.",
            needed=not reason,
            release=request.release,
            live={"tag": live.tag, "sha": live.sha, "release": live.release} if live else None,
            known=sorted({entry.sha for entry in known}),
            needs_bundle=preflight.needs_bundle(self.settings, request),
            revision=revision,
            migrations="" if self.settings.database == "none" else migrate.stays(self.settings),
        )

    def stage(self, request: Request, bundle: Path | None) -> Progress:
        """Open a deploy and build its release. Opens nothing if it is live already with the same settings."""
        with self._sent(bundle) as received, self._new(request) as run:
            return self._stage(run, request, received)

    def deploy(self, request: Request, bundle: Path | None) -> Progress:
        """All phases of a deploy in order, for a run with one host."""
        with contextlib.ExitStack() as sent:
            received = sent.enter_context(self._sent(bundle))
            with self._new(request) as run:
                staged = self._stage(run, request, received)
                sent.close()  # deletes the bundle: a kill in a later phase must not leave it behind
                return self._cut_over(run) if staged.open else staged

    def _stage(self, run: Run, request: Request, bundle: Path | None) -> Progress:
        preflight.check_request(self.settings, request)
        if reason := preflight.nothing_to_do(self.settings, request):
            return Progress(reason, changed=bool(run.recovered), release=request.release)
        preflight.check_host(self.settings)
        wanted = bundle if preflight.needs_bundle(self.settings, request) else None
        build.obtain(self.settings, request.sha, request.tag, wanted)
        preflight.check_signature(self.settings, request)
        run.open("deploy", request)
        found = steps.take(run, "stage")
        return progress(run.current, found.message)

    # Rollback

    def plan_rollback(self, request: Request, version: str = "", *, allow_data_loss: bool = False) -> Progress:
        """What `rollback` would do, without doing it. Refuses what `rollback` would refuse."""
        target = preflight.rollback_target(
            self.settings, request, version or self._repeated(record.load(self.settings.deployment))
        )
        if message := self._already_live(target, version):
            return Progress(message, release=target.release)
        known = manifest.read(self.settings.release(target.release))
        found = preflight.check_schema(self.settings, known, allow_data_loss) if known is not None else None
        back = found.goes_back_from if found is not None else None
        schema = f", after a dump and a downgrade from {back}" if back is not None else ""
        return Progress(f"{target.version} would be live again{schema}.", open=True, release=target.release)

    def open_rollback(self, request: Request, version: str = "", *, allow_data_loss: bool = False) -> Progress:
        """Open a rollback to an earlier release, and build it again if it was pruned.

        `version` is a tag or a commit. Without one it is the release before the live one, or, right after another
        rollback, the release of that rollback. RefusedError when the release cannot run on the database's schema,
        unless `allow_data_loss` allows the schema to be downgraded with it (see the phase `migrate`).
        """
        with self._new(request) as run:
            return self._open_rollback(run, request, version, allow_data_loss)

    def rollback(self, request: Request, version: str = "", *, allow_data_loss: bool = False) -> Progress:
        """Send traffic to a release that was live before. The schema stays, unless `allow_data_loss` is set."""
        with self._new(request) as run:
            opened = self._open_rollback(run, request, version, allow_data_loss)
            return self._cut_over(run) if opened.open else opened

    def _open_rollback(self, run: Run, request: Request, version: str, allow_data_loss: bool) -> Progress:
        target = preflight.rollback_target(self.settings, request, version or self._repeated(run.interrupted))
        if message := self._already_live(target, version):
            return Progress(message, changed=bool(run.recovered), release=target.release)
        preflight.check_signature(self.settings, target)
        cutover.check_environment(self.settings)
        known = manifest.read(self.settings.release(target.release))
        if known is None:
            build.check_space(self.settings)
            schema = preflight.Schema()
        else:
            schema = preflight.check_schema(self.settings, known, allow_data_loss)
        reason = ""
        if known is not None and not standby.is_kept(self.settings, slots.other(slots.live_slot(self.settings))):
            reason = fit.misfit(self.settings, known)  # one on standby runs already
        run.open("rollback", target, schema.goes_back_from)
        with run.phase("stage") as step:
            found = run.current
            made = build.build(self.settings, found.release, found.tag, found.sha, again=bool(reason))
            kept.restore(self.settings)
            if known is None:  # which schema it can run on is known only after it was built
                schema = preflight.check_schema(self.settings, made, allow_data_loss)
                run.put(schema_from=schema.goes_back_from)
            run.put(remark=steps.rebuilt(made, reason))
            note = f"{self._schema_note(made, schema)} {run.current.remark}".rstrip()
            step.found = Found(note, skipped=known is not None and not reason)
        return progress(run.current, step.found.message)

    def _repeated(self, interrupted: Deployment | None) -> str:
        """The commit of the rollback that was interrupted, or that was the last deployment to succeed here; else "".

        An operator who has not seen a rollback succeed may run it again. That must not go back one release more.
        """
        if interrupted is not None:
            return interrupted.sha if interrupted.action == "rollback" else ""
        for last in journal.results(journal.read(self.settings.journal), 1):
            if (last.action, last.outcome) == ("rollback", "succeeded"):
                return last.sha
        return ""

    def _already_live(self, target: Request, version: str) -> str:
        """Why a rollback to `target` has nothing to do, where `version` is what was typed; "" if it has."""
        if target.release != slots.live_release(self.settings):
            return ""
        if version:
            return f"{target.version} is live already."
        return f"{target.version} is live already, after the last rollback. To go further back, pass the version."

    def _schema_note(self, made: manifest.Manifest, schema: preflight.Schema) -> str:
        if self.settings.database == "none":
            return made.release
        if reason := migrate.stays(self.settings):
            return f"{made.release}; the schema stays as it is, as {reason}"
        if made.revisions is None or made.knows(schema.revision):
            return made.release
        how = "has to be downgraded from" if schema.must_go_back else "stays at"
        return f"{made.release}; the schema {how} {schema.revision}, which is ahead of it"

    # Phases of the open deployment. Each is a command of its own when a run is for several hosts.

    def phase(self, name: str, owner: str | None, superseded: tuple[str, ...] = (), *, later: bool = False) -> Progress:
        """Run one phase of the open deployment. `owner` None: the deployment of any owner.

        `later`: in the same run another host has done it before, which matters where both have one database.
        """
        with self._open(owner, superseded) as run:
            run.check_state(owner, *phases.row(name).follows)
            run.is_later = later
            found = steps.take(run, name)
            return progress(run.current, found.message, changed=not found.skipped and name != "watch")

    def finish(self, owner: str | None, superseded: tuple[str, ...] = ()) -> Progress:
        """Watch the new release unless that was done before, drain the old slot, close the deployment, prune."""
        with self._open(owner, superseded) as run:
            run.check_state(owner, phases.SWITCHED, phases.WATCHED, phases.FINISHING)
            return self._finish(run)

    def cut_over(self, owner: str | None, superseded: tuple[str, ...] = ()) -> Progress:
        """All phases after `stage`, for a run with one host."""
        with self._open(owner, superseded) as run:
            run.check_state(owner, phases.STAGED, phases.MIGRATED)
            return self._cut_over(run)

    def revert(self, owner: str | None, superseded: tuple[str, ...] = ()) -> Progress:
        """Undo the open deployment, in any state. Does nothing when no deployment of `owner` is open."""
        with self._open(owner, superseded) as run:
            found = run.deployment
            if found is None or (owner is not None and found.owner != owner):
                return Progress("There is nothing to undo here.")
            return progress(found, run.undo("reverted", "undone by request"))

    def _cut_over(self, run: Run) -> Progress:
        """Run each phase after `stage` in order. If the client has disconnected before the switch, undo instead."""
        for row in phases.TABLE:
            if row.command in ("stage", "finish") or run.current.state not in row.follows:
                continue
            if row.name == "migrate" and run.current.action == "rollback" and run.current.schema_from is None:
                continue  # the schema stays
            if row.name == "switch" and not self.report.has_client:
                undone = run.undo("reverted", "the client disconnected before the switch")
                raise FailedError(f"The client disconnected before the switch. {undone}")
            steps.take(run, row.name)
        return self._finish(run)

    def _finish(self, run: Run) -> Progress:
        if run.current.state == phases.SWITCHED:
            steps.take(run, "watch")
        finished = run.current
        return progress(finished, steps.finish(run))

    # Housekeeping

    def recover(self) -> Result:
        """Finish or undo an interrupted deployment. Make sure that the live slot runs and the other one does not."""
        message, started = "", False
        try:
            with Run.hold(self.settings, self.report, self.observers, lock.TAKEOVER_WAIT) as run:
                try:
                    message = recovery.recover(run, at_boot=True)
                finally:  # inside of the block: at its end observers are notified, which may take seconds
                    started = self._start_live()
                    background.reconcile(self.settings)
        finally:  # also when that failed: the slot that `live` points at must run
            started = self._start_live() or started
        live = slots.live_slot(self.settings)
        if live is None:
            return Result(message or "Nothing is live yet.", changed=bool(message))
        note = f"{live} was started." if started else f"{live} runs."
        return Result(f"{message} {note}".strip(), changed=bool(message) or started)

    def prune(self) -> Pruned:
        """Delete releases beyond `keep_releases`, and files that interrupted runs left behind."""
        with Run.hold(self.settings, self.report, self.observers) as run:
            gone = store.prune(self.settings, target=run.deployment.release if run.deployment else None)
            message = f"deleted {', '.join(gone)}" if gone else "nothing to delete"
            return Pruned(message, changed=bool(gone), deleted=gone)

    def end_standby(self) -> Result:
        """Stop the slot on standby if its time is over (a timer runs this)."""
        with Run.hold(self.settings, self.report, self.observers, _STANDBY_WAIT) as run:
            if run.deployment is not None:
                return Result("A deployment is open. It stops the standby or uses it.")
            found = standby.load(self.settings)
            if found is None or not standby.is_over(found):
                return Result("There is no standby whose time is over.")
            if found.slot == slots.live_slot(self.settings):
                return Result(standby.repair(self.settings) or f"{found.slot} takes traffic.", changed=True)
            standby.end(self.settings, found.slot)
            return Result(f"{found.version} in {found.slot} was on standby and is stopped.", changed=True)

    def generate(self) -> Result:
        """Make the values of variables that the host is to make and does not have yet."""
        with lock.hold(self.settings.lock, self.settings.app):
            made = secrets.complete(self.settings)
            given = roles.give_passwords(self.settings)
        done = [*(f"made {name}" for name in made), *(f"gave {role} its password" for role in given)]
        return Result(", ".join(done) or "nothing to make", changed=bool(done))

    def rotate(self, name: str) -> Rotated:
        """Make the value of such a variable anew; what is live goes on with the one before until it is deployed."""
        with lock.hold(self.settings.lock, self.settings.app):
            changed = secrets.rotate(self.settings, name)
        release = slots.live_release(self.settings)
        found = manifest.read(self.settings.release(release)) if release else None
        return Rotated(
            f"{name} has a new value." if changed else f"{name} was rotated before, and is not live yet.",
            changed=changed,
            live={"sha": found.sha, "tag": found.tag} if found is not None else None,
        )

    # Inside

    def _start_live(self) -> bool:
        """Start the slot that `live` points at; False when it runs already, or nothing is live."""
        live = slots.live_slot(self.settings)
        if live is None or systemd.state(self.settings.app, live).is_up:
            return False
        standby.forget(self.settings, live)
        systemd.start(self.settings.app, live)
        return True

    def _sent(self, bundle: Path | None) -> AbstractContextManager[Path | None]:
        return build.incoming(self.settings, bundle) if bundle is not None else nullcontext()

    @contextlib.contextmanager
    def _new(self, request: Request) -> Iterator[Run]:
        """Take the lock for a new deployment, and first finish or undo one that was left open."""
        wait = lock.TAKEOVER_WAIT if request.superseded else 0
        with Run.hold(self.settings, self.report, self.observers, wait) as run:
            run.check_lease(request.owner, request.superseded)
            run.claim(request)  # now, so that the error message of a second run names this one
            store.adopt(self.settings)
            run.recovered = recovery.recover(run)
            if run.recovered:
                self.report.note(run.recovered)
                run.claim(request)
            try:
                yield run
            finally:
                if run.deployment is None:
                    run.lock.end_lease()

    @contextlib.contextmanager
    def _open(self, owner: str | None, superseded: tuple[str, ...]) -> Iterator[Run]:
        """Take the lock for a phase of the open deployment."""
        wait = lock.TAKEOVER_WAIT if superseded else 0
        with Run.hold(self.settings, self.report, self.observers, wait) as run:
            if owner is not None:
                run.check_lease(owner, superseded)
            yield run
