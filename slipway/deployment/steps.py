"""The phases of an open deployment: one function for each row of the table in `slipway.records.phases`."""

from __future__ import annotations

import contextlib
import time
from contextlib import nullcontext
from dataclasses import replace

from slipway.base.errors import FailedError
from slipway.deployment.run import Found, Run
from slipway.records import manifest, phases
from slipway.records.manifest import Manifest
from slipway.release import build, fit, kept, store
from slipway.schema import commands, database
from slipway.schema import migrate as migrations
from slipway.slot import background, cutover, envfile, slots, standby
from slipway.slot import watch as watching

_FRESH = 0.5  # seconds in which the last passing of the gate still counts


def take(run: Run, name: str) -> Found:
    """Run one phase of the open deployment; FailedError, with the deployment undone, when it fails."""
    with run.phase(name) as step:
        step.found = _FUNCTIONS[name](run)
    return step.found


def stage(run: Run) -> Found:
    """Build the release, unless it is built already and fits this host."""
    wanted = run.current
    present = manifest.read(run.settings.release(wanted.release))
    reason = fit.misfit(run.settings, present) if present is not None else ""
    made = build.build(run.settings, wanted.release, wanted.tag, wanted.sha, again=bool(reason))
    kept.restore(run.settings)
    _check_migrations(run, made)
    commands.check(run.settings, made)
    if present is None or reason:
        run.put(remark=f"{rebuilt(made, reason)} {without(made.left_out, run.settings.app)}".strip())
        return Found(run.current.remark or wanted.release)
    return Found(f"{wanted.release} is here already", skipped=True)


def rebuilt(release: Manifest, reason: str) -> str:
    """What to say of a release that was built again because it did not fit this host; "" without a reason."""
    return f"{release.release} was built again, as {reason}." if reason else ""


def without(left_out: list[str], app: str) -> str:
    """What to say of files with variables that a commit has and its release has not; "" without any."""
    if not left_out:
        return ""
    more = f" and {len(left_out) - 3} more" if left_out[3:] else ""
    return (
        f"{', '.join(left_out[:3])}{more} of the commit {'is' if len(left_out) == 1 else 'are'} not in the release: "
        f"variables come from apps.{app}.env. If there are secrets in it, change them, as the repository has them."
    )


def _check_migrations(run: Run, release: Manifest) -> None:
    """FailedError when the live release has migrations and the new one has none: somebody has lost them."""
    before = run.release_before()
    if run.settings.migrates != "alembic" or run.forced or release.revisions or before is None or not before.revisions:
        return
    where = "alembic finds no configuration" if release.revisions is None else "alembic finds no script"
    raise FailedError(
        f"{release.version} has no migrations ({where}), but {before.version}, which is live, has "
        f"{len(before.revisions)}, the last of them {', '.join(before.heads)}. Check that alembic's configuration and "
        "its directory of versions are committed and that .gitattributes does not leave them out (export-ignore); or "
        "pass -e force=true if the app has no migrations any more."
    )


def migrate(run: Run) -> Found:
    """Migrate the database to the release's head. In a rollback that may lose data, dump and downgrade it instead."""
    release = _release(run)
    if run.current.action == "rollback":
        if run.current.schema_from is None:
            return Found("the schema stays", skipped=True)
        return Found(migrations.downgrade(run.settings, release))
    detail = {"heads": release.heads}
    is_done = run.is_later and commands.is_done_elsewhere(run.settings)
    reason = migrations.nothing_to_run(run.settings, release)
    if not reason and is_done and not run.settings.knows_revision:
        reason = "the first host of this run has migrated the database"
    done = reason or _upgrade(run, release)
    if run.settings.after_migrate and not is_done:
        return Found(f"{done}; {commands.after_migrations(run.settings, release)}", detail=detail)
    return Found(done, skipped=bool(reason), detail=detail)


def start(run: Run) -> Found:
    """Start the release in the idle slot and pass the gate."""
    release = _release(run)
    slot = run.current.to_slot
    if run.current.action == "rollback":  # the release may be on standby, and older than the setting `auth_check`
        message = cutover.wake_or_start(run.settings, slot, release, _database(run, release), run.not_woken)
    else:
        message = cutover.start(run.settings, slot, release)
        message += cutover.check_authentication(run.settings, slot, release)
    run.ready_at = time.monotonic()
    return Found(message)


def switch(run: Run) -> Found:
    """Send traffic to the new release."""
    wanted = run.current
    before = run.release_before()
    # Before the first release is live nothing can answer a probe.
    with run.observing(before.sha, wanted.sha) if before else nullcontext():
        if not _was_just_woken(run):
            cutover.pass_gate(run.settings, wanted.to_slot, wanted.sha)  # it may have crashed since it was ready
        slots.switch(run.settings, wanted.to_slot)
        cutover.end_guard(run.settings)
    return Found(f"{wanted.to_slot} takes traffic: {wanted.version}")


def _was_just_woken(run: Run) -> bool:
    """The slot has passed its gate just now, and its main process is still stopped: no worker can be replaced."""
    fresh = run.ready_at is not None and time.monotonic() - run.ready_at < _FRESH
    return fresh and standby.is_waking(run.settings, run.current.to_slot)


def watch(run: Run) -> Found:
    """Watch the new release under traffic; FailedError when it is over its budget, or a process of it has crashed."""
    woken = ""
    if run.current.action == "rollback":
        with run.observing(run.current.sha):
            woken = standby.wake_main(run.settings, run.current.to_slot)
    started = _start_processes(run)
    since = time.monotonic()
    tally, reason = watching.watch(run.settings, run.current.sha, run.current.receipt.log)
    run.count(tally)
    if reason:
        raise FailedError(f"{run.current.version} took traffic, but {reason}.")
    beside = _check_processes(run, started, since)
    return Found(f"{tally.requests} requests, {tally.errors} server errors{woken and f'; {woken}'}{beside}")


def _start_processes(run: Run) -> list[str]:
    """Let the processes of the release that takes traffic run, and no others; the units that were started."""
    if not background.is_used(run.settings):
        return []
    with run.observing(run.current.sha):
        return background.reconcile(run.settings)


def _check_processes(run: Run, started: list[str], since: float) -> str:
    """What to say of the processes that were started. A deploy of which one has crashed fails.

    A rollback does not: an older release may not have it, and going back matters more.
    """
    reason, log = background.failure(run.settings, started, since)
    if reason and run.current.action == "rollback":
        return f"; {reason}"
    if reason:
        raise FailedError(f"{run.current.version} took traffic, but {reason}.", log)
    return f"; {len(started)} process(es) started" if started else ""


def finish(run: Run) -> str:
    """Drain the old slot and pause or stop it, close the deployment as succeeded, prune; the receipt as a sentence."""
    with contextlib.suppress(OSError):  # a full disk must not keep the old slot running
        run.advance(phases.FINISHING)  # from now on the new release stays live, also after an interruption
    with run.last_phase("drain", run.current) as step:
        step.found = _drain(run)
    finished = run.current
    message = run.close("succeeded")
    with run.last_phase("prune", finished) as step:
        gone = store.prune(run.settings)
        step.found = Found(f"deleted {', '.join(gone)}" if gone else "nothing to delete", skipped=not gone)
    return message


_FUNCTIONS = {"stage": stage, "migrate": migrate, "start": start, "switch": switch, "watch": watch}


def _drain(run: Run) -> Found:
    """Wait until the old slot has no connection left; put it on standby or stop it. The receipt counts what was cut."""
    slot, sha = run.current.from_slot, run.current.sha
    if slot is None:
        run.settle_processes()
        return Found("no release was live before", skipped=True)
    if run.settings.overlap == "none":
        run.settle_processes(stopped=slot)
        standby.end(run.settings, slot)
        return Found(f"{slot} was stopped before the start, as overlap is none")
    with run.observing(sha):
        waited, left = cutover.drain(run.settings, slot)
        run.settle_processes(stopped=slot)
    errors = run.current.receipt.errors
    if not left.total:
        before = run.release_before()
        patience = max(0.0, run.settings.drain_seconds - waited)
        with run.observing(sha):
            kept = cutover.pause_or_stop(run.settings, slot, before, patience, _database(run, before))
        return Found(f"{slot} drained in {waited:.1f} s; {kept}")
    with run.observing(sha):
        standby.end(run.settings, slot)
    counted = run.current.receipt
    run.put(receipt=replace(counted, cut=left.total, cut_errors=counted.errors - errors))
    deadline = f"{run.settings.drain_seconds:g} s"
    return Found(f"{slot} stopped at the deadline of {deadline}, {left.total} connection(s) cut")


def _upgrade(run: Run, release: Manifest) -> str:
    """Run the pending migrations, and check that the live release is still ready on the new schema."""
    live, slot = run.release_before(), run.current.from_slot
    if live is None or slot is None:
        return migrations.upgrade(run.settings, release)
    stops = run.settings.on_incompatible == "stop"
    head = ",".join(release.heads) or None
    found = release.breaking(live, head)
    if found is not None and stops:
        raise FailedError(
            f"{migrations.breaks(found, live)} It is live, so nothing was migrated. First deploy a version that has "
            f"{found.oldest_compatible} but not {found.revision}, or set on_incompatible: continue."
        )
    was_ready = not cutover.why_not_ready(run.settings, slot, live.sha)
    done = migrations.upgrade(run.settings, release)
    problem = cutover.why_not_ready(run.settings, slot, live.sha) if was_ready else ""
    if problem and stops:
        raise FailedError(
            f"The schema is {f'at {head}' if head else 'another one'} now, and {live.version}, which is live, is not "
            f"ready on it: {problem}. "
            f"Run deploy.yml again to deploy {run.current.version}, or set on_incompatible: continue."
        )
    return f"{done}; {live.version} is not ready on it ({problem}), the deploy goes on" if problem else done


def _database(run: Run, release: Manifest | None) -> standby.Database | None:
    """How PostgreSQL is asked about the connections of a release; None for an app without it or alembic."""
    uses_none = release is None or (release.revisions is None and run.settings.migrates == "alembic")
    if uses_none or run.settings.database != "postgresql":
        return None
    environment = envfile.of_migrations(run.settings)
    return standby.Database(
        lambda: database.server(run.settings, environment), database.port(run.settings, environment)
    )


def _release(run: Run) -> Manifest:
    found = manifest.read(run.settings.release(run.current.release))
    if found is None:
        raise FailedError(f"The release {run.current.release} is not complete.")
    return found
