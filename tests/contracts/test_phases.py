"""The table of phases of the engine: the docs and the Logbook's page have the same phases in the same order."""

from __future__ import annotations

from app import view
from hosts.scratch import PROJECT
from slipway.records import phases

HEADER = "| phase | command | runs in state | state after it | goes on without its client | what it does |"


def _documented() -> list[str]:
    """The rows of the table of phases in docs/architecture.md."""
    _, header, rest = (PROJECT / "docs/architecture.md").read_text().partition(f"{HEADER}\n")
    assert header, "docs/architecture.md has no table of phases"
    _, *rows = rest.partition("\n\n")[0].splitlines()  # without the line of dashes
    return rows


def _row(phase: phases.Phase) -> str:
    detached = "yes" if phase.outlives_client else "no"
    states = ", ".join(phase.follows)
    return f"| {phase.name} | `{phase.command}` | {states} | {phase.leads_to} | {detached} | {phase.does} |"


def test_architecture_has_the_table_of_phases() -> None:
    assert _documented() == [_row(phase) for phase in phases.TABLE]


def test_page_sorts_phases_in_the_order_of_the_table() -> None:
    known = [phases.RENAMED_PHASES.get(name, name) for name in view.PHASES if name != "resolve"]  # on the controller
    assert list(dict.fromkeys(known)) == list(phases.NAMES)
    assert set(phases.RENAMED_PHASES) <= set(view.PHASES)  # reports of older hosts still have these names
