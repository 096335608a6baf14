"""What the roles app and host look at before they write: every file that they would write, with its owner and mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"


def tasks(role: str) -> list[dict[str, Any]]:
    return [
        task
        for path in sorted((ROLES / role / "tasks").glob("*.yml"))
        for task in yaml.safe_load(path.read_text()) or []
        if task.get("when") == f"__{role}_differs"
    ]


@pytest.mark.parametrize(("role", "files"), [("app", 12), ("host", 4)])
def test_a_file_is_looked_at_with_the_group_and_the_mode_that_it_is_written_with(role: str, files: int) -> None:
    look = yaml.safe_load((ROLES / role / "vars/main.yml").read_text())[f"__{role}_look"]
    written = 0
    for task in tasks(role):
        module = task.get("ansible.builtin.template") or task["ansible.builtin.copy"]
        assert (module["dest"], module["owner"]) == ("{{ item.dest }}", "root")
        for item in task["loop"]:
            assert item["dest"] in look
            group = item.get("group", "root")
            assert module["group"] in (group, "{{ item.group }}")
            assert module["mode"] == f"0{item.get('mode', 644)}"
            written += 1
    assert written == files
