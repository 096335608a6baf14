"""Alembic revisions as a commit's files declare them: read on the controller, where no code of the app may run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_DECLARATION = re.compile(r"(down_revision|revision|oldest_compatible)\b[^=]*=(.+)")


@dataclass(frozen=True)
class Script:
    """One migration: its file's name, the revisions that it follows on, and the oldest whose code bears it."""

    revision: str
    name: str
    follows: tuple[str, ...] = ()
    oldest_compatible: str | None = None


def parse(lines: Iterable[tuple[str, str]]) -> dict[str, Script]:
    """Scripts by revision, from (path, line) pairs of the lines that declare something about one."""
    declared: dict[str, dict[str, object]] = {}
    for path, line in lines:
        if match := _DECLARATION.match(line):
            declared.setdefault(path, {})[match[1]] = _literal(match[2])
    found = {}
    for path, values in declared.items():
        revision, down = values.get("revision"), values.get("down_revision")
        if isinstance(revision, str):
            follows = (down,) if isinstance(down, str) else tuple(down) if isinstance(down, tuple | list) else ()
            oldest = values.get("oldest_compatible")
            named = PurePosixPath(path).name
            found[revision] = Script(revision, named, follows, oldest if isinstance(oldest, str) else None)
    return found


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return None  # computed, or it goes on in the next line


def pending(scripts: Mapping[str, Script], current: str | None) -> list[Script]:
    """What a database at `current` has not seen, each after those that it follows on.

    All of them when it was never migrated (None), nothing when `current` is not one of them: it is ahead then.
    """
    if current is not None and current not in scripts:
        return []
    seen = set(_in_order(scripts, [current])) if current is not None else set()
    return [scripts[name] for name in _in_order(scripts, sorted(scripts)) if name not in seen]


def _in_order(scripts: Mapping[str, Script], wanted: Iterable[str]) -> list[str]:
    """`wanted` and all that they follow on, depth first; without recursion, as histories are long."""
    order: dict[str, None] = {}
    stack = [(name, False) for name in reversed(list(wanted))]
    while stack:
        name, followed = stack.pop()
        if name in order or name not in scripts:
            continue
        if followed:
            order[name] = None
        else:
            stack.append((name, True))
            stack.extend((before, False) for before in scripts[name].follows)
    return list(order)
