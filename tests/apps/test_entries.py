"""What an app needs in the inventory."""

from __future__ import annotations

import pytest
import yaml

from . import shapes

LINES = 12


@pytest.mark.parametrize("name", shapes.NAMES)
def test_an_entry_has_at_most_twelve_lines(name: str) -> None:
    lines = shapes.entries()[name]
    assert 3 < len(lines) <= LINES
    assert yaml.safe_load("\n".join(lines)) == {name: yaml.safe_load(shapes.INVENTORY.read_text())["apps"][name]}


def test_every_app_is_of_another_shape() -> None:
    apps = yaml.safe_load(shapes.INVENTORY.read_text())["apps"]
    assert len({str(app.get("database")) for app in apps.values()}) == len(apps)
    locks = ["uv.lock", "poetry.lock", "pylock.toml", "Pipfile.lock", "requirements.txt"]
    found = {name: [lock for lock in locks if (shapes.SHAPES / name / lock).exists()] for name in apps}
    assert all(len(lock) == 1 for lock in found.values()), found
    assert {lock for (lock,) in found.values()} == set(locks)
    assert len([name for name, app in apps.items() if "redis" in app.get("services", [])]) == 2
