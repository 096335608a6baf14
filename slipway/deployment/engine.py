"""The engine's commands: each public method of `Engine` is one of them, and returns the fields of its result."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from slipway.base.errors import FailedError, RefusedError
from slipway.base.output import Reporter
from slipway.base.settings import Settings
from slipway.deployment import lock, preflight
from slipway.deployment.run import Session
from slipway.records import deployment, journal, manifest
from slipway.records.deployment import Deployment, Request
from slipway.release import build, store
from slipway.schema import migrate
from slipway.slot import cutover, slots, systemd, watch

Result = dict[str, Any]


class Engine:
    """The phases of one app's releases on this host."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self.settings = settings
        self.session = Session(settings, reporter)

    # Opening

    def stage(self, request: Request, bundle: Path | None) -> Result:
        """Open a deploy and build its release; `changed` is False when it is live already and nothing differs."""
        sent = build.incoming(self.settings, bundle) if bundle is not None else nullcontext()
        with sent as received, self.session.exclusive(request) as (held, recovered):
            preflight.check_request(self.settings, request)
            if reason := preflight.nothing_to_do(self.settings, request):
                return {"changed": bool(recovered), "action": "nothing", "message": reason, "release": request.release}
            preflight.check_host(self.settings)
            self._obtain(request, received)
            opened = self.session.open(held, "deploy", request)
            with self.session.phase(held, opened, "stage") as step:
                already = manifest.read(self.settings.release(opened.release)) is not None
                build.build(self.settings, opened.release, opened.tag, opened.sha)
                step.skipped = already
                step.message = f"{opened.release}{' is here already' if already else ''}"
            deployment.advance(self.settings.deployment, opened, deployment.STAGED)
            return {"changed": True, "action": "deploy", "message": step.message, "release": opened.release}

    def open_rollback(self, request: Request, version: str = "", *, allow_data_loss: bool = False) -> Result:
        """Open a rollback to an earlier release, rebuilding it if pruned.

        `version` is a tag or a commit; without one it is the release before the live one, or, right after another
        rollback, the one that this went to. RefusedError when the release cannot run on the database's schema,
        unless `allow_data_loss` says that the schema may go back with it (see `migrate`).
        """
        again = self._rollback_before()  # asked before an open one is ended
        with self.session.exclusive(request) as (held, recovered):
            target = preflight.rollback_target(self.settings, request, version or again)
            if message := self._already_live(target, version):
                result = {"action": "nothing", "message": message, "release": target.release}
                return {"changed": bool(recovered), **result}
            preflight.check_signature(self.settings, target)
            cutover.check_environment(self.settings)
            known = manifest.read(self.settings.release(target.release))
            schema_from = None
            if known is None:
                build.check_space(self.settings)
            else:
                schema_from = preflight.check_schema(self.settings, known, allow_data_loss)
            opened = self.session.open(held, "rollback", target, schema_from)
            with self.session.phase(held, opened, "stage") as step:
                made = build.build(self.settings, opened.release, opened.tag, opened.sha)
                if known is None:  # what it can run on is known only now
                    opened = replace(opened, schema_from=preflight.check_schema(self.settings, made, allow_data_loss))
                step.skipped = known is not None
                step.message = self._schema_note(made, opened)
            deployment.advance(self.settings.deployment, opened, deployment.STAGED)
            return {"changed": True, "message": step.message, **_identity(opened)}

    def plan_rollback(self, request: Request, version: str = "", *, allow_data_loss: bool = False) -> Result:
        """Where `open_rollback` would go, without going there; refuses what that would refuse."""
        target = preflight.rollback_target(self.settings, request, version or self._rollback_before())
        if message := self._already_live(target, version):
            return {"changed": False, "action": "nothing", "message": message, "release": target.release}
        known = manifest.read(self.settings.release(target.release))
        back = preflight.check_schema(self.settings, known, allow_data_loss) if known is not None else None
        schema = f", after a dump and a downgrade from {back}" if back is not None else ""
        message = f"{target.version} would be live again{schema}."
        return {"changed": False, "message": message, "release": target.release}

    def _rollback_before(self) -> str:
        """The commit of a rollback that is open, or that was the last thing to succeed here; else "".

        Whoever asks again without a version may not have seen the first one end, and must not be taken further back.
        """
        opened = deployment.load(self.settings.deployment)
        if opened is not None:
            return opened.sha if opened.action == "rollback" else ""
        for last in journal.results(journal.read(self.settings.journal), 1):
            if (last.action, last.outcome) == ("rollback", "succeeded"):
                return last.sha
        return ""

    def _already_live(self, target: Request, version: str) -> str:
        """Why a rollback to `target` has nothing to do, when `version` was asked for; "" when it has."""
        if target.release != slots.live_release(self.settings):
            return ""
        if version:
            return f"{target.version} is live already."
        return f"{target.version} is live already, by the last rollback. To go further back, name the version."

    # Phases of the open deployment

    def migrate(self, owner: str | None) -> Result:
        """Bring the database to the release's head; skipped when it is there already.

        Of a rollback that may lose data, to a release that cannot run on the schema: dump it and take it back.
        """
        with self.session.resume(owner, deployment.STAGED) as (held, opened):
            release = self._manifest(opened)
            with self.session.phase(held, opened, "migrate") as step:
                if opened.action == "rollback":
                    step.skipped = opened.schema_from is None
                    step.message = "the schema stays" if step.skipped else migrate.downgrade(self.settings, release)
                else:
                    step.detail = {"heads": release.heads}
                    step.message = migrate.nothing_to_run(self.settings, release)
                    step.skipped = bool(step.message)
                    step.message = step.message or self._upgrade(opened, release)
            deployment.advance(self.settings.deployment, opened, deployment.MIGRATED)
            return {"changed": not step.skipped, "message": step.message, **_identity(opened)}

    def warm(self, owner: str | None) -> Result:
        """Start the release in the idle slot and pass the gate."""
        with self.session.resume(owner, deployment.STAGED, deployment.MIGRATED) as (held, opened):
            release = self._manifest(opened)
            with self.session.phase(held, opened, "warm") as step:
                step.message = cutover.warm(self.settings, opened.to_slot, release)
                if opened.action == "deploy":  # what has served before may be older than what is asked of it now
                    step.message += cutover.check_authentication(self.settings, opened.to_slot, release)
            deployment.advance(self.settings.deployment, opened, deployment.WARM)
            return {"changed": True, "message": step.message, **_identity(opened)}

    def switch(self, owner: str | None) -> Result:
        """Send traffic to the new release."""
        with self.session.resume(owner, deployment.WARM) as (held, opened):
            before = self.session.release_before(opened)
            with (
                self.session.phase(held, opened, "switch") as step,
                # Before the first release there is nothing that could answer.
                watch.probing(self.settings, [before.sha, opened.sha], opened.receipt) if before else nullcontext(),
            ):
                cutover.pass_gate(self.settings, opened.to_slot, opened.sha)  # it may have died since it was warm
                slots.switch(self.settings, opened.to_slot)
                step.message = f"{opened.to_slot} takes traffic: {opened.version}"
            deployment.advance(self.settings.deployment, opened, deployment.SWITCHED)
            return {"changed": True, "message": step.message, **_identity(opened)}

    def watch(self, owner: str | None) -> Result:
        """Watch the new release under traffic; on several hosts all are watched before any stops its old slot."""
        with self.session.resume(owner, deployment.SWITCHED) as (held, opened):
            message = self._watch(held, opened)
            deployment.advance(self.settings.deployment, opened, deployment.WATCHED)
            return {"changed": False, "message": message, **_identity(opened)}

    def settle(self, owner: str | None) -> Result:
        """Watch the new release unless that is done, drain and stop the old slot, close the deployment, prune."""
        with self.session.resume(owner, deployment.SWITCHED, deployment.WATCHED) as (held, opened):
            if opened.state == deployment.SWITCHED:
                self._watch(held, opened)
            message = self.session.finish(held, opened)
            return {"changed": True, "message": message, **_identity(opened)}

    def revert(self, owner: str | None) -> Result:
        """Undo the open deployment, from whatever phase it is in; nothing when none of `owner`'s is open."""
        with self.session.exclusive_phase(owner) as held:
            opened = deployment.load(self.settings.deployment)
            if opened is None or (owner is not None and opened.owner != owner):
                return {"changed": False, "message": "There is nothing to undo here."}
            message = self.session.undo(held, opened, "reverted", "undone by request")
            return {"changed": True, "message": message, **_identity(opened)}

    # Several phases in a row

    def cut_over(self, owner: str | None) -> Result:
        """Migrate (unless that is done), warm, switch and settle, on this host alone.

        Undone before the switch when whoever asked for it has gone meanwhile.
        """
        opened = deployment.load(self.settings.deployment)
        schema_stays = opened is not None and opened.action == "rollback" and opened.schema_from is None
        if not schema_stays and (opened is None or opened.state != deployment.MIGRATED):
            self.migrate(owner)
        self.warm(owner)
        if not self.session.report.has_client:
            undone = self.revert(owner)["message"]
            raise FailedError(f"Whoever asked for the switch had gone before it. {undone}")
        self.switch(owner)
        return self.settle(owner)

    def deploy(self, request: Request, bundle: Path | None) -> Result:
        """All phases in a row, on this host alone."""
        opened = self.stage(request, bundle)
        return opened if opened["action"] == "nothing" else self.cut_over(request.owner)

    def rollback(self, request: Request, version: str = "", *, allow_data_loss: bool = False) -> Result:
        """A release that was live before takes traffic again; the schema stays as it is, unless data may be lost."""
        opened = self.open_rollback(request, version, allow_data_loss=allow_data_loss)
        return opened if opened["action"] == "nothing" else self.cut_over(request.owner)

    def recover(self) -> Result:
        """Finish or undo an interrupted deployment, and make sure that the live slot runs and the other does not."""
        with self.session.telling(), self.session.hold(lock.TAKEOVER_WAIT) as held:
            try:
                message = self.session.recover(held)
            finally:  # whatever became of that, what the link says is to serve
                live = slots.live_slot(self.settings)
                started = live is not None and not systemd.state(self.settings.app, live).is_up
                if live is not None and started:
                    systemd.start(self.settings.app, live)
            if live is None:
                return {"changed": bool(message), "message": message or "Nothing is live yet."}
            note = f"{live} was started." if started else f"{live} runs."
            return {"changed": bool(message) or started, "message": f"{message} {note}".strip()}

    def prune(self) -> Result:
        """Delete releases beyond `keep_releases`, and what interrupted runs left."""
        with self.session.hold():
            opened = deployment.load(self.settings.deployment)
            gone = store.prune(self.settings, target=opened.release if opened else None)
            message = f"deleted {', '.join(gone)}" if gone else "nothing to delete"
            return {"changed": bool(gone), "message": message, "deleted": gone}

    def plan(self, request: Request) -> Result:
        """What `stage` would do, without doing any of it; refuses what it can tell that `stage` would refuse."""
        preflight.check_request(self.settings, request)
        reason = preflight.nothing_to_do(self.settings, request)
        revision = None if reason else preflight.check_host(self.settings)
        live_name = slots.live_release(self.settings)
        live = manifest.read(self.settings.release(live_name)) if live_name else None
        known = journal.deployed(journal.read(self.settings.journal))
        return {
            "changed": False,
            "action": "nothing" if reason else "deploy",
            "message": reason or f"{request.version} would be deployed.",
            "live": {"tag": live.tag, "sha": live.sha, "release": live.release} if live else None,
            "known": sorted({entry.sha for entry in known}),
            "needs_bundle": preflight.needs_bundle(self.settings, request),
            "revision": revision,
        }

    # Inside

    def _upgrade(self, opened: Deployment, release: manifest.Manifest) -> str:
        """Run the pending migrations, and see that the release which takes traffic bears them."""
        live = self.session.release_before(opened)
        if live is None or opened.from_slot is None:
            return migrate.upgrade(self.settings, release)
        stops = self.settings.on_incompatible == "stop"
        head = release.heads[0] if release.heads else None
        found = release.breaking(live, head)
        if found is not None and stops:
            raise FailedError(
                f"{migrate.breaks(found, live)} It is live, and nothing was migrated. Deploy a version that has "
                f"{found.oldest_compatible} and not yet {found.revision}, or set on_incompatible: continue."
            )
        was_ready = not cutover.why_not_ready(self.settings, opened.from_slot, live.sha)
        done = migrate.upgrade(self.settings, release)
        problem = cutover.why_not_ready(self.settings, opened.from_slot, live.sha) if was_ready else ""
        if problem and stops:
            raise FailedError(
                f"The schema is at {head} now, and {live.version}, which takes traffic, is not ready on it: {problem}. "
                f"Run deploy.yml again to bring {opened.version} in; on_incompatible: continue does so unasked."
            )
        return f"{done}; {live.version} is not ready on it ({problem}), going on at once" if problem else done

    def _watch(self, held: lock.Lock, opened: Deployment) -> str:
        with self.session.phase(held, opened, "watch") as step:
            tally, reason = watch.watch(self.settings, opened.sha, opened.receipt)
            if reason:
                raise FailedError(f"{opened.version} took traffic, but {reason}.")
            step.message = f"{tally.requests} requests, {tally.errors} server errors"
        return step.message

    def _obtain(self, request: Request, bundle: Path | None) -> None:
        """The commit, and its tag as it may be deployed, in the host's mirror."""
        if bundle is not None and preflight.needs_bundle(self.settings, request):
            build.receive(self.settings, bundle, request.sha)
        if not preflight.has_commit(self.settings, request):
            raise RefusedError(f"{request.version} ({request.sha[:12]}) is not on this host; pass it with --bundle.")
        preflight.check_signature(self.settings, request)

    def _manifest(self, opened: Deployment) -> manifest.Manifest:
        found = manifest.read(self.settings.release(opened.release))
        if found is None:
            raise FailedError(f"The release {opened.release} is not complete.")
        return found

    def _schema_note(self, made: manifest.Manifest, opened: Deployment) -> str:
        if made.revisions is None:
            return made.release
        current, _ = migrate.pending(self.settings, made)
        if made.knows(current):
            return made.release
        how = "stays at" if opened.schema_from is None else "has to go back from"
        return f"{made.release}; the schema {how} {current}, which is ahead of it"


def _identity(opened: Deployment) -> Result:
    return {
        "action": opened.action,
        "release": opened.release,
        "tag": opened.tag,
        "sha": opened.sha,
        "version": opened.version,
        "from": opened.from_release,
        "downgrades": opened.schema_from is not None,
    }
