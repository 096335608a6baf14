"""What is typed behind -e: taken as it is meant, or refused in a sentence. The kind of row 17 of `cases.md`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from filter_plugins import given
from hosts.scratch import PROJECT


@pytest.mark.parametrize("value", [True, 1, "true", "True", "TRUE", "yes", "on", "1", "y", " true "])
def test_a_yes_is_a_yes(value: Any) -> None:
    assert given.faults({"force": value}, {}) == []
    assert given.flag(value) is True


@pytest.mark.parametrize("value", [False, 0, "false", "False", "no", "No", "off", "0", "n"])
def test_a_no_is_a_no(value: Any) -> None:
    assert given.faults({"force": value}, {}) == []
    assert given.flag(value) is False


@pytest.mark.parametrize("name", given.FLAGS)
@pytest.mark.parametrize("value", ["maybe", "", None, 2, 1.0, "ture", ["true"], "yes please"])
def test_what_is_neither_is_refused(name: str, value: Any) -> None:
    assert given.faults({name: value}, {}) == [f"{name} is '{value}'. Pass -e {name}=true or leave it out."]
    assert given.flag(value) is False


@pytest.mark.parametrize("value", ["v1.2.0", "1.10", "08", "1e3", "2026-11-26", " v1.0.0 ", "0123456", "no"])
def test_a_version_is_any_text(value: str) -> None:
    assert given.faults({"version": value}, {}) == []
    assert given.version(value) == value.strip()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            1.1,
            "version is 1.1, which is no text. Pass a tag, such as -e version=v1.2.0; in a file or in JSON, write it",
        ),
        (8, "version is 8, which is no text."),
        (False, "version is False, which is no text."),
        (["v1"], "version is ['v1'], which is no text."),
        (None, "version is empty. Pass a tag"),
        ("", "version is empty. Pass a tag, such as -e version=v1.2.0, or leave it out."),
        ("  ", "version is empty."),
        ("--force", "version is '--force', and no tag begins with a dash."),
    ],
)
def test_a_version_that_is_none_is_refused(value: Any, sentence: str) -> None:
    (found,) = given.faults({"version": value}, {})
    assert found.startswith(sentence)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("versoin", "version"),
        ("vesion", "version"),
        ("Version", "version"),
        ("versions", "version"),
        ("tag", "version"),
        ("forse", "force"),
        ("FORCE", "force"),
        ("allow-data-loss", "allow_data_loss"),
        ("allow_dataloss", "allow_data_loss"),
        ("witout", "without"),
        ("addopt", "adopt"),
    ],
)
def test_a_name_that_nothing_reads_is_refused(name: str, meant: str) -> None:
    sentence = f"There is no variable '{name}'. Pass -e {meant}=, or leave it out."
    assert given.faults({name: "x"}, {name: "x"}) == [sentence]


@pytest.mark.parametrize("name", [*given.NAMES, "apps", "ansible_user", "nginx_keepalive_requests", "vault_key", "x"])
def test_other_names_are_the_inventorys(name: str) -> None:
    assert given.faults({}, {name: "x"}) == []


def test_a_word_without_a_value_is_refused_and_not_shown() -> None:
    (sentence,) = given.faults({}, {"_raw_params": "c4n4ry"})
    assert "c4n4ry" not in sentence


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """What a run makes of its command line: the variables of a release, and what is wrong with it."""
    read = ["release_version", "release_force", "release_allow_data_loss", "given_fault"]
    content = "{{ {" + ", ".join(f"'{name}': {name}" for name in read) + "} | to_json }}"
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [f"{PROJECT}/playbooks/vars/environment.yml", f"{PROJECT}/playbooks/vars/release.yml"],
        "tasks": [{"ansible.builtin.copy": {"content": content, "dest": f"{tmp_path}/found.json"}}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "play.yml", *arguments],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "ANSIBLE_FILTER_PLUGINS": f"{PROJECT}/filter_plugins",
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    return found


def test_a_real_command_line_is_taken_as_it_is_typed(tmp_path: Path) -> None:
    found = run(tmp_path, "-e", "version=1.10", "-e", "force=no", "-e", '{"allow_data_loss": true}')
    assert found == {
        "release_version": "1.10",
        "release_force": False,
        "release_allow_data_loss": True,
        "given_fault": "",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-e", "@vars.yml"], "version is 1.1, which is no text."),
        (["-e", "versoin=v1.0.0"], "There is no variable 'versoin'."),
        (["-e", "version:v1.0.0"], "-e has a word without '='."),
    ],
)
def test_a_real_command_line_is_refused(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "vars.yml").write_text("version: 1.10\n")
    assert run(tmp_path, *arguments)["given_fault"].startswith(sentence)
