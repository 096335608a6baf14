"""Who a deployment belongs to: a person, their controller, and the run there that asked for it.

An owner travels as text: on the command line, in the lease, in the record and in the journal. Whether a run has
ended can only be seen on its own controller, or told by a CI job that names its run (SLIPWAY_RUN).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from slipway.base.errors import RefusedError

RUN = "SLIPWAY_RUN"  # the variable of the environment that names a run
RUN_LENGTH = 64
_RUN = r"[A-Za-z0-9._:/-]+"
_UNKNOWN = "unknown"
_NAME = r"(?P<person>.+?)(?:@(?P<controller>[^@ ]+))?"
_NOW = re.compile(
    rf"{_NAME} \(pid (?P<process>\d+)"
    rf"(?:, start (?P<started>\d+|{_UNKNOWN}), namespace (?P<namespace>\d+|{_UNKNOWN})(?:, run (?P<run>{_RUN}))?)?\)"
)
# Until the run had an id of its own, the start and the namespace of its process were called one.
_BEFORE = re.compile(rf"{_NAME} \(pid (?P<process>\d+), run (?P<started>\d+)-(?P<namespace>\d+)\)")


@dataclass(frozen=True)
class Owner:
    """A run of a controller. Empty is what is not known: of a person at the host's command line only the name is.

    `process` is the number of its process (0 is unknown), `started` when that started (in ticks since boot), and
    `namespace` the PID namespace in which the number counts. `run` is the id that a CI job gives to all of its
    attempts.
    """

    person: str
    controller: str = ""
    process: int = 0
    started: str = ""
    namespace: str = ""
    run: str = ""

    def __str__(self) -> str:
        """The text that `parse` reads."""
        if not self.process:
            return self._name
        parts = [f"pid {self.process}"]
        if self.started or self.run:
            parts += [f"start {self.started or _UNKNOWN}", f"namespace {self.namespace or _UNKNOWN}"]
        if self.run:
            parts.append(f"run {self.run}")
        return f"{self._name} ({', '.join(parts)})"

    def display(self) -> str:
        """The owner for people: without the numbers of its process."""
        return f"{self._name} ({self.run})" if self.run else self._name

    @property
    def _name(self) -> str:
        return f"{self.person}@{self.controller}" if self.controller else self.person


def parse(text: str) -> Owner:
    """The owner that `text` names, in the form of this version or of an earlier one; any other text is a person."""
    match = _NOW.fullmatch(text) or _BEFORE.fullmatch(text)
    if match is None:
        return Owner(text)
    found = match.groupdict(default="")
    return Owner(
        person=found["person"],
        controller=found["controller"],
        process=int(found["process"]),
        started=found["started"].replace(_UNKNOWN, ""),
        namespace=found["namespace"].replace(_UNKNOWN, ""),
        run=found.get("run", ""),
    )


def check_run(text: str) -> str:
    """The id of a run as SLIPWAY_RUN gives it; RefusedError when it has characters that have a meaning elsewhere."""
    if text and (len(text) > RUN_LENGTH or not re.fullmatch(_RUN, text)):
        raise RefusedError(
            f"{RUN} is {text!r}, but must be at most {RUN_LENGTH} characters of A-Z, a-z, 0-9 and . _ : / - "
            "(for example the id of the CI job)."
        )
    return text


def is_dead(other: Owner, mine: Owner, start_of: Callable[[int], str | None]) -> bool:
    """Whether `mine` may take over from `other` at once, because that run has ended.

    A process on this controller has ended when it is gone. Any other process cannot be seen from here: that run
    counts as alive, unless it is an earlier attempt of the same CI job. `start_of` is when the process of that number
    started: None when there is none, "" where the machine does not say.
    """
    if other == mine:
        return False
    if _is_seen(other, mine):
        started = start_of(other.process)
        return started is None or (other.started != "" and started != other.started)
    return other.run != "" and other.run == mine.run


def _is_seen(other: Owner, mine: Owner) -> bool:
    """Whether the process of `other` is one of those that `mine` can see. A container may have the same name."""
    same_machine = (other.person, other.controller) == (mine.person, mine.controller)
    return other.process > 0 and same_machine and other.namespace in ("", mine.namespace)
