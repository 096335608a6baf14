"""A commit whose lock file would install something that is not pinned: refused at stage, before any of it is run."""

from __future__ import annotations

import re

import pytest

from tests.circumstances.host.test_builds import LOCK, built, fails_at_stage
from tests.faults.site import Site


def without_wheels(name: str) -> str:
    """The lock file, with that package as its source alone."""
    found = re.search(rf'\[\[package\]\]\nname = "{name}"\n.*?(?=\n\[\[package\]\])', LOCK, re.DOTALL)
    assert found
    return LOCK.replace(found[0], re.sub(r"wheels = \[\n.*?\n\]\n", "", found[0], flags=re.DOTALL))


ONE = re.search(r'(\{ url = ")(https)(://[^"]+-py3-none-any\.whl)(", hash = "sha256:)([0-9a-f]{64})(")', LOCK)
assert ONE
# tests/engine/test_lockfile.py has all kinds.
LOCKS = {
    "a wheel without a hash": (
        LOCK.replace(ONE[0], f"{ONE[1]}{ONE[2]}{ONE[3]}{ONE[6]}"),
        "has no SHA-256 hash, so anything could be installed in its place",
    ),
    "a wheel over http": (
        LOCK.replace(ONE[0], f"{ONE[1]}http{ONE[3]}{ONE[4]}{ONE[5]}{ONE[6]}"),
        "over http, where others can change what is sent",
    ),
    "a package that would have to be built": (without_wheels("mako"), "add mako to build_packages and run site.yml"),
    "a lock file that is none": ("[" * 100_000, "uv.lock cannot be read"),
}


@pytest.mark.parametrize(("lock", "sentence"), LOCKS.values(), ids=LOCKS)
def test_what_is_not_pinned_is_not_installed(site: Site, lock: str, sentence: str) -> None:
    assert sentence in fails_at_stage(site, {"uv.lock": lock})


def test_what_a_named_package_is_built_with_has_to_be_pinned(site: Site) -> None:
    with site.settings(build_packages=["Mako"]):
        output = fails_at_stage(site, {"uv.lock": without_wheels("mako")})
    assert "mako is built here, and setuptools, which that needs, is not pinned with a hash" in output


def test_the_project_itself_is_built(site: Site) -> None:
    backend = 'build-backend = "uv_build"\n[tool.uv.build-backend]\nmodule-name = "app"\nmodule-root = ""'
    files = built('"uv_build>=0.9"', backend)
    files["pyproject.toml"] = files["pyproject.toml"].replace('dynamic = ["version"]', 'version = "1"')
    version = site.version(files=files)
    site.deploy(version)
    assert site.live() == version
