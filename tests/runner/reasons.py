"""Why a part failed, from what it printed: for the tools that are not pytest, and for a pytest that ran no test."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from tests.runner.outcomes import Failure, one_line

MOST = 50  # of one part: a file full of mistakes is not a list that anybody reads

# "path:line: message" of mypy, "path:line:column: message" of the others (see `lint` in the Makefile).
_FINDING = re.compile(r"^(?P<where>[^\s:]+:\d+(?::\d+)?):? (?P<reason>.+)$")

_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(?P<task>.*?)\] ?\**$")
_FATAL = re.compile(r"^(?:fatal|failed): \[(?P<host>[^\]]+)\].*?=>(?P<values>.*)$")
_RECAP = re.compile(r"^(?P<host>\S+)\s+: ok=\d+ .*\bunreachable=(?P<unreachable>\d+) +failed=(?P<failed>\d+)")
_NOT_IDEMPOTENT = re.compile(r"^\* +(?:\[(?P<host>[^\]]+)\] )?=> (?P<task>.+)$")
_STOPPED = re.compile(r"^CRITICAL +(?P<reason>.+)$")
_ERROR = re.compile(r"^\[ERROR\]: +(?P<reason>.+)$")

_PYTEST = re.compile(r"^(?:FAIL|ERROR:?|INTERNALERROR>|E  ) +(?P<reason>.+)$")


def failures(part: str, printed: str) -> list[Failure]:
    """What failed in a part and why, from its output; never empty, as a failure without a reason helps nobody."""
    lines = printed.splitlines()
    readers: dict[str, Callable[[list[str]], Iterator[Failure]]] = {"lint": _lint, "molecule": _molecule}
    found = list(dict.fromkeys(readers.get(part, _pytest)(lines))) or [Failure(part, last_line(lines))]
    if len(found) > MOST:
        found = [*found[:MOST], Failure(part, f"{len(found) - MOST} more; `make {part}` lists them")]
    return found


def last_line(lines: list[str]) -> str:
    """The last line that a tool printed; make's own tells only that it failed."""
    said = [line for line in lines if line.strip() and not line.startswith("make")]
    return one_line(said[-1]) if said else "it printed nothing"


def _lint(lines: list[str]) -> Iterator[Failure]:
    for line in lines:
        if (found := _FINDING.match(line)) and " note: " not in line:
            yield Failure(found["where"], one_line(found["reason"]))


def _pytest(lines: list[str]) -> Iterator[Failure]:
    for line in lines:
        if found := _PYTEST.match(line):
            yield Failure("pytest", one_line(found["reason"]))


def _molecule(lines: list[str]) -> Iterator[Failure]:
    """The tasks that failed, else those that changed something again, else why molecule or Ansible stopped."""
    tasks = list(_tasks(lines))
    again = [
        Failure(f"{found['host'] or 'a host'}: {found['task'].strip()}", "changed something when it was run again")
        for line in lines
        if (found := _NOT_IDEMPOTENT.match(line))
    ]
    errors, stopped = (
        [Failure("molecule", one_line(found["reason"])) for line in lines if (found := pattern.match(line))][-1:]
        for pattern in (_ERROR, _STOPPED)
    )
    yield from tasks or again or [*errors, *stopped]


def _tasks(lines: list[str]) -> Iterator[Failure]:
    """The failed tasks of hosts that a playbook failed on: of each the last one, as those before it were rescued."""
    task, host, last = "", "", dict[str, tuple[str, list[Failure]]]()
    for number, line in enumerate(lines):
        if found := _TASK.match(line):
            task = found["task"]
        elif line == "...ignoring":
            last.pop(host, None)
        elif found := _FATAL.match(line):
            host = found["host"]
            if last.get(host, ("", []))[0] != task:
                last[host] = (task, [])
            last[host][1].append(Failure(f"{host}: {task}", _why(found["values"], lines[number + 1 :])))
        elif found := _RECAP.match(line):
            failed = last.pop(found["host"], ("", []))[1]
            if (found["unreachable"], found["failed"]) != ("0", "0"):
                yield from failed


def _why(values: str, following: list[str]) -> str:
    """The message of a task's result, which is on its line as JSON or below it as YAML, and what its command said."""
    block = []
    for line in following:
        if line and not line.startswith(" "):
            break
        block.append(line)
    try:
        result: Any = yaml.safe_load(values if values.strip() else textwrap.dedent("\n".join(block)))
    except yaml.YAMLError:
        result = None
    if not isinstance(result, dict):
        return one_line(" ".join([values, *block])) or "the task gave no message"
    said = str(result.get("stderr") or result.get("stdout") or "").strip().rpartition("\n")[2]
    return one_line(" ".join(filter(None, (str(result.get("msg", "")), said)))) or "the task gave no message"
