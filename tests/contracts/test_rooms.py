"""The rooms of the engine: which there are, and that none imports from one above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts.scratch import PROJECT

ENGINE = PROJECT / "slipway"
# The higher floors may use the lower ones. Rooms of one floor do not know one another.
FLOORS = {
    "cli": 8,
    "deployment": 7,
    "backup": 6,
    "schema": 5,
    "release": 4,
    "slot": 3,
    "observers": 3,
    "records": 2,
    "base": 1,
    "controller": 1,
    "inspect": 2,
}


def _imports(path: Path) -> Iterator[str]:
    """The rooms that a module imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            room = rest.partition(".")[0]
            if package == "slipway" and room in FLOORS:
                yield room


def test_every_module_of_the_engine_is_in_a_room() -> None:
    outside = {path.name for path in ENGINE.glob("*.py")} - {"__init__.py", "__main__.py"}
    rooms = {path.parent.relative_to(ENGINE).as_posix() for path in ENGINE.rglob("*.py")} - {"."}
    assert (outside, rooms) == (set(), set(FLOORS))


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_from_itself_and_from_rooms_below(room: str) -> None:
    upwards = [
        (path.relative_to(PROJECT).as_posix(), imported)
        for path in sorted((ENGINE / room).glob("*.py"))
        for imported in _imports(path)
        if imported != room and FLOORS[imported] >= FLOORS[room]
    ]
    assert upwards == []
