"""A role's defaults and its argument specification say the same."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())


def _load(role: str, name: str) -> Any:
    return yaml.safe_load((ROLES / role / name).read_text())


def _options(role: str) -> dict[str, dict[str, Any]]:
    """The options of all entry points together."""
    entries = _load(role, "meta/argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entries for name, option in entry["options"].items()}


@pytest.mark.parametrize("role", NAMES)
def test_what_is_optional_has_the_same_default_in_both(role: str) -> None:
    specified = {name: option["default"] for name, option in _options(role).items() if "default" in option}
    assert specified == _load(role, "defaults/main.yml")


@pytest.mark.parametrize("role", NAMES)
def test_what_is_required_stands_commented_out_in_the_defaults(role: str) -> None:
    text = (ROLES / role / "defaults/main.yml").read_text()
    required = [name for name, option in _options(role).items() if option.get("required")]
    assert [name for name in required if f"\n# {name}:" not in text] == []


def test_every_setting_of_an_app_has_a_type_a_default_and_one_sentence() -> None:
    for name, option in _options("app")["app_settings"]["options"].items():
        assert {"type", "default", "description"} <= set(option), name
        assert option["description"].endswith("."), name


@pytest.mark.parametrize("role", NAMES)
def test_inputs_carry_the_roles_name(role: str) -> None:
    assert [name for name in _options(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", NAMES)
def test_a_sentence_stands_above_every_default(role: str) -> None:
    lines = (ROLES / role / "defaults/main.yml").read_text().splitlines()
    bare = [
        line
        for before, line in pairwise(lines)
        if line and line[0].isalpha() and not before.startswith("#") and before.strip()
    ]
    assert bare == []


@pytest.mark.parametrize("role", NAMES)
def test_roles_name_no_inventory_group(role: str) -> None:
    text = "".join(path.read_text() for path in (ROLES / role).rglob("*.yml"))
    assert "groups[" not in text
    assert "group_names" not in text
