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


def run(tmp_path: Path, files: list[dict[str, Any]], *arguments: str, found: list[str] | None = None) -> dict[str, Any]:
    """The result of the task; it fails where the task does not."""
    tasks = [
        {"slipway_files": {"files": files, "found": found or []}, "register": "done", "ignore_errors": True},
        {
            "ansible.builtin.copy": {"content": "{{ done | to_json }}", "dest": f"{tmp_path}/result.json"},
            "check_mode": False,
            "diff": False,
        },
    ]
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    (tmp_path / "templates").mkdir(exist_ok=True)
    (tmp_path / "templates/greeting.j2").write_text("Hello {{ item.whom }}\n")
    (tmp_path / "hosts.yml").write_text(
        f"all: {{hosts: {{localhost: {{ansible_python_interpreter: '{sys.executable}'}}}}}}\n"
    )
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "play.yml", *arguments],
        cwd=tmp_path,
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
    result: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return {**result, "output": done.stdout}


def declared(tmp_path: Path) -> list[dict[str, Any]]:
    mine = {"owner": ME, "group": GROUP}
    return [
        {"dest": f"{tmp_path}/secret", "content": "c4n4ry", "mode": 600, **mine},
        {"dest": f"{tmp_path}/greeting", "src": "greeting.j2", "whom": "Ada", **mine},
        {"dest": f"{tmp_path}/unwanted", "content": "", "wanted": "{{ '' != '' }}", **mine},
    ]


def test_all_files_are_written_with_owner_and_mode(tmp_path: Path) -> None:
    done = run(tmp_path, declared(tmp_path))
    assert done["changed"] is True
    assert done["written"] == [f"{tmp_path}/secret", f"{tmp_path}/greeting"]
    assert (tmp_path / "secret").read_text() == "c4n4ry"
    assert (tmp_path / "greeting").read_text() == "Hello Ada\n"
    assert not (tmp_path / "unwanted").exists()
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("secret", "greeting")] == [0o600, 0o644]
    assert "c4n4ry" not in done["output"]


def test_what_the_host_has_is_not_written_again_and_a_mode_alone_is(tmp_path: Path) -> None:
    run(tmp_path, declared(tmp_path))
    paths = [str(tmp_path / name) for name in ("secret", "greeting")]
    look = ["find", *paths, "-printf", "%y %u:%g %m %p\n"]
    said = subprocess.run(look, capture_output=True, text=True, check=True).stdout
    digests = subprocess.run(["sha256sum", *paths], capture_output=True, text=True, check=True).stdout
    found = [*said.splitlines(), *digests.splitlines()]
    assert run(tmp_path, declared(tmp_path), found=found)["changed"] is False
    other = [line.replace(" 600 ", " 644 ") for line in found]
    assert run(tmp_path, declared(tmp_path), found=other)["written"] == [f"{tmp_path}/secret"]


def test_check_mode_writes_nothing_and_says_what_it_would(tmp_path: Path) -> None:
    done = run(tmp_path, declared(tmp_path), "--check")
    assert done["changed"] is True
    assert not (tmp_path / "secret").exists()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    wrong = [{"dest": f"{tmp_path}/none/x", "content": "c4n4ry", "owner": ME, "group": GROUP}]
    done = run(tmp_path, wrong)
    assert done["failed"] is True
    assert done["msg"] == f"{tmp_path}/none/x cannot be written: No such file or directory."
    assert list(tmp_path.glob("none*")) == []


@pytest.mark.parametrize("mode", ["644", "0644"])
def test_what_is_there_is_told_by_content_owner_and_mode(mode: str) -> None:
    item = {"dest": "/x", "content": "", "owner": "root", "group": "root", "mode": mode}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /x"
    assert action.is_there(item, {"f root:root 644 /x", empty})
    assert not action.is_there(item, {"f root:root 640 /x", empty})
    assert not action.is_there(item, {"l root:root 644 /x", empty})
    assert not action.is_there(item, {"f root:root 644 /x"})
