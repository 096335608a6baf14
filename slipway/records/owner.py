"""The owner of a deployment: a person, their controller, and the process or CI job there that started it.

An owner is passed and stored as text: on the command line, in the lease, in the record and in the journal. Only its own
controller can see whether its process has ended. A CI job can name its run (SLIPWAY_RUN): then a new attempt of the
same job knows that the earlier one has ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from slipway.base.errors import RefusedError

RUN = "SLIPWAY_RUN"  # the environment variable with the id of a run
RUN_LENGTH = 64
_RUN = r"[A-Za-z0-9._:/-]+"
_UNKNOWN = "unknown"
_NAME = r"(?P<person>.+?)(?:@(?P<controller>[^@ ]+))?"
_NOW = re.compile(
    rf"{_NAME} \(pid (?P<process>\d+)"
    rf"(?:, start (?P<started>\d+|{_UNKNOWN}), namespace (?P<namespace>\d+|{_UNKNOWN})(?:, run (?P<run>{_RUN}))?)?\)"
)
# In the form of earlier versions the start and the namespace of the process were called its run.
_BEFORE = re.compile(rf"{_NAME} \(pid (?P<process>\d+), run (?P<started>\d+)-(?P<namespace>\d+)\)")


@dataclass(frozen=True)
class Owner:
    """A run on a controller. Fields that are not known are empty: a command typed on a host has only the person.

    `process` is the number of its process (0: unknown), `started` is when that process started (in clock ticks since
    boot), and `namespace` is the PID namespace of the number. `run` is the id that a CI job gives to all its attempts.
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


def display(text: str) -> str:
    """The owner that `text` describes, for people."""
    return parse(text).display()


def parse(text: str) -> Owner:
    """The owner that `text` describes, in the form of this version or an earlier one; other text is a person's name."""
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
    """Return the id of a run, as SLIPWAY_RUN gives it; RefusedError if it is too long or has other characters."""
    if text and (len(text) > RUN_LENGTH or not re.fullmatch(_RUN, text)):
        raise RefusedError(
            f"{RUN} is {text!r}, but must be at most {RUN_LENGTH} characters of A-Z, a-z, 0-9 and . _ : / - "
            "(for example the id of the CI job)."
        )
    return text


def is_dead(other: Owner, mine: Owner, start_of: Callable[[int], str | None]) -> bool:
    """Whether `mine` may take over from `other` at once, because the run of `other` has ended.

    On this controller a run has ended when its process is gone. A process of another controller cannot be checked from
    here: its run counts as alive, unless it is an earlier attempt of the same CI job. `start_of` returns when the
    process with a number started: None if there is no such process, "" if the machine does not tell.
    """
    if other == mine:
        return False
    if _is_seen(other, mine):
        started = start_of(other.process)
        return started is None or (other.started != "" and started != other.started)
    return other.run != "" and other.run == mine.run


def _is_seen(other: Owner, mine: Owner) -> bool:
    """Whether `mine` can check the process of `other`. The namespace counts, as a container may have the same name."""
    same_machine = (other.person, other.controller) == (mine.person, mine.controller)
    return other.process > 0 and same_machine and other.namespace in ("", mine.namespace)
