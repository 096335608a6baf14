"""What the project says about itself: its version, its pages, and the files that contributors are sent to."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

import slipway
from docs import cli as cli_page
from hosts import scratch
from slipway.cli import parser

PROJECT = scratch.PROJECT
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
PAGES = [name for name in scratch.git(PROJECT, "ls-files", "*.md").splitlines() if (PROJECT / name).exists()]
WORKFLOWS = [".github/workflows/test.yml", ".gitlab-ci.yml"]


def read(name: str) -> str:
    return (PROJECT / name).read_text()


def test_the_version_is_the_newest_entry_of_the_changelog() -> None:
    entries = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", read("CHANGELOG.md"), re.MULTILINE)
    assert entries[0] == ("Unreleased", "")
    assert entries[1][0] == slipway.__version__
    assert [version for version, date in entries[1:] if not date] == []


def test_the_hosts_build_the_bundled_app_and_not_slipway() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    locked = tomllib.loads(read("uv.lock"))["package"]
    assert project["project"]["name"] == "logbook"
    assert [package["version"] for package in locked if package["name"] == "logbook"] == [project["project"]["version"]]


def test_every_path_that_contributors_are_sent_to_exists() -> None:
    named = re.findall(r"`((?:\.?[\w.-]+/)+[\w.@-]*|[\w-]+\.(?:md|toml|lock))`", read("CONTRIBUTING.md"))
    assert len(named) > 50
    named.remove(".cache/test/")  # `make test` makes it
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_every_room_and_role_is_among_where_things_are() -> None:
    text = read("CONTRIBUTING.md")
    rooms = [path.parent.name for path in PROJECT.glob("slipway/*/__init__.py")]
    assert [room for room in rooms if f"`slipway/{room}/`" not in text] == []
    assert [path.name for path in PROJECT.glob("roles/*") if f"`{path.name}`" not in text] == []
    suites = {path.parent.name for path in PROJECT.glob("tests/*/test_*.py")}
    assert [suite for suite in sorted(suites) if f"`tests/{suite}/`" not in text] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md", *WORKFLOWS, "docs/operating.md"])
def test_every_make_command_that_is_named_exists(name: str) -> None:
    named = re.findall(r"(?:`|^ {4,}(?:- )?|run: (?:sudo )?)make ([a-z][a-z-]*)", read(name), re.MULTILINE)
    assert set(named) <= TARGETS


def test_every_decision_is_in_the_index_and_has_the_parts_of_the_others() -> None:
    pages = {path.name: path.read_text() for path in (PROJECT / "docs/decisions").glob("*.md")}
    index = pages.pop("README.md")
    assert pages
    assert set(re.findall(r"^\| \[([\w-]+\.md)\]", index, re.MULTILINE)) == set(pages)
    for name, text in pages.items():
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings[-3:] == ["Measured", "What it costs", "Look at it again when"], name


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", read(page))
    assert [link for link in links if not (PROJECT / page).parent.joinpath(link).exists()] == []


def test_the_page_of_the_command_line_is_what_the_parser_says() -> None:
    assert cli_page.PAGE.read_text() == cli_page.page(parser.parser), "run `make docs`"


def test_the_page_of_the_command_line_does_not_depend_on_who_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = cli_page.page(parser.parser)
    for name in ("USER", "SUDO_USER", "COLUMNS"):
        monkeypatch.setenv(name, "60")
    assert cli_page.page(parser.parser) == made


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_run_everything_by_the_command_that_people_use(name: str) -> None:
    assert ".ci/run" in read(name)
    assert yaml.safe_load(read(name))


def test_hooks_of_git_need_no_network() -> None:
    configured = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repository["repo"] for repository in configured] == ["local"]
    for hook in configured[0]["hooks"]:
        assert hook["entry"].startswith((".venv/bin/", ".tools/bin/")), hook["id"]
        assert hook["language"] == "unsupported", hook["id"]
