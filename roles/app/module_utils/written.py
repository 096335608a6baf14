"""Whether YAML has changed the form of a value: 1.10 becomes 1.1, 010 becomes 8, and NO becomes false.

Ansible tags what it reads from YAML with its origin: a file, a line and a column. The file is read again there, and
the value compared with what is written. Without a file that can be read (a value from another place, or an Ansible
that has no such tags) only values that have lost their form quite often are doubted: fractions and dates.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

try:  # neither belongs to what Ansible promises to keep
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None
try:
    from ansible.parsing.vault import VaultLib, VaultSecretsContext
except ImportError:
    VaultSecretsContext = None

_NUMBER = (
    "{where} is a number that YAML does not keep as it is written, as 010 becomes 8 and 1.10 becomes 1.1. "
    "Write the value in quotes."
)
_FRACTION = "{where} is a number whose form cannot be looked up, as 1.10 becomes 1.1. Write the value in quotes."
_BOOLEAN = (
    "{where} is written as yes, no, on or off, which YAML takes for true or false. "
    "If a text is meant, write the value in quotes; otherwise write true or false."
)
_DATE = "{where} is a date for YAML, which does not keep its form. Write the value in quotes."
_OTHER = "{where} is neither a text nor a number that can be written down. Write a text, in quotes."

_BOOLEANS = {True: ("true", "True", "TRUE"), False: ("false", "False", "FALSE")}
# What YAML takes for something else than text when it stands without quotes.
_RESOLVED = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Place = tuple[int, int]  # line and column, from 1


@dataclass(frozen=True)
class _File:
    """The nodes of a file of YAML: the value behind the key at a place, and the single value at a place."""

    path: Path
    behind: Mapping[Place, yaml.Node]
    at: Mapping[Place, yaml.Node]


@dataclass(frozen=True)
class _Written:
    """A value as it stands in a file."""

    node: yaml.Node
    path: Path

    @property
    def text(self) -> str | None:
        """What stands there; None when that is a text or a template, which YAML leaves as it is."""
        plain = isinstance(self.node, yaml.ScalarNode) and not self.node.style and self.node.tag in _RESOLVED
        return str(self.node.value) if plain else None

    @property
    def place(self) -> str:
        path = os.path.relpath(self.path) if self.path.is_relative_to(Path.cwd()) else self.path
        return f" ({path}, line {self.node.start_mark.line + 1})"

    def parts(self, number: int) -> list[_Written | None]:
        """The elements of a list of so many."""
        nodes = self.node.value if isinstance(self.node, yaml.SequenceNode) else []
        return [_Written(node, self.path) for node in nodes] if len(nodes) == number else [None] * number


def spoilt(where: str, key: object, value: object) -> Iterator[str]:
    """What is wrong with the parts of a value, at `where`, that are not what was written, a sentence each.

    `key` is the key that it stands behind. No sentence has a value in it.
    """
    yield from _spoilt(where, value, _behind(key))


def _spoilt(where: str, value: object, found: _Written | None) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _spoilt(f"{where}.{name}", item, _behind(name))
    elif isinstance(value, list | tuple):
        elements = found.parts(len(value)) if found else [None] * len(value)
        for number, (item, element) in enumerate(zip(value, elements, strict=True)):
            yield from _spoilt(f"{where}[{number}]", item, element)
    else:
        found = _at(value) if _origin(value) else found
        if reason := _reason(value, found):
            yield reason.format(where=f"{where}{found.place if found else ''}")


def _reason(value: object, found: _Written | None) -> str:
    """Why a single value is not what was written; "" when it is, as far as can be told."""
    if value is None or isinstance(value, str):
        return ""
    text = found.text if found else None
    if isinstance(value, bool):
        return "" if text is None or text in _BOOLEANS[bool(value)] else _BOOLEAN
    if isinstance(value, datetime.date):
        return _DATE
    if not isinstance(value, int | float) or not math.isfinite(value):
        return _OTHER
    if found:
        return "" if text is None or text == json.dumps(value) else _NUMBER
    return _FRACTION if isinstance(value, float) else ""


def _origin(tagged: object) -> Any:
    """Where Ansible says that a key or a value comes from; None for booleans, and for what was worked out."""
    return Origin.get_tag(tagged) if Origin is not None else None


def _behind(key: object) -> _Written | None:
    """What stands behind a key, which is not always the value: it may be a template of it."""
    return _find(key, lambda file: file.behind)


def _at(value: object) -> _Written | None:
    """What stands where a value comes from."""
    return _find(value, lambda file: file.at)


def _find(tagged: object, nodes: Callable[[_File], Mapping[Place, yaml.Node]]) -> _Written | None:
    origin = _origin(tagged)
    if origin is None or not (origin.path and origin.line_num and origin.col_num):
        return None
    path = Path(origin.path)
    try:
        file = _read(path, path.stat().st_mtime_ns)
    except Exception:  # whatever is wrong with a file that Ansible itself has read: it cannot be looked at
        return None
    node = nodes(file).get((origin.line_num, origin.col_num))
    return _Written(node, path) if node is not None else None


@functools.lru_cache
def _read(path: Path, _changed: int) -> _File:
    content = path.read_bytes()
    if content.startswith(b"$ANSIBLE_VAULT"):
        content = VaultLib(secrets=VaultSecretsContext.current().secrets).decrypt(content)
    behind: dict[Place, yaml.Node] = {}
    at: dict[Place, yaml.Node] = {}
    waiting, seen = [yaml.compose(content.decode(), Loader=_LOADER)], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias leads to what was seen
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            behind.update({_place(key): value for key, value in node.value})
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        else:
            at[_place(node)] = node
    return _File(path, behind, at)


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1
