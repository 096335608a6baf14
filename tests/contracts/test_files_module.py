"""The files of an app, written in one call: by a real run on this machine, into a directory of the test's own."""

from __future__ import annotations

import getpass
import grp
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosts.scratch import PROJECT
from roles.app.action_plugins import slipway_files as action

ME, GROUP = getpass.getuser(), grp.getgrgid(os.getegid()).gr_name


LOOK = """find secret greeting -printf '%y %u:%g %m {0}/%p\\n'; sha256sum {0}/secret {0}/greeting"""


def play(directory: Path, *arguments: str) -> dict[str, Any]:
    """One run with all tasks, as each start of ansible takes a second; their results by name, and the `output`."""
    mine = {"owner": ME, "group": GROUP}
    files = [
        {"dest": f"{directory}/secret", "content": "c4n4ry", "mode": 600, **mine},
        {"dest": f"{directory}/greeting", "src": "greeting.j2", "whom": "Ada", **mine},
        {"dest": f"{directory}/unwanted", "content": "", "wanted": "{{ '' != '' }}", **mine},
    ]
    wrong = [{"dest": f"{directory}/none/x", "content": "c4n4ry", **mine}]
    found = "{{ look.stdout_lines }}"
    tasks: dict[str, dict[str, Any]] = {
        "first": {"slipway_files": {"files": files}},
        "look": {
            "ansible.builtin.shell": {"cmd": LOOK.format(directory), "chdir": str(directory)},
            "failed_when": False,
        },
        "again": {"slipway_files": {"files": files, "found": found}},
        "mode": {
            "slipway_files": {"files": files, "found": "{{ look.stdout_lines | map('replace', ' 600 ', ' 644 ') }}"}
        },
        "wrong": {"slipway_files": {"files": wrong}, "ignore_errors": True},
    }
    said = "{{ {" + ", ".join(f"'{name}': {name}" for name in tasks) + "} | to_json }}"
    write = {"ansible.builtin.copy": {"content": said, "dest": f"{directory}/result.json"}}
    listed = [{**task, "register": name} for name, task in tasks.items()]
    listed.append({**write, "check_mode": False, "diff": False})
    whole = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": listed}]
    (directory / "play.yml").write_text(yaml.safe_dump(whole))
    (directory / "templates").mkdir()
    (directory / "templates/greeting.j2").write_text("Hello {{ item.whom }}\n")
    (directory / "hosts.yml").write_text(
        f"all: {{hosts: {{localhost: {{ansible_python_interpreter: '{sys.executable}'}}}}}}\n"
    )
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "play.yml", *arguments],
        cwd=directory,
        env={
            **os.environ,
            "ANSIBLE_LIBRARY": f"{PROJECT}/roles/app/library",
            "ANSIBLE_ACTION_PLUGINS": f"{PROJECT}/roles/app/action_plugins",
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return {**results, "output": done.stdout}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("written")
    return directory, play(directory)


def test_all_files_are_written_with_owner_and_mode(written: tuple[Path, dict[str, Any]]) -> None:
    directory, done = written
    assert done["first"]["changed"] is True
    assert done["first"]["written"] == [f"{directory}/secret", f"{directory}/greeting"]
    assert (directory / "secret").read_text() == "c4n4ry"
    assert (directory / "greeting").read_text() == "Hello Ada\n"
    assert not (directory / "unwanted").exists()
    assert [(directory / name).stat().st_mode & 0o777 for name in ("secret", "greeting")] == [0o600, 0o644]
    assert "c4n4ry" not in done["output"]


def test_what_the_host_has_is_not_written_again_and_a_mode_alone_is(written: tuple[Path, dict[str, Any]]) -> None:
    directory, done = written
    assert done["again"]["changed"] is False
    assert done["mode"]["written"] == [f"{directory}/secret"]


def test_a_file_that_cannot_be_written_is_named(written: tuple[Path, dict[str, Any]]) -> None:
    directory, done = written
    assert done["wrong"]["failed"] is True
    assert done["wrong"]["msg"] == f"{directory}/none/x cannot be written: No such file or directory."
    assert list(directory.glob("none*")) == []


def test_check_mode_writes_nothing_and_says_what_it_would(tmp_path: Path) -> None:
    done = play(tmp_path, "--check")
    assert done["first"]["changed"] is True
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize("mode", ["644", "0644"])
def test_what_is_there_is_told_by_content_owner_and_mode(mode: str) -> None:
    item = {"dest": "/x", "content": "", "owner": "root", "group": "root", "mode": mode}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /x"
    assert action.is_there(item, {"f root:root 644 /x", empty})
    assert not action.is_there(item, {"f root:root 640 /x", empty})
    assert not action.is_there(item, {"l root:root 644 /x", empty})
    assert not action.is_there(item, {"f root:root 644 /x"})
