"""The engine: opens deployments, takes them through their phases, and finishes or undoes what was interrupted.

Every public method of `Engine` is one command. Each holds the app's lock while it works; between commands the
lease says whose deployment it is. A phase that fails undoes its deployment before it raises.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway import (
    cutover,
    deployment,
    git,
    journal,
    lock,
    manifest,
    migrate,
    releases,
    slots,
    stage,
    systemd,
    versions,
    watch,
)
from slipway.config import Settings
from slipway.deployment import Deployment
from slipway.errors import FailedError, RefusedError, SlipwayError
from slipway.output import Reporter

Result = dict[str, Any]

# A phase of a run that died goes on in its unit; whoever takes over waits for it to end by itself.
_TAKEOVER_WAIT = 180.0


@dataclass(frozen=True)
class Request:
    """Which release is wanted, by whom."""

    sha: str = ""
    tag: str | None = None
    owner: str = "root"
    force: bool = False
    superseded: tuple[str, ...] = ()

    @property
    def release(self) -> str:
        return versions.release_name(self.tag, self.sha)

    @property
    def version(self) -> str:
        return self.tag or self.sha[:12]


@dataclass
class Step:
    """What a phase reports when it ends well."""

    message: str = ""
    skipped: bool = False


class Engine:
    """The phases of one app's releases on this host."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self.settings = settings
        self.report = reporter

    # Opening

    def stage(self, request: Request, bundle: Path | None) -> Result:
        """Open a deploy and build its release; `changed` is False when it is live already and nothing differs."""
        with self._exclusive(request) as held:
            self._check_policy(request)
            cutover.check_environment(self.settings)
            if reason := self._nothing_to_do(request):
                return {"changed": False, "action": "nothing", "message": reason, "release": request.release}
            stage.check_space(self.settings)
            self._obtain(request, bundle)
            opened = self._open(held, "deploy", request)
            with self._phase(held, opened, "stage") as step:
                already = manifest.read(self.settings.release(opened.release)) is not None
                made = stage.build(self.settings, opened.release, opened.tag, opened.sha)
                self._check_database(made)
                step.skipped, step.message = (
                    already,
                    f"{opened.release}{' is here already' if already else ''}",
                )
            deployment.advance(self.settings.deployment, opened, deployment.STAGED)
            return {"changed": True, "action": "deploy", "message": step.message, "release": opened.release}

    def open_rollback(self, request: Request) -> Result:
        """Open a rollback to an earlier release (by default the one before the live one), rebuilding it if pruned."""
        with self._exclusive(request) as held:
            target = self.rollback_target(request)
            if target.release == slots.live_release(self.settings):
                message = f"{target.version} is live already."
                return {"changed": False, "action": "nothing", "message": message, "release": target.release}
            self._check_signature(target)
            cutover.check_environment(self.settings)
            known = manifest.read(self.settings.release(target.release))
            if known is None:
                stage.check_space(self.settings)
            opened = self._open(held, "rollback", target)
            with self._phase(held, opened, "stage") as step:
                made = stage.build(self.settings, opened.release, opened.tag, opened.sha)
                step.skipped = known is not None
                step.message = self._schema_note(made)
            deployment.advance(self.settings.deployment, opened, deployment.STAGED)
            return {"changed": True, "action": "rollback", "message": step.message, **_identity(opened)}

    def rollback_target(self, request: Request) -> Request:
        """The release to return to; RefusedError when there is none, or it was never live here."""
        entries = journal.read(self.settings.journal)
        if request.tag or request.sha:
            found = journal.find(entries, request.tag, request.sha or None)
            if found is None:
                known = ", ".join(item.tag or item.sha[:12] for item in reversed(journal.deployed(entries)[-5:]))
                raise RefusedError(
                    f"{request.version} was never live on this host, so there is no going back to it "
                    f"(was live: {known or 'nothing'}). Use deploy.yml for it."
                )
        else:
            live = slots.live_release(self.settings)
            found = journal.previous(entries, live) if live else None
            if found is None:
                raise RefusedError("There is no release before the live one to go back to.")
        return Request(found.sha, found.tag, request.owner, request.force)

    # Phases of the open deployment

    def migrate(self, owner: str | None) -> Result:
        """Bring the database to the release's head; skipped when it is there already."""
        with self._resume(owner, deployment.STAGED) as (held, opened):
            message = ""
            with self._phase(held, opened, "migrate") as step:
                message = migrate.upgrade(self.settings, self._manifest(opened))
                step.skipped, step.message = not message, message or "the database is at this release's head"
            deployment.advance(self.settings.deployment, opened, deployment.MIGRATED)
            return {"changed": bool(message), "message": step.message, **_identity(opened)}

    def warm(self, owner: str | None) -> Result:
        """Start the release in the idle slot and pass the gate."""
        with self._resume(owner, deployment.STAGED, deployment.MIGRATED) as (held, opened):
            with self._phase(held, opened, "warm") as step:
                step.message = cutover.warm(self.settings, opened.to_slot, self._manifest(opened))
            deployment.advance(self.settings.deployment, opened, deployment.WARM)
            return {"changed": True, "message": step.message, **_identity(opened)}

    def switch(self, owner: str | None) -> Result:
        """Send traffic to the new release."""
        with self._resume(owner, deployment.WARM) as (held, opened):
            with self._phase(held, opened, "switch") as step:
                cutover.pass_gate(self.settings, opened.to_slot, opened.sha)  # it may have died since it was warm
                slots.switch(self.settings, opened.to_slot)
                step.message = f"{opened.to_slot} takes traffic: {opened.version}"
            deployment.advance(self.settings.deployment, opened, deployment.SWITCHED)
            return {"changed": True, "message": step.message, **_identity(opened)}

    def settle(self, owner: str | None) -> Result:
        """Watch the new release, drain and stop the old slot, prune, and close the deployment."""
        with self._resume(owner, deployment.SWITCHED) as (held, opened):
            with self._phase(held, opened, "watch") as step:
                tally, reason = watch.watch(self.settings, opened.sha)
                if reason:
                    raise FailedError(f"{opened.version} took traffic, but {reason}.")
                step.message = f"{tally.requests} requests, {tally.errors} server errors"
            seconds = self._finish(held, opened)
            message = f"{opened.version} is live after {seconds:.1f} s of work on this host."
            return {"changed": True, "message": message, "seconds": seconds, **_identity(opened)}

    def revert(self, owner: str | None) -> Result:
        """Undo the open deployment, from whatever phase it is in; nothing when none of `owner`'s is open."""
        opened = deployment.load(self.settings.deployment)
        if opened is None or (owner is not None and opened.owner != owner):
            return {"changed": False, "message": "Nothing had been changed here."}
        with self._exclusive_phase(owner) as held:
            message = self._undo(held, opened, "reverted", "undone by request")
            return {"changed": True, "message": message, **_identity(opened)}

    # Commands that are whole

    def deploy(self, request: Request, bundle: Path | None) -> Result:
        """All phases in a row, on this host alone."""
        opened = self.stage(request, bundle)
        if not opened["changed"]:
            return opened
        self.migrate(request.owner)
        return self._cut_over(request.owner)

    def rollback(self, request: Request) -> Result:
        """A release that was live before takes traffic again; the schema stays as it is."""
        opened = self.open_rollback(request)
        return self._cut_over(request.owner) if opened["changed"] else opened

    def recover(self) -> Result:
        """Finish or undo an interrupted deployment, and make sure that the live slot runs and the other does not."""
        with lock.hold(self.settings.lock, self.settings.app, wait=_TAKEOVER_WAIT) as held:
            message = self._recover(held)
            live = slots.live_slot(self.settings)
            if live is None:
                return {"changed": bool(message), "message": message or "Nothing is live yet."}
            started = systemd.state(self.settings.app, live).active not in ("active", "activating")
            if started:
                systemd.start(self.settings.app, live)
            note = f"{live} was started." if started else f"{live} runs."
            return {"changed": bool(message) or started, "message": f"{message} {note}".strip()}

    def prune(self) -> Result:
        """Delete releases beyond `keep_releases`, and what interrupted runs left."""
        with lock.hold(self.settings.lock, self.settings.app):
            opened = deployment.load(self.settings.deployment)
            gone = releases.prune(self.settings, target=opened.release if opened else None)
            message = f"deleted {', '.join(gone)}" if gone else "nothing to delete"
            return {"changed": bool(gone), "message": message, "deleted": gone}

    def plan(self, request: Request) -> Result:
        """What `stage` would do, without doing any of it; refuses what it can tell that `stage` would refuse."""
        self._check_policy(request)
        cutover.check_environment(self.settings)
        reason = self._nothing_to_do(request)
        live_name = slots.live_release(self.settings)
        live = manifest.read(self.settings.release(live_name)) if live_name else None
        known = journal.deployed(journal.read(self.settings.journal))
        return {
            "changed": False,
            "action": "nothing" if reason else "deploy",
            "message": reason or f"{request.version} would be deployed.",
            "live": {"tag": live.tag, "sha": live.sha, "release": live.release} if live else None,
            "known": sorted({entry.sha for entry in known}),
            "have_commit": self._has_commit(request),
            "staged": manifest.read(self.settings.release(request.release)) is not None,
        }

    # Inside

    def _cut_over(self, owner: str) -> Result:
        self.warm(owner)
        self.switch(owner)
        return self.settle(owner)

    @contextlib.contextmanager
    def _exclusive(self, request: Request) -> Iterator[lock.Lock]:
        """The lock for a new deployment; one that its owner left open is finished or undone first."""
        wait = _TAKEOVER_WAIT if request.superseded else 0
        with lock.hold(self.settings.lock, self.settings.app, wait) as held:
            lease = held.lease()
            if lease and lease.is_held_against(request.owner, request.superseded, lock.clock()):
                raise lock.busy(self.settings.app, lease)
            if message := self._recover(held):
                self.report.note(message)
            yield held

    @contextlib.contextmanager
    def _exclusive_phase(self, owner: str | None) -> Iterator[lock.Lock]:
        """The lock for a phase of a deployment that is open; `owner` None is whoever opened it."""
        with lock.hold(self.settings.lock, self.settings.app) as held:
            lease = held.lease()
            if lease and owner is not None and lease.is_held_against(owner, (), lock.clock()):
                raise lock.busy(self.settings.app, lease)
            yield held

    @contextlib.contextmanager
    def _resume(self, owner: str | None, *states: str) -> Iterator[tuple[lock.Lock, Deployment]]:
        """The open deployment, when it has come as far as one of `states`."""
        with self._exclusive_phase(owner) as held:
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
    def _phase(self, held: lock.Lock, opened: Deployment, name: str) -> Iterator[Step]:
        """Time a phase, write it down, and undo the deployment when it fails."""
        held.renew(opened.owner, opened.id, name, opened.version, self.settings.lease_seconds)
        started = time.monotonic()
        step = Step()
        try:
            yield step
        except SlipwayError as error:
            self._record(opened, name, "failed", started, str(error))
            self.report.phase(name, "failed", _elapsed(started), str(error))
            undone = self._undo(held, opened, "failed", str(error))
            raise FailedError(f"{error} {undone}", error.detail) from error
        outcome = "skipped" if step.skipped else "ok"
        self._record(opened, name, outcome, started, step.message)
        self.report.phase(name, outcome, _elapsed(started), step.message)
        held.renew(opened.owner, opened.id, name, opened.version, self.settings.lease_seconds)

    def _record(self, opened: Deployment, phase: str, outcome: str, started: float | None, message: str) -> None:
        journal.append(
            self.settings.journal,
            journal.Entry(
                deployment=opened.id,
                action=opened.action,
                phase=phase,
                outcome=outcome,
                release=opened.release,
                tag=opened.tag,
                sha=opened.sha,
                owner=opened.owner,
                live=slots.live_release(self.settings),
                seconds=_elapsed(started) if started is not None else 0.0,
                message=message,
                at=journal.now(),
            ),
        )

    def _open(self, held: lock.Lock, action: str, request: Request) -> Deployment:
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
        )
        held.renew(opened.owner, opened.id, "stage", opened.version, self.settings.lease_seconds)
        deployment.save(self.settings.deployment, opened)
        return opened

    def _finish(self, held: lock.Lock, opened: Deployment) -> float:
        """After the switch: drain, close as succeeded, prune; seconds that all phases took."""
        with self._phase_after_switch(opened, "drain") as step:
            if opened.from_slot is not None:
                step.message = cutover.drain_and_stop(self.settings, opened.from_slot)
            else:
                step.skipped, step.message = True, "no release was live before"
        seconds = self._close(held, opened, "succeeded", f"{opened.version} is live")
        with self._phase_after_switch(opened, "prune") as step:
            gone = releases.prune(self.settings)
            step.skipped, step.message = (
                not gone,
                f"deleted {', '.join(gone)}" if gone else "nothing to delete",
            )
        return seconds

    @contextlib.contextmanager
    def _phase_after_switch(self, opened: Deployment, name: str) -> Iterator[Step]:
        """Like `_phase`, but the new release has proved itself: a failure is reported and undoes nothing."""
        started = time.monotonic()
        step = Step()
        try:
            yield step
        except (SlipwayError, OSError) as error:
            self._record(opened, name, "failed", started, str(error))
            self.report.phase(name, "failed", _elapsed(started), str(error))
            return
        outcome = "skipped" if step.skipped else "ok"
        self._record(opened, name, outcome, started, step.message)
        self.report.phase(name, outcome, _elapsed(started), step.message)

    def _undo(self, held: lock.Lock, opened: Deployment, outcome: str, reason: str) -> str:
        """Make the release that was live before serve alone, and close; a sentence that says what serves."""
        message = ""
        if slots.live_slot(self.settings) == opened.to_slot:
            release = manifest.read(self.settings.release(opened.from_release)) if opened.from_release else None
            message = cutover.go_back(self.settings, opened.from_slot, release.sha if release else None)
            cutover.drain(self.settings, opened.to_slot)
        systemd.stop(self.settings.app, opened.to_slot)
        self._close(held, opened, outcome, reason)
        serving = slots.live_release(self.settings)
        return f"{serving} serves as before." if serving else f"{message or 'nothing is live'}.".capitalize()

    def _close(self, held: lock.Lock, opened: Deployment, outcome: str, message: str) -> float:
        """Write the result line, end the lease; seconds that the deployment's phases took together."""
        lines = journal.read(self.settings.journal)
        seconds = sum(item.seconds for item in lines if item.deployment == opened.id)
        journal.append(
            self.settings.journal,
            journal.Entry(
                deployment=opened.id,
                action=opened.action,
                phase=journal.RESULT,
                outcome=outcome,
                release=opened.release,
                tag=opened.tag,
                sha=opened.sha,
                owner=opened.owner,
                live=slots.live_release(self.settings),
                seconds=round(seconds, 3),
                message=message,
                at=journal.now(),
                detail={"from": opened.from_release},
            ),
        )
        deployment.close(self.settings.deployment)
        held.end_lease()
        return seconds

    def _recover(self, held: lock.Lock) -> str:
        """Bring an interrupted deployment to one end: the old release before the rename, the new one after it."""
        opened = deployment.load(self.settings.deployment)
        live = slots.live_slot(self.settings)
        if opened is None:
            idle = slots.other(live)
            if live is not None and systemd.state(self.settings.app, idle).active != "inactive":
                systemd.stop(self.settings.app, idle)
                return f"{idle} was running without taking traffic and was stopped."
            return ""
        if live == opened.to_slot:
            self._finish(held, opened)
            return f"The interrupted {opened.action} of {opened.version} had switched and was finished."
        self._undo(held, opened, "reverted", "interrupted before the switch")
        return f"The interrupted {opened.action} of {opened.version} had not switched and was undone."

    def _check_policy(self, request: Request) -> None:
        if self.settings.accept != "commits" and request.tag is None:
            raise RefusedError(
                f"{self.settings.environment} deploys tags only (accept: {self.settings.accept}); "
                f"tag commit {request.sha[:12]} and deploy the tag."
            )
        if request.tag is not None and not versions.is_tag(request.tag):
            raise RefusedError(f"'{request.tag}' cannot be a tag.")
        if not git.is_sha(request.sha):
            raise RefusedError(f"'{request.sha}' is not a full commit; pass the 40 hex digits.")
        self._check_movement(request)

    def _check_movement(self, request: Request) -> None:
        if request.tag is None or request.force:
            return
        entries = journal.read(self.settings.journal)
        if was := journal.moved_from(entries, request.tag, request.sha):
            raise RefusedError(
                f"The tag {request.tag} was commit {was[:12]} when it was deployed and is {request.sha[:12]} now. "
                "Make a new tag, or pass -e force=true if it was moved on purpose."
            )

    def _check_signature(self, request: Request) -> None:
        if self.settings.accept == "signed-tags":
            if request.tag is None:
                raise RefusedError(f"{request.version} has no tag, and {self.settings.environment} takes signed tags.")
            signers = Path(self.settings.allowed_signers)
            git.verify_signature(stage.repository(self.settings), request.tag, signers)

    def _check_database(self, made: manifest.Manifest) -> None:
        """A database that does not answer fails the deploy while nothing has been touched."""
        if made.revisions is not None:
            migrate.pending(self.settings, made)

    def _obtain(self, request: Request, bundle: Path | None) -> None:
        """The commit, and for a tag its tag object as the source has it now, in the host's mirror."""
        if bundle is not None:
            stage.receive(self.settings, bundle, request.sha)
            bundle.unlink()
        if not self._has_commit(request):
            raise RefusedError(f"{request.version} ({request.sha[:12]}) is not on this host; pass it with --bundle.")
        self._check_signature(request)

    def _has_commit(self, request: Request) -> bool:
        mirror = stage.repository(self.settings)
        return mirror.has(request.sha) and (
            request.tag is None or mirror.commit(f"refs/tags/{request.tag}") == request.sha
        )

    def _nothing_to_do(self, request: Request) -> str:
        """Why a deploy of the request would change nothing; "" when it would."""
        live = slots.live_slot(self.settings)
        if live is None or request.force or slots.live_release(self.settings) != request.release:
            return ""
        if slots.inputs_changed(self.settings, live):
            return ""
        if systemd.state(self.settings.app, live).active != "active":
            return ""
        return f"{request.version} is live already, with the same settings."

    def _manifest(self, opened: Deployment) -> manifest.Manifest:
        found = manifest.read(self.settings.release(opened.release))
        if found is None:
            raise FailedError(f"The release {opened.release} is not complete.")
        return found

    def _schema_note(self, made: manifest.Manifest) -> str:
        if made.revisions is None:
            return made.release
        current, _ = migrate.pending(self.settings, made)
        if made.knows(current):
            return made.release
        return f"{made.release}; the schema stays at {current}, which is ahead of it"


def _identity(opened: Deployment) -> Result:
    return {
        "action": opened.action,
        "release": opened.release,
        "tag": opened.tag,
        "sha": opened.sha,
        "version": opened.version,
        "from": opened.from_release,
    }


def _elapsed(started: float) -> float:
    return round(time.monotonic() - started, 3)
