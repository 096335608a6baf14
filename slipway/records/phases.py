"""The phases of a deployment, in order: the one table that the command line, the play, the receipt and the docs use.

A phase is carried out by the function of its name in `slipway/deployment/steps.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

# How far a deployment has come.
OPENED, STAGED, MIGRATED, STARTED = "opened", "staged", "migrated", "started"
SWITCHED, WATCHED, FINISHING = "switched", "watched", "finishing"
# It is being undone, from whatever state it was in.
REVERTING = "reverting"
# The host was restarted while a deployment of several hosts was open: the old release serves until the next run.
SUSPENDED = "suspended"


@dataclass(frozen=True)
class Phase:
    """One row: how a phase is called, when it may run, and where it runs."""

    name: str  # in the journal, in receipts and on the page
    command: str  # of the command line, that runs it on its own; several phases may share one
    follows: tuple[str, ...]  # states that it may follow
    leads_to: str  # the state that it ends in
    outlives_client: bool  # it touches a running service, so it runs in a transient unit
    does: str  # a sentence for help and docs

    @property
    def is_before_live(self) -> bool:
        """Whether the new release does not take traffic before this phase has ended."""
        return self.leads_to in (OPENED, STAGED, MIGRATED, STARTED, SWITCHED)


TABLE = (
    Phase("stage", "stage", (OPENED,), STAGED, False, "Build the release beside the live one."),
    Phase(
        "migrate", "migrate", (STAGED,), MIGRATED, True,
        "Bring the database to the head of the release, or, in a rollback that may lose data, back to it.",
    ),
    Phase(
        "start", "start", (STAGED, MIGRATED), STARTED, True,
        "Start the release in the idle slot and wait until every worker is ready.",
    ),
    Phase("switch", "switch", (STARTED,), SWITCHED, True, "Send traffic to the new release."),
    Phase("watch", "watch", (SWITCHED,), WATCHED, True, "Watch the new release under traffic."),
    Phase(
        "drain", "finish", (WATCHED, FINISHING), FINISHING, True,
        "Wait until the old slot has no connection left, then put it on standby or stop it.",
    ),
    Phase("prune", "finish", (FINISHING,), FINISHING, True, "Delete releases beyond the number to keep."),
)  # fmt: skip

# What older versions called a phase, a state or a command; their journals and commands are still read.
RENAMED_PHASES = {"warm": "start"}
RENAMED_STATES = {"warm": STARTED}
RENAMED_COMMANDS = {"warm": "start", "settle": "finish", "tell": "report"}

BEFORE_LIVE = tuple(row.name for row in TABLE if row.is_before_live)
# On several hosts each of these ends everywhere before the next one begins anywhere.
ON_SEVERAL_HOSTS = tuple(dict.fromkeys(row.command for row in TABLE if row.command != "stage"))
# Commands that belong to the owner of a deployment: each takes what a controller says of the owner.
OWNED = ("stage", "deploy", *ON_SEVERAL_HOSTS, "cut-over", "revert", "rollback")


def row(name: str) -> Phase:
    """The phase of that name; KeyError when there is none."""
    return {item.name: item for item in TABLE}[name]


def of_command(command: str) -> tuple[Phase, ...]:
    """The phases that a command runs, in order."""
    return tuple(item for item in TABLE if item.command == command)
