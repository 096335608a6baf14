"""Alembic revisions, read from the files of a commit on the controller, which must not run the app's code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

_DECLARATION = re.compile(r"(down_revision|revision|oldest_compatible)\b[^=]*=(.+)")


@dataclass(frozen=True)
class Script:
    """One migration: its file's name, the revisions before it, and the oldest revision whose code can run on it."""

    revision: str
    name: str
    follows: tuple[str, ...] = ()
    oldest_compatible: str | None = None


def parse(lines: Iterable[tuple[str, str]]) -> dict[str, Script]:
    """Scripts by revision, from the (path, line) pairs of their declarations."""
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
        return None  # a computed value, or one of several lines


def pending(scripts: Mapping[str, Script], current: str | None) -> list[Script]:
    """The migrations that were not run on a database at `current`, each after those that it follows.

    All if it was never migrated (None). None of them if `current` is not in `scripts`: then the database is ahead.
    """
    if current is not None and current not in scripts:
        return []
    seen = set(_in_order(scripts, [current])) if current is not None else set()
    return [scripts[name] for name in _in_order(scripts, sorted(scripts)) if name not in seen]


def _in_order(scripts: Mapping[str, Script], wanted: Iterable[str]) -> list[str]:
    """`wanted` and all revisions before them, depth first; without recursion, as a history may be long."""
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
