"""A command of the engine: how it is written on a command line, and what its output says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.base import files

NOT_FOUND = 127  # the shell's exit code when there is no such program
USAGE = 2  # of argparse
# What is passed on to the play: the rest of a result is for this plugin.
_INTERNAL = ("event", "detail", "text")

Event = dict[str, Any]


def command_line(command: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> list[str]:
    """`options` as `--name value`: true is a bare flag, a list repeats, empty and false are left out."""
    line = [command, "--json"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(flag)
        elif isinstance(value, list | tuple):
            line += [part for item in value for part in (flag, str(item))]
        elif value is not None and value is not False and value != "":
            line += [flag, str(value)]
    return [*line, *(str(argument) for argument in arguments if argument not in (None, ""))]


_BEGIN = '{"event"'


def read_events(output: str) -> list[Event]:
    """The events among the lines of `output`, which a login shell may have begun with text of its own."""
    events = []
    for line in output.splitlines():
        try:
            event = files.decode_json(line[line.find(_BEGIN) :])
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


@dataclass(frozen=True)
class Answer:
    """How a command ended: its exit code, its events, and what it wrote beside them."""

    code: int
    events: list[Event]
    errors: str = ""

    @property
    def final(self) -> Event:
        """The result; empty when the engine ended before it had one (the message of a phase is no result)."""
        return next((event for event in reversed(self.events) if event["event"] == "result"), {})

    @property
    def failed(self) -> bool:
        """Without a result the command failed, whatever its exit code: systemd-run ends with 0 when the host stops."""
        return self.code != 0 or not self.final

    @property
    def message(self) -> str:
        """One sentence: the engine's own, or why there is none."""
        if self.final:
            return str(self.final["message"])
        last = self.errors.strip().splitlines()[-1:] or ["it printed nothing"]
        return f"slipway ended with code {self.code} and no result: {last[0]}"

    @property
    def holder(self) -> str:
        """The owner of the deployment that is in the way; "" when none is."""
        return str(self.final.get("holder", "")) if self.final.get("outcome") == "locked" else ""

    @property
    def is_absent(self) -> bool:
        """Whether the host has no engine."""
        return self.code == NOT_FOUND and not self.final

    @property
    def is_older(self) -> bool:
        """Whether the engine is from before there was a protocol."""
        refused = self.errors.partition("unrecognized arguments:")[2].split()  # all that it does not know
        return self.code == USAGE and "--protocol" in refused

    @property
    def is_refused(self) -> bool:
        """Whether the engine did not begin with the command."""
        return self.is_absent or self.code == USAGE or self.final.get("outcome") in ("refused", "locked")

    def fields(self) -> dict[str, Any]:
        """What a task that gave the command returns."""
        found = {key: value for key, value in self.final.items() if key not in _INTERNAL}
        found["phases"] = [event for event in self.events if event["event"] == "phase"]
        if text := self.final.get("text"):
            found["text"] = text
        if detail := self.final.get("detail"):
            found["detail"] = str(detail).splitlines()
        return {**found, "failed": self.failed, "msg": self.message, "changed": bool(self.final.get("changed"))}
