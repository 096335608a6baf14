"""The phases of a deployment, in order: the one table that the command line, the play, the receipt and the docs use.

A phase is carried out by the function of its name in `slipway/deployment/steps.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

# States: how far a deployment has come.
OPENED, STAGED, MIGRATED, STARTED = "opened", "staged", "migrated", "started"
SWITCHED, WATCHED, FINISHING = "switched", "watched", "finishing"
# It is being undone. That can happen in any state.
REVERTING = "reverting"
# The host booted while a deployment of several hosts was open: the old release is live until the controller's next run.
SUSPENDED = "suspended"


@dataclass(frozen=True)
class Phase:
    """One row of the table: the name of a phase, when it may run, and where it runs."""

    name: str  # in the journal, in receipts and on the page
    command: str  # the command that runs this phase; several phases may share one
    follows: tuple[str, ...]  # states in which it may run
    leads_to: str  # the state after it
    outlives_client: bool  # it touches a running service, so it runs in a transient unit
    does: str  # a sentence for help and docs

    @property
    def is_before_live(self) -> bool:
        """Whether this phase ends before the new release takes traffic, or when it does."""
        return self.leads_to in (OPENED, STAGED, MIGRATED, STARTED, SWITCHED)


TABLE = (
    Phase("stage", "stage", (OPENED,), STAGED, False, "Build the release beside the live one."),
    Phase(
        "migrate", "migrate", (STAGED,), MIGRATED, True,
        "Migrate the database to the head of the release, and run the commands that come after. In a rollback that may "
        "lose data: downgrade it to that head.",
    ),
    Phase(
        "start", "start", (STAGED, MIGRATED), STARTED, True,
        "Start the release in the idle slot and wait until every worker is ready.",
    ),
    Phase("switch", "switch", (STARTED,), SWITCHED, True, "Send traffic to the new release."),
    Phase("watch", "watch", (SWITCHED,), WATCHED, True, "Watch errors and probes of the new release under traffic."),
    Phase(
        "drain", "finish", (WATCHED, FINISHING), FINISHING, True,
        "Wait until the old slot has no connection left, then put it on standby or stop it.",
    ),
    Phase("prune", "finish", (FINISHING,), FINISHING, True, "Delete releases beyond the number to keep."),
)  # fmt: skip

# Names that older versions gave to phases, states and commands. They are still accepted.
RENAMED_PHASES = {"warm": "start"}
RENAMED_STATES = {"warm": STARTED}
RENAMED_COMMANDS = {"warm": "start", "settle": "finish", "tell": "report"}

NAMES = tuple(row.name for row in TABLE)
BEFORE_LIVE = tuple(row.name for row in TABLE if row.is_before_live)
# On several hosts each of these commands ends on all hosts before the next one begins on any host.
ON_SEVERAL_HOSTS = tuple(dict.fromkeys(row.command for row in TABLE if row.command != "stage"))
# Commands that belong to the owner of a deployment. Each takes --owner and --supersede.
OWNED = ("stage", "deploy", *ON_SEVERAL_HOSTS, "cut-over", "revert", "rollback")


def row(name: str) -> Phase:
    """The phase with this name; KeyError when there is none."""
    return {item.name: item for item in TABLE}[name]


def of_command(command: str) -> tuple[Phase, ...]:
    """The phases that a command runs, in order."""
    return tuple(item for item in TABLE if item.command == command)
