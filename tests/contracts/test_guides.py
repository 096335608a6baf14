"""docs/your-app.md and docs/migrating.md: every command of them is run by a test, here or in tests/apps."""

from __future__ import annotations

import itertools
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from filter_plugins import apps
from hosts import scratch
from tests import guides

SHAPES = scratch.PROJECT / "tests/apps/shapes"
# What tests/apps/test_your_app.py types on a host is all of the first page, and of the second one but this:
HERE = {f"make new-app REPO=../{name}": name for name in ("orders", "notices", "album", "ticker")}
PLAYBOOKS = {"site.yml", "deploy.yml", "rollback.yml", "status.yml", "run.yml"}


def test_every_command_is_one_that_a_test_runs() -> None:
    text = (scratch.PROJECT / "tests/apps/test_your_app.py").read_text()
    assert 'guides.blocks("your-app")' in text
    assert 'guides.commands("migrating")' in text
    assert [command for command in guides.commands("migrating") if "new-app" in command] == list(HERE)
    assert len(guides.commands("your-app")) > 20


def test_the_entries_that_are_shown_are_right() -> None:
    files = {block.file: yaml.safe_load(block.text) for block in guides.blocks("your-app") if block.file}
    assert set(files) == {"inventories/prod/hosts.yml", "inventories/prod/group_vars/prod/main.yml"}
    assert apps.faults(files["inventories/prod/group_vars/prod/main.yml"]["apps"]) == []
    assert set(files["inventories/prod/hosts.yml"]) == {"prod"}
    assert apps.faults(yaml.safe_load((SHAPES.parent / "inventory.yml").read_text())["apps"]) == []


@pytest.mark.parametrize("page", guides.PAGES)
def test_playbooks_and_their_arguments_exist(page: str) -> None:
    used = [shlex.split(command) for command in guides.commands(page) if command.startswith("ansible-playbook")]
    assert used
    for _, playbook, *arguments in used:
        assert playbook in PLAYBOOKS
        assert (scratch.PROJECT / playbook).exists()
        given = {value.partition("=")[0] for name, value in itertools.pairwise(arguments) if name == "-e"}
        assert given <= {"app", "version", "command"}


def test_the_pages_are_linked_from_the_first_one_that_people_read() -> None:
    readme = (scratch.PROJECT / "README.md").read_text()
    assert "docs/your-app.md" in readme
    assert "docs/migrating.md" in readme


def inspected(repository: Path) -> dict[str, object]:
    """The entry that `make new-app` shows, without what stands beside it."""
    command = [str(scratch.PROJECT / ".venv/bin/python"), "-m", "slipway", "inspect", str(repository)]
    done = subprocess.run(command, cwd=scratch.PROJECT, capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)["apps"]
    (entry,) = found.values()
    assert isinstance(entry, dict)
    return entry


# What is in the file of the other platform alone, or is read from it first.
WANTED: dict[str, dict[str, object]] = {
    "orders": {"module": "orders.main:app", "processes": {"worker": "python -m orders.worker"}, "health": "/health"},
    "notices": {"module": "web.app:api", "health": "/up", "migrate": "python manage.py migrate"},
    "album": {
        "module": "album.main:app",
        "health": "/health",
        "data": ["uploads/"],
        "database": {"kind": "sqlite", "url": "DATABASE_URL", "scheme": "sqlite"},
    },
    "ticker": {
        "module": "ticker.main:app",
        "health": "/live",
        "processes": {"worker": "python -m ticker.worker", "beat": {"run": "python -m ticker.beat", "count": 1}},
        "services": {"redis": {"url": "CACHE_URL"}},
    },
}


def test_a_member_of_a_workspace_is_the_directory() -> None:
    entry = inspected(SHAPES / "billing")
    assert (entry["directory"], entry["module"]) == ("services/api", "api.server:create_app()")


@pytest.mark.parametrize("name", list(HERE.values()))
def test_what_another_platform_reads_is_not_typed_again(name: str) -> None:
    entry = inspected(SHAPES / name)
    assert {key: entry.get(key) for key in WANTED[name]} == WANTED[name]
