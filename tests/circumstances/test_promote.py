"""promote.yml and the question before a deploy, from the controller's side: hosts are a program in place of ssh."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hosts import scratch
from hosts.scratch import PROJECT

# Answers as the engine does, from <directory>/<host>.<command>.json, and writes down what it was given.
SSH = """#!{python}
import pathlib, re, sys
here = pathlib.Path({directory!r})
line = " ".join(sys.argv[1:])
host = re.search(r"\\b([ps]-[0-9])\\b", line)
command = re.search(r"slipway ([a-z-]+)", line)
if command is None:
    sys.exit(0)
with open(here / "log", "a") as log:
    log.write(host[1] + " " + line[command.start():] + "\\n")
answer = here / f"{{host[1]}}.{{command[1]}}.json"
print(answer.read_text() if answer.exists() else '{{"event": "result", "outcome": "ok", "message": "done"}}')
"""
MIGRATION = "revision = '{revision}'\ndown_revision = {down!r}\n\ndef upgrade():\n    {does}\n"


@dataclass
class Site:
    directory: Path
    shas: dict[str, str] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        return self.directory / "repository"

    def tag(self, name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            (self.repository / path).parent.mkdir(parents=True, exist_ok=True)
            (self.repository / path).write_text(text)
        scratch.git(self.repository, "add", "--all")
        scratch.git(self.repository, "commit", "--quiet", "--allow-empty", "--message", name)
        scratch.git(self.repository, "tag", name)
        self.shas[name] = scratch.git(self.repository, "rev-parse", "HEAD").strip()
        return self.shas[name]

    def says(self, host: str, command: str, **fields: Any) -> None:
        event = {"event": "result", "outcome": "ok", "message": command, "detail": "", "changed": False, **fields}
        (self.directory / f"{host}.{command}.json").write_text(json.dumps(event))

    def live(self, host: str, tag: str, **changes: Any) -> None:
        status = {"app": "shop", "live": {"tag": tag, "sha": self.shas[tag]}, "deployment": None, **changes}
        self.says(host, "status", apps=[status])

    def planned(self, host: str, live: str, revision: str | None = None) -> None:
        found = {"tag": live, "sha": self.shas[live], "release": live}
        self.says(host, "plan", needed=True, needs_bundle=False, known=[], live=found, revision=revision)

    def play(self, playbook: str, *arguments: str) -> tuple[int, str]:
        """A run that has no terminal; its exit code, and its output in one line."""
        ssh = self.directory / "ssh"
        ssh.write_text(SSH.format(python=sys.executable, directory=str(self.directory)))
        ssh.chmod(0o755)
        app = {"repository": str(self.repository), "domains": ["a.example"], "required_env": [], **self.entry}
        reached = {"ansible_ssh_executable": str(ssh), "ansible_become": False}
        inventory = {
            "prod": {"hosts": {"p-1": reached}, "vars": {"apps": {"shop": app}, **self.variables}},
            "staging": {"hosts": {"s-1": reached, "s-2": reached}, "vars": {"apps": {"shop": app}}},
        }
        (self.directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            str(self.directory / "hosts.yml"),
            playbook,
        ]
        done = subprocess.run(
            [*command, "-l", "prod", *arguments],
            cwd=PROJECT,
            env={**os.environ, "ANSIBLE_BECOME": "false"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)

    def given(self, command: str) -> list[str]:
        log = self.directory / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if f"slipway {command} " in line]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.repository.mkdir()
    scratch.git(made.repository, "init", "--quiet", "--initial-branch=main")
    scratch.git(made.repository, "config", "user.name", "Alice")
    scratch.git(made.repository, "config", "user.email", "alice@example.com")
    place = "migrations/versions"
    made.tag("v1.0.0", {f"{place}/a.py": MIGRATION.format(revision="a", down=None, does="pass")})
    made.tag("v1.1.0", {f"{place}/b.py": MIGRATION.format(revision="b", down="a", does="op.add_column('t', 'c')")})
    made.tag("v1.2.0", {f"{place}/c.py": MIGRATION.format(revision="c", down="b", does="op.drop_column('t', 'c')")})
    made.planned("p-1", "v1.0.0", "a")
    for host in ("s-1", "s-2"):
        made.live(host, "v1.1.0")
    return made


def test_the_very_commit_of_the_other_environment_is_deployed(site: Site) -> None:
    code, output = site.play("promote.yml", "-e", "from=staging")
    assert code == 0, output
    (line,) = site.given("deploy")
    assert line.startswith("p-1 ")
    assert site.shas["v1.1.0"] in line
    assert "--tag v1.1.0" in line
    assert {line.split()[0] for line in site.given("status")} == {"s-1", "s-2"}


def test_nothing_is_promoted_that_may_still_change_or_is_not_agreed_on(site: Site) -> None:
    site.live("s-2", "v1.0.0")
    code, output = site.play("promote.yml", "-e", "from=staging")
    assert code != 0
    assert "The hosts of staging do not agree on what is live of shop: v1.1.0 on s-1, v1.0.0 on s-2." in output
    site.live("s-2", "v1.1.0", deployment={"owner": "bob"})
    code, output = site.play("promote.yml", "-e", "from=staging")
    assert code != 0
    assert "A deployment of shop is open on s-2 of staging" in output
    assert site.given("deploy") == site.given("plan") == []


def test_a_tag_that_was_moved_is_not_promoted(site: Site) -> None:
    scratch.git(site.repository, "tag", "--force", "v1.1.0", "v1.2.0")
    code, output = site.play("promote.yml", "-e", "from=staging")
    assert code != 0
    assert "the tag was moved" in output
    assert site.given("deploy") == []


def test_what_the_environment_does_not_accept_is_not_promoted(site: Site) -> None:
    scratch.git(site.repository, "commit", "--quiet", "--allow-empty", "--message", "no tag")
    sha = scratch.git(site.repository, "rev-parse", "HEAD").strip()
    for host in ("s-1", "s-2"):
        site.says(host, "status", apps=[{"app": "shop", "live": {"tag": None, "sha": sha}, "deployment": None}])
    code, output = site.play("promote.yml", "-e", "from=staging")
    assert code != 0
    assert "is a commit without a tag, and this environment deploys tags only" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Pass -e from= with the environment whose live release is to go to prod"),
        (["-e", "from=stagin"], "from is 'stagin', which is no environment with hosts. The nearest is staging"),
        (["-e", "from=prod"], "from is prod, which this run is for."),
        (["-e", "from=staging", "-e", "version=v1.0.0"], "version and from do not go together"),
    ],
)
def test_a_wrong_command_line_is_refused_before_a_host_is_asked(site: Site, arguments: list[str], said: str) -> None:
    code, output = site.play("promote.yml", *arguments)
    assert code != 0
    assert said in output
    assert site.given("status") == []


def test_a_deploy_that_deletes_something_asks_and_without_a_terminal_is_refused(site: Site) -> None:
    site.variables["confirm"] = True
    code, output = site.play("deploy.yml", "-e", "version=v1.2.0")
    assert code != 0
    assert "v1.2.0 to prod: c.py drops the column t.c. There is no terminal to ask on: pass -e yes=true" in output
    assert site.given("deploy") == []
    code, output = site.play("deploy.yml", "-e", "version=v1.2.0", "-e", "yes=true")
    assert code == 0, output
    assert len(site.given("deploy")) == 1


def test_a_deploy_of_an_older_version_asks(site: Site) -> None:
    site.variables["confirm"] = True
    site.planned("p-1", "v1.1.0", "b")
    code, output = site.play("deploy.yml", "-e", "version=v1.0.0")
    assert code != 0
    assert "v1.0.0 to prod: it is older than what is live" in output


def test_a_deploy_that_only_adds_asks_nothing(site: Site) -> None:
    site.variables["confirm"] = True
    code, output = site.play("deploy.yml", "-e", "version=v1.1.0")
    assert code == 0, output
    assert len(site.given("deploy")) == 1
