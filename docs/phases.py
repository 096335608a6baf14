"""`python -m docs.phases`: writes the table of phases in docs/architecture.md, from the table that the engine uses."""

from __future__ import annotations

from pathlib import Path

from slipway.records import phases
from slipway.records.phases import Phase

PAGE = Path(__file__).with_name("architecture.md")
HEADER = "| phase | command | runs in state | state after it | goes on without its client | what it does |"


def page(text: str) -> str:
    """The text of the page with the table as it has to be; ValueError when it has no table of phases."""
    before, header, rest = text.partition(f"{HEADER}\n")
    if not header:
        raise ValueError(f"{PAGE.name} has no table of phases: no line is '{HEADER}'.")
    _, gap, after = rest.partition("\n\n")
    dashes = "| --- " * HEADER.count(" |") + "|"
    return "".join([before, "\n".join([HEADER, dashes, *map(_row, phases.TABLE)]), gap, after])


def _row(phase: Phase) -> str:
    goes_on = "yes" if phase.outlives_client else "no"
    states = ", ".join(phase.follows)
    return f"| {phase.name} | `{phase.command}` | {states} | {phase.leads_to} | {goes_on} | {phase.does} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
