"""Ending a deployment that was interrupted by a kill, a lost connection, or a reboot of the host.

If it was interrupted before the rename of the `live` link, it is undone; after it, it is finished. In a run for several
hosts no host decides that alone: until the controller has run `finish`, the old release stays live.
"""

from __future__ import annotations

from slipway.deployment import steps
from slipway.deployment.run import Run
from slipway.records import phases
from slipway.slot import background, cutover, slots, standby, systemd


def recover(run: Run, *, at_boot: bool = False) -> str:
    """Finish or undo an interrupted deployment; a sentence that says what was done, or "" if nothing was.

    No slot stays paused by mistake: the live slot is continued, and the other one is either wholly on standby or
    stopped.
    """
    repaired = standby.repair(run.settings)
    return f"{repaired} {_end(run, at_boot)}".strip()


def _end(run: Run, at_boot: bool) -> str:
    found = run.deployment
    live = slots.live_slot(run.settings)
    if found is None:
        return _stop_idle(run, live)
    # With `overlap: none` clients wait at the new slot before it is ready.
    switched = live == found.to_slot and found.state not in (phases.OPENED, phases.STAGED, phases.MIGRATED)
    if found.state == phases.REVERTING:
        run.undo("reverted", "interrupted while it was being undone")
        return f"The {found.action} of {found.version} was interrupted while it was being undone, and is undone now."
    if found.fleet and found.state != phases.FINISHING:
        if at_boot:
            return _suspend(run)
        run.undo("reverted", "interrupted on one of several hosts")
        return f"The {found.action} of {found.version} on several hosts was interrupted, and is undone here now."
    if switched:
        steps.finish(run)
        return f"The {found.action} of {found.version} was interrupted after the switch, and is finished now."
    run.undo("reverted", "interrupted before the switch")
    return f"The {found.action} of {found.version} was interrupted before the switch, and is undone now."


def _stop_idle(run: Run, live: str | None) -> str:
    """Stop a slot that runs without taking traffic and is not on standby."""
    idle = slots.other(live)
    background.stop(run.settings, idle)
    if live is None or standby.is_kept(run.settings, idle):
        return ""
    if systemd.state(run.settings.app, idle).active == "inactive":
        return ""
    run.not_woken = standby.problem(run.settings, idle)
    standby.end(run.settings, idle)
    if run.not_woken:
        return f"{idle} was on standby and was stopped: {run.not_woken}."
    return f"{idle} ran without taking traffic and was stopped."


def _suspend(run: Run) -> str:
    """Make the old release live, and leave the deployment open for the controller's next run."""
    found = run.current
    run.advance(phases.SUSPENDED)
    if run.settings.overlap == "none":
        standby.end(run.settings, found.to_slot)
    if slots.live_slot(run.settings) == found.to_slot:
        release = run.release_before()
        cutover.go_back(run.settings, found.from_slot, release.sha if release else None)
    standby.end(run.settings, found.to_slot)
    return (
        f"The {found.action} of {found.version} on several hosts ({', '.join(found.fleet)}) was interrupted. "
        f"{found.from_release or 'No release'} is live here until deploy.yml or rollback.yml is run again."
    )
