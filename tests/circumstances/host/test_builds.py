"""Builds as real projects have them, on a real host: what cannot be built is said in one sentence at stage."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hosts import scratch
from tests.faults.site import APP, Site

PROJECT, LOCK = (APP / "pyproject.toml").read_text(), (APP / "uv.lock").read_text()


def fails_at_stage(site: Site, files: Mapping[str, str | None]) -> str:
    """What a deploy says that has to fail before anything is started, on one line."""
    before = site.live()
    version = site.version(files=files)
    output = " ".join(site.fails(version).split())
    assert site.phase(version, "stage")["outcome"] == "failed", output
    assert site.live() == before
    assert "Traceback" not in output
    return output


def built(requires: str, more: str = "") -> dict[str, str]:
    """The files of a project that is a package with a version from git."""
    project = PROJECT.replace('version = "0.1.0"\n', 'dynamic = ["version"]\n').partition("[tool.uv]")[0]
    project += f'[build-system]\nrequires = [{requires}]\n{more}\n[tool.setuptools]\npackages = ["app"]\n'
    lock = LOCK.replace('source = { virtual = "." }', 'source = { editable = "." }')
    return {"pyproject.toml": project, "uv.lock": lock}


@pytest.fixture
def package_version(site: Site) -> Callable[[str], str]:
    program = "import importlib.metadata as m; print(m.version('faults'))"

    def asked(release: str) -> str:
        return site.host.exec(f"/srv/logbook/releases/{release}/.venv/bin/python", "-c", program).strip()

    return asked


SCM = '"setuptools>=64", "setuptools-scm>=8"'
BACKEND = 'build-backend = "setuptools.build_meta"\n\n[tool.setuptools_scm]'


def test_a_version_from_git_is_that_of_the_tag(site: Site, package_version: Callable[[str], str]) -> None:
    """Row 23: as it is told to the build, or by a file that git fills in.

    The second release takes over the packages of the first, with another version of the project among them.
    """
    text = "node: $Format:%H$\nnode-date: $Format:%cI$\ndescribe-name: $Format:%(describe:tags=true)$\n"
    archival = {".git_archival.txt": text, ".gitattributes": ".git_archival.txt export-subst\n"}
    for files in ({}, archival):
        version = site.version(files={**built(SCM, BACKEND), **files})
        site.deploy(version)
        assert site.live() == version
        assert package_version(version.release) == version.tag[1:]


def test_a_version_from_git_that_cannot_be_told_is_one_sentence(site: Site) -> None:
    """Row 23."""
    backend = 'build-backend = "hatchling.build"\n[tool.hatch.version]\nsource = "versioningit"'
    output = fails_at_stage(site, built('"hatchling", "versioningit"', backend))
    assert "uv sync failed: faults takes its version from git, and a release has no .git. Add a" in output


def test_a_package_that_wants_a_compiler_names_host_packages(site: Site) -> None:
    """Row 28."""
    files = built('"setuptools", "cffi"', 'build-backend = "setuptools.build_meta"')
    files["pyproject.toml"] = files["pyproject.toml"].replace('dynamic = ["version"]', 'version = "1"')
    files["setup.py"] = "import setuptools\nsetuptools.setup(ext_modules=[setuptools.Extension('fast', ['fast.c'])])\n"
    files["fast.c"] = "#include <Python.h>\n"
    output = fails_at_stage(site, files)
    assert "faults is built from source here" in output
    assert "Add build-essential and python3-dev to host_packages and run site.yml" in output


def test_an_app_without_gunicorn_is_served_by_that_of_slipway(site: Site) -> None:
    """Row 27."""
    lock = re.sub(r'\[\[package\]\]\nname = "gunicorn".*?(?=\n\[\[package\]\])', "", LOCK, count=1, flags=re.DOTALL)
    lock = re.sub(r'    \{ name = "gunicorn"[^\n]*\n', "", lock)
    version = site.version(files={"pyproject.toml": PROJECT.replace('    "gunicorn>=27.0",\n', ""), "uv.lock": lock})
    site.deploy(version)
    assert site.live() == version


def test_a_lock_file_that_is_left_out_is_named(site: Site) -> None:
    """Row 21."""
    output = fails_at_stage(site, {".gitattributes": "uv.lock export-ignore\n"})
    assert "has uv.lock, but .gitattributes, line 1, leaves it out of what is deployed" in output


def test_a_submodule_that_the_app_imports_is_refused_at_stage(site: Site) -> None:
    """Row 22."""
    before = site.live()
    version = site.version(files={"app/behaviour.py": "from app import shared\n\n" + _text("app/behaviour.py")})
    tree = site.repository
    scratch.git(tree, "update-index", "--add", "--cacheinfo", f"160000,{version.sha},app/shared")
    scratch.git(tree, "commit", "--quiet", "--message", "A submodule")
    scratch.git(tree, "tag", "--force", "--annotate", version.tag, "--message", version.tag)
    output = " ".join(site.fails(version).split())
    assert "has the submodule app/shared, which the app uses, and a release gets no files of submodules" in output
    assert site.live() == before


def _text(name: str) -> str:
    return Path(APP, name).read_text()


def test_unusual_names_are_deployed(site: Site) -> None:
    files = {"app/a\nb.txt": "1", "app/Data.txt": "2", "app/data.txt": "3", "app/ü '\"$.txt": "4"}
    version = site.version(files=files)
    site.deploy(version)
    assert site.live() == version
