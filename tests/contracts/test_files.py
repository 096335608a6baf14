"""The module `files`, on files of our own."""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playbooks.plugins.modules import files

ME = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}


def play(*entries: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """What the module answers, run as Ansible runs it."""
    arguments = {
        "ANSIBLE_MODULE_ARGS": {
            "files": [{**ME, **entry} for entry in entries],
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_inject_invocation": True,
        }
    }
    program = (
        f"import sys; sys.argv = ['files']\nfrom {files.__name__} import main\nimport ansible.module_utils.basic as b\n"
    )
    program += f"b._ANSIBLE_ARGS = {json.dumps(arguments).encode()!r}\nb._ANSIBLE_PROFILE = 'legacy'\nmain()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def wanted(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        {"path": str(tmp_path / "etc"), "state": "directory", "mode": "0750"},
        {"path": str(tmp_path / "etc/env"), "content": "A=ü\n", "mode": "0640"},
        {"path": str(tmp_path / "etc/link"), "state": "link", "target": str(tmp_path / "etc/env")},
        {"path": str(tmp_path / "old"), "state": "absent"},
    ]


def test_what_is_missing_is_made_and_the_second_run_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    answer = play(*wanted(tmp_path))
    assert answer["paths"] == [str(tmp_path / name) for name in ("etc", "etc/env", "etc/link", "old")]
    assert (tmp_path / "etc/link").read_text() == "A=ü\n"
    assert (tmp_path / "etc/env").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "etc").stat().st_mode & 0o7777 == 0o750
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["env", "etc", "link"], "nothing is left beside them"
    assert play(*wanted(tmp_path))["changed"] is False


def test_check_mode_says_the_same_and_changes_nothing(tmp_path: Path) -> None:
    answer = play(*wanted(tmp_path), {"path": str(tmp_path / "x"), "content": "", "owner": "nobody-yet"}, check=True)
    assert answer["paths"] == [str(tmp_path / name) for name in ("etc", "etc/env", "etc/link", "x")]
    assert answer["diff"][1]["after"] == "A=ü\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("drift", ["content", "mode", "link", "directory"])
def test_what_has_drifted_is_put_right(tmp_path: Path, drift: str) -> None:
    play(*wanted(tmp_path))
    if drift == "content":
        (tmp_path / "etc/env").write_text("B=1\n")
    elif drift == "mode":
        (tmp_path / "etc/env").chmod(0o666)
    elif drift == "link":
        (tmp_path / "etc/link").unlink()
        (tmp_path / "etc/link").symlink_to("/etc/hostname")
    else:
        (tmp_path / "etc").chmod(0o777)
    assert len(play(*wanted(tmp_path))["paths"]) == 1
    assert play(*wanted(tmp_path))["changed"] is False


def test_what_is_refused_is_not_written_nor_anything_else(tmp_path: Path) -> None:
    first = {"path": str(tmp_path / "first"), "content": "new"}
    refused = {"path": str(tmp_path / "second"), "content": "bad", "validate": "grep -q good %s"}
    answer = play(first, refused)
    assert answer["failed"]
    assert str(tmp_path / "second") in answer["msg"]
    assert list(tmp_path.iterdir()) == []
    assert play(first, {**refused, "content": "good"})["changed"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"path": "there", "content": ""}, "is a directory, and is to be a file"),
        ({"path": "there/file", "state": "directory"}, "is no directory, and is to be one"),
        ({"path": "link", "state": "link", "target": "/nowhere"}, "a link to /nowhere, which does not exist"),
        ({"path": "new", "content": "", "owner": "nobody-yet"}, "belong to user nobody-yet, which does not exist"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("")
    answer = play({**entry, "path": str(tmp_path / entry["path"])})
    assert sentence in answer["msg"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "there"]


def test_contents_are_not_repeated_in_what_was_asked_for(tmp_path: Path) -> None:
    assert "A=ü" not in str(play(*wanted(tmp_path))["invocation"])
