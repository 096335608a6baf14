"""Hooks of the app's owner: commands and webhooks that are run when a deployment opens, switches and closes.

They run one after another in a thread of their own, so that none holds up a deployment. The end of a command waits for
them, but not for long. Each leaves a line in the journal. No failure of theirs is one of the deployment.
"""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass

from slipway.base.settings import Settings
from slipway.observers import events, hook_command, hook_settings, webhook
from slipway.observers.events import Event
from slipway.observers.hook_settings import Hook
from slipway.records import journal
from slipway.records.deployment import Deployment

PATIENCE = 15.0  # seconds that one run of slipway waits for all of its hooks
_TO_END = 1.0  # of these, for ending what is given up


@dataclass(frozen=True)
class _Job:
    """One hook that is to run for one event. `unit` is the name of its unit, when it is a command."""

    hook: Hook
    deployment: Deployment
    event: Event
    unit: str


class Hooks:
    """Observes the deployments of one app. Each method returns a note for the operator, or ""."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hooks: list[Hook] | None = None  # None: the file was not read yet
        self._changed = threading.Condition()  # guards all of the following
        self._jobs: list[_Job] = []  # the first one is running
        self._failures: list[str] = []
        self._give_up_at = math.inf

    def opened(self, deployment: Deployment) -> str:
        """Queue the hooks of `opened`."""
        return self._queue(deployment, events.OPENED)

    def phase(self, deployment: Deployment, name: str, outcome: str, *_: object) -> str:
        """Queue the hooks of `switched`, when the switch was made."""
        return self._queue(deployment, events.SWITCHED) if (name, outcome) == ("switch", "ok") else ""

    def closed(self, deployment: Deployment, entry: journal.Entry) -> str:
        """Queue the hooks of `closed`."""
        return self._queue(deployment, events.CLOSED, entry)

    def wait(self) -> str:
        """Wait for what is queued, for PATIENCE seconds at most, and end what is not done then; a note of what failed.

        The end of the process would cut off a hook that is still running.
        """
        with self._changed:
            self._give_up_at = time.monotonic() + PATIENCE - min(_TO_END, PATIENCE / 2)
            if self._changed.wait_for(lambda: not self._jobs, PATIENCE):
                self._give_up_at = math.inf
            failures = [*self._failures, *(f"{_title(job)} was given up" for job in self._jobs)]
            self._failures = []
        return f"Hooks that failed: {'; '.join(failures)}." if failures else ""

    def _queue(self, deployment: Deployment, name: str, entry: journal.Entry | None = None) -> str:
        notes: list[str] = []
        if self._hooks is None:
            self._hooks, notes = hook_settings.load(self._settings.hooks_file)
        chosen = [(number, hook) for number, hook in enumerate(self._hooks, 1) if name in hook.on]
        if chosen:
            event = events.event(self._settings, deployment, name, entry)
            unit = f"slipway-hook-{self._settings.app}-{deployment.id}-{name}"
            with self._changed:
                is_idle = not self._jobs
                self._jobs += [_Job(hook, deployment, event, f"{unit}-{number}") for number, hook in chosen]
            if is_idle:
                threading.Thread(target=self._work, daemon=True).start()
        return " ".join(notes)

    def _work(self) -> None:
        """Run what is queued, in its order, and end."""
        while True:
            job = self._jobs[0]
            failure = self._run(job)
            with self._changed:
                if failure:
                    self._failures.append(failure)
                self._jobs.pop(0)
                self._changed.notify_all()
                if not self._jobs:
                    return

    def _run(self, job: _Job) -> str:
        """Run one hook and write down how it ended; what failed, or ""."""
        started = time.monotonic()

        def left() -> float:
            return min(started + job.hook.timeout, self._give_up_at) - time.monotonic()

        try:
            done = _call(job, left) if left() > 0 else None
        except Exception as error:  # whatever it is: the next hook is to run
            done = False, f"failed: {type(error).__name__}"
        seconds = time.monotonic() - started
        if done is None:
            late = f"did not end within {job.hook.timeout:g} s"
            too_late = f"was given up: a run waits {PATIENCE:g} s for its hooks"
            done = False, late if seconds >= job.hook.timeout else too_late
        succeeded, said = done
        message = f"{_title(job)} {said}"
        problem = self._record(job, "ok" if succeeded else "failed", seconds, message)
        return "; ".join(filter(None, ["" if succeeded else message, problem]))

    def _record(self, job: _Job, outcome: str, seconds: float, message: str) -> str:
        """Add a line to the journal; why not, or ""."""
        deployment = job.deployment
        entry = journal.Entry(
            deployment=deployment.id,
            action=deployment.action,
            phase=journal.HOOK,
            outcome=outcome,
            release=deployment.release,
            tag=deployment.tag,
            sha=deployment.sha,
            owner=deployment.owner,
            seconds=round(seconds, 3),
            message=message,
            at=journal.now(),
            detail={"event": job.event["event"]},
        )
        try:
            journal.append(self._settings.journal, entry)
        except Exception as error:
            return f"{self._settings.journal} could not be written ({type(error).__name__})"
        return ""


def _title(job: _Job) -> str:
    return f"{job.event['event']}: {job.hook.name}"


def _call(job: _Job, left: webhook.Left) -> tuple[bool, str] | None:
    """Whether the hook succeeded, and how it ended in words; None when there was no time."""
    hook, event = job.hook, job.event
    if hook.url:
        return webhook.post(hook.url, events.body(event, hook.format), left)
    variables = {
        "SLIPWAY_EVENT": event["event"],
        "SLIPWAY_APP": event["app"],
        "SLIPWAY_VERSION": event["version"],
        "SLIPWAY_OUTCOME": event.get("outcome", ""),
    }
    return hook_command.run(job.unit, hook.command, json.dumps(event).encode(), variables, hook.timeout, left)
