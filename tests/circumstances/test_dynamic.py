"""Versions from git: what the build of a release, which has no `.git`, is told of the version of its tag.

Row 23 of `cases.md`. That the tools read these variables was tried once with each of them; on a host it is tested with
setuptools-scm.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.version import Version

from slipway.release import dynamic

SHA = "0123456789abcdef0123456789abcdef01234567"
SCM, GLOBAL = "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MY_APP", "SETUPTOOLS_SCM_PRETEND_VERSION"
DYNAMIC = 'name = "my-app"\ndynamic = ["version"]'
ARCHIVAL = "node: {node}\ndescribe-name: v1.2.0\n"


def told(release: Path, project: str = DYNAMIC, requires: str = "", more: str = "") -> dict[str, str]:
    """What is told to the build of a project at v1.2.0, by its pyproject.toml."""
    text = f"[project]\n{project}\n[build-system]\nrequires = [{requires}]\n{more}"
    return dynamic.variables(release, tomllib.loads(text), "v1.2.0", SHA)


# Which variables


@pytest.mark.parametrize(
    ("requires", "names"),
    [
        ('"setuptools>=64", "setuptools-scm>=8"', [SCM]),
        ('"setuptools_scm[toml]>=6.2", "setuptools"', [SCM]),
        ("\"Setuptools-SCM~=8.0; python_version > '3'\"", [SCM]),
        ('"setuptools-scm @ https://files.example/setuptools_scm-8.0-py3-none-any.whl"', [SCM]),
        ('"hatchling", "hatch-vcs"', [SCM, GLOBAL]),
        ('"flit_scm"', [GLOBAL]),
        ('"vcs-versioning"', ["VCS_VERSIONING_PRETEND_VERSION_FOR_MY_APP"]),
        ('"hatchling", "uv-dynamic-versioning==0.8"', ["UV_DYNAMIC_VERSIONING_BYPASS"]),
        ('"poetry-core>=1", "poetry-dynamic-versioning>=1,<2"', ["POETRY_DYNAMIC_VERSIONING_BYPASS"]),
        ('"pdm-backend"', ["PDM_BUILD_SCM_VERSION"]),
        ('"setuptools", "pbr>=6"', ["PBR_VERSION"]),
        # Of tools that read no variable, or that are no tools for versions, nothing is told.
        ('"setuptools>=64"', []),
        ('"hatchling"', []),
        ('"hatchling", "versioningit"', []),
        ('"setuptools", "versioneer[toml]"', []),
        ('"setuptools", "setuptools-git-versioning"', []),
        ('"my-setuptools-scm"', []),
        ('"pbr2"', []),
        ("", []),
    ],
)
def test_each_tool_has_its_variables(tmp_path: Path, requires: str, names: list[str]) -> None:
    assert told(tmp_path, requires=requires) == dict.fromkeys(names, "1.2.0")


@pytest.mark.parametrize(
    "project",
    [
        'name = "my-app"\nversion = "1"',
        'name = "my-app"\nversion = "1"\ndynamic = ["dependencies", "readme"]',
        'name = "my-app"\nversion = "1"\ndynamic = []',
    ],
)
@pytest.mark.parametrize("requires", ['"setuptools-scm"', '"hatch-vcs"', '"pbr"', '"pdm-backend"'])
def test_a_project_with_a_version_of_its_own_is_told_nothing(tmp_path: Path, project: str, requires: str) -> None:
    assert told(tmp_path, project, requires) == {}


def test_poetry_has_a_placeholder_instead_of_a_dynamic_version(tmp_path: Path) -> None:
    requires, tool = '"poetry-core", "poetry-dynamic-versioning"', "[tool.poetry-dynamic-versioning]\nenable = true"
    told_ = told(tmp_path, 'name = "my-app"\nversion = "0.0.0"', requires, tool)
    assert told_ == {"POETRY_DYNAMIC_VERSIONING_BYPASS": "1.2.0"}


@pytest.mark.parametrize("declared", [{}, {"project": {"name": "x"}}, {"project": {"dynamic": ["version"]}}])
def test_a_pyproject_without_a_build_is_told_nothing(tmp_path: Path, declared: dict[str, object]) -> None:
    assert dynamic.variables(tmp_path, declared, "v1.2.0", SHA) == {}


@pytest.mark.parametrize("name", ["My.App", "my_app", "MY--app", "my-app"])
def test_the_name_of_the_project_is_written_as_the_tool_reads_it(tmp_path: Path, name: str) -> None:
    assert list(told(tmp_path, f'name = "{name}"\ndynamic = ["version"]', '"setuptools-scm"')) == [SCM]


# With a .git_archival.txt


@pytest.mark.parametrize(
    ("requires", "names"),
    [
        ('"setuptools-scm"', []),
        ('"hatchling", "hatch-vcs"', []),
        ('"flit_scm"', []),
        ('"uv-dynamic-versioning"', []),
        ('"poetry-dynamic-versioning"', []),
        ('"pdm-backend"', ["PDM_BUILD_SCM_VERSION"]),
        ('"pbr"', ["PBR_VERSION"]),
    ],
)
def test_what_git_has_filled_in_comes_first_where_the_tool_reads_it(
    tmp_path: Path, requires: str, names: list[str]
) -> None:
    (tmp_path / dynamic.ARCHIVAL).write_text(ARCHIVAL.format(node=SHA))
    assert list(told(tmp_path, requires=requires)) == names


def test_what_git_has_not_filled_in_does_not_count(tmp_path: Path) -> None:
    """As without `export-subst` in .gitattributes."""
    (tmp_path / dynamic.ARCHIVAL).write_text(ARCHIVAL.format(node="$Format:%H$"))
    assert list(told(tmp_path, requires='"setuptools-scm"')) == [SCM]


# Which version


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("v1.2.0", "1.2.0"),
        ("1.2", "1.2"),
        ("V2", "2"),
        ("v11.0.0", "11.0.0"),
        ("release-1.2.0", "1.2.0"),
        ("logbook/v1.2.0", "1.2.0"),
        ("2026-11-26", "2026.11.26"),
        ("2026.07.01", "2026.7.1"),
        ("v1.2.0-final", "1.2.0"),
        ("v1.2.0-1", "1.2.0.post1"),
        ("v1.2.0.post3", "1.2.0.post3"),
        ("v1.2.0-hotfix", "1.2.0.post0"),
        ("v1.2.0-rc.1", "1.2.0rc1"),
        ("v1.2.0rc2", "1.2.0rc2"),
        ("v1.2.0-beta", "1.2.0b0"),
        ("v1.2.0a1", "1.2.0a1"),
        ("v1.2.0.dev4", "1.2.0.dev4"),
        ("v1.2.0-nightly", "1.2.0.dev0+nightly.g0123456789ab"),
        ("stable", "0.0.0+g0123456789ab"),
        (None, "0.0.0+g0123456789ab"),
    ],
)
def test_a_tag_is_a_version_by_pep_440(tag: str | None, version: str) -> None:
    assert dynamic.version(tag, SHA) == version
    assert str(Version(version)) == version


def test_a_prerelease_comes_before_its_release() -> None:
    tags = ["v1.2.0-nightly", "v1.2.0-alpha.1", "v1.2.0-beta.2", "v1.2.0-rc.1", "v1.2.0", "v1.2.0-1"]
    found = [Version(dynamic.version(tag, SHA)) for tag in tags]
    assert found == sorted(found)
